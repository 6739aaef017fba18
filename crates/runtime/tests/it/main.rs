//! The plumbing through real clients: on in-process channels, and on loopback where the network is the subject.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod access;
mod answers;
mod bounds;
mod certificates;
mod held;
mod lifecycle;
mod mutual_tls;
mod support;
mod tracing;
