//! One shared connection to Redis that can never hold a request up.
//!
//! Redis makes things fast here and decides nothing, so every use of it must cost nothing when it is gone. A command takes at
//! most [`COMMAND_LIMIT`] in all, waiting for a connection included. After [`FAILURES_TO_OPEN`] failures in a row the breaker
//! opens: commands fail at once, and one task in the background tries, with a real write, whether Redis is back. A command that
//! timed out abandons its connection, so that its late answer dies with it and can never be taken for another command's.
//! Nothing is ever sent twice.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisError,
    ServerErrorKind,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The longest that one command may take, waiting for a connection included (SECURITY 51).
pub const COMMAND_LIMIT: Duration = Duration::from_millis(50);
/// How many commands fail in a row before the breaker opens.
pub const FAILURES_TO_OPEN: u32 = 3;
/// How long the background task gives one attempt to connect. Requests do not wait for it beyond [`COMMAND_LIMIT`].
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// The first pause between two attempts to reach Redis; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Recovery within five seconds of a fault is wanted, so pauses stay well below that.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Where the write goes that tells whether Redis is usable.
const PROBE_KEY: &str = "countersign:probe";

/// Why a text is not the address of a Redis server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRedisUrl {
    /// Neither `redis://` nor `rediss://`.
    #[error("must begin with redis:// or rediss://")]
    Scheme,
    /// A fragment; `#insecure` would turn the verification of certificates off.
    #[error("must not hold a fragment")]
    Fragment,
    /// Not a URL of a Redis server.
    #[error("must be redis[s]://[user:password@]host[:port][/database]")]
    Malformed,
}

/// The address of a Redis server, credentials included, so it is masked in `Debug` and has no `Display`.
#[derive(Clone)]
pub struct RedisUrl(redis::ConnectionInfo);

impl std::str::FromStr for RedisUrl {
    type Err = InvalidRedisUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRedisUrl> {
        if !text.starts_with("redis://") && !text.starts_with("rediss://") {
            return Err(InvalidRedisUrl::Scheme);
        }
        if text.contains('#') {
            return Err(InvalidRedisUrl::Fragment);
        }
        let info = text.into_connection_info().map_err(|_| InvalidRedisUrl::Malformed)?;
        match info.addr() {
            ConnectionAddr::Tcp(..) | ConnectionAddr::TcpTls { insecure: false, .. } => Ok(Self(info)),
            _ => Err(InvalidRedisUrl::Malformed),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", self.0.addr())
    }
}

/// Redis did not do what it was asked, or nobody knows whether it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedisTrouble {
    /// The breaker is open.
    #[error("redis is unreachable")]
    Unreachable,
    /// No answer in time.
    #[error("redis did not answer in time")]
    TimedOut,
    /// The connection broke, or Redis refused (OOM, READONLY, LOADING, …).
    #[error("redis failed")]
    Failed(#[source] RedisError),
}

impl RedisTrouble {
    /// Whether another connection may fare better. A server that has become a replica, as it does after a failover, keeps its
    /// connections; the name it was reached by may lead to the new primary.
    fn spoils_the_connection(&self) -> bool {
        match self {
            Self::Unreachable => false,
            Self::TimedOut => true,
            Self::Failed(error) => match error.kind() {
                ErrorKind::Server(kind) => {
                    matches!(kind, ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading)
                }
                ErrorKind::Extension => false,
                _ => true,
            },
        }
    }
}

/// A connection to Redis, shared by everything in the process that uses it. Cloning shares it.
#[derive(Clone)]
pub struct RedisLink(Arc<Link>);

struct Link {
    client: Client,
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

impl RedisLink {
    /// A link to that server. Connects when first used; a server that is not there is no error.
    pub fn new(url: RedisUrl) -> Result<Self, InvalidRedisUrl> {
        let client = Client::open(url.0).map_err(|_| InvalidRedisUrl::Malformed)?;
        let link = Link { client, state: Mutex::default(), usable: watch::Sender::new(false) };
        Ok(Self(Arc::new(link)))
    }

    /// Whether commands are tried at the moment. For health reports; the answer may be outdated when it arrives.
    pub fn is_available(&self) -> bool {
        !self.0.state().open
    }

    /// Waits until there is a working connection.
    pub(crate) async fn available(&self) {
        let mut usable = self.0.usable.subscribe();
        self.0.recover();
        // The sender lives as long as `self`, so this ends only with `true`.
        let _ = usable.wait_for(|usable| *usable).await;
    }

    /// Sends one command, once.
    pub(crate) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisTrouble> {
        let deadline = Instant::now() + COMMAND_LIMIT;
        let Some(mut connected) = self.connected(deadline).await else {
            return Err(RedisTrouble::Unreachable);
        };
        let trouble = match timeout_at(deadline, command.query_async(&mut connected.connection)).await {
            Ok(Ok(value)) => {
                self.0.succeeded();
                return Ok(value);
            }
            Ok(Err(error)) => RedisTrouble::Failed(error),
            Err(_) => RedisTrouble::TimedOut,
        };
        self.0.failed(connected.generation, &trouble);
        Err(trouble)
    }

    /// The connection, waiting for one until the deadline, but not at all while the breaker is open.
    async fn connected(&self, deadline: Instant) -> Option<Connected> {
        let mut usable = self.0.usable.subscribe();
        loop {
            {
                let state = self.0.state();
                if state.open {
                    return None;
                }
                if let Some(connected) = &state.connection {
                    return Some(connected.clone());
                }
            }
            self.0.recover();
            if timeout_at(deadline, usable.changed()).await.is_err() {
                self.0.waited_in_vain();
                return None;
            }
        }
    }
}

impl Link {
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
        tracing::debug!(error = trouble as &dyn std::error::Error, "a redis command failed");
        {
            let mut state = self.state();
            if state.generation != generation {
                // A newer connection has been made since; what happened to the old one says nothing about it.
                return;
            }
            if trouble.spoils_the_connection() {
                self.disconnect(&mut state);
            }
            self.count_failure(&mut state);
        }
        self.recover();
    }

    fn waited_in_vain(&self) {
        let mut state = self.state();
        // A connection that came too late for this command is good for the next.
        if state.connection.is_none() {
            self.count_failure(&mut state);
        }
    }

    fn count_failure(&self, state: &mut State) {
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_TO_OPEN {
            self.open(state);
        }
    }

    fn open(&self, state: &mut State) {
        self.disconnect(state);
        if !std::mem::replace(&mut state.open, true) {
            tracing::warn!("redis is unusable; going on without it");
        }
    }

    fn disconnect(&self, state: &mut State) {
        state.connection = None;
        self.usable.send_replace(false);
    }

    /// Starts the background task unless it runs already or is not needed.
    fn recover(self: &Arc<Self>) {
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
                    tracing::info!("redis is back");
                }
                self.usable.send_replace(true);
                true
            }
            Err(trouble) => {
                tracing::debug!(error = &trouble as &dyn std::error::Error, "redis cannot be reached");
                self.open(&mut state);
                false
            }
        }
    }
}

/// Tries to reach Redis until it answers or nobody wants it any more.
async fn recover(link: Weak<Link>, mut attempts: u32) {
    loop {
        sleep(pause_after(attempts)).await;
        let Some(client) = link.upgrade().map(|link| link.client.clone()) else { return };
        let attempt = connect(&client).await;
        let Some(link) = link.upgrade() else { return };
        if link.attempted(attempt) {
            return;
        }
        attempts = attempts.saturating_add(1);
    }
}

/// How long to wait before the next attempt, after so many that came to nothing.
fn pause_after(attempts: u32) -> Duration {
    match attempts {
        0 => Duration::ZERO,
        _ => FIRST_PAUSE.saturating_mul(1 << (attempts - 1).min(10)).min(LONGEST_PAUSE),
    }
}

/// Connects, and proves with a write, under the limits of a request, that the server is worth having: one that is full, loading,
/// hung or a read-only replica is not.
async fn connect(client: &Client) -> Result<MultiplexedConnection, RedisTrouble> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(Some(COMMAND_LIMIT));
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection =
        timeout(CONNECT_LIMIT, connecting).await.map_err(|_| RedisTrouble::TimedOut)?.map_err(RedisTrouble::Failed)?;
    let mut probe = redis::cmd("SET");
    probe.arg(PROBE_KEY).arg(1).arg("PX").arg(1_000);
    let written: Result<(), RedisError> =
        timeout(COMMAND_LIMIT, probe.query_async(&mut connection)).await.map_err(|_| RedisTrouble::TimedOut)?;
    written.map_err(RedisTrouble::Failed)?;
    Ok(connection)
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.0.client.get_connection_info();
        f.debug_struct("RedisLink").field("address", &info.addr().to_string()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Result<(), InvalidRedisUrl>) {
        assert_eq!(url.parse::<RedisUrl>().map(|_| ()), expected, "{url}");
    }

    #[test]
    fn addresses_are_plain_or_tls() {
        check("redis://localhost", Ok(()));
        check("redis://:password@10.0.0.1:6380/2", Ok(()));
        check("rediss://user:password@redis.example.com:6380", Ok(()));
        check("redis+unix:///run/redis.sock", Err(InvalidRedisUrl::Scheme));
        check("http://localhost", Err(InvalidRedisUrl::Scheme));
        check("redis://", Err(InvalidRedisUrl::Malformed));
        check("redis://localhost/not-a-number", Err(InvalidRedisUrl::Malformed));
    }

    #[test]
    fn s47_certificate_verification_cannot_be_turned_off() {
        check("rediss://redis.example.com#insecure", Err(InvalidRedisUrl::Fragment));
        check("rediss://redis.example.com/#insecure", Err(InvalidRedisUrl::Fragment));
    }

    #[test]
    fn s61_the_password_is_not_printed() {
        let url: RedisUrl = "redis://user:hunter2@localhost".parse().unwrap();
        let printed = format!("{url:?} {:?}", RedisLink::new(url.clone()).unwrap());
        assert!(printed.contains("localhost") && !printed.contains("hunter2"), "{printed}");
    }
}
