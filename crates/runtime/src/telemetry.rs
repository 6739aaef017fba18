//! Logs to standard error, and traces over OTLP when an endpoint is configured.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Json, JsonFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::config::{LogFormat, Telemetry};

/// Flushes what is not exported yet when dropped: hold it to the end of `main`.
#[derive(Debug)]
#[must_use = "telemetry is flushed when this is dropped"]
pub struct TelemetryGuard {
    traces: Option<SdkTracerProvider>,
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(traces) = self.traces.take()
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "some traces were not exported");
        }
    }
}

/// Starts logging and tracing for the whole process. Must be called once, within a tokio runtime.
pub fn init(service: &'static str, settings: &Telemetry) -> anyhow::Result<TelemetryGuard> {
    let Telemetry { log_format, log_filter, otlp_endpoint } = settings;
    let filter = EnvFilter::try_new(log_filter).context("telemetry.log_filter")?;
    let log = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let log = match log_format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => json(log).boxed(),
    };
    let traces = otlp_endpoint.as_ref().map(|endpoint| traces(service, endpoint)).transpose()?;
    let otlp = traces.as_ref().map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer(service)));
    tracing_subscriber::registry().with(filter).with(otlp).with(log).try_init().context("telemetry was started before")?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(TelemetryGuard { traces })
}

/// One object a line, the event's fields at its top. The spans around the event are under `spans`, outermost first, and there
/// alone: the innermost would be repeated under `span`.
fn json<S, W>(log: fmt::Layer<S, DefaultFields, Format, W>) -> fmt::Layer<S, JsonFields, Format<Json>, W> {
    log.json().flatten_event(true).with_current_span(false)
}

/// Logs where a panic happened, and its message when that is a literal: one made of values may hold anything.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("<redacted>");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, message, "panic");
}

fn traces(service: &'static str, endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .context("telemetry.otlp_endpoint")?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build())
}

/// Puts the current span's W3C trace context into the headers of a call.
pub(crate) fn inject(headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Headers(headers));
}

/// Makes a span the child of the one in a peer's headers.
pub(crate) fn continue_trace(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&Received(headers));
    // Fails only where no traces are collected.
    let _ = span.set_parent(parent);
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

struct Received<'a>(&'a HeaderMap);

impl Extractor for Received<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Writer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_of_json_names_the_request_once() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        let log = json(fmt::layer().with_writer(move || Writer(Arc::clone(&writer))));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), || {
            tracing::info_span!("request", request.id = "r-1").in_scope(|| tracing::info!(issuer.id = "i-1", "issued"));
        });
        let line: serde_json::Value = serde_json::from_slice(&lines.lock().unwrap()).unwrap();
        assert_eq!(line["spans"], serde_json::json!([{ "name": "request", "request.id": "r-1" }]));
        assert_eq!((&line["message"], &line["issuer.id"]), (&"issued".into(), &"i-1".into()));
        assert_eq!(line.to_string().matches("r-1").count(), 1, "{line}");
    }
}
