//! Whose tokens a workspace accepts: trusted issuers, trust relationships, their conditions, and the policy that they make.

pub mod cel;
pub mod claim_condition;
pub mod issuer_health;
pub mod key_source;
pub mod policy;
pub mod policy_feed;
pub mod preset;
pub mod trust_relationship;
pub mod trusted_issuer;
pub mod workspace;
