//! The replay cache in the memory of one process.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Nonce, ReplayCache, ReplayClaim, ReplayKey};

/// A [`ReplayCache`] for a single process. Holds a bounded number of claims; when it is full, those that would expire first are
/// forgotten, and the commit point catches what slips through.
#[derive(Debug)]
pub struct EmbeddedReplayCache {
    capacity: usize,
    claims: Mutex<Claims>,
}

#[derive(Debug, Default)]
struct Claims {
    by_key: HashMap<ReplayKey, (Nonce, Instant)>,
    /// The same claims, soonest to expire first.
    by_expiry: BTreeSet<(Instant, ReplayKey)>,
}

impl EmbeddedReplayCache {
    /// Enough for a thousand exchanges a minute of tokens that live an hour; about 15 MiB when full.
    pub const DEFAULT_CAPACITY: usize = 65_536;

    /// A cache of at most `capacity` claims.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), claims: Mutex::default() }
    }

    fn claims(&self) -> std::sync::MutexGuard<'_, Claims> {
        // Both indexes are changed together and nothing between the changes can fail.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for EmbeddedReplayCache {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}

impl Claims {
    fn remove_expired(&mut self, now: Instant) {
        while self.by_expiry.first().is_some_and(|(expiry, _)| *expiry <= now) {
            self.remove_first();
        }
    }

    fn remove_first(&mut self) {
        if let Some((_, key)) = self.by_expiry.pop_first() {
            self.by_key.remove(&key);
        }
    }
}

#[async_trait]
impl ReplayCache for EmbeddedReplayCache {
    async fn claim(&self, key: &ReplayKey, nonce: Nonce, ttl: Duration) -> ReplayClaim {
        let now = Instant::now();
        let Some(expiry) = now.checked_add(ttl) else { return ReplayClaim::Unknown };
        let mut claims = self.claims();
        claims.remove_expired(now);
        if claims.by_key.contains_key(key) {
            return ReplayClaim::Duplicate;
        }
        if claims.by_key.len() >= self.capacity {
            claims.remove_first();
        }
        claims.by_key.insert(*key, (nonce, expiry));
        claims.by_expiry.insert((expiry, *key));
        ReplayClaim::Claimed
    }

    async fn release(&self, key: &ReplayKey, nonce: Nonce) {
        let mut claims = self.claims();
        if let Some((held, expiry)) = claims.by_key.get(key).copied()
            && held == nonce
        {
            claims.by_key.remove(key);
            claims.by_expiry.remove(&(expiry, *key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u16) -> ReplayKey {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&n.to_be_bytes());
        ReplayKey::from_hash(hash)
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_soonest_to_expire_makes_room() {
        let cache = EmbeddedReplayCache::new(100);
        for n in 0..1_000_u16 {
            let ttl = Duration::from_secs(u64::from(2_000 - n));
            assert_eq!(cache.claim(&key(n), Nonce::from_bits([1; 16]), ttl).await, ReplayClaim::Claimed);
        }
        let claims = cache.claims();
        assert_eq!((claims.by_key.len(), claims.by_expiry.len()), (100, 100));
        assert!(claims.by_key.contains_key(&key(0)), "the longest-lived claim was forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn claims_and_releases_leave_nothing_behind() {
        let cache = EmbeddedReplayCache::default();
        for n in 0..1_000 {
            cache.claim(&key(n), Nonce::from_bits([1; 16]), Duration::from_hours(1)).await;
            cache.release(&key(n), Nonce::from_bits([1; 16])).await;
        }
        let claims = cache.claims();
        assert_eq!((claims.by_key.len(), claims.by_expiry.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn s50_a_claim_is_held_until_its_last_instant() {
        let cache = EmbeddedReplayCache::default();
        let claim = async || cache.claim(&key(1), Nonce::from_bits([1; 16]), Duration::from_secs(10)).await;
        assert_eq!(claim().await, ReplayClaim::Claimed);
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(claim().await, ReplayClaim::Duplicate);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(claim().await, ReplayClaim::Claimed);
    }
}
