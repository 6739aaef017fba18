//! The commands, one file per group.

pub(crate) mod as_code;
pub(crate) mod audit_events;
pub(crate) mod auth;
pub(crate) mod certs;
pub(crate) mod health;
pub(crate) mod issuers;
pub(crate) mod pages;
pub(crate) mod presets;
pub(crate) mod secrets;
pub(crate) mod setup;
pub(crate) mod signing_keys;
pub(crate) mod trusted_issuers;
pub(crate) mod workspaces;
