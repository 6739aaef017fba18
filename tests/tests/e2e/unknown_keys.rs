//! Tokens under keys that nobody knows cost their issuer next to nothing, and honest tokens neither (SECURITY 36).
//!
//! The same at length, with ten thousand tokens, is `unknown-keys` in `benches/`. That it is one request for all gateways together
//! is tested on the caches of `discovery`: here a busy machine may make Redis too slow to agree by, and then each gateway asks for
//! itself.

use std::time::{Duration, Instant};

use countersign_tests::deployment::Instance;
use countersign_tests::token_endpoint::exchange;
use futures::StreamExt as _;

use crate::deployments::{Scene, shared};

const TOKENS: usize = 500;
const AT_ONCE: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn s36_random_kids_cause_a_gateway_one_fetch_at_most_and_good_tokens_are_exchanged() {
    let scene = Scene::in_deployment(shared()).await;
    let gateways = [Instance::Gateway, Instance::SecondGateway].map(|gateway| scene.deployment.url(gateway));
    for gateway in &gateways {
        exchange(gateway, &scene.token(), &[]).await.access_token();
    }
    let (start, before) = (Instant::now(), scene.provider.key_set_requests());

    let signer = scene.provider.signer();
    let claims = scene.claims().with("iss", scene.provider.issuer_url()).to_json();
    let presentations = (0..TOKENS).map(|number| {
        let (gateway, is_good) = (&gateways[number % 2], number % 10 < 2);
        let mut header = signer.header();
        header["kid"] = format!("random-{number}").into();
        let token = if is_good { scene.token() } else { signer.sign_bytes(&header, &claims) };
        async move {
            let answer = exchange(gateway, &token, &[]).await;
            let expected = if is_good { None } else { Some("SUBJECT_TOKEN_NOT_TRUSTED") };
            assert_eq!(answer.reason(), expected, "{number}");
        }
    });
    futures::stream::iter(presentations).buffer_unordered(AT_ONCE).collect::<()>().await;
    let fetches = scene.provider.key_set_requests() - before;
    let intervals = 1 + start.elapsed().as_nanos() / Duration::from_secs(30).as_nanos();
    assert!(fetches >= 1 && fetches as u128 <= gateways.len() as u128 * intervals, "{fetches} in {:?}", start.elapsed());
}
