//! `countersign auth …`.

mod exchange_oidc_token;
mod explain;
mod issue_id_token;
mod subject_token;
mod token_file;
mod trust_relationships;

use clap::Subcommand;

use crate::arguments::Session;
use crate::failure::Result;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Which tokens of other issuers are accepted, and what they are exchanged for.
    #[command(subcommand)]
    TrustRelationships(trust_relationships::TrustRelationshipsCommand),
    /// Issue an ID token of ours, for others to verify.
    ///
    /// Prints the bare token when the output is not a terminal, so that `TOKEN=$(countersign auth issue-id-token …)` and
    /// `… | curl --data-urlencode subject_token@-` work. No line feed follows it then.
    IssueIdToken(issue_id_token::IssueIdTokenArgs),
    /// Exchange an OIDC token of a trusted issuer for an access token, and store it for later commands.
    ///
    /// Prints the name of the workspace. The access token is stored, readable by you alone, and used by later commands that name
    /// no credential file, for as long as it is valid.
    ExchangeOidcToken(exchange_oidc_token::ExchangeOidcTokenArgs),
    /// Say why a token is, or is not, accepted: every stage, and every condition of the relationships that come nearest.
    ///
    /// The token is not used up: nothing is minted, stored or logged. Exits with 2 when the token would be refused.
    Explain(explain::ExplainArgs),
}

impl AuthCommand {
    pub(crate) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        match self {
            Self::TrustRelationships(command) => command.run(session, output).await,
            Self::IssueIdToken(args) => args.run(session, output).await,
            Self::ExchangeOidcToken(args) => args.run(session, output).await,
            Self::Explain(args) => args.run(session, output).await,
        }
    }
}
