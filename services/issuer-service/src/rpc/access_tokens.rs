//! `AccessTokenService`: signs what the gateway decided, if it is an access token.

use std::sync::Arc;

use countersign_domain::exchange::access_token;
use countersign_domain::exchange::access_token_check::CheckedAccessToken;
use countersign_domain::exchange::commit::MAX_BATCH;
use countersign_domain::values::id::IssuerId;
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::time::{Clock, Timestamp};
use countersign_jose::{Signer, SigningError, json};
use countersign_proto::common::{read_duration, timestamp};
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::access_token_service_server::AccessTokenService;
use countersign_proto::issuer_v1::signed_access_token::Result as Signed;
use countersign_proto::status::Refusal;
use countersign_runtime::transport::OnlyServices;
use tonic::{Request, Response, Status};

use super::key_trouble;
use crate::keeper::Keeper;

/// From this many on, a batch is signed off the async threads.
const LARGE_BATCH: usize = 32;

#[derive(Debug)]
pub(crate) struct AccessTokens {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) issuer_id: IssuerId,
    /// The internal listener admits other services too, for key sets; only gateways have tokens signed (SECURITY 71).
    pub(crate) callers: OnlyServices,
}

impl AccessTokens {
    async fn sign(&self, batch: Vec<wire::AccessTokenToSign>) -> Result<Vec<wire::SignedAccessToken>, Refusal> {
        if batch.len() > MAX_BATCH {
            return Err(Refusal::invalid_field("access_tokens", format!("must be at most {MAX_BATCH}")));
        }
        let directory = self.keeper.directory().map_err(|error| key_trouble(&error, &self.issuer_id))?;
        let now = self.clock.now();
        let issuer = directory.by_id(&self.issuer_id);
        let signer =
            issuer.and_then(|issuer| Some((issuer.identity.issuer_url().clone(), issuer.signer(now, access_token::ALGORITHM)?)));
        let Some((issuer_url, key)) = signer else {
            tracing::error!(issuer.id = %self.issuer_id, "there is no key to sign access tokens with");
            return Err(Refusal::unavailable("no key signs access tokens now"));
        };
        let key = Arc::clone(key);
        let on_this_thread = batch.len() < LARGE_BATCH && !key.takes_long();
        let sign_all = move || batch.iter().map(|item| sign_one(item, &issuer_url, &*key, now)).collect();
        if on_this_thread { sign_all() } else { tokio::task::spawn_blocking(sign_all).await.map_err(|_| Refusal::internal())? }
    }
}

/// One item's result.
///
/// # Errors
/// No item of the batch can be signed now.
fn sign_one(
    item: &wire::AccessTokenToSign,
    issuer_url: &IssuerUrl,
    key: &dyn Signer,
    now: Timestamp,
) -> Result<wire::SignedAccessToken, Refusal> {
    let refused = |why: String| {
        tracing::warn!(why, "an access token is not signed");
        wire::SignedAccessToken { result: Some(Signed::Refusal(why)), expire_time: None }
    };
    let (claims, expires_at) = match complete(item, issuer_url, now) {
        Ok(completed) => completed,
        Err(why) => return Ok(refused(why)),
    };
    match key.sign(access_token::TOKEN_TYPE, &claims) {
        Ok(token) => {
            Ok(wire::SignedAccessToken { result: Some(Signed::AccessToken(token)), expire_time: Some(timestamp(expires_at)) })
        }
        Err(SigningError::Device) => {
            tracing::error!("access tokens are not signed: the device that keeps their key cannot be used");
            Err(Refusal::unavailable("the device that keeps the key of access tokens cannot be used"))
        }
        Err(error) => Ok(refused(error.to_string())),
    }
}

/// The claims to sign, and when they expire.
fn complete(item: &wire::AccessTokenToSign, issuer_url: &IssuerUrl, now: Timestamp) -> Result<(Vec<u8>, Timestamp), String> {
    let duration = item.duration.as_ref().map(read_duration);
    let duration = duration.ok_or("`duration` is missing")?.map_err(|error| format!("`duration` {error}"))?;
    // Written anew after the check, so that what is signed is what was checked.
    let claims = json::parse_object(&item.claims_json).map_err(|error| format!("the claims are {error}"))?;
    let checked = CheckedAccessToken::check(claims, duration).map_err(|error| error.to_string())?;
    let (claims, expires_at) = checked.complete(issuer_url, now);
    let claims = serde_json::to_vec(&claims).map_err(|error| error.to_string())?;
    Ok((claims, expires_at))
}

#[tonic::async_trait]
impl AccessTokenService for AccessTokens {
    async fn sign_access_tokens(
        &self,
        request: Request<wire::SignAccessTokensRequest>,
    ) -> Result<Response<wire::SignAccessTokensResponse>, Status> {
        self.callers.check(request.extensions().get())?;
        let access_tokens = self.sign(request.into_inner().access_tokens).await?;
        Ok(Response::new(wire::SignAccessTokensResponse { access_tokens }))
    }
}
