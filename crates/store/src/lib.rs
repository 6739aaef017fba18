//! The storage ports and their adapters.
//!
//! Each port is an async trait beside the contract suite that every adapter passes. `trust` belongs to trust-service, the
//! authority over replay and policy. What lies in Redis is a cache, with an embedded twin of each role for one process.
//!
//! The crate decides nothing: what is stored was checked by `domain`, and what a refusal means to a caller is the services'
//! business. Start at [`database`] for how SQLite and PostgreSQL are made to behave alike.

pub mod database;
pub mod issuer;
