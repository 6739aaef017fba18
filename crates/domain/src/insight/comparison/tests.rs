mod random;

use std::time::Duration;

use serde_json::{Value, json};

use super::Change::{Broader, Different, Narrower, Unchanged};
use super::*;
use crate::trust::policy::tests::relationship;
use crate::values::grant::Grant;
use crate::values::time::Timestamp;

const NOW: i64 = 1_000_000;

fn settings() -> TrustRelationshipSettings {
    relationship(1, &["a*"]).settings
}

#[track_caller]
fn check(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, expected: Change) {
    let there = compare(Some(before), Some(after));
    assert_eq!(there.change, expected, "{:?}", there.reasons);
    let back = match expected {
        Narrower => Broader,
        Broader => Narrower,
        same => same,
    };
    assert_eq!(compare(Some(after), Some(before)).change, back, "the way back");
}

fn subjects(patterns: &[&str]) -> TrustRelationshipSettings {
    relationship(1, patterns).settings
}

fn conditions(written: Value) -> TrustRelationshipSettings {
    TrustRelationshipSettings { claim_conditions: serde_json::from_value(written).unwrap(), ..settings() }
}

fn names<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn grant(resource_type: &str, resource_id: &str, actions: &[&str]) -> Grant {
    Grant {
        resource_type: resource_type.to_owned(),
        resource_id: resource_id.to_owned(),
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
    }
}

#[test]
fn subjects_are_compared_by_what_they_accept() {
    let check = |before: &[&str], after: &[&str], expected| check(&subjects(before), &subjects(after), expected);
    check(&["org:a:vault:x"], &["org:a:*"], Broader);
    check(&["org:a:*", "org:a:vault:x"], &["org:a:*"], Unchanged);
    check(&["a**b"], &["a*b"], Unchanged);
    check(&["a*", "b*"], &["b*", "a*"], Unchanged);
    check(&["a*", "b*"], &["a*"], Narrower);
    check(&["a*"], &["b*"], Different);
    check(&["a*b"], &["a*b*"], Broader);
    check(&["aa"], &["a*a"], Broader);
    check(&["a"], &["a*a"], Different);
    check(&["*a*"], &["*a*a*"], Narrower);
}

#[test]
fn a_name_is_no_change() {
    let named = TrustRelationshipSettings {
        display_name: Some("Deploy".parse().unwrap()),
        key: Some("deploy".parse().unwrap()),
        ..settings()
    };
    assert_eq!(compare(Some(&settings()), Some(&named)), Comparison { change: Unchanged, reasons: vec![] });
}

#[test]
fn what_is_new_is_broader_and_what_is_gone_narrower() {
    assert_eq!(compare(None, Some(&settings())).change, Broader);
    assert_eq!(compare(Some(&settings()), None).change, Narrower);
}

#[test]
fn reasons_name_the_field_and_say_what_happens_to_it() {
    let after = TrustRelationshipSettings { scopes: names(&["read"]), ..subjects(&["org:a:*"]) };
    let comparison = compare(Some(&subjects(&["org:a:vault:x"])), Some(&after));
    let told: Vec<String> = comparison.reasons.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "subject_matches: `org:a:*` also accepts what `org:a:vault:x` did not",
            "scopes: gives `read`",
            "scopes: does not give `deploy` any more",
        ]
    );
    assert_eq!(comparison.change, Different);
    assert_eq!(comparison.reasons.iter().map(|reason| reason.change).collect::<Vec<_>>(), [Broader, Broader, Narrower]);
}

#[test]
fn conditions_are_compared_by_what_follows_from_them() {
    let one = |test: Value| {
        let mut test = test;
        test["claim"] = "c".into();
        test
    };
    let follows = |stronger: Value, weaker: Value| {
        check(&conditions(json!([one(weaker)])), &conditions(json!([one(stronger)])), Narrower);
    };
    let unrelated = |before: Value, after: Value| {
        check(&conditions(json!([one(before)])), &conditions(json!([one(after)])), Different);
    };
    follows(json!({"equals": "a"}), json!({"one_of": ["a", "b"]}));
    follows(json!({"equals": "ab"}), json!({"glob": "a*"}));
    follows(json!({"glob": "ab*"}), json!({"glob": "a*"}));
    follows(json!({"glob": "a*"}), json!({"exists": true}));
    follows(json!({"contains": "a"}), json!({"exists": true}));
    follows(json!({"equals": "a", "negated": true}), json!({"exists": true}));
    follows(json!({"equals": "a"}), json!({"equals": "b", "negated": true}));
    follows(json!({"one_of": ["a", "b"], "negated": true}), json!({"equals": "b", "negated": true}));
    follows(json!({"glob": "a*", "negated": true}), json!({"one_of": ["a", "ab"], "negated": true}));
    follows(json!({"glob": "a*", "negated": true}), json!({"glob": "ab*", "negated": true}));
    follows(json!({"glob": "a*", "negated": true}), json!({"glob": "*"}));
    follows(json!({"glob": "b*"}), json!({"glob": "a*", "negated": true}));
    follows(json!({"equals": "a", "negated": true}), json!({"glob": "*"}));
    unrelated(json!({"equals": 1}), json!({"equals": "1"}));
    unrelated(json!({"equals": 1, "negated": true}), json!({"equals": "a", "negated": true}));
    unrelated(json!({"equals": 1, "negated": true}), json!({"equals": "a"}));
    unrelated(json!({"contains": "a"}), json!({"contains": "b", "negated": true}));
    unrelated(json!({"equals": "a", "negated": true}), json!({"equals": 1}));
    unrelated(json!({"glob": "*b", "negated": true}), json!({"glob": "a*"}));
    unrelated(json!({"equals": "a"}), json!({"contains": "a"}));

    let same =
        |before: Value, after: Value| check(&conditions(json!([one(before)])), &conditions(json!([one(after)])), Unchanged);
    same(json!({"equals": true, "negated": true}), json!({"equals": false}));
    same(json!({"equals": "a"}), json!({"one_of": ["a"]}));
    same(json!({"glob": "a", "negated": true}), json!({"equals": "a", "negated": true}));
    check(
        &conditions(json!([{"claim": "ref", "equals": "a"}])),
        &conditions(json!([{"claim": "/ref", "equals": "a"}])),
        Unchanged,
    );
    check(
        &conditions(json!([{"claim": "/ref", "equals": "a"}])),
        &conditions(json!([{"claim": "/ref/x", "equals": "a"}])),
        Different,
    );
    check(&conditions(json!([])), &conditions(json!([{"claim": "c", "exists": true}])), Narrower);
}

#[test]
fn expressions_are_not_looked_into() {
    let cel = |source: Option<&str>| TrustRelationshipSettings {
        cel_condition: source.map(|source| source.parse().unwrap()),
        ..settings()
    };
    check(&cel(None), &cel(Some("assertion.c == 'x'")), Narrower);
    check(&cel(Some("assertion.c == 'x'")), &cel(Some("assertion.c == 'y'")), Different);
    check(&cel(Some("assertion.c == 'x'")), &cel(Some("assertion.c == 'x'")), Unchanged);
    let maps = |mapping: &[(&str, &str)]| TrustRelationshipSettings {
        attribute_mapping: mapping.iter().map(|(name, source)| (name.parse().unwrap(), source.parse().unwrap())).collect(),
        ..settings()
    };
    check(&maps(&[]), &maps(&[("team", "assertion.c")]), Different);
    check(&maps(&[("team", "assertion.c")]), &maps(&[("team", "assertion.d")]), Different);
    check(&maps(&[("team", "assertion.c")]), &maps(&[("team", "assertion.c")]), Unchanged);
}

#[test]
fn what_is_given_is_compared_field_by_field() {
    let to = |audiences: &[&str]| TrustRelationshipSettings { access_token_audiences: names(audiences), ..settings() };
    check(&to(&["a", "b"]), &to(&["a"]), Narrower);
    check(&to(&["a", "b"]), &to(&["b"]), Different);
    check(&to(&["a", "b", "c"]), &to(&["a", "c", "b"]), Unchanged);
    check(&to(&[]), &to(&["a"]), Different);

    let of = |audiences: &[&str]| TrustRelationshipSettings { subject_audiences: names(audiences), ..settings() };
    check(&of(&[]), &of(&["a"]), Narrower);
    check(&of(&["a", "b"]), &of(&["b"]), Narrower);
    check(&of(&["a"]), &of(&["b"]), Different);

    let grants = |grants: &[Grant]| TrustRelationshipSettings { grants: grants.to_vec(), ..settings() };
    let all = grant("vault", "*", &["read", "write"]);
    check(&grants(std::slice::from_ref(&all)), &grants(&[grant("vault", "x", &["write"])]), Narrower);
    check(&grants(std::slice::from_ref(&all)), &grants(&[grant("cluster", "x", &["read"])]), Different);
    check(&grants(&[grant("vault", "x*", &["read"])]), &grants(&[grant("vault", "xy", &["read"])]), Different);
    let split = [grant("vault", "*", &["read"]), grant("vault", "*", &["write"])];
    check(&grants(&[all]), &grants(&split), Unchanged);

    let long = |seconds| TrustRelationshipSettings { token_duration: Duration::from_secs(seconds), ..settings() };
    check(&long(600), &long(300), Narrower);
    let until = |end: Option<i64>| TrustRelationshipSettings { expires_at: end.map(at), ..settings() };
    check(&until(None), &until(Some(9)), Narrower);
    check(&until(Some(9)), &until(Some(8)), Narrower);
    check(&settings(), &TrustRelationshipSettings { enabled: false, ..settings() }, Narrower);
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}
