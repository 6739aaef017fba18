//! What must hold of whatever an operator writes about tokens, as `countersign_jose::fuzzing` says it of what strangers send. That
//! crate also judges the seeds of these targets, as this one reads no files.

#![expect(clippy::missing_panics_doc, reason = "panicking is how a target says that something does not hold")]

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::exchange::claims::Claims;
use crate::trust::cel::{Assertion, CelExpression};
use crate::trust::claim_condition::{ClaimCondition, ClaimTest, ClaimValue, ClaimVerdict};
use crate::trust::policy::WorkspacePolicy;
use crate::trust::policy_feed::PolicyChange;
use crate::trust::trust_relationship::{TrustRelationship, TrustRelationshipSettings};
use crate::trust::workspace::WorkspaceState;
use crate::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use crate::values::subject_match::SubjectMatch;
use crate::values::time::Timestamp;

/// The most patterns that are tried at once.
const MAX_PATTERNS: usize = 64;

/// Subject matches, one a line, and on the last line a subject. Accepted where one of them accepts the subject.
pub fn pattern(bytes: &[u8]) -> bool {
    let Some((patterns, subject)) = last_line(bytes) else { return false };
    let patterns: Option<Vec<SubjectMatch>> = patterns.split('\n').map(|text| text.parse().ok()).collect();
    let (Some(patterns), Ok(claims)) = (patterns, claims(Map::new(), subject)) else { return false };
    if patterns.len() > MAX_PATTERNS {
        return false;
    }
    let mut accepting = Vec::new();
    for (number, pattern) in patterns.iter().enumerate() {
        let compiled = pattern.compile();
        let accepts = matches(pattern.as_str().as_bytes(), subject.as_bytes());
        assert_eq!(compiled.accepts(subject), accepts, "{pattern:?} and {subject:?}");
        let shortest = compiled.to_string();
        assert!(shortest.len() <= pattern.as_str().len());
        assert_eq!(shortest.parse().as_ref().map(SubjectMatch::compile), Ok(compiled.clone()));
        if accepts {
            accepting.push((Reverse(compiled.specificity()), number));
        }
    }
    accepting.sort();

    // However they are filed, the index finds these and no others, and goes on so when half of the relationships are gone.
    let mut policy = WorkspacePolicy::new(workspace_id(), WorkspaceState::Active, 0);
    let all = patterns.iter().enumerate().map(|(number, pattern)| relationship(number, pattern.clone(), vec![]));
    policy.apply(change(all.collect(), vec![]));
    let found = |policy: &WorkspacePolicy| -> Vec<TrustRelationshipId> {
        policy.accepting(&issuer_id(), &claims).map(|matched| matched.relationship.id.clone()).collect()
    };
    let ids = |numbers: &[(_, usize)]| numbers.iter().map(|(_, number)| relationship_id(*number)).collect::<Vec<_>>();
    assert_eq!(found(&policy), ids(&accepting));
    let before = policy.clone();
    policy.apply(change(vec![], (0..patterns.len()).step_by(2).map(relationship_id).collect()));
    let kept: Vec<_> = accepting.iter().copied().filter(|(_, number)| number % 2 == 1).collect();
    assert_eq!((found(&policy), found(&before)), (ids(&kept), ids(&accepting)));
    !accepting.is_empty()
}

/// A CEL expression, and on the last line, when that is a JSON object, the claims of a token. Accepted where it compiles.
pub fn cel(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let with_token = last_line(bytes).and_then(|(source, token)| Some((source, serde_json::from_str(token).ok()?)));
    let (source, members): (&str, Map<String, Value>) = with_token.unwrap_or((text, Map::new()));
    let Ok(expression) = source.parse::<CelExpression>() else { return false };
    assert!(source.len() <= CelExpression::MAX_BYTES);
    assert_eq!(expression.as_str(), source);
    assert!(expression.unequal_claims().is_subset(expression.claims()));

    let attributes: Map<String, Value> = expression.attributes().iter().map(|name| (name.to_string(), "x".into())).collect();
    let results = |members: &Map<String, Value>| {
        let assertion = Assertion::new(members);
        (expression.holds(&assertion, &attributes), expression.map(&assertion))
    };
    let read = members.iter().filter(|(name, _)| expression.claims().contains(name.as_str()));
    let read: Map<String, Value> = read.map(|(name, value)| (name.clone(), value.clone())).collect();
    let (holds, mapped) = results(&members);
    assert_eq!((holds, mapped.clone()), results(&read), "it reads only what it is known to read, in one order");
    match mapped {
        Ok(Value::Array(texts)) => assert!(texts.iter().all(Value::is_string)),
        Ok(value) => assert!(value.is_string() || value.is_boolean() || value.is_i64() || value.is_u64()),
        Err(_) => {}
    }
    true
}

/// A claim condition as JSON, and on the last line the claims of a token. Accepted where they satisfy it.
pub fn condition(bytes: &[u8]) -> bool {
    let Some((condition, members)) = last_line(bytes) else { return false };
    let Ok(condition) = serde_json::from_str::<ClaimCondition>(condition) else { return false };
    let written = serde_json::to_string(&condition).unwrap_or_default();
    assert_eq!(serde_json::from_str::<ClaimCondition>(&written).ok().as_ref(), Some(&condition));
    let Ok(Ok(claims)) = serde_json::from_str(members).map(|members| claims(members, "subject")) else { return false };
    let members = &claims.members;

    // A path is a JSON Pointer (RFC 6901), but for the elements of arrays.
    let (found, flat) = (condition.claim.find(members), without_arrays(&Value::Object(members.clone())));
    let path = condition.claim.as_str();
    let by_pointer = if path.starts_with('/') { flat.pointer(path) } else { flat.get(path) };
    assert_eq!(found.map(without_arrays).as_ref(), by_pointer, "{path}");

    let verdict = condition.compile().judge(members);
    let opposite = ClaimCondition { negated: !condition.negated, ..condition.clone() }.compile().judge(members);
    match verdict {
        ClaimVerdict::Satisfied if condition.test == ClaimTest::Exists => assert!(found.is_some_and(|value| !value.is_null())),
        ClaimVerdict::Satisfied => assert_eq!(opposite, ClaimVerdict::Unsatisfied),
        ClaimVerdict::Unsatisfied => assert_eq!(opposite, ClaimVerdict::Satisfied),
        // What satisfies nothing does not satisfy a negation either.
        ClaimVerdict::Missing | ClaimVerdict::Empty | ClaimVerdict::WrongType => assert_eq!(opposite, verdict),
    }
    assert_eq!(verdict == ClaimVerdict::Missing, found.is_none_or(Value::is_null));
    let satisfied = verdict == ClaimVerdict::Satisfied;
    if let Some(values) = condition.values() {
        assert_eq!(satisfied, found.and_then(ClaimValue::of).is_some_and(|value| values.contains(&value)));
    }
    // A relationship may lie under the values that it asks for: then it must be found by them.
    let mut policy = WorkspacePolicy::new(workspace_id(), WorkspaceState::Active, 0);
    let everybody = "*".parse().into_iter().map(|everybody| relationship(0, everybody, vec![condition.clone()]));
    policy.apply(change(everybody.collect(), vec![]));
    assert!(!satisfied || policy.accepting(&issuer_id(), &claims).count() == 1);
    satisfied
}

fn last_line(bytes: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(bytes).ok()?.rsplit_once('\n')
}

/// Whether a pattern accepts a subject, by the definition of `*`.
fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    // At each index, whether the pattern up to here accepts that many bytes of the subject.
    let mut accepted = vec![false; subject.len() + 1];
    accepted[0] = true;
    for expected in pattern {
        if *expected == b'*' {
            let shortest = accepted.iter().position(|accepted| *accepted).unwrap_or(accepted.len());
            accepted[shortest..].fill(true);
        } else {
            for (before, found) in subject.iter().enumerate().rev() {
                accepted[before + 1] = accepted[before] && found == expected;
            }
            accepted[0] = false;
        }
    }
    accepted[subject.len()]
}

/// The value with null in place of every array.
fn without_arrays(value: &Value) -> Value {
    match value {
        Value::Array(_) => Value::Null,
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), without_arrays(value))).collect(),
        other => other.clone(),
    }
}

fn workspace_id() -> WorkspaceId {
    WorkspaceId::from_random([1; 16])
}

fn issuer_id() -> TrustedIssuerId {
    TrustedIssuerId::from_random([2; 16])
}

fn relationship_id(number: usize) -> TrustRelationshipId {
    TrustRelationshipId::from_random((number as u128).to_be_bytes())
}

/// The claims of a token of this subject, with these members besides the registered ones.
fn claims(mut members: Map<String, Value>, subject: &str) -> Result<Claims, crate::exchange::claims::InvalidClaims> {
    for (name, value) in [("iss", json!("https://issuer.example")), ("sub", subject.into()), ("aud", "a".into())] {
        members.insert(name.to_owned(), value);
    }
    members.extend([("iat".to_owned(), 1.into()), ("exp".to_owned(), 2.into())]);
    Claims::from_members(members)
}

/// A live relationship. All are equally old, so that of equally narrow ones the lesser number stands first.
fn relationship(number: usize, subject_match: SubjectMatch, claim_conditions: Vec<ClaimCondition>) -> TrustRelationship {
    TrustRelationship {
        id: relationship_id(number),
        workspace_id: workspace_id(),
        trusted_issuer_id: issuer_id(),
        settings: TrustRelationshipSettings {
            display_name: None,
            key: None,
            subject_matches: vec![subject_match],
            claim_conditions,
            cel_condition: None,
            attribute_mapping: BTreeMap::new(),
            subject_audiences: vec![],
            access_token_audiences: vec![],
            scopes: vec![],
            grants: vec![],
            token_duration: Duration::from_hours(1),
            expires_at: None,
            enabled: true,
        },
        revision: 1,
        creator: "fuzzing".to_owned(),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn change(trust_relationships: Vec<TrustRelationship>, deleted: Vec<TrustRelationshipId>) -> PolicyChange {
    PolicyChange {
        workspace_id: workspace_id(),
        state: WorkspaceState::Active,
        policy_revision: 1,
        trusted_issuers: vec![],
        trust_relationships,
        deleted_trusted_issuer_ids: vec![],
        deleted_trust_relationship_ids: deleted,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json_text() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just(json!(null)),
            Just(json!(true)),
            (0..3_i64).prop_map(|number| json!(number)),
            Just(json!(1.5)),
            Just(json!(u64::MAX)),
            "[ab]{0,2}".prop_map(|text| json!(text)),
        ];
        let value = leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[ab/~]{1,2}", inner, 0..3).prop_map(|members| members.into_iter().collect()),
            ]
        });
        prop::collection::btree_map("[ab/~]{1,2}", value, 0..5).prop_map(|members| Value::from_iter(members).to_string())
    }

    // What a fuzzer looks for by coverage, looked for at random near what is accepted.
    proptest! {
        #[test]
        fn s68_patterns_are_as_they_are_defined(lines in prop::collection::vec("[ab*]{1,5}", 1..12), subject in "[ab]{1,8}") {
            pattern(format!("{}\n{subject}", lines.join("\n")).as_bytes());
        }

        #[test]
        fn s68_conditions_are_as_they_are_defined(
            claim in "/{0,1}[ab]{1,2}(/[ab]|~1[ab]){0,2}",
            test in prop::sample::select(vec![
                r#""equals":"a""#, r#""equals":1"#, r#""equals":true"#, r#""one_of":["a","b"]"#, r#""one_of":[0,1]"#, r#""glob":"a*""#,
                r#""contains":"a""#, r#""contains":1"#, r#""exists":true"#,
            ]),
            negated: bool,
            members in json_text(),
        ) {
            condition(format!("{{\"claim\":\"{claim}\",{test},\"negated\":{negated}}}\n{members}").as_bytes());
        }

        #[test]
        fn s68_expressions_read_only_what_they_are_known_to_read(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "assertion.a", "assertion.b", "assertion['a/']", "attribute.x", "'a'", "1", "[1, 'a']", "==", "!=", "+", "in", "&&",
                    "||", "?", ":", "!", "has(assertion.a)", "size(assertion.b)", "assertion.a.exists(x, x == 'a')",
                    "assertion.b.map(x, x)", ".startsWith('a')", "(", ")",
                ]),
                1..6,
            ),
            members in json_text(),
        ) {
            cel(format!("{}\n{members}", words.join(" ")).as_bytes());
        }
    }
}
