//! What was kept tells what the token itself would have told, or nothing.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::trust::policy::tests::{relationship, relationship_id, set_relationships, trusted_issuer, workspace_id};
use crate::trust::policy_feed::PolicyChange;
use crate::trust::trust_relationship::TrustRelationship;
use crate::trust::workspace::WorkspaceState;
use crate::values::issuer_url::{IssuerUrl, LoopbackHttp};

const ISSUER: &str = "https://issuer.example";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn deployment() -> DeploymentAudience {
    DeploymentAudience::new(&IssuerUrl::parse("https://gateway.example", LoopbackHttp::Refused).unwrap()).unwrap()
}

fn policy(relationships: Vec<TrustRelationship>) -> WorkspacePolicy {
    let mut policy = WorkspacePolicy::new(workspace_id(), WorkspaceState::Active, 1);
    policy.apply(PolicyChange { trusted_issuers: vec![trusted_issuer(ISSUER)], ..set_relationships(5, relationships) });
    policy
}

/// A relationship for a subject, whose claim `c` must be this.
fn asking(number: usize, subject: &str, condition: &str) -> TrustRelationship {
    let mut relationship = relationship(number, &[subject]);
    relationship.settings.claim_conditions = vec![serde_json::from_str(condition).unwrap()];
    relationship
}

fn claims(more: &Value) -> Claims {
    let mut members =
        json!({"iss": ISSUER, "sub": "a:b", "aud": "https://gateway.example", "iat": 1_000, "exp": 1_300, "jti": "t"});
    members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Claims::from_members(members.as_object().unwrap().clone()).unwrap()
}

fn presented(policy: &WorkspacePolicy, claims: &Claims) -> Presentation {
    let issuer = policy.issuer(ISSUER).unwrap();
    Presentation {
        request_id: "r".to_owned(),
        subject_issuer: ISSUER.parse().unwrap(),
        subject: claims.subject.clone(),
        subject_token_hash: [0; 32],
        subject_token_id: claims.token_id.clone(),
        subject_key_id: None,
        claims: policy.claims_to_keep(&issuer.id, claims),
        request: Some(ExchangeRequest::default()),
    }
}

fn judge(policy: &WorkspacePolicy, presentation: &Presentation) -> Judgement {
    Judge::new(Arc::new(policy.clone()), deployment()).judge(presentation, SignedDuration::ZERO, at(1_100))
}

fn decider(judgement: &Judgement) -> Option<TrustRelationshipId> {
    match judgement {
        Judgement::Decided(Ok(decision)) => Some(decision.trust_relationship_id.clone()),
        _ => None,
    }
}

#[test]
fn what_a_new_condition_reads_was_not_kept_and_is_not_guessed() {
    let before = policy(vec![relationship(1, &["a:*"])]);
    let kept = presented(&before, &claims(&json!({"env": "prod"})));
    assert_eq!(decider(&judge(&before, &kept)), Some(relationship_id(1)));
    let after = policy(vec![asking(1, "a:*", r#"{"claim": "env", "equals": "prod"}"#)]);
    let unknown = Unknown::Claim { relationship: relationship_id(1), claim: "env".parse().unwrap() };
    assert_eq!(judge(&after, &kept), Judgement::Undecided(unknown));
    // Had it been read at the time, it would be known.
    let kept = presented(&after, &claims(&json!({"env": "prod"})));
    assert_eq!(decider(&judge(&after, &kept)), Some(relationship_id(1)));
}

#[test]
fn what_decides_without_the_unknown_is_told() {
    let kept = presented(&policy(vec![]), &claims(&json!({})));
    let unknown = |number, subject| asking(number, subject, r#"{"claim": "env", "equals": "prod"}"#);
    for (relationships, expected) in [
        // A broader one that cannot be judged would not have been asked.
        (vec![relationship(1, &["a:b"]), unknown(2, "a:*")], Some(relationship_id(1))),
        // A narrower one would have.
        (vec![relationship(1, &["a:*"]), unknown(2, "a:b")], None),
        // One for other subjects plays no part.
        (vec![relationship(1, &["a:*"]), unknown(2, "x:b")], Some(relationship_id(1))),
    ] {
        assert_eq!(decider(&judge(&policy(relationships.clone()), &kept)), expected, "{relationships:?}");
    }
    // What is known not to hold refuses, whatever else is not known.
    let mut both = unknown(1, "a:b");
    both.settings.claim_conditions.push(serde_json::from_str(r#"{"claim": "sub", "equals": "x"}"#).unwrap());
    assert!(matches!(judge(&policy(vec![both]), &kept), Judgement::Decided(Err(Refused::ConditionNotMet { .. }))));
}

#[test]
fn cel_that_asks_for_absence_is_not_fooled_by_what_was_not_kept() {
    let kept = presented(&policy(vec![]), &claims(&json!({"env": "prod"})));
    let mut absent = relationship(1, &["a:b"]);
    absent.settings.cel_condition = Some("!has(assertion.env)".parse().unwrap());
    assert!(matches!(judge(&policy(vec![absent]), &kept), Judgement::Undecided(Unknown::Claim { .. })));
}

#[test]
fn what_was_not_kept_at_all_is_undecided_and_a_request_for_another_relationship_is_not() {
    let policy = policy(vec![relationship(1, &["a:b"]), asking(2, "a:b", r#"{"claim": "env", "equals": "prod"}"#)]);
    let kept = presented(&policy, &claims(&json!({})));
    let none = Presentation { claims: None, ..kept.clone() };
    assert_eq!(judge(&policy, &none), Judgement::Undecided(Unknown::Token));
    let no_request = Presentation { request: None, ..kept.clone() };
    assert_eq!(judge(&policy, &no_request), Judgement::Undecided(Unknown::Request));
    let named = ExchangeRequest { trust_relationship_id: Some(relationship_id(1)), ..ExchangeRequest::default() };
    let named = Presentation { request: Some(named), ..kept };
    assert_eq!(decider(&judge(&policy, &named)), Some(relationship_id(1)));
}

#[test]
fn a_token_is_looked_at_as_if_it_had_been_issued_now() {
    let policy = policy(vec![relationship(1, &["a:b"])]);
    let kept = presented(&policy, &claims(&json!({})));
    let mut judge = Judge::new(Arc::new(policy), deployment());
    let much_later = judge.judge(&kept, SignedDuration::ZERO, at(90_000));
    assert!(matches!(much_later, Judgement::Decided(Err(Refused::Untimely(_)))), "{much_later:?}");
    assert!(decider(&judge.judge(&kept, SignedDuration::from_secs(88_900), at(90_000))).is_some());
}

#[test]
fn s72_what_presenters_choose_to_have_kept_does_not_cost_without_end() {
    let policy = policy(vec![asking(1, "a:b", r#"{"claim": "env", "equals": "prod"}"#)]);
    let kept = presented(&self::policy(vec![]), &claims(&json!({})));
    let mut judge = Judge::new(Arc::new(policy), deployment());
    for number in 0..100 {
        let read = std::iter::once(format!("c{number}").parse().unwrap()).collect();
        let json = kept.claims.as_ref().unwrap().json();
        let claims = Some(crate::exchange::presentation::KeptClaims::from_parts(json, read).unwrap());
        let judgement = judge.judge(&Presentation { claims, ..kept.clone() }, SignedDuration::ZERO, at(1_100));
        let too_many = judgement == Judgement::Undecided(Unknown::TooManyKinds);
        assert_eq!(too_many, number >= Judge::MAX_KINDS, "{number}");
    }
}

fn condition() -> impl Strategy<Value = String> {
    (
        prop::sample::select(vec!["c", "d", "/o/x"]),
        prop::sample::select(vec![r#""equals": "v""#, r#""equals": "v", "negated": true"#, r#""exists": true"#]),
    )
        .prop_map(|(claim, test)| format!(r#"{{"claim": "{claim}", {test}}}"#))
}

fn random_relationship(number: usize) -> impl Strategy<Value = TrustRelationship> {
    let cel = prop::sample::select(vec![
        None,
        Some("!has(assertion.d)"),
        Some("assertion.c == 'v'"),
        Some("has(assertion.o) && has(assertion.o.x)"),
    ]);
    (prop::sample::select(vec!["a:b", "a:*", "*b", "z"]), prop::collection::vec(condition(), 0..3), cel, any::<bool>()).prop_map(
        move |(subject, conditions, cel, enabled)| {
            let mut relationship = relationship(number, &[subject]);
            let conditions = conditions.iter().map(|condition| serde_json::from_str(condition).unwrap());
            relationship.settings.claim_conditions = conditions.collect();
            relationship.settings.cel_condition = cel.map(|cel| cel.parse().unwrap());
            relationship.settings.enabled = enabled;
            relationship
        },
    )
}

fn random_relationships() -> impl Strategy<Value = Vec<TrustRelationship>> {
    prop::collection::vec(any::<()>(), 0..4)
        .prop_flat_map(|places| places.iter().enumerate().map(|(number, ())| random_relationship(number)).collect::<Vec<_>>())
}

proptest! {
    /// Kept under one policy and judged under another: what is told is what the whole token would have got. Judged under the
    /// policy that it was kept under, everything is told.
    #[test]
    fn no_judgement_differs_from_the_exchange_s(
        kept_under in random_relationships(),
        judged_under in random_relationships(),
        more in prop::sample::select(vec![
            json!({}), json!({"c": "v"}), json!({"c": "w", "d": "v"}), json!({"o": {"x": "v", "y": "w"}}), json!({"c": "v", "o": {"y": 1}}),
        ]),
    ) {
        let (kept_under, judged_under) = (policy(kept_under), policy(judged_under));
        let claims = claims(&more);
        let kept = presented(&kept_under, &claims);
        let exchanged = |policy: &WorkspacePolicy| {
            let presented = PresentedToken { claims: &claims, signing_input_hash: [0; 32] };
            decision::decide(presented, &ExchangeRequest::default(), policy, &deployment(), at(1_100))
        };
        if let Judgement::Decided(told) = judge(&judged_under, &kept) {
            let real = exchanged(&judged_under);
            prop_assert_eq!(told.as_deref().ok(), real.as_ref().ok());
            prop_assert_eq!(told.as_ref().err().map(Refused::reason), real.as_ref().err().map(Refused::reason));
        }
        let own = judge(&kept_under, &kept);
        prop_assert_eq!(own, Judgement::Decided(exchanged(&kept_under).map(Box::new)));
    }
}
