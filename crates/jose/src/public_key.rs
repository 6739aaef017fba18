//! One JSON Web Key of somebody else (RFC 7517), parsed once.

use std::sync::OnceLock;

use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RsaPublicKeyComponents};
use countersign_domain::trust::key_source::KeyUses;
use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use serde_json::{Map, Value};

use crate::algorithm::{Curve, RsaScheme, Scheme, scheme};
use crate::{encoding, roca};

/// Members that only private and symmetric keys have (RFC 7518, sections 6.2.2, 6.3.2 and 6.4).
const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Exponents from 65537 to the largest that the crypto library takes, 33 bits (SECURITY 9).
const RSA_EXPONENTS: std::ops::Range<u64> = 65_537..1 << 33;

/// Why a key of a set cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UnusableKey {
    /// Not an object, or a member is missing, of the wrong type, or not canonical base64url.
    #[error("a member is missing or malformed")]
    Malformed,
    /// It holds private members: whoever reads the set could sign (SECURITY 5).
    #[error("it holds private members")]
    Private,
    /// A symmetric key.
    #[error("it is symmetric")]
    Symmetric,
    /// A `kty` or `crv` that no accepted algorithm uses.
    #[error("its type or curve is not known")]
    UnknownType,
    /// `use` or `key_ops` forbids verification.
    #[error("it is not for verifying signatures")]
    NotForVerification,
    /// `use` is `jwt-svid`, and the issuer is not known to publish a SPIFFE bundle.
    #[error("its use is jwt-svid, which verifies tokens of trusted issuers with the preset spiffe alone")]
    JwtSvid,
    /// `alg` names an algorithm that is never accepted, or one that such a key cannot serve.
    #[error("its alg is not an accepted algorithm for such a key")]
    Algorithm,
    /// An RSA modulus under 2048 or over 8192 bits, or even.
    #[error("its modulus is not an odd number of 2048 to 8192 bits")]
    Modulus,
    /// An RSA exponent that is even, below 65537, or above 33 bits.
    #[error("its exponent is not an odd number from 65537 to 33 bits")]
    Exponent,
    /// An RSA modulus with the ROCA fingerprint (CVE-2017-15361).
    #[error("its modulus is vulnerable to ROCA")]
    Roca,
    /// A point of the wrong length, not on its curve, or of small order.
    #[error("it is not a point on its curve")]
    Point,
}

/// A usable public key.
pub(crate) struct PublicKey {
    pub(crate) key_id: Option<KeyId>,
    /// What kty, crv and alg permit. Never empty.
    algorithms: Vec<SignatureAlgorithm>,
    material: Material,
    /// Whether `n` or `e` was written with leading zero octets.
    pub(crate) has_leading_zeros: bool,
}

enum Material {
    /// RSA keys without `alg` permit six algorithms, of which an issuer uses one: each is made ready at its first use.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8>, parsed: Box<[OnceLock<Option<ParsedPublicKey>>; RsaScheme::COUNT]> },
    /// One curve, one algorithm.
    Point(ParsedPublicKey),
}

impl PublicKey {
    /// Parses a JWK, refusing what SECURITY 4, 5 and 9 refuse.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>, uses: KeyUses) -> Result<Self, UnusableKey> {
        let kty = text(jwk, "kty")?.ok_or(UnusableKey::Malformed)?;
        if kty == "oct" {
            return Err(UnusableKey::Symmetric);
        }
        if PRIVATE_MEMBERS.iter().any(|member| jwk.contains_key(*member)) {
            return Err(UnusableKey::Private);
        }
        check_purpose(jwk, uses)?;
        let key_id = text(jwk, "kid")?.map(str::parse).transpose().map_err(|_| UnusableKey::Malformed)?;
        let kind = Kind::of(kty, jwk)?;
        // Before the material: a key for another algorithm, such as one for encryption, can have sizes that are none of ours.
        let algorithms = kind.algorithms(text(jwk, "alg")?)?;
        let mut has_leading_zeros = false;
        let material = match kind {
            Kind::Rsa => rsa(jwk, &mut has_leading_zeros)?,
            Kind::Ecdsa(curve) => Material::Point(ec(jwk, curve)?),
            Kind::Ed25519 => Material::Point(ed25519(jwk)?),
        };
        Ok(Self { key_id, algorithms, material, has_leading_zeros })
    }

    /// Whether both are the same key, whatever ids and algorithms they are listed with.
    pub(crate) fn has_material_of(&self, other: &Self) -> bool {
        match (&self.material, &other.material) {
            (Material::Rsa { modulus, exponent, .. }, Material::Rsa { modulus: other_modulus, exponent: other_exponent, .. }) => {
                (modulus, exponent) == (other_modulus, other_exponent)
            }
            // Points of different curves differ in length.
            (Material::Point(point), Material::Point(other)) => point.as_ref() == other.as_ref(),
            _ => false,
        }
    }

    /// Permits what another entry of the same key permits, too.
    pub(crate) fn permit_also(&mut self, algorithms: &[SignatureAlgorithm]) {
        for algorithm in algorithms {
            if !self.permits(*algorithm) {
                self.algorithms.push(*algorithm);
            }
        }
    }

    /// The algorithms that this key permits.
    pub(crate) fn algorithms(&self) -> &[SignatureAlgorithm] {
        &self.algorithms
    }

    /// Whether kty, crv and alg permit `algorithm`.
    pub(crate) fn permits(&self, algorithm: SignatureAlgorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether `signature` over `message` is by this key. False for an algorithm that the key does not permit.
    pub(crate) fn verifies(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.permits(algorithm) {
            return false;
        }
        let parsed = match (&self.material, scheme(algorithm)) {
            (Material::Rsa { modulus, exponent, parsed }, Scheme::Rsa(scheme)) => {
                parsed.get(scheme as usize).and_then(|slot| slot.get_or_init(|| parse_rsa(modulus, exponent, scheme)).as_ref())
            }
            (Material::Point(parsed), Scheme::Ecdsa(_) | Scheme::Ed25519) => Some(parsed),
            _ => None,
        };
        parsed.is_some_and(|key| key.verify_sig(message, signature).is_ok())
    }
}

/// What `kty` and `crv` say.
enum Kind {
    Rsa,
    Ecdsa(Curve),
    Ed25519,
}

impl Kind {
    fn of(kty: &str, jwk: &Map<String, Value>) -> Result<Self, UnusableKey> {
        let curve = || text(jwk, "crv")?.ok_or(UnusableKey::Malformed);
        match kty {
            "RSA" => Ok(Self::Rsa),
            "EC" => Curve::from_name(curve()?).map(Self::Ecdsa).ok_or(UnusableKey::UnknownType),
            "OKP" if curve()? == "Ed25519" => Ok(Self::Ed25519),
            _ => Err(UnusableKey::UnknownType),
        }
    }

    /// The algorithms that such a key permits, of which `alg` leaves one.
    fn algorithms(&self, alg: Option<&str>) -> Result<Vec<SignatureAlgorithm>, UnusableKey> {
        let possible = match self {
            Self::Rsa => RSA_ALGORITHMS.to_vec(),
            Self::Ecdsa(curve) => vec![curve.algorithm()],
            Self::Ed25519 => vec![SignatureAlgorithm::EdDsa],
        };
        let Some(name) = alg else { return Ok(possible) };
        name.parse().ok().filter(|algorithm| possible.contains(algorithm)).map(|one| vec![one]).ok_or(UnusableKey::Algorithm)
    }
}

const RSA_ALGORITHMS: [SignatureAlgorithm; RsaScheme::COUNT] = [
    SignatureAlgorithm::Rs256,
    SignatureAlgorithm::Rs384,
    SignatureAlgorithm::Rs512,
    SignatureAlgorithm::Ps256,
    SignatureAlgorithm::Ps384,
    SignatureAlgorithm::Ps512,
];

/// `use` and `key_ops`, when present, must allow verification (RFC 7517, sections 4.2 and 4.3).
fn check_purpose(jwk: &Map<String, Value>, uses: KeyUses) -> Result<(), UnusableKey> {
    match (text(jwk, "use")?, uses) {
        (None | Some("sig"), _) | (Some("jwt-svid"), KeyUses::SignatureAndJwtSvid) => {}
        (Some("jwt-svid"), KeyUses::Signature) => return Err(UnusableKey::JwtSvid),
        (Some(_), _) => return Err(UnusableKey::NotForVerification),
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().all(Value::is_string) => {
            if operations.iter().any(|operation| operation == "verify") { Ok(()) } else { Err(UnusableKey::NotForVerification) }
        }
        Some(_) => Err(UnusableKey::Malformed),
    }
}

fn rsa(jwk: &Map<String, Value>, has_leading_zeros: &mut bool) -> Result<Material, UnusableKey> {
    // RFC 7518, section 6.3.1.1, requires the shortest form, and notes that some encoders write a zero octet before it: that of a
    // signed integer. The number is the same.
    let mut number = |member| {
        let mut octets = bytes(jwk, member)?;
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        *has_leading_zeros |= zeros > 0;
        octets.drain(..zeros);
        if octets.is_empty() { Err(UnusableKey::Malformed) } else { Ok(octets) }
    };
    let (modulus, exponent) = (number("n")?, number("e")?);
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) || modulus.last().is_none_or(|byte| byte % 2 == 0) {
        return Err(UnusableKey::Modulus);
    }
    let value = exponent.iter().try_fold(0_u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)));
    if !value.is_some_and(|value| RSA_EXPONENTS.contains(&value) && value % 2 == 1) {
        return Err(UnusableKey::Exponent);
    }
    if roca::has_fingerprint(&modulus) {
        return Err(UnusableKey::Roca);
    }
    Ok(Material::Rsa { modulus, exponent, parsed: Box::default() })
}

fn parse_rsa(modulus: &[u8], exponent: &[u8], scheme: RsaScheme) -> Option<ParsedPublicKey> {
    RsaPublicKeyComponents { n: modulus, e: exponent }.to_parsed_public_key(scheme.verification()).ok()
}

fn ec(jwk: &Map<String, Value>, curve: Curve) -> Result<ParsedPublicKey, UnusableKey> {
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    // The exact length of RFC 7518, section 6.2.1.2; leading zeros are kept.
    if x.len() != curve.coordinate_len() || y.len() != curve.coordinate_len() {
        return Err(UnusableKey::Point);
    }
    // SEC 1, section 2.3.3, uncompressed. Parsing checks that the point is on the curve.
    let point = [&[0x04], x.as_slice(), y.as_slice()].concat();
    ParsedPublicKey::new(curve.verification(), point).map_err(|_| UnusableKey::Point)
}

fn ed25519(jwk: &Map<String, Value>) -> Result<ParsedPublicKey, UnusableKey> {
    let point: [u8; 32] = bytes(jwk, "x")?.try_into().map_err(|_| UnusableKey::Point)?;
    if is_degenerate_ed25519(point) {
        return Err(UnusableKey::Point);
    }
    ParsedPublicKey::new(&ED25519, point).map_err(|_| UnusableKey::Point)
}

/// Whether an Ed25519 point is not canonical or has small order: under such a key anybody can make signatures.
fn is_degenerate_ed25519(point: [u8; 32]) -> bool {
    /// y-coordinates of the points of order 1, 2, 4 and 8, little-endian, without the sign bit of x.
    const SMALL_ORDER: [[u8; 32]; 5] = [
        [0; 32],
        little_endian(1),
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac,
            0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53,
            0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
        PRIME_MINUS_1,
    ];
    /// 2^255 - 20, that is, -1.
    const PRIME_MINUS_1: [u8; 32] = {
        let mut bytes = [0xff; 32];
        bytes[0] = 0xec;
        bytes[31] = 0x7f;
        bytes
    };
    let mut y = point;
    y[31] &= 0x7f;
    let is_canonical = y.iter().rev().le(PRIME_MINUS_1.iter().rev());
    !is_canonical || SMALL_ORDER.contains(&y)
}

const fn little_endian(value: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = value;
    bytes
}

fn text<'a>(jwk: &'a Map<String, Value>, member: &str) -> Result<Option<&'a str>, UnusableKey> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(UnusableKey::Malformed),
    }
}

fn bytes(jwk: &Map<String, Value>, member: &str) -> Result<Vec<u8>, UnusableKey> {
    text(jwk, member)?.and_then(encoding::decode).ok_or(UnusableKey::Malformed)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
