use serde_json::{Value, json};

use super::*;
use crate::exchange::claims::Claims;
use crate::exchange::request::ExchangeRequest;
use crate::trust::policy::tests::{relationship, relationship_id, set_relationships, trusted_issuer, workspace_id};
use crate::trust::policy_feed::PolicyChange;
use crate::trust::trust_relationship::TrustRelationship;
use crate::trust::workspace::WorkspaceState;
use crate::values::issuer_url::{IssuerUrl, LoopbackHttp};

const ISSUER: &str = "https://issuer.example";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn policy(relationships: Vec<TrustRelationship>) -> WorkspacePolicy {
    let mut policy = WorkspacePolicy::new(workspace_id(), WorkspaceState::Active, 1);
    policy.apply(PolicyChange { trusted_issuers: vec![trusted_issuer(ISSUER)], ..set_relationships(5, relationships) });
    policy
}

fn asking(mut relationship: TrustRelationship, claim: &str, value: &str) -> TrustRelationship {
    let condition = json!({"claim": claim, "equals": value});
    relationship.settings.claim_conditions.push(serde_json::from_value(condition).unwrap());
    relationship
}

/// A token that was presented at this time, as it was kept under a policy.
fn presented(policy: &WorkspacePolicy, subject: &str, more: &Value, time: i64) -> (Timestamp, Presentation) {
    let mut members =
        json!({"iss": ISSUER, "sub": subject, "aud": "https://gateway.example", "iat": time - 5, "exp": time + 295});
    members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let claims = Claims::from_members(members.as_object().unwrap().clone()).unwrap();
    let presentation = Presentation {
        request_id: format!("req-{time}"),
        subject_issuer: ISSUER.parse().unwrap(),
        subject: claims.subject.clone(),
        subject_token_hash: [0; 32],
        subject_token_id: None,
        subject_key_id: None,
        claims: policy.claims_to_keep(&policy.issuer(ISSUER).unwrap().id, &claims),
        request: Some(ExchangeRequest::default()),
    };
    (at(time), presentation)
}

fn preview(before: &WorkspacePolicy, after: &WorkspacePolicy, past: &[(Timestamp, Presentation)]) -> Preview {
    let deployment =
        DeploymentAudience::new(&IssuerUrl::parse("https://gateway.example", LoopbackHttp::Refused).unwrap()).unwrap();
    let mut previewer = Previewer::new(relationship_id(1), before.clone(), after.clone(), &deployment, at(1_000_000));
    for (time, presentation) in past {
        previewer.examine(*time, presentation);
    }
    previewer.finish()
}

#[test]
fn narrowing_tells_who_would_be_refused_and_by_what() {
    let before = policy(vec![relationship(1, &["a:*"])]);
    let after = policy(vec![relationship(1, &["a:b:*"])]);
    let past = [
        presented(&before, "a:c", &json!({}), 900_300),
        presented(&before, "a:c", &json!({}), 900_200),
        presented(&before, "a:b:1", &json!({}), 900_100),
        presented(&before, "z", &json!({}), 900_000),
    ];
    let preview = preview(&before, &after, &past);
    assert_eq!((preview.examined, preview.by_effect), (4, BTreeMap::from([(Effect::NewlyRefused, 2)])));
    let [affected] = preview.affected.as_slice() else { panic!("{:?}", preview.affected) };
    assert_eq!((affected.subject.as_str(), affected.exchanges, affected.last_at), ("a:c", 2, at(900_300)));
    assert_eq!(
        (affected.request_id.as_str(), &affected.before, &affected.after),
        ("req-900300", &Some(relationship_id(1)), &None)
    );
    assert!(affected.detail.contains("accepts the subject"), "{}", affected.detail);
}

#[test]
fn widening_tells_who_would_get_in_and_who_would_be_decided_otherwise() {
    let other = || {
        let mut other = relationship(2, &["a:*"]);
        other.settings.scopes = vec!["other".parse().unwrap()];
        other
    };
    let before = policy(vec![other()]);
    let after = policy(vec![other(), relationship(1, &["a:b", "c"])]);
    let past = [
        presented(&before, "c", &json!({}), 900_000),
        presented(&before, "a:b", &json!({}), 900_000),
        presented(&before, "a:c", &json!({}), 900_000),
    ];
    let preview = preview(&before, &after, &past);
    let seen: Vec<_> = preview.affected.iter().map(|one| (one.effect, one.subject.as_str(), one.after.clone())).collect();
    let new = Some(relationship_id(1));
    assert_eq!(seen, [(Effect::NewlyAllowed, "c", new.clone()), (Effect::DecidedOtherwise, "a:b", new)]);
    assert!(preview.affected[1].detail.starts_with("another relationship decides, other scopes"), "{:?}", preview.affected[1]);
}

#[test]
fn what_a_new_condition_reads_is_undecided_unless_it_was_kept() {
    let before = policy(vec![relationship(1, &["a:*"]), asking(relationship(2, &["x"]), "ref", "main")]);
    let after = |claim: &str| policy(vec![asking(relationship(1, &["a:*"]), claim, "main"), relationship(2, &["x"])]);
    let past = [
        presented(&before, "a:b", &json!({"ref": "main", "env": "main"}), 900_000),
        presented(&before, "a:b", &json!({"ref": "dev"}), 900_000),
    ];
    // Another relationship reads it, so it was kept.
    assert_eq!(preview(&before, &after("ref"), &past).by_effect, BTreeMap::from([(Effect::NewlyRefused, 1)]));
    let undecided = preview(&before, &after("env"), &past);
    assert_eq!(undecided.by_effect, BTreeMap::from([(Effect::Undecided, 2)]));
    assert!(undecided.affected[0].detail.contains("reads the claim `env`"), "{:?}", undecided.affected);
}

#[test]
fn what_the_change_cannot_touch_is_unchanged_whatever_is_not_known_of_it() {
    let before = policy(vec![relationship(1, &["a:*"])]);
    let after = policy(vec![]);
    let (time, mut nothing_kept) = presented(&before, "z", &json!({}), 900_000);
    nothing_kept.claims = None;
    assert_eq!(preview(&before, &after, &[(time, nothing_kept.clone())]).by_effect, BTreeMap::new());
    nothing_kept.subject = "a:b".parse().unwrap();
    assert_eq!(preview(&before, &after, &[(time, nothing_kept)]).by_effect, BTreeMap::from([(Effect::Undecided, 1)]));
}

#[test]
fn very_many_kinds_are_counted_and_left_out_of_the_list() {
    let before = policy(vec![relationship(1, &["a:*"])]);
    let past: Vec<_> = (0..600).map(|number| presented(&before, &format!("a:{number}"), &json!({}), 900_000)).collect();
    let preview = preview(&before, &policy(vec![]), &past);
    assert_eq!((preview.affected.len(), preview.left_out), (MAX_AFFECTED, 350));
    assert_eq!(preview.by_effect, BTreeMap::from([(Effect::NewlyRefused, 600)]));
}
