//! What the adapters for Redis do, beside their embedded twins, on one server, behind sentinels and in a cluster; and what they
//! do when Redis fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod cluster;
mod key_set_cache;
mod replay_cache;
mod sentinel;
mod server;
mod support;
