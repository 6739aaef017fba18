//! For each kind of refusal, the explanation names first what an expert would name.

mod corpus;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::trust::policy::tests::{relationship, relationship_id, set_relationships, trusted_issuer, workspace_id};
use crate::trust::policy_feed::PolicyChange;
use crate::trust::trust_relationship::TrustRelationship;
use crate::trust::workspace::WorkspaceState;
use crate::values::issuer_url::{IssuerUrl, LoopbackHttp};

const ISSUER: &str = "https://token.actions.githubusercontent.com";
const SUBJECT: &str = "repo:my-org/my-repo:ref:refs/heads/main";

struct Case {
    claims: Value,
    issuer: TrustedIssuer,
    relationships: Vec<TrustRelationship>,
    request: ExchangeRequest,
}

impl Case {
    /// A token that the first relationship accepts; the second is for another repository, the third for another environment.
    fn accepted() -> Self {
        let mut first = relationship(1, &[SUBJECT]);
        first.settings.claim_conditions = vec![condition(r#"{"claim": "repository_owner_id", "equals": "123"}"#)];
        first.settings.cel_condition = Some("assertion.run_attempt == '1'".parse().unwrap());
        first.settings.attribute_mapping = BTreeMap::from([("actor".parse().unwrap(), "assertion.actor".parse().unwrap())]);
        Self {
            claims: json!({
                "iss": ISSUER, "sub": SUBJECT, "aud": "https://gateway.example", "iat": 1_000, "exp": 1_300, "jti": "t-1",
                "repository_owner_id": "123", "run_attempt": "1", "actor": "octocat", "ref": "refs/heads/main",
            }),
            issuer: trusted_issuer(ISSUER),
            relationships: vec![
                first,
                relationship(2, &["repo:my-org/other-repo:*"]),
                relationship(3, &["repo:my-org/my-repo:environment:production"]),
            ],
            request: ExchangeRequest::default(),
        }
    }

    fn with(mut self, claim: &str, value: Value) -> Self {
        self.claims[claim] = value;
        self
    }

    fn first(mut self, change: impl FnOnce(&mut crate::trust::trust_relationship::TrustRelationshipSettings)) -> Self {
        change(&mut self.relationships[0].settings);
        self
    }

    fn explain(self) -> Explanation {
        let mut policy = WorkspacePolicy::new(workspace_id(), WorkspaceState::Active, 1);
        policy.apply(PolicyChange { trusted_issuers: vec![self.issuer], ..set_relationships(5, self.relationships) });
        let claims = Claims::from_members(self.claims.as_object().unwrap().clone()).unwrap();
        let deployment = IssuerUrl::parse("https://gateway.example", LoopbackHttp::Refused).unwrap();
        let token = PresentedToken { claims: &claims, signing_input_hash: [7; 32] };
        let now = Timestamp::from_second(1_100).unwrap();
        explain(token, &self.request, &policy, &DeploymentAudience::new(&deployment).unwrap(), now)
    }
}

fn condition(json: &str) -> crate::trust::claim_condition::ClaimCondition {
    serde_json::from_str(json).unwrap()
}

/// The first stage that fails, and of the first candidate the field that fails first.
#[track_caller]
fn names_first(case: Case, stage: StageKind, field: Option<&str>) -> Explanation {
    let explanation = case.explain();
    assert!(explanation.outcome.is_err(), "{explanation:#?}");
    let failed = explanation.stages.iter().find(|stage| stage.verdict == Verdict::Failed).unwrap();
    assert_eq!(failed.kind, stage, "{explanation:#?}");
    if let Some(field) = field {
        let first = &explanation.candidates[0];
        assert_eq!(first.id, relationship_id(1), "{explanation:#?}");
        assert_eq!(first.failures().next().unwrap().field, field, "{explanation:#?}");
    }
    explanation
}

#[test]
fn what_is_accepted_passes_every_stage() {
    let explanation = Case::accepted().explain();
    assert!(explanation.outcome.is_ok());
    assert!(explanation.stages.iter().all(|stage| stage.verdict == Verdict::Passed), "{explanation:#?}");
    let kinds: Vec<_> = explanation.stages.iter().map(|stage| stage.kind).collect();
    assert_eq!(kinds, StageKind::ALL[3..]);
    assert_eq!(explanation.candidates[0].id, relationship_id(1));
    assert!(explanation.candidates[0].accepts());
    assert!(!explanation.candidates[1].accepts());
}

#[test]
fn times_and_audience_are_named_and_the_relationships_looked_at_all_the_same() {
    for (claim, value) in [("exp", json!(1_050)), ("iat", json!(1_200)), ("nbf", json!(1_200)), ("exp", json!(90_000))] {
        let explanation = names_first(Case::accepted().with(claim, value), StageKind::Times, None);
        assert!(explanation.candidates[0].accepts(), "{claim}");
    }
    let explanation = names_first(Case::accepted().with("aud", json!("https://gateway.example/")), StageKind::Audience, None);
    assert!(explanation.stages[2].detail.contains("a slash at the end"), "{}", explanation.stages[2].detail);
    assert!(explanation.candidates[0].accepts());
    let mut case = Case::accepted();
    case.issuer.settings.replay_policy = ReplayPolicy::RequireJti;
    case.claims.as_object_mut().unwrap().remove("jti");
    names_first(case, StageKind::TokenId, None);
}

#[test]
fn the_condition_that_fails_is_named_first() {
    use StageKind::Relationship;
    let accepted = Case::accepted;
    names_first(
        accepted().with("sub", json!("repo:my-org/my-repo:ref:refs/heads/dev")),
        Relationship,
        Some("subject_matches[0]"),
    );
    names_first(
        accepted().with("sub", json!("repo:My-Org/my-repo:ref:refs/heads/main")),
        Relationship,
        Some("subject_matches[0]"),
    );
    names_first(accepted().with("repository_owner_id", json!("124")), Relationship, Some("claim_conditions[0]"));
    names_first(accepted().with("run_attempt", json!("2")), Relationship, Some("cel_condition"));
    names_first(accepted().first(|settings| settings.enabled = false), Relationship, Some("enabled"));
    let end = Timestamp::from_second(1_099).unwrap();
    names_first(accepted().first(|settings| settings.expires_at = Some(end)), Relationship, Some("expire_time"));
    let audience = vec!["other".parse().unwrap()];
    names_first(accepted().first(|settings| settings.subject_audiences = audience), Relationship, Some("subject_audiences"));
    let mut case = accepted();
    case.claims.as_object_mut().unwrap().remove("actor");
    names_first(case, Relationship, Some("attribute_mapping"));

    let wrong_type = names_first(accepted().with("repository_owner_id", json!(123)), Relationship, Some("claim_conditions[0]"));
    let hint = wrong_type.candidates[0].failures().next().unwrap().hint.clone().unwrap();
    assert!(hint.contains("about text, the claim is a whole number"), "{hint}");
    let nested = accepted()
        .with("kubernetes.io", json!({"namespace": "ci"}))
        .first(|settings| settings.claim_conditions = vec![condition(r#"{"claim": "kubernetes.io.namespace", "equals": "ci"}"#)]);
    let nested = names_first(nested, Relationship, Some("claim_conditions[0]"));
    let hint = nested.candidates[0].failures().next().unwrap().hint.clone().unwrap();
    assert!(hint.contains("/kubernetes.io/namespace"), "{hint}");
}

#[test]
fn a_matching_subject_with_one_failed_condition_is_nearer_than_a_subject_of_another_repository() {
    let case = Case::accepted().with("repository_owner_id", json!("124"));
    let ids: Vec<_> = case.explain().candidates.into_iter().map(|candidate| candidate.id).collect();
    assert_eq!(ids[0], relationship_id(1));
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_named_relationship_is_the_only_candidate() {
    let mut case = Case::accepted();
    case.request.trust_relationship_id = Some(relationship_id(2));
    let explanation = case.explain();
    assert!(explanation.outcome.is_err());
    assert_eq!(explanation.candidates.len(), 1);
    assert_eq!(explanation.candidates[0].failures().next().unwrap().field, "subject_matches[0]");
    let mut case = Case::accepted();
    case.request.trust_relationship_id = Some(relationship_id(9));
    assert!(case.explain().candidates.is_empty());
}

#[test]
fn what_is_not_given_is_named_behind_the_relationship_that_decides() {
    let mut case = Case::accepted();
    case.request.scopes = vec!["admin".parse().unwrap()];
    names_first(case, StageKind::Grant, None);
}

#[test]
fn s72_hints_are_looked_for_in_what_is_shown_and_not_without_end() {
    let mut case = Case::accepted().with("l", json!(vec!["a"; 2_000])).with("text", json!("B"));
    let conditions: Vec<_> = (0..16)
        .flat_map(|_| [condition(r#"{"claim": "l", "contains": "A"}"#), condition(r#"{"claim": "text", "equals": "b"}"#)])
        .collect();
    case.relationships = (10..200).map(|number| relationship(number, &["repo:my-org/my-repo:*"])).collect();
    for relationship in &mut case.relationships {
        relationship.settings.claim_conditions.clone_from(&conditions);
    }
    let explanation = case.explain();
    assert_eq!(explanation.candidates.len(), MAX_CANDIDATES);
    let hints = explanation.candidates.iter().flat_map(Candidate::failures).filter(|check| check.hint.is_some()).count();
    assert_eq!(hints, 24);
    assert!(explanation.candidates[0].failures().take(20).all(|check| check.hint.is_some()), "the nearest has them");
}

#[test]
fn of_many_subject_matches_the_one_that_accepts_or_is_nearest_is_compared() {
    let others = (0..60).map(|number| format!("repo:my-org/other-{number}:ref:refs/heads/main"));
    for (last, place) in [(SUBJECT.to_owned(), None), ("repo:my-org/my-repo:ref:refs/heads/mein".to_owned(), Some(60))] {
        let matches: Vec<String> = others.clone().chain([last]).collect();
        let case = Case::accepted().first(|first| {
            first.subject_matches = matches.iter().map(|text| text.parse().unwrap()).collect();
        });
        let case = Case { relationships: case.relationships[..1].to_vec(), ..case };
        match place {
            None => assert!(case.explain().candidates[0].accepts()),
            Some(place) => {
                names_first(case, StageKind::Relationship, Some(&format!("subject_matches[{place}]")));
            }
        }
    }
}

#[test]
fn of_very_many_relationships_the_nearest_are_told() {
    let mut case = Case::accepted().with("repository_owner_id", json!("124"));
    case.relationships
        .extend((10..600).map(|number| relationship(number, &[&format!("repo:org-{number}/repo:ref:refs/heads/main")])));
    let explanation = case.explain();
    assert_eq!(explanation.candidates[0].id, relationship_id(1));
    assert_eq!(explanation.candidates.len(), MAX_CANDIDATES);
    assert_eq!(explanation.candidates_left_out, 593 - MAX_CANDIDATES);
    assert!(explanation.candidates.is_sorted_by(|a, b| a.distance <= b.distance));
}
