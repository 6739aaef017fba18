//! Which primitive of `aws-lc-rs` each algorithm name stands for.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaParameters, RsaSignatureEncoding,
};
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;

/// The primitive behind an algorithm name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// RSASSA-PKCS1-v1_5 or RSASSA-PSS.
    Rsa(RsaScheme),
    /// ECDSA, whose hash the curve decides (RFC 7518, section 3.4).
    Ecdsa(Curve),
    /// Ed25519.
    Ed25519,
}

/// A padding and hash for RSA. The discriminants count from zero: a key keeps one parsed form per scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RsaScheme {
    Pkcs1Sha256,
    Pkcs1Sha384,
    Pkcs1Sha512,
    PssSha256,
    PssSha384,
    PssSha512,
}

/// A curve for ECDSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

pub(crate) const fn scheme(algorithm: SignatureAlgorithm) -> Scheme {
    match algorithm {
        SignatureAlgorithm::Rs256 => Scheme::Rsa(RsaScheme::Pkcs1Sha256),
        SignatureAlgorithm::Rs384 => Scheme::Rsa(RsaScheme::Pkcs1Sha384),
        SignatureAlgorithm::Rs512 => Scheme::Rsa(RsaScheme::Pkcs1Sha512),
        SignatureAlgorithm::Ps256 => Scheme::Rsa(RsaScheme::PssSha256),
        SignatureAlgorithm::Ps384 => Scheme::Rsa(RsaScheme::PssSha384),
        SignatureAlgorithm::Ps512 => Scheme::Rsa(RsaScheme::PssSha512),
        SignatureAlgorithm::Es256 => Scheme::Ecdsa(Curve::P256),
        SignatureAlgorithm::Es384 => Scheme::Ecdsa(Curve::P384),
        SignatureAlgorithm::Es512 => Scheme::Ecdsa(Curve::P521),
        SignatureAlgorithm::EdDsa => Scheme::Ed25519,
    }
}

impl RsaScheme {
    /// How many there are.
    pub(crate) const COUNT: usize = 6;

    pub(crate) const fn verification(self) -> &'static RsaParameters {
        match self {
            Self::Pkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Pkcs1Sha384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Pkcs1Sha512 => &RSA_PKCS1_2048_8192_SHA512,
            // The salt is as long as the hash (RFC 7518, section 3.5), which is what these constants ask for.
            Self::PssSha256 => &RSA_PSS_2048_8192_SHA256,
            Self::PssSha384 => &RSA_PSS_2048_8192_SHA384,
            Self::PssSha512 => &RSA_PSS_2048_8192_SHA512,
        }
    }

    pub(crate) const fn signing(self) -> &'static RsaSignatureEncoding {
        match self {
            Self::Pkcs1Sha256 => &RSA_PKCS1_SHA256,
            Self::Pkcs1Sha384 => &RSA_PKCS1_SHA384,
            Self::Pkcs1Sha512 => &RSA_PKCS1_SHA512,
            Self::PssSha256 => &RSA_PSS_SHA256,
            Self::PssSha384 => &RSA_PSS_SHA384,
            Self::PssSha512 => &RSA_PSS_SHA512,
        }
    }
}

impl Curve {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521].into_iter().find(|curve| curve.name() == name)
    }

    /// The value of `crv` (RFC 7518, section 6.2.1.1).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// The length of a coordinate in bytes.
    pub(crate) const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The algorithm that uses this curve.
    pub(crate) const fn algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::P256 => SignatureAlgorithm::Es256,
            Self::P384 => SignatureAlgorithm::Es384,
            Self::P521 => SignatureAlgorithm::Es512,
        }
    }

    pub(crate) const fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
        }
    }

    pub(crate) const fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }
}
