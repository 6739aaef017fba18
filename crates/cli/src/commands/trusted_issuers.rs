//! `countersign trusted-issuers …`.

mod check;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign_proto::common;
use countersign_proto::trust_v1::trusted_issuer_service_client::TrustedIssuerServiceClient;
use countersign_proto::trust_v1::{
    CheckTrustedIssuerRequest, CreateTrustedIssuerRequest, DeleteTrustedIssuerRequest, GetTrustedIssuerRequest,
    ListTrustedIssuersRequest, ReplayPolicy, TrustedIssuer, UpdateTrustedIssuerRequest,
};
use tonic::Code;

use super::pages;
use crate::arguments::Session;
use crate::connection::{Authorized, Service};
use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};
use crate::resources::{ReplayPolicyArg, trusted_issuer_json};
use crate::text_file;

#[derive(Debug, Subcommand)]
pub(crate) enum TrustedIssuersCommand {
    /// Register an issuer with the workspace. Prints its id.
    Add(AddArgs),
    /// Show a trusted issuer with the health of its keys.
    Get(GetArgs),
    /// Have a trusted issuer's keys read now, and show what was found. Fails when they cannot be used.
    Check(CheckArgs),
    /// List the trusted issuers of the workspace, oldest first.
    List(ListArgs),
    /// Change a trusted issuer: the flags given, and nothing else. Lists are replaced whole.
    Update(UpdateArgs),
    /// Remove a trusted issuer that no trust relationship uses any more.
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The exact `iss` of its tokens. A trailing slash is part of the name.
    #[arg(long, value_name = "URL")]
    issuer: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How to print the list.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The trusted issuer, `ti_…`.
    #[arg(value_name = "ID")]
    id: String,
    /// Whether its tokens are accepted at all.
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The trusted issuer, `ti_…`.
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The trusted issuer, `ti_…`.
    #[arg(value_name = "ID")]
    id: String,
    /// How to print what was found.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The trusted issuer, `ti_…`.
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, Default, Args)]
struct Settings {
    /// A name for people.
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// What kind of issuer it is, as `countersign presets list` names it; an empty one is told by the URL.
    #[arg(long, value_name = "ID")]
    preset: Option<String>,
    /// Where its keys are read [default: where its discovery document says].
    #[arg(long, value_name = "URL")]
    jwks_url: Option<String>,
    /// A file with its keys, a JWKS, for an issuer that cannot be reached; needs --jwks-expire-time. An empty name goes back to
    /// fetching them.
    #[arg(long, value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// From when on the keys of --jwks-file are not used any more, as in RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = duration::parse_moment)]
    jwks_expire_time: Option<prost_types::Timestamp>,
    /// A file with the certificates of the authorities that its certificate must come from, PEM. An empty name goes back to
    /// the system's.
    #[arg(long, value_name = "FILE")]
    issuer_ca_file: Option<PathBuf>,
    /// How long after they were last read its keys are used while it cannot be reached [default: 1h].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    max_stale_age: Option<Duration>,
    /// An audience accepted on its tokens. Repeat for several [default: this deployment's own].
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// An accepted JOSE algorithm. Repeat for several [default: RS256, ES256, ES384, EdDSA].
    #[arg(long, value_name = "ALG")]
    algorithm: Vec<String>,
    /// An accepted `typ` header; empty stands for an absent one. Repeat for several [default: absent, JWT].
    #[arg(long, value_name = "TYP")]
    token_type: Vec<String>,
    /// The longest accepted lifetime of its tokens [default: 1h].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    max_token_lifetime: Option<Duration>,
    /// How far its clock may differ from ours [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    clock_skew: Option<Duration>,
    /// How often one of its tokens may be exchanged [default: single-use].
    #[arg(long, value_name = "POLICY")]
    replay_policy: Option<ReplayPolicyArg>,
}

impl Settings {
    /// The fields whose flags are given, by their names on the wire.
    fn given(&self) -> Vec<&'static str> {
        let no_more_jwks = self.jwks_file.as_deref().is_some_and(is_empty);
        let given = [
            ("display_name", self.display_name.is_some()),
            ("preset", self.preset.is_some()),
            ("jwks_url", self.jwks_url.is_some()),
            ("jwks", self.jwks_file.is_some()),
            // Keys that are gone need no end.
            ("jwks_expire_time", self.jwks_expire_time.is_some() || no_more_jwks),
            ("ca_certificates", self.issuer_ca_file.is_some()),
            ("max_stale_age", self.max_stale_age.is_some()),
            ("subject_audiences", !self.audience.is_empty()),
            ("algorithms", !self.algorithm.is_empty()),
            ("token_types", !self.token_type.is_empty()),
            ("max_token_lifetime", self.max_token_lifetime.is_some()),
            ("clock_skew", self.clock_skew.is_some()),
            ("replay_policy", self.replay_policy.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(path, _)| path).collect()
    }

    fn into_issuer(self, workspace_id: String) -> Result<TrustedIssuer> {
        Ok(TrustedIssuer {
            workspace_id,
            display_name: self.display_name.unwrap_or_default(),
            preset: self.preset.unwrap_or_default(),
            jwks_url: self.jwks_url.unwrap_or_default(),
            jwks: document("--jwks-file", self.jwks_file.as_deref())?,
            jwks_expire_time: self.jwks_expire_time,
            ca_certificates: document("--issuer-ca-file", self.issuer_ca_file.as_deref())?,
            max_stale_age: self.max_stale_age.map(common::duration),
            subject_audiences: self.audience,
            algorithms: self.algorithm,
            token_types: self.token_type,
            max_token_lifetime: self.max_token_lifetime.map(common::duration),
            clock_skew: self.clock_skew.map(common::duration),
            replay_policy: self.replay_policy.map(ReplayPolicy::from).unwrap_or_default().into(),
            ..TrustedIssuer::default()
        })
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// The text of the file that a flag names; nothing without one.
fn document(flag: &str, path: Option<&Path>) -> Result<String> {
    let Some(path) = path.filter(|path| !is_empty(path)) else { return Ok(String::new()) };
    text_file::read(flag, path)
}

pub(crate) type Client = TrustedIssuerServiceClient<Authorized>;

pub(crate) async fn client(session: &Session) -> Result<Client> {
    Ok(TrustedIssuerServiceClient::new(session.connection.authorized(Service::Trust, &session.clock).await?))
}

/// Every trusted issuer of a workspace.
pub(crate) async fn list(client: &Client, workspace_id: &str) -> Result<Vec<TrustedIssuer>> {
    let issuers = pages::all(|page_token| {
        let mut client = client.clone();
        let request =
            ListTrustedIssuersRequest { workspace_id: workspace_id.to_owned(), page_size: pages::PAGE_SIZE, page_token };
        async move {
            let page = client.list_trusted_issuers(request).await?.into_inner();
            Ok((page.trusted_issuers, page.next_page_token))
        }
    })
    .await?;
    Ok(issuers)
}

/// The trusted issuer with exactly this URL.
pub(crate) async fn find(client: &Client, workspace_id: &str, issuer_url: &str) -> Result<Option<TrustedIssuer>> {
    Ok(list(client, workspace_id).await?.into_iter().find(|issuer| issuer.issuer_url == issuer_url))
}

/// A trusted issuer, and whether it was registered just now.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) id: String,
    pub(crate) is_new: bool,
}

/// Registers an issuer; when somebody else was faster, gives what he registered.
pub(crate) async fn create_or_find(client: &mut Client, issuer: TrustedIssuer) -> Result<Registered> {
    let (workspace_id, issuer_url) = (issuer.workspace_id.clone(), issuer.issuer_url.clone());
    let refused = match client.create_trusted_issuer(CreateTrustedIssuerRequest { trusted_issuer: Some(issuer) }).await {
        Ok(created) => {
            let id = created.into_inner().trusted_issuer.unwrap_or_default().id;
            return Ok(Registered { id, is_new: true });
        }
        Err(status) => status,
    };
    if refused.code() == Code::AlreadyExists
        && let Some(found) = find(client, &workspace_id, &issuer_url).await?
    {
        return Ok(Registered { id: found.id, is_new: false });
    }
    Err(refused.into())
}

impl TrustedIssuersCommand {
    pub(crate) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let workspace_id = session.connection.workspace(&session.clock)?;
        let mut client = client(session).await?;
        match self {
            Self::Add(AddArgs { issuer, settings }) => {
                let trusted_issuer = TrustedIssuer { issuer_url: issuer, ..settings.into_issuer(workspace_id)? };
                let request = CreateTrustedIssuerRequest { trusted_issuer: Some(trusted_issuer) };
                let created = client.create_trusted_issuer(request).await?.into_inner().trusted_issuer.unwrap_or_default();
                output.message(format!("Registered {} as trusted issuer {}.", created.issuer_url, created.id));
                output.line(created.id)?;
            }
            Self::List(ListArgs { output: format }) => show(&list(&client, &workspace_id).await?, format, output)?,
            Self::Update(args) => {
                let updated = client.update_trusted_issuer(args.into_request(workspace_id)?).await?.into_inner();
                output.message(format!("Updated {}.", updated.trusted_issuer.unwrap_or_default().id));
            }
            Self::Get(GetArgs { id: trusted_issuer_id }) => {
                let request = GetTrustedIssuerRequest { workspace_id, trusted_issuer_id };
                let found = client.get_trusted_issuer(request).await?.into_inner();
                output.json(&trusted_issuer_json(&found.trusted_issuer.unwrap_or_default()))?;
            }
            Self::Check(CheckArgs { id: trusted_issuer_id, output: format }) => {
                let request = CheckTrustedIssuerRequest { workspace_id, trusted_issuer_id };
                check::show(&client.check_trusted_issuer(request).await?.into_inner(), format, output)?;
            }
            Self::Remove(RemoveArgs { id }) => {
                let trusted_issuer_id = id.clone();
                let request = DeleteTrustedIssuerRequest { workspace_id, trusted_issuer_id, etag: String::new() };
                client.delete_trusted_issuer(request).await?;
                output.message(format!("Removed {id}."));
            }
        }
        Ok(())
    }
}

impl UpdateArgs {
    fn into_request(self, workspace_id: String) -> Result<UpdateTrustedIssuerRequest> {
        let mut paths = self.settings.given();
        paths.extend(self.enabled.map(|_| "enabled"));
        if paths.is_empty() {
            return Err(Failure::usage("nothing to change: give at least one flag"));
        }
        let enabled = self.enabled.unwrap_or_default();
        let trusted_issuer = TrustedIssuer { id: self.id, enabled, ..self.settings.into_issuer(workspace_id)? };
        let paths = paths.into_iter().map(str::to_owned).collect();
        Ok(UpdateTrustedIssuerRequest {
            trusted_issuer: Some(trusted_issuer),
            update_mask: Some(prost_types::FieldMask { paths }),
        })
    }
}

fn show(issuers: &[TrustedIssuer], format: ListFormat, output: &mut Output) -> std::io::Result<()> {
    match format {
        ListFormat::Json => output.json(&issuers.iter().map(trusted_issuer_json).collect::<Vec<_>>()),
        ListFormat::Table => {
            let rows: Vec<_> = issuers
                .iter()
                .map(|issuer| {
                    [
                        issuer.id.clone(),
                        issuer.issuer_url.clone(),
                        issuer.subject_audiences.join(" "),
                        issuer.display_name.clone(),
                        if issuer.enabled { "yes" } else { "no" }.to_owned(),
                    ]
                })
                .collect();
            output.table(["ID", "ISSUER", "AUDIENCES", "NAME", "ENABLED"], &rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flags_given_are_in_the_mask() {
        let args = |settings| UpdateArgs { id: "ti_0".to_owned(), enabled: Some(false), settings };
        let settings = Settings { clock_skew: Some(Duration::from_mins(1)), ..Settings::default() };
        let request = args(settings).into_request("ws_0".to_owned()).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["clock_skew", "enabled"]);
        // An empty file name takes the keys away, and their end with them.
        let settings = Settings { jwks_file: Some(PathBuf::new()), ..Settings::default() };
        let request = args(settings).into_request("ws_0".to_owned()).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["jwks", "jwks_expire_time", "enabled"]);
        let nothing = UpdateArgs { enabled: None, ..args(Settings::default()) };
        assert!(matches!(nothing.into_request("ws_0".to_owned()), Err(Failure::Usage(_))));
    }
}
