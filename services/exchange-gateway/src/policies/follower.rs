//! The task that keeps the stream of policies and the memory of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::policy_feed::{DirectoryChange, DirectoryEntry};
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::time::Entropy;
use countersign_proto::trust::policy::{PolicyEvent, PolicyRequest};
use countersign_proto::trust_v1::WatchPoliciesRequest;
use countersign_proto::trust_v1::policy_service_client::PolicyServiceClient;
use countersign_runtime::client::PeerChannel;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::memory::Memory;
use super::{Command, FollowedPolicies};
use crate::ports::CatchUpCause;

/// The least time between two barriers that begin for reasons anybody can make up: at most ten a second.
const UNVERIFIED_INTERVAL: Duration = Duration::from_millis(100);
/// A barrier is also asked for when nobody needs one, to find out that a connection is dead.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A barrier without an answer for so long means that the connection is dead.
const BARRIER_LIMIT: Duration = Duration::from_secs(3);
/// Until the stream has opened.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// A workspace that nobody used for so long is no longer followed.
const IDLE: Duration = Duration::from_mins(10);
/// How often to look for such workspaces.
const IDLE_CHECK: Duration = Duration::from_mins(1);
/// Between attempts to connect: doubles, and is spread by half, so that gateways do not all come back at once.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The largest message of the stream. Snapshots come in parts.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Keeps the stream. [`Follower::run`] is its life.
pub(crate) struct Follower {
    client: PolicyServiceClient<PeerChannel>,
    entropy: Arc<dyn Entropy>,
    memory: Arc<Memory>,
    commands: mpsc::UnboundedReceiver<Command>,
    connected: watch::Sender<bool>,
    barriers: Barriers,
}

/// Requests that wait for a barrier, by the barrier they may ride on.
#[derive(Default)]
struct Barriers {
    last_nonce: u64,
    /// Sent, not answered.
    in_flight: Option<InFlight>,
    /// Came after the one in flight was sent, so that its answer would not do for them.
    verified: Vec<oneshot::Sender<()>>,
    unverified: Vec<oneshot::Sender<()>>,
    last_unverified: Option<Instant>,
}

struct InFlight {
    nonce: u64,
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
    #[error("said what cannot be read: {0}")]
    Unreadable(countersign_domain::values::violation::Violations),
    /// Nobody needs policies any more.
    #[error("is not needed any more")]
    Abandoned,
}

/// What is known of one connection.
struct Connection {
    requests: mpsc::UnboundedSender<WatchPoliciesRequest>,
    directory: Vec<DirectoryEntry>,
    directory_complete: bool,
    /// Snapshots of which parts are still to come.
    partial: HashMap<WorkspaceId, WorkspacePolicy>,
}

impl Follower {
    /// The follower and the policies that it keeps.
    pub(crate) fn new(channel: PeerChannel, entropy: Arc<dyn Entropy>) -> (Self, FollowedPolicies) {
        let (sender, commands) = mpsc::unbounded_channel();
        let (connected, is_connected) = watch::channel(false);
        let memory = Arc::new(Memory::new());
        let policies = FollowedPolicies {
            memory: Arc::clone(&memory),
            commands: sender,
            connected: is_connected,
            unverified_waiting: Arc::new(AtomicUsize::new(0)),
        };
        let client = PolicyServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        (Self { client, entropy, memory, commands, connected, barriers: Barriers::default() }, policies)
    }

    /// Follows until nobody needs policies any more.
    pub(crate) async fn run(mut self) {
        let mut wait = BACK_OFF.0;
        loop {
            let end = self.follow().await;
            let stood = self.connected.send_replace(false);
            self.barriers.connection_lost();
            if matches!(end, StreamEnd::Abandoned) {
                return;
            }
            if stood {
                wait = BACK_OFF.0;
            }
            tracing::warn!(cause = %end, "the policy stream ended; connecting again");
            tokio::time::sleep(spread(wait, &*self.entropy)).await;
            wait = (wait * 2).min(BACK_OFF.1);
        }
    }

    async fn follow(&mut self) -> StreamEnd {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let opening = self.client.watch_policies(UnboundedReceiverStream::new(outgoing));
        let mut events = match timeout(OPEN_LIMIT, opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return StreamEnd::NotOpened(status),
            Err(_) => return StreamEnd::OpenTimeout,
        };
        let mut connection = Connection { requests, directory: Vec::new(), directory_complete: false, partial: HashMap::new() };
        for workspace_id in self.memory.followed() {
            connection.send(PolicyRequest::Load(workspace_id));
        }
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle_check = interval(IDLE_CHECK);
        idle_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if connection.directory_complete {
                self.barriers.start_due(&connection, Instant::now());
            }
            let wake = self.barriers.next_wake().filter(|_| connection.directory_complete);
            tokio::select! {
                event = events.message() => {
                    let event = match event {
                        Ok(Some(event)) => event,
                        Ok(None) => return StreamEnd::Closed,
                        Err(status) => return StreamEnd::Failed(status),
                    };
                    match PolicyEvent::try_from(event) {
                        Ok(event) => self.take(event, &mut connection),
                        Err(violations) => return StreamEnd::Unreadable(violations),
                    }
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command, &connection),
                    None => return StreamEnd::Abandoned,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    if self.barriers.is_overdue() {
                        return StreamEnd::Silent;
                    }
                }
                _ = heartbeat.tick() => if connection.directory_complete {
                    self.barriers.heartbeat(&connection);
                },
                _ = idle_check.tick() => for workspace_id in self.memory.forget_unused(IDLE) {
                    connection.send(PolicyRequest::Forget(workspace_id));
                },
            }
        }
    }

    fn obey(&mut self, command: Command, connection: &Connection) {
        match command {
            Command::Load(workspace_id) => connection.send(PolicyRequest::Load(workspace_id)),
            Command::Barrier { cause: CatchUpCause::Verified, reached } => self.barriers.verified.push(reached),
            Command::Barrier { cause: CatchUpCause::Unverified, reached } => self.barriers.unverified.push(reached),
        }
    }

    fn take(&mut self, event: PolicyEvent, connection: &mut Connection) {
        match event {
            PolicyEvent::DirectorySnapshot { entries, last } => {
                connection.directory.extend(entries);
                if last {
                    self.memory.set_directory(std::mem::take(&mut connection.directory));
                    connection.directory_complete = true;
                    self.connected.send_replace(true);
                }
            }
            PolicyEvent::DirectoryChange(DirectoryChange::Changed(entry)) => self.memory.set_entry(entry),
            PolicyEvent::DirectoryChange(DirectoryChange::Deleted(id)) | PolicyEvent::NoSuchWorkspace(id) => {
                connection.partial.remove(&id);
                self.memory.remove(&id);
            }
            PolicyEvent::PolicySnapshot { part, last } => {
                let id = part.workspace_id.clone();
                let policy = match connection.partial.remove(&id) {
                    Some(mut policy) => {
                        policy.add_part(part);
                        policy
                    }
                    None => WorkspacePolicy::from(part),
                };
                if last {
                    self.memory.set_policy(policy);
                } else if self.memory.is_followed(&id) {
                    connection.partial.insert(id, policy);
                }
            }
            PolicyEvent::PolicyChange(change) => self.memory.apply(change),
            PolicyEvent::Synced(nonce) => {
                // Noted before those who wait for it look at it.
                if let Some(sent) = self.barriers.sent(nonce) {
                    self.memory.note_seen(sent);
                }
                self.barriers.reached(nonce);
            }
        }
    }
}

impl Connection {
    fn send(&self, request: PolicyRequest) {
        // Fails only when the stream is about to end, which is noticed where it is read.
        let _ = self.requests.send(request.into());
    }
}

impl Barriers {
    /// Sends a barrier when somebody waits for one that may begin now. One is in flight at a time: who comes during it waits for
    /// the next, as the answer to the one in flight says nothing of what was committed since it was sent.
    fn start_due(&mut self, connection: &Connection, now: Instant) {
        if self.in_flight.is_some() {
            return;
        }
        let unverified = !self.unverified.is_empty() && self.unverified_from().is_none_or(|from| from <= now);
        if self.verified.is_empty() && !unverified {
            return;
        }
        if !self.unverified.is_empty() {
            self.last_unverified = Some(now);
        }
        let mut waiting = std::mem::take(&mut self.verified);
        waiting.append(&mut self.unverified);
        self.start(connection, waiting, now);
    }

    fn heartbeat(&mut self, connection: &Connection) {
        if self.in_flight.is_none() {
            self.start(connection, Vec::new(), Instant::now());
        }
    }

    fn start(&mut self, connection: &Connection, waiting: Vec<oneshot::Sender<()>>, now: Instant) {
        self.last_nonce += 1;
        connection.send(PolicyRequest::Sync(self.last_nonce));
        self.in_flight = Some(InFlight { nonce: self.last_nonce, sent: now, waiting });
    }

    /// When the barrier in flight was sent, if it is this one.
    fn sent(&self, nonce: u64) -> Option<Instant> {
        self.in_flight.as_ref().filter(|in_flight| in_flight.nonce == nonce).map(|in_flight| in_flight.sent)
    }

    fn reached(&mut self, nonce: u64) {
        if self.in_flight.as_ref().is_some_and(|in_flight| in_flight.nonce == nonce)
            && let Some(reached) = self.in_flight.take()
        {
            for waiting in reached.waiting {
                // Whoever is not there any more needs no answer.
                let _ = waiting.send(());
            }
        }
    }

    /// From when on a barrier may begin for a reason that anybody can make up; `None`: at once.
    fn unverified_from(&self) -> Option<Instant> {
        self.last_unverified.map(|last| last + UNVERIFIED_INTERVAL)
    }

    /// When something is to be done, if nothing happens before.
    fn next_wake(&self) -> Option<Instant> {
        match &self.in_flight {
            Some(in_flight) => Some(in_flight.sent + BARRIER_LIMIT),
            None if self.unverified.is_empty() => None,
            None => self.unverified_from(),
        }
    }

    fn is_overdue(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| in_flight.sent.elapsed() >= BARRIER_LIMIT)
    }

    /// Whoever still waits gets his answer from the next connection, or runs out of patience.
    fn connection_lost(&mut self) {
        if let Some(lost) = self.in_flight.take() {
            self.verified.extend(lost.waiting);
        }
        self.verified.retain(|waiting| !waiting.is_closed());
        self.unverified.retain(|waiting| !waiting.is_closed());
    }
}

/// Between half of this and all of it.
fn spread(wait: Duration, entropy: &dyn Entropy) -> Duration {
    let mut byte = [0];
    entropy.fill(&mut byte);
    wait / 2 + wait / 2 * u32::from(byte[0]) / 255
}
