//! `countersign auth issue-id-token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use countersign_proto::common;
use countersign_proto::issuer_v1::token_service_client::TokenServiceClient;
use countersign_proto::issuer_v1::{IssueIdTokenRequest, IssueIdTokenResponse, IssueOwnIdTokenRequest, IssueOwnIdTokenResponse};
use countersign_runtime::shutdown::Shutdown;
use serde_json::json;

use crate::arguments::Session;
use crate::commands::auth::token_file;
use crate::connection::Service;
use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::run_attributes;

#[derive(Debug, Args)]
pub(crate) struct IssueIdTokenArgs {
    /// The `aud` of the token: who is to accept it. Repeat for several. May be left out where the issuer's profile fixes it.
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// The issuer, `is_…` [default: of the context, else the only one of the workspace].
    #[arg(long, env = "COUNTERSIGN_CLI_ISSUER_ID", value_name = "ID")]
    issuer_id: Option<String>,
    /// For yourself: the token's subject is that of the access token in use. Otherwise it is for the run that the attributes describe.
    #[arg(long, conflicts_with_all = ["attribute", "subject_form"])]
    own: bool,
    /// An attribute of the run, from which the issuer's profile makes subject and claims. Repeat for each.
    #[arg(long, value_name = "NAME=VALUE", value_parser = run_attributes::parse)]
    attribute: Vec<(String, String)>,
    /// Which of the profile's subject forms to use [default: the first that is for such a run].
    #[arg(long, value_name = "FORM", default_value = "", hide_default_value = true)]
    subject_form: String,
    /// How long the token lives, for example 15m [default: the issuer's].
    #[arg(long, value_parser = duration::parse)]
    duration: Option<Duration>,
    /// The signature's algorithm, one of the issuer's [default: its first].
    #[arg(long, value_name = "ALG", default_value = "", hide_default_value = true)]
    algorithm: String,
    /// What to print [default: raw, or a summary on a terminal].
    #[arg(short, long, value_name = "FORMAT", conflicts_with = "to")]
    output: Option<TokenFormat>,
    /// Write the bare token to this file instead, mode 0600, in one step: for `AWS_WEB_IDENTITY_TOKEN_FILE` and the like.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Go on, and renew the token in the file when two thirds of its life have passed. Ends with 1 when it has expired all the same.
    #[arg(long, requires = "to")]
    watch: bool,
}

/// How a token is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TokenFormat {
    /// The bare token.
    Raw,
    /// A JSON object.
    Json,
}

impl IssueIdTokenArgs {
    pub(super) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let Self { audience, issuer_id, own, attribute, subject_form, duration, algorithm, output: format, to, watch } = self;
        let workspace_id = session.connection.workspace(&session.clock)?;
        let issuer_id = issuer_id.or_else(|| session.connection.issuer_id().map(str::to_owned)).unwrap_or_default();
        let (audiences, duration) = (audience, duration.map(common::duration));
        let request = if own {
            Request::ForCaller(IssueOwnIdTokenRequest { workspace_id, issuer_id, audiences, duration, algorithm })
        } else {
            let attributes = run_attributes::collect(attribute)?.into_iter().collect();
            let request =
                IssueIdTokenRequest { workspace_id, issuer_id, audiences, attributes, duration, algorithm, subject_form };
            Request::ForRun(request)
        };
        let Some(file) = to else {
            return show(&issue(session, request).await?, format, output).map_err(Failure::from);
        };
        if !watch {
            let once = async || Ok(issue(session, request).await?.id_token);
            return token_file::write(&file, once).await.map(drop);
        }
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        let again = async || Ok(issue(session, request.clone()).await?.id_token);
        tokio::select! {
            ended = token_file::keep_fresh(&file, &session.clock, output, again) => ended,
            () = shutdown.requested() => Ok(()),
        }
    }
}

/// What is asked for, and by which of the two methods.
#[derive(Debug, Clone)]
enum Request {
    ForRun(IssueIdTokenRequest),
    ForCaller(IssueOwnIdTokenRequest),
}

/// Asks anew in everything: another credential may lie in the credential file by now, and another address behind the name.
async fn issue(session: &Session, request: Request) -> Result<IssueIdTokenResponse> {
    let mut client = TokenServiceClient::new(session.connection.authorized(Service::Issuer, &session.clock).await?);
    Ok(match request {
        Request::ForRun(request) => client.issue_id_token(request).await?.into_inner(),
        Request::ForCaller(request) => {
            let IssueOwnIdTokenResponse { id_token, subject, expire_time } =
                client.issue_own_id_token(request).await?.into_inner();
            IssueIdTokenResponse { id_token, subject, expire_time }
        }
    })
}

fn show(issued: &IssueIdTokenResponse, format: Option<TokenFormat>, output: &mut Output) -> std::io::Result<()> {
    let IssueIdTokenResponse { id_token, subject, expire_time } = issued;
    let expire_time = expire_time.as_ref().map(duration::moment_from_wire);
    match format {
        Some(TokenFormat::Json) => output.json(&json!({"id_token": id_token, "subject": subject, "expire_time": expire_time})),
        Some(TokenFormat::Raw) | None if !output.is_terminal => output.raw(id_token),
        Some(TokenFormat::Raw) => output.line(id_token),
        None => {
            output.line(format!("Subject:  {}", crate::output::printable(subject)))?;
            output.line(format!("Expires:  {}", expire_time.unwrap_or_default()))?;
            output.line(format!("ID token: {id_token}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::Captured;

    fn issued() -> IssueIdTokenResponse {
        IssueIdTokenResponse {
            id_token: "a.b.c".to_owned(),
            subject: "org:my-org:vault:deploy-vault".to_owned(),
            expire_time: Some(duration::parse_moment("2027-01-31T18:00:00Z").unwrap()),
        }
    }

    fn shown(format: Option<TokenFormat>, is_terminal: bool) -> String {
        let captured = Captured::default();
        let mut output = captured.output();
        output.is_terminal = is_terminal;
        show(&issued(), format, &mut output).unwrap();
        captured.results()
    }

    #[test]
    fn off_a_terminal_the_bare_token_is_all_that_is_printed() {
        assert_eq!(shown(None, false), "a.b.c");
        assert_eq!(shown(Some(TokenFormat::Raw), false), "a.b.c");
        assert_eq!(shown(Some(TokenFormat::Raw), true), "a.b.c\n");
    }

    #[test]
    fn on_a_terminal_a_person_sees_what_it_is() {
        assert!(shown(None, true).contains("Subject:  org:my-org:vault:deploy-vault\n"));
    }

    #[test]
    fn json_is_the_same_on_both() {
        let value: serde_json::Value = serde_json::from_str(&shown(Some(TokenFormat::Json), true)).unwrap();
        assert_eq!(value["id_token"], "a.b.c");
        assert_eq!(value["expire_time"], "2027-01-31T18:00:00Z");
    }
}
