//! A JSON Web Key Set of somebody else (RFC 7517, section 5), parsed once.

use std::fmt;

use countersign_domain::name::KeyId;
use countersign_domain::trusted_issuer::SignatureAlgorithm;
use serde_json::Value;

use crate::json::{self, InvalidJson};
use crate::public_key::{PublicKey, UnusableKey};
use crate::token::VerifyError;

/// Why a document is not a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    /// More than 100 KiB.
    #[error("longer than 100 KiB")]
    TooLong,
    /// Not a strict JSON object.
    #[error("the key set is refused: {0}")]
    Json(InvalidJson),
    /// No array named `keys`.
    #[error("there is no array named keys")]
    NoKeys,
    /// More than 64 keys.
    #[error("more than 64 keys")]
    TooManyKeys,
}

/// A key of the document that is never used, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its position in the document, from zero.
    pub position: usize,
    /// What is wrong with it.
    pub reason: UnusableKey,
}

/// A key of the document as operators are shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedKey<'a> {
    /// Its id, when it is usable and has one.
    pub key_id: Option<&'a KeyId>,
    /// Whose signatures it verifies; nothing when it is never used.
    pub algorithms: &'a [SignatureAlgorithm],
    /// Why it is never used.
    pub problem: Option<UnusableKey>,
}

/// The usable keys of a key set. An empty one is a valid answer: nothing verifies under it.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<PublicKey>,
    /// Key ids that two keys share for one algorithm.
    ambiguous: Vec<KeyId>,
    skipped: Vec<SkippedKey>,
}

impl KeySet {
    /// The most bytes a key set document may have (SECURITY 41).
    pub const MAX_DOCUMENT_BYTES: usize = json::MAX_BYTES;

    /// The most keys a document may hold, usable or not.
    pub const MAX_KEYS: usize = 64;

    /// Parses a document. Keys that cannot be used are skipped and the rest stays usable (SECURITY 43); see
    /// [`KeySet::skipped`] and [`KeySet::ambiguous_key_ids`] for what an operator should hear of.
    pub fn parse(document: &[u8]) -> Result<Self, InvalidKeySet> {
        if document.len() > Self::MAX_DOCUMENT_BYTES {
            return Err(InvalidKeySet::TooLong);
        }
        let members = json::parse_object(document).map_err(InvalidKeySet::Json)?;
        let Some(Value::Array(jwks)) = members.get("keys") else { return Err(InvalidKeySet::NoKeys) };
        if jwks.len() > Self::MAX_KEYS {
            return Err(InvalidKeySet::TooManyKeys);
        }
        let mut key_set = Self::default();
        for (position, jwk) in jwks.iter().enumerate() {
            match jwk.as_object().ok_or(UnusableKey::Malformed).and_then(PublicKey::from_jwk) {
                Ok(key) => key_set.keys.push(key),
                Err(reason) => key_set.skipped.push(SkippedKey { position, reason }),
            }
        }
        key_set.ambiguous = ambiguous_key_ids(&key_set.keys);
        Ok(key_set)
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The ids of the usable keys that have one, in the order of the document.
    pub fn key_ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.iter().filter_map(|key| key.key_id.as_ref())
    }

    /// Every key, in the order of the document. Whether ids are ambiguous is said by [`KeySet::ambiguous_key_ids`].
    pub fn describe(&self) -> Vec<DescribedKey<'_>> {
        let mut usable = self.keys.iter();
        let mut skipped = self.skipped.iter().peekable();
        (0..self.keys.len() + self.skipped.len())
            .filter_map(|position| match skipped.next_if(|skipped| skipped.position == position) {
                Some(SkippedKey { reason, .. }) => Some(DescribedKey { key_id: None, algorithms: &[], problem: Some(*reason) }),
                None => usable.next().map(|key| DescribedKey {
                    key_id: key.key_id.as_ref(),
                    algorithms: key.algorithms(),
                    problem: None,
                }),
            })
            .collect()
    }

    /// The keys of the document that are never used.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// The key ids under which nothing verifies, since two keys could serve one of their algorithms. Worth an alert.
    pub fn ambiguous_key_ids(&self) -> &[KeyId] {
        &self.ambiguous
    }

    /// The one key for a token's header.
    ///
    /// Without a key id there must be exactly one key in the whole set that permits the algorithm. So it is where no key has an
    /// id: a token's then tells nothing apart, and an issuer with a single key may well publish it without.
    pub(crate) fn select(&self, key_id: Option<&KeyId>, algorithm: SignatureAlgorithm) -> Result<&PublicKey, VerifyError> {
        let tells_apart = self.key_ids().next().is_some();
        let Some(key_id) = key_id.filter(|_| tells_apart) else { return self.only(algorithm) };
        if self.ambiguous.contains(key_id) {
            return Err(VerifyError::AmbiguousKey);
        }
        let mut named = self.keys.iter().filter(|key| key.key_id.as_ref() == Some(key_id)).peekable();
        if named.peek().is_none() {
            return Err(VerifyError::UnknownKey);
        }
        named.find(|key| key.permits(algorithm)).ok_or(VerifyError::KeyNotPermitted)
    }

    /// The only key that permits the algorithm.
    fn only(&self, algorithm: SignatureAlgorithm) -> Result<&PublicKey, VerifyError> {
        let mut permitting = self.keys.iter().filter(|key| key.permits(algorithm));
        let key = permitting.next().ok_or(VerifyError::UnknownKey)?;
        let is_ambiguous = key.key_id.as_ref().is_some_and(|key_id| self.ambiguous.contains(key_id));
        if permitting.next().is_some() || is_ambiguous { Err(VerifyError::AmbiguousKey) } else { Ok(key) }
    }
}

/// Public keys are no secret, but their ids say all that a reader needs.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("key_ids", &self.keys.iter().map(|key| &key.key_id).collect::<Vec<_>>())
            .field("ambiguous", &self.ambiguous)
            .field("skipped", &self.skipped)
            .finish()
    }
}

/// The key ids that two keys share for one algorithm.
fn ambiguous_key_ids(keys: &[PublicKey]) -> Vec<KeyId> {
    let mut ambiguous = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let Some(key_id) = &key.key_id else { continue };
        let earlier = keys.iter().take(index).filter(|earlier| earlier.key_id.as_ref() == Some(key_id));
        let collides = earlier.flat_map(PublicKey::algorithms).any(|algorithm| key.permits(*algorithm));
        if collides && !ambiguous.contains(key_id) {
            ambiguous.push(key_id.clone());
        }
    }
    ambiguous
}

#[cfg(test)]
mod tests;
