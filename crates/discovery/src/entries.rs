//! Which sources are remembered.
//!
//! Memory is bounded, and whoever registers issuers without end must neither push out those that are in use nor be asked sooner
//! for having been pushed out himself: sources without keys go first, and what they failed at is kept longer than they are.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::entry::{Entry, Failures, USABLE};
use crate::source::KeySetSource;

/// How many sources are remembered.
const CAPACITY: usize = 4_096;
/// How many are forgotten at a time when there are more, so that looking for them costs little for each.
const BATCH: usize = CAPACITY / 16;
/// Of how many forgotten sources it is known how often they failed.
const CAPACITY_FOR_FAILURES: usize = 65_536;
/// A source not used for so long is forgotten when room is needed.
const IDLE: Duration = Duration::from_hours(1);

/// Every source that is remembered.
#[derive(Debug)]
pub(crate) struct Entries {
    table: RwLock<Table>,
    started: Instant,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<[u8; 32], Arc<Entry>>,
    /// Of sources that were forgotten while they failed.
    failures: HashMap<[u8; 32], Failures>,
}

impl Default for Entries {
    fn default() -> Self {
        Self { table: RwLock::default(), started: Instant::now() }
    }
}

impl Entries {
    /// The entry of a source, made if need be.
    pub(crate) fn entry(&self, source: &KeySetSource) -> Arc<Entry> {
        let second = self.started.elapsed().as_secs();
        let entry = self
            .known(source)
            .unwrap_or_else(|| self.table.write().unwrap_or_else(PoisonError::into_inner).insert(source, second));
        entry.used_at(second);
        entry
    }

    /// The entry of a source that is remembered. To look is not to use.
    pub(crate) fn known(&self, source: &KeySetSource) -> Option<Arc<Entry>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.entries.get(source.digest()).cloned()
    }
}

impl Table {
    fn insert(&mut self, source: &KeySetSource, second: u64) -> Arc<Entry> {
        if let Some(entry) = self.entries.get(source.digest()) {
            return Arc::clone(entry);
        }
        if self.entries.len() >= CAPACITY {
            self.make_room(second);
        }
        let failures = self.failures.remove(source.digest());
        let entry = Arc::new(Entry::new(source.clone(), failures));
        entry.used_at(second);
        self.entries.insert(*source.digest(), Arc::clone(&entry));
        entry
    }

    fn make_room(&mut self, second: u64) {
        self.entries.retain(|_, entry| entry.last_used() + IDLE.as_secs() > second);
        let surplus = (self.entries.len() + BATCH).saturating_sub(CAPACITY);
        // What is being asked for goes last: it would be asked for twice.
        let now = Instant::now();
        let mut by_worth: Vec<_> = self
            .entries
            .iter()
            .map(|(digest, entry)| ((entry.is_in_flight(), entry.usable(now, USABLE).is_some(), entry.last_used()), *digest))
            .collect();
        by_worth.sort_unstable();
        for (_, digest) in by_worth.into_iter().take(surplus) {
            if let Some(failures) = self.entries.remove(&digest).and_then(|entry| entry.failures()) {
                self.remember(digest, failures, now);
            }
        }
    }

    fn remember(&mut self, digest: [u8; 32], failures: Failures, now: Instant) {
        if self.failures.len() >= CAPACITY_FOR_FAILURES {
            self.failures.retain(|_, failures| failures.not_before > now);
        }
        if self.failures.len() < CAPACITY_FOR_FAILURES {
            self.failures.insert(digest, failures);
        }
    }
}
