//! Our public keys as the world reads them (RFC 7517), with their thumbprints (RFC 7638).

use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use serde::Serialize;

use crate::algorithm::{Curve, Scheme, scheme};
use crate::{encoding, hash};

/// How many bytes a public key of Ed25519 has.
const ED25519_LEN: usize = 32;

/// The public half of one of our signing keys. There is no member that could hold a private half (SECURITY 60).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicJwk {
    kid: KeyId,
    alg: SignatureAlgorithm,
    #[serde(rename = "use")]
    purpose: &'static str,
    #[serde(flatten)]
    material: PublicMaterial,
}

/// A public key as devices give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawPublicKey<'a> {
    /// Modulus and exponent, big-endian.
    Rsa {
        /// The modulus.
        modulus: &'a [u8],
        /// The exponent.
        exponent: &'a [u8],
    },
    /// An uncompressed point (SEC 1, section 2.3.3), or that of Ed25519 (RFC 8032, section 5.1.5).
    Point(&'a [u8]),
}

/// What a public key consists of, in base64url.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kty")]
pub(crate) enum PublicMaterial {
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
    #[serde(rename = "EC")]
    Ec { crv: &'static str, x: String, y: String },
    #[serde(rename = "OKP")]
    Okp { crv: &'static str, x: String },
}

impl PublicMaterial {
    pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        Self::Rsa { n: encoding::encode(modulus), e: encoding::encode(exponent) }
    }

    /// From an uncompressed point (SEC 1, section 2.3.3); `None` when it is none of this curve.
    pub(crate) fn ec(curve: Curve, point: &[u8]) -> Option<Self> {
        let (x, y) = point.strip_prefix(&[0x04])?.split_at_checked(curve.coordinate_len())?;
        (y.len() == curve.coordinate_len()).then(|| Self::Ec {
            crv: curve.name(),
            x: encoding::encode(x),
            y: encoding::encode(y),
        })
    }

    pub(crate) fn ed25519(point: &[u8]) -> Self {
        Self::Okp { crv: "Ed25519", x: encoding::encode(point) }
    }

    /// The SHA-256 thumbprint in base64url (RFC 7638; RFC 8037, section 2): a hash of the required members in the order of their
    /// names. No value here needs escaping.
    fn thumbprint(&self) -> String {
        let canonical = match self {
            Self::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
            Self::Ec { crv, x, y } => format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#),
            Self::Okp { crv, x } => format!(r#"{{"crv":"{crv}","kty":"OKP","x":"{x}"}}"#),
        };
        encoding::encode(&hash::plain_sha256(canonical.as_bytes()))
    }
}

impl PublicJwk {
    /// The public half of a key in a device; `None` when it is none of this algorithm.
    pub fn from_raw(alg: SignatureAlgorithm, raw: RawPublicKey<'_>) -> Option<Self> {
        let unsigned = |bytes: &'_ [u8]| bytes.iter().take_while(|byte| **byte == 0).count();
        let material = match (raw, scheme(alg)) {
            (RawPublicKey::Rsa { modulus, exponent }, Scheme::Rsa(_)) => {
                let (modulus, exponent) = (modulus.get(unsigned(modulus)..)?, exponent.get(unsigned(exponent)..)?);
                PublicMaterial::rsa(modulus, exponent)
            }
            (RawPublicKey::Point(point), Scheme::Ecdsa(curve)) => PublicMaterial::ec(curve, point)?,
            (RawPublicKey::Point(point), Scheme::Ed25519) if point.len() == ED25519_LEN => PublicMaterial::ed25519(point),
            _ => return None,
        };
        Some(Self::new(alg, material))
    }

    /// A public key whose `kid` is its thumbprint.
    pub(crate) fn new(alg: SignatureAlgorithm, material: PublicMaterial) -> Self {
        #[expect(clippy::expect_used, reason = "43 characters of base64url are a key id")]
        let kid = material.thumbprint().parse().expect("a thumbprint is a key id");
        Self { kid, alg, purpose: "sig", material }
    }

    #[cfg(test)]
    pub(crate) fn material(&self) -> &PublicMaterial {
        &self.material
    }

    /// The `kid`: the key's thumbprint.
    pub fn key_id(&self) -> &KeyId {
        &self.kid
    }

    /// The `alg`: the one algorithm that the key signs with.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.alg
    }
}

/// A key set document to be published: serialise it as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PublicJwkSet {
    /// The keys, in the order they are published.
    pub keys: Vec<PublicJwk>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::{jwk, key};
    use crate::signer::Signer as _;

    #[test]
    fn thumbprints_are_those_of_the_published_examples() {
        // RFC 7638, section 3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst\
                 n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajr\
                 n1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rsa = PublicMaterial::Rsa { n: n.to_owned(), e: "AQAB".to_owned() };
        assert_eq!(rsa.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        // RFC 8037, appendix A.3.
        let okp = PublicMaterial::Okp { crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned() };
        assert_eq!(okp.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        // The P-521 key of RFC 7520, section 3.1.
        let ec = PublicMaterial::Ec {
            crv: "P-521",
            x: "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt".to_owned(),
            y: "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1".to_owned(),
        };
        assert_eq!(ec.thumbprint(), "dHri3SADZkrush5HU_50AoRhcKFryN-PI6jPBtPL55M");
    }

    #[test]
    fn the_public_half_of_a_key_in_a_device_is_published_like_any_other() {
        for algorithm in SignatureAlgorithm::ALL {
            let key = key(algorithm);
            let jwk = jwk(&key);
            let member = |name: &str| encoding::decode(jwk[name].as_str().unwrap()).unwrap();
            let others = SignatureAlgorithm::ALL.into_iter().filter(|other| jwk["kty"] != self::jwk(&self::key(*other))["kty"]);
            let read = |algorithm, bytes: &[&[u8]]| match bytes {
                [modulus, exponent] => PublicJwk::from_raw(algorithm, RawPublicKey::Rsa { modulus, exponent }),
                point => PublicJwk::from_raw(algorithm, RawPublicKey::Point(&point.concat())),
            };
            let raw = match jwk["kty"].as_str().unwrap() {
                // Devices pad numbers.
                "RSA" => vec![[&[0, 0][..], &member("n")].concat(), [&[0][..], &member("e")].concat()],
                "EC" => vec![[&[4][..], &member("x"), &member("y")].concat()],
                _ => vec![member("x")],
            };
            let raw: Vec<&[u8]> = raw.iter().map(Vec::as_slice).collect();
            assert_eq!(read(algorithm, &raw).as_ref(), Some(key.public_jwk()), "{algorithm}");
            for other in others {
                assert_eq!(read(other, &raw), None, "{algorithm} read as {other}");
            }
            if let [point] = *raw {
                for wrong in [&point[1..], &[point, &[1]].concat(), &[]] {
                    assert_eq!(read(algorithm, &[wrong]), None, "{algorithm}, {} octets", wrong.len());
                }
            }
        }
    }

    #[test]
    fn s60_a_published_key_has_exactly_the_public_members() {
        for (algorithm, members) in [
            (SignatureAlgorithm::Rs256, &["alg", "e", "kid", "kty", "n", "use"][..]),
            (SignatureAlgorithm::Es256, &["alg", "crv", "kid", "kty", "use", "x", "y"]),
            (SignatureAlgorithm::Es384, &["alg", "crv", "kid", "kty", "use", "x", "y"]),
            (SignatureAlgorithm::EdDsa, &["alg", "crv", "kid", "kty", "use", "x"]),
        ] {
            let key = key(algorithm);
            let set = serde_json::to_value(PublicJwkSet { keys: vec![key.public_jwk().clone()] }).unwrap();
            let jwk = set["keys"][0].as_object().unwrap();
            let mut names: Vec<_> = jwk.keys().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, members);
            assert_eq!((&jwk["alg"], &jwk["use"]), (&json!(algorithm.as_str()), &json!("sig")));
            assert_eq!(jwk["kid"], json!(key.key_id().as_str()));
            assert_eq!(set.as_object().unwrap().len(), 1);
        }
    }
}
