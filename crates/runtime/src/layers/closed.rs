//! Lets no gRPC status out but refusals of the closed list (SECURITY 63).
//!
//! Services refuse by `Refusal`. What else ends a call comes from tonic itself, before a handler is reached, or is a slip of a
//! handler; neither's text is for the caller.

use axum::body::Body;
use axum::middleware::Next;
use axum::response::Response;
use countersign_domain::values::reason::Reason;
use countersign_proto::status::Refusal;
use http::Request;
use tonic::{Code, Status};

use super::refuse::Wire;

/// How tonic's messages begin when a request is not the message that the method takes: its protobuf, its frame, its compression.
/// tonic calls all of them internal errors (of a compressed frame without an encoding, gRPC's own specification does), which here
/// are faults of the service alone: no caller can make one.
const UNDECODABLE: [&str; 4] = ["failed to decode Protobuf message", "Unexpected EOF", "protocol error", "Error decompressing"];

pub(super) async fn close(request: Request<Body>, next: Next) -> Response {
    let response = next.run(request).await;
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok && status.details().is_empty() => replace(&status).unwrap_or(response),
        _ => response,
    }
}

fn replace(status: &Status) -> Option<Response> {
    let refusal = match status.code() {
        // The protocol's own answer to a method or a compression that does not exist here.
        Code::Unimplemented => return None,
        Code::Internal if UNDECODABLE.iter().any(|begin| status.message().starts_with(begin)) => {
            Refusal::new(Reason::InvalidRequest, "the message is not what the method takes")
        }
        // Before and after decompression.
        Code::OutOfRange | Code::ResourceExhausted => Refusal::new(Reason::InvalidRequest, "the message is too long"),
        _ => {
            tracing::debug!(code = ?status.code(), cause = status.message(), "a status outside the closed list");
            Refusal::from_status(status)
        }
    };
    Some(Wire::Grpc.refuse(refusal))
}
