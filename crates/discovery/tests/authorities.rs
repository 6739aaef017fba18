//! Issuers behind private authorities, and behind a proxy.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_discovery::address::AddressRules;
use countersign_discovery::{Authorities, Discovery, DiscoverySettings, EgressProxy, KeySetSource};
use countersign_domain::trust::issuer_health::IssuerProblem;
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_testkit::clock::SeededEntropy;
use countersign_testkit::identity_provider::{Behaviour, CertificateAuthority, IdentityProvider, Leaf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// With loopback addresses, where the issuers of these tests are.
fn discovery(egress_proxy: Option<EgressProxy>) -> Discovery {
    let address_rules = AddressRules { loopback: LoopbackHttp::Allowed, ..AddressRules::default() };
    Discovery::new(&DiscoverySettings { address_rules, egress_proxy }, None, Arc::new(SeededEntropy::new(1))).unwrap()
}

fn source(provider: &IdentityProvider) -> KeySetSource {
    KeySetSource::new(provider.issuer_url().parse().unwrap(), None)
}

fn trusting(provider: &IdentityProvider, authority: &CertificateAuthority) -> KeySetSource {
    source(provider).with_authorities(authority.certificate().parse::<Authorities>().unwrap())
}

async fn problem(discovery: &Discovery, source: &KeySetSource) -> Option<IssuerProblem> {
    discovery.examine(source).await.unwrap().keys.err()
}

#[tokio::test]
async fn an_issuer_behind_a_private_authority_has_keys_for_whoever_trusts_that_authority() {
    let authority = Arc::new(CertificateAuthority::new());
    for leaf in [Leaf::Honest, Leaf::ByIntermediate] {
        let provider = IdentityProvider::start_tls_at("/cluster", &authority, leaf);
        let discovery = discovery(None);
        assert_eq!(discovery.key_set(&trusting(&provider, &authority)).await.unwrap().len(), 1, "{leaf:?}");
        assert!(discovery.key_set(&source(&provider)).await.is_err(), "{leaf:?}: trusted without its authority");
        assert_eq!(problem(&discovery, &source(&provider)).await, Some(IssuerProblem::CertificateRefused));
    }
}

/// Runs another test of this file in a process of its own, which finds no authority on the machine.
#[test]
fn without_a_single_authority_of_the_system_private_ones_still_count() {
    let mut fetching = std::process::Command::new(std::env::current_exe().unwrap());
    fetching.args(["--exact", "an_issuer_behind_a_private_authority_has_keys_for_whoever_trusts_that_authority"]);
    fetching.env("SSL_CERT_FILE", "/nowhere/file").env("SSL_CERT_DIR", "/nowhere");
    let output = fetching.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
async fn s47_a_private_authority_makes_no_other_certificate_good() {
    let authority = Arc::new(CertificateAuthority::new());
    for leaf in Leaf::REFUSED {
        let provider = IdentityProvider::start_tls_at("", &authority, leaf);
        let discovery = discovery(None);
        assert!(discovery.key_set(&trusting(&provider, &authority)).await.is_err(), "{leaf:?}");
        assert_eq!(
            problem(&discovery, &trusting(&provider, &authority)).await,
            Some(IssuerProblem::CertificateRefused),
            "{leaf:?}"
        );
        assert_eq!(provider.discovery_requests(), 0, "{leaf:?}");
    }
}

#[tokio::test]
async fn s34_who_trusts_another_authority_borrows_no_keys() {
    let (authority, other) = (Arc::new(CertificateAuthority::new()), CertificateAuthority::new());
    let provider = IdentityProvider::start_tls_at("", &authority, Leaf::Honest);
    let discovery = discovery(None);
    discovery.key_set(&trusting(&provider, &authority)).await.unwrap();
    assert!(discovery.key_set(&trusting(&provider, &other)).await.is_err());
    assert!(discovery.health(&trusting(&provider, &other)).unwrap().key_set.is_none());
}

#[tokio::test]
async fn s39_a_private_authority_opens_no_network() {
    let authority = Arc::new(CertificateAuthority::new());
    let provider = IdentityProvider::start_tls_at("", &authority, Leaf::Honest);
    let production = Discovery::new(&DiscoverySettings::default(), None, Arc::new(SeededEntropy::new(1))).unwrap();
    assert_eq!(problem(&production, &trusting(&provider, &authority)).await, Some(IssuerProblem::HostRefused));
    assert_eq!(provider.connections(), 0);
}

#[tokio::test]
async fn s41_over_tls_the_limits_are_the_same() {
    let authority = Arc::new(CertificateAuthority::new());
    for behaviour in [Behaviour::EndlessInterim, Behaviour::EndlessBody] {
        let provider = IdentityProvider::start_tls_at("", &authority, Leaf::Honest);
        provider.key_set_behaves(behaviour.clone());
        let start = Instant::now();
        assert!(discovery(None).key_set(&trusting(&provider, &authority)).await.is_err(), "{behaviour:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{behaviour:?} took {:?}", start.elapsed());
        assert_eq!(provider.key_set_requests(), 1, "{behaviour:?}");
    }
}

/// A proxy that tunnels every `CONNECT` to this issuer, whatever host it names; gives the heads of the requests it got.
async fn tunnel_to(provider: &IdentityProvider) -> (EgressProxy, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:password@127.0.0.1:{}", listener.local_addr().unwrap().port());
    let (heads, received) = tokio::sync::mpsc::unbounded_channel();
    let issuer = provider.address();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let heads = heads.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                heads.send(String::from_utf8(head).unwrap()).unwrap();
                client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
                let mut server = TcpStream::connect(issuer).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (url.parse().unwrap(), received)
}

#[tokio::test]
async fn s47_an_explicit_proxy_carries_every_request_and_tls_is_with_the_issuer() {
    let authority = Arc::new(CertificateAuthority::new());
    let provider = IdentityProvider::start_tls_at("", &authority, Leaf::Honest);
    let (proxy, mut heads) = tunnel_to(&provider).await;
    let discovery = discovery(Some(proxy));
    assert_eq!(discovery.key_set(&trusting(&provider, &authority)).await.unwrap().len(), 1);
    let host = provider.issuer_url().strip_prefix("https://").unwrap();
    for _ in 0..2 {
        let head = heads.recv().await.unwrap();
        assert!(head.starts_with(&format!("CONNECT {host} HTTP/1.1\r\n")), "{head}");
        assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnzd29yza=="), "{head}");
    }
    // Whom the proxy leads to makes no difference: the certificate must be the issuer's.
    assert_eq!(problem(&discovery, &source(&provider)).await, Some(IssuerProblem::CertificateRefused));
}

#[tokio::test]
async fn s39_hosts_that_are_addresses_are_checked_before_a_proxy_hears_of_them() {
    let provider = IdentityProvider::start();
    let (proxy, mut heads) = tunnel_to(&provider).await;
    let settings = DiscoverySettings { egress_proxy: Some(proxy), ..DiscoverySettings::default() };
    let production = Discovery::new(&settings, None, Arc::new(SeededEntropy::new(1))).unwrap();
    let source = KeySetSource::new("https://169.254.169.254".parse().unwrap(), None);
    assert_eq!(problem(&production, &source).await, Some(IssuerProblem::HostRefused));
    assert!(heads.try_recv().is_err());
}
