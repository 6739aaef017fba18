//! What the pipeline needs of the world, as traits, so that every failure of the world can be put before it in a test.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_domain::access::caller::Caller;
use countersign_domain::exchange::audit::NewRefusal;
use countersign_domain::exchange::commit::{CommitOutcome, ExchangeCommit};
use countersign_domain::trust::issuer_health::IssuerProblem;
use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::trusted_issuer::TrustedIssuer;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::name::DisplayName;
use countersign_domain::values::time::Timestamp;
use countersign_jose::KeySet;

/// The policies of all workspaces, as fresh as trust-service keeps them.
#[async_trait]
pub(crate) trait Policies: Send + Sync {
    /// The name of a workspace for people; `None` when there is no such workspace.
    fn display_name(&self, workspace_id: &WorkspaceId) -> Option<DisplayName>;

    /// Whether the workspace exists and registered an issuer with exactly this URL. Answered from memory.
    fn registered(&self, workspace_id: &WorkspaceId, issuer_url: &str) -> bool;

    /// The workspaces that registered an issuer with exactly this URL, at most `limit` of them. Answered from memory.
    fn registrants(&self, issuer_url: &str, limit: usize) -> Vec<WorkspaceId>;

    /// A workspace's policy, loaded when it is used for the first time. `None` when there is no such workspace.
    async fn policy(&self, workspace_id: &WorkspaceId) -> Result<Option<Arc<WorkspacePolicy>>, CutOff>;

    /// Waits until everything that was committed before this call has arrived here.
    async fn catch_up(&self, cause: CatchUpCause) -> Result<CaughtUp, CutOff>;
}

/// Why a policy might be too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CatchUpCause {
    /// A token whose signature verified would be refused, or a commit found the policy stale.
    Verified,
    /// Something that anybody can write would be refused. Rationed.
    Unverified,
}

/// Whether catching up took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CaughtUp {
    /// Everything has arrived.
    Fresh,
    /// Too many ask for reasons that anybody can make up; the policies are as fresh as they are.
    Rationed,
}

/// trust-service cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the policy feed of trust-service is cut off")]
pub(crate) struct CutOff;

/// The keys of other issuers.
#[async_trait]
pub(crate) trait Keys: Send + Sync {
    /// The keys of an issuer.
    async fn key_set(&self, issuer: &TrustedIssuer) -> Result<Arc<KeySet>, KeysUnavailable>;

    /// The keys of an issuer, after a token named one that [`Keys::key_set`] does not have: newer ones, if they can be had.
    async fn refresh_for_unknown_key(&self, issuer: &TrustedIssuer, key_id: Option<&str>)
    -> Result<Arc<KeySet>, KeysUnavailable>;

    /// Why the keys of an issuer could not be read the last time, as far as the viewer is shown it (SECURITY 42).
    fn problem(&self, issuer: &TrustedIssuer, viewer: Viewer) -> Option<IssuerProblem>;
}

/// Who is shown something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Viewer {
    /// The operator, to whom the network belongs.
    Operator,
    /// An administrator of the workspace.
    Administrator,
}

impl From<&Caller> for Viewer {
    fn from(caller: &Caller) -> Self {
        if caller.is_operator() { Self::Operator } else { Self::Administrator }
    }
}

/// The keys of an issuer cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's keys are unavailable")]
pub(crate) struct KeysUnavailable;

/// Signs access tokens.
#[async_trait]
pub(crate) trait Signer: Send + Sync {
    /// Signs these claims, with `iss`, `iat`, `nbf` and `exp` added.
    async fn sign(&self, token: UnsignedToken) -> Result<SignedToken, SignError>;
}

/// An access token to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnsignedToken {
    /// A JSON object.
    pub(crate) claims_json: Vec<u8>,
    /// How long it shall live.
    pub(crate) duration: Duration,
}

/// A signed access token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SignedToken {
    /// The compact JWS. A secret.
    pub(crate) token: String,
    /// Its `exp`.
    pub(crate) expires_at: Timestamp,
}

impl fmt::Debug for SignedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignError {
    /// issuer-service cannot be reached or cannot sign now.
    #[error("issuer-service is unavailable: {0}")]
    Unavailable(String),
    /// issuer-service will not sign these claims.
    #[error("issuer-service refused to sign: {0}")]
    Refused(String),
}

/// What was refused earlier, by any gateway.
#[async_trait]
pub(crate) trait PastRefusals: Send + Sync {
    /// What was kept of the token that was refused under this request id; `None` when nothing was.
    async fn refusal(&self, workspace_id: &WorkspaceId, request_id: &str) -> Result<Option<NewRefusal>, CutOff>;
}

/// The commit point of exchanges.
#[async_trait]
pub(crate) trait CommitPoint: Send + Sync {
    /// Makes an exchange durable. Only after [`CommitOutcome::Committed`] may its token be released.
    async fn commit(&self, exchange: ExchangeCommit) -> Result<CommitOutcome, CommitError>;
}

/// Why it is not known that an exchange was committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommitError {
    /// The exchange certainly was not committed.
    #[error("the commit was not made: {0}")]
    NotMade(String),
    /// The exchange may have been committed.
    #[error("the outcome of the commit is unknown: {0}")]
    OutcomeUnknown(String),
}
