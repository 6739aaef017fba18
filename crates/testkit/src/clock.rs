//! A clock that stands still until it is moved, and randomness that repeats itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_domain::values::time::{Clock, Entropy, Timestamp};

/// A clock set by hand. Clones show the same time.
#[derive(Debug, Clone)]
pub struct TestClock(Arc<Mutex<Timestamp>>);

impl TestClock {
    /// A clock that shows this time.
    pub fn at(time: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(time)))
    }

    /// A clock that shows [`NOON`].
    pub fn noon() -> Self {
        Self::at(NOON.parse().expect("a constant time is valid"))
    }

    /// A clock that shows the system's time as of now, for tests whose other half runs on the system's clock.
    pub fn system() -> Self {
        Self::at(system_time())
    }

    /// Sets the time, which may go backwards.
    pub fn set(&self, time: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *time = time.checked_add(by).expect("the time stays in range");
    }

    /// Moves the time back.
    pub fn rewind(&self, by: Duration) {
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *time = time.checked_sub(by).expect("the time stays in range");
    }
}

/// The time that [`TestClock::noon`] shows.
pub const NOON: &str = "2026-10-01T12:00:00Z";

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's time, for claims that a real server will check.
#[expect(clippy::disallowed_methods, reason = "the processes under test read the system's clock")]
pub fn system_time() -> Timestamp {
    Timestamp::now()
}

/// A random source that repeats itself: the same seed gives the same bytes in the same order.
#[derive(Debug)]
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    /// The source of this seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

/// The step of SplitMix64, which visits every state before it repeats one.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let mut word = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_stands_still_until_it_is_moved() {
        let clock = TestClock::noon();
        let twin = clock.clone();
        assert_eq!(clock.now(), NOON.parse().unwrap());
        clock.advance(Duration::from_mins(1));
        assert_eq!(twin.now(), "2026-10-01T12:01:00Z".parse().unwrap());
        clock.rewind(Duration::from_mins(2));
        assert_eq!(twin.now(), "2026-10-01T11:59:00Z".parse().unwrap());
    }

    #[test]
    fn a_seed_decides_the_bytes_and_no_two_draws_are_alike() {
        let draw = |source: &SeededEntropy| {
            let mut bytes = [0; 20];
            source.fill(&mut bytes);
            bytes
        };
        let (one, again, other) = (SeededEntropy::new(1), SeededEntropy::new(1), SeededEntropy::new(2));
        let first = draw(&one);
        assert_eq!(first, draw(&again));
        assert_ne!(first, draw(&other));
        assert_ne!(first, draw(&one));
    }
}
