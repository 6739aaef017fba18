//! `countersign issuers …`.

pub(crate) mod doctor;

use std::time::Duration;

use clap::{Args, Subcommand};
use countersign_proto::common;
use countersign_proto::issuer_v1::issuer_service_client::IssuerServiceClient;
use countersign_proto::issuer_v1::{CreateIssuerRequest, DeleteIssuerRequest, Issuer, ListIssuersRequest};

use super::pages;
use crate::arguments::Session;
use crate::connection::{Authorized, Service};
use crate::duration;
use crate::failure::Result;
use crate::output::{ListFormat, Output};
use crate::resources::issuer_json;

#[derive(Debug, Subcommand)]
pub(crate) enum IssuersCommand {
    #[command(flatten)]
    Resource(ResourceCommand),
    /// Look at an issuer's documents as AWS, Google Cloud, Azure, Vault and Kubernetes would, and say what each would refuse. Works
    /// for anybody's issuer. Fails when one of them would.
    Doctor(doctor::DoctorArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ResourceCommand {
    /// Create an issuer. Prints its id; its URL is told on standard error.
    Create(CreateArgs),
    /// List the issuers of the workspace, oldest first.
    List(ListArgs),
    /// Delete an issuer and its keys. Its URL is never used again.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// How subjects are built from attributes: `namespace` ({workspace_id}/{path}) or `rwx` (org:{org}:vault:{vault}).
    #[arg(long, value_name = "PROFILE")]
    profile: String,
    /// A name for people.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    display_name: String,
    /// The `iss` of its tokens, below the deployment's issuer base URL [default: made of the id].
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    issuer_url: String,
    /// A JOSE algorithm it signs with; the first is the default. Repeat for several [default: RS256].
    #[arg(long, value_name = "ALG")]
    algorithm: Vec<String>,
    /// An audience that tokens may be asked for. Repeat for several [default: any].
    #[arg(long, value_name = "AUDIENCE")]
    allowed_audience: Vec<String>,
    /// How long a token lives when the request does not say [default: 1h].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    default_token_duration: Option<Duration>,
    /// The longest a token may live [default: 1h].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    max_token_duration: Option<Duration>,
    /// How long a key signs before the next one takes over, 1d to 730d; 0s: until `signing-keys rotate` [default: 90d].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    rotation_period: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How to print the list.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The issuer, `is_…`.
    #[arg(value_name = "ID")]
    id: String,
}

type Client = IssuerServiceClient<Authorized>;

impl IssuersCommand {
    pub(crate) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        match self {
            Self::Resource(command) => command.run(session, output).await,
            Self::Doctor(args) => args.run(output).await,
        }
    }
}

impl ResourceCommand {
    async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let workspace_id = session.connection.workspace(&session.clock)?;
        let mut client = IssuerServiceClient::new(session.connection.authorized(Service::Issuer, &session.clock).await?);
        match self {
            Self::Create(args) => {
                let request = CreateIssuerRequest { issuer: Some(args.into_issuer(workspace_id)) };
                let issuer = client.create_issuer(request).await?.into_inner().issuer.unwrap_or_default();
                output.message(format!("Created issuer {} with the URL {}.", issuer.id, issuer.issuer_url));
                output.line(issuer.id)?;
            }
            Self::List(ListArgs { output: format }) => show(&list(&client, &workspace_id).await?, format, output)?,
            Self::Delete(DeleteArgs { id }) => {
                client.delete_issuer(DeleteIssuerRequest { workspace_id, issuer_id: id.clone(), etag: String::new() }).await?;
                output.message(format!("Deleted {id}."));
            }
        }
        Ok(())
    }
}

async fn list(client: &Client, workspace_id: &str) -> Result<Vec<Issuer>> {
    let issuers = pages::all(|page_token| {
        let mut client = client.clone();
        let request = ListIssuersRequest { workspace_id: workspace_id.to_owned(), page_size: pages::PAGE_SIZE, page_token };
        async move {
            let page = client.list_issuers(request).await?.into_inner();
            Ok((page.issuers, page.next_page_token))
        }
    })
    .await?;
    Ok(issuers)
}

impl CreateArgs {
    fn into_issuer(self, workspace_id: String) -> Issuer {
        Issuer {
            workspace_id,
            display_name: self.display_name,
            issuer_url: self.issuer_url,
            profile: self.profile,
            algorithms: self.algorithm,
            allowed_audiences: self.allowed_audience,
            default_token_duration: self.default_token_duration.map(common::duration),
            max_token_duration: self.max_token_duration.map(common::duration),
            rotation_period: self.rotation_period.map(common::duration),
            ..Issuer::default()
        }
    }
}

fn show(issuers: &[Issuer], format: ListFormat, output: &mut Output) -> std::io::Result<()> {
    match format {
        ListFormat::Json => output.json(&issuers.iter().map(issuer_json).collect::<Vec<_>>()),
        ListFormat::Table => {
            let rows: Vec<_> = issuers
                .iter()
                .map(|issuer| {
                    let Issuer { id, issuer_url, profile, algorithms, display_name, .. } = issuer.clone();
                    [id, issuer_url, profile, algorithms.join(" "), display_name]
                })
                .collect();
            output.table(["ID", "ISSUER", "PROFILE", "ALGORITHMS", "NAME"], &rows)
        }
    }
}
