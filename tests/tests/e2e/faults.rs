//! What a deployment does while a part of it is missing (SECURITY, "Faults and what is expected").

use std::time::{Duration, Instant};

use countersign_testkit::wait;
use countersign_tests::deployment::{Deployment, Instance};
use countersign_tests::http1;
use countersign_tests::token_endpoint::{document, exchange};

use crate::deployments::Scene;
use crate::verify;

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_nothing_is_released_and_keys_are_still_served() {
    let deployment = Deployment::start_with_own_postgres();
    let scene = Scene::in_deployment(&deployment).await;
    let gateway = deployment.url(Instance::Gateway);
    let public_url = deployment.public_url();
    let access_token = exchange(&gateway, &scene.token(), &[]).await.access_token();
    let issuer = scene.operator.create_rwx_issuer(&scene.trust.workspace_id, &["ES256"]).await;
    document(&format!("{}/.well-known/jwks.json", issuer.issuer_url)).await;

    deployment.postgres().kill();
    let token = scene.token();
    let asked = Instant::now();
    let refused = exchange(&gateway, &token, &[]).await;
    assert_eq!((refused.status, refused.reason()), (503, Some("TEMPORARILY_UNAVAILABLE")), "{}", refused.body);
    assert!(asked.elapsed() < Duration::from_secs(5), "refused after {:?}", asked.elapsed());
    verify::access_token(&access_token, &public_url, &public_url).await;
    document(&format!("{}/.well-known/jwks.json", issuer.issuer_url)).await;

    deployment.postgres().restart();
    wait::until("exchanges work again", || async { exchange(&gateway, &scene.token(), &[]).await.status == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s51_a_token_whose_audit_event_could_not_be_written_stays_unused() {
    let deployment = Deployment::start_with_own_postgres();
    let scene = Scene::in_deployment(&deployment).await;
    let gateway = deployment.url(Instance::Gateway);
    let events = "countersign_trust.audit_events";
    deployment.sql("CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$");
    // The insert itself fails, or the COMMIT that checks it.
    for trigger in [
        format!("CREATE TRIGGER broken BEFORE INSERT ON {events} FOR EACH ROW EXECUTE FUNCTION broken()"),
        format!(
            "CREATE CONSTRAINT TRIGGER broken AFTER INSERT ON {events} DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION broken()"
        ),
    ] {
        deployment.sql(&trigger);
        let token = scene.token();
        for _ in 0..2 {
            let refused = exchange(&gateway, &token, &[]).await;
            assert_eq!((refused.status, refused.reason()), (503, Some("TEMPORARILY_UNAVAILABLE")), "{}", refused.body);
        }
        deployment.sql(&format!("DROP TRIGGER broken ON {events}"));
        exchange(&gateway, &token, &[]).await.access_token();
        let again = exchange(&gateway, &token, &[]).await;
        assert_eq!(again.reason(), Some("SUBJECT_TOKEN_REPLAYED"), "{}", again.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_start_before_their_database_become_ready_when_it_comes() {
    let deployment = Deployment::start_with_own_postgres();
    for instance in [Instance::TrustService, Instance::IssuerService] {
        deployment.terminate(instance);
        deployment.wait_for_end(instance);
    }
    deployment.postgres().kill();
    deployment.launch(Instance::TrustService);
    deployment.launch(Instance::IssuerService);
    for instance in [Instance::TrustService, Instance::IssuerService] {
        let waits = || deployment.log(instance).contains("the database is not there yet");
        wait::blocking("the service waits for its database", Duration::from_secs(30), waits);
        let answer = http1::get(deployment.private_port(instance), "/readyz");
        assert!(answer.is_none_or(|answer| answer.status != 200), "{instance} is ready without its database");
    }
    deployment.postgres().restart();
    for instance in Instance::ALL {
        deployment.wait_until_ready(instance);
    }
    let scene = Scene::in_deployment(&deployment).await;
    let gateway = deployment.url(Instance::Gateway);
    wait::until("exchanges work again", || async { exchange(&gateway, &scene.token(), &[]).await.status == 200 }).await;
}
