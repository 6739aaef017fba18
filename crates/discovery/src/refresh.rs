//! One refresh of one source: the second level first, then the issuer.

use std::sync::Arc;
use std::time::Duration;

use countersign_cache::key_set_cache::{Document, FetchTurn, KeySetCache, Slot};
use countersign_domain::trust::issuer_health::IssuerProblem;
use countersign_domain::values::issuer_url::KeySetUrl;
use countersign_jose::InvalidKeySet;
use countersign_jose::hash::sha256;
use tokio::time::{Instant, error::Elapsed, sleep, timeout};

use crate::discovery::Inner;
use crate::document::{self, InvalidDocument};
use crate::entry::{Cause, DOCUMENT_LIFETIME, Entry, FlightGuard, Held, UNKNOWN_KEY_INTERVAL, USABLE};
use crate::fetch::{FetchError, Fetched, Reach, Stored, Wanted};
use crate::problem::{self, Wish};
use crate::room::{NoRoom, Room};
use crate::source::KeySetSource;

/// For everything that a refresh asks of an issuer together (SECURITY 41).
pub(crate) const TOTAL_LIMIT: Duration = Duration::from_secs(5);
/// How long a gateway keeps the others from asking an issuer too.
const TURN: Duration = Duration::from_secs(10);
/// How long to wait for the document of a gateway that has the turn, before asking all the same.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often to look whether it has come.
const POLL: Duration = Duration::from_millis(50);
/// When another gateway asked about unknown keys and its document brought nothing new: how long until looking again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Why a refresh failed. For operators.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    /// Not the issuer's fault, which was not asked.
    #[error("too many issuers are being asked")]
    NoRoom,
    #[error("no answer within 5 s")]
    TimedOut(#[from] Elapsed),
    #[error("the discovery document cannot be fetched")]
    FetchDocument(#[source] FetchError),
    #[error("the discovery document is of no use")]
    Document(#[from] InvalidDocument),
    #[error("the key set cannot be fetched")]
    FetchKeySet(#[source] FetchError),
    #[error("the key set is refused")]
    KeySet(#[from] InvalidKeySet),
}

impl RefreshError {
    /// What operators are told of it.
    pub(crate) fn problem(&self) -> IssuerProblem {
        match self {
            Self::NoRoom | Self::TimedOut(_) => IssuerProblem::Unreachable,
            Self::FetchDocument(error) => problem::of_fetch(error, Wish::DiscoveryDocument),
            Self::Document(error) => match error {
                InvalidDocument::Json(_) | InvalidDocument::NoIssuer => IssuerProblem::DiscoveryDocumentInvalid,
                InvalidDocument::OtherIssuer => IssuerProblem::DiscoveryIssuerMismatch,
                InvalidDocument::NoKeySetUrl | InvalidDocument::KeySetUrl(_) => IssuerProblem::JwksUriInvalid,
                InvalidDocument::OtherHost => IssuerProblem::JwksUriElsewhere,
            },
            Self::FetchKeySet(error) => problem::of_fetch(error, Wish::KeySet),
            Self::KeySet(InvalidKeySet::TooLong | InvalidKeySet::Json(_)) => IssuerProblem::KeySetInvalid,
            Self::KeySet(InvalidKeySet::NoKeys) => IssuerProblem::KeySetWithoutKeys,
            Self::KeySet(InvalidKeySet::SingleKey) => IssuerProblem::KeySetSingleKey,
            Self::KeySet(InvalidKeySet::TooManyKeys) => IssuerProblem::KeySetTooManyKeys,
        }
    }
}

/// Refreshes the entry of the guard and ends its flight.
pub(crate) async fn refresh(inner: Arc<Inner>, guard: FlightGuard, cause: Cause, tenant: Option<Arc<str>>) {
    let entry = &guard.entry;
    let refresh = Refresh { inner: &inner, entry, cause, tenant, reach: Arc::default() };
    match refresh.run().await {
        Ok(Some(held)) => entry.succeeded(held, Instant::now()),
        Ok(None) => {}
        Err(RefreshError::NoRoom) => {
            // Whoever wants the keys may try again at once.
            if cause == Cause::UnknownKey {
                entry.look_again_after(Duration::ZERO, Instant::now());
            }
        }
        Err(error) => {
            let problem = error.problem();
            if let Some(held) = refresh.last_resort().await {
                entry.fall_back_on(held);
            }
            let pause = entry.failed(Instant::now(), problem, !refresh.reach.is_public(), inner.chance());
            tracing::warn!(
                issuer = %entry.source.issuer(),
                error = &error as &dyn std::error::Error,
                pause_ms = pause.as_millis(),
                "keys cannot be refreshed"
            );
        }
    }
}

/// What is asked of an issuer, as such.
impl Inner {
    /// The discovery document of a source, and where it says the keys are.
    pub(crate) async fn ask_where_keys_are(
        &self,
        source: &KeySetSource,
        stored: Stored,
        reach: &Arc<Reach>,
    ) -> Result<(KeySetUrl, Fetched), RefreshError> {
        let url = source.issuer().discovery_url();
        let wanted = Wanted { url: &url, stored, authorities: source.authorities(), reach };
        let fetched = self.fetcher.fetch(wanted).await.map_err(RefreshError::FetchDocument)?;
        Ok((document::key_set_url(&fetched.bytes, source.issuer(), self.loopback_http)?, fetched))
    }

    /// The key set at that URL, not parsed.
    pub(crate) async fn ask_for_key_set(
        &self,
        source: &KeySetSource,
        url: &KeySetUrl,
        stored: Stored,
        reach: &Arc<Reach>,
    ) -> Result<Fetched, RefreshError> {
        let wanted = Wanted { url: url.as_str(), stored, authorities: source.authorities(), reach };
        self.fetcher.fetch(wanted).await.map_err(RefreshError::FetchKeySet)
    }
}

struct Refresh<'a> {
    inner: &'a Inner,
    entry: &'a Entry,
    cause: Cause,
    /// In whose name. The entry may be shared with others.
    tenant: Option<Arc<str>>,
    /// How far the requests came.
    reach: Arc<Reach>,
}

/// What a slot of the second level holds.
#[derive(Clone, Copy)]
enum Role {
    KeySet,
    DiscoveryDocument,
    UnknownKeyTurn,
}

impl Refresh<'_> {
    /// The new set, or none if another gateway's turn brought nothing new.
    async fn run(&self) -> Result<Option<Held>, RefreshError> {
        let mut room = None;
        if let Some(cache) = self.inner.second_level.as_deref() {
            match self.cause {
                Cause::Age => {
                    if let Some(held) = self.read(cache).await {
                        return Ok(Some(held));
                    }
                    let turn = cache.take_turn(&self.slot(Role::KeySet), self.inner.owner, TURN).await;
                    if turn == FetchTurn::Anothers
                        && let Some(held) = self.await_anothers(cache, PATIENCE).await
                    {
                        return Ok(Some(held));
                    }
                }
                Cause::UnknownKey => {
                    // Before the turn, which nobody else gets for a while.
                    room = Some(self.enter().await?);
                    let slot = self.slot(Role::UnknownKeyTurn);
                    if cache.take_turn(&slot, self.inner.owner, UNKNOWN_KEY_INTERVAL).await == FetchTurn::Anothers {
                        drop(room);
                        let held = self.await_anothers(cache, crate::discovery::WAIT_LIMIT).await;
                        self.entry.look_again_after(LOOK_AGAIN, Instant::now());
                        return Ok(held);
                    }
                }
            }
        }
        // The time that others take must not count as this issuer's.
        let room = match room {
            Some(room) => room,
            None => self.enter().await?,
        };
        let fetched = timeout(TOTAL_LIMIT, self.fetch()).await??;
        drop(room);
        self.accept(fetched).await.map(Some)
    }

    /// Looks for the document of the gateway that has the turn until it has come.
    async fn await_anothers(&self, cache: &dyn KeySetCache, patience: Duration) -> Option<Held> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(held) = self.read(cache).await {
                return Some(held);
            }
            if Instant::now() >= deadline {
                return None;
            }
            sleep(POLL).await;
        }
    }

    /// The set in the second level, if it is newer than what is held and not itself due for a refresh.
    async fn read(&self, cache: &dyn KeySetCache) -> Option<Held> {
        self.read_if(cache, |age, lifetime| age < lifetime / 10 * 7).await
    }

    /// The set in the second level of whatever age, if it is newer than what is held: while the issuer cannot be reached, a gateway
    /// that was just started is as good as one that was there before.
    async fn last_resort(&self) -> Option<Held> {
        self.read_if(self.inner.second_level.as_deref()?, |_, _| true).await
    }

    async fn read_if(&self, cache: &dyn KeySetCache, is_young: impl Fn(Duration, Duration) -> bool) -> Option<Held> {
        let (document, age) = cache.get(&self.slot(Role::KeySet)).await?;
        let fetched_at = Instant::now().checked_sub(age)?;
        let is_newer = self.entry.held().is_none_or(|held| fetched_at > held.fetched_at + POLL);
        if !is_newer || !is_young(age, document.lifetime) {
            return None;
        }
        let key_set = self.entry.source.parse(&document.bytes).ok()?;
        Some(Held::new(Arc::new(key_set), fetched_at, document.lifetime, self.inner.chance()))
    }

    /// Leave to ask the issuer. Its discovery document and its keys are on one host, unless only the keys are fetched.
    async fn enter(&self) -> Result<Room<'_>, RefreshError> {
        let source = &self.entry.source;
        let url = source.jwks_url().map_or(source.issuer().as_str(), KeySetUrl::as_str);
        let standing = self.entry.standing(Instant::now());
        self.inner.rooms.enter(url, self.tenant.as_ref(), standing).await.map_err(|NoRoom| RefreshError::NoRoom)
    }

    async fn fetch(&self) -> Result<Fetched, RefreshError> {
        let stored = match self.cause {
            Cause::Age => Stored::Acceptable,
            Cause::UnknownKey => Stored::Refused,
        };
        let source = &self.entry.source;
        if let Some(url) = source.jwks_url() {
            return self.inner.ask_for_key_set(source, url, stored, &self.reach).await;
        }
        let url = self.key_set_url().await?;
        let fetched = self.inner.ask_for_key_set(source, &url, stored, &self.reach).await;
        if fetched.is_err() {
            // The keys may have moved: next time the document is read anew.
            let mut control = self.entry.control();
            control.key_set_url = None;
            control.document_is_suspect = true;
        }
        fetched
    }

    /// Where the discovery document says the keys are: from memory, from the second level, from the issuer.
    async fn key_set_url(&self) -> Result<KeySetUrl, RefreshError> {
        let issuer = self.entry.source.issuer();
        let now = Instant::now();
        let is_suspect = {
            let control = self.entry.control();
            if let Some((url, read_at)) = &control.key_set_url
                && now.duration_since(*read_at) < DOCUMENT_LIFETIME
            {
                return Ok(url.clone());
            }
            control.document_is_suspect
        };
        let slot = self.slot(Role::DiscoveryDocument);
        let cache = self.inner.second_level.as_deref();
        if let Some(cache) = cache
            && !is_suspect
            && let Some((document, age)) = cache.get(&slot).await
            && let Ok(url) = document::key_set_url(&document.bytes, issuer, self.inner.loopback_http)
            && let Some(read_at) = now.checked_sub(age)
        {
            self.entry.control().key_set_url = Some((url.clone(), read_at));
            return Ok(url);
        }
        let (url, fetched) = self.inner.ask_where_keys_are(&self.entry.source, Stored::Acceptable, &self.reach).await?;
        {
            let mut control = self.entry.control();
            control.key_set_url = Some((url.clone(), now));
            control.document_is_suspect = false;
        }
        if let Some(cache) = cache {
            cache.put(&slot, &Document { bytes: fetched.bytes, lifetime: DOCUMENT_LIFETIME }, DOCUMENT_LIFETIME).await;
        }
        Ok(url)
    }

    /// Parses what was fetched and shares it. A well-formed set counts, even an empty one (SECURITY 44).
    async fn accept(&self, fetched: Fetched) -> Result<Held, RefreshError> {
        let key_set = self.entry.source.parse(&fetched.bytes)?;
        let issuer = self.entry.source.issuer();
        if !key_set.ambiguous_key_ids().is_empty() {
            let count = key_set.ambiguous_key_ids().len();
            tracing::error!(%issuer, count, "the key set has several keys for one key id; nothing verifies under those ids");
        }
        tracing::debug!(%issuer, keys = key_set.len(), skipped = key_set.skipped().len(), "keys refreshed");
        let held = Held::new(Arc::new(key_set), Instant::now(), fetched.lifetime, self.inner.chance());
        if let Some(cache) = self.inner.second_level.as_deref() {
            let document = Document { bytes: fetched.bytes, lifetime: fetched.lifetime };
            cache.put(&self.slot(Role::KeySet), &document, USABLE).await;
        }
        Ok(held)
    }

    fn slot(&self, role: Role) -> Slot {
        let role: &[u8] = match role {
            Role::KeySet => b"key set",
            Role::DiscoveryDocument => b"discovery document",
            Role::UnknownKeyTurn => b"unknown key",
        };
        Slot::from_hash(sha256(&[role, &self.inner.settings_digest, self.entry.source.digest()]))
    }
}
