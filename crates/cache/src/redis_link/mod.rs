//! The link to Redis, which can never hold a request up.
//!
//! Redis makes things fast here and decides nothing, so every use of it must cost nothing when it is gone. A command takes at
//! most [`COMMAND_LIMIT`] in all, waiting for a connection included. After [`FAILURES_TO_OPEN`] failures in a row the breaker
//! opens: commands fail at once, and one task in the background tries, with a real write, whether Redis is back. A command that
//! timed out abandons its connection, so that its late answer dies with it and can never be taken for another command's.
//!
//! Nothing is ever sent twice, not even to follow a cluster's redirection. A claim whose first try was made and whose answer was
//! lost would find itself, and be taken for a duplicate. So a command that was sent to the wrong node comes to nothing, as if
//! Redis were down for that moment, and the next one knows better. That is why the clients for Sentinel and Cluster that the
//! `redis` crate has are not used: they retry, and wait for longer than a command may take.
//!
//! What a [`RedisUrl`] may name differs in how the server for a command is found: one server (the private module `link`), the
//! primary that sentinels name (`sentinel`), the node of a cluster that has the key's slot (`cluster`). In a cluster each node has a breaker
//! of its own, so that one dead shard costs the others nothing.

mod cluster;
mod link;
mod sentinel;
mod slots;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::time::Instant;

use self::cluster::Cluster;
use self::link::{Link, Target};
use self::sentinel::Sentinels;
use self::url::Shape;
pub use self::url::{InvalidRedisUrl, RedisUrl};

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
/// Of several that could answer, each is asked so much later than the one before it, and the first good answer counts.
const STAGGER: Duration = Duration::from_millis(50);

/// Redis did not do what it was asked, or nobody knows whether it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedisTrouble {
    /// The breaker is open.
    #[error("redis is unreachable")]
    Unreachable,
    /// No answer in time.
    #[error("redis did not answer in time")]
    TimedOut,
    /// Whoever was asked is not what the address says.
    #[error("{0}")]
    NotWhatItShouldBe(&'static str),
    /// The connection broke, or Redis refused (OOM, READONLY, LOADING, …).
    #[error("redis failed")]
    Failed(#[source] RedisError),
}

impl RedisTrouble {
    fn server_error(&self) -> Option<ServerErrorKind> {
        match self {
            Self::Failed(error) => match error.kind() {
                ErrorKind::Server(kind) => Some(kind),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A link to Redis, shared by everything in the process that uses it. Cloning shares it.
#[derive(Clone)]
pub struct RedisLink {
    route: Route,
    url: RedisUrl,
}

#[derive(Clone)]
enum Route {
    /// Every key is in one place.
    One(Arc<Link>),
    /// Each key has its node.
    Cluster(Arc<Cluster>),
}

impl RedisLink {
    /// A link to the Redis at that address. Connects when first used; a Redis that is not there is no error.
    pub fn new(url: RedisUrl) -> Result<Self, InvalidRedisUrl> {
        let RedisUrl { shape, hosts, servers } = url.clone();
        let route = match shape {
            Shape::Server => {
                let server = hosts.into_iter().next().ok_or(InvalidRedisUrl::Host)?;
                Route::One(Link::new(Target::server(server, servers)))
            }
            Shape::Sentinel { service, sentinels } => {
                let sentinels = Sentinels { addresses: hosts, dial: sentinels, service, servers };
                Route::One(Link::new(Target::Sentinel(sentinels)))
            }
            Shape::Cluster => Route::Cluster(Cluster::new(hosts, servers)),
        };
        Ok(Self { route, url })
    }

    /// Begins to connect, without waiting for it. What comes of it is logged, once. Must be called within a tokio runtime.
    pub fn connect(&self) {
        match &self.route {
            Route::One(link) => link.recover(),
            Route::Cluster(cluster) => cluster.follow(),
        }
    }

    /// Whether there is a working connection, to every node of a cluster. The answer may be outdated when it arrives.
    pub fn is_connected(&self) -> bool {
        match &self.route {
            Route::One(link) => link.is_connected(),
            Route::Cluster(cluster) => cluster.is_connected(),
        }
    }

    /// Waits until there is a working connection to where that key is.
    pub(crate) async fn available(&self, key: &str) {
        match &self.route {
            Route::One(link) => link.available().await,
            Route::Cluster(cluster) => cluster.available(key).await,
        }
    }

    /// Sends one command, once, to where its key is.
    pub(crate) async fn run<T: FromRedisValue>(&self, key: &str, command: &Cmd) -> Result<T, RedisTrouble> {
        let deadline = Instant::now() + COMMAND_LIMIT;
        match &self.route {
            Route::One(link) => link.run(command, deadline).await,
            Route::Cluster(cluster) => cluster.run(key, command, deadline).await,
        }
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("url", &self.url).finish_non_exhaustive()
    }
}

/// How long to wait before the next attempt, after so many that came to nothing.
fn pause_after(attempts: u32) -> Duration {
    match attempts {
        0 => Duration::ZERO,
        _ => FIRST_PAUSE.saturating_mul(1 << (attempts - 1).min(10)).min(LONGEST_PAUSE),
    }
}
