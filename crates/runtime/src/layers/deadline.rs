//! Bounds the time until an answer begins: by what the caller would wait (`grpc-timeout`), and by our own limit.

use axum::body::Body;
use axum::middleware::Next;
use axum::response::Response;
use countersign_domain::values::reason::Reason;
use countersign_proto::status::Refusal;
use http::Request;

use super::refuse::Wire;
use crate::context::RequestContext;

/// The deadline was set by `observe`, which knows the limit.
pub(super) async fn bound(request: Request<Body>, next: Next) -> Response {
    let wire = Wire::of(request.headers());
    let Some(deadline) = request.extensions().get::<RequestContext>().map(|context| context.deadline) else {
        return wire.refuse(Refusal::internal());
    };
    match tokio::time::timeout_at(deadline, next.run(request)).await {
        Ok(response) => response,
        Err(_) => wire.refuse(Refusal::new(Reason::DeadlineExceeded, "the call did not finish in time")),
    }
}
