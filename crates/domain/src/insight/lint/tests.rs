mod provider;

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::trust::claim_condition::{ClaimCondition, ClaimConditionDraft};
use crate::trust::trusted_issuer::TrustedIssuerDraft;
use crate::values::grant::Grant;
use crate::values::issuer_url::LoopbackHttp;

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(super) fn deployment() -> DeploymentAudience {
    DeploymentAudience::new(&"https://countersign.example".parse().unwrap()).unwrap()
}

pub(super) fn issuer(url: &str) -> TrustedIssuerSettings {
    let draft = TrustedIssuerDraft { issuer_url: url.to_owned(), ..TrustedIssuerDraft::default() };
    let mut violations = Violations::new();
    TrustedIssuerSettings::create(&draft, LoopbackHttp::Refused, &mut violations).ok_or(violations).unwrap()
}

/// Nothing to say of it but of its subjects.
pub(super) fn relationship(subjects: &[&str]) -> TrustRelationshipSettings {
    TrustRelationshipSettings {
        display_name: None,
        key: None,
        subject_matches: subjects.iter().map(|subject| subject.parse().unwrap()).collect(),
        claim_conditions: Vec::new(),
        cel_condition: None,
        attribute_mapping: std::collections::BTreeMap::new(),
        subject_audiences: Vec::new(),
        access_token_audiences: Vec::new(),
        scopes: vec!["deploy".parse().unwrap()],
        grants: Vec::new(),
        token_duration: Duration::from_hours(1),
        expires_at: Timestamp::from_second(1_900_000_000).ok(),
        enabled: true,
    }
}

fn condition(json: Value) -> ClaimCondition {
    serde_json::from_value::<ClaimConditionDraft>(json).unwrap().try_into().unwrap()
}

fn with(subjects: &[&str], conditions: &[Value]) -> TrustRelationshipSettings {
    let claim_conditions = conditions.iter().cloned().map(condition).collect();
    TrustRelationshipSettings { claim_conditions, ..relationship(subjects) }
}

fn id(number: usize) -> TrustRelationshipId {
    TrustRelationshipId::from_random([u8::try_from(number).unwrap(); 16])
}

fn found_beside(
    relationship: &TrustRelationshipSettings,
    issuer: &TrustedIssuerSettings,
    others: &[TrustRelationshipSettings],
) -> Vec<Finding> {
    let ids: Vec<TrustRelationshipId> = (0..others.len()).map(id).collect();
    let others: Vec<_> = ids.iter().zip(others).collect();
    let deployment = deployment();
    let preset = issuer.known_preset();
    lint(&LintInput {
        relationship,
        issuer,
        preset,
        is_own_issuer: issuer.issuer_url.as_str().starts_with("https://own.example/"),
        others: &others,
        deployment: &deployment,
        now: now(),
    })
}

#[test]
fn s69_a_reserved_scope_behind_an_issuer_of_this_deployment_is_found() {
    let mut relationship = relationship(&["org:my-org:vault:deploy"]);
    relationship.scopes =
        ["deploy", "countersign:signing_keys.revoke", "countersign:audit_events.list"].map(|scope| scope.parse().unwrap()).into();
    let findings = found(&relationship, "https://own.example/rwx");
    let rule = Rule::ReservedScopeBehindOwnIssuer;
    assert_eq!(told(&findings), [(Warning, rule, "scopes[1]"), (Warning, rule, "scopes[2]")]);
    assert!(findings[0].risk.contains("`countersign:signing_keys.revoke`"), "{}", findings[0].risk);
    assert_eq!(found(&relationship, "https://idp.example"), []);
}

#[test]
fn s27_what_a_change_of_the_issuer_causes_is_told_from_what_was_there_before() {
    let deployment = deployment();
    let pool = |audiences: &[&str]| TrustedIssuerSettings {
        subject_audiences: audiences.iter().map(|audience| audience.parse().unwrap()).collect(),
        ..issuer("https://cognito-identity.amazonaws.com")
    };
    let relationship = relationship(&["eu-west-1:*"]);
    let caused_by = |new: &TrustedIssuerSettings, former: &TrustedIssuerSettings| {
        let preset = new.known_preset();
        let input = LintInput {
            relationship: &relationship,
            issuer: new,
            preset,
            is_own_issuer: false,
            others: &[],
            deployment: &deployment,
            now: now(),
        };
        caused(&input, former).iter().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    let (pinned, cleared) = (pool(&["eu-west-1:1a2b3c4d-5e6f-4708-9a1b-2c3d4e5f6071"]), pool(&[]));
    assert!(caused_by(&cleared, &pinned).contains(&Rule::TenantNotPinned));
    assert_eq!(caused_by(&cleared, &cleared), []);
    assert!(!caused_by(&pinned, &cleared).contains(&Rule::TenantNotPinned));
}

fn found(relationship: &TrustRelationshipSettings, url: &str) -> Vec<Finding> {
    found_beside(relationship, &issuer(url), &[])
}

/// Severity, rule and field of each.
fn told(findings: &[Finding]) -> Vec<(Severity, Rule, &str)> {
    let told = findings.iter().map(|finding| {
        assert!(!finding.risk.is_empty() && !finding.fix.is_empty());
        (finding.severity, finding.rule, finding.field.strip_prefix("trust_relationship.").unwrap())
    });
    told.collect()
}

/// Of an issuer that nothing is known of.
fn check(relationship: &TrustRelationshipSettings, expected: &[(Severity, Rule, &str)]) {
    let findings = found(relationship, "https://idp.example");
    assert_eq!(told(&findings), expected, "{:?} {:?}", relationship.subject_matches, relationship.claim_conditions);
}

use Severity::{Advice, Error, Warning};

const FIRST: &str = "subject_matches[0]";

#[test]
fn ids_are_unique_lower_case_with_hyphens() {
    let ids: std::collections::BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
    assert_eq!(ids.len(), Rule::ALL.len());
    assert!(ids.iter().all(|id| id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
}

#[test]
fn what_is_written_out_is_clean() {
    for subject in ["org:my-org:vault:deploy-vault", "org:my-org:vault:*", "arn:aws:iam::123456789012:role/*", "a"] {
        check(&relationship(&[subject]), &[]);
    }
}

#[test]
fn s22_wildcards_that_accept_more_than_a_part_are_found() {
    for (subject, rules) in [
        ("org:my-org*", &[Rule::WildcardWithinName][..]),
        ("org:my-org-*", &[Rule::WildcardWithinName]),
        ("org:my-org:vault:*-production", &[Rule::WildcardWithinName]),
        ("a:*:b", &[Rule::WildcardSpansDelimiters]),
        ("org:my-org/**/b", &[Rule::WildcardSpansDelimiters]),
        ("*:stack:infra:*", &[Rule::LeadingWildcard]),
        ("*a:*:b", &[Rule::LeadingWildcard, Rule::WildcardWithinName, Rule::WildcardSpansDelimiters]),
    ] {
        let expected: Vec<_> = rules.iter().map(|rule| (Warning, *rule, FIRST)).collect();
        check(&relationship(&[subject]), &expected);
    }
    let glob =
        with(&["a"], &[json!({"claim": "name", "glob": "my-org*"}), json!({"claim": "name", "glob": "my-*", "negated": true})]);
    check(&glob, &[(Advice, Rule::WildcardWithinName, "claim_conditions[0]")]);
}

#[test]
fn s22_a_bare_wildcard_is_an_error_unless_conditions_say_who_is_meant() {
    check(&relationship(&["a", "**"]), &[(Error, Rule::BareWildcard, "subject_matches[1]")]);
    check(&with(&["*"], &[json!({"claim": "c", "exists": true})]), &[(Error, Rule::BareWildcard, FIRST)]);
    check(&with(&["*"], &[json!({"claim": "c", "equals": "a"})]), &[(Warning, Rule::BareWildcard, FIRST)]);
}

#[test]
fn s26_conditions_of_another_type_than_the_claim_are_errors() {
    for condition in [
        json!({"claim": "exp", "equals": "1800000000"}),
        json!({"claim": "/exp", "glob": "18:*"}),
        json!({"claim": "sub", "one_of": [1, 2]}),
        json!({"claim": "jti", "contains": "a", "negated": true}),
    ] {
        check(&with(&["a"], &[condition]), &[(Error, Rule::ConditionTypeMismatch, "claim_conditions[0]")]);
    }
    for condition in [
        json!({"claim": "exp", "exists": true}),
        json!({"claim": "iat", "one_of": [1]}),
        json!({"claim": "aud", "contains": "a"}),
        json!({"claim": "aud", "equals": "a"}),
        json!({"claim": "name", "equals": 1}),
    ] {
        check(&with(&["a"], &[condition]), &[]);
    }
}

#[test]
fn a_claim_that_looks_nested_is_advised_to_be_a_pointer() {
    let findings = found(&with(&["a"], &[json!({"claim": "app.team", "equals": "a"})]), "https://idp.example");
    assert_eq!(told(&findings), [(Advice, Rule::UnknownClaim, "claim_conditions[0]")]);
    assert!(findings[0].fix.contains("`/app/team`"), "{}", findings[0].fix);
    check(&with(&["a"], &[json!({"claim": "https://app.example/team", "equals": "a"})]), &[]);
}

#[test]
fn s25_cel_that_compares_by_inequality_is_told_of_other_types() {
    let relationship = TrustRelationshipSettings {
        cel_condition: Some("assertion.groups != 'admin' && assertion.team == 'a'".parse().unwrap()),
        attribute_mapping: [("odd".parse().unwrap(), "assertion.team != 'b'".parse().unwrap())].into(),
        ..relationship(&["a"])
    };
    check(
        &relationship,
        &[(Advice, Rule::CelInequality, "cel_condition"), (Advice, Rule::CelInequality, "attribute_mapping[odd]")],
    );
}

#[test]
fn grants_of_everything_are_told() {
    let grant = |resource_id: &str, action: &str| Grant {
        resource_type: "vault".to_owned(),
        resource_id: resource_id.to_owned(),
        actions: vec!["list".to_owned(), action.to_owned()],
    };
    let relationship = TrustRelationshipSettings {
        grants: vec![grant("a", "read"), grant("*", "read"), grant("a*", "*")],
        ..relationship(&["a"])
    };
    check(
        &relationship,
        &[(Advice, Rule::GrantOfEverything, "grants[1].resource_id"), (Advice, Rule::GrantOfEverything, "grants[2].actions[1]")],
    );
}

#[test]
fn an_end_that_is_missing_or_past_is_told() {
    let ending = |expires_at| TrustRelationshipSettings { expires_at, ..relationship(&["a"]) };
    check(&ending(None), &[(Advice, Rule::NeverExpires, "expire_time")]);
    check(&ending(Some(now())), &[(Warning, Rule::Expired, "expire_time")]);
    check(&ending(now().checked_add(Duration::from_secs(1)).ok()), &[]);
}

#[test]
fn audiences_of_others_are_told() {
    let accepting = |audiences: &[&str]| TrustRelationshipSettings {
        subject_audiences: audiences.iter().map(|audience| audience.parse().unwrap()).collect(),
        ..relationship(&["a"])
    };
    check(&accepting(&["sts.amazonaws.com"]), &[(Advice, Rule::AudienceOfOthers, "subject_audiences")]);
    check(&accepting(&["countersign.example"]), &[]);
    let sharing =
        TrustedIssuerSettings { subject_audiences: vec!["sts.amazonaws.com".parse().unwrap()], ..issuer("https://idp.example") };
    let findings = found_beside(&relationship(&["a"]), &sharing, &[]);
    assert_eq!(told(&findings), [(Advice, Rule::AudienceOfOthers, "subject_audiences")]);
}

#[test]
fn overlap_is_told_of_live_relationships_both_ways() {
    let this = relationship(&["org:a:*"]);
    let wider = relationship(&["org:*"]);
    let narrower = relationship(&["org:a:b"]);
    let beside = relationship(&["org:b:*"]);
    let disabled = TrustRelationshipSettings { enabled: false, ..this.clone() };
    let ended = TrustRelationshipSettings { expires_at: Some(now()), ..this.clone() };
    let issuer = issuer("https://idp.example");
    let risks = |relationship: &TrustRelationshipSettings, others: &[TrustRelationshipSettings]| {
        let findings = found_beside(relationship, &issuer, others);
        assert!(findings.iter().all(|finding| (finding.rule, finding.severity) == (Rule::Overlap, Advice)), "{findings:?}");
        findings.into_iter().map(|finding| finding.risk).collect::<Vec<_>>()
    };
    let told = risks(&this, &[wider, narrower, beside, disabled.clone(), ended, this.clone()]);
    let expected =
        [(0, "accepts every token that this one accepts"), (1, "this one accepts every token"), (5, "the same tokens")];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (risk, (number, text)) in told.iter().zip(expected) {
        assert!(risk.contains(id(number).as_str()) && risk.contains(text), "{risk}");
    }
    assert_eq!(risks(&disabled, std::slice::from_ref(&this)), [""; 0]);
}

#[test]
fn many_others_are_told_of_in_part() {
    let many = vec![relationship(&["a"]); 50];
    let findings = found_beside(&relationship(&["a"]), &issuer("https://idp.example"), &many);
    assert_eq!(findings.len(), 8);
}

#[test]
fn the_worst_comes_first_and_refuses() {
    let relationship = TrustRelationshipSettings { expires_at: None, ..relationship(&["org:my-org*", "*"]) };
    let findings = found(&relationship, "https://idp.example");
    assert_eq!(findings.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [Error, Warning, Advice]);
    let fields = |strict| refusing(&findings, strict).iter().map(|violation| violation.field.clone()).collect::<Vec<_>>();
    assert_eq!(fields(false), ["trust_relationship.subject_matches[1]"]);
    assert_eq!(fields(true), ["trust_relationship.subject_matches[1]", "trust_relationship.subject_matches[0]"]);
}

fn any_condition() -> impl Strategy<Value = Option<ClaimCondition>> {
    let claim =
        prop_oneof![Just("sub"), Just("repository_owner_id"), Just("kubernetes.io.namespace"), Just("/kubernetes.io/pod/name")];
    let test = prop_oneof![
        "[a-z:*/]{1,8}".prop_map(|text| json!({"glob": text})),
        any::<i64>().prop_map(|number| json!({"equals": number})),
        "[a-z]{1,4}".prop_map(|text| json!({"contains": text})),
        Just(json!({"exists": true})),
        Just(json!({"one_of": [true, false]})),
    ];
    (claim, test, any::<bool>()).prop_map(|(claim, mut test, negated)| {
        test["claim"] = json!(claim);
        test["negated"] = json!(negated);
        serde_json::from_value::<ClaimConditionDraft>(test).ok()?.try_into().ok()
    })
}

proptest! {
    #[test]
    fn no_settings_panic_and_the_worst_comes_first(
        subjects in proptest::collection::vec("(repo|org|a|é|\\*|:|/|@|\\.|-){1,12}", 1..4),
        conditions in proptest::collection::vec(any_condition(), 0..4),
        audiences in proptest::collection::vec("[a-z.]{1,12}", 0..3),
        url in prop_oneof![
            Just("https://token.actions.githubusercontent.com"),
            Just("https://cloud.rwx.com/mint"),
            Just("https://cognito-identity.amazonaws.com"),
            Just("https://idp.example"),
        ],
    ) {
        let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
        let settings = TrustRelationshipSettings {
            claim_conditions: conditions.into_iter().flatten().collect(),
            subject_audiences: audiences.iter().map(|audience| audience.parse().unwrap()).collect(),
            ..relationship(&subjects)
        };
        let findings = found_beside(&settings, &issuer(url), std::slice::from_ref(&settings));
        prop_assert!(findings.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)));
        prop_assert!(findings.iter().any(|finding| finding.rule == Rule::Overlap), "it is its own twin");
    }
}
