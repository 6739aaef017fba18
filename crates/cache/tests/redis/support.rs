//! Claims to make, and Redis in its three shapes.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use countersign_cache::redis_link::{COMMAND_LIMIT, FAILURES_TO_OPEN, RedisLink};
use countersign_cache::replay::{Nonce, RedisReplayCache, ReplayCache as _, ReplayClaim, ReplayKey};
use countersign_testkit::redis::Redis;
use countersign_testkit::redis::cluster::RedisCluster;
use countersign_testkit::redis::sentinel::SentinelRedis;
use countersign_testkit::wait;
use tokio::sync::{Mutex, MutexGuard};

pub(crate) const HOUR: Duration = Duration::from_hours(1);
/// Redis is to be used again so soon after it can be.
pub(crate) const RECOVERY_LIMIT: Duration = Duration::from_secs(5);
/// What a busy test machine may add to a limit.
const SLACK: Duration = Duration::from_millis(200);

pub(crate) fn key(number: u16) -> ReplayKey {
    let mut hash = [0xab; 32];
    hash[..2].copy_from_slice(&number.to_be_bytes());
    ReplayKey::from_hash(hash)
}

/// The name under which a claim lies in Redis.
pub(crate) fn name(number: u16) -> String {
    format!("countersign:replay:{}", data_encoding::BASE64URL_NOPAD.encode(key(number).as_bytes()))
}

pub(crate) fn nonce(number: u16) -> Nonce {
    let mut bits = [0xcd; 16];
    bits[..2].copy_from_slice(&number.to_be_bytes());
    Nonce::from_bits(bits)
}

pub(crate) fn link_to(url: &str) -> RedisLink {
    RedisLink::new(url.parse().unwrap()).unwrap()
}

pub(crate) fn cache_at(url: &str) -> RedisReplayCache {
    RedisReplayCache::new(link_to(url))
}

/// A link that has connected to all there is.
pub(crate) async fn connected_link(url: &str) -> RedisLink {
    let link = link_to(url);
    link.connect();
    wait::until("all of redis is connected", || async { link.is_connected() }).await;
    link
}

pub(crate) async fn connected_cache(url: &str) -> RedisReplayCache {
    RedisReplayCache::new(connected_link(url).await)
}

/// Waits until Redis answers for a token again, and asserts that it did not take too long.
pub(crate) async fn used_again(cache: &RedisReplayCache, number: u16) {
    let start = Instant::now();
    wait::until("redis answers", || async {
        cache.claim(&key(number), nonce(0), Duration::from_millis(1)).await != ReplayClaim::Unknown
    })
    .await;
    assert!(start.elapsed() < RECOVERY_LIMIT, "it took {:?}", start.elapsed());
}

/// Claims once and asserts that it took no longer than a claim may.
pub(crate) async fn timed_claim(cache: &RedisReplayCache, key: &ReplayKey) -> ReplayClaim {
    let start = Instant::now();
    let claim = cache.claim(key, nonce(1), HOUR).await;
    assert!(start.elapsed() < COMMAND_LIMIT + SLACK, "a claim took {:?}", start.elapsed());
    claim
}

/// Asserts that claims of these tokens are left to the commit point: a few after the time a claim may take, the rest at once.
pub(crate) async fn assert_left_to_the_commit_point(cache: &RedisReplayCache, numbers: &[u16]) {
    let one_by_one = numbers.iter().cycle().take(numbers.len().max(1 + FAILURES_TO_OPEN as usize));
    for number in one_by_one {
        assert_eq!(timed_claim(cache, &key(*number)).await, ReplayClaim::Unknown);
    }
    assert_free_of_charge(cache, numbers).await;
}

/// Asserts that the breaker is open: claims of these tokens cost nothing.
pub(crate) async fn assert_free_of_charge(cache: &RedisReplayCache, numbers: &[u16]) {
    let start = Instant::now();
    for number in numbers.iter().cycle().take(1_000) {
        assert_eq!(cache.claim(&key(*number), nonce(1), HOUR).await, ReplayClaim::Unknown);
    }
    assert!(start.elapsed() < Duration::from_millis(500), "1000 claims took {:?}", start.elapsed());
}

/// A primary, a replica and a sentinel for tests that do them no harm; one test has them at a time, empty.
pub(crate) async fn shared_sentinel() -> MutexGuard<'static, SentinelRedis> {
    static SHARED: LazyLock<Mutex<SentinelRedis>> = LazyLock::new(|| Mutex::new(SentinelRedis::start()));
    let redis = SHARED.lock().await;
    redis.primary.flush();
    redis
}

/// A cluster for tests that do it no harm; one test has it at a time, empty.
pub(crate) async fn shared_cluster() -> MutexGuard<'static, RedisCluster> {
    static SHARED: LazyLock<Mutex<RedisCluster>> = LazyLock::new(|| Mutex::new(RedisCluster::start()));
    let cluster = SHARED.lock().await;
    // A test that failed may have left one frozen.
    cluster.nodes.iter().for_each(Redis::resume);
    cluster.flush();
    cluster
}
