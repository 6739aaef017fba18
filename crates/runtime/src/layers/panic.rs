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
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    // The hook has logged where it happened.
    answered.unwrap_or_else(|_| wire.refuse(Refusal::internal()))
}
