//! A panic in a handler costs one request (SECURITY 68).

use std::panic::AssertUnwindSafe;

use axum::body::Body;
use axum::middleware::Next;
use axum::response::Response;
use countersign_proto::status::Refusal;
use futures::FutureExt as _;
use http::Request;

use super::refuse::Wire;

pub(super) async fn catch(request: Request<Body>, next: Next) -> Response {
    let wire = Wire::of(request.headers());
    // The request is gone afterwards, and what handlers share is behind locks that a panic poisons or that recover.
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        // The panic hook logged where; the payload may hold anything, so it is not repeated.
        Err(_) => {
            tracing::error!("a handler panicked");
            wire.refuse(Refusal::internal())
        }
    }
}
