//! Secrets stay where they belong.

use countersign_tests::deployment::{Deployment, Instance, RedisAtStart};
use countersign_tests::http1;
use countersign_tests::token_endpoint::exchange;

use crate::deployments::Scene;

/// Tokens and secrets of a deployment, each with what it is called here.
struct Canaries(Vec<(&'static str, String)>);

impl Canaries {
    /// Where one of them appears: as it is, or in hexadecimal as a database shows bytes.
    fn found_in(&self, text: &str) -> Vec<&'static str> {
        let hex = |secret: &str| secret.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let shows = |secret: &str| text.contains(secret) || text.contains(&hex(secret));
        self.0.iter().filter(|(_, secret)| shows(secret)).map(|(name, _)| *name).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s61_no_token_and_no_secret_is_in_logs_metrics_database_or_redis() {
    let deployment = Deployment::start(RedisAtStart::Running);
    let scene = Scene::in_deployment(&deployment).await;
    let gateway = deployment.url(Instance::Gateway);
    let subject_token = scene.token();
    let access_token = exchange(&gateway, &subject_token, &[]).await.access_token();
    // Refusals are logged with their cause.
    let expired = scene.provider.sign(&scene.claims().issued_at("2026-01-01T00:00:00Z".parse().unwrap()));
    let forged = format!("{}x", scene.token());
    for refused in [&subject_token, &expired, &forged] {
        assert_ne!(exchange(&gateway, refused, &[]).await.status, 200);
    }

    let part = |token: &str, index: usize| token.split('.').nth(index).unwrap().to_owned();
    let canaries = Canaries(vec![
        ("claims of the subject token", part(&subject_token, 1)),
        ("signature of the subject token", part(&subject_token, 2)),
        ("claims of the access token", part(&access_token, 1)),
        ("signature of the access token", part(&access_token, 2)),
        ("signature of the expired token", part(&expired, 2)),
        ("signature of the forged token", part(&forged, 2)),
        ("bootstrap token", deployment.bootstrap_token()),
        ("deployment secret", deployment.secret("deployment-secret")),
        ("key-encryption key", deployment.secret("key-encryption-key")),
    ]);
    assert_eq!(canaries.found_in(&format!("{subject_token} {access_token}")).len(), 4, "the search finds what is there");

    for instance in Instance::ALL {
        assert_eq!(canaries.found_in(&deployment.log(instance)), [""; 0], "log of {instance}");
        let metrics = http1::get(deployment.private_port(instance), "/metrics").unwrap().body;
        assert_eq!(canaries.found_in(&metrics), [""; 0], "metrics of {instance}");
    }
    let database = deployment.database_contents();
    assert!(database.contains(&scene.trust.trust_relationship_id), "the search reads the tables");
    assert_eq!(canaries.found_in(&database), [""; 0], "database");
    let redis = deployment.redis().as_ref().unwrap().contents();
    assert!(!redis.is_empty(), "the replay cache is used");
    assert_eq!(canaries.found_in(&redis), [""; 0], "Redis");
}
