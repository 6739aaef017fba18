//! `countersign.trust.v1.AuditService`, for operators, and `AuditLogService`, for gateways.

use std::sync::Arc;

use countersign_domain::exchange::audit::{AuditEvent, AuditedDecision, NewRefusal, Refusals};
use countersign_domain::values::id::{TrustRelationshipId, WorkspaceId};
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::violation::Violations;
use countersign_proto::common::{read, read_optional, read_timestamp};
use countersign_proto::status::Refusal;
use countersign_proto::trust::audit::read_append_request;
use countersign_proto::trust_v1 as wire;
use countersign_proto::trust_v1::audit_log_service_server::{AuditLogService, AuditLogServiceServer};
use countersign_proto::trust_v1::audit_service_server::AuditService;
use countersign_runtime::auth;
use countersign_runtime::page_request;
use countersign_store::trust::Which;
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::pages::{self, PageRequest};
use crate::past::{Backwards, position};
use crate::refusals;

/// 256 refusals of the longest tokens.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// The most events that are looked through for one page.
const MAX_LOOKED_THROUGH: u64 = 10_000;

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
        let filter = Filter::read(&wire)?;
        match &filter.workspace_id {
            Some(id) if !caller.sees(id) => return Err(Refusal::not_found("Workspace", id).into()),
            Some(id) => self.0.check_exists(id).await?,
            None if caller.is_operator() => {}
            None => return Err(Refusal::invalid_field("workspace_id", "must be given").into()),
        }
        // A token of one query does not go on with another.
        let written = format!("{filter:?}");
        let list: &[&[u8]] = &[b"ListAuditEvents", written.as_bytes()];
        let page = PageRequest::read(&self.0.pages, list, wire.page_size, &wire.page_token)?;
        let (audit_events, next_page_token) = self.list(&filter, &page).await?;
        Ok(Response::new(wire::ListAuditEventsResponse { audit_events, next_page_token }))
    }
}

impl Audit {
    /// One page: it ends when it is full, or when so much was looked through that the caller had better ask again.
    async fn list(&self, filter: &Filter, page: &PageRequest<'_>) -> Result<(Vec<wire::AuditEvent>, String), Refusal> {
        let store = &*self.0.store;
        // Of all there is, refusals of one request alone can be looked up.
        if let (Some(workspace_id), Some(request_id), Some(Decision::Refused)) =
            (&filter.workspace_id, &filter.request_id, filter.decision)
        {
            let events = store.refusals_of_request(workspace_id, request_id).await.map_err(refusals::store)?;
            return Ok((events.iter().filter(|event| filter.admits(event)).map(Into::into).collect(), String::new()));
        }
        let before = page.after().map(|last| last.id.parse::<i64>());
        let before = before.transpose().map_err(|_| Refusal::invalid_field("page_token", "cannot be read"))?;
        let workspace_id = filter.workspace_id.as_ref();
        // What cannot be among them is not looked through.
        let which = if filter.decision == Some(Decision::Allowed) { Which::Allowed } else { Which::Everything };
        let past = Backwards::new(store, workspace_id, which, MAX_LOOKED_THROUGH);
        let mut past = past.before(before).since(filter.since);
        let mut admitted = Vec::new();
        while admitted.len() <= page.size() {
            let Some(events) = past.next().await? else { break };
            admitted.extend(events.into_iter().filter(|event| filter.admits(event)));
        }
        let is_full = admitted.len() > page.size();
        let (events, next) = pages::finish(page, &admitted, position);
        let next = match past.position() {
            Some(last) if next.is_empty() && !is_full && !past.is_at_end() => page.token_after(last),
            _ => next,
        };
        Ok((events, next))
    }
}

/// Which events are asked for.
#[derive(Debug)]
struct Filter {
    workspace_id: Option<WorkspaceId>,
    decision: Option<Decision>,
    trust_relationship_id: Option<TrustRelationshipId>,
    request_id: Option<String>,
    since: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Allowed,
    Refused,
}

impl Filter {
    fn read(wire: &wire::ListAuditEventsRequest) -> Result<Self, Refusal> {
        let mut violations = Violations::new();
        page_request::check_size(wire.page_size, &mut violations);
        let workspace_id = read_optional::<WorkspaceId>("workspace_id", &wire.workspace_id, &mut violations);
        let relationship = read_optional("trust_relationship_id", &wire.trust_relationship_id, &mut violations);
        let decision = match wire::AuditDecision::try_from(wire.decision) {
            Ok(wire::AuditDecision::Unspecified) => None,
            Ok(wire::AuditDecision::Allowed) => Some(Decision::Allowed),
            Ok(wire::AuditDecision::Refused) => Some(Decision::Refused),
            Err(_) => {
                violations.add("decision", "must be a value of AuditDecision");
                None
            }
        };
        let since = wire.start_time.as_ref().and_then(|time| violations.check("start_time", read_timestamp(time)));
        let filter = Self {
            workspace_id: workspace_id.flatten(),
            decision,
            trust_relationship_id: relationship.flatten(),
            request_id: Some(wire.request_id.clone()).filter(|id| !id.is_empty()),
            since,
        };
        violations.into_result(filter).map_err(Refusal::invalid)
    }

    fn admits(&self, event: &AuditEvent) -> bool {
        let (decision, relationship, request_id) = match &event.decision {
            AuditedDecision::Allowed(allowed) => {
                let request_id = &allowed.audit.presentation.request_id;
                (Decision::Allowed, Some(&allowed.trust_relationship_id), request_id)
            }
            AuditedDecision::Refused(one) => {
                (Decision::Refused, one.trust_relationship_id.as_ref(), &one.presentation.request_id)
            }
            AuditedDecision::Counted(counted) => (Decision::Refused, None, &counted.request_id),
        };
        self.decision.is_none_or(|wanted| wanted == decision)
            && self.trust_relationship_id.as_ref().is_none_or(|wanted| Some(wanted) == relationship)
            && self.request_id.as_ref().is_none_or(|wanted| wanted == request_id)
            && self.since.is_none_or(|since| event.time >= since)
    }
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
        let events = self.0.store.refusals_of_request(&id, &request_id).await.map_err(refusals::store)?;
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
