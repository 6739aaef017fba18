use std::time::Duration;

use countersign_discovery::DiscoverySettings;
use countersign_discovery::address::AddressRules;
use countersign_domain::trust::key_source::KeySource;
use countersign_domain::trust::trusted_issuer::{TrustedIssuerDraft, TrustedIssuerSettings};
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::violation::Violations;
use countersign_testkit::clock::{SeededEntropy, TestClock};
use countersign_testkit::identity_provider::{Behaviour, IdentityProvider};
use countersign_testkit::signer::Signer;
use serde_json::json;

use super::*;

fn keys(clock: &TestClock) -> IssuerKeySets {
    let address_rules = AddressRules { loopback: LoopbackHttp::Allowed, ..AddressRules::default() };
    let settings = DiscoverySettings { address_rules, ..DiscoverySettings::default() };
    let discovery = Discovery::new(&settings, None, Arc::new(SeededEntropy::new(1))).unwrap();
    IssuerKeySets::new(discovery, Arc::new(clock.clone()))
}

fn issuer(url: &str, revision: i64, key_source: KeySource) -> TrustedIssuer {
    let draft = TrustedIssuerDraft { issuer_url: url.to_owned(), ..TrustedIssuerDraft::default() };
    let settings = TrustedIssuerSettings::create(&draft, LoopbackHttp::Allowed, &mut Violations::new()).unwrap();
    TrustedIssuer {
        id: TrustedIssuerId::from_random([1; 16]),
        workspace_id: WorkspaceId::from_random([2; 16]),
        settings: TrustedIssuerSettings { key_source, ..settings },
        revision,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn uploaded(key_id: &str, not_after: Timestamp) -> KeySource {
    let document = json!({ "keys": [Signer::new(SignatureAlgorithm::Es256, key_id).public_jwk()] }).to_string();
    KeySource::Uploaded { key_set: document.parse().unwrap(), not_after }
}

fn key_ids(key_set: &KeySet) -> Vec<String> {
    key_set.key_ids().map(ToString::to_string).collect()
}

#[tokio::test]
async fn s45_uploaded_keys_are_used_until_their_end_and_not_a_moment_longer() {
    let clock = TestClock::noon();
    let keys = keys(&clock);
    let issuer = issuer("https://unreachable.example", 1, uploaded("a", clock.now() + Duration::from_mins(1)));
    assert_eq!(key_ids(&keys.key_set(&issuer).await.unwrap()), ["a"]);
    // A key that is not there is no reason to ask: there is nobody to ask.
    assert_eq!(key_ids(&keys.refresh_for_unknown_key(&issuer, Some("b")).await.unwrap()), ["a"]);
    clock.advance(Duration::from_secs(59));
    assert!(keys.key_set(&issuer).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(keys.key_set(&issuer).await.unwrap_err(), KeysUnavailable);
    assert_eq!(keys.refresh_for_unknown_key(&issuer, Some("a")).await.unwrap_err(), KeysUnavailable);
}

#[tokio::test]
async fn s34_another_revision_has_its_own_keys() {
    let clock = TestClock::noon();
    let (keys, end) = (keys(&clock), clock.now() + Duration::from_mins(1));
    let url = "https://unreachable.example";
    assert_eq!(key_ids(&keys.key_set(&issuer(url, 1, uploaded("a", end))).await.unwrap()), ["a"]);
    assert_eq!(key_ids(&keys.key_set(&issuer(url, 2, uploaded("b", end))).await.unwrap()), ["b"]);
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_unavailable() {
    let clock = TestClock::noon();
    let not_after = clock.now() + Duration::from_mins(1);
    let broken = KeySource::Uploaded { key_set: "nonsense".parse().unwrap(), not_after };
    let keys = keys(&clock);
    assert_eq!(keys.key_set(&issuer("https://a.example", 1, broken)).await.unwrap_err(), KeysUnavailable);
    assert!(keys.news().is_empty());
}

#[tokio::test]
async fn news_are_told_once_and_again_when_there_are_more() {
    let clock = TestClock::noon();
    let (keys, provider) = (keys(&clock), IdentityProvider::start());
    let fetched = issuer(provider.issuer_url(), 3, KeySource::default());
    assert!(keys.news().is_empty());
    keys.key_set(&fetched).await.unwrap();
    let news = keys.news();
    assert_eq!(news.len(), 1);
    assert_eq!((&news[0].trusted_issuer_id, &news[0].workspace_id, news[0].revision), (&fetched.id, &fetched.workspace_id, 3));
    assert_eq!(news[0].health.problem, None);
    assert_eq!(news[0].health.keys.key_ids[0].as_str(), provider.signer().key_id());
    let age = clock.now().duration_since(news[0].health.succeeded_at.unwrap());
    assert!(age.as_secs() < 60, "{age:?}");
    assert!(keys.news().is_empty());

    provider.key_set_behaves(Behaviour::Status(500));
    keys.refresh_for_unknown_key(&fetched, Some("unknown")).await.unwrap();
    let news = keys.news();
    assert_eq!(news[0].health.problem, Some(IssuerProblem::KeySetStatus { status: 500 }));
    assert_eq!(news[0].health.keys.usable, 1, "what is held stays");
    assert!(keys.news().is_empty());
}

#[tokio::test]
async fn s43_ambiguous_keys_and_failing_issuers_are_counted_for_alerts() {
    let clock = TestClock::noon();
    let (keys, provider) = (keys(&clock), IdentityProvider::start());
    let fetched = issuer(provider.issuer_url(), 1, KeySource::default());
    let twin = Signer::new(SignatureAlgorithm::Es256, provider.signer().key_id()).public_jwk();
    provider.publish([provider.published(), vec![twin]].concat());
    assert_eq!((keys.count_ambiguous(), keys.count_failing()), (0, 0));
    keys.key_set(&fetched).await.unwrap();
    assert_eq!((keys.count_ambiguous(), keys.count_failing()), (1, 0));
    provider.key_set_behaves(Behaviour::Status(500));
    keys.refresh_for_unknown_key(&fetched, Some("unknown")).await.unwrap();
    assert_eq!((keys.count_ambiguous(), keys.count_failing()), (1, 1));
}

#[tokio::test]
async fn the_end_of_uploaded_keys_is_news() {
    let clock = TestClock::noon();
    let keys = keys(&clock);
    let issuer = issuer("https://unreachable.example", 1, uploaded("a", clock.now() + Duration::from_mins(1)));
    keys.key_set(&issuer).await.unwrap();
    assert_eq!(keys.news()[0].health.problem, None);
    assert!(keys.news().is_empty());
    clock.advance(Duration::from_mins(1));
    assert_eq!(keys.news()[0].health.problem, Some(IssuerProblem::UploadedKeysExpired));
    assert!(keys.news().is_empty());
}
