//! What the linter says: when it is asked, and at every write.
//!
//! A write is compared with fewer others than a question, as overlap refuses nothing and every write would pay for it.

use countersign_domain::insight::comparison;
use countersign_domain::insight::lint::{self, Finding, LintInput};
use countersign_domain::trust::trust_relationship::{TrustRelationship, TrustRelationshipDraft, TrustRelationshipSettings};
use countersign_domain::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerSettings};
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::violation::Violations;
use countersign_proto::common::{mask_paths, read};
use countersign_proto::status::Refusal;
use countersign_proto::trust_v1::{self as wire, LintTrustRelationshipRequest, LintTrustRelationshipResponse};
use countersign_store::trust::{Page, PageKey};
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::refusals;
use crate::trust_relationships::{TrustRelationships, read_ids};

/// How many other relationships of the issuer a write is compared with.
const OTHERS_AT_WRITES: usize = 100;

/// What is written or asked about.
pub(crate) struct Linted<'a> {
    pub(crate) issuer: &'a TrustedIssuer,
    /// Of one that exists.
    pub(crate) id: Option<&'a TrustRelationshipId>,
    pub(crate) settings: &'a TrustRelationshipSettings,
}

/// A relationship as it would be.
pub(crate) struct Proposed {
    pub(crate) workspace_id: WorkspaceId,
    pub(crate) trusted_issuer_id: TrustedIssuerId,
    /// As it is, when it exists.
    pub(crate) current: Option<TrustRelationship>,
    pub(crate) settings: TrustRelationshipSettings,
}

/// The most relationships of which a change of their issuer is refused in one answer.
const MAX_REFUSED: usize = 20;
/// How many relationships are read at a time.
const PAGE: usize = 500;

impl Context {
    fn lint_input<'a>(&'a self, relationship: &'a TrustRelationshipSettings, issuer: &'a TrustedIssuerSettings) -> LintInput<'a> {
        LintInput {
            relationship,
            issuer,
            preset: issuer.known_preset(),
            is_own_issuer: self.issuer_keys.is_own_issuer(&issuer.issuer_url),
            others: &[],
            deployment: &self.deployment,
            now: self.now(),
        }
    }

    /// Lints every relationship of a trusted issuer under settings that it is to have, and refuses those by which a relationship that
    /// could be written under the present settings could not be written any more.
    ///
    /// What only takes something away is not refused, whatever it leaves. A relationship that is written at the same time is linted
    /// under the settings that it saw.
    pub(crate) async fn check_relationships(
        &self,
        issuer: &TrustedIssuer,
        settings: &TrustedIssuerSettings,
    ) -> Result<(), Refusal> {
        if settings.only_takes_from(&issuer.settings) {
            return Ok(());
        }
        let (mut violations, mut refused) = (Violations::new(), 0_usize);
        let mut after = None;
        loop {
            let page = Page { after, limit: PAGE as u64 };
            let found = self.store.list_trust_relationships(&issuer.workspace_id, Some(&issuer.id), &page).await;
            let found = found.map_err(refusals::store)?;
            for relationship in &found {
                let findings = lint::caused(&self.lint_input(&relationship.settings, settings), &issuer.settings);
                let problems = lint::refusing(&findings, self.strict_lint);
                if problems.is_empty() {
                    continue;
                }
                refused += 1;
                if refused <= MAX_REFUSED {
                    for problem in problems.iter() {
                        let field = problem.field.strip_prefix("trust_relationship.").unwrap_or(&problem.field);
                        let description = format!(
                            "would make the trust relationship {} invalid: {field}: {}",
                            relationship.id, problem.description
                        );
                        violations.add("trusted_issuer", description);
                    }
                }
            }
            let Some(last) = found.last().filter(|_| found.len() >= PAGE) else { break };
            after = Some(PageKey { created_at: last.created_at, id: last.id.to_string() });
            tokio::task::yield_now().await;
        }
        if refused > MAX_REFUSED {
            violations.add("trusted_issuer", format!("would make {} more trust relationships invalid", refused - MAX_REFUSED));
        }
        violations.into_result(()).map_err(Refusal::invalid)
    }
}

impl TrustRelationships {
    /// Answers `LintTrustRelationship`.
    pub(crate) async fn answer_lint(
        &self,
        request: Request<LintTrustRelationshipRequest>,
    ) -> Result<Response<LintTrustRelationshipResponse>, Status> {
        let wire = request.get_ref().trust_relationship.clone().unwrap_or_default();
        let mask = mask_paths(request.get_ref().update_mask.clone());
        let Proposed { workspace_id, trusted_issuer_id, current, settings } = self.proposed(&request, wire, &mask).await?;
        let issuer = self.issuer(&workspace_id, &trusted_issuer_id).await?;
        let linted = Linted { issuer: &issuer, id: current.as_ref().map(|current| &current.id), settings: &settings };
        let findings = self.findings(&linted, lint::MAX_OTHERS).await?;
        Ok(Response::new(LintTrustRelationshipResponse { findings: findings.into_iter().map(Into::into).collect() }))
    }

    /// Reads a relationship as it would be created, or as one that exists would be changed. The caller must see its workspace.
    pub(crate) async fn proposed<T>(
        &self,
        request: &Request<T>,
        wire: wire::TrustRelationship,
        mask: &[String],
    ) -> Result<Proposed, Refusal>
    where
        Request<T>: Sync,
    {
        let mut violations = Violations::new();
        if wire.id.is_empty() {
            if !mask.is_empty() {
                violations.add("update_mask", "must be empty without `trust_relationship.id`");
            }
            let workspace_id: Option<WorkspaceId> = read("trust_relationship.workspace_id", &wire.workspace_id, &mut violations);
            let issuer_id: Option<TrustedIssuerId> =
                read("trust_relationship.trusted_issuer_id", &wire.trusted_issuer_id, &mut violations);
            if let Some(workspace_id) = &workspace_id {
                Context::caller_in(request, workspace_id)?;
            }
            let draft = TrustRelationshipDraft::from(wire);
            let settings = TrustRelationshipSettings::create(&draft, self.0.now(), &mut violations);
            let read = workspace_id.zip(issuer_id).zip(settings).filter(|_| violations.is_empty());
            let ((workspace_id, trusted_issuer_id), settings) = read.ok_or(violations).map_err(Refusal::invalid)?;
            return Ok(Proposed { workspace_id, trusted_issuer_id, current: None, settings });
        }
        let fields = ["trust_relationship.workspace_id", "trust_relationship.id"];
        let (workspace_id, id) = read_ids(fields, &wire.workspace_id, &wire.id)?;
        Context::caller_in(request, &workspace_id)?;
        let current = self.get_at(&workspace_id, &id, &wire.etag).await?;
        let settings = if mask.is_empty() {
            current.settings.clone()
        } else {
            let draft = TrustRelationshipDraft::from(wire);
            let changed = current.settings.clone().update(&draft, mask, self.0.now(), &mut violations);
            violations.into_result(changed).map_err(Refusal::invalid)?
        };
        Ok(Proposed { workspace_id, trusted_issuer_id: current.trusted_issuer_id.clone(), current: Some(current), settings })
    }

    /// What is found of settings that are to be written, when nothing of it refuses the write. `current` is what they replace.
    ///
    /// Subject audiences are checked against what the trusted issuer accepts now. Should it accept fewer later, an exchange
    /// needs both, so nothing is widened.
    pub(crate) async fn check_findings(
        &self,
        written: &Linted<'_>,
        current: Option<&TrustRelationshipSettings>,
    ) -> Result<Vec<Finding>, Refusal> {
        let (issuer, settings) = (&written.issuer.settings, written.settings);
        let mut violations = Violations::new();
        if current.is_none_or(|current| current.subject_audiences != settings.subject_audiences) {
            settings.check_audiences(issuer, &self.0.deployment, &mut violations);
        }
        let findings = self.findings(written, OTHERS_AT_WRITES).await?;
        // Whoever takes something away is not kept from it by what is left.
        if comparison::compare(current, Some(settings)).change.may_give_more() {
            violations.extend(lint::refusing(&findings, self.0.strict_lint));
        }
        violations.into_result(findings).map_err(Refusal::invalid)
    }

    pub(crate) async fn findings(&self, linted: &Linted<'_>, most_others: usize) -> Result<Vec<Finding>, Refusal> {
        let Linted { issuer, id, settings } = linted;
        // One more, as the relationship itself may be among them.
        let page = Page { after: None, limit: most_others as u64 + 1 };
        let found = self.0.store.list_trust_relationships(&issuer.workspace_id, Some(&issuer.id), &page).await;
        let found = found.map_err(refusals::store)?;
        let others = found.iter().filter(|other| Some(&other.id) != *id).take(most_others);
        let others: Vec<_> = others.map(|other| (&other.id, &other.settings)).collect();
        Ok(lint::lint(&LintInput { others: &others, ..self.0.lint_input(settings, &issuer.settings) }))
    }

    pub(crate) async fn issuer(&self, workspace_id: &WorkspaceId, id: &TrustedIssuerId) -> Result<TrustedIssuer, Refusal> {
        let issuer = self.0.store.trusted_issuer(workspace_id, id).await.map_err(refusals::store)?;
        issuer.ok_or_else(|| Refusal::not_found("TrustedIssuer", id))
    }
}
