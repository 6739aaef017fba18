//! Serves a service: its public, internal and private listeners.
//!
//! ```no_run
//! # use countersign_runtime::auth::Authenticator;
//! # use countersign_runtime::health::Readiness;
//! # use countersign_runtime::server::{Running, Server, Surface};
//! # use countersign_runtime::shutdown::Shutdown;
//! # use countersign_runtime::transport::Listeners;
//! # use countersign_proto::issuer_v1::key_set_service_server::{KeySetService, KeySetServiceServer};
//! # use countersign_proto::issuer_v1::access_token_service_server::{AccessTokenService, AccessTokenServiceServer};
//! # async fn refresh_keys() {}
//! fn start(
//!     keys: impl KeySetService,
//!     access_tokens: impl AccessTokenService,
//!     authenticator: Authenticator,
//!     listeners: Listeners,
//!     shutdown: Shutdown,
//! ) -> anyhow::Result<Running> {
//!     let readiness = Readiness::new();
//!     let database = readiness.condition("database"); // not met until `database.set(true)`
//!     let http = axum::Router::new().route("/.well-known/jwks.json", axum::routing::get(async || "{}"));
//!     Server::new("issuer-service")
//!         .authenticator(authenticator)
//!         .readiness(readiness)
//!         .public(Surface::new().grpc(KeySetServiceServer::new(keys)).http(http))
//!         .internal(Surface::new().grpc(AccessTokenServiceServer::new(access_tokens)))
//!         .task("refresh keys", refresh_keys())
//!         .start(listeners, shutdown)
//! }
//! ```
//!
//! Health is added to every public surface, and reflection unless the listener's [`Admission`] says otherwise. The layers, from the
//! outside in: request id, span and metrics; panic catcher; deadline; for gRPC authentication and authorisation by
//! `countersign_proto::access`; arrival of the body; load shedding. A method that is internal does not exist on a public surface,
//! wherever it was added. HTTP routes are public: adding one is a decision.
//!
//! A handler finds in the request's extensions: [`crate::context::RequestContext`] (request id, deadline),
//! [`PeerIdentity`](crate::transport::PeerIdentity), and `Arc<Caller>` by way of [`crate::auth::caller`]. Its body has arrived. Bodies
//! of HTTP requests and of gRPC methods that need no credentials are at most 64 KiB; other gRPC messages 4 MiB, on the wire and
//! (tonic's `max_decoding_message_size`) after decompression. A gRPC status that is no `Refusal` loses its text on the way out.
//!
//! A stream that lives on selects on [`Shutdown::requested`] and ends, or every drain takes the whole grace period. Where several
//! services share a process, stop the ones that call before the ones that are called.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::task::{JoinHandle, JoinSet};
use tonic::server::NamedService;
use tower::ServiceExt as _;

use crate::auth::Authenticator;
use crate::concurrency::{ReachedLimits, Share};
use crate::connection::Connections;
use crate::health::{self, Readiness};
use crate::layers::{self, Audience};
use crate::metrics::{Gauge, Metrics, Read};
use crate::peer::Proxies;
use crate::reflection;
use crate::shutdown::Shutdown;
use crate::transport::{Admission, Listener, Listeners};

/// Bounds on what peers can make a service do. Those on what they can hold are for public listeners; services of the deployment
/// have none but `connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until a request's head must have arrived, from the connection's start or from the answer before it.
    pub header_timeout: Duration,
    /// The longest a request may take until its answer begins, however long the caller would wait.
    pub deadline: Duration,
    /// Until a public connection without requests is closed.
    pub idle_timeout: Duration,
    /// The same for one that has reflection or health streams open, which do not keep it.
    pub held_stream_idle_timeout: Duration,
    /// Requests in progress on one HTTP/2 connection.
    pub streams: u32,
    /// Connections to one listener; beyond, the one that was of no use for the longest makes room.
    pub connections: Share,
    /// Requests in progress on one listener, from the arrival of their body; beyond, they are refused at once.
    pub requests: usize,
    /// Requests whose body has not arrived; beyond, the oldest is refused.
    pub waiting_bodies: Share,
    /// The same of one connection; beyond, the newest is refused.
    pub waiting_bodies_per_connection: usize,
    /// Until a body must begin.
    pub body_start: Duration,
    /// Bytes a second that a body must keep, counted from `body_start`.
    pub body_rate: u64,
    /// Answers of which the peer has not read the last byte; beyond, the connection that waits for the longest is cut.
    pub unread_responses: Share,
    /// Until a peer must have read 16 KiB of an answer, or its connection is cut.
    pub write_stall: Duration,
    /// Open reflection and health streams; beyond, the oldest ends.
    pub held_streams: Share,
    /// The same of one connection; beyond, the newest is refused.
    pub held_streams_per_connection: usize,
    /// How long a drain waits for what is in flight.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            held_stream_idle_timeout: Duration::from_mins(5),
            streams: 100,
            connections: Share { total: 4096, per_peer: 1024 },
            requests: 1024,
            waiting_bodies: Share { total: 4096, per_peer: 1024 },
            // As many as there are streams: a client that sends heads and bodies apart is honest.
            waiting_bodies_per_connection: 100,
            body_start: Duration::from_secs(2),
            body_rate: 4096,
            unread_responses: Share { total: 4096, per_peer: 1024 },
            write_stall: Duration::from_secs(8),
            held_streams: Share { total: 512, per_peer: 64 },
            held_streams_per_connection: 8,
            grace: Duration::from_secs(10),
        }
    }
}

/// What one listener serves.
#[derive(Default)]
pub struct Surface {
    grpc: Router,
    http: Router,
    services: BTreeSet<&'static str>,
}

impl Surface {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a generated gRPC server.
    #[must_use]
    pub fn grpc<S>(mut self, service: S) -> Self
    where
        S: tower::Service<http::Request<tonic::body::Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.services.insert(S::NAME);
        self.grpc = self.grpc.route_service(
            &format!("/{}/{{*method}}", S::NAME),
            service.map_request(|request: http::Request<axum::body::Body>| request.map(tonic::body::Body::new)),
        );
        self
    }

    /// The names of the gRPC services so far.
    pub(crate) fn services(&self) -> impl Iterator<Item = &'static str> {
        self.services.iter().copied()
    }

    /// Adds HTTP routes. They are open to everybody.
    #[must_use]
    pub fn http(mut self, routes: Router) -> Self {
        self.http = self.http.merge(routes);
        self
    }
}

impl fmt::Debug for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surface").field("services", &self.services).finish_non_exhaustive()
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A service being put together.
pub struct Server {
    name: &'static str,
    authenticator: Authenticator,
    readiness: Readiness,
    public: Surface,
    internal: Surface,
    limits: Limits,
    tasks: Vec<(&'static str, Task)>,
    gauges: Vec<Gauge>,
}

impl Server {
    /// A service with nothing to serve and nobody let in.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            authenticator: Authenticator::new(),
            readiness: Readiness::new(),
            public: Surface::new(),
            internal: Surface::new(),
            limits: Limits::default(),
            tasks: Vec::new(),
            gauges: Vec::new(),
        }
    }

    /// Who authenticates callers.
    #[must_use]
    pub fn authenticator(mut self, authenticator: Authenticator) -> Self {
        self.authenticator = authenticator;
        self
    }

    /// What health and `/readyz` report.
    #[must_use]
    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// What everybody reaches.
    #[must_use]
    pub fn public(mut self, surface: Surface) -> Self {
        self.public = surface;
        self
    }

    /// What other services reach.
    #[must_use]
    pub fn internal(mut self, surface: Surface) -> Self {
        self.internal = surface;
        self
    }

    /// Other limits than the usual.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// A number that `/metrics` shows, below `countersign_`, read whenever it is asked for.
    #[must_use]
    pub fn gauge(mut self, name: &'static str, help: &'static str, read: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.gauges.push(Gauge { name, help, read: Read::One(Box::new(read)) });
        self
    }

    /// Like [`gauge`](Self::gauge), with a number for each value of a label. The values are from a closed list of ours, as each
    /// makes a time series of its own; one that has no number is left out.
    #[must_use]
    pub fn gauge_by(
        mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, i64)> + Send + Sync + 'static,
    ) -> Self {
        self.gauges.push(Gauge { name, help, read: Read::ByLabel(label, Box::new(read)) });
        self
    }

    /// Work in the background for as long as requests are served, the drain included; it is dropped after. Should it end
    /// before, the service stops: it cannot do without.
    #[must_use]
    pub fn task(mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Self {
        self.tasks.push((name, Box::pin(work)));
        self
    }

    /// Serves until the signal is given. Must be called within a tokio runtime.
    pub fn start(self, listeners: Listeners, shutdown: Shutdown) -> anyhow::Result<Running> {
        let Self { name, authenticator, readiness, public, internal, limits, tasks, gauges } = self;
        let Listeners { public: public_listener, internal: internal_listener, private: private_listener, admission } = listeners;
        let addresses = Addresses {
            public: public_listener.local_address(),
            internal: internal_listener.as_ref().and_then(Listener::local_address),
            private: private_listener.as_ref().and_then(Listener::local_address),
        };
        anyhow::ensure!(
            !matches!(internal_listener, Some(Listener::Tcp(_))),
            "an internal listener needs mutual TLS or must be in process"
        );
        let authenticator = Arc::new(authenticator);
        let reached = Arc::new(ReachedLimits::default());
        let metrics = Arc::new(Metrics::new(name, gauges, &reached));
        let draining = Shutdown::new();
        let Admission { reflection, proxies, connections } = admission;
        let limits = Limits { connections: connections.unwrap_or(limits.connections), ..limits };
        let proxies = Arc::new(Proxies::new(proxies));

        let mut public = health::add_to(public, &readiness);
        if reflection {
            public = reflection::add_to(public).context("cannot describe the services")?;
        }
        let serving = Connections::new(limits, &reached);
        serving.serve(
            public_listener,
            layers::stack(public.grpc, public.http, Audience::Public, &authenticator, &metrics, &reached, limits),
            Audience::Public,
            &proxies,
            &draining,
        );
        if let Some(listener) = internal_listener {
            let router =
                layers::stack(internal.grpc, internal.http, Audience::Internal, &authenticator, &metrics, &reached, limits);
            serving.serve(listener, router, Audience::Internal, &Arc::default(), &draining);
        }
        // Answers to the last: an orchestrator sees the drain.
        let private = Connections::new(limits, &reached);
        if let Some(listener) = private_listener {
            let routes = health::private_routes(&readiness, &metrics);
            private.serve(listener, routes, Audience::Public, &Arc::default(), &Shutdown::new());
        }

        tracing::info!(
            service = name,
            public = addresses.public.map(tracing::field::display),
            internal = addresses.internal.map(tracing::field::display),
            private = addresses.private.map(tracing::field::display),
            "serving"
        );
        let mut background = Background::spawn(tasks);
        let stopped = tokio::spawn(async move {
            let ended = tokio::select! {
                () = shutdown.requested() => None,
                task = background.first_to_end() => Some(task),
            };
            readiness.drain();
            draining.trigger();
            let connections_cut = serving.finish(limits.grace).await;
            private.finish(Duration::ZERO).await;
            drop(background);
            tracing::info!(service = name, connections_cut, "stopped");
            match ended {
                Some(task) => Err(anyhow::anyhow!("{name} cannot go on: its task `{task}` ended")),
                None => Ok(()),
            }
        });
        Ok(Running { addresses, stopped })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("public", &self.public)
            .field("internal", &self.internal)
            .finish_non_exhaustive()
    }
}

/// Where a service can be reached; `None` for a listener that is in process or absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The public listener.
    pub public: Option<SocketAddr>,
    /// The internal listener.
    pub internal: Option<SocketAddr>,
    /// The private listener.
    pub private: Option<SocketAddr>,
}

/// A service that serves until its shutdown signal is given. Dropping this leaves it serving.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
    stopped: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Where it can be reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Waits until the service was told to stop and has drained.
    ///
    /// # Errors
    /// It stopped by itself, because a background task ended.
    pub async fn wait(self) -> anyhow::Result<()> {
        self.stopped.await.context("serving panicked")?
    }
}

/// Tasks that the service cannot do without. Dropping them ends them.
struct Background {
    tasks: JoinSet<()>,
    names: HashMap<tokio::task::Id, &'static str>,
}

impl Background {
    fn spawn(work: Vec<(&'static str, Task)>) -> Self {
        let mut tasks = JoinSet::new();
        let names = work.into_iter().map(|(name, work)| (tasks.spawn(work).id(), name)).collect();
        Self { tasks, names }
    }

    /// The name of the first task that ends or panics; never, when there are none.
    async fn first_to_end(&mut self) -> &'static str {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => std::future::pending().await,
        };
        self.names.get(&id).copied().unwrap_or_default()
    }
}
