//! What files say and what is planned, without any service.

use std::collections::BTreeSet;

use countersign_domain::insight::comparison::Change;
use countersign_domain::trust::claim_condition::{ClaimConditionDraft, ClaimValue};
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId};
use countersign_proto::trust_v1::{ClaimCondition, TrustRelationship, TrustedIssuer};
use proptest::prelude::*;
use serde_json::Value;

use super::export;
use super::format::{self, IssuerDocument, RelationshipDocument};
use super::plan::{Action, Current, Plan, Step};
use super::read::{self, Declared, Problems};
use super::show;
use crate::output::ListFormat;
use crate::output::tests::Captured;

const URL: &str = "https://cloud.rwx.com/mint";

fn read(texts: &[&str]) -> Result<Declared, Vec<String>> {
    let texts: Vec<_> =
        texts.iter().zip(["a.yaml", "b.yaml"]).map(|(text, name)| (name.to_owned(), (*text).to_owned())).collect();
    let mut problems = Problems::default();
    let declared = read::read(&texts, &mut problems);
    if problems.lines().is_empty() { Ok(declared) } else { Err(problems.lines().to_vec()) }
}

fn plan(text: &str, current: &Current, prune: bool) -> Result<Plan, Vec<String>> {
    let declared = read(&[text]).expect("the file is sound");
    let mut problems = Problems::default();
    let plan = Plan::new(declared, current, prune, &mut problems);
    if problems.lines().is_empty() { Ok(plan) } else { Err(problems.lines().to_vec()) }
}

fn id(number: u8) -> String {
    TrustRelationshipId::from_random([number; 16]).to_string()
}

fn issuer_id(number: u8) -> String {
    TrustedIssuerId::from_random([number; 16]).to_string()
}

/// A workspace with one issuer, a relationship with key and one without.
fn current() -> Current {
    let issuer = TrustedIssuer {
        id: issuer_id(1),
        workspace_id: "ws_0".to_owned(),
        issuer_url: URL.to_owned(),
        subject_audiences: vec!["a".to_owned()],
        max_token_lifetime: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        enabled: true,
        etag: "issuer-etag".to_owned(),
        ..TrustedIssuer::default()
    };
    let keyed = TrustRelationship {
        id: id(1),
        workspace_id: "ws_0".to_owned(),
        key: "deploy".to_owned(),
        trusted_issuer_id: issuer_id(1),
        subject_matches: vec!["org:a:*".to_owned()],
        scopes: vec!["deploy".to_owned()],
        claim_conditions: vec![],
        enabled: true,
        etag: "keyed-etag".to_owned(),
        expire_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        ..TrustRelationship::default()
    };
    let unkeyed = TrustRelationship {
        id: id(2),
        key: String::new(),
        enabled: false,
        etag: "unkeyed-etag".to_owned(),
        attribute_mapping: [("team".to_owned(), "assertion.team".to_owned())].into(),
        cel_condition: "attribute.team == 'core'".to_owned(),
        expire_time: None,
        ..keyed.clone()
    };
    Current { issuers: vec![issuer], relationships: vec![keyed, unkeyed] }
}

fn exported() -> String {
    let (issuers, relationships) = export::documents(current());
    format::write(&issuers, &relationships).unwrap()
}

const KEYED: &str = "
kind: TrustRelationship
key: deploy
issuer_url: https://cloud.rwx.com/mint
subject_matches: ['org:a:*']
scopes: [deploy]
expire_time: 1970-01-01T00:00:01Z
";

#[test]
fn what_is_exported_is_what_is_there() {
    let text = exported();
    assert!(text.contains("key: deploy") && text.contains(&format!("id: {}", id(2))), "{text}");
    assert!(!text.contains(&id(1)), "{text}");
    let plan = plan(&text, &current(), true).unwrap();
    assert!(!plan.changes() && !plan.broadens(), "{:?}", plan.items);
    assert_eq!(plan.count(Action::Unchanged), 3);
}

#[test]
fn a_file_holds_every_field() {
    let text = r#"
kind: TrustedIssuer
issuer_url: https://issuer.example
display_name: An issuer
preset: kubernetes
enabled: false
subject_audiences: [a]
algorithms: [RS256]
token_types: ["", JWT]
max_token_lifetime: 1h30m
clock_skew: 30s
replay_policy: REQUIRE_JTI
jwks_url: https://issuer.example/keys
ca_certificates: ""
max_stale_age: 1h
---
kind: TrustRelationship
key: deploy
issuer_url: https://issuer.example
display_name: Deploy
enabled: false
subject_matches: ["*"]
claim_conditions:
  - {claim: repository_id, equals: "1"}
  - {claim: number, one_of: [1, 2], negated: true}
cel_condition: attribute.team == 'core'
attribute_mapping: {team: assertion.team}
subject_audiences: [a]
access_token_audiences: [b]
scopes: [deploy]
grants:
  - {resource_type: vault, resource_id: "*", actions: [read]}
token_duration: 15m
expire_time: 2027-01-31T18:00:00Z
"#;
    let declared = read(&[text]).unwrap();
    let (issuer, relationship) = (&declared.issuers[0].wire, &declared.relationships[0].wire);
    assert_eq!(issuer.max_token_lifetime.unwrap().seconds, 5400);
    assert_eq!(issuer.token_types, ["", "JWT"]);
    assert_eq!(relationship.claim_conditions.len(), 2);
    assert_eq!(relationship.token_duration.unwrap().seconds, 900);
    assert!(!declared.relationships[0].settings.enabled && !declared.issuers[0].settings.enabled);
    // Written and read again it is the same.
    let (issuers, relationships) = export::documents(Current {
        issuers: vec![TrustedIssuer { id: issuer_id(1), ..issuer.clone() }],
        relationships: vec![TrustRelationship { trusted_issuer_id: issuer_id(1), ..relationship.clone() }],
    });
    let again = read(&[&format::write(&issuers, &relationships).unwrap()]).unwrap();
    assert_eq!((&again.issuers[0].wire, &again.relationships[0].wire), (issuer, relationship));
}

/// What YAML could take for something else, and whatever else there is.
fn text() -> impl Strategy<Value = String> {
    let odd = [
        "yes",
        "no",
        "on",
        "~",
        "null",
        "true",
        "False",
        "1",
        "-1",
        "+1",
        "0x1f",
        "0o17",
        "1_000",
        "1e3",
        "1.0",
        ".5",
        ".inf",
        ".nan",
        "2027-01-31",
        "12:30:45",
        "<<",
        "=",
        "-",
        "?",
        ":",
        "a: b",
        "a #b",
        "#a",
        "- a",
        "&a",
        "*",
        "*a",
        "!a",
        "!!str",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "{}",
        "[a]",
        "\"",
        "'",
        " a",
        "a ",
        "a:",
        "\u{feff}a",
        "\u{2028}",
        "é",
        "---",
        "...",
    ];
    prop_oneof![prop::sample::select(odd.to_vec()).prop_map(str::to_owned), "\\PC{1,20}"]
}

proptest! {
    #[test]
    fn whatever_a_text_holds_it_is_read_as_it_was_written(texts in prop::collection::vec(text(), 4), number: i64, truth: bool) {
        let [name, subject, value, element] = texts.try_into().unwrap();
        let values = [ClaimValue::Text(value), ClaimValue::Integer(number), ClaimValue::Boolean(truth), ClaimValue::Text(element)];
        let conditions = values.into_iter().enumerate().map(|(place, value)| {
            let draft = ClaimConditionDraft { claim: format!("c{place}"), equals: Some(value), ..ClaimConditionDraft::default() };
            ClaimCondition::from(&countersign_domain::trust::claim_condition::ClaimCondition::try_from(draft).unwrap())
        });
        let relationship = TrustRelationship {
            display_name: name,
            subject_matches: vec![format!("{subject}."), subject],
            claim_conditions: conditions.collect(),
            key: "1e3".to_owned(),
            ..current().relationships.remove(0)
        };
        let before = Current { relationships: vec![relationship.clone()], ..current() };
        let (issuers, relationships) = export::documents(before);
        let declared = read(&[&format::write(&issuers, &relationships).unwrap()]).unwrap();
        let expected = RelationshipDocument::of(relationship, URL.to_owned()).into_wire();
        prop_assert_eq!(&declared.relationships[0].wire, &expected);
    }
}

#[test]
fn documents_inside_a_document_keep_their_bytes() {
    let uploaded = TrustedIssuer {
        jwks: "{\"keys\": [\n\t]}  \n\n".to_owned(),
        jwks_expire_time: Some(prost_types::Timestamp { seconds: 1, nanos: 5000 }),
        ..current().issuers.remove(0)
    };
    let private = TrustedIssuer {
        issuer_url: "https://private.example".to_owned(),
        ca_certificates: "-----BEGIN\r\n a\r\n".to_owned(),
        ..current().issuers.remove(0)
    };
    let before = || Current { issuers: vec![uploaded.clone(), private.clone()], relationships: vec![] };
    let (issuers, _) = export::documents(before());
    let plan = plan(&format::write(&issuers, &[]).unwrap(), &before(), true).unwrap();
    assert_eq!((plan.count(Action::Unchanged), plan.items.len()), (2, 2), "{:?}", plan.items);
}

#[test]
fn a_number_beyond_64_bits_is_refused_with_the_name_of_its_field_and_everything_else_that_is_wrong() {
    for number in [
        "20000000000000000001",
        "9223372036854775808",
        "-9223372036854775809",
        "1e30",
        "1.5",
        "340282366920938463463374607431768211456",
    ] {
        let file = format!(
            "
kind: TrustRelationship
key: a
issuer_url: https://issuer.example
subject_matches: [a]
claim_conditions:
  - {{claim: a, equals: {number}}}
  - {{claim: b, one_of: [1, {number}]}}
  - {{claim: c, contains: {number}}}
scopes: [{number}]
---
kind: TrustedIssuers
"
        );
        let problems = read(&[&file]).unwrap_err();
        for expected in [
            "a.yaml: document 1: claim_conditions[0]: equals must be text, true, false or a whole number from -9223372036854775808 to",
            "a.yaml: document 1: claim_conditions[1]: one_of[1] must be",
            "a.yaml: document 1: claim_conditions[2]: contains must be",
            "a.yaml: document 1: scopes[0]: must be a string",
            "a.yaml: document 2: kind: must be",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected} is not in {problems:#?}");
        }
    }
}

#[test]
fn everything_that_is_wrong_is_told_with_its_place() {
    let first = "
kind: TrustRelationship
key: Deploy
issuer_url: https://issuer.example
subject_match: [a]
subject_matches: [a, '']
scopes: [1, b]
claim_conditions: [{claim: a, equal: b}, {claim: b}]
enabled: yes
token_duration: 5
---
kind: TrustedIssuers
---
kind: TrustedIssuer
issuer_url: http://issuer.example
replay_policy: NEVER
display_name:
";
    let second = "kind: TrustedIssuer\nissuer_url: a\nissuer_url: b\n";
    let problems = read(&[first, second]).unwrap_err();
    for expected in [
        "a.yaml: document 1: key: must consist of",
        "a.yaml: document 1: subject_match: there is no such field",
        "a.yaml: document 1: subject_matches[1]: must not be empty",
        "a.yaml: document 1: scopes[0]: must be a string",
        "a.yaml: document 1: claim_conditions[0]: unknown field `equal`",
        "a.yaml: document 1: enabled: must be a boolean",
        "a.yaml: document 1: token_duration: must be a string",
        "a.yaml: document 2: kind: must be TrustedIssuer or TrustRelationship, not `TrustedIssuers`",
        "a.yaml: document 3: issuer_url: must begin with https://",
        "a.yaml: document 3: replay_policy: must be one of `SINGLE_USE`, `REQUIRE_JTI`, `REUSABLE`",
        "a.yaml: document 3: display_name: has no value",
        "b.yaml: document 1: duplicate entry",
    ] {
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected} is not in {problems:#?}");
    }
}

#[test]
fn a_resource_is_written_once() {
    let issuer = "kind: TrustedIssuer\nissuer_url: https://issuer.example\n";
    let problems = read(&[&format!("{issuer}---{KEYED}"), &format!("{KEYED}---\n{issuer}")]).unwrap_err();
    assert_eq!(
        problems,
        [
            "b.yaml: document 2: issuer_url: `https://issuer.example` is also in a.yaml: document 1",
            "b.yaml: document 1: key: `deploy` is also in a.yaml: document 2",
        ]
    );
}

#[test]
fn a_plan_says_what_becomes_broader_and_what_narrower() {
    let narrower = KEYED.replace("org:a:*", "org:a:vault:*");
    let item = plan(&narrower, &current(), false).unwrap().items.remove(0);
    assert_eq!(
        (item.action, item.change, item.fields.as_slice()),
        (Action::Update, Change::Narrower, ["subject_matches"].as_slice())
    );
    let Step::UpdateRelationship(update) = item.step else { panic!("{:?}", item.step) };
    assert_eq!((update.etag.as_str(), update.id, update.workspace_id.as_str()), ("keyed-etag", id(1), "ws_0"));

    let broader = KEYED.replace("[deploy]", "[deploy, read]");
    let of_broader = plan(&broader, &current(), false).unwrap();
    assert!(of_broader.broadens() && of_broader.items[0].change == Change::Broader);
    let captured = Captured::default();
    show::plan(&of_broader, ListFormat::Table, &mut captured.output()).unwrap();
    assert_eq!(
        captured.results(),
        format!(
            "~ update TrustRelationship deploy ({}): broader\n    changes scopes\n    broader: scopes: gives `read`\n\
             0 to create, 1 to update, 0 to delete, 0 unchanged.\n",
            id(1)
        )
    );
    let captured = Captured::default();
    show::plan(&of_broader, ListFormat::Json, &mut captured.output()).unwrap();
    let json: Value = serde_json::from_str(&captured.results()).unwrap();
    assert_eq!(json["broadens"], true);
    assert_eq!(json["items"][0]["change"], "broader");
    assert_eq!(json["items"][0]["place"], "a.yaml: document 1");
    assert_eq!(json["items"][0]["reasons"][0]["field"], "scopes");

    let named = plan(&format!("{KEYED}display_name: Deploy\n"), &current(), false).unwrap();
    assert_eq!((named.items[0].action, named.items[0].change), (Action::Update, Change::Unchanged));
}

#[test]
fn a_key_can_be_given_to_a_relationship_that_has_none() {
    let text = exported().replace(&format!("id: {}", id(2)), &format!("id: {}\nkey: test", id(2)));
    let plan = plan(&text, &current(), true).unwrap();
    let item = plan.items.iter().find(|item| item.action == Action::Update).unwrap();
    assert_eq!((item.id.as_str(), item.fields.as_slice()), (id(2).as_str(), ["key"].as_slice()));
    assert_eq!(plan.count(Action::Unchanged), 2);
}

#[test]
fn an_issuer_that_accepts_more_is_broader_for_all_its_relationships() {
    let issuer = |more: &str| format!("kind: TrustedIssuer\nissuer_url: {URL}\n{more}");
    let change = |more: &str| plan(&issuer(more), &current(), false).unwrap().items.remove(0).change;
    assert_eq!(change("subject_audiences: [a]"), Change::Unchanged);
    assert_eq!(change("subject_audiences: [a]\ndisplay_name: RWX"), Change::Unchanged);
    assert_eq!(change("subject_audiences: [a, b]"), Change::Different);
    assert_eq!(change("subject_audiences: [a]\nenabled: false"), Change::Narrower);
    let keys = plan(&issuer("subject_audiences: [a]\njwks_url: https://keys.example"), &current(), false).unwrap();
    assert!(keys.broadens());
    assert_eq!(keys.items[0].fields, ["jwks_url", "jwks", "jwks_expire_time", "ca_certificates", "max_stale_age"]);
}

#[test]
fn only_what_no_file_names_is_pruned_and_relationships_before_issuers() {
    let other = "kind: TrustRelationship\nkey: other\nissuer_url: https://other.example\nsubject_matches: [a]\nscopes: [b]\n---\n\
                 kind: TrustedIssuer\nissuer_url: https://other.example\n";
    let steps = |text: &str, prune| {
        let plan = plan(text, &current(), prune).unwrap();
        plan.items.iter().map(|item| (item.action, item.kind, item.change)).collect::<Vec<_>>()
    };
    let created = [(Action::Create, "TrustedIssuer", Change::Unchanged), (Action::Create, "TrustRelationship", Change::Broader)];
    let deleted = [
        (Action::Delete, "TrustRelationship", Change::Narrower),
        (Action::Delete, "TrustRelationship", Change::Narrower),
        (Action::Delete, "TrustedIssuer", Change::Unchanged),
    ];
    assert_eq!(steps(other, false), created);
    assert_eq!(steps(other, true), [created.as_slice(), &deleted].concat());
    // The issuer of a relationship stays, with a document or without.
    let kept = [(Action::Unchanged, "TrustRelationship", Change::Unchanged), deleted[0]];
    assert_eq!(steps(KEYED, true), kept);
}

#[test]
fn what_cannot_be_done_is_told_before_anything_is() {
    let check = |text: &str, expected: &str| {
        let problems = plan(text, &current(), false).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:#?}");
    };
    check(&KEYED.replace("cloud.rwx.com", "other.example"), "is no trusted issuer");
    check(&KEYED.replace("key: deploy", &format!("id: {}", id(9))), "there is no relationship");
    check(&format!("{KEYED}---{}", KEYED.replace("key: deploy", &format!("id: {}", id(1)))), "by key or id");
    check(&format!("{}enabled: false\n", KEYED.replace("key: deploy", "key: new")), "cannot be disabled");
    let moved = format!("kind: TrustedIssuer\nissuer_url: https://b.example\n---{}", KEYED.replace(URL, "https://b.example"));
    check(&moved, "cannot change");
}

#[test]
fn the_schema_knows_the_fields_that_are_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/countersign.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let properties = |name: &str| -> BTreeSet<String> {
        assert_eq!(schema["$defs"][name]["additionalProperties"], false, "{name}");
        schema["$defs"][name]["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let with_kind = |fields: &[&str]| -> BTreeSet<String> { fields.iter().copied().chain(["kind"]).map(str::to_owned).collect() };
    let keys = |value: Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    for (kind, fields) in
        [(IssuerDocument::KIND, IssuerDocument::FIELDS), (RelationshipDocument::KIND, RelationshipDocument::FIELDS)]
    {
        assert_eq!(properties(kind), with_kind(fields));
        assert_eq!(schema["$defs"][kind]["properties"]["kind"]["const"], kind);
    }
    let value = || Some(ClaimValue::Boolean(true));
    let condition = ClaimConditionDraft {
        claim: "c".to_owned(),
        equals: value(),
        one_of: vec![ClaimValue::Boolean(true)],
        glob: Some("a".to_owned()),
        contains: value(),
        exists: true,
        negated: true,
    };
    assert_eq!(properties("claim_condition"), keys(serde_json::to_value(condition).unwrap()));
    let grant =
        countersign_domain::values::grant::Grant { resource_type: String::new(), resource_id: String::new(), actions: vec![] };
    assert_eq!(properties("grant"), keys(serde_json::to_value(grant).unwrap()));
}
