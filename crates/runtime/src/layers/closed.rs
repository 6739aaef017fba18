//! Lets no gRPC status out but refusals of the closed list (SECURITY 63).
//!
//! Services refuse by `Refusal`. What else ends a call comes from tonic itself, before a handler is reached, or is a slip of a
//! handler; neither's text is for the caller.

use axum::body::Body;
use axum::middleware::Next;
use axum::response::Response;
use countersign_domain::reason::Reason;
use countersign_proto::status::Refusal;
use http::Request;
use tonic::{Code, Status};

use super::refuse::Wire;

/// How tonic's message begins when a request is not the protobuf message that the method takes.
const UNDECODABLE: &str = "failed to decode Protobuf message";

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
        Code::Internal if status.message().starts_with(UNDECODABLE) => {
            Refusal::new(Reason::InvalidRequest, "the message is not what the method takes")
        }
        Code::OutOfRange => Refusal::new(Reason::InvalidRequest, "the message is too long"),
        _ => {
            tracing::debug!(code = ?status.code(), cause = status.message(), "a status outside the closed list");
            Refusal::from_status(status)
        }
    };
    Some(Wire::Grpc.refuse(refusal))
}
