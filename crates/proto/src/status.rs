//! Refusals on the wire: the one place where a [`Reason`] becomes a gRPC status, an OAuth error or an HTTP status.
//!
//! ```
//! use countersign_domain::values::reason::Reason;
//! use countersign_proto::status::{OAuthGrant, Refusal};
//!
//! let refusal = Refusal::new(Reason::SubjectTokenExpired, "the subject token has expired");
//! assert_eq!(tonic::Status::from(refusal.clone()).code(), tonic::Code::Unauthenticated);
//! assert_eq!(refusal.to_oauth(OAuthGrant::TokenExchange).error, "invalid_request");
//! assert_eq!(refusal.to_oauth(OAuthGrant::JwtBearer).error, "invalid_grant");
//! ```
//!
//! `Violations` convert into a `Refusal`, and a `Refusal` into a `tonic::Status`, so `?` serves in a handler.
//!
//! A message is for the caller: it never holds a driver's or a peer's text, a token, or the text of a policy. What the operator
//! needs is logged where the error is handled.

mod table;
mod wire;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use countersign_domain::access::permission::Permission;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::violation::{Violation, Violations};
use http::StatusCode;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub use table::UnspecifiedReason;

use table::{OAuth, Row, row};

/// `google.rpc.ErrorInfo.domain` of every refusal.
pub const ERROR_DOMAIN: &str = "countersign";

/// The most violations that are repeated in a message.
const MESSAGE_VIOLATIONS: usize = 8;

/// The key in `google.rpc.ErrorInfo.metadata` that says what of a call was committed, and its only value.
const COMMITTED: &str = "committed";
const NOTHING: &str = "none";

/// Why a request is refused, for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    message: Cow<'static, str>,
    violations: Violations,
    resource: Option<Box<Resource>>,
    retry_after: Option<Duration>,
    permission: Option<Permission>,
    nothing_committed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Resource {
    kind: Cow<'static, str>,
    name: String,
}

impl Refusal {
    /// A refusal with its reason and a message for the caller.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            message: message.into(),
            violations: Violations::new(),
            resource: None,
            retry_after: None,
            permission: None,
            nothing_committed: false,
        }
    }

    /// A malformed request, with every violation. The message repeats the first few for people: it travels in a header beside the
    /// details, of which many clients read no more than 8 KiB.
    pub fn invalid(violations: Violations) -> Self {
        let mut repeated = Violations::new();
        repeated.extend(violations.iter().take(MESSAGE_VIOLATIONS).cloned());
        let left_out = violations.iter().count().saturating_sub(MESSAGE_VIOLATIONS);
        let more = if left_out == 0 { String::new() } else { format!("; and {left_out} more") };
        let message = format!("the request is not valid: {repeated}{more}");
        Self { violations, ..Self::new(Reason::InvalidRequest, message) }
    }

    /// A request with these violations, refused for a reason that says more than `INVALID_REQUEST`.
    pub fn invalid_for(reason: Reason, violations: Violations) -> Self {
        Self { reason, ..Self::invalid(violations) }
    }

    /// One malformed field.
    pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let mut violations = Violations::new();
        violations.add(field, description);
        Self::invalid(violations)
    }

    /// No such resource, or none that this caller may know of. `kind` is the resource's name in the proto files.
    pub fn not_found(kind: &'static str, id: impl fmt::Display) -> Self {
        let name = id.to_string();
        Self::new(Reason::ResourceNotFound, format!("there is no {kind} {name}")).with_resource(kind, name)
    }

    /// Another resource already has this name.
    pub fn already_exists(kind: &'static str, name: impl fmt::Display) -> Self {
        let name = name.to_string();
        Self::new(Reason::ResourceAlreadyExists, format!("there is already a {kind} {name}")).with_resource(kind, name)
    }

    /// The state of a resource forbids the call.
    pub fn failed_precondition(kind: &'static str, id: impl fmt::Display, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::FailedPrecondition, message).with_resource(kind, id.to_string())
    }

    /// The owner of resources has as many as it can have. `kind` and `id` name the owner as the proto files do.
    pub fn quota_exceeded(kind: &'static str, id: impl fmt::Display, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::QuotaExceeded, message).with_resource(kind, id.to_string())
    }

    /// The resource changed since the caller read it.
    pub fn etag_mismatch(kind: &'static str, id: impl fmt::Display) -> Self {
        let message = "the resource changed since it was read; read it again and repeat the change";
        Self::new(Reason::EtagMismatch, message).with_resource(kind, id.to_string())
    }

    /// Something this service needs cannot be reached; worth another try in a second.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::TemporarilyUnavailable, message).with_retry(Duration::from_secs(1))
    }

    /// Our fault. The caller learns nothing but that; log the cause where this is made.
    pub fn internal() -> Self {
        Self::new(Reason::Internal, "an internal error; the request id joins it to the operator's log")
    }

    /// The caller lacks a permission.
    pub fn permission_missing(permission: Permission) -> Self {
        Self::new(Reason::PermissionMissing, format!("the call needs the permission {permission}")).with_permission(permission)
    }

    /// Says when to come back.
    #[must_use]
    pub fn with_retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Says which permission is missing, as metadata `permission`.
    #[must_use]
    pub fn with_permission(mut self, permission: Permission) -> Self {
        self.permission = Some(permission);
        self
    }

    /// Says that the call certainly left nothing behind, as metadata `committed` = `none`. For failures before a transaction's
    /// commit: without it, a caller must take a call that failed as one that may have happened.
    #[must_use]
    pub fn with_nothing_committed(mut self) -> Self {
        self.nothing_committed = true;
        self
    }

    /// Says which resource it is about.
    #[must_use]
    pub fn with_resource(mut self, kind: impl Into<Cow<'static, str>>, name: impl Into<String>) -> Self {
        self.resource = Some(Box::new(Resource { kind: kind.into(), name: name.into() }));
        self
    }

    /// The reason, for clients to branch on.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The message, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Every field that is wrong.
    pub fn violations(&self) -> &Violations {
        &self.violations
    }

    /// When to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The permission that is missing.
    pub fn permission(&self) -> Option<Permission> {
        self.permission
    }

    /// Whether the call certainly left nothing behind. `false` says nothing either way.
    pub fn nothing_committed(&self) -> bool {
        self.nothing_committed
    }

    /// Kind and name of the resource it is about.
    pub fn resource(&self) -> Option<(&str, &str)> {
        self.resource.as_deref().map(|resource| (&*resource.kind, &*resource.name))
    }

    /// What a peer or server answered.
    ///
    /// A status that is not one of our refusals (a broken connection, a proxy) is classed by its code and loses its text, so
    /// that the result can be handed to another caller.
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let ours = details
            .error_info()
            .filter(|info| info.domain == ERROR_DOMAIN)
            .and_then(|info| Some((info.reason.parse().ok()?, info)));
        let Some((reason, info)) = ours else { return Self::from_foreign_code(status.code()) };
        let mut refusal = Self::new(reason, status.message().to_owned());
        if let Some(bad_request) = details.bad_request() {
            refusal.violations.extend(
                bad_request
                    .field_violations
                    .iter()
                    .map(|found| Violation { field: found.field.clone(), description: found.description.clone() }),
            );
        }
        if let Some(resource) = details.resource_info() {
            refusal = refusal.with_resource(resource.resource_type.clone(), resource.resource_name.clone());
        }
        refusal.retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        refusal.permission = info.metadata.get("permission").and_then(|scope| scope.parse().ok());
        refusal.nothing_committed = info.metadata.get(COMMITTED).is_some_and(|committed| committed == NOTHING);
        refusal
    }

    fn from_foreign_code(code: Code) -> Self {
        match code {
            Code::Unavailable | Code::Cancelled | Code::Aborted => Self::unavailable("a service cannot be reached"),
            Code::DeadlineExceeded => Self::new(Reason::DeadlineExceeded, "the call did not finish in time"),
            Code::ResourceExhausted => Self::new(Reason::RateLimited, "over a limit"),
            Code::InvalidArgument | Code::OutOfRange => Self::new(Reason::InvalidRequest, "the request is not valid"),
            Code::Unauthenticated => Self::new(Reason::CredentialsInvalid, "the credentials are not valid"),
            Code::PermissionDenied => Self::new(Reason::PermissionMissing, "the call is not permitted"),
            Code::NotFound => Self::new(Reason::ResourceNotFound, "there is no such resource"),
            Code::AlreadyExists => Self::new(Reason::ResourceAlreadyExists, "the resource exists already"),
            Code::FailedPrecondition => Self::new(Reason::FailedPrecondition, "the resource's state forbids the call"),
            Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => Self::internal(),
        }
    }

    /// The body and status of RFC 6749, section 5.2, as the grant type has it.
    pub fn to_oauth(&self, grant: OAuthGrant) -> OAuthError {
        let Row { oauth, http, .. } = row(self.reason);
        let error = match (oauth, grant) {
            (OAuth::Always(error), _) => error,
            (OAuth::SubjectToken, OAuthGrant::TokenExchange) => "invalid_request",
            (OAuth::SubjectToken, OAuthGrant::JwtBearer) => "invalid_grant",
        };
        let violations = self
            .violations
            .iter()
            .map(|found| FieldViolation { field: found.field.clone(), description: found.description.clone() })
            .collect();
        OAuthError {
            http_status: http,
            retry_after: self.retry_after,
            error,
            error_description: description_text(&self.message),
            error_reason: self.reason.as_str(),
            violations,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.reason)
    }
}

impl std::error::Error for Refusal {}

impl From<Violations> for Refusal {
    fn from(violations: Violations) -> Self {
        Self::invalid(violations)
    }
}

/// Which grant of RFC 6749 a request used: they name a bad subject token differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OAuthGrant {
    /// RFC 8693, section 2.2.2: `invalid_request`. Also for requests that use no grant.
    TokenExchange,
    /// RFC 7523, section 3.1: `invalid_grant`.
    JwtBearer,
}

/// The JSON body of RFC 6749, section 5.2, with the reason and violations beside it, and the status to send it with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OAuthError {
    /// The status of the answer.
    #[serde(skip)]
    pub http_status: StatusCode,
    /// For the header `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// The error code that the RFC defines.
    pub error: &'static str,
    /// For people, in the RFC's character set.
    pub error_description: String,
    /// The name of the reason in `countersign.common.v1.ErrorReason`, without its prefix.
    pub error_reason: &'static str,
    /// Every field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<FieldViolation>,
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldViolation {
    /// The path of the field.
    pub field: String,
    /// What to do about it.
    pub description: String,
}

/// RFC 6749, section 5.2, allows printable ASCII without quotation mark and backslash.
fn description_text(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for character in message.chars() {
        match character {
            '"' => text.push('\''),
            '\\' => text.push('/'),
            '…' => text.push_str("..."),
            ' '..='~' => text.push(character),
            _ => text.push('?'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;
    use crate::common_v1::ErrorReason;

    #[test]
    fn s63_every_reason_survives_both_wires() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::try_from(ErrorReason::from(reason)), Ok(reason));
            assert_eq!(ErrorReason::from(reason).as_str_name(), format!("ERROR_REASON_{reason}"));
            assert_eq!(reason.as_str().parse(), Ok(reason));
            let refusal = Refusal::new(reason, "why")
                .with_retry(Duration::from_secs(3))
                .with_permission(Permission::IssuersGet)
                .with_resource("Issuer", "is_1");
            let status = Status::from(refusal.clone());
            assert_ne!(status.code(), Code::Ok);
            assert_eq!(Refusal::from_status(&status), refusal, "{reason:?}");
            let oauth = refusal.to_oauth(OAuthGrant::TokenExchange);
            assert!(oauth.http_status.is_client_error() || oauth.http_status.is_server_error());
            assert_eq!(oauth.error_reason, reason.as_str());
        }
    }

    #[test]
    fn s63_the_list_is_as_long_as_the_wire_s() {
        let on_the_wire = (1..100).filter(|&number| ErrorReason::try_from(number).is_ok()).count();
        assert_eq!(on_the_wire, Reason::ALL.len());
    }

    #[test]
    fn every_violation_is_named_at_once() {
        let mut violations = Violations::new();
        violations.add("workspace.display_name", "must not be empty");
        violations.add("page_size", "must be at most 1000");
        let status = Status::from(Refusal::from(violations.clone()));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), 2);
        assert_eq!(Refusal::from_status(&status).violations(), &violations);
        let body = serde_json::to_value(Refusal::invalid(violations).to_oauth(OAuthGrant::TokenExchange)).unwrap();
        assert_eq!(body["error"], "invalid_request");
        assert_eq!(body["violations"][1]["field"], "page_size");
    }

    #[test]
    fn the_message_repeats_a_few_violations_and_counts_the_others() {
        let refusal = |count: usize| {
            let mut violations = Violations::new();
            for number in 0..count {
                violations.add(format!("f[{number}]"), "must be shorter");
            }
            Refusal::invalid(violations)
        };
        assert!(refusal(8).message().ends_with("f[7]: must be shorter"), "{}", refusal(8).message());
        assert!(refusal(50).message().ends_with("f[7]: must be shorter; and 42 more"), "{}", refusal(50).message());
        assert_eq!(refusal(50).violations().iter().count(), 50);
    }

    #[test]
    fn each_grant_has_its_own_name_for_a_bad_subject_token() {
        for reason in [Reason::SubjectTokenReplayed, Reason::SubjectTokenNotTrusted, Reason::SubjectNotTrusted] {
            let refusal = Refusal::new(reason, "no");
            assert_eq!(refusal.to_oauth(OAuthGrant::TokenExchange).error, "invalid_request");
            assert_eq!(refusal.to_oauth(OAuthGrant::JwtBearer).error, "invalid_grant");
        }
    }

    #[test]
    fn a_missing_permission_is_named_in_the_metadata() {
        let status = Status::from(Refusal::permission_missing(Permission::IssuersCreate));
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(status.get_details_error_info().unwrap().metadata["permission"], "countersign:issuers.create");
    }

    #[test]
    fn an_exceeded_quota_names_its_owner_and_the_limit() {
        let refusal = Refusal::quota_exceeded("Workspace", "ws_1", "the workspace already has 100 issuers, the maximum");
        let status = Status::from(refusal.clone());
        assert_eq!(status.code(), Code::ResourceExhausted);
        let failure = status.get_details_quota_failure().unwrap();
        assert_eq!(failure.violations.len(), 1);
        assert_eq!(failure.violations[0].subject, "Workspace ws_1");
        assert_eq!(failure.violations[0].description, "the workspace already has 100 issuers, the maximum");
        assert!(status.get_details_retry_info().is_none(), "waiting does not help");
        assert_eq!(Refusal::from_status(&status), refusal);
    }

    #[test]
    fn s51_only_a_refusal_that_says_so_left_nothing_behind() {
        let certain = Status::from(Refusal::unavailable("no transaction was begun").with_nothing_committed());
        assert_eq!(certain.get_details_error_info().unwrap().metadata["committed"], "none");
        assert!(Refusal::from_status(&certain).nothing_committed());
        assert!(!Refusal::from_status(&Status::from(Refusal::unavailable("lost"))).nothing_committed());
        let metadata = HashMap::from([("committed".to_owned(), "none".to_owned())]);
        let foreign = ErrorDetails::with_error_info("TEMPORARILY_UNAVAILABLE", "elsewhere", metadata);
        let foreign = Status::with_error_details(Code::Unavailable, "x", foreign);
        assert!(!Refusal::from_status(&foreign).nothing_committed(), "another domain's word");
    }

    #[test]
    fn a_foreign_status_loses_its_text() {
        let refusal = Refusal::from_status(&Status::unavailable("tcp connect error: 10.0.0.7"));
        assert_eq!(refusal.reason(), Reason::TemporarilyUnavailable);
        assert!(!refusal.message().contains("10.0.0.7"));
        assert_eq!(Refusal::from_status(&Status::unknown("x")).reason(), Reason::Internal);
    }

    #[test]
    fn descriptions_keep_to_the_character_set_of_rfc_6749() {
        assert_eq!(description_text("a \"b\" \\ c\n…é"), "a 'b' / c?...?");
    }
}
