//! One exchange over the real ports, seen from outside: as a scheduler, a workload and a relying party would do it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use countersign_domain::values::reason::Reason;
use countersign_domain::values::token_type::TokenType;
use countersign_jose::{KeySet, SignatureAlgorithm, UnverifiedToken, VerificationPolicy};
use countersign_proto::issuer_v1::IssueIdTokenRequest;
use countersign_proto::issuer_v1::token_service_client::TokenServiceClient;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::composition::Deployment;
use super::demo::{Demo, ORG, VAULT};
use super::report;
use crate::connection::{Bearer, Service};
use crate::failure::{Failure, Result};
use crate::http_client::{self, Answer};
use crate::output::Output;
use crate::secret::Secret;
use crate::token_claims::unverified_claims;

/// The grant type of RFC 8693, section 2.1.
pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The subject token type of RFC 8693, section 3.
pub(super) const SUBJECT_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:id_token";

const LIMIT: Duration = Duration::from_secs(10);

/// RFC 8693, section 2.2.1.
#[derive(Debug, Deserialize)]
pub(super) struct TokenResponse {
    access_token: Secret,
    pub(super) issued_token_type: String,
    pub(super) token_type: String,
    pub(super) expires_in: u64,
    #[serde(default)]
    pub(super) scope: String,
}

/// RFC 6749, section 5.2, and our reason.
#[derive(Debug, Deserialize)]
pub(super) struct OAuthError {
    pub(super) error: String,
    pub(super) error_reason: String,
    #[serde(default)]
    error_description: String,
}

/// What of RFC 8414 is needed here.
#[derive(Debug, Deserialize)]
struct ServerMetadata {
    issuer: String,
    jwks_uri: String,
}

/// Issues a token, exchanges it, verifies what came back as a stranger would, and presents the token once more. Tells of each
/// step when it is done.
///
/// # Errors
/// A step did not go as it must; the message says which.
pub(super) async fn perform(deployment: &Deployment, operator: &Secret, demo: &Demo, output: &mut Output) -> Result<()> {
    let id_token = issue(deployment, operator, demo).await?;
    let claims = unverified_claims(id_token.expose()).map_err(|error| Failure::Failed(error.into()))?;
    report::id_token(deployment, &claims, output)?;

    let answer = present(deployment, demo, &id_token).await?;
    if answer.status != StatusCode::OK {
        return Err(unexpected("the exchange", &answer));
    }
    let response: TokenResponse = read("the answer of the token endpoint", &answer)?;
    let (jwks_uri, claims) = verify(deployment, &response.access_token).await?;
    report::access_token(deployment, &response, &claims, &jwks_uri, output)?;

    let again = present(deployment, demo, &id_token).await?;
    let refused: OAuthError = read("the answer to the token presented again", &again)?;
    if again.status != StatusCode::BAD_REQUEST || refused.error_reason != Reason::SubjectTokenReplayed.as_str() {
        return Err(unexpected("presenting the token again", &again));
    }
    report::replay(&refused, output)?;
    Ok(())
}

/// Has an ID token issued for the demo's subject.
pub(super) async fn issue(deployment: &Deployment, operator: &Secret, demo: &Demo) -> Result<Secret> {
    let channel = deployment.channel(Service::Issuer).await?;
    let mut client = TokenServiceClient::with_interceptor(channel, Bearer::new(operator)?);
    let request = IssueIdTokenRequest {
        workspace_id: demo.workspace_id.clone(),
        issuer_id: demo.issuer_id.clone(),
        audiences: vec![deployment.url(Service::Gateway).to_owned()],
        attributes: HashMap::from([("org".to_owned(), ORG.to_owned()), ("vault".to_owned(), VAULT.to_owned())]),
        ..IssueIdTokenRequest::default()
    };
    Ok(client.issue_id_token(request).await?.into_inner().id_token.into())
}

/// Presents a token at the token endpoint.
pub(super) async fn present(deployment: &Deployment, demo: &Demo, id_token: &Secret) -> Result<Answer> {
    let audience = workspace_audience(deployment, demo);
    let form = [
        ("grant_type", GRANT_TYPE),
        ("subject_token_type", SUBJECT_TOKEN_TYPE),
        ("audience", audience.as_str()),
        ("subject_token", id_token.expose()),
    ];
    let url = format!("{}/oauth2/token", deployment.url(Service::Gateway));
    http_client::post_form(&url, &form, LIMIT).await.map_err(|error| Failure::Failed(error.into()))
}

/// The `audience` that names the workspace of a request.
pub(super) fn workspace_audience(deployment: &Deployment, demo: &Demo) -> String {
    format!("{}/workspaces/{}", deployment.url(Service::Gateway), demo.workspace_id)
}

/// Verifies the access token with nothing but the gateway's URL, as a service that receives it would.
async fn verify(deployment: &Deployment, access_token: &Secret) -> Result<(String, Map<String, Value>)> {
    let metadata_url = format!("{}/.well-known/oauth-authorization-server", deployment.url(Service::Gateway));
    let metadata: ServerMetadata = read("the gateway's metadata", &document(&metadata_url).await?)?;
    let keys = document(&metadata.jwks_uri).await?;
    let wrong = |what: &str| Failure::Failed(anyhow::anyhow!("the access token does not verify: {what}"));
    let keys = KeySet::parse(&keys.body).map_err(|error| wrong(&error.to_string()))?;
    // Spelt out as in any relying party, so that a change of what is signed does not go unnoticed here.
    let algorithms = BTreeSet::from([SignatureAlgorithm::Es256]);
    let token_types = BTreeSet::from([Some(TokenType::new("at+jwt"))]);
    let policy = VerificationPolicy { algorithms: &algorithms, token_types: &token_types };
    let token = UnverifiedToken::parse(access_token.expose()).map_err(|error| wrong(&error.to_string()))?;
    let verified = token.verify(&keys, &policy).map_err(|error| wrong(&error.to_string()))?;
    if verified.claims().issuer.as_str() != metadata.issuer {
        return Err(wrong("its issuer is not the gateway"));
    }
    Ok((metadata.jwks_uri, verified.into_claims().members))
}

async fn document(url: &str) -> Result<Answer> {
    let answer = http_client::get(url, LIMIT).await.map_err(|error| Failure::Failed(error.into()))?;
    if answer.status == StatusCode::OK { Ok(answer) } else { Err(unexpected(url, &answer)) }
}

fn read<T: for<'de> Deserialize<'de>>(what: &'static str, answer: &Answer) -> Result<T> {
    // The body may hold a token, so it is not shown.
    serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::while_doing(error, format!("{what} ({}) is not what it should be", answer.status)))
}

/// Only an error's members are shown: the body of anything else may hold a token.
fn unexpected(what: &str, answer: &Answer) -> Failure {
    let why = serde_json::from_slice(&answer.body).map_or_else(
        |_| String::new(),
        |OAuthError { error, error_reason, error_description }| format!(": {error} ({error_reason}): {error_description}"),
    );
    Failure::Failed(anyhow::anyhow!("{what} answered {}{why}", answer.status))
}
