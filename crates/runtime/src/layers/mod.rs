//! What happens to every request, whatever it asks for. From the outside in: observe, catch panics, bound the time; for gRPC keep
//! to the closed list of refusals, authorise and bound the streams that clients keep open; wait for the body; shed load.

mod authorise;
mod body;
mod closed;
mod deadline;
mod held;
mod observe;
mod panic;
mod refuse;
mod shed;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::Semaphore;

use crate::auth::Authenticator;
use crate::concurrency::ReachedLimits;
use crate::metrics::Metrics;
use crate::server::Limits;

pub(crate) use held::is_held_stream;

/// Whom a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everybody.
    Public,
    /// The services of this deployment.
    Internal,
}

/// One router of gRPC and HTTP routes with every layer.
pub(crate) fn stack(
    grpc: Router,
    http: Router,
    audience: Audience,
    authenticator: &Arc<Authenticator>,
    metrics: &Arc<Metrics>,
    reached: &Arc<ReachedLimits>,
    limits: Limits,
) -> Router {
    let gate = authorise::Gate { audience, authenticator: Arc::clone(authenticator) };
    let observer = observe::Observer::new(audience, Arc::clone(metrics), limits.deadline);
    let places = Arc::new(Semaphore::new(limits.requests));
    let arrival = body::Arrival::new(limits, reached);
    let shed = from_fn_with_state(Arc::clone(&places), shed::shed);
    let arrive = from_fn_with_state(Arc::clone(&arrival), body::arrive);
    let grpc = grpc
        .layer(shed.clone())
        .layer(arrive.clone())
        .layer(from_fn_with_state(held::HeldStreams::new(limits, reached), held::hold))
        .layer(from_fn_with_state(gate, authorise::authorise))
        .layer(from_fn(closed::close));
    let http = http.layer(shed).layer(arrive);
    grpc.merge(http)
        .fallback(refuse::unknown_path)
        .layer(from_fn(deadline::bound))
        .layer(from_fn(panic::catch))
        .layer(from_fn_with_state(observer, observe::observe))
}
