//! Signing keys: made once, sealed, published before they sign.

use countersign_jose::Signer as _;
use std::collections::BTreeSet;

use countersign_domain::values::reason::Reason;
use countersign_proto::issuer_v1 as wire;
use countersign_testkit::status::assert_refused;
use countersign_testkit::wait;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{GATEWAY, Ground, LEAD, Service, key_ids, rwx, wish, workspace};

async fn s57_concurrent_first_uses_make_one_key_an_algorithm(ground: Ground) {
    let replicas = [ground.start().await, ground.start().await];
    let issuer = wire::Issuer { algorithms: ["ES256", "EdDSA"].map(str::to_owned).to_vec(), ..rwx(&workspace(1)) };
    let issuer = replicas[0].create(issuer).await.unwrap();
    let asks = (0..20).map(|number| {
        let (replica, issuer) = (&replicas[number % 2], &issuer);
        async move {
            if number % 4 < 2 {
                replica.issue(wish(issuer)).await.unwrap();
            }
            replica.key_ids(&issuer.issuer_url).await
        }
    });
    let sets: BTreeSet<_> = futures::future::join_all(asks).await.into_iter().collect();
    assert_eq!(sets.len(), 1, "one key set for all: {sets:?}");
    assert_eq!(sets.first().unwrap().len(), 2);
    assert_eq!(replicas[1].list_keys(&issuer).await.len(), 2);
    // The deployment's own issuer was found or made by both at their start.
    let [one, other] = &replicas;
    assert_eq!(one.key_ids(GATEWAY).await, other.key_ids(GATEWAY).await);
    assert_eq!(one.key_ids(GATEWAY).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn s57_concurrent_first_uses_make_one_key_an_algorithm_on_sqlite() {
    s57_concurrent_first_uses_make_one_key_an_algorithm(Ground::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s57_concurrent_first_uses_make_one_key_an_algorithm_on_postgresql() {
    s57_concurrent_first_uses_make_one_key_an_algorithm(Ground::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_all_keys() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let service = ground.start().await;
        let issuer = service.rwx(&workspace(1)).await;
        let before = (service.key_ids(&issuer.issuer_url).await, service.key_ids(GATEWAY).await);
        service.stop().await;
        let service = ground.start().await;
        assert_eq!((service.key_ids(&issuer.issuer_url).await, service.key_ids(GATEWAY).await), before);
        assert!(service.issue(wish(&issuer)).await.is_ok());
    }
}

pub(crate) async fn set_algorithms(service: &Service, issuer: &wire::Issuer, algorithms: &[&str]) {
    let algorithms = algorithms.iter().map(ToString::to_string).collect();
    let request = wire::UpdateIssuerRequest {
        issuer: Some(wire::Issuer { algorithms, etag: String::new(), ..issuer.clone() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["algorithms".to_owned()] }),
        ..Default::default()
    };
    service.issuers().update_issuer(service.request(request)).await.unwrap();
}

async fn states(service: &Service, issuer: &wire::Issuer) -> Vec<(String, wire::SigningKeyState)> {
    let mut states: Vec<_> =
        service.list_keys(issuer).await.into_iter().map(|key| (key.algorithm.clone(), key.state())).collect();
    states.sort();
    states
}

#[tokio::test(flavor = "multi_thread")]
async fn s56_a_key_made_later_signs_only_after_it_was_published_long_enough() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    assert!(service.issue(wish(&issuer)).await.is_ok());
    assert_eq!(states(&service, &issuer).await, [("ES256".to_owned(), wire::SigningKeyState::Active)]);

    // The new algorithm is the default from now on, but cannot sign yet.
    set_algorithms(&service, &issuer, &["EdDSA", "ES256"]).await;
    wait::until("the new key is published", async || service.key_ids(&issuer.issuer_url).await.len() == 2).await;
    assert_eq!(
        states(&service, &issuer).await,
        [("ES256".to_owned(), wire::SigningKeyState::Active), ("EdDSA".to_owned(), wire::SigningKeyState::Prepared)]
    );
    let algorithm_of = |token: &str| jsonwebtoken::decode_header(token).unwrap().alg;
    let answer = service.issue(wish(&issuer)).await.unwrap();
    assert_eq!(algorithm_of(&answer.id_token), jsonwebtoken::Algorithm::ES256, "nobody who names none is kept waiting");
    let named = wire::IssueIdTokenRequest { algorithm: "EdDSA".to_owned(), ..wish(&issuer) };
    let refused = service.issue(named.clone()).await.unwrap_err();
    assert_refused(&refused, Code::Unavailable, Reason::TemporarilyUnavailable);
    let wait = refused.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > LEAD / 2 && wait <= LEAD, "{wait:?}");

    ground.clock.advance(LEAD);
    assert_eq!(algorithm_of(&service.issue(named).await.unwrap().id_token), jsonwebtoken::Algorithm::EdDSA);
    assert_eq!(algorithm_of(&service.issue(wish(&issuer)).await.unwrap().id_token), jsonwebtoken::Algorithm::EdDSA);

    // One that is no longer wanted stays published until its last token has expired.
    set_algorithms(&service, &issuer, &["EdDSA"]).await;
    wait::until("the old key retires", async || {
        states(&service, &issuer).await.contains(&("ES256".to_owned(), wire::SigningKeyState::Retiring))
    })
    .await;
    assert_eq!(service.key_ids(&issuer.issuer_url).await.len(), 2);
    ground.clock.advance(std::time::Duration::from_hours(25));
    wait::until("the old key is withdrawn", async || service.key_ids(&issuer.issuer_url).await.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_changes_its_only_algorithm_issues_tokens_all_the_time() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    service.issue(wish(&issuer)).await.unwrap();
    set_algorithms(&service, &issuer, &["EdDSA"]).await;
    let issued_with = async || {
        let answer = service.issue(wish(&issuer)).await.unwrap();
        let header = jsonwebtoken::decode_header(&answer.id_token).unwrap();
        assert!(service.key_ids(&issuer.issuer_url).await.contains(&header.kid.unwrap()), "it verifies");
        header.alg
    };
    wait::until("the new key is published", async || service.key_ids(&issuer.issuer_url).await.len() == 2).await;
    assert_eq!(issued_with().await, jsonwebtoken::Algorithm::ES256);
    let expected = [("ES256".to_owned(), wire::SigningKeyState::Active), ("EdDSA".to_owned(), wire::SigningKeyState::Prepared)];
    assert_eq!(states(&service, &issuer).await, expected);
    // It is no longer one to be asked for.
    let named = |algorithm: &str| wire::IssueIdTokenRequest { algorithm: algorithm.to_owned(), ..wish(&issuer) };
    assert_eq!(service.issue(named("ES256")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(service.issue(named("EdDSA")).await.unwrap_err().code(), Code::Unavailable);

    ground.clock.advance(LEAD);
    assert_eq!(issued_with().await, jsonwebtoken::Algorithm::EdDSA);
    wait::until("the old key retires", async || {
        states(&service, &issuer).await.contains(&("ES256".to_owned(), wire::SigningKeyState::Retiring))
    })
    .await;
    assert_eq!(issued_with().await, jsonwebtoken::Algorithm::EdDSA);
}

#[tokio::test(flavor = "multi_thread")]
async fn s58_a_dump_cannot_sign_without_the_key_encryption_key() {
    let mut ground = Ground::sqlite();
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let keys = service.key_ids(&issuer.issuer_url).await;
    service.stop().await;

    ground.key_encryption_key = [8; 32];
    let error = format!("{:#}", ground.try_start().await.expect_err("another key-encryption key"));
    assert!(error.contains("key-encryption key"), "{error}");

    ground.key_encryption_key = [7; 32];
    let service = ground.start().await;
    assert_eq!(service.key_ids(&issuer.issuer_url).await, keys, "and nothing was lost by trying");
}

/// Two issuers with their keys, then what an intruder does to the database, then a service that comes upon it.
async fn after(intrusion: impl AsyncFn(&Ground, &wire::Issuer, &wire::Issuer)) -> (Ground, Service, [wire::Issuer; 2]) {
    let ground = Ground::postgres().await;
    let service = ground.start().await;
    let issuers = [service.rwx(&workspace(1)).await, service.rwx(&workspace(2)).await];
    for issuer in &issuers {
        assert_eq!(service.key_ids(&issuer.issuer_url).await.len(), 1);
    }
    intrusion(&ground, &issuers[0], &issuers[1]).await;
    service.stop().await;
    let service = ground.start().await;
    (ground, service, issuers)
}

async fn assert_unusable(service: &Service, issuer: &wire::Issuer) {
    let refused = service.issue(wish(issuer)).await.unwrap_err();
    assert_refused(&refused, Code::Unavailable, Reason::TemporarilyUnavailable);
    let refused = service.key_set(&issuer.issuer_url).await.unwrap_err();
    assert_refused(&refused, Code::Unavailable, Reason::TemporarilyUnavailable);
    assert_eq!(service.list_keys(issuer).await.len(), 1, "and no new key was made in its stead");
}

#[tokio::test(flavor = "multi_thread")]
async fn s58_ciphertexts_swapped_between_rows_neither_sign_nor_are_published() {
    let swap = async |ground: &Ground, one: &wire::Issuer, other: &wire::Issuer| {
        ground
            .execute(&format!(
                "UPDATE signing_keys AS a SET sealed_private_key = b.sealed_private_key FROM signing_keys AS b \
                 WHERE a.issuer_id IN ('{0}', '{1}') AND b.issuer_id IN ('{0}', '{1}') AND a.issuer_id <> b.issuer_id",
                one.id, other.id
            ))
            .await;
    };
    let (_ground, service, issuers) = after(swap).await;
    for issuer in &issuers {
        assert_unusable(&service, issuer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s58_a_whole_row_moved_to_another_issuer_is_not_used() {
    let moved = async |ground: &Ground, one: &wire::Issuer, other: &wire::Issuer| {
        ground
            .execute(&format!(
                "DELETE FROM signing_keys WHERE issuer_id = '{1}'; \
                 UPDATE signing_keys SET issuer_id = '{1}' WHERE issuer_id = '{0}'",
                one.id, other.id
            ))
            .await;
    };
    let (_ground, service, [_, other]) = after(moved).await;
    assert_unusable(&service, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s58_a_public_key_written_into_the_database_is_not_published() {
    let foreign = countersign_jose::SigningKey::generate(countersign_jose::SignatureAlgorithm::Es256).unwrap();
    let public_jwk = serde_json::to_string(foreign.public_jwk()).unwrap();
    let key_id = foreign.key_id().to_string();
    let add = async |ground: &Ground, one: &wire::Issuer, other: &wire::Issuer| {
        // A row of its own beside a good one; and over the public half of a good one.
        ground
            .execute(&format!(
                "INSERT INTO signing_keys SELECT issuer_id, '{key_id}', algorithm, 2, '{public_jwk}', sealed_private_key, \
                 created_at, activate_at, NULL, NULL, NULL, FALSE FROM signing_keys WHERE issuer_id = '{}'; \
                 UPDATE signing_keys SET public_jwk = '{public_jwk}' WHERE issuer_id = '{}'",
                one.id, other.id
            ))
            .await;
    };
    let (_ground, service, [one, other]) = after(add).await;
    assert!(!service.key_ids(&one.issuer_url).await.contains(&key_id));
    // Not only until keys are next planned: whatever is due has been written when a wish for the next one is granted.
    service.rotate(&one).await.unwrap();
    assert!(service.issue(wish(&one)).await.is_ok(), "the good one goes on");
    assert_unusable(&service, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s60_key_sets_hold_no_private_member() {
    let service = Ground::sqlite().start().await;
    let algorithms = ["RS256", "ES256", "ES384", "EdDSA"].map(str::to_owned).to_vec();
    let issuer = service.create(wire::Issuer { algorithms, ..rwx(&workspace(1)) }).await.unwrap();
    let key_set = service.key_set(&issuer.issuer_url).await.unwrap();
    assert_eq!(key_ids(&key_set).len(), 4);
    let allowed = BTreeSet::from(["alg", "crv", "e", "kid", "kty", "n", "use", "x", "y"]);
    for key in key_set["keys"].as_array().unwrap() {
        let members: BTreeSet<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(members.is_subset(&allowed), "{members:?}");
        assert_eq!(key["use"], "sig");
    }
}
