//! `countersign.trust.v1.TrustRelationshipService`.

use std::sync::Arc;

use countersign_domain::access::caller::Caller;
use countersign_domain::access::permission::{self, Permission, ScopeNotGrantable};
use countersign_domain::access::reachable_scopes::issues_own;
use countersign_domain::insight::lint::Finding;
use countersign_domain::trust::trust_relationship::{TrustRelationship, TrustRelationshipDraft, TrustRelationshipSettings};
use countersign_domain::values::etag::Etag;
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::name::Scope;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::violation::Violations;
use countersign_proto::common::{mask_paths, read, read_optional, timestamp};
use countersign_proto::status::Refusal;
use countersign_proto::trust_v1::trust_relationship_service_server::TrustRelationshipService;
use countersign_proto::trust_v1::{
    CreateTrustRelationshipRequest, CreateTrustRelationshipResponse, DeleteTrustRelationshipRequest,
    DeleteTrustRelationshipResponse, GetTrustRelationshipRequest, GetTrustRelationshipResponse, LintTrustRelationshipRequest,
    LintTrustRelationshipResponse, ListTrustRelationshipsRequest, ListTrustRelationshipsResponse,
    PreviewTrustRelationshipRequest, PreviewTrustRelationshipResponse, ReviewTrustRelationshipsRequest,
    ReviewTrustRelationshipsResponse, TrustRelationship as TrustRelationshipMessage, UpdateTrustRelationshipRequest,
    UpdateTrustRelationshipResponse,
};
use countersign_store::trust::{NewTrustRelationship, Resource, WriteError};
use tonic::{Request, Response, Status};

use crate::context::{ATTEMPTS, Context};
use crate::linting::Linted;
use crate::pages::{self, PageRequest, Position};
use crate::refusals::{self, Ids};

/// The service.
pub(crate) struct TrustRelationships(pub(crate) Arc<Context>);

pub(crate) fn read_ids(fields: [&str; 2], workspace_id: &str, id: &str) -> Result<(WorkspaceId, TrustRelationshipId), Refusal> {
    let mut ids = Ids::new();
    let read = (ids.read(fields[0], workspace_id), ids.read(fields[1], id));
    ids.all(read.0.zip(read.1))
}

#[tonic::async_trait]
impl TrustRelationshipService for TrustRelationships {
    async fn create_trust_relationship(
        &self,
        request: Request<CreateTrustRelationshipRequest>,
    ) -> Result<Response<CreateTrustRelationshipResponse>, Status> {
        let wire = request.get_ref().trust_relationship.clone().unwrap_or_default();
        let mut violations = Violations::new();
        let workspace_id: Option<WorkspaceId> = read("trust_relationship.workspace_id", &wire.workspace_id, &mut violations);
        let trusted_issuer_id = read("trust_relationship.trusted_issuer_id", &wire.trusted_issuer_id, &mut violations);
        // Without a workspace nothing is written, so whose it would be does not matter.
        let caller = match &workspace_id {
            Some(workspace_id) => Some(Context::caller_in(&request, workspace_id)?),
            None => None,
        };
        let draft = TrustRelationshipDraft::from(wire);
        let settings = TrustRelationshipSettings::create(&draft, self.0.now(), &mut violations);
        let named = caller.zip(workspace_id).zip(trusted_issuer_id);
        let (((caller, workspace_id), trusted_issuer_id), settings) =
            named.zip(settings).ok_or(violations).map_err(Refusal::invalid)?;
        let (relationship, findings) = self.create(&caller, workspace_id, trusted_issuer_id, settings).await?;
        Ok(Response::new(CreateTrustRelationshipResponse {
            trust_relationship: Some((&relationship).into()),
            findings: findings.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_trust_relationship(
        &self,
        request: Request<GetTrustRelationshipRequest>,
    ) -> Result<Response<GetTrustRelationshipResponse>, Status> {
        let GetTrustRelationshipRequest { workspace_id, trust_relationship_id } = request.get_ref();
        let (workspace_id, id) = read_ids(["workspace_id", "trust_relationship_id"], workspace_id, trust_relationship_id)?;
        Context::caller_in(&request, &workspace_id)?;
        let relationship = self.get(&workspace_id, &id).await?;
        let mut written = TrustRelationshipMessage::from(&relationship);
        written.last_use_time = self.last_uses(std::slice::from_ref(&id)).await?.get(&id).copied().map(timestamp);
        Ok(Response::new(GetTrustRelationshipResponse { trust_relationship: Some(written) }))
    }

    async fn list_trust_relationships(
        &self,
        request: Request<ListTrustRelationshipsRequest>,
    ) -> Result<Response<ListTrustRelationshipsResponse>, Status> {
        let mut violations = Violations::new();
        let workspace_id = read("workspace_id", &request.get_ref().workspace_id, &mut violations);
        let issuer_id = read_optional("trusted_issuer_id", &request.get_ref().trusted_issuer_id, &mut violations);
        let (workspace_id, issuer_id): (WorkspaceId, Option<TrustedIssuerId>) =
            workspace_id.zip(issuer_id).ok_or(violations).map_err(Refusal::invalid)?;
        Context::caller_in(&request, &workspace_id)?;
        self.0.check_exists(&workspace_id).await?;
        let ListTrustRelationshipsRequest { page_size, page_token, .. } = request.into_inner();
        let filter = issuer_id.as_ref().map_or("", TrustedIssuerId::as_str);
        let list: &[&[u8]] = &[b"ListTrustRelationships", workspace_id.as_str().as_bytes(), filter.as_bytes()];
        let page = PageRequest::read(&self.0.pages, list, page_size, &page_token)?;
        let listed = self.0.store.list_trust_relationships(&workspace_id, issuer_id.as_ref(), &pages::query(&page)).await;
        let listed = listed.map_err(refusals::store)?;
        let position = |last: &TrustRelationship| Position { created_at: last.created_at, id: last.id.to_string() };
        let (mut trust_relationships, next_page_token) = pages::finish::<_, TrustRelationshipMessage>(&page, &listed, position);
        let ids: Vec<_> = listed.iter().map(|relationship| relationship.id.clone()).collect();
        let last_uses = self.last_uses(&ids).await?;
        for (written, id) in trust_relationships.iter_mut().zip(&ids) {
            written.last_use_time = last_uses.get(id).copied().map(timestamp);
        }
        Ok(Response::new(ListTrustRelationshipsResponse { trust_relationships, next_page_token }))
    }

    async fn update_trust_relationship(
        &self,
        request: Request<UpdateTrustRelationshipRequest>,
    ) -> Result<Response<UpdateTrustRelationshipResponse>, Status> {
        let wire = request.get_ref().trust_relationship.clone().unwrap_or_default();
        let fields = ["trust_relationship.workspace_id", "trust_relationship.id"];
        let (workspace_id, id) = read_ids(fields, &wire.workspace_id, &wire.id)?;
        let caller = Context::caller_in(&request, &workspace_id)?;
        let mask = mask_paths(request.into_inner().update_mask);
        let (etag, draft) = (wire.etag.clone(), TrustRelationshipDraft::from(wire));
        let (relationship, findings) = self.update(&caller, &workspace_id, &id, &etag, &draft, &mask).await?;
        Ok(Response::new(UpdateTrustRelationshipResponse {
            trust_relationship: Some((&relationship).into()),
            findings: findings.into_iter().map(Into::into).collect(),
        }))
    }

    async fn delete_trust_relationship(
        &self,
        request: Request<DeleteTrustRelationshipRequest>,
    ) -> Result<Response<DeleteTrustRelationshipResponse>, Status> {
        let DeleteTrustRelationshipRequest { workspace_id, trust_relationship_id, etag } = request.get_ref();
        let (workspace_id, id) = read_ids(["workspace_id", "trust_relationship_id"], workspace_id, trust_relationship_id)?;
        Context::caller_in(&request, &workspace_id)?;
        self.delete(&workspace_id, &id, etag).await?;
        Ok(Response::new(DeleteTrustRelationshipResponse {}))
    }

    async fn lint_trust_relationship(
        &self,
        request: Request<LintTrustRelationshipRequest>,
    ) -> Result<Response<LintTrustRelationshipResponse>, Status> {
        self.answer_lint(request).await
    }

    async fn preview_trust_relationship(
        &self,
        request: Request<PreviewTrustRelationshipRequest>,
    ) -> Result<Response<PreviewTrustRelationshipResponse>, Status> {
        self.answer_preview(request).await
    }

    async fn review_trust_relationships(
        &self,
        request: Request<ReviewTrustRelationshipsRequest>,
    ) -> Result<Response<ReviewTrustRelationshipsResponse>, Status> {
        self.answer_review(request).await
    }
}

impl TrustRelationships {
    async fn create(
        &self,
        caller: &Caller,
        workspace_id: WorkspaceId,
        trusted_issuer_id: TrustedIssuerId,
        settings: TrustRelationshipSettings,
    ) -> Result<(TrustRelationship, Vec<Finding>), Refusal> {
        let issuer = self.issuer(&workspace_id, &trusted_issuer_id).await?;
        check_grantable(caller, None, &settings)?;
        self.check_reachable(caller, &workspace_id, &trusted_issuer_id, &settings).await?;
        let findings = self.check_findings(&Linted { issuer: &issuer, id: None, settings: &settings }, None).await?;
        let id = TrustRelationshipId::from_random(self.0.entropy.bits128());
        let creator = caller.subject.clone();
        let new = NewTrustRelationship { id: id.clone(), workspace_id, trusted_issuer_id, settings, creator };
        let created = self.0.store.create_trust_relationship(new, self.0.now()).await;
        let relationship =
            created.map_err(|error| refusals::write(error, Resource::TrustRelationship, id.as_str(), issuer.id.as_str()))?;
        self.0.feed.wake();
        Ok((relationship, findings))
    }

    async fn get(&self, workspace_id: &WorkspaceId, id: &TrustRelationshipId) -> Result<TrustRelationship, Refusal> {
        let relationship = self.0.store.trust_relationship(workspace_id, id).await.map_err(refusals::store)?;
        relationship.ok_or_else(|| Refusal::not_found("TrustRelationship", id))
    }

    async fn update(
        &self,
        caller: &Caller,
        workspace_id: &WorkspaceId,
        id: &TrustRelationshipId,
        etag: &str,
        draft: &TrustRelationshipDraft,
        mask: &[String],
    ) -> Result<(TrustRelationship, Vec<Finding>), Refusal> {
        for _ in 0..ATTEMPTS {
            let current = self.get_at(workspace_id, id, etag).await?;
            let mut violations = Violations::new();
            let settings = current.settings.clone().update(draft, mask, self.0.now(), &mut violations);
            let settings = violations.into_result(settings).map_err(Refusal::invalid)?;
            check_grantable(caller, Some(&current.settings), &settings)?;
            if !settings.only_takes_from(&current.settings) {
                self.check_reachable(caller, workspace_id, &current.trusted_issuer_id, &settings).await?;
            }
            let findings = if settings.only_takes_from(&current.settings) {
                // Whatever else cannot be read, it can be disabled.
                Vec::new()
            } else {
                let issuer = self.issuer(workspace_id, &current.trusted_issuer_id).await?;
                let written = Linted { issuer: &issuer, id: Some(id), settings: &settings };
                self.check_findings(&written, Some(&current.settings)).await?
            };
            match self.0.store.update_trust_relationship(workspace_id, id, current.revision, settings, self.0.now()).await {
                Err(WriteError::Changed) if etag.is_empty() => {}
                Err(error) => return Err(refusal(error, id)),
                Ok(relationship) => {
                    self.0.feed.wake();
                    return Ok((relationship, findings));
                }
            }
        }
        Err(refusal(WriteError::Changed, id))
    }

    /// Checks that the caller holds what subjects of the issuer obtain with ID tokens for themselves, where they are granted these
    /// (SECURITY 69).
    async fn check_reachable(
        &self,
        caller: &Caller,
        workspace_id: &WorkspaceId,
        trusted_issuer_id: &TrustedIssuerId,
        settings: &TrustRelationshipSettings,
    ) -> Result<(), Refusal> {
        if !issues_own(&settings.scopes) {
            return Ok(());
        }
        let reached = self.0.store.reserved_scopes_from(workspace_id, trusted_issuer_id, &settings.scopes).await;
        let holds =
            |scope: &Scope| permission::check_grantable(scope, |authorization| caller.is_authorized(authorization)).is_ok();
        match reached.map_err(refusals::store)?.into_iter().find(|scope| !holds(scope)) {
            None => Ok(()),
            Some(scope) => Err(Refusal::new(
                Reason::GrantNotHeld,
                format!(
                    "`{}` lets subjects of this issuer obtain `{scope}` through an issuer of this deployment, and you do not hold it; ask \
                     a caller who does",
                    Permission::IdTokensIssueOwn
                ),
            )),
        }
    }

    async fn delete(&self, workspace_id: &WorkspaceId, id: &TrustRelationshipId, etag: &str) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS {
            let current = self.get_at(workspace_id, id, etag).await?;
            match self.0.store.delete_trust_relationship(workspace_id, id, current.revision, self.0.now()).await {
                Err(WriteError::Changed) if etag.is_empty() => {}
                Err(error) => return Err(refusal(error, id)),
                Ok(()) => {
                    self.0.feed.wake();
                    return Ok(());
                }
            }
        }
        Err(refusal(WriteError::Changed, id))
    }

    pub(crate) async fn get_at(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustRelationshipId,
        etag: &str,
    ) -> Result<TrustRelationship, Refusal> {
        let relationship = self.get(workspace_id, id).await?;
        let current = Etag::of(id, relationship.revision).permits(etag);
        if current { Ok(relationship) } else { Err(Refusal::etag_mismatch("TrustRelationship", id)) }
    }
}

/// Checks that the caller holds what he gives (SECURITY 69).
pub(crate) fn check_grantable(
    caller: &Caller,
    current: Option<&TrustRelationshipSettings>,
    settings: &TrustRelationshipSettings,
) -> Result<(), Refusal> {
    let checked = settings.check_grantable(current, |authorization| caller.is_authorized(authorization));
    checked.map_err(|refused| {
        // A scope that nobody could ever hold is a mistake in the field.
        let mut violations = Violations::new();
        for (index, cause) in &refused.scopes {
            if *cause == ScopeNotGrantable::Unknown {
                violations.add(format!("trust_relationship.scopes[{index}]"), cause.to_string());
            }
        }
        if violations.is_empty() { Refusal::new(Reason::GrantNotHeld, refused.to_string()) } else { Refusal::invalid(violations) }
    })
}

fn refusal(error: WriteError, id: &TrustRelationshipId) -> Refusal {
    match error {
        // Deleted meanwhile, together with its workspace.
        WriteError::NotFound(_) => Refusal::not_found("TrustRelationship", id),
        error => refusals::write(error, Resource::TrustRelationship, id.as_str(), id.as_str()),
    }
}
