//! `SigningKeyService`: the keys of an issuer, without their private halves.

use std::cmp::Reverse;
use std::sync::Arc;

use countersign_domain::caller::Caller;
use countersign_domain::id::{IssuerId, WorkspaceId};
use countersign_domain::name::KeyId;
use countersign_domain::signing_key::SigningKeyRecord;
use countersign_domain::time::Clock;
use countersign_domain::violation::Violations;
use countersign_proto::common::read;
use countersign_proto::issuer::signing_key;
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::signing_key_service_server::SigningKeyService;
use countersign_proto::status::Refusal;
use countersign_runtime::auth;
use countersign_runtime::page_request::{self, PageRequest, Position};
use countersign_runtime::page_token::PageTokens;
use tonic::{Request, Response, Status};

use super::{check_sees, key_trouble};
use crate::keeper::Keeper;

#[derive(Debug)]
pub(crate) struct SigningKeys {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) page_tokens: PageTokens,
    pub(crate) clock: Arc<dyn Clock>,
}

impl SigningKeys {
    async fn list(
        &self,
        caller: &Caller,
        request: wire::ListSigningKeysRequest,
    ) -> Result<wire::ListSigningKeysResponse, Refusal> {
        let mut violations = Violations::new();
        let workspace_id = read::<WorkspaceId>("workspace_id", &request.workspace_id, &mut violations);
        let issuer_id = read::<IssuerId>("issuer_id", &request.issuer_id, &mut violations);
        page_request::check_size(request.page_size, &mut violations);
        let (workspace_id, issuer_id) = match (workspace_id, issuer_id) {
            (Some(workspace_id), Some(issuer_id)) if violations.is_empty() => (workspace_id, issuer_id),
            _ => return Err(Refusal::invalid(violations)),
        };
        check_sees(caller, &workspace_id)?;
        let issuer = self.keeper.read_again(&issuer_id).await.map_err(|error| key_trouble(&error, &issuer_id))?;
        if issuer.of_workspace().is_none_or(|issuer| issuer.workspace_id != workspace_id) {
            return Err(Refusal::not_found("Issuer", &issuer_id));
        }
        let list: &[&[u8]] = &[b"ListSigningKeys", workspace_id.as_str().as_bytes(), issuer_id.as_str().as_bytes()];
        let page = PageRequest::<KeyId>::read(&self.page_tokens, list, request.page_size, &request.page_token)?;
        let place = |key: &SigningKeyRecord| (Reverse(key.created_at), key.key_id.clone());
        let after = page.after().map(|last| (Reverse(last.created_at), last.id.clone()));
        let behind = issuer.records().iter().filter(|key| after.as_ref().is_none_or(|after| place(key) > *after));
        let mut records: Vec<_> = behind.take(usize::try_from(page.limit()).unwrap_or(usize::MAX)).collect();
        let next_page_token = page.finish(&mut records, |last| Position { created_at: last.created_at, id: last.key_id.clone() });
        let now = self.clock.now();
        Ok(wire::ListSigningKeysResponse {
            signing_keys: records.into_iter().map(|record| signing_key(&issuer_id, record, now)).collect(),
            next_page_token,
        })
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
}
