//! The public documents: the metadata of this authorisation server (RFC 8414) and the key set that verifies its access tokens.
//!
//! The key set is issuer-service's; a copy is kept in memory and asked for anew every few seconds, so that a revoked key
//! disappears soon, and is served on while issuer-service is away, within a limit.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_jose::KeySet;
use countersign_proto::common;
use countersign_proto::issuer_v1::GetJsonWebKeySetRequest;
use countersign_proto::issuer_v1::key_set_service_client::KeySetServiceClient;
use countersign_proto::status::{OAuthGrant, Refusal};
use countersign_runtime::auth::KeySource;
use countersign_runtime::client::PeerChannel;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::Request;

use crate::token_endpoint::GRANT_TYPES;

/// How often the key set is asked for. SECURITY 59 gives a revoked key five seconds.
const REFRESH: Duration = Duration::from_secs(2);
/// The longest one attempt may take.
const FETCH_LIMIT: Duration = Duration::from_secs(2);
/// How long a copy is served while no newer one can be had.
const STALENESS_LIMIT: Duration = Duration::from_mins(5);
/// How long callers are authenticated by a copy while no newer one can be had.
const AUTHENTICATION_LIMIT: Duration = Duration::from_secs(30);
/// How long the first request waits for the first copy.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// How long the metadata, which only a restart changes, may be kept.
const METADATA_MAX_AGE: &str = "public, max-age=3600";

/// A copy of the key set.
#[derive(Debug, Clone)]
struct KeySetCopy {
    document: Bytes,
    /// The keys of the document.
    keys: Arc<KeySet>,
    etag: HeaderValue,
    max_age: Duration,
    fetched: Instant,
}

/// Serves the latest copy of the key set. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KeySetDocument(watch::Receiver<Option<Arc<KeySetCopy>>>);

/// Keeps the copy. [`KeySetKeeper::run`] is its life.
pub(crate) struct KeySetKeeper {
    client: KeySetServiceClient<PeerChannel>,
    issuer_url: IssuerUrl,
    copy: watch::Sender<Option<Arc<KeySetCopy>>>,
}

impl KeySetKeeper {
    /// The keeper of the key set that verifies the tokens of this issuer, and what it keeps.
    pub(crate) fn new(channel: PeerChannel, issuer_url: IssuerUrl) -> (Self, KeySetDocument) {
        let (copy, document) = watch::channel(None);
        (Self { client: KeySetServiceClient::new(channel), issuer_url, copy }, KeySetDocument(document))
    }

    /// Asks for the key set again and again.
    pub(crate) async fn run(mut self) {
        let mut failing = false;
        loop {
            match self.fetch().await {
                Ok(copy) => {
                    failing = false;
                    self.copy.send_replace(Some(Arc::new(copy)));
                }
                Err(cause) => {
                    // Once an outage, not every two seconds.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(cause, "the key set of access tokens cannot be had from issuer-service");
                    }
                }
            }
            tokio::time::sleep(REFRESH).await;
        }
    }

    async fn fetch(&mut self) -> Result<KeySetCopy, String> {
        let mut request = Request::new(GetJsonWebKeySetRequest { issuer_url: self.issuer_url.to_string() });
        request.set_timeout(FETCH_LIMIT);
        let asked = Instant::now();
        let response = self
            .client
            .get_json_web_key_set(request)
            .await
            .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?
            .into_inner();
        let document: Bytes = response.json_web_key_set.to_vec().into();
        Ok(KeySetCopy {
            keys: Arc::new(KeySet::parse(&document).map_err(|error| error.to_string())?),
            document,
            etag: HeaderValue::from_str(&quoted(&response.etag)).map_err(|_| "the etag is none".to_owned())?,
            max_age: response.max_age.as_ref().and_then(|age| common::read_duration(age).ok()).unwrap_or_default(),
            fetched: asked,
        })
    }
}

impl KeySetDocument {
    /// The latest copy, when it is younger than this.
    async fn younger_than(&self, limit: Duration) -> Option<Arc<KeySetCopy>> {
        let mut latest = self.0.clone();
        let copy = match timeout(FIRST_PATIENCE, latest.wait_for(Option::is_some)).await {
            Ok(Ok(copy)) => copy.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        copy.filter(|copy| copy.fetched.elapsed() < limit)
    }
}

/// The keys that verify the access tokens of callers. One that is new is known within [`REFRESH`]; callers cause no question.
#[async_trait]
impl KeySource for KeySetDocument {
    async fn key_set(&self, _unknown_key: bool) -> Option<Arc<KeySet>> {
        self.younger_than(AUTHENTICATION_LIMIT).await.map(|copy| Arc::clone(&copy.keys))
    }
}

impl std::fmt::Debug for KeySetDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySetDocument").finish_non_exhaustive()
    }
}

/// An etag as HTTP writes it.
fn quoted(etag: &str) -> String {
    if etag.starts_with('"') { etag.to_owned() } else { format!("\"{etag}\"") }
}

/// The routes of both documents.
pub(crate) fn routes(public_url: &IssuerUrl, key_set: KeySetDocument) -> Router {
    let metadata = Bytes::from(metadata(public_url));
    Router::new()
        .route(
            "/.well-known/oauth-authorization-server",
            get(move || async move { document("application/json", METADATA_MAX_AGE, metadata) }),
        )
        .route("/.well-known/jwks.json", get(json_web_key_set).with_state(key_set))
}

/// RFC 8414, section 2.
fn metadata(public_url: &IssuerUrl) -> String {
    let base = public_url.as_str().trim_end_matches('/');
    json!({
        "issuer": public_url.as_str(),
        "token_endpoint": format!("{base}/oauth2/token"),
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "grant_types_supported": GRANT_TYPES,
        // There is no authorisation endpoint, so no response type; the member is required all the same.
        "response_types_supported": [],
        // The subject token is the credential; no client has a secret.
        "token_endpoint_auth_methods_supported": ["none"],
    })
    .to_string()
}

async fn json_web_key_set(State(key_set): State<KeySetDocument>, headers: HeaderMap) -> Response {
    let Some(copy) = key_set.younger_than(STALENESS_LIMIT).await else { return unavailable() };
    // What a verifier may keep is what is left of the time that issuer-service counts on.
    let left = copy.max_age.saturating_sub(copy.fetched.elapsed());
    let cache_control = format!("public, max-age={}", left.as_secs());
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| names(value, &copy.etag));
    let mut response = if known {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        set_cache_control(&mut response, &cache_control);
        response
    } else {
        document("application/jwk-set+json", &cache_control, copy.document.clone())
    };
    response.headers_mut().insert(header::ETAG, copy.etag.clone());
    response
}

/// Whether a list of etags (RFC 9110, section 13.1.2) names this one.
fn names(list: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(list), Ok(etag)) = (list.to_str(), etag.to_str()) else { return false };
    list.split(',').map(str::trim).any(|listed| listed == "*" || listed.trim_start_matches("W/") == etag)
}

fn document(content_type: &'static str, cache_control: &str, body: Bytes) -> Response {
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    set_cache_control(&mut response, cache_control);
    response
}

fn set_cache_control(response: &mut Response, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
}

fn unavailable() -> Response {
    let error = Refusal::unavailable("the key set cannot be had at the moment").to_oauth(OAuthGrant::TokenExchange);
    let mut response = (error.http_status, axum::Json(&error)).into_response();
    set_cache_control(&mut response, "no-store");
    response
}
