//! How many callers wait for keys, and how one issuer and one tenant are kept from having every place (SECURITY 72, 85).
//!
//! A caller who waits holds a place among the requests of its service until the issuer answers, and an issuer can take as long as it
//! likes. So few wait for one issuer, fewer for one that failed the last time, and all who wait are far fewer than the service has
//! places. A caller beyond these limits gets no keys, immediately, instead of a place.
//!
//! The tenant is the workspace that a token names, before its signature verifies: anybody can fill the places of another's workspace.
//! The limit of each source keeps that to the issuers of the workspace that do not answer, and the limit of each tenant keeps it to
//! the workspace.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::source::KeySetSource;

/// How many callers wait. The listener of a service has 1,024 places for requests (`Limits::requests` in `runtime`).
const ALL: usize = 384;
/// How many of them wait in the name of one tenant.
const OF_ONE_TENANT: usize = 192;
/// How many wait for one source.
const OF_ONE_SOURCE: usize = 128;
/// How many wait for a source that failed the last time.
const OF_ONE_FAILING_SOURCE: usize = 8;
/// How often a reached limit is logged.
const REMINDER: Duration = Duration::from_mins(1);

/// The callers who wait.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    all: usize,
    tenants: HashMap<Arc<str>, usize>,
    sources: HashMap<[u8; 32], usize>,
    turned_away: u64,
    warned: Option<Instant>,
}

/// One caller who waits, until dropped.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    room: &'a WaitingRoom,
    tenant: Option<Arc<str>>,
    source: [u8; 32],
}

impl WaitingRoom {
    /// A place to wait for a source, unless too many wait.
    pub(crate) fn enter(&self, source: &KeySetSource, is_failing: bool) -> Option<Waiter<'_>> {
        let mut waiting = self.waiting();
        let of_source = waiting.sources.get(source.digest()).copied().unwrap_or_default();
        let of_tenant = source.tenant().and_then(|tenant| waiting.tenants.get(tenant)).copied().unwrap_or_default();
        let most_of_source = if is_failing { OF_ONE_FAILING_SOURCE } else { OF_ONE_SOURCE };
        let full = if of_source >= most_of_source {
            Some("the issuer")
        } else if of_tenant >= OF_ONE_TENANT {
            Some("the workspace")
        } else if waiting.all >= ALL {
            Some("all issuers")
        } else {
            None
        };
        if let Some(limit) = full {
            waiting.turn_away(source, limit);
            return None;
        }
        waiting.all += 1;
        *waiting.sources.entry(*source.digest()).or_default() += 1;
        if let Some(tenant) = source.tenant() {
            *waiting.tenants.entry(Arc::clone(tenant)).or_default() += 1;
        }
        Some(Waiter { room: self, tenant: source.tenant().cloned(), source: *source.digest() })
    }

    /// How many wait now, and how many were turned away so far.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let waiting = self.waiting();
        (waiting.all, waiting.turned_away)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn turn_away(&mut self, source: &KeySetSource, limit: &'static str) {
        self.turned_away = self.turned_away.saturating_add(1);
        if self.warned.is_none_or(|warned| warned.elapsed() >= REMINDER) {
            self.warned = Some(Instant::now());
            let (issuer, turned_away) = (source.issuer(), self.turned_away);
            tracing::warn!(%issuer, limit, turned_away, "too many callers wait for keys: others get none until the issuer answers");
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.room.waiting();
        waiting.all = waiting.all.saturating_sub(1);
        one_less(&mut waiting.sources, self.source);
        if let Some(tenant) = self.tenant.take() {
            one_less(&mut waiting.tenants, tenant);
        }
    }
}

/// Forgets who has none left.
fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};

    use super::*;

    fn source(number: usize, tenant: &str) -> KeySetSource {
        let issuer = IssuerUrl::parse(&format!("https://{number}.example"), LoopbackHttp::Refused).unwrap();
        KeySetSource::new(issuer, None).for_tenant(tenant)
    }

    /// As many as enter at this source, and who they are.
    fn fill<'a>(room: &'a WaitingRoom, source: &KeySetSource, is_failing: bool) -> Vec<Waiter<'a>> {
        std::iter::from_fn(|| room.enter(source, is_failing)).collect()
    }

    #[test]
    fn s72_a_source_a_tenant_and_all_have_their_limits() {
        let room = WaitingRoom::default();
        let first = fill(&room, &source(1, "a"), false);
        assert_eq!(first.len(), OF_ONE_SOURCE);
        // The same source in another workspace's name is the same issuer.
        assert!(room.enter(&source(1, "b"), false).is_none());
        let second = fill(&room, &source(2, "a"), false);
        assert_eq!(first.len() + second.len(), OF_ONE_TENANT);
        let other = fill(&room, &source(3, "b"), false);
        assert_eq!(other.len(), OF_ONE_SOURCE, "another workspace has its own");
        let last = fill(&room, &source(4, "c"), false);
        assert_eq!(first.len() + second.len() + other.len() + last.len(), ALL);
        assert!(room.enter(&source(5, "d"), false).is_none());
        drop(last);
        assert!(room.enter(&source(5, "d"), false).is_some());
        drop((first, second, other));
        assert_eq!(room.counts().0, 0);
        let waiting = room.waiting();
        assert!(waiting.tenants.is_empty() && waiting.sources.is_empty(), "{waiting:?}");
    }

    #[test]
    fn s72_few_wait_for_a_source_that_failed() {
        let room = WaitingRoom::default();
        assert_eq!(fill(&room, &source(1, "a"), true).len(), OF_ONE_FAILING_SOURCE);
    }

    #[test]
    fn s72_the_tenant_is_no_part_of_the_source() {
        assert_eq!(source(1, "a").digest(), source(1, "b").digest());
    }
}
