//! Trust relationships.

use countersign_domain::values::reason::Reason;
use countersign_proto::common_v1::Grant;
use countersign_proto::trust_v1::{
    CreateTrustRelationshipRequest, DeleteTrustRelationshipRequest, GetTrustRelationshipRequest, ListTrustRelationshipsRequest,
    TrustRelationship, TrustedIssuer, UpdateTrustRelationshipRequest, UpdateTrustedIssuerRequest,
};
use countersign_testkit::status::{assert_refused, violated_fields};
use prost::Message as _;
use tonic::Code;

use crate::support::{Tenant, mask, new_relationship, service};

fn update(relationship: &TrustRelationship, paths: &[&str]) -> UpdateTrustRelationshipRequest {
    UpdateTrustRelationshipRequest { trust_relationship: Some(relationship.clone()), update_mask: Some(mask(paths)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_relationships_ends_early_and_the_next_goes_on() {
    let service = service().await;
    let mut operator = service.operator();
    let workspace = operator.workspace("Acme").await;
    let issuer = operator.issuer(&workspace.id, "https://idp.example").await;
    let mut request = new_relationship(&issuer, &["deploy"]);
    // About 64 KiB each.
    let subjects = (0..64).map(|number| format!("{number}{}", "s".repeat(1_000))).collect();
    request.trust_relationship.as_mut().unwrap().subject_matches = subjects;
    for _ in 0..80 {
        operator.relationships.create_trust_relationship(request.clone()).await.unwrap();
    }
    let (mut pages, mut seen, mut page_token) = (0, std::collections::BTreeSet::new(), String::new());
    loop {
        let list = ListTrustRelationshipsRequest {
            workspace_id: workspace.id.clone(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let answer = operator.relationships.list_trust_relationships(list).await.unwrap().into_inner();
        assert!(answer.encoded_len() < 2_200_000, "{}", answer.encoded_len());
        pages += 1;
        seen.extend(answer.trust_relationships.into_iter().map(|relationship| relationship.id));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((pages, seen.len()), (3, 80));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relationship_lives_from_creation_to_deletion() {
    let service = service().await;
    let Tenant { workspace, issuer, relationship } = service.tenant().await;
    let mut client = service.operator().relationships;
    assert!(relationship.id.starts_with("tr_") && relationship.enabled);
    assert_eq!((relationship.revision, relationship.creator.as_str()), (1, "bootstrap"));
    assert_eq!(relationship.token_duration.unwrap().seconds, 3600);
    let get = GetTrustRelationshipRequest { workspace_id: workspace.id.clone(), trust_relationship_id: relationship.id.clone() };
    let read = client.get_trust_relationship(get.clone()).await.unwrap().into_inner().trust_relationship.unwrap();
    assert_eq!(read, relationship);

    // What the mask does not name keeps its value, whatever stands in the message, however wrong.
    let changed = TrustRelationship {
        id: relationship.id.clone(),
        workspace_id: workspace.id.clone(),
        subject_matches: vec!["org:my-org:vault:*".to_owned()],
        scopes: vec!["not a scope".to_owned()],
        ..Default::default()
    };
    let updated = client.update_trust_relationship(update(&changed, &["subject_matches"])).await.unwrap().into_inner();
    let updated = updated.trust_relationship.unwrap();
    let expected = TrustRelationship {
        subject_matches: changed.subject_matches.clone(),
        revision: 2,
        etag: updated.etag.clone(),
        ..relationship.clone()
    };
    assert_eq!(updated, expected);

    let guarded = TrustRelationship { etag: relationship.etag.clone(), ..changed };
    let status = client.update_trust_relationship(update(&guarded, &["subject_matches"])).await.unwrap_err();
    assert_refused(&status, Code::Aborted, Reason::EtagMismatch);
    let status = client.update_trust_relationship(update(&guarded, &["trusted_issuer_id", "*"])).await.unwrap_err();
    assert_refused(&status, Code::Aborted, Reason::EtagMismatch);

    let list =
        ListTrustRelationshipsRequest { workspace_id: workspace.id.clone(), trusted_issuer_id: issuer.id, ..Default::default() };
    let listed = client.list_trust_relationships(list).await.unwrap().into_inner();
    assert_eq!(listed.trust_relationships, [updated]);

    let delete = DeleteTrustRelationshipRequest {
        workspace_id: workspace.id,
        trust_relationship_id: relationship.id,
        etag: String::new(),
    };
    client.delete_trust_relationship(delete).await.unwrap();
    assert_refused(&client.get_trust_relationship(get).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_violation_is_named_at_once() {
    let service = service().await;
    let mut client = service.operator().relationships;
    let relationship = TrustRelationship {
        workspace_id: String::new(),
        trusted_issuer_id: "ws_1".to_owned(),
        subject_matches: vec!["*".to_owned()],
        grants: vec![Grant::default()],
        token_duration: Some(prost_types::Duration { seconds: 43_201, nanos: 0 }),
        expire_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let request = CreateTrustRelationshipRequest { trust_relationship: Some(relationship) };
    let status = client.create_trust_relationship(request).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    let fields = [
        "expire_time",
        "grants[0].actions",
        "grants[0].resource_id",
        "grants[0].resource_type",
        "subject_matches[0]",
        "token_duration",
        "trusted_issuer_id",
        "workspace_id",
    ];
    assert_eq!(violated_fields(&status), fields.map(|field| format!("trust_relationship.{field}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn s18_without_issuer_or_subject_match_nothing_is_saved() {
    let service = service().await;
    let Tenant { workspace, issuer, relationship } = service.tenant().await;
    let mut client = service.operator().relationships;
    let mut without = new_relationship(&issuer, &["deploy"]);
    without.trust_relationship.as_mut().unwrap().subject_matches.clear();
    let status = client.create_trust_relationship(without).await.unwrap_err();
    assert_eq!(violated_fields(&status), ["trust_relationship.subject_matches"]);

    let elsewhere = TrustedIssuer { id: "ti_00000000000000000000000000".to_owned(), ..issuer };
    let status = client.create_trust_relationship(new_relationship(&elsewhere, &["deploy"])).await.unwrap_err();
    assert_refused(&status, Code::NotFound, Reason::ResourceNotFound);

    let emptied = TrustRelationship { id: relationship.id, workspace_id: workspace.id, ..Default::default() };
    let status = client.update_trust_relationship(update(&emptied, &["subject_matches", "scopes"])).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn subject_audiences_narrow_what_the_issuer_accepts() {
    let service = service().await;
    let Tenant { issuer, .. } = service.tenant().await;
    let mut client = service.operator().relationships;
    let with = |audience: &str| {
        let mut request = new_relationship(&issuer, &["deploy"]);
        request.trust_relationship.as_mut().unwrap().subject_audiences = vec![audience.to_owned()];
        request
    };
    client.create_trust_relationship(with("https://gateway.example")).await.unwrap();
    client.create_trust_relationship(with("gateway.example")).await.unwrap();
    let status = client.create_trust_relationship(with("https://elsewhere.example")).await.unwrap_err();
    assert_eq!(violated_fields(&status), ["trust_relationship.subject_audiences[0]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_nobody_grants_what_he_does_not_hold() {
    let service = service().await;
    let Tenant { workspace, issuer, .. } = service.tenant().await;
    let mut operator = service.operator();
    let mut member = service.member_without(&workspace.id, &["issuers.create"]);
    let not_held = |status: &tonic::Status| assert_refused(status, Code::PermissionDenied, Reason::GrantNotHeld);

    let held = new_relationship(&issuer, &["countersign:issuers.get"]);
    let held = member.relationships.create_trust_relationship(held).await.unwrap();
    assert!(held.into_inner().trust_relationship.unwrap().creator.ends_with("/ti/member"));
    let more = new_relationship(&issuer, &["countersign:issuers.create"]);
    not_held(&member.relationships.create_trust_relationship(more.clone()).await.unwrap_err());
    // Not even the operator's: no workspace gives a deployment-wide permission.
    let deployment = new_relationship(&issuer, &["countersign:workspaces.create"]);
    not_held(&operator.relationships.create_trust_relationship(deployment).await.unwrap_err());
    let unknown = new_relationship(&issuer, &["Countersign:issuers.get"]);
    let status = operator.relationships.create_trust_relationship(unknown).await.unwrap_err();
    assert_eq!(violated_fields(&status), ["trust_relationship.scopes[0]"]);

    // What somebody else gave cannot be redirected, but it can be stopped.
    let given = operator.relationships.create_trust_relationship(more).await.unwrap().into_inner().trust_relationship.unwrap();
    let redirected = TrustRelationship { subject_matches: vec!["org:*".to_owned()], ..given.clone() };
    not_held(&member.relationships.update_trust_relationship(update(&redirected, &["subject_matches"])).await.unwrap_err());
    let stopped = TrustRelationship { enabled: false, etag: String::new(), ..given.clone() };
    member.relationships.update_trust_relationship(update(&stopped, &["enabled"])).await.unwrap();
    let again = TrustRelationship { enabled: true, etag: String::new(), ..given };
    not_held(&member.relationships.update_trust_relationship(update(&again, &["enabled"])).await.unwrap_err());

    // Nor can its issuer be replaced by somebody who would then be any of its subjects.
    let taken_over = |paths: &[&str]| UpdateTrustedIssuerRequest {
        trusted_issuer: Some(TrustedIssuer {
            jwks_url: "https://mine.example/keys".to_owned(),
            enabled: false,
            etag: String::new(),
            ..issuer.clone()
        }),
        update_mask: Some(mask(paths)),
    };
    not_held(&member.issuers.update_trusted_issuer(taken_over(&["jwks_url"])).await.unwrap_err());
    member.issuers.update_trusted_issuer(taken_over(&["enabled"])).await.unwrap();
    operator.issuers.update_trusted_issuer(taken_over(&["jwks_url"])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_nobody_obtains_through_id_tokens_for_oneself_what_he_does_not_hold() {
    let service = service().await;
    let Tenant { workspace, issuer: ci, .. } = service.tenant().await;
    let mut operator = service.operator();
    let mut member = service.member_without(&workspace.id, &["signing_keys.revoke"]);
    let not_held = |status: &tonic::Status| assert_refused(status, Code::PermissionDenied, Reason::GrantNotHeld);

    // Behind an issuer of ours, one subject of `ci` obtains what the member does not hold.
    let ours = operator.issuer(&workspace.id, "https://id.example.com/acme").await;
    let mut behind = new_relationship(&ours, &["countersign:signing_keys.revoke"]);
    behind.trust_relationship.as_mut().unwrap().subject_matches = vec![format!("{}/{}/release", workspace.id, ci.id)];
    operator.relationships.create_trust_relationship(behind).await.unwrap();

    // Whoever writes this lets subjects of `ci` request ID tokens with that subject.
    let own = new_relationship(&ci, &["countersign:id_tokens.issue_own"]);
    let refused = member.relationships.create_trust_relationship(own.clone()).await.unwrap_err();
    not_held(&refused);
    assert!(refused.message().contains("countersign:signing_keys.revoke"), "{}", refused.message());
    let other = operator.issuer(&workspace.id, "https://other.example").await;
    let elsewhere = new_relationship(&other, &["countersign:id_tokens.issue_own"]);
    member.relationships.create_trust_relationship(elsewhere).await.unwrap();

    // Where somebody who holds it wrote it, the member cannot redirect it, and cannot take over the issuer to be that subject.
    let own = operator.relationships.create_trust_relationship(own).await.unwrap().into_inner().trust_relationship.unwrap();
    let redirected = TrustRelationship { subject_matches: vec!["org:*".to_owned()], ..own.clone() };
    not_held(&member.relationships.update_trust_relationship(update(&redirected, &["subject_matches"])).await.unwrap_err());
    let taken_over = |issuer: &TrustedIssuer| UpdateTrustedIssuerRequest {
        trusted_issuer: Some(TrustedIssuer {
            jwks_url: "https://mine.example/keys".to_owned(),
            etag: String::new(),
            ..issuer.clone()
        }),
        update_mask: Some(mask(&["jwks_url"])),
    };
    not_held(&member.issuers.update_trusted_issuer(taken_over(&ci)).await.unwrap_err());
    member.issuers.update_trusted_issuer(taken_over(&other)).await.unwrap();
    let stopped = TrustRelationship { enabled: false, etag: String::new(), ..own };
    member.relationships.update_trust_relationship(update(&stopped, &["enabled"])).await.unwrap();
}
