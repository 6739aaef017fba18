//! `countersign.trust.v1.WorkspaceService`.

use std::sync::Arc;

use countersign_domain::access::caller::Caller;
use countersign_domain::trust::workspace::{Workspace, WorkspaceDraft, WorkspaceSettings};
use countersign_domain::values::etag::Etag;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::violation::Violations;
use countersign_proto::common::mask_paths;
use countersign_proto::status::Refusal;
use countersign_proto::trust_v1::workspace_service_server::WorkspaceService;
use countersign_proto::trust_v1::{
    CreateWorkspaceRequest, CreateWorkspaceResponse, DeleteWorkspaceRequest, DeleteWorkspaceResponse, GetWorkspaceRequest,
    GetWorkspaceResponse, ListWorkspacesRequest, ListWorkspacesResponse, UpdateWorkspaceRequest, UpdateWorkspaceResponse,
};
use countersign_runtime::auth;
use countersign_store::trust::{Resource, WriteError};
use tonic::{Request, Response, Status};

use crate::context::{ATTEMPTS, Context};
use crate::pages::{self, PageRequest, Position};
use crate::refusals::{self, Ids};

/// The service.
pub(crate) struct Workspaces(pub(crate) Arc<Context>);

fn read_id(field: &str, text: &str) -> Result<WorkspaceId, Refusal> {
    let mut ids = Ids::new();
    let id = ids.read(field, text);
    ids.all(id)
}

#[tonic::async_trait]
impl WorkspaceService for Workspaces {
    async fn create_workspace(
        &self,
        request: Request<CreateWorkspaceRequest>,
    ) -> Result<Response<CreateWorkspaceResponse>, Status> {
        let draft = WorkspaceDraft::from(request.into_inner().workspace.unwrap_or_default());
        let workspace = self.create(&draft).await?;
        Ok(Response::new(CreateWorkspaceResponse { workspace: Some((&workspace).into()) }))
    }

    async fn get_workspace(&self, request: Request<GetWorkspaceRequest>) -> Result<Response<GetWorkspaceResponse>, Status> {
        let id = read_id("workspace_id", &request.get_ref().workspace_id)?;
        Context::caller_in(&request, &id)?;
        let workspace = self.get(&id).await?;
        Ok(Response::new(GetWorkspaceResponse { workspace: Some((&workspace).into()) }))
    }

    async fn list_workspaces(&self, request: Request<ListWorkspacesRequest>) -> Result<Response<ListWorkspacesResponse>, Status> {
        let only = auth::caller(&request)?.only_workspace().cloned();
        let ListWorkspacesRequest { page_size, page_token } = request.into_inner();
        let list: &[&[u8]] = &[b"ListWorkspaces", only.as_ref().map_or("", WorkspaceId::as_str).as_bytes()];
        let page = PageRequest::read(&self.0.pages, list, page_size, &page_token)?;
        let listed = self.0.store.list_workspaces(only.as_ref(), &pages::query(&page)).await.map_err(refusals::store)?;
        let (workspaces, next_page_token) =
            pages::finish(&page, &listed, |last| Position { created_at: last.created_at, id: last.id.to_string() });
        Ok(Response::new(ListWorkspacesResponse { workspaces, next_page_token }))
    }

    async fn update_workspace(
        &self,
        request: Request<UpdateWorkspaceRequest>,
    ) -> Result<Response<UpdateWorkspaceResponse>, Status> {
        let wire = request.get_ref().workspace.clone().unwrap_or_default();
        let id = read_id("workspace.id", &wire.id)?;
        let caller = Context::caller_in(&request, &id)?;
        let mask = mask_paths(request.into_inner().update_mask);
        let (etag, draft) = (wire.etag.clone(), WorkspaceDraft::from(wire));
        let workspace = self.update(&caller, &id, &etag, &draft, &mask).await?;
        Ok(Response::new(UpdateWorkspaceResponse { workspace: Some((&workspace).into()) }))
    }

    async fn delete_workspace(
        &self,
        request: Request<DeleteWorkspaceRequest>,
    ) -> Result<Response<DeleteWorkspaceResponse>, Status> {
        let id = read_id("workspace_id", &request.get_ref().workspace_id)?;
        Context::caller_in(&request, &id)?;
        self.delete(&id, &request.get_ref().etag).await?;
        Ok(Response::new(DeleteWorkspaceResponse {}))
    }
}

impl Workspaces {
    async fn create(&self, draft: &WorkspaceDraft) -> Result<Workspace, Refusal> {
        let Context { store, entropy, feed, .. } = &*self.0;
        let mut violations = Violations::new();
        let settings = WorkspaceSettings::create(draft, &mut violations).ok_or(violations).map_err(Refusal::invalid)?;
        let id = WorkspaceId::from_random(entropy.bits128());
        let created = store.create_workspace(id.clone(), settings, self.0.now()).await;
        let workspace = created.map_err(|error| refusal(error, &id))?;
        feed.wake();
        Ok(workspace)
    }

    async fn get(&self, id: &WorkspaceId) -> Result<Workspace, Refusal> {
        let workspace = self.0.store.workspace(id).await.map_err(refusals::store)?;
        workspace.ok_or_else(|| Refusal::not_found("Workspace", id))
    }

    async fn update(
        &self,
        caller: &Caller,
        id: &WorkspaceId,
        etag: &str,
        draft: &WorkspaceDraft,
        mask: &[String],
    ) -> Result<Workspace, Refusal> {
        for _ in 0..ATTEMPTS {
            let current = self.get_at(id, etag).await?;
            // Of the revision that is replaced, so that nobody revives a workspace that was disabled a moment ago.
            Context::check_writable(caller, id, current.state)?;
            let mut violations = Violations::new();
            let settings = current.settings().update(draft, mask, &mut violations);
            let settings = violations.into_result(settings).map_err(Refusal::invalid)?;
            match self.0.store.update_workspace(id, current.revision, settings, self.0.now()).await {
                Err(WriteError::Changed) if etag.is_empty() => {}
                Err(error) => return Err(refusal(error, id)),
                Ok(workspace) => {
                    self.0.feed.wake();
                    return Ok(workspace);
                }
            }
        }
        Err(refusal(WriteError::Changed, id))
    }

    async fn delete(&self, id: &WorkspaceId, etag: &str) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS {
            let current = self.get_at(id, etag).await?;
            match self.0.store.delete_workspace(id, current.revision, self.0.now()).await {
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

    async fn get_at(&self, id: &WorkspaceId, etag: &str) -> Result<Workspace, Refusal> {
        let workspace = self.get(id).await?;
        let current = Etag::of(id, workspace.revision).permits(etag);
        if current { Ok(workspace) } else { Err(Refusal::etag_mismatch("Workspace", id)) }
    }
}

fn refusal(error: WriteError, id: &WorkspaceId) -> Refusal {
    refusals::write(error, Resource::Workspace, id.as_str(), id.as_str())
}
