//! How the keys of a trusted issuer fare: what operators are shown, never who presents a token (SECURITY 42).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::values::id::{TrustedIssuerId, WorkspaceId};
use crate::values::name::KeyId;
use crate::values::time::Timestamp;

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
    /// Whether the host that failed is not known to have public addresses alone, so that the problem is for operators only.
    pub is_internal: bool,
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

impl IssuerHealth {
    /// The health as an administrator of the issuer's workspace is shown it.
    ///
    /// Administrators choose the host, so what an internal one answers must not be told from an address that is never dialled:
    /// whether a port is closed, silent, without TLS or without keys (SECURITY 42). Only a document that is clearly one of an
    /// issuer shows what is wrong with it.
    #[must_use]
    pub fn for_administrators(&self) -> Self {
        let problem = self.problem.map(|problem| problem.for_administrators(self.is_internal));
        Self { problem, is_internal: false, ..self.clone() }
    }
}

/// Why the keys of an issuer cannot be read: the closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum IssuerProblem {
    /// The host has no address, or one that this deployment does not dial: private ones must be allowed by the operator. To
    /// administrators of a workspace also: an internal host failed in any way.
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
    /// The key set is too long or not strict JSON.
    KeySetInvalid,
    /// The key set is a single JWK (RFC 7517, section 4), not a set of them (section 5).
    KeySetSingleKey,
    /// The key set has no array named `keys`.
    KeySetWithoutKeys,
    /// The key set has more than 64 keys.
    KeySetTooManyKeys,
    /// The uploaded key set has ended.
    UploadedKeysExpired,
}

impl IssuerProblem {
    /// The problem as an administrator of the issuer's workspace is shown it; see [`IssuerHealth::for_administrators`].
    #[must_use]
    pub const fn for_administrators(self, is_internal: bool) -> Self {
        match self {
            Self::HostRefused
            | Self::Unreachable
            | Self::CertificateRefused
            | Self::DiscoveryStatus { .. }
            | Self::DiscoveryDocumentInvalid
            | Self::KeySetStatus { .. }
            | Self::KeySetInvalid
            | Self::KeySetWithoutKeys
                if is_internal =>
            {
                Self::HostRefused
            }
            shown => shown,
        }
    }
}

/// As a statement: `its key set came with status 503`.
impl fmt::Display for IssuerProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostRefused => {
                "its host has no address, or an address in an internal network that this deployment does not dial or that does not \
                 serve its keys"
            }
            Self::Unreachable => "its host does not answer in time",
            Self::CertificateRefused => {
                "its certificate is not from a trusted authority, not for this host or not valid now"
            }
            Self::DiscoveryStatus { status } => return write!(f, "its discovery document came with status {status}"),
            Self::DiscoveryDocumentInvalid => {
                "its discovery document is longer than 100 KiB, not strict JSON or without issuer"
            }
            Self::DiscoveryIssuerMismatch => "its discovery document names another issuer",
            Self::JwksUriInvalid => "its discovery document names no https URL for its keys",
            Self::JwksUriElsewhere => "its discovery document names a URL on another host for its keys",
            Self::KeySetStatus { status } => return write!(f, "its key set came with status {status}"),
            Self::KeySetInvalid => "its key set is longer than 100 KiB or not strict JSON",
            Self::KeySetSingleKey => "its key set is a single JSON Web Key (JWK), not a JSON Web Key Set",
            Self::KeySetWithoutKeys => "its key set has no array named keys",
            Self::KeySetTooManyKeys => "its key set has more than 64 keys",
            Self::UploadedKeysExpired => "its uploaded keys have expired",
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [IssuerProblem; 14] = [
        IssuerProblem::HostRefused,
        IssuerProblem::Unreachable,
        IssuerProblem::CertificateRefused,
        IssuerProblem::DiscoveryStatus { status: 404 },
        IssuerProblem::DiscoveryDocumentInvalid,
        IssuerProblem::DiscoveryIssuerMismatch,
        IssuerProblem::JwksUriInvalid,
        IssuerProblem::JwksUriElsewhere,
        IssuerProblem::KeySetStatus { status: 500 },
        IssuerProblem::KeySetInvalid,
        IssuerProblem::KeySetSingleKey,
        IssuerProblem::KeySetWithoutKeys,
        IssuerProblem::KeySetTooManyKeys,
        IssuerProblem::UploadedKeysExpired,
    ];

    #[test]
    fn s42_what_an_internal_host_does_is_not_told_from_an_address_that_is_never_dialled() {
        let of_an_issuer = [
            IssuerProblem::DiscoveryIssuerMismatch,
            IssuerProblem::JwksUriInvalid,
            IssuerProblem::JwksUriElsewhere,
            IssuerProblem::KeySetSingleKey,
            IssuerProblem::KeySetTooManyKeys,
            IssuerProblem::UploadedKeysExpired,
        ];
        for problem in ALL {
            let expected = if of_an_issuer.contains(&problem) { problem } else { IssuerProblem::HostRefused };
            assert_eq!(problem.for_administrators(true), expected);
            assert_eq!(problem.for_administrators(false), problem);
        }
    }
}
