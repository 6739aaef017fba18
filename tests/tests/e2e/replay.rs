//! Of many presentations of one token exactly one is minted, whatever becomes of Redis (SECURITY 49).

use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_domain::values::reason::Reason;
use countersign_proto::exchange_v1::ExchangeTokenRequest;
use countersign_testkit::redis::sentinel::SentinelRedis;
use countersign_testkit::status::wire_name;
use countersign_tests::deployment::{Deployment, Instance, RedisAtStart};
use countersign_tests::operator::exchange_client;
use countersign_tests::redis_faults::{Fault, Servers};
use countersign_tests::replay_storm::{ReplayStorm, Tally};
use countersign_tests::token_endpoint::exchange;
use futures::StreamExt as _;
use tonic_types::StatusExt as _;

use crate::deployments::{Scene, shared};

const PRESENTATIONS: usize = 200;
const AT_ONCE: usize = 50;

/// Presents one token many times, by turns on both gateways and over HTTP and gRPC, and asserts that one got an access token
/// and all others were told that it was used. `in_the_middle` is called when a quarter has been answered.
async fn exactly_one_of_many_is_minted(scene: &Scene<'_>, in_the_middle: impl Fn()) {
    let token = scene.token();
    let clients = [Instance::Gateway, Instance::SecondGateway].map(|gateway| exchange_client(scene.deployment, gateway));
    let urls = [Instance::Gateway, Instance::SecondGateway].map(|gateway| scene.deployment.url(gateway));
    let answered = AtomicUsize::new(0);
    let before = committed(scene);

    let presentations = (0..PRESENTATIONS).map(|number| {
        let (token, gateway) = (token.clone(), number % 2);
        let (mut client, url) = (clients[gateway].clone(), urls[gateway].as_str());
        let (answered, in_the_middle) = (&answered, &in_the_middle);
        async move {
            let refusal = if number % 4 < 2 {
                let request = ExchangeTokenRequest { subject_token: token, ..ExchangeTokenRequest::default() };
                let answer = client.exchange_token(request).await;
                answer.err().map(|status| {
                    status.get_error_details().error_info().map_or_else(|| format!("{status:?}"), |info| info.reason.clone())
                })
            } else {
                let answer = exchange(url, &token, &[]).await;
                answer.reason().map(str::to_owned)
            };
            if answered.fetch_add(1, Ordering::SeqCst) == PRESENTATIONS / 4 {
                in_the_middle();
            }
            refusal
        }
    });
    let refusals: Vec<Option<String>> = futures::stream::iter(presentations).buffer_unordered(AT_ONCE).collect().await;

    let replayed = wire_name(Reason::SubjectTokenReplayed);
    let minted = refusals.iter().filter(|refusal| refusal.is_none()).count();
    let others: Vec<&String> = refusals.iter().flatten().filter(|reason| **reason != replayed).collect();
    assert_eq!((minted, others), (1, Vec::new()));
    // s74: what was released is what was committed.
    assert_eq!(committed(scene), before + 1);
}

/// How many exchanges of the workspace stand in the audit log as allowed.
fn committed(scene: &Scene<'_>) -> u64 {
    let workspace = &scene.trust.workspace_id;
    let events = "SELECT count(*) FROM countersign_trust.audit_events";
    scene.deployment.sql(&format!("{events} WHERE workspace_id = '{workspace}' AND decision = 'allowed'")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s49_one_is_minted_with_redis() {
    let scene = Scene::in_deployment(shared()).await;
    exactly_one_of_many_is_minted(&scene, || {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s49_one_is_minted_with_redis_flushed_in_the_middle() {
    let scene = Scene::in_deployment(shared()).await;
    exactly_one_of_many_is_minted(&scene, || scene.deployment.redis().as_ref().unwrap().flush()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s49_one_is_minted_with_redis_killed_in_the_middle() {
    let deployment = Deployment::start(RedisAtStart::Running);
    let scene = Scene::in_deployment(&deployment).await;
    exactly_one_of_many_is_minted(&scene, || deployment.redis().as_mut().unwrap().kill()).await;
    // It stays dead: exchanges go on, and used tokens stay used.
    let token = scene.token();
    exchange(&deployment.url(Instance::Gateway), &token, &[]).await.access_token();
    let again = exchange(&deployment.url(Instance::SecondGateway), &token, &[]).await;
    assert_eq!(again.reason(), Some("SUBJECT_TOKEN_REPLAYED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn s49_one_is_minted_with_redis_hung_in_the_middle() {
    let deployment = Deployment::start(RedisAtStart::Running);
    let scene = Scene::in_deployment(&deployment).await;
    exactly_one_of_many_is_minted(&scene, || deployment.redis().as_ref().unwrap().pause()).await;
    deployment.redis().as_ref().unwrap().resume();
    exactly_one_of_many_is_minted(&scene, || {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s49_one_is_minted_with_redis_never_started() {
    let deployment = Deployment::start(RedisAtStart::NeverStarted);
    let scene = Scene::in_deployment(&deployment).await;
    exactly_one_of_many_is_minted(&scene, || {}).await;
}

/// The same at length, with a hundred thousand tokens and every fault several times, is `replay-storm` in `benches/`.
#[tokio::test(flavor = "multi_thread")]
async fn s49_s51_three_gateways_mint_each_token_once_and_refuse_none_while_a_failover_loses_claims() {
    const TOKENS: usize = 600;
    const LOST: usize = 20;
    let redis = SentinelRedis::start();
    let deployment = Deployment::start_with_three_gateways(&redis.url());
    let scene = Scene::in_deployment(&deployment).await;
    let storm = ReplayStorm {
        tokens: (0..TOKENS).map(|_| scene.token()).collect(),
        presentations: 3,
        gateways: Instance::GATEWAYS.map(|gateway| deployment.public_port(gateway)).into(),
        at_once: 32,
        seed: 49,
    };
    let faults = [Fault::Flush, Fault::LoseToLaggingReplica(LOST), Fault::Restart];
    let record = storm.rage(Servers::Sentinel(Box::new(redis)), &faults).await;

    assert!(record.faults[1].lost_claims >= LOST, "{:?}", record.faults);
    let expected = Tally { minted: TOKENS, replayed: 2 * TOKENS, ..Tally::default() };
    assert_eq!(Tally::of(&record.attempts, TOKENS), expected);
    assert_eq!(committed(&scene), TOKENS as u64);
}
