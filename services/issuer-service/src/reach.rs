//! What callers obtain by deciding which subjects an issuer signs (SECURITY 69).
//!
//! A trust relationship of the workspace may accept subjects of this issuer and grant permissions of this deployment to them. A write
//! that decides which subjects, claims and audiences the issuer can sign decides who obtains these permissions, so it needs every one
//! of them. trust-service knows them; without its answer the write is refused.

use std::fmt;
use std::time::Duration;

use countersign_domain::access::caller::Caller;
use countersign_domain::access::permission::check_grantable;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::name::Scope;
use countersign_domain::values::reason::Reason;
use countersign_proto::status::Refusal;
use countersign_proto::trust_v1::ListReachableScopesRequest;
use countersign_proto::trust_v1::reachable_scope_service_client::ReachableScopeServiceClient;
use countersign_runtime::client::PeerChannel;
use tonic::Request;

/// How long a write waits for trust-service.
const LIMIT: Duration = Duration::from_secs(3);

/// Asks trust-service what is granted to subjects of an issuer.
pub(crate) struct Reach(ReachableScopeServiceClient<PeerChannel>);

impl Reach {
    pub(crate) fn new(trust_service: PeerChannel) -> Self {
        Self(ReachableScopeServiceClient::new(trust_service))
    }

    /// Checks that a caller holds every permission that relationships of the workspace grant to subjects of this issuer.
    ///
    /// # Errors
    /// Returns `GRANT_NOT_HELD`, with the scopes; unavailable where trust-service does not answer.
    pub(crate) async fn check(&self, caller: &Caller, workspace_id: &WorkspaceId, issuer_url: &IssuerUrl) -> Result<(), Refusal> {
        if caller.is_operator() {
            return Ok(());
        }
        let not_held: Vec<_> =
            self.scopes(workspace_id, issuer_url).await?.into_iter().filter(|scope| !holds(caller, scope)).collect();
        if not_held.is_empty() {
            return Ok(());
        }
        let message = format!(
            "trust relationships of the workspace let subjects of this issuer obtain `{}`, which you do not hold; ask a caller who does",
            not_held.join("`, `")
        );
        Err(Refusal::new(Reason::GrantNotHeld, message))
    }

    async fn scopes(&self, workspace_id: &WorkspaceId, issuer_url: &IssuerUrl) -> Result<Vec<String>, Refusal> {
        let message = ListReachableScopesRequest { workspace_id: workspace_id.to_string(), issuer_url: issuer_url.to_string() };
        let mut request = Request::new(message);
        request.set_timeout(LIMIT);
        match self.0.clone().list_reachable_scopes(request).await {
            Ok(answer) => Ok(answer.into_inner().scopes),
            Err(status) => {
                tracing::warn!(workspace.id = %workspace_id, code = ?status.code(), cause = status.message(), "cannot read what is granted to subjects of an issuer");
                Err(Refusal::unavailable(
                    "cannot read which permissions are granted to subjects of the issuer: trust-service does not answer",
                ))
            }
        }
    }
}

/// Whether a caller holds a scope. One that cannot be read is held by no caller.
fn holds(caller: &Caller, scope: &str) -> bool {
    scope.parse::<Scope>().is_ok_and(|scope| check_grantable(&scope, |authorization| caller.is_authorized(authorization)).is_ok())
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach").finish_non_exhaustive()
    }
}
