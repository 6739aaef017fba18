//! What else an identity provider could try. `http.rs` holds the plain cases; here are those that an attacker thinks of.
//!
//! Each is tried twice, in the key set and in the discovery document. A provider that gets away with nothing leaves
//! [`KeysUnavailable`] behind, the same for all (SECURITY 42), and one that only wastes its own breath is as good as an honest one.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_discovery::address::AddressRules;
use countersign_discovery::{Discovery, DiscoverySettings, KeySetSource, KeysUnavailable};
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_testkit::clock::SeededEntropy;
use countersign_testkit::hostile_keys;
use countersign_testkit::identity_provider::{
    Behaviour, CertificateAuthority, ConnectionBehaviour, IdentityProvider, Leaf, bombs,
};
use futures::future::join_all;
use serde_json::json;

fn discovery() -> Discovery {
    let settings = DiscoverySettings {
        address_rules: AddressRules { loopback: LoopbackHttp::Allowed, ..AddressRules::default() },
        ..DiscoverySettings::default()
    };
    Discovery::new(&settings, None, Arc::new(SeededEntropy::new(1))).unwrap()
}

fn source(provider: &IdentityProvider) -> KeySetSource {
    KeySetSource::new(provider.issuer_url().parse().unwrap(), None)
}

/// The ids of the keys that a gateway which never heard of the provider finds.
async fn key_ids(provider: &IdentityProvider) -> Result<Vec<String>, KeysUnavailable> {
    Ok(discovery().key_set(&source(provider)).await?.key_ids().map(ToString::to_string).collect())
}

/// The provider behaves so in its key set, and another one in its discovery document.
fn misbehaving(behaviour: &Behaviour) -> [IdentityProvider; 2] {
    let providers = [IdentityProvider::start(), IdentityProvider::start()];
    providers[0].key_set_behaves(behaviour.clone());
    providers[1].discovery_behaves(behaviour.clone());
    providers
}

/// Asserts that no keys come of this, and that to find out takes no longer than that and one request.
async fn assert_refused_within(behaviour: Behaviour, limit: Duration) {
    for provider in misbehaving(&behaviour) {
        let start = Instant::now();
        assert_eq!(key_ids(&provider).await, Err(KeysUnavailable), "{behaviour:?}");
        assert!(start.elapsed() < limit, "{behaviour:?} took {:?}", start.elapsed());
        let asked = (provider.discovery_requests(), provider.key_set_requests());
        assert!(asked == (1, 1) || asked == (1, 0), "{behaviour:?}: {asked:?}");
        assert_eq!(
            provider.connections(),
            asked.0 + asked.1,
            "{behaviour:?}: nobody is asked again, and nothing else is asked for"
        );
    }
}

/// Asserts that this does no harm.
async fn assert_harmless(behaviour: Behaviour) {
    for provider in misbehaving(&behaviour) {
        assert_eq!(key_ids(&provider).await, Ok(vec!["key-1".to_owned()]), "{behaviour:?}");
    }
}

/// Well below the deadline: what is refused is refused for what it is.
const AT_ONCE: Duration = Duration::from_secs(4);
/// The deadline of five seconds, and some for a busy machine.
const DEADLINE: Duration = Duration::from_secs(8);

#[tokio::test]
async fn s40_no_redirect_is_followed_whatever_its_status() {
    let elsewhere = IdentityProvider::start();
    for status in [300, 301, 302, 303, 305, 307, 308] {
        assert_refused_within(Behaviour::RedirectWith(status, elsewhere.key_set_url()), AT_ONCE).await;
    }
    // Nor is one that is no status.
    assert_harmless(Behaviour::Headers(vec![
        format!("location: {}", elsewhere.key_set_url()),
        format!("refresh: 0; url={}", elsewhere.key_set_url()),
        format!("content-location: {}", elsewhere.key_set_url()),
        format!("link: <{}>; rel=\"canonical\"", elsewhere.key_set_url()),
        format!("alt-svc: h2=\"127.0.0.1:{}\"", elsewhere.address().port()),
    ]))
    .await;
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn s40_a_redirect_to_itself_is_not_followed_once() {
    assert_refused_within(Behaviour::RedirectLoop, AT_ONCE).await;
}

#[tokio::test]
async fn s40_the_keys_of_another_port_are_another_hosts() {
    let (liar, other) = (IdentityProvider::start(), IdentityProvider::start());
    let port = other.address().port();
    for url in
        [format!("http://127.0.0.1:{port}/keys"), format!("http://localhost:{port}/keys"), format!("http://[::1]:{port}/keys")]
    {
        liar.claim_in_discovery("jwks_uri", url.as_str());
        assert_eq!(key_ids(&liar).await, Err(KeysUnavailable), "{url}");
    }
    assert_eq!((other.connections(), liar.key_set_requests()), (0, 0));
}

#[tokio::test]
async fn s41_who_stops_in_the_middle_is_left_after_five_seconds() {
    join_all(
        [Behaviour::StallAfterHeader, Behaviour::StallInBody, Behaviour::DripBody, Behaviour::DripChunks]
            .map(|behaviour| assert_refused_within(behaviour, DEADLINE)),
    )
    .await;
}

#[tokio::test]
async fn s41_both_documents_share_one_deadline() {
    let late = || Behaviour::Late(Duration::from_secs(3));
    let (in_one, in_both) = (IdentityProvider::start(), IdentityProvider::start());
    in_one.key_set_behaves(late());
    in_both.key_set_behaves(late());
    in_both.discovery_behaves(late());
    let start = Instant::now();
    let (one, both) = tokio::join!(key_ids(&in_one), key_ids(&in_both));
    assert_eq!((one.map(|keys| keys.len()), both), (Ok(1), Err(KeysUnavailable)));
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn s41_headers_and_chunks_without_end_end_at_a_limit() {
    for behaviour in [
        Behaviour::EndlessChunks,
        Behaviour::EndlessChunkExtension,
        Behaviour::LongHeader(10_000_000),
        Behaviour::ManyHeaders(10_000),
    ] {
        assert_refused_within(behaviour, DEADLINE).await;
    }
}

#[tokio::test]
async fn s41_trailers_without_end_end_at_a_limit() {
    // Whether what came before them counts is the client's to say; that it ends is ours.
    for provider in misbehaving(&Behaviour::EndlessTrailers) {
        let start = Instant::now();
        let _ = key_ids(&provider).await;
        assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn s41_interim_answers_without_end_end_at_the_limit() {
    assert_refused_within(Behaviour::EndlessInterim, Duration::from_secs(2)).await;
}

/// How long at most this kept a thread that it shares with others from looking at its timers.
async fn longest_pause_during(work: impl Future<Output = ()>) -> Duration {
    let (mut work, mut ticks) = (std::pin::pin!(work), tokio::time::interval(Duration::from_millis(5)));
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    loop {
        let is_over = tokio::select! {
            _ = ticks.tick() => false,
            () = &mut work => true,
        };
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if is_over {
            return longest;
        }
    }
}

#[tokio::test]
async fn s41_s72_whatever_one_issuer_pours_out_the_others_go_on() {
    for behaviour in [
        Behaviour::EndlessInterim,
        Behaviour::EndlessHeader,
        Behaviour::EndlessBody,
        Behaviour::EndlessChunks,
        Behaviour::EndlessChunkExtension,
        Behaviour::EndlessTrailers,
    ] {
        let (hostile, honest) = (IdentityProvider::start(), IdentityProvider::start());
        hostile.key_set_behaves(behaviour.clone());
        let discovery = discovery();
        let (of_hostile, of_honest) = (source(&hostile), source(&honest));
        let pause = longest_pause_during(async {
            let start = Instant::now();
            let honest = async {
                assert!(discovery.key_set(&of_honest).await.is_ok(), "{behaviour:?}");
                assert!(start.elapsed() < Duration::from_secs(2), "{behaviour:?}: keys after {:?}", start.elapsed());
            };
            let _ = tokio::join!(discovery.key_set(&of_hostile), honest);
        })
        .await;
        assert!(pause < Duration::from_millis(400), "{behaviour:?}: nothing else ran for {pause:?}");
    }
}

#[tokio::test]
async fn s41_a_tls_handshake_that_stalls_or_drips_is_left_after_five_seconds() {
    let refusals =
        [ConnectionBehaviour::Stall, ConnectionBehaviour::Drip, ConnectionBehaviour::Close, ConnectionBehaviour::PlainHttp].map(
            |behaviour| async move {
                for provider in [IdentityProvider::start_tls(), IdentityProvider::start()] {
                    provider.connections_behave(behaviour);
                    let start = Instant::now();
                    assert_eq!(key_ids(&provider).await, Err(KeysUnavailable), "{behaviour:?}");
                    assert!(start.elapsed() < DEADLINE, "{behaviour:?} took {:?}", start.elapsed());
                    assert_eq!(provider.key_set_requests(), 0, "{behaviour:?}");
                }
            },
        );
    join_all(refusals).await;
}

#[tokio::test]
async fn s41_ten_thousand_keys_are_refused_and_64_are_not() {
    let provider = IdentityProvider::start();
    for (count, is_accepted) in [(64, true), (65, false), (10_000, false)] {
        provider.publish(hostile_keys::crowd(count));
        let start = Instant::now();
        assert_eq!(
            key_ids(&provider).await.map(|keys| keys.len()),
            if is_accepted { Ok(count) } else { Err(KeysUnavailable) },
            "{count}"
        );
        assert!(start.elapsed() < AT_ONCE, "{count} keys took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn s11_s41_deep_and_wide_documents_are_refused_at_once() {
    for bomb in [bombs::deep_json(33), bombs::deep_json(50_000), bombs::wide_json(10_001), bombs::wide_json(49_000)] {
        assert!(bomb.len() < 102_400, "the length is not what refuses it");
        assert_refused_within(Behaviour::Body(bomb), AT_ONCE).await;
    }
    let provider = IdentityProvider::start();
    for harmless in [bombs::deep_json(30), bombs::wide_json(9_000)] {
        provider.key_set_behaves(Behaviour::Body(harmless));
        assert_eq!(key_ids(&provider).await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn s41_what_is_encoded_is_counted_decoded_and_only_as_it_was_asked_for() {
    assert_harmless(Behaviour::Gzip).await;
    for encoding in ["br", "zstd", "compress", "gzip, gzip", "aes128gcm"] {
        for provider in misbehaving(&Behaviour::SaidToBeEncoded(encoding.to_owned())) {
            // What was not asked for is not decoded. Whoever says so of plain JSON harms nobody.
            let found = key_ids(&provider).await;
            assert!(found.is_err() || found == Ok(vec!["key-1".to_owned()]), "{encoding}: {found:?}");
        }
    }
    assert_refused_within(Behaviour::SaidToBeEncoded("gzip".to_owned()), AT_ONCE).await;
    let provider = IdentityProvider::start();
    assert!(key_ids(&provider).await.is_ok());
    for request in provider.requests() {
        assert!(request.to_ascii_lowercase().contains("\r\naccept-encoding: gzip\r\n"), "{request}");
    }
}

#[tokio::test]
async fn s42_s44_what_is_no_answer_is_no_answer() {
    for behaviour in [
        Behaviour::LoginPage,
        Behaviour::TruncatedChunks,
        Behaviour::ContentLength(10),
        Behaviour::ContentLength(100_000),
        Behaviour::TwoContentLengths,
        Behaviour::HonestUnder(201),
        Behaviour::HonestUnder(203),
        Behaviour::HonestUnder(206),
        Behaviour::HonestUnder(304),
        Behaviour::HonestUnder(401),
        Behaviour::HonestUnder(404),
        Behaviour::HonestUnder(500),
        Behaviour::Status(204),
        Behaviour::Status(429),
        Behaviour::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        Behaviour::Raw(br#"{"keys":[]}"#.to_vec()),
        Behaviour::Raw(b"HTTP/0.9 200 OK\r\n\r\n{\"keys\":[]}".to_vec()),
        Behaviour::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{\"keys\":[]}".to_vec()),
        Behaviour::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-b\r\n{\"keys\":[]}\r\n0\r\n\r\n".to_vec()),
        Behaviour::Raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffb\r\n{\"keys\":[]}\r\n0\r\n\r\n".to_vec(),
        ),
        Behaviour::Raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n".to_vec()),
        Behaviour::Raw(vec![0; 4_096]),
        Behaviour::Body(Vec::new()),
        Behaviour::Body(b"null".to_vec()),
        Behaviour::Body(b"\xef\xbb\xbf{\"keys\":[]}".to_vec()),
        Behaviour::Body(b"{\"keys\":[]}{\"keys\":[]}".to_vec()),
        Behaviour::Body(b"{\"keys\":[],\"x\":\"\xff\"}".to_vec()),
        Behaviour::Body(b"{\"keys\":[],\"x\":1e999}".to_vec()),
        Behaviour::Body(b"{\"keys\":[],\"keys\":[]}".to_vec()),
        Behaviour::Body(br#"{"keys":{"0":{}}}"#.to_vec()),
    ] {
        assert_refused_within(behaviour, AT_ONCE).await;
    }
}

#[tokio::test]
async fn s44_an_unasked_second_answer_is_not_read() {
    let provider = IdentityProvider::start();
    let unasked = json!({ "keys": hostile_keys::crowd(1) }).to_string().into_bytes();
    provider.key_set_behaves(Behaviour::AnotherAnswer(unasked));
    let (discovery, source) = (discovery(), source(&provider));
    for key_id in ["one", "two"] {
        let key_set = discovery.refresh_for_unknown_key(&source, Some(key_id)).await;
        assert!(key_set.unwrap().key_ids().all(|held| held.as_str() == "key-1"));
    }
}

#[tokio::test]
async fn s44_after_any_misbehaviour_the_last_good_set_is_still_there() {
    for behaviour in [
        Behaviour::LoginPage,
        Behaviour::Truncated,
        Behaviour::RedirectLoop,
        Behaviour::GzipBomb,
        Behaviour::Body(bombs::deep_json(1_000)),
        Behaviour::HonestUnder(404),
    ] {
        let provider = IdentityProvider::start();
        let (discovery, source) = (discovery(), source(&provider));
        discovery.key_set(&source).await.unwrap();
        provider.key_set_behaves(behaviour.clone());
        let key_set = discovery.refresh_for_unknown_key(&source, Some("unknown")).await.unwrap();
        assert_eq!(key_set.key_ids().count(), 1, "{behaviour:?}");
        assert_eq!(provider.key_set_requests(), 2, "{behaviour:?}");
    }
}

#[tokio::test]
async fn s35_a_new_answer_replaces_the_old_one_whole() {
    let provider = IdentityProvider::start();
    let other = json!({ "keys": hostile_keys::crowd(2) }).to_string().into_bytes();
    provider.key_set_behaves(Behaviour::Sequence(vec![Behaviour::Honest, Behaviour::Body(other)]));
    let (discovery, source) = (discovery(), source(&provider));
    assert_eq!(discovery.key_set(&source).await.unwrap().key_ids().map(ToString::to_string).collect::<Vec<_>>(), ["key-1"]);
    let key_set = discovery.refresh_for_unknown_key(&source, Some("crowd-0")).await.unwrap();
    assert_eq!(key_set.key_ids().map(ToString::to_string).collect::<Vec<_>>(), ["crowd-0", "crowd-1"]);
}

#[tokio::test]
async fn s35_no_header_makes_a_set_older_or_younger_than_it_is() {
    for lines in [
        ["age: 4294967295", "cache-control: max-age=60"],
        ["age: -1", "cache-control: max-age=-1"],
        ["expires: Thu, 01 Jan 1970 00:00:00 GMT", "cache-control: no-cache, no-store, must-revalidate"],
        ["date: Thu, 01 Jan 2099 00:00:00 GMT", "cache-control: max-age=18446744073709551616"],
        ["cache-control: max-age=1", "cache-control: max-age=999999999"],
        ["retry-after: 0", "pragma: no-cache"],
    ] {
        let provider = IdentityProvider::start();
        provider.key_set_behaves(Behaviour::Headers(lines.map(str::to_owned).into()));
        let (discovery, source) = (discovery(), source(&provider));
        for _ in 0..20 {
            assert_eq!(discovery.key_set(&source).await.unwrap().len(), 1, "{lines:?}");
        }
        assert_eq!(provider.key_set_requests(), 1, "{lines:?}");
    }
}

#[tokio::test]
async fn s05_private_and_symmetric_keys_served_are_not_used() {
    let provider = IdentityProvider::start();
    for algorithm in [SignatureAlgorithm::Rs256, SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa] {
        let signer = provider.rotate_unpublished(algorithm);
        provider.publish(vec![
            signer.private_jwk(),
            hostile_keys::symmetric("shared"),
            provider.rotate_unpublished(algorithm).public_jwk(),
        ]);
        let found = key_ids(&provider).await.unwrap();
        assert_eq!(found, [provider.signer().key_id()], "{algorithm}");
    }
}

#[tokio::test]
async fn s43_every_broken_key_is_skipped_and_the_rest_stays_usable() {
    let provider = IdentityProvider::start();
    let good = provider.published();
    for (what, key) in hostile_keys::broken() {
        provider.publish([vec![key], good.clone()].concat());
        assert_eq!(key_ids(&provider).await, Ok(vec!["key-1".to_owned()]), "{what}");
    }
    let all: Vec<_> = hostile_keys::broken().into_iter().map(|(_, key)| key).collect();
    provider.publish([all, good].concat());
    assert_eq!(key_ids(&provider).await, Ok(vec!["key-1".to_owned()]));
}

#[tokio::test]
async fn s43_duplicate_kids_are_told_and_the_rest_stays_usable() {
    let provider = IdentityProvider::start();
    let (first, second) = (provider.signer().public_jwk(), provider.rotate(SignatureAlgorithm::Es256).public_jwk());
    let (curve, rsa) =
        (provider.rotate(SignatureAlgorithm::Es384).public_jwk(), provider.rotate(SignatureAlgorithm::Rs256).public_jwk());
    let named = |key: &serde_json::Value, kid: &str| hostile_keys::with(key, "kid", json!(kid));
    // Two for one algorithm are one too many; two that no token could confuse are not, and neither is a broken one.
    provider.publish(vec![
        named(&first, "twice"),
        named(&second, "twice"),
        named(&curve, "apart"),
        named(&rsa, "apart"),
        named(&hostile_keys::symmetric("apart"), "apart"),
        second.clone(),
    ]);
    let key_set = discovery().key_set(&source(&provider)).await.unwrap();
    assert_eq!(key_set.ambiguous_key_ids().iter().map(ToString::to_string).collect::<Vec<_>>(), ["twice"]);
    assert_eq!(key_set.len(), 5);
    // The same key twice is one key, as GitHub Enterprise Server lists it: once with `alg` and once without.
    provider.publish(vec![first.clone(), hostile_keys::without(&first, "alg"), first, second]);
    let key_set = discovery().key_set(&source(&provider)).await.unwrap();
    assert_eq!((key_set.ambiguous_key_ids(), key_set.len()), (&[][..], 2));
}

#[tokio::test]
async fn s15_the_document_of_another_issuer_is_refused_however_like_it_is() {
    let provider = IdentityProvider::start_at("/tenant");
    let url = provider.issuer_url().to_owned();
    for lie in [
        json!(format!("{url}/")),
        json!(format!("{url}?x")),
        json!(format!("{url}#")),
        json!(format!(" {url}")),
        json!(url.replace("http:", "HTTP:")),
        json!(url.replace("tenant", "%74enant")),
        json!(url.replace("127.0.0.1", "localhost")),
        json!(url.replace("127.0.0.1", "127.1")),
        json!([url]),
        json!({ "0": url }),
        json!(null),
        json!(""),
        json!("https://{tenantid}/tenant"),
    ] {
        provider.claim_in_discovery("issuer", lie.clone());
        assert_eq!(key_ids(&provider).await, Err(KeysUnavailable), "{lie}");
    }
    assert_eq!(provider.key_set_requests(), 0);
    provider.claim_in_discovery("issuer", url);
    assert!(key_ids(&provider).await.is_ok());
}

#[tokio::test]
async fn s24_an_issuer_that_ends_in_a_slash_has_keys_under_that_name_alone() {
    let provider = IdentityProvider::start_at("/tenant/");
    assert_eq!(key_ids(&provider).await, Ok(vec!["key-1".to_owned()]));
    let without: KeySetSource = KeySetSource::new(provider.issuer_url().trim_end_matches('/').parse().unwrap(), None);
    assert!(discovery().key_set(&without).await.is_err());
}

#[tokio::test]
async fn s47_no_certificate_of_an_unknown_authority_is_accepted() {
    let authority = Arc::new(CertificateAuthority::new());
    let provider = IdentityProvider::start_tls_at("/mint", &authority, Leaf::Honest);
    for leaf in Leaf::REFUSED.into_iter().chain([Leaf::Honest, Leaf::ByIntermediate]) {
        provider.shows(leaf);
        assert_eq!(key_ids(&provider).await, Err(KeysUnavailable), "{leaf:?}");
    }
    assert!(provider.connections() >= 10, "it was dialled");
    assert!(provider.requests().is_empty(), "nothing was said to it");
}

#[tokio::test]
async fn s47_cookies_and_challenges_are_ignored() {
    let provider = IdentityProvider::start();
    let lines =
        ["set-cookie: session=1; Path=/", "www-authenticate: Basic realm=\"x\"", "strict-transport-security: max-age=31536000"];
    let lines: Vec<String> = lines.map(str::to_owned).into();
    provider.discovery_behaves(Behaviour::Headers(lines.clone()));
    provider.key_set_behaves(Behaviour::Headers(lines));
    let (discovery, source) = (discovery(), source(&provider));
    discovery.key_set(&source).await.unwrap();
    discovery.refresh_for_unknown_key(&source, Some("unknown")).await.unwrap();
    let requests = provider.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    for request in requests.iter().map(|request| request.to_ascii_lowercase()) {
        for member in ["cookie:", "authorization:", "referer:", "origin:", "x-forwarded"] {
            assert!(!request.contains(member), "{request}");
        }
    }
}

/// Runs another test of this file in a process of its own, whose environment names a proxy in every way that clients know.
#[test]
fn s47_no_proxy_of_the_environment_is_used() {
    let proxy = IdentityProvider::start();
    let url = format!("http://127.0.0.1:{}", proxy.address().port());
    let mut fetching = std::process::Command::new(std::env::current_exe().unwrap());
    fetching.args(["--exact", "s47_cookies_and_challenges_are_ignored"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        fetching.env(name, &url).env(name.to_ascii_lowercase(), &url);
    }
    let output = fetching.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    assert_eq!(proxy.connections(), 0);
}
