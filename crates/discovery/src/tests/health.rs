//! What operators are shown of a source.

use countersign_domain::trust::issuer_health::IssuerProblem;
use tokio::time::Instant;

use super::*;
use crate::examine::NotExamined;

/// One key more than a set may have. None of them is usable, nor the same as another.
fn too_many_keys() -> Vec<u8> {
    let keys: Vec<String> = (0..65).map(|id| format!(r#"{{"kid":"{id}"}}"#)).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(",")).into_bytes()
}

#[tokio::test(start_paused = true)]
async fn health_tells_the_last_attempt_the_last_success_and_the_keys() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    assert!(discovery.health(&source()).is_none(), "nobody asked");
    let first = Instant::now();
    held(&discovery).await;
    let health = discovery.health(&source()).unwrap();
    assert_eq!((health.attempted_at, health.succeeded_at, health.problem), (first, Some(first), None));
    assert_eq!(key_ids(&health.key_set.unwrap()), ["a"]);

    issuer.answers(Answer::Fails);
    pass(Duration::from_mins(10)).await;
    let second = Instant::now();
    held(&discovery).await;
    settle().await;
    let health = discovery.health(&source()).unwrap();
    assert_eq!((health.attempted_at, health.succeeded_at), (second, Some(first)));
    assert_eq!(health.problem, Some(IssuerProblem::KeySetStatus { status: 503 }));
    assert_eq!(key_ids(&health.key_set.unwrap()), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn every_failure_has_a_name_for_operators() {
    for (answer, expected) in [
        (Answer::Late(Duration::from_mins(1)), IssuerProblem::Unreachable),
        (Answer::Body(b"<html>".to_vec()), IssuerProblem::KeySetInvalid),
        (Answer::Body(br#"{"keys":{}}"#.to_vec()), IssuerProblem::KeySetWithoutKeys),
        (Answer::Body(br#"[{"kty":"RSA"}]"#.to_vec()), IssuerProblem::KeySetInvalid),
        (Answer::Body(br#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_vec()), IssuerProblem::KeySetSingleKey),
        (Answer::Body(too_many_keys()), IssuerProblem::KeySetTooManyKeys),
        (Answer::Fails, IssuerProblem::DiscoveryStatus { status: 503 }),
    ] {
        let issuer = Issuer::with_keys(&["a"]);
        issuer.answers(answer.clone());
        let discovery = alone(&issuer);
        discovery.key_set(&source()).await.unwrap_err();
        settle().await;
        assert_eq!(discovery.health(&source()).unwrap().problem, Some(expected), "{answer:?}");
        assert_eq!(discovery.examine(&source()).await.unwrap().keys.unwrap_err(), expected, "{answer:?}");
        assert!(!discovery.health(&source()).unwrap().is_internal, "{answer:?}");
    }
    for (url, expected) in [
        ("https://elsewhere.example/keys", IssuerProblem::JwksUriElsewhere),
        ("http://issuer.example/keys", IssuerProblem::JwksUriInvalid),
    ] {
        let issuer = Issuer::with_keys(&["a"]);
        *issuer.key_set_url.lock().unwrap() = (url.to_owned(), url.to_owned());
        assert_eq!(alone(&issuer).examine(&source()).await.unwrap().keys.unwrap_err(), expected, "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn s42_a_failure_of_a_host_that_is_not_known_to_be_public_is_marked() {
    for answer in [Answer::Late(Duration::from_mins(1)), Answer::Body(b"<html>".to_vec()), Answer::Fails] {
        let issuer = Issuer::with_keys(&["a"]);
        issuer.is_public.store(false, Ordering::SeqCst);
        issuer.answers(answer.clone());
        let discovery = alone(&issuer);
        discovery.key_set(&source()).await.unwrap_err();
        settle().await;
        assert!(discovery.health(&source()).unwrap().is_internal, "{answer:?}");
        let examination = discovery.examine(&source()).await.unwrap();
        assert!(examination.is_internal && examination.elapsed <= Discovery::EXAMINATION_LIMIT, "{answer:?}");
    }
    let issuer = Issuer::with_keys(&["a"]);
    issuer.is_public.store(false, Ordering::SeqCst);
    assert!(!alone(&issuer).examine(&source()).await.unwrap().is_internal, "nothing failed");
}

#[tokio::test(start_paused = true)]
async fn an_examination_asks_past_every_cache_and_changes_nothing_that_is_held() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    issuer.publish(&["b"]);
    let seen = discovery.examine(&source()).await.unwrap();
    assert_eq!(seen.key_set_url.unwrap().as_str(), KEYS);
    let (key_set, lifetime) = seen.keys.unwrap();
    assert_eq!((key_ids(&key_set), lifetime), (vec!["b".to_owned()], LIFETIME));
    assert_eq!((issuer.asked(), issuer.past_stores.load(Ordering::SeqCst)), ((2, 2), 2));
    assert_eq!(held(&discovery).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn s36_an_issuer_is_examined_once_in_ten_seconds_and_another_meanwhile() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    discovery.examine(&source()).await.unwrap();
    pass(Duration::from_secs(4)).await;
    let refused = discovery.examine(&source()).await.unwrap_err();
    assert_eq!(refused, NotExamined::TooSoon { after: Duration::from_secs(6) });
    assert_eq!(issuer.asked(), (1, 1));
    discovery.examine(&pinned_source(KEYS)).await.unwrap();
    pass(Duration::from_secs(6)).await;
    discovery.examine(&source()).await.unwrap();
}
