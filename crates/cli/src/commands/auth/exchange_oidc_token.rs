//! `countersign auth exchange-oidc-token`.

use std::time::Duration;

use clap::Args;
use countersign_domain::reason::Reason;
use countersign_domain::time::Timestamp;
use countersign_proto::common;
use countersign_proto::exchange_v1::exchange_service_client::ExchangeServiceClient;
use countersign_proto::exchange_v1::{ExchangeTokenRequest, ExchangeTokenResponse};
use serde_json::json;

use super::issue_id_token::TokenFormat;
use super::subject_token::SubjectTokenArgs;
use crate::arguments::Session;
use crate::connection::Service;
use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::{Output, printable};
use crate::stored_token::StoredToken;

#[derive(Debug, Args)]
pub(crate) struct ExchangeOidcTokenArgs {
    #[command(flatten)]
    subject: SubjectTokenArgs,
    /// The relationship that is to decide, `tr_…` [default: the most specific that matches].
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    trust_relationship: String,
    /// The wished `aud` of the access token. Repeat for several [default: the relationship's first].
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// A wished scope. Repeat for several [default: all that the relationship gives].
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// How long the access token is to live, at most, for example 15m [default: the relationship's].
    #[arg(long, value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Do not store the access token.
    #[arg(long)]
    no_store: bool,
    /// Print the access token instead of the workspace's name: bare, or as JSON with what is known about it.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<TokenFormat>,
}

impl ExchangeOidcTokenArgs {
    pub(super) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let Self { subject, trust_relationship, audience, scope, duration, no_store, output: format } = self;
        let subject_token = subject.read()?;
        let names_workspace = session.connection.named_workspace().is_some();
        let request = ExchangeTokenRequest {
            subject_token: subject_token.expose().to_owned(),
            workspace_id: session.connection.named_workspace().unwrap_or_default().to_owned(),
            trust_relationship_id: trust_relationship,
            audiences: audience,
            scopes: scope,
            duration: duration.map(common::duration),
        };
        let mut client = ExchangeServiceClient::new(session.connection.public(Service::Gateway).await?);
        let exchanged = client.exchange_token(request).await.map_err(Failure::from).inspect_err(|failure| {
            if !names_workspace && failure.reason() == Some(Reason::SubjectTokenNotTrusted) {
                output.message("No workspace was named. When several trust the token's issuer, pass --workspace ws_….");
            }
        });
        let exchanged = exchanged?.into_inner();
        if no_store {
            output.message(format!("Signed in to {}. The token is not stored.", exchanged.workspace_id));
        } else {
            store(&exchanged, session, output)?;
        }
        show(&exchanged, format, output).map_err(Failure::from)
    }
}

fn store(exchanged: &ExchangeTokenResponse, session: &Session, output: &mut Output) -> Result<()> {
    let connection = &session.connection;
    let expire_time = exchanged.expire_time.as_ref().and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    let stored = StoredToken {
        gateway_address: connection.address(Service::Gateway).to_owned(),
        workspace_id: exchanged.workspace_id.clone(),
        workspace_display_name: exchanged.workspace_display_name.clone(),
        trust_relationship_id: exchanged.trust_relationship_id.clone(),
        access_token: exchanged.access_token.clone().into(),
        expire_time: expire_time
            .ok_or_else(|| Failure::Failed(anyhow::anyhow!("the answer does not say when the token expires")))?,
    };
    let path = stored
        .store(connection.folder())
        .map_err(|error| Failure::while_doing(error, format!("cannot store the token in {}", connection.folder().display())))?;
    output.message(format!(
        "Signed in to {} until {}. Token stored in {}.",
        stored.workspace_id,
        stored.expire_time,
        path.display()
    ));
    if let Some(file) = connection.credential_file() {
        output.message(format!(
            "Later commands go on as the holder of {}; with --use-stored-token they use this token.",
            file.display()
        ));
    }
    Ok(())
}

fn show(exchanged: &ExchangeTokenResponse, format: Option<TokenFormat>, output: &mut Output) -> std::io::Result<()> {
    match format {
        None => output.line(printable(&exchanged.workspace_display_name)),
        Some(TokenFormat::Raw) if output.is_terminal => output.line(&exchanged.access_token),
        Some(TokenFormat::Raw) => output.raw(&exchanged.access_token),
        Some(TokenFormat::Json) => output.json(&json!({
            "access_token": exchanged.access_token,
            "expire_time": exchanged.expire_time.as_ref().map(duration::moment_from_wire),
            "workspace_id": exchanged.workspace_id,
            "workspace_display_name": exchanged.workspace_display_name,
            "trust_relationship_id": exchanged.trust_relationship_id,
            "scopes": exchanged.scopes,
            "audiences": exchanged.audiences,
        })),
    }
}

#[cfg(test)]
mod tests {
    use countersign_runtime::ambient::SystemClock;

    use super::*;
    use crate::connection::{Connection, ConnectionArgs};
    use crate::output::tests::Captured;

    #[test]
    fn a_token_is_stored_for_its_gateway_and_the_person_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let context = folder.path().join("context.toml");
        std::fs::write(&context, "credential_file = \"operator\"\n").unwrap();
        let args = ConnectionArgs { context: Some(context), ..ConnectionArgs::default() };
        let session = Session { connection: Connection::resolve(&args).unwrap(), clock: SystemClock };
        let mut exchanged = ExchangeTokenResponse { access_token: "a.b.c".to_owned(), ..ExchangeTokenResponse::default() };
        let captured = Captured::default();
        // Nobody could tell when to stop using it.
        assert!(store(&exchanged, &session, &mut captured.output()).is_err());
        exchanged.expire_time = Some(duration::parse_moment("2027-01-31T18:00:00Z").unwrap());
        store(&exchanged, &session, &mut captured.output()).unwrap();
        let stored = StoredToken::load(folder.path(), "http://localhost:7403").unwrap().unwrap();
        assert_eq!(stored.access_token.expose(), "a.b.c");
        assert!(captured.messages().contains("--use-stored-token"), "{}", captured.messages());
        assert!(!captured.messages().contains("a.b.c"));
        assert_eq!(captured.results(), "");
    }

    #[test]
    fn success_is_the_name_of_the_workspace() {
        let exchanged = ExchangeTokenResponse {
            access_token: "a.b.c".to_owned(),
            workspace_display_name: "Demo".to_owned(),
            ..ExchangeTokenResponse::default()
        };
        let shown = |format| {
            let captured = Captured::default();
            show(&exchanged, format, &mut captured.output()).unwrap();
            captured.results()
        };
        assert_eq!(shown(None), "Demo\n");
        assert_eq!(shown(Some(TokenFormat::Raw)), "a.b.c");
        assert!(shown(Some(TokenFormat::Json)).contains("\"access_token\": \"a.b.c\""));
    }
}
