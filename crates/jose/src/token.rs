//! From an untrusted text to verified claims.

use std::collections::BTreeSet;
use std::fmt;

use countersign_domain::exchange::claims::{Claims, InvalidClaims};
use countersign_domain::values::inexact::{InexactNumbers, TooManyInexact};
use countersign_domain::values::name::{AccessTokenSubject, KeyId, Subject};
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::token_type::TokenType;
use serde_json::{Map, Value};

use crate::compact::{CompactJws, Header, MalformedToken};
use crate::json::InvalidJson;
use crate::key_set::KeySet;
use crate::{hash, json};

/// A well-formed token that nobody vouches for yet.
///
/// It yields the issuer and the key id, for an exact look-up; neither may reach a URL, a log line, a metric or SQL, nor an
/// unhashed key in Redis (SECURITY 16). Everything else stays inside until [`UnverifiedToken::verify`].
pub struct UnverifiedToken {
    header: Header,
    signing_input: Box<[u8]>,
    signature: Vec<u8>,
    /// The payload, parsed; holds a string `iss`.
    members: Map<String, Value>,
    /// The numbers of the payload that were changed by parsing them.
    inexact: InexactNumbers,
}

/// What a trusted issuer's tokens may look like.
#[derive(Debug, Clone, Copy)]
pub struct VerificationPolicy<'a> {
    /// The algorithms accepted.
    pub algorithms: &'a BTreeSet<SignatureAlgorithm>,
    /// The accepted media types, `typ`; `None` is an absent header.
    pub token_types: &'a BTreeSet<Option<TokenType>>,
}

/// A token whose signature was verified and whose registered claims have their types. Only the verifier makes one.
///
/// Times, audience and trust are not decided here.
#[derive(Clone, PartialEq)]
pub struct VerifiedToken<S = Subject> {
    claims: Claims<S>,
    key_id: Option<KeyId>,
    algorithm: SignatureAlgorithm,
    signing_input_hash: [u8; 32],
}

/// Why a token did not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not a compact JWS that is ever accepted.
    #[error(transparent)]
    Malformed(#[from] MalformedToken),
    /// `alg` is not in the allow-list.
    #[error("the token's algorithm is not allowed")]
    AlgorithmNotAllowed,
    /// `typ` is not in the allow-list.
    #[error("the token's type is not allowed")]
    TypeNotAllowed,
    /// The set has no such key. The only case in which a fresh set may help.
    #[error("the key set has no such key")]
    UnknownKey,
    /// The set has the key, but its members do not permit the token's algorithm.
    #[error("the key does not permit the token's algorithm")]
    KeyNotPermitted,
    /// Two keys could be meant.
    #[error("the key set has two such keys")]
    AmbiguousKey,
    /// The signature is not by the key.
    #[error("the signature does not verify")]
    BadSignature,
    /// The signature is fine, a registered claim is not.
    #[error(transparent)]
    InvalidClaims(#[from] InvalidClaims),
}

impl UnverifiedToken {
    /// Parses a text as a compact JWS over a JSON object with an issuer (SECURITY 1, 2, 7, 10, 11).
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        let CompactJws { header, signing_input, payload, signature } = CompactJws::parse(text)?;
        if payload.is_empty() {
            return Err(MalformedToken::Segments);
        }
        let mut members = json::parse_object(&payload).map_err(MalformedToken::Payload)?;
        let inexact = InexactNumbers::find(&payload, &mut members)
            .map_err(|TooManyInexact| MalformedToken::Payload(InvalidJson::TooManyInexact))?;
        if !members.get("iss").is_some_and(Value::is_string) {
            return Err(MalformedToken::Issuer);
        }
        Ok(Self { header, signing_input: signing_input.into(), signature, members, inexact })
    }

    /// The `iss` that the token claims to be of.
    pub fn unverified_issuer(&self) -> &str {
        self.members.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// The `kid` that the token claims to be signed with.
    pub fn unverified_key_id(&self) -> Option<&str> {
        self.header.key_id.as_ref().map(KeyId::as_str)
    }

    /// Whether the set lacks the token's key, so that verifying fails with [`VerifyError::UnknownKey`] unless a fresh set is
    /// fetched. [`UnverifiedToken::verify`] takes the token, hence this question before it.
    pub fn lacks_key_in(&self, keys: &KeySet) -> bool {
        matches!(keys.select(self.header.key_id.as_ref(), self.header.algorithm), Err(VerifyError::UnknownKey))
    }

    /// Verifies the token against its issuer's keys and rules.
    ///
    /// The claims are looked at only after the signature verified, so a claim named by
    /// [`VerifyError::InvalidClaims`] is one that the issuer did sign.
    pub fn verify(self, keys: &KeySet, policy: &VerificationPolicy<'_>) -> Result<VerifiedToken, VerifyError> {
        self.verify_and_read(keys, policy, Claims::from_members)
    }

    /// Verifies one of our own access tokens, whose `sub` may be longer, as [`UnverifiedToken::verify`] does other tokens.
    pub fn verify_access_token(
        self,
        keys: &KeySet,
        policy: &VerificationPolicy<'_>,
    ) -> Result<VerifiedToken<AccessTokenSubject>, VerifyError> {
        self.verify_and_read(keys, policy, Claims::from_access_token)
    }

    /// The claims of a token whose signature verifies, before they are judged. For explanations alone: what decides uses
    /// [`UnverifiedToken::verify`].
    pub fn signed_members(&self, keys: &KeySet, policy: &VerificationPolicy<'_>) -> Result<&Map<String, Value>, VerifyError> {
        self.check_signature(keys, policy)?;
        Ok(&self.members)
    }

    fn check_signature(&self, keys: &KeySet, policy: &VerificationPolicy<'_>) -> Result<(), VerifyError> {
        let Header { algorithm, key_id, token_type } = &self.header;
        check_algorithm(*algorithm, policy.algorithms)?;
        if !policy.token_types.contains(&token_type.as_deref().map(TokenType::new)) {
            return Err(VerifyError::TypeNotAllowed);
        }
        let key = keys.select(key_id.as_ref(), *algorithm)?;
        if !key.verifies(*algorithm, &self.signing_input, &self.signature) {
            return Err(VerifyError::BadSignature);
        }
        Ok(())
    }

    fn verify_and_read<S>(
        self,
        keys: &KeySet,
        policy: &VerificationPolicy<'_>,
        read: fn(Map<String, Value>) -> Result<Claims<S>, InvalidClaims>,
    ) -> Result<VerifiedToken<S>, VerifyError> {
        self.check_signature(keys, policy)?;
        let Header { algorithm, key_id, .. } = self.header;
        let claims = Claims { inexact: self.inexact, ..read(self.members)? };
        Ok(VerifiedToken { claims, key_id, algorithm, signing_input_hash: hash::plain_sha256(&self.signing_input) })
    }
}

/// Verifies the signature of a compact JWS alone, whatever its payload and `typ`, and returns the payload.
///
/// This is the layer that vectors of signature schemes are run against. Unlike a token's, the payload may be empty.
pub fn verify_signature(compact: &str, keys: &KeySet, algorithms: &BTreeSet<SignatureAlgorithm>) -> Result<Vec<u8>, VerifyError> {
    let CompactJws { header, signing_input, payload, signature } = CompactJws::parse(compact)?;
    check_algorithm(header.algorithm, algorithms)?;
    let key = keys.select(header.key_id.as_ref(), header.algorithm)?;
    if key.verifies(header.algorithm, signing_input, &signature) { Ok(payload) } else { Err(VerifyError::BadSignature) }
}

fn check_algorithm(algorithm: SignatureAlgorithm, allowed: &BTreeSet<SignatureAlgorithm>) -> Result<(), VerifyError> {
    if allowed.contains(&algorithm) { Ok(()) } else { Err(VerifyError::AlgorithmNotAllowed) }
}

impl<S> VerifiedToken<S> {
    /// The claims.
    pub fn claims(&self) -> &Claims<S> {
        &self.claims
    }

    /// The claims, taken out.
    pub fn into_claims(self) -> Claims<S> {
        self.claims
    }

    /// The `kid` of the key that signed, when the token named one.
    pub fn key_id(&self) -> Option<&KeyId> {
        self.key_id.as_ref()
    }

    /// The algorithm it was signed with.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The SHA-256 of the bytes that were signed. It identifies a token without `jti`: unlike the signature, the signed bytes
    /// cannot be rewritten by whoever holds the token (SECURITY 53).
    pub fn signing_input_hash(&self) -> [u8; 32] {
        self.signing_input_hash
    }
}

/// Shows nothing: what is unverified reaches no log line.
impl fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedToken(…)")
    }
}

/// Shows which key signed, not what the token says.
impl<S> fmt::Debug for VerifiedToken<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedToken").field("key_id", &self.key_id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
