//! One connection to one server, with its breaker.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::sentinel::Sentinels;
use super::url::{Address, Dial};
use super::{COMMAND_LIMIT, CONNECT_LIMIT, FAILURES_TO_OPEN, RedisTrouble, pause_after};

/// Where the write goes that tells whether Redis is usable.
pub(super) const PROBE_KEY: &str = "countersign:probe";

/// Which server a link leads to.
pub(super) enum Target {
    Server {
        address: Address,
        dial: Dial,
    },
    /// Whichever is the primary when a connection is made.
    Sentinel(Sentinels),
    /// Of a cluster. The probe must go to a key in one of its slots, which may change.
    Node {
        address: Address,
        dial: Dial,
        probe_key: Mutex<String>,
    },
}

impl Target {
    pub(super) fn server(address: Address, dial: Dial) -> Self {
        Self::Server { address, dial }
    }

    pub(super) fn node(address: Address, dial: Dial, probe_key: String) -> Self {
        Self::Node { address, dial, probe_key: Mutex::new(probe_key) }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisTrouble> {
        match self {
            Self::Server { address, dial } => connect(dial, address, PROBE_KEY).await,
            Self::Sentinel(sentinels) => sentinels.connect_to_primary().await,
            Self::Node { address, dial, probe_key } => {
                let probe_key = probe_key.lock().unwrap_or_else(PoisonError::into_inner).clone();
                connect(dial, address, &probe_key).await
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { address, .. } | Self::Node { address, .. } => address.fmt(f),
            Self::Sentinel(sentinels) => write!(f, "the primary of {}", sentinels.service),
        }
    }
}

/// A connection that is made when needed, shared, and done without while it fails.
pub(super) struct Link {
    target: Target,
    state: Mutex<State>,
    /// Whether commands have a connection to go to.
    usable: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    connection: Option<Connected>,
    /// Commands that failed since the last one that worked.
    failures: u32,
    /// Whether commands fail without being tried.
    open: bool,
    /// Whether the background task runs.
    recovering: bool,
    /// Connections made since the last command that worked: a server that takes connections and fails at work is not to be
    /// asked in a tight loop.
    fruitless: u32,
    /// Numbers the connections, so that a failure abandons the one it happened on and no newer one.
    generation: u64,
}

#[derive(Clone)]
struct Connected {
    connection: MultiplexedConnection,
    generation: u64,
}

impl Link {
    pub(super) fn new(target: Target) -> Arc<Self> {
        Arc::new(Self { target, state: Mutex::default(), usable: watch::Sender::new(false) })
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.usable.borrow()
    }

    /// Where the node of a cluster is.
    pub(super) fn node(&self) -> Option<&Address> {
        match &self.target {
            Target::Node { address, .. } => Some(address),
            Target::Server { .. } | Target::Sentinel(_) => None,
        }
    }

    /// Where the next probe of a cluster's node goes.
    pub(super) fn probe_at(&self, key: &str) {
        if let Target::Node { probe_key, .. } = &self.target {
            key.clone_into(&mut probe_key.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Waits until there is a working connection.
    pub(super) async fn available(self: &Arc<Self>) {
        let mut usable = self.usable.subscribe();
        self.recover();
        // The sender lives as long as `self`, so this ends only with `true`.
        let _ = usable.wait_for(|usable| *usable).await;
    }

    /// Sends one command, once.
    pub(super) async fn run<T: FromRedisValue>(self: &Arc<Self>, command: &Cmd, deadline: Instant) -> Result<T, RedisTrouble> {
        let Some(mut connected) = self.connected(deadline).await else {
            return Err(RedisTrouble::Unreachable);
        };
        let trouble = match timeout_at(deadline, command.query_async(&mut connected.connection)).await {
            Ok(Ok(value)) => {
                self.succeeded();
                return Ok(value);
            }
            Ok(Err(error)) => RedisTrouble::Failed(error),
            Err(_) => RedisTrouble::TimedOut,
        };
        self.failed(connected.generation, &trouble);
        Err(trouble)
    }

    /// The connection, waiting for one until the deadline, but not at all while the breaker is open.
    async fn connected(self: &Arc<Self>, deadline: Instant) -> Option<Connected> {
        let mut usable = self.usable.subscribe();
        loop {
            {
                let state = self.state();
                if state.open {
                    return None;
                }
                if let Some(connected) = &state.connection {
                    return Some(connected.clone());
                }
            }
            self.recover();
            if timeout_at(deadline, usable.changed()).await.is_err() {
                self.waited_in_vain();
                return None;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succeeded(&self) {
        let mut state = self.state();
        state.failures = 0;
        state.fruitless = 0;
    }

    fn failed(self: &Arc<Self>, generation: u64, trouble: &RedisTrouble) {
        tracing::debug!(server = %self.target, error = trouble as &dyn std::error::Error, "a redis command failed");
        if matches!(self.target, Target::Node { .. }) && is_about_one_slot(trouble) {
            return;
        }
        {
            let mut state = self.state();
            if state.generation != generation {
                // A newer connection has been made since; what happened to the old one says nothing about it.
                return;
            }
            if spoils_the_connection(trouble) {
                self.disconnect(&mut state);
            }
            self.count_failure(&mut state, trouble);
        }
        self.recover();
    }

    fn waited_in_vain(&self) {
        let mut state = self.state();
        // A connection that came too late for this command is good for the next.
        if state.connection.is_none() {
            self.count_failure(&mut state, &RedisTrouble::TimedOut);
        }
    }

    fn count_failure(&self, state: &mut State, trouble: &RedisTrouble) {
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_TO_OPEN {
            self.open(state, trouble);
        }
    }

    fn open(&self, state: &mut State, trouble: &RedisTrouble) {
        self.disconnect(state);
        if !std::mem::replace(&mut state.open, true) {
            let error = trouble as &dyn std::error::Error;
            tracing::warn!(server = %self.target, error, "redis is unusable; going on without it");
        }
    }

    fn disconnect(&self, state: &mut State) {
        state.connection = None;
        self.usable.send_replace(false);
    }

    /// Starts the background task unless it runs already or is not needed.
    pub(super) fn recover(self: &Arc<Self>) {
        let fruitless = {
            let mut state = self.state();
            if state.recovering || state.connection.is_some() {
                return;
            }
            state.recovering = true;
            state.fruitless
        };
        tokio::spawn(recover(Arc::downgrade(self), fruitless));
    }

    /// Takes in the outcome of an attempt to connect; says whether it worked.
    fn attempted(&self, attempt: Result<MultiplexedConnection, RedisTrouble>) -> bool {
        let mut state = self.state();
        match attempt {
            Ok(connection) => {
                state.generation += 1;
                state.connection = Some(Connected { connection, generation: state.generation });
                state.recovering = false;
                state.fruitless = state.fruitless.saturating_add(1);
                // Half open: the first failure opens the breaker again, the first success closes it.
                state.failures = state.failures.min(FAILURES_TO_OPEN - 1);
                if std::mem::take(&mut state.open) {
                    tracing::info!(server = %self.target, "redis is back");
                } else if state.generation == 1 {
                    tracing::info!(server = %self.target, "connected to redis");
                }
                self.usable.send_replace(true);
                true
            }
            Err(trouble) => {
                tracing::debug!(server = %self.target, error = &trouble as &dyn std::error::Error, "redis cannot be reached");
                self.open(&mut state, &trouble);
                false
            }
        }
    }
}

/// Tries to reach Redis until it answers or nobody wants it any more.
async fn recover(link: Weak<Link>, mut attempts: u32) {
    loop {
        sleep(pause_after(attempts)).await;
        let Some(strong) = link.upgrade() else { return };
        let attempt = timeout(CONNECT_LIMIT, strong.target.connect()).await.unwrap_or(Err(RedisTrouble::TimedOut));
        if strong.attempted(attempt) {
            return;
        }
        attempts = attempts.saturating_add(1);
    }
}

/// Whether another connection may fare better. A server that has become a replica, as it does after a failover, keeps its
/// connections; the name it was reached by may lead to the new primary.
fn spoils_the_connection(trouble: &RedisTrouble) -> bool {
    match trouble {
        RedisTrouble::Unreachable => false,
        RedisTrouble::TimedOut | RedisTrouble::NotWhatItShouldBe(_) => true,
        RedisTrouble::Failed(error) => match error.kind() {
            ErrorKind::Server(kind) => {
                matches!(kind, ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading)
            }
            ErrorKind::Extension => false,
            _ => true,
        },
    }
}

/// A node that says so is alive and well: the slot is on its way to another, or was there before we knew.
fn is_about_one_slot(trouble: &RedisTrouble) -> bool {
    matches!(trouble.server_error(), Some(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain))
}

/// Connects, and proves with a write, under the limits of a request, that the server is worth having: one that is full, loading,
/// hung or a read-only replica is not. The caller limits the whole.
pub(super) async fn connect(dial: &Dial, address: &Address, probe_key: &str) -> Result<MultiplexedConnection, RedisTrouble> {
    let mut connection = open(dial, address, Some(COMMAND_LIMIT)).await?;
    probe(&mut connection, probe_key).await?;
    Ok(connection)
}

/// Connects, to ask what takes as long as `response_limit`.
pub(super) async fn open(
    dial: &Dial,
    address: &Address,
    response_limit: Option<Duration>,
) -> Result<MultiplexedConnection, RedisTrouble> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(response_limit);
    let client = dial.client(address).map_err(RedisTrouble::Failed)?;
    let connecting =
        async move { client.get_multiplexed_async_connection_with_config(&config).await.map_err(RedisTrouble::Failed) };
    if dial.is_tls() { apart(connecting).await } else { connecting.await }
}

/// Does it on a thread where it holds nobody up: to make a TLS connection, the authorities of the system are read from their files
/// and parsed, every time, which takes longer than a command may.
async fn apart<T, F>(work: F) -> Result<T, RedisTrouble>
where
    T: Send + 'static,
    F: Future<Output = Result<T, RedisTrouble>> + Send + 'static,
{
    let runtime = Handle::current();
    // Dropped with this future, which ends the work when nobody waits for it any more.
    let (_wanted, unwanted) = oneshot::channel::<()>();
    let done = spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                done = work => done,
                _ = unwanted => Err(RedisTrouble::TimedOut),
            }
        })
    });
    done.await.unwrap_or(Err(RedisTrouble::TimedOut))
}

/// Writes, as a request would.
pub(super) async fn probe(connection: &mut MultiplexedConnection, key: &str) -> Result<(), RedisTrouble> {
    let mut probe = redis::cmd("SET");
    probe.arg(key).arg(1).arg("PX").arg(1_000);
    let written: Result<(), RedisError> =
        timeout(COMMAND_LIMIT, probe.query_async(connection)).await.map_err(|_| RedisTrouble::TimedOut)?;
    written.map_err(RedisTrouble::Failed)
}
