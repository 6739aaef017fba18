//! Waits for the body of a request before anything is held for it (SECURITY 65, 66, 85).
//!
//! What a handler gets has arrived as a whole, so a peer that sends slowly or not at all holds no place among the requests in
//! progress. gRPC messages are bounded here as they are on the wire, and again by tonic after decompression.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use countersign_domain::access::permission::Access;
use countersign_domain::values::reason::Reason;
use countersign_proto::access::access_of;
use countersign_proto::status::Refusal;
use futures::FutureExt as _;
use http::{Request, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::held;
use super::refuse::Wire;
use crate::concurrency::{ConcurrencyLimit, Counted, Permit, ReachedLimits};
use crate::connection::PublicConnection;
use crate::server::Limits;

/// The largest body of a request that needs no credentials, and of every HTTP request.
const ANONYMOUS_BYTES: usize = 64 * 1024;

/// The largest body of a gRPC request of an authenticated caller: tonic's bound on the message, and its frame's head.
const AUTHENTICATED_BYTES: usize = 4 * 1024 * 1024 + FRAME_HEAD;

/// Bodies larger than `ANONYMOUS_BYTES` that are in memory at a time.
const LARGE_BODIES: usize = 16;

/// A gRPC frame begins with a flag and the length of the message.
const FRAME_HEAD: usize = 5;

/// What bounds the arrival of bodies on one listener.
pub(super) struct Arrival {
    limits: Limits,
    waiting: Arc<ConcurrencyLimit>,
    large: Arc<Semaphore>,
    reached: Arc<ReachedLimits>,
}

impl Arrival {
    pub(super) fn new(limits: Limits, reached: &Arc<ReachedLimits>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            waiting: ConcurrencyLimit::new("waiting_bodies", limits.waiting_bodies, reached),
            large: Arc::new(Semaphore::new(LARGE_BODIES)),
            reached: Arc::clone(reached),
        })
    }
}

/// Why a body did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotArrived {
    /// It is longer than the limit in bytes.
    TooLong(usize),
    /// It began too late or came too slowly.
    TooSlow,
    /// It made room for that of another request.
    Evicted,
    /// Too many of this connection have not arrived.
    TooManyOfConnection,
    /// Too many large ones are in memory.
    TooManyLarge,
    /// The connection broke, or the peer gave up.
    Broken,
    /// It is not one gRPC frame.
    NotOneFrame,
}

impl NotArrived {
    fn response(self, wire: Wire) -> Response {
        let (refusal, status) = match self {
            Self::TooLong(most) => {
                let message = format!("the body is larger than {} KiB", most / 1024);
                (Refusal::new(Reason::InvalidRequest, message), Some(StatusCode::PAYLOAD_TOO_LARGE))
            }
            Self::TooSlow => {
                let message = "the body did not arrive in time; send it right after the head of the request";
                (Refusal::new(Reason::DeadlineExceeded, message), Some(StatusCode::REQUEST_TIMEOUT))
            }
            Self::Evicted | Self::TooManyOfConnection | Self::TooManyLarge => {
                let message = "too many requests without their body; try again";
                (Refusal::unavailable(message).with_nothing_committed(), None)
            }
            Self::Broken => (Refusal::new(Reason::InvalidRequest, "the body broke off"), None),
            Self::NotOneFrame => (Refusal::new(Reason::InvalidRequest, "the body is not one complete gRPC message"), None),
        };
        let mut response = wire.refuse(refusal);
        // Says more than the reason's own status, and is what proxies know.
        if let (Wire::Http, Some(status)) = (wire, status) {
            *response.status_mut() = status;
        }
        response
    }
}

/// Hands a request on when its body has arrived.
pub(super) async fn arrive(State(arrival): State<Arc<Arrival>>, request: Request<Body>, next: Next) -> Response {
    let wire = Wire::of(request.headers());
    let path = request.uri().path();
    // A body that ends when the client likes: what it can hold meanwhile is bounded in `held`. Services of this deployment, whose
    // streams are such bodies too, are not bounded.
    let connection = request.extensions().get::<Arc<PublicConnection>>().filter(|_| !held::has_request_stream(path));
    let Some(connection) = connection.cloned() else { return next.run(request).await };
    let most = match wire {
        Wire::Grpc if !matches!(access_of(path), None | Some(Access::Public)) => AUTHENTICATED_BYTES,
        Wire::Grpc | Wire::Http => ANONYMOUS_BYTES,
    };
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return NotArrived::TooLong(most).response(wire);
    }
    if wire == Wire::Http && request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let place = Place { arrival: &arrival, connection: &connection, headers: &parts.headers };
    let arrived = place.collect(body, most).await.and_then(|arrived| match wire {
        Wire::Grpc if !is_one_frame(&arrived.bytes) => Err(NotArrived::NotOneFrame),
        Wire::Grpc | Wire::Http => Ok(arrived),
    });
    match arrived {
        Ok(Arrived { bytes, large }) => {
            let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
            drop(large);
            response
        }
        Err(not_arrived) => not_arrived.response(wire),
    }
}

/// A body that has arrived, and its entry among the large ones.
struct Arrived {
    bytes: Bytes,
    large: Option<tokio::sync::OwnedSemaphorePermit>,
}

/// What a request is waited for on behalf of.
struct Place<'a> {
    arrival: &'a Arrival,
    connection: &'a PublicConnection,
    headers: &'a http::HeaderMap,
}

/// A request whose body is waited for.
struct Waiting {
    evicted: CancellationToken,
    _permit: Permit,
    _of_connection: Counted,
}

impl Place<'_> {
    async fn collect(&self, mut body: Body, most: usize) -> Result<Arrived, NotArrived> {
        let begun = Instant::now();
        let mut waiting = None;
        let mut large = None;
        let (mut first, mut more) = (Bytes::new(), BytesMut::new());
        loop {
            let frame = if let Some(frame) = body.frame().now_or_never() {
                frame
            } else {
                let waiting = match &waiting {
                    Some(waiting) => waiting,
                    None => waiting.insert(self.wait()?),
                };
                let due = self.due(begun, first.len() + more.len());
                tokio::select! {
                    frame = body.frame() => frame,
                    () = waiting.evicted.cancelled() => return Err(NotArrived::Evicted),
                    () = tokio::time::sleep_until(due) => return Err(NotArrived::TooSlow),
                }
            };
            let data = match frame {
                None => break,
                Some(Err(_)) => return Err(NotArrived::Broken),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            let length = first.len() + more.len() + data.len();
            if length > most {
                return Err(NotArrived::TooLong(most));
            }
            if length > ANONYMOUS_BYTES && large.is_none() {
                let permit = Arc::clone(&self.arrival.large).try_acquire_owned();
                large = Some(permit.map_err(|_| NotArrived::TooManyLarge)?);
            }
            if first.is_empty() {
                first = data;
            } else {
                more.extend_from_slice(&data);
            }
        }
        let bytes = if more.is_empty() { first } else { [&first[..], &more[..]].concat().into() };
        Ok(Arrived { bytes, large })
    }

    /// When the next bytes are due: the first within a moment, the others so that a minimum rate is kept.
    fn due(&self, begun: Instant, received: usize) -> Instant {
        let Limits { body_start, body_rate, .. } = self.arrival.limits;
        let received = u64::try_from(received).unwrap_or(u64::MAX);
        begun + body_start + Duration::from_millis(received.saturating_mul(1000) / body_rate.max(1))
    }

    fn wait(&self) -> Result<Waiting, NotArrived> {
        let evicted = CancellationToken::new();
        let connection = self.connection;
        let peer = connection.peer_of(self.headers);
        let most = self.arrival.limits.waiting_bodies_per_connection;
        let Some(of_connection) = Counted::below(&connection.waiting_bodies, most) else {
            self.arrival.reached.note("waiting_bodies_per_connection", peer);
            return Err(NotArrived::TooManyOfConnection);
        };
        let permit = self.arrival.waiting.enter(peer, evicted.clone());
        Ok(Waiting { evicted, _permit: permit, _of_connection: of_connection })
    }
}

/// Whether bytes are the frame of one message, as every method takes that is not a stream.
fn is_one_frame(bytes: &[u8]) -> bool {
    let Some(([_, length @ ..], message)) = bytes.split_first_chunk::<FRAME_HEAD>() else { return false };
    usize::try_from(u32::from_be_bytes(*length)).is_ok_and(|length| length == message.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_complete_frame_or_refused() {
        for frame in [&[0, 0, 0, 0, 0][..], &[0, 0, 0, 0, 2, 8, 1], &[1, 0, 0, 0, 1, 0]] {
            assert!(is_one_frame(frame), "{frame:?}");
        }
        for broken in
            [&[][..], &[0], &[0, 0, 0, 0], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 2, 8], &[0, 0, 0, 0, 0, 0], &[0, 255, 255, 255, 255]]
        {
            assert!(!is_one_frame(broken), "{broken:?}");
        }
    }
}
