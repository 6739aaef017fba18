//! How the keys of trusted issuers fare.

use countersign_domain::trust::issuer_health::{HeldKeys, IssuerProblem};

use super::*;

on_every_database! {
    the_latest_attempt_and_the_latest_success_count
    what_is_said_of_others_is_dropped
    other_keys_make_a_new_beginning
}

fn report(issuer: &TrustedIssuer, second: u64, problem: Option<IssuerProblem>, success: Option<u64>) -> IssuerHealthReport {
    IssuerHealthReport {
        workspace_id: issuer.workspace_id.clone(),
        trusted_issuer_id: issuer.id.clone(),
        revision: issuer.revision,
        health: IssuerHealth {
            attempted_at: later(second),
            succeeded_at: success.map(later),
            problem,
            is_internal: problem.is_some(),
            keys: HeldKeys { usable: 1, key_ids: vec![format!("key-{second}").parse().unwrap()], ..HeldKeys::default() },
        },
    }
}

const DOWN: Option<IssuerProblem> = Some(IssuerProblem::DiscoveryStatus { status: 503 });

async fn the_latest_attempt_and_the_latest_success_count(replicas: Replicas) {
    let Replicas { one, other, .. } = &replicas;
    let Tenant { workspace, issuer, .. } = replicas.tenant().await;
    let health = async || other.issuer_health(&workspace.id, &issuer.id).await.unwrap();
    assert_eq!(health().await, None);
    let first = report(&issuer, 10, DOWN, None);
    one.record_issuer_health(std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(health().await, Some(first.health.clone()));
    // One that comes late takes nothing back, but knows of a success.
    other.record_issuer_health(&[report(&issuer, 5, None, Some(5))]).await.unwrap();
    assert_eq!(health().await, Some(IssuerHealth { succeeded_at: Some(later(5)), ..first.health }));
    // Of several in one call the latest.
    let latest = report(&issuer, 30, None, Some(30));
    other
        .record_issuer_health(&[report(&issuer, 20, DOWN, Some(5)), latest.clone(), report(&issuer, 25, DOWN, None)])
        .await
        .unwrap();
    assert_eq!(health().await, Some(latest.health.clone()));
    one.record_issuer_health(&[report(&issuer, 40, DOWN, None)]).await.unwrap();
    assert_eq!(health().await.unwrap().succeeded_at, Some(later(30)));
    one.record_issuer_health(&[]).await.unwrap();
}

async fn what_is_said_of_others_is_dropped(replicas: Replicas) {
    let Replicas { one, .. } = &replicas;
    let Tenant { workspace, issuer, .. } = replicas.tenant().await;
    let other = replicas.workspace().await;
    let fine = report(&issuer, 10, None, Some(10));
    let gone = IssuerHealthReport { trusted_issuer_id: TrustedIssuerId::from_random([0; 16]), ..fine.clone() };
    let elsewhere = IssuerHealthReport { workspace_id: other.id.clone(), ..report(&issuer, 20, DOWN, None) };
    let outdated = IssuerHealthReport { revision: 0, ..report(&issuer, 30, DOWN, None) };
    one.record_issuer_health(&[gone, elsewhere]).await.unwrap();
    one.record_issuer_health(&[outdated]).await.unwrap();
    assert_eq!(one.issuer_health(&workspace.id, &issuer.id).await.unwrap(), None);
    one.record_issuer_health(std::slice::from_ref(&fine)).await.unwrap();
    assert_eq!(one.issuer_health(&workspace.id, &issuer.id).await.unwrap(), Some(fine.health));
    assert_eq!(one.issuer_health(&other.id, &issuer.id).await.unwrap(), None, "another workspace sees it");
}

async fn other_keys_make_a_new_beginning(replicas: Replicas) {
    let Replicas { one, .. } = &replicas;
    let workspace = replicas.workspace().await;
    let issuer = replicas.issuer(&workspace.id, "https://issuer.example").await;
    let health = async || one.issuer_health(&workspace.id, &issuer.id).await.unwrap();
    one.record_issuer_health(&[report(&issuer, 10, DOWN, None)]).await.unwrap();
    // A new name is no reason to forget.
    let renamed = TrustedIssuerSettings { display_name: Some("CI".parse().unwrap()), ..issuer.settings.clone() };
    one.update_trusted_issuer(&workspace.id, &issuer.id, 1, renamed.clone(), &anything, now()).await.unwrap();
    assert!(health().await.is_some());
    let key_source = KeySource::Uploaded { key_set: "{}".parse().unwrap(), not_after: later(100) };
    let uploaded = TrustedIssuerSettings { key_source, ..renamed };
    let updated = one.update_trusted_issuer(&workspace.id, &issuer.id, 2, uploaded, &anything, now()).await.unwrap();
    assert_eq!(health().await, None);
    // It goes with the issuer.
    one.record_issuer_health(&[report(&updated, 20, None, Some(20))]).await.unwrap();
    assert!(health().await.is_some());
    one.delete_trusted_issuer(&workspace.id, &issuer.id, 3, now()).await.unwrap();
    assert_eq!(health().await, None);
}
