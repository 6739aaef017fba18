use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::trust::claim_condition::ClaimVerdict;
use crate::trust::key_source::KeySource;
use crate::trust::trust_relationship::TrustRelationshipSettings;
use crate::trust::trusted_issuer::TrustedIssuerSettings;
use crate::values::issuer_url::{IssuerUrl, LoopbackHttp};
use crate::values::replay_policy::ReplayPolicy;
use crate::values::signature_algorithm::SignatureAlgorithm;
use crate::values::subject_match::SubjectMatch;
use crate::values::time::Timestamp;

pub(crate) fn workspace_id() -> WorkspaceId {
    WorkspaceId::from_random([1; 16])
}

pub(crate) fn issuer_id() -> TrustedIssuerId {
    TrustedIssuerId::from_random([2; 16])
}

pub(crate) fn relationship_id(number: usize) -> TrustRelationshipId {
    TrustRelationshipId::from_random((number as u128).to_be_bytes())
}

pub(crate) fn trusted_issuer(url: &str) -> TrustedIssuer {
    TrustedIssuer {
        id: issuer_id(),
        workspace_id: workspace_id(),
        settings: TrustedIssuerSettings {
            display_name: None,
            preset: None,
            issuer_url: IssuerUrl::parse(url, LoopbackHttp::Refused).unwrap(),
            key_source: KeySource::default(),
            subject_audiences: vec![],
            algorithms: BTreeSet::from([SignatureAlgorithm::Rs256]),
            token_types: BTreeSet::from([None]),
            max_token_lifetime: Duration::from_hours(1),
            clock_skew: Duration::from_secs(30),
            replay_policy: ReplayPolicy::SingleUse,
            enabled: true,
        },
        revision: 3,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// A live relationship; the higher the number, the younger.
pub(crate) fn relationship(number: usize, subject_matches: &[&str]) -> TrustRelationship {
    TrustRelationship {
        id: relationship_id(number),
        workspace_id: workspace_id(),
        trusted_issuer_id: issuer_id(),
        settings: TrustRelationshipSettings {
            display_name: None,
            key: None,
            claim_conditions: vec![],
            cel_condition: None,
            attribute_mapping: BTreeMap::new(),
            subject_matches: subject_matches.iter().map(|text| text.parse::<SubjectMatch>().unwrap()).collect(),
            subject_audiences: vec![],
            access_token_audiences: vec![],
            scopes: vec!["deploy".parse().unwrap()],
            grants: vec![],
            token_duration: Duration::from_hours(1),
            expires_at: None,
            enabled: true,
        },
        revision: 1,
        creator: "bootstrap".to_owned(),
        created_at: Timestamp::from_second(i64::try_from(number).unwrap()).unwrap(),
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn set_relationships(revision: i64, trust_relationships: Vec<TrustRelationship>) -> PolicyChange {
    PolicyChange {
        workspace_id: workspace_id(),
        state: WorkspaceState::Active,
        policy_revision: revision,
        trusted_issuers: vec![],
        trust_relationships,
        deleted_trusted_issuer_ids: vec![],
        deleted_trust_relationship_ids: vec![],
    }
}

fn delete_relationships(revision: i64, numbers: &[usize]) -> PolicyChange {
    let deleted_trust_relationship_ids = numbers.iter().map(|&number| relationship_id(number)).collect();
    PolicyChange { deleted_trust_relationship_ids, ..set_relationships(revision, vec![]) }
}

fn policy(relationships: Vec<TrustRelationship>) -> WorkspacePolicy {
    let mut policy = WorkspacePolicy::new(workspace_id(), WorkspaceState::Active, 1);
    policy.apply(set_relationships(2, relationships));
    policy
}

/// The claims of a token of this subject, and more.
pub(crate) fn claims(subject: &str, more: &[(&str, serde_json::Value)]) -> Claims {
    let members = serde_json::json!({"iss": "https://i.example", "sub": subject, "aud": "a", "iat": 1, "exp": 2});
    let mut members = members.as_object().unwrap().clone();
    members.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Claims::from_members(members).unwrap()
}

fn accepting(policy: &WorkspacePolicy, subject: &str) -> Vec<TrustRelationshipId> {
    policy.accepting(&issuer_id(), &claims(subject, &[])).map(|matched| matched.relationship.id.clone()).collect()
}

fn ids(numbers: &[usize]) -> Vec<TrustRelationshipId> {
    numbers.iter().map(|&number| relationship_id(number)).collect()
}

#[test]
fn s28_the_narrowest_stands_first_and_of_equals_the_older() {
    let policy = policy(vec![
        relationship(1, &["org:*"]),
        relationship(2, &["org:a:*"]),
        relationship(3, &["org:a:b"]),
        relationship(4, &["*:a:b"]),
        relationship(5, &["org:*", "org:a:*"]),
        relationship(6, &["org:b:*"]),
    ]);
    assert_eq!(accepting(&policy, "org:a:b"), ids(&[3, 2, 5, 1, 4]));
    assert_eq!(accepting(&policy, "org:a:c"), ids(&[2, 5, 1]));
    assert_eq!(accepting(&policy, "nobody"), ids(&[]));
}

#[test]
fn s28_the_order_does_not_depend_on_the_order_of_insertion() {
    let written = vec![relationship(1, &["a*"]), relationship(2, &["a*"]), relationship(3, &["ab*"]), relationship(4, &["abc"])];
    let mut backwards = written.clone();
    backwards.reverse();
    assert_eq!(accepting(&policy(written), "abc"), ids(&[4, 3, 1, 2]));
    assert_eq!(accepting(&policy(backwards), "abc"), ids(&[4, 3, 1, 2]));
}

#[test]
fn s31_a_change_leaves_earlier_snapshots_as_they_were() {
    let before = policy(vec![relationship(1, &["a"])]);
    let mut after = before.clone();
    after.apply(delete_relationships(3, &[1]));
    assert_eq!((accepting(&before, "a"), before.revision()), (ids(&[1]), 2));
    assert_eq!((accepting(&after, "a"), after.revision()), (ids(&[]), 3));
}

#[test]
fn a_change_that_was_applied_before_is_ignored() {
    let mut policy = policy(vec![relationship(1, &["a"])]);
    policy.apply(delete_relationships(1, &[1]));
    assert_eq!((accepting(&policy, "a"), policy.revision()), (ids(&[1]), 2));
}

#[test]
fn s24_issuers_are_found_by_their_exact_url() {
    let mut policy = policy(vec![]);
    let set = |revision, url| PolicyChange { trusted_issuers: vec![trusted_issuer(url)], ..set_relationships(revision, vec![]) };
    policy.apply(set(3, "https://issuer.example/a"));
    assert!(policy.issuer("https://issuer.example/a").is_some());
    for other in ["https://issuer.example/a/", "https://issuer.example/", "https://issuer.example/A", "", "issuer.example/a"] {
        assert!(policy.issuer(other).is_none(), "{other}");
    }
    let gone = PolicyChange { deleted_trusted_issuer_ids: vec![issuer_id()], ..set_relationships(4, vec![]) };
    policy.apply(gone);
    assert!(policy.issuer("https://issuer.example/a").is_none());
}

#[test]
fn s31_a_policy_that_arrives_in_parts_is_the_policy_that_arrives_as_a_whole() {
    let url = "https://i.example";
    let snapshot = |trusted_issuers, numbers: &[usize]| PolicySnapshot {
        workspace_id: workspace_id(),
        state: WorkspaceState::Disabled,
        policy_revision: 9,
        trusted_issuers,
        trust_relationships: numbers.iter().map(|&number| relationship(number, &["org:*"])).collect(),
    };
    let whole = WorkspacePolicy::from(snapshot(vec![trusted_issuer(url)], &[1, 2, 3]));
    let mut in_parts = WorkspacePolicy::new(workspace_id(), WorkspaceState::Active, 1);
    for part in [snapshot(vec![trusted_issuer(url)], &[1]), snapshot(vec![], &[2, 3])] {
        in_parts.add_part(part);
    }
    for policy in [&whole, &in_parts] {
        assert_eq!((policy.state(), policy.revision()), (WorkspaceState::Disabled, 9));
        assert_eq!(policy.issuers().map(|issuer| issuer.id.clone()).collect::<Vec<_>>(), [issuer_id()]);
        assert!(policy.issuer(url).is_some());
        assert_eq!((policy.relationship_count(), accepting(policy, "org:a")), (3, ids(&[1, 2, 3])));
    }
}

#[test]
fn an_issuer_registered_anew_under_the_same_url_in_one_change_is_kept() {
    let url = "https://issuer.example";
    let mut policy = policy(vec![]);
    policy.apply(PolicyChange { trusted_issuers: vec![trusted_issuer(url)], ..set_relationships(3, vec![]) });
    let again = TrustedIssuer { id: TrustedIssuerId::from_random([9; 16]), ..trusted_issuer(url) };
    policy.apply(PolicyChange {
        trusted_issuers: vec![again.clone()],
        deleted_trusted_issuer_ids: vec![issuer_id()],
        ..set_relationships(4, vec![])
    });
    assert_eq!(policy.issuer(url).map(|issuer| &issuer.id), Some(&again.id));
}

#[test]
fn a_disabled_relationship_accepts_nothing_but_can_be_named() {
    let mut disabled = relationship(1, &["a"]);
    disabled.settings.enabled = false;
    let policy = policy(vec![disabled]);
    assert_eq!(accepting(&policy, "a"), ids(&[]));
    assert!(policy.relationship(&relationship_id(1)).is_some_and(|found| !found.is_live(Timestamp::UNIX_EPOCH)));
}

/// One thing that a condition asks of the claims `c` and `d`.
fn condition() -> impl Strategy<Value = crate::trust::claim_condition::ClaimCondition> {
    let value = prop_oneof![Just(serde_json::json!("x")), Just(serde_json::json!("y")), Just(serde_json::json!(1))];
    let test = prop_oneof![
        value.clone().prop_map(|value| serde_json::json!({"equals": value})),
        Just(serde_json::json!({"one_of": ["x", "y"]})),
        Just(serde_json::json!({"one_of": ["y", "z"]})),
        Just(serde_json::json!({"glob": "x*"})),
        Just(serde_json::json!({"exists": true})),
        value.prop_map(|value| serde_json::json!({"equals": value, "negated": true})),
    ];
    (prop::sample::select(vec!["c", "d"]), test).prop_map(|(claim, mut test)| {
        test["claim"] = claim.into();
        serde_json::from_value(test).unwrap()
    })
}

proptest! {
    /// The index finds whom asking every relationship would find, after any history of changes; those whose conditions do not
    /// hold may be found or not.
    #[test]
    fn s28_the_index_agrees_with_asking_every_relationship(
        history in prop::collection::vec(
            (
                0_usize..12,
                prop::collection::vec("[ab*]{1,6}", 0..4),
                prop::collection::vec(condition(), 0..3),
                any::<bool>(),
            ),
            0..60,
        ),
        subjects in prop::collection::vec("[ab]{1,8}", 1..8),
        c in prop::sample::select(vec!["x", "y", "z", "xx"]),
        d in prop::option::of(Just(1)),
    ) {
        let mut policy = WorkspacePolicy::new(workspace_id(), WorkspaceState::Active, 0);
        let mut model: BTreeMap<usize, TrustRelationship> = BTreeMap::new();
        for (revision, (number, matches, conditions, enabled)) in (1..).zip(history) {
            let matches: Vec<&str> = matches.iter().map(String::as_str).collect();
            if matches.is_empty() {
                model.remove(&number);
                policy.apply(delete_relationships(revision, &[number]));
            } else {
                let mut written = relationship(number, &matches);
                written.settings.claim_conditions = conditions;
                written.settings.enabled = enabled;
                model.insert(number, written.clone());
                policy.apply(set_relationships(revision, vec![written]));
            }
        }
        for subject in subjects {
            let more: Vec<_> = [("c", Some(serde_json::json!(c))), ("d", d.map(|d| serde_json::json!(d)))]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            let claims = claims(&subject, &more);
            let view = TokenView::new(&claims);
            let mut expected: Vec<_> = model
                .iter()
                .filter(|(_, written)| written.settings.enabled)
                .filter_map(|(number, written)| {
                    let compiled = CompiledRelationship::from(written.clone());
                    compiled.meet(&view).ok()?;
                    compiled.accepts(&subject).map(|specificity| (specificity, *number))
                })
                .collect();
            expected.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            let expected: Vec<_> = expected.into_iter().map(|(_, number)| relationship_id(number)).collect();
            let found: Vec<_> = policy
                .accepting(&issuer_id(), &claims)
                .filter(|matched| matched.relationship.meet(&view).is_ok())
                .map(|matched| matched.relationship.id.clone())
                .collect();
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(policy.relationship_count(), model.len());
        for number in 0..12 {
            policy.apply(delete_relationships(i64::MAX, &[number]));
        }
        prop_assert!(policy.subjects.is_empty() && policy.expressions.is_empty());
    }
}

#[test]
fn one_expression_is_kept_once_and_as_long_as_it_is_used() {
    let with_cel = |number, source: &str| {
        let mut written = relationship(number, &["a*"]);
        written.settings.cel_condition = Some(source.parse().unwrap());
        written.settings.attribute_mapping = BTreeMap::from([("team".parse().unwrap(), "assertion.team".parse().unwrap())]);
        written
    };
    let mut policy = policy(vec![with_cel(1, "assertion.c == 'x'"), with_cel(2, "assertion.c == 'x'")]);
    assert_eq!(policy.expressions.size(), 2);
    policy.apply(set_relationships(3, vec![with_cel(1, "assertion.c == 'y'")]));
    assert_eq!(policy.expressions.size(), 3);
    policy.apply(delete_relationships(4, &[2]));
    assert_eq!(policy.expressions.size(), 2);
    policy.apply(delete_relationships(5, &[1]));
    assert!(policy.expressions.is_empty());
}

#[test]
fn what_is_not_met_is_told_in_the_order_claims_attributes_cel() {
    let mut written = relationship(1, &["a"]);
    written.settings.claim_conditions = vec![
        serde_json::from_str(r#"{"claim": "c", "equals": "x"}"#).unwrap(),
        serde_json::from_str(r#"{"claim": "d", "exists": true}"#).unwrap(),
    ];
    written.settings.attribute_mapping = BTreeMap::from([("team".parse().unwrap(), "assertion.team".parse().unwrap())]);
    written.settings.cel_condition = Some("attribute.team == 'core'".parse().unwrap());
    let compiled = CompiledRelationship::from(written);
    let meet = |more: &[(&str, serde_json::Value)]| compiled.meet(&TokenView::new(&claims("a", more)));
    let claim = |place, verdict| Err(Unmet::Claim { place, verdict });
    let [c, d, team, other] = [("c", "x"), ("d", "y"), ("team", "core"), ("team", "other")].map(|(n, v)| (n, v.into()));
    assert_eq!(meet(&[]), claim(0, ClaimVerdict::Missing));
    assert_eq!(meet(&[("c", "y".into())]), claim(0, ClaimVerdict::Unsatisfied));
    assert_eq!(meet(&[c.clone(), ("d", "".into())]), claim(1, ClaimVerdict::Empty));
    let absent = Unmet::Attribute { name: "team".parse().unwrap(), failure: crate::trust::cel::CelFailure::Absent };
    assert_eq!(meet(&[c.clone(), d.clone()]), Err(absent));
    assert_eq!(meet(&[c.clone(), d.clone(), other]), Err(Unmet::CelFalse));
    assert_eq!(meet(&[c, d, team]).unwrap(), Attributes::from_iter([("team".to_owned(), "core".into())]));
}

#[test]
fn s54_attributes_stay_short() {
    let mut written = relationship(1, &["a"]);
    let mapping = ["a1", "a2", "a3", "a4", "a5"].map(|name| (name.parse().unwrap(), "assertion.long".parse().unwrap()));
    written.settings.attribute_mapping = mapping.into();
    let met = CompiledRelationship::from(written).meet(&TokenView::new(&claims("a", &[("long", "x".repeat(500).into())])));
    assert_eq!(met, Err(Unmet::AttributesTooLong));
}
