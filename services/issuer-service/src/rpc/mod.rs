//! The gRPC surface: each handler converts the request, does one thing, converts the answer.

pub(crate) mod access_tokens;
pub(crate) mod issuers;
pub(crate) mod key_sets;
pub(crate) mod signing_keys;
pub(crate) mod tokens;

use std::fmt::Display;
use std::time::Duration;

use countersign_domain::values::id::{IssuerId, WorkspaceId};
use countersign_domain::values::violation::Violations;
use countersign_proto::common::read;
use countersign_proto::status::Refusal;
use countersign_store::database::StoreError;

use crate::causes::Causes;
use crate::keeper::KeeperError;

/// The two ids that name an issuer.
fn read_ids(workspace_id: &str, issuer_id: &str, names: [&str; 2]) -> Result<(WorkspaceId, IssuerId), Refusal> {
    let mut violations = Violations::new();
    let workspace_id = read(names[0], workspace_id, &mut violations);
    let issuer_id = read(names[1], issuer_id, &mut violations);
    match (workspace_id, issuer_id) {
        (Some(workspace_id), Some(issuer_id)) => Ok((workspace_id, issuer_id)),
        _ => Err(Refusal::invalid(violations)),
    }
}

/// What a caller hears of trouble with the database; the operator hears the rest.
fn database_trouble(error: &StoreError) -> Refusal {
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, cause = %Causes(error), "a call is refused");
            Refusal::unavailable("the database cannot be reached")
        }
        StoreError::Refused(_) | StoreError::Unreadable { .. } => {
            tracing::error!(%error, cause = %Causes(error), "a call failed");
            Refusal::internal()
        }
    }
}

/// What a caller hears when there is no key to sign with.
fn key_trouble(error: &KeeperError, issuer: impl Display) -> Refusal {
    match error {
        KeeperError::Gone | KeeperError::NotActive => Refusal::not_found("Issuer", issuer),
        KeeperError::Workspace(unknown) => (*unknown).into(),
        KeeperError::Store(error) => database_trouble(error),
        KeeperError::Timeout | KeeperError::NotNow | KeeperError::Stale => {
            tracing::warn!(%error, "a call is refused");
            Refusal::unavailable("the database cannot be reached")
        }
        // Not logged: callers without credentials can cause it as often as they like.
        KeeperError::NoKeyYet => Refusal::unavailable("the issuer's first signing key is still being made"),
        KeeperError::Unusable => {
            tracing::error!(%issuer, %error, "a call is refused");
            Refusal::unavailable("the issuer's signing keys cannot be used").with_retry(Duration::from_secs(30))
        }
        KeeperError::Contended => Refusal::unavailable("the issuer is being changed by others"),
        KeeperError::Custody(_) | KeeperError::Lost(_) => {
            tracing::error!(%issuer, %error, cause = %Causes(error), "a call failed");
            Refusal::internal()
        }
    }
}
