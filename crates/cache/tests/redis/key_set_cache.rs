//! What every second level of the key set cache does, run on Redis in its three shapes and on the embedded twin; and what only
//! Redis must withstand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_cache::key_set_cache::{Document, EmbeddedKeySetCache, FetchTurn, KeySetCache, RedisKeySetCache, Slot};
use countersign_cache::redis_link::RedisLink;
use countersign_jose::secret::{DeploymentSecret, MacKey};
use countersign_testkit::clock::TestClock;
use countersign_testkit::redis::Redis;
use countersign_testkit::wait;

use crate::support::{HOUR, connected_link, link_to, shared_cluster, shared_sentinel};

const OURS: [u8; 16] = [1; 16];
const ANOTHERS: [u8; 16] = [2; 16];

fn slot(number: u8) -> Slot {
    Slot::from_hash([number; 32])
}

fn document(text: &str) -> Document {
    Document { bytes: text.as_bytes().to_vec(), lifetime: Duration::from_mins(5) }
}

fn mac_key() -> MacKey {
    DeploymentSecret::from_bytes(&[9; 32]).unwrap().derive("test key set cache")
}

fn cache_behind(link: RedisLink) -> RedisKeySetCache {
    RedisKeySetCache::new(link, mac_key(), Arc::new(TestClock::noon()))
}

async fn connected_cache(url: &str) -> RedisKeySetCache {
    cache_behind(connected_link(url).await)
}

mod contract {
    use super::*;

    pub(super) async fn a_document_reads_back_young(cache: &dyn KeySetCache) {
        assert_eq!(cache.get(&slot(1)).await, None);
        cache.put(&slot(1), &document("one"), HOUR).await;
        let (read, age) = cache.get(&slot(1)).await.unwrap();
        assert_eq!(read, document("one"));
        assert!(age < Duration::from_mins(1), "{age:?}");
    }

    pub(super) async fn s34_slots_share_nothing(cache: &dyn KeySetCache) {
        cache.put(&slot(1), &document("one"), HOUR).await;
        cache.put(&slot(2), &document("two"), HOUR).await;
        assert_eq!(cache.get(&slot(1)).await.unwrap().0, document("one"));
        assert_eq!(cache.get(&slot(2)).await.unwrap().0, document("two"));
        assert_eq!(cache.get(&slot(3)).await, None);
    }

    pub(super) async fn s35_a_newer_document_replaces_the_older(cache: &dyn KeySetCache) {
        cache.put(&slot(1), &document("old"), HOUR).await;
        cache.put(&slot(1), &document("new"), HOUR).await;
        assert_eq!(cache.get(&slot(1)).await.unwrap().0, document("new"));
    }

    pub(super) async fn a_document_is_kept_no_longer_than_asked(cache: &dyn KeySetCache) {
        cache.put(&slot(1), &document("one"), Duration::from_millis(200)).await;
        wait::until("the document expires", || async { cache.get(&slot(1)).await.is_none() }).await;
    }

    pub(super) async fn the_longest_document_fits_and_a_longer_one_is_not_kept(cache: &dyn KeySetCache) {
        let longest = Document { bytes: vec![b' '; Document::MAX_BYTES], lifetime: HOUR };
        cache.put(&slot(1), &longest, HOUR).await;
        assert_eq!(cache.get(&slot(1)).await.unwrap().0, longest);
        let longer = Document { bytes: vec![b' '; Document::MAX_BYTES + 1], lifetime: HOUR };
        cache.put(&slot(2), &longer, HOUR).await;
        assert_eq!(cache.get(&slot(2)).await, None);
    }

    pub(super) async fn s36_one_process_has_the_turn_until_it_ends(cache: &dyn KeySetCache) {
        let start = Instant::now();
        let turn = Duration::from_millis(300);
        assert_eq!(cache.take_turn(&slot(1), OURS, turn).await, FetchTurn::Ours);
        assert_eq!(cache.take_turn(&slot(1), ANOTHERS, turn).await, FetchTurn::Anothers);
        assert_eq!(cache.take_turn(&slot(2), ANOTHERS, turn).await, FetchTurn::Ours);
        wait::until("the turn ends", || async { cache.take_turn(&slot(1), ANOTHERS, HOUR).await == FetchTurn::Ours }).await;
        assert!(start.elapsed() >= turn);
        assert_eq!(cache.take_turn(&slot(1), OURS, HOUR).await, FetchTurn::Anothers);
    }

    pub(super) async fn a_process_may_take_its_turn_again(cache: &dyn KeySetCache) {
        assert_eq!(cache.take_turn(&slot(1), OURS, HOUR).await, FetchTurn::Ours);
        assert_eq!(cache.take_turn(&slot(1), OURS, HOUR).await, FetchTurn::Ours);
        assert_eq!(cache.take_turn(&slot(1), ANOTHERS, HOUR).await, FetchTurn::Anothers);
    }
}

macro_rules! contract {
    ($($name:ident)*) => {
        mod embedded {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                contract::$name(&EmbeddedKeySetCache::default()).await;
            })*
        }
        mod redis {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let server = Redis::start();
                contract::$name(&connected_cache(&server.url()).await).await;
            })*
        }
        mod sentinel {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let servers = shared_sentinel().await;
                contract::$name(&connected_cache(&servers.url()).await).await;
            })*
        }
        mod cluster {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let cluster = shared_cluster().await;
                contract::$name(&connected_cache(&cluster.url()).await).await;
            })*
        }
    };
}

contract! {
    a_document_reads_back_young
    s34_slots_share_nothing
    s35_a_newer_document_replaces_the_older
    a_document_is_kept_no_longer_than_asked
    the_longest_document_fits_and_a_longer_one_is_not_kept
    s36_one_process_has_the_turn_until_it_ends
    a_process_may_take_its_turn_again
}

/// The name under which the document of a slot lies in Redis.
fn name(slot_number: u8) -> String {
    let hash = match slot_number {
        1 => "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
        _ => "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI",
    };
    format!("countersign:document:{hash}")
}

async fn with_document() -> (Redis, RedisKeySetCache) {
    let server = Redis::start();
    let cache = connected_cache(&server.url()).await;
    cache.put(&slot(1), &document(r#"{"keys":[]}"#), HOUR).await;
    assert!(cache.get(&slot(1)).await.is_some());
    (server, cache)
}

#[tokio::test]
async fn s46_an_entry_altered_in_redis_is_a_miss() {
    let (server, cache) = with_document().await;
    assert!(server.command(&format!("SETRANGE {} 60 x", name(1))).starts_with(':'));
    assert_eq!(cache.get(&slot(1)).await, None);
}

#[tokio::test]
async fn s46_an_entry_copied_to_another_slot_is_a_miss() {
    let (server, cache) = with_document().await;
    assert_eq!(server.command(&format!("COPY {} {}", name(1), name(2))), ":1");
    assert_eq!(cache.get(&slot(2)).await, None);
    assert!(cache.get(&slot(1)).await.is_some());
}

#[tokio::test]
async fn s46_an_entry_made_to_last_is_a_miss() {
    let (server, cache) = with_document().await;
    assert_eq!(server.command(&format!("PERSIST {}", name(1))), ":1");
    assert_eq!(cache.get(&slot(1)).await, None);
}

#[tokio::test]
async fn s46_what_is_not_ours_at_all_is_a_miss() {
    let (server, cache) = with_document().await;
    for command in ["SET {} x PX 60000", "SET {} 0123456789012345678901234567890123456789012345678901234567890123456789 PX 60000"]
    {
        server.command(&command.replace("{}", &name(1)));
        assert_eq!(cache.get(&slot(1)).await, None);
    }
    // Longer than any entry: not even read.
    server.command(&format!("SETRANGE {} 9999999 x", name(1)));
    assert_eq!(cache.get(&slot(1)).await, None);
    // Another type.
    server.command(&format!("DEL {}", name(1)));
    server.command(&format!("LPUSH {} x", name(1)));
    assert_eq!(cache.get(&slot(1)).await, None);
}

#[tokio::test]
async fn s46_gateways_of_one_deployment_read_each_others_entries_and_others_do_not() {
    let (server, _cache) = with_document().await;
    let twin = connected_cache(&server.url()).await;
    assert!(twin.get(&slot(1)).await.is_some());

    let other_key = DeploymentSecret::from_bytes(&[8; 32]).unwrap().derive("test key set cache");
    let link = connected_link(&server.url()).await;
    let stranger = RedisKeySetCache::new(link, other_key, Arc::new(TestClock::noon()));
    assert_eq!(stranger.get(&slot(1)).await, None);
}

#[tokio::test]
async fn redis_that_is_gone_is_a_miss_at_once() {
    let cache = cache_behind(link_to(&Redis::never_started()));
    cache.put(&slot(1), &document("one"), HOUR).await;
    assert_eq!(cache.get(&slot(1)).await, None);
    assert_eq!(cache.take_turn(&slot(1), OURS, HOUR).await, FetchTurn::Unknown);
    let start = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(cache.get(&slot(1)).await, None);
    }
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn s36_a_turn_that_never_ends_or_lasts_too_long_is_nobodys() {
    let (server, cache) = with_document().await;
    let name = name(1).replace("document", "fetch-turn");
    let turn = Duration::from_secs(10);
    for foreign in ["SET {} x", "SET {} x PX 20000", "SET {} x PX 99999999999"] {
        assert_eq!(server.command(&foreign.replace("{}", &name)), "+OK");
        assert_eq!(cache.take_turn(&slot(1), OURS, turn).await, FetchTurn::Ours, "{foreign}");
        assert_eq!(cache.take_turn(&slot(1), ANOTHERS, turn).await, FetchTurn::Anothers);
    }
}
