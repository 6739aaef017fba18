//! Gives every request its id, deadline, span and place in the metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::middleware::Next;
use axum::response::Response;
use countersign_proto::access;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Audience;
use super::refuse::Wire;
use crate::ambient::SystemEntropy;
use crate::context::{self, RequestContext, RequestId};
use crate::metrics::Metrics;
use crate::telemetry;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[derive(Clone)]
pub(super) struct Observer {
    audience: Audience,
    metrics: Arc<Metrics>,
    longest: Duration,
}

impl Observer {
    pub(super) fn new(audience: Audience, metrics: Arc<Metrics>, longest: Duration) -> Self {
        Self { audience, metrics, longest }
    }

    /// Nobody outside chooses an id or joins a trace (SECURITY 70); the services of this deployment do both.
    fn request_id(&self, headers: &HeaderMap) -> RequestId {
        let given = match self.audience {
            Audience::Public => None,
            Audience::Internal => headers.get(REQUEST_ID).and_then(|value| RequestId::from_peer(value.to_str().ok()?)),
        };
        given.unwrap_or_else(|| RequestId::generate(&SystemEntropy))
    }
}

pub(super) async fn observe(State(observer): State<Observer>, mut request: Request<Body>, next: Next) -> Response {
    let begun = Instant::now();
    let headers = request.headers();
    let wire = Wire::of(headers);
    let request_id = observer.request_id(headers);
    let patience = grpc_timeout(headers).map_or(observer.longest, |timeout| timeout.min(observer.longest));
    // Only names from our own tables reach logs and metrics, never the path a stranger wrote (SECURITY 16).
    let route = route(&request);
    let span = tracing::info_span!("request", request.id = %request_id, route = %route, status = tracing::field::Empty);
    if observer.audience == Audience::Internal {
        telemetry::continue_trace(&span, headers);
    }
    let context = RequestContext { request_id, deadline: begun + patience };
    request.extensions_mut().insert(context.clone());
    let id = HeaderValue::from_str(context.request_id.as_str());
    let mut response = context::scope(context, next.run(request)).instrument(span.clone()).await;
    if let Ok(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = outcome(wire, &response);
    span.record("status", &*status);
    let elapsed = begun.elapsed();
    observer.metrics.answered(&route, &status, elapsed);
    span.in_scope(|| tracing::debug!(milliseconds = elapsed.as_millis(), "answered"));
    response
}

fn route(request: &Request<Body>) -> Arc<str> {
    if let Some(method) = access::name_of(request.uri().path()) {
        return method.into();
    }
    match request.extensions().get::<MatchedPath>() {
        Some(path) if !path.as_str().contains("{*method}") => path.as_str().into(),
        _ => "unknown".into(),
    }
}

/// The status of an answer as far as it is known when it begins: a gRPC stream may still fail.
fn outcome(wire: Wire, response: &Response) -> Box<str> {
    match wire {
        Wire::Http => response.status().as_str().into(),
        Wire::Grpc => match response.headers().get("grpc-status") {
            None => "Ok".into(),
            Some(code) => format!("{:?}", tonic::Code::from_bytes(code.as_bytes())).into(),
        },
    }
}

/// The header of the gRPC protocol: at most eight digits and a unit.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_hours(amount)),
        "M" => Some(Duration::from_mins(amount)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_follow_the_protocol() {
        let check = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            grpc_timeout(&headers)
        };
        assert_eq!(check("1S"), Some(Duration::from_secs(1)));
        assert_eq!(check("250m"), Some(Duration::from_millis(250)));
        assert_eq!(check("99999999H"), Some(Duration::from_hours(99_999_999)));
        for wrong in ["", "S", "1", "-1S", "+1S", "100000000S", "1s", "1 S", "1.5S"] {
            assert_eq!(check(wrong), None, "{wrong}");
        }
    }
}
