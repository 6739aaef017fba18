//! How long an issuer that fails is left alone (SECURITY 37).

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// The pause after so many failures in a row, the first being 1: one second, doubling to five minutes, less up to a quarter of
/// it. `chance` is random, so that gateways which failed together do not come back together.
pub(crate) fn pause(failures: u32, chance: u8) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    full.saturating_sub(full / 4 * u32::from(chance) / 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s37_pauses_double_from_a_second_to_five_minutes() {
        let pauses: Vec<u64> = (1..=12).map(|failures| pause(failures, 0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(pause(u32::MAX, 0), LONGEST);
    }

    #[test]
    fn s37_chance_takes_up_to_a_quarter_off() {
        assert_eq!(pause(1, 255), Duration::from_millis(750));
        assert_eq!(pause(20, 255), Duration::from_secs(225));
        for chance in 0..=255 {
            assert!((750..=1_000).contains(&pause(1, chance).as_millis()));
        }
    }
}
