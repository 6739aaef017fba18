//! What a failing store means to a caller. Logged here, once, with its causes; the caller learns none of them.

use std::error::Error as _;

use countersign_domain::values::reason::Reason;
use countersign_domain::values::violation::Violations;
use countersign_proto::common;
use countersign_proto::status::Refusal;
use countersign_store::database::StoreError;
use countersign_store::trust::{CommitError, Resource, WriteError};

/// A read that failed.
#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
pub(crate) fn store(error: StoreError) -> Refusal {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(cause, "{error}");
            Refusal::unavailable("the database cannot be reached")
        }
        StoreError::Refused(_) | StoreError::Unreadable { .. } => {
            tracing::error!(cause, "{error}");
            Refusal::internal()
        }
    }
}

/// A commit that failed, or may have.
pub(crate) fn commit(error: CommitError) -> Refusal {
    match error {
        CommitError::NothingCommitted(error) => store(error).with_nothing_committed(),
        CommitError::OutcomeUnknown(error) => store(error),
    }
}

/// A write that failed. `id` is of the resource that was to be written, `name` what may be taken by another.
pub(crate) fn write(error: WriteError, kind: Resource, id: &str, name: &str) -> Refusal {
    match error {
        WriteError::NotFound(missing) if missing == kind => Refusal::not_found(kind_name(kind), id),
        WriteError::NotFound(missing) => Refusal::not_found(kind_name(missing), name),
        WriteError::Changed => Refusal::etag_mismatch(kind_name(kind), id),
        WriteError::AlreadyExists => Refusal::already_exists(kind_name(kind), name),
        WriteError::QuotaReached { owner: None, most, .. } => {
            let message =
                format!("the deployment already has {most} workspaces, the maximum; delete one or raise `quotas.workspaces`");
            Refusal::quota_exceeded("Workspace", id, message)
        }
        WriteError::QuotaReached { owner: Some(owner), resource, most } => {
            let kinds = match resource {
                Resource::TrustRelationship => "trust relationships",
                Resource::TrustedIssuer | Resource::Workspace => "trusted issuers",
            };
            let message = format!("the workspace already has {most} {kinds}, the maximum; delete one that is no longer in use");
            Refusal::quota_exceeded("Workspace", owner, message)
        }
        WriteError::KeyMaterialTooLong { owner, most } => {
            let message = format!(
                "the uploaded key sets and certificates of the workspace would have more than {most} characters in total, the maximum; \
                 remove some"
            );
            Refusal::quota_exceeded("Workspace", owner, message)
        }
        WriteError::NotGrantable(scope) => Refusal::new(
            Reason::GrantNotHeld,
            format!("`{scope}` can be obtained through this issuer, and you do not hold it; ask a caller who does"),
        ),
        WriteError::Referenced => {
            let message = match kind {
                Resource::Workspace => "the workspace still holds trusted issuers",
                Resource::TrustedIssuer | Resource::TrustRelationship => "trust relationships still use the trusted issuer",
            };
            Refusal::failed_precondition(kind_name(kind), id, message)
        }
        WriteError::Store(error) => store(error),
    }
}

/// The resource's name in the proto files.
pub(crate) const fn kind_name(kind: Resource) -> &'static str {
    match kind {
        Resource::Workspace => "Workspace",
        Resource::TrustedIssuer => "TrustedIssuer",
        Resource::TrustRelationship => "TrustRelationship",
    }
}

/// Reads the ids of a request; when one is none, everything wrong is refused at once.
pub(crate) struct Ids(Violations);

impl Ids {
    pub(crate) fn new() -> Self {
        Self(Violations::new())
    }

    /// Reads one.
    pub(crate) fn read<T>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        common::read(field, text, &mut self.0)
    }

    /// Ends the reading.
    pub(crate) fn all<T>(self, ids: Option<T>) -> Result<T, Refusal> {
        ids.ok_or_else(|| Refusal::invalid(self.0))
    }
}
