//! Signing keys and their life: `prepared` (published, not signing), `active`, `retiring` (published, not signing), `retired`.

use serde::{Deserialize, Serialize};

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigningKeyState {
    /// Published, not signing yet.
    Prepared,
    /// Published and signing.
    Active,
    /// Published, no longer signing.
    Retiring,
    /// Neither published nor signing.
    Retired,
}
