//! The closed list of reasons for which a request is refused.
//!
//! The same list as `countersign.common.v1.ErrorReason`; `proto::status` is the one place that turns a reason into a gRPC status,
//! an OAuth error or an HTTP status.

/// Why a request was refused. What each means to a caller is documented on the proto enum of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A field is missing or malformed.
    InvalidRequest,
    /// The page token was altered or belongs to another list.
    PageTokenInvalid,
    /// Unknown OAuth grant type.
    UnsupportedGrantType,
    /// Unsupported subject or requested token type.
    UnsupportedTokenType,
    /// No subject token.
    SubjectTokenMissing,
    /// Not a compact JWS that is ever accepted.
    SubjectTokenMalformed,
    /// Workspace, issuer, key or signature; one reason for all.
    SubjectTokenNotTrusted,
    /// A registered claim is missing, of the wrong type, or impossible.
    SubjectTokenClaimsInvalid,
    /// `exp` has passed.
    SubjectTokenExpired,
    /// `nbf` or `iat` is in the future.
    SubjectTokenNotYetValid,
    /// `exp` - `iat` exceeds the trusted issuer's maximum.
    SubjectTokenLifetimeTooLong,
    /// `aud` is not, or not only, an accepted audience.
    SubjectTokenAudienceMismatch,
    /// Exchanged before.
    SubjectTokenReplayed,
    /// No live trust relationship accepts the subject.
    SubjectNotTrusted,
    /// Nothing of what was asked is given.
    NothingGranted,
    /// No caller.
    CredentialsMissing,
    /// A caller whose credentials do not verify.
    CredentialsInvalid,
    /// The caller lacks the permission.
    PermissionMissing,
    /// The caller would grant what he does not hold.
    GrantNotHeld,
    /// No such resource in this workspace.
    ResourceNotFound,
    /// Another resource has this name.
    ResourceAlreadyExists,
    /// The resource changed since it was read.
    EtagMismatch,
    /// Still referenced, or in a state that forbids the call.
    FailedPrecondition,
    /// Over a budget.
    RateLimited,
    /// A database, peer or issuer cannot be reached.
    TemporarilyUnavailable,
    /// Out of time.
    DeadlineExceeded,
    /// Our fault.
    Internal,
}

impl Reason {
    /// Every reason, for tables that must be complete.
    pub const ALL: [Self; 27] = [
        Self::InvalidRequest,
        Self::PageTokenInvalid,
        Self::UnsupportedGrantType,
        Self::UnsupportedTokenType,
        Self::SubjectTokenMissing,
        Self::SubjectTokenMalformed,
        Self::SubjectTokenNotTrusted,
        Self::SubjectTokenClaimsInvalid,
        Self::SubjectTokenExpired,
        Self::SubjectTokenNotYetValid,
        Self::SubjectTokenLifetimeTooLong,
        Self::SubjectTokenAudienceMismatch,
        Self::SubjectTokenReplayed,
        Self::SubjectNotTrusted,
        Self::NothingGranted,
        Self::CredentialsMissing,
        Self::CredentialsInvalid,
        Self::PermissionMissing,
        Self::GrantNotHeld,
        Self::ResourceNotFound,
        Self::ResourceAlreadyExists,
        Self::EtagMismatch,
        Self::FailedPrecondition,
        Self::RateLimited,
        Self::TemporarilyUnavailable,
        Self::DeadlineExceeded,
        Self::Internal,
    ];
}
