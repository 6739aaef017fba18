//! When a connection was last of use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What happened on a connection so far.
#[derive(Debug)]
pub(super) struct Activity {
    begun: Instant,
    requests: AtomicU64,
    /// Streams that a client can keep open for as long as it likes are not among these.
    in_progress: AtomicUsize,
    held_streams: AtomicUsize,
    /// Milliseconds after `begun` at which the last request ended.
    last_end: AtomicU64,
}

/// How long a connection can be without a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdleTimeouts {
    /// With nothing open.
    pub(super) quiet: Duration,
    /// With streams that the client keeps open.
    pub(super) with_held_streams: Duration,
}

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// It sent no complete head of a request in time.
    NeverSpoke,
    /// It has been idle for too long.
    Idle,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            requests: AtomicU64::new(0),
            in_progress: AtomicUsize::new(0),
            held_streams: AtomicUsize::new(0),
            last_end: AtomicU64::new(0),
        }
    }

    pub(super) fn never_spoke(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// Ends when the connection has sent no complete request head in time, which covers the bytes before the protocol is known,
    /// or later when it has been idle for too long. A stream that the client merely keeps open does not keep the connection.
    pub(super) async fn silence(&self, first: Duration, idle: Option<IdleTimeouts>) -> Silence {
        tokio::time::sleep_until(self.begun + first).await;
        if self.never_spoke() {
            return Silence::NeverSpoke;
        }
        let Some(idle) = idle else { return std::future::pending().await };
        loop {
            let quiet_since = if self.in_progress.load(Ordering::Acquire) == 0 {
                self.begun + Duration::from_millis(self.last_end.load(Ordering::Acquire))
            } else {
                Instant::now()
            };
            let held = self.held_streams.load(Ordering::Acquire) > 0;
            let patience = if held { idle.with_held_streams } else { idle.quiet };
            if quiet_since + patience <= Instant::now() {
                return Silence::Idle;
            }
            // Looked at again in between, as the last held stream can end meanwhile.
            tokio::time::sleep_until((quiet_since + patience).min(Instant::now() + idle.quiet)).await;
        }
    }
}

/// A request in progress, until the last byte of its answer.
#[derive(Debug)]
pub(super) struct InProgress {
    activity: Arc<Activity>,
    held: bool,
}

impl InProgress {
    /// `held`: the client decides how long the answer takes.
    pub(super) fn begin(activity: &Arc<Activity>, held: bool) -> Self {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        let count = if held { &activity.held_streams } else { &activity.in_progress };
        count.fetch_add(1, Ordering::AcqRel);
        Self { activity: Arc::clone(activity), held }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let Activity { begun, in_progress, held_streams, last_end, .. } = &*self.activity;
        if self.held {
            held_streams.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        last_end.store(millis, Ordering::Release);
        in_progress.fetch_sub(1, Ordering::AcqRel);
    }
}
