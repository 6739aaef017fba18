//! `countersign.trust.v1.TrustedIssuerService`.

use std::sync::Arc;

use countersign_domain::access::caller::Caller;
use countersign_domain::access::permission::check_grantable;
use countersign_domain::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerDraft, TrustedIssuerSettings};
use countersign_domain::values::etag::Etag;
use countersign_domain::values::id::{TrustedIssuerId, WorkspaceId};
use countersign_domain::values::name::Scope;
use countersign_domain::values::violation::Violations;
use countersign_proto::common::{mask_paths, read};
use countersign_proto::status::Refusal;
use countersign_proto::trust_v1::trusted_issuer_service_server::TrustedIssuerService;
use countersign_proto::trust_v1::{
    CheckTrustedIssuerRequest, CheckTrustedIssuerResponse, CreateTrustedIssuerRequest, CreateTrustedIssuerResponse,
    DeleteTrustedIssuerRequest, DeleteTrustedIssuerResponse, GetTrustedIssuerRequest, GetTrustedIssuerResponse,
    ListTrustedIssuersRequest, ListTrustedIssuersResponse, UpdateTrustedIssuerRequest, UpdateTrustedIssuerResponse,
};
use countersign_store::trust::{Resource, WriteError};
use tonic::{Request, Response, Status};

use crate::context::{ATTEMPTS, Context};
use crate::pages::{self, PageRequest, Position};
use crate::refusals::{self, Ids};
use crate::{issuer_health, key_material};

/// The service.
pub(crate) struct TrustedIssuers(pub(crate) Arc<Context>);

fn read_ids(fields: [&str; 2], workspace_id: &str, id: &str) -> Result<(WorkspaceId, TrustedIssuerId), Refusal> {
    let mut ids = Ids::new();
    let read = (ids.read(fields[0], workspace_id), ids.read(fields[1], id));
    ids.all(read.0.zip(read.1))
}

#[tonic::async_trait]
impl TrustedIssuerService for TrustedIssuers {
    async fn create_trusted_issuer(
        &self,
        request: Request<CreateTrustedIssuerRequest>,
    ) -> Result<Response<CreateTrustedIssuerResponse>, Status> {
        let wire = request.get_ref().trusted_issuer.clone().unwrap_or_default();
        let mut violations = Violations::new();
        let workspace_id = read("trusted_issuer.workspace_id", &wire.workspace_id, &mut violations);
        if let Some(workspace_id) = &workspace_id {
            Context::caller_in(&request, workspace_id)?;
        }
        let draft = TrustedIssuerDraft::from(wire);
        let settings = TrustedIssuerSettings::create(&draft, self.0.loopback_http, &mut violations);
        if let Some(settings) = &settings {
            settings.check_foreign(&self.0.deployment, &mut violations);
            key_material::check(settings, &mut violations);
        }
        let settings = settings.filter(|_| violations.is_empty());
        let (workspace_id, settings) = workspace_id.zip(settings).ok_or(violations).map_err(Refusal::invalid)?;
        let issuer = self.create(&workspace_id, settings).await?;
        Ok(Response::new(CreateTrustedIssuerResponse { trusted_issuer: Some((&issuer).into()) }))
    }

    async fn get_trusted_issuer(
        &self,
        request: Request<GetTrustedIssuerRequest>,
    ) -> Result<Response<GetTrustedIssuerResponse>, Status> {
        let GetTrustedIssuerRequest { workspace_id, trusted_issuer_id } = request.get_ref();
        let (workspace_id, id) = read_ids(["workspace_id", "trusted_issuer_id"], workspace_id, trusted_issuer_id)?;
        let caller = Context::caller_in(&request, &workspace_id)?;
        let issuer = self.get(&workspace_id, &id).await?;
        let health = self.0.store.issuer_health(&workspace_id, &id).await.map_err(refusals::store)?;
        let trusted_issuer = Some(issuer_health::with_health(&issuer, health.as_ref(), &caller));
        Ok(Response::new(GetTrustedIssuerResponse { trusted_issuer }))
    }

    async fn check_trusted_issuer(
        &self,
        request: Request<CheckTrustedIssuerRequest>,
    ) -> Result<Response<CheckTrustedIssuerResponse>, Status> {
        let CheckTrustedIssuerRequest { workspace_id, trusted_issuer_id } = request.get_ref();
        let (workspace_id, id) = read_ids(["workspace_id", "trusted_issuer_id"], workspace_id, trusted_issuer_id)?;
        let caller = Context::caller_in(&request, &workspace_id)?;
        let issuer = self.get(&workspace_id, &id).await?;
        Ok(Response::new(issuer_health::check(&self.0, &issuer, &caller).await?))
    }

    async fn list_trusted_issuers(
        &self,
        request: Request<ListTrustedIssuersRequest>,
    ) -> Result<Response<ListTrustedIssuersResponse>, Status> {
        let mut ids = Ids::new();
        let workspace_id = ids.read("workspace_id", &request.get_ref().workspace_id);
        let workspace_id: WorkspaceId = ids.all(workspace_id)?;
        Context::caller_in(&request, &workspace_id)?;
        self.0.check_exists(&workspace_id).await?;
        let ListTrustedIssuersRequest { page_size, page_token, .. } = request.into_inner();
        let list: &[&[u8]] = &[b"ListTrustedIssuers", workspace_id.as_str().as_bytes()];
        let page = PageRequest::read(&self.0.pages, list, page_size, &page_token)?;
        let issuers = self.0.store.list_trusted_issuers(&workspace_id, &pages::query(&page)).await.map_err(refusals::store)?;
        let (trusted_issuers, next_page_token) =
            pages::finish(&page, &issuers, |last| Position { created_at: last.created_at, id: last.id.to_string() });
        Ok(Response::new(ListTrustedIssuersResponse { trusted_issuers, next_page_token }))
    }

    async fn update_trusted_issuer(
        &self,
        request: Request<UpdateTrustedIssuerRequest>,
    ) -> Result<Response<UpdateTrustedIssuerResponse>, Status> {
        let wire = request.get_ref().trusted_issuer.clone().unwrap_or_default();
        let fields = ["trusted_issuer.workspace_id", "trusted_issuer.id"];
        let (workspace_id, id) = read_ids(fields, &wire.workspace_id, &wire.id)?;
        let caller = Context::caller_in(&request, &workspace_id)?;
        let mask = mask_paths(request.into_inner().update_mask);
        let (etag, draft) = (wire.etag.clone(), TrustedIssuerDraft::from(wire));
        let issuer = self.update(&caller, &workspace_id, &id, &etag, &draft, &mask).await?;
        Ok(Response::new(UpdateTrustedIssuerResponse { trusted_issuer: Some((&issuer).into()) }))
    }

    async fn delete_trusted_issuer(
        &self,
        request: Request<DeleteTrustedIssuerRequest>,
    ) -> Result<Response<DeleteTrustedIssuerResponse>, Status> {
        let DeleteTrustedIssuerRequest { workspace_id, trusted_issuer_id, etag } = request.get_ref();
        let (workspace_id, id) = read_ids(["workspace_id", "trusted_issuer_id"], workspace_id, trusted_issuer_id)?;
        Context::caller_in(&request, &workspace_id)?;
        self.delete(&workspace_id, &id, etag).await?;
        Ok(Response::new(DeleteTrustedIssuerResponse {}))
    }
}

impl TrustedIssuers {
    async fn create(&self, workspace_id: &WorkspaceId, settings: TrustedIssuerSettings) -> Result<TrustedIssuer, Refusal> {
        let id = TrustedIssuerId::from_random(self.0.entropy.bits128());
        let url = settings.issuer_url.to_string();
        let created = self.0.store.create_trusted_issuer(workspace_id, id.clone(), settings, self.0.now()).await;
        let issuer = created.map_err(|error| match error {
            WriteError::NotFound(_) => Refusal::not_found("Workspace", workspace_id),
            error => refusals::write(error, Resource::TrustedIssuer, id.as_str(), &url),
        })?;
        self.0.feed.wake();
        Ok(issuer)
    }

    async fn get(&self, workspace_id: &WorkspaceId, id: &TrustedIssuerId) -> Result<TrustedIssuer, Refusal> {
        let issuer = self.0.store.trusted_issuer(workspace_id, id).await.map_err(refusals::store)?;
        issuer.ok_or_else(|| Refusal::not_found("TrustedIssuer", id))
    }

    async fn update(
        &self,
        caller: &Caller,
        workspace_id: &WorkspaceId,
        id: &TrustedIssuerId,
        etag: &str,
        draft: &TrustedIssuerDraft,
        mask: &[String],
    ) -> Result<TrustedIssuer, Refusal> {
        for _ in 0..ATTEMPTS {
            let current = self.get_at(workspace_id, id, etag).await?;
            let mut violations = Violations::new();
            let settings = current.settings.clone().update(draft, mask, self.0.loopback_http, &mut violations);
            if settings.key_source != current.settings.key_source {
                key_material::check(&settings, &mut violations);
            }
            let settings = violations.into_result(settings).map_err(Refusal::invalid)?;
            self.0.check_relationships(&current, &settings).await?;
            let may_give = |scope: &Scope| check_grantable(scope, |authorization| caller.is_authorized(authorization)).is_ok();
            let store = &self.0.store;
            match store.update_trusted_issuer(workspace_id, id, current.revision, settings, &may_give, self.0.now()).await {
                Err(WriteError::Changed) if etag.is_empty() => {}
                Err(error) => return Err(refusal(error, id)),
                Ok(issuer) => {
                    self.0.feed.wake();
                    return Ok(issuer);
                }
            }
        }
        Err(refusal(WriteError::Changed, id))
    }

    async fn delete(&self, workspace_id: &WorkspaceId, id: &TrustedIssuerId, etag: &str) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS {
            let current = self.get_at(workspace_id, id, etag).await?;
            match self.0.store.delete_trusted_issuer(workspace_id, id, current.revision, self.0.now()).await {
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

    async fn get_at(&self, workspace_id: &WorkspaceId, id: &TrustedIssuerId, etag: &str) -> Result<TrustedIssuer, Refusal> {
        let issuer = self.get(workspace_id, id).await?;
        let current = Etag::of(id, issuer.revision).permits(etag);
        if current { Ok(issuer) } else { Err(Refusal::etag_mismatch("TrustedIssuer", id)) }
    }
}

fn refusal(error: WriteError, id: &TrustedIssuerId) -> Refusal {
    match error {
        // Deleted meanwhile, together with its workspace.
        WriteError::NotFound(_) => Refusal::not_found("TrustedIssuer", id),
        error => refusals::write(error, Resource::TrustedIssuer, id.as_str(), id.as_str()),
    }
}
