//! Key ids that an issuer was just asked about and does not have.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_jose::hash::sha256;
use tokio::time::Instant;

/// How long an absent key id stays absent (SECURITY C).
const LIFETIME: Duration = Duration::from_secs(30);
/// How many are remembered (SECURITY C). More are forgotten at once; the limit per issuer still holds for them.
const CAPACITY: usize = 1_000;

/// Remembers absent key ids, by source and id.
#[derive(Debug, Default)]
pub(crate) struct NegativeCache(Mutex<HashMap<[u8; 32], Instant>>);

impl NegativeCache {
    pub(crate) fn contains(&self, source: &[u8; 32], key_id: &str) -> bool {
        self.absent().get(&name(source, key_id)).is_some_and(|until| *until > Instant::now())
    }

    pub(crate) fn insert(&self, source: &[u8; 32], key_id: &str) {
        let now = Instant::now();
        let mut absent = self.absent();
        if absent.len() >= CAPACITY {
            absent.retain(|_, until| *until > now);
        }
        if absent.len() < CAPACITY {
            absent.insert(name(source, key_id), now + LIFETIME);
        }
    }

    fn absent(&self) -> MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(source: &[u8; 32], key_id: &str) -> [u8; 32] {
    sha256(&[source, key_id.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn s36_an_absent_key_is_absent_for_half_a_minute_and_for_its_source_alone() {
        let cache = NegativeCache::default();
        cache.insert(&[1; 32], "a");
        assert!(cache.contains(&[1; 32], "a"));
        assert!(!cache.contains(&[1; 32], "b"));
        assert!(!cache.contains(&[2; 32], "a"));
        tokio::time::advance(LIFETIME).await;
        assert!(!cache.contains(&[1; 32], "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn s36_no_more_than_a_thousand_are_remembered() {
        let cache = NegativeCache::default();
        for n in 0..2_000 {
            cache.insert(&[1; 32], &n.to_string());
        }
        assert_eq!(cache.absent().len(), CAPACITY);
        tokio::time::advance(LIFETIME).await;
        cache.insert(&[1; 32], "new");
        assert_eq!(cache.absent().len(), 1);
    }
}
