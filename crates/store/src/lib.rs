//! The storage ports of trust-service and issuer-service, and their adapters for SQLite and PostgreSQL.
//!
//! Each port is an async trait beside the contract suite that every adapter passes. [`trust`] belongs to trust-service, the authority
//! over replay and policy, [`issuer`] to issuer-service.
//!
//! The crate decides nothing: what is stored was checked by `domain`, and what a refusal means to a caller is the services' business.
//! Start at [`database`] for how SQLite and PostgreSQL are made to behave alike.

pub mod database;
pub mod issuer;
mod quota;
pub mod trust;
