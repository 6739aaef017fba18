//! The state of workspaces, followed over one stream from trust-service (SECURITY 82).
//!
//! [`Workspaces`] answers from memory; [`WorkspaceFollower`] is the task that keeps the stream and the memory. A state that permits a
//! call is taken from memory, where it is at most as old as the last answered barrier. Before a call is refused for the state,
//! trust-service is asked for everything committed so far: a workspace may have been created a moment ago. A view that is older than
//! the staleness limit permits nothing and refuses nothing: calls are unavailable.
//!
//! Published documents never depend on this view alone: [`crate::withdrawal`] notes in the database that a workspace is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use countersign_domain::access::caller::Caller;
use countersign_domain::trust::workspace::{WorkspaceState, WorkspaceUnusable, WorkspaceUse};
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::time::Entropy;
use countersign_proto::status::Refusal;
use countersign_proto::trust::workspace_state::WorkspaceStateEvent;
use countersign_proto::trust_v1::WatchWorkspacesRequest;
use countersign_proto::trust_v1::workspace_state_service_client::WorkspaceStateServiceClient;
use countersign_runtime::auth::{StateUnknown, WorkspaceStates};
use countersign_runtime::client::PeerChannel;
use countersign_runtime::outage::Outage;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// How often a barrier is asked for although no call needs one: it renews the age of the view, and finds dead connections.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The least time between two barriers: callers of a disabled workspace cause no more than ten a second, all of them together.
const BARRIER_PAUSE: Duration = Duration::from_millis(100);
/// A barrier without an answer for so long means that the connection is dead.
const BARRIER_LIMIT: Duration = Duration::from_secs(3);
/// Until the stream has opened and the snapshot has arrived.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// How long a call waits for a barrier, or for the stream to come back.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between attempts to connect: doubles, and is spread by half, so that replicas do not all come back together.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The largest message of the stream. The snapshot comes in parts.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// The state of workspaces, as this replica knows it.
#[derive(Debug)]
pub(crate) struct Workspaces {
    states: RwLock<HashMap<WorkspaceId, WorkspaceState>>,
    /// When everything committed so far was known. Monotonic, so that no clock jump revives a view (SECURITY 77).
    seen: Mutex<Option<Instant>>,
    started: Instant,
    staleness_limit: Duration,
    barriers: mpsc::UnboundedSender<oneshot::Sender<()>>,
    connected: watch::Sender<bool>,
}

/// Keeps the stream. [`WorkspaceFollower::run`] is its life.
pub(crate) struct WorkspaceFollower {
    client: WorkspaceStateServiceClient<PeerChannel>,
    entropy: Arc<dyn Entropy>,
    workspaces: Arc<Workspaces>,
    asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    /// Calls that wait for the next barrier.
    waiting: Vec<oneshot::Sender<()>>,
    outage: Outage,
}

/// A barrier that was sent and not answered.
struct InFlight {
    number: u64,
    sent: Instant,
    waiting: Vec<oneshot::Sender<()>>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error("cannot be opened: {}", .0.message())]
    NotOpened(tonic::Status),
    #[error("failed: {}", .0.message())]
    Failed(tonic::Status),
    #[error("did not open in time")]
    OpenTimeout,
    #[error("was closed")]
    Closed,
    #[error("does not answer")]
    Silent,
    #[error("contains a message that cannot be read: {0}")]
    Unreadable(countersign_domain::values::violation::Violations),
}

// ===== Workspaces =====

impl Workspaces {
    /// Checks that a workspace exists for the caller (SECURITY 33) and that its state permits this use (SECURITY 82).
    ///
    /// # Errors
    /// "Not found", also where the workspace exists for others; `FAILED_PRECONDITION` where it is disabled; unavailable where its
    /// state is not known.
    pub(crate) async fn check(&self, caller: &Caller, id: &WorkspaceId, wanted: WorkspaceUse) -> Result<(), Refusal> {
        if !caller.sees(id) {
            return Err(Refusal::not_found("Workspace", id));
        }
        let is_operator = caller.is_operator();
        if !wanted.depends_on_state(is_operator) {
            return Ok(());
        }
        let state = self.workspace_state(id).await?;
        wanted.check(state, is_operator).map_err(|unusable| match unusable {
            WorkspaceUnusable::Missing => Refusal::not_found("Workspace", id),
            WorkspaceUnusable::Disabled => Refusal::failed_precondition("Workspace", id, unusable.to_string()),
        })
    }

    /// Whether a workspace is active by a view that is fresh enough, without asking.
    ///
    /// # Errors
    /// The view is too old.
    pub(crate) fn is_active(&self, id: &WorkspaceId) -> Result<bool, StateUnknown> {
        if self.is_fresh() { Ok(self.known(id) == Some(WorkspaceState::Active)) } else { Err(StateUnknown) }
    }

    /// Whether there is such a workspace by the view, however old that is.
    pub(crate) fn contains(&self, id: &WorkspaceId) -> bool {
        self.known(id).is_some()
    }

    /// How long ago everything committed was known; since the start, where that never was so.
    pub(crate) fn age(&self) -> Duration {
        self.seen().unwrap_or(self.started).elapsed()
    }

    /// Whether the stream stands.
    pub(crate) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    /// Waits until everything committed before this call is known. False where trust-service does not answer in time.
    pub(crate) async fn catch_up(&self) -> bool {
        let (sender, reached) = oneshot::channel();
        self.barriers.send(sender).is_ok() && matches!(timeout(PATIENCE, reached).await, Ok(Ok(())))
    }

    fn is_fresh(&self) -> bool {
        self.seen().is_some_and(|seen| seen.elapsed() <= self.staleness_limit)
    }

    fn known(&self, id: &WorkspaceId) -> Option<WorkspaceState> {
        self.states.read().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    fn seen(&self) -> Option<Instant> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<WorkspaceId, WorkspaceState>)) {
        change(&mut self.states.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes that everything committed at this moment is known.
    fn note_seen(&self, at: Instant) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        self.connected.send_replace(true);
    }
}

#[async_trait]
impl WorkspaceStates for Workspaces {
    async fn workspace_state(&self, id: &WorkspaceId) -> Result<Option<WorkspaceState>, StateUnknown> {
        if self.is_active(id) == Ok(true) {
            return Ok(Some(WorkspaceState::Active));
        }
        // The workspace may have been created or enabled a moment ago, and the view may be about to come back.
        let caught_up = self.catch_up().await;
        match (self.is_fresh(), self.known(id)) {
            (true, Some(state)) => Ok(Some(state)),
            // That there is no such workspace is certain only after a barrier.
            (true, None) if caught_up => Ok(None),
            (true, None) | (false, _) => Err(StateUnknown),
        }
    }
}

// ===== WorkspaceFollower =====

impl WorkspaceFollower {
    /// The follower and the view that it keeps.
    pub(crate) fn new(channel: PeerChannel, entropy: Arc<dyn Entropy>, staleness_limit: Duration) -> (Self, Arc<Workspaces>) {
        let (barriers, asked) = mpsc::unbounded_channel();
        let workspaces = Arc::new(Workspaces {
            states: RwLock::default(),
            seen: Mutex::default(),
            started: Instant::now(),
            staleness_limit,
            barriers,
            connected: watch::Sender::new(false),
        });
        let client = WorkspaceStateServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let follower =
            Self { client, entropy, workspaces: Arc::clone(&workspaces), asked, waiting: Vec::new(), outage: Outage::default() };
        (follower, workspaces)
    }

    /// Follows until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut wait = BACK_OFF.0;
        loop {
            let end = self.follow().await;
            if self.workspaces.connected.send_replace(false) {
                wait = BACK_OFF.0;
            }
            if self.outage.begins() {
                tracing::warn!(cause = %end, "the stream of workspaces ended; connecting again");
            } else {
                tracing::debug!(cause = %end, "the stream of workspaces cannot be opened");
            }
            // Calls that still wait get their answer from the next connection, or run out of patience.
            self.waiting.retain(|waiting| !waiting.is_closed());
            tokio::time::sleep(spread(wait, &*self.entropy)).await;
            wait = (wait * 2).min(BACK_OFF.1);
        }
    }

    async fn follow(&mut self) -> StreamEnd {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let opened = Instant::now();
        let opening = self.client.watch_workspaces(UnboundedReceiverStream::new(outgoing));
        let mut events = match timeout(OPEN_LIMIT, opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return StreamEnd::NotOpened(status),
            Err(_) => return StreamEnd::OpenTimeout,
        };
        let (mut snapshot, mut is_complete) = (HashMap::new(), false);
        let (mut in_flight, mut last_number): (Option<InFlight>, u64) = (None, 0);
        // The first barrier follows the snapshot: trust-service may have sent what it remembered, and not be able to read its database.
        let mut next_heartbeat = opened;
        let mut next_barrier = opened;
        let end = loop {
            let now = Instant::now();
            let is_due = next_heartbeat <= now || (!self.waiting.is_empty() && next_barrier <= now);
            if is_complete && in_flight.is_none() && is_due {
                last_number += 1;
                // Fails only when the stream is about to end, which is noticed where it is read.
                let _ = requests.send(WatchWorkspacesRequest { sync: last_number });
                in_flight = Some(InFlight { number: last_number, sent: now, waiting: std::mem::take(&mut self.waiting) });
                (next_heartbeat, next_barrier) = (now + HEARTBEAT, now + BARRIER_PAUSE);
            }
            let wake = match &in_flight {
                _ if !is_complete => opened + OPEN_LIMIT,
                Some(in_flight) => in_flight.sent + BARRIER_LIMIT,
                None if self.waiting.is_empty() => next_heartbeat,
                None => next_barrier.min(next_heartbeat),
            };
            tokio::select! {
                event = events.message() => match event.map(|event| event.map(WorkspaceStateEvent::try_from)) {
                    Ok(Some(Ok(WorkspaceStateEvent::Snapshot { entries, last }))) => {
                        snapshot.extend(entries);
                        if last {
                            self.workspaces.change(|states| *states = std::mem::take(&mut snapshot));
                            is_complete = true;
                        }
                    }
                    Ok(Some(Ok(WorkspaceStateEvent::Changed(id, state)))) => {
                        self.workspaces.change(|states| _ = states.insert(id, state));
                    }
                    Ok(Some(Ok(WorkspaceStateEvent::Deleted(id)))) => self.workspaces.change(|states| _ = states.remove(&id)),
                    Ok(Some(Ok(WorkspaceStateEvent::Synced(number)))) => {
                        if let Some(reached) = in_flight.take_if(|in_flight| in_flight.number == number) {
                            self.note_reached(reached);
                        }
                    }
                    Ok(Some(Err(violations))) => break StreamEnd::Unreadable(violations),
                    Ok(None) => break StreamEnd::Closed,
                    Err(status) => break StreamEnd::Failed(status),
                },
                asked = self.asked.recv() => match asked {
                    Some(waiting) => self.waiting.push(waiting),
                    // The sender is in the view that this task keeps.
                    None => break StreamEnd::Closed,
                },
                () = sleep_until(wake) => if !is_complete || in_flight.is_some() {
                    break StreamEnd::Silent;
                },
            }
        };
        self.waiting.extend(in_flight.into_iter().flat_map(|lost| lost.waiting));
        end
    }

    fn note_reached(&self, reached: InFlight) {
        self.workspaces.note_seen(reached.sent);
        if let Some(lasted) = self.outage.over() {
            tracing::info!(lasted_ms = lasted.as_millis(), "the workspaces can be followed again");
        }
        for waiting in reached.waiting {
            // A call that was given up needs no answer.
            let _ = waiting.send(());
        }
    }
}

/// Between half of this and all of it.
fn spread(wait: Duration, entropy: &dyn Entropy) -> Duration {
    let mut byte = [0];
    entropy.fill(&mut byte);
    wait / 2 + wait / 2 * u32::from(byte[0]) / 255
}
