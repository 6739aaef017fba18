//! Signing keys and their life: `prepared` (published, not signing), `active`, `retiring` (published, not signing), `retired`; or
//! cut short by `revoked`.
//!
//! The life of a key is a function of time and of its record, so that replicas agree without talking, and none can be killed
//! between two steps of it. A key signs only when every verifier and every replica must have seen it published; it stays
//! published until the last token it can have signed has expired. Where relying parties read an export of the key set, a key that
//! this does not have yet waits for it, whatever the time. A [`Keyring`] says what has to be written to keep it so, to
//! have a key follow another, and to revoke one.

mod outlook;
mod plan;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::values::name::KeyId;
use crate::values::signature_algorithm::SignatureAlgorithm;
use crate::values::time::Timestamp;

pub use outlook::{KeyWait, Outlook};
pub use plan::{
    KeyPolicies, KeyPolicy, KeyStep, Keyring, MAX_PUBLISHED, Rotation, RotationPolicy, RotationRefused, ServedKeySets,
};

/// Where a key is in its life, with what is known of that stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKeyStage {
    /// Published, not signing yet.
    Prepared {
        /// When it may sign; `None` while it waits for the export of the documents.
        activates_at: Option<Timestamp>,
    },
    /// Published and signing.
    Active {
        /// Since when it may sign.
        since: Timestamp,
    },
    /// Published, no longer signing.
    Retiring {
        /// Since when it does not sign.
        since: Timestamp,
        /// When the last token it signed has expired.
        until: Timestamp,
    },
    /// Neither published nor signing.
    Retired {
        /// Since when.
        since: Timestamp,
    },
    /// Neither published nor signing, whatever its tokens say: somebody else may have it. Nothing follows.
    Revoked {
        /// Since when.
        since: Timestamp,
    },
}

/// The name of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// Neither published nor signing, whatever its tokens say.
    Revoked,
}

/// What is recorded of a key pair: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeyRecord {
    /// The `kid`.
    pub key_id: KeyId,
    /// What it signs with.
    pub algorithm: SignatureAlgorithm,
    /// Counts the keys of one issuer and algorithm from 1. No two of them share one, which is how replicas that generate at the
    /// same time come to agree on one key.
    pub generation: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it first may sign. Not after `created_at`: at once, by any replica's clock. A prepared key that has to take over from
    /// a revoked one is dated back for that.
    pub activate_at: Timestamp,
    /// Whether it may not sign, whatever the time, before the exported key set has it: relying parties read no other.
    pub awaits_export: bool,
    /// The end of its life, once it is known.
    pub retirement: Option<Retirement>,
    /// When it was revoked. At once by any replica's clock, and for ever.
    pub revoked_at: Option<Timestamp>,
}

/// The end of a key's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retirement {
    /// When it stops to sign.
    pub sign_until: Timestamp,
    /// When it is withdrawn from the key set.
    pub publish_until: Timestamp,
}

impl SigningKeyStage {
    /// The name of the stage.
    pub const fn state(self) -> SigningKeyState {
        match self {
            Self::Prepared { .. } => SigningKeyState::Prepared,
            Self::Active { .. } => SigningKeyState::Active,
            Self::Retiring { .. } => SigningKeyState::Retiring,
            Self::Retired { .. } => SigningKeyState::Retired,
            Self::Revoked { .. } => SigningKeyState::Revoked,
        }
    }
}

impl SigningKeyState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 5] = [Self::Prepared, Self::Active, Self::Retiring, Self::Retired, Self::Revoked];

    /// Whether a key in this state stands in the key set.
    pub const fn is_published(self) -> bool {
        matches!(self, Self::Prepared | Self::Active | Self::Retiring)
    }

    /// Whether nothing follows: such a key is of no more use.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Retired | Self::Revoked)
    }

    /// The name, as metrics and logs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }
}

impl SigningKeyRecord {
    /// Where the key is in its life.
    pub fn stage(&self, now: Timestamp) -> SigningKeyStage {
        if let Some(since) = self.revoked_at {
            return SigningKeyStage::Revoked { since };
        }
        match self.retirement {
            Some(end) if end.publish_until <= now => SigningKeyStage::Retired { since: end.publish_until },
            Some(end) if end.sign_until <= now => SigningKeyStage::Retiring { since: end.sign_until, until: end.publish_until },
            _ if self.awaits_export => SigningKeyStage::Prepared { activates_at: None },
            _ if self.activate_at <= self.created_at || self.activate_at <= now => {
                SigningKeyStage::Active { since: self.activate_at }
            }
            _ => SigningKeyStage::Prepared { activates_at: Some(self.activate_at) },
        }
    }

    /// The name of the stage.
    pub fn state(&self, now: Timestamp) -> SigningKeyState {
        self.stage(now).state()
    }

    /// When the key next changes its stage by itself.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let end = self.retirement.map(|end| if end.sign_until > now { end.sign_until } else { end.publish_until });
        match self.stage(now) {
            SigningKeyStage::Prepared { activates_at } => activates_at.into_iter().chain(end).min(),
            SigningKeyStage::Active { .. } | SigningKeyStage::Retiring { .. } => end,
            SigningKeyStage::Retired { .. } | SigningKeyStage::Revoked { .. } => None,
        }
    }

    /// Whether no end of it is known.
    const fn is_wanted(&self) -> bool {
        self.retirement.is_none() && self.revoked_at.is_none()
    }
}

impl AsRef<Self> for SigningKeyRecord {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// The keys that stand in the key set, in the order given.
pub fn published<K: AsRef<SigningKeyRecord>>(now: Timestamp, keys: &[K]) -> impl Iterator<Item = &K> {
    keys.iter().filter(move |key| key.as_ref().state(now).is_published())
}

/// The key that signs with an algorithm: of the active ones the youngest.
pub fn signer<K: AsRef<SigningKeyRecord>>(now: Timestamp, keys: &[K], algorithm: SignatureAlgorithm) -> Option<&K> {
    keys.iter()
        .filter(|key| key.as_ref().algorithm == algorithm && key.as_ref().state(now) == SigningKeyState::Active)
        .max_by_key(|key| (key.as_ref().activate_at, key.as_ref().generation))
}

/// The key that signs where no algorithm is asked for: that of the first listed algorithm that can sign already, or else that of
/// an algorithm which [`Keyring::next_steps`] keeps signing in its stead, of several the oldest.
pub fn default_signer<'a, K: AsRef<SigningKeyRecord>>(
    now: Timestamp,
    keys: &'a [K],
    algorithms: &[SignatureAlgorithm],
) -> Option<&'a K> {
    let signs = |key: &&K| {
        let of_its_algorithm = signer(now, keys, key.as_ref().algorithm);
        of_its_algorithm.is_some_and(|signer| signer.as_ref().key_id == key.as_ref().key_id)
    };
    let stands_in = || keys.iter().filter(signs).min_by_key(|key| (key.as_ref().activate_at, key.as_ref().algorithm));
    algorithms.iter().find_map(|&algorithm| signer(now, keys, algorithm)).or_else(stands_in)
}

/// When a key that is not active yet will sign with an algorithm.
pub fn next_activation<K: AsRef<SigningKeyRecord>>(
    now: Timestamp,
    keys: &[K],
    algorithm: SignatureAlgorithm,
) -> Option<Timestamp> {
    let prepared = |key: &K| match key.as_ref().stage(now) {
        SigningKeyStage::Prepared { activates_at } if key.as_ref().algorithm == algorithm => activates_at,
        _ => None,
    };
    keys.iter().filter_map(prepared).min()
}
