//! `IssuerService`: the issuers of a workspace.

use std::sync::Arc;
use std::time::Duration;

use countersign_domain::access::caller::Caller;
use countersign_domain::issuing::issuer::{Issuer, IssuerDraft, IssuerNamespace, IssuerSettings};
use countersign_domain::issuing::profile::SubjectChange;
use countersign_domain::trust::workspace::WorkspaceUse;
use countersign_domain::values::etag::Etag;
use countersign_domain::values::id::{IssuerId, WorkspaceId};
use countersign_domain::values::time::{Clock, Entropy, Timestamp};
use countersign_domain::values::violation::Violations;
use countersign_proto::common::{mask_paths, read};
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::issuer_service_server::IssuerService;
use countersign_proto::status::Refusal;
use countersign_runtime::auth::{self, WorkspaceStates as _};
use countersign_runtime::page_request::{self, PageRequest, Position};
use countersign_runtime::page_token::PageTokens;
use countersign_store::issuer::{CreateOutcome, IssuerPosition, IssuerStore, WriteOutcome};
use tonic::{Request, Response, Status};

use super::{database_trouble, read_ids};
use crate::keeper::Keeper;
use crate::reach::Reach;
use crate::workspaces::Workspaces;

const KIND: &str = "Issuer";
/// How often an update without an etag is repeated on what another wrote meanwhile.
const UPDATE_ATTEMPTS: usize = 3;
/// When to come back after too many creations in a day: each hour some of them are a day old.
const CREATIONS_RETRY: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(crate) struct Issuers {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) store: Arc<dyn IssuerStore>,
    pub(crate) workspaces: Arc<Workspaces>,
    pub(crate) reach: Reach,
    pub(crate) namespace: Arc<IssuerNamespace>,
    pub(crate) page_tokens: PageTokens,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Issuers {
    async fn create(&self, caller: &Caller, request: wire::CreateIssuerRequest) -> Result<Issuer, Refusal> {
        let draft = request.issuer.ok_or_else(|| Refusal::invalid_field("issuer", "is required"))?;
        let issuer = self.new_issuer(draft)?;
        self.workspaces.check(caller, &issuer.workspace_id, WorkspaceUse::Change).await?;
        // A relationship may have been waiting for this URL.
        self.reach.check(caller, &issuer.workspace_id, &issuer.issuer_url).await?;
        match self.store.create_issuer(&issuer).await.map_err(|error| database_trouble(&error))? {
            CreateOutcome::Created => {}
            CreateOutcome::UrlTaken => return Err(Refusal::already_exists(KIND, &issuer.issuer_url)),
            CreateOutcome::TooMany(most) => {
                let message =
                    format!("the workspace already has {most} issuers, the maximum; delete one that is no longer in use");
                return Err(Refusal::quota_exceeded("Workspace", &issuer.workspace_id, message));
            }
            CreateOutcome::TooManyPerDay(most) => {
                let message = format!("the workspace created {most} issuers in the last 24 h, the maximum; retry later");
                let refusal = Refusal::quota_exceeded("Workspace", &issuer.workspace_id, message);
                return Err(refusal.with_retry(CREATIONS_RETRY));
            }
        }
        tracing::info!(issuer.id = %issuer.id, workspace.id = %issuer.workspace_id, by = caller.subject, "created an issuer");
        self.keeper.follow_own_write().await;
        self.keeper.prepare(&issuer.id).await;
        Ok(issuer)
    }

    fn new_issuer(&self, draft: wire::Issuer) -> Result<Issuer, Refusal> {
        let mut violations = Violations::new();
        let workspace_id = read::<WorkspaceId>("issuer.workspace_id", &draft.workspace_id, &mut violations);
        let id = IssuerId::from_random(self.entropy.bits128());
        let issuer_url =
            if draft.issuer_url.is_empty() { self.namespace.generated(&id) } else { self.namespace.check(&draft.issuer_url) };
        let issuer_url = violations.check("issuer.issuer_url", issuer_url);
        let draft = IssuerDraft::from(draft);
        let profile = draft.profile(&mut violations);
        let settings = IssuerSettings::create(&draft, profile.as_ref(), &mut violations);
        let settings = settings.filter(|settings| self.can_keep_keys(settings, &mut violations));
        let now = self.now();
        match (workspace_id, profile, issuer_url, settings) {
            (Some(workspace_id), Some(profile), Some(issuer_url), Some(settings)) => {
                let (former_subjects, published_until) = (Vec::new(), None);
                let (created_at, updated_at) = (now, now);
                Ok(Issuer {
                    id,
                    workspace_id,
                    issuer_url,
                    profile,
                    former_subjects,
                    settings,
                    revision: 1,
                    created_at,
                    updated_at,
                    published_until,
                })
            }
            _ => Err(Refusal::invalid(violations)),
        }
    }

    /// Whether this deployment can keep keys where an issuer's are to be. If not, that is noted.
    fn can_keep_keys(&self, settings: &IssuerSettings, violations: &mut Violations) -> bool {
        let can = self.keeper.offers(settings.key_custody);
        if !can {
            violations.add("issuer.key_custody", "must be sealed: this deployment has no PKCS #11 token");
        }
        can
    }

    async fn get(&self, caller: &Caller, workspace_id: &WorkspaceId, id: &IssuerId) -> Result<Issuer, Refusal> {
        self.workspaces.check(caller, workspace_id, WorkspaceUse::Read).await?;
        self.stored(workspace_id, id).await
    }

    async fn stored(&self, workspace_id: &WorkspaceId, id: &IssuerId) -> Result<Issuer, Refusal> {
        let found = self.store.get_issuer(workspace_id, id).await.map_err(|error| database_trouble(&error))?;
        found.ok_or_else(|| Refusal::not_found(KIND, id))
    }

    async fn list(&self, caller: &Caller, request: wire::ListIssuersRequest) -> Result<wire::ListIssuersResponse, Refusal> {
        let mut violations = Violations::new();
        let workspace_id = read::<WorkspaceId>("workspace_id", &request.workspace_id, &mut violations);
        page_request::check_size(request.page_size, &mut violations);
        let workspace_id = match workspace_id {
            Some(workspace_id) if violations.is_empty() => workspace_id,
            _ => return Err(Refusal::invalid(violations)),
        };
        self.workspaces.check(caller, &workspace_id, WorkspaceUse::Read).await?;
        let list: &[&[u8]] = &[b"ListIssuers", workspace_id.as_str().as_bytes()];
        let page = PageRequest::<IssuerId>::read(&self.page_tokens, list, request.page_size, &request.page_token)?;
        let after = page.after().map(|last| IssuerPosition { created_at: last.created_at, id: last.id.clone() });
        let listed = self.store.list_issuers(&workspace_id, after.as_ref(), page.limit()).await;
        let mut issuers = listed.map_err(|error| database_trouble(&error))?;
        // The operator reads in every workspace; one without issuers is looked for, as a list that is not there is not empty.
        if issuers.is_empty() && page.after().is_none() && self.workspaces.workspace_state(&workspace_id).await == Ok(None) {
            return Err(Refusal::not_found("Workspace", &workspace_id));
        }
        let next_page_token = page.finish(&mut issuers, |last| Position { created_at: last.created_at, id: last.id.clone() });
        Ok(wire::ListIssuersResponse { issuers: issuers.iter().map(wire::Issuer::from).collect(), next_page_token })
    }

    async fn update(&self, caller: &Caller, request: wire::UpdateIssuerRequest) -> Result<Issuer, Refusal> {
        let wish = request.issuer.ok_or_else(|| Refusal::invalid_field("issuer", "is required"))?;
        let (workspace_id, id) = read_ids(&wish.workspace_id, &wish.id, ["issuer.workspace_id", "issuer.id"])?;
        let mask = mask_paths(request.update_mask);
        let etag = wish.etag.clone();
        let draft = IssuerDraft::from(wish);
        let accepted = request.accept_subject_change.map(SubjectChange::from);
        self.workspaces.check(caller, &workspace_id, WorkspaceUse::Change).await?;
        for _ in 0..UPDATE_ATTEMPTS {
            let present = self.stored(&workspace_id, &id).await?;
            if !Etag::of(&present.id, present.revision).permits(&etag) {
                return Err(Refusal::etag_mismatch(KIND, &id));
            }
            let changed = present.update(&draft, &mask, accepted.as_ref(), self.now())?;
            let mut violations = Violations::new();
            self.can_keep_keys(&changed.settings, &mut violations);
            let changed = violations.into_result(changed)?;
            if !changed.only_takes_from(&present) {
                self.reach.check(caller, &workspace_id, &present.issuer_url).await?;
            }
            match self.store.update_issuer(&changed, present.revision).await.map_err(|error| database_trouble(&error))? {
                WriteOutcome::Done => {
                    tracing::info!(issuer.id = %id, workspace.id = %workspace_id, by = caller.subject, "changed an issuer");
                    if changed.former_subjects.len() > present.former_subjects.len() {
                        tracing::warn!(issuer.id = %id, workspace.id = %workspace_id, "its runs have other subjects from now on");
                    }
                    self.keeper.follow_own_write().await;
                    return Ok(changed);
                }
                WriteOutcome::NotFound => return Err(Refusal::not_found(KIND, &id)),
                WriteOutcome::Stale => {}
            }
        }
        Err(Refusal::etag_mismatch(KIND, &id))
    }

    async fn delete(&self, caller: &Caller, request: wire::DeleteIssuerRequest) -> Result<(), Refusal> {
        let (workspace_id, id) = read_ids(&request.workspace_id, &request.issuer_id, ["workspace_id", "issuer_id"])?;
        self.workspaces.check(caller, &workspace_id, WorkspaceUse::TakeAway).await?;
        let expected_revision = if request.etag.is_empty() {
            None
        } else {
            let present = self.stored(&workspace_id, &id).await?;
            if !Etag::of(&present.id, present.revision).permits(&request.etag) {
                return Err(Refusal::etag_mismatch(KIND, &id));
            }
            Some(present.revision)
        };
        let keys = self.keeper.latest().by_id(&id).map(|issuer| issuer.sealed_keys().collect()).unwrap_or_default();
        let deleted = self.store.delete_issuer(&workspace_id, &id, expected_revision, self.now()).await;
        match deleted.map_err(|error| database_trouble(&error))? {
            WriteOutcome::Done => {
                tracing::info!(issuer.id = %id, workspace.id = %workspace_id, by = caller.subject, "deleted an issuer");
                self.keeper.follow_own_write().await;
                self.keeper.destroy_in_device(&id, keys).await;
                Ok(())
            }
            WriteOutcome::NotFound => Err(Refusal::not_found(KIND, &id)),
            WriteOutcome::Stale => Err(Refusal::etag_mismatch(KIND, &id)),
        }
    }

    /// The time to the microsecond: what is stored is what is answered.
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.clock.now().as_microsecond()).unwrap_or_default()
    }
}

#[tonic::async_trait]
impl IssuerService for Issuers {
    async fn create_issuer(
        &self,
        request: Request<wire::CreateIssuerRequest>,
    ) -> Result<Response<wire::CreateIssuerResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        let issuer = self.create(&caller, request.into_inner()).await?;
        Ok(Response::new(wire::CreateIssuerResponse { issuer: Some((&issuer).into()) }))
    }

    async fn get_issuer(&self, request: Request<wire::GetIssuerRequest>) -> Result<Response<wire::GetIssuerResponse>, Status> {
        let caller = auth::caller(&request)?;
        let wire::GetIssuerRequest { workspace_id, issuer_id } = request.get_ref();
        let (workspace_id, id) = read_ids(workspace_id, issuer_id, ["workspace_id", "issuer_id"])?;
        let issuer = self.get(caller, &workspace_id, &id).await?;
        Ok(Response::new(wire::GetIssuerResponse { issuer: Some((&issuer).into()) }))
    }

    async fn list_issuers(
        &self,
        request: Request<wire::ListIssuersRequest>,
    ) -> Result<Response<wire::ListIssuersResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }

    async fn update_issuer(
        &self,
        request: Request<wire::UpdateIssuerRequest>,
    ) -> Result<Response<wire::UpdateIssuerResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        let issuer = self.update(&caller, request.into_inner()).await?;
        Ok(Response::new(wire::UpdateIssuerResponse { issuer: Some((&issuer).into()) }))
    }

    async fn delete_issuer(
        &self,
        request: Request<wire::DeleteIssuerRequest>,
    ) -> Result<Response<wire::DeleteIssuerResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        self.delete(&caller, request.into_inner()).await?;
        Ok(Response::new(wire::DeleteIssuerResponse {}))
    }
}
