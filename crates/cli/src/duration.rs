//! Durations as people write them: `3600s`, `15m`, `1h`, `1h30m`.

use std::time::Duration;

use countersign_domain::values::time::Timestamp;
use countersign_proto::common;

/// Reads a duration: whole numbers with the units `s`, `m`, `h`, `d`, largest first or in any order.
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "must be whole numbers with units, for example 3600s, 15m or 1h30m".to_owned();
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit_and_more) = rest.split_at(digits);
        let mut letters = unit_and_more.chars();
        let unit = match letters.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86400,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        seconds = number.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = letters.as_str();
    }
    // The wire holds seconds as a signed number.
    if text.is_empty() || i64::try_from(seconds).is_err() { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

/// A duration of the wire as text.
pub(crate) fn from_wire(duration: &prost_types::Duration) -> String {
    format!("{}s", duration.seconds)
}

/// A moment of the wire as RFC 3339; empty when it is out of range.
pub(crate) fn moment_from_wire(moment: &prost_types::Timestamp) -> String {
    common::read_timestamp(moment).map(|moment| moment.to_string()).unwrap_or_default()
}

/// Reads a moment in RFC 3339.
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse_moment(text: &str) -> Result<prost_types::Timestamp, String> {
    let moment: Timestamp =
        text.parse().map_err(|_| "must be a time as in RFC 3339, for example 2027-01-31T18:00:00Z".to_owned())?;
    Ok(common::timestamp(moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse(text).ok().map(|d| d.as_secs()), expected, "{text:?}");
        check("3600s", Some(3600));
        check("0s", Some(0));
        check("15m", Some(900));
        check("1h30m", Some(5400));
        check("1d", Some(86400));
        for wrong in ["", "s", "3600", "1.5h", "-1s", "1 h", "1w", "1h30", "99999999999999999999s", "18446744073709551615s"] {
            check(wrong, None);
        }
    }

    #[test]
    fn moments_survive_a_round_trip() {
        let moment = parse_moment("2027-01-31T18:00:00.5Z").unwrap();
        assert_eq!(moment_from_wire(&moment), "2027-01-31T18:00:00.5Z");
        assert!(parse_moment("tomorrow").is_err());
        assert!(parse_moment("2027-01-31").is_err());
    }
}
