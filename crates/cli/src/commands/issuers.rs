//! `countersign issuers …`.

pub(crate) mod doctor;
mod update;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign_domain::issuing::profile::{Profile, ProfileDefinition};
use countersign_proto::common;
use countersign_proto::issuer_v1::issuer_service_client::IssuerServiceClient;
use countersign_proto::issuer_v1::{CreateIssuerRequest, DeleteIssuerRequest, Issuer, KeyCustody, ListIssuersRequest};
use countersign_runtime::config::toml_problem;
use countersign_runtime::disclosure::FileName;

use super::pages;
use crate::arguments::Session;
use crate::connection::{Authorized, Service};
use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};
use crate::resources::{KeyCustodyArg, issuer_json};
use crate::text_file;
use update::UpdateArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum IssuersCommand {
    #[command(flatten)]
    Resource(ResourceCommand),
    /// Check what AWS, Google Cloud, Azure, Vault, Kubernetes and Countersign refuse of an issuer.
    ///
    /// Reads the discovery document and the key set of any issuer, judges each key, and lists what is not checked. `--ca-file` names
    /// the authority of an issuer whose certificate is private. Exit code 2: one of them refuses the issuer.
    /// Example: `countersign issuers doctor https://token.actions.githubusercontent.com`
    Doctor(doctor::DoctorArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ResourceCommand {
    /// Create an issuer. Prints its id; its URL is told on standard error.
    Create(CreateArgs),
    /// List the issuers of the workspace, oldest first.
    List(ListArgs),
    /// Change what is given of an issuer, and nothing else.
    ///
    /// A profile by which runs would have other subjects needs --accept-subject-from and --accept-subject-to, as relying parties
    /// trust subjects: the refusal shows both templates.
    Update(UpdateArgs),
    /// Delete an issuer and its keys. Its URL is never used again.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What tokens say of a run: `namespace`, `rwx`, `spacelift`, `meshstack-runner`, `meshstack-run` or `kubernetes`.
    #[arg(long, value_name = "PROFILE", required_unless_present = "profile_file", conflicts_with = "profile_file")]
    profile: Option<String>,
    /// A profile of your own, TOML: attributes, forms of the subject, claims.
    #[arg(long, value_name = "FILE")]
    profile_file: Option<PathBuf>,
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
    /// Where the private halves of its keys are kept [default: sealed].
    #[arg(long, value_name = "CUSTODY")]
    key_custody: Option<KeyCustodyArg>,
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
            Self::Doctor(args) => args.run(session, output).await,
        }
    }
}

impl ResourceCommand {
    async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let workspace_id = session.connection.workspace(&session.clock)?;
        let mut client = IssuerServiceClient::new(session.connection.authorized(Service::Issuer, &session.clock).await?);
        match self {
            Self::Create(args) => {
                let request = CreateIssuerRequest { issuer: Some(args.into_issuer(workspace_id)?) };
                let issuer = client.create_issuer(request).await?.into_inner().issuer.unwrap_or_default();
                output.message(format!("Created issuer {} with the URL {}.", issuer.id, issuer.issuer_url));
                output.line(issuer.id)?;
            }
            Self::List(ListArgs { output: format }) => show(&list(&client, &workspace_id).await?, format, output)?,
            Self::Update(args) => {
                let request = args.into_request(workspace_id)?;
                let issuer = client.update_issuer(request).await?.into_inner().issuer.unwrap_or_default();
                output.message(format!("Changed {}.", issuer.id));
            }
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
    fn into_issuer(self, workspace_id: String) -> Result<Issuer> {
        let profile_definition = self.profile_file.as_deref().map(read_profile).transpose()?;
        Ok(Issuer {
            workspace_id,
            display_name: self.display_name,
            issuer_url: self.issuer_url,
            profile: self.profile.unwrap_or_else(|| Profile::CUSTOM.to_owned()),
            profile_definition: profile_definition.map(Into::into),
            algorithms: self.algorithm,
            allowed_audiences: self.allowed_audience,
            default_token_duration: self.default_token_duration.map(common::duration),
            max_token_duration: self.max_token_duration.map(common::duration),
            rotation_period: self.rotation_period.map(common::duration),
            key_custody: custody(self.key_custody),
            ..Issuer::default()
        })
    }
}

fn custody(arg: Option<KeyCustodyArg>) -> i32 {
    arg.map_or(KeyCustody::Unspecified, Into::into).into()
}

/// Reads the definition of a profile. Whether it is a good one is for the service to say.
fn read_profile(path: &Path) -> Result<ProfileDefinition> {
    let text = text_file::read("--profile-file", path)?;
    ProfileDefinition::from_toml(&text).map_err(|error| {
        let problem = toml_problem(&error, &text);
        Failure::Failed(anyhow::anyhow!("--profile-file {} does not contain a profile: {problem}", FileName(path)))
    })
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn issuer(line: &[&str]) -> Result<Issuer> {
        let line = ["create"].into_iter().chain(line.iter().copied());
        let parsed = Line::try_parse_from(line).map_err(|error| Failure::usage(error.to_string()))?;
        parsed.args.into_issuer("ws_1".to_owned())
    }

    #[test]
    fn a_profile_is_named_or_read_from_a_file() {
        let named = issuer(&["--profile", "rwx"]).unwrap();
        assert_eq!((named.profile.as_str(), named.profile_definition), ("rwx", None));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.toml");
        let path = path.to_str().unwrap();
        std::fs::write(path, "subject_forms = [{ id = 'a', template = 'a:{a}', delimiters = ':' }]\n[[samples]]\n").unwrap();
        let custom = issuer(&["--profile-file", path]).unwrap();
        assert_eq!(custom.profile, "custom");
        assert_eq!(custom.profile_definition.unwrap().subject_forms[0].template, "a:{a}");

        std::fs::write(path, "subject = 'a'").unwrap();
        assert!(matches!(issuer(&["--profile-file", path]), Err(Failure::Failed(_))), "no such field");
        assert!(matches!(issuer(&["--profile-file", "/nowhere"]), Err(Failure::Failed(_))));
        assert!(matches!(issuer(&["--profile", "rwx", "--profile-file", path]), Err(Failure::Usage(_))));
        assert!(matches!(issuer(&[]), Err(Failure::Usage(_))));
    }
}
