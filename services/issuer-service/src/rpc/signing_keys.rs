//! `SigningKeyService`: the keys of an issuer, without their private halves.

use std::cmp::Reverse;
use std::sync::Arc;

use countersign_domain::access::caller::Caller;
use countersign_domain::issuing::signing_key::{self, RotationRefused, SigningKeyRecord};
use countersign_domain::trust::workspace::WorkspaceUse;
use countersign_domain::values::id::{IssuerId, WorkspaceId};
use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::time::{Clock, Timestamp};
use countersign_domain::values::violation::Violations;
use countersign_proto::common::read;
use countersign_proto::issuer;
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::signing_key_service_server::SigningKeyService;
use countersign_proto::status::Refusal;
use countersign_runtime::auth;
use countersign_runtime::page_request::{self, PageRequest, Position};
use countersign_runtime::page_token::PageTokens;
use tonic::{Request, Response, Status};

use super::key_trouble;
use crate::directory::LoadedIssuer;
use crate::keeper::Keeper;
use crate::keeper::keys::{Rewrapped, RotateError, Rotated};
use crate::workspaces::Workspaces;

#[derive(Debug)]
pub(crate) struct SigningKeys {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) workspaces: Arc<Workspaces>,
    pub(crate) page_tokens: PageTokens,
    pub(crate) clock: Arc<dyn Clock>,
    /// The deployment's own issuer.
    pub(crate) access_token_issuer: IssuerId,
}

/// The issuer that a request names.
#[derive(Debug)]
struct Named {
    /// `None`: the deployment's own issuer.
    workspace_id: Option<WorkspaceId>,
    issuer_id: IssuerId,
}

impl SigningKeys {
    async fn list(
        &self,
        caller: &Caller,
        request: wire::ListSigningKeysRequest,
    ) -> Result<wire::ListSigningKeysResponse, Refusal> {
        let mut violations = Violations::new();
        let named = self.read_names(caller, &request.workspace_id, &request.issuer_id, &mut violations);
        page_request::check_size(request.page_size, &mut violations);
        let Some(named) = named.filter(|_| violations.is_empty()) else { return Err(Refusal::invalid(violations)) };
        let issuer = self.find(caller, &named, WorkspaceUse::Read).await?;
        let list: &[&[u8]] = &[b"ListSigningKeys", request.workspace_id.as_bytes(), named.issuer_id.as_str().as_bytes()];
        let page = PageRequest::<KeyId>::read(&self.page_tokens, list, request.page_size, &request.page_token)?;
        let place = |key: &SigningKeyRecord| (Reverse(key.created_at), key.key_id.clone());
        let after = page.after().map(|last| (Reverse(last.created_at), last.id.clone()));
        let behind = issuer.records().iter().filter(|key| after.as_ref().is_none_or(|after| place(key) > *after));
        let mut records: Vec<_> = behind.take(usize::try_from(page.limit()).unwrap_or(usize::MAX)).collect();
        let next_page_token = page.finish(&mut records, |last| Position { created_at: last.created_at, id: last.key_id.clone() });
        let now = self.clock.now();
        let signing_keys = records.into_iter().map(|record| self.shown(&issuer, record, now)).collect();
        Ok(wire::ListSigningKeysResponse { signing_keys, next_page_token })
    }

    async fn rotate(
        &self,
        caller: &Caller,
        request: wire::RotateSigningKeyRequest,
    ) -> Result<wire::RotateSigningKeyResponse, Refusal> {
        let mut violations = Violations::new();
        let named = self.read_names(caller, &request.workspace_id, &request.issuer_id, &mut violations);
        let algorithm = if request.algorithm.is_empty() {
            None
        } else {
            read::<SignatureAlgorithm>("algorithm", &request.algorithm, &mut violations)
        };
        let Some(named) = named.filter(|_| violations.is_empty()) else { return Err(Refusal::invalid(violations)) };
        let issuer = self.find(caller, &named, WorkspaceUse::Change).await?;
        let ((Some(algorithm), _) | (None, &[algorithm])) = (algorithm, issuer.algorithms()) else {
            return Err(Refusal::invalid_field("algorithm", "must be given, as the issuer has more than one"));
        };
        let rotated = self.keeper.rotate(&named.issuer_id, algorithm).await;
        let Rotated { issuer, key_id, was_prepared } = rotated.map_err(|error| match error {
            RotateError::Refused(why @ RotationRefused::Algorithm) => Refusal::invalid_field("algorithm", why.to_string()),
            RotateError::Refused(why @ RotationRefused::TooManyPublished) => {
                Refusal::failed_precondition("Issuer", &named.issuer_id, why.to_string())
            }
            RotateError::Keeper(error) => key_trouble(&error, &named.issuer_id),
        })?;
        tracing::info!(issuer.id = %named.issuer_id, key.id = %key_id, was_prepared, by = caller.subject, "rotates a signing key");
        Ok(wire::RotateSigningKeyResponse {
            signing_key: self.shown_by_id(&issuer, &key_id, self.clock.now()),
            already_prepared: was_prepared,
        })
    }

    async fn revoke(
        &self,
        caller: &Caller,
        request: wire::RevokeSigningKeyRequest,
    ) -> Result<wire::RevokeSigningKeyResponse, Refusal> {
        let mut violations = Violations::new();
        let named = self.read_names(caller, &request.workspace_id, &request.issuer_id, &mut violations);
        let key_id = read::<KeyId>("key_id", &request.key_id, &mut violations);
        let (Some(named), Some(key_id)) = (named, key_id) else { return Err(Refusal::invalid(violations)) };
        self.find(caller, &named, WorkspaceUse::TakeAway).await?;
        let revoked = self.keeper.revoke(&named.issuer_id, &key_id).await;
        let revoked = revoked.map_err(|error| key_trouble(&error, &named.issuer_id))?;
        let issuer = revoked.ok_or_else(|| Refusal::not_found("SigningKey", &key_id))?;
        tracing::info!(issuer.id = %named.issuer_id, key.id = %key_id, by = caller.subject, "a signing key is revoked");
        let now = self.clock.now();
        let algorithm = issuer.records().iter().find(|key| key.key_id == key_id).map(|key| key.algorithm);
        let active = algorithm.and_then(|algorithm| signing_key::signer(now, issuer.records(), algorithm));
        Ok(wire::RevokeSigningKeyResponse {
            signing_key: self.shown_by_id(&issuer, &key_id, now),
            active_signing_key: active.map(|record| self.shown(&issuer, record, now)),
        })
    }

    /// Reads which issuer is meant. Without a workspace it is the deployment's own, for the operator alone: to everybody else it
    /// is a field that is missing.
    fn read_names(&self, caller: &Caller, workspace_id: &str, issuer_id: &str, violations: &mut Violations) -> Option<Named> {
        let is_own = workspace_id.is_empty() && caller.is_operator();
        let workspace_id = if is_own { Some(None) } else { read("workspace_id", workspace_id, violations).map(Some) };
        let issuer_id = if is_own && issuer_id.is_empty() {
            Some(self.access_token_issuer.clone())
        } else {
            read("issuer_id", issuer_id, violations)
        };
        Some(Named { workspace_id: workspace_id?, issuer_id: issuer_id? })
    }

    /// The issuer as the database has it now.
    async fn find(&self, caller: &Caller, named: &Named, wanted: WorkspaceUse) -> Result<Arc<LoadedIssuer>, Refusal> {
        if let Some(workspace_id) = &named.workspace_id {
            self.workspaces.check(caller, workspace_id, wanted).await?;
        }
        let found = self.keeper.read_again(&named.issuer_id).await;
        let issuer = found.map_err(|error| key_trouble(&error, &named.issuer_id))?;
        if issuer.of_workspace().map(|issuer| &issuer.workspace_id) == named.workspace_id.as_ref() {
            Ok(issuer)
        } else {
            Err(Refusal::not_found("Issuer", &named.issuer_id))
        }
    }

    fn shown(&self, issuer: &LoadedIssuer, record: &SigningKeyRecord, now: Timestamp) -> wire::SigningKey {
        let outlook = issuer.keyring(&self.keeper.policies(), self.keeper.exports()).outlook(now, record);
        issuer::signing_key(issuer.identity.id(), record, issuer.custody_of(record), outlook, now)
    }

    fn shown_by_id(&self, issuer: &LoadedIssuer, key_id: &KeyId, now: Timestamp) -> Option<wire::SigningKey> {
        let record = issuer.records().iter().find(|key| key.key_id == *key_id)?;
        Some(self.shown(issuer, record, now))
    }
}

#[tonic::async_trait]
impl SigningKeyService for SigningKeys {
    async fn list_signing_keys(
        &self,
        request: Request<wire::ListSigningKeysRequest>,
    ) -> Result<Response<wire::ListSigningKeysResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }

    async fn rotate_signing_key(
        &self,
        request: Request<wire::RotateSigningKeyRequest>,
    ) -> Result<Response<wire::RotateSigningKeyResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        Ok(Response::new(self.rotate(&caller, request.into_inner()).await?))
    }

    async fn revoke_signing_key(
        &self,
        request: Request<wire::RevokeSigningKeyRequest>,
    ) -> Result<Response<wire::RevokeSigningKeyResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        Ok(Response::new(self.revoke(&caller, request.into_inner()).await?))
    }

    async fn rewrap_signing_keys(
        &self,
        request: Request<wire::RewrapSigningKeysRequest>,
    ) -> Result<Response<wire::RewrapSigningKeysResponse>, Status> {
        let caller = auth::caller(&request)?;
        let Rewrapped { done: rewrapped, already, not_opened } =
            self.keeper.rewrap().await.map_err(|error| key_trouble(&error, &self.access_token_issuer))?;
        tracing::info!(rewrapped, already, not_opened, by = caller.subject, "sealed signing keys anew");
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Ok(Response::new(wire::RewrapSigningKeysResponse {
            rewrapped: count(rewrapped),
            already_wrapped: count(already),
            not_opened: count(not_opened),
            key_encryption_key_id: self.keeper.key_encryption_key_id().to_string(),
        }))
    }
}
