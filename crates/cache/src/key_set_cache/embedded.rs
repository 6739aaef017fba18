//! The second level in the memory of one process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Document, FetchTurn, KeySetCache, Slot};

/// How many documents, and how many turns, are kept. A process without Redis is a small deployment.
const CAPACITY: usize = 256;

/// A [`KeySetCache`] for a single process. Nobody else can write here, so entries need no authentication.
#[derive(Debug, Default)]
pub struct EmbeddedKeySetCache(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    documents: HashMap<Slot, Expiring<(Document, Instant)>>,
    turns: HashMap<Slot, Expiring<[u8; 16]>>,
}

#[derive(Debug)]
struct Expiring<T> {
    value: T,
    expires_at: Instant,
}

impl EmbeddedKeySetCache {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Every change is a single insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Inserts, making room by forgetting what has expired, or else what would expire first.
fn insert<T>(entries: &mut HashMap<Slot, Expiring<T>>, slot: Slot, value: T, now: Instant, expires_at: Instant) {
    if entries.len() >= CAPACITY {
        entries.retain(|_, entry| entry.expires_at > now);
    }
    if entries.len() >= CAPACITY
        && let Some(first) = entries.iter().min_by_key(|(_, entry)| entry.expires_at).map(|(slot, _)| *slot)
    {
        entries.remove(&first);
    }
    entries.insert(slot, Expiring { value, expires_at });
}

fn get<'a, T>(entries: &'a HashMap<Slot, Expiring<T>>, slot: &Slot, now: Instant) -> Option<&'a T> {
    entries.get(slot).filter(|entry| entry.expires_at > now).map(|entry| &entry.value)
}

#[async_trait]
impl KeySetCache for EmbeddedKeySetCache {
    async fn get(&self, slot: &Slot) -> Option<(Document, Duration)> {
        let now = Instant::now();
        let entries = self.entries();
        let (document, fetched_at) = get(&entries.documents, slot, now)?;
        Some((document.clone(), now.duration_since(*fetched_at)))
    }

    async fn put(&self, slot: &Slot, document: &Document, keep: Duration) {
        let now = Instant::now();
        if document.bytes.len() <= Document::MAX_BYTES
            && let Some(expires_at) = now.checked_add(keep)
        {
            insert(&mut self.entries().documents, *slot, (document.clone(), now), now, expires_at);
        }
    }

    async fn take_turn(&self, slot: &Slot, owner: [u8; 16], turn: Duration) -> FetchTurn {
        let now = Instant::now();
        let Some(expires_at) = now.checked_add(turn) else { return FetchTurn::Unknown };
        let mut entries = self.entries();
        if get(&entries.turns, slot, now).is_some_and(|holder| *holder != owner) {
            return FetchTurn::Anothers;
        }
        insert(&mut entries.turns, *slot, owner, now, expires_at);
        FetchTurn::Ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let cache = EmbeddedKeySetCache::default();
        let document = Document { bytes: vec![0; 10], lifetime: Duration::from_mins(5) };
        for n in 0..1_000_u16 {
            let mut hash = [0; 32];
            hash[..2].copy_from_slice(&n.to_be_bytes());
            cache.put(&Slot::from_hash(hash), &document, Duration::from_secs(60 + u64::from(n))).await;
            cache.take_turn(&Slot::from_hash(hash), [0; 16], Duration::from_mins(1)).await;
        }
        let entries = cache.entries();
        assert_eq!((entries.documents.len(), entries.turns.len()), (CAPACITY, CAPACITY));
    }
}
