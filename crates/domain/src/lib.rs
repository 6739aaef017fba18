//! The rules of workload identity federation, and nothing else.
//!
//! This crate decides: what a well-formed resource is, which subject a pattern accepts, which trust relationship wins, what an
//! access token may say, how a profile renders a subject, who may call what. Every decision is a function of values and a given
//! time. The crate knows no sockets, database, wire format, async runtime or cryptography, and must not learn of them.
//!
//! Start at [`exchange::decision`], the decision of one exchange, and follow it to [`trust::policy`] (compiled trust relationships) and
//! [`values::subject_match`] (the pattern language). [`values::reason`] is the closed list of everything that can be refused.

pub mod access;
pub mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod insight;
pub mod issuing;
pub mod trust;
pub mod values;
