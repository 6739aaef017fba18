//! Serves connections: HTTP/1.1 and HTTP/2 on each, within bounds (SECURITY 66, 67, 85).

mod accept;
mod activity;
mod response;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use http::HeaderMap;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use self::activity::{Activity, IdleTimeouts, InProgress, Silence};
use self::response::{Outbound, Outbox, UnreadResponses};
use crate::concurrency::{ConcurrencyLimit, Permit, ReachedLimits};
use crate::layers::{self, Audience};
use crate::peer::{Peer, Proxies};
use crate::server::Limits;
use crate::shutdown::Shutdown;
use crate::transport::{Listener, PeerIdentity};

/// How long requests in progress can take to finish on a connection that makes room for another.
const EVICTION_GRACE: Duration = Duration::from_secs(2);

/// How often a busy connection says that it is of use.
const TOUCH_INTERVAL: Duration = Duration::from_secs(1);

/// The connections of some listeners.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: Limits,
    reached: Arc<ReachedLimits>,
    tasks: TaskTracker,
    cut: CancellationToken,
}

/// What a connection needs to know of its listener.
#[derive(Clone)]
struct Endpoint {
    router: Router,
    protocol: auto::Builder<TokioExecutor>,
    limits: Limits,
    audience: Audience,
    proxies: Arc<Proxies>,
    connections: Arc<ConcurrencyLimit>,
    unread_responses: Arc<UnreadResponses>,
    draining: Shutdown,
    cut: CancellationToken,
}

/// A connection of a public listener, in the extensions of its requests: what they count against.
#[derive(Debug)]
pub(crate) struct PublicConnection {
    peer: Option<Peer>,
    proxies: Arc<Proxies>,
    /// Streams that the client keeps open.
    pub(crate) held_streams: Arc<AtomicUsize>,
    /// Requests whose body has not arrived.
    pub(crate) waiting_bodies: Arc<AtomicUsize>,
    /// Cancelled when the connection closes: its held streams end.
    pub(crate) closing: CancellationToken,
    permit: Arc<Permit>,
    /// Milliseconds after `begun` at which the connection last said that it is of use.
    touched: AtomicU64,
    begun: Instant,
}

impl PublicConnection {
    /// The peer whose limits a request counts against: the client that a configured proxy names, else the connection's own.
    pub(crate) fn peer_of(&self, headers: &HeaderMap) -> Option<Peer> {
        self.peer.or_else(|| self.proxies.client(headers))
    }

    fn touch(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.touched.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= u64::try_from(TOUCH_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        if due {
            self.touched.store(now.max(1), Ordering::Relaxed);
            self.permit.touch();
        }
    }
}

impl Connections {
    pub(crate) fn new(limits: Limits, reached: &Arc<ReachedLimits>) -> Self {
        Self { limits, reached: Arc::clone(reached), tasks: TaskTracker::new(), cut: CancellationToken::new() }
    }

    /// Serves a listener until `draining`.
    pub(crate) fn serve(
        &self,
        listener: Listener,
        router: Router,
        audience: Audience,
        proxies: &Arc<Proxies>,
        draining: &Shutdown,
    ) {
        let limits = self.limits;
        let endpoint = Endpoint {
            router,
            protocol: protocol(&limits),
            limits,
            audience,
            proxies: Arc::clone(proxies),
            connections: ConcurrencyLimit::new("connections", limits.connections, &self.reached),
            unread_responses: UnreadResponses::new(limits.unread_responses, &self.reached),
            draining: draining.clone(),
            cut: self.cut.clone(),
        };
        let tasks = self.tasks.clone();
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            let accept = accept::accept(listener, &endpoint, &tasks);
            tokio::select! {
                () = accept => {}
                () = endpoint.draining.requested() => {}
                () = cut.cancelled() => {}
            }
        });
    }

    /// Waits until every connection is closed, for as long as the grace period, then cuts the rest. The signal to drain must
    /// have been given. Returns how many were cut.
    pub(crate) async fn finish(self, grace: Duration) -> usize {
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        let cut = self.tasks.len();
        self.cut.cancel();
        self.tasks.wait().await;
        cut
    }
}

/// The bounds on both protocols. hyper's own defaults bound rapid resets, CONTINUATION, PING and SETTINGS floods (h2 0.4.16).
fn protocol(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(64)
        .max_buf_size(32 * 1024)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(32 * 1024)
        .max_frame_size(16 * 1024)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024)
        // Together no longer than a silent HTTP/1 connection is kept.
        .keep_alive_interval(limits.header_timeout / 2)
        .keep_alive_timeout(limits.header_timeout / 2);
    builder
}

/// A connection that was accepted, and its entry among all of the listener.
struct Accepted {
    peer: Option<Peer>,
    permit: Permit,
    /// Cancelled to make room for another connection.
    evicted: CancellationToken,
}

impl Endpoint {
    fn admit(&self, address: Option<IpAddr>) -> Accepted {
        let peer = address.map_or(Some(Peer::InProcess), |address| self.proxies.peer(address));
        let evicted = CancellationToken::new();
        Accepted { peer, permit: self.connections.enter(peer, evicted.clone()), evicted }
    }

    async fn serve<S>(self, stream: S, identity: PeerIdentity, accepted: Accepted)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Accepted { peer, permit, evicted } = accepted;
        let is_public = self.audience == Audience::Public;
        let (activity, closing, cut) = (Arc::new(Activity::new()), CancellationToken::new(), CancellationToken::new());
        let outbox = is_public.then(|| self.unread_responses.of_connection(peer, cut.clone()));
        let permit = Arc::new(permit);
        let public = is_public.then(|| {
            Arc::new(PublicConnection {
                peer,
                proxies: Arc::clone(&self.proxies),
                held_streams: Arc::default(),
                waiting_bodies: Arc::default(),
                closing: closing.clone(),
                permit: Arc::clone(&permit),
                touched: AtomicU64::new(0),
                begun: Instant::now(),
            })
        });
        let service = service(&self.router, &activity, identity, public, outbox.clone());
        let connection = self.protocol.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let idle = is_public
            .then_some(IdleTimeouts { quiet: self.limits.idle_timeout, with_held_streams: self.limits.held_stream_idle_timeout });
        let silence = activity.silence(self.limits.header_timeout, idle);
        tokio::pin!(silence);
        let stalled = async {
            match &outbox {
                Some(outbox) => outbox.stalled(self.limits.write_stall).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(stalled);
        // When the connection is cut, once it has begun to close.
        let mut end: Option<Instant> = None;
        let mut is_closing = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(error, "a connection broke");
                    }
                    return;
                }
                silence = silence.as_mut(), if !is_closing => {
                    if silence == Silence::NeverSpoke {
                        return;
                    }
                    is_closing = true;
                    end = Some(Instant::now() + self.limits.header_timeout);
                }
                () = self.draining.requested(), if !is_closing => {
                    is_closing = true;
                    if activity.never_spoke() {
                        return;
                    }
                }
                () = evicted.cancelled(), if end.is_none() => {
                    is_closing = true;
                    end = Some(Instant::now() + EVICTION_GRACE);
                    if activity.never_spoke() {
                        return;
                    }
                }
                () = sleep_until(end) => return,
                () = stalled.as_mut() => return,
                () = cut.cancelled() => return,
                () = self.cut.cancelled() => return,
            }
            if is_closing && !closing.is_cancelled() {
                closing.cancel();
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What answers the requests of one connection.
fn service(
    router: &Router,
    activity: &Arc<Activity>,
    identity: PeerIdentity,
    public: Option<Arc<PublicConnection>>,
    outbox: Option<Arc<Outbox>>,
) -> impl hyper::service::Service<
    http::Request<Incoming>,
    Response = http::Response<Outbound>,
    Error = Infallible,
    Future: Send + 'static,
> + use<> {
    let (router, activity) = (router.clone(), Arc::clone(activity));
    hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        let held = layers::is_held_stream(request.uri().path());
        let in_progress = InProgress::begin(&activity, held);
        request.extensions_mut().insert(identity.clone());
        if let Some(public) = &public {
            request.extensions_mut().insert(Arc::clone(public));
        }
        let (router, public, outbox) = (router.clone(), public.clone(), outbox.clone());
        async move {
            let response = router.oneshot(request.map(axum::body::Body::new)).await?;
            if let Some(public) = public.filter(|_| !held) {
                public.touch();
            }
            Ok::<_, Infallible>(response.map(|body| Outbound::new(body, outbox.as_ref(), in_progress)))
        }
    })
}

async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
