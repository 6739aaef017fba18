//! What every replay cache does, run on Redis in its three shapes and on the embedded twin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_cache::replay::{EmbeddedReplayCache, ReplayCache, ReplayClaim};
use countersign_testkit::redis::Redis;
use countersign_testkit::wait;
use futures::future::join_all;

use crate::support::{HOUR, connected_cache, key, nonce, shared_cluster, shared_sentinel};

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
                contract::$name(Arc::new(connected_cache(&server.url()).await)).await;
            })*
        }
        mod sentinel {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let servers = shared_sentinel().await;
                contract::$name(Arc::new(connected_cache(&servers.url()).await)).await;
            })*
        }
        mod cluster {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let cluster = shared_cluster().await;
                contract::$name(Arc::new(connected_cache(&cluster.url()).await)).await;
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
