//! The keys that verify callers' access tokens, asked of issuer-service.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use countersign_domain::issuer_url::IssuerUrl;
use countersign_jose::KeySet;
use countersign_proto::issuer_v1::GetJsonWebKeySetRequest;
use countersign_proto::issuer_v1::key_set_service_client::KeySetServiceClient;
use countersign_runtime::auth::KeySource;
use countersign_runtime::client::PeerChannel;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// A key that was revoked in an emergency must not be accepted for longer than 5 s (SECURITY 59), and callers here are few.
const FRESH: Duration = Duration::from_secs(3);
/// How often an unknown key may cause a fetch. Anybody can make one up.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a set is used when issuer-service cannot be reached.
const STALENESS_LIMIT: Duration = Duration::from_secs(30);
const FETCH_LIMIT: Duration = Duration::from_secs(2);

/// The key set of the deployment's access tokens. Ages are monotonic (SECURITY 77).
pub(crate) struct IssuerKeys {
    client: KeySetServiceClient<PeerChannel>,
    issuer_url: IssuerUrl,
    held: ArcSwapOption<Held>,
    /// Taken by whoever fetches; the others wait for his result. Holds when the last attempt began.
    fetching: Mutex<Option<Instant>>,
}

struct Held {
    keys: Arc<KeySet>,
    fetched: Instant,
}

impl IssuerKeys {
    pub(crate) fn new(issuer_service: PeerChannel, issuer_url: IssuerUrl) -> Self {
        let client = KeySetServiceClient::new(issuer_service);
        Self { client, issuer_url, held: ArcSwapOption::empty(), fetching: Mutex::new(None) }
    }

    fn younger_than(&self, limit: Duration) -> Option<Arc<KeySet>> {
        let held = self.held.load();
        held.as_ref().filter(|held| held.fetched.elapsed() < limit).map(|held| Arc::clone(&held.keys))
    }

    async fn fetch(&self) -> Result<Arc<KeySet>, String> {
        let request = GetJsonWebKeySetRequest { issuer_url: self.issuer_url.to_string() };
        let mut client = self.client.clone();
        let answer = timeout(FETCH_LIMIT, client.get_json_web_key_set(request)).await.map_err(|_| "no answer".to_owned())?;
        let document = answer.map_err(|status| status.message().to_owned())?.into_inner().json_web_key_set;
        KeySet::parse(&document).map(Arc::new).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerKeys").field("issuer_url", &self.issuer_url).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeySource for IssuerKeys {
    async fn key_set(&self, unknown_key: bool) -> Option<Arc<KeySet>> {
        let limit = if unknown_key { UNKNOWN_KEY_INTERVAL } else { FRESH };
        if let Some(keys) = self.younger_than(limit) {
            return Some(keys);
        }
        let mut last_attempt = self.fetching.lock().await;
        // Somebody else may have fetched meanwhile, or failed to a moment ago.
        if let Some(keys) = self.younger_than(limit) {
            return Some(keys);
        }
        if last_attempt.is_none_or(|attempt| attempt.elapsed() >= UNKNOWN_KEY_INTERVAL) {
            let began = Instant::now();
            *last_attempt = Some(began);
            match self.fetch().await {
                // Aged from before the question: the answer may be as old as that.
                Ok(keys) => self.held.store(Some(Arc::new(Held { keys, fetched: began }))),
                Err(cause) => tracing::warn!(cause, "cannot fetch the keys of access tokens"),
            }
        }
        self.younger_than(STALENESS_LIMIT)
    }
}
