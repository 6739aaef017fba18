//! Issuers that accept connections and never answer cost their own workspace alone (SECURITY 72, 85). Real sockets, the real cache of
//! keys, and more requests at a time than the listener has places.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use countersign_discovery::address::AddressRules;
use countersign_discovery::{Discovery, DiscoverySettings};
use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::policy_feed::PolicySnapshot;
use countersign_domain::trust::trusted_issuer::TrustedIssuer;
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::id::{TrustedIssuerId, WorkspaceId};
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_domain::values::time::Clock as _;
use countersign_testkit::claims::ClaimSet;
use countersign_testkit::clock::SeededEntropy;
use countersign_testkit::identity_provider::IdentityProvider;
use tokio::task::JoinSet;

use super::*;
use crate::fakes::{SUBJECT, trusted_issuer};
use crate::keys::IssuerKeySets;

/// Requests at a time that name a silent issuer: the listener of a service has 1,024 places.
const FLOOD: usize = 1_200;
/// On one HTTP/2 connection.
const STREAMS: usize = 90;
/// Honest exchanges, of which 99 % must be answered with a token.
const HONEST: usize = 100;

/// A socket that takes connections and never says a word, on a host of its own; the URL that leads to it.
async fn silent(number: usize) -> String {
    let [high, low] = u16::try_from(number + 1).unwrap().to_be_bytes();
    let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::new(127, 1, high, low), 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    url
}

fn issuer(workspace_id: &WorkspaceId, number: u8, url: &str) -> TrustedIssuer {
    let mut issuer = trusted_issuer();
    issuer.workspace_id = workspace_id.clone();
    issuer.id = TrustedIssuerId::from_random([number; 16]);
    issuer.settings.issuer_url = IssuerUrl::parse(url, LoopbackHttp::Allowed).unwrap();
    issuer
}

/// Floods the gateway with tokens of so many silent issuers of another workspace, and counts the honest exchanges that succeed.
async fn honest_exchanges_beside(silent_issuers: usize) -> usize {
    let (honest, other) = (workspace_id(), other_workspace_id());
    let provider = IdentityProvider::start();
    let mut urls = Vec::new();
    for number in 0..silent_issuers {
        urls.push(silent(number).await);
    }
    let policy_of = |id: &WorkspaceId, trusted_issuers: Vec<TrustedIssuer>, trust_relationships| {
        WorkspacePolicy::from(PolicySnapshot {
            workspace_id: id.clone(),
            state: WorkspaceState::Active,
            policy_revision: 1,
            trusted_issuers,
            trust_relationships,
        })
    };
    let world = World::new();
    let mut accepting = relationship(SUBJECT);
    accepting.trusted_issuer_id = issuer(&honest, 255, provider.issuer_url()).id;
    world.policies.set(policy_of(&honest, vec![issuer(&honest, 255, provider.issuer_url())], vec![accepting]));
    let silent_ones = urls.iter().zip(0..).map(|(url, number)| issuer(&other, number, url)).collect();
    world.policies.set(policy_of(&other, silent_ones, vec![]));

    let address_rules = AddressRules { loopback: LoopbackHttp::Allowed, ..AddressRules::default() };
    let settings = DiscoverySettings { address_rules, ..DiscoverySettings::default() };
    let discovery = Discovery::new(&settings, None, Arc::new(SeededEntropy::new(1))).unwrap();
    let keys = Arc::new(IssuerKeySets::new(discovery, Arc::new(world.clock.clone())));
    let pipeline = world.pipeline_with_keys(Arc::clone(&keys) as Arc<dyn crate::ports::Keys>);
    let gateway = Gateway::of(world, pipeline, false).await;

    let now = gateway.world.clock.now();
    let of_silent: Vec<String> =
        urls.iter().map(|url| gateway.world.issuer_key.sign(&ClaimSet::new(url, SUBJECT, GATEWAY, now))).collect();
    let mut flood = JoinSet::new();
    for connection in 0..FLOOD.div_ceil(STREAMS) {
        let channel = PeerChannel::new("exchange-gateway", PeerAddress::plain(&gateway.url("")).unwrap());
        for stream in 0..STREAMS {
            let token = of_silent[(connection * STREAMS + stream) % of_silent.len()].clone();
            let mut client = ExchangeServiceClient::new(channel.clone());
            flood.spawn(async move {
                loop {
                    let refused = client.exchange_token(request(token.clone())).await.unwrap_err();
                    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
                    // So that places that become free are asked for again, and this machine has time for others.
                    tokio::time::sleep(Duration::from_secs(4)).await;
                }
            });
        }
    }
    until("callers wait for silent issuers, and others are turned away", || async {
        keys.count_waiting() > 0 && keys.count_turned_away() > 0
    })
    .await;
    // The first of them has the keys fetched, too.
    let mut exchanged = 0;
    for number in 0..HONEST {
        let claims = ClaimSet::new(provider.issuer_url(), SUBJECT, GATEWAY, now).with("jti", format!("t-{number}"));
        let answer = gateway.post(&[EXCHANGE, JWT, ("subject_token", &provider.sign(&claims))]).await;
        exchanged += usize::from(answer.status == StatusCode::OK);
    }
    assert!(keys.count_waiting() < 384, "{}", keys.count_waiting());
    flood.shutdown().await;
    exchanged
}

#[tokio::test(flavor = "multi_thread")]
async fn s72_s85_one_silent_issuer_under_flood_leaves_others_at_99_percent() {
    let exchanged = honest_exchanges_beside(1).await;
    assert!(exchanged * 100 >= HONEST * 99, "{exchanged} of {HONEST}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s72_s85_two_hundred_silent_issuers_leave_others_at_99_percent() {
    let exchanged = honest_exchanges_beside(200).await;
    assert!(exchanged * 100 >= HONEST * 99, "{exchanged} of {HONEST}");
}
