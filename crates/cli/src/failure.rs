//! Why a command did not do what it was asked, and how that is told.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 the command line is wrong. A command may have others that answer a question.

use std::fmt;
use std::process::ExitCode;

use countersign_domain::values::reason::Reason;
use countersign_proto::status::Refusal;

use crate::output::{Output, printable};

/// Why a command ended without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line cannot be meant.
    Usage(String),
    /// A service said no.
    Refused(Box<Refused>),
    /// Something outside the services failed: a file, the network.
    Failed(anyhow::Error),
    /// The command did what it was asked, and answers by this exit code.
    Exit(u8),
}

/// What a service answered.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its reason, with details.
    pub(crate) refusal: Refusal,
    /// What joins the answer to the operator's log.
    pub(crate) request_id: Option<String>,
}

/// The result of a command.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A wrong command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Says what was being done when it failed.
    pub(crate) fn while_doing(error: impl Into<anyhow::Error>, what: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self::Failed(error.into().context(what))
    }

    /// The reason, when a service said no.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(refused) => Some(refused.refusal.reason()),
            Self::Usage(_) | Self::Failed(_) | Self::Exit(_) => None,
        }
    }

    /// Tells the person, and gives the exit code.
    pub(crate) fn report(&self, output: &mut Output) -> ExitCode {
        if !matches!(self, Self::Exit(_)) {
            output.message(self.to_string());
        }
        match self {
            Self::Exit(code) => ExitCode::from(*code),
            Self::Usage(_) => ExitCode::from(2),
            Self::Refused(_) | Self::Failed(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) => write!(f, "error: {message}\n\nFor more information, try '--help'."),
            Self::Failed(error) => {
                let mut text = format!("error: {error}");
                for cause in error.chain().skip(1) {
                    // Some libraries repeat their cause in their own message.
                    if !text.contains(&cause.to_string()) {
                        text = format!("{text}: {cause}");
                    }
                }
                f.write_str(&printable(&text))
            }
            Self::Refused(refused) => refused.fmt(f),
            Self::Exit(code) => write!(f, "exit code {code}"),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refusal, request_id } = self;
        let reason = refusal.reason().as_str();
        if refusal.violations().is_empty() {
            write!(f, "refused: {reason}: {}", refusal.message())?;
        } else {
            write!(f, "refused: {reason}: the request is not valid")?;
            for violation in refusal.violations().iter() {
                write!(f, "\n  - {}: {}", violation.field, violation.description)?;
            }
        }
        if let Some(permission) = refusal.permission() {
            write!(f, "\n  permission: {permission}")?;
        }
        if let Some((kind, name)) = refusal.resource() {
            write!(f, "\n  resource: {kind} {name}")?;
        }
        if let Some(after) = refusal.retry_after() {
            write!(f, "\n  try again in {} s", after.as_secs().max(1))?;
        }
        if let Some(id) = request_id {
            write!(f, "\n  request id: {id}")?;
        }
        Ok(())
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        if status.code() == tonic::Code::Unimplemented {
            return Self::Failed(anyhow::anyhow!(
                "the service at that address does not know this call: it is another service, or an older version"
            ));
        }
        // Servers give their request id with every answer, the refusals included.
        let request_id = status.metadata().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        Self::Refused(Box::new(Refused { refusal: Refusal::from_status(&status), request_id }))
    }
}

macro_rules! failed_from {
    ($($error:ty),+) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Failed(error.into())
            }
        }
    )+};
}

failed_from!(anyhow::Error, std::io::Error, crate::context::ContextError, crate::secret::ReadSecretError);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_domain::access::permission::Permission;
    use countersign_domain::values::violation::Violations;

    use super::*;

    fn rendered(refusal: Refusal) -> String {
        Failure::from(tonic::Status::from(refusal)).to_string()
    }

    #[test]
    fn every_violation_is_shown_on_a_line_of_its_own() {
        let mut violations = Violations::new();
        violations.add("trust_relationship.subject_matches[0]", "a bare `*` is refused");
        violations.add("trust_relationship.scopes", "needs a scope or a grant");
        assert_eq!(
            rendered(Refusal::invalid(violations)),
            "refused: INVALID_REQUEST: the request is not valid\n  - trust_relationship.subject_matches[0]: a bare `*` is refused\n  \
             - trust_relationship.scopes: needs a scope or a grant"
        );
    }

    #[test]
    fn a_refusal_shows_its_reason_and_details() {
        assert_eq!(
            rendered(Refusal::new(Reason::SubjectTokenReplayed, "the token was exchanged before")),
            "refused: SUBJECT_TOKEN_REPLAYED: the token was exchanged before"
        );
        let missing = rendered(Refusal::permission_missing(Permission::IssuersCreate));
        assert!(missing.ends_with("\n  permission: countersign:issuers.create"), "{missing}");
        let busy = rendered(Refusal::unavailable("the database cannot be reached").with_retry(Duration::from_millis(20)));
        assert!(busy.ends_with("\n  try again in 1 s"), "{busy}");
    }

    #[test]
    fn the_request_id_of_an_answer_is_shown() {
        let mut status = tonic::Status::from(Refusal::internal());
        status.metadata_mut().insert("x-request-id", "0123".parse().unwrap());
        assert!(Failure::from(status).to_string().ends_with("\n  request id: 0123"));
    }

    #[test]
    fn a_call_that_the_service_does_not_know_points_at_the_address() {
        let failure = Failure::from(tonic::Status::unimplemented("there is no such method here"));
        assert!(failure.to_string().contains("at that address"), "{failure}");
    }

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("connection refused").context("tcp: connection refused").context("cannot reach it");
        assert_eq!(Failure::Failed(error).to_string(), "error: cannot reach it: tcp: connection refused");
    }
}
