//! Two gateways, one Redis, real requests.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_cache::key_set_cache::RedisKeySetCache;
use countersign_cache::redis_link::RedisLink;
use countersign_discovery::address::AddressRules;
use countersign_discovery::{Discovery, DiscoverySettings, KeySetSource};
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_jose::secret::DeploymentSecret;
use countersign_testkit::clock::{SeededEntropy, TestClock};
use countersign_testkit::identity_provider::{Behaviour, IdentityProvider};
use countersign_testkit::redis::Redis;

fn gateway(redis_url: &str, seed: u64) -> Discovery {
    let settings = DiscoverySettings {
        address_rules: AddressRules { loopback: LoopbackHttp::Allowed, ..AddressRules::default() },
        ..DiscoverySettings::default()
    };
    let link = RedisLink::new(redis_url.parse().unwrap()).unwrap();
    let key = DeploymentSecret::from_bytes(&[5; 32]).unwrap().derive("test key set cache");
    let shared = RedisKeySetCache::new(link, key, Arc::new(TestClock::system()));
    Discovery::new(&settings, Some(Arc::new(shared)), Arc::new(SeededEntropy::new(seed))).unwrap()
}

fn source(provider: &IdentityProvider) -> KeySetSource {
    KeySetSource::new(provider.issuer_url().parse().unwrap(), None)
}

/// Presents many unknown kids to both gateways and returns how long the slowest good look-up took meanwhile.
async fn flood(gateways: &[Discovery; 2], source: &KeySetSource) -> Duration {
    let mut slowest = Duration::ZERO;
    for n in 0..10_000 {
        let gateway = &gateways[n % 2];
        gateway.refresh_for_unknown_key(source, Some(&format!("random-{n}"))).await.unwrap();
        let start = Instant::now();
        gateway.key_set(source).await.unwrap();
        slowest = slowest.max(start.elapsed());
    }
    slowest
}

#[tokio::test]
async fn s36_random_kids_cause_one_fetch_for_all_gateways_and_slow_nobody() {
    let (redis, provider) = (Redis::start(), IdentityProvider::start());
    let gateways = [gateway(&redis.url(), 1), gateway(&redis.url(), 2)];
    let source = source(&provider);
    for gateway in &gateways {
        gateway.key_set(&source).await.unwrap();
    }
    assert_eq!((provider.discovery_requests(), provider.key_set_requests()), (1, 1));
    let slowest = flood(&gateways, &source).await;
    assert_eq!((provider.discovery_requests(), provider.key_set_requests()), (1, 2));
    assert!(slowest < Duration::from_millis(100), "{slowest:?}");
}

#[tokio::test]
async fn s36_without_redis_random_kids_cause_one_fetch_for_each_gateway() {
    let provider = IdentityProvider::start();
    let redis_url = Redis::never_started();
    let gateways = [gateway(&redis_url, 1), gateway(&redis_url, 2)];
    let source = source(&provider);
    for gateway in &gateways {
        gateway.key_set(&source).await.unwrap();
    }
    flood(&gateways, &source).await;
    assert_eq!(provider.key_set_requests(), 4);
}

#[tokio::test]
async fn s46_a_gateway_ignores_what_others_wrote_into_redis() {
    let (redis, provider) = (Redis::start(), IdentityProvider::start());
    let source = source(&provider);
    gateway(&redis.url(), 1).key_set(&source).await.unwrap();
    // Every document is overwritten in place, the time to live kept.
    let script = r#"EVAL "for _,k in ipairs(redis.call('KEYS','countersign:document:*')) do redis.call('SETRANGE',k,60,'x') end return redis.call('DBSIZE')" 0"#;
    assert!(redis.command(script).starts_with(':'));
    let key_set = gateway(&redis.url(), 2).key_set(&source).await.unwrap();
    assert_eq!(key_set.len(), 1);
    assert_eq!((provider.discovery_requests(), provider.key_set_requests()), (2, 2));
}

#[tokio::test]
async fn a_gateway_starts_from_redis_while_the_issuer_is_down() {
    let (redis, provider) = (Redis::start(), IdentityProvider::start());
    let source = source(&provider);
    gateway(&redis.url(), 1).key_set(&source).await.unwrap();
    provider.discovery_behaves(Behaviour::Close);
    provider.key_set_behaves(Behaviour::Close);
    assert_eq!(gateway(&redis.url(), 2).key_set(&source).await.unwrap().len(), 1);
}
