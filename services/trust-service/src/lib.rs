//! trust-service: who trusts whom, and the commit point of exchanges.
//!
//! It keeps workspaces, trusted issuers and trust relationships ([`workspaces`], [`trusted_issuers`], [`trust_relationships`]),
//! says what relationships let in that is not meant ([`linting`]), what a change would have done ([`previewing`]) and what is
//! not needed ([`reviewing`]), tells gateways of every change ([`policy_feed`],
//! [`policy_stream`]) and issuer-service of the state of workspaces ([`workspace_states`]), commits exchanges ([`commits`]): nothing leaves a gateway before its commit here, and keeps the log of what
//! was decided ([`audit`]).
//!
//! It deliberately does not know tokens: what is committed was decided and signed elsewhere. Start at [`start`](fn@start), where
//! it is put together.

mod audit;
mod commits;
mod context;
mod issuer_health;
mod issuer_keys;
mod key_material;
mod linting;
mod pages;
mod past;
mod policy_feed;
mod policy_stream;
mod previewing;
mod pruning;
mod reachable_scopes;
mod refusals;
mod reviewing;
mod settings;
mod start;
mod streams;
mod trust_relationships;
mod trusted_issuers;
mod turns;
mod uses;
mod workspace_states;
mod workspaces;

pub use settings::TrustSettings;
pub use start::{Config, Deps, start};
