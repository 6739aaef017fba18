//! A persistent map from literal text that finds every key with which a given text begins, or which it holds anywhere.

use std::collections::HashSet;
use std::ptr;
use std::sync::Arc;

/// Values by non-empty literal keys. Cloning is cheap and shares everything.
///
/// A tree in which what keys begin with alike is written once, so that one walk along a text meets every key that the text begins
/// with, and ends where the text leaves the last of the keys. Its cost depends on the places where keys part, not on their number
/// or on how many lengths they have.
#[derive(Clone)]
pub(super) struct LiteralMap<V> {
    root: Arc<Node<V>>,
    /// What keys begin with, so that the places in a text where none can, which are most, cost a look.
    first_bytes: ByteSet,
}

#[derive(Clone, Copy, Default)]
struct ByteSet([u64; 4]);

#[derive(Clone)]
struct Node<V> {
    /// What a key holds between the parent and here. Empty for the root alone.
    label: Box<[u8]>,
    /// The value of the key that ends here. Each node but the root has a value or at least two children.
    value: Option<V>,
    /// By the first bytes of their labels, ascending.
    children: Vec<(u8, Arc<Node<V>>)>,
}

impl<V> Default for LiteralMap<V> {
    fn default() -> Self {
        let root = Node { label: Box::default(), value: None, children: Vec::new() };
        Self { root: Arc::new(root), first_bytes: ByteSet::default() }
    }
}

impl<V: Clone> LiteralMap<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.root.children.is_empty()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        let (mut node, mut rest) = (&*self.root, key);
        while !rest.is_empty() {
            (node, rest) = node.step(rest)?;
        }
        node.value.as_ref()
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        // Nothing that is shared is copied for nothing.
        if self.get(key).is_some() {
            Arc::make_mut(&mut self.root).remove(key);
            self.first_bytes = self.root.children.iter().map(|(first, _)| *first).collect();
        }
    }

    /// Calls `found` with the value of every key that `text` begins with, from the shortest up.
    pub(super) fn for_each_start_of<'a>(&'a self, text: &[u8], mut found: impl FnMut(&'a V)) {
        if !text.first().is_some_and(|first| self.first_bytes.holds(*first)) {
            return;
        }
        let (mut node, mut rest) = (&*self.root, text);
        while let Some((next, after)) = node.step(rest) {
            next.value.iter().for_each(&mut found);
            (node, rest) = (next, after);
        }
    }

    /// Calls `found` with the value of every key that `text` holds anywhere: once, however often the key occurs.
    ///
    /// There is a walk from every place in the text, so the cost is bounded by its length times that of the longest key. Who files
    /// strangers' text here keeps the keys short.
    pub(super) fn for_each_part_of<'a>(&'a self, text: &[u8], mut found: impl FnMut(&'a V)) {
        // By where they lie, which is another place for each. Seldom is more than one met, for which no set is made.
        let (mut first, mut others) = (None, HashSet::new());
        for at in 0..text.len() {
            self.for_each_start_of(&text[at..], |value| {
                let place = ptr::from_ref(value);
                let is_new = match first {
                    None => {
                        first = Some(place);
                        true
                    }
                    Some(first) => place != first && others.insert(place),
                };
                if is_new {
                    found(value);
                }
            });
        }
    }
}

impl<V: Clone + Default> LiteralMap<V> {
    /// The value of a key, which must not be empty; the default, if there was none. It is changed where it lies, unless a snapshot
    /// shares it.
    pub(super) fn entry(&mut self, key: &[u8]) -> &mut V {
        self.first_bytes.extend(key.first().copied());
        Arc::make_mut(&mut self.root).entry(key)
    }
}

impl ByteSet {
    fn holds(self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] & 1 << (byte % 64) != 0
    }
}

impl Extend<u8> for ByteSet {
    fn extend<T: IntoIterator<Item = u8>>(&mut self, bytes: T) {
        for byte in bytes {
            self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
        }
    }
}

impl FromIterator<u8> for ByteSet {
    fn from_iter<T: IntoIterator<Item = u8>>(bytes: T) -> Self {
        let mut set = Self::default();
        set.extend(bytes);
        set
    }
}

impl<V: Clone> Node<V> {
    /// The child whose label `rest` begins with, and what comes after.
    fn step<'a, 't>(&'a self, rest: &'t [u8]) -> Option<(&'a Self, &'t [u8])> {
        let first = rest.first()?;
        let (_, child) = self.children.iter().find(|(byte, _)| byte == first)?;
        Some((child, rest.strip_prefix(&*child.label)?))
    }

    fn place_of(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |(byte, _)| *byte)
    }

    /// The value of a key, of which `rest` comes behind this node.
    fn entry(&mut self, rest: &[u8]) -> &mut V
    where
        V: Default,
    {
        let Some(first) = rest.first() else { return self.value.get_or_insert_default() };
        let place = self.place_of(*first).unwrap_or_else(|place| {
            let child = Self { label: rest.into(), value: None, children: Vec::new() };
            self.children.insert(place, (*first, Arc::new(child)));
            place
        });
        let child = Arc::make_mut(&mut self.children[place].1);
        let shared = child.label.iter().zip(rest).take_while(|(a, b)| a == b).count();
        child.split(shared);
        child.entry(&rest[shared..])
    }

    /// Puts a node where `at` bytes of the label end, unless this one is there.
    fn split(&mut self, at: usize) {
        let (before, behind): (Box<[u8]>, Box<[u8]>) = (self.label[..at].into(), self.label[at..].into());
        let Some(first) = behind.first().copied() else { return };
        let lower = Self { label: behind, value: self.value.take(), children: std::mem::take(&mut self.children) };
        self.label = before;
        self.children.push((first, Arc::new(lower)));
    }

    /// Removes the value of a key that is there, of which `rest` comes behind this node.
    fn remove(&mut self, rest: &[u8]) {
        let Some(first) = rest.first() else {
            self.value = None;
            return;
        };
        let Ok(place) = self.place_of(*first) else { return };
        let child = Arc::make_mut(&mut self.children[place].1);
        let Some(after) = rest.strip_prefix(&*child.label) else { return };
        child.remove(after);
        if child.value.is_none() && child.children.len() < 2 {
            match child.children.pop() {
                None => {
                    self.children.remove(place);
                }
                Some((_, only)) => {
                    let mut only = Arc::unwrap_or_clone(only);
                    only.label = [&*child.label, &*only.label].concat().into();
                    *child = only;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl<V> Node<V> {
        /// Fails unless the tree below has the form that makes walks short.
        fn check_form(&self) {
            assert!(self.children.is_sorted_by(|(a, _), (b, _)| a < b));
            for (first, child) in &self.children {
                assert_eq!(child.label.first(), Some(first));
                assert!(child.value.is_some() || child.children.len() > 1, "a node that nothing needs");
                child.check_form();
            }
        }
    }

    fn found(map: &LiteralMap<String>, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        map.for_each_start_of(text.as_bytes(), |key| found.push(key.clone()));
        found
    }

    fn found_anywhere(map: &LiteralMap<String>, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        map.for_each_part_of(text.as_bytes(), |key| found.push(key.clone()));
        found.sort_unstable();
        found
    }

    /// The keys that a text begins with, the shortest first.
    fn expected(keys: &BTreeSet<String>, text: &str) -> Vec<String> {
        keys.iter().filter(|key| text.starts_with(*key)).cloned().collect()
    }

    proptest! {
        #[test]
        fn finds_every_key_the_text_begins_with_or_holds_and_no_other(
            history in prop::collection::vec(("[abc]{1,6}|a{1,9}", prop::bool::weighted(0.4)), 0..60),
            text in "[abcd]{0,12}|a{0,12}",
        ) {
            let (mut map, mut keys) = (LiteralMap::<String>::default(), BTreeSet::new());
            for (key, removed) in history {
                let (before, found_before) = (map.clone(), expected(&keys, &text));
                if removed {
                    map.remove(key.as_bytes());
                    keys.remove(&key);
                } else {
                    map.entry(key.as_bytes()).clone_from(&key);
                    keys.insert(key);
                }
                map.root.check_form();
                prop_assert_eq!(found(&before, &text), found_before, "a snapshot has changed");
                prop_assert_eq!(found(&map, &text), expected(&keys, &text));
                prop_assert_eq!(map.get(text.as_bytes()), keys.get(&text));
            }
            let held: Vec<String> = keys.iter().filter(|key| text.contains(*key)).cloned().collect();
            prop_assert_eq!(found_anywhere(&map, &text), held);
            for key in &keys {
                prop_assert_eq!(map.get(key.as_bytes()), Some(key));
                map.remove(key.as_bytes());
            }
            prop_assert!(map.is_empty());
        }
    }

    /// A value that nobody may copy.
    #[derive(Default)]
    struct Uncopied(usize);

    impl Clone for Uncopied {
        fn clone(&self) -> Self {
            unreachable!("copied, though nothing shares it")
        }
    }

    #[test]
    fn what_no_snapshot_shares_is_changed_where_it_lies() {
        let mut map = LiteralMap::<Uncopied>::default();
        for key in ["abc", "abd", "ab", "abc", "x", "abc"] {
            map.entry(key.as_bytes()).0 += 1;
        }
        map.remove(b"abd");
        assert_eq!(map.get(b"abc").map(|value| value.0), Some(3));
    }

    #[test]
    fn a_key_of_every_length_is_found_on_one_walk() {
        let (mut map, text) = (LiteralMap::<String>::default(), "a".repeat(1024));
        let keys: BTreeSet<String> = (1..=text.len()).map(|length| text[..length].to_owned()).collect();
        for key in keys.iter().rev() {
            map.entry(key.as_bytes()).clone_from(key);
        }
        assert_eq!(found(&map, &text), expected(&keys, &text));
        for key in &keys {
            map.remove(key.as_bytes());
        }
        assert!(map.is_empty());
    }
}
