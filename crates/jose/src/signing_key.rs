//! Our signing keys.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use zeroize::Zeroizing;

use crate::algorithm::{RsaScheme, Scheme, scheme};
use crate::public_jwk::{PublicJwk, PublicMaterial};
use crate::signer::Signer;

/// Why a key was not made or read, or nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The crypto library made no key.
    #[error("generating a key failed")]
    Generate,
    /// The bytes are not a private key for this algorithm.
    #[error("not a private key for this algorithm")]
    InvalidKey,
    /// The key could not be serialised.
    #[error("serialising the key failed")]
    Serialize,
    /// The crypto library made no signature.
    #[error("signing failed")]
    Sign,
    /// The device that keeps the key cannot be used now.
    #[error("the device that keeps the key cannot be used")]
    Device,
    /// The token would be longer than any verifier like ours accepts, 16 KiB.
    #[error("the token would be longer than 16 KiB")]
    TooLong,
}

/// A private key, parsed, that signs with one algorithm. Its id is its RFC 7638 thumbprint, so a key and its id cannot be mixed up.
///
/// Generating an RSA key takes about 70 ms of processor time: do it off the async threads.
pub struct SigningKey {
    pair: Pair,
    public: PublicJwk,
}

enum Pair {
    Rsa(RsaKeyPair, RsaScheme),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Makes a key. RSA keys have 2048 bits.
    pub fn generate(algorithm: SignatureAlgorithm) -> Result<Self, SigningError> {
        let pair = match scheme(algorithm) {
            Scheme::Rsa(scheme) => RsaKeyPair::generate(KeySize::Rsa2048).map(|pair| Pair::Rsa(pair, scheme)),
            Scheme::Ecdsa(curve) => EcdsaKeyPair::generate(curve.signing()).map(Pair::Ecdsa),
            Scheme::Ed25519 => Ed25519KeyPair::generate().map(Pair::Ed25519),
        };
        Self::new(algorithm, pair.map_err(|_| SigningError::Generate)?).ok_or(SigningError::Generate)
    }

    /// Reads a key that [`SigningKey::to_pkcs8`] wrote.
    pub fn from_pkcs8(algorithm: SignatureAlgorithm, pkcs8: &[u8]) -> Result<Self, SigningError> {
        let pair = match scheme(algorithm) {
            Scheme::Rsa(scheme) => RsaKeyPair::from_pkcs8(pkcs8).map(|pair| Pair::Rsa(pair, scheme)),
            Scheme::Ecdsa(curve) => EcdsaKeyPair::from_pkcs8(curve.signing(), pkcs8).map(Pair::Ecdsa),
            Scheme::Ed25519 => Ed25519KeyPair::from_pkcs8(pkcs8).map(Pair::Ed25519),
        };
        Self::new(algorithm, pair.map_err(|_| SigningError::InvalidKey)?).ok_or(SigningError::InvalidKey)
    }

    /// The private key as PKCS #8 (RFC 5958), to be sealed at once.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, SigningError> {
        // The library's own buffers wipe themselves when dropped.
        let bytes = match &self.pair {
            Pair::Rsa(pair, _) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).map(|der| der.as_ref().to_vec()),
            Pair::Ecdsa(pair) => pair.to_pkcs8v1().map(|document| document.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.to_pkcs8().map(|document| document.as_ref().to_vec()),
        };
        bytes.map(Zeroizing::new).map_err(|_| SigningError::Serialize)
    }

    /// Signs under a header that the caller wrote: the tests need wrong ones.
    #[cfg(test)]
    pub(crate) fn sign_with_header(&self, header: &[u8], payload: &[u8]) -> Result<String, SigningError> {
        crate::signer::compact(header, payload, |message| self.signature(message))
    }

    fn new(algorithm: SignatureAlgorithm, pair: Pair) -> Option<Self> {
        let material = match (&pair, scheme(algorithm)) {
            (Pair::Rsa(pair, _), _) => {
                let (modulus, exponent) = rsa_public_key(pair.public_key().as_ref())?;
                PublicMaterial::rsa(modulus, exponent)
            }
            (Pair::Ecdsa(pair), Scheme::Ecdsa(curve)) => PublicMaterial::ec(curve, pair.public_key().as_ref())?,
            (Pair::Ed25519(pair), _) => PublicMaterial::ed25519(pair.public_key().as_ref()),
            (Pair::Ecdsa(_), _) => return None,
        };
        Some(Self { pair, public: PublicJwk::new(algorithm, material) })
    }
}

impl Signer for SigningKey {
    fn public_jwk(&self) -> &PublicJwk {
        &self.public
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        // The library draws from its own random source whatever is passed here.
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair, scheme) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(scheme.signing(), &random, message, &mut signature).map(|()| signature)
            }
            Pair::Ecdsa(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()),
        };
        signature.map_err(|_| SigningError::Sign)
    }

    fn takes_long(&self) -> bool {
        matches!(self.pair, Pair::Rsa(..))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("key_id", self.key_id()).field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}

/// Modulus and exponent, big-endian without leading zeros, of an `RSAPublicKey` in DER (RFC 8017, appendix A.1.1).
fn rsa_public_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, rest) = der_value(der, 0x30)?;
    let (modulus, after) = der_value(sequence, 0x02)?;
    let (exponent, end) = der_value(after, 0x02)?;
    // A leading zero keeps an integer positive in DER; JWK has no sign.
    let unsigned = |integer: &'_ [u8]| integer.iter().take_while(|byte| **byte == 0).count();
    let (modulus, exponent) = (modulus.get(unsigned(modulus)..)?, exponent.get(unsigned(exponent)..)?);
    (rest.is_empty() && end.is_empty()).then_some((modulus, exponent))
}

/// The content of one DER value with this tag, and what follows it.
fn der_value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk()?;
    if found != tag {
        return None;
    }
    if first < 0x80 {
        return rest.split_at_checked(usize::from(first));
    }
    let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    let length = length.iter().try_fold(0_usize, |value, byte| value.checked_mul(256)?.checked_add(usize::from(*byte)))?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding;
    use crate::fixtures::{RSA, key};

    #[test]
    fn the_header_says_how_to_verify() {
        let key = key(SignatureAlgorithm::Es256);
        let token = key.sign("a\"t", b"{}").unwrap();
        let header = encoding::decode(token.split_once('.').unwrap().0).unwrap();
        let header = crate::json::parse_object(&header).unwrap();
        let expected = serde_json::json!({"alg": "ES256", "kid": key.key_id().as_str(), "typ": "a\"t"});
        assert_eq!(serde_json::Value::Object(header), expected);
    }

    #[test]
    fn s61_debug_shows_the_id_and_the_algorithm_alone() {
        let key = key(SignatureAlgorithm::Es256);
        let expected = format!("SigningKey {{ key_id: {:?}, algorithm: Es256, .. }}", key.key_id().as_str());
        assert_eq!(format!("{key:?}"), expected);
    }

    #[test]
    fn a_private_key_is_read_only_for_its_own_kind_of_algorithm() {
        let kind = |algorithm| match scheme(algorithm) {
            Scheme::Rsa(_) => "RSA",
            Scheme::Ecdsa(curve) => curve.name(),
            Scheme::Ed25519 => "Ed25519",
        };
        for algorithm in SignatureAlgorithm::ALL {
            let pkcs8 = key(algorithm).to_pkcs8().unwrap();
            for other in SignatureAlgorithm::ALL {
                let read = SigningKey::from_pkcs8(other, &pkcs8).map(|_| ());
                let expected = if kind(algorithm) == kind(other) { Ok(()) } else { Err(SigningError::InvalidKey) };
                assert_eq!(read, expected, "{algorithm} as {other}");
            }
        }
        for bytes in [&b""[..], b"\x30\x00", &[0xff; 200]] {
            assert_eq!(SigningKey::from_pkcs8(SignatureAlgorithm::Es256, bytes).unwrap_err(), SigningError::InvalidKey);
        }
    }

    #[test]
    fn the_modulus_is_read_out_of_der_without_its_sign() {
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        let der =
            |modulus: &[u8]| [&[0x30, length(modulus) + 7, 0x02, length(modulus)], modulus, b"\x02\x03\x01\x00\x01"].concat();
        assert_eq!(rsa_public_key(&der(&[0x00, 0x80])), Some((&[0x80][..], &[1, 0, 1][..])));
        assert_eq!(rsa_public_key(&der(&[0x7f])), Some((&[0x7f][..], &[1, 0, 1][..])));
        let whole = der(&[0x00, 0x80]);
        for length in 0..whole.len() {
            assert_eq!(rsa_public_key(&whole[..length]), None, "{length}");
        }
        assert_eq!(rsa_public_key(&[whole.as_slice(), b"\0"].concat()), None);
        let PublicMaterial::Rsa { n, e } = RSA.public_jwk().material() else { panic!("an RSA key") };
        assert_eq!((encoding::decode(n).unwrap().len(), e.as_str()), (256, "AQAB"));
    }

    #[test]
    fn s62_the_rsa_crate_is_not_in_the_build() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains("name = \"aws-lc-rs\""));
        assert!(!lock.contains("name = \"rsa\""), "RUSTSEC-2023-0071");
    }
}
