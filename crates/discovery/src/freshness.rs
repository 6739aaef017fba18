//! How long a document counts as fresh.

use std::time::Duration;

/// When the answer says nothing (SECURITY C).
pub(crate) const DEFAULT: Duration = Duration::from_mins(5);
const SHORTEST: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_hours(1);

/// The lifetime that `Cache-Control` gives (RFC 9111, section 5.2.2), less the `Age` the document had on arrival, between one
/// minute and one hour. `no-store` and `no-cache` count as the shortest: an issuer is not to be asked at every token.
pub(crate) fn lifetime<'a>(cache_control: impl IntoIterator<Item = &'a str>, age: Option<&str>) -> Duration {
    let mut max_age: Option<u64> = None;
    for directive in cache_control.into_iter().flat_map(|value| value.split(',')) {
        let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
        let name = name.trim();
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return SHORTEST;
        }
        if name.eq_ignore_ascii_case("max-age") {
            // Twice is an error of the issuer; the shorter one is the safe one. What is no number counts as stale.
            let seconds = seconds(argument.trim().trim_matches('"'));
            max_age = Some(max_age.map_or(seconds, |earlier| earlier.min(seconds)));
        }
    }
    let Some(max_age) = max_age else { return DEFAULT };
    let age = age.map_or(0, |age| seconds(age.trim()));
    Duration::from_secs(max_age.saturating_sub(age)).clamp(SHORTEST, LONGEST)
}

/// `delta-seconds` of RFC 9111, section 1.2.2: too large means very large, nonsense means none.
fn seconds(text: &str) -> u64 {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    text.parse().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cache_control: &[&str], age: Option<&str>, expected_seconds: u64) {
        assert_eq!(lifetime(cache_control.iter().copied(), age).as_secs(), expected_seconds, "{cache_control:?} {age:?}");
    }

    #[test]
    fn s35_max_age_is_honoured_between_a_minute_and_an_hour() {
        check(&[], None, 300);
        check(&["public"], None, 300);
        check(&["max-age=600"], None, 600);
        check(&["public, Max-Age=600, must-revalidate"], None, 600);
        check(&["max-age=\"600\""], None, 600);
        check(&["max-age=0"], None, 60);
        check(&["max-age=59"], None, 60);
        check(&["max-age=61"], None, 61);
        check(&["max-age=3601"], None, 3_600);
        check(&["max-age=99999999999999999999999"], None, 3_600);
        check(&["max-age=-5"], None, 60);
        check(&["max-age=soon"], None, 60);
        check(&["max-age"], None, 60);
        check(&["max-age=900", "max-age=600"], None, 600);
        check(&["s-maxage=900"], None, 300);
        check(&["no-store"], None, 60);
        check(&["max-age=900, no-cache"], None, 60);
    }

    #[test]
    fn s35_the_age_on_arrival_counts() {
        check(&["max-age=600"], Some("100"), 500);
        check(&["max-age=600"], Some("10000"), 60);
        check(&["max-age=600"], Some("nonsense"), 600);
    }
}
