//! The storage ports and their adapters.
//!
//! Each port is an async trait beside the contract suite that every adapter passes. [`trust`] belongs to trust-service, the
//! authority over replay and policy. What lies in Redis is a cache, with an embedded twin of each role for one process.
//!
//! The crate decides nothing: what is stored was checked by `domain`, and what a refusal means to a caller is the services'
//! business. Start at [`database`] for how SQLite and PostgreSQL are made to behave alike, and at [`redis_link`] for how Redis can
//! be lost at any time without anybody waiting for it.

pub mod database;
pub mod issuer;
pub mod key_set_cache;
mod quota;
pub mod redis_link;
pub mod replay;
pub mod trust;
