use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn part(name: &str, excluded: &str) -> Part {
    Part::new(name, Characters::Except(excluded.into()), false, &[], None)
}

fn texts(alphabet: &[char], longest: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..longest {
        last = last.iter().flat_map(|text| alphabet.iter().map(move |character| format!("{text}{character}"))).collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// Grammars whose shortest texts are short, over the letters `a`, `b` and `:`.
fn grammars() -> Vec<Grammar> {
    let either = |values: &[&str], excluded: &str| {
        let values: Vec<_> = values.iter().map(ToString::to_string).collect();
        Part::new("x", Characters::Except(excluded.into()), false, &values, None)
    };
    let maybe = Part::new("y", Characters::Except(":".into()), true, &[], None);
    [
        Grammar::new("{x}", vec![part("x", ":")]),
        Grammar::new("a:{x}:{y}", vec![part("x", ":"), maybe.clone()]),
        Grammar::new("{x}:{y}", vec![either(&["a", "b:*"], ":"), maybe]),
        Grammar::new("{x}b", vec![either(&["a", "aab"], "")]),
        Grammar::new("{x}b{y}", vec![part("x", "b"), Part::new("y", Characters::Only("a".into()), false, &[], None)]),
        Grammar::new("ab", vec![]),
        Grammar::new("", vec![]),
    ]
    .map(Result::unwrap)
    .into()
}

static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| texts(&['a', 'b', ':'], 8));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Each `*` of such a pattern never needs more than four characters, so that what can match at all does so below the limit.
    #[test]
    fn can_match_agrees_with_trying_every_text(pattern in "[ab:]{0,2}(\\*[ab:]{0,2}){0,2}", at in 0..7_usize) {
        let grammar = &grammars()[at];
        let matches = |text: &String| {
            pattern.parse::<SubjectMatch>().map_or(text.is_empty(), |pattern| pattern.compile().accepts(text))
        };
        let expected = TEXTS.iter().any(|text| grammar.read(text).is_some() && matches(text));
        prop_assert_eq!(grammar.can_match(&pattern), expected, "{:?}", pattern);
    }
}

#[test]
fn a_long_pattern_takes_no_time() {
    let grammar = Grammar::new("a:{x}:{y}", vec![part("x", ":"), part("y", "")]).unwrap();
    let pattern = format!("{}c", "a*:".repeat(340));
    assert!(grammar.can_match(&format!("a:b:{pattern}")));
    assert!(!grammar.can_match(&format!("b{pattern}")));
}

#[test]
fn templates_that_could_be_read_in_two_ways_are_refused() {
    let refused = |template: &str, parts: Vec<Part>| Grammar::new(template, parts).unwrap_err();
    assert_eq!(refused("{x}:", vec![part("x", "/")]), InvalidGrammar::NotDelimited("x".to_owned()));
    assert_eq!(refused("{x}{y}", vec![part("x", ":"), part("y", ":")]), InvalidGrammar::NotDelimited("x".to_owned()));
    assert_eq!(refused("{x}:{x}", vec![part("x", ":")]), InvalidGrammar::Parts("x".to_owned()));
    assert_eq!(refused("a", vec![part("x", ":")]), InvalidGrammar::Parts("x".to_owned()));
    assert_eq!(refused("a*", vec![]), InvalidGrammar::Literal);
    for template in ["{x", "x}", "{", "a{", "{x}}"] {
        assert_eq!(refused(template, vec![part("x", ":}")]), InvalidGrammar::Braces, "{template}");
    }
    let nothing = Part::new("x", Characters::Only("".into()), false, &[], None);
    assert_eq!(refused("{x}", vec![nothing]), InvalidGrammar::Nothing("x".to_owned()));
}

#[test]
fn a_reading_gives_the_parts_back() {
    let grammar = Grammar::new("a:{x}:{y}", vec![part("x", ":"), part("y", "")]).unwrap();
    assert_eq!(grammar.read("a:b:c:d"), Some(vec![("x", "b"), ("y", "c:d")]));
    for text in ["a::c", "a:b:", "b:b:c", "a:b", "a:b\n:c"] {
        assert_eq!(grammar.read(text), None, "{text:?}");
    }
}
