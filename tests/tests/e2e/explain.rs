//! Why a token was refused, asked of a real gateway.

use countersign_domain::values::reason::Reason;
use countersign_proto::exchange_v1::ExplainExchangeRequest;
use countersign_proto::trust_v1::claim_condition::Test;
use countersign_proto::trust_v1::claim_value::Kind;
use countersign_proto::trust_v1::{ClaimCondition, ClaimValue, TrustRelationship, UpdateTrustRelationshipRequest};
use countersign_testkit::status::assert_refused;
use countersign_tests::deployment::Instance;
use countersign_tests::operator::{Bearer, channel, exchange_client};
use countersign_tests::token_endpoint::exchange;
use serde_json::{Value, json};
use tonic::Code;
use tonic::service::interceptor::InterceptedService;

use crate::deployments::{Scene, shared};
use crate::verify;

/// The relationship of the scene asks for a run of the branch main, and maps the run's URL.
async fn ask_more(scene: &Scene<'_>) {
    let is_main = ClaimCondition {
        claim: "/run/branch".to_owned(),
        test: Some(Test::Equals(ClaimValue { kind: Some(Kind::Text("main".to_owned())) })),
        negated: false,
    };
    let request = UpdateTrustRelationshipRequest {
        trust_relationship: Some(TrustRelationship {
            id: scene.trust.trust_relationship_id.clone(),
            workspace_id: scene.trust.workspace_id.clone(),
            claim_conditions: vec![is_main],
            cel_condition: "attribute.attempt < 3".to_owned(),
            attribute_mapping: [("attempt".to_owned(), "assertion.attempt".to_owned())].into(),
            ..TrustRelationship::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: ["claim_conditions", "cel_condition", "attribute_mapping"].map(str::to_owned).into(),
        }),
    };
    scene.operator.trust_relationships().update_trust_relationship(request).await.unwrap();
}

fn token(scene: &Scene<'_>, branch: &str, attempt: u32) -> String {
    scene.provider.sign(&scene.claims().with("run", json!({"branch": branch})).with("attempt", attempt).with("jti", branch))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_explained_by_the_command_and_an_accepted_one_stays_unused() {
    let scene = Scene::in_deployment(shared()).await;
    ask_more(&scene).await;
    let explain = |token: &str, more: &[&str]| {
        let file = shared().file(&format!("explain-{}", scene.trust.workspace_id));
        std::fs::write(&file, token).unwrap();
        let command =
            ["--workspace", scene.trust.workspace_id.as_str(), "auth", "explain", "--token-file", file.to_str().unwrap()];
        let output = shared().command_line(&[command.as_slice(), more].concat()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, tree, errors) = explain(&token(&scene, "dev", 1), &[]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(tree.starts_with("refused, SUBJECT_NOT_TRUSTED: trust relationship: the nearest is tr_"), "{tree}");
    assert!(tree.contains("FAIL claim_conditions[0]: /run/branch is \"main\"\n         token: \"dev\""), "{tree}");

    let (code, json, errors) = explain(&token(&scene, "main", 3), &["-o", "json"]);
    assert_eq!(code, Some(2), "{errors}");
    let explained: Value = serde_json::from_str(&json).unwrap();
    let check = &explained["candidates"][0]["checks"][0];
    assert_eq!((&check["field"], &check["verdict"]), (&json!("cel_condition"), &json!("FAILED")), "{explained}");

    let good = token(&scene, "main", 2);
    let (code, tree, errors) = explain(&good, &[]);
    assert_eq!(code, Some(0), "{tree}{errors}");
    assert!(tree.starts_with("accepted"), "{tree}");
    let access_token = exchange(&scene.deployment.url(Instance::Gateway), &good, &[]).await.access_token();
    let public_url = scene.deployment.public_url();
    let (_, claims) = verify::access_token(&access_token, &public_url, &public_url).await;
    assert_eq!(claims["attributes"], json!({"attempt": 2}));
}

#[tokio::test]
async fn s69_only_who_may_see_the_policy_is_told_of_it() {
    let scene = Scene::in_deployment(shared()).await;
    let request = || ExplainExchangeRequest {
        subject_token: scene.token(),
        workspace_id: scene.trust.workspace_id.clone(),
        ..ExplainExchangeRequest::default()
    };
    let anonymous = exchange_client(scene.deployment, Instance::Gateway).explain_exchange(request()).await.unwrap_err();
    assert_refused(&anonymous, Code::Unauthenticated, Reason::CredentialsMissing);

    let explain_as = async |access_token: &str, request: ExplainExchangeRequest| {
        let channel = InterceptedService::new(channel(scene.deployment, Instance::Gateway), Bearer::new(access_token));
        countersign_proto::exchange_v1::exchange_service_client::ExchangeServiceClient::new(channel)
            .explain_exchange(request)
            .await
    };
    let deployer = exchange(&scene.deployment.url(Instance::Gateway), &scene.token(), &[]).await.access_token();
    let refused = explain_as(&deployer, request()).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, Reason::PermissionMissing);

    let scopes = UpdateTrustRelationshipRequest {
        trust_relationship: Some(TrustRelationship {
            id: scene.trust.trust_relationship_id.clone(),
            workspace_id: scene.trust.workspace_id.clone(),
            scopes: vec!["countersign:exchanges.explain".to_owned()],
            ..TrustRelationship::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["scopes".to_owned()] }),
    };
    scene.operator.trust_relationships().update_trust_relationship(scopes).await.unwrap();
    let engineer = exchange(&scene.deployment.url(Instance::Gateway), &scene.token(), &[]).await.access_token();
    assert!(explain_as(&engineer, request()).await.unwrap().into_inner().accepted);
    let other = scene.operator.create_workspace("Another").await;
    let refused = explain_as(&engineer, ExplainExchangeRequest { workspace_id: other, ..request() }).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::ResourceNotFound);
}
