//! `countersign auth exchange-oidc-token`.

use std::time::Duration;

use clap::Args;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::Timestamp;
use countersign_proto::common;
use countersign_proto::exchange_v1::exchange_service_client::ExchangeServiceClient;
use countersign_proto::exchange_v1::{ExchangeTokenRequest, ExchangeTokenResponse};
use countersign_runtime::disclosure::FileName;
use serde_json::json;

use super::issue_id_token::TokenFormat;
use super::subject_token::SubjectTokenArgs;
use crate::arguments::Session;
use crate::connection::Service;
use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::{Output, printable};
use crate::private_file::Reserved;
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
        // The exchange uses the subject token up, so whether the access token can be stored is known before.
        let place = if no_store { None } else { reserve(session, format, output)? };
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
        if place.is_none() {
            output.message(format!("Signed in to {}. The token is not stored.", exchanged.workspace_id));
        }
        let stored = place.map(|place| store(&exchanged, place, session, output));
        hand_over(&exchanged, stored, format, output)
    }
}

/// The place of the access token. `None` where it cannot be stored, and is printed anyway.
fn reserve(session: &Session, format: Option<TokenFormat>, output: &mut Output) -> Result<Option<Reserved>> {
    let connection = &session.connection;
    let error = match StoredToken::reserve(connection.folder(), connection.address(Service::Gateway)) {
        Ok(place) => return Ok(Some(place)),
        Err(error) => error,
    };
    let cannot = format!("cannot store an access token in {}: {error}", FileName(connection.folder()));
    if format.is_none() {
        return Err(Failure::Failed(anyhow::anyhow!(
            "{cannot}; the subject token was not exchanged and can still be used; pass `-o raw` to print the access token, or \
             --context to store it elsewhere"
        )));
    }
    output.message(format!("warning: {cannot}; it is printed only"));
    Ok(None)
}

/// Prints the result, whatever became of storing the token: the subject token is used up.
fn hand_over(
    exchanged: &ExchangeTokenResponse,
    stored: Option<Result<()>>,
    format: Option<TokenFormat>,
    output: &mut Output,
) -> Result<()> {
    let printed = show(exchanged, format, output);
    let is_stored = matches!(stored, Some(Ok(())));
    if let Some(Err(failure)) = stored {
        // Whoever asked for the token itself has it.
        let is_handed_over = format.is_some() && printed.is_ok();
        let failure = match failure {
            Failure::Failed(error) => error,
            other => anyhow::anyhow!("{other}"),
        };
        if !is_handed_over {
            return Err(Failure::Failed(failure.context(
                "the exchange succeeded and the subject token is used up, but the access token is lost; get another subject \
                 token, and pass `-o raw` to print the access token",
            )));
        }
        output.message(format!("warning: {failure:#}; the access token is printed only"));
    }
    printed.map_err(|error| {
        let fate = match (format.is_some(), is_stored) {
            (true, false) => "the exchange succeeded and the subject token is used up, but the access token is lost",
            _ => "the exchange succeeded and the access token is stored, but the result is not printed",
        };
        Failure::while_doing(error, fate)
    })
}

fn store(exchanged: &ExchangeTokenResponse, place: Reserved, session: &Session, output: &mut Output) -> Result<()> {
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
    let path = stored.store(place).map_err(|error| {
        Failure::while_doing(error, format!("cannot store the access token in {}", FileName(connection.folder())))
    })?;
    output.message(format!(
        "Signed in to {} until {}. Token stored in {}.",
        stored.workspace_id,
        stored.expire_time,
        FileName(&path)
    ));
    if let Some(file) = connection.credential_file() {
        output.message(format!(
            "Later commands use the credential in {}; with --use-stored-token they use this token.",
            FileName(file)
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
        let place = || StoredToken::reserve(folder.path(), "http://localhost:7403").unwrap();
        // Without its end there is no telling when to stop using it.
        assert!(store(&exchanged, place(), &session, &mut captured.output()).is_err());
        exchanged.expire_time = Some(duration::parse_moment("2027-01-31T18:00:00Z").unwrap());
        store(&exchanged, place(), &session, &mut captured.output()).unwrap();
        let stored = StoredToken::load(folder.path(), "http://localhost:7403").unwrap().unwrap();
        assert_eq!(stored.access_token.expose(), "a.b.c");
        assert!(captured.messages().contains("--use-stored-token"), "{}", captured.messages());
        assert!(!captured.messages().contains("a.b.c"));
        assert_eq!(captured.results(), "");
    }

    fn session_in(folder: &std::path::Path) -> Session {
        let context = folder.join("context.toml");
        std::fs::write(&context, "").unwrap();
        let args = ConnectionArgs { context: Some(context), ..ConnectionArgs::default() };
        Session { connection: Connection::resolve(&args).unwrap(), clock: SystemClock }
    }

    #[test]
    fn a_store_that_cannot_be_written_is_found_before_the_exchange() {
        let folder = tempfile::tempdir().unwrap();
        let session = session_in(folder.path());
        // A file in the place of the folder refuses even the superuser.
        std::fs::write(folder.path().join("tokens"), "").unwrap();
        let captured = Captured::default();
        let failure = reserve(&session, None, &mut captured.output()).unwrap_err().to_string();
        assert!(failure.contains("was not exchanged") && failure.contains("-o raw"), "{failure}");
        // Printed in any case, so that storing it is not needed.
        for format in [TokenFormat::Raw, TokenFormat::Json] {
            assert!(reserve(&session, Some(format), &mut captured.output()).unwrap().is_none());
        }
        assert!(captured.messages().contains("warning: cannot store an access token"), "{}", captured.messages());
    }

    #[test]
    fn after_an_exchange_the_token_is_handed_over_or_its_loss_is_said() {
        let exchanged = ExchangeTokenResponse { access_token: "a.b.c".to_owned(), ..ExchangeTokenResponse::default() };
        let disk_full = || Some(Err(Failure::Failed(anyhow::anyhow!("no space left on device"))));
        let captured = Captured::default();
        hand_over(&exchanged, disk_full(), Some(TokenFormat::Raw), &mut captured.output()).unwrap();
        assert_eq!(captured.results(), "a.b.c");
        assert!(captured.messages().contains("no space left") && !captured.messages().contains("a.b.c"));
        let failure = hand_over(&exchanged, disk_full(), None, &mut Captured::default().output()).unwrap_err().to_string();
        assert!(failure.contains("used up") && failure.contains("lost") && failure.contains("no space left"), "{failure}");
        // Standard output is closed.
        let of_closed = |stored, format| hand_over(&exchanged, stored, format, &mut Captured::closed()).unwrap_err().to_string();
        assert!(of_closed(Some(Ok(())), Some(TokenFormat::Raw)).contains("is stored"));
        assert!(of_closed(None, Some(TokenFormat::Raw)).contains("lost"));
        assert!(of_closed(disk_full(), Some(TokenFormat::Raw)).contains("lost"));
        assert!(of_closed(Some(Ok(())), None).contains("standard output"));
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
