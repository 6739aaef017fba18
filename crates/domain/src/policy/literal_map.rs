//! A persistent map from literal text that finds every key with which a given text begins.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

/// Values by non-empty literal keys. Cloning is cheap and shares everything.
#[derive(Clone)]
pub(super) struct LiteralMap<V> {
    values: RedBlackTreeMapSync<Box<[u8]>, V>,
    /// How many keys begin alike, by a hash of how they begin, so that the places in a text where no key can stand, which are most,
    /// cost a look or two.
    starts: Arc<Starts>,
}

/// Keys counted by how they begin.
#[derive(Clone)]
struct Starts {
    /// Those of at least three bytes, by a hash of these.
    long: [u32; Starts::SLOTS],
    /// Shorter ones, by their first byte.
    short: [u32; 256],
}

impl Starts {
    const SLOTS: usize = 1024;

    /// Where keys that begin like this text are counted.
    fn long_slot(text: &[u8]) -> Option<usize> {
        let [a, b, c] = *text.first_chunk()?;
        Some((usize::from(a) * 31 + usize::from(b) * 7 + usize::from(c) * 131) % Self::SLOTS)
    }

    fn counter(&mut self, key: &[u8]) -> Option<&mut u32> {
        match Self::long_slot(key) {
            Some(slot) => self.long.get_mut(slot),
            None => self.short.get_mut(usize::from(*key.first()?)),
        }
    }

    /// Whether a key may begin like this text. Often wrong in saying so, never in denying it.
    fn may_begin(&self, text: &[u8]) -> bool {
        let count =
            |counters: &[u32], slot: Option<usize>| slot.and_then(|slot| counters.get(slot)).is_some_and(|count| *count > 0);
        count(&self.long, Self::long_slot(text)) || count(&self.short, text.first().map(|byte| usize::from(*byte)))
    }
}

impl<V> Default for LiteralMap<V> {
    fn default() -> Self {
        Self { values: RedBlackTreeMapSync::new_sync(), starts: Arc::new(Starts { long: [0; Starts::SLOTS], short: [0; 256] }) }
    }
}

impl<V: Clone> LiteralMap<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        self.values.get(key)
    }

    /// Sets the value of a key, which must not be empty.
    pub(super) fn insert(&mut self, key: &[u8], value: V) {
        if !self.values.contains_key(key)
            && let Some(count) = self.count_of(key)
        {
            *count += 1;
        }
        self.values.insert_mut(key.into(), value);
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        if self.values.remove_mut(key)
            && let Some(count) = self.count_of(key)
        {
            *count -= 1;
        }
    }

    /// Calls `found` with the value of every key that `text` begins with.
    ///
    /// The keys sought are found from the longest down. The greatest key not above `text` shares its first `n` bytes with
    /// `text`; any other key that `text` begins with is at most `n` bytes long, for it would otherwise lie between the two. So
    /// every step shortens the text, mostly to where no key is left.
    pub(super) fn for_each_start_of<'a>(&'a self, text: &[u8], mut found: impl FnMut(&'a V)) {
        if !self.starts.may_begin(text) {
            return;
        }
        let mut end = Bound::Included(text);
        while let Some((key, value)) = self.values.range::<[u8], _>((Bound::Unbounded, end)).next_back() {
            let shared = key.iter().zip(text).take_while(|(a, b)| a == b).count();
            let rest = text.get(..shared).unwrap_or_default();
            match shared.cmp(&key.len()) {
                Ordering::Equal => {
                    found(value);
                    end = Bound::Excluded(rest);
                }
                _ => end = Bound::Included(rest),
            }
            if shared == 0 {
                break;
            }
        }
    }

    fn count_of(&mut self, key: &[u8]) -> Option<&mut u32> {
        Arc::make_mut(&mut self.starts).counter(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_every_key_the_text_begins_with_and_no_other(
            keys in prop::collection::btree_set("[abc]{1,6}", 0..40),
            gone in prop::collection::btree_set("[abc]{1,3}", 0..5),
            text in "[abcd]{0,12}",
        ) {
            let mut map = LiteralMap::default();
            for key in &keys {
                map.insert(key.as_bytes(), key.clone());
            }
            for key in &gone {
                map.remove(key.as_bytes());
            }
            let mut found = BTreeSet::new();
            map.for_each_start_of(text.as_bytes(), |key| assert!(found.insert(key.clone()), "{key} was found twice"));
            let expected: BTreeSet<_> = keys.difference(&gone).filter(|key| text.starts_with(*key)).cloned().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
