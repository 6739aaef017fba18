//! The keys of other issuers: fetched by `discovery`, or uploaded by an operator.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use countersign_discovery::{Discovery, KeyOrigin, SourceHealth, held_keys};
use countersign_domain::trust::issuer_health::{HeldKeys, IssuerHealth, IssuerHealthReport, IssuerProblem};
use countersign_domain::trust::trusted_issuer::TrustedIssuer;
use countersign_domain::values::id::{TrustedIssuerId, WorkspaceId};
use countersign_domain::values::time::{Clock, Timestamp};
use countersign_jose::KeySet;
use tokio::time::Instant;

use crate::ports::{Keys, KeysUnavailable, Viewer};

/// How many trusted issuers are known at a time. What is forgotten is read from the policy again.
const CAPACITY: usize = 65_536;

/// The keys of the trusted issuers whose tokens are presented here, and how they fare.
pub struct IssuerKeySets {
    discovery: Discovery,
    clock: Arc<dyn Clock>,
    known: RwLock<HashMap<TrustedIssuerId, Arc<Known>>>,
}

/// A trusted issuer at one revision, its settings parsed.
struct Known {
    workspace_id: WorkspaceId,
    revision: i64,
    /// `None`: they cannot be used, which was logged.
    origin: Option<KeyOrigin>,
    reported: Mutex<Option<Seen>>,
}

/// What was last reported: enough to tell whether there is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Attempt(Instant),
    Uploaded { has_ended: bool },
}

impl IssuerKeySets {
    /// Keys from that cache.
    pub fn new(discovery: Discovery, clock: Arc<dyn Clock>) -> Self {
        Self { discovery, clock, known: RwLock::default() }
    }

    /// How the keys of issuers fare, as far as that was not said before.
    pub(crate) fn news(&self) -> Vec<IssuerHealthReport> {
        self.all().iter().filter_map(|(id, known)| self.news_of(id, known)).collect()
    }

    /// How many callers wait for an issuer's keys.
    pub(crate) fn count_waiting(&self) -> i64 {
        i64::try_from(self.discovery.count_waiting().0).unwrap_or(i64::MAX)
    }

    /// How many callers were turned away so far because too many waited.
    pub(crate) fn count_turned_away(&self) -> i64 {
        i64::try_from(self.discovery.count_waiting().1).unwrap_or(i64::MAX)
    }

    /// Of how many issuers the keys could not be read the last time.
    pub(crate) fn count_failing(&self) -> i64 {
        self.count(|health| health.problem.is_some())
    }

    /// How many issuers publish several keys under one id, so that nothing verifies under it (SECURITY 43).
    pub(crate) fn count_ambiguous(&self) -> i64 {
        self.count(|health| health.key_set.as_deref().is_some_and(|key_set| !key_set.ambiguous_key_ids().is_empty()))
    }

    fn count(&self, is_meant: impl Fn(&SourceHealth) -> bool) -> i64 {
        let health = |known: &Known| match &known.origin {
            Some(KeyOrigin::Fetched(source)) => self.discovery.health(source),
            Some(KeyOrigin::Uploaded { .. }) | None => None,
        };
        let count = self.all().iter().filter_map(|(_, known)| health(known)).filter(is_meant).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    fn all(&self) -> Vec<(TrustedIssuerId, Arc<Known>)> {
        let all = self.known.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(id, known)| (id.clone(), Arc::clone(known))).collect()
    }

    fn known(&self, issuer: &TrustedIssuer) -> Arc<Known> {
        let is_current = |known: &&Arc<Known>| known.revision == issuer.revision;
        let found = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&issuer.id).filter(is_current).cloned();
        found.unwrap_or_else(|| {
            let known = Arc::new(Known::read(issuer));
            let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= CAPACITY {
                all.clear();
            }
            all.insert(issuer.id.clone(), Arc::clone(&known));
            known
        })
    }

    fn uploaded(&self, key_set: &Arc<KeySet>, not_after: Timestamp) -> Result<Arc<KeySet>, KeysUnavailable> {
        if self.clock.now() < not_after { Ok(Arc::clone(key_set)) } else { Err(KeysUnavailable) }
    }

    /// What is to be said of an issuer that was not said before.
    fn news_of(&self, id: &TrustedIssuerId, known: &Known) -> Option<IssuerHealthReport> {
        let health = match known.origin.as_ref()? {
            KeyOrigin::Fetched(source) => {
                let health = self.discovery.health(source)?;
                known.is_news(Seen::Attempt(health.attempted_at)).then(|| self.on_the_clock(&health))
            }
            KeyOrigin::Uploaded { key_set, not_after } => {
                let has_ended = self.clock.now() >= *not_after;
                known.is_news(Seen::Uploaded { has_ended }).then(|| self.of_uploaded(key_set, has_ended))
            }
        };
        Some(IssuerHealthReport {
            workspace_id: known.workspace_id.clone(),
            trusted_issuer_id: id.clone(),
            revision: known.revision,
            health: health?,
        })
    }

    /// Ages are monotonic here, and times of day in the database.
    fn on_the_clock(&self, health: &SourceHealth) -> IssuerHealth {
        let now = self.clock.now();
        let at = |instant: Instant| now.checked_sub(instant.elapsed()).unwrap_or(now);
        IssuerHealth {
            attempted_at: at(health.attempted_at),
            succeeded_at: health.succeeded_at.map(at),
            problem: health.problem,
            is_internal: health.is_internal,
            keys: health.key_set.as_deref().map(held_keys).unwrap_or_default(),
        }
    }

    fn of_uploaded(&self, key_set: &KeySet, has_ended: bool) -> IssuerHealth {
        let now = self.clock.now();
        if has_ended {
            let problem = Some(IssuerProblem::UploadedKeysExpired);
            return IssuerHealth {
                attempted_at: now,
                succeeded_at: None,
                problem,
                is_internal: false,
                keys: HeldKeys::default(),
            };
        }
        let keys = held_keys(key_set);
        IssuerHealth { attempted_at: now, succeeded_at: Some(now), problem: None, is_internal: false, keys }
    }
}

impl Known {
    fn read(issuer: &TrustedIssuer) -> Self {
        let origin = KeyOrigin::of(issuer).inspect_err(|error| {
            tracing::error!(
                trusted_issuer_id = %issuer.id,
                error = error as &dyn std::error::Error,
                "the keys of a trusted issuer cannot be had"
            );
        });
        Self {
            workspace_id: issuer.workspace_id.clone(),
            revision: issuer.revision,
            origin: origin.ok(),
            reported: Mutex::default(),
        }
    }

    /// Whether this was not said before. From now on it was.
    fn is_news(&self, seen: Seen) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.replace(seen) != Some(seen)
    }
}

#[async_trait]
impl Keys for IssuerKeySets {
    async fn key_set(&self, issuer: &TrustedIssuer) -> Result<Arc<KeySet>, KeysUnavailable> {
        match &self.known(issuer).origin {
            Some(KeyOrigin::Fetched(source)) => self.discovery.key_set(source).await.map_err(|_| KeysUnavailable),
            Some(KeyOrigin::Uploaded { key_set, not_after }) => self.uploaded(key_set, *not_after),
            None => Err(KeysUnavailable),
        }
    }

    async fn refresh_for_unknown_key(
        &self,
        issuer: &TrustedIssuer,
        key_id: Option<&str>,
    ) -> Result<Arc<KeySet>, KeysUnavailable> {
        match &self.known(issuer).origin {
            Some(KeyOrigin::Fetched(source)) => {
                self.discovery.refresh_for_unknown_key(source, key_id).await.map_err(|_| KeysUnavailable)
            }
            // There is nobody to ask.
            Some(KeyOrigin::Uploaded { key_set, not_after }) => self.uploaded(key_set, *not_after),
            None => Err(KeysUnavailable),
        }
    }

    fn problem(&self, issuer: &TrustedIssuer, viewer: Viewer) -> Option<IssuerProblem> {
        match self.known(issuer).origin.as_ref()? {
            KeyOrigin::Fetched(source) => {
                let health = self.discovery.health(source)?;
                health.problem.map(|problem| match viewer {
                    Viewer::Operator => problem,
                    Viewer::Administrator => problem.for_administrators(health.is_internal),
                })
            }
            KeyOrigin::Uploaded { not_after, .. } => {
                (self.clock.now() >= *not_after).then_some(IssuerProblem::UploadedKeysExpired)
            }
        }
    }
}

#[cfg(test)]
mod tests;
