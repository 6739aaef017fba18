//! Whose tokens: what is asked of their claims.

use serde_json::Value;

use super::patterns::{are_disjoint, covers};
use super::{Change, Reasons};
use crate::trust::claim_condition::{ClaimCondition, ClaimTest, ClaimValue, ClaimVerdict};
use crate::trust::trust_relationship::TrustRelationshipSettings;
use crate::values::claim_path::ClaimPath;
use crate::values::subject_match::SubjectMatch;

pub(super) fn claim_conditions(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, reasons: &mut Reasons) {
    let (before, after) = (&*before.claim_conditions, &*after.claim_conditions);
    // Conditions take away: one that is there no longer, and follows from no other, lets more in. That is why the lists are told
    // the wrong way round.
    let dropped = |old: &ClaimCondition| format!("no longer asks that {old}");
    let asked = |new: &ClaimCondition| format!("asks that {new}");
    let covered = |element: &ClaimCondition, list: &[ClaimCondition]| list.iter().any(|other| implies(other, element));
    reasons.lists("claim_conditions", [after, before], covered, [&dropped, &asked]);
}

pub(super) fn cel_condition(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, reasons: &mut Reasons) {
    let field = "cel_condition";
    match (&before.cel_condition, &after.cel_condition) {
        (None, Some(_)) => reasons.add(field, Change::Narrower, "one more condition must hold"),
        (Some(_), None) => reasons.add(field, Change::Broader, "the condition is gone"),
        (Some(old), Some(new)) if old.as_str() != new.as_str() => {
            reasons.add(field, Change::Different, "is another expression, and what expressions accept is not compared");
        }
        _ => {}
    }
}

/// A mapping changes what a token carries, and refuses the token for which it has no value: neither more nor less.
pub(super) fn attribute_mapping(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, reasons: &mut Reasons) {
    let field = "attribute_mapping";
    let (before, after) = (&before.attribute_mapping, &after.attribute_mapping);
    for (name, expression) in after {
        match before.get(name) {
            None => reasons.add(field, Change::Different, format!("tokens carry `{name}`, and need a value for it")),
            Some(old) if old.as_str() != expression.as_str() => {
                reasons.add(field, Change::Different, format!("`{name}` is another expression"));
            }
            Some(_) => {}
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        reasons.add(field, Change::Different, format!("tokens do not carry `{name}` any more, and need no value for it"));
    }
}

/// Whether every token that satisfies `one` can be shown to satisfy `other`.
pub(super) fn implies(one: &ClaimCondition, other: &ClaimCondition) -> bool {
    if !is_same_claim(&one.claim, &other.claim) {
        return false;
    }
    if one.test == other.test && one.negated == other.negated {
        return true;
    }
    if let Some(values) = all_values(one) {
        let other = other.compile();
        return values.iter().all(|value| other.judge_value(&json(value)) == ClaimVerdict::Satisfied);
    }
    if other.test == ClaimTest::Exists {
        // What is missing, null or empty satisfies nothing at all.
        return !other.negated;
    }
    match (&one.test, one.negated) {
        (ClaimTest::Glob(accepted), false) => match (&other.test, other.negated) {
            (ClaimTest::Glob(larger), false) => covers(larger, accepted),
            (ClaimTest::Glob(refused), true) => are_disjoint(accepted, refused),
            _ => refuses_texts(other, |text| !accepted.compile().accepts(text)),
        },
        (ClaimTest::Glob(refused), true) => match (&other.test, other.negated) {
            (ClaimTest::Glob(larger), false) => larger.is_bare_wildcard(),
            (ClaimTest::Glob(smaller), true) => covers(refused, smaller),
            _ => refuses_texts(other, |text| refused.compile().accepts(text)),
        },
        (ClaimTest::Equals(value), true) => all_but(std::slice::from_ref(value), other),
        (ClaimTest::OneOf(values), true) => all_but(values, other),
        _ => false,
    }
}

/// Whether every value of the type of these, but none of them, satisfies the condition.
fn all_but(refused: &[ClaimValue], other: &ClaimCondition) -> bool {
    let is_text = refused.iter().all(|value| matches!(value, ClaimValue::Text(_)));
    match (&other.test, other.negated) {
        (ClaimTest::Equals(value), true) => refused.contains(value),
        (ClaimTest::OneOf(values), true) => values.iter().all(|value| refused.contains(value)),
        (ClaimTest::Glob(pattern), true) => is_text && pattern.is_literal() && refused.contains(&text(pattern)),
        (ClaimTest::Glob(pattern), false) => is_text && pattern.is_bare_wildcard(),
        _ => false,
    }
}

/// Whether the condition is that the claim is text and none of some, of all of which `is_refused` holds.
fn refuses_texts(condition: &ClaimCondition, is_refused: impl Fn(&str) -> bool) -> bool {
    let values = match &condition.test {
        ClaimTest::Equals(value) => std::slice::from_ref(value),
        ClaimTest::OneOf(values) => values,
        ClaimTest::Glob(_) | ClaimTest::Contains(_) | ClaimTest::Exists => return false,
    };
    condition.negated && values.iter().all(|value| matches!(value, ClaimValue::Text(text) if is_refused(text)))
}

/// The values that satisfy the condition, when they can be counted.
fn all_values(condition: &ClaimCondition) -> Option<Vec<ClaimValue>> {
    let named = match &condition.test {
        ClaimTest::Equals(value) => std::slice::from_ref(value),
        ClaimTest::OneOf(values) => values,
        ClaimTest::Glob(pattern) if pattern.is_literal() && !condition.negated => return Some(vec![text(pattern)]),
        ClaimTest::Glob(_) | ClaimTest::Contains(_) | ClaimTest::Exists => return None,
    };
    if !condition.negated {
        return Some(named.to_vec());
    }
    // Of true and false, what is not the one is the other.
    let is_boolean = named.iter().all(|value| matches!(value, ClaimValue::Boolean(_)));
    is_boolean.then(|| [true, false].map(ClaimValue::Boolean).into_iter().filter(|value| !named.contains(value)).collect())
}

fn text(pattern: &SubjectMatch) -> ClaimValue {
    ClaimValue::Text(pattern.as_str().to_owned())
}

fn json(value: &ClaimValue) -> Value {
    match value {
        ClaimValue::Text(text) => text.as_str().into(),
        ClaimValue::Integer(number) => (*number).into(),
        ClaimValue::Boolean(truth) => (*truth).into(),
    }
}

/// Two texts may lead to one top-level claim: `ref` and `/ref`.
fn is_same_claim(one: &ClaimPath, other: &ClaimPath) -> bool {
    one == other || (!one.is_nested() && !other.is_nested() && one.top_level() == other.top_level())
}
