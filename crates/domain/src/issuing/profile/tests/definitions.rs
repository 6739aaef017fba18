//! What may be written in a profile, and what it comes to.

use serde_json::json;

use super::*;

/// A profile that is good as it is, to change one thing in.
const GOOD: &str = r#"
attributes.team = { required = true }
attributes.size = { kind = "integer" }
attributes.urgent = { kind = "boolean", default = "false" }
derived.tier = "attribute.team.startsWith('core-') ? 'core' : 'other'"
subject_forms = [{ id = "team", template = "team:{team}:{tier}", delimiters = ":" }]
claims.size = { attribute = "size" }
claims.urgent = { attribute = "urgent" }
claims."/run/url" = { template = "https://ci.example/{team}/{size}" }
claims.tags = { expression = "[attribute.team, attribute.tier]" }
"#;

fn good() -> ProfileDefinition {
    ProfileDefinition::from_toml(GOOD).unwrap()
}

fn custom(definition: ProfileDefinition) -> Profile {
    let mut violations = Violations::new();
    Profile::custom(definition, "p", &mut violations).unwrap_or_else(|| panic!("{violations}"))
}

fn violated(change: impl FnOnce(&mut ProfileDefinition)) -> Vec<String> {
    let mut definition = good();
    change(&mut definition);
    let mut violations = Violations::new();
    assert!(Profile::custom(definition, "p", &mut violations).is_none());
    fields(violations)
}

fn attribute<'a>(definition: &'a mut ProfileDefinition, name: &str) -> &'a mut AttributeDefinition {
    definition.attributes.get_mut(name).unwrap()
}

#[test]
fn values_keep_their_types_and_what_is_absent_is_left_out() {
    let profile = custom(good());
    let full = identify(&profile, "", &attributes(&[("team", "core-a"), ("size", "3"), ("urgent", "true")])).unwrap();
    assert_eq!(full.subject.as_str(), "team:core-a:core");
    let claims = json!({"size": 3, "urgent": true, "run": {"url": "https://ci.example/core-a/3"}, "tags": ["core-a", "core"]});
    assert_eq!(Value::Object(full.claims), claims);
    let least = identify(&profile, "", &attributes(&[("team", "b")])).unwrap();
    assert_eq!(Value::Object(least.claims), json!({"urgent": false, "tags": ["b", "other"]}));
}

#[test]
fn an_expression_without_a_result_refuses() {
    let profile = |source: &str| {
        let mut definition = good();
        definition.claims = [("more".to_owned(), ClaimDefinition::Expression(source.to_owned()))].into();
        custom(definition)
    };
    let run = [("team", "a")];
    for source in ["attribute.size + 1", "1 / 0", "attribute.team + 1", "''", "1.5"] {
        assert_eq!(refused(&profile(source), &run), ["attributes"], "{source}");
    }
    assert!(identify(&profile("has(attribute.size) ? attribute.size : 0"), "", &attributes(&run)).is_ok());
}

#[test]
fn a_default_is_held_against_the_attributes_own_rules() {
    let with_default = |default: &str| {
        let mut definition = good();
        attribute(&mut definition, "size").default = default.to_owned();
        custom(definition)
    };
    assert_eq!(refused(&with_default("'three'"), &[("team", "a")]), ["attributes[size]"]);
    let identity = identify(&with_default("size(attribute.team)"), "", &attributes(&[("team", "abc")])).unwrap();
    assert_eq!(identity.claims["size"], 3);
}

#[test]
fn a_derived_value_is_kept_to_the_subjects_structure_too() {
    let mut definition = good();
    definition.derived.insert("tier".to_owned(), "attribute.team + ':x'".to_owned());
    assert_eq!(refused(&custom(definition.clone()), &[("team", "a")]), ["attributes"]);
    definition.derived.insert("tier".to_owned(), "[attribute.team]".to_owned());
    assert_eq!(refused(&custom(definition), &[("team", "a")]), ["attributes"]);
}

#[test]
fn a_form_is_chosen_by_its_condition() {
    let mut definition = good();
    definition.subject_forms = vec![
        SubjectFormDefinition {
            id: "large".to_owned(),
            template: "large:{team}:{size}".to_owned(),
            delimiters: ":".to_owned(),
            condition: "has(attribute.size) && attribute.size > 10".to_owned(),
        },
        SubjectFormDefinition {
            id: "urgent".to_owned(),
            template: "urgent:{team}".to_owned(),
            delimiters: ":".to_owned(),
            condition: "attribute.urgent".to_owned(),
        },
    ];
    let profile = custom(definition);
    let subject = |form: &str, pairs: &[(&str, &str)]| {
        identify(&profile, form, &attributes(pairs)).map(|identity| identity.subject.to_string()).map_err(fields)
    };
    let both = [("team", "a"), ("size", "11"), ("urgent", "true")];
    assert_eq!(subject("", &both), Ok("large:a:11".to_owned()), "the first that is for such a run");
    assert_eq!(subject("urgent", &both), Ok("urgent:a".to_owned()));
    let small = [("team", "a"), ("size", "1")];
    assert_eq!(subject("", &small), Err(vec!["attributes".to_owned()]));
    assert_eq!(subject("urgent", &small), Err(vec!["subject_form".to_owned()]));
}

#[test]
fn everything_wrong_with_a_definition_is_said_at_once() {
    let definition = ProfileDefinition::from_toml(
        r#"
        not_before = "never"
        back_dating_seconds = 5
        default_token_seconds = 7200
        max_token_seconds = 59
        audience = "{nobody}"
        attributes.Team = {}
        attributes.workspace_id = {}
        attributes.kind = { kind = "float" }
        attributes.number = { kind = "integer", pattern = "1*" }
        attributes.values = { allowed_values = ["a", "a", ""] }
        attributes.late = { required = true, default = "'x'" }
        attributes.self = { default = "attribute.self" }
        attributes.odd = { characters = "emoji" }
        derived.number = "1"
        derived.empty = ""
        derived.token = "assertion.sub"
        derived.chain = "attribute.token2"
        claims.aud = { attribute = "odd" }
        claims.none = { attribute = "nobody" }
        claims.text = { template = "{" }
        claims.run = { attribute = "odd" }
        claims."/run/id" = { attribute = "odd" }
        claims."/~" = { attribute = "odd" }
        subject_forms = [
            { id = "a", template = "{odd}", delimiters = "a" },
            { id = "a", template = "{odd}{values}", delimiters = ":", condition = "attribute.nobody" },
            { id = "B", template = "{issuer_url}", delimiters = ":" },
        ]
        "#,
    )
    .unwrap();
    let mut violations = Violations::new();
    assert_eq!(Profile::custom(definition, "p", &mut violations), None);
    let mut found = fields(violations);
    found.sort();
    found.dedup();
    let mut expected = [
        "p.attributes",
        "p.attributes[kind].kind",
        "p.attributes[late]",
        "p.attributes[number]",
        "p.attributes[odd].characters",
        "p.attributes[self].default",
        "p.attributes[values].allowed_values[1]",
        "p.attributes[values].allowed_values[2]",
        "p.attributes[workspace_id]",
        "p.audience",
        "p.back_dating_seconds",
        "p.claims",
        "p.claims[/run/id]",
        "p.claims[aud]",
        "p.claims[none]",
        "p.claims[run]",
        "p.claims[text]",
        "p.default_token_seconds",
        "p.derived[chain]",
        "p.derived[empty]",
        "p.derived[number]",
        "p.derived[token]",
        "p.max_token_seconds",
        "p.not_before",
        "p.subject_forms[0].delimiters",
        "p.subject_forms[1].condition",
        "p.subject_forms[1].id",
        "p.subject_forms[1].template",
        "p.subject_forms[2].id",
        "p.subject_forms[2].template",
    ];
    expected.sort_unstable();
    // One of two overlapping claims is named, whichever comes second.
    assert_eq!(found, expected.into_iter().filter(|field| *field != "p.claims[/run/id]").collect::<Vec<_>>());
}

#[test]
fn the_size_of_a_definition_is_bounded() {
    let many = |number: usize| (0..number).map(|number| format!("a{number}"));
    assert_eq!(
        violated(|definition| definition.attributes = many(33).map(|name| (name, AttributeDefinition::default())).collect())[0],
        "p.attributes"
    );
    let derived = many(33).map(|name| (name, String::new())).collect();
    assert_eq!(violated(|definition| definition.derived = derived)[0], "p.derived");
    let claim = || ClaimDefinition::Attribute("team".to_owned());
    assert_eq!(violated(|definition| definition.claims = many(33).map(|name| (name, claim())).collect()), ["p.claims"]);
    assert_eq!(
        violated(|definition| definition.subject_forms = vec![definition.subject_forms[0].clone(); 9]),
        ["p.subject_forms"]
    );
    assert_eq!(violated(|definition| definition.subject_forms.clear()), ["p.subject_forms"]);
    let values = |number| many(number).collect::<Vec<_>>();
    assert_eq!(
        violated(|definition| attribute(definition, "team").allowed_values = values(65)),
        ["p.attributes[team].allowed_values"]
    );
    assert_eq!(
        violated(|definition| attribute(definition, "team").description = "x".repeat(513)),
        ["p.attributes[team].description"]
    );
}

#[test]
fn s32_the_expressions_of_a_definition_are_bounded_together() {
    let claims = |number: usize, source: &str| {
        let claim = |number| (format!("c{number}"), ClaimDefinition::Expression(source.to_owned()));
        (0..number).map(claim).collect::<BTreeMap<_, _>>()
    };
    // One derived attribute and one default are there already.
    assert_eq!(violated(|definition| definition.claims = claims(31, "1")), ["p"]);
    let long = format!("'{}'", "x".repeat(1000));
    assert_eq!(violated(|definition| definition.claims = claims(9, &long)), ["p"]);
    let mut definition = good();
    definition.claims = claims(30, "1");
    custom(definition);
}

#[test]
fn s54_no_profile_sets_a_claim_that_only_we_may() {
    for name in ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "act", "cnf", "/sub", "/cnf/jkt", "nonce"] {
        let claim = || ClaimDefinition::Attribute("team".to_owned());
        let found = violated(|definition| definition.claims = [(name.to_owned(), claim())].into());
        assert_eq!(found, [format!("p.claims[{name}]")]);
    }
}

#[test]
fn s32_expressions_of_a_profile_are_cut_down_as_all_are() {
    let bomb = "[1,2].map(a,[1,2].map(b,[1,2].map(c,1)))".to_owned();
    assert_eq!(violated(|definition| attribute(definition, "size").default = bomb.clone()), ["p.attributes[size].default"]);
    let claim = ClaimDefinition::Expression(bomb.clone());
    assert_eq!(violated(|definition| definition.claims = [("x".to_owned(), claim)].into()), ["p.claims[x]"]);
    assert_eq!(violated(|definition| definition.subject_forms[0].condition = bomb), ["p.subject_forms[0].condition"]);
}

#[test]
fn an_allowed_value_that_no_subject_could_hold_is_refused() {
    let values = || vec!["a".to_owned(), "a:b".to_owned()];
    assert_eq!(violated(|definition| attribute(definition, "team").allowed_values = values()), ["p.subject_forms[0].template"]);
}

#[test]
fn unknown_words_in_a_file_are_errors() {
    for text in ["subject = 'a'", "attributes.a = { kinds = 'text' }", "claims.a = { atribute = 'a' }"] {
        assert!(ProfileDefinition::from_toml(text).is_err(), "{text}");
    }
}

type Change = fn(&mut ProfileDefinition);

#[test]
fn only_what_decides_a_subject_changes_subjects() {
    let before = custom(good());
    let change = |change: Change| {
        let mut definition = good();
        change(&mut definition);
        before.subject_change(&custom(definition))
    };
    let same: [Change; 6] = [
        |_| {},
        |definition| definition.claims.clear(),
        |definition| attribute(definition, "team").pattern = "core-*".to_owned(),
        |definition| attribute(definition, "urgent").default = "true".to_owned(),
        |definition| definition.subject_forms[0].delimiters = ":/".to_owned(),
        |definition| {
            let more = SubjectFormDefinition { id: "more".to_owned(), ..definition.subject_forms[0].clone() };
            let template = "size:{size}".to_owned();
            definition.subject_forms.push(SubjectFormDefinition { template, ..more });
        },
    ];
    for (number, same) in same.into_iter().enumerate() {
        assert_eq!(change(same), None, "{number}");
    }
    let from = vec!["team:{team}:{tier}".to_owned()];
    let other: [(Change, &[&str]); 6] = [
        (|definition| definition.subject_forms[0].template = "{team}:{tier}".to_owned(), &["{team}:{tier}"]),
        (|definition| definition.subject_forms[0].id = "other".to_owned(), &["team:{team}:{tier}"]),
        (|definition| definition.subject_forms[0].condition = "attribute.urgent".to_owned(), &["team:{team}:{tier}"]),
        (
            |definition| {
                let first = SubjectFormDefinition { id: "first".to_owned(), ..definition.subject_forms[0].clone() };
                let template = "size:{size}".to_owned();
                definition.subject_forms.insert(0, SubjectFormDefinition { template, ..first });
            },
            &["size:{size}", "team:{team}:{tier}"],
        ),
        (|definition| drop(definition.derived.insert("tier".to_owned(), "'core'".to_owned())), &["team:{team}:{tier}"]),
        (
            |definition| {
                let team = attribute(definition, "team");
                (team.required, team.default) = (false, "'core'".to_owned());
            },
            &["team:{team}:{tier}"],
        ),
    ];
    for (other, to) in other {
        let to = to.iter().map(ToString::to_string).collect();
        assert_eq!(change(other), Some(SubjectChange { from: from.clone(), to }));
    }
}

#[test]
fn what_a_derived_value_reads_decides_subjects_too() {
    let with = |default: &str| {
        let mut definition = good();
        definition.derived.insert("tier".to_owned(), "attribute.urgent ? 'a' : 'b'".to_owned());
        attribute(&mut definition, "urgent").default = default.to_owned();
        custom(definition)
    };
    assert_eq!(with("false").subject_change(&with("false")), None);
    assert!(with("false").subject_change(&with("true")).is_some());
}

#[test]
fn moving_to_run_based_identities_changes_subjects_and_says_how() {
    let (runner, run) = (profile("meshstack-runner"), profile("meshstack-run"));
    let change = runner.subject_change(&run).unwrap();
    assert_eq!(change.from, ["system:serviceaccount:{meshstack_id}:{runner_id}"]);
    assert_eq!(change.to.len(), 2);
    assert!(run.subject_change(&runner).is_some(), "and so does moving back");
}
