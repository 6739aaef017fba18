//! `countersign apply`.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use countersign_proto::trust_v1::{
    CreateTrustRelationshipRequest, CreateTrustedIssuerRequest, DeleteTrustRelationshipRequest, DeleteTrustedIssuerRequest,
    TrustRelationship, TrustedIssuer, UpdateTrustRelationshipRequest, UpdateTrustedIssuerRequest,
};

use super::plan::{Action, Item, Plan, Step};
use super::read::Problems;
use super::show::{self, Outcome};
use super::{Clients, read};
use crate::arguments::Session;
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};

/// The plan would change something.
const WOULD_CHANGE: u8 = 2;
/// The plan gives somebody more than was allowed by `--fail-on`.
const FORBIDDEN: u8 = 3;

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// A file, or a folder with `.yaml` and `.yml` files. Repeat for several.
    #[arg(short, long, required = true, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// Change nothing; say what would change and what that means. Exit codes: 0 nothing would change, 2 something would.
    #[arg(long)]
    plan: bool,
    /// Delete the trusted issuers and trust relationships of the workspace that no file names.
    #[arg(long)]
    prune: bool,
    /// Change nothing and exit with 3 when a token may get what it did not get before: when something is broader, or different in
    /// a way that cannot be compared.
    #[arg(long, value_name = "CHANGE")]
    fail_on: Option<FailOn>,
    /// How to print the plan and the results.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// Somebody may get more than before.
    Broader,
}

impl ApplyArgs {
    pub(crate) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let declared = read::read_paths(&self.file)?;
        let clients = Clients::of(session).await?;
        let current = clients.current().await?;
        let mut problems = Problems::default();
        let plan = Plan::new(declared, &current, self.prune, &mut problems);
        problems.into_result()?;

        let is_forbidden = self.fail_on == Some(FailOn::Broader) && plan.broadens();
        if self.plan || is_forbidden || self.output == ListFormat::Table {
            show::plan(&plan, self.output, output)?;
        }
        if is_forbidden {
            output.message("A token may get what it did not get before, and --fail-on forbids it.");
            return Err(Failure::Exit(FORBIDDEN));
        }
        if self.plan {
            return if plan.changes() { Err(Failure::Exit(WOULD_CHANGE)) } else { Ok(()) };
        }
        let issuer_ids = current.issuers.into_iter().map(|issuer| (issuer.issuer_url, issuer.id)).collect();
        Apply { clients, issuer_ids }.run(plan, self.output, output).await
    }
}

struct Apply {
    clients: Clients,
    /// By URL.
    issuer_ids: HashMap<String, String>,
}

impl Apply {
    /// Does one item after the other. One that is refused does not keep the others from being done.
    async fn run(mut self, plan: Plan, format: ListFormat, output: &mut Output) -> Result<()> {
        let mut outcomes = Vec::with_capacity(plan.items.len());
        let mut shown = Ok(());
        for mut item in plan.items {
            let outcome = if item.action == Action::Unchanged {
                Outcome { item, result: "unchanged", error: None }
            } else {
                match self.perform(&item).await {
                    Ok(id) => {
                        item.id = id;
                        Outcome { item, result: "done", error: None }
                    }
                    Err(failure) => Outcome { item, result: "failed", error: Some(failure.to_string()) },
                }
            };
            // What is begun is finished, whether or not standard output takes the results.
            if format == ListFormat::Table && outcome.item.action != Action::Unchanged && shown.is_ok() {
                shown = show::outcome(&outcome, output);
            }
            outcomes.push(outcome);
        }
        if format == ListFormat::Json {
            shown = show::outcomes_json(&outcomes, output);
        }
        let failed = outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
        if let Err(error) = shown {
            let done = outcomes.len() - failed;
            return Err(Failure::while_doing(error, format!("{done} of {} done, {failed} failed", outcomes.len())));
        }
        match failed {
            0 => Ok(()),
            failed => Err(Failure::Failed(anyhow::anyhow!("{failed} of {} could not be done", outcomes.len()))),
        }
    }

    /// Does one item, and gives the id of the resource.
    async fn perform(&mut self, item: &Item) -> Result<String> {
        let Clients { workspace_id, issuers, relationships } = &mut self.clients;
        let workspace_id = workspace_id.clone();
        let update_mask = Some(prost_types::FieldMask { paths: item.fields.iter().map(|field| (*field).to_owned()).collect() });
        match item.step.clone() {
            Step::Nothing => {}
            Step::CreateIssuer(issuer) => {
                let trusted_issuer = Some(TrustedIssuer { workspace_id, ..issuer });
                let created = issuers.create_trusted_issuer(CreateTrustedIssuerRequest { trusted_issuer }).await?.into_inner();
                let id = created.trusted_issuer.unwrap_or_default().id;
                self.issuer_ids.insert(item.name.clone(), id.clone());
                return Ok(id);
            }
            Step::UpdateIssuer(issuer) => {
                let trusted_issuer = Some(issuer);
                issuers.update_trusted_issuer(UpdateTrustedIssuerRequest { trusted_issuer, update_mask }).await?;
            }
            Step::DeleteIssuer { etag } => {
                let trusted_issuer_id = item.id.clone();
                issuers.delete_trusted_issuer(DeleteTrustedIssuerRequest { workspace_id, trusted_issuer_id, etag }).await?;
            }
            Step::CreateRelationship(relationship, issuer_url) => {
                let missing = || Failure::Failed(anyhow::anyhow!("the trusted issuer {issuer_url} could not be created"));
                let trusted_issuer_id = self.issuer_ids.get(&issuer_url).cloned().ok_or_else(missing)?;
                let trust_relationship = Some(TrustRelationship { workspace_id, trusted_issuer_id, ..relationship });
                let request = CreateTrustRelationshipRequest { trust_relationship };
                let created = relationships.create_trust_relationship(request).await?.into_inner();
                return Ok(created.trust_relationship.unwrap_or_default().id);
            }
            Step::UpdateRelationship(relationship) => {
                let trust_relationship = Some(relationship);
                let request = UpdateTrustRelationshipRequest { trust_relationship, update_mask };
                relationships.update_trust_relationship(request).await?;
            }
            Step::DeleteRelationship { etag } => {
                let trust_relationship_id = item.id.clone();
                let request = DeleteTrustRelationshipRequest { workspace_id, trust_relationship_id, etag };
                relationships.delete_trust_relationship(request).await?;
            }
        }
        Ok(item.id.clone())
    }
}
