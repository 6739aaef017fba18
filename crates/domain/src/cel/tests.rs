use proptest::prelude::*;
use serde_json::json;

use super::*;

fn expression(source: &str) -> CelExpression {
    source.parse().unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn holds_for(source: &str, claims: &serde_json::Value) -> Result<bool, CelFailure> {
    expression(source).holds(&Assertion::new(claims.as_object().unwrap()), &Map::new())
}

fn claims() -> serde_json::Value {
    json!({
        "sub": "repo:my-org/my-repo:ref:refs/heads/main",
        "ref": "refs/heads/main",
        "groups": ["dev", "ops"],
        "run": 7,
        "huge": u64::MAX,
        "protected": true,
        "https://aws.example/": {"account": "123", "tags": {"team": "core"}},
        "kubernetes.io": {"namespace": "ci"},
        "many": vec!["x"; 129],
        "nothing": null,
    })
}

#[test]
fn what_would_depend_on_the_order_of_an_object_is_refused() {
    for source in [
        "assertion.o.map(k, k)[0] == 'a'",
        "assertion.o.filter(k, k != 'z').size() == 2",
        "assertion.o.exists(k, k == 'a')",
        "[1, 2].size() == 2 && assertion['o'].all(k, k != 'z')",
    ] {
        let expression: CelExpression = source.parse().unwrap();
        let members = serde_json::json!({"o": {"a": 1, "b": 2}});
        let assertion = Assertion::new(members.as_object().unwrap());
        assert_eq!(expression.holds(&assertion, &Map::new()), Err(CelFailure::Unordered), "{source}");
        let members = serde_json::json!({"o": ["a", "b"]});
        let assertion = Assertion::new(members.as_object().unwrap());
        assert_eq!(expression.holds(&assertion, &Map::new()), Ok(true), "{source}");
    }
}

#[test]
fn conditions_read_claims_by_name() {
    for source in [
        "assertion.ref == 'refs/heads/main'",
        "assertion.ref.startsWith('refs/heads/') && !assertion.ref.endsWith('/dev')",
        "assertion['https://aws.example/'].account == '123'",
        "assertion['https://aws.example/']['tags'].team == 'core'",
        "assertion['kubernetes.io'].namespace in ['ci', 'cd']",
        "'ops' in assertion.groups",
        "assertion.groups.exists(g, g == 'ops')",
        "assertion.groups.all(g, g != 'admin')",
        "assertion.groups.exists_one(g, g.contains('ev'))",
        "size(assertion.groups.filter(g, g == 'dev')) == 1",
        "assertion.run >= 7 && assertion.run % 2 == 1 && -assertion.run < 0",
        "has(assertion.ref) && !has(assertion.environment)",
        "'ref' in assertion && !('environment' in assertion)",
        "assertion.protected ? assertion.run == 7 : false",
        "string(assertion.run) == \"7\" && int('7') == assertion.run",
        "assertion.nothing == null",
        "assertion.ref == 'refs/heads/' + 'main'",
    ] {
        assert_eq!(holds_for(source, &claims()), Ok(true), "{source}");
    }
}

#[test]
fn s32_an_error_refuses() {
    for (source, failure) in [
        ("assertion.absent == 'a'", CelFailure::Absent),
        ("assertion.ref.absent == 'a'", CelFailure::WrongType),
        ("assertion.ref + 1 == 'a'", CelFailure::WrongType),
        ("assertion.ref", CelFailure::ResultType),
        ("assertion.run", CelFailure::ResultType),
        ("assertion.run / 0 == 1", CelFailure::NoResult),
        ("assertion.run * 9223372036854775807 == 1", CelFailure::NoResult),
        ("int(assertion.ref) == 1", CelFailure::NoResult),
        ("assertion.groups[2] == 'a'", CelFailure::NoResult),
        ("assertion.many.exists(x, x == 'x')", CelFailure::TooLarge),
        ("size(assertion.many) == 129", CelFailure::TooLarge),
        ("assertion.run.exists(x, x == 'x')", CelFailure::WrongType),
    ] {
        assert_eq!(holds_for(source, &claims()), Err(failure), "{source}");
    }
}

#[test]
fn s25_inequality_of_cel_is_true_of_another_type() {
    assert_eq!(holds_for("assertion.groups != 'admin'", &claims()), Ok(true));
    let unequal = expression("assertion.groups != 'admin' && 'x' != assertion['ref'] && assertion.run == 1");
    assert_eq!(unequal.unequal_claims().iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["groups", "ref"]);
}

#[test]
fn what_is_read_is_known() {
    let read = expression("assertion.a.b == assertion['c d'] || 'e' in assertion || has(assertion.f) && attribute.g == '1'");
    assert_eq!(read.claims().iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["a", "c d", "e", "f"]);
    assert_eq!(read.attributes().iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["g"]);
}

#[test]
fn attributes_are_read_like_claims() {
    let assertion = Assertion::new(claims().as_object().unwrap());
    let attributes = Map::from_iter([("team".to_owned(), json!("core"))]);
    assert_eq!(expression("attribute.team == 'core'").holds(&assertion, &attributes), Ok(true));
    assert_eq!(expression("attribute.other == 'core'").holds(&assertion, &attributes), Err(CelFailure::Absent));
}

#[test]
fn mapping_gives_plain_values() {
    let assertion = Assertion::new(claims().as_object().unwrap());
    for (source, value) in [
        ("assertion.ref", json!("refs/heads/main")),
        ("assertion.run + 1", json!(8)),
        ("assertion.huge", json!(u64::MAX)),
        ("assertion.protected", json!(true)),
        ("assertion.groups", json!(["dev", "ops"])),
        ("assertion.groups.map(g, 'team-' + g)", json!(["team-dev", "team-ops"])),
        ("'https://aws.example/' in assertion ? assertion['https://aws.example/'].account : 'none'", json!("123")),
    ] {
        assert_eq!(expression(source).map(&assertion), Ok(value), "{source}");
    }
    for (source, failure) in [
        ("assertion.nothing", CelFailure::ResultType),
        ("''", CelFailure::ResultType),
        ("1.5", CelFailure::ResultType),
        ("[1, 2]", CelFailure::ResultType),
        ("assertion['kubernetes.io']", CelFailure::ResultType),
        ("assertion.absent", CelFailure::Absent),
    ] {
        assert_eq!(expression(source).map(&assertion), Err(failure), "{source}");
    }
}

#[test]
fn s32_bombs_are_refused_when_they_are_written() {
    let nested = "[1,2].map(a,[1,2].map(b,[1,2].map(c,1)))";
    let doubling = format!("assertion.a{}", "+assertion.a".repeat(9));
    let bombs: Vec<(String, &str)> = vec![
        (String::new(), "empty"),
        ("  \n".to_owned(), "empty"),
        (format!("1{} == 2", "+1".repeat(1000)), "too long"),
        (format!("1{} == 2", "+1".repeat(500)), "tokens"),
        (format!("1{} == 2", "-1".repeat(60)), "depth"),
        (format!("{}1{} == 1", "(".repeat(13), ")".repeat(13)), "brackets"),
        (format!("{}1{} == 1", "[".repeat(200), "]".repeat(200)), "brackets"),
        (format!("{}true", "!".repeat(300)), "tokens"),
        (format!("true{}", " ? true : true".repeat(60)), "depth"),
        (format!("true{}", " && true".repeat(120)), "nodes or depth"),
        (format!("1 in [{}1]", "1,".repeat(230)), "tokens"),
        (nested.to_owned(), "nested comprehension"),
        ("assertion.a.exists(x, assertion.b.exists(y, x == y))".to_owned(), "nested comprehension"),
        ("assertion.a.exists(x, x == 'a') && assertion.b.exists(x, x == 'a')".to_owned(), "two comprehensions"),
        ("assertion.a.map(x, x).filter(x, x == 'a') == []".to_owned(), "comprehension over a comprehension"),
        (doubling, "additions"),
        ("assertion.a.map(x, x + x + x + x) == []".to_owned(), "additions in a body"),
        (format!("assertion.a.exists(x, {}x == 'a')", "x == 'b' || ".repeat(16)), "body"),
        ("assertion.a.matches('(a+)+$')".to_owned(), "function"),
        ("duration('1s') == duration('1s')".to_owned(), "function"),
        ("timestamp(0) == timestamp(0)".to_owned(), "function"),
        ("type(assertion.a) == string".to_owned(), "function"),
        ("dyn(assertion.a) == 1".to_owned(), "function"),
        ("double(1) == 1.0".to_owned(), "function"),
        ("bytes('a') == b'a'".to_owned(), "text form"),
        ("b'a' == b'a'".to_owned(), "text form"),
        ("r'a' == 'a'".to_owned(), "text form"),
        ("'''a''' == 'a'".to_owned(), "text form"),
        ("\"\"\"a\"\"\" == 'a'".to_owned(), "text form"),
        ("'' 'a'".to_owned(), "syntax"),
        ("'a' == 'a' // comment".to_owned(), "comment"),
        ("'a\n' == 'a'".to_owned(), "open text"),
        ("'a".to_owned(), "open text"),
        ("assertion.é == 1".to_owned(), "character"),
        ("assertion.`a` == 1".to_owned(), "character"),
        ("assertion.a\u{0} == 1".to_owned(), "character"),
        ("{'a': 1}.a == 1".to_owned(), "construction"),
        ("google.protobuf.Struct{} == 1".to_owned(), "construction"),
        ("assertion == assertion".to_owned(), "whole"),
        ("size(assertion) > 1".to_owned(), "whole"),
        ("assertion.all(k, k != 'a')".to_owned(), "whole"),
        ("assertion[assertion.a] == 1".to_owned(), "whole"),
        ("assertion.a in assertion".to_owned(), "whole"),
        ("[assertion].exists(x, x.a == 1)".to_owned(), "whole"),
        ("attribute == 1".to_owned(), "whole"),
        ("request.a == 1".to_owned(), "name"),
        ("int == int".to_owned(), "name"),
        ("assertion.a.exists(assertion, assertion.b == 1)".to_owned(), "name"),
        ("assertion.a.exists(x, true) && x == 1".to_owned(), "name"),
        ("@result == 1".to_owned(), "syntax"),
        ("assertion.?a == 1".to_owned(), "optional"),
        ("optional.of(1).hasValue()".to_owned(), "optional"),
        ("assertion.a ==".to_owned(), "syntax"),
        ("assertion.a == 1)".to_owned(), "syntax"),
    ];
    for (source, why) in bombs {
        let refused = source.parse::<CelExpression>();
        assert!(refused.is_err(), "{why}: {source} was accepted");
    }
}

/// The costliest expressions that are accepted, on the largest token that fits, finish on a small stack: 256 KiB is an eighth of
/// what a thread of the async runtime has.
#[test]
fn s32_what_is_accepted_finishes_on_a_small_stack() {
    let deep = [
        format!("{}1 == 1", "-".repeat(34)),
        format!("{}true", "!".repeat(36)),
        format!("1{} == 2", "-1".repeat(34)),
        format!("true{}", " && true".repeat(30)),
        format!("{}1{} == [1]", "[".repeat(11), "]".repeat(11)),
        format!("true{}", " ? true : true".repeat(30)),
        format!("assertion.list.exists(x, {}x == 'b')", "x == 'b' || ".repeat(8)),
        format!("assertion.text{} == 'a'", "+assertion.text".repeat(8)),
        "assertion.list.map(x, assertion.text + x) == []".to_owned(),
    ];
    let claims = json!({"text": "x".repeat(6 * 1024), "list": vec!["y".repeat(32); 128]});
    let deep = deep.map(|source| expression(&source));
    let evaluated = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
        let assertion = Assertion::new(claims.as_object().unwrap());
        let hold = deep.iter().map(|source| source.holds(&assertion, &Map::new()).map_err(|failure| (source.clone(), failure)));
        hold.collect::<Vec<_>>()
    });
    for result in evaluated.unwrap().join().unwrap() {
        assert!(result.is_ok(), "{result:?}");
    }
}

proptest! {
    #[test]
    fn s68_no_text_panics(source in "[a-z0-9'\"()\\[\\]{}.,?:!&|=<>+*/% \\-\\\\]{0,80}") {
        let _ = source.parse::<CelExpression>();
    }

    #[test]
    fn s68_no_expression_of_real_words_panics(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "assertion", "attribute", ".", "a", "[", "]", "(", ")", "'a'", "1", "-1", "9223372036854775807", "1u", "1.5", "null",
                "true", "==", "!=", "<", "+", "-", "*", "/", "%", "in", "&&", "||", "!", "?", ":", ",", "has", "size", "exists", "all",
                "map", "filter", "x", "string", "int", "startsWith", "{", "}",
            ]),
            0..14,
        ),
    ) {
        let source = words.join(" ");
        if let Ok(expression) = source.parse::<CelExpression>() {
            let claims = json!({"a": [1, "a", {"a": 2}], "b": i64::MIN});
            let _ = expression.holds(&Assertion::new(claims.as_object().unwrap()), &Map::new());
        }
    }

    #[test]
    fn expressions_survive_a_round_trip(name in "[a-z]{1,7}_", text in "[a-z:/*]{0,8}") {
        // No word of CEL ends like that, as `in` and `as` are words too.
        let written = expression(&format!("assertion.{name} == '{text}'"));
        let json = serde_json::to_string(&written).unwrap();
        prop_assert_eq!(serde_json::from_str::<CelExpression>(&json).unwrap(), written);
    }
}

#[test]
fn expressions_are_equal_where_their_text_is() {
    let (one, other) = (expression("assertion.run == 1"), expression("assertion.run == 2"));
    assert_eq!(one, expression("assertion.run == 1"));
    assert_ne!(one, other);
    assert_ne!(one, expression("assertion.run  == 1"), "by their text, not by what they mean");
}

#[test]
fn s32_a_tree_may_be_as_deep_as_the_limit_and_no_deeper() {
    let refused = |source: String| source.parse::<CelExpression>().err().map(|error| error.to_string());
    let members = |count: usize| format!("assertion{} == 1", ".a".repeat(count));
    let alternatives = |count: usize| format!("{}true", "true ? true : ".repeat(count));
    for (most, too_deep) in [(members(40), members(41)), (alternatives(40), alternatives(41))] {
        assert_eq!(refused(most), None);
        let error = refused(too_deep).unwrap();
        assert!(error.contains("at most 40 operations within one another"), "{error}");
    }
}

#[test]
fn an_expression_has_at_most_1024_bytes() {
    let source = |length: usize| format!("assertion.a == '{}'", "x".repeat(length - "assertion.a == ''".len()));
    assert!(source(1_024).parse::<CelExpression>().is_ok());
    assert!(source(1_025).parse::<CelExpression>().is_err());
}
