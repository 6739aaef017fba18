//! How often one token may be exchanged.

use serde::{Deserialize, Serialize};

/// How often one token may be exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayPolicy {
    /// Once; without `jti` the hash of the signing input identifies the token.
    #[default]
    SingleUse,
    /// Once, and only with a `jti`.
    RequireJti,
    /// As often as it is valid.
    Reusable,
}
