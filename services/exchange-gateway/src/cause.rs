//! Why an exchange came to nothing: in full for the operator, in part for the caller.

use std::fmt;

use countersign_domain::exchange::claims::Untimely;
use countersign_domain::exchange::decision::{NOT_TRUSTED, Refused};
use countersign_domain::values::id::TrustRelationshipId;
use countersign_domain::values::reason::Reason;
use countersign_jose::{MalformedToken, VerifyError};
use countersign_proto::status::Refusal;

use crate::ports::{CatchUpCause, CommitError, CutOff, KeysUnavailable, SignError};

/// Why an exchange came to nothing. Displayed, it is the full cause, for the operator's log; [`Cause::refusal`] is what the
/// caller is told (SECURITY 63).
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("no subject token was presented")]
    TokenMissing,
    #[error("the subject token is malformed: {0}")]
    Malformed(MalformedToken),
    #[error("the named workspace does not exist, or did not register the token's issuer")]
    NotRegistered,
    #[error("no workspace was named, and none registered the token's issuer")]
    IssuerUnknown,
    #[error("no workspace was named, and several registered the token's issuer")]
    WorkspaceAmbiguous,
    #[error("no workspace was named, and none that registered the token's issuer owns the named trust relationship")]
    RelationshipNowhere,
    #[error("before verification: {0}")]
    IssuerRefused(Refused),
    #[error("the subject token does not verify: {0}")]
    NotVerified(VerifyError),
    #[error(transparent)]
    Refused(Refused),
    #[error("the replay cache has a claim of {by}")]
    ReplayedInCache { by: IdentifiedBy },
    #[error("the commit point has a replay record of {by}")]
    Replayed { by: IdentifiedBy },
    #[error("the policy changed again during the exchange")]
    StaleTwice,
    #[error("the commit point finds workspace, issuer or relationship disabled, which the policy feed does not")]
    Disabled,
    #[error(transparent)]
    Keys(#[from] KeysUnavailable),
    #[error(transparent)]
    CutOff(#[from] CutOff),
    #[error(transparent)]
    Sign(SignError),
    #[error(transparent)]
    Commit(CommitError),
    #[error("too many exchanges are being settled")]
    Overloaded,
    #[error("what {relationship} gives takes {bytes} bytes of claims, more than an access token holds")]
    TooMuch { relationship: TrustRelationshipId, bytes: usize },
    #[error("{0}")]
    Internal(&'static str),
}

/// What tells a subject token from every other of its issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentifiedBy {
    /// Its `jti`.
    Id,
    /// Without a `jti`: everything that was signed.
    Content,
}

impl IdentifiedBy {
    const fn message(self) -> &'static str {
        match self {
            Self::Id => "the subject token was exchanged before",
            Self::Content => {
                "a subject token with the same content was exchanged before: without the claim jti, equal tokens that are issued in the \
                 same second are one token; present a token that is issued a second later, or have the replay policy of the trusted \
                 issuer set to reusable"
            }
        }
    }
}

/// As part of a cause, for the operator.
impl fmt::Display for IdentifiedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "the subject token's jti",
            Self::Content => {
                "a subject token with the same content and no jti, so that equal tokens that are issued in the same second are one \
                 token; the replay policy `reusable` of the trusted issuer accepts them"
            }
        })
    }
}

impl Cause {
    /// Whether a newer policy could turn the answer, and how much it may cost to find out.
    ///
    /// Everything that reads the same to the caller before the signature verifies catches up, also a bad signature, which a newer
    /// policy turns only if it has the keys elsewhere: who is refused at once would learn that the issuer is registered.
    pub(crate) fn worth_catching_up(&self) -> Option<CatchUpCause> {
        match self {
            Self::NotRegistered
            | Self::IssuerUnknown
            | Self::WorkspaceAmbiguous
            | Self::RelationshipNowhere
            | Self::IssuerRefused(_)
            | Self::NotVerified(
                VerifyError::AlgorithmNotAllowed
                | VerifyError::TypeNotAllowed
                | VerifyError::UnknownKey
                | VerifyError::KeyNotPermitted
                | VerifyError::AmbiguousKey
                | VerifyError::BadSignature,
            ) => Some(CatchUpCause::Unverified),
            Self::Refused(refused) if refused.depends_on_policy() => Some(CatchUpCause::Verified),
            _ => None,
        }
    }

    /// The cause without its details: one of a closed list, for metrics and for counting.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::TokenMissing => "token_missing",
            Self::Malformed(_) | Self::NotVerified(VerifyError::Malformed(_)) => "token_malformed",
            Self::NotRegistered => "not_registered",
            Self::IssuerUnknown => "issuer_unknown",
            Self::WorkspaceAmbiguous => "workspace_ambiguous",
            Self::RelationshipNowhere => "relationship_nowhere",
            Self::NotVerified(VerifyError::AlgorithmNotAllowed) => "algorithm_not_allowed",
            Self::NotVerified(VerifyError::TypeNotAllowed) => "type_not_allowed",
            Self::NotVerified(VerifyError::UnknownKey) => "unknown_key",
            Self::NotVerified(VerifyError::KeyNotPermitted) => "key_not_permitted",
            Self::NotVerified(VerifyError::AmbiguousKey) => "ambiguous_key",
            Self::NotVerified(VerifyError::BadSignature) => "bad_signature",
            Self::NotVerified(VerifyError::InvalidClaims(_)) => "claims_invalid",
            Self::IssuerRefused(refused) | Self::Refused(refused) => kind_of_refused(refused),
            Self::ReplayedInCache { .. } => "replayed_in_cache",
            Self::Replayed { .. } => "replayed",
            Self::StaleTwice => "stale_twice",
            Self::Disabled => "disabled",
            Self::Keys(_) => "keys_unavailable",
            Self::CutOff(_) => "cut_off",
            Self::Sign(SignError::Unavailable(_)) => "signing_unavailable",
            Self::Sign(SignError::Refused(_)) => "signing_refused",
            Self::Commit(CommitError::NotMade(_)) => "commit_not_made",
            Self::Commit(CommitError::OutcomeUnknown(_)) => "commit_outcome_unknown",
            Self::Overloaded => "overloaded",
            Self::TooMuch { .. } => "too_much_granted",
            Self::Internal(_) => "internal",
        }
    }

    /// The relationship that refused, or came nearest.
    pub(crate) fn trust_relationship_id(&self) -> Option<&TrustRelationshipId> {
        match self {
            Self::Refused(refused) => refused.trust_relationship_id(),
            Self::TooMuch { relationship, .. } => Some(relationship),
            _ => None,
        }
    }

    /// Whether it is our trouble rather than the caller's.
    pub(crate) fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::Keys(_)
                | Self::CutOff(_)
                | Self::Sign(_)
                | Self::Commit(_)
                | Self::Overloaded
                | Self::TooMuch { .. }
                | Self::Internal(_)
                | Self::StaleTwice
                | Self::Disabled
        )
    }

    /// What the caller is told.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::TokenMissing => Refusal::new(Reason::SubjectTokenMissing, "the subject token is missing"),
            Self::Malformed(_) | Self::NotVerified(VerifyError::Malformed(_)) => {
                Refusal::new(Reason::SubjectTokenMalformed, "the subject token is not a JWT that is ever accepted")
            }
            // One reason and one message for all that happens before the signature verifies.
            Self::NotRegistered
            | Self::IssuerUnknown
            | Self::WorkspaceAmbiguous
            | Self::RelationshipNowhere
            | Self::IssuerRefused(_)
            | Self::NotVerified(
                VerifyError::AlgorithmNotAllowed
                | VerifyError::TypeNotAllowed
                | VerifyError::UnknownKey
                | VerifyError::KeyNotPermitted
                | VerifyError::AmbiguousKey
                | VerifyError::BadSignature,
            ) => Refusal::new(Reason::SubjectTokenNotTrusted, NOT_TRUSTED),
            Self::NotVerified(VerifyError::InvalidClaims(invalid)) => {
                Refusal::new(Reason::SubjectTokenClaimsInvalid, invalid.to_string())
            }
            Self::Refused(refused) => Refusal::new(refused.reason(), refused.message()),
            Self::ReplayedInCache { by } | Self::Replayed { by } => Refusal::new(Reason::SubjectTokenReplayed, by.message()),
            Self::StaleTwice => Refusal::unavailable("the policy changed during the exchange; try again"),
            Self::Disabled => Refusal::new(Reason::SubjectNotTrusted, Refused::SubjectNotAccepted.message()),
            Self::Commit(CommitError::OutcomeUnknown(_)) => {
                // No retry is advised: the token counts as used.
                Refusal::new(
                    Reason::TemporarilyUnavailable,
                    "the exchange could not be completed; the subject token counts as used",
                )
            }
            Self::Keys(_) => Refusal::unavailable("the issuer's keys cannot be had at the moment"),
            Self::CutOff(_)
            | Self::Overloaded
            | Self::Sign(SignError::Unavailable(_))
            | Self::Commit(CommitError::NotMade(_)) => Refusal::unavailable("tokens cannot be exchanged at the moment"),
            Self::TooMuch { .. } => {
                Refusal::new(Reason::NothingGranted, "what is given does not fit into one access token; ask for fewer scopes")
            }
            Self::Sign(SignError::Refused(_)) | Self::Internal(_) => Refusal::internal(),
        }
    }
}

const fn kind_of_refused(refused: &Refused) -> &'static str {
    match refused {
        Refused::WorkspaceDisabled => "workspace_disabled",
        Refused::IssuerUnknown => "issuer_unknown",
        Refused::IssuedHere => "issued_here",
        Refused::IssuerDisabled(_) => "issuer_disabled",
        Refused::Untimely(Untimely::NeverValid) => "never_valid",
        Refused::Untimely(Untimely::LifetimeTooLong) => "lifetime_too_long",
        Refused::Untimely(Untimely::Expired) => "expired",
        Refused::Untimely(Untimely::IssuedInFuture) => "issued_in_future",
        Refused::Untimely(Untimely::NotYetValid) => "not_yet_valid",
        Refused::Untimely(Untimely::LineageTooOld) => "lineage_too_old",
        Refused::TokenIdMissing => "token_id_missing",
        Refused::AudienceNotAccepted(_) | Refused::AudienceNotAcceptedBy(_) => "audience_not_accepted",
        Refused::ProofMissing => "proof_missing",
        Refused::RelationshipUnknown(_) => "relationship_unknown",
        Refused::RelationshipNotLive(_) => "relationship_not_live",
        Refused::SubjectNotAcceptedBy(_) | Refused::SubjectNotAccepted => "subject_not_accepted",
        Refused::ConditionNotMet { .. } => "condition_not_met",
        Refused::AudienceNotGiven { .. } => "audience_not_granted",
        Refused::ScopesNotGiven(_) => "scopes_not_granted",
        Refused::NothingToGive(_) => "nothing_granted",
    }
}
