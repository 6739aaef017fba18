//! The deployment secret, and one key per purpose derived from it.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use zeroize::Zeroizing;

use crate::hash::for_each_framed;

/// The secret is too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a deployment secret must have at least 32 bytes")]
pub struct SecretTooShort;

const SALT: &[u8] = b"countersign deployment secret v1";

/// The one secret that all replicas of a deployment share. Never used itself: every purpose gets a key of its own.
pub struct DeploymentSecret(Zeroizing<Vec<u8>>);

impl DeploymentSecret {
    /// Takes the content of the secret's file: at least 32 bytes, as they stand.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretTooShort> {
        if bytes.len() < 32 {
            return Err(SecretTooShort);
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// The key for a purpose: HKDF-SHA256 (RFC 5869) with the purpose as `info`. Distinct purposes give independent keys.
    pub fn derive(&self, purpose: &'static str) -> MacKey {
        // The library's HKDF can fail, for outputs longer than 255 hashes. One hash needs no more than this (RFC 5869, section 2).
        let extracted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SALT), &self.0);
        let mut expand = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, extracted.as_ref()));
        expand.update(purpose.as_bytes());
        expand.update(&[1]);
        MacKey(hmac::Key::new(hmac::HMAC_SHA256, expand.sign().as_ref()))
    }
}

impl fmt::Debug for DeploymentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeploymentSecret(…)")
    }
}

/// Authenticates what this deployment wrote somewhere and will read again: page tokens, entries in Redis.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// The HMAC-SHA256 of a list of parts, each preceded by its length, so that no two lists share a tag.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for_each_framed(parts, |bytes| context.update(bytes));
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Whether `tag` is the tag of these parts, in constant time.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.tag(parts), tag).is_ok()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hkdf;

    use super::*;

    fn secret() -> DeploymentSecret {
        DeploymentSecret::from_bytes(&[7; 32]).unwrap()
    }

    #[test]
    fn keys_are_those_of_the_librarys_hkdf() {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&[7; 32]);
        let key: hmac::Key = extracted.expand(&[b"page tokens"], hmac::HMAC_SHA256).unwrap().into();
        let mut framed = hmac::Context::with_key(&key);
        framed.update(b"\0\0\0\0\0\0\0\x01x");
        assert_eq!(secret().derive("page tokens").tag(&[b"x"]), framed.sign().as_ref());
    }

    #[test]
    fn each_purpose_and_each_secret_has_its_own_key() {
        let tag = |secret: &DeploymentSecret, purpose| secret.derive(purpose).tag(&[b"x"]);
        let other = DeploymentSecret::from_bytes(&[8; 32]).unwrap();
        assert_eq!(tag(&secret(), "a"), tag(&secret(), "a"));
        assert_ne!(tag(&secret(), "a"), tag(&secret(), "b"));
        assert_ne!(tag(&secret(), "a"), tag(&other, "a"));
    }

    #[test]
    fn s46_s73_an_altered_part_or_tag_does_not_verify() {
        let key = secret().derive("test");
        let tag = key.tag(&[b"ab", b"c"]);
        assert!(key.verify(&[b"ab", b"c"], &tag));
        for parts in [&[&b"a"[..], b"bc"][..], &[b"abc"], &[b"ab", b"c", b""], &[b"ab", b"d"], &[]] {
            assert!(!key.verify(parts, &tag), "{parts:?}");
        }
        for index in 0..tag.len() {
            let mut altered = tag;
            altered[index] ^= 1;
            assert!(!key.verify(&[b"ab", b"c"], &altered));
        }
        assert!(!key.verify(&[b"ab", b"c"], &tag[..31]));
        assert!(!key.verify(&[b"ab", b"c"], &[]));
    }

    #[test]
    fn short_secrets_are_refused() {
        assert_eq!(DeploymentSecret::from_bytes(&[7; 31]).unwrap_err(), SecretTooShort);
    }

    #[test]
    fn s61_debug_shows_no_secret() {
        let secret = DeploymentSecret::from_bytes(b"canary-canary-canary-canary-canary").unwrap();
        assert_eq!(format!("{secret:?} {:?}", secret.derive("x")), "DeploymentSecret(…) MacKey(…)");
    }
}
