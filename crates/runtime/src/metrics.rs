//! What `/metrics` shows.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::concurrency::ReachedLimits;

/// The metrics of one service.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
}

/// What a service has at hand whenever somebody asks.
pub(crate) struct Gauge {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) read: Read,
}

/// How a gauge is read.
pub(crate) enum Read {
    /// One number.
    One(Box<dyn Fn() -> i64 + Send + Sync>),
    /// A number for each value of a label that has one.
    ByLabel(&'static str, Box<dyn Fn() -> Vec<(&'static str, i64)> + Send + Sync>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

impl Metrics {
    pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub(crate) fn new(service: &'static str, gauges: Vec<Gauge>, reached: &ReachedLimits) -> Self {
        let mut registry = Registry::with_prefix("countersign");
        let build = Info::new(vec![("service", service), ("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", build);
        registry.register("up", "1 while the process serves", ConstGauge::new(1i64));
        for gauge in gauges {
            registry.register_collector(Box::new(gauge));
        }
        let requests = Family::default();
        registry.register("requests", "Requests answered, by route and status", requests.clone());
        registry.register("limit_reached", "Times that a limit on what peers can hold was reached, by limit", reached.counter());
        // 100 us to 6.5 s.
        let seconds: Family<RouteLabels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 2.0, 17)));
        registry.register("request_duration_seconds", "Time until the answer began, by route", seconds.clone());
        Self { registry, requests, seconds }
    }

    /// Counts an answer. `route` and `status` come from our own tables.
    pub(crate) fn answered(&self, route: &str, status: &str, after: Duration) {
        self.requests.get_or_create(&RequestLabels { route: route.to_owned(), status: status.to_owned() }).inc();
        self.seconds.get_or_create(&RouteLabels { route: route.to_owned() }).observe(after.as_secs_f64());
    }

    /// In the text format.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Collector for Gauge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?;
        match &self.read {
            Read::One(read) => ConstGauge::new(read()).encode(metric),
            Read::ByLabel(label, read) => read()
                .into_iter()
                .try_for_each(|(value, number)| ConstGauge::new(number).encode(metric.encode_family(&[(*label, value)])?)),
        }
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauge").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
