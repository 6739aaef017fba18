//! Percentiles.

use std::fmt;
use std::time::Duration;

/// How long things took.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<Duration>);

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(latencies: I) -> Self {
        let mut sorted: Vec<_> = latencies.into_iter().collect();
        sorted.sort_unstable();
        Self(sorted)
    }
}

impl Latencies {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What so many of a thousand did not exceed; zero when there are none.
    pub fn per_mille(&self, share: usize) -> Duration {
        let place = (self.0.len() * share).div_ceil(1_000).max(1) - 1;
        self.0.get(place).copied().unwrap_or_default()
    }

    /// Of both together.
    pub fn and(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).copied().collect()
    }
}

/// The usual columns.
impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99, p999, longest] = [500, 990, 999, 1_000].map(|share| milliseconds(self.per_mille(share)));
        write!(f, "{:>7}   p50 {median:>7.2}   p99 {p99:>7.2}   p99.9 {p999:>7.2}   max {longest:>7.2} ms", self.count())
    }
}

/// For print.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
