//! What gateways share.

use countersign_cache::key_set_cache::{Document, EmbeddedKeySetCache, FetchTurn, Slot};
use countersign_jose::hash::sha256;
use tokio::time::Instant;

use super::*;
use crate::discovery::KeysUnavailable;

fn shared() -> Arc<EmbeddedKeySetCache> {
    Arc::new(EmbeddedKeySetCache::default())
}

fn gateway(issuer: &Arc<Issuer>, shared: &Arc<EmbeddedKeySetCache>, seed: u64) -> Discovery {
    let shared: Arc<dyn KeySetCache> = Arc::clone(shared) as Arc<dyn KeySetCache>;
    discovery(issuer, Some(shared), seed)
}

#[tokio::test(start_paused = true)]
async fn a_hundred_gateways_ask_an_issuer_once() {
    let issuer = Issuer::with_keys(&["a"]);
    issuer.answers(Answer::Late(Duration::from_millis(300)));
    let shared = shared();
    let gateways: Vec<Discovery> = (0..100).map(|seed| gateway(&issuer, &shared, seed)).collect();
    let answers = futures::future::join_all(gateways.iter().map(held)).await;
    assert!(answers.iter().all(|key_ids| key_ids == &["a"]));
    assert_eq!(issuer.asked(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_starts_while_the_issuer_is_down() {
    let issuer = Issuer::with_keys(&["a"]);
    let shared = shared();
    held(&gateway(&issuer, &shared, 1)).await;
    issuer.answers(Answer::Fails);
    pass(Duration::from_secs(100)).await;
    assert_eq!(held(&gateway(&issuer, &shared, 2)).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn s45_a_gateway_that_starts_while_the_issuer_is_down_uses_what_others_read_and_no_longer_than_they() {
    let issuer = Issuer::with_keys(&["a"]);
    let shared = shared();
    held(&gateway(&issuer, &shared, 1)).await;
    issuer.answers(Answer::Fails);
    // Long past its lifetime of five minutes.
    pass(Duration::from_mins(50)).await;
    let started = gateway(&issuer, &shared, 2);
    assert_eq!(held(&started).await, ["a"]);
    assert!(issuer.asked().1 > 1, "the issuer goes first");
    pass(Duration::from_mins(10)).await;
    assert_eq!(started.key_set(&source()).await.unwrap_err(), KeysUnavailable);
    assert_eq!(gateway(&issuer, &shared, 3).key_set(&source()).await.unwrap_err(), KeysUnavailable);
    let patient = source().with_max_stale_age(Duration::from_hours(2));
    assert_eq!(key_ids(&gateway(&issuer, &shared, 4).key_set(&patient).await.unwrap()), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_set_from_the_second_level_keeps_its_age() {
    let issuer = Issuer::with_keys(&["a"]);
    let shared = shared();
    held(&gateway(&issuer, &shared, 1)).await;
    pass(Duration::from_secs(200)).await;
    let two = gateway(&issuer, &shared, 2);
    held(&two).await;
    assert_eq!(issuer.asked(), (1, 1));
    issuer.publish(&["b"]);
    pass(Duration::from_secs(100)).await;
    assert_eq!(held(&two).await, ["b"], "five minutes after the first gateway fetched it the set is stale");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_took_the_turn_and_died_holds_nobody_up_for_long() {
    let issuer = Issuer::with_keys(&["a"]);
    let shared = shared();
    let gateway = gateway(&issuer, &shared, 1);
    let rules = DiscoverySettings::default().digest();
    let slot = Slot::from_hash(sha256(&[b"key set", &rules, source().digest()]));
    assert_eq!(shared.take_turn(&slot, [9; 16], Duration::from_secs(10)).await, FetchTurn::Ours);
    let start = Instant::now();
    assert_eq!(held(&gateway).await, ["a"]);
    assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn s46_nonsense_in_the_second_level_is_a_miss() {
    let issuer = Issuer::with_keys(&["a"]);
    let shared = shared();
    let rules = DiscoverySettings::default().digest();
    for role in [&b"key set"[..], b"discovery document"] {
        let slot = Slot::from_hash(sha256(&[role, &rules, source().digest()]));
        shared.put(&slot, &Document { bytes: b"nonsense".to_vec(), lifetime: LIFETIME }, LIFETIME).await;
    }
    assert_eq!(held(&gateway(&issuer, &shared, 1)).await, ["a"]);
    assert_eq!(issuer.asked(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn s34_gateways_with_other_address_rules_share_nothing() {
    let issuer = Issuer::with_keys(&["a"]);
    let shared = shared();
    held(&gateway(&issuer, &shared, 1)).await;
    let mut settings = DiscoverySettings::default();
    settings.address_rules.allowed_networks.push("10.0.0.0/8".parse().unwrap());
    let fetcher: Arc<dyn Fetch> = Arc::clone(&issuer) as Arc<dyn Fetch>;
    let second_level: Arc<dyn KeySetCache> = shared;
    let other = Discovery::with_fetcher(fetcher, &settings, Some(second_level), Arc::new(SeededEntropy::new(2)));
    held(&other).await;
    assert_eq!(issuer.asked(), (2, 2));
}
