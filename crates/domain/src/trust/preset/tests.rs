use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use TenantPin::{NotPinned, Recyclable, Stable};

fn preset(id: &str) -> &'static Preset {
    Preset::find(id).unwrap()
}

fn pattern(text: &str) -> SubjectMatch {
    text.parse().unwrap()
}

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn built(id: &str, pairs: &[(&str, &str)]) -> String {
    preset(id).build_subject(&values(pairs)).unwrap().to_string()
}

fn refused(id: &str, pairs: &[(&str, &str)]) -> Vec<(String, InvalidPart)> {
    let problems = preset(id).build_subject(&values(pairs)).unwrap_err();
    problems.into_iter().map(|problem| (problem.part, problem.problem)).collect()
}

#[test]
fn patterns_that_no_subject_can_match_are_known() {
    for (id, text, expected) in [
        ("buildkite", "organization:acme:pipeline:app:ref:refs/heads/main", false),
        ("buildkite", "organization:acme:pipeline:app:ref:refs/heads/main:*", true),
        ("buildkite", "organization:acme:pipeline:app:ref:refs/heads/main:commit:*:step:", true),
        ("buildkite", "organization:acme:*", true),
        ("buildkite", "*:step:deploy", true),
        ("buildkite", "organisation:acme:*", false),
        ("rwx", "org:my-org:vault:*", true),
        ("rwx", "org:my-org:vault:a:b", false),
        ("rwx", "org:my-org:vaults:*", false),
        ("rwx", "mint:0f8c2f64-5a0e-4f57-9b1c-6f0a3d2e1b4c:v", true),
        ("rwx", "mint:my-org:v", false),
        ("github-actions", "repo:o/r:ref:refs/heads/main", true),
        ("github-actions", "repo:o/r:refs/heads/main", false),
        ("github-actions", "repo:o@1/r@2:environment:eu%3Aproduction", true),
        ("github-actions", "repo:o@1/r@2:environment:eu:production", false),
        ("github-actions", "repo:o@1/r:*", false),
        ("github-actions", "repo:o@x/r@2:*", false),
        ("github-actions", "repo:o/*", true),
        ("github-actions", "repo:o/r:environment:eu:job_workflow_ref:o/r/.github/workflows/a.yml@refs/heads/main", true),
        ("github-actions", "repository_owner_id:65:*", true),
        ("github-actions", "owner:65:*", false),
        ("gitlab", "project_path:g/s/p:ref_type:branch:ref:main", true),
        ("gitlab", "project_path:g/p:ref_type:commit:ref:main", false),
        ("gitlab", "project_path:g:*", false),
        ("spacelift", "*:stack:infra:*", true),
        ("spacelift", "space:a:stack:b:run_type:tracked:scope:write", false),
        ("spacelift", "space:a:*:scope:admin", false),
        ("meshstack", "system:serviceaccount:m:workspace.w.buildingblockdefinition.*", true),
        ("meshstack", "system:serviceaccount:m:workspace.w.*", true),
        ("meshstack", "serviceaccount:m:r", false),
        ("aws-cognito", "eu-west-1:*", true),
        ("aws-cognito", "EU-WEST-1:*", false),
        ("namespace", "ws/*", true),
        ("namespace", "ws", false),
        ("aws-sts", "arn:aws:iam::123456789012:role/*", true),
        ("aws-sts", "arn:aws:sts::123456789012:assumed-role/deploy/session", false),
        ("circleci", "org/*/user/7cf67bf2-cf99-4cc7-8ae5-a0daf86ae02b", true),
        ("circleci", "org/acme/*", false),
        ("terraform-cloud", "organization:my-org:project:Default Project:workspace:*:run_phase:apply", true),
        ("terraform-cloud", "organization:my-org:workspace:*", false),
        ("kubernetes", "system:serviceaccount:deploy:*", true),
        ("kubernetes", "system:serviceaccounts:deploy:*", false),
        ("google", "112233445566778899001", true),
        ("google", "deploy@my-project.iam.gserviceaccount.com", false),
        ("azure", "8d7c6b5a-4938-4716-a5f4-e3d2c1b0a998", true),
        ("spiffe", "spiffe://trust.example/*", true),
        ("spiffe", "https://trust.example/*", false),
    ] {
        assert_eq!(preset(id).can_match(&pattern(text)), expected, "{id}: {text}");
    }
    assert!(Preset::all().iter().all(|preset| preset.can_match(&pattern("*"))));
}

#[test]
fn the_most_evil_patterns_take_no_time() {
    // A search that takes steps back would not end before the sun does.
    for unit in ["a*", "*:", "r*e", ":*/*", "*"] {
        let text = format!("*{}\u{e9}:no:such:end", unit.repeat(1000 / unit.len()));
        for preset in Preset::all() {
            let ends_free = preset.forms.iter().any(|form| form.can_match(&pattern("*no:such:end")));
            assert!(!preset.can_match(&pattern(&text)) || ends_free, "{}: {unit}", preset.id);
        }
    }
}

#[test]
fn a_tenant_is_pinned_by_its_name_and_the_delimiter_behind_it() {
    for (id, text, expected) in [
        ("rwx", "org:my-org*", NotPinned),
        ("rwx", "org:my-org:*", Recyclable),
        ("rwx", "org:my-org:vault:a", Recyclable),
        ("rwx", "org:*:vault:a", NotPinned),
        ("rwx", "*", NotPinned),
        ("rwx", "nonsense", NotPinned),
        ("rwx", "mint:0f8c2f64-5a0e-4f57-9b1c-6f0a3d2e1b4c:*", Stable),
        ("rwx", "mint:0f8c2f64*", NotPinned),
        ("github-actions", "repo:o@123/*", Stable),
        ("github-actions", "repo:o@123*", Recyclable),
        ("github-actions", "repo:*@123/*", NotPinned),
        ("github-actions", "repo:o/*", Recyclable),
        ("github-actions", "repo:o*", NotPinned),
        ("github-actions", "repo:o/r:pull_request", Recyclable),
        ("github-actions", "repository_owner_id:65:*", NotPinned),
        ("gitlab", "project_path:g/*", Recyclable),
        ("gitlab", "project_path:g*", NotPinned),
        ("buildkite", "organization:acme:pipeline:app:*", Recyclable),
        ("buildkite", "organization:acme*", NotPinned),
        ("aws-cognito", "eu-west-1:7d3b6c1e-2f48-4a0b-9c57-8e1f0a2b3c4d", NotPinned),
        ("namespace", "ws/*", Stable),
        ("namespace", "ws*", NotPinned),
        ("aws-sts", "arn:aws:iam::123456789012:*", Stable),
        ("aws-sts", "arn:aws:iam::123456789012*", NotPinned),
        ("terraform-cloud", "organization:my-org:project:*", Recyclable),
        ("google", "112233445566778899001", Stable),
        ("google", "1122*", NotPinned),
        ("spiffe", "spiffe://trust.example/*", Stable),
        ("spiffe", "spiffe://trust.example*", NotPinned),
    ] {
        assert_eq!(preset(id).tenant_pin(&pattern(text)), expected, "{id}: {text}");
    }
}

#[test]
fn subjects_are_built_of_the_current_form_unless_the_parts_are_of_another() {
    assert_eq!(built("rwx", &[("org", "my-org"), ("vault", "*")]), "org:my-org:vault:*");
    assert_eq!(built("rwx", &[("org", "my-org")]), "org:my-org:vault:*");
    assert_eq!(built("rwx", &[("org_id", "0f8c"), ("vault", "v")]), "mint:0f8c:v");
    assert_eq!(
        built("buildkite", &[("organization", "acme"), ("pipeline", "app"), ("ref", "refs/heads/main")]),
        "organization:acme:pipeline:app:ref:refs/heads/main:commit:*:step:*"
    );
    assert_eq!(
        built("buildkite", &[("organization", "a"), ("pipeline", "p"), ("ref", "r"), ("commit", "*"), ("step", "")]),
        "organization:a:pipeline:p:ref:r:commit:*:step:"
    );
    let ids = [("owner", "o"), ("owner_id", "65"), ("repo", "r"), ("repo_id", "74"), ("context", "environment:eu%3Aprod")];
    assert_eq!(built("github-actions", &ids), "repo:o@65/r@74:environment:eu%3Aprod");
    assert_eq!(built("gitlab", &[("group", "g"), ("project", "s/p")]), "project_path:g/s/p:ref_type:*:ref:*");
    let names = values(&[("owner", "o"), ("repo", "r")]);
    let sts = [("account", "123456789012"), ("role", "*"), ("issuer_id", "9f8c")];
    assert_eq!(built("aws-sts", &sts), "arn:aws:iam::123456789012:role/*");
    let subject = preset("github-actions").build_subject_of(Some("names"), &names).unwrap();
    assert_eq!(subject.as_str(), "repo:o/r:*");
}

#[test]
fn everything_wrong_with_the_parts_is_told_at_once() {
    let found = refused("rwx", &[("vault", "a:b"), ("team", "x")]);
    assert_eq!(
        found,
        [
            ("team".to_owned(), InvalidPart::Unknown("org, org_id, vault".to_owned())),
            ("org".to_owned(), InvalidPart::Missing("org:{org}:vault:{vault}".to_owned())),
            ("vault".to_owned(), InvalidPart::Character(':')),
        ]
    );
    assert_eq!(refused("rwx", &[("org", "")]), [("org".to_owned(), InvalidPart::Empty)]);
    assert_eq!(refused("rwx", &[]).len(), 1, "a subject that says nothing is for nobody to build");
    let both = refused("rwx", &[("org", "a"), ("org_id", "0f")]);
    assert_eq!(both, [("org_id".to_owned(), InvalidPart::NotThere("org:{org}:vault:{vault}".to_owned()))]);
    let owner = refused("github-actions", &[("owner", "o"), ("repo", "r"), ("context", "environment:eu:prod")]);
    assert!(owner.contains(&("owner_id".to_owned(), InvalidPart::Missing(preset("github-actions").forms[0].template.clone()))));
    let tier = refused("gitlab", &[("group", "g"), ("project", "p"), ("ref_type", "commit")]);
    assert_eq!(tier, [("ref_type".to_owned(), InvalidPart::Values("branch, tag".to_owned()))]);
    let long = "x".repeat(2000);
    assert!(matches!(refused("rwx", &[("org", &long)])[..], [(_, InvalidPart::Whole(_))]));
}

#[test]
fn issuers_and_audiences_are_built_of_their_parts() {
    let issuer = |id: &str, pairs: &[(&str, &str)]| preset(id).build_issuer(&values(pairs)).map(|url| url.to_string());
    assert_eq!(issuer("rwx", &[("org", "o")]).unwrap(), "https://cloud.rwx.com/mint");
    assert_eq!(issuer("spacelift", &[("account", "acme")]).unwrap(), "https://acme.app.spacelift.io");
    let us = [("account", "acme"), ("site", "app.us.spacelift.io")];
    assert_eq!(issuer("spacelift", &us).unwrap(), "https://acme.app.us.spacelift.io");
    let audience = preset("spacelift").build_audience(&values(&us)).unwrap();
    assert_eq!(audience.unwrap().as_str(), "acme.app.us.spacelift.io");
    assert_eq!(issuer("github-actions", &[("enterprise", "acme")]).unwrap(), "https://token.actions.githubusercontent.com/acme");
    for (id, pairs) in [("spacelift", &[("account", "a.evil")][..]), ("spacelift", &[("account", "*")]), ("meshstack", &[])] {
        assert!(issuer(id, pairs).is_err(), "{id}: {pairs:?}");
    }
    assert_eq!(preset("rwx").build_audience(&BTreeMap::new()), Ok(None));
    let pool = values(&[("region", "eu-west-1"), ("pool", "1a2b3c4d-5e6f-4708-9a1b-2c3d4e5f6071")]);
    let audience = preset("aws-cognito").build_audience(&pool).unwrap().unwrap();
    assert_eq!(audience.as_str(), "eu-west-1:1a2b3c4d-5e6f-4708-9a1b-2c3d4e5f6071");
    assert_eq!(preset("aws-cognito").build_subject(&pool).unwrap().as_str(), "eu-west-1:*");
}

#[test]
fn issuers_are_recognised_by_urls_that_nobody_else_has() {
    for (url, expected) in [
        ("https://cloud.rwx.com/mint", Some("rwx")),
        ("https://cloud.rwx.com/mint/", None),
        ("https://cloud.rwx.com", None),
        ("https://acme.app.spacelift.io", Some("spacelift")),
        ("https://evil.example/.app.spacelift.io", None),
        ("https://app.spacelift.io.evil.example", None),
        ("https://token.actions.githubusercontent.com", Some("github-actions")),
        ("https://gitlab.com", Some("gitlab")),
        ("https://gitlab.example", None),
        ("https://meshstack.example", None),
        ("https://9f8c1d2e-4b5a-4c6d-8e7f-0a1b2c3d4e5f.tokens.sts.global.api.aws", Some("aws-sts")),
        ("https://oidc.circleci.com/org/3e5a1f9c-8b2d-4c70-9e6f-1a2b3c4d5e6f", Some("circleci")),
        ("https://oidc.circleci.com/org/acme", None),
        ("https://sts.windows.net/c3c8f6a1-5b2d-4e7f-9a0b-1c2d3e4f5a6b/", Some("azure")),
        ("https://sts.windows.net/c3c8f6a1-5b2d-4e7f-9a0b-1c2d3e4f5a6b", None),
        ("https://kubernetes.default.svc.cluster.local", None),
        ("https://spire.example", None),
    ] {
        let found = Preset::of_issuer(&url.parse().unwrap()).map(|preset| preset.id.as_str());
        assert_eq!(found, expected, "{url}");
    }
}

#[test]
fn keys_on_another_host_are_pinned() {
    for (id, issuer, expected) in [
        ("google", "https://accounts.google.com", Some("https://www.googleapis.com/oauth2/v3/certs")),
        (
            "azure",
            "https://sts.windows.net/c3c8f6a1-5b2d-4e7f-9a0b-1c2d3e4f5a6b/",
            Some("https://login.microsoftonline.com/c3c8f6a1-5b2d-4e7f-9a0b-1c2d3e4f5a6b/discovery/v2.0/keys"),
        ),
        ("azure", "https://azure.example/", None),
        ("rwx", "https://cloud.rwx.com/mint", None),
    ] {
        let url = preset(id).jwks_url_of(&issuer.parse().unwrap());
        assert_eq!(url.as_ref().map(crate::values::issuer_url::KeySetUrl::as_str), expected, "{issuer}");
    }
}

/// Values that fit the parts of a form, and of other forms too.
fn part_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]{1,6}",
        "[0-9]{1,4}",
        "[0-9a-f-]{1,8}",
        "[a-z:@/.]{0,4}",
        Just("*".to_owned()),
        "[a-z]{0,3}\\*[a-z:]{0,3}",
        prop::sample::select(&["ref:refs/heads/main", "pull_request", "branch", "stack", "TRACKED", "write", "plan"][..])
            .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_built_can_match_and_reads_back(
        at in 0..Preset::all().len(), form in 0..8_usize, given in prop::collection::vec(part_value(), 8),
    ) {
        let preset = &Preset::all()[at];
        let form = &preset.forms[form % preset.forms.len()];
        let values: BTreeMap<_, _> = form.parts.iter().map(|part| part.name.clone()).zip(given).collect();
        if let Ok(subject) = preset.build_subject_of(Some(&form.id), &values) {
            prop_assert!(form.can_match(&subject), "{subject}");
            prop_assert!(preset.can_match(&subject));
            if !subject.as_str().contains('*') {
                let read = form.read(subject.as_str()).unwrap();
                prop_assert_eq!(read.len(), values.len());
                for (name, value) in read {
                    prop_assert_eq!(value, &values[name]);
                }
            }
        }
    }

    #[test]
    fn a_pinned_tenant_is_the_only_one_whose_subjects_match(
        at in 0..Preset::all().len(), form in 0..8_usize, cut in 0..80_usize,
        given in prop::collection::vec("[a-z0-9-]{1,6}", 8), other in prop::collection::vec("[a-z0-9-]{1,6}", 8),
    ) {
        let preset = &Preset::all()[at];
        let form = &preset.forms[form % preset.forms.len()];
        let subject = |given: &[String]| {
            let fit = |part: &SubjectPart, value: &String| match part.values.first() {
                Some(first) => first.replace('*', "x"),
                None if part.name.ends_with("_id") => value.bytes().map(|byte| char::from(b'0' + byte % 10)).collect(),
                None => value.clone(),
            };
            let values = form.parts.iter().zip(given).map(|(part, value)| (part.name.clone(), fit(part, value))).collect();
            preset.build_subject_of(Some(&form.id), &values)
        };
        if let (Ok(own), Ok(foreign)) = (subject(&given), subject(&other)) {
            let Some(beginning) = own.as_str().get(..cut.min(own.as_str().len())) else { return Ok(()) };
            let pattern = pattern(&format!("{beginning}*"));
            let tenant = |subject: &str| -> Vec<(String, String)> {
                let tenants = form.parts.iter().filter(|part| part.tenant).map(|part| part.name.as_str()).collect::<Vec<_>>();
                let read = form.read(subject).unwrap();
                let own = read.into_iter().filter(|(name, _)| tenants.contains(name));
                own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            };
            if preset.tenant_pin(&pattern) > NotPinned && pattern.compile().accepts(foreign.as_str()) {
                let (own, foreign) = (tenant(own.as_str()), tenant(foreign.as_str()));
                prop_assert!(own.iter().any(|part| foreign.contains(part)), "{}", pattern);
            }
        }
    }
}

#[test]
fn s27_what_the_url_tells_cannot_be_chosen_away() {
    let mut github = crate::trust::policy::tests::trusted_issuer("https://token.actions.githubusercontent.com").settings;
    github.preset = Some("kubernetes".parse().unwrap());
    assert_eq!(github.known_preset().unwrap().id.as_str(), "github-actions");
    let mut own = crate::trust::policy::tests::trusted_issuer("https://cluster.example").settings;
    assert_eq!(own.known_preset(), None);
    own.preset = Some("kubernetes".parse().unwrap());
    assert_eq!(own.known_preset().unwrap().id.as_str(), "kubernetes");
}
