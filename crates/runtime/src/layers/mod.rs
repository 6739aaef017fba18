//! What happens to every request, whatever it asks for. From the outside in: observe, catch panics, shed load, bound the time;
//! for gRPC keep to the closed list of refusals and authorise, for HTTP bound the body.

mod authorise;
mod body;
mod closed;
mod deadline;
mod observe;
mod panic;
mod refuse;
mod shed;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::Semaphore;

use crate::auth::Authenticator;
use crate::metrics::Metrics;
use crate::server::Limits;

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
    limits: Limits,
) -> Router {
    let gate = authorise::Gate { audience, authenticator: Arc::clone(authenticator) };
    let observer = observe::Observer::new(audience, Arc::clone(metrics), limits.deadline);
    let grpc = grpc.layer(from_fn_with_state(gate, authorise::authorise)).layer(from_fn(closed::close));
    let http = http.layer(from_fn(body::bound));
    grpc.merge(http)
        .fallback(refuse::unknown_path)
        .layer(from_fn(deadline::bound))
        .layer(from_fn_with_state(Arc::new(Semaphore::new(limits.requests)), shed::shed))
        .layer(from_fn(panic::catch))
        .layer(from_fn_with_state(observer, observe::observe))
}
