//! `countersign.trust.v1.AuditService`, for operators, and `AuditLogService`, for gateways.

use std::sync::Arc;

use countersign_domain::audit::{AuditEvent, AuditedDecision, NewRefusal, Refusals};
use countersign_domain::id::{TrustRelationshipId, WorkspaceId};
use countersign_domain::violation::Violations;
use countersign_proto::common::{read, read_optional, read_timestamp};
use countersign_proto::status::Refusal;
use countersign_proto::trust::audit::read_append_request;
use countersign_proto::trust_v1 as wire;
use countersign_proto::trust_v1::audit_log_service_server::{AuditLogService, AuditLogServiceServer};
use countersign_proto::trust_v1::audit_service_server::AuditService;
use countersign_runtime::auth;
use countersign_runtime::page_request;
use countersign_store::trust::{AuditQuery, Decided};
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::pages::{self, PageRequest, Position};
use crate::refusals;

/// 256 refusals of the longest tokens.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// The service for operators.
pub(crate) struct Audit(pub(crate) Arc<Context>);

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit_events(
        &self,
        request: Request<wire::ListAuditEventsRequest>,
    ) -> Result<Response<wire::ListAuditEventsResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        let wire = request.into_inner();
        let query = read_query(&wire)?;
        match &query.workspace_id {
            Some(id) if !caller.sees(id) => return Err(Refusal::not_found("Workspace", id).into()),
            Some(id) => self.0.check_exists(id).await?,
            None if caller.is_operator() => {}
            None => return Err(Refusal::invalid_field("workspace_id", "must be given").into()),
        }
        // A token of one query does not go on with another.
        let written = format!("{query:?}");
        let list: &[&[u8]] = &[b"ListAuditEvents", written.as_bytes()];
        let page = PageRequest::read(&self.0.pages, list, wire.page_size, &wire.page_token)?;
        let before = match page.after().map(|last| last.id.parse()) {
            None => None,
            Some(Ok(sequence)) => Some(sequence),
            Some(Err(_)) => return Err(Refusal::invalid_field("page_token", "cannot be read").into()),
        };
        let query = AuditQuery { before, limit: page.limit(), ..query };
        let events = self.0.store.audit_events(&query).await.map_err(refusals::store)?;
        let position = |event: &AuditEvent| Position { created_at: event.time, id: event.sequence.to_string() };
        let (audit_events, next_page_token) = pages::finish(&page, &events, position);
        Ok(Response::new(wire::ListAuditEventsResponse { audit_events, next_page_token }))
    }
}

fn read_query(wire: &wire::ListAuditEventsRequest) -> Result<AuditQuery, Refusal> {
    let mut violations = Violations::new();
    page_request::check_size(wire.page_size, &mut violations);
    let workspace_id = read_optional::<WorkspaceId>("workspace_id", &wire.workspace_id, &mut violations);
    let relationship =
        read_optional::<TrustRelationshipId>("trust_relationship_id", &wire.trust_relationship_id, &mut violations);
    let decided = match wire::AuditDecision::try_from(wire.decision) {
        Ok(wire::AuditDecision::Unspecified) => None,
        Ok(wire::AuditDecision::Allowed) => Some(Decided::Allowed),
        Ok(wire::AuditDecision::Refused) => Some(Decided::Refused),
        Err(_) => {
            violations.add("decision", "must be a value of AuditDecision");
            None
        }
    };
    let since = wire.start_time.as_ref().and_then(|time| violations.check("start_time", read_timestamp(time)));
    let query = AuditQuery {
        workspace_id: workspace_id.flatten(),
        decided,
        trusted_issuer_id: None,
        trust_relationship_id: relationship.flatten(),
        request_id: Some(wire.request_id.clone()).filter(|id| !id.is_empty()),
        since,
        before: None,
        limit: 0,
    };
    violations.into_result(query).map_err(Refusal::invalid)
}

/// The service for gateways.
pub(crate) struct AuditLog(Arc<Context>);

/// The generated server of the service for gateways.
pub(crate) fn log_server(context: Arc<Context>) -> AuditLogServiceServer<AuditLog> {
    AuditLogServiceServer::new(AuditLog(context)).max_decoding_message_size(MAX_MESSAGE)
}

#[tonic::async_trait]
impl AuditLogService for AuditLog {
    async fn append_refusals(
        &self,
        request: Request<wire::AppendRefusalsRequest>,
    ) -> Result<Response<wire::AppendRefusalsResponse>, Status> {
        let refusals = read_append_request(request.into_inner()).map_err(Refusal::invalid)?;
        self.0.store.append_refusals(&refusals).await.map_err(refusals::store)?;
        Ok(Response::new(wire::AppendRefusalsResponse {}))
    }

    async fn get_refusal(&self, request: Request<wire::GetRefusalRequest>) -> Result<Response<wire::GetRefusalResponse>, Status> {
        let wire::GetRefusalRequest { workspace_id, request_id } = request.into_inner();
        let mut violations = Violations::new();
        let id: Option<WorkspaceId> = read("workspace_id", &workspace_id, &mut violations);
        if request_id.is_empty() {
            violations.add("request_id", "is required");
        }
        let id = id.filter(|_| violations.is_empty()).ok_or(violations).map_err(Refusal::invalid)?;
        let query =
            AuditQuery { decided: Some(Decided::Refused), request_id: Some(request_id.clone()), ..AuditQuery::of(id, 10) };
        let events = self.0.store.audit_events(&query).await.map_err(refusals::store)?;
        let one = events.into_iter().find_map(|event| match event.decision {
            AuditedDecision::Refused(one) => {
                Some(NewRefusal { workspace_id: event.workspace_id, time: event.time, refused: Refusals::One(one) })
            }
            AuditedDecision::Allowed(_) | AuditedDecision::Counted(_) => None,
        });
        let one = one.ok_or_else(|| Refusal::not_found("Refusal", request_id))?;
        Ok(Response::new(wire::GetRefusalResponse { refusal: Some((&one).into()) }))
    }
}
