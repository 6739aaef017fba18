//! What the replay cache does in a cluster, when nodes die and slots move.

use std::time::Instant;

use countersign_cache::replay::{RedisReplayCache, ReplayCache as _, ReplayClaim};
use countersign_testkit::redis::Redis;
use countersign_testkit::redis::cluster::RedisCluster;
use countersign_testkit::wait;

use crate::support::{
    HOUR, RECOVERY_LIMIT, assert_free_of_charge, assert_left_to_the_commit_point, cache_at, connected_cache, connected_link, key,
    name, nonce, shared_cluster, timed_claim, used_again,
};

/// The first tokens whose claims lie in each node.
fn numbers_by_node(cluster: &RedisCluster) -> [Vec<u16>; 3] {
    let mut numbers = [const { Vec::new() }; 3];
    for number in 0..100 {
        numbers[cluster.place_of(&name(number)).0].push(number);
    }
    numbers
}

/// Nodes that are well claim, though on a busy machine one may now and then take longer to answer than the cache waits.
async fn assert_claimed(cache: &RedisReplayCache, numbers: &[u16]) {
    for number in numbers {
        let claim = wait::some("the node answers in time", || async {
            let claim = timed_claim(cache, &key(*number)).await;
            cache.release(&key(*number), nonce(1)).await;
            (claim != ReplayClaim::Unknown).then_some(claim)
        });
        assert_eq!(claim.await, ReplayClaim::Claimed, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s51_a_dead_primary_costs_its_own_keys_little_and_the_others_nothing() {
    let mut cluster = RedisCluster::start();
    let replica = cluster.add_replica_of(0);
    let [dead, second, third] = numbers_by_node(&cluster);
    let link = connected_link(&cluster.url()).await;
    let cache = RedisReplayCache::new(link.clone());

    cluster.nodes[0].kill();
    assert_left_to_the_commit_point(&cache, &dead).await;
    assert!(!link.is_connected());
    assert_claimed(&cache, &second).await;
    assert_claimed(&cache, &third).await;
    assert_free_of_charge(&cache, &dead).await;

    // The replica takes the slots over, as it would by itself a little later.
    assert_eq!(cluster.nodes[replica].command("CLUSTER FAILOVER TAKEOVER"), "+OK");
    used_again(&cache, dead[0]).await;
    assert_claimed(&cache, &dead[1..]).await;
    wait::until("all is well", || async { link.is_connected() }).await;

    // One more dies and nobody takes over: then it comes back.
    cluster.nodes[1].kill();
    assert_left_to_the_commit_point(&cache, &second).await;
    assert_claimed(&cache, &dead[1..]).await;
    cluster.nodes[1].restart();
    wait::blocking("the node is part of the cluster again", wait::DEADLINE, || {
        cluster.nodes[1].command(&format!("SET {} x PX 1", name(second[0]))) == "+OK"
    });
    used_again(&cache, second[1]).await;
    assert_claimed(&cache, &second[2..]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s51_a_cluster_that_is_down_leaves_the_decision_to_the_commit_point() {
    let mut cluster = RedisCluster::start();
    let [first, second, third] = numbers_by_node(&cluster);
    let cache = connected_cache(&cluster.url()).await;
    // With all slots required, which is what clusters do unless told otherwise, one dead node stops all.
    for node in &cluster.nodes {
        node.command("CONFIG SET cluster-require-full-coverage yes");
    }
    cluster.nodes[0].kill();
    wait::blocking("the cluster is down", wait::DEADLINE, || {
        [1, 2].iter().all(|place: &usize| cluster.nodes[*place].text("CLUSTER INFO").contains("cluster_state:fail"))
    });
    for numbers in [&first, &second, &third] {
        assert_left_to_the_commit_point(&cache, numbers).await;
    }
    for node in &cluster.nodes[1..] {
        node.command("CONFIG SET cluster-require-full-coverage no");
    }
    wait::blocking("the rest goes on", wait::DEADLINE, || {
        [1, 2].iter().all(|place: &usize| cluster.nodes[*place].text("CLUSTER INFO").contains("cluster_state:ok"))
    });
    used_again(&cache, second[0]).await;
    used_again(&cache, third[0]).await;
    assert_free_of_charge(&cache, &first).await;
}

#[tokio::test]
async fn s51_a_hung_node_holds_up_few_of_its_own_keys() {
    let cluster = shared_cluster().await;
    let [first, hung, _] = numbers_by_node(&cluster);
    let cache = connected_cache(&cluster.url()).await;
    cluster.nodes[1].pause();
    assert_left_to_the_commit_point(&cache, &hung).await;
    let start = Instant::now();
    assert_claimed(&cache, &first).await;
    assert!(start.elapsed() < RECOVERY_LIMIT, "{:?}", start.elapsed());
    cluster.nodes[1].resume();
    used_again(&cache, hung[0]).await;
}

#[tokio::test]
async fn s49_a_slot_that_moved_is_found_again_and_nothing_is_sent_twice() {
    let cluster = shared_cluster().await;
    let cache = connected_cache(&cluster.url()).await;
    let (from, slot) = cluster.place_of(&name(1));
    let to = (from + 1) % 3;
    let give_to = |owner: usize| {
        let command = format!("CLUSTER SETSLOT {slot} NODE {}", cluster.id(owner));
        // The new owner first, or nobody has the slot meanwhile.
        for place in [owner, from, to] {
            assert_eq!(cluster.nodes[place].command(&command), "+OK");
        }
    };
    give_to(to);
    // Sent to the old owner, which did nothing, and not sent again to the new one.
    assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
    assert!(!cluster.nodes[to].contents().contains(&name(1)));
    used_again(&cache, 1).await;
    wait::until("the claim of a millisecond is over", || async { cluster.nodes[to].key_count() == 0 }).await;
    assert_eq!(cache.claim(&key(1), nonce(1), HOUR).await, ReplayClaim::Claimed);
    assert!(cluster.nodes[to].contents().contains(&name(1)));
    cluster.flush();
    give_to(from);
}

#[tokio::test]
async fn s51_a_slot_on_its_way_leaves_the_decision_to_the_commit_point_and_the_breaker_closed() {
    let cluster = shared_cluster().await;
    let cache = connected_cache(&cluster.url()).await;
    let (from, slot) = cluster.place_of(&name(1));
    let to = (from + 1) % 3;
    cluster.nodes[to].command(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", cluster.id(from)));
    cluster.nodes[from].command(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", cluster.id(to)));
    let (others_of_that_node, _): (Vec<u16>, Vec<u16>) =
        numbers_by_node(&cluster)[from].iter().partition(|number| cluster.place_of(&name(**number)).1 != slot);
    for _ in 0..10 {
        assert_eq!(timed_claim(&cache, &key(1)).await, ReplayClaim::Unknown);
        assert_claimed(&cache, &others_of_that_node[..2]).await;
    }
    for place in [from, to] {
        cluster.nodes[place].command(&format!("CLUSTER SETSLOT {slot} STABLE"));
    }
    assert_claimed(&cache, &[1]).await;
}

#[tokio::test]
async fn s51_a_release_that_a_node_was_too_hung_for_is_made_up_for() {
    let cluster = shared_cluster().await;
    let cache = connected_cache(&cluster.url()).await;
    let [_, hung, _] = numbers_by_node(&cluster);
    let number = hung[0];
    assert_eq!(cache.claim(&key(number), nonce(1), HOUR).await, ReplayClaim::Claimed);
    cluster.nodes[1].pause();
    cache.release(&key(number), nonce(1)).await;
    cluster.nodes[1].resume();
    wait::until("an honest retry is let through", || async {
        cache.claim(&key(number), nonce(9), HOUR).await == ReplayClaim::Claimed
    })
    .await;
}

#[tokio::test]
async fn s51_a_cluster_that_was_never_started_costs_nothing() {
    let nobody = || Redis::never_started().replace("redis://", "");
    let cache = cache_at(&format!("redis-cluster://{},{}", nobody(), nobody()));
    assert_left_to_the_commit_point(&cache, &[1]).await;
}

#[tokio::test]
async fn s51_a_server_that_is_no_cluster_costs_nothing() {
    let server = Redis::start();
    let cache = cache_at(&server.url().replace("redis://", "redis-cluster://"));
    assert_left_to_the_commit_point(&cache, &[1]).await;
}

#[tokio::test]
async fn s61_a_user_with_few_rights_and_a_password_is_enough() {
    let cluster = shared_cluster().await;
    for node in &cluster.nodes {
        node.command("ACL SETUSER gateway on >hunter2 ~countersign:* +set +get +del +strlen +pttl +eval +cluster|slots");
    }
    let cache = connected_cache(&cluster.url().replace("://", "://gateway:hunter2@")).await;
    assert_claimed(&cache, &[1, 2, 3]).await;
    let wrong = cache_at(&cluster.url().replace("://", "://gateway:wrong@"));
    assert_left_to_the_commit_point(&wrong, &[1]).await;
    for node in &cluster.nodes {
        node.command("ACL DELUSER gateway");
    }
}
