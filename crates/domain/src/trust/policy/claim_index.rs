//! Finds what is filed under values that it asks of claims.

use std::collections::BTreeSet;

use rpds::HashTrieMapSync;
use serde_json::{Map, Value};

use crate::trust::claim_condition::{ClaimCondition, ClaimValue};
use crate::values::claim_path::ClaimPath;

/// The most different claims to file under: each is looked up in every token.
const MAX_PATHS: usize = 32;

/// Values by a claim and what it must be. Cloning is cheap and shares everything.
#[derive(Clone)]
pub(super) struct ClaimIndex<V> {
    by_path: HashTrieMapSync<ClaimPath, HashTrieMapSync<ClaimValue, V>>,
}

impl<V> Default for ClaimIndex<V> {
    fn default() -> Self {
        Self { by_path: HashTrieMapSync::new_sync() }
    }
}

impl<V: Clone + Default> ClaimIndex<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    pub(super) fn get(&self, path: &ClaimPath, value: &ClaimValue) -> Option<&V> {
        self.by_path.get(path)?.get(value)
    }

    /// Whether something can be filed under this claim.
    pub(super) fn has_room_for(&self, path: &ClaimPath) -> bool {
        self.by_path.size() < MAX_PATHS || self.by_path.contains_key(path)
    }

    /// Changes what is filed under a value; the default, if there was nothing. It is changed where it lies, unless a snapshot shares
    /// it.
    pub(super) fn change(&mut self, path: &ClaimPath, key: &ClaimValue, change: impl FnOnce(&mut V)) {
        if !self.by_path.contains_key(path) {
            self.by_path.insert_mut(path.clone(), HashTrieMapSync::new_sync());
        }
        let Some(values) = self.by_path.get_mut(path) else { return };
        if let Some(value) = values.get_mut(key) {
            change(value);
        } else {
            let mut value = V::default();
            change(&mut value);
            values.insert_mut(key.clone(), value);
        }
    }

    pub(super) fn remove(&mut self, path: &ClaimPath, key: &ClaimValue) {
        let Some(values) = self.by_path.get_mut(path) else { return };
        values.remove_mut(key);
        if values.is_empty() {
            self.by_path.remove_mut(path);
        }
    }

    /// Calls `found` with what is filed under the claims of a token.
    pub(super) fn for_each_of<'a>(&'a self, members: &Map<String, Value>, mut found: impl FnMut(&'a V)) {
        for (path, values) in &self.by_path {
            let claim = path.find(members).and_then(ClaimValue::of);
            if let Some(value) = claim.and_then(|claim| values.get(&claim)) {
                found(value);
            }
        }
    }
}

/// The claim and the values under which a condition can be filed. Each value once, though a condition may repeat it.
pub(super) fn keys(condition: &ClaimCondition) -> Option<(&ClaimPath, BTreeSet<&ClaimValue>)> {
    condition.values().map(|values| (&condition.claim, values.iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_32_claims_are_looked_up() {
        let mut index = ClaimIndex::<usize>::default();
        let path = |number: usize| format!("claim-{number}").parse::<ClaimPath>().unwrap();
        let value = ClaimValue::Text("a".to_owned());
        for number in 0..32 {
            assert!(index.has_room_for(&path(number)), "{number}");
            index.change(&path(number), &value, |found| *found += 1);
        }
        assert!(!index.has_room_for(&path(32)) && index.has_room_for(&path(31)));
        index.remove(&path(0), &value);
        assert!(index.has_room_for(&path(32)));
    }
}
