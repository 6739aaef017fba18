//! An external JSON Web Key Set (RFC 7517, section 5), parsed once.

use std::fmt;

use countersign_domain::trust::key_source::KeyUses;
use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use serde_json::Value;

use crate::explain;
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
    /// One key in place of a set of keys.
    #[error("it is a single JSON Web Key (JWK), not a JSON Web Key Set; write {{\"keys\":[…]}} around it")]
    SingleKey,
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

/// What an operator should know of a key that is used nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyNote {
    /// Its modulus or exponent begins with a zero octet, which RFC 7518, sections 6.3.1.1 and 6.3.1.2, forbids.
    #[error("its n or e begins with a zero octet, which RFC 7518 forbids; other verifiers, such as AWS STS, refuse the key")]
    LeadingZeros,
    /// The document contains the same key further up.
    #[error("it is the same key as keys[{position}]")]
    SameAs {
        /// The position of the first entry with this key, from zero.
        position: usize,
    },
}

/// One entry of the document, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedKey {
    /// Its id, when it has one.
    pub key_id: Option<KeyId>,
    /// The algorithms whose signatures it verifies; empty when it is never used.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Why it is never used.
    pub problem: Option<UnusableKey>,
    /// The same in words, with the value that is wrong; empty when it is used.
    pub detail: String,
    /// What is unusual about it.
    pub notes: Vec<KeyNote>,
}

/// The usable keys of a key set. An empty one is a valid answer: nothing verifies under it.
///
/// Entries with one id and the same key material are one key, which permits what any of them permits.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<PublicKey>,
    /// Every entry of the document in its order.
    entries: Vec<DescribedKey>,
    /// Key ids that two keys share for one algorithm.
    ambiguous: Vec<KeyId>,
    skipped: Vec<SkippedKey>,
}

impl KeySet {
    /// The most bytes a key set document may have (SECURITY 41).
    pub const MAX_DOCUMENT_BYTES: usize = json::MAX_BYTES;

    /// The most keys of a document, usable or not. A key that is listed again does not count again.
    pub const MAX_KEYS: usize = 64;

    /// The most entries of a document: every key can be listed twice.
    pub(crate) const MAX_ENTRIES: usize = 2 * Self::MAX_KEYS;

    /// Parses a document whose keys for tokens have the `use` of RFC 7517; see [`KeySet::parse_for`].
    pub fn parse(document: &[u8]) -> Result<Self, InvalidKeySet> {
        Self::parse_for(document, KeyUses::default())
    }

    /// Parses a document. Keys that cannot be used are skipped and the rest stays usable (SECURITY 43);
    /// [`KeySet::skipped`] and [`KeySet::ambiguous_key_ids`] return what an operator should know.
    pub fn parse_for(document: &[u8], uses: KeyUses) -> Result<Self, InvalidKeySet> {
        if document.len() > Self::MAX_DOCUMENT_BYTES {
            return Err(InvalidKeySet::TooLong);
        }
        let members = json::parse_object(document).map_err(InvalidKeySet::Json)?;
        let Some(Value::Array(jwks)) = members.get("keys") else {
            let is_key = members.get("kty").is_some_and(Value::is_string) && !members.contains_key("keys");
            return Err(if is_key { InvalidKeySet::SingleKey } else { InvalidKeySet::NoKeys });
        };
        if jwks.len() > Self::MAX_ENTRIES {
            return Err(InvalidKeySet::TooManyKeys);
        }
        let mut key_set = Self::default();
        // Of each key that was accepted, the position of its first entry.
        let mut positions = Vec::new();
        let mut unusable: Vec<&Value> = Vec::new();
        for (position, jwk) in jwks.iter().enumerate() {
            let key = jwk.as_object().ok_or(UnusableKey::Malformed).and_then(|jwk| PublicKey::from_jwk(jwk, uses));
            key_set.entries.push(DescribedKey::of(jwk, key.as_ref().map_err(|reason| *reason)));
            match key {
                Ok(key) => key_set.add(key, position, &mut positions),
                Err(reason) => {
                    key_set.skipped.push(SkippedKey { position, reason });
                    if !unusable.contains(&jwk) {
                        unusable.push(jwk);
                    }
                }
            }
        }
        if key_set.keys.len() + unusable.len() > Self::MAX_KEYS {
            return Err(InvalidKeySet::TooManyKeys);
        }
        key_set.ambiguous = ambiguous_key_ids(&key_set.keys);
        Ok(key_set)
    }

    /// Adds the key of an entry, or its algorithms to the key that is already there.
    fn add(&mut self, key: PublicKey, position: usize, positions: &mut Vec<usize>) {
        let same = |known: &PublicKey| known.has_material_of(&key);
        let first = self.keys.iter().position(same).and_then(|index| positions.get(index));
        if let (Some(&position), Some(entry)) = (first, self.entries.last_mut()) {
            entry.notes.push(KeyNote::SameAs { position });
        }
        if let Some(known) = self.keys.iter_mut().find(|known| known.key_id == key.key_id && known.has_material_of(&key)) {
            known.permit_also(key.algorithms());
        } else {
            self.keys.push(key);
            positions.push(position);
        }
    }

    /// How many keys are usable. A key under two ids counts twice, a key that is listed twice under one id once.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The ids of the usable keys that have one, in the order of the document. Different keys can have one id.
    pub fn key_ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.iter().filter_map(|key| key.key_id.as_ref())
    }

    /// Every entry, in the order of the document. [`KeySet::ambiguous_key_ids`] lists the ids that are ambiguous.
    pub fn describe(&self) -> &[DescribedKey] {
        &self.entries
    }

    /// The keys of the document that are never used.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// The key ids under which nothing verifies, because two different keys permit one algorithm. They deserve an alert.
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

    /// The only key that permits the algorithm, whichever ids it is listed under.
    fn only(&self, algorithm: SignatureAlgorithm) -> Result<&PublicKey, VerifyError> {
        let permitting = || self.keys.iter().filter(|key| key.permits(algorithm));
        let first = permitting().next().ok_or(VerifyError::UnknownKey)?;
        if permitting().any(|key| !key.has_material_of(first)) {
            return Err(VerifyError::AmbiguousKey);
        }
        let is_ambiguous = |key: &PublicKey| key.key_id.as_ref().is_some_and(|key_id| self.ambiguous.contains(key_id));
        permitting().find(|key| !is_ambiguous(key)).ok_or(VerifyError::AmbiguousKey)
    }
}

impl DescribedKey {
    fn of(jwk: &Value, key: Result<&PublicKey, UnusableKey>) -> Self {
        match key {
            Ok(key) => Self {
                key_id: key.key_id.clone(),
                algorithms: key.algorithms().to_vec(),
                problem: None,
                detail: String::new(),
                notes: key.has_leading_zeros.then_some(KeyNote::LeadingZeros).into_iter().collect(),
            },
            Err(reason) => Self {
                key_id: jwk.get("kid").and_then(Value::as_str).and_then(|key_id| key_id.parse().ok()),
                algorithms: Vec::new(),
                problem: Some(reason),
                detail: explain::unusable(jwk, reason),
                notes: Vec::new(),
            },
        }
    }
}

/// Public keys are no secret, but their ids say all that a reader needs.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("key_ids", &self.keys.iter().map(|key| &key.key_id).collect::<Vec<_>>())
            .field("ambiguous", &self.ambiguous)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

/// The key ids that two different keys share for one algorithm.
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
