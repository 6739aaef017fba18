//! Limits on what all peers together, and each of them, can hold at a time (SECURITY 85).
//!
//! A limit that refuses newcomers when it is reached serves the party that reached it. These make room instead: the entry that
//! has been quiet for the longest ends, of the peer that holds the most. An honest peer holds little and not for long.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio_util::sync::CancellationToken;

use crate::log_budget::LogBudget;
use crate::peer::Peer;

/// How often a limit that stays reached is logged.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// A limit for all peers together and for each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// All peers together.
    pub total: usize,
    /// Each peer. A configured proxy, which stands for many, has no limit of its own.
    pub per_peer: usize,
}

/// A number of entries at a time, each of which can be ended to make room.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    name: &'static str,
    share: Share,
    reached: Arc<ReachedLimits>,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    total: usize,
    /// Ordered by rank: the first is the first to end.
    by_peer: HashMap<Option<Peer>, BTreeMap<u64, CancellationToken>>,
    /// How many each peer has.
    sizes: BTreeSet<(usize, Option<Peer>)>,
}

/// An entry that made room.
struct Ended {
    /// Whose it was; `None` for a proxy's.
    peer: Option<Peer>,
}

/// The bit that puts entries which have been of use behind all others.
const USEFUL: u64 = 1 << 63;

/// An entry. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limit: Arc<ConcurrencyLimit>,
    peer: Option<Peer>,
    rank: AtomicU64,
}

impl ConcurrencyLimit {
    pub(crate) fn new(name: &'static str, share: Share, reached: &Arc<ReachedLimits>) -> Arc<Self> {
        Arc::new(Self { name, share, reached: Arc::clone(reached), entries: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry of a peer (`None`: a proxy). Where that exceeds a limit, another entry's token is cancelled.
    pub(crate) fn enter(self: &Arc<Self>, peer: Option<Peer>, end: CancellationToken) -> Permit {
        let (rank, ended) = {
            let mut entries = self.lock();
            let held = entries.by_peer.get(&peer).map_or(0, BTreeMap::len);
            let ended = if peer.is_some() && held >= self.share.per_peer {
                entries.end_first_of(peer)
            } else if entries.total >= self.share.total {
                entries.end_one()
            } else {
                None
            };
            (entries.add(peer, end), ended)
        };
        if let Some(Ended { peer }) = ended {
            self.reached.note(self.name, peer);
        }
        Permit { limit: Arc::clone(self), peer, rank: AtomicU64::new(rank) }
    }

    /// Ends one entry, though there is room by this limit's own count.
    pub(crate) fn make_room(&self) {
        let ended = self.lock().end_one();
        if let Some(Ended { peer }) = ended {
            self.reached.note(self.name, peer);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().total
    }
}

impl Entries {
    fn resize(&mut self, peer: Option<Peer>, from: usize, to: usize) {
        self.sizes.remove(&(from, peer));
        if to == 0 {
            self.by_peer.remove(&peer);
        } else {
            self.sizes.insert((to, peer));
        }
        self.total = self.total + to - from;
    }

    fn add(&mut self, peer: Option<Peer>, end: CancellationToken) -> u64 {
        self.next += 1;
        let rank = self.next;
        let held = self.by_peer.entry(peer).or_default();
        let before = held.len();
        held.insert(rank, end);
        self.resize(peer, before, before + 1);
        rank
    }

    fn remove(&mut self, peer: Option<Peer>, rank: u64) -> Option<CancellationToken> {
        let held = self.by_peer.get_mut(&peer)?;
        let before = held.len();
        let end = held.remove(&rank)?;
        self.resize(peer, before, before - 1);
        Some(end)
    }

    fn end_first_of(&mut self, peer: Option<Peer>) -> Option<Ended> {
        let rank = *self.by_peer.get(&peer)?.keys().next()?;
        self.remove(peer, rank)?.cancel();
        Some(Ended { peer })
    }

    fn end_one(&mut self) -> Option<Ended> {
        let (_, peer) = *self.sizes.last()?;
        self.end_first_of(peer)
    }
}

impl Permit {
    /// The entry was of use just now: it becomes the last to end.
    pub(crate) fn touch(&self) {
        let mut entries = self.limit.lock();
        entries.next += 1;
        let (old, new) = (self.rank.load(Ordering::Relaxed), USEFUL | entries.next);
        if let Some(held) = entries.by_peer.get_mut(&self.peer)
            && let Some(end) = held.remove(&old)
        {
            held.insert(new, end);
            self.rank.store(new, Ordering::Relaxed);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Absent when the entry was ended to make room.
        self.limit.lock().remove(self.peer, self.rank.load(Ordering::Relaxed));
    }
}

/// One of a connection's own number of something. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// One more, unless there are `most`.
    pub(crate) fn below(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let one = Self(Arc::clone(count));
        (count.fetch_add(1, Ordering::AcqRel) < most).then_some(one)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Reports limits that were reached: each time in a metric, once a minute in the log.
#[derive(Debug, Default)]
pub(crate) struct ReachedLimits {
    counter: Family<LimitLabels, Counter>,
    log_budgets: Mutex<HashMap<&'static str, LogBudget>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LimitLabels {
    limit: &'static str,
}

impl ReachedLimits {
    pub(crate) fn counter(&self) -> Family<LimitLabels, Counter> {
        self.counter.clone()
    }

    /// A limit was reached, and something of this peer (`None`: a proxy) ended or was refused.
    pub(crate) fn note(&self, limit: &'static str, peer: Option<Peer>) {
        self.counter.get_or_create(&LimitLabels { limit }).inc();
        let mut budgets = self.log_budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = budgets.entry(limit).or_insert_with(|| LogBudget::new(WARNING_INTERVAL)).spend();
        drop(budgets);
        if let Some(count) = spent {
            let peer = peer.map_or_else(|| "a proxy".to_owned(), |peer| peer.to_string());
            tracing::warn!(limit, peer, count, "a limit on what peers can hold was reached");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(total: usize, per_peer: usize) -> Arc<ConcurrencyLimit> {
        ConcurrencyLimit::new("test", Share { total, per_peer }, &Arc::default())
    }

    fn peer(number: u8) -> Peer {
        Peer::V4([192, 0, 2, number].into())
    }

    fn enter(limit: &Arc<ConcurrencyLimit>, peer: impl Into<Option<Peer>>) -> (Permit, CancellationToken) {
        let token = CancellationToken::new();
        (limit.enter(peer.into(), token.clone()), token)
    }

    #[test]
    fn s85_a_peer_makes_room_for_itself_by_its_oldest_entry() {
        let limit = limit(100, 2);
        let other = enter(&limit, peer(9));
        let entries: Vec<_> = (0..4).map(|_| enter(&limit, peer(1))).collect();
        let ended: Vec<bool> = entries.iter().map(|(_, token)| token.is_cancelled()).collect();
        assert_eq!(ended, [true, true, false, false]);
        assert!(!other.1.is_cancelled());
        assert_eq!(limit.len(), 3);
        drop((entries, other));
        assert_eq!(limit.len(), 0);
        assert!(limit.lock().by_peer.is_empty() && limit.lock().sizes.is_empty());
    }

    #[test]
    fn s85_an_entry_that_was_of_use_outlasts_those_that_were_not() {
        let limit = limit(100, 2);
        let useful = enter(&limit, peer(1));
        useful.0.touch();
        let idle: Vec<_> = (0..10).map(|_| enter(&limit, peer(1))).collect();
        assert!(!useful.1.is_cancelled());
        assert_eq!(idle.iter().filter(|(_, token)| !token.is_cancelled()).count(), 1);
        let newer = enter(&limit, peer(1));
        newer.0.touch();
        let last = enter(&limit, peer(1));
        assert!(useful.1.is_cancelled(), "of two useful ones, the older");
        assert!(!newer.1.is_cancelled() && !last.1.is_cancelled());
    }

    #[test]
    fn s85_when_all_is_taken_the_peer_with_the_most_makes_room() {
        let limit = limit(4, 4);
        let few = enter(&limit, peer(1));
        let many: Vec<_> = (0..3).map(|_| enter(&limit, peer(2))).collect();
        let newcomer = enter(&limit, peer(3));
        assert!(!few.1.is_cancelled() && !newcomer.1.is_cancelled());
        assert!(many[0].1.is_cancelled());
        limit.make_room();
        assert!(many[1].1.is_cancelled());
        assert_eq!(limit.len(), 3);
    }

    #[test]
    fn s85_a_proxy_is_bounded_by_the_total_alone() {
        let limit = limit(4, 1);
        let entries: Vec<_> = (0..5).map(|_| enter(&limit, None)).collect();
        assert_eq!(entries.iter().filter(|(_, token)| token.is_cancelled()).count(), 1);
    }

    #[test]
    fn an_entry_that_was_ended_can_still_be_touched_and_dropped() {
        let limit = limit(1, 1);
        let first = enter(&limit, peer(1));
        let second = enter(&limit, peer(1));
        first.0.touch();
        drop(first);
        assert!(!second.1.is_cancelled());
        assert_eq!(limit.len(), 1);
    }

    #[test]
    fn s85_what_one_connection_has_is_counted_and_given_back() {
        let count = Arc::new(AtomicUsize::new(0));
        let first = Counted::below(&count, 1);
        assert!(first.is_some() && Counted::below(&count, 1).is_none());
        drop(first);
        assert!(Counted::below(&count, 1).is_some());
    }

    #[test]
    fn s85_a_reached_limit_is_counted() {
        let reached = Arc::new(ReachedLimits::default());
        let limit = ConcurrencyLimit::new("test", Share { total: 9, per_peer: 1 }, &reached);
        let _entries = [enter(&limit, peer(1)), enter(&limit, peer(1)), enter(&limit, peer(1))];
        assert_eq!(reached.counter().get_or_create(&LimitLabels { limit: "test" }).get(), 2);
    }
}
