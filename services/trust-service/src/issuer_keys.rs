//! The keys that verify callers' access tokens, asked of issuer-service.
//!
//! [`IssuerKeys::run`] asks for them all the time, so that a caller whose key is known never waits: what a caller presents can
//! cause a question, at most one a second, and never makes another caller wait for the answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use countersign_domain::issuing::issuer::{HostBase, IssuerBases};
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_jose::KeySet;
use countersign_proto::issuer_v1::key_set_service_client::KeySetServiceClient;
use countersign_proto::issuer_v1::{GetJsonWebKeySetRequest, GetJsonWebKeySetResponse};
use countersign_runtime::auth::KeySource;
use countersign_runtime::client::PeerChannel;
use countersign_runtime::outage::Outage;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// A key that was revoked in an emergency must not be accepted for longer than 5 s (SECURITY 59).
const REFRESH: Duration = Duration::from_secs(2);
/// How often callers may cause a fetch, by keys that nobody knows: anybody can make one up.
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a set is used when issuer-service cannot be reached.
const STALENESS_LIMIT: Duration = Duration::from_secs(30);
const FETCH_LIMIT: Duration = Duration::from_secs(2);

/// The key set of the deployment's access tokens. Ages are monotonic (SECURITY 77).
pub(crate) struct IssuerKeys {
    client: KeySetServiceClient<PeerChannel>,
    issuer_url: IssuerUrl,
    held: ArcSwapOption<Held>,
    /// Where the issuers of this deployment are, as issuer-service said last.
    bases: ArcSwapOption<IssuerBases>,
    /// Taken by whoever fetches. Holds when the last attempt ended.
    fetching: Mutex<Option<Instant>>,
    outage: Outage,
}

struct Held {
    keys: Arc<KeySet>,
    fetched: Instant,
}

impl IssuerKeys {
    pub(crate) fn new(issuer_service: PeerChannel, issuer_url: IssuerUrl) -> Self {
        let client = KeySetServiceClient::new(issuer_service);
        Self {
            client,
            issuer_url,
            held: ArcSwapOption::empty(),
            bases: ArcSwapOption::empty(),
            fetching: Mutex::new(None),
            outage: Outage::new(),
        }
    }

    /// Whether an issuer is one of this deployment. False until issuer-service has said where those are.
    pub(crate) fn is_own_issuer(&self, issuer_url: &IssuerUrl) -> bool {
        self.bases.load().as_ref().is_some_and(|bases| bases.contain(issuer_url))
    }

    /// Keeps the keys fresh until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.attempt(self.fetching.lock().await).await;
        }
    }

    fn younger_than(&self, limit: Duration) -> Option<Arc<KeySet>> {
        let held = self.held.load();
        held.as_ref().filter(|held| held.fetched.elapsed() < limit).map(|held| Arc::clone(&held.keys))
    }

    /// Fetches, unless somebody did a moment ago, with whatever success.
    async fn attempt(&self, mut last: MutexGuard<'_, Option<Instant>>) {
        if last.is_some_and(|ended| ended.elapsed() < ATTEMPT_INTERVAL) {
            return;
        }
        let began = Instant::now();
        // Noted first, as a caller who goes away ends the attempt here.
        *last = Some(began);
        match self.fetch().await {
            Ok(keys) => {
                // Aged from before the question: the answer may be as old as that.
                self.held.store(Some(Arc::new(Held { keys, fetched: began })));
                if let Some(lasted) = self.outage.over() {
                    tracing::info!(lasted_ms = lasted.as_millis(), "the keys of access tokens can be fetched again");
                }
            }
            Err(cause) if self.outage.begins() => tracing::warn!(cause, "cannot fetch the keys of access tokens"),
            Err(_) => {}
        }
        // The attempt may have lasted; whoever waited for it must not begin another.
        *last = Some(Instant::now());
    }

    async fn fetch(&self) -> Result<Arc<KeySet>, String> {
        let request = GetJsonWebKeySetRequest { issuer_url: self.issuer_url.to_string() };
        let mut client = self.client.clone();
        let answer = timeout(FETCH_LIMIT, client.get_json_web_key_set(request)).await.map_err(|_| "no answer".to_owned())?;
        let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
        if let Some(bases) = read_bases(&answer) {
            self.bases.store(Some(Arc::new(bases)));
        }
        KeySet::parse(&answer.json_web_key_set).map(Arc::new).map_err(|error| error.to_string())
    }
}

/// Where issuer-service says its issuers are; `None` from one that does not say.
fn read_bases(answer: &GetJsonWebKeySetResponse) -> Option<IssuerBases> {
    // What issuer-service was started with was judged there.
    let base_url = IssuerUrl::parse(&answer.issuer_base_url, LoopbackHttp::Allowed).ok()?;
    let host_base = HostBase::parse(&answer.issuer_host_base_url, LoopbackHttp::Allowed).ok();
    Some(IssuerBases { base_url, host_base })
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerKeys").field("issuer_url", &self.issuer_url).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeySource for IssuerKeys {
    async fn key_set(&self, unknown_key: bool) -> Option<Arc<KeySet>> {
        let enough = if unknown_key { ATTEMPT_INTERVAL } else { STALENESS_LIMIT };
        if let Some(keys) = self.younger_than(enough) {
            return Some(keys);
        }
        let usable = self.younger_than(STALENESS_LIMIT);
        match (self.fetching.try_lock(), &usable) {
            (Ok(last), _) => self.attempt(last).await,
            // Somebody fetches already: the unknown key may be known in a moment, and this caller comes back or does not exist.
            (Err(_), Some(_)) => return usable,
            // Without any keys there is nothing to do but wait for that one attempt.
            (Err(_), None) => self.attempt(self.fetching.lock().await).await,
        }
        self.younger_than(STALENESS_LIMIT)
    }
}

#[cfg(test)]
mod tests;
