//! exchange-gateway: turns subject tokens of trusted issuers into access tokens of this deployment, over gRPC and HTTP.
//!
//! It holds no state but caches: policies come over a stream from trust-service, keys of other issuers from `discovery`,
//! signatures from issuer-service, and trust-service is the commit point without which no token leaves. It deliberately does not
//! know how trust is written or stored, how keys are fetched, or any private key.
//!
//! Start at [`start`], then `pipeline`, which is one exchange from end to end; the decision itself is
//! `countersign_domain::exchange::decision::decide`.

mod batch;
mod budget;
mod cause;
mod client;
mod documents;
mod explain;
#[cfg(test)]
mod fakes;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod grpc;
mod health_reports;
mod keys;
mod peers;
mod pipeline;
mod policies;
mod ports;
mod refusal_lines;
mod refusals;
mod request;
mod settings;
mod start;
#[cfg(test)]
mod surface_tests;
mod token_endpoint;

pub use keys::IssuerKeySets;
pub use settings::GatewaySettings;
pub use start::{Config, Deps, start};
