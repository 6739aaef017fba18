//! What is kept decides what the whole token decided, and nothing else is kept.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::trust::claim_condition::ClaimCondition;

fn paths(texts: &[&str]) -> Vec<ClaimPath> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn claims(more: &Value) -> Claims {
    let mut members = json!({"iss": "https://issuer.example", "sub": "s", "aud": "a", "iat": 100, "exp": 400, "jti": "t"});
    members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Claims::from_members(members.as_object().unwrap().clone()).unwrap()
}

fn presentation(claims: &Claims, read: &[ClaimPath]) -> Presentation {
    Presentation {
        request_id: "r".to_owned(),
        subject_issuer: "https://issuer.example".parse().unwrap(),
        subject: "s".parse().unwrap(),
        subject_token_hash: [0; 32],
        subject_token_id: claims.token_id.clone(),
        subject_key_id: None,
        claims: KeptClaims::of(claims, read),
        request: None,
    }
}

#[test]
fn s75_only_what_is_read_is_kept() {
    let claims = claims(&json!({"ref": "main", "email": "a@b.example", "k8s": {"ns": "prod", "token": "x"}}));
    let kept = KeptClaims::of(&claims, &paths(&["ref", "/k8s/ns", "environment", "sub"])).unwrap();
    assert_eq!(json!(kept.members()), json!({"aud": "a", "iat": 100, "exp": 400, "ref": "main", "k8s": {"ns": "prod"}}));
    let known = presentation(&claims, &paths(&["ref", "/k8s/ns", "environment", "sub"]));
    for (path, is_known) in [
        ("ref", true),
        ("/ref", true),
        ("environment", true),
        ("/k8s/ns", true),
        ("sub", true),
        ("nbf", true),
        ("/k8s/token", false),
        ("k8s", false),
        ("email", false),
    ] {
        assert_eq!(known.knows(&path.parse().unwrap()), is_known, "{path}");
    }
    assert_eq!(known.known_claims(SignedDuration::ZERO).unwrap().members["jti"], "t");
}

#[test]
fn s79_that_a_token_is_bound_to_a_key_is_kept_and_the_key_is_not() {
    for confirmation in [json!({"jkt": "thumbprint"}), json!(null), json!("x".repeat(2_000))] {
        let claims = claims(&json!({"cnf": confirmation}));
        let kept = presentation(&claims, &[]);
        assert_eq!(kept.claims.as_ref().unwrap().members()["cnf"], true);
        assert!(kept.known_claims(SignedDuration::ZERO).unwrap().is_bound_to_key());
    }
    let read = presentation(&claims(&json!({"cnf": {"jkt": "thumbprint"}})), &paths(&["/cnf/jkt"]));
    assert_eq!(read.claims.as_ref().unwrap().members()["cnf"]["jkt"], "thumbprint");
    assert!(!presentation(&claims(&json!({})), &[]).known_claims(SignedDuration::ZERO).unwrap().is_bound_to_key());
}

#[test]
fn s75_no_token_and_nothing_long_is_kept_and_neither_counts_as_absent() {
    let claims = claims(&json!({
        "id_token": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzIn0.c2ln",
        "nested": {"list": ["eyJhbGciOiJSUzI1NiJ9.e30."]},
        "long": "x".repeat(2_000),
        "ref": "main",
    }));
    let read = paths(&["id_token", "nested", "/nested/list", "long", "ref"]);
    let kept = KeptClaims::of(&claims, &read).unwrap();
    assert_eq!(kept.read().iter().map(ClaimPath::as_str).collect::<Vec<_>>(), ["ref"]);
    assert!(kept.members().keys().all(|name| ["aud", "exp", "iat", "ref"].contains(&name.as_str())));
}

#[test]
fn s75_no_disguise_gets_a_token_kept() {
    let encoded = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let token = |header: &str| format!("{}.{}.c2ln", encoded(header), encoded(r#"{"sub":"s"}"#));
    for header in [r#"{"alg":"RS256"}"#, "{\n \"alg\": \"RS256\"}", r#"{ "alg":"RS256"}"#, "\n\t {}"] {
        let token = token(header);
        for value in [json!(token), json!(format!("Bearer {token}")), json!([{"a": token}]), json!({ token.clone(): 1 })] {
            let kept = KeptClaims::of(&claims(&json!({ "ref": value })), &paths(&["ref"])).unwrap();
            assert!(kept.read().is_empty() && !kept.json().contains("c2ln"), "{header:?} {value}");
        }
        let request = ExchangeRequest { audiences: vec![token.parse().unwrap()], ..ExchangeRequest::default() };
        assert_eq!(Presentation::request_to_keep(&request), None);
    }
    for harmless in ["refs/heads/v1.2.3", "my.org.example", "eyJ.eyJ", "https://api.example.com/a.b.c"] {
        assert!(!looks_like_token(harmless), "{harmless}");
    }
}

#[test]
fn an_audience_that_is_too_long_leaves_nothing_to_decide_on() {
    let claims = claims(&json!({"aud": vec!["https://audience.example"; 100]}));
    assert_eq!(KeptClaims::of(&claims, &[]), None);
    assert_eq!(presentation(&claims, &[]).known_claims(SignedDuration::ZERO), None);
}

#[test]
fn a_token_can_be_looked_at_as_if_it_had_been_issued_later() {
    let claims = claims(&json!({"nbf": 99.5, "iat": 100, "exp": 400}));
    let later = presentation(&claims, &[]).known_claims(SignedDuration::from_secs(1_000)).unwrap();
    assert_eq!((later.issued_at.as_second(), later.expires_at.as_second()), (1_100, 1_400));
    assert_eq!(later.not_before.unwrap().as_millisecond(), 1_099_500);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[xy]", inner), 0..3).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whoever is told what is kept takes it, however the claims are built: what one token makes must not harm others in a batch.
    #[test]
    fn what_is_kept_can_always_be_read_again(
        names in prop::collection::vec(r#"[a-z"\\é]{1,60}"#, 1..60),
        depth in 0..4_usize,
        length in 0..400_usize,
    ) {
        let mut members = Map::new();
        let mut read = Vec::new();
        for name in names {
            let pointer = format!("/{}", vec![name.replace('~', "~0").replace('/', "~1"); depth + 1].join("/"));
            let Ok(path) = pointer.parse::<ClaimPath>() else { continue };
            path.put(&mut members, "x".repeat(length).into());
            read.push(path);
        }
        let kept = KeptClaims::of(&claims(&Value::Object(members)), &read).unwrap();
        prop_assert_eq!(KeptClaims::from_parts(kept.json(), kept.read().clone()), Ok(kept.clone()));
    }

    /// A condition on what was read is judged as it was on the whole token, and what was not read is said to be unknown.
    #[test]
    fn what_is_known_is_judged_alike(
        members in prop::collection::vec(("[cd]", value()), 0..3),
        read in prop::collection::vec("c|d|/c/x|/c/y|/d/x/y|/d", 0..4),
        asked in "c|d|/c/x|/c/y|/d/x/y|/d|/c/x/y",
        test in prop::sample::select(vec![
            r#""equals": "a""#, r#""equals": "a", "negated": true"#, r#""equals": 1"#, r#""exists": true"#, r#""contains": "a""#, r#""glob": "a*""#,
        ]),
    ) {
        let claims = claims(&Value::Object(members.into_iter().collect()));
        let read: Vec<ClaimPath> = read.iter().map(|path| path.parse().unwrap()).collect();
        let condition = format!(r#"{{"claim": "{asked}", {test}}}"#);
        let Ok(condition) = serde_json::from_str::<ClaimCondition>(&condition) else { return Ok(()) };
        let kept = presentation(&claims, &read);
        let known = kept.known_claims(SignedDuration::ZERO).unwrap();
        if kept.knows(&condition.claim) {
            prop_assert_eq!(condition.compile().judge(&known.members), condition.compile().judge(&claims.members));
        } else {
            prop_assert!(!read.contains(&condition.claim));
        }
    }
}

#[test]
fn s32_a_number_is_kept_as_the_token_has_it_and_judged_later_as_it_was() {
    let json = r#"{"iss": "https://issuer.example", "sub": "s", "aud": "a", "iat": 100, "exp": 400.00000000000000000001,
        "run": 20000000000000000001, "o": {"a/b": 1.00000000000000000001, "s": 0.5}}"#;
    let mut members = serde_json::from_str(json).unwrap();
    let inexact = crate::values::inexact::InexactNumbers::find(json.as_bytes(), &mut members).unwrap();
    let claims = Claims { inexact, ..Claims::from_members(members).unwrap() };
    for read in [&["run", "o"][..], &["/run", "/o/a~1b", "/o/s"]] {
        let kept = KeptClaims::of(&claims, &paths(read)).unwrap();
        let expected = r#"{"aud":"a","exp":400.00000000000000000001,"iat":100,"o":{"a/b":1.00000000000000000001,"s":0.5},"run":20000000000000000001}"#;
        assert_eq!(kept.json(), expected);
        let stored = KeptClaims::from_parts(kept.json(), kept.read().clone()).unwrap();
        let known = Presentation { claims: Some(stored), ..presentation(&claims, &[]) };
        assert_eq!(known.known_claims(SignedDuration::ZERO).unwrap().inexact, claims.inexact);
    }
    // A long number is too long as any other claim is.
    let json = format!(r#"{{"iss": "i", "sub": "s", "aud": "a", "iat": 1, "exp": 2, "n": 1.{}}}"#, "7".repeat(2_000));
    let mut members = serde_json::from_str(&json).unwrap();
    let inexact = crate::values::inexact::InexactNumbers::find(json.as_bytes(), &mut members).unwrap();
    let claims = Claims { inexact, ..Claims::from_members(members).unwrap() };
    assert!(KeptClaims::of(&claims, &paths(&["n"])).unwrap().read().is_empty());
}
