//! The closed list of reasons for which a request is refused.
//!
//! The same list as `countersign.common.v1.ErrorReason`; `proto::status` is the one place that turns a reason into a gRPC status,
//! an OAuth error or an HTTP status.

use std::fmt;
use std::str::FromStr;

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// Why a request was refused. What each means to a caller is documented on the proto enum of the same name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, for tables that must be complete.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name: that of the proto enum's value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

reasons! {
    /// A field is missing or malformed.
    InvalidRequest = "INVALID_REQUEST",
    /// The page token was altered or belongs to another list.
    PageTokenInvalid = "PAGE_TOKEN_INVALID",
    /// Unknown OAuth grant type.
    UnsupportedGrantType = "UNSUPPORTED_GRANT_TYPE",
    /// Unsupported subject or requested token type.
    UnsupportedTokenType = "UNSUPPORTED_TOKEN_TYPE",
    /// The request names or authenticates its client in a way that is not accepted.
    InvalidClient = "INVALID_CLIENT",
    /// A malformed requested audience or resource.
    InvalidTarget = "INVALID_TARGET",
    /// A malformed requested scope.
    InvalidScope = "INVALID_SCOPE",
    /// Requested `authorization_details` that cannot be honoured.
    InvalidAuthorizationDetails = "INVALID_AUTHORIZATION_DETAILS",
    /// A DPoP proof that was not accepted.
    InvalidDpopProof = "INVALID_DPOP_PROOF",
    /// No subject token.
    SubjectTokenMissing = "SUBJECT_TOKEN_MISSING",
    /// Not a compact JWS that is ever accepted.
    SubjectTokenMalformed = "SUBJECT_TOKEN_MALFORMED",
    /// Workspace, issuer, key or signature; one reason for all.
    SubjectTokenNotTrusted = "SUBJECT_TOKEN_NOT_TRUSTED",
    /// A registered claim is missing, of the wrong type, or impossible.
    SubjectTokenClaimsInvalid = "SUBJECT_TOKEN_CLAIMS_INVALID",
    /// `exp` has passed.
    SubjectTokenExpired = "SUBJECT_TOKEN_EXPIRED",
    /// `nbf` or `iat` is in the future.
    SubjectTokenNotYetValid = "SUBJECT_TOKEN_NOT_YET_VALID",
    /// `exp` - `iat` exceeds the trusted issuer's maximum.
    SubjectTokenLifetimeTooLong = "SUBJECT_TOKEN_LIFETIME_TOO_LONG",
    /// `aud` is not, or not only, an accepted audience.
    SubjectTokenAudienceMismatch = "SUBJECT_TOKEN_AUDIENCE_MISMATCH",
    /// Exchanged before.
    SubjectTokenReplayed = "SUBJECT_TOKEN_REPLAYED",
    /// No live trust relationship accepts the subject.
    SubjectNotTrusted = "SUBJECT_NOT_TRUSTED",
    /// The requested scopes or lifetime leave nothing to grant.
    NothingGranted = "NOTHING_GRANTED",
    /// The subject token is bound to a key whose possession the request does not prove.
    SubjectTokenProofMissing = "SUBJECT_TOKEN_PROOF_MISSING",
    /// A requested audience that the trust relationship does not grant.
    TargetNotGranted = "TARGET_NOT_GRANTED",
    /// No caller.
    CredentialsMissing = "CREDENTIALS_MISSING",
    /// A caller whose credentials do not verify.
    CredentialsInvalid = "CREDENTIALS_INVALID",
    /// The caller lacks the permission.
    PermissionMissing = "PERMISSION_MISSING",
    /// The caller would grant what he does not hold.
    GrantNotHeld = "GRANT_NOT_HELD",
    /// No such resource in this workspace.
    ResourceNotFound = "RESOURCE_NOT_FOUND",
    /// Another resource has this name.
    ResourceAlreadyExists = "RESOURCE_ALREADY_EXISTS",
    /// The resource changed since it was read.
    EtagMismatch = "ETAG_MISMATCH",
    /// Still referenced, or in a state that forbids the call.
    FailedPrecondition = "FAILED_PRECONDITION",
    /// Over a budget.
    RateLimited = "RATE_LIMITED",
    /// A database, peer or issuer cannot be reached.
    TemporarilyUnavailable = "TEMPORARILY_UNAVAILABLE",
    /// Out of time.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// Our fault.
    Internal = "INTERNAL",
    /// The owner has as many resources of a kind as it can have.
    QuotaExceeded = "QUOTA_EXCEEDED",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a reason")]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text).ok_or(UnknownReason)
    }
}
