//! Issuers of which something is known.

use super::*;

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const GITLAB: &str = "https://gitlab.com";
const RWX: &str = "https://cloud.rwx.com/mint";
const BUILDKITE: &str = "https://agent.buildkite.com";
const COGNITO: &str = "https://cognito-identity.amazonaws.com";
const SPACELIFT: &str = "https://example.app.spacelift.io";

const NO_STEP: &str = "organization:acme:pipeline:app:ref:refs/heads/main";

fn check_of(url: &str, relationship: &TrustRelationshipSettings, expected: &[(Severity, Rule, &str)]) {
    let findings = found(relationship, url);
    assert_eq!(told(&findings), expected, "{:?} {:?}", relationship.subject_matches, relationship.claim_conditions);
}

fn owner() -> Value {
    json!({"claim": "repository_owner_id", "equals": "65"})
}

/// The issuer with an audience of its own, and the preset it may have been given.
fn accepting(url: &str, audience: &str, preset: Option<&str>) -> TrustedIssuerSettings {
    TrustedIssuerSettings {
        subject_audiences: vec![audience.parse().unwrap()],
        preset: preset.map(|preset| preset.parse().unwrap()),
        ..issuer(url)
    }
}

#[test]
fn s27_a_shared_issuer_without_tenant_is_an_error() {
    for (url, subject) in [
        (GITHUB, "repo:octo-*/app:ref:refs/heads/main"),
        (GITHUB, "repo:*"),
        (GITHUB, "repo:*:ref:refs/heads/main"),
        (GITHUB, "*:ref:refs/heads/main"),
        (GITLAB, "project_path:*/deploy:ref_type:branch:ref:main"),
        (RWX, "org:*"),
        (RWX, "org:my-org*"),
        (RWX, "org:*:vault:deploy-vault"),
        (BUILDKITE, "organization:acme*"),
    ] {
        let findings = found(&relationship(&[subject]), url);
        let first = findings.first().map(|finding| (finding.severity, finding.rule, finding.field.as_str()));
        assert_eq!(first, Some((Error, Rule::TenantNotPinned, "trust_relationship.subject_matches[0]")), "{subject}");
    }
    // Each subject match counts: the next door is open.
    let findings = found(&relationship(&["repo:octo-org@65/app@74:ref:refs/heads/main", "repo:*"]), GITHUB);
    assert_eq!(told(&findings)[0], (Error, Rule::TenantNotPinned, "subject_matches[1]"));
}

#[test]
fn s27_what_pins_the_tenant_for_ever_is_clean() {
    check_of(GITHUB, &relationship(&["repo:octo-org@65/app@74:ref:refs/heads/main"]), &[]);
    check_of(GITHUB, &with(&["repo:octo-org@65/*"], &[]), &[]);
    check_of(
        GITLAB,
        &with(&["project_path:g/p:ref_type:branch:ref:main"], &[json!({"claim": "namespace_id", "equals": "72"})]),
        &[],
    );
    check_of(GITHUB, &with(&["*"], &[owner()]), &[(Advice, Rule::BareWildcard, FIRST)]);
}

#[test]
fn s27_a_recyclable_name_alone_is_a_warning() {
    check_of(RWX, &relationship(&["org:my-org:vault:*"]), &[(Warning, Rule::RecyclableTenant, FIRST)]);
    let names = "project_path:my-group/my-project:ref_type:branch:ref:main";
    check_of(GITLAB, &relationship(&[names]), &[(Warning, Rule::RecyclableTenant, FIRST)]);
    let by_claim = with(&["*"], &[json!({"claim": "repository", "glob": "octo-org/*"})]);
    check_of(GITHUB, &by_claim, &[(Warning, Rule::BareWildcard, FIRST), (Warning, Rule::RecyclableTenant, FIRST)]);
}

#[test]
fn s27_a_subject_of_named_claims_pins_the_tenant_that_it_names() {
    let error = |subject: &str| found(&relationship(&[subject]), GITHUB).iter().any(|finding| finding.severity == Error);
    for (subject, is_open) in [
        ("repository_owner_id:65:job_workflow_ref:octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main", false),
        ("repository_owner_id:65:*", false),
        ("repository_owner_id:65*", true),
        ("repository_owner_id:*", true),
        ("environment:production", true),
        ("environment:repository_owner_id:*", true),
    ] {
        assert_eq!(error(subject), is_open, "{subject}");
    }
}

#[test]
fn s27_the_subjects_of_sample_tokens_are_no_errors() {
    let presets = Preset::all().iter().filter(|preset| !preset.samples.is_empty());
    let mut linted = 0;
    for (preset, sample) in presets.flat_map(|preset| preset.samples.iter().map(move |sample| (preset, sample))) {
        let text = |claim: &str| sample[claim].as_str().or_else(|| sample[claim][0].as_str()).unwrap();
        let issuer = accepting(text("iss"), text("aud"), Some(preset.id.as_str()));
        let findings = found_beside(&relationship(&[text("sub")]), &issuer, &[]);
        assert!(findings.iter().all(|finding| finding.severity < Error), "{}: {findings:?}", text("sub"));
        linted += 1;
    }
    assert!(linted >= 15, "{linted}");
}

#[test]
fn s27_conditions_that_name_no_tenant_pin_none() {
    for condition in [
        json!({"claim": "repository_owner_id", "equals": "65", "negated": true}),
        json!({"claim": "repository_owner_id", "exists": true}),
        json!({"claim": "repository", "glob": "octo-*"}),
        json!({"claim": "repository", "glob": "*/deploy"}),
        json!({"claim": "ref", "equals": "refs/heads/main"}),
    ] {
        let findings = found(&with(&["repo:*"], std::slice::from_ref(&condition)), GITHUB);
        assert_eq!(findings[0].rule, Rule::TenantNotPinned, "{condition}");
    }
    let subject = |test: &str, value: Value| with(&["org:*"], &[json!({"claim": "sub", test: value})]);
    for (relationship, is_error) in [
        (subject("glob", json!("org:my-org:*")), false),
        (subject("one_of", json!(["org:my-org:vault:a", "org:my-org:vault:b"])), false),
        (subject("glob", json!("org:*")), true),
        (subject("equals", json!("somebody")), true),
    ] {
        let errors = found(&relationship, RWX).iter().filter(|finding| finding.severity == Error).count();
        assert_eq!(errors > 0, is_error, "{:?}", relationship.claim_conditions);
    }
    // What CEL asks for is not read.
    let cel = TrustRelationshipSettings {
        cel_condition: Some("assertion.repository_owner_id == '65'".parse().unwrap()),
        ..relationship(&["repo:*"])
    };
    assert_eq!(found(&cel, GITHUB)[0].rule, Rule::TenantNotPinned);
}

#[test]
fn s27_the_audience_is_the_tenant_of_cognito() {
    let relationship = relationship(&["eu-west-1:*"]);
    let pool = accepting(COGNITO, "eu-west-1:1a2b3c4d-5e6f-4708-9a1b-2c3d4e5f6071", None);
    assert_eq!(told(&found_beside(&relationship, &pool, &[])), []);
    let expected = [(Error, Rule::AudienceCannotMatch, "subject_audiences"), (Error, Rule::TenantNotPinned, FIRST)];
    check_of(COGNITO, &relationship, &expected);
}

#[test]
fn s27_an_installation_of_ones_own_is_warned_of() {
    let own = accepting("https://gitlab.example", "https://countersign.example", Some("gitlab"));
    let findings = found_beside(&relationship(&["project_path:*"]), &own, &[]);
    assert_eq!(told(&findings), [(Warning, Rule::TenantNotPinned, FIRST)]);
}

#[test]
fn s19_an_issuer_whose_audience_is_fixed_is_accepted_with_that_alone() {
    let subject = "space:legacy:stack:infra:run_type:TRACKED:scope:write";
    check_of(SPACELIFT, &relationship(&[subject]), &[(Error, Rule::AudienceCannotMatch, "subject_audiences")]);
    let accepting = accepting(SPACELIFT, "example.app.spacelift.io", None);
    assert_eq!(told(&found_beside(&relationship(&[subject]), &accepting, &[])), []);
    // The issuer's own documentation begins patterns so.
    let documented = found_beside(&relationship(&["*:stack:infra:*"]), &accepting, &[]);
    assert_eq!(told(&documented), [(Advice, Rule::LeadingWildcard, FIRST)]);
}

#[test]
fn a_pattern_that_no_subject_of_the_issuer_can_match_is_an_error() {
    for (url, subject) in [
        (BUILDKITE, NO_STEP),
        (GITHUB, "org:octo-org/octo-repo:ref:refs/heads/main"),
        (GITHUB, "repo:octo-org:ref:refs/heads/main"),
        (RWX, "org:my-org"),
        (RWX, "org:my-org:vaults:*"),
        (GITLAB, "project_path:my-group:ref_type:branch:ref:main"),
        (SPACELIFT, "space:legacy:stack:infra:run_type:tracked:scope:write"),
    ] {
        let findings = found(&relationship(&[subject]), url);
        let errors: Vec<_> = findings.iter().filter(|finding| finding.rule == Rule::SubjectCannotMatch).collect();
        assert!(matches!(errors.as_slice(), [error] if error.severity == Error), "{subject}: {findings:?}");
    }
    let ending = format!("{NO_STEP}:*");
    let pinned = with(&[&ending], &[json!({"claim": "organization_id", "equals": "0184990a-477b-4fa8-9968-496074483cec"})]);
    check_of(BUILDKITE, &pinned, &[]);
}

#[test]
fn s22_forms_that_the_issuer_is_leaving_are_told() {
    let names = "repo:octo-org/octo-repo:ref:refs/heads/main";
    let findings = found(&with(&[names], &[owner()]), GITHUB);
    assert_eq!(told(&findings), [(Advice, Rule::LeavingSubjectForm, FIRST)]);
    assert!(findings[0].risk.contains("2026-07-15") && findings[0].fix.contains("repo:owner@id/repo@id"), "{findings:?}");
    let names = with(&["repo:octo-org/*"], &[owner()]);
    check_of(GITHUB, &names, &[(Advice, Rule::LeavingSubjectForm, FIRST)]);
    let mint = relationship(&["mint:0f8c2f64-5a0e-4f57-9b1c-6f0a3d2e1b4c:deploy-vault"]);
    check_of(RWX, &mint, &[(Advice, Rule::LeavingSubjectForm, FIRST)]);
}

#[test]
fn a_pattern_that_accepts_an_old_form_and_the_new_one_is_warned_of() {
    let meshstack = accepting("https://meshstack.example", "https://countersign.example", Some("meshstack"));
    let told_of = |subject: &str| {
        let findings = found_beside(&relationship(&[subject]), &meshstack, &[]);
        findings.iter().map(|finding| (finding.severity, finding.rule)).collect::<Vec<_>>()
    };
    assert_eq!(told_of("system:serviceaccount:my-mesh:*"), [(Warning, Rule::SeveralSubjectForms)]);
    assert_eq!(told_of("system:serviceaccount:my-mesh:my-runner"), [(Advice, Rule::LeavingSubjectForm)]);
    let fine = "system:serviceaccount:my-mesh:workspace.my-workspace.buildingblockdefinition.*";
    assert_eq!(told_of(fine), [(Advice, Rule::WildcardWithinName)]);
}

#[test]
fn s26_ids_that_are_sent_as_text_are_not_numbers() {
    let number = with(&["repo:octo-org@65/*"], &[json!({"claim": "repository_owner_id", "equals": 65})]);
    let findings = found(&number, GITHUB);
    assert_eq!(told(&findings), [(Error, Rule::ConditionTypeMismatch, "claim_conditions[0]")]);
    assert!(findings[0].fix.contains("as text"), "{}", findings[0].fix);
    for (claim, test, fix) in [
        ("runner_id", json!({"equals": "1"}), "without quotes"),
        ("groups_direct", json!({"equals": "my-group"}), "`contains`"),
        ("ref", json!({"contains": "main"}), "`equals`"),
    ] {
        let mut condition = test.clone();
        condition["claim"] = json!(claim);
        let pinned = json!({"claim": "namespace_id", "equals": "72"});
        let findings = found(&with(&["project_path:g/*"], &[pinned, condition]), GITLAB);
        assert_eq!(told(&findings), [(Error, Rule::ConditionTypeMismatch, "claim_conditions[1]")]);
        assert!(findings[0].fix.contains(fix), "{}", findings[0].fix);
    }
}

#[test]
fn s23_claims_that_the_issuers_tokens_do_not_have_are_told() {
    let findings = found(&with(&["repo:octo-org@65/*"], &[json!({"claim": "Repository", "equals": "a"})]), GITHUB);
    assert_eq!(told(&findings), [(Advice, Rule::UnknownClaim, "claim_conditions[0]")]);
    assert_eq!(findings[0].fix, "write `repository`");
    let cel = TrustRelationshipSettings {
        cel_condition: Some("assertion.branch == 'main' && has(assertion.ref)".parse().unwrap()),
        ..relationship(&["repo:octo-org@65/*"])
    };
    check_of(GITHUB, &cel, &[(Advice, Rule::UnknownClaim, "cel_condition")]);
}

#[test]
fn a_nested_claim_written_with_dots_is_advised_to_be_a_pointer() {
    let cluster = accepting("https://cluster.example", "https://countersign.example", Some("kubernetes"));
    let named = |claim: &str| with(&["system:serviceaccount:deploy:runner"], &[json!({"claim": claim, "equals": "deploy"})]);
    let findings = found_beside(&named("kubernetes.io.namespace"), &cluster, &[]);
    assert_eq!(told(&findings), [(Advice, Rule::UnknownClaim, "claim_conditions[0]")]);
    assert_eq!(findings[0].fix, "write `/kubernetes.io/namespace`");
    assert_eq!(told(&found_beside(&named("/kubernetes.io/namespace"), &cluster, &[])), []);
    let whole = found_beside(&named("kubernetes.io"), &cluster, &[]);
    assert_eq!(told(&whole), [(Error, Rule::ConditionTypeMismatch, "claim_conditions[0]")]);
    assert_eq!(whole[0].fix, "name a member of it: `/kubernetes.io/…`");
}

/// What the providers themselves tell their customers to write, with the placeholders filled in.
#[test]
fn s27_the_providers_own_examples_get_advice_and_no_error() {
    let gateway = "https://countersign.example";
    let sts = "https://9f8c1d2e-4b5a-4c6d-8e7f-0a1b2c3d4e5f.tokens.sts.global.api.aws";
    for (issuer, subject, accepted) in [
        (issuer(RWX), "org:my-org:vault:deploy-vault", "org:my-org:vault:deploy-vault"),
        (issuer(RWX), "org:my-org:vault:*", "org:my-org:vault:deploy-vault"),
        (issuer(sts), "arn:aws:iam::123456789012:role/deploy", "arn:aws:iam::123456789012:role/deploy"),
        (issuer(sts), "arn:aws:iam::123456789012:role/*", "arn:aws:iam::123456789012:role/path/deploy"),
        (
            accepting("https://meshstack.example", gateway, Some("meshstack")),
            "system:serviceaccount:my-mesh:my-runner",
            "system:serviceaccount:my-mesh:my-runner",
        ),
        (
            accepting("https://meshstack.example", gateway, Some("meshstack")),
            "system:serviceaccount:my-mesh:workspace.w.buildingblockdefinition.4b8c2d1e-7f3a-4960-8e5d-0a9c6b3f1e27",
            "system:serviceaccount:my-mesh:workspace.w.buildingblockdefinition.4b8c2d1e-7f3a-4960-8e5d-0a9c6b3f1e27",
        ),
        (
            accepting("https://demo.app.spacelift.io", "demo.app.spacelift.io", None),
            "space:legacy:stack:azure-oidc-test:run_type:PROPOSED:scope:read",
            "space:legacy:stack:azure-oidc-test:run_type:PROPOSED:scope:read",
        ),
    ] {
        let relationship = TrustRelationshipSettings { expires_at: None, ..relationship(&[subject]) };
        assert!(relationship.subject_matches[0].compile().accepts(accepted));
        let findings = found_beside(&relationship, &issuer, &[]);
        assert!(findings.iter().all(|finding| finding.severity < Error), "{subject}: {findings:?}");
        assert!(findings.iter().any(|finding| finding.severity == Advice), "{subject}");
    }
}
