//! Whether a service is alive and ready, for orchestrators (`/livez`, `/readyz`) and gRPC clients (`grpc.health.v1`).

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use countersign_domain::values::reason::Reason;
use countersign_proto::status::Refusal;
use futures::stream::{self, Stream, StreamExt as _};
use http::{StatusCode, header};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::server::NamedService as _;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::connection::Connections;
use crate::layers::Audience;
use crate::metrics::Metrics;
use crate::server::{Limits, Surface};
use crate::shutdown::Shutdown;
use crate::transport::Listener;

/// Whether a service is ready: when every condition is met and it is not draining.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    conditions: BTreeMap<&'static str, bool>,
    draining: bool,
}

impl State {
    fn is_ready(&self) -> bool {
        !self.draining && self.conditions.values().all(|met| *met)
    }
}

impl Readiness {
    /// Ready, as nothing is asked for yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Asks for one more condition, not met yet. The name is shown by `/readyz`.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.0.send_modify(|state| {
            state.conditions.insert(name, false);
        });
        Condition { name, readiness: self.clone() }
    }

    /// Whether every condition is met.
    pub fn is_ready(&self) -> bool {
        self.0.borrow().is_ready()
    }

    /// Waits until every condition is met.
    pub async fn ready(&self) {
        // The sender is in `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(State::is_ready).await;
    }

    pub(crate) fn drain(&self) {
        self.0.send_modify(|state| state.draining = true);
    }

    /// What keeps the service from being ready.
    fn obstacles(&self) -> Vec<&'static str> {
        let state = self.0.borrow();
        let unmet = state.conditions.iter().filter(|(_, met)| !**met).map(|(name, _)| *name);
        unmet.chain(state.draining.then_some("draining")).collect()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// One condition of being ready.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Condition {
    /// Says whether it is met.
    pub fn set(&self, met: bool) {
        self.readiness.0.send_if_modified(|state| state.conditions.insert(self.name, met) != Some(met));
    }
}

/// Adds `grpc.health.v1` to a surface: one status for all of its services, and for the whole under the empty name.
pub(crate) fn add_to(surface: Surface, readiness: &Readiness) -> Surface {
    let names = surface.services().chain([HealthServer::<HealthService>::NAME, ""]).collect();
    surface.grpc(HealthServer::new(HealthService { names, readiness: readiness.clone() }))
}

/// `grpc.health.v1`. It answers from the readiness itself, so no task has to carry changes over.
struct HealthService {
    names: BTreeSet<&'static str>,
    readiness: Readiness,
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn status_of(state: &State) -> ServingStatus {
    if state.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !self.names.contains(request.get_ref().service.as_str()) {
            return Err(Refusal::new(Reason::ResourceNotFound, "the service is not served here").into());
        }
        Ok(Response::new(response(status_of(&self.readiness.0.borrow()))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// The status now and at each change. A service that is not served here can still be registered by a later version of the
    /// process, in the protocol's view: it is reported as unknown, and the stream stays open.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        if !self.names.contains(request.get_ref().service.as_str()) {
            let unknown = stream::once(async { Ok(response(ServingStatus::ServiceUnknown)) }).chain(stream::pending());
            return Ok(Response::new(unknown.boxed()));
        }
        let states = WatchStream::new(self.readiness.0.subscribe());
        let mut last = None;
        let changes = states.filter_map(move |state| {
            let serving = status_of(&state);
            let changed = last.replace(serving) != Some(serving);
            std::future::ready(changed.then(|| Ok(response(serving))))
        });
        Ok(Response::new(changes.boxed()))
    }
}

/// The private port.
pub(crate) fn private_routes(readiness: &Readiness, metrics: &Arc<Metrics>) -> Router {
    let metrics = Arc::clone(metrics);
    let metrics = get(move || async move { ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], metrics.render()) });
    probes(readiness).route("/metrics", metrics)
}

/// What an orchestrator asks.
fn probes(readiness: &Readiness) -> Router {
    let readiness = readiness.clone();
    let readyz = get(move || async move {
        let obstacles = readiness.obstacles();
        if obstacles.is_empty() {
            (StatusCode::OK, "ready\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", obstacles.join(", ")))
        }
    });
    Router::new().route("/livez", get(async || "alive\n")).route("/readyz", readyz)
}

/// Does something, while the port answers that the process is alive and what it waits for. The port is closed again at the end.
pub(crate) async fn answer_while<T>(port: Listener, obstacle: &'static str, work: impl Future<Output = T>) -> T {
    let readiness = Readiness::new();
    let _unmet = readiness.condition(obstacle);
    let (connections, over) = (Connections::new(Limits::default(), &Arc::default()), Shutdown::new());
    connections.serve(port, probes(&readiness), Audience::Public, &Arc::default(), &over);
    let result = work.await;
    over.trigger();
    connections.finish(Duration::ZERO).await;
    result
}
