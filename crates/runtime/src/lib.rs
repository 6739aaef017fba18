//! The plumbing of a process, once for all services: listeners and connections, mutual TLS, who calls and with what permission,
//! request ids, traces, deadlines, load shedding, health, reflection, configuration, shutdown.
//!
//! It deliberately knows nothing of federation: no store, no token rules beyond authenticating a caller, no service. It is the
//! only crate that reads the environment, the system's clock and its randomness.
//!
//! Start at [`server`], which shows a whole service being put together; then [`auth`] for callers, [`client`] for calls to other
//! services, [`config`] for settings and [`process`] for `main`.

pub mod ambient;
pub mod auth;
pub mod client;
pub mod command_line;
pub mod concurrency;
pub mod config;
mod connection;
pub mod context;
pub mod disclosure;
pub mod health;
mod layers;
pub mod log_budget;
mod metrics;
mod open_files;
pub mod outage;
pub mod page_request;
pub mod page_token;
mod peer;
pub mod process;
mod reflection;
pub mod refusal;
pub mod secret;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod text;
pub mod tls;
pub mod transport;
