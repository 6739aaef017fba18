//! What an issuer that fails, lies or stalls does to a set.

use tokio::time::Instant;

use super::*;
use crate::discovery::KeysUnavailable;

#[tokio::test(start_paused = true)]
async fn s42_every_cause_is_one_error() {
    for answer in [
        Answer::Fails,
        Answer::Late(Duration::from_mins(1)),
        Answer::Body(b"<html>".to_vec()),
        Answer::Body(br#"{"keys":{}}"#.to_vec()),
        Answer::Body(vec![b' '; 200_000]),
        Answer::Panics,
    ] {
        let issuer = Issuer::with_keys(&["a"]);
        issuer.answers(answer.clone());
        let discovery = alone(&issuer);
        let error = discovery.key_set(&source()).await.unwrap_err();
        assert_eq!(error, KeysUnavailable);
        assert_eq!(error.to_string(), "the issuer's keys are unavailable", "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s41_an_issuer_that_stalls_costs_the_first_caller_five_seconds_in_all() {
    let issuer = Issuer::with_keys(&["a"]);
    issuer.answers(Answer::Late(Duration::from_secs(4)));
    let discovery = alone(&issuer);
    let start = Instant::now();
    // Four seconds for the document and four for the keys is more than five.
    discovery.key_set(&source()).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(issuer.asked(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn s37_an_issuer_that_fails_is_left_alone_for_longer_and_longer() {
    let issuer = Issuer::with_keys(&["a"]);
    issuer.answers(Answer::Fails);
    let discovery = alone(&issuer);
    let mut asked_at = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_mins(30) {
        let before = issuer.asked().0;
        discovery.key_set(&source()).await.unwrap_err();
        if issuer.asked().0 > before {
            asked_at.push(start.elapsed());
        }
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    let pauses: Vec<Duration> = asked_at.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    for (index, pause) in pauses.iter().enumerate() {
        let full = Duration::from_secs(1 << index.min(9)).min(Duration::from_mins(5));
        let slack = Duration::from_millis(100);
        assert!((full * 3 / 4..=full + slack).contains(pause), "pause {index} is {pause:?}");
    }
    assert!(pauses.len() >= 10, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn s37_success_ends_the_back_off() {
    let issuer = Issuer::with_keys(&["a"]);
    issuer.answers(Answer::Fails);
    let discovery = alone(&issuer);
    for _ in 0..5 {
        discovery.key_set(&source()).await.unwrap_err();
        pass(Duration::from_secs(20)).await;
    }
    issuer.answers(Answer::Honest);
    assert_eq!(held(&discovery).await, ["a"]);
    issuer.answers(Answer::Fails);
    pass(LIFETIME).await;
    held(&discovery).await;
    assert_eq!(issuer.asked(), (6, 2));
    pass(Duration::from_secs(1)).await;
    held(&discovery).await;
    settle().await;
    assert_eq!(issuer.asked(), (7, 2), "a first failure pauses for one second");
}

#[tokio::test(start_paused = true)]
async fn s44_the_last_good_set_is_kept() {
    for answer in [
        Answer::Fails,
        Answer::Body(b"<html>".to_vec()),
        Answer::Body(br#"{"keys":"#.to_vec()),
        Answer::Body(b"[]".to_vec()),
        Answer::Body(br#"{"keys":[],"keys":[]}"#.to_vec()),
        Answer::Panics,
    ] {
        let issuer = Issuer::with_keys(&["a"]);
        let discovery = alone(&issuer);
        held(&discovery).await;
        issuer.answers(answer.clone());
        for _ in 0..11 {
            pass(LIFETIME).await;
            assert_eq!(held(&discovery).await, ["a"], "{answer:?}");
        }
        assert!(issuer.asked().1 > 1, "the issuer was asked again");
    }
}

#[tokio::test(start_paused = true)]
async fn s44_a_well_formed_set_counts_even_an_empty_one() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    issuer.publish(&[]);
    pass(LIFETIME).await;
    assert!(held(&discovery).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn s45_past_the_hard_age_there_are_no_keys() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    issuer.answers(Answer::Fails);
    pass(Duration::from_secs(3_599)).await;
    assert_eq!(held(&discovery).await, ["a"]);
    pass(Duration::from_secs(1)).await;
    assert_eq!(discovery.key_set(&source()).await.unwrap_err(), KeysUnavailable);
    assert_eq!(discovery.refresh_for_unknown_key(&source(), Some("b")).await.unwrap_err(), KeysUnavailable);
}

#[tokio::test(start_paused = true)]
async fn an_old_set_costs_callers_a_second_once_and_nothing_while_the_issuer_fails() {
    let issuer = Issuer::with_keys(&["a"]);
    let discovery = alone(&issuer);
    held(&discovery).await;
    issuer.answers(Answer::Late(Duration::from_mins(1)));
    pass(LIFETIME).await;
    let start = Instant::now();
    assert_eq!(held(&discovery).await, ["a"]);
    assert_eq!(start.elapsed(), Duration::from_secs(1));

    // The refresh runs into its limit.
    pass(Duration::from_secs(5)).await;
    for _ in 0..100 {
        let start = Instant::now();
        assert_eq!(held(&discovery).await, ["a"]);
        assert_eq!(start.elapsed(), Duration::ZERO);
        pass(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s72_an_issuer_that_stalls_does_not_slow_another() {
    let stalling = Issuer::with_keys(&["a"]);
    let discovery = alone(&stalling);
    let other = KeySetSource::new(IssuerUrl::parse("https://other.example", LoopbackHttp::Refused).unwrap(), None);
    let pinned = pinned_source("https://elsewhere.example/keys");
    discovery.key_set(&pinned).await.unwrap();
    stalling.answers(Answer::Late(Duration::from_mins(1)));
    let stalled = {
        let discovery = discovery.clone();
        tokio::spawn(async move { discovery.key_set(&other).await })
    };
    settle().await;
    let start = Instant::now();
    discovery.key_set(&pinned).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(stalled.await.unwrap().is_err());
}
