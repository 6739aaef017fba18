//! Which node of a cluster has which key.

use std::collections::BTreeSet;

use redis::{RedisError, Value};

use super::url::Address;

const SLOTS: u16 = 16_384;
/// The greatest cluster that Redis recommends.
const MAX_NODES: usize = 1_000;

/// The slot of a key. Braces would make only a part of it count; ours hold none.
pub(super) fn slot_of(key: &str) -> u16 {
    crc16(key.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

/// Who has which slots, as one node sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SlotMap(Vec<Slots>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slots {
    first: u16,
    last: u16,
    owner: Address,
}

impl SlotMap {
    /// Reads the answer of the node at that address to `CLUSTER SLOTS`. A node that does not know how it is reached leaves its
    /// host out: it is where it was asked.
    pub(super) fn read(answer: &Value, asked: &Address) -> Result<Self, RedisError> {
        let mut all = Vec::new();
        for entry in redis::from_redis_value_ref::<Vec<Vec<Value>>>(answer)? {
            // Replicas follow the owner.
            let [first, last, owner, ..] = entry.as_slice() else { return Err(malformed()) };
            let owner: Vec<Value> = redis::from_redis_value_ref(owner)?;
            let [host, port, ..] = owner.as_slice() else { return Err(malformed()) };
            let host: Option<String> = redis::from_redis_value_ref(host)?;
            let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| asked.host.clone());
            let (first, last) = (small(first)?, small(last)?);
            if first > last || last >= SLOTS {
                return Err(malformed());
            }
            let owner = Address { host, port: small(port)? };
            all.push(Slots { first, last, owner });
        }
        all.sort();
        // Each node has a connection and costs the search for a slot of its own, so nobody may name any number, or one in vain.
        let overlap = all.iter().zip(all.iter().skip(1)).any(|(slots, next)| slots.last >= next.first);
        if overlap || all.iter().map(|slots| &slots.owner).collect::<BTreeSet<_>>().len() > MAX_NODES {
            return Err(malformed());
        }
        Ok(Self(all))
    }

    /// The node that has a slot, if any has.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        let after = self.0.partition_point(|slots| slots.first <= slot);
        let slots = self.0.get(after.checked_sub(1)?)?;
        (slot <= slots.last).then_some(&slots.owner)
    }

    /// Every node that has slots, some more than once.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Address> {
        self.0.iter().map(|slots| &slots.owner)
    }

    /// Whether every slot has an owner.
    pub(super) fn is_complete(&self) -> bool {
        let end = self.0.iter().try_fold(0, |next, slots| (slots.first == next).then(|| slots.last + 1));
        end == Some(SLOTS)
    }
}

/// A number of 16 bits. Read as such at once, a greater one would lose its upper bits.
fn small(value: &Value) -> Result<u16, RedisError> {
    let number: i64 = redis::from_redis_value_ref(value)?;
    u16::try_from(number).map_err(|_| malformed())
}

fn malformed() -> RedisError {
    RedisError::from((redis::ErrorKind::UnexpectedReturnType, "not an answer to CLUSTER SLOTS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    fn entry(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("countersign:probe"), 15_587);
        assert_eq!(slot_of(""), 0);
    }

    #[test]
    fn each_slot_has_the_owner_that_was_told() {
        let answer = Value::Array(vec![
            entry(8_192, 16_383, vec![node("b", 2), node("replica", 3)]),
            entry(0, 8_000, vec![node("", 1)]),
            entry(8_001, 8_191, vec![Value::Array(vec![Value::Nil, Value::Int(4)])]),
        ]);
        let map = SlotMap::read(&answer, &address("asked", 9)).unwrap();
        for (slot, owner) in
            [(0, ("asked", 1)), (8_000, ("asked", 1)), (8_001, ("asked", 4)), (8_192, ("b", 2)), (16_383, ("b", 2))]
        {
            assert_eq!(map.owner(slot), Some(&address(owner.0, owner.1)), "{slot}");
        }
        assert!(map.is_complete());
    }

    #[test]
    fn a_gap_has_no_owner() {
        for (ranges, complete, ownerless) in [
            (vec![], false, vec![0, 16_383]),
            (vec![(1, 16_383)], false, vec![0]),
            (vec![(0, 16_382)], false, vec![16_383]),
            (vec![(0, 5), (7, 16_383)], false, vec![6]),
            (vec![(0, 16_383)], true, vec![]),
        ] {
            let answer = Value::Array(ranges.iter().map(|(first, last)| entry(*first, *last, vec![node("a", 1)])).collect());
            let map = SlotMap::read(&answer, &address("asked", 9)).unwrap();
            assert_eq!(map.is_complete(), complete, "{ranges:?}");
            assert!(ownerless.iter().all(|slot| map.owner(*slot).is_none()), "{ranges:?}");
        }
    }

    #[test]
    fn other_answers_are_errors() {
        let malformed = [
            Value::Int(1),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![entry(0, 1, vec![])]),
            Value::Array(vec![entry(0, 1, vec![Value::Array(vec![Value::Nil])])]),
            Value::Array(vec![entry(-1, 1, vec![node("a", 1)])]),
            Value::Array(vec![entry(2, 1, vec![node("a", 1)])]),
            Value::Array(vec![entry(0, 16_384, vec![node("a", 1)])]),
            Value::Array(vec![entry(0, 65_535, vec![node("a", 1)])]),
            Value::Array(vec![entry(0, 1, vec![node("a", 70_000)])]),
            // The first would have no slot that is its own.
            Value::Array(vec![entry(0, 9, vec![node("a", 1)]), entry(0, 9, vec![node("b", 1)])]),
            Value::Array(vec![entry(0, 9, vec![node("a", 1)]), entry(9, 10, vec![node("b", 1)])]),
            Value::Array((0..=1_000).map(|slot| entry(slot, slot, vec![node("a", slot + 1)])).collect()),
        ];
        for answer in malformed {
            assert!(SlotMap::read(&answer, &address("asked", 9)).is_err(), "{answer:?}");
        }
    }
}
