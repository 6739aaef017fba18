//! A budget that is used up and refills with time.

use tokio::time::Instant;

/// How much a budget has, and how fast it refills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    /// The most that it has, which it begins with.
    pub(crate) burst: f64,
    /// How much it gets back a second.
    pub(crate) per_second: f64,
}

/// What is left of a budget.
#[derive(Debug)]
pub(crate) struct Budget {
    rate: Rate,
    left: f64,
    at: Instant,
}

impl Budget {
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self { rate, left: rate.burst, at: now }
    }

    /// Whether there is one left to take.
    pub(crate) fn has_one(&self, now: Instant) -> bool {
        self.refilled(now) >= 1.0
    }

    /// Takes one, if there is one left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        (self.left, self.at) = (self.refilled(now), now);
        let has_one = self.left >= 1.0;
        if has_one {
            self.left -= 1.0;
        }
        has_one
    }

    /// Whether nothing is missing, so that it need not be remembered.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.refilled(now) >= self.rate.burst
    }

    fn refilled(&self, now: Instant) -> f64 {
        (self.left + now.duration_since(self.at).as_secs_f64() * self.rate.per_second).min(self.rate.burst)
    }
}
