//! What every replay cache does, run on Redis and on its embedded twin; and what the one in Redis does when Redis fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_store::redis_link::{COMMAND_LIMIT, FAILURES_TO_OPEN, RedisLink};
use countersign_store::replay::{EmbeddedReplayCache, Nonce, RedisReplayCache, ReplayCache, ReplayClaim, ReplayKey};
use countersign_testkit::identity_provider::IdentityProvider;
use countersign_testkit::redis::Redis;
use countersign_testkit::wait;
use futures::future::join_all;

const HOUR: Duration = Duration::from_hours(1);
/// What a busy test machine may add to a limit.
const SLACK: Duration = Duration::from_millis(200);

fn key(number: u16) -> ReplayKey {
    let mut hash = [0xab; 32];
    hash[..2].copy_from_slice(&number.to_be_bytes());
    ReplayKey::from_hash(hash)
}

fn nonce(number: u16) -> Nonce {
    let mut bits = [0xcd; 16];
    bits[..2].copy_from_slice(&number.to_be_bytes());
    Nonce::from_bits(bits)
}

fn cache_at(url: &str) -> RedisReplayCache {
    RedisReplayCache::new(RedisLink::new(url.parse().unwrap()).unwrap())
}

mod contract {
    use super::*;

    pub(super) async fn s49_of_many_concurrent_claims_one_is_made(cache: Arc<dyn ReplayCache>) {
        let claims = join_all((0..200).map(|n| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.claim(&key(1), nonce(n), HOUR).await })
        }));
        let claims: Vec<ReplayClaim> = claims.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(claims.iter().filter(|claim| **claim == ReplayClaim::Claimed).count(), 1);
        assert!(claims.iter().all(|claim| *claim != ReplayClaim::Unknown), "{claims:?}");
    }

    pub(super) async fn the_same_nonce_claims_once_too(cache: Arc<dyn ReplayCache>) {
        assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);
        assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Duplicate);
    }

    pub(super) async fn tokens_do_not_disturb_each_other(cache: Arc<dyn ReplayCache>) {
        for n in 0..100 {
            assert_eq!(cache.claim(&key(n), nonce(7), HOUR).await, ReplayClaim::Claimed);
        }
        for n in 0..100 {
            assert_eq!(cache.claim(&key(n), nonce(8), HOUR).await, ReplayClaim::Duplicate);
        }
    }

    pub(super) async fn s51_a_claim_is_released_by_its_own_nonce_alone(cache: Arc<dyn ReplayCache>) {
        assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);
        cache.release(&key(1), nonce(2)).await;
        assert_eq!(cache.claim(&key(1), nonce(3), HOUR).await, ReplayClaim::Duplicate);
        cache.release(&key(1), nonce(1)).await;
        assert_eq!(cache.claim(&key(1), nonce(3), HOUR).await, ReplayClaim::Claimed);
    }

    pub(super) async fn s51_a_repeated_release_does_not_take_the_next_claim(cache: Arc<dyn ReplayCache>) {
        cache.claim(&key(1), nonce(1), HOUR).await;
        cache.release(&key(1), nonce(1)).await;
        assert_eq!(cache.claim(&key(1), nonce(2), HOUR).await, ReplayClaim::Claimed);
        cache.release(&key(1), nonce(1)).await;
        assert_eq!(cache.claim(&key(1), nonce(3), HOUR).await, ReplayClaim::Duplicate);
    }

    pub(super) async fn releasing_what_was_never_claimed_does_nothing(cache: Arc<dyn ReplayCache>) {
        cache.release(&key(1), nonce(1)).await;
        assert_eq!(cache.claim(&key(1), nonce(2), HOUR).await, ReplayClaim::Claimed);
    }

    pub(super) async fn s50_a_claim_lasts_as_long_as_asked(cache: Arc<dyn ReplayCache>) {
        let ttl = Duration::from_millis(300);
        let start = Instant::now();
        assert_eq!(cache.claim(&key(1), nonce(1), ttl).await, ReplayClaim::Claimed);
        wait::until("the claim expires", || async { cache.claim(&key(1), nonce(2), HOUR).await == ReplayClaim::Claimed }).await;
        assert!(start.elapsed() >= ttl, "it expired after {:?}", start.elapsed());
    }

    pub(super) async fn the_shortest_and_longest_times_to_live_are_no_trouble(cache: Arc<dyn ReplayCache>) {
        assert_eq!(cache.claim(&key(1), nonce(1), Duration::ZERO).await, ReplayClaim::Claimed);
        assert_eq!(cache.claim(&key(2), nonce(1), Duration::from_hours(24 * 365)).await, ReplayClaim::Claimed);
        assert_eq!(cache.claim(&key(3), nonce(1), Duration::MAX).await, ReplayClaim::Unknown);
    }
}

macro_rules! contract {
    ($($name:ident)*) => {
        mod embedded {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                contract::$name(Arc::new(EmbeddedReplayCache::default())).await;
            })*
        }
        mod redis {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let server = Redis::start();
                let cache = cache_at(&server.url());
                connected(&cache).await;
                contract::$name(Arc::new(cache)).await;
            })*
        }
    };
}

contract! {
    s49_of_many_concurrent_claims_one_is_made
    the_same_nonce_claims_once_too
    tokens_do_not_disturb_each_other
    s51_a_claim_is_released_by_its_own_nonce_alone
    s51_a_repeated_release_does_not_take_the_next_claim
    releasing_what_was_never_claimed_does_nothing
    s50_a_claim_lasts_as_long_as_asked
    the_shortest_and_longest_times_to_live_are_no_trouble
}

/// Waits until Redis answers this cache, with a token that no test uses.
async fn connected(cache: &RedisReplayCache) {
    wait::until("redis answers", || async {
        cache.claim(&key(u16::MAX), nonce(0), Duration::from_millis(1)).await != ReplayClaim::Unknown
    })
    .await;
}

/// Claims once and asserts that it took no longer than a claim may.
async fn timed_claim(cache: &RedisReplayCache, key: &ReplayKey) -> ReplayClaim {
    let start = Instant::now();
    let claim = cache.claim(key, nonce(1), HOUR).await;
    assert!(start.elapsed() < COMMAND_LIMIT + SLACK, "a claim took {:?}", start.elapsed());
    claim
}

/// Asserts that the breaker is open: claims cost nothing.
async fn assert_free_of_charge(cache: &RedisReplayCache) {
    let start = Instant::now();
    for n in 0..1_000 {
        assert_eq!(cache.claim(&key(n), nonce(1), HOUR).await, ReplayClaim::Unknown);
    }
    assert!(start.elapsed() < Duration::from_millis(500), "1000 claims took {:?}", start.elapsed());
}

#[tokio::test]
async fn s51_redis_that_was_never_started_costs_nothing() {
    let cache = cache_at(&Redis::never_started());
    assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    assert_free_of_charge(&cache).await;
}

#[tokio::test]
async fn s47_a_redis_with_a_certificate_of_an_unknown_authority_is_not_talked_to() {
    let stranger = IdentityProvider::start_tls();
    let cache = cache_at(&format!("rediss://localhost:{}", stranger.address().port()));
    for _ in 0..=FAILURES_TO_OPEN {
        assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    }
    wait::until("the handshake has failed and is tried again", || async { stranger.connections() > 1 }).await;
    assert_free_of_charge(&cache).await;
}

#[tokio::test]
async fn s51_an_address_that_does_not_resolve_costs_nothing() {
    let cache = cache_at("redis://redis.invalid");
    for _ in 0..=FAILURES_TO_OPEN {
        assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    }
    assert_free_of_charge(&cache).await;
}

#[tokio::test]
async fn s51_killed_redis_costs_nothing_and_is_used_again_when_it_is_back() {
    let mut server = Redis::start();
    let cache = cache_at(&server.url());
    connected(&cache).await;
    assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);

    server.kill();
    for _ in 0..=FAILURES_TO_OPEN {
        assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    }
    assert_free_of_charge(&cache).await;

    server.restart();
    let start = Instant::now();
    connected(&cache).await;
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    // What it knew is gone, which is why the commit point decides.
    assert_eq!(cache.claim(&key(1), nonce(2), HOUR).await, ReplayClaim::Claimed);
}

#[tokio::test]
async fn s51_hung_redis_adds_fifty_milliseconds_to_few_and_nothing_to_the_rest() {
    let server = Redis::start();
    let cache = cache_at(&server.url());
    connected(&cache).await;

    server.pause();
    let together = join_all((0..64).map(|n| {
        let cache = cache.clone();
        async move { timed_claim(&cache, &key(n)).await }
    }));
    assert!(together.await.iter().all(|claim| *claim == ReplayClaim::Unknown));
    for _ in 0..=FAILURES_TO_OPEN {
        assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    }
    assert_free_of_charge(&cache).await;

    server.resume();
    let start = Instant::now();
    connected(&cache).await;
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
}

#[tokio::test]
async fn s51_a_late_answer_is_never_taken_for_another_claims() {
    let server = Redis::start();
    let cache = cache_at(&server.url());
    connected(&cache).await;
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
        connected(&cache).await;
        assert_eq!(cache.claim(&key(1), nonce(3), HOUR).await, ReplayClaim::Duplicate);
    }
}

#[tokio::test]
async fn s51_a_release_that_redis_was_too_hung_for_is_made_up_for() {
    let server = Redis::start();
    let cache = cache_at(&server.url());
    connected(&cache).await;

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
    let cache = cache_at(&server.url());
    connected(&cache).await;
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
    let cache = cache_at(&server.url());
    connected(&cache).await;
    server.command("CONFIG SET maxmemory 1");
    for _ in 0..=FAILURES_TO_OPEN {
        assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    }
    assert_free_of_charge(&cache).await;
    server.command("CONFIG SET maxmemory 0");
    connected(&cache).await;
}

#[tokio::test]
async fn s51_a_redis_that_has_become_a_replica_leaves_the_decision_to_the_commit_point() {
    let server = Redis::start();
    let cache = cache_at(&server.url());
    connected(&cache).await;
    server.command("REPLICAOF 127.0.0.1 1");
    for _ in 0..=FAILURES_TO_OPEN {
        assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    }
    assert_free_of_charge(&cache).await;
    server.command("REPLICAOF NO ONE");
    connected(&cache).await;
}

#[tokio::test]
async fn s51_a_command_that_always_fails_opens_the_breaker_too() {
    let server = Redis::start();
    let cache = cache_at(&server.url());
    connected(&cache).await;
    // The probe may still write; claims may not.
    server.command("ACL SETUSER default resetkeys ~countersign:probe");
    for _ in 0..=FAILURES_TO_OPEN {
        assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    }
    server.command("ACL SETUSER default allkeys");
    connected(&cache).await;
}

#[tokio::test]
async fn s49_two_gateways_share_their_claims() {
    let server = Redis::start();
    let (one, two) = (cache_at(&server.url()), cache_at(&server.url()));
    connected(&one).await;
    connected(&two).await;
    assert_eq!(one.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);
    assert_eq!(two.claim(&key(1), nonce(2), HOUR).await, ReplayClaim::Duplicate);
}

#[tokio::test]
async fn s48_redis_sees_a_hash_and_a_nonce_that_ends_with_the_token() {
    let server = Redis::start();
    let cache = cache_at(&server.url());
    connected(&cache).await;
    server.flush();
    cache.claim(&key(1), nonce(1), HOUR).await;
    assert_eq!(server.key_count(), 1);
    let name = "countersign:replay:AAGrq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s";
    assert_eq!(server.command(&format!("STRLEN {name}")), ":16");
    let left: u64 = server.command(&format!("PTTL {name}")).trim_start_matches(':').parse().unwrap();
    assert!((3_590_000..=3_600_000).contains(&left), "{left}");
}
