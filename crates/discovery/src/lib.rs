//! Other issuers' keys: the only outbound HTTP of the system to addresses that strangers chose.
//!
//! [`Discovery::key_set`] answers from the memory of the process and keeps that memory fresh behind the caller's back: OpenID
//! Connect Discovery, then the JWKS it names, under the limits, the timing and the address rules of SECURITY C. A second level,
//! shared by all gateways, is optional. Callers cannot tell why keys are missing ([`KeysUnavailable`]); operators find the cause
//! in the logs, though never a body.
//!
//! Keys that an operator uploaded take part as a [`KeyOrigin`] that needs no fetching; [`Discovery::examine`] looks at an issuer for
//! somebody who wants to know how that goes.
//!
//! The crate deliberately does not know tokens, workspaces or trust relationships, and never decides which issuer may be asked:
//! whoever makes a [`KeySetSource`] has found it registered. It reads no environment, so no proxy variable reaches it, and has no
//! switch that turns the verification of certificates off.
//!
//! Start at [`Discovery`]; [`address`] holds the rules on addresses as pure functions, `entry` the timing of one source, `room` who is
//! asked when too many are to be, `waiting` who waits.

pub mod address;
mod authorities;
mod back_off;
mod discovery;
mod document;
mod egress_proxy;
mod entries;
mod entry;
mod examine;
mod fetch;
mod freshness;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http_fetcher;
mod inspect;
mod negative_cache;
pub mod network;
mod origin;
mod problem;
mod refresh;
mod room;
mod server;
mod source;
mod waiting;

#[cfg(test)]
mod tests;

pub use crate::authorities::{Authorities, InvalidAuthorities};
pub use crate::discovery::{Discovery, DiscoveryError, DiscoverySettings, KeysUnavailable, SourceHealth};
pub use crate::egress_proxy::{EgressProxy, InvalidProxyUrl};
pub use crate::examine::{Examination, NotExamined};
pub use crate::inspect::Inspector;
pub use crate::origin::{InvalidOrigin, KeyOrigin, held_keys};
pub use crate::source::KeySetSource;
