//! Previews of changes and reviews of relationships, by what was exchanged before.

use std::time::Duration;

use countersign_domain::exchange::commit::{CommitOutcome, ExchangeAudit, ExchangeCommit};
use countersign_domain::exchange::presentation::{KeptClaims, Presentation};
use countersign_domain::exchange::request::ExchangeRequest;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::Clock as _;
use countersign_proto::trust::commit::{commit_request, read_commit_response};
use countersign_proto::trust_v1::{
    GetTrustRelationshipRequest, PreviewEffect, PreviewTrustRelationshipRequest, PreviewTrustRelationshipResponse,
    ReviewTrustRelationshipsRequest, ReviewTrustRelationshipsResponse, TrustRelationship,
};
use countersign_testkit::status::{assert_refused, violated_fields};
use serde_json::json;
use tonic::{Code, Status};

use crate::support::{Caller, GATEWAY, Service, Tenant, mask, service};

const DAY: u64 = 24 * 3600;

/// A token of this subject that was exchanged now.
async fn exchanged(service: &Service, tenant: &Tenant, subject: &str, token: u16) {
    let now = service.clock.now();
    let members = json!({"aud": GATEWAY, "iat": now.as_second(), "exp": now.as_second() + 300});
    let commit = ExchangeCommit {
        workspace_id: tenant.workspace.id.parse().unwrap(),
        trusted_issuer_id: tenant.issuer.id.parse().unwrap(),
        trust_relationship_id: tenant.relationship.id.parse().unwrap(),
        policy_revision: 3,
        trusted_issuer_revision: 1,
        trust_relationship_revision: tenant.relationship.revision,
        replay: None,
        audit: ExchangeAudit {
            presentation: Presentation {
                request_id: format!("req-{token}"),
                subject_issuer: tenant.issuer.issuer_url.parse().unwrap(),
                subject: subject.parse().unwrap(),
                subject_token_hash: [1; 32],
                subject_token_id: None,
                subject_key_id: None,
                claims: Some(KeptClaims::from_parts(&members.to_string(), std::collections::BTreeSet::new()).unwrap()),
                request: Some(ExchangeRequest::default()),
            },
            access_token_id: format!("at-{token}").parse().unwrap(),
            access_token_audiences: Vec::new(),
            scopes: Vec::new(),
            access_token_expires_at: now,
        },
    };
    let response = service.commits().commit_exchanges(commit_request([commit])).await.unwrap();
    assert_eq!(read_commit_response(response.into_inner(), 1), Ok(vec![CommitOutcome::Committed]));
}

async fn preview(
    caller: &mut Caller,
    request: PreviewTrustRelationshipRequest,
) -> Result<PreviewTrustRelationshipResponse, Status> {
    Ok(caller.relationships.preview_trust_relationship(request).await?.into_inner())
}

async fn review(caller: &mut Caller, tenant: &Tenant) -> Result<ReviewTrustRelationshipsResponse, Status> {
    let request = ReviewTrustRelationshipsRequest { workspace_id: tenant.workspace.id.clone(), ..Default::default() };
    Ok(caller.relationships.review_trust_relationships(request).await?.into_inner())
}

fn changed(relationship: TrustRelationship, paths: &[&str]) -> PreviewTrustRelationshipRequest {
    PreviewTrustRelationshipRequest {
        trust_relationship: Some(relationship),
        update_mask: Some(mask(paths)),
        ..PreviewTrustRelationshipRequest::default()
    }
}

fn effects(response: &PreviewTrustRelationshipResponse) -> Vec<(PreviewEffect, &str, i64)> {
    response.affected.iter().map(|one| (one.effect(), one.subject.as_str(), one.exchanges)).collect()
}

const SUBJECT: &str = "org:my-org:vault:deploy-vault";

#[tokio::test(flavor = "multi_thread")]
async fn an_update_a_removal_and_a_new_relationship_are_previewed_and_change_nothing() {
    let service = service().await;
    let (tenant, mut operator) = (service.tenant().await, service.operator());
    exchanged(&service, &tenant, SUBJECT, 1).await;
    exchanged(&service, &tenant, SUBJECT, 2).await;

    let narrower = TrustRelationship { subject_matches: vec!["org:my-org:vault:x".to_owned()], ..tenant.relationship.clone() };
    let seen = preview(&mut operator, changed(narrower, &["subject_matches"])).await.unwrap();
    assert_eq!(effects(&seen), [(PreviewEffect::NewlyRefused, SUBJECT, 2)]);
    assert_eq!((seen.examined, seen.unchanged, seen.newly_refused, seen.truncated), (2, 0, 2, false));
    assert_eq!(
        (seen.affected[0].request_id.as_str(), &seen.affected[0].trust_relationship_id),
        ("req-2", &tenant.relationship.id)
    );
    assert!(seen.findings.iter().any(|finding| finding.rule == "recyclable-tenant"), "{:?}", seen.findings);

    let condition = serde_json::from_str(r#"{"claim": "ref", "equals": "main"}"#).unwrap();
    let condition: countersign_domain::trust::claim_condition::ClaimCondition = condition;
    let asking = TrustRelationship { claim_conditions: vec![(&condition).into()], ..tenant.relationship.clone() };
    let seen = preview(&mut operator, changed(asking, &["claim_conditions"])).await.unwrap();
    assert_eq!(effects(&seen), [(PreviewEffect::Undecided, SUBJECT, 2)]);

    let delete = PreviewTrustRelationshipRequest {
        trust_relationship: Some(tenant.relationship.clone()),
        delete: true,
        ..PreviewTrustRelationshipRequest::default()
    };
    let seen = preview(&mut operator, delete).await.unwrap();
    assert_eq!((effects(&seen), seen.findings.len()), (vec![(PreviewEffect::NewlyRefused, SUBJECT, 2)], 0));

    let new = TrustRelationship { id: String::new(), scopes: vec!["other".to_owned()], ..tenant.relationship.clone() };
    let new = PreviewTrustRelationshipRequest { trust_relationship: Some(new), ..Default::default() };
    let seen = preview(&mut operator, new).await.unwrap();
    // The older of two alike decides, as before.
    assert_eq!((effects(&seen), seen.unchanged), (vec![], 2));

    let get = GetTrustRelationshipRequest {
        workspace_id: tenant.workspace.id.clone(),
        trust_relationship_id: tenant.relationship.id.clone(),
    };
    let current = operator.relationships.get_trust_relationship(get).await.unwrap().into_inner().trust_relationship.unwrap();
    assert_eq!((current.revision, &current.subject_matches), (1, &tenant.relationship.subject_matches));
    assert_eq!(current.last_use_time.unwrap().seconds, service.clock.now().as_second());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_bounds_how_far_back_is_looked() {
    let service = service().await;
    let (tenant, mut operator) = (service.tenant().await, service.operator());
    exchanged(&service, &tenant, SUBJECT, 1).await;
    service.clock.advance(Duration::from_secs(3 * DAY));
    exchanged(&service, &tenant, SUBJECT, 2).await;
    let delete = |window: Option<i64>| PreviewTrustRelationshipRequest {
        trust_relationship: Some(tenant.relationship.clone()),
        delete: true,
        window: window.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        ..PreviewTrustRelationshipRequest::default()
    };
    assert_eq!(preview(&mut operator, delete(None)).await.unwrap().newly_refused, 2);
    assert_eq!(preview(&mut operator, delete(Some(3600))).await.unwrap().newly_refused, 1);
    for wrong in [0, -1, 91 * 24 * 3600] {
        let refused = preview(&mut operator, delete(Some(wrong))).await.unwrap_err();
        assert_eq!(violated_fields(&refused), ["window"]);
    }
    let both = PreviewTrustRelationshipRequest { update_mask: Some(mask(&["scopes"])), ..delete(None) };
    assert_eq!(violated_fields(&preview(&mut operator, both).await.unwrap_err()), ["delete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_the_past_is_told_to_those_who_may_review_and_nobody_previews_what_he_may_not_grant() {
    let service = service().await;
    let tenant = service.tenant().await;
    let mut without = service.member_without(&tenant.workspace.id, &["trust_relationships.review"]);
    let request = || changed(tenant.relationship.clone(), &["scopes"]);
    let refused = preview(&mut without, request()).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, Reason::PermissionMissing);
    assert_refused(&review(&mut without, &tenant).await.unwrap_err(), Code::PermissionDenied, Reason::PermissionMissing);

    let mut reviewer = service.member(&tenant.workspace.id, &["countersign:trust_relationships.review"]);
    assert!(preview(&mut reviewer, request()).await.is_ok() && review(&mut reviewer, &tenant).await.is_ok());
    let scopes = vec!["countersign:issuers.create".to_owned()];
    let greedy = changed(TrustRelationship { scopes, ..tenant.relationship.clone() }, &["scopes"]);
    assert_refused(&preview(&mut reviewer, greedy).await.unwrap_err(), Code::PermissionDenied, Reason::GrantNotHeld);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_tells_what_is_unused_and_what_is_wider_than_its_use() {
    let service = service().await;
    let (mut tenant, mut operator) = (service.tenant().await, service.operator());
    let wide =
        TrustRelationship { id: String::new(), subject_matches: vec!["org:my-org:*".to_owned()], ..tenant.relationship.clone() };
    service.clock.advance(Duration::from_secs(1));
    let create = countersign_proto::trust_v1::CreateTrustRelationshipRequest { trust_relationship: Some(wide) };
    let created = operator.relationships.create_trust_relationship(create).await.unwrap().into_inner();
    let unused = std::mem::replace(&mut tenant.relationship, created.trust_relationship.unwrap());
    service.clock.advance(Duration::from_secs(31 * DAY));
    for token in 0..12 {
        exchanged(&service, &tenant, "org:my-org:vault:a", token).await;
    }
    let reviewed = review(&mut operator, &tenant).await.unwrap();
    let [first, second] = reviewed.reviews.as_slice() else { panic!("{reviewed:?}") };
    let rules = |review: &countersign_proto::trust_v1::TrustRelationshipReview| {
        review.findings.iter().map(|finding| finding.rule.clone()).collect::<Vec<_>>()
    };
    assert_eq!((&first.trust_relationship_id, rules(first)), (&unused.id, vec!["never-matched".to_owned()]));
    assert_eq!((second.exchanges, rules(second)), (12, vec!["wider-than-used".to_owned()]));
    assert_eq!(second.findings[0].fix, "write `org:my-org:vault:a`");
    assert_eq!(second.last_use_time.unwrap().seconds, service.clock.now().as_second());
}
