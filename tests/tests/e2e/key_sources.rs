//! Issuers behind a private authority, issuers that cannot be reached, and what operators see of their keys.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;

use countersign_domain::values::reason::Reason;
use countersign_testkit::claims::{self, ClaimSet};
use countersign_testkit::clock::system_time;
use countersign_testkit::identity_provider::{Behaviour, CertificateAuthority, IdentityProvider, Leaf};
use countersign_testkit::status::wire_name;
use countersign_testkit::wait;
use countersign_tests::deployment::{Deployment, Instance};
use countersign_tests::operator::Operator;
use countersign_tests::token_endpoint::{Answer, exchange};
use serde_json::{Value, json};

use crate::deployments::shared;

/// A workspace, with the command line as its operator.
struct Team {
    deployment: &'static Deployment,
    workspace_id: String,
}

impl Team {
    async fn new() -> Self {
        let deployment = shared();
        Self { deployment, workspace_id: Operator::of(deployment).create_workspace("Platform").await }
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let arguments = [&["--workspace", self.workspace_id.as_str()], arguments].concat();
        self.deployment.command_line(&arguments).output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.output(arguments);
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap().trim_end().to_owned()
    }

    /// A file for the command line.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.deployment.file(&format!("{}-{name}", self.workspace_id));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Trusts the pod of the test's claims.
    fn trust(&self, trusted_issuer: &str) {
        let pod = "system:serviceaccount:deploy:runner";
        let relationship = ["auth", "trust-relationships", "add", "--trusted-issuer", trusted_issuer, "--subject-match", pod];
        self.run(&[&relationship[..], &["--scope", "deploy"]].concat());
    }

    async fn present(&self, token: &str) -> Answer {
        let workspace = format!("{}/workspaces/{}", self.deployment.public_url(), self.workspace_id);
        exchange(&self.deployment.url(Instance::Gateway), token, &[("audience", &workspace)]).await
    }

    fn health(&self, trusted_issuer: &str) -> Value {
        let shown = self.run(&["trusted-issuers", "get", trusted_issuer]);
        serde_json::from_str::<Value>(&shown).unwrap()["health"].clone()
    }
}

fn pod() -> ClaimSet {
    claims::kubernetes(&shared().public_url(), system_time())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_behind_a_private_authority_is_trusted_checked_and_its_health_is_shown() {
    let team = Team::new().await;
    let authority = Arc::new(CertificateAuthority::new());
    let cluster = IdentityProvider::start_tls_at("", &authority, Leaf::ByIntermediate);
    let ca_file = team.file("ca.pem", &authority.certificate());

    let issuer = team.run(&["trusted-issuers", "add", "--issuer", cluster.issuer_url(), "--replay-policy", "reusable"]);
    team.trust(&issuer);
    // Nobody else's authority vouches for the cluster.
    let token = cluster.sign(&pod());
    assert_eq!(team.present(&token).await.reason(), Some(wire_name(Reason::TemporarilyUnavailable).as_str()));
    let refused = team.output(&["trusted-issuers", "check", &issuer]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("--issuer-ca-file"));

    team.run(&["trusted-issuers", "update", &issuer, "--issuer-ca-file", ca_file.to_str().unwrap()]);
    assert_eq!(team.health(&issuer), Value::Null, "what was seen of other settings is forgotten");
    let answer = team.present(&token).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen = wait::some("the gateway reports the keys it holds", async || {
        let health = team.health(&issuer);
        (health["key_ids"] == json!([cluster.signer().key_id()])).then_some(health)
    });
    assert_eq!(seen.await["problem"], Value::Null);

    let checked: Value = serde_json::from_str(&team.run(&["trusted-issuers", "check", &issuer, "-o", "json"])).unwrap();
    assert_eq!(checked["jwks_uri"], cluster.key_set_url());
    let key = json!({ "key_id": cluster.signer().key_id(), "algorithms": ["ES256"], "problem": "", "notes": [] });
    assert_eq!(checked["keys"], json!([key]));
}

#[tokio::test(flavor = "multi_thread")]
async fn s17_an_issuer_whose_keys_are_uploaded_is_never_contacted() {
    let team = Team::new().await;
    let cluster = IdentityProvider::start();
    cluster.discovery_behaves(Behaviour::Close);
    let jwks_file = team.file("jwks.json", &json!({ "keys": cluster.published() }).to_string());
    let end = (system_time() + std::time::Duration::from_hours(1)).to_string();
    let url = cluster.issuer_url();
    let add = ["trusted-issuers", "add", "--issuer", url, "--jwks-file", jwks_file.to_str().unwrap(), "--jwks-expire-time", &end];
    let issuer = team.run(&add);
    team.trust(&issuer);

    let answer = team.present(&cluster.sign(&pod())).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    cluster.rotate(countersign_domain::values::signature_algorithm::SignatureAlgorithm::Es256);
    let unknown_key = team.present(&cluster.sign(&pod().with("jti", "another"))).await;
    assert_eq!(unknown_key.reason(), Some(wire_name(Reason::SubjectTokenNotTrusted).as_str()), "{}", unknown_key.body);
    assert_eq!(cluster.connections(), 0);

    // The new key, once somebody uploads it.
    let jwks_file = team.file("jwks.json", &json!({ "keys": cluster.published() }).to_string());
    team.run(&["trusted-issuers", "update", &issuer, "--jwks-file", jwks_file.to_str().unwrap()]);
    let renewed = team.present(&cluster.sign(&pod().with("jti", "another"))).await;
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    // And from an end that has passed on, nothing.
    let past = (system_time() - std::time::Duration::from_secs(1)).to_string();
    team.run(&["trusted-issuers", "update", &issuer, "--jwks-expire-time", &past]);
    let ended = team.present(&cluster.sign(&pod().with("jti", "a third"))).await;
    assert_eq!(ended.reason(), Some(wire_name(Reason::TemporarilyUnavailable).as_str()), "{}", ended.body);
    assert_eq!(cluster.connections(), 0);
}
