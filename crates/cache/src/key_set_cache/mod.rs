//! The second level of the cache of other issuers' documents, shared by every gateway, so that a hundred of them ask an issuer
//! once.
//!
//! The first level is the memory of each process, in the `discovery` crate, and is the authority. Everything here is optional:
//! trouble is a miss, and each process has limits of its own. What lies in Redis is authenticated with a key that Redis does not
//! know, bound to its slot and its time, so an entry that somebody wrote, altered, moved or kept for later is a miss too
//! (SECURITY 46).

mod embedded;
mod entry;
mod redis;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::BASE64URL_NOPAD;

pub use self::embedded::EmbeddedKeySetCache;
pub use self::redis::RedisKeySetCache;

/// Names one document of one key source; a hash of everything that decides what the document is (SECURITY 34).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot([u8; 32]);

impl Slot {
    /// The slot with that hash.
    pub const fn from_hash(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", BASE64URL_NOPAD.encode(&self.0))
    }
}

/// A document as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its bytes. At most [`Document::MAX_BYTES`] are kept.
    pub bytes: Vec<u8>,
    /// How long it counts as fresh, from when it was fetched.
    pub lifetime: Duration,
}

impl Document {
    /// The most bytes a document may have; longer ones are not kept.
    pub const MAX_BYTES: usize = 100 * 1024;
}

/// Whose turn it is to ask an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchTurn {
    /// Ours, until the turn ends.
    Ours,
    /// Another process took it; its document will appear in the cache.
    Anothers,
    /// The cache cannot tell. Each process then keeps its own limits.
    Unknown,
}

/// Keeps documents of other issuers for all gateways.
#[async_trait]
pub trait KeySetCache: Send + Sync + fmt::Debug {
    /// The document in a slot and how long ago it was fetched. `None` for any trouble.
    async fn get(&self, slot: &Slot) -> Option<(Document, Duration)>;

    /// Keeps a document that was fetched just now, for at most `keep`.
    async fn put(&self, slot: &Slot, document: &Document, keep: Duration);

    /// Takes the turn to fetch what belongs in a slot, for so long, unless another process has it. A process that has it may
    /// take it again. `owner` is the same for every call of a process and random; turns for one slot are of one length.
    async fn take_turn(&self, slot: &Slot, owner: [u8; 16], turn: Duration) -> FetchTurn;
}
