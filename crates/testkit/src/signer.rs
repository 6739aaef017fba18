//! Signs what a test wants signed, sense or nonsense: any header, any payload.
//!
//! Written against the crypto library and not against the `jose` crate, which would refuse most of what is wanted here.

use std::fmt;

use aws_lc_rs::encoding::{AsBigEndian as _, AsDer as _, Curve25519SeedBin, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use serde_json::{Value, json};

use crate::claims::ClaimSet;

/// A key pair with a name and the algorithm it signs with.
pub struct Signer {
    algorithm: SignatureAlgorithm,
    key_id: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    /// A new key pair.
    pub fn new(algorithm: SignatureAlgorithm, key_id: &str) -> Self {
        let pair = match algorithm {
            SignatureAlgorithm::Rs256
            | SignatureAlgorithm::Rs384
            | SignatureAlgorithm::Rs512
            | SignatureAlgorithm::Ps256
            | SignatureAlgorithm::Ps384
            | SignatureAlgorithm::Ps512 => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("can generate an RSA key")),
            SignatureAlgorithm::Es256 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            SignatureAlgorithm::Es384 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            SignatureAlgorithm::Es512 => ecdsa(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            SignatureAlgorithm::EdDsa => Pair::Ed25519(Ed25519KeyPair::generate().expect("can generate an Ed25519 key")),
        };
        Self { algorithm, key_id: key_id.to_owned(), pair }
    }

    /// The name of the key, `kid`.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The header an honest issuer writes: `alg`, `kid` and `typ: JWT`.
    pub fn header(&self) -> Value {
        json!({ "alg": self.algorithm.as_str(), "kid": self.key_id, "typ": "JWT" })
    }

    /// A token with the honest header.
    pub fn sign(&self, claims: &ClaimSet) -> String {
        self.sign_bytes(&self.header(), &claims.to_json())
    }

    /// A token with this header and payload, whatever they say. The signature is always the key's own.
    pub fn sign_bytes(&self, header: &Value, payload: &[u8]) -> String {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        self.sign_input(&format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload)))
    }

    /// A token whose first two segments are this text, for headers that no JSON library would write.
    pub fn sign_input(&self, signing_input: &str) -> String {
        let signature = self.signature(signing_input.as_bytes());
        format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The raw signature of a message.
    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(self.algorithm), &random, message, &mut signature).expect("can sign");
                signature
            }
            Pair::Ecdsa(pair) => pair.sign(&random, message).expect("can sign").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The public half as a member of a JWKS.
    pub fn public_jwk(&self) -> Value {
        let mut jwk = json!({ "kid": self.key_id, "use": "sig", "alg": self.algorithm.as_str() });
        let parameters = match &self.pair {
            Pair::Rsa(pair) => {
                let (modulus, exponent) = rsa_public_key(pair.public_key().as_ref());
                json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": URL_SAFE_NO_PAD.encode(exponent) })
            }
            Pair::Ecdsa(pair) => {
                let curve = match self.algorithm {
                    SignatureAlgorithm::Es256 => "P-256",
                    SignatureAlgorithm::Es384 => "P-384",
                    _ => "P-521",
                };
                // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) })
            }
            Pair::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()) })
            }
        };
        let members = jwk.as_object_mut().expect("made as an object above");
        members.extend(parameters.as_object().cloned().expect("made as an object above"));
        jwk
    }

    /// The whole key as a JWK, private half included: what nobody should publish.
    pub fn private_jwk(&self) -> Value {
        let mut jwk = self.public_jwk();
        let private = match &self.pair {
            Pair::Rsa(pair) => {
                let pkcs8: Pkcs8V1Der<'_> = pair.as_der().expect("can write an RSA key");
                rsa_private_exponent(pkcs8.as_ref())
            }
            Pair::Ecdsa(pair) => {
                let number: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().expect("can write an EC key");
                number.as_ref().to_vec()
            }
            Pair::Ed25519(pair) => {
                let seed: Curve25519SeedBin<'_> =
                    pair.seed().and_then(|seed| seed.as_be_bytes()).expect("can write an Ed25519 key");
                seed.as_ref().to_vec()
            }
        };
        jwk["d"] = URL_SAFE_NO_PAD.encode(private).into();
        jwk
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Pair {
    Pair::Ecdsa(EcdsaKeyPair::generate(algorithm).expect("can generate an EC key"))
}

fn rsa_encoding(algorithm: SignatureAlgorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        SignatureAlgorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
        SignatureAlgorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
        SignatureAlgorithm::Ps256 => &signature::RSA_PSS_SHA256,
        SignatureAlgorithm::Ps384 => &signature::RSA_PSS_SHA384,
        SignatureAlgorithm::Ps512 => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

/// Modulus and exponent of a DER `RSAPublicKey`: a sequence of two integers (RFC 8017, appendix A.1.1).
fn rsa_public_key(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (sequence, _) = der_value(der);
    let (modulus, rest) = der_value(sequence);
    let (exponent, _) = der_value(rest);
    // A leading zero only says that the number is positive.
    let unsigned = |number: &[u8]| number.strip_prefix(&[0]).unwrap_or(number).to_vec();
    (unsigned(modulus), unsigned(exponent))
}

/// The private exponent of a PKCS #8 RSA key: the fourth integer of the `RSAPrivateKey` inside (RFC 8017, appendix A.1.2), which
/// is the third element of the `PrivateKeyInfo` (RFC 5208, section 5).
fn rsa_private_exponent(der: &[u8]) -> Vec<u8> {
    let nth = |der: &[u8], index: usize| {
        let (mut value, mut rest) = der_value(der);
        for _ in 0..index {
            (value, rest) = der_value(rest);
        }
        value.to_vec()
    };
    let key = nth(der_value(der).0, 2);
    let exponent = nth(der_value(&key).0, 3);
    exponent.strip_prefix(&[0]).unwrap_or(&exponent).to_vec()
}

/// The value of the first DER element, and what follows the element.
fn der_value(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, header) = match der[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let bytes = &der[2..2 + usize::from(long & 0x7f)];
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + bytes.len())
        }
    };
    der[header..].split_at(length)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ParsedPublicKey, VerificationAlgorithm};

    use super::*;

    #[test]
    fn rsa_parameters_are_those_of_the_key() {
        let signer = Signer::new(SignatureAlgorithm::Rs256, "k");
        let jwk = signer.public_jwk();
        let decode = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        assert_eq!(decode("e"), [1, 0, 1]);
        let key = signature::RsaPublicKeyComponents { n: decode("n"), e: decode("e") };
        let token = signer.sign_bytes(&signer.header(), b"{}");
        let (input, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, input.as_bytes(), &signature).is_ok());
        assert!(key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, b"other", &signature).is_err());
    }

    #[test]
    fn every_other_algorithm_signs_verifiably() {
        let algorithms: [(SignatureAlgorithm, &'static dyn VerificationAlgorithm); 4] = [
            (SignatureAlgorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED),
            (SignatureAlgorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED),
            (SignatureAlgorithm::Es512, &signature::ECDSA_P521_SHA512_FIXED),
            (SignatureAlgorithm::EdDsa, &signature::ED25519),
        ];
        for (algorithm, verification) in algorithms {
            let signer = Signer::new(algorithm, "k");
            let public: Vec<u8> = match &signer.pair {
                Pair::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
                Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
                Pair::Rsa(_) => unreachable!(),
            };
            let key = ParsedPublicKey::new(verification, public).unwrap();
            assert!(key.verify_sig(b"message", &signer.signature(b"message")).is_ok(), "{algorithm}");
        }
    }
}
