//! What the linter says, and what it refuses.

use countersign_domain::values::reason::Reason;
use countersign_proto::trust_v1::{
    ClaimCondition, ClaimValue, CreateTrustRelationshipRequest, LintFinding, LintSeverity, LintTrustRelationshipRequest,
    TrustRelationship, TrustedIssuer, UpdateTrustRelationshipRequest, UpdateTrustedIssuerRequest, claim_condition, claim_value,
};
use countersign_testkit::status::{assert_refused, violated_fields};
use tonic::{Code, Status};

use crate::support::{Caller, Tenant, mask, new_relationship, service, strict_service};

const GITHUB: &str = "https://token.actions.githubusercontent.com";

fn accepting(issuer: &TrustedIssuer, subjects: &[&str]) -> TrustRelationship {
    let request = new_relationship(issuer, &["deploy"]);
    let subject_matches = subjects.iter().map(|subject| (*subject).to_owned()).collect();
    TrustRelationship { subject_matches, ..request.trust_relationship.unwrap() }
}

fn owner() -> ClaimCondition {
    let value = ClaimValue { kind: Some(claim_value::Kind::Text("65".to_owned())) };
    let test = Some(claim_condition::Test::Equals(value));
    ClaimCondition { claim: "repository_owner_id".to_owned(), test, negated: false }
}

async fn create(caller: &mut Caller, relationship: &TrustRelationship) -> Result<(TrustRelationship, Vec<LintFinding>), Status> {
    let request = CreateTrustRelationshipRequest { trust_relationship: Some(relationship.clone()) };
    let created = caller.relationships.create_trust_relationship(request).await?.into_inner();
    Ok((created.trust_relationship.unwrap(), created.findings))
}

async fn update(caller: &mut Caller, relationship: &TrustRelationship, paths: &[&str]) -> Result<Vec<LintFinding>, Status> {
    let trust_relationship = Some(TrustRelationship { etag: String::new(), ..relationship.clone() });
    let request = UpdateTrustRelationshipRequest { trust_relationship, update_mask: Some(mask(paths)) };
    Ok(caller.relationships.update_trust_relationship(request).await?.into_inner().findings)
}

async fn lint(caller: &mut Caller, relationship: TrustRelationship, paths: &[&str]) -> Result<Vec<LintFinding>, Status> {
    let update_mask = (!paths.is_empty()).then(|| mask(paths));
    let request = LintTrustRelationshipRequest { trust_relationship: Some(relationship), update_mask };
    Ok(caller.relationships.lint_trust_relationship(request).await?.into_inner().findings)
}

fn rules(findings: &[LintFinding]) -> Vec<(LintSeverity, &str)> {
    findings.iter().map(|finding| (finding.severity(), finding.rule.as_str())).collect()
}

fn assert_violated(refused: Result<impl std::fmt::Debug, Status>, fields: &[&str]) {
    let status = refused.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&status), fields.iter().map(|field| format!("trust_relationship.{field}")).collect::<Vec<_>>());
}

use LintSeverity::{Advice, Error, Warning};

#[tokio::test(flavor = "multi_thread")]
async fn s27_a_shared_issuer_without_tenant_is_refused_and_a_recyclable_name_is_told() {
    let service = service().await;
    let mut operator = service.operator();
    let workspace = operator.workspace("Acme").await;
    let issuer = operator.issuer(&workspace.id, GITHUB).await;
    let open = accepting(&issuer, &["repo:*", "repo:octo-org@65/app@74:ref:refs/heads/main", "repo:*:environment:production"]);
    assert_violated(create(&mut operator, &open).await, &["subject_matches[0]", "subject_matches[2]"]);
    // Everything wrong is told at once, what the issuer does not accept included.
    let elsewhere = TrustRelationship { subject_audiences: vec!["https://elsewhere.example".to_owned()], ..open.clone() };
    let all = ["subject_audiences[0]", "subject_matches[0]", "subject_matches[2]"];
    assert_violated(create(&mut operator, &elsewhere).await, &all);

    let pinned = TrustRelationship { claim_conditions: vec![owner()], ..open };
    let (pinned, findings) = create(&mut operator, &pinned).await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity() < Error), "{findings:?}");
    let open_again = TrustRelationship { claim_conditions: Vec::new(), ..pinned };
    let refused = update(&mut operator, &open_again, &["claim_conditions"]).await;
    assert_violated(refused, &["subject_matches[0]", "subject_matches[2]"]);

    let rwx = operator.issuer(&workspace.id, "https://cloud.rwx.com/mint").await;
    let (_, findings) = create(&mut operator, &accepting(&rwx, &["org:my-org:vault:*"])).await.unwrap();
    assert_eq!(rules(&findings), [(Warning, "recyclable-tenant"), (Advice, "never-expires")]);
    assert_eq!(findings[0].field, "trust_relationship.subject_matches[0]");
}

#[tokio::test(flavor = "multi_thread")]
async fn s27_strict_mode_refuses_for_warnings_and_not_for_advice() {
    let service = strict_service().await;
    let mut operator = service.operator();
    let workspace = operator.workspace("Acme").await;
    let issuer = operator.issuer(&workspace.id, GITHUB).await;
    let names = accepting(&issuer, &["repo:octo-org/app:ref:refs/heads/main"]);
    assert_violated(create(&mut operator, &names).await, &["subject_matches[0]"]);
    let pinned = TrustRelationship { claim_conditions: vec![owner()], ..names };
    let (_, findings) = create(&mut operator, &pinned).await.unwrap();
    assert_eq!(rules(&findings), [(Advice, "leaving-subject-form"), (Advice, "never-expires")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s30_whoever_takes_away_is_not_kept_from_it_by_what_is_left() {
    let service = service().await;
    let mut operator = service.operator();
    let workspace = operator.workspace("Acme").await;
    // Said to be shared only after it was written.
    let issuer = operator.issuer(&workspace.id, "https://gitlab.example").await;
    let (relationship, _) = create(&mut operator, &accepting(&issuer, &["project_path:*", "org:*"])).await.unwrap();
    let request = UpdateTrustedIssuerRequest {
        trusted_issuer: Some(TrustedIssuer { preset: "gitlab".to_owned(), etag: String::new(), ..issuer }),
        update_mask: Some(mask(&["preset"])),
    };
    operator.issuers.update_trusted_issuer(request).await.unwrap();

    let more = TrustRelationship { scopes: vec!["deploy".to_owned(), "read".to_owned()], ..relationship.clone() };
    assert_violated(update(&mut operator, &more, &["scopes"]).await, &["subject_matches[1]"]);
    let ending = TrustRelationship {
        expire_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        display_name: "Old".to_owned(),
        ..relationship.clone()
    };
    let findings = update(&mut operator, &ending, &["expire_time", "display_name"]).await.unwrap();
    assert_eq!(rules(&findings)[0], (Error, "subject-cannot-match"));
    let fewer = TrustRelationship { subject_matches: vec!["org:my-org:*".to_owned()], ..relationship.clone() };
    update(&mut operator, &fewer, &["subject_matches"]).await.unwrap();
    let stopped = TrustRelationship { enabled: false, ..relationship.clone() };
    assert_eq!(update(&mut operator, &stopped, &["enabled"]).await.unwrap(), []);
    assert_violated(update(&mut operator, &relationship, &["enabled"]).await, &["subject_matches[0]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_and_what_could_be_written_is_linted_and_nothing_changes() {
    let service = service().await;
    let Tenant { workspace, issuer, relationship } = service.tenant().await;
    let mut member = service.member(&workspace.id, &["countersign:trust_relationships.get"]);
    let named = TrustRelationship { id: relationship.id.clone(), workspace_id: workspace.id.clone(), ..Default::default() };
    let found = lint(&mut member, named.clone(), &[]).await.unwrap();
    assert_eq!(rules(&found), [(Warning, "recyclable-tenant"), (Advice, "never-expires")]);

    let wider = TrustRelationship { subject_matches: vec!["org:*".to_owned()], ..named.clone() };
    let found = lint(&mut member, wider, &["subject_matches"]).await.unwrap();
    assert_eq!(rules(&found)[0], (Error, "tenant-not-pinned"));
    let found = lint(&mut member, named, &[]).await.unwrap();
    assert_eq!(rules(&found)[0], (Warning, "recyclable-tenant"), "nothing was written");

    let new = accepting(&issuer, &["org:my-org:vault:*"]);
    let found = lint(&mut member, new.clone(), &[]).await.unwrap();
    assert_eq!(rules(&found), [(Warning, "recyclable-tenant"), (Advice, "never-expires"), (Advice, "overlap")]);
    assert!(found[2].risk.contains(&relationship.id), "{}", found[2].risk);

    assert_violated(lint(&mut member, TrustRelationship { scopes: Vec::new(), ..new.clone() }, &[]).await, &["grants"]);
    let status = lint(&mut member, new, &["scopes"]).await.unwrap_err();
    assert_eq!(violated_fields(&status), ["update_mask"]);
}
