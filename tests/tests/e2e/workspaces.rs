//! What becomes of a workspace on all services when it is disabled or deleted.

use std::time::{Duration, Instant};

use countersign_domain::access::permission::{Permission, Reach};
use countersign_proto::exchange_v1::ExplainExchangeRequest;
use countersign_proto::exchange_v1::exchange_service_client::ExchangeServiceClient;
use countersign_proto::issuer_v1 as issuer;
use countersign_proto::issuer_v1::issuer_service_client::IssuerServiceClient;
use countersign_proto::issuer_v1::signing_key_service_client::SigningKeyServiceClient;
use countersign_proto::issuer_v1::token_service_client::TokenServiceClient;
use countersign_proto::trust_v1::trusted_issuer_service_client::TrustedIssuerServiceClient;
use countersign_proto::trust_v1::{
    DeleteTrustRelationshipRequest, DeleteTrustedIssuerRequest, DeleteWorkspaceRequest, ListTrustedIssuersRequest,
    TrustRelationship, UpdateWorkspaceRequest, Workspace, WorkspaceState,
};
use countersign_testkit::wait;
use countersign_tests::deployment::Instance;
use countersign_tests::operator::{Bearer, channel};
use countersign_tests::token_endpoint::exchange;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;

use crate::deployments::{Scene, shared};

/// How soon every service must know.
const WITHIN: Duration = Duration::from_secs(5);

fn rwx_issuer(workspace_id: &str) -> issuer::Issuer {
    let algorithms = vec!["ES256".to_owned()];
    issuer::Issuer { workspace_id: workspace_id.to_owned(), profile: "rwx".to_owned(), algorithms, ..issuer::Issuer::default() }
}

fn id_token(owned: &issuer::Issuer) -> issuer::IssueIdTokenRequest {
    issuer::IssueIdTokenRequest {
        workspace_id: owned.workspace_id.clone(),
        issuer_id: owned.id.clone(),
        audiences: vec!["sts.amazonaws.com".to_owned()],
        attributes: [("org", "my-org"), ("vault", "deploy-vault")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..issuer::IssueIdTokenRequest::default()
    }
}

/// What the services answer to a caller with this access token: signatures, writes and reads.
async fn answers(scene: &Scene<'_>, token: &str, owned: &issuer::Issuer) -> [Code; 6] {
    let to = |instance| InterceptedService::new(channel(scene.deployment, instance), Bearer::new(token));
    let workspace_id = || scene.trust.workspace_id.clone();
    let code = |result: Result<(), tonic::Status>| result.map_or_else(|status| status.code(), |()| Code::Ok);
    let issued = TokenServiceClient::new(to(Instance::IssuerService)).issue_id_token(id_token(owned)).await;
    let create = issuer::CreateIssuerRequest { issuer: Some(rwx_issuer(&workspace_id())) };
    let created = IssuerServiceClient::new(to(Instance::IssuerService)).create_issuer(create).await;
    let rotate =
        issuer::RotateSigningKeyRequest { workspace_id: workspace_id(), issuer_id: owned.id.clone(), algorithm: String::new() };
    let rotated = SigningKeyServiceClient::new(to(Instance::IssuerService)).rotate_signing_key(rotate).await;
    let list = issuer::ListIssuersRequest { workspace_id: workspace_id(), ..issuer::ListIssuersRequest::default() };
    let listed = IssuerServiceClient::new(to(Instance::IssuerService)).list_issuers(list).await;
    let list = ListTrustedIssuersRequest { workspace_id: workspace_id(), ..ListTrustedIssuersRequest::default() };
    let trusted = TrustedIssuerServiceClient::new(to(Instance::TrustService)).list_trusted_issuers(list).await;
    let explain = ExplainExchangeRequest {
        subject_token: scene.token(),
        workspace_id: workspace_id(),
        ..ExplainExchangeRequest::default()
    };
    let explained = ExchangeServiceClient::new(to(Instance::Gateway)).explain_exchange(explain).await;
    [issued.map(drop), created.map(drop), rotated.map(drop), listed.map(drop), trusted.map(drop), explained.map(drop)].map(code)
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_five_seconds_after_a_workspace_is_disabled_nothing_is_signed_and_no_service_accepts_its_access_token() {
    let scene = Scene::in_deployment(shared()).await;
    let (operator, trust) = (&scene.operator, &scene.trust);
    let every = Permission::ALL.iter().filter(|permission| permission.reach() == Reach::Workspace);
    let administrators = operator
        .create_trust_relationship(TrustRelationship {
            workspace_id: trust.workspace_id.clone(),
            trusted_issuer_id: trust.trusted_issuer_id.clone(),
            subject_matches: vec!["org:my-org:vault:deploy-vault".to_owned()],
            scopes: every.map(|permission| permission.as_scope().to_owned()).collect(),
            ..TrustRelationship::default()
        })
        .await;
    let gateway = scene.deployment.url(Instance::Gateway);
    let token = exchange(&gateway, &scene.token(), &[("client_id", &administrators)]).await.access_token();
    let create = issuer::CreateIssuerRequest { issuer: Some(rwx_issuer(&trust.workspace_id)) };
    let owned = operator.issuers().create_issuer(create).await.unwrap().into_inner().issuer.unwrap();
    assert_eq!(answers(&scene, &token, &owned).await, [Code::Ok; 6]);

    let set = async |state: WorkspaceState| {
        let workspace = Workspace { id: trust.workspace_id.clone(), state: state.into(), ..Workspace::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["state".to_owned()] });
        let request = UpdateWorkspaceRequest { workspace: Some(workspace), update_mask };
        operator.workspaces().update_workspace(request).await.unwrap();
        Instant::now()
    };
    let disabled = set(WorkspaceState::Disabled).await;
    wait::until("every service refuses the token", || async {
        answers(&scene, &token, &owned).await == [Code::Unauthenticated; 6]
    })
    .await;
    assert!(disabled.elapsed() < WITHIN, "{:?}", disabled.elapsed());
    let refused = operator.tokens().issue_id_token(id_token(&owned)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "the operator neither: {refused}");

    // Enabled again, the same token is good.
    set(WorkspaceState::Active).await;
    wait::until("every service accepts the token", || async { answers(&scene, &token, &owned).await == [Code::Ok; 6] }).await;

    // Deleted, nothing is signed either; what was signed can be verified.
    let workspace_id = &trust.workspace_id;
    for id in [&administrators, &trust.trust_relationship_id] {
        let request = DeleteTrustRelationshipRequest {
            workspace_id: workspace_id.clone(),
            trust_relationship_id: id.clone(),
            etag: String::new(),
        };
        operator.trust_relationships().delete_trust_relationship(request).await.unwrap();
    }
    let request = DeleteTrustedIssuerRequest {
        workspace_id: workspace_id.clone(),
        trusted_issuer_id: trust.trusted_issuer_id.clone(),
        etag: String::new(),
    };
    operator.trusted_issuers().delete_trusted_issuer(request).await.unwrap();
    let request = DeleteWorkspaceRequest { workspace_id: workspace_id.clone(), etag: String::new() };
    operator.workspaces().delete_workspace(request).await.unwrap();
    let deleted = Instant::now();
    wait::until("every service refuses the token", || async {
        answers(&scene, &token, &owned).await == [Code::Unauthenticated; 6]
    })
    .await;
    assert!(deleted.elapsed() < WITHIN, "{:?}", deleted.elapsed());
    let refused = operator.tokens().issue_id_token(id_token(&owned)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let create = issuer::CreateIssuerRequest { issuer: Some(rwx_issuer(workspace_id)) };
    assert_eq!(operator.issuers().create_issuer(create).await.unwrap_err().code(), Code::NotFound);
    let key_set = countersign_tests::token_endpoint::document(&format!("{}/.well-known/jwks.json", owned.issuer_url)).await;
    assert!(!key_set["keys"].as_array().unwrap().is_empty());
}
