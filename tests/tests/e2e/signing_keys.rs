//! Signing keys, as separate services and the command line see them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use countersign_domain::access::permission::Permission::{ExchangesExplain, IssuersGet, TrustedIssuersGet};
use countersign_proto::exchange_v1::ExplainExchangeRequest;
use countersign_proto::exchange_v1::exchange_service_client::ExchangeServiceClient;
use countersign_proto::issuer_v1::ListIssuersRequest;
use countersign_proto::issuer_v1::issuer_service_client::IssuerServiceClient;
use countersign_proto::trust_v1::trusted_issuer_service_client::TrustedIssuerServiceClient;
use countersign_proto::trust_v1::{ListTrustedIssuersRequest, TrustRelationship};
use countersign_testkit::softhsm::SoftHsm;
use countersign_testkit::wait;
use countersign_tests::deployment::{Deployment, Instance, RedisAtStart};
use countersign_tests::operator::{Bearer, channel};
use countersign_tests::token_endpoint::{document, exchange};
use serde_json::Value;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;

use crate::deployments::Scene;
use crate::verify;

/// Runs `countersign signing-keys …`.
fn signing_keys(deployment: &Deployment, arguments: &[&str]) -> String {
    let output = deployment.command_line(&[&["signing-keys"], arguments].concat()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The states of the keys of an issuer, by their ids.
fn states(deployment: &Deployment, of: &[&str]) -> BTreeMap<String, String> {
    let list: Vec<Value> = serde_json::from_str(&signing_keys(deployment, &[&["list", "-o", "json"], of].concat())).unwrap();
    let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
    list.iter().map(|key| (text(key, "key_id"), text(key, "state"))).collect()
}

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

/// What each service says to a caller with this access token.
async fn answers(scene: &Scene<'_>, token: &str) -> [Code; 3] {
    let to = |instance| InterceptedService::new(channel(scene.deployment, instance), Bearer::new(token));
    let workspace_id = || scene.trust.workspace_id.clone();
    let code = |result: Result<(), tonic::Status>| result.map_or_else(|status| status.code(), |()| Code::Ok);
    let request = ListTrustedIssuersRequest { workspace_id: workspace_id(), ..ListTrustedIssuersRequest::default() };
    let trust = TrustedIssuerServiceClient::new(to(Instance::TrustService)).list_trusted_issuers(request).await;
    let request = ListIssuersRequest { workspace_id: workspace_id(), ..ListIssuersRequest::default() };
    let issuer = IssuerServiceClient::new(to(Instance::IssuerService)).list_issuers(request).await;
    let request = ExplainExchangeRequest {
        subject_token: scene.token(),
        workspace_id: workspace_id(),
        ..ExplainExchangeRequest::default()
    };
    let gateway = ExchangeServiceClient::new(to(Instance::Gateway)).explain_exchange(request).await;
    [trust.map(drop), issuer.map(drop), gateway.map(drop)].map(code)
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_a_revoked_key_of_access_tokens_is_refused_by_every_service_within_five_seconds() {
    let deployment = Deployment::start(RedisAtStart::NeverStarted);
    let scene = Scene::in_deployment(&deployment).await;
    let administrators = scene
        .operator
        .create_trust_relationship(TrustRelationship {
            workspace_id: scene.trust.workspace_id.clone(),
            trusted_issuer_id: scene.trust.trusted_issuer_id.clone(),
            subject_matches: vec!["org:my-org:vault:deploy-vault".to_owned()],
            scopes: [TrustedIssuersGet, IssuersGet, ExchangesExplain].map(|one| one.as_scope().to_owned()).to_vec(),
            ..TrustRelationship::default()
        })
        .await;
    let access_token = async || {
        let answer = exchange(&deployment.url(Instance::Gateway), &scene.token(), &[("client_id", &administrators)]).await;
        answer.access_token()
    };
    let stolen = access_token().await;
    assert_eq!(answers(&scene, &stolen).await, [Code::Ok; 3]);

    // A key that is on its way is published by the gateways, and takes over in an emergency.
    let next = signing_keys(&deployment, &["rotate", "--access-tokens"]);
    assert_eq!(signing_keys(&deployment, &["rotate", "--access-tokens"]), next);
    let published = async |instance| -> Vec<String> {
        let key_set = document(&format!("{}/.well-known/jwks.json", deployment.url(instance))).await;
        key_set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    let gateways = [Instance::Gateway, Instance::SecondGateway];
    for gateway in gateways {
        wait::until("the gateway publishes both keys", async || published(gateway).await.len() == 2).await;
    }
    assert_eq!(kid(&access_token().await), kid(&stolen), "and does not sign yet");

    let began = Instant::now();
    signing_keys(&deployment, &["revoke", "--access-tokens", "--key-id", &kid(&stolen)]);
    wait::until("every service refuses the token", async || answers(&scene, &stolen).await == [Code::Unauthenticated; 3]).await;
    for gateway in gateways {
        wait::until("the gateway does not publish the key", async || published(gateway).await == [next.as_str()]).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let good = access_token().await;
    assert_eq!(kid(&good), next);
    let public_url = deployment.public_url();
    verify::access_token(&good, &public_url, &public_url).await;
    assert_eq!(answers(&scene, &good).await, [Code::Ok; 3]);
    let expected = BTreeMap::from([(kid(&stolen), "REVOKED".to_owned()), (next, "ACTIVE".to_owned())]);
    assert_eq!(states(&deployment, &["--access-tokens"]), expected);

    // The same of an issuer of a workspace.
    let issuer = scene.operator.create_rwx_issuer(&scene.trust.workspace_id, &["ES256"]).await;
    let of = [issuer.id.as_str(), "--workspace", &scene.trust.workspace_id];
    let next = signing_keys(&deployment, &[&["rotate"], &of[..]].concat());
    let first = states(&deployment, &of).into_iter().find(|(_, state)| state == "ACTIVE").unwrap().0;
    signing_keys(&deployment, &[&["revoke", "--key-id", &first], &of[..]].concat());
    let expected = BTreeMap::from([(first, "REVOKED".to_owned()), (next, "ACTIVE".to_owned())]);
    assert_eq!(states(&deployment, &of), expected);
}

/// The binary is one with the feature `pkcs11`: `./tests/run` builds it.
#[tokio::test(flavor = "multi_thread")]
async fn s58_keys_in_a_token_sign_over_restarts_and_nothing_else_tells_of_them() {
    let deployment = Deployment::start_with_token();
    let scene = Scene::in_deployment(&deployment).await;
    let workspace_id = &scene.trust.workspace_id;
    let create = ["issuers", "create", "--profile", "rwx", "--algorithm", "ES256", "--key-custody", "device", "--workspace"];
    let created = deployment.command_line(&[&create[..], &[workspace_id]].concat()).output().unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let issuer_id = String::from_utf8(created.stdout).unwrap().trim().to_owned();
    let token = || {
        let ask =
            ["auth", "issue-id-token", "--audience", "vault", "--attribute", "org=a", "--attribute", "vault=b", "-o", "raw"];
        let asked = deployment.command_line(&[&ask[..], &["--workspace", workspace_id, "--issuer-id", &issuer_id]].concat());
        let asked = { asked }.output().unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8(asked.stdout).unwrap().trim().to_owned()
    };
    let issuer_url = format!("{}/{issuer_id}", deployment.issuer_base_url());
    let before = token();
    verify::id_token(&before, &issuer_url, "vault").await;
    let access_token = async || exchange(&deployment.url(Instance::Gateway), &scene.token(), &[]).await.access_token();
    let access_token_key = kid(&access_token().await);

    deployment.kill(Instance::IssuerService);
    deployment.launch_and_wait(Instance::IssuerService);
    let after = token();
    verify::id_token(&after, &issuer_url, "vault").await;
    assert_eq!(kid(&after), kid(&before));
    wait::until("access tokens are signed", async || {
        exchange(&deployment.url(Instance::Gateway), &scene.token(), &[]).await.status == 200
    })
    .await;
    assert_eq!(kid(&access_token().await), access_token_key);
    let list = signing_keys(&deployment, &["list", "-o", "json", "--workspace", workspace_id, &issuer_id]);
    let keys: Vec<Value> = serde_json::from_str(&list).unwrap();
    assert_eq!(keys[0]["key_custody"], "DEVICE");
    assert!(!deployment.log(Instance::IssuerService).contains(SoftHsm::PIN), "s61");
}
