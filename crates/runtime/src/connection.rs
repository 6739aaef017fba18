//! Accepts connections and speaks HTTP/1.1 and HTTP/2 on each, within bounds (SECURITY 66, 67).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::layers::Audience;
use crate::server::Limits;
use crate::shutdown::Shutdown;
use crate::tls;
use crate::transport::{Listener, PeerIdentity};

/// How long to wait before accepting again when the process is out of file descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// The connections of some listeners.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: Limits,
    tasks: TaskTracker,
    cut: CancellationToken,
}

/// What a connection needs to know of its listener.
#[derive(Clone)]
struct Endpoint {
    router: Router,
    protocol: auto::Builder<TokioExecutor>,
    header_timeout: Duration,
    idle_timeout: Option<Duration>,
    draining: Shutdown,
    cut: CancellationToken,
}

impl Connections {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, tasks: TaskTracker::new(), cut: CancellationToken::new() }
    }

    /// Serves a listener until `draining`.
    pub(crate) fn serve(&self, listener: Listener, router: Router, audience: Audience, draining: &Shutdown) {
        let limits = self.limits;
        let endpoint = Endpoint {
            router,
            protocol: protocol(&limits),
            header_timeout: limits.header_timeout,
            idle_timeout: (audience == Audience::Public).then_some(limits.idle_timeout),
            draining: draining.clone(),
            cut: self.cut.clone(),
        };
        let tasks = self.tasks.clone();
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            let accept = accept(listener, &endpoint, limits.connections, &tasks);
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

async fn accept(listener: Listener, endpoint: &Endpoint, most: usize, tasks: &TaskTracker) {
    let places = Arc::new(Semaphore::new(most));
    match listener {
        Listener::InProcess(mut listener) => {
            while let Some(stream) = listener.accept().await {
                tasks.spawn(endpoint.clone().serve(stream, PeerIdentity::InProcess));
            }
            // Every connector is gone; what remains is to wait for the end.
            std::future::pending::<()>().await;
        }
        Listener::Tcp(listener) => loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = accept_tcp(&listener).await;
            let endpoint = endpoint.clone();
            tasks.spawn(async move {
                endpoint.serve(stream, PeerIdentity::Anonymous).await;
                drop(place);
            });
        },
        Listener::Tls { listener, identity, allowed_peers } => {
            identity.keep_fresh();
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let stream = accept_tcp(&listener).await;
                // Made anew each time, so that the next connection sees new certificates; internal connections are few and long.
                let config = match identity.server_config(&allowed_peers) {
                    Ok(config) => config,
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                        continue;
                    }
                };
                let (endpoint, allowed_peers) = (endpoint.clone(), Arc::clone(&allowed_peers));
                tasks.spawn(async move {
                    let handshake = TlsAcceptor::from(config).accept(stream);
                    let stream = tokio::select! {
                        result = tokio::time::timeout(endpoint.header_timeout, handshake) => result,
                        () = endpoint.draining.requested() => return,
                    };
                    let stream = match stream {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(error)) => {
                            tracing::warn!(%error, "an internal connection was refused");
                            return;
                        }
                        Err(_) => return,
                    };
                    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                    // The handshake let nobody else through; asked again rather than trusted.
                    let Some(name) = certificate.and_then(|leaf| tls::allowed_name(leaf, &allowed_peers)) else { return };
                    endpoint.serve(stream, PeerIdentity::Service(name)).await;
                    drop(place);
                });
            }
        }
    }
}

async fn accept_tcp(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers must not wait for a full packet; a socket that refuses still works.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl Endpoint {
    async fn serve<S>(self, stream: S, peer: PeerIdentity)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity::new());
        let service = {
            let activity = Arc::clone(&activity);
            let router = self.router.clone();
            hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
                let in_progress = InProgress::begin(&activity);
                request.extensions_mut().insert(peer.clone());
                let router = router.clone();
                async move {
                    let response = router.oneshot(request.map(axum::body::Body::new)).await?;
                    Ok::<_, Infallible>(response.map(|body| Tracked { body, _in_progress: in_progress }))
                }
            })
        };
        let connection = self.protocol.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let silence = activity.silence(self.header_timeout, self.idle_timeout);
        tokio::pin!(silence);
        let mut closing = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(error, "a connection broke");
                    }
                    return;
                }
                never_spoke = silence.as_mut(), if !closing => {
                    if never_spoke {
                        return;
                    }
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.draining.requested(), if !closing => {
                    closing = true;
                    if activity.never_spoke() {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                }
                () = self.cut.cancelled() => return,
            }
        }
    }
}

/// What happened on a connection so far.
struct Activity {
    begun: Instant,
    requests: AtomicU64,
    in_progress: AtomicUsize,
    /// Milliseconds after `begun` at which the last request ended.
    last_end: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { begun: Instant::now(), requests: AtomicU64::new(0), in_progress: AtomicUsize::new(0), last_end: AtomicU64::new(0) }
    }

    fn never_spoke(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// Ends when the connection has sent no complete request head in time (`true`), which covers the bytes before the protocol
    /// is known, or later when it has been idle for too long (`false`).
    async fn silence(&self, first: Duration, idle: Option<Duration>) -> bool {
        tokio::time::sleep_until(self.begun + first).await;
        if self.never_spoke() {
            return true;
        }
        let Some(idle) = idle else { return std::future::pending().await };
        loop {
            let quiet_since = if self.in_progress.load(Ordering::Acquire) == 0 {
                self.begun + Duration::from_millis(self.last_end.load(Ordering::Acquire))
            } else {
                Instant::now()
            };
            if quiet_since + idle <= Instant::now() {
                return false;
            }
            tokio::time::sleep_until(quiet_since + idle).await;
        }
    }
}

/// A request in progress, until the last byte of its answer.
struct InProgress(Arc<Activity>);

impl InProgress {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        activity.in_progress.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(activity))
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let millis = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_end.store(millis, Ordering::Release);
        self.0.in_progress.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The body of an answer, which keeps its request in progress.
struct Tracked {
    body: axum::body::Body,
    _in_progress: InProgress,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
