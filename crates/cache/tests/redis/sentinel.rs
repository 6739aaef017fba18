//! What the replay cache does behind sentinels, when they give the service to another primary.

use countersign_cache::replay::{ReplayCache as _, ReplayClaim};
use countersign_testkit::redis::Redis;
use countersign_testkit::redis::sentinel::SentinelRedis;
use countersign_testkit::wait;

use crate::support::{
    HOUR, assert_left_to_the_commit_point, cache_at, connected_cache, key, name, nonce, shared_sentinel, used_again,
};

/// Waits until a server takes writes.
fn promoted(server: &Redis) {
    wait::blocking("the replica is promoted", wait::DEADLINE, || server.try_command("SET mark 7").as_deref() == Some("+OK"));
}

fn is_readonly(server: &Redis) -> bool {
    server.try_command("SET mark 7").is_some_and(|answer| answer.starts_with("-READONLY"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s51_a_failover_to_a_lagging_replica_loses_claims_and_holds_nobody_up() {
    let mut redis = SentinelRedis::start();
    let cache = connected_cache(&redis.url()).await;
    // From here on the replica hears of nothing, as if it lagged.
    assert!(redis.replica.command("REPLICAOF 127.0.0.1 1").starts_with("+OK"));
    assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);

    redis.primary.kill();
    assert_left_to_the_commit_point(&cache, &[1]).await;
    promoted(&redis.replica);
    used_again(&cache, 2).await;
    // The claim was acknowledged, and is gone: which is why the commit point decides.
    assert_eq!(cache.claim(&key(1), nonce(2), HOUR).await, ReplayClaim::Claimed);

    // The old primary comes back empty, believing for some seconds that it still is one.
    redis.primary.restart();
    assert_eq!(cache.claim(&key(1), nonce(3), HOUR).await, ReplayClaim::Duplicate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s51_a_primary_that_was_demoted_is_left_for_the_new_one() {
    let redis = SentinelRedis::start();
    let cache = connected_cache(&redis.url()).await;
    wait::blocking("the sentinel finds the replica fit", wait::DEADLINE, || {
        redis.sentinel().command("SENTINEL FAILOVER caches") == "+OK"
    });
    promoted(&redis.replica);
    wait::blocking("the old one is a replica", wait::DEADLINE, || is_readonly(&redis.primary));
    used_again(&cache, 2).await;
    assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);
    wait::blocking("it lies in the new primary", wait::DEADLINE, || redis.replica.contents().contains(&name(1)));
}

#[tokio::test]
async fn s51_a_service_that_the_sentinels_do_not_know_costs_nothing() {
    let redis = shared_sentinel().await;
    let cache = cache_at(&redis.url().replace("/caches", "/cashes"));
    assert_left_to_the_commit_point(&cache, &[1]).await;
}

#[tokio::test]
async fn s51_a_server_that_is_no_primary_is_not_used_even_if_it_takes_writes() {
    let redis = shared_sentinel().await;
    // Sentinels that are wrong, here about a replica that takes writes of its own.
    redis.replica.command("CONFIG SET replica-read-only no");
    let wrong = format!("redis-sentinel://127.0.0.1:{}/wrong", redis.sentinel().port());
    let monitor = format!("SENTINEL MONITOR wrong 127.0.0.1 {} 1", redis.replica.port());
    assert_eq!(redis.sentinel().command(&monitor), "+OK");
    let cache = cache_at(&wrong);
    assert_left_to_the_commit_point(&cache, &[1]).await;
    assert_eq!(redis.replica.key_count(), 0);
    assert_eq!(redis.sentinel().command("SENTINEL REMOVE wrong"), "+OK");
    redis.replica.command("CONFIG SET replica-read-only yes");
}

#[tokio::test]
async fn s61_sentinels_and_servers_have_their_own_passwords_and_a_user_with_few_rights_is_enough() {
    let redis = shared_sentinel().await;
    redis.sentinel().command("ACL SETUSER watcher on >swordfish +sentinel|get-master-addr-by-name");
    redis.primary.command("ACL SETUSER gateway on >hunter2 ~countersign:* +set +get +del +strlen +pttl +eval");
    let hosts = redis.url().replace("redis-sentinel://", "");
    let credentials = "?sentinel_username=watcher&sentinel_password=swordfish";
    let cache = connected_cache(&format!("redis-sentinel://gateway:hunter2@{hosts}{credentials}")).await;
    assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);
    cache.release(&key(1), nonce(1)).await;
    assert_eq!(cache.claim(&key(1), nonce(2), HOUR).await, ReplayClaim::Claimed);

    for wrong in [
        format!("redis-sentinel://gateway:wrong@{hosts}{credentials}"),
        format!("redis-sentinel://gateway:hunter2@{hosts}?sentinel_username=watcher&sentinel_password=wrong"),
    ] {
        assert_left_to_the_commit_point(&cache_at(&wrong), &[3]).await;
    }
    redis.sentinel().command("ACL DELUSER watcher");
    redis.primary.command("ACL DELUSER gateway");
}
