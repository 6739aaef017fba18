//! Conversions of `countersign.trust.v1`.
//!
//! Resources ([`resources`]) come in as drafts, which the domain checks, and go out whole. The internal messages come in two
//! pairs: [`commit`], which trust-service reads and gateways write, and [`policy`], the other way round. Both directions live
//! here, so that they are tested against each other. [`issuer_health`] and [`audit`] are written by both, and read by both. What the
//! linter found ([`lint`]) goes out alone. The state of workspaces ([`workspace_state`]) is read by issuer-service.

pub mod audit;
pub mod commit;
pub mod issuer_health;
pub mod lint;
pub mod policy;
pub mod resources;
pub mod workspace_state;
