//! `countersign.trust.v1.ReachableScopeService`, for issuer-service.

use std::sync::Arc;

use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::violation::Violations;
use countersign_proto::common::read;
use countersign_proto::status::Refusal;
use countersign_proto::trust_v1::reachable_scope_service_server::{ReachableScopeService, ReachableScopeServiceServer};
use countersign_proto::trust_v1::{ListReachableScopesRequest, ListReachableScopesResponse};
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::refusals;

/// The service.
pub(crate) struct ReachableScopes(Arc<Context>);

/// The generated server of the service.
pub(crate) fn server(context: Arc<Context>) -> ReachableScopeServiceServer<ReachableScopes> {
    ReachableScopeServiceServer::new(ReachableScopes(context))
}

#[tonic::async_trait]
impl ReachableScopeService for ReachableScopes {
    async fn list_reachable_scopes(
        &self,
        request: Request<ListReachableScopesRequest>,
    ) -> Result<Response<ListReachableScopesResponse>, Status> {
        let ListReachableScopesRequest { workspace_id, issuer_url } = request.get_ref();
        let mut violations = Violations::new();
        let workspace_id: Option<WorkspaceId> = read("workspace_id", workspace_id, &mut violations);
        let issuer_url: Option<IssuerUrl> = read("issuer_url", issuer_url, &mut violations);
        let (workspace_id, issuer_url) = workspace_id.zip(issuer_url).ok_or(violations).map_err(Refusal::invalid)?;
        let scopes = self.0.store.reserved_scopes_behind(&workspace_id, &issuer_url).await.map_err(refusals::store)?;
        Ok(Response::new(ListReachableScopesResponse { scopes: scopes.iter().map(ToString::to_string).collect() }))
    }
}
