//! A persistent multimap from hashes, in which a look-up leaves the cache as seldom as it can.
//!
//! It holds no keys: whoever files a value can tell from the value whether it is the one sought, and hashes of 64 bits are rarely
//! alike. So between the root and a value of 100,000 lie a few arrays, of which only the last two are not shared by so many
//! look-ups that they are at hand.

use std::sync::Arc;

/// Values by hashes, which must be well mixed. Cloning is cheap and shares everything.
#[derive(Clone)]
pub(super) struct HashIndex<V> {
    root: Node<V>,
}

/// A tree over the bits of the hash, from the lowest up.
#[derive(Clone)]
enum Node<V> {
    Empty,
    /// Not more than [`LEAF_CAPACITY`] values.
    Leaf(Arc<[Slot<V>]>),
    /// More values than that, of one hash. They are seldom looked up, and can be added to without copying those that are there.
    Crowd(Arc<Vec<Slot<V>>>),
    /// At least one child is not empty.
    Branch(Arc<[Node<V>; FAN_OUT]>),
}

#[derive(Clone)]
struct Slot<V> {
    hash: u64,
    value: V,
}

const BITS_PER_LEVEL: u32 = 5;
const FAN_OUT: usize = 1 << BITS_PER_LEVEL;
const LEAF_CAPACITY: usize = 8;

/// Which child of a branch leads on to a hash, of which the branches above have used up the lower bits.
fn child_index(rest: u64) -> usize {
    let [lowest, ..] = rest.to_le_bytes();
    usize::from(lowest) % FAN_OUT
}

impl<V> Default for HashIndex<V> {
    fn default() -> Self {
        Self { root: Node::Empty }
    }
}

impl<V: Clone> HashIndex<V> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.root, Node::Empty)
    }

    /// Everything filed under a hash, in no order.
    pub(super) fn under(&self, hash: u64) -> impl Iterator<Item = &V> {
        let (mut node, mut rest) = (&self.root, hash);
        while let Node::Branch(children) = node {
            node = &children[child_index(rest)];
            rest >>= BITS_PER_LEVEL;
        }
        node.slots().iter().filter(move |slot| slot.hash == hash).map(|slot| &slot.value)
    }

    pub(super) fn insert(&mut self, hash: u64, value: V) {
        self.root.insert(Slot { hash, value });
    }

    /// Removes the values under a hash of which `gone` is true.
    pub(super) fn remove(&mut self, hash: u64, gone: impl Fn(&V) -> bool) {
        // Nothing that is shared is copied for nothing.
        if self.under(hash).any(&gone) {
            self.root.remove(hash, &|slot| slot.hash == hash && gone(&slot.value));
        }
    }
}

impl<V: Clone> Node<V> {
    /// A tree of these slots, of whose hashes the lowest `used` bits are alike.
    fn of(slots: Vec<Slot<V>>, used: u32) -> Self {
        let Some(first) = slots.first() else { return Self::Empty };
        if slots.len() <= LEAF_CAPACITY {
            return Self::Leaf(slots.into());
        }
        if slots.iter().all(|slot| slot.hash == first.hash) {
            return Self::Crowd(Arc::new(slots));
        }
        let mut parts: [Vec<Slot<V>>; FAN_OUT] = std::array::from_fn(|_| Vec::new());
        for slot in slots {
            parts[child_index(slot.hash >> used)].push(slot);
        }
        Self::Branch(Arc::new(parts.map(|part| Self::of(part, used + BITS_PER_LEVEL))))
    }

    fn insert(&mut self, slot: Slot<V>) {
        let (mut node, mut used) = (self, 0);
        while let Self::Branch(children) = node {
            node = &mut Arc::make_mut(children)[child_index(slot.hash >> used)];
            used += BITS_PER_LEVEL;
        }
        if let Self::Crowd(slots) = node
            && slots.first().is_some_and(|first| first.hash == slot.hash)
        {
            Arc::make_mut(slots).push(slot);
        } else {
            *node = Self::of(node.slots().iter().cloned().chain([slot]).collect(), used);
        }
    }

    /// Those of a leaf or a crowd.
    fn slots(&self) -> &[Slot<V>] {
        match self {
            Self::Empty | Self::Branch(_) => &[],
            Self::Leaf(slots) => slots,
            Self::Crowd(slots) => slots,
        }
    }

    /// Removes the slots of which `gone` is true from where this hash leads.
    fn remove(&mut self, rest: u64, gone: &impl Fn(&Slot<V>) -> bool) {
        match self {
            Self::Empty => {}
            Self::Leaf(slots) => {
                let kept: Vec<_> = slots.iter().filter(|slot| !gone(slot)).cloned().collect();
                *self = if kept.is_empty() { Self::Empty } else { Self::Leaf(kept.into()) };
            }
            Self::Crowd(slots) => {
                let kept = Arc::make_mut(slots);
                kept.retain(|slot| !gone(slot));
                if kept.len() <= LEAF_CAPACITY {
                    *self = Self::of(std::mem::take(kept), 0);
                }
            }
            Self::Branch(children) => {
                let children = Arc::make_mut(children);
                children[child_index(rest)].remove(rest >> BITS_PER_LEVEL, gone);
                if children.iter().all(|child| matches!(child, Self::Empty)) {
                    *self = Self::Empty;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Hashes of which many are alike, wholly or up to the last bits that tell any two apart.
    fn hash() -> impl Strategy<Value = u64> {
        (0..4_u64, prop::sample::select(vec![0, 5, 30, 60, 62])).prop_map(|(bits, shift)| bits << shift)
    }

    fn sorted<'a>(values: impl Iterator<Item = &'a u8>) -> Vec<u8> {
        let mut values: Vec<u8> = values.copied().collect();
        values.sort_unstable();
        values
    }

    proptest! {
        #[test]
        fn finds_what_was_filed_under_a_hash_and_not_removed(
            history in prop::collection::vec((hash(), any::<u8>(), prop::bool::weighted(0.3)), 0..120),
        ) {
            let (mut index, mut model) = (HashIndex::default(), BTreeMap::<u64, Vec<u8>>::new());
            for (hash, value, removed) in history {
                let (before, values_before) = (index.clone(), model.get(&hash).cloned().unwrap_or_default());
                if removed {
                    index.remove(hash, |filed| *filed <= value);
                    model.entry(hash).or_default().retain(|filed| *filed > value);
                } else {
                    index.insert(hash, value);
                    model.entry(hash).or_default().push(value);
                }
                prop_assert_eq!(sorted(before.under(hash)), sorted(values_before.iter()), "a snapshot has changed");
            }
            for (hash, values) in &model {
                prop_assert_eq!(sorted(index.under(*hash)), sorted(values.iter()));
            }
            for hash in model.keys() {
                index.remove(*hash, |_| true);
                prop_assert_eq!(index.under(*hash).count(), 0);
            }
            prop_assert!(index.is_empty());
        }
    }

    /// A number of which copies are counted.
    struct Counted<'a> {
        number: usize,
        copies: &'a Cell<usize>,
    }

    impl Clone for Counted<'_> {
        fn clone(&self) -> Self {
            self.copies.set(self.copies.get() + 1);
            Self { ..*self }
        }
    }

    #[test]
    fn values_of_one_hash_are_not_copied_for_each_that_comes_or_goes() {
        let (mut index, copies) = (HashIndex::default(), Cell::new(0));
        for number in 0..1_000 {
            index.insert(7, Counted { number, copies: &copies });
        }
        assert!(copies.get() < 1_000, "{} copies", copies.get());
        copies.set(0);
        index.remove(7, |value| value.number < 500);
        assert_eq!((index.under(7).count(), copies.get()), (500, 0));
    }

    #[test]
    fn values_of_different_hashes_lie_apart_and_those_of_one_hash_together() {
        let mut index = HashIndex::default();
        for value in 0..100_u64 {
            index.insert(7, value);
        }
        assert!(matches!(&index.root, Node::Crowd(slots) if slots.len() == 100));
        index.insert(7 | 1 << 63, 100);
        assert!(matches!(index.root, Node::Branch(_)));
        assert_eq!((index.under(7).count(), index.under(7 | 1 << 63).count(), index.under(8).count()), (100, 1, 0));
    }
}
