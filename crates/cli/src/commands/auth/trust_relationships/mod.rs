//! `countersign auth trust-relationships …`.

mod add;
mod conditions;
mod dry_run;
mod lint;
mod list;
mod report;
mod update;

use clap::{Args, Subcommand};
use countersign_proto::trust_v1::trust_relationship_service_client::TrustRelationshipServiceClient;
use countersign_proto::trust_v1::{DeleteTrustRelationshipRequest, PreviewTrustRelationshipRequest, TrustRelationship};

use crate::arguments::Session;
use crate::connection::{Authorized, Service};
use crate::failure::Result;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum TrustRelationshipsCommand {
    /// Trust an issuer's tokens with certain subjects. Prints the id of the new relationship.
    Add(Box<add::AddArgs>),
    /// List the relationships of the workspace, oldest first.
    List(list::ListArgs),
    /// Change a relationship: the flags given, and nothing else. Lists are replaced whole.
    Update(Box<update::UpdateArgs>),
    /// Say what relationships let in that is probably not meant, or can never let in. Fails when an error is among it.
    Lint(lint::LintArgs),
    /// Say what past exchanges tell of relationships: never used, long unused, wider than their use, soon to expire, of an issuer in
    /// trouble.
    Report(report::ReportArgs),
    /// Remove a relationship. Nothing is minted through it from then on.
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct RemoveArgs {
    /// The relationship, `tr_…`.
    #[arg(value_name = "ID", group = "which")]
    positional: Option<String>,
    /// The relationship, `tr_…`.
    #[arg(long, value_name = "ID", group = "which")]
    id: Option<String>,
    #[command(flatten)]
    dry_run: dry_run::DryRunArgs,
}

type Client = TrustRelationshipServiceClient<Authorized>;

async fn client(session: &Session) -> Result<Client> {
    Ok(TrustRelationshipServiceClient::new(session.connection.authorized(Service::Trust, &session.clock).await?))
}

impl TrustRelationshipsCommand {
    pub(super) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        match self {
            Self::Add(args) => args.run(session, output).await,
            Self::List(args) => args.run(session, output).await,
            Self::Update(args) => args.run(session, output).await,
            Self::Lint(args) => args.run(session, output).await,
            Self::Report(args) => args.run(session, output).await,
            Self::Remove(args) => args.run(session, output).await,
        }
    }
}

impl RemoveArgs {
    async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let id = self.positional.or(self.id).unwrap_or_default();
        if self.dry_run.is_wanted() {
            let workspace_id = session.connection.workspace(&session.clock)?;
            let relationship = TrustRelationship { id, workspace_id, ..TrustRelationship::default() };
            let request = PreviewTrustRelationshipRequest {
                trust_relationship: Some(relationship),
                delete: true,
                ..PreviewTrustRelationshipRequest::default()
            };
            return self.dry_run.run(&mut client(session).await?, request, output).await;
        }
        let request = DeleteTrustRelationshipRequest {
            workspace_id: session.connection.workspace(&session.clock)?,
            trust_relationship_id: id.clone(),
            etag: String::new(),
        };
        client(session).await?.delete_trust_relationship(request).await?;
        output.message(format!("Removed {id}."));
        Ok(())
    }
}
