//! Trusted issuers: the OIDC issuers of others whose tokens a workspace accepts.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{TrustedIssuerId, WorkspaceId};
use crate::issuer_url::{IssuerUrl, KeySetUrl};
use crate::name::{Audience, DisplayName};
use crate::time::Timestamp;

/// An issuer of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// Its id.
    pub id: TrustedIssuerId,
    /// The owner.
    pub workspace_id: WorkspaceId,
    /// Everything an operator may set.
    pub settings: TrustedIssuerSettings,
    /// Counts its changes; the etag is made of it, and commits are checked against it.
    pub revision: i64,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What an operator may set of a trusted issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedIssuerSettings {
    /// For people.
    pub display_name: Option<DisplayName>,
    /// The exact `iss` of its tokens. Never changes.
    pub issuer_url: IssuerUrl,
    /// Where its keys are read, when not from the discovery document.
    pub jwks_url: Option<KeySetUrl>,
    /// The audiences accepted on its tokens. Empty: the deployment's own audience.
    pub subject_audiences: Vec<Audience>,
    /// The signature algorithms accepted. Never empty.
    pub algorithms: BTreeSet<SignatureAlgorithm>,
    /// The `typ` values accepted, compared exactly; `None` is an absent header. Never empty.
    pub token_types: BTreeSet<Option<String>>,
    /// The longest accepted `exp` - `iat`.
    pub max_token_lifetime: Duration,
    /// How far its clock may differ from ours.
    pub clock_skew: Duration,
    /// What makes a token single-use.
    pub replay_policy: ReplayPolicy,
    /// Whether its tokens are accepted at all.
    pub enabled: bool,
}

impl TrustedIssuerSettings {
    /// The longest `max_token_lifetime` that can be set.
    pub const MAX_TOKEN_LIFETIME_LIMIT: Duration = Duration::from_hours(24);
    /// `max_token_lifetime` when nothing is said.
    pub const DEFAULT_MAX_TOKEN_LIFETIME: Duration = Duration::from_hours(1);
    /// The largest `clock_skew` that can be set (SECURITY 13).
    pub const CLOCK_SKEW_LIMIT: Duration = Duration::from_mins(1);
    /// `clock_skew` when nothing is said.
    pub const DEFAULT_CLOCK_SKEW: Duration = Duration::from_secs(30);
}

/// How often one token may be exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayPolicy {
    /// Once; without `jti` the hash of the signing input identifies the token.
    #[default]
    SingleUse,
    /// Once, and only with a `jti`.
    RequireJti,
    /// As often as it is valid.
    Reusable,
}

/// A JOSE signature algorithm (RFC 7518, section 3.1; RFC 8037; RFC 9864). `none` and the HMAC family do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSASSA-PSS with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSASSA-PSS with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// ECDSA on P-521 with SHA-512.
    #[serde(rename = "ES512")]
    Es512,
    /// Ed25519 under its first name.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// Ed25519 under its fully-specified name (RFC 9864).
    #[serde(rename = "Ed25519")]
    Ed25519,
}

impl SignatureAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 11] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// The exact value of the `alg` header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

impl std::fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of an algorithm that is ever accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519")]
pub struct UnknownAlgorithm;

impl std::str::FromStr for SignatureAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(UnknownAlgorithm)
    }
}
