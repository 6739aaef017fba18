//! `TokenService`: ID tokens.

use std::sync::Arc;
use std::time::Duration;

use countersign_domain::access::caller::Caller;
use countersign_domain::access::permission::Permission;
use countersign_domain::exchange::lineage::LineageEnds;
use countersign_domain::issuing::id_token::{ID_TOKEN_TYPE, IdTokenTerms, IdTokenWish};
use countersign_domain::issuing::issuer::Issuer;
use countersign_domain::issuing::signing_key;
use countersign_domain::trust::workspace::WorkspaceUse;
use countersign_domain::values::id::{IssuerId, WorkspaceId};
use countersign_domain::values::reason::Reason;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::time::{Clock, Entropy, Timestamp};
use countersign_domain::values::violation::Violations;
use countersign_jose::{Signer, SigningError};
use countersign_proto::common::{read, timestamp};
use countersign_proto::issuer;
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::token_service_server::TokenService;
use countersign_proto::status::Refusal;
use countersign_runtime::auth;
use tonic::{Request, Response, Status};

use super::key_trouble;
use crate::directory::LoadedIssuer;
use crate::keeper::{Asker, Keeper};
use crate::workspaces::Workspaces;

#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) workspaces: Arc<Workspaces>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// A token as it is given out. It has no `Debug`, which would show it.
struct Issued {
    id_token: String,
    subject: String,
    expires_at: Timestamp,
}

impl Tokens {
    async fn issue_for_run(&self, caller: &Caller, request: wire::IssueIdTokenRequest) -> Result<Issued, Refusal> {
        let loaded = self.find(caller, &request.workspace_id, &request.issuer_id).await?;
        let issuer_id = loaded.identity.id();
        if !caller.holds_for(Permission::IdTokensIssue, issuer_id) {
            return Err(Refusal::permission_missing(Permission::IdTokensIssue));
        }
        self.issue(caller, loaded, request.into()).await
    }

    async fn issue_for_caller(&self, caller: &Caller, request: wire::IssueOwnIdTokenRequest) -> Result<Issued, Refusal> {
        if caller.is_operator() {
            let message = "the bootstrap token is nobody that an ID token could speak of: call with an access token";
            return Err(Refusal::failed_precondition("Caller", &caller.subject, message));
        }
        let loaded = self.find(caller, &request.workspace_id, &request.issuer_id).await?;
        self.issue(caller, loaded, issuer::own_id_token_wish(request, &caller.subject)).await
    }

    async fn issue(&self, caller: &Caller, loaded: Arc<LoadedIssuer>, wish: IdTokenWish) -> Result<Issued, Refusal> {
        let issuer = loaded.of_workspace().ok_or_else(|| Refusal::not_found("Issuer", loaded.identity.id()))?;

        // Before anything else is said of the wish: the caller has to begin anew whatever he asks for.
        let lineage = caller.lineage.map(|lineage| lineage.next(self.clock.now())).transpose().map_err(line_ended)?;
        let terms = wish.within(issuer)?;

        let issuer_id = issuer.id.clone();
        let in_use = self.keeper.in_use_soon(Arc::clone(&loaded)).await.map_err(|error| key_trouble(&error, &issuer_id))?;
        let now = self.clock.now();
        let key = signer(&in_use, issuer, &terms, now)?;
        let claims = terms.claims(now, self.entropy.bits128(), lineage);
        let (subject, expires_at) = (claims.subject().to_string(), claims.expires_at());
        let claims = serde_json::to_vec(&claims).map_err(|_| Refusal::internal())?;
        let id_token = sign(Arc::clone(&key), ID_TOKEN_TYPE, claims).await?;
        tracing::info!(issuer.id = %issuer_id, key.id = %key.key_id(), by = caller.subject, "issued an ID token");
        Ok(Issued { id_token, subject, expires_at })
    }

    /// The issuer that is asked: the one named, or the only one of the workspace.
    async fn find(&self, caller: &Caller, workspace_id: &str, issuer_id: &str) -> Result<Arc<LoadedIssuer>, Refusal> {
        let mut violations = Violations::new();
        let workspace_id = read::<WorkspaceId>("workspace_id", workspace_id, &mut violations);
        let issuer_id = if issuer_id.is_empty() { None } else { read::<IssuerId>("issuer_id", issuer_id, &mut violations) };
        let workspace_id = match workspace_id {
            Some(workspace_id) if violations.is_empty() => workspace_id,
            _ => return Err(Refusal::invalid(violations)),
        };
        self.workspaces.check(caller, &workspace_id, WorkspaceUse::Sign).await?;
        let own = |issuer: &&Arc<LoadedIssuer>| issuer.of_workspace().is_some_and(|issuer| issuer.workspace_id == workspace_id);
        let found = self.keeper.find(Asker::Caller, |directory| {
            let mut found = match &issuer_id {
                Some(id) => directory.by_id(id).filter(own).into_iter().collect(),
                None => directory.of_workspace(&workspace_id, 2),
            }
            .into_iter()
            .cloned();
            // None, or the only one, or one of several.
            Some((found.next()?, found.next().is_some()))
        });
        let name = || issuer_id.as_ref().map_or_else(|| format!("in {workspace_id}"), ToString::to_string);
        match found.await {
            Ok(Some((only, false))) => Ok(only),
            Ok(Some((_, true))) => {
                Err(Refusal::invalid_field("issuer_id", "must be given, as the workspace has more than one issuer"))
            }
            Ok(None) => Err(Refusal::not_found("Issuer", name())),
            Err(error) => Err(key_trouble(&error, name())),
        }
    }
}

/// Nobody renews himself past his trust (SECURITY 54).
fn line_ended(ends: LineageEnds) -> Refusal {
    Refusal::new(Reason::CredentialsInvalid, format!("{ends}: begin anew with a token of the issuer that vouches for you"))
}

/// The key for the algorithm that was asked for, or else the issuer's default.
fn signer(loaded: &LoadedIssuer, issuer: &Issuer, terms: &IdTokenTerms, now: Timestamp) -> Result<Arc<dyn Signer>, Refusal> {
    let wanted = terms.algorithm();
    let key = wanted.map_or_else(|| loaded.default_signer(now), |algorithm| loaded.signer(now, algorithm));
    let candidates = wanted.as_ref().map_or(issuer.settings.algorithms.as_slice(), std::slice::from_ref);
    key.cloned().ok_or_else(|| not_yet(loaded, candidates, now))
}

/// A key that was made for an algorithm just added signs when every verifier has seen it (SECURITY 56).
fn not_yet(loaded: &LoadedIssuer, algorithms: &[SignatureAlgorithm], now: Timestamp) -> Refusal {
    let activation = algorithms.iter().filter_map(|&algorithm| signing_key::next_activation(now, &loaded.keys, algorithm)).min();
    let refusal = Refusal::unavailable("no key of that algorithm signs yet; verifiers must have seen it first");
    match activation.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()) {
        Some(wait) => refusal.with_retry(wait),
        // It waits for the export, which takes a moment.
        None => refusal.with_retry(Duration::from_secs(1)),
    }
}

/// Signs; RSA, which takes most of a millisecond, and devices not on this thread.
async fn sign(key: Arc<dyn Signer>, typ: &'static str, claims: Vec<u8>) -> Result<String, Refusal> {
    let signed = if key.takes_long() {
        tokio::task::spawn_blocking(move || key.sign(typ, &claims)).await.map_err(|_| Refusal::internal())?
    } else {
        key.sign(typ, &claims)
    };
    signed.map_err(|error| match error {
        SigningError::TooLong => Refusal::invalid_field("audiences", "make the token, with the run's claims, longer than 16 KiB"),
        SigningError::Device => {
            tracing::warn!("an ID token is not signed: its device cannot be used");
            Refusal::unavailable("the device that keeps the issuer's keys cannot be used")
        }
        error => {
            tracing::error!(%error, "cannot sign an ID token");
            Refusal::internal()
        }
    })
}

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn issue_id_token(
        &self,
        request: Request<wire::IssueIdTokenRequest>,
    ) -> Result<Response<wire::IssueIdTokenResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        let Issued { id_token, subject, expires_at } = self.issue_for_run(&caller, request.into_inner()).await?;
        Ok(Response::new(wire::IssueIdTokenResponse { id_token, subject, expire_time: Some(timestamp(expires_at)) }))
    }

    async fn issue_own_id_token(
        &self,
        request: Request<wire::IssueOwnIdTokenRequest>,
    ) -> Result<Response<wire::IssueOwnIdTokenResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        let Issued { id_token, subject, expires_at } = self.issue_for_caller(&caller, request.into_inner()).await?;
        Ok(Response::new(wire::IssueOwnIdTokenResponse { id_token, subject, expire_time: Some(timestamp(expires_at)) }))
    }
}
