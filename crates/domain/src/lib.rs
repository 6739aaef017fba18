//! The rules of workload identity federation, and nothing else.
//!
//! This crate decides: what a well-formed resource is, which subject a pattern accepts, which trust relationship wins, what an
//! access token may say, how a profile renders a subject, who may call what. Every decision is a function of values and a given
//! time. The crate knows no sockets, database, wire format, async runtime or cryptography, and must not learn of them.
//!
//! Start at [`exchange`], the decision of one exchange, and follow it to [`policy`] (compiled trust relationships) and
//! [`subject_match`] (the pattern language). [`reason`] is the closed list of everything that can be refused.

pub mod access_token;
pub mod access_token_check;
pub mod audit;
pub mod caller;
pub mod cel;
pub mod claim_condition;
pub mod claim_path;
pub mod claims;
pub mod commit;
pub mod comparison;
pub mod deployment_audience;
pub mod draft;
pub mod etag;
pub mod exchange;
pub mod exchange_request;
pub mod explain;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod grant;
pub mod hindsight;
pub mod hygiene;
pub mod id;
pub mod id_token;
pub mod id_token_durations;
pub mod inexact;
pub mod issuer;
pub mod issuer_health;
pub mod issuer_url;
pub mod key_source;
pub mod lineage;
pub mod lint;
pub mod name;
pub mod permission;
pub mod policy;
pub mod policy_feed;
pub mod presentation;
pub mod preset;
pub mod preview;
pub mod profile;
pub mod reachable_scopes;
pub mod reason;
pub mod relying_party;
pub mod replay_policy;
pub mod signature_algorithm;
pub mod signing_key;
pub mod subject_match;
pub mod text;
pub mod time;
pub mod token_type;
pub mod trust_relationship;
pub mod trusted_issuer;
pub mod violation;
pub mod workspace;
