//! What the audit log answers is what was told to it.

use countersign_domain::exchange::audit::{AuditedDecision, CountedRefusals, Refusals, RefusedExchange};
use countersign_domain::values::reason::Reason;

use super::*;

on_every_database! {
    what_was_allowed_and_refused_comes_back_newest_first
    s33_events_of_another_workspace_are_not_there
    refusals_are_found_by_their_request_id_and_exchanges_are_none
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

    let events = replicas.one.audit_events(Some(&tenant.workspace.id), Which::Everything, None, 10).await.unwrap();
    let [several, one, allowed] = events.as_slice() else { panic!("{events:?}") };
    let (Refusals::One(told), Refusals::Counted(told_several)) = (&refusals[0].refused, &refusals[1].refused) else { panic!() };
    assert_eq!(several.decision, AuditedDecision::Counted(Box::new(told_several.clone())));
    assert_eq!((one.time, &one.decision), (later(5), &AuditedDecision::Refused(told.clone())));
    let AuditedDecision::Allowed(allowed_exchange) = &allowed.decision else { panic!("{allowed:?}") };
    assert_eq!((&allowed_exchange.audit, allowed.time), (&exchange.audit, now()));
    assert_eq!(allowed_exchange.trust_relationship_id, tenant.relationship.id);

    let presented = replicas.other.audit_events(Some(&tenant.workspace.id), Which::Presented, None, 10).await.unwrap();
    assert_eq!(presented, [one.clone(), allowed.clone()]);
    let exchanges = replicas.other.audit_events(Some(&tenant.workspace.id), Which::Allowed, None, 10).await.unwrap();
    assert_eq!(exchanges, std::slice::from_ref(allowed));
    let next =
        replicas.other.audit_events(Some(&tenant.workspace.id), Which::Everything, Some(several.sequence), 1).await.unwrap();
    assert_eq!(next, std::slice::from_ref(one));
}

async fn s33_events_of_another_workspace_are_not_there(replicas: Replicas) {
    let (tenant, other) = (replicas.tenant().await, replicas.tenant().await);
    replicas.one.append_refusals(&[refusal(&tenant, "req-2", 5), counted(None, 1)]).await.unwrap();
    assert_eq!(replicas.one.audit_events(Some(&other.workspace.id), Which::Everything, None, 10).await.unwrap(), []);
    assert_eq!(replicas.one.refusals_of_request(&other.workspace.id, "req-2").await.unwrap(), []);
    // What belongs to no workspace is nobody's but the operator's.
    let of_none = replicas.one.audit_events(None, Which::Everything, None, 10).await.unwrap();
    assert!(matches!(of_none.as_slice(), [event] if event.workspace_id.is_none()), "{of_none:?}");
    assert_eq!(replicas.one.audit_events(Some(&tenant.workspace.id), Which::Everything, None, 10).await.unwrap().len(), 1);
}

async fn refusals_are_found_by_their_request_id_and_exchanges_are_none(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    replicas.one.commit_exchanges(&[tenant.exchange(1)], now()).await.unwrap();
    replicas.one.append_refusals(&[refusal(&tenant, "req-1", 5), refusal(&tenant, "req-3", 6)]).await.unwrap();
    replicas.one.append_refusals(&[refusal(&tenant, "req-1", 7)]).await.unwrap();
    let times = async |request_id: &str| {
        let events = replicas.other.refusals_of_request(&tenant.workspace.id, request_id).await.unwrap();
        events.into_iter().map(|event| event.time).collect::<Vec<_>>()
    };
    assert_eq!((times("req-1").await, times("req-2").await), (vec![later(7), later(5)], vec![]));
}

async fn events_from_before_claims_were_kept_can_be_read(replicas: Replicas) {
    let tenant = replicas.tenant().await;
    let mut exchange = tenant.exchange(1);
    (exchange.audit.presentation.claims, exchange.audit.presentation.request) = (None, None);
    replicas.one.commit_exchanges(&[exchange.clone()], now()).await.unwrap();
    assert_eq!(replicas.count("SELECT count(*) AS n FROM audit_events WHERE claims IS NULL AND request IS NULL").await, 1);
    let events = replicas.one.audit_events(Some(&tenant.workspace.id), Which::Everything, None, 10).await.unwrap();
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
    assert_eq!(replicas.other.uses_recorded_since().await.unwrap(), None);
    for seconds in [5, 6] {
        replicas.one.begin_recording_uses(later(seconds)).await.unwrap();
    }
    assert_eq!(replicas.other.uses_recorded_since().await.unwrap(), Some(later(5)));
    let expected = HashMap::from([(id.clone(), later(20))]);
    assert_eq!(replicas.other.last_uses(&[id.clone(), gone]).await.unwrap(), expected);
    let revision = tenant.relationship.revision;
    replicas.one.delete_trust_relationship(&tenant.workspace.id, &id, revision, now()).await.unwrap();
    assert_eq!(replicas.other.last_uses(&[id]).await.unwrap(), HashMap::new());
}
