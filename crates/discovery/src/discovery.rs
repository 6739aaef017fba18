//! The cache of all sources.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_cache::key_set_cache::KeySetCache;
use countersign_domain::trust::issuer_health::IssuerProblem;
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_domain::values::time::Entropy;
use countersign_domain::values::violation::Violations;
use countersign_jose::KeySet;
use countersign_jose::hash::sha256;
use tokio::time::Instant;

use crate::address::AddressRules;
use crate::egress_proxy::EgressProxy;
use crate::entries::Entries;
use crate::entry::{Cause, Departure, Entry, Flight, Phase};
use crate::examine::Examinations;
use crate::fetch::Fetch;
use crate::http_fetcher::HttpFetcher;
use crate::negative_cache::NegativeCache;
use crate::network::Network;
use crate::refresh::refresh;
use crate::room::Rooms;
use crate::source::KeySetSource;
use crate::waiting::WaitingRoom;

/// The longest that a caller waits for a newer set than the one that is held (SECURITY C), and for an issuer that failed the last time.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(1);
/// The longest that a caller waits for a first set.
const FIRST_WAIT_LIMIT: Duration = Duration::from_secs(5);

/// The issuer's keys are not to be had. The cause is in the logs; callers are not told (SECURITY 42).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's keys are unavailable")]
pub struct KeysUnavailable;

/// Why [`Discovery`] cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// TLS cannot be set up.
    #[error("the http client cannot be made")]
    Client(#[source] rustls::Error),
}

/// What a deployment decides about fetching.
#[derive(Debug, Clone, Default)]
pub struct DiscoverySettings {
    /// Which addresses may be dialled, and whether plain http to loopback may be used.
    pub address_rules: AddressRules,
    /// Through which issuers are reached, where not directly.
    pub egress_proxy: Option<EgressProxy>,
}

impl DiscoverySettings {
    /// Reads what an operator configured.
    ///
    /// # Errors
    /// Everything wrong with it, by the names of the settings.
    pub fn read(issuer_networks: &[String], loopback: LoopbackHttp, egress_proxy: Option<&str>) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let allowed_networks = issuer_networks
            .iter()
            .enumerate()
            .filter_map(|(index, text)| {
                let field = format!("issuer_networks[{index}]");
                let network: Network = violations.check(field.clone(), text.parse())?;
                violations.check(field, network.check_effect()).map(|()| network)
            })
            .collect();
        let egress_proxy = egress_proxy.and_then(|url| violations.check("egress_proxy.url", url.parse()));
        violations.into_result(Self { address_rules: AddressRules { allowed_networks, loopback }, egress_proxy })
    }

    /// A hash of what decides which documents can be fetched.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let Self { address_rules, egress_proxy } = self;
        let proxy = egress_proxy.as_ref().map(EgressProxy::address).unwrap_or_default();
        sha256(&[format!("{address_rules:?}").as_bytes(), proxy.as_bytes()])
    }
}

/// How the keys of one source fare.
#[derive(Debug, Clone)]
pub struct SourceHealth {
    /// When they were last asked for, to the end.
    pub attempted_at: Instant,
    /// When the set that is held was read from the issuer, by whichever gateway.
    pub succeeded_at: Option<Instant>,
    /// Why the last attempt came to nothing.
    pub problem: Option<IssuerProblem>,
    /// Whether the host that failed is not known to be public, so that the problem is for operators only.
    pub is_internal: bool,
    /// The set that is held, usable or not.
    pub key_set: Option<Arc<KeySet>>,
}

/// The keys of other issuers, cached. Cloning shares the cache.
#[derive(Clone)]
pub struct Discovery(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) fetcher: Arc<dyn Fetch>,
    pub(crate) second_level: Option<Arc<dyn KeySetCache>>,
    pub(crate) loopback_http: LoopbackHttp,
    /// A hash of what the deployment decides about fetching, which is part of every source (SECURITY 34).
    pub(crate) settings_digest: [u8; 32],
    /// Tells this process from the others that share the second level.
    pub(crate) owner: [u8; 16],
    pub(crate) rooms: Rooms,
    pub(crate) waiting: WaitingRoom,
    entropy: Arc<dyn Entropy>,
    entries: Entries,
    absent_keys: NegativeCache,
    pub(crate) examinations: Examinations,
}

impl Discovery {
    /// A cache that fetches over HTTP. `second_level` is shared with other processes; without it each asks for itself.
    pub fn new(
        settings: &DiscoverySettings,
        second_level: Option<Arc<dyn KeySetCache>>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, DiscoveryError> {
        let DiscoverySettings { address_rules, egress_proxy } = settings.clone();
        let fetcher = HttpFetcher::new(address_rules, egress_proxy).map_err(DiscoveryError::Client)?;
        Ok(Self::with_fetcher(Arc::new(fetcher), settings, second_level, entropy))
    }

    pub(crate) fn with_fetcher(
        fetcher: Arc<dyn Fetch>,
        settings: &DiscoverySettings,
        second_level: Option<Arc<dyn KeySetCache>>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self(Arc::new(Inner {
            fetcher,
            second_level,
            loopback_http: settings.address_rules.loopback,
            settings_digest: settings.digest(),
            owner: entropy.bits128(),
            rooms: Rooms::default(),
            waiting: WaitingRoom::default(),
            entropy,
            entries: Entries::default(),
            absent_keys: NegativeCache::default(),
            examinations: Examinations::default(),
        }))
    }

    /// The keys of a source.
    ///
    /// From memory, without waiting, while they are fresh; a refresh starts in the background in time. The first time, the
    /// answer takes as long as the issuer does, at most five seconds, and at most one when the issuer failed the last time. A set
    /// that is past its lifetime is used up to the source's own limit if the issuer cannot be reached, and never after.
    ///
    /// # Errors
    /// When the issuer has no usable keys, and immediately when too many callers already wait for it, in the name of its tenant, or
    /// at all.
    pub async fn key_set(&self, source: &KeySetSource) -> Result<Arc<KeySet>, KeysUnavailable> {
        let entry = self.0.entries.entry(source);
        let now = Instant::now();
        let held = entry.held();
        let phase = held.as_ref().map_or(Phase::Unusable, |held| held.phase(now, source.max_stale_age()));
        match (held, phase) {
            (Some(held), Phase::Fresh) => return Ok(Arc::clone(&held.key_set)),
            (Some(held), Phase::Due) => {
                self.start(&entry, source, Cause::Age);
                return Ok(Arc::clone(&held.key_set));
            }
            (_, Phase::Stale) => {
                // An issuer that failed last time is asked, but not waited for again.
                let was_failing = entry.is_failing();
                if let Some(flight) = self.start(&entry, source, Cause::Age)
                    && !was_failing
                    && let Some(_place) = self.0.waiting.enter(source, false)
                {
                    flight.landed_by(now + WAIT_LIMIT).await;
                }
            }
            _ => {
                let was_failing = entry.is_failing();
                if let Some(flight) = self.start(&entry, source, Cause::Age)
                    && let Some(_place) = self.0.waiting.enter(source, was_failing)
                {
                    flight.landed_by(now + if was_failing { WAIT_LIMIT } else { FIRST_WAIT_LIMIT }).await;
                }
            }
        }
        current(&entry, source)
    }

    /// The keys of a source, after a token named a key that [`Discovery::key_set`] does not have: newer ones if they can be had.
    ///
    /// An issuer is asked at most once in 30 seconds for this cause, by all gateways together if they share a second level, and
    /// no caller waits longer than a second. Call it only when the key is unknown, never because a signature is bad.
    ///
    /// # Errors
    /// When the issuer has no usable keys, and immediately when too many callers already wait, as for [`Discovery::key_set`].
    pub async fn refresh_for_unknown_key(
        &self,
        source: &KeySetSource,
        key_id: Option<&str>,
    ) -> Result<Arc<KeySet>, KeysUnavailable> {
        let key_id = key_id.unwrap_or_default();
        let entry = self.0.entries.entry(source);
        let deadline = Instant::now() + WAIT_LIMIT;
        let mut place = None;
        loop {
            let now = Instant::now();
            let is_known = entry.usable(now, source.max_stale_age()).is_some_and(|held| held.has_key(key_id));
            if is_known || now >= deadline || self.0.absent_keys.contains(source.digest(), key_id) {
                return current(&entry, source);
            }
            let Some(flight) = self.start(&entry, source, Cause::UnknownKey) else { return current(&entry, source) };
            if place.is_none() {
                // Whether the issuer has the key stays open for this caller, so it is not said to be unknown.
                place = Some(self.0.waiting.enter(source, entry.is_failing()).ok_or(KeysUnavailable)?);
            }
            let cause = flight.cause;
            flight.landed_by(deadline).await;
            if cause == Cause::UnknownKey {
                let answered_since = entry.held().filter(|held| held.fetched_at >= now);
                if answered_since.is_some_and(|held| !held.has_key(key_id)) {
                    self.0.absent_keys.insert(source.digest(), key_id);
                }
                return current(&entry, source);
            }
        }
    }

    /// How the keys of a source fare; `None` while nobody asked for them. For operators; causes nothing.
    pub fn health(&self, source: &KeySetSource) -> Option<SourceHealth> {
        let entry = self.0.entries.known(source)?;
        let attempt = entry.last_attempt()?;
        let held = entry.held();
        Some(SourceHealth {
            attempted_at: attempt.at,
            succeeded_at: held.as_ref().map(|held| held.fetched_at),
            problem: attempt.problem,
            is_internal: attempt.is_internal,
            key_set: held.map(|held| Arc::clone(&held.key_set)),
        })
    }

    /// How many callers wait for keys now, and how many were turned away so far because too many did. For operators.
    pub fn count_waiting(&self) -> (usize, u64) {
        self.0.waiting.counts()
    }

    /// The flight for that cause, started if need be, in the name of the source's tenant; none while the issuer is to be left alone.
    fn start(&self, entry: &Arc<Entry>, source: &KeySetSource, cause: Cause) -> Option<Flight> {
        match entry.depart(cause, Instant::now()) {
            Departure::Running(flight) => Some(flight),
            Departure::New(flight, guard) => {
                tokio::spawn(refresh(Arc::clone(&self.0), guard, cause, source.tenant().cloned()));
                Some(flight)
            }
            Departure::Grounded => None,
        }
    }
}

fn current(entry: &Entry, source: &KeySetSource) -> Result<Arc<KeySet>, KeysUnavailable> {
    entry.usable(Instant::now(), source.max_stale_age()).map(|held| Arc::clone(&held.key_set)).ok_or(KeysUnavailable)
}

impl Inner {
    /// A random byte, for jitter.
    pub(crate) fn chance(&self) -> u8 {
        let mut chance = [0];
        self.entropy.fill(&mut chance);
        let [chance] = chance;
        chance
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("fetcher", &self.0.fetcher).finish_non_exhaustive()
    }
}
