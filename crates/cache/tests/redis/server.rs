//! What the replay cache on one Redis server does when that fails.

use countersign_cache::redis_link::FAILURES_TO_OPEN;
use countersign_cache::replay::{RedisReplayCache, ReplayCache as _, ReplayClaim};
use countersign_testkit::identity_provider::IdentityProvider;
use countersign_testkit::redis::Redis;
use countersign_testkit::wait;
use futures::future::join_all;

use crate::support::{
    HOUR, assert_free_of_charge, assert_left_to_the_commit_point, cache_at, connected_cache, connected_link, key, name, nonce,
    timed_claim, used_again,
};

/// A token that no test uses for anything but to see whether Redis answers.
const PROBED: u16 = u16::MAX;

#[tokio::test]
async fn s51_redis_that_was_never_started_costs_nothing() {
    let cache = cache_at(&Redis::never_started());
    assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    assert_free_of_charge(&cache, &[1]).await;
}

#[tokio::test]
async fn s47_a_redis_with_a_certificate_of_an_unknown_authority_is_not_talked_to() {
    let stranger = IdentityProvider::start_tls();
    let cache = cache_at(&format!("rediss://localhost:{}", stranger.address().port()));
    for _ in 0..=FAILURES_TO_OPEN {
        assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    }
    wait::until("the handshake has failed and is tried again", || async { stranger.connections() > 1 }).await;
    assert_free_of_charge(&cache, &[1]).await;
}

#[tokio::test]
async fn s51_an_address_that_does_not_resolve_costs_nothing() {
    let cache = cache_at("redis://redis.invalid");
    assert_left_to_the_commit_point(&cache, &[1]).await;
}

#[tokio::test]
async fn s51_killed_redis_costs_nothing_and_is_used_again_when_it_is_back() {
    let mut server = Redis::start();
    let cache = connected_cache(&server.url()).await;
    assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);

    server.kill();
    assert_left_to_the_commit_point(&cache, &[1]).await;

    server.restart();
    used_again(&cache, PROBED).await;
    // What it knew is gone, which is why the commit point decides.
    assert_eq!(cache.claim(&key(1), nonce(2), HOUR).await, ReplayClaim::Claimed);
}

#[tokio::test]
async fn s51_hung_redis_adds_fifty_milliseconds_to_few_and_nothing_to_the_rest() {
    let server = Redis::start();
    let cache = connected_cache(&server.url()).await;

    server.pause();
    let together = join_all((0..64).map(|n| {
        let cache = cache.clone();
        async move { timed_claim(&cache, &key(n)).await }
    }));
    assert!(together.await.iter().all(|claim| *claim == ReplayClaim::Unknown));
    assert_left_to_the_commit_point(&cache, &[1]).await;

    server.resume();
    used_again(&cache, PROBED).await;
}

#[tokio::test]
async fn s51_a_late_answer_is_never_taken_for_another_claims() {
    let server = Redis::start();
    let cache = connected_cache(&server.url()).await;
    assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);

    for round in 0..5 {
        server.pause();
        // The answer to this one, that the claim was made, comes when others are waiting for theirs.
        assert_eq!(cache.claim(&key(100 + round), nonce(1), HOUR).await, ReplayClaim::Unknown);
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let cache = cache.clone();
                tokio::spawn(async move { cache.claim(&key(1), nonce(2), HOUR).await })
            })
            .collect();
        tokio::task::yield_now().await;
        server.resume();
        assert!(join_all(waiting).await.into_iter().all(|claim| claim.unwrap() != ReplayClaim::Claimed));
        used_again(&cache, PROBED).await;
        assert_eq!(cache.claim(&key(1), nonce(3), HOUR).await, ReplayClaim::Duplicate);
    }
}

#[tokio::test]
async fn s51_a_release_that_redis_was_too_hung_for_is_made_up_for() {
    let server = Redis::start();
    let cache = connected_cache(&server.url()).await;

    assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);
    server.pause();
    assert_eq!(cache.claim(&key(2), nonce(1), HOUR).await, ReplayClaim::Unknown);
    cache.release(&key(1), nonce(1)).await;
    cache.release(&key(2), nonce(1)).await;
    server.resume();

    for number in [1, 2] {
        wait::until("an honest retry is let through", || async {
            cache.claim(&key(number), nonce(9), HOUR).await == ReplayClaim::Claimed
        })
        .await;
    }
}

#[tokio::test]
async fn s49_flushed_redis_forgets_and_goes_on() {
    let server = Redis::start();
    let cache = connected_cache(&server.url()).await;
    assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);
    server.flush();
    assert_eq!(cache.claim(&key(1), nonce(2), HOUR).await, ReplayClaim::Claimed);
    // The first claim is gone; its release must not take the second.
    cache.release(&key(1), nonce(1)).await;
    assert_eq!(cache.claim(&key(1), nonce(3), HOUR).await, ReplayClaim::Duplicate);
}

#[tokio::test]
async fn s51_full_redis_leaves_the_decision_to_the_commit_point() {
    let server = Redis::start_with(&["--maxmemory-policy", "noeviction"]);
    let cache = connected_cache(&server.url()).await;
    server.command("CONFIG SET maxmemory 1");
    assert_left_to_the_commit_point(&cache, &[1]).await;
    server.command("CONFIG SET maxmemory 0");
    used_again(&cache, PROBED).await;
}

#[tokio::test]
async fn s49_a_redis_that_evicts_claims_goes_on() {
    let server = Redis::start_with(&["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"]);
    let cache = connected_cache(&server.url()).await;
    assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);
    let evicted = (1_000..60_000).find(|chunk: &u16| {
        server.command(&format!("SET filling:{chunk} {}", "x".repeat(10_000)));
        server.command(&format!("EXISTS {}", name(1))) == ":0"
    });
    assert!(evicted.is_some(), "nothing was evicted");
    // The second claim is made as if it were the first, which is why the commit point decides.
    assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Claimed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s51_a_redis_that_is_loading_leaves_the_decision_to_the_commit_point() {
    let options = ["--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024"];
    let server = Redis::start_with(&options);
    let cache = connected_cache(&server.url()).await;
    server.command("DEBUG POPULATE 10000");
    server.command("CONFIG SET key-load-delay 2000");
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| server.command("DEBUG RELOAD"));
        wait::blocking("the server is loading", wait::DEADLINE, || server.command("GET mark").starts_with("-LOADING"));
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(assert_left_to_the_commit_point(&cache, &[1]));
        });
        server.command("CONFIG SET key-load-delay 0");
        assert_eq!(reload.join().unwrap(), "+OK");
    });
    used_again(&cache, PROBED).await;
}

#[tokio::test]
async fn s51_a_redis_that_has_become_a_replica_leaves_the_decision_to_the_commit_point() {
    let server = Redis::start();
    let cache = connected_cache(&server.url()).await;
    server.command("REPLICAOF 127.0.0.1 1");
    assert_left_to_the_commit_point(&cache, &[1]).await;
    server.command("REPLICAOF NO ONE");
    used_again(&cache, PROBED).await;
}

#[tokio::test]
async fn s51_a_command_that_always_fails_opens_the_breaker_too() {
    let server = Redis::start();
    let cache = connected_cache(&server.url()).await;
    // The probe may still write; claims may not.
    server.command("ACL SETUSER default resetkeys ~countersign:probe");
    for _ in 0..=FAILURES_TO_OPEN {
        assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    }
    server.command("ACL SETUSER default allkeys");
    used_again(&cache, PROBED).await;
}

#[tokio::test]
async fn s49_two_gateways_share_their_claims() {
    let server = Redis::start();
    let (one, two) = (connected_cache(&server.url()).await, connected_cache(&server.url()).await);
    assert_eq!(one.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);
    assert_eq!(two.claim(&key(1), nonce(2), HOUR).await, ReplayClaim::Duplicate);
}

#[tokio::test]
async fn s48_redis_sees_a_hash_and_a_nonce_that_ends_with_the_token() {
    let server = Redis::start();
    let cache = connected_cache(&server.url()).await;
    server.flush();
    cache.claim(&key(1), nonce(1), HOUR).await;
    assert_eq!(server.key_count(), 1);
    let name = "countersign:replay:AAGrq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s";
    assert_eq!(server.command(&format!("STRLEN {name}")), ":16");
    let left: u64 = server.command(&format!("PTTL {name}")).trim_start_matches(':').parse().unwrap();
    assert!((3_590_000..=3_600_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_link_connects_before_it_is_needed_and_says_when_it_is_gone() {
    let mut server = Redis::start();
    let link = connected_link(&server.url()).await;
    let cache = RedisReplayCache::new(link.clone());
    server.kill();
    assert_left_to_the_commit_point(&cache, &[1]).await;
    assert!(!link.is_connected() && !cache.is_connected());
    server.restart();
    wait::until("redis is back", || async { link.is_connected() }).await;
}
