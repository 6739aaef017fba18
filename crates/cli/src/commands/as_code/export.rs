//! `countersign export`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Clients;
use super::format::{self, IssuerDocument, RelationshipDocument};
use super::plan::Current;
use crate::arguments::Session;
use crate::failure::{Failure, Result};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file to write, or a folder, which gets `trusted-issuers.yaml` and `trust-relationships.yaml` [default: standard
    /// output].
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
}

impl ExportArgs {
    pub(crate) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let current = Clients::of(session).await?.current().await?;
        let (issuers, relationships) = documents(current);
        let write = |issuers: &[IssuerDocument], relationships: &[RelationshipDocument]| {
            format::write(issuers, relationships).map_err(|error| Failure::while_doing(error, "cannot write YAML"))
        };
        let Some(path) = self.to else { return Ok(output.raw(&write(&issuers, &relationships)?)?) };
        if path.is_dir() {
            save(&path.join("trusted-issuers.yaml"), &write(&issuers, &[])?)?;
            save(&path.join("trust-relationships.yaml"), &write(&[], &relationships)?)?;
        } else {
            save(&path, &write(&issuers, &relationships)?)?;
        }
        let (issuers, relationships) = (issuers.len(), relationships.len());
        output.message(format!("Wrote {issuers} trusted issuers and {relationships} trust relationships to {}.", path.display()));
        Ok(())
    }
}

fn save(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Failure::while_doing(error, format!("cannot write {}", path.display())))
}

/// What a workspace holds, as documents.
pub(super) fn documents(current: Current) -> (Vec<IssuerDocument>, Vec<RelationshipDocument>) {
    let urls: HashMap<String, String> =
        current.issuers.iter().map(|issuer| (issuer.id.clone(), issuer.issuer_url.clone())).collect();
    let relationships = current.relationships.into_iter().map(|relationship| {
        // One whose issuer was deleted while the lists were read has none here; applying such an export says so.
        let url = urls.get(&relationship.trusted_issuer_id).cloned().unwrap_or_default();
        RelationshipDocument::of(relationship, url)
    });
    let relationships = relationships.collect();
    (current.issuers.into_iter().map(IssuerDocument::from).collect(), relationships)
}
