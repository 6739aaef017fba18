//! Untrusted compact JWS in, verified claims out; and our own tokens, keys and seals.
//!
//! This is the only crate that touches the bytes of keys. It is a strict layer over `aws-lc-rs`: everything a stranger wrote is
//! bounded before it is decoded, parsed once, and refused unless it is canonical. The crate deliberately does not know where keys
//! come from, what time it is, or what a trust relationship says; it opens no socket and reads no clock.
//!
//! Start at [`UnverifiedToken`]: it yields an issuer and a key id for an exact look-up and nothing else, until
//! [`UnverifiedToken::verify`] turns it into a [`VerifiedToken`], which has no other constructor. [`KeySet`] is the parsed form of
//! somebody's JWKS, [`Signer`] one of our own keys, [`SigningKey`] such a key in memory. [`json`] is the strict parser that all documents go through.

mod algorithm;
mod compact;
mod encoding;
mod explain;
#[cfg(test)]
mod fixtures;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod hash;
pub mod json;
mod key_set;
mod public_jwk;
mod public_key;
mod roca;
pub mod sealed;
pub mod secret;
mod signer;
mod signing_key;
mod token;

pub use compact::MalformedToken;
pub use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
pub use explain::WrittenHeader;
pub use key_set::{DescribedKey, InvalidKeySet, KeyNote, KeySet, SkippedKey};
pub use public_jwk::{PublicJwk, PublicJwkSet, RawPublicKey};
pub use public_key::UnusableKey;
pub use signer::{DeviceError, DeviceKeyId, KeyDevice, RemoteCipher, Signer, device_key_salt, is_sound};
pub use signing_key::{SigningError, SigningKey};
pub use token::{UnverifiedToken, VerificationPolicy, VerifiedToken, VerifyError, verify_signature};
