//! trust-service through real clients on in-process channels.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod audit;
mod callers;
mod commits;
mod issuer_keys;
mod linting;
mod past;
mod policies;
mod reachable_scopes;
mod relationships;
mod resources;
mod support;
mod workspace_states;
