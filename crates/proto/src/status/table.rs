//! The table of reasons: what each is called in protobuf, gRPC, OAuth and HTTP.

use countersign_domain::values::reason::Reason;
use http::StatusCode;
use tonic::Code;

use crate::common_v1::ErrorReason;

/// How a reason looks on each wire.
pub(super) struct Row {
    pub(super) code: Code,
    pub(super) oauth: OAuth,
    pub(super) http: StatusCode,
}

/// The `error` of RFC 6749.
pub(super) enum OAuth {
    /// The same under every grant.
    Always(&'static str),
    /// A subject token that is not acceptable: each grant has its own name for that.
    SubjectToken,
}

/// The table.
pub(super) fn row(reason: Reason) -> Row {
    use OAuth::{Always, SubjectToken};
    let (code, oauth, http) = match reason {
        Reason::InvalidRequest | Reason::PageTokenInvalid | Reason::UnsupportedTokenType | Reason::SubjectTokenMissing => {
            (Code::InvalidArgument, Always("invalid_request"), StatusCode::BAD_REQUEST)
        }
        // RFC 6749, section 5.2: 401 where the client used the header `Authorization`, which the token endpoint knows.
        Reason::InvalidClient => (Code::Unauthenticated, Always("invalid_client"), StatusCode::BAD_REQUEST),
        Reason::InvalidTarget => (Code::InvalidArgument, Always("invalid_target"), StatusCode::BAD_REQUEST),
        Reason::InvalidScope => (Code::InvalidArgument, Always("invalid_scope"), StatusCode::BAD_REQUEST),
        Reason::InvalidAuthorizationDetails => {
            (Code::InvalidArgument, Always("invalid_authorization_details"), StatusCode::BAD_REQUEST)
        }
        Reason::InvalidDpopProof => (Code::Unauthenticated, Always("invalid_dpop_proof"), StatusCode::BAD_REQUEST),
        Reason::UnsupportedGrantType => (Code::InvalidArgument, Always("unsupported_grant_type"), StatusCode::BAD_REQUEST),
        Reason::SubjectTokenMalformed
        | Reason::SubjectTokenNotTrusted
        | Reason::SubjectTokenClaimsInvalid
        | Reason::SubjectTokenExpired
        | Reason::SubjectTokenNotYetValid
        | Reason::SubjectTokenLifetimeTooLong
        | Reason::SubjectTokenAudienceMismatch
        | Reason::SubjectTokenReplayed
        | Reason::SubjectTokenProofMissing => (Code::Unauthenticated, SubjectToken, StatusCode::BAD_REQUEST),
        Reason::SubjectNotTrusted => (Code::PermissionDenied, SubjectToken, StatusCode::BAD_REQUEST),
        Reason::TargetNotGranted => (Code::PermissionDenied, Always("invalid_target"), StatusCode::BAD_REQUEST),
        Reason::NothingGranted => (Code::PermissionDenied, Always("invalid_scope"), StatusCode::BAD_REQUEST),
        Reason::CredentialsMissing | Reason::CredentialsInvalid => {
            (Code::Unauthenticated, Always("invalid_client"), StatusCode::UNAUTHORIZED)
        }
        // RFC 6750, section 3.1.
        Reason::PermissionMissing | Reason::GrantNotHeld => {
            (Code::PermissionDenied, Always("insufficient_scope"), StatusCode::FORBIDDEN)
        }
        Reason::ResourceNotFound => (Code::NotFound, Always("invalid_request"), StatusCode::NOT_FOUND),
        Reason::ResourceAlreadyExists => (Code::AlreadyExists, Always("invalid_request"), StatusCode::CONFLICT),
        Reason::EtagMismatch => (Code::Aborted, Always("invalid_request"), StatusCode::CONFLICT),
        Reason::FailedPrecondition => (Code::FailedPrecondition, Always("invalid_request"), StatusCode::CONFLICT),
        // RFC 6749, section 4.1.2.1; the token endpoint has no code of its own for these.
        Reason::RateLimited | Reason::QuotaExceeded => {
            (Code::ResourceExhausted, Always("temporarily_unavailable"), StatusCode::TOO_MANY_REQUESTS)
        }
        Reason::TemporarilyUnavailable => (Code::Unavailable, Always("temporarily_unavailable"), StatusCode::SERVICE_UNAVAILABLE),
        Reason::DeadlineExceeded => (Code::DeadlineExceeded, Always("temporarily_unavailable"), StatusCode::GATEWAY_TIMEOUT),
        Reason::Internal => (Code::Internal, Always("server_error"), StatusCode::INTERNAL_SERVER_ERROR),
    };
    Row { code, oauth, http }
}

macro_rules! reasons {
    ($($name:ident),+ $(,)?) => {
        impl From<Reason> for ErrorReason {
            fn from(reason: Reason) -> Self {
                match reason { $(Reason::$name => Self::$name,)+ }
            }
        }

        impl TryFrom<ErrorReason> for Reason {
            type Error = UnspecifiedReason;

            fn try_from(reason: ErrorReason) -> Result<Self, UnspecifiedReason> {
                match reason {
                    ErrorReason::Unspecified => Err(UnspecifiedReason),
                    $(ErrorReason::$name => Ok(Self::$name),)+
                }
            }
        }
    };
}

reasons!(
    InvalidRequest,
    PageTokenInvalid,
    UnsupportedGrantType,
    UnsupportedTokenType,
    InvalidClient,
    InvalidTarget,
    InvalidScope,
    InvalidAuthorizationDetails,
    InvalidDpopProof,
    SubjectTokenMissing,
    SubjectTokenMalformed,
    SubjectTokenNotTrusted,
    SubjectTokenClaimsInvalid,
    SubjectTokenExpired,
    SubjectTokenNotYetValid,
    SubjectTokenLifetimeTooLong,
    SubjectTokenAudienceMismatch,
    SubjectTokenReplayed,
    SubjectNotTrusted,
    NothingGranted,
    SubjectTokenProofMissing,
    TargetNotGranted,
    CredentialsMissing,
    CredentialsInvalid,
    PermissionMissing,
    GrantNotHeld,
    ResourceNotFound,
    ResourceAlreadyExists,
    EtagMismatch,
    FailedPrecondition,
    RateLimited,
    TemporarilyUnavailable,
    DeadlineExceeded,
    Internal,
    QuotaExceeded,
);

/// The wire's enum holds no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no reason is given")]
pub struct UnspecifiedReason;
