//! What the handlers share.

use std::sync::Arc;

use countersign_discovery::Discovery;
use countersign_domain::access::caller::Caller;
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::deployment_audience::DeploymentAudience;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_domain::values::time::{Clock, Entropy, Timestamp};
use countersign_proto::status::Refusal;
use countersign_runtime::auth;
use countersign_runtime::page_token::PageTokens;
use countersign_store::trust::TrustStore;
use tonic::Request;

use crate::issuer_keys::IssuerKeys;
use crate::policy_feed::PolicyFeed;
use crate::refusals;
use crate::turns::Turns;
use crate::uses::Uses;

/// How often a change without an etag is tried again when somebody else's came in between.
pub(crate) const ATTEMPTS: usize = 5;

/// What the handlers share.
pub(crate) struct Context {
    pub(crate) store: Arc<dyn TrustStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) pages: PageTokens,
    pub(crate) deployment: DeploymentAudience,
    pub(crate) loopback_http: LoopbackHttp,
    /// Whether the linter's warnings refuse a write.
    pub(crate) strict_lint: bool,
    pub(crate) feed: PolicyFeed,
    /// Knows the issuers of this deployment.
    pub(crate) issuer_keys: Arc<IssuerKeys>,
    /// Asks issuers for checks.
    pub(crate) discovery: Discovery,
    /// Who may look through the past of a workspace.
    pub(crate) turns: Turns,
    /// When relationships last decided.
    pub(crate) uses: Arc<Uses>,
}

impl Context {
    /// The time now, to the microsecond: what is stored is what is answered.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    /// The caller, for whom this workspace exists.
    ///
    /// # Errors
    /// "Not found", also when it exists for others: anything else would tell of other tenants (SECURITY 33).
    pub(crate) fn caller_in<T>(request: &Request<T>, workspace_id: &WorkspaceId) -> Result<Caller, Refusal> {
        let caller = auth::caller(request)?;
        if caller.sees(workspace_id) { Ok(caller.clone()) } else { Err(Refusal::not_found("Workspace", workspace_id)) }
    }

    /// Checks that a caller can change a workspace in this state. Callers of a workspace that is not active are not admitted at all
    /// (SECURITY 82); this one may have been disabled since.
    pub(crate) fn check_writable(caller: &Caller, workspace_id: &WorkspaceId, state: WorkspaceState) -> Result<(), Refusal> {
        if caller.is_operator() || state == WorkspaceState::Active {
            Ok(())
        } else {
            let message = "the workspace is disabled; only the operator of the deployment can change it";
            Err(Refusal::failed_precondition("Workspace", workspace_id, message))
        }
    }

    /// Lists of a workspace that does not exist are not empty; they are not there.
    pub(crate) async fn check_exists(&self, workspace_id: &WorkspaceId) -> Result<(), Refusal> {
        match self.store.workspace(workspace_id).await.map_err(refusals::store)? {
            Some(_) => Ok(()),
            None => Err(Refusal::not_found("Workspace", workspace_id)),
        }
    }
}
