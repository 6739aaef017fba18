//! The replay cache: a fast first answer to "was this token presented before?".
//!
//! It turns most duplicates away before any work is done for them, and decides nothing else: the commit point in the database
//! is the authority (SECURITY 49, 52). So no answer here is ever needed. [`ReplayClaim::Unknown`] means "go on, the commit
//! point will tell", and losing the whole cache costs time, never correctness.

mod embedded;
mod redis;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::BASE64URL_NOPAD;

pub use self::embedded::EmbeddedReplayCache;
pub use self::redis::RedisReplayCache;

/// Identifies one token: a hash of workspace, issuer and token id (SECURITY 48). Made only of what has been verified.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplayKey([u8; 32]);

impl ReplayKey {
    /// The key with that hash.
    pub const fn from_hash(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ReplayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplayKey({})", BASE64URL_NOPAD.encode(&self.0))
    }
}

/// Tells one presentation from every other; 128 random bits, fresh for each claim.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// The nonce with those bits.
    pub const fn from_bits(bits: [u8; 16]) -> Self {
        Self(bits)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// What the cache says about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayClaim {
    /// Not seen before, and now claimed with our nonce.
    Claimed,
    /// Claimed before by another presentation.
    Duplicate,
    /// The cache cannot tell. The commit point decides. The claim may have been made all the same, so a presentation that comes
    /// to nothing releases it as if it had been.
    Unknown,
}

/// Remembers presented tokens for a while.
#[async_trait]
pub trait ReplayCache: Send + Sync + fmt::Debug {
    /// Claims a token in one atomic step and keeps the claim for `ttl`, which must outlive the token's own validity
    /// (SECURITY 50). Takes at most [`crate::redis_link::COMMAND_LIMIT`].
    async fn claim(&self, key: &ReplayKey, nonce: Nonce, ttl: Duration) -> ReplayClaim;

    /// Takes a claim back, so that an honest retry works, if it is still the one made with that nonce. A claim of anybody else
    /// stays, so a late or repeated release harms nobody (SECURITY 51).
    async fn release(&self, key: &ReplayKey, nonce: Nonce);

    /// Whether claims are answered at the moment, for metrics. What is in the process always is.
    fn is_connected(&self) -> bool {
        true
    }
}
