//! Tokens made to be looked at: what they say before their signature verifies leads nowhere and is repeated nowhere.

use countersign_domain::values::reason::Reason;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm::Es256;
use countersign_testkit::claims::ClaimSet;
use countersign_testkit::hostile_keys;
use countersign_testkit::identity_provider::{Behaviour, IdentityProvider};
use countersign_testkit::status::wire_name;
use countersign_tests::deployment::{Deployment, Instance, RedisAtStart};
use countersign_tests::http1;
use countersign_tests::token_endpoint::exchange;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::deployments::{Scene, shared};

/// The reason that a gateway gives for refusing this token.
async fn reason(scene: &Scene<'_>, token: &str) -> String {
    let answer = exchange(&scene.deployment.url(Instance::Gateway), token, &[]).await;
    answer.reason().expect("a hostile token is refused").to_owned()
}

#[tokio::test]
async fn s01_s02_s07_s16_a_malformed_token_asks_nobody_for_keys() {
    let scene = Scene::in_deployment(shared()).await;
    let (good, signer) = (scene.token(), scene.provider.signer());
    let segments: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = segments[..] else { panic!("a token has three segments") };
    let claims = scene.claims().with("iss", scene.provider.issuer_url());
    let with_header = |members: Value| {
        let mut header = signer.header();
        header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        signer.sign_bytes(&header, &claims.to_json())
    };
    let twice = format!(r#"{{"iss":"{0}","iss":"{0}"}}"#, scene.provider.issuer_url());
    for (what, token) in [
        ("two segments", format!("{header}.{payload}")),
        ("four segments", format!("{good}.{signature}")),
        ("an empty signature", format!("{header}.{payload}.")),
        ("padding", format!("{header}.{payload}.{signature}=")),
        ("a space", format!("{good} ")),
        ("a line break", format!("{header}.\n{payload}.{signature}")),
        ("standard base64", format!("{header}.{payload}.{}+/", &signature[..signature.len() - 2])),
        ("JSON serialisation", json!({ "protected": header, "payload": payload, "signature": signature }).to_string()),
        ("an encrypted token", format!("{header}.{payload}.{signature}.{signature}.{signature}")),
        ("more than 16 KiB", signer.sign(&claims.clone().with("fill", "x".repeat(16_384)))),
        ("a header of more than 2 KiB", with_header(json!({ "fill": "x".repeat(2_048) }))),
        ("crit", with_header(json!({ "crit": ["exp"] }))),
        ("b64", with_header(json!({ "b64": false }))),
        ("no algorithm", with_header(json!({ "alg": "none" }))),
        ("a symmetric algorithm", with_header(json!({ "alg": "HS256" }))),
        ("a member twice", signer.sign_bytes(&signer.header(), twice.as_bytes())),
        ("an issuer that is a list", signer.sign(&claims.clone().with("iss", json!([scene.provider.issuer_url()])))),
    ] {
        assert_eq!(reason(&scene, &token).await, wire_name(Reason::SubjectTokenMalformed), "{what}");
    }
    assert_eq!(scene.provider.connections(), 0, "the issuer is registered, and was not asked");
}

#[tokio::test]
async fn s05_s06_no_key_comes_from_a_header_and_no_address_in_it_is_dialled() {
    let scene = Scene::in_deployment(shared()).await;
    let (stranger, thief) = (IdentityProvider::start(), scene.provider.rotate_unpublished(Es256));
    let claims = scene.claims().with("iss", scene.provider.issuer_url());
    let published = scene.provider.published()[0]["kid"].clone();
    let url = stranger.key_set_url();
    for kid in [published, json!(thief.key_id()), json!(url), json!("../../keys"), json!("' OR 1=1 --")] {
        let header = json!({
            "alg": "ES256",
            "kid": kid,
            "typ": "JWT",
            "jwk": thief.public_jwk(),
            "jku": url,
            "x5u": url,
            "x5c": ["MIIB"],
            "x5t": "dGh1bWJwcmludA",
        });
        let token = thief.sign_bytes(&header, &claims.to_json());
        assert_eq!(reason(&scene, &token).await, wire_name(Reason::SubjectTokenNotTrusted), "{kid}");
    }
    assert_eq!(stranger.connections(), 0);
    let requests = scene.provider.requests();
    assert!(requests.len() <= 3, "documents of the registered issuer, and one look for an unknown key: {requests:?}");
    assert!(requests.iter().all(|request| !request.contains("..") && !request.contains("OR 1=1")), "{requests:?}");
}

#[tokio::test]
async fn s05_keys_that_the_issuer_should_not_have_published_verify_nothing() {
    let scene = Scene::in_deployment(shared()).await;
    let signer = scene.provider.signer();
    scene.provider.publish(vec![signer.private_jwk(), hostile_keys::symmetric("shared")]);
    assert_eq!(reason(&scene, &scene.token()).await, wire_name(Reason::SubjectTokenNotTrusted));
    assert!(scene.provider.key_set_requests() > 0, "its keys were read");
}

#[tokio::test]
async fn s43_two_keys_of_one_name_verify_nothing_and_raise_an_alert() {
    let scene = Scene::in_deployment(shared()).await;
    let (first, other) = (scene.provider.signer(), scene.provider.rotate(Es256));
    let double = hostile_keys::with(&other.public_jwk(), "kid", json!(first.key_id()));
    scene.provider.publish(vec![first.public_jwk(), double, other.public_jwk()]);
    let claims = scene.claims().with("iss", scene.provider.issuer_url());
    assert_eq!(reason(&scene, &first.sign(&claims)).await, wire_name(Reason::SubjectTokenNotTrusted));
    // The rest of the set stays usable.
    exchange(&shared().url(Instance::Gateway), &other.sign(&claims), &[]).await.access_token();
    let log = shared().log(Instance::Gateway);
    let alert = |line: &&str| line.contains("several keys for one key id") && line.contains(scene.provider.issuer_url());
    assert!(log.lines().any(|line| alert(&line)), "{} is not in the log", scene.provider.issuer_url());
}

#[tokio::test]
async fn s42_the_caller_cannot_tell_why_an_issuers_keys_are_missing() {
    const CANARY: &str = "s42-canary-of-a-body";
    let behaviours = [
        Behaviour::Stall,
        Behaviour::Close,
        Behaviour::Status(404),
        Behaviour::Status(500),
        Behaviour::Redirect(format!("http://127.0.0.1:1/{CANARY}")),
        Behaviour::LoginPage,
        Behaviour::Body(format!("{{\"keys\":\"{CANARY}\"}}").into_bytes()),
        Behaviour::Body(CANARY.repeat(10_000).into_bytes()),
        Behaviour::Headers(vec![format!("{CANARY}: {}", "x".repeat(1_000_000))]),
    ];
    let answers = join_all(behaviours.map(|behaviour| async {
        let scene = Scene::in_deployment(shared()).await;
        scene.provider.key_set_behaves(behaviour.clone());
        let answer = exchange(&shared().url(Instance::Gateway), &scene.token(), &[]).await;
        assert!(scene.provider.key_set_requests() > 0, "{behaviour:?}");
        (behaviour, answer)
    }))
    .await;
    for (behaviour, answer) in &answers {
        assert_eq!((answer.status, &answer.body), (answers[0].1.status, &answers[0].1.body), "{behaviour:?}");
        assert!(!format!("{answer:?}").contains(CANARY), "{behaviour:?}");
    }
    assert!(answers[0].1.reason().is_some(), "they are refused");
    assert!(!shared().log(Instance::Gateway).contains(CANARY), "bodies reach no log");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_nothing_of_an_unverified_token_is_repeated_anywhere() {
    let deployment = Deployment::start(RedisAtStart::Running);
    let scene = Scene::in_deployment(&deployment).await;
    let stranger = IdentityProvider::start_at("/canary-issuer");
    let signer = scene.provider.signer();
    // In every place of a token, signed by a key that nobody published: all of it is a stranger's word.
    let forger = scene.provider.rotate_unpublished(Es256);
    let canaries = |claims: ClaimSet| {
        claims
            .with("sub", "org:my-org:vault:canary-subject")
            .with("jti", "canary-token-id")
            .with("aud", "https://canary-audience.example")
            .with("run_id", "canary-run")
            .with("canary-name", "canary-value")
    };
    let header = |kid: &str| json!({ "alg": "ES256", "kid": kid, "typ": "JWT", "x5t": "canary-thumbprint", "canary-member": 1 });
    let of = |issuer: &str, kid: &str| forger.sign_bytes(&header(kid), &canaries(scene.claims()).with("iss", issuer).to_json());
    let known_key = scene.provider.published()[0]["kid"].as_str().unwrap().to_owned();
    for token in [
        of(scene.provider.issuer_url(), &known_key),
        of(scene.provider.issuer_url(), "canary-key"),
        of(stranger.issuer_url(), "canary-key"),
        of("https://canary-issuer.example/\r\nx-canary: 1", "canary-key"),
    ] {
        let answer = exchange(&deployment.url(Instance::Gateway), &token, &[]).await;
        assert_eq!(answer.reason().map(str::to_owned), Some(wire_name(Reason::SubjectTokenNotTrusted)));
        assert!(!answer.body.to_string().contains("canary"), "{}", answer.body);
    }
    // One that verifies, so that there is something in each place to search.
    let good = signer.sign(&scene.claims().with("iss", scene.provider.issuer_url()));
    exchange(&deployment.url(Instance::Gateway), &good, &[]).await.access_token();

    assert_eq!(stranger.connections(), 0);
    let requests = scene.provider.requests();
    assert!(!requests.is_empty() && !format!("{requests:?}").contains("canary"), "{requests:?}");
    for instance in Instance::ALL {
        assert!(!deployment.log(instance).contains("canary"), "log of {instance}");
        let metrics = http1::get(deployment.private_port(instance), "/metrics").unwrap().body;
        assert!(!metrics.contains("canary"), "metrics of {instance}");
    }
    let database = deployment.database_contents();
    assert!(database.contains(&scene.trust.trust_relationship_id) && !database.contains("canary"));
    let redis = deployment.redis().as_ref().unwrap().contents();
    assert!(!redis.is_empty() && !redis.contains("canary"));
    // Databases show bytes in hexadecimal.
    let in_hexadecimal = "63616e617279";
    assert!(!database.contains(in_hexadecimal) && !redis.contains(in_hexadecimal));
}
