//! Our public keys as the world reads them (RFC 7517), with their thumbprints (RFC 7638).

use countersign_domain::name::KeyId;
use countersign_domain::trusted_issuer::SignatureAlgorithm;
use serde::Serialize;

use crate::algorithm::Curve;
use crate::{encoding, hash};

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
    /// A public key whose `kid` is its thumbprint.
    pub(crate) fn new(alg: SignatureAlgorithm, material: PublicMaterial) -> Self {
        #[expect(clippy::expect_used, reason = "43 characters of base64url are a key id")]
        let kid = material.thumbprint().parse().expect("a thumbprint is a key id");
        Self { kid, alg, purpose: "sig", material }
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
