//! Bounds how often a line is logged that a peer can cause.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Admits one line in a while, and counts those in between.
#[derive(Debug)]
pub struct LogBudget {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl LogBudget {
    /// One line in each interval.
    pub fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::default() }
    }

    /// How many events a line logged now stands for; `None` while it is too early for one.
    pub fn spend(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| last + self.interval > now) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn s85_one_line_in_a_while_stands_for_all_events_since_the_last() {
        let budget = LogBudget::new(Duration::from_mins(1));
        assert_eq!(budget.spend(), Some(1));
        for _ in 0..999 {
            assert_eq!(budget.spend(), None);
        }
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(budget.spend(), Some(1000));
        assert_eq!(budget.spend(), None);
    }
}
