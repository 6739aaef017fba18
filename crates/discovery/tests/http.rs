//! Real requests to an identity provider that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_discovery::address::AddressRules;
use countersign_discovery::{Discovery, DiscoverySettings, KeySetSource, KeysUnavailable};
use countersign_domain::values::issuer_url::{IssuerUrl, KeySetUrl, LoopbackHttp};
use countersign_testkit::clock::SeededEntropy;
use countersign_testkit::identity_provider::{Behaviour, IdentityProvider};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn discovery_with(loopback: LoopbackHttp) -> Discovery {
    let settings =
        DiscoverySettings { address_rules: AddressRules { loopback, ..AddressRules::default() }, ..DiscoverySettings::default() };
    Discovery::new(&settings, None, Arc::new(SeededEntropy::new(1))).unwrap()
}

fn in_development() -> Discovery {
    discovery_with(LoopbackHttp::Allowed)
}

fn source(issuer: &str) -> KeySetSource {
    KeySetSource::new(issuer.parse().unwrap(), None)
}

fn pinned(issuer: &str, jwks_url: &str) -> KeySetSource {
    KeySetSource::new(issuer.parse().unwrap(), Some(jwks_url.parse().unwrap()))
}

async fn key_ids(discovery: &Discovery, source: &KeySetSource) -> Result<Vec<String>, KeysUnavailable> {
    Ok(discovery.key_set(source).await?.key_ids().map(ToString::to_string).collect())
}

/// Asserts that an issuer whose key set, and one whose discovery document, behaves so has no keys, and that finding out takes no
/// longer than that.
async fn assert_refused(behaviour: Behaviour, limit: Duration) {
    let (in_keys, in_document) = (IdentityProvider::start(), IdentityProvider::start());
    in_keys.key_set_behaves(behaviour.clone());
    in_document.discovery_behaves(behaviour.clone());
    for provider in [&in_keys, &in_document] {
        let start = Instant::now();
        let answer = in_development().key_set(&source(provider.issuer_url())).await;
        assert!(answer.is_err(), "{behaviour:?}");
        assert!(start.elapsed() < limit, "{behaviour:?} took {:?}", start.elapsed());
    }
    assert_eq!((in_keys.discovery_requests(), in_keys.key_set_requests()), (1, 1));
    assert_eq!((in_document.discovery_requests(), in_document.key_set_requests()), (1, 0));
}

const AT_ONCE: Duration = Duration::from_secs(4);

#[tokio::test]
async fn an_honest_issuer_has_keys() {
    let provider = IdentityProvider::start_at("/tenant");
    let expected = provider.signer().key_id().to_owned();
    assert_eq!(key_ids(&in_development(), &source(provider.issuer_url())).await.unwrap(), std::slice::from_ref(&expected));
    let pinned = pinned("https://elsewhere.example", &provider.key_set_url());
    assert_eq!(key_ids(&in_development(), &pinned).await.unwrap(), [expected]);
}

#[tokio::test]
async fn a_rotated_key_is_found() {
    let provider = IdentityProvider::start();
    let (discovery, source) = (in_development(), source(provider.issuer_url()));
    discovery.key_set(&source).await.unwrap();
    let signer = provider.rotate(countersign_domain::values::signature_algorithm::SignatureAlgorithm::Es256);
    let key_set = discovery.refresh_for_unknown_key(&source, Some(signer.key_id())).await.unwrap();
    assert!(key_set.key_ids().any(|key_id| key_id.as_str() == signer.key_id()));
}

#[tokio::test]
async fn s40_redirects_are_not_followed() {
    let honest = IdentityProvider::start();
    assert_refused(Behaviour::Redirect(honest.key_set_url()), AT_ONCE).await;
    assert_refused(Behaviour::Redirect("/keys".to_owned()), AT_ONCE).await;
    assert_eq!(honest.connections(), 0);
}

#[tokio::test]
async fn s40_keys_on_another_host_are_not_fetched() {
    let (liar, other) = (IdentityProvider::start(), IdentityProvider::start());
    liar.claim_in_discovery("jwks_uri", other.key_set_url());
    assert!(in_development().key_set(&source(liar.issuer_url())).await.is_err());
    assert_eq!((liar.key_set_requests(), other.connections()), (0, 0));
}

#[tokio::test]
async fn s15_an_issuer_that_calls_itself_otherwise_has_no_keys() {
    let provider = IdentityProvider::start();
    provider.claim_in_discovery("issuer", format!("{}/", provider.issuer_url()));
    assert!(in_development().key_set(&source(provider.issuer_url())).await.is_err());
    assert_eq!(provider.key_set_requests(), 0);
}

#[tokio::test]
async fn s44_other_answers_than_a_whole_200_are_refused() {
    for status in [201, 204, 206, 304, 400, 401, 404, 500, 503] {
        assert_refused(Behaviour::Status(status), AT_ONCE).await;
    }
    for body in ["", "null", "[]", "<html></html>", "{\"keys\":[}"] {
        assert_refused(Behaviour::Body(body.into()), AT_ONCE).await;
    }
    assert_refused(Behaviour::Truncated, AT_ONCE).await;
    assert_refused(Behaviour::Close, AT_ONCE).await;
}

#[tokio::test]
async fn s41_what_has_no_end_ends_at_the_limit() {
    assert_refused(Behaviour::EndlessBody, AT_ONCE).await;
    assert_refused(Behaviour::EndlessHeader, AT_ONCE).await;
    assert_refused(Behaviour::GzipBomb, AT_ONCE).await;
}

#[tokio::test]
async fn s41_who_stalls_or_drips_is_left_after_five_seconds() {
    let limit = Duration::from_secs(8);
    tokio::join!(assert_refused(Behaviour::Stall, limit), assert_refused(Behaviour::Drip, limit));
}

#[tokio::test]
async fn s41_a_hundred_kibibytes_are_accepted_and_one_byte_more_is_not() {
    for (length, is_accepted) in [(100 * 1024, true), (100 * 1024 + 1, false)] {
        let provider = IdentityProvider::start();
        let mut body = br#"{"keys":[]}"#.to_vec();
        body.resize(length, b' ');
        provider.key_set_behaves(Behaviour::Body(body));
        assert_eq!(in_development().key_set(&source(provider.issuer_url())).await.is_ok(), is_accepted, "{length}");
    }
}

#[tokio::test]
async fn s38_plain_http_is_refused_without_the_development_switch() {
    let provider = IdentityProvider::start();
    let production = discovery_with(LoopbackHttp::Refused);
    assert!(production.key_set(&source(provider.issuer_url())).await.is_err());
    assert!(production.key_set(&pinned("https://issuer.example", &provider.key_set_url())).await.is_err());
    assert_eq!(provider.connections(), 0);
}

#[tokio::test]
async fn s39_addresses_of_ours_are_never_dialled() {
    let provider = IdentityProvider::start_tls();
    let port = provider.address().port();
    let production = discovery_with(LoopbackHttp::Refused);
    for host in ["localhost", "127.0.0.1", "[::1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]"] {
        let issuer = IssuerUrl::parse(&format!("https://{host}:{port}"), LoopbackHttp::Refused).unwrap();
        assert!(production.key_set(&KeySetSource::new(issuer, None)).await.is_err(), "{host}");
        let keys = KeySetUrl::parse(&format!("https://{host}:{port}/keys"), LoopbackHttp::Refused).unwrap();
        let pinned = KeySetSource::new("https://issuer.example".parse().unwrap(), Some(keys));
        assert!(production.key_set(&pinned).await.is_err(), "{host}");
    }
    assert_eq!(provider.connections(), 0);
}

#[tokio::test]
async fn s47_a_certificate_of_an_unknown_authority_is_refused() {
    let provider = IdentityProvider::start_tls();
    assert!(in_development().key_set(&source(provider.issuer_url())).await.is_err());
    assert!(provider.connections() > 0, "it was dialled");
    assert_eq!(provider.discovery_requests(), 0);
}

#[tokio::test]
async fn s47_requests_carry_nothing_but_what_is_needed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/keys", listener.local_addr().unwrap().port());
    let source = pinned("https://issuer.example", &url);
    let discovery = in_development();
    let server = async {
        let mut requests = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            requests.push(String::from_utf8(request).unwrap());
            let answer = b"HTTP/1.1 200 OK\r\nset-cookie: session=1\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}";
            stream.write_all(answer).await.unwrap();
        }
        requests
    };
    let client = async {
        discovery.key_set(&source).await.unwrap();
        discovery.refresh_for_unknown_key(&source, Some("unknown")).await.unwrap();
    };
    let (requests, ()) = tokio::join!(server, client);
    let names = |request: &str| {
        let mut names: Vec<String> =
            request.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&requests[0]), ["accept", "accept-encoding", "host", "user-agent"]);
    assert_eq!(names(&requests[1]), ["accept", "accept-encoding", "cache-control", "host", "user-agent"]);
    assert!(requests[1].to_ascii_lowercase().contains("cache-control: no-cache"));
}

#[tokio::test]
async fn s35_the_lifetime_is_what_the_answer_says() {
    // Seen through behaviour only: a set that says nothing of its age is not asked for again at once.
    let provider = IdentityProvider::start();
    provider.key_set_behaves(Behaviour::Headers(vec!["cache-control: no-store".to_owned()]));
    let (discovery, source) = (in_development(), source(provider.issuer_url()));
    for _ in 0..10 {
        discovery.key_set(&source).await.unwrap();
    }
    assert_eq!(provider.key_set_requests(), 1);
}
