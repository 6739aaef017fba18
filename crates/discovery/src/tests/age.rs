//! What age does to a set.

use futures::future::join_all;
use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn s36_many_callers_cause_one_fetch() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    issuer.answers(Answer::Late(Duration::from_millis(500)));
    let source = source();
    // As many as are let wait for one source.
    let answers = join_all((0..128).map(|_| discovery.key_set(&source))).await;
    assert!(answers.iter().all(|answer| key_ids(answer.as_ref().unwrap()) == ["a"]));
    assert_eq!(issuer.asked(), (1, 1));
    for _ in 0..1_000 {
        held(&discovery).await;
    }
    assert_eq!(issuer.asked(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_runs_behind_the_callers_back() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    issuer.publish(&["b"]);
    issuer.answers(Answer::Late(Duration::from_secs(2)));

    // 70 % of five minutes, less a second.
    pass(Duration::from_secs(209)).await;
    assert_eq!(held(&discovery).await, ["a"]);
    assert_eq!(issuer.asked(), (1, 1), "too early");

    pass(LIFETIME * 2 / 10 + Duration::from_secs(1)).await;
    let start = Instant::now();
    assert_eq!(held(&discovery).await, ["a"]);
    assert_eq!(start.elapsed(), Duration::ZERO, "the caller waited");
    settle().await;
    pass(Duration::from_secs(2)).await;
    assert_eq!(held(&discovery).await, ["b"]);
    assert_eq!(issuer.asked(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn s35_a_removed_key_is_gone_after_the_lifetime_even_if_nobody_asked_meanwhile() {
    let issuer = Issuer::with_keys(&["a", "b"]);
    let discovery = alone(&issuer);
    assert_eq!(held(&discovery).await, ["a", "b"]);
    issuer.publish(&["b"]);
    pass(LIFETIME).await;
    assert_eq!(held(&discovery).await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn s34_sources_that_differ_share_nothing() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    issuer.publish(&["b"]);
    let pinned = pinned_source("https://elsewhere.example/keys");
    assert_eq!(key_ids(&discovery.key_set(&pinned).await.unwrap()), ["b"]);
    assert_eq!(held(&discovery).await, ["a"]);
    assert_ne!(pinned_source(KEYS).digest(), source().digest());
    assert_ne!(pinned_source(KEYS).digest(), pinned.digest());
}

#[tokio::test(start_paused = true)]
async fn s40_a_pinned_key_set_needs_no_discovery_document() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    discovery.key_set(&pinned_source("https://elsewhere.example/keys")).await.unwrap();
    assert_eq!(issuer.asked(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_discovery_document_is_read_once_an_hour() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    for _ in 0..12 {
        held(&discovery).await;
        pass(LIFETIME).await;
    }
    assert_eq!(issuer.asked(), (1, 12));
    held(&discovery).await;
    assert_eq!(issuer.asked(), (2, 13));
}

#[tokio::test(start_paused = true)]
async fn keys_that_moved_are_found_through_the_document() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    let moved = "https://issuer.example/new-keys".to_owned();
    *issuer.key_set_url.lock().unwrap() = (KEYS.to_owned(), moved.clone());
    pass(LIFETIME).await;
    assert_eq!(held(&discovery).await, ["a"]);
    *issuer.key_set_url.lock().unwrap() = (moved.clone(), moved);
    issuer.publish(&["b"]);
    pass(Duration::from_secs(1)).await;
    held(&discovery).await;
    settle().await;
    assert_eq!(held(&discovery).await, ["b"]);
    assert_eq!(issuer.asked(), (2, 3));
}
