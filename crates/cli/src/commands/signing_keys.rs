//! `countersign signing-keys …`.

use clap::{Args, Subcommand};
use countersign_proto::issuer_v1::signing_key_service_client::SigningKeyServiceClient;
use countersign_proto::issuer_v1::{
    ListSigningKeysRequest, RevokeSigningKeyRequest, RewrapSigningKeysRequest, RotateSigningKeyRequest, SigningKey,
};

use super::pages;
use crate::arguments::Session;
use crate::connection::{Authorized, Service};
use crate::duration::moment_from_wire;
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};
use crate::resources::{signing_key_json, signing_key_state, signing_key_wait};

#[derive(Debug, Subcommand)]
pub(crate) enum SigningKeysCommand {
    /// List the keys of an issuer, newest first: their states, when each changes next and what it waits for.
    List(ListArgs),
    /// Have another key follow the one that signs. Prints its id.
    ///
    /// It is published at once and takes over when the copies of the key set that verifiers hold have expired. No token stops
    /// verifying. Repeated meanwhile, the command changes nothing.
    Rotate(RotateArgs),
    /// Revoke a key that somebody else may have. Within seconds it signs nothing and is not published; it never comes back.
    ///
    /// Another key signs at once. Verifiers refuse its tokens until they fetch the key set again, and go on accepting tokens of the
    /// revoked key until their copy expires.
    Revoke(RevokeArgs),
    /// Seal the private keys of all issuers anew under the present key-encryption key, so that the former one can go. For the operator.
    ///
    /// Fails while a key is left that could not be opened.
    Rewrap,
}

/// Whose keys.
#[derive(Debug, Args)]
pub(crate) struct OwnerArgs {
    /// The issuer, `is_…`.
    #[arg(value_name = "ISSUER", required_unless_present = "access_tokens")]
    issuer: Option<String>,
    /// The deployment's own issuer, whose keys sign access tokens. For the operator.
    #[arg(long, conflicts_with = "issuer")]
    access_tokens: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// How to print the list.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The JOSE algorithm whose key it is about [default: the only one of the issuer].
    #[arg(long, value_name = "ALG", default_value = "", hide_default_value = true)]
    algorithm: String,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The `kid` of the key.
    #[arg(long, value_name = "KID", allow_hyphen_values = true)]
    key_id: String,
}

type Client = SigningKeyServiceClient<Authorized>;

impl SigningKeysCommand {
    pub(crate) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let mut client = SigningKeyServiceClient::new(session.connection.authorized(Service::Issuer, &session.clock).await?);
        match self {
            Self::List(ListArgs { owner, output: format }) => {
                let (workspace_id, issuer_id) = owner.ids(session)?;
                show(&list(&client, &workspace_id, &issuer_id).await?, format, output)?;
            }
            Self::Rotate(RotateArgs { owner, algorithm }) => {
                let (workspace_id, issuer_id) = owner.ids(session)?;
                let request = RotateSigningKeyRequest { workspace_id, issuer_id, algorithm };
                let answer = client.rotate_signing_key(request).await?.into_inner();
                let key = answer.signing_key.unwrap_or_default();
                let is = if answer.already_prepared { "was made before" } else { "is made" };
                let signs = match key.activate_time.as_ref().map(moment_from_wire) {
                    Some(moment) => format!("it signs from {moment} on"),
                    None => "it signs some time after the export has it".to_owned(),
                };
                output.message(format!("Key {} {is} and published; {signs}.", key.key_id));
                output.line(key.key_id)?;
            }
            Self::Revoke(RevokeArgs { owner, key_id }) => {
                let (workspace_id, issuer_id) = owner.ids(session)?;
                let request = RevokeSigningKeyRequest { workspace_id, issuer_id, key_id: key_id.clone() };
                let answer = client.revoke_signing_key(request).await?.into_inner();
                let signs = answer.active_signing_key.map(|key| format!(" Key {} signs now.", key.key_id));
                output.message(format!("Revoked {key_id}.{}", signs.unwrap_or_default()));
            }
            Self::Rewrap => {
                let answer = client.rewrap_signing_keys(RewrapSigningKeysRequest {}).await?.into_inner();
                output.message(format!(
                    "Under the key-encryption key {}: {} sealed anew, {} before, {} could not be opened.",
                    answer.key_encryption_key_id, answer.rewrapped, answer.already_wrapped, answer.not_opened,
                ));
                if answer.not_opened > 0 {
                    return Err(Failure::Exit(2));
                }
            }
        }
        Ok(())
    }
}

impl OwnerArgs {
    /// Workspace and issuer. Both are empty where the deployment's own issuer is meant.
    fn ids(self, session: &Session) -> Result<(String, String)> {
        match self.issuer {
            Some(issuer) => Ok((session.connection.workspace(&session.clock)?, issuer)),
            None => Ok((String::new(), String::new())),
        }
    }
}

async fn list(client: &Client, workspace_id: &str, issuer_id: &str) -> Result<Vec<SigningKey>> {
    let keys = pages::all(|page_token| {
        let mut client = client.clone();
        let request = ListSigningKeysRequest {
            workspace_id: workspace_id.to_owned(),
            issuer_id: issuer_id.to_owned(),
            page_size: pages::PAGE_SIZE,
            page_token,
        };
        async move {
            let page = client.list_signing_keys(request).await?.into_inner();
            Ok((page.signing_keys, page.next_page_token))
        }
    })
    .await?;
    Ok(keys)
}

fn show(keys: &[SigningKey], format: ListFormat, output: &mut Output) -> std::io::Result<()> {
    match format {
        ListFormat::Json => output.json(&keys.iter().map(signing_key_json).collect::<Vec<_>>()),
        ListFormat::Table => {
            let rows: Vec<_> = keys
                .iter()
                .map(|key| {
                    let changes = key.next_change_time.as_ref().map(moment_from_wire).unwrap_or_default();
                    let (state, wait) = (signing_key_state(key).to_owned(), signing_key_wait(key).to_owned());
                    [key.key_id.clone(), key.algorithm.clone(), state, changes, wait]
                })
                .collect();
            output.table(["KEY ID", "ALGORITHM", "STATE", "CHANGES", "WAITS FOR"], &rows)
        }
    }
}
