//! What an entry of the cache looks like where others can write.

use std::time::Duration;

use countersign_domain::values::time::Timestamp;
use countersign_jose::secret::MacKey;

use super::{Document, Slot};

/// Says what is authenticated, and in which form.
const LABEL: &[u8] = b"countersign key set cache entry v1";
const TAG_BYTES: usize = 32;
/// Microseconds of the time of writing, milliseconds it is kept, milliseconds it is fresh.
const HEAD_BYTES: usize = 3 * 8;
/// The most bytes an entry can have.
pub(super) const MAX_BYTES: usize = TAG_BYTES + HEAD_BYTES + Document::MAX_BYTES;
/// How far the clocks of two gateways may differ.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);

/// Writes an entry: tag, head, document.
pub(super) fn seal(key: &MacKey, slot: &Slot, document: &Document, keep: Duration, now: Timestamp) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend(now.as_microsecond().to_be_bytes());
    head.extend(milliseconds(keep).to_be_bytes());
    head.extend(milliseconds(document.lifetime).to_be_bytes());
    let tag = key.tag(&[LABEL, slot.as_bytes(), &head, &document.bytes]);
    [&tag[..], &head, &document.bytes].concat()
}

/// Reads an entry that Redis will keep for `remaining` more. `None` unless we wrote it, for this slot, and it is not over.
///
/// Its age is what the time to live says or what the clock says, whichever is more. The clock alone could be set back, the time
/// to live alone could be prolonged by whoever can write to Redis, to bring withdrawn keys back.
pub(super) fn open(key: &MacKey, slot: &Slot, entry: &[u8], remaining: Duration, now: Timestamp) -> Option<(Document, Duration)> {
    let (tag, rest) = entry.split_at_checked(TAG_BYTES)?;
    let (head, bytes) = rest.split_at_checked(HEAD_BYTES)?;
    if !key.verify(&[LABEL, slot.as_bytes(), head, bytes], tag) {
        return None;
    }
    let (written, rest) = head.split_first_chunk()?;
    let (keep, rest) = rest.split_first_chunk()?;
    let (lifetime, _) = rest.split_first_chunk()?;
    let keep = Duration::from_millis(u64::from_be_bytes(*keep));
    let lifetime = Duration::from_millis(u64::from_be_bytes(*lifetime));
    let written = Timestamp::from_microsecond(i64::from_be_bytes(*written)).ok()?;

    let by_redis = keep.checked_sub(remaining)?;
    let by_clock = now.duration_since(written);
    let by_clock = if by_clock.is_negative() {
        if by_clock.unsigned_abs() > CLOCK_TOLERANCE {
            return None;
        }
        Duration::ZERO
    } else {
        by_clock.unsigned_abs()
    };
    let age = by_redis.max(by_clock);
    (age < keep).then(|| (Document { bytes: bytes.to_vec(), lifetime }, age))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_jose::secret::DeploymentSecret;

    const KEEP: Duration = Duration::from_hours(1);
    const KEEP_SECONDS: u64 = 3_600;
    const SLOT: Slot = Slot::from_hash([7; 32]);

    fn key() -> MacKey {
        DeploymentSecret::from_bytes(&[1; 32]).unwrap().derive("test")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn document() -> Document {
        Document { bytes: br#"{"keys":[]}"#.to_vec(), lifetime: Duration::from_mins(5) }
    }

    fn sealed() -> Vec<u8> {
        seal(&key(), &SLOT, &document(), KEEP, at(0))
    }

    #[test]
    fn an_entry_reads_back_with_its_age() {
        let (read, age) = open(&key(), &SLOT, &sealed(), Duration::from_secs(KEEP_SECONDS - 10), at(10)).unwrap();
        assert_eq!((read, age), (document(), Duration::from_secs(10)));
    }

    #[test]
    fn s46_any_altered_bit_is_a_miss() {
        let entry = sealed();
        for position in 0..entry.len() {
            let mut altered = entry.clone();
            altered[position] ^= 1;
            assert_eq!(open(&key(), &SLOT, &altered, KEEP, at(0)), None, "byte {position}");
        }
        for length in 0..entry.len() {
            assert_eq!(open(&key(), &SLOT, &entry[..length], KEEP, at(0)), None, "{length} bytes");
        }
        assert_eq!(open(&key(), &SLOT, &[&entry[..], b" "].concat(), KEEP, at(0)), None);
    }

    #[test]
    fn s46_an_entry_moved_to_another_slot_is_a_miss() {
        assert_eq!(open(&key(), &Slot::from_hash([8; 32]), &sealed(), KEEP, at(0)), None);
    }

    #[test]
    fn s46_an_entry_of_another_deployment_is_a_miss() {
        let other = DeploymentSecret::from_bytes(&[2; 32]).unwrap().derive("test");
        assert_eq!(open(&other, &SLOT, &sealed(), KEEP, at(0)), None);
    }

    #[test]
    fn s46_prolonging_an_entry_in_redis_does_not_make_it_younger() {
        let (_, age) = open(&key(), &SLOT, &sealed(), KEEP, at(600)).unwrap();
        assert_eq!(age, Duration::from_mins(10));
        assert_eq!(open(&key(), &SLOT, &sealed(), KEEP, at(3_600)), None);
        assert_eq!(open(&key(), &SLOT, &sealed(), KEEP + Duration::from_secs(1), at(0)), None);
    }

    #[test]
    fn s77_setting_the_clock_back_does_not_make_an_entry_younger() {
        let (_, age) = open(&key(), &SLOT, &sealed(), Duration::from_secs(KEEP_SECONDS - 600), at(-30)).unwrap();
        assert_eq!(age, Duration::from_mins(10));
        assert_eq!(open(&key(), &SLOT, &sealed(), KEEP, at(-3_600)), None);
    }
}
