//! Why a token gets nothing: what the operator is told of it, and what the caller.

use crate::exchange::claims::Untimely;
use crate::trust::policy::Unmet;
use crate::values::id::{TrustRelationshipId, TrustedIssuerId};
use crate::values::reason::Reason;

/// Why a token gets nothing. Displayed, it tells the operator the full cause; callers are told [`Refused::message`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The workspace is disabled.
    #[error("the workspace is disabled")]
    WorkspaceDisabled,
    /// The workspace registered no such issuer.
    #[error("the workspace does not trust the issuer")]
    IssuerUnknown,
    /// The issuer is this deployment.
    #[error("the token was issued by this deployment, whose access tokens are never exchanged")]
    IssuedHere,
    /// The issuer is disabled.
    #[error("the trusted issuer {0} is disabled")]
    IssuerDisabled(TrustedIssuerId),
    /// Too early, too late or too long.
    #[error(transparent)]
    Untimely(#[from] Untimely),
    /// The issuer's tokens must have a `jti`, and this one has none.
    #[error("the trusted issuer requires jti, which the token lacks")]
    TokenIdMissing,
    /// An audience of the token is not accepted from its issuer. Named by its place, as what a token or a caller says does not
    /// belong into logs (SECURITY 61).
    #[error("the token's audience number {0} is not accepted from its issuer")]
    AudienceNotAccepted(usize),
    /// The token is bound to a key by its claim `cnf` (RFC 7800). Exchanging it without a proof of possession would turn it into a
    /// bearer token (SECURITY 79).
    #[error("the token is bound to a key by its claim cnf, and proofs of possession are not supported")]
    ProofMissing,
    /// Relationships accept the subject, but none of them accepts the audiences.
    #[error("the token's audiences are not accepted by {0}")]
    AudienceNotAcceptedBy(TrustRelationshipId),
    /// The named relationship does not exist, or belongs to another issuer. The message omits the id: what a caller says does not
    /// belong in logs, and each id would be a cause of its own.
    #[error("the named trust relationship does not exist in this workspace or belongs to another trusted issuer")]
    RelationshipUnknown(TrustRelationshipId),
    /// The named relationship is disabled or has expired.
    #[error("{0} is disabled or has expired")]
    RelationshipNotLive(TrustRelationshipId),
    /// The named relationship does not accept the subject.
    #[error("{0} does not accept the subject")]
    SubjectNotAcceptedBy(TrustRelationshipId),
    /// A relationship accepts the subject, but not what else the token says.
    #[error("{id} accepts the subject, but {unmet}")]
    ConditionNotMet {
        /// Which relationship: the named one, or the narrowest.
        id: TrustRelationshipId,
        /// What the token does not meet.
        unmet: Unmet,
    },
    /// No live relationship accepts the subject.
    #[error("no live trust relationship accepts the subject")]
    SubjectNotAccepted,
    /// A wished audience is not one the relationship gives.
    #[error("{id} does not give the wished audience number {number}")]
    AudienceNotGiven {
        /// The relationship that decided.
        id: TrustRelationshipId,
        /// The place of the audience among those wished for, from 1.
        number: usize,
    },
    /// Scopes were wished for, and the relationship gives none of them.
    #[error("{0} gives none of the requested scopes")]
    ScopesNotGiven(TrustRelationshipId),
    /// The relationship gives neither scope nor grant, or no time.
    #[error("{0} gives nothing")]
    NothingToGive(TrustRelationshipId),
}

impl Refused {
    /// The reason that the caller is told.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::WorkspaceDisabled | Self::IssuerUnknown | Self::IssuedHere | Self::IssuerDisabled(_) => {
                Reason::SubjectTokenNotTrusted
            }
            Self::Untimely(Untimely::NeverValid) | Self::TokenIdMissing => Reason::SubjectTokenClaimsInvalid,
            Self::Untimely(Untimely::Expired | Untimely::LineageTooOld) => Reason::SubjectTokenExpired,
            Self::Untimely(Untimely::IssuedInFuture | Untimely::NotYetValid) => Reason::SubjectTokenNotYetValid,
            Self::Untimely(Untimely::LifetimeTooLong) => Reason::SubjectTokenLifetimeTooLong,
            Self::AudienceNotAccepted(_) | Self::AudienceNotAcceptedBy(_) => Reason::SubjectTokenAudienceMismatch,
            Self::ProofMissing => Reason::SubjectTokenProofMissing,
            // The relationship is the client (RFC 6749, section 5.2: "unknown client"). Only the bearer of a verified token of the
            // workspace gets this answer, and ids are random, so it reveals no relationship that the caller does not know.
            Self::RelationshipUnknown(_) => Reason::InvalidClient,
            Self::RelationshipNotLive(_)
            | Self::SubjectNotAcceptedBy(_)
            | Self::ConditionNotMet { .. }
            | Self::SubjectNotAccepted => Reason::SubjectNotTrusted,
            Self::AudienceNotGiven { .. } => Reason::TargetNotGranted,
            Self::ScopesNotGiven(_) | Self::NothingToGive(_) => Reason::NothingGranted,
        }
    }

    /// The relationship that refused, or came nearest to accepting.
    pub const fn trust_relationship_id(&self) -> Option<&TrustRelationshipId> {
        match self {
            Self::AudienceNotAcceptedBy(id)
            | Self::RelationshipNotLive(id)
            | Self::SubjectNotAcceptedBy(id)
            | Self::ConditionNotMet { id, .. }
            | Self::AudienceNotGiven { id, .. }
            | Self::ScopesNotGiven(id)
            | Self::NothingToGive(id) => Some(id),
            // One that is not there is none.
            Self::RelationshipUnknown(_)
            | Self::WorkspaceDisabled
            | Self::IssuerUnknown
            | Self::IssuedHere
            | Self::IssuerDisabled(_)
            | Self::Untimely(_)
            | Self::TokenIdMissing
            | Self::AudienceNotAccepted(_)
            | Self::ProofMissing
            | Self::SubjectNotAccepted => None,
        }
    }

    /// What the caller is told: which of his own claims or wishes failed, never what the policy holds (SECURITY 63).
    pub const fn message(&self) -> &'static str {
        match self {
            Self::WorkspaceDisabled | Self::IssuerUnknown | Self::IssuedHere | Self::IssuerDisabled(_) => NOT_TRUSTED,
            Self::Untimely(Untimely::NeverValid) => "the claim exp must be later than iat",
            Self::Untimely(Untimely::Expired) => "the subject token has expired",
            Self::Untimely(Untimely::IssuedInFuture) => "the claim iat is in the future",
            Self::Untimely(Untimely::NotYetValid) => "the claim nbf is in the future",
            Self::Untimely(Untimely::LineageTooOld) => {
                "the subject token came of an access token that is too old; begin anew with a token of another issuer"
            }
            Self::Untimely(Untimely::LifetimeTooLong) => "the subject token lives longer than is accepted from its issuer",
            Self::TokenIdMissing => "the claim jti is missing",
            Self::AudienceNotAccepted(_) | Self::AudienceNotAcceptedBy(_) => {
                "the claim aud is not, or not only, an audience accepted here"
            }
            Self::ProofMissing => {
                "the subject token has the claim cnf, so only the holder of that key can use it, and this service does not support \
                 proofs of possession; present a token without cnf"
            }
            Self::RelationshipUnknown(_) => {
                "the named trust relationship does not exist in this workspace or belongs to another trusted issuer"
            }
            Self::RelationshipNotLive(_)
            | Self::SubjectNotAcceptedBy(_)
            | Self::ConditionNotMet { .. }
            | Self::SubjectNotAccepted => "no trust relationship accepts the token's claims",
            Self::AudienceNotGiven { .. } => "the trust relationship does not grant the requested audience",
            Self::ScopesNotGiven(_) => "the trust relationship grants none of the requested scopes",
            Self::NothingToGive(_) => "the trust relationship grants nothing",
        }
    }

    /// Whether a change of the policy could turn the answer, so that it is worth asking whether this policy is the newest.
    pub const fn depends_on_policy(&self) -> bool {
        !matches!(
            self,
            Self::IssuedHere
                | Self::ProofMissing
                | Self::Untimely(
                    Untimely::NeverValid
                        | Untimely::Expired
                        | Untimely::IssuedInFuture
                        | Untimely::NotYetValid
                        | Untimely::LineageTooOld
                )
        )
    }
}

/// What a caller is told whatever was wrong before the signature was verified (SECURITY 63).
pub const NOT_TRUSTED: &str = "the subject token is not trusted";
