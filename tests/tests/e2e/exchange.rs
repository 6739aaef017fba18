//! The main job, through real processes: a token goes in, a token comes out, and anybody can verify it.

use std::collections::HashMap;

use countersign_domain::values::reason::Reason;
use countersign_proto::exchange_v1::ExchangeTokenRequest;
use countersign_proto::issuer_v1::IssueIdTokenRequest;
use countersign_proto::issuer_v1::token_service_client::TokenServiceClient;
use countersign_proto::trust_v1::TrustRelationship;
use countersign_testkit::status::assert_refused;
use countersign_tests::deployment::Instance;
use countersign_tests::operator::{Bearer, channel, exchange_client};
use countersign_tests::token_endpoint::exchange;
use serde_json::json;
use tonic::Code;

use crate::deployments::{Scene, shared};
use crate::verify;

#[tokio::test]
async fn an_access_token_says_what_was_granted_and_verifies_by_published_documents() {
    let scene = Scene::in_deployment(shared()).await;
    let public_url = scene.deployment.public_url();
    let answer = exchange(&scene.deployment.url(Instance::Gateway), &scene.token(), &[]).await;
    let access_token = answer.access_token();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    // What is left of an hour when the answer is written.
    assert!((3_590..=3_600).contains(&answer.body["expires_in"].as_i64().unwrap()), "{}", answer.body["expires_in"]);

    let (header, claims) = verify::access_token(&access_token, &public_url, &public_url).await;
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("ES256")));
    let trust = &scene.trust;
    let subject = format!("{}/{}/org:my-org:vault:deploy-vault", trust.workspace_id, trust.trusted_issuer_id);
    assert_eq!(claims["sub"], json!(subject));
    assert_eq!(claims["client_id"], json!(trust.trust_relationship_id));
    assert_eq!(claims["workspace_id"], json!(trust.workspace_id));
    let mut scopes: Vec<&str> = claims["scope"].as_str().unwrap().split(' ').collect();
    scopes.sort_unstable();
    assert_eq!(scopes, ["deploy", "read"]);
    assert_eq!(claims["authorization_details"].as_array().unwrap().len(), 1);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3_600);
    // 128 bits need 22 characters of base64url.
    assert!(claims["jti"].as_str().unwrap().len() >= 22);
}

#[tokio::test]
async fn grpc_gives_the_same_as_http() {
    let scene = Scene::in_deployment(shared()).await;
    let request = ExchangeTokenRequest {
        subject_token: scene.token(),
        workspace_id: scene.trust.workspace_id.clone(),
        scopes: vec!["deploy".to_owned()],
        ..ExchangeTokenRequest::default()
    };
    let answer = exchange_client(scene.deployment, Instance::Gateway).exchange_token(request).await.unwrap().into_inner();
    assert_eq!(answer.workspace_id, scene.trust.workspace_id);
    assert_eq!(answer.trust_relationship_id, scene.trust.trust_relationship_id);
    assert_eq!(answer.scopes, ["deploy"]);
    let public_url = scene.deployment.public_url();
    let (_, claims) = verify::access_token(&answer.access_token, &public_url, &public_url).await;
    assert_eq!(claims["scope"], "deploy");
}

#[tokio::test]
async fn a_token_used_on_one_gateway_is_refused_as_replayed_on_the_other() {
    let scene = Scene::in_deployment(shared()).await;
    let token = scene.token();
    exchange(&scene.deployment.url(Instance::Gateway), &token, &[]).await.access_token();

    let again = exchange(&scene.deployment.url(Instance::SecondGateway), &token, &[]).await;
    assert_eq!((again.status, again.reason()), (400, Some("SUBJECT_TOKEN_REPLAYED")));
    assert_eq!(again.body["error"], "invalid_request");
    let request = ExchangeTokenRequest { subject_token: token, ..ExchangeTokenRequest::default() };
    let status = exchange_client(scene.deployment, Instance::SecondGateway).exchange_token(request).await.unwrap_err();
    assert_refused(&status, Code::Unauthenticated, Reason::SubjectTokenReplayed);
}

#[tokio::test]
async fn an_id_token_of_ours_verifies_by_published_documents_and_can_be_exchanged() {
    let scene = Scene::in_deployment(shared()).await;
    let public_url = scene.deployment.public_url();
    let issuer = scene.operator.create_rwx_issuer(&scene.trust.workspace_id, &["RS256", "ES256"]).await;
    assert!(issuer.issuer_url.starts_with(&scene.deployment.issuer_base_url()), "{}", issuer.issuer_url);
    let trust = scene.operator.trust_in(&scene.trust.workspace_id, &issuer.issuer_url).await;

    for algorithm in ["RS256", "ES256"] {
        let attributes = [("org", "my-org"), ("vault", "deploy-vault")];
        let request = IssueIdTokenRequest {
            workspace_id: scene.trust.workspace_id.clone(),
            audiences: vec![public_url.clone()],
            attributes: HashMap::from(attributes.map(|(name, value)| (name.to_owned(), value.to_owned()))),
            algorithm: algorithm.to_owned(),
            ..IssueIdTokenRequest::default()
        };
        let id_token = scene.operator.tokens().issue_id_token(request).await.unwrap().into_inner().id_token;
        let (header, claims) = verify::id_token(&id_token, &issuer.issuer_url, &public_url).await;
        assert_eq!(header["alg"], algorithm);
        assert_eq!(claims["sub"], "org:my-org:vault:deploy-vault");

        let access_token = exchange(&scene.deployment.url(Instance::Gateway), &id_token, &[]).await.access_token();
        let (_, claims) = verify::access_token(&access_token, &public_url, &public_url).await;
        assert_eq!(claims["client_id"], json!(trust.trust_relationship_id));
    }
}

/// A run that may issue ID tokens, for an issuer whose tokens are exchanged for just such access tokens.
#[tokio::test]
async fn s54_nobody_renews_himself_without_end() {
    let scene = Scene::in_deployment(shared()).await;
    let public_url = scene.deployment.public_url();
    let workspace_id = &scene.trust.workspace_id;
    let issuer = scene.operator.create_rwx_issuer(workspace_id, &["ES256"]).await;
    let trust = scene.operator.trust_in(workspace_id, &issuer.issuer_url).await;
    let trust_relationship = TrustRelationship {
        workspace_id: workspace_id.clone(),
        trusted_issuer_id: trust.trusted_issuer_id,
        subject_matches: vec!["org:my-org:vault:scheduler".to_owned()],
        scopes: vec!["countersign:id_tokens.issue".to_owned()],
        ..TrustRelationship::default()
    };
    scene.operator.create_trust_relationship(trust_relationship).await;
    let request = || IssueIdTokenRequest {
        workspace_id: workspace_id.clone(),
        audiences: vec![public_url.clone()],
        attributes: HashMap::from([("org", "my-org"), ("vault", "scheduler")].map(|(name, value)| (name.into(), value.into()))),
        ..IssueIdTokenRequest::default()
    };
    let gateway = scene.deployment.url(Instance::Gateway);
    let access_token = async |id_token: &str| {
        let access_token = exchange(&gateway, id_token, &[]).await.access_token();
        let (_, claims) = verify::access_token(&access_token, &public_url, &public_url).await;
        (access_token, claims)
    };

    let id_token = scene.operator.tokens().issue_id_token(request()).await.unwrap().into_inner().id_token;
    let (_, claims) = verify::id_token(&id_token, &issuer.issuer_url, &public_url).await;
    assert_eq!(claims.get("countersign_lineage"), None, "a line begins with the operator, or with a token of somebody else");
    let (mut held, claims) = access_token(&id_token).await;
    assert_eq!(claims.get("countersign_lineage"), None);
    let began = claims["iat"].clone();
    for depth in 1..=3 {
        let line = json!({"auth_time": began, "depth": depth});
        let tokens = || TokenServiceClient::with_interceptor(channel(shared(), Instance::IssuerService), Bearer::new(&held));
        let id_token = tokens().issue_id_token(request()).await.unwrap().into_inner().id_token;
        let (_, claims) = verify::id_token(&id_token, &issuer.issuer_url, &public_url).await;
        assert_eq!(claims["countersign_lineage"], line);
        let (next, claims) = access_token(&id_token).await;
        assert_eq!(claims["countersign_lineage"], line);
        held = next;
    }
    let mut tokens = TokenServiceClient::with_interceptor(channel(shared(), Instance::IssuerService), Bearer::new(&held));
    let status = tokens.issue_id_token(request()).await.unwrap_err();
    assert_refused(&status, Code::Unauthenticated, Reason::CredentialsInvalid);
    assert!(status.message().contains("begin anew"), "{}", status.message());
}

#[tokio::test]
async fn a_relationship_holds_as_soon_as_it_is_created_and_ends_as_soon_as_it_is_deleted() {
    use countersign_proto::trust_v1::DeleteTrustRelationshipRequest;

    let scene = Scene::in_deployment(shared()).await;
    let gateway = scene.deployment.url(Instance::SecondGateway);
    exchange(&gateway, &scene.token(), &[]).await.access_token();

    let request = DeleteTrustRelationshipRequest {
        workspace_id: scene.trust.workspace_id.clone(),
        trust_relationship_id: scene.trust.trust_relationship_id.clone(),
        etag: String::new(),
    };
    scene.operator.trust_relationships().delete_trust_relationship(request).await.unwrap();
    let refused = exchange(&gateway, &scene.token(), &[]).await;
    assert_eq!(refused.reason(), Some("SUBJECT_NOT_TRUSTED"), "{}", refused.body);
}
