//! Whether a service is alive and ready, for orchestrators (`/livez`, `/readyz`) and gRPC clients (`grpc.health.v1`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use futures::FutureExt as _;
use http::{StatusCode, header};
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

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
    let (reporter, service) = tonic_health::server::health_reporter();
    let names: Vec<&'static str> = surface.services().chain([""]).collect();
    let mut states = readiness.0.subscribe();
    // Before anybody can ask; nobody else holds the reporter's lock yet, so this does not wait.
    let _ = report(&mut states, &reporter, &names).now_or_never();
    tokio::spawn(async move {
        while states.changed().await.is_ok() {
            report(&mut states, &reporter, &names).await;
        }
    });
    surface.grpc(service)
}

async fn report(states: &mut watch::Receiver<State>, reporter: &HealthReporter, names: &[&'static str]) {
    let ready = states.borrow_and_update().is_ready();
    let serving = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in names {
        reporter.set_service_status(name, serving).await;
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
    let (connections, over) = (Connections::new(Limits::default()), Shutdown::new());
    connections.serve(port, probes(&readiness), Audience::Public, &over);
    let result = work.await;
    over.trigger();
    connections.finish(Duration::ZERO).await;
    result
}
