//! Bounds the streams that a client keeps open for as long as it likes: reflection and `Health/Watch` (SECURITY 85).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use countersign_domain::values::reason::Reason;
use countersign_proto::status::Refusal;
use futures::future::{BoxFuture, FutureExt as _};
use http::{HeaderMap, Request};
use http_body::Frame;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::refuse::Wire;
use crate::concurrency::{ConcurrencyLimit, Counted, Permit, ReachedLimits};
use crate::connection::PublicConnection;
use crate::server::Limits;

/// Whether the client decides how long a method's answer takes.
pub(crate) fn is_held_stream(path: &str) -> bool {
    path == "/grpc.health.v1.Health/Watch" || has_request_stream(path)
}

/// Whether the client sends a stream of messages, so that its body ends when it likes.
pub(super) fn has_request_stream(path: &str) -> bool {
    matches!(
        path,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
}

/// What bounds held streams on one listener.
pub(super) struct HeldStreams {
    per_connection: usize,
    limit: Arc<ConcurrencyLimit>,
    reached: Arc<ReachedLimits>,
}

impl HeldStreams {
    pub(super) fn new(limits: Limits, reached: &Arc<ReachedLimits>) -> Arc<Self> {
        Arc::new(Self {
            per_connection: limits.held_streams_per_connection,
            limit: ConcurrencyLimit::new("held_streams", limits.held_streams, reached),
            reached: Arc::clone(reached),
        })
    }
}

pub(super) async fn hold(State(held): State<Arc<HeldStreams>>, request: Request<Body>, next: Next) -> Response {
    let connection = request.extensions().get::<Arc<PublicConnection>>().filter(|_| is_held_stream(request.uri().path()));
    let Some(connection) = connection.cloned() else { return next.run(request).await };
    let peer = connection.peer_of(request.headers());
    let Some(of_connection) = Counted::below(&connection.held_streams, held.per_connection) else {
        held.reached.note("held_streams_per_connection", peer);
        let message = format!("at most {} reflection and health streams are open on one connection", held.per_connection);
        return Wire::Grpc.refuse(Refusal::new(Reason::RateLimited, message));
    };
    let evicted = CancellationToken::new();
    let permit = held.limit.enter(peer, evicted.clone());
    let closing = connection.closing.clone();
    let end = async move {
        tokio::select! {
            () = evicted.cancelled() => "the stream made room for another; open it again when it is needed",
            () = closing.cancelled() => "the connection closes; open the stream again on another",
        }
    };
    next.run(request)
        .await
        .map(|body| Body::new(Held { body: Some(body), end: end.boxed(), _permit: permit, _of_connection: of_connection }))
}

/// The answer of a held stream, which ends with a status when it has to.
struct Held {
    /// `None` once it has ended.
    body: Option<Body>,
    end: BoxFuture<'static, &'static str>,
    _permit: Permit,
    _of_connection: Counted,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let Poll::Ready(why) = self.end.poll_unpin(cx) else { return Poll::Pending };
        self.body = None;
        let mut trailers = HeaderMap::new();
        // A refusal's status always fits into headers.
        let _ = Status::from(Refusal::unavailable(why)).add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}
