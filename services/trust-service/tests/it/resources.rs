//! Workspaces and trusted issuers.

use countersign_domain::values::reason::Reason;
use countersign_proto::status::Refusal;
use countersign_proto::trust_v1::{
    CreateTrustedIssuerRequest, CreateWorkspaceRequest, DeleteTrustedIssuerRequest, DeleteWorkspaceRequest,
    GetTrustedIssuerRequest, GetWorkspaceRequest, ListTrustedIssuersRequest, ListWorkspacesRequest, ReplayPolicy, TrustedIssuer,
    UpdateTrustedIssuerRequest, UpdateWorkspaceRequest, Workspace, WorkspaceState,
};
use countersign_store::trust::TrustQuotas;
use countersign_testkit::identity_provider::CertificateAuthority;
use countersign_testkit::status::{assert_refused, violated_fields};
use tonic::{Code, Status};

use crate::support::{GATEWAY, mask, new_issuer, new_relationship, service, service_with_quotas};

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_lives_from_creation_to_deletion() {
    let service = service().await;
    let mut client = service.operator().workspaces;
    let created = service.operator().workspace("Acme").await;
    assert!(created.id.starts_with("ws_"));
    assert_eq!(created.state, i32::from(WorkspaceState::Active));
    let get = GetWorkspaceRequest { workspace_id: created.id.clone() };
    assert_eq!(client.get_workspace(get.clone()).await.unwrap().into_inner().workspace.unwrap(), created);

    let changed = Workspace {
        id: created.id.clone(),
        display_name: "ignored, as the mask does not name it".to_owned(),
        state: WorkspaceState::Disabled.into(),
        etag: created.etag.clone(),
        ..Default::default()
    };
    let update = UpdateWorkspaceRequest { workspace: Some(changed), update_mask: Some(mask(&["state"])) };
    let updated = client.update_workspace(update.clone()).await.unwrap().into_inner().workspace.unwrap();
    assert_eq!((updated.display_name.as_str(), updated.state), ("Acme", i32::from(WorkspaceState::Disabled)));
    assert_ne!(updated.etag, created.etag);
    let stale = client.update_workspace(update).await.unwrap_err();
    assert_refused(&stale, Code::Aborted, Reason::EtagMismatch);

    let delete = |etag: &str| DeleteWorkspaceRequest { workspace_id: created.id.clone(), etag: etag.to_owned() };
    assert_refused(&client.delete_workspace(delete(&created.etag)).await.unwrap_err(), Code::Aborted, Reason::EtagMismatch);
    client.delete_workspace(delete(&updated.etag)).await.unwrap();
    assert_refused(&client.get_workspace(get).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
    assert_refused(&client.delete_workspace(delete("")).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_violation_is_named_at_once() {
    let service = service().await;
    let mut operator = service.operator();
    let status = operator.workspaces.create_workspace(CreateWorkspaceRequest { workspace: None }).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&status), ["workspace.display_name"]);

    let status = operator
        .issuers
        .create_trusted_issuer(CreateTrustedIssuerRequest {
            trusted_issuer: Some(TrustedIssuer {
                workspace_id: "ws_1".to_owned(),
                issuer_url: "http://cloud.rwx.com/mint".to_owned(),
                algorithms: vec!["HS256".to_owned()],
                clock_skew: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
                max_token_lifetime: Some(prost_types::Duration { seconds: 90_001, nanos: 0 }),
                replay_policy: 99,
                ..Default::default()
            }),
        })
        .await
        .unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    let fields = ["algorithms[0]", "clock_skew", "issuer_url", "max_token_lifetime", "replay_policy", "workspace_id"];
    assert_eq!(violated_fields(&status), fields.map(|field| format!("trusted_issuer.{field}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn s54_the_deployment_does_not_trust_its_own_access_tokens() {
    let service = service().await;
    let mut operator = service.operator();
    let workspace = operator.workspace("Acme").await;
    for own in [GATEWAY.to_owned(), format!("{GATEWAY}/"), format!("{GATEWAY}//")] {
        let status = operator.issuers.create_trusted_issuer(new_issuer(&workspace.id, &own)).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
        assert_eq!(violated_fields(&status), ["trusted_issuer.issuer_url"], "{own}");
    }
    let mut keys_at_the_gateway = new_issuer(&workspace.id, &format!("{GATEWAY}/tenant"));
    keys_at_the_gateway.trusted_issuer.as_mut().unwrap().jwks_url = format!("{GATEWAY}/keys");
    operator.issuers.create_trusted_issuer(keys_at_the_gateway).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_issuer_lives_from_creation_to_deletion() {
    let service = service().await;
    let mut operator = service.operator();
    let workspace = operator.workspace("Acme").await;
    let issuer = operator.issuer(&workspace.id, "https://cloud.rwx.com/mint").await;
    assert!(issuer.id.starts_with("ti_") && issuer.enabled);
    assert_eq!(issuer.algorithms, ["RS256", "ES256", "ES384", "EdDSA"]);
    assert_eq!(issuer.replay_policy, i32::from(ReplayPolicy::SingleUse));

    let again = operator.issuers.create_trusted_issuer(new_issuer(&workspace.id, &issuer.issuer_url)).await.unwrap_err();
    assert_refused(&again, Code::AlreadyExists, Reason::ResourceAlreadyExists);

    let update = |paths: &[&str]| UpdateTrustedIssuerRequest {
        trusted_issuer: Some(TrustedIssuer {
            id: issuer.id.clone(),
            workspace_id: workspace.id.clone(),
            issuer_url: "https://elsewhere.example".to_owned(),
            replay_policy: ReplayPolicy::Reusable.into(),
            ..Default::default()
        }),
        update_mask: Some(mask(paths)),
    };
    let status = operator.issuers.update_trusted_issuer(update(&["issuer_url"])).await.unwrap_err();
    assert_eq!(violated_fields(&status), ["update_mask.paths[0]"]);
    let updated = operator.issuers.update_trusted_issuer(update(&["replay_policy"])).await.unwrap();
    let updated = updated.into_inner().trusted_issuer.unwrap();
    assert_eq!(
        updated,
        TrustedIssuer { replay_policy: ReplayPolicy::Reusable.into(), etag: updated.etag.clone(), ..issuer.clone() }
    );

    operator.relationship(&updated).await;
    let delete = DeleteTrustedIssuerRequest {
        workspace_id: workspace.id.clone(),
        trusted_issuer_id: issuer.id.clone(),
        etag: String::new(),
    };
    let status = operator.issuers.delete_trusted_issuer(delete).await.unwrap_err();
    assert_refused(&status, Code::FailedPrecondition, Reason::FailedPrecondition);
    let status = operator
        .workspaces
        .delete_workspace(DeleteWorkspaceRequest { workspace_id: workspace.id, etag: String::new() })
        .await
        .unwrap_err();
    assert_refused(&status, Code::FailedPrecondition, Reason::FailedPrecondition);
}

#[track_caller]
fn assert_quota(refused: &Status, subject: &str, limit: &str) {
    assert_refused(refused, Code::ResourceExhausted, Reason::QuotaExceeded);
    let refusal = Refusal::from_status(refused);
    let (kind, owner) = refusal.resource().unwrap();
    assert!(format!("{kind} {owner}").starts_with(subject), "{refusal:?}");
    assert!(refusal.message().contains(limit), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_quota_names_its_owner_and_its_limit() {
    let quotas = TrustQuotas { workspaces: 2, trusted_issuers: 2, trust_relationships: 1, key_material_characters: 100 };
    let service = service_with_quotas(quotas).await;
    let mut operator = service.operator();
    let (workspace, other) = (operator.workspace("Acme").await, operator.workspace("Other").await);
    let request =
        CreateWorkspaceRequest { workspace: Some(Workspace { display_name: "Third".to_owned(), ..Default::default() }) };
    assert_quota(&operator.workspaces.create_workspace(request).await.unwrap_err(), "Workspace ", "2 workspaces");

    let of_workspace = format!("Workspace {}", workspace.id);
    let issuer = operator.issuer(&workspace.id, "https://one.example").await;
    let authority = CertificateAuthority::new().certificate();
    let mut certified = new_issuer(&workspace.id, "https://two.example");
    certified.trusted_issuer.as_mut().unwrap().ca_certificates = authority;
    let refused = operator.issuers.create_trusted_issuer(certified).await.unwrap_err();
    assert_quota(&refused, &of_workspace, "100 characters");
    operator.issuer(&workspace.id, "https://two.example").await;
    let refused = operator.issuers.create_trusted_issuer(new_issuer(&workspace.id, "https://three.example")).await.unwrap_err();
    assert_quota(&refused, &of_workspace, "2 trusted issuers");
    operator.issuer(&other.id, "https://three.example").await;

    operator.relationship(&issuer).await;
    let refused = operator.relationships.create_trust_relationship(new_relationship(&issuer, &["deploy"])).await.unwrap_err();
    assert_quota(&refused, &of_workspace, "1 trust relationships");
}

#[tokio::test(flavor = "multi_thread")]
async fn s73_page_tokens_continue_their_own_list_and_no_other() {
    let service = service().await;
    let mut operator = service.operator();
    let (workspace, other) = (operator.workspace("Acme").await, operator.workspace("Other").await);
    for number in 0..5 {
        operator.issuer(&workspace.id, &format!("https://issuer-{number}.example")).await;
    }
    let page = |workspace_id: &str, page_size: i32, page_token: &str| ListTrustedIssuersRequest {
        workspace_id: workspace_id.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let answer = operator.issuers.list_trusted_issuers(page(&workspace.id, 2, &token)).await.unwrap().into_inner();
        seen.extend(answer.trusted_issuers.into_iter().map(|issuer| issuer.issuer_url));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
        let status = operator.issuers.list_trusted_issuers(page(&other.id, 2, &token)).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, Reason::PageTokenInvalid);
        let request = ListWorkspacesRequest { page_size: 2, page_token: token.clone() };
        let status = operator.workspaces.list_workspaces(request).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, Reason::PageTokenInvalid);
    }
    seen.sort();
    assert_eq!(seen, (0..5).map(|number| format!("https://issuer-{number}.example")).collect::<Vec<_>>());

    let status = operator.issuers.list_trusted_issuers(page(&workspace.id, -1, "")).await.unwrap_err();
    assert_eq!(violated_fields(&status), ["page_size"]);
    let unknown = "ws_00000000000000000000000000";
    let status = operator.issuers.list_trusted_issuers(page(unknown, 0, "")).await.unwrap_err();
    assert_refused(&status, Code::NotFound, Reason::ResourceNotFound);
    let request = GetTrustedIssuerRequest { workspace_id: workspace.id, trusted_issuer_id: "tr_x".to_owned() };
    let status = operator.issuers.get_trusted_issuer(request).await.unwrap_err();
    assert_eq!(violated_fields(&status), ["trusted_issuer_id"]);
}
