//! What every package shares: times, durations, ids, masks, grants.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use countersign_domain::values::draft::{Given, Unreadable};
use countersign_domain::values::grant::Grant;
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::violation::Violations;

use crate::common_v1;

/// A time on the wire.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    // The wire counts nanoseconds forward from the second, also before the epoch.
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    prost_types::Timestamp { seconds, nanos }
}

/// A time from the wire, to the microsecond: what is stored is what is answered.
pub fn read_timestamp(time: &prost_types::Timestamp) -> Result<Timestamp, Unreadable> {
    let unreadable = Unreadable("must be a timestamp with 0 to 999,999,999 nanoseconds, before the year 10000");
    if !(0..1_000_000_000).contains(&time.nanos) {
        return Err(unreadable);
    }
    Timestamp::new(time.seconds, time.nanos - time.nanos % 1_000).map_err(|_| unreadable)
}

/// An optional time from the wire.
pub fn given_timestamp(time: Option<&prost_types::Timestamp>) -> Given<Timestamp> {
    time.map(read_timestamp)
}

/// A duration on the wire. One of more than 10,000 years saturates.
pub fn duration(duration: Duration) -> prost_types::Duration {
    const MOST: u64 = 315_576_000_000;
    let seconds = i64::try_from(duration.as_secs().min(MOST)).unwrap_or_default();
    prost_types::Duration { seconds, nanos: duration.subsec_nanos().try_into().unwrap_or_default() }
}

/// A duration from the wire, which must not be negative.
pub fn read_duration(duration: &prost_types::Duration) -> Result<Duration, Unreadable> {
    let unreadable = Unreadable("must be a duration that is not negative, with 0 to 999,999,999 nanoseconds");
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or(unreadable)?;
    Ok(Duration::new(u64::try_from(duration.seconds).map_err(|_| unreadable)?, nanos))
}

/// An optional duration from the wire.
pub fn given_duration(duration: Option<&prost_types::Duration>) -> Given<Duration> {
    duration.map(read_duration)
}

/// The paths of an update mask; none when there is no mask.
pub fn mask_paths(mask: Option<prost_types::FieldMask>) -> Vec<String> {
    mask.map(|mask| mask.paths).unwrap_or_default()
}

/// Reads an id, a URL or a name; notes why it is none.
pub fn read<T>(field: impl Into<String>, text: &str, violations: &mut Violations) -> Option<T>
where
    T: FromStr,
    T::Err: Display,
{
    violations.check(field, text.parse())
}

/// Reads a name whose absence is empty text. `Some(None)` is absence, `None` a violation.
pub fn read_optional<T>(field: impl Into<String>, text: &str, violations: &mut Violations) -> Option<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    if text.is_empty() { Some(None) } else { read(field, text, violations).map(Some) }
}

/// Reads every element of a list; notes why one is none.
pub fn read_list<T>(field: &str, written: &[String], violations: &mut Violations) -> Option<Vec<T>>
where
    T: FromStr,
    T::Err: Display,
{
    let elements: Vec<T> =
        written.iter().enumerate().filter_map(|(index, text)| read(format!("{field}[{index}]"), text, violations)).collect();
    (elements.len() == written.len()).then_some(elements)
}

/// Reads a required time.
pub fn read_time(
    field: impl Into<String>,
    time: Option<&prost_types::Timestamp>,
    violations: &mut Violations,
) -> Option<Timestamp> {
    violations.check(field, time.map_or(Err(Unreadable("is required")), read_timestamp))
}

/// The texts of a list, for the wire.
pub fn texts<T: Display>(elements: &[T]) -> Vec<String> {
    elements.iter().map(ToString::to_string).collect()
}

/// The text of an optional name; empty when there is none.
pub fn text<T: Display>(name: Option<&T>) -> String {
    name.map(ToString::to_string).unwrap_or_default()
}

// The domain checks a grant where it is used, since only there its field path is known.
impl From<common_v1::Grant> for Grant {
    fn from(grant: common_v1::Grant) -> Self {
        let common_v1::Grant { resource_type, resource_id, actions } = grant;
        Self { resource_type, resource_id, actions }
    }
}

impl From<Grant> for common_v1::Grant {
    fn from(grant: Grant) -> Self {
        let Grant { resource_type, resource_id, actions } = grant;
        Self { resource_type, resource_id, actions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_a_round_trip_to_the_microsecond() {
        for micros in [0, 1, -1, -1_500_000, 1_800_000_000_123_456] {
            let time = Timestamp::from_microsecond(micros).unwrap();
            let wire = timestamp(time);
            assert!((0..1_000_000_000).contains(&wire.nanos), "{wire:?}");
            assert_eq!(read_timestamp(&wire), Ok(time));
        }
        let wire = prost_types::Timestamp { seconds: 7, nanos: 1_999 };
        assert_eq!(read_timestamp(&wire), Ok(Timestamp::from_microsecond(7_000_001).unwrap()));
    }

    #[test]
    fn times_and_durations_out_of_range_are_refused() {
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0), (253_402_300_800, 0)] {
            assert!(read_timestamp(&prost_types::Timestamp { seconds, nanos }).is_err(), "{seconds} {nanos}");
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MIN, i32::MIN)] {
            assert!(read_duration(&prost_types::Duration { seconds, nanos }).is_err(), "{seconds} {nanos}");
        }
        assert_eq!(read_duration(&duration(Duration::from_millis(1_500))), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration(Duration::MAX).seconds, 315_576_000_000);
    }

    #[test]
    fn a_list_reports_every_bad_element() {
        let mut violations = Violations::new();
        let written = ["a", "", "b c"].map(str::to_owned);
        assert_eq!(read_list::<countersign_domain::values::name::Scope>("scopes", &written, &mut violations), None);
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["scopes[1]", "scopes[2]"]);
    }
}
