//! Refuses at once what cannot be served soon, so that a queue never grows.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use countersign_proto::status::Refusal;
use http::Request;
use tokio::sync::Semaphore;

use super::refuse::Wire;

/// A place is held until the answer begins, so that streams which live on take none.
pub(super) async fn shed(State(places): State<Arc<Semaphore>>, request: Request<Body>, next: Next) -> Response {
    let Ok(_place) = places.try_acquire() else {
        let refusal = Refusal::unavailable("the service is overloaded; try again").with_nothing_committed();
        return Wire::of(request.headers()).refuse(refusal);
    };
    next.run(request).await
}
