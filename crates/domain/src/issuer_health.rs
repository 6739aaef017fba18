//! How the keys of a trusted issuer fare: what operators are shown, never who presents a token (SECURITY 42).

use serde::{Deserialize, Serialize};

use crate::id::{TrustedIssuerId, WorkspaceId};
use crate::name::KeyId;
use crate::time::Timestamp;

/// The most reports that are recorded at once. With 64 key ids each they fit a message.
pub const MAX_REPORTS: usize = 64;

/// What is known of a trusted issuer's keys, as of the last time somebody looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerHealth {
    /// When the issuer was last asked, or its uploaded keys last read.
    pub attempted_at: Timestamp,
    /// When that last worked.
    pub succeeded_at: Option<Timestamp>,
    /// Why it did not work the last time; `None`: it did.
    pub problem: Option<IssuerProblem>,
    /// The keys that are held.
    pub keys: HeldKeys,
}

/// The keys that are held of an issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldKeys {
    /// How many are usable.
    pub usable: u32,
    /// The ids of the usable ones that have one.
    pub key_ids: Vec<KeyId>,
    /// The ids under which nothing verifies, since several keys have them (SECURITY 43).
    pub ambiguous_key_ids: Vec<KeyId>,
    /// How many keys of the document are never used: of another type, too weak, broken.
    pub unusable: u32,
}

/// Why the keys of an issuer cannot be had: the closed list. Whoever may administer a workspace is told, so nothing here tells
/// one closed port from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum IssuerProblem {
    /// The host has no address, or one that this deployment does not dial: private ones must be allowed by the operator.
    HostRefused,
    /// No connection, or no whole answer in time.
    Unreachable,
    /// The certificate is not from an authority that is trusted here, not for this host, or not valid now.
    CertificateRefused,
    /// The discovery document came with another status than 200.
    DiscoveryStatus {
        /// The status.
        status: u16,
    },
    /// The discovery document is too long, or not strict JSON.
    DiscoveryDocumentInvalid,
    /// `issuer` in the discovery document is not, byte for byte, the issuer's URL.
    DiscoveryIssuerMismatch,
    /// `jwks_uri` in the discovery document is missing or not acceptable.
    JwksUriInvalid,
    /// `jwks_uri` leads to another host, which must be pinned as `jwks_url`.
    JwksUriElsewhere,
    /// The key set came with another status than 200.
    KeySetStatus {
        /// The status.
        status: u16,
    },
    /// The key set is too long, not strict JSON, or has more than 64 keys.
    KeySetInvalid,
    /// The uploaded key set has ended.
    UploadedKeysExpired,
}

/// What a gateway, or a check, saw of one trusted issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerHealthReport {
    /// The owner.
    pub workspace_id: WorkspaceId,
    /// The trusted issuer.
    pub trusted_issuer_id: TrustedIssuerId,
    /// Its revision. What was seen of other settings says nothing about these.
    pub revision: i64,
    /// What was seen.
    pub health: IssuerHealth,
}
