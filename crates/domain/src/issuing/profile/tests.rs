mod definitions;
mod injective;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::*;
use crate::values::id::{TrustedIssuerId, WorkspaceId};
use crate::values::issuer_url::IssuerUrl;

/// What the file of a profile says of it.
#[derive(Deserialize)]
struct Samples {
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    #[serde(default)]
    subject_form: String,
    attributes: BTreeMap<String, String>,
    subject: String,
    audience: Option<String>,
    claims: Map<String, Value>,
}

fn workspace() -> WorkspaceId {
    WorkspaceId::from_random([1; 16])
}

fn url() -> IssuerUrl {
    "https://id.example.com/a".parse().unwrap()
}

fn profile(name: &str) -> Profile {
    name.parse().unwrap()
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn identify(profile: &Profile, form: &str, given: &BTreeMap<String, String>) -> Result<Identity, Violations> {
    profile.identify(IdentityContext { workspace_id: &workspace(), issuer_url: &url() }, form, given)
}

fn fields(violations: Violations) -> Vec<String> {
    violations.into_iter().map(|violation| violation.field).collect()
}

fn refused(profile: &Profile, pairs: &[(&str, &str)]) -> Vec<String> {
    fields(identify(profile, "", &attributes(pairs)).unwrap_err())
}

#[test]
fn s54_no_run_has_the_subject_of_a_caller() {
    let definition = "[attributes.a]\n[attributes.b]\n[[subject_forms]]\nid = 'a'\ntemplate = '{a}:{b}'\ndelimiters = ':'";
    let definition = ProfileDefinition::from_toml(definition).unwrap();
    let custom = Profile::custom(definition, "profile", &mut Violations::new()).unwrap();
    let before = format!("{}/{}/repo", workspace(), TrustedIssuerId::from_random([2; 16]));
    assert_eq!(refused(&custom, &[("a", &before), ("b", "a")]), ["attributes"]);
    for other in [format!("{}/ti_1/repo", workspace()), workspace().to_string(), before.replace('/', "_")] {
        assert!(identify(&custom, "", &attributes(&[("a", &other), ("b", "a")])).is_ok(), "{other}");
    }
    let (workspace_id, issuer_url) = (workspace(), url());
    let context = IdentityContext { workspace_id: &workspace_id, issuer_url: &issuer_url };
    let own = format!("{before}:a");
    assert_eq!(custom.identify_caller(context, &own).unwrap().subject.as_str(), own);
    assert_eq!(fields(custom.identify_caller(context, &"x".repeat(1025)).unwrap_err()), ["authorization"]);
}

#[test]
fn an_audience_for_callers_is_not_made_of_what_only_runs_have() {
    let (workspace_id, issuer_url) = (workspace(), url());
    let context = IdentityContext { workspace_id: &workspace_id, issuer_url: &issuer_url };
    let of_caller = |profile: &Profile| profile.identify_caller(context, "a/b/c");
    assert_eq!(of_caller(&profile("spacelift")).unwrap().audience.unwrap().as_str(), "id.example.com");
    let definition =
        "audience = '{a}'\n[attributes.a]\nrequired = true\n[[subject_forms]]\nid = 'a'\ntemplate = 'a:{a}'\ndelimiters = ':'";
    let definition = ProfileDefinition::from_toml(definition).unwrap();
    let of_runs = Profile::custom(definition, "profile", &mut Violations::new()).unwrap();
    assert_eq!(fields(of_caller(&of_runs).unwrap_err()), ["issuer_id"]);
}

#[test]
fn every_file_is_a_profile_and_true_of_its_own_samples() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut names: Vec<_> = built_in::SOURCES.iter().map(|(name, _)| format!("{name}.toml")).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names, "each file is used");
    for (name, text) in built_in::SOURCES {
        let profile = built_in::read(name, text).unwrap_or_else(|violations| panic!("{violations}"));
        assert_eq!(name.parse(), Ok(profile.clone()));
        let Samples { samples } = toml::from_str(text).unwrap();
        assert!(!samples.is_empty(), "{name}");
        for Sample { subject_form, attributes, subject, audience, claims } in samples {
            let identity = identify(&profile, &subject_form, &attributes).unwrap_or_else(|found| panic!("{name}: {found}"));
            assert_eq!(identity.subject.as_str(), subject.replace("{workspace_id}", workspace().as_str()), "{name}");
            assert_eq!(identity.audience.map(|audience| audience.to_string()), audience, "{name}: {subject}");
            assert_eq!(identity.claims, claims, "{name}: {subject}");
        }
    }
    assert_eq!("RWX".parse::<Profile>(), Err(UnknownProfile));
    assert_eq!(Profile::CUSTOM.parse::<Profile>(), Err(UnknownProfile));
}

#[test]
fn the_workspace_of_a_subject_is_never_the_callers_to_choose() {
    let other = WorkspaceId::from_random([2; 16]).to_string();
    assert_eq!(refused(&profile("namespace"), &[("path", "a"), ("workspace_id", &other)]), ["attributes[workspace_id]"]);
}

#[test]
fn every_violation_is_reported_at_once() {
    let found = refused(&profile("rwx"), &[("vault", "a:b"), ("team", "x"), ("bad name", "y")]);
    assert_eq!(found, ["attributes", "attributes[team]", "attributes[org]", "attributes[vault]"]);
    let run = [("space_id", "a:b"), ("caller_type", "Stack"), ("run_type", "APPLY"), ("autodeploy", "yes"), ("phase", "")];
    let expected = ["autodeploy", "caller_id", "caller_type", "phase", "run_id", "run_type", "space_id"];
    assert_eq!(refused(&profile("spacelift"), &run), expected.map(|name| format!("attributes[{name}]")));
}

#[test]
fn s54_a_value_that_would_change_the_subjects_structure_is_refused() {
    let long = "x".repeat(MAX_ATTRIBUTE_BYTES + 1);
    for value in ["a:vault:b", ":", "", "a\nb", "a\0", "\u{85}", &long] {
        assert_eq!(refused(&profile("rwx"), &[("org", value), ("vault", "v")]), ["attributes[org]"], "{value:?}");
    }
    for value in ["a/b", "/", "../other"] {
        assert_eq!(refused(&profile("namespace"), &[("path", value)]), ["attributes[path]"], "{value:?}");
    }
    for (profile_name, pairs, field) in [
        ("meshstack-runner", vec![("meshstack_id", "m"), ("runner_id", "workspace.w")], "runner_id"),
        ("kubernetes", vec![("namespace", "deploy"), ("service_account", "a:b")], "service_account"),
        ("kubernetes", vec![("namespace", "Deploy"), ("service_account", "a")], "namespace"),
    ] {
        assert_eq!(refused(&profile(profile_name), &pairs), [format!("attributes[{field}]")]);
    }
}

#[test]
fn what_is_only_a_claim_may_hold_the_delimiter() {
    let given = attributes(&[("org", "a"), ("vault", "b"), ("run_url", "https://ci.example/a/runs/1")]);
    assert_eq!(identify(&profile("rwx"), "", &given).unwrap().claims["run_url"], "https://ci.example/a/runs/1");
}

#[test]
fn a_flood_of_attributes_is_one_violation() {
    let flood = (0..10_000).map(|n| (format!("a{n}"), "v".to_owned())).collect();
    let refused = identify(&profile("rwx"), "", &flood).unwrap_err();
    assert_eq!(refused.iter().count(), 3, "the flood and the two missing ones");
}

#[test]
fn a_request_can_choose_the_form_of_the_subject() {
    let run = profile("meshstack-run");
    let runner = [("meshstack_id", "m"), ("runner_id", "r")];
    assert_eq!(refused(&run, &runner), ["attributes[workspace_identifier]", "attributes[bbd_uuid]"], "the newer form is used");
    let identity = identify(&run, "runner", &attributes(&runner)).unwrap();
    assert_eq!(identity.subject.as_str(), "system:serviceaccount:m:r");
    let unknown = identify(&run, "pod", &attributes(&runner)).unwrap_err();
    assert_eq!(fields(unknown), ["subject_form"]);
    let no_uuid = attributes(&[("meshstack_id", "m"), ("workspace_identifier", "w"), ("bbd_uuid", "latest")]);
    assert_eq!(fields(identify(&run, "run", &no_uuid).unwrap_err()), ["attributes[bbd_uuid]"]);
}

#[test]
fn what_is_computed_beforehand_is_what_the_expression_comes_to() {
    let mut tables = 0;
    for profile in Profile::built_in() {
        let declared = &profile.checked().declared;
        for (name, table) in &declared.tables {
            tables += 1;
            // Every combination of a value that is allowed, one that is not, and none, of everything that it reads.
            let expression = &declared.derived[name];
            let choices: Vec<(&str, Vec<Option<Value>>)> = expression
                .attributes()
                .iter()
                .map(|name| {
                    let allowed = &declared.attributes[name].allowed_values;
                    let others = [Value::from("of no kind"), true.into(), false.into(), 1.into()];
                    let values = allowed.iter().map(|text| Value::from(text.as_str())).chain(others).map(Some).chain([None]);
                    (&**name, values.collect())
                })
                .collect();
            let size: usize = choices.iter().map(|(_, values)| values.len()).product();
            let mut looked_up = 0;
            for mut index in 0..size {
                let mut given = Map::new();
                for (name, values) in &choices {
                    if let Some(value) = &values[index % values.len()] {
                        given.insert((*name).to_owned(), value.clone());
                    }
                    index /= values.len();
                }
                if let Some(known) = table.look_up(&given) {
                    looked_up += 1;
                    assert_eq!(*known, expression.map_attributes(&given), "{name} of {given:?}");
                }
            }
            assert!(looked_up > 0);
        }
    }
    assert!(tables > 0, "the scope of Spacelift's runs is one");
}

#[test]
fn what_reads_text_of_any_kind_is_computed_each_time() {
    let definition =
        "[attributes.a]\n[derived]\nb = \"attribute.a + '!'\"\n[[subject_forms]]\nid = 'a'\ntemplate = 'a:{a}'\ndelimiters = ':'";
    let definition = ProfileDefinition::from_toml(definition).unwrap();
    let custom = Profile::custom(definition, "profile", &mut Violations::new()).unwrap();
    assert!(custom.checked().declared.tables.is_empty());
}

#[test]
fn the_names_of_claims_are_those_that_tokens_may_have() {
    let registered = ["aud", "exp", "iat", "iss", "jti", "nbf", "sub"];
    assert_eq!(profile("namespace").claim_names(), registered);
    let spacelift = profile("spacelift").claim_names();
    for name in registered.into_iter().chain(["callerType", "runId", "scope", "spacePath"]) {
        assert!(spacelift.iter().any(|known| known == name), "{name}");
    }
    assert!(spacelift.is_sorted());
    let definition = "not_before = 'absent'\n[attributes.a]\n[[subject_forms]]\nid = 'a'\ntemplate = 'a:{a}'\ndelimiters = ':'\n[claims]\n'/b/c' = { attribute = 'a' }";
    let definition = ProfileDefinition::from_toml(definition).unwrap();
    let custom = Profile::custom(definition, "profile", &mut Violations::new()).unwrap();
    assert_eq!(custom.claim_names(), ["aud", "b", "exp", "iat", "iss", "jti", "sub"]);
}
