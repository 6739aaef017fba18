//! ID tokens.

use std::collections::BTreeSet;

use countersign_domain::values::reason::Reason;
use countersign_proto::issuer_v1 as wire;
use countersign_testkit::status::{assert_refused, violated_fields};
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{BASE, Ground, nobody, own_wish, path_of, rwx, verify, wish, workspace};

#[tokio::test(flavor = "multi_thread")]
async fn id_tokens_of_every_profile_and_algorithm_verify_by_discovery_alone() {
    let service = Ground::sqlite().start().await;
    let algorithms = ["ES256", "RS256", "ES384", "EdDSA"];
    for (profile, attributes, subject) in [
        ("rwx", vec![("org", "my-org"), ("vault", "deploy-vault")], "org:my-org:vault:deploy-vault".to_owned()),
        ("namespace", vec![("path", "runner")], format!("{}/runner", workspace(1))),
    ] {
        let issuer = wire::Issuer {
            profile: profile.to_owned(),
            algorithms: algorithms.map(str::to_owned).to_vec(),
            ..rwx(&workspace(1))
        };
        let issuer = service.create(issuer).await.unwrap();
        for algorithm in algorithms {
            let request = wire::IssueIdTokenRequest {
                algorithm: algorithm.to_owned(),
                attributes: attributes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
                ..wish(&issuer)
            };
            let answer = service.issue(request).await.unwrap();
            assert_eq!(answer.subject, subject);

            let discovery = service.get_json(&format!("{}/.well-known/openid-configuration", path_of(&issuer))).await;
            assert_eq!(discovery["issuer"], json!(issuer.issuer_url));
            let offered = discovery["id_token_signing_alg_values_supported"].as_array().unwrap();
            assert!(offered.contains(&json!(algorithm)));
            let key_set = service.get_json(discovery["jwks_uri"].as_str().unwrap().strip_prefix(BASE).unwrap()).await;
            let token = verify(&answer.id_token, &key_set, &issuer.issuer_url, "sts.amazonaws.com");
            assert_eq!(token.header.typ.as_deref(), Some("JWT"));
            let claims = token.claims;
            assert_eq!((&claims["sub"], &claims["aud"]), (&json!(subject), &json!("sts.amazonaws.com")));
            assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
            assert_eq!(claims["exp"].as_i64().unwrap(), answer.expire_time.unwrap().seconds);
            assert_eq!(claims["nbf"], claims["iat"]);
        }
    }
    service.stop().await;
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s54_no_two_tokens_share_a_jti_and_runs_are_never_mixed_up() {
    let service = Ground::sqlite().start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let runs = (0..1000).map(|run| {
        let mut request = wish(&issuer);
        request.attributes.insert("vault".to_owned(), format!("run-{run}"));
        let service = &service;
        async move { (run, service.issue(request).await.unwrap()) }
    });
    let mut ids = BTreeSet::new();
    for (run, answer) in futures::future::join_all(runs).await {
        let claims = claims(&answer.id_token);
        assert_eq!(claims["sub"], json!(format!("org:my-org:vault:run-{run}")));
        let id = claims["jti"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 22, "128 bits in base64url");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_violation_of_a_wish_is_reported_at_once() {
    let service = Ground::sqlite().start().await;
    let issuer = wire::Issuer { allowed_audiences: vec!["vault".to_owned()], ..rwx(&workspace(1)) };
    let issuer = service.create(issuer).await.unwrap();
    let request = wire::IssueIdTokenRequest {
        audiences: vec!["other".to_owned()],
        attributes: [("org", "a:vault:b"), ("team", "x")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        duration: Some(prost_types::Duration { seconds: 3601, nanos: 0 }),
        algorithm: "HS256".to_owned(),
        ..wish(&issuer)
    };
    let refused = service.issue(request).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(
        violated_fields(&refused),
        ["algorithm", "attributes[org]", "attributes[team]", "attributes[vault]", "audiences[0]", "duration"]
    );
    assert_eq!(service.list_keys(&issuer).await.len(), 1, "a refused request makes no keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn s55_limits_of_the_issuer_hold() {
    let service = Ground::sqlite().start().await;
    let issuer = service.rwx(&workspace(1)).await;
    for (seconds, good) in [(59, false), (60, true), (3600, true), (3601, false), (-1, false)] {
        let duration = Some(prost_types::Duration { seconds, nanos: 0 });
        let answer = service.issue(wire::IssueIdTokenRequest { duration, ..wish(&issuer) }).await;
        assert_eq!(answer.is_ok(), good, "{seconds}");
        if let Ok(answer) = answer {
            let claims = claims(&answer.id_token);
            assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), seconds);
        }
    }
    for (count, good) in [(0, false), (1, true), (10, true), (11, false)] {
        let audiences: Vec<_> = (0..count).map(|number| format!("audience-{number}")).collect();
        let answer = service.issue(wire::IssueIdTokenRequest { audiences: audiences.clone(), ..wish(&issuer) }).await;
        assert_eq!(answer.is_ok(), good, "{count}");
        if let Ok(answer) = answer {
            let expected = if count == 1 { json!(audiences[0]) } else { json!(audiences) };
            assert_eq!(claims(&answer.id_token)["aud"], expected);
        }
    }
    let long = vec!["x".repeat(1024); 10].into_iter().enumerate().map(|(n, x)| format!("{n}{}", &x[1..]));
    let refused = service.issue(wire::IssueIdTokenRequest { audiences: long.collect(), ..wish(&issuer) }).await;
    assert!(refused.is_ok(), "10 KiB of audiences still fit: {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_may_be_left_out_where_there_is_only_one() {
    let service = Ground::sqlite().start().await;
    let request = |workspace_id: &str| wire::IssueIdTokenRequest {
        workspace_id: workspace_id.to_owned(),
        ..wish(&wire::Issuer::default())
    };
    let id = workspace(1).to_string();
    assert_refused(&service.issue(request(&id)).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
    service.rwx(&workspace(1)).await;
    service.rwx(&workspace(2)).await;
    assert!(service.issue(request(&id)).await.is_ok());
    service.rwx(&workspace(1)).await;
    let refused = service.issue(request(&id)).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&refused), ["issuer_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_issuer_signs_nothing() {
    let service = Ground::sqlite().start().await;
    let issuer = service.rwx(&workspace(1)).await;
    assert!(service.issue(wish(&issuer)).await.is_ok());
    let request = wire::DeleteIssuerRequest {
        workspace_id: issuer.workspace_id.clone(),
        issuer_id: issuer.id.clone(),
        etag: String::new(),
    };
    service.issuers().delete_issuer(service.request(request)).await.unwrap();
    assert_refused(&service.issue(wish(&issuer)).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
    assert_eq!(service.get(&format!("{}/.well-known/jwks.json", path_of(&issuer))).await.status(), 404);

    let unknown = wire::IssueIdTokenRequest { issuer_id: nobody(), ..wish(&issuer) };
    assert_refused(&service.issue(unknown).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_made_on_one_replica_is_known_at_once_on_another() {
    let ground = Ground::sqlite();
    let (one, other) = (ground.start().await, ground.start().await);
    let issuer = one.rwx(&workspace(1)).await;
    let answer = other.issue(wish(&issuer)).await.unwrap();
    let key_set = one.key_set(&issuer.issuer_url).await.unwrap();
    verify(&answer.id_token, &key_set, &issuer.issuer_url, "sts.amazonaws.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn s54_a_token_for_oneself_has_the_subject_of_ones_access_token() {
    let service = Ground::sqlite().start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let access_token = service.access_token(&workspace(1), "countersign:id_tokens.issue_own").await;
    let own = claims(&access_token)["sub"].as_str().unwrap().to_owned();
    let answer = service.tokens().issue_own_id_token(service.request_as(&access_token, own_wish(&issuer))).await;
    let answer = answer.unwrap().into_inner();
    let key_set = service.key_set(&issuer.issuer_url).await.unwrap();
    let token = verify(&answer.id_token, &key_set, &issuer.issuer_url, "sts.amazonaws.com");
    assert_eq!((&token.claims["sub"], &answer.subject), (&json!(own), &own));
    assert_eq!(token.claims["countersign_lineage"]["depth"], 1);
    let names: Vec<_> = token.claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["aud", "countersign_lineage", "exp", "iat", "iss", "jti", "nbf", "sub"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_nobody_that_a_token_could_speak_of() {
    let service = Ground::sqlite().start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let refused = service.tokens().issue_own_id_token(service.request(own_wish(&issuer))).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, Reason::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn s55_limits_of_the_issuer_hold_for_callers_themselves() {
    let service = Ground::sqlite().start().await;
    let issuer = wire::Issuer { allowed_audiences: vec!["vault".to_owned()], ..rwx(&workspace(1)) };
    let issuer = service.create(issuer).await.unwrap();
    let access_token = service.access_token(&workspace(1), "countersign:id_tokens.issue_own").await;
    let request = wire::IssueOwnIdTokenRequest {
        duration: Some(prost_types::Duration { seconds: 3601, nanos: 0 }),
        algorithm: "HS256".to_owned(),
        ..own_wish(&issuer)
    };
    let refused = service.tokens().issue_own_id_token(service.request_as(&access_token, request)).await.unwrap_err();
    assert_eq!(violated_fields(&refused), ["algorithm", "audiences[0]", "duration"]);
}
