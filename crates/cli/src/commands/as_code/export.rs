//! `countersign export`.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use countersign_runtime::disclosure::FileName;

use super::Clients;
use super::format::{self, IssuerDocument, RelationshipDocument};
use super::plan::Current;
use crate::arguments::Session;
use crate::failure::{Failure, Result};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file to write, or the folder for `trusted-issuers.yaml` and `trust-relationships.yaml` [default: standard output].
    ///
    /// A path that does not exist is a file if its name has an extension, and a folder otherwise. Folders are created.
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
        let files = if is_folder(&path) {
            vec![
                (path.join("trusted-issuers.yaml"), write(&issuers, &[])?),
                (path.join("trust-relationships.yaml"), write(&[], &relationships)?),
            ]
        } else {
            vec![(path.clone(), write(&issuers, &relationships)?)]
        };
        for (file, text) in files {
            save(&file, &text).map_err(|error| Failure::while_doing(error, format!("cannot write --to {}", FileName(&file))))?;
        }
        let (issuers, relationships) = (issuers.len(), relationships.len());
        output
            .message(format!("Wrote {issuers} trusted issuers and {relationships} trust relationships to {}.", FileName(&path)));
        Ok(())
    }
}

/// Whether a path means a folder, which need not exist.
fn is_folder(path: &Path) -> bool {
    let ends_with_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    path.is_dir() || (!path.exists() && (ends_with_slash || path.extension().is_none()))
}

/// Writes a file in one step, so that a full disk leaves the previous one. What is not a regular file, like a pipe, is written to.
fn save(path: &Path, text: &str) -> io::Result<()> {
    if path.exists() && !path.is_file() {
        return std::fs::write(path, text);
    }
    // A symbolic link stays one.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // There is nothing secret in it, so the umask decides who can read it.
    let permissions = std::fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().prefix(".new-").permissions(permissions).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&path).map(drop).map_err(|error| error.error)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_an_extension_is_a_folder_and_folders_are_created() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for (path, expected) in [("trust", true), ("a.b/trust", true), ("x.yaml/", true), ("all.yaml", false), ("a/b.yml", false)]
        {
            assert_eq!(is_folder(&at(path)), expected, "{path}");
        }
        save(&at("deep/er/all.yaml"), "one").unwrap();
        save(&at("deep/er/all.yaml"), "two").unwrap();
        assert_eq!(std::fs::read_to_string(at("deep/er/all.yaml")).unwrap(), "two");
        assert!(is_folder(&at("deep")), "one that exists");
        std::fs::write(at("plain"), "").unwrap();
        assert!(!is_folder(&at("plain")), "a file that exists");
        // A link is followed, and nothing temporary is left.
        std::os::unix::fs::symlink(at("plain"), at("link")).unwrap();
        save(&at("link"), "text").unwrap();
        assert_eq!(std::fs::read_to_string(at("plain")).unwrap(), "text");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        assert!(save(&at("plain/all.yaml"), "").is_err());
    }
}
