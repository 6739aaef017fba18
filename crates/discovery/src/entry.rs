//! What is known of one key source: the set that is held, and when the issuer may be asked again.
//!
//! Ages are monotonic, so a jump of the clock revives nothing (SECURITY 77).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use countersign_domain::trust::issuer_health::IssuerProblem;
use countersign_domain::trust::key_source::KeySource;
use countersign_domain::values::issuer_url::KeySetUrl;
use countersign_jose::KeySet;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::back_off;
use crate::room::Standing;
use crate::source::KeySetSource;

/// The age at which a set is of no use to anybody any more, whatever happens to the issuer (SECURITY 45). Whoever asks may have a
/// lower limit.
pub(crate) const USABLE: Duration = KeySource::MAX_STALE_AGE_LIMIT;
/// How long a discovery document is believed (SECURITY C).
pub(crate) const DOCUMENT_LIFETIME: Duration = Duration::from_hours(1);
/// How often an unknown key id may make us ask an issuer (SECURITY 36).
pub(crate) const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);

/// One source.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) source: KeySetSource,
    held: ArcSwapOption<Held>,
    control: Mutex<Control>,
    /// Seconds since the process began to cache.
    last_used: AtomicU64,
}

/// A set and its times.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) key_set: Arc<KeySet>,
    pub(crate) fetched_at: Instant,
    refresh_at: Instant,
    stale_at: Instant,
}

/// What a set's age means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing to do.
    Fresh,
    /// Good, and time to refresh it in the background.
    Due,
    /// To be used only if no newer one can be had now: a key that was removed must stop verifying (SECURITY 35).
    Stale,
    /// Of no use.
    Unusable,
}

/// Why the issuer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It is time.
    Age,
    /// A token names a key that the set lacks.
    UnknownKey,
}

/// When the issuer may be asked, and whether it is being asked.
#[derive(Debug, Default)]
pub(crate) struct Control {
    failures: Option<Failures>,
    last_attempt: Option<Attempt>,
    unknown_key_not_before: Option<Instant>,
    /// Where the keys are, from a discovery document of this age.
    pub(crate) key_set_url: Option<(KeySetUrl, Instant)>,
    /// Whether the discovery document in the second level led nowhere.
    pub(crate) document_is_suspect: bool,
    flight: Option<Flight>,
}

/// The last time that the issuer, or the second level in its place, was asked to the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) at: Instant,
    /// Why it came to nothing, if it did.
    pub(crate) problem: Option<IssuerProblem>,
    /// Whether the host that failed is not known to be public.
    pub(crate) is_internal: bool,
}

/// What an issuer failed at since it last answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failures {
    /// How often.
    pub(crate) count: u32,
    /// Until when it is left alone.
    pub(crate) not_before: Instant,
}

/// A refresh on its way. At most one per source.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) cause: Cause,
    landed: watch::Receiver<()>,
}

impl Flight {
    /// Waits until the refresh has ended, in whatever way, or the deadline.
    pub(crate) async fn landed_by(mut self, deadline: Instant) {
        // Nothing is ever sent: the end of the flight is the end of the sender.
        let _ = tokio::time::timeout_at(deadline, self.landed.changed()).await;
    }
}

/// What a caller who wants a refresh gets.
#[derive(Debug)]
pub(crate) enum Departure {
    /// Another's, to join.
    Running(Flight),
    /// One that the caller must now start. The guard is what the refresh must hold until it ends.
    New(Flight, FlightGuard),
    /// None: the issuer is to be left alone for now.
    Grounded,
}

/// Ends a flight when dropped, even by a panic.
#[derive(Debug)]
pub(crate) struct FlightGuard {
    pub(crate) entry: Arc<Entry>,
    landing: Option<watch::Sender<()>>,
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        self.entry.control().flight = None;
        self.landing = None;
    }
}

impl Held {
    /// A set fetched then, which its issuer calls fresh for `lifetime`. It is refreshed at 80 % of that, give or take 10 %, so
    /// that gateways do not move in step.
    pub(crate) fn new(key_set: Arc<KeySet>, fetched_at: Instant, lifetime: Duration, chance: u8) -> Self {
        let tenth = lifetime / 10;
        Self {
            key_set,
            fetched_at,
            refresh_at: fetched_at + tenth * 7 + tenth * 2 * u32::from(chance) / 255,
            stale_at: fetched_at + lifetime,
        }
    }

    /// What its age means to somebody who uses a set for so long after it was read, or for as long as it is fresh.
    pub(crate) fn phase(&self, now: Instant, max_stale_age: Duration) -> Phase {
        if now >= self.stale_at {
            if now >= self.fetched_at + max_stale_age { Phase::Unusable } else { Phase::Stale }
        } else if now >= self.refresh_at {
            Phase::Due
        } else {
            Phase::Fresh
        }
    }

    /// Whether it has a usable key with that id.
    pub(crate) fn has_key(&self, key_id: &str) -> bool {
        self.key_set.key_ids().any(|held| held.as_str() == key_id)
    }
}

impl Entry {
    /// A source of which nothing is held, and which may have failed before.
    pub(crate) fn new(source: KeySetSource, failures: Option<Failures>) -> Self {
        let control = Mutex::new(Control { failures, ..Control::default() });
        Self { source, held: ArcSwapOption::empty(), control, last_used: AtomicU64::new(0) }
    }

    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        // Every field is valid by itself.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    /// The set, unless it is too old to be used by somebody with that limit.
    pub(crate) fn usable(&self, now: Instant, max_stale_age: Duration) -> Option<Arc<Held>> {
        self.held().filter(|held| held.phase(now, max_stale_age) != Phase::Unusable)
    }

    pub(crate) fn used_at(&self, second: u64) {
        self.last_used.store(second, Ordering::Relaxed);
    }

    pub(crate) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// What the issuer failed at, if it failed the last time.
    pub(crate) fn failures(&self) -> Option<Failures> {
        self.control().failures
    }

    /// The last attempt, successful or not.
    pub(crate) fn last_attempt(&self) -> Option<Attempt> {
        self.control().last_attempt
    }

    /// Whether the last attempt failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures().is_some()
    }

    /// Whether a refresh is on its way.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.control().flight.is_some()
    }

    /// How the issuer has behaved.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        match (self.is_failing(), self.usable(now, USABLE)) {
            (true, _) => Standing::Failing,
            (false, Some(_)) => Standing::Proven,
            (false, None) => Standing::Unproven,
        }
    }

    /// A flight for that cause: the running one, a new one, or none while the issuer is to be left alone.
    pub(crate) fn depart(self: &Arc<Self>, cause: Cause, now: Instant) -> Departure {
        let mut control = self.control();
        if let Some(flight) = &control.flight {
            return Departure::Running(flight.clone());
        }
        let is_waiting = |not_before: Option<Instant>| not_before.is_some_and(|not_before| now < not_before);
        if is_waiting(control.failures.map(|failures| failures.not_before))
            || cause == Cause::UnknownKey && is_waiting(control.unknown_key_not_before)
        {
            return Departure::Grounded;
        }
        if cause == Cause::UnknownKey {
            control.unknown_key_not_before = Some(now + UNKNOWN_KEY_INTERVAL);
        }
        let (landing, landed) = watch::channel(());
        let flight = Flight { cause, landed };
        control.flight = Some(flight.clone());
        Departure::New(flight, FlightGuard { entry: Arc::clone(self), landing: Some(landing) })
    }

    /// Replaces the set, whole: a key that is gone from it is gone (SECURITY 35).
    pub(crate) fn succeeded(&self, held: Held, now: Instant) {
        self.held.store(Some(Arc::new(held)));
        let mut control = self.control();
        control.failures = None;
        control.last_attempt = Some(Attempt { at: now, problem: None, is_internal: false });
    }

    /// Takes a set that others read earlier, for want of a newer one.
    pub(crate) fn fall_back_on(&self, held: Held) {
        self.held.store(Some(Arc::new(held)));
    }

    /// Keeps the last good set (SECURITY 44) and returns for how long the issuer is left alone.
    pub(crate) fn failed(&self, now: Instant, problem: IssuerProblem, is_internal: bool, chance: u8) -> Duration {
        let mut control = self.control();
        control.last_attempt = Some(Attempt { at: now, problem: Some(problem), is_internal });
        let count = control.failures.map_or(0, |failures| failures.count).saturating_add(1);
        let pause = back_off::pause(count, chance);
        control.failures = Some(Failures { count, not_before: now + pause });
        pause
    }

    /// Nobody was asked about unknown keys by this gateway after all; it may do so after `pause`.
    pub(crate) fn look_again_after(&self, pause: Duration, now: Instant) {
        self.control().unknown_key_not_before = Some(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn held(lifetime: Duration, chance: u8) -> Held {
        Held::new(Arc::default(), Instant::now(), lifetime, chance)
    }

    #[tokio::test(start_paused = true)]
    async fn s35_a_set_is_refreshed_at_80_percent_give_or_take_10() {
        for (chance, due) in [(0, 210), (255, 270)] {
            let held = held(Duration::from_mins(5), chance);
            let at = |second| held.phase(held.fetched_at + Duration::from_secs(second), HOUR);
            assert_eq!((at(due - 1), at(due)), (Phase::Fresh, Phase::Due));
            assert_eq!((at(299), at(300)), (Phase::Due, Phase::Stale));
            assert_eq!((at(3_599), at(3_600)), (Phase::Stale, Phase::Unusable));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn s45_the_longest_lifetime_ends_at_the_hard_age() {
        let held = held(HOUR, 0);
        assert_eq!(held.phase(held.fetched_at + HOUR, HOUR), Phase::Unusable);
    }

    #[tokio::test(start_paused = true)]
    async fn s45_the_hard_age_is_the_trusted_issuers_own_but_no_fresh_set_is_too_old() {
        let held = held(Duration::from_mins(5), 0);
        let at = |second, limit| held.phase(held.fetched_at + Duration::from_secs(second), limit);
        // Zero: for as long as the issuer calls it fresh, and not a moment longer.
        assert_eq!((at(299, Duration::ZERO), at(300, Duration::ZERO)), (Phase::Due, Phase::Unusable));
        let day = Duration::from_hours(24);
        assert_eq!((at(86_399, day), at(86_400, day)), (Phase::Stale, Phase::Unusable));
    }
}
