//! Tokens that name keys which the set lacks.

use countersign_cache::key_set_cache::EmbeddedKeySetCache;
use futures::future::join_all;
use tokio::time::Instant;

use super::*;

async fn refreshed(discovery: &Discovery, key_id: &str) -> Vec<String> {
    key_ids(&discovery.refresh_for_unknown_key(&source(), Some(key_id)).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_at_once_and_past_any_store() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    issuer.publish(&["a", "b"]);
    assert_eq!(refreshed(&discovery, "b").await, ["a", "b"]);
    assert_eq!(issuer.past_stores.load(Ordering::SeqCst), 1);
    assert_eq!(refreshed(&discovery, "b").await, ["a", "b"]);
    assert_eq!(issuer.asked(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn s36_ten_thousand_random_kids_cause_one_fetch_in_30_seconds_across_two_gateways() {
    let issuer = Issuer::with_keys(&["a"]);
    let shared: Arc<dyn KeySetCache> = Arc::new(EmbeddedKeySetCache::default());
    let gateways = [discovery(&issuer, Some(Arc::clone(&shared)), 1), discovery(&issuer, Some(shared), 2)];
    for gateway in &gateways {
        held(gateway).await;
    }
    assert_eq!(issuer.asked(), (1, 1));

    let start = Instant::now();
    for n in 0..10_000 {
        let gateway = &gateways[n % 2];
        assert_eq!(refreshed(gateway, &format!("random-{n}")).await, ["a"]);
        // Good traffic never waits.
        let before = Instant::now();
        assert_eq!(held(gateway).await, ["a"]);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
    // One gateway asked; the other looked for its answer for at most a second.
    assert!(start.elapsed() <= Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(issuer.asked(), (1, 2));

    for n in 0.. {
        pass(Duration::from_secs(1)).await;
        if start.elapsed() >= Duration::from_secs(29) {
            break;
        }
        refreshed(&gateways[n % 2], &format!("later-{n}")).await;
    }
    assert_eq!(issuer.asked(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn s36_a_gateway_finds_the_key_that_another_gateway_fetched() {
    let issuer = Issuer::with_keys(&["a"]);
    let shared: Arc<dyn KeySetCache> = Arc::new(EmbeddedKeySetCache::default());
    let (one, two) = (discovery(&issuer, Some(Arc::clone(&shared)), 1), discovery(&issuer, Some(shared), 2));
    held(&one).await;
    held(&two).await;
    issuer.publish(&["a", "b"]);
    pass(Duration::from_secs(10)).await;
    assert_eq!(refreshed(&one, "b").await, ["a", "b"]);
    assert_eq!(refreshed(&two, "b").await, ["a", "b"]);
    assert_eq!(issuer.asked(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn s36_the_issuer_is_asked_again_after_30_seconds() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    assert_eq!(refreshed(&discovery, "b").await, ["a"]);
    issuer.publish(&["b"]);
    pass(Duration::from_secs(29)).await;
    assert_eq!(refreshed(&discovery, "b").await, ["a"]);
    pass(Duration::from_secs(1)).await;
    assert_eq!(refreshed(&discovery, "b").await, ["b"]);
    assert_eq!(issuer.asked(), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn waiters_share_the_fetch_and_wait_a_second_at_most() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    issuer.publish(&["b"]);
    issuer.answers(Answer::Late(Duration::from_millis(1_500)));
    let start = Instant::now();
    let waiters = join_all((0..100).map(|_| refreshed(&discovery, "b"))).await;
    assert!(waiters.iter().all(|key_ids| key_ids == &["a"]));
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    pass(Duration::from_millis(500)).await;
    assert_eq!(refreshed(&discovery, "b").await, ["b"]);
    assert_eq!(issuer.asked(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn s37_unknown_keys_do_not_get_around_the_back_off() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    issuer.answers(Answer::Fails);
    pass(Duration::from_mins(30)).await;
    for _ in 0..20 {
        held(&discovery).await;
        settle().await;
        pass(Duration::from_secs(10)).await;
    }
    let before = issuer.asked();
    for n in 0..100 {
        refreshed(&discovery, &n.to_string()).await;
    }
    assert_eq!(issuer.asked(), before);
}

#[tokio::test(start_paused = true)]
async fn a_token_without_kid_may_ask_too() {
    let issuer = Issuer::with_keys(&[]);
    let discovery = alone(&issuer);
    assert!(held(&discovery).await.is_empty());
    issuer.publish(&["a"]);
    assert_eq!(key_ids(&discovery.refresh_for_unknown_key(&source(), None).await.unwrap()), ["a"]);
    for _ in 0..100 {
        discovery.refresh_for_unknown_key(&source(), None).await.unwrap();
    }
    assert_eq!(issuer.asked(), (1, 2));
}
