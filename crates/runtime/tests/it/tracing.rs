//! Traces cross from service to service, and strangers cannot join them.

use opentelemetry::trace::TraceContextExt as _;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::support::{Service, ask, text};

#[tokio::test]
async fn calls_carry_the_w3c_trace_context() {
    let service = Service::start();
    let span = tracing::info_span!("exchange");
    let trace_id = span.context().span().span_context().trace_id().to_string();
    let header = text(ask(service.internal(), "header").instrument(span.clone()).await.unwrap());
    assert!(header.starts_with(&format!("00-{trace_id}-")), "{header} is not of {trace_id}");

    let seen = text(ask(service.internal(), "trace id").instrument(span.clone()).await.unwrap());
    assert_eq!(seen, trace_id, "the handler's span belongs to the caller's trace");
    let foreign = text(ask(service.public(), "trace id").instrument(span).await.unwrap());
    assert_ne!(foreign, trace_id, "nobody outside joins a trace");
}
