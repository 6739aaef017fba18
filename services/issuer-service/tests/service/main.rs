//! issuer-service as its callers see it: through real clients, over real connections.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports trouble by failing")]

mod access;
mod devices;
mod documents;
mod export;
mod first_keys;
mod harness;
mod issuers;
mod keys;
mod load;
mod outages;
mod profiles;
mod reach;
mod rewrap;
mod rotation;
mod tokens;
mod trust_service;
mod workspaces;
