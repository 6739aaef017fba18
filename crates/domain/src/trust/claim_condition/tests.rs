use proptest::prelude::*;
use serde_json::json;

use super::*;

fn condition(json: Value) -> ClaimCondition {
    serde_json::from_value(json).unwrap()
}

fn refused(json: Value) -> InvalidClaimCondition {
    ClaimCondition::try_from(serde_json::from_value::<ClaimConditionDraft>(json).unwrap()).unwrap_err()
}

#[track_caller]
fn check(test: &Value, claim: &Value, expected: ClaimVerdict) {
    let mut written = test.as_object().unwrap().clone();
    written.insert("claim".to_owned(), json!("c"));
    let condition = condition(written.into());
    let members = Map::from_iter([("c".to_owned(), claim.clone())]);
    assert_eq!(condition.compile().judge(&members), expected, "{condition} with {claim}");
}

fn tests() -> [Value; 8] {
    [
        json!({"equals": "a"}),
        json!({"equals": 1}),
        json!({"equals": true}),
        json!({"one_of": ["a", "b"]}),
        json!({"glob": "a*"}),
        json!({"contains": "a"}),
        json!({"contains": 1}),
        json!({"one_of": [1, 2]}),
    ]
}

#[test]
fn s25_a_missing_null_or_empty_claim_satisfies_nothing_negated_or_not() {
    let mut tests: Vec<Value> = tests().into();
    tests.push(json!({"exists": true}));
    for test in &tests {
        for negated in [false, true] {
            let mut test = test.clone();
            if negated && test.get("exists").is_none() {
                test["negated"] = true.into();
            }
            check(&test, &Value::Null, ClaimVerdict::Missing);
            for empty in [json!(""), json!([]), json!({})] {
                check(&test, &empty, ClaimVerdict::Empty);
            }
            test["claim"] = "/a/b".into();
            for members in [json!({}), json!({"a": {}}), json!({"a": ["b"]}), json!({"a": "b"})] {
                assert_eq!(condition(test.clone()).compile().judge(members.as_object().unwrap()), ClaimVerdict::Missing);
            }
        }
    }
}

#[test]
fn s25_a_wrong_typed_claim_satisfies_nothing_negated_or_not() {
    let values = [json!("x"), json!(7), json!(7.5), json!(false), json!(["x"]), json!([7]), json!(["x", 7]), json!({"x": "a"})];
    for test in tests() {
        let is_right = |value: &Value| match (test.get("contains"), test.get("one_of")) {
            (Some(element), _) => value.as_array().is_some_and(|elements| {
                elements.iter().all(|e| e.is_string() == element.is_string() && (e.is_string() || e.is_i64()))
            }),
            (_, Some(elements)) => {
                if elements[0].is_string() {
                    value.is_string()
                } else {
                    value.is_i64()
                }
            }
            _ if test.get("glob").is_some() => value.is_string(),
            _ => match &test["equals"] {
                Value::String(_) => value.is_string(),
                Value::Number(_) => value.is_i64(),
                _ => value.is_boolean(),
            },
        };
        for value in values.iter().filter(|value| !is_right(value)) {
            for negated in [false, true] {
                let mut test = test.clone();
                test["negated"] = negated.into();
                check(&test, value, ClaimVerdict::WrongType);
            }
        }
    }
}

#[test]
fn s26_nothing_is_coerced() {
    use ClaimVerdict::{Satisfied, Unsatisfied, WrongType};
    for (expected, claim, verdict) in [
        (json!(1), json!(1), Satisfied),
        (json!(1), json!(2), Unsatisfied),
        (json!(1), json!(1.9), WrongType),
        (json!(1), json!(1.0), WrongType),
        (json!(1), json!("1"), WrongType),
        (json!("1"), json!(1), WrongType),
        (json!(true), json!("true"), WrongType),
        (json!("true"), json!(true), WrongType),
        (json!(1), json!(true), WrongType),
        (json!(0), json!(false), WrongType),
        (json!(i64::MAX), json!(i64::MAX), Satisfied),
        (json!(-1), json!(u64::MAX), Unsatisfied),
        (json!("a"), json!(["a"]), WrongType),
        (json!("Sub"), json!("sub"), Unsatisfied),
        (json!("s"), json!("\u{17f}"), Unsatisfied),
    ] {
        check(&json!({"equals": expected}), &claim, verdict);
        let negated = if verdict == Satisfied {
            Unsatisfied
        } else if verdict == Unsatisfied {
            Satisfied
        } else {
            verdict
        };
        check(&json!({"equals": expected, "negated": true}), &claim, negated);
    }
    // A whole number that a parser keeps as a double is none.
    let members: Map<String, Value> = serde_json::from_str(r#"{"c": 9223372036854775808000}"#).unwrap();
    let condition = condition(json!({"claim": "c", "equals": i64::MAX, "negated": true}));
    assert_eq!(condition.compile().judge(&members), ClaimVerdict::WrongType);
}

#[test]
fn operators_do_what_their_names_say() {
    use ClaimVerdict::{Satisfied, Unsatisfied};
    for (test, claim, verdict) in [
        (json!({"one_of": ["a", "b"]}), json!("b"), Satisfied),
        (json!({"one_of": ["a", "b"]}), json!("c"), Unsatisfied),
        (json!({"one_of": ["a", "b"], "negated": true}), json!("c"), Satisfied),
        (json!({"glob": "refs/heads/*"}), json!("refs/heads/main"), Satisfied),
        (json!({"glob": "refs/heads/*"}), json!("x/refs/heads/main"), Unsatisfied),
        (json!({"glob": "refs/heads/*", "negated": true}), json!("refs/tags/v1"), Satisfied),
        (json!({"contains": "admin"}), json!(["dev", "admin"]), Satisfied),
        (json!({"contains": "admin"}), json!(["dev"]), Unsatisfied),
        (json!({"contains": "admin", "negated": true}), json!(["dev"]), Satisfied),
        (json!({"contains": "admin", "negated": true}), json!(["admin"]), Unsatisfied),
        (json!({"exists": true}), json!({"a": null}), Satisfied),
        (json!({"exists": true}), json!(false), Satisfied),
    ] {
        check(&test, &claim, verdict);
    }
}

#[test]
fn what_is_no_condition_is_refused() {
    use InvalidClaimCondition as Invalid;
    for (json, error) in [
        (json!({"claim": "c"}), Invalid::NotOneTest),
        (json!({"claim": "c", "equals": "a", "glob": "b"}), Invalid::NotOneTest),
        (json!({"claim": "c", "equals": ""}), Invalid::EmptyText),
        (json!({"claim": "c", "one_of": ["a", ""]}), Invalid::EmptyText),
        (json!({"claim": "c", "one_of": ["a", 1]}), Invalid::MixedTypes),
        (json!({"claim": "c", "one_of": vec!["a"; 65]}), Invalid::TooManyValues),
        (json!({"claim": "c", "contains": "x".repeat(1025)}), Invalid::TextTooLong),
        (json!({"claim": "c", "exists": true, "negated": true}), Invalid::AbsenceAsked),
        (json!({"claim": "", "exists": true}), Invalid::Path(InvalidClaimPath::Empty)),
        (json!({"claim": "c", "glob": ""}), Invalid::Glob(InvalidSubjectMatch::Empty)),
    ] {
        assert_eq!(refused(json.clone()), error, "{json}");
    }
    for json in [
        json!({"claim": "c", "equals": 1.5}),
        json!({"claim": "c", "equals": null, "equal": 1}),
        json!({"claim": "c", "equals": ["a"]}),
        json!({"claim": "c", "equals": u64::MAX}),
    ] {
        assert!(serde_json::from_value::<ClaimConditionDraft>(json.clone()).is_err(), "{json}");
    }
}

#[test]
fn the_limits_of_a_condition_are_its_last_accepted_values() {
    for fine in [
        json!({"claim": "c", "one_of": (0..64).map(|number| number.to_string()).collect::<Vec<_>>()}),
        json!({"claim": "c", "contains": "x".repeat(1024)}),
        json!({"claim": "c", "equals": "x".repeat(1024)}),
    ] {
        serde_json::from_value::<ClaimCondition>(fine).unwrap();
    }
}

#[test]
fn only_a_condition_that_is_not_negated_names_the_values_of_its_claim() {
    let text = |text: &str| ClaimValue::Text(text.to_owned());
    for (test, values) in [
        (json!({"equals": "a"}), Some(vec![text("a")])),
        (json!({"equals": 7}), Some(vec![ClaimValue::Integer(7)])),
        (json!({"one_of": ["a", "b"]}), Some(vec![text("a"), text("b")])),
        (json!({"contains": "a"}), None),
        (json!({"glob": "a"}), None),
        (json!({"exists": true}), None),
    ] {
        let mut written = test.clone();
        written["claim"] = json!("c");
        assert_eq!(condition(written.clone()).values().map(<[_]>::to_vec), values, "{test}");
        if test.get("exists").is_none() {
            written["negated"] = json!(true);
            assert_eq!(condition(written).values(), None, "{test}, negated");
        }
    }
}

#[test]
fn a_value_is_what_a_condition_can_compare_with() {
    for (value, expected) in [
        (json!("a"), Some(ClaimValue::Text("a".to_owned()))),
        (json!(-7), Some(ClaimValue::Integer(-7))),
        (json!(i64::MAX), Some(ClaimValue::Integer(i64::MAX))),
        (json!(true), Some(ClaimValue::Boolean(true))),
        (json!(false), Some(ClaimValue::Boolean(false))),
        (json!(u64::MAX), None),
        (json!(1.0), None),
        (json!(null), None),
        (json!(["a"]), None),
        (json!({"a": 1}), None),
    ] {
        assert_eq!(ClaimValue::of(&value), expected, "{value}");
    }
}

#[test]
fn s18_what_names_nobody_does_not_pin() {
    for (json, pins) in [
        (json!({"claim": "c", "equals": "a"}), true),
        (json!({"claim": "c", "equals": 1}), true),
        (json!({"claim": "c", "one_of": ["a", "b"]}), true),
        (json!({"claim": "c", "contains": "a"}), true),
        (json!({"claim": "c", "glob": "my-org/*"}), true),
        (json!({"claim": "c", "glob": "**"}), false),
        (json!({"claim": "c", "equals": true}), false),
        (json!({"claim": "c", "exists": true}), false),
        (json!({"claim": "c", "equals": "a", "negated": true}), false),
    ] {
        assert_eq!(condition(json.clone()).pins(), pins, "{json}");
    }
}

#[test]
fn conditions_survive_a_round_trip_and_read_as_sentences() {
    for (json, sentence) in [
        (json!({"claim": "ref", "equals": "a\"b"}), r#"ref is "a\"b""#),
        (json!({"claim": "ref", "glob": "a*", "negated": true}), r#"ref is not like "a*""#),
        (json!({"claim": "/a/b", "one_of": [1, 2]}), "/a/b is one of 1, 2"),
        (json!({"claim": "amr", "contains": "x", "negated": true}), r#"amr does not contain "x""#),
        (json!({"claim": "amr", "exists": true}), "amr exists"),
    ] {
        let condition = condition(json.clone());
        assert_eq!(serde_json::to_value(&condition).unwrap(), json);
        assert_eq!(condition.to_string(), sentence);
    }
}

proptest! {
    #[test]
    fn s25_a_condition_and_its_negation_never_both_hold(claim in "[ab]{0,2}", glob in "[ab*]{1,3}") {
        let members = Map::from_iter([("c".to_owned(), json!(claim))]);
        let holds = |negated: bool| {
            let condition = condition(json!({"claim": "c", "glob": glob, "negated": negated}));
            condition.compile().judge(&members) == ClaimVerdict::Satisfied
        };
        prop_assert!(!(holds(false) && holds(true)));
        prop_assert_eq!(holds(false) || holds(true), !claim.is_empty());
    }
}

/// What is wrong with a condition that has this test, in JSON.
fn unreadable(test: &str) -> String {
    let condition = format!(r#"{{"claim": "c", {test}}}"#);
    serde_json::from_str::<ClaimConditionDraft>(&condition).map(|draft| panic!("{draft:?}")).unwrap_err().to_string()
}

#[test]
fn s26_a_number_that_no_condition_can_compare_with_is_refused_by_the_name_of_its_field() {
    const RANGE: &str = "from -9223372036854775808 to 9223372036854775807";
    for number in
        ["20000000000000000001", "-20000000000000000001", "9223372036854775808", "18446744073709551616", "1e20", "1e300"]
    {
        for (test, field) in [
            (format!(r#""equals": {number}"#), "equals must be"),
            (format!(r#""contains": {number}"#), "contains must be"),
            (format!(r#""one_of": [1, {number}]"#), "one_of[1] must be"),
        ] {
            let problem = unreadable(&test);
            assert!(problem.contains(field) && problem.contains(RANGE) && problem.contains("outside that range"), "{problem}");
        }
    }
    for number in ["1.5", "1e3", "1.0", "-0.0"] {
        assert!(unreadable(&format!(r#""equals": {number}"#)).contains("has a fraction or an exponent"), "{number}");
    }
    assert!(unreadable(r#""equals": []"#).contains("equals must be text, true, false or a whole number"));
    assert!(unreadable(r#""one_of": [null]"#).contains("one_of[0] must be"));
    assert!(unreadable(r#""contains": {"a": 1}"#).contains("contains must be"));
    let smallest = serde_json::from_str::<ClaimConditionDraft>(r#"{"claim": "c", "equals": -9223372036854775808}"#).unwrap();
    assert_eq!(smallest.equals, Some(ClaimValue::Integer(i64::MIN)));
    assert_eq!(serde_json::from_str::<ClaimConditionDraft>(r#"{"claim": "c", "equals": null}"#).unwrap().equals, None);
}

#[test]
fn s26_a_claim_beyond_64_bits_or_with_a_fraction_equals_no_number() {
    for claim in ["20000000000000000001", "1.0", "1e0", "1.00000000000000000001", "-0.0"] {
        let claim: Value = serde_json::from_str(claim).unwrap();
        for test in [json!({"equals": 1}), json!({"one_of": [1, 0]}), json!({"equals": i64::MAX})] {
            check(&test, &claim, ClaimVerdict::WrongType);
        }
        check(&json!({"contains": 1}), &json!([claim]), ClaimVerdict::WrongType);
    }
    check(&json!({"equals": i64::MAX}), &json!(u64::MAX), ClaimVerdict::Unsatisfied);
}
