//! Telling an outage once, however often it is noticed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Remembers whether something that is tried again and again fails at the moment, so that a loop which asks every second logs an
/// outage when it begins and when it is over, and not a line a second.
///
/// ```
/// # use countersign_runtime::outage::Outage;
/// # fn poll() -> Result<(), String> { Ok(()) }
/// # let outage = Outage::new();
/// match poll() {
///     Ok(()) => {
///         if let Some(lasted) = outage.over() {
///             tracing::info!(lasted_ms = lasted.as_millis(), "the database is back");
///         }
///     }
///     Err(error) if outage.begins() => tracing::warn!(%error, "cannot follow the database"),
///     Err(_) => {}
/// }
/// ```
#[derive(Debug, Default)]
pub struct Outage {
    /// By the monotonic clock, as a wall clock may jump meanwhile.
    since: Mutex<Option<Instant>>,
}

impl Outage {
    /// All is well.
    pub fn new() -> Self {
        Self::default()
    }

    /// An attempt failed. Whether it is the first to.
    pub fn begins(&self) -> bool {
        let mut since = self.since();
        let first = since.is_none();
        since.get_or_insert_with(Instant::now);
        first
    }

    /// An attempt succeeded. How long the outage lasted that this one ends, if there was one.
    pub fn over(&self) -> Option<Duration> {
        self.since().take().map(|since| since.elapsed())
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let outage = Outage::new();
        assert_eq!(outage.over(), None, "all is well from the start");
        let told: Vec<bool> = (0..3).map(|_| outage.begins()).collect();
        assert_eq!(told, [true, false, false]);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!outage.begins());
        assert_eq!(outage.over(), Some(Duration::from_secs(7)), "counted from the first failure");
        assert_eq!(outage.over(), None);
        assert!(outage.begins(), "the next outage is another");
    }
}
