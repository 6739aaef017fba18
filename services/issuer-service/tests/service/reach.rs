//! What a caller must hold to decide which subjects an issuer signs (SECURITY 69).

use countersign_domain::values::reason::Reason;
use countersign_proto::issuer_v1 as wire;
use countersign_testkit::status::assert_refused;
use tonic::{Code, Status};

use crate::harness::{BASE, Ground, Service, rwx, workspace};

const REVOKE: &str = "countersign:signing_keys.revoke";

/// A profile by which the subject of a run is what its scheduler says, as another profile has it.
fn imitation() -> wire::ProfileDefinition {
    wire::ProfileDefinition {
        attributes: [("team".to_owned(), wire::ProfileAttribute { required: true, ..Default::default() })].into(),
        subject_forms: vec![wire::SubjectForm {
            id: "imitation".to_owned(),
            template: "org:acme:vault:{team}".to_owned(),
            delimiters: ":".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn accepted(issuer: &wire::Issuer) -> wire::SubjectChange {
    wire::SubjectChange { from: issuer.subject_templates.clone(), to: vec!["org:acme:vault:{team}".to_owned()] }
}

async fn update(
    service: &Service,
    credential: &str,
    issuer: wire::Issuer,
    paths: &[&str],
    accept_subject_change: Option<wire::SubjectChange>,
) -> Result<wire::Issuer, Status> {
    let update_mask = Some(prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
    let request = wire::UpdateIssuerRequest { issuer: Some(issuer), update_mask, accept_subject_change };
    Ok(service.issuers().update_issuer(service.request_as(credential, request)).await?.into_inner().issuer.unwrap())
}

async fn create(service: &Service, credential: &str, issuer: wire::Issuer) -> Result<wire::Issuer, Status> {
    let request = wire::CreateIssuerRequest { issuer: Some(issuer) };
    Ok(service.issuers().create_issuer(service.request_as(credential, request)).await?.into_inner().issuer.unwrap())
}

async fn stored(service: &Service, issuer: &wire::Issuer) -> wire::Issuer {
    let request = wire::GetIssuerRequest { workspace_id: issuer.workspace_id.clone(), issuer_id: issuer.id.clone() };
    service.issuers().get_issuer(service.request(request)).await.unwrap().into_inner().issuer.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_what_an_issuer_signs_is_changed_by_a_caller_who_holds_what_its_subjects_obtain() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let listed = wire::Issuer { allowed_audiences: vec!["one".to_owned(), "two".to_owned()], ..rwx(&workspace(1)) };
    let issuer = service.create(listed).await.unwrap();
    let weak = service.access_token(&workspace(1), "countersign:issuers.update").await;
    let strong = service.access_token(&workspace(1), &format!("countersign:issuers.update {REVOKE}")).await;
    let custom = || wire::Issuer { profile: "custom".to_owned(), profile_definition: Some(imitation()), ..issuer.clone() };
    let allowing = |audiences: &[&str]| wire::Issuer {
        allowed_audiences: audiences.iter().map(ToString::to_string).collect(),
        ..issuer.clone()
    };
    ground.trust.grant(&workspace(1), &issuer.issuer_url, &[REVOKE]);

    // The profile, and the audiences that tokens can be requested for.
    let redefined = ["profile", "profile_definition"];
    for (changed, paths, change) in [
        (custom(), &redefined[..], Some(accepted(&issuer))),
        (allowing(&["one", "two", "three"]), &["allowed_audiences"], None),
        (allowing(&["three"]), &["allowed_audiences"], None),
        (allowing(&[]), &["allowed_audiences"], None),
    ] {
        let refused = update(&service, &weak, changed, paths, change).await.unwrap_err();
        assert_refused(&refused, Code::PermissionDenied, Reason::GrantNotHeld);
        assert!(refused.message().contains(REVOKE), "{}", refused.message());
        assert_eq!(stored(&service, &issuer).await, issuer, "{paths:?}: nothing changed");
    }

    // What only takes away, and what no token says, is free.
    let mut current = issuer.clone();
    for (changed, path) in [
        (wire::Issuer { display_name: "another".to_owned(), ..issuer.clone() }, "display_name"),
        (wire::Issuer { algorithms: vec!["EdDSA".to_owned()], ..issuer.clone() }, "algorithms"),
        (wire::Issuer { rotation_period: Some(prost_types::Duration::default()), ..issuer.clone() }, "rotation_period"),
        (allowing(&["two"]), "allowed_audiences"),
    ] {
        let changed = wire::Issuer { etag: String::new(), ..changed };
        current = update(&service, &weak, changed, &[path], None).await.unwrap_or_else(|status| panic!("{path}: {status}"));
    }
    assert_eq!(current.allowed_audiences, ["two"]);

    // A caller who holds it, and the operator, decide.
    let wider = wire::Issuer { etag: String::new(), ..allowing(&["one", "two"]) };
    update(&service, &strong, wider, &["allowed_audiences"], None).await.unwrap();
    let changed = wire::Issuer { etag: String::new(), ..custom() };
    update(&service, crate::harness::BOOTSTRAP, changed, &redefined, Some(accepted(&issuer))).await.unwrap();

    // Where nothing is granted, or in another workspace only, no more is needed than before.
    let other = service.create(rwx(&workspace(1))).await.unwrap();
    ground.trust.grant(&workspace(2), &other.issuer_url, &[REVOKE]);
    ground.trust.grant(&workspace(1), &format!("{}/", other.issuer_url), &[REVOKE]);
    let changed = wire::Issuer { profile: "custom".to_owned(), profile_definition: Some(imitation()), ..other.clone() };
    update(&service, &weak, changed, &redefined, Some(accepted(&other))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_permissions_for_one_issuer_and_scopes_that_cannot_be_read_are_held_by_nobody_else() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let issuer = service.create(rwx(&workspace(1))).await.unwrap();
    let for_one = format!("countersign:id_tokens.issue:{}", issuer.id);
    let change = async |credential: &str| {
        let changed = wire::Issuer { allowed_audiences: vec!["one".to_owned()], etag: String::new(), ..issuer.clone() };
        // First narrowed by the operator, so that opening it decides.
        update(&service, crate::harness::BOOTSTRAP, changed, &["allowed_audiences"], None).await.unwrap();
        let opened = wire::Issuer { allowed_audiences: Vec::new(), etag: String::new(), ..issuer.clone() };
        update(&service, credential, opened, &["allowed_audiences"], None).await.map(drop)
    };
    let token = async |scopes: &str| service.access_token(&workspace(1), &format!("countersign:issuers.update {scopes}")).await;
    ground.trust.grant(&workspace(1), &issuer.issuer_url, &[&for_one]);
    change(&token(&for_one).await).await.unwrap();
    change(&token("countersign:id_tokens.issue").await).await.unwrap();
    let refused = change(&token("countersign:id_tokens.issue_own").await).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, Reason::GrantNotHeld);

    ground.trust.grant(&workspace(1), &issuer.issuer_url, &[&for_one, REVOKE]);
    let refused = change(&token(&for_one).await).await.unwrap_err();
    assert!(refused.message().contains(REVOKE) && !refused.message().contains(&for_one), "{}", refused.message());

    for unreadable in ["countersign:unheard.of", "", "countersign:workspaces.delete"] {
        ground.trust.grant(&workspace(1), &issuer.issuer_url, &[unreadable]);
        let refused = change(&token(&format!("countersign:id_tokens.issue {REVOKE}")).await).await.unwrap_err();
        assert_refused(&refused, Code::PermissionDenied, Reason::GrantNotHeld);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_an_issuer_whose_url_is_trusted_already_is_created_by_a_caller_who_holds_what_its_subjects_obtain() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let weak = service.access_token(&workspace(1), "countersign:issuers.create").await;
    let strong = service.access_token(&workspace(1), &format!("countersign:issuers.create {REVOKE}")).await;
    let url = format!("{BASE}/awaited");
    let awaited = || wire::Issuer { issuer_url: url.clone(), ..rwx(&workspace(1)) };
    ground.trust.grant(&workspace(1), &url, &[REVOKE]);
    let refused = create(&service, &weak, awaited()).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, Reason::GrantNotHeld);
    create(&service, &weak, rwx(&workspace(1))).await.expect("another URL");
    create(&service, &strong, awaited()).await.expect("refused before, the URL is still free");
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_without_an_answer_of_trust_service_nobody_but_the_operator_decides_what_is_signed() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let issuer = service.create(rwx(&workspace(1))).await.unwrap();
    let token = service.access_token(&workspace(1), "countersign:issuers.update countersign:issuers.create").await;
    let narrowed = wire::Issuer { allowed_audiences: vec!["one".to_owned()], ..issuer.clone() };
    let narrowed = update(&service, &token, narrowed, &["allowed_audiences"], None).await.unwrap();
    ground.trust.set_reachable(false);
    let opened = wire::Issuer { allowed_audiences: Vec::new(), ..narrowed.clone() };
    let refused = update(&service, &token, opened.clone(), &["allowed_audiences"], None).await.unwrap_err();
    assert_refused(&refused, Code::Unavailable, Reason::TemporarilyUnavailable);
    let refused = create(&service, &token, rwx(&workspace(1))).await.unwrap_err();
    assert_refused(&refused, Code::Unavailable, Reason::TemporarilyUnavailable);
    let renamed = wire::Issuer { display_name: "another".to_owned(), etag: String::new(), ..narrowed };
    update(&service, &token, renamed, &["display_name"], None).await.expect("needs no answer");
    let opened = wire::Issuer { etag: String::new(), ..opened };
    update(&service, crate::harness::BOOTSTRAP, opened, &["allowed_audiences"], None)
        .await
        .expect("the operator holds everything");
}
