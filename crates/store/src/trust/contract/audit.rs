//! What the audit log answers is what was told to it.

use countersign_domain::audit::{AuditedDecision, CountedRefusals, Refusals, RefusedExchange};
use countersign_domain::reason::Reason;

use super::*;

on_every_database! {
    what_was_allowed_and_refused_comes_back_newest_first
    s33_events_of_another_workspace_are_not_there
    events_are_found_by_what_they_are_about
    events_from_before_claims_were_kept_can_be_read
    the_latest_use_counts_and_what_is_gone_is_passed_over
}

fn refusal(tenant: &Tenant, request_id: &str, seconds: u64) -> NewRefusal {
    NewRefusal {
        workspace_id: Some(tenant.workspace.id.clone()),
        time: later(seconds),
        refused: Refusals::One(Box::new(RefusedExchange {
            trusted_issuer_id: tenant.issuer.id.clone(),
            trust_relationship_id: None,
            policy_revision: 3,
            reason: Reason::SubjectNotTrusted,
            cause: "no live trust relationship accepts the subject".to_owned(),
            presentation: tenant.presentation(request_id),
        })),
    }
}

fn counted(workspace_id: Option<WorkspaceId>, count: u64) -> NewRefusal {
    NewRefusal {
        workspace_id,
        time: later(60),
        refused: Refusals::Counted(CountedRefusals {
            trusted_issuer_id: None,
            reason: Reason::SubjectTokenNotTrusted,
            cause: "the signature does not verify".to_owned(),
            count,
            first_at: later(30),
            request_id: "req-9".to_owned(),
        }),
    }
}

async fn what_was_allowed_and_refused_comes_back_newest_first(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let exchange = tenant.exchange(1);
    replicas.one.commit_exchanges(std::slice::from_ref(&exchange), now()).await.unwrap();
    let refusals = [refusal(&tenant, "req-2", 5), counted(Some(tenant.workspace.id.clone()), 7)];
    replicas.other.append_refusals(&refusals).await.unwrap();

    let mut query = AuditQuery::of(tenant.workspace.id.clone(), 10);
    let events = replicas.one.audit_events(&query).await.unwrap();
    let [several, one, allowed] = events.as_slice() else { panic!("{events:?}") };
    let (Refusals::One(told), Refusals::Counted(told_several)) = (&refusals[0].refused, &refusals[1].refused) else { panic!() };
    assert_eq!(several.decision, AuditedDecision::Counted(Box::new(told_several.clone())));
    assert_eq!((one.time, &one.decision), (later(5), &AuditedDecision::Refused(told.clone())));
    let AuditedDecision::Allowed(allowed_exchange) = &allowed.decision else { panic!("{allowed:?}") };
    assert_eq!((&allowed_exchange.audit, allowed.time), (&exchange.audit, now()));
    assert_eq!(allowed_exchange.trust_relationship_id, tenant.relationship.id);

    query = AuditQuery { before: Some(several.sequence), limit: 1, ..query };
    assert_eq!(replicas.other.audit_events(&query).await.unwrap(), std::slice::from_ref(one));
}

async fn s33_events_of_another_workspace_are_not_there(replicas: Replicas) {
    let (tenant, other) = (replicas.tenant().await, replicas.tenant().await);
    replicas.one.append_refusals(&[refusal(&tenant, "req-2", 5), counted(None, 1)]).await.unwrap();
    let query = AuditQuery { request_id: Some("req-2".to_owned()), ..AuditQuery::of(other.workspace.id, 10) };
    assert_eq!(replicas.one.audit_events(&query).await.unwrap(), []);
    // What belongs to no workspace is nobody's but the operator's.
    let of_none = AuditQuery { workspace_id: None, request_id: None, ..query };
    let events = replicas.one.audit_events(&of_none).await.unwrap();
    assert!(matches!(events.as_slice(), [event] if event.workspace_id.is_none()), "{events:?}");
    assert_eq!(replicas.one.audit_events(&AuditQuery::of(tenant.workspace.id, 10)).await.unwrap().len(), 1);
}

async fn events_are_found_by_what_they_are_about(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    replicas.one.commit_exchanges(&[tenant.exchange(1)], now()).await.unwrap();
    replicas.one.append_refusals(&[refusal(&tenant, "req-2", 5), refusal(&tenant, "req-3", 6)]).await.unwrap();
    let all = || AuditQuery::of(tenant.workspace.id.clone(), 10);
    let another = TrustedIssuerId::from_random([9; 16]);
    for (query, expected) in [
        (all(), 3),
        (AuditQuery { decided: Some(Decided::Allowed), ..all() }, 1),
        (AuditQuery { decided: Some(Decided::Refused), ..all() }, 2),
        (AuditQuery { request_id: Some("req-3".to_owned()), decided: Some(Decided::Refused), ..all() }, 1),
        (AuditQuery { trust_relationship_id: Some(tenant.relationship.id.clone()), ..all() }, 1),
        (AuditQuery { trusted_issuer_id: Some(tenant.issuer.id.clone()), ..all() }, 3),
        (AuditQuery { trusted_issuer_id: Some(another), ..all() }, 0),
        (AuditQuery { since: Some(later(6)), ..all() }, 1),
    ] {
        assert_eq!(replicas.other.audit_events(&query).await.unwrap().len(), expected, "{query:?}");
    }
}

async fn events_from_before_claims_were_kept_can_be_read(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let mut exchange = tenant.exchange(1);
    (exchange.audit.presentation.claims, exchange.audit.presentation.request) = (None, None);
    replicas.one.commit_exchanges(&[exchange.clone()], now()).await.unwrap();
    assert_eq!(replicas.count("SELECT count(*) AS n FROM audit_events WHERE claims IS NULL AND request IS NULL").await, 1);
    let events = replicas.one.audit_events(&AuditQuery::of(tenant.workspace.id, 10)).await.unwrap();
    assert!(matches!(&events[0].decision, AuditedDecision::Allowed(allowed) if allowed.audit == exchange.audit));
}

async fn the_latest_use_counts_and_what_is_gone_is_passed_over(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let id = tenant.relationship.id.clone();
    let gone = TrustRelationshipId::from_random([7; 16]);
    for seconds in [20, 10] {
        let uses = HashMap::from([(id.clone(), later(seconds)), (gone.clone(), later(seconds))]);
        replicas.one.record_uses(&uses).await.unwrap();
    }
    let expected = HashMap::from([(id.clone(), later(20))]);
    assert_eq!(replicas.other.last_uses(&[id.clone(), gone]).await.unwrap(), expected);
    let revision = tenant.relationship.revision;
    replicas.one.delete_trust_relationship(&tenant.workspace.id, &id, revision, now()).await.unwrap();
    assert_eq!(replicas.other.last_uses(&[id]).await.unwrap(), HashMap::new());
}
