use super::*;
use crate::access::permission::Permission;
use crate::trust::claim_condition::ClaimConditionDraft;
use crate::trust::trusted_issuer::TrustedIssuerDraft;
use crate::values::draft::Unreadable;
use crate::values::issuer_url::LoopbackHttp;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn draft() -> TrustRelationshipDraft {
    TrustRelationshipDraft {
        subject_matches: vec!["org:my-org:vault:deploy-vault".to_owned()],
        scopes: vec!["deploy".to_owned()],
        ..TrustRelationshipDraft::default()
    }
}

fn created(draft: &TrustRelationshipDraft) -> Result<TrustRelationshipSettings, Violations> {
    let mut violations = Violations::new();
    let settings = TrustRelationshipSettings::create(draft, now(), &mut violations);
    assert_eq!(settings.is_none(), !violations.is_empty());
    settings.ok_or(violations)
}

fn fields(violations: &Violations) -> Vec<&str> {
    violations.iter().map(|violation| violation.field.as_str()).collect()
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let settings = created(&draft()).unwrap();
    assert_eq!(settings.token_duration, Duration::from_hours(1));
    assert_eq!(settings.expires_at, None);
    assert!(settings.enabled);
}

#[test]
fn giving_nothing_is_reported_beside_the_other_violations() {
    let violations = created(&TrustRelationshipDraft {
        subject_matches: vec![String::new()],
        scopes: Vec::new(),
        ..TrustRelationshipDraft::default()
    });
    let expected = ["trust_relationship.subject_matches[0]", "trust_relationship.grants"];
    assert_eq!(fields(&violations.unwrap_err()), expected);
}

#[test]
fn s18_a_bare_wildcard_is_reported_beside_the_other_violations() {
    let violations = created(&TrustRelationshipDraft {
        subject_matches: vec!["a".to_owned(), "*".to_owned()],
        token_duration: Some(Ok(Duration::from_secs(59))),
        ..draft()
    });
    let expected = ["trust_relationship.token_duration", "trust_relationship.subject_matches[1]"];
    assert_eq!(fields(&violations.unwrap_err()), expected);
}

#[test]
fn every_violation_is_reported_at_once() {
    let violations = created(&TrustRelationshipDraft {
        display_name: "x".repeat(101),
        key: "tr_key".to_owned(),
        claim_conditions: vec![ClaimConditionDraft { claim: "c".to_owned(), ..ClaimConditionDraft::default() }],
        cel_condition: "assertion".to_owned(),
        attribute_mapping: BTreeMap::from([
            ("sub".to_owned(), "assertion.sub".to_owned()),
            ("team".to_owned(), "1 +".to_owned()),
        ]),
        subject_matches: vec![String::new(), "a".to_owned(), "a".to_owned()],
        subject_audiences: vec![String::new()],
        access_token_audiences: vec!["a\nb".to_owned()],
        scopes: vec!["a b".to_owned()],
        grants: vec![Grant { resource_type: String::new(), resource_id: "*".to_owned(), actions: Vec::new() }],
        token_duration: Some(Ok(Duration::from_secs(59))),
        expires_at: Some(Ok(now())),
        enabled: true,
    })
    .unwrap_err();
    assert_eq!(
        fields(&violations),
        [
            "trust_relationship.display_name",
            "trust_relationship.key",
            "trust_relationship.subject_matches[0]",
            "trust_relationship.subject_matches[2]",
            "trust_relationship.claim_conditions[0]",
            "trust_relationship.cel_condition",
            "trust_relationship.attribute_mapping.keys[0]",
            "trust_relationship.attribute_mapping[team]",
            "trust_relationship.subject_audiences[0]",
            "trust_relationship.access_token_audiences[0]",
            "trust_relationship.scopes[0]",
            "trust_relationship.grants[0].resource_type",
            "trust_relationship.grants[0].actions",
            "trust_relationship.token_duration",
            "trust_relationship.expire_time",
        ]
    );
}

#[test]
fn s18_a_relationship_without_a_subject_match_cannot_be_saved() {
    let none = TrustRelationshipDraft { subject_matches: Vec::new(), ..draft() };
    assert_eq!(fields(&created(&none).unwrap_err()), ["trust_relationship.subject_matches"]);
    for bare in ["*", "**", "***", ""] {
        let bare = TrustRelationshipDraft { subject_matches: vec![bare.to_owned()], ..draft() };
        assert_eq!(fields(&created(&bare).unwrap_err()), ["trust_relationship.subject_matches[0]"]);
    }
    // A condition that says whose tokens are meant stands in place of a subject; one that only says more does not.
    let pinned = |condition: &str| TrustRelationshipDraft {
        subject_matches: vec!["*".to_owned()],
        claim_conditions: vec![serde_json::from_str(condition).unwrap()],
        ..draft()
    };
    assert!(created(&pinned(r#"{"claim": "repository_owner_id", "equals": "1"}"#)).is_ok());
    for other in [r#"{"claim": "ref_protected", "equals": true}"#, r#"{"claim": "ref", "equals": "x", "negated": true}"#] {
        assert_eq!(fields(&created(&pinned(other)).unwrap_err()), ["trust_relationship.subject_matches[0]"]);
    }
    let mut violations = Violations::new();
    let bare = created(&pinned(r#"{"claim": "repository_owner_id", "equals": "1"}"#)).unwrap();
    let _ = bare.update(&draft(), &["claim_conditions".to_owned()], now(), &mut violations);
    assert_eq!(fields(&violations), ["trust_relationship.subject_matches[0]"]);

    let before = created(&draft()).unwrap();
    let mut violations = Violations::new();
    let emptied = TrustRelationshipDraft::default();
    let _ = before.update(&emptied, &["subject_matches".to_owned()], now(), &mut violations);
    assert_eq!(fields(&violations), ["trust_relationship.subject_matches"]);
}

#[test]
fn a_relationship_that_gives_nothing_cannot_be_saved() {
    let nothing = TrustRelationshipDraft { scopes: Vec::new(), ..draft() };
    assert_eq!(fields(&created(&nothing).unwrap_err()), ["trust_relationship.grants"]);
    let mut violations = Violations::new();
    let _ = created(&draft()).unwrap().update(&nothing, &["scopes".to_owned()], now(), &mut violations);
    assert_eq!(fields(&violations), ["trust_relationship.grants"]);
}

#[test]
fn s54_what_no_access_token_could_hold_cannot_be_saved() {
    let audiences = |bytes: usize| vec!["a".repeat(1000), "b".repeat(1000), "c".repeat(bytes)];
    let grant = |actions: usize| Grant {
        resource_type: "vault".to_owned(),
        resource_id: "*".to_owned(),
        actions: vec!["x".repeat(250); actions],
    };
    // All three count, and as they are written: `["a","b","c"]`, `"deploy"`, and the grant.
    let of = |bytes| TrustRelationshipDraft { access_token_audiences: audiences(bytes), grants: vec![grant(23)], ..draft() };
    let settings = created(&of(1)).unwrap();
    let rest = TrustRelationshipSettings::MAX_GIVEN_BYTES
        - granted_claims::given_bytes(&settings.access_token_audiences, &settings.scopes, &settings.grants);
    assert!((1..1000).contains(&rest), "{rest}");
    created(&of(1 + rest)).unwrap();
    assert_eq!(fields(&created(&of(2 + rest)).unwrap_err()), ["trust_relationship.grants"]);

    let large = TrustRelationshipDraft { grants: vec![grant(64); 64], ..draft() };
    assert_eq!(fields(&created(&large).unwrap_err()), ["trust_relationship.grants"]);
    let mut violations = Violations::new();
    let _ = settings.update(&large, &["grants".to_owned()], now(), &mut violations);
    assert_eq!(fields(&violations), ["trust_relationship.grants"]);
}

#[test]
fn an_update_changes_only_what_the_mask_names() {
    let before = created(&draft()).unwrap();
    let written = TrustRelationshipDraft {
        subject_matches: vec!["org:my-org:vault:*".to_owned()],
        token_duration: Some(Err(Unreadable("not named by the mask, so never read"))),
        ..TrustRelationshipDraft::default()
    };
    let mut violations = Violations::new();
    let after = before.clone().update(&written, &["subject_matches".to_owned()], now(), &mut violations);
    assert!(violations.is_empty());
    let subject_matches = vec!["org:my-org:vault:*".parse().unwrap()];
    assert_eq!(after, TrustRelationshipSettings { subject_matches, ..before.clone() });

    let mask = ["trusted_issuer_id", "creator", "id", "*"].map(str::to_owned);
    assert_eq!(before.clone().update(&written, &mask, now(), &mut violations), before);
    assert_eq!(violations.iter().count(), 4);
}

#[test]
fn subject_audiences_narrow_the_issuers_and_never_widen_them() {
    let deployment = DeploymentAudience::new(&"https://gateway.example".parse().unwrap()).unwrap();
    let issuer = |subject_audiences: &[&str]| {
        let issuer = TrustedIssuerDraft {
            issuer_url: "https://cloud.rwx.com/mint".to_owned(),
            subject_audiences: subject_audiences.iter().map(|text| (*text).to_owned()).collect(),
            ..TrustedIssuerDraft::default()
        };
        TrustedIssuerSettings::create(&issuer, LoopbackHttp::Refused, &mut Violations::new()).unwrap()
    };
    let check = |narrower: &[&str], issuer: &TrustedIssuerSettings| {
        let subject_audiences = narrower.iter().map(|text| (*text).to_owned()).collect();
        let settings = created(&TrustRelationshipDraft { subject_audiences, ..draft() }).unwrap();
        let mut violations = Violations::new();
        settings.check_audiences(issuer, &deployment, &mut violations);
        violations
    };
    assert!(check(&["a", "b"], &issuer(&["a", "b", "c"])).is_empty());
    // Without audiences of its own the issuer accepts the deployment's, in both forms.
    assert!(check(&["https://gateway.example"], &issuer(&[])).is_empty());
    assert!(check(&["gateway.example"], &issuer(&[])).is_empty());
    assert!(!check(&["https://gateway.example"], &issuer(&["a"])).is_empty());
    let violations = check(&["a", "b"], &issuer(&["a"]));
    assert_eq!(fields(&violations), ["trust_relationship.subject_audiences[1]"]);
}

#[test]
fn s69_nobody_writes_a_relationship_that_gives_what_he_does_not_hold() {
    let scopes = ["deploy", "countersign:issuers.get", "countersign:workspaces.create"].map(str::to_owned).into();
    let settings = created(&TrustRelationshipDraft { scopes, ..draft() }).unwrap();
    let refused = settings.check_grantable(None, |_| false).unwrap_err();
    assert_eq!(refused.scopes, [(1, ScopeNotGrantable::NotHeld), (2, ScopeNotGrantable::DeploymentWide)]);

    let scopes = vec!["countersign:issuers.get".to_owned()];
    let current = created(&TrustRelationshipDraft { scopes, ..draft() }).unwrap();
    let holds_nothing = |after: TrustRelationshipSettings| after.check_grantable(Some(&current), |_| false);
    // Another subject would receive what the caller does not hold.
    let subject_matches = vec!["org:my-org:vault:*".parse().unwrap()];
    assert!(holds_nothing(TrustRelationshipSettings { subject_matches, ..current.clone() }).is_err());
    // Disabling gives nothing; enabling again does.
    let disabled = TrustRelationshipSettings { enabled: false, ..current.clone() };
    assert!(holds_nothing(disabled.clone()).is_ok());
    assert!(current.check_grantable(Some(&disabled), |_| false).is_err());
    assert!(current.check_grantable(None, |authorization| *authorization == Permission::IssuersGet.into()).is_ok());
}

#[test]
fn a_condition_reads_only_attributes_that_are_mapped() {
    let written = TrustRelationshipDraft {
        cel_condition: "attribute.team == 'core' && attribute.other == 'x'".to_owned(),
        attribute_mapping: BTreeMap::from([("team".to_owned(), "assertion.team".to_owned())]),
        ..draft()
    };
    let violations = created(&written).unwrap_err();
    assert_eq!(fields(&violations), ["trust_relationship.cel_condition"]);
    let mapped = TrustRelationshipDraft {
        attribute_mapping: ["team", "other"].map(|name| (name.to_owned(), "assertion.team".to_owned())).into(),
        ..written
    };
    let settings = created(&mapped).unwrap();
    let mut violations = Violations::new();
    let _ = settings.update(&draft(), &["attribute_mapping".to_owned()], now(), &mut violations);
    assert_eq!(fields(&violations), ["trust_relationship.cel_condition"]);
}

#[test]
fn attributes_are_made_of_claims_alone() {
    let mapping = BTreeMap::from([("a".to_owned(), "attribute.b".to_owned()), ("b".to_owned(), "assertion.b".to_owned())]);
    let violations = created(&TrustRelationshipDraft { attribute_mapping: mapping, ..draft() }).unwrap_err();
    assert_eq!(fields(&violations), ["trust_relationship.attribute_mapping[a]"]);
}
