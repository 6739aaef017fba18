//! The audit log over the wire.

use countersign_domain::exchange::audit::{CountedRefusals, NewRefusal, Refusals, RefusedExchange};
use countersign_domain::exchange::presentation::Presentation;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::Clock as _;
use countersign_proto::trust::audit::append_request;
use countersign_proto::trust_v1::{AuditDecision, GetRefusalRequest, ListAuditEventsRequest, ListAuditEventsResponse};
use countersign_testkit::status::{assert_refused, violated_fields};
use tonic::{Code, Status};

use crate::support::{Caller, Service, Tenant, service};

pub(crate) fn refusal(service: &Service, tenant: &Tenant, request_id: &str) -> NewRefusal {
    NewRefusal {
        workspace_id: Some(tenant.workspace.id.parse().unwrap()),
        time: service.clock.now(),
        refused: Refusals::One(Box::new(RefusedExchange {
            trusted_issuer_id: tenant.issuer.id.parse().unwrap(),
            trust_relationship_id: None,
            policy_revision: 3,
            reason: Reason::SubjectNotTrusted,
            cause: "no live trust relationship accepts the subject".to_owned(),
            presentation: Presentation {
                request_id: request_id.to_owned(),
                subject_issuer: tenant.issuer.issuer_url.parse().unwrap(),
                subject: "org:my-org:vault:other".parse().unwrap(),
                subject_token_hash: [1; 32],
                subject_token_id: None,
                subject_key_id: None,
                claims: None,
                request: None,
            },
        })),
    }
}

fn strangers(service: &Service) -> NewRefusal {
    NewRefusal {
        workspace_id: None,
        time: service.clock.now(),
        refused: Refusals::Counted(CountedRefusals {
            trusted_issuer_id: None,
            reason: Reason::SubjectTokenMalformed,
            cause: "it is no JWT".to_owned(),
            count: 3,
            first_at: service.clock.now(),
            request_id: "req-9".to_owned(),
        }),
    }
}

async fn append(service: &Service, refusals: &[NewRefusal]) {
    service.audit_log().append_refusals(append_request(refusals)).await.unwrap();
}

async fn list(caller: &mut Caller, request: ListAuditEventsRequest) -> Result<ListAuditEventsResponse, Status> {
    Ok(caller.audit.list_audit_events(request).await?.into_inner())
}

fn of(tenant: &Tenant) -> ListAuditEventsRequest {
    ListAuditEventsRequest { workspace_id: tenant.workspace.id.clone(), ..ListAuditEventsRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_listed_newest_first_page_by_page_and_found_by_their_request_id() {
    let service = service().await;
    let (tenant, mut operator) = (service.tenant().await, service.operator());
    let refusals: Vec<_> = (1..=3).map(|number| refusal(&service, &tenant, &format!("req-{number}"))).collect();
    append(&service, &refusals).await;
    let first = list(&mut operator, ListAuditEventsRequest { page_size: 2, ..of(&tenant) }).await.unwrap();
    let ids = |page: &ListAuditEventsResponse| page.audit_events.iter().map(|event| event.request_id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), ["req-3", "req-2"]);
    let next = ListAuditEventsRequest { page_size: 2, page_token: first.next_page_token.clone(), ..of(&tenant) };
    let second = list(&mut operator, next.clone()).await.unwrap();
    assert_eq!((ids(&second), second.next_page_token.as_str()), (vec!["req-1".to_owned()], ""));
    // A token of one query does not go on with another (SECURITY 73).
    let mixed = ListAuditEventsRequest { decision: AuditDecision::Refused.into(), ..next };
    assert_refused(&list(&mut operator, mixed).await.unwrap_err(), Code::InvalidArgument, Reason::PageTokenInvalid);

    let request = GetRefusalRequest { workspace_id: tenant.workspace.id.clone(), request_id: "req-2".to_owned() };
    let found = service.audit_log().get_refusal(request).await.unwrap().into_inner().refusal.unwrap();
    assert_eq!((found.request_id.as_str(), found.presentation.unwrap().subject.as_str()), ("req-2", "org:my-org:vault:other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn s33_another_workspace_s_events_and_refusals_are_not_there() {
    let service = service().await;
    let (tenant, other) = (service.tenant().await, service.tenant().await);
    append(&service, &[refusal(&service, &tenant, "req-1"), strangers(&service)]).await;
    let mut member = service.member(&other.workspace.id, &["countersign:audit_events.get"]);
    assert_refused(&list(&mut member, of(&tenant)).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
    assert_eq!(list(&mut member, of(&other)).await.unwrap().audit_events, []);
    let request = GetRefusalRequest { workspace_id: other.workspace.id.clone(), request_id: "req-1".to_owned() };
    let refused = service.audit_log().get_refusal(request).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::ResourceNotFound);
    // What belongs to no workspace is the operator's.
    let refused = list(&mut member, ListAuditEventsRequest::default()).await.unwrap_err();
    assert_eq!(violated_fields(&refused), ["workspace_id"]);
    let listed = list(&mut service.operator(), ListAuditEventsRequest::default()).await.unwrap();
    assert_eq!(listed.audit_events.iter().map(|event| event.count).collect::<Vec<_>>(), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_a_query_is_named_at_once() {
    let service = service().await;
    let request = ListAuditEventsRequest {
        workspace_id: "ws_1".to_owned(),
        page_size: -1,
        decision: 9,
        trust_relationship_id: "x".to_owned(),
        start_time: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
        ..ListAuditEventsRequest::default()
    };
    let refused = list(&mut service.operator(), request).await.unwrap_err();
    assert_eq!(violated_fields(&refused), ["decision", "page_size", "start_time", "trust_relationship_id", "workspace_id"]);
    let unknown = ListAuditEventsRequest { workspace_id: format!("ws_{}", "0".repeat(26)), ..Default::default() };
    assert_refused(&list(&mut service.operator(), unknown).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
}
