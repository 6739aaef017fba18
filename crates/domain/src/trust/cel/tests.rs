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

/// How an expression fares with claims that are written so.
fn holds_for_text(source: &str, json: &str) -> Result<bool, CelFailure> {
    let mut members = serde_json::from_str(json).unwrap();
    let inexact = InexactNumbers::find(json.as_bytes(), &mut members).unwrap();
    expression(source).holds(&Assertion::with_inexact(&members, &inexact), &Map::new())
}

const INEXACT: [&str; 12] = [
    "20000000000000000001",
    "20000000000000000000",
    "-9223372036854775809",
    "18446744073709551616",
    "9007199254740993.0",
    "9007199254740992.0",
    "1e22",
    "1e300",
    "1.00000000000000000001",
    "0.1000000000000000000000001",
    "1e-400",
    "1764565000.123456789",
];

#[test]
fn s32_a_number_that_64_bits_do_not_represent_refuses_what_reads_it() {
    for number in INEXACT {
        for source in [
            "string(assertion.n) == '20000000000000000000'",
            "string(assertion.n) != ''",
            "assertion.n == 1",
            "assertion.n != 1",
            "1 != assertion.n",
            "assertion.n == assertion.n",
            "assertion['n'] > 0",
            "0 < assertion.n",
            "!(assertion.n <= 0)",
            "assertion.n + 1 != 0",
            "1 - assertion.n != 0",
            "-assertion.n != 0",
            "assertion.n * 1 == assertion.n",
            "int(assertion.n) != 0",
            "assertion.n in [1]",
            "!(assertion.n in [1])",
            "[assertion.n].exists(x, true)",
            "[1, 2].exists(x, x != assertion.n)",
            "(true ? assertion.n : 1) != 1",
            "assertion.n != 1 || true",
            "true && assertion.n != 1",
            "[assertion.n] != [1]",
            "size([assertion.n]) == 1",
        ] {
            let json = format!(r#"{{"n": {number}, "s": "x"}}"#);
            assert_eq!(holds_for_text(source, &json), Err(CelFailure::Inexact), "{source} with {number}");
        }
        for source in [
            "assertion.s == 'x'",
            "has(assertion.n)",
            "'n' in assertion",
            "true || assertion.n == 1",
            "assertion.s == 'x' || assertion.n == 1",
            "!(assertion.s == 'y' && assertion.n == 1)",
            "assertion.s == 'y' ? assertion.n == 1 : true",
        ] {
            assert_eq!(holds_for_text(source, &format!(r#"{{"n": {number}, "s": "x"}}"#)), Ok(true), "{source} with {number}");
        }
    }
}

#[test]
fn s32_an_inexact_number_refuses_what_reads_its_container_but_not_its_siblings() {
    for number in INEXACT {
        let json = format!(
            r#"{{"o": {{"n": {number}, "s": "x", "deep": {{"l": [1, {number}, "y"]}}, "other": {{"m": 1}}}}, "l": [1, {number}, "y"],
                "same": [1, 2, "y"], "i": 1}}"#
        );
        for source in [
            "assertion.o == assertion.o",
            "assertion.o != 'x'",
            "'x' != assertion.o",
            "[1] != assertion.l",
            "assertion.l == [1]",
            "assertion.l != [3]",
            "assertion.l != assertion.same",
            "assertion.l[1] != 1",
            "assertion.l[assertion.i] != 1",
            "assertion.l.exists(x, x == 1)",
            "assertion.l.all(x, x != 'z')",
            "assertion.l.map(x, 1) != []",
            "assertion.l.filter(x, true) != []",
            "assertion.o.all(x, x != 'z')",
            "assertion.o.deep != 'x'",
            "assertion.o['deep'].l != []",
            "assertion.o.deep.l[1] != 0",
            "3 in assertion.l || true",
            "1 in assertion.l",
            "!('x' in assertion.l)",
            "(assertion.l + ['z']).size() == 4",
            "(assertion.i == 1 ? assertion.o : 1) != 1",
            "assertion.i == 2 ? assertion.o == 1 : true",
        ] {
            assert_eq!(holds_for_text(source, &json), Err(CelFailure::Inexact), "{source} with {number}");
        }
        for source in [
            "assertion.o.s == 'x'",
            "assertion['o']['s'] == 'x'",
            "assertion.o.deep.l[2] == 'y'",
            "assertion.o.deep['l'][0] == 1",
            "assertion.o.other.m == 1",
            "assertion.o.other != 1",
            "assertion.l[0] == 1 && assertion.l[2] == 'y'",
            "has(assertion.o.n) && !has(assertion.o.absent)",
            "has(assertion.o.deep) && has(assertion.o.deep.l)",
            "'n' in assertion.o && !('absent' in assertion.o)",
            "size(assertion.l) == 3 && assertion.o.deep.l.size() == 3",
            "2 in assertion.same && 'y' in assertion.same",
            "assertion.same.exists(x, x == 2)",
        ] {
            assert_eq!(holds_for_text(source, &json), Ok(true), "{source} with {number}");
        }
    }
}

#[test]
fn s32_numbers_that_64_bits_represent_are_compared_by_value() {
    let json = r#"{"one": 1, "onePointNought": 1.0, "thousand": 1e3, "half": 0.5, "tenth": 0.1, "time": 1764565000.1234567,
        "minus": -0.0, "odd": 9007199254740993, "max": 9223372036854775807, "min": -9223372036854775808,
        "above": 9223372036854775808, "top": 18446744073709551615}"#;
    for source in [
        "assertion.one == assertion.onePointNought",
        "assertion.thousand == 1000 && string(assertion.thousand) == '1000'",
        "assertion.half > 0.25 && assertion.tenth == 0.1 && assertion.tenth != 0.3",
        "assertion.time > 1764565000.1234565 && assertion.time == 1764565000.1234567",
        "assertion.minus == 0",
        "assertion.odd == 9007199254740993 && assertion.odd != 9007199254740992",
        "string(assertion.odd) == '9007199254740993'",
        "assertion.max == 9223372036854775807 && assertion.max != 9223372036854775806",
        "assertion.min == -9223372036854775808 && assertion.min < assertion.max",
        "assertion.above == 9223372036854775808u && assertion.above != 9223372036854775809u && assertion.above > assertion.max",
        "assertion.top == 18446744073709551615u && string(assertion.top) == '18446744073709551615'",
        "int(assertion.thousand) == 1000",
        "assertion.top != 0xffu && assertion.one == 0x1",
    ] {
        assert_eq!(holds_for_text(source, json), Ok(true), "{source}");
    }
    for source in [
        "assertion.max + 1 > 0",
        "assertion.min - 1 < 0",
        "-assertion.min > 0",
        "assertion.max * 2 != 0",
        "assertion.top + 1u > 0u",
        "0u - assertion.above < 0u",
        "int(assertion.top) > 0",
        "int('9223372036854775808') > 0",
        "assertion.min / -1 > 0",
    ] {
        assert_eq!(holds_for_text(source, json), Err(CelFailure::NoResult), "{source}");
    }
}

#[test]
fn s32_a_number_in_an_expression_that_64_bits_do_not_represent_is_refused_when_it_is_written() {
    for (number, is_whole) in [
        ("20000000000000000001", true),
        ("9223372036854775808", true),
        ("18446744073709551616u", true),
        ("0x1ffffffffffffffff", true),
        ("0x8000000000000000", true),
        ("9007199254740993.0", false),
        ("9007199254740992.0", false),
        ("1e22", false),
        ("1e400", false),
        ("1e-400", false),
        ("0.1000000000000000000000001", false),
        (".1000000000000000000000001", false),
        ("1.00000000000000000001e1", false),
    ] {
        for source in [
            format!("assertion.n == {number}"),
            format!("{number}==assertion.n"),
            format!("assertion.s == '\\'1' && assertion.n in [1,{number}]"),
            format!("assertion.n-{number} > 0"),
        ] {
            // A minus sign makes the smallest whole number of it.
            if ["9223372036854775808", "0x8000000000000000"].contains(&number) && source.contains('-') {
                continue;
            }
            let InvalidCel::Text(refused) = source.parse::<CelExpression>().unwrap_err() else { panic!("{source}") };
            let expected =
                if is_whole { InvalidText::NumberTooLarge(number.into()) } else { InvalidText::NumberInexact(number.into()) };
            assert_eq!(refused, expected, "{source}");
            assert!(refused.to_string().contains(&format!("`{number}`")), "{refused}");
        }
    }
    for source in [
        "assertion.n == 9223372036854775807",
        "assertion.n == -9223372036854775808",
        "assertion.n == 18446744073709551615u",
        "assertion.n == 0x7fffffffffffffff",
        "assertion.n == 0.1 || assertion.n == 1.5e-3 || assertion.n == 1795000000.25",
        "assertion.s == '20000000000000000001' || assertion.s == \"1e400\"",
        "assertion['20000000000000000001'] == 1",
        "assertion.n20000000000000000001 == 1",
    ] {
        assert!(source.parse::<CelExpression>().is_ok(), "{source}: {:?}", source.parse::<CelExpression>());
    }
}

#[test]
fn s32_an_inexact_number_is_no_attribute() {
    let json = r#"{"n": 20000000000000000001, "l": ["a", 1.00000000000000000001], "s": "x"}"#;
    let mut members = serde_json::from_str(json).unwrap();
    let inexact = InexactNumbers::find(json.as_bytes(), &mut members).unwrap();
    let assertion = Assertion::with_inexact(&members, &inexact);
    for source in
        ["assertion.n", "string(assertion.n)", "assertion.l", "assertion.l.map(x, 'a')", "assertion.s == '' ? 1 : assertion.n"]
    {
        assert_eq!(expression(source).map(&assertion), Err(CelFailure::Inexact), "{source}");
    }
    assert_eq!(expression("assertion.s").map(&assertion), Ok(json!("x")));
    // Claims that were read without their text are judged by their doubles.
    let assertion = Assertion::new(json!({"n": 2e19, "h": 0.5}).as_object().unwrap());
    assert_eq!(expression("assertion.n != 0").holds(&assertion, &Map::new()), Err(CelFailure::Inexact));
    assert_eq!(expression("assertion.h == 0.5").holds(&assertion, &Map::new()), Ok(true));
}

#[test]
fn s25_inequality_of_cel_is_true_of_another_type() {
    assert_eq!(holds_for("assertion.groups != 'admin'", &claims()), Ok(true));
    let unequal = expression("assertion.groups != 'admin' && 'x' != assertion['ref'] && assertion.run == 1");
    assert_eq!(unequal.unequal_claims().iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["groups", "ref"]);
    // Neither what is in a claim, nor whether there is one, nor an attribute.
    let others = expression("assertion.a.b != 'x' && assertion.c['d'] != 'x' && has(assertion.f) != true && attribute.g != 'x'");
    assert!(others.unequal_claims().is_empty(), "{:?}", others.unequal_claims());
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

/// Whether an expression is one, or what forbids its form.
fn form_of(source: &str) -> Result<(), InvalidForm> {
    match source.parse::<CelExpression>() {
        Ok(_) => Ok(()),
        Err(InvalidCel::Form(form)) => Err(form),
        Err(other) => panic!("{other:?}: {source}"),
    }
}

#[test]
fn s32_limits_of_the_form_are_exact() {
    let sum = |terms: usize| vec!["1"; terms].join(" + ");
    assert_eq!(form_of(&format!("{} == 9", sum(9))), Ok(()));
    assert_eq!(form_of(&format!("{} == 10", sum(10))), Err(InvalidForm::TooManyAdditions));
    // Of the elements of a list, each is looked at with at most 48 nodes and two additions.
    let each = |body: &str| form_of(&format!("assertion.l.all(x, {body})"));
    let negated = |terms: usize, negations: usize| {
        let terms: Vec<_> = (0..terms).map(|term| if term < negations { "!(x == 1)" } else { "x == 1" }).collect();
        each(&terms.join(" || "))
    };
    // Ten terms are 39 nodes, each negation is one more, and the macro adds six.
    assert_eq!((negated(10, 3), negated(10, 4)), (Ok(()), Err(InvalidForm::BodyTooLarge)));
    assert_eq!(each("x + 1 + 1 == 3"), Ok(()));
    assert_eq!(each("x + 1 + 1 + 1 == 4"), Err(InvalidForm::TooManyAdditions));
    let nested = |levels: usize| form_of(&format!("{}1 == 1", "true ? 1 : ".repeat(levels)));
    assert_eq!((nested(39), nested(40)), (Ok(()), Err(InvalidForm::TooDeep)));
    let chain = |terms: usize| vec!["1"; terms].join("<");
    let list =
        |chains: &[usize]| form_of(&format!("[{}]", chains.iter().map(|terms| chain(*terms)).collect::<Vec<_>>().join(",")));
    assert_eq!((list(&[34, 34, 33]), list(&[34, 34, 33, 1])), (Ok(()), Err(InvalidForm::TooManyNodes)));
}

#[test]
fn an_expression_is_shown_as_it_was_written() {
    let source = "assertion.a  ==\t'x'";
    assert_eq!(expression(source).to_string(), source);
    assert_eq!(String::from(expression(source)), source);
}

#[test]
fn s32_what_is_read_and_mapped_is_bounded_exactly() {
    let holds = |source: &str, claims: serde_json::Value| {
        expression(source).holds(&Assertion::new(claims.as_object().unwrap()), &Map::new())
    };
    let object =
        |members: usize| (0..members).map(|name| (format!("m{name}"), json!(name))).collect::<Map<String, serde_json::Value>>();
    for (fine, more) in
        [(json!({"l": vec![1; 128]}), json!({"l": vec![1; 129]})), (json!({"l": object(128)}), json!({"l": object(129)}))]
    {
        assert_eq!(holds("size(assertion.l) == 128", fine.clone()), Ok(true));
        assert_eq!(holds("size(assertion.l) == 129", more.clone()), Err(CelFailure::TooLarge));
        assert_eq!(holds("size(assertion.o.l) == 128", json!({"o": fine})), Ok(true));
        assert_eq!(holds("size(assertion.o.l) == 129", json!({"o": more})), Err(CelFailure::TooLarge));
    }
    let map = |claims: serde_json::Value| expression("assertion.a").map(&Assertion::new(claims.as_object().unwrap()));
    assert_eq!(map(json!({"a": vec!["x"; 32]})), Ok(json!(vec!["x"; 32])));
    assert_eq!(map(json!({"a": vec!["x"; 33]})), Err(CelFailure::ResultType));
    assert_eq!(map(json!({"a": "x".repeat(512)})), Ok(json!("x".repeat(512))));
    for other in [json!("x".repeat(513)), json!(""), json!(["x", ""]), json!([1]), json!(null), json!({"a": 1}), json!(0.5)] {
        assert_eq!(map(json!({ "a": other })), Err(CelFailure::ResultType), "{other}");
    }
}
