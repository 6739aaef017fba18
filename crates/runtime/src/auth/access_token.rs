//! This deployment's own access tokens as credentials of callers.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use countersign_domain::access::caller::{Authority, Caller};
use countersign_domain::access::permission::{Authorization, Reach};
use countersign_domain::exchange::access_token;
use countersign_domain::exchange::claims::Claims;
use countersign_domain::exchange::lineage::Lineage;
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::name::AccessTokenSubject;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::{Clock, Timestamp};
use countersign_domain::values::token_type::TokenType;
use countersign_jose::{KeySet, SignatureAlgorithm, UnverifiedToken, VerificationPolicy, VerifiedToken, VerifyError};
use countersign_proto::status::Refusal;

use super::credentials_invalid;

/// Where the keys that verify this deployment's own access tokens come from.
#[async_trait]
pub trait KeySource: Send + Sync + fmt::Debug {
    /// The key set as it is known; `unknown_key` says that it lacks the key of the token at hand, so that the source may fetch
    /// it again (it bounds how often). `None`: no keys can be had now, so the call is refused as unavailable.
    async fn key_set(&self, unknown_key: bool) -> Option<Arc<KeySet>>;
}

/// The state of workspaces, as a service knows it: the access token of a workspace that is not active is no credential (SECURITY 82).
#[async_trait]
pub trait WorkspaceStates: Send + Sync + fmt::Debug {
    /// The state of a workspace, at most a few seconds old while trust-service can be reached and never older than the staleness
    /// limit; `None` where there is no such workspace.
    ///
    /// # Errors
    /// The state is not known now, so the call is refused as unavailable.
    async fn workspace_state(&self, id: &WorkspaceId) -> Result<Option<WorkspaceState>, StateUnknown>;
}

/// What is known of the state of workspaces is too old to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state of the workspace is not known at the moment")]
pub struct StateUnknown;

impl From<StateUnknown> for Refusal {
    fn from(unknown: StateUnknown) -> Self {
        Self::unavailable(unknown.to_string())
    }
}

static ALGORITHMS: LazyLock<BTreeSet<SignatureAlgorithm>> = LazyLock::new(|| [access_token::ALGORITHM].into());
static TOKEN_TYPES: LazyLock<BTreeSet<Option<TokenType>>> =
    LazyLock::new(|| [Some(TokenType::new(access_token::TOKEN_TYPE))].into());
/// How far ahead of ours the clock of the service that signed may be.
const CLOCK_SKEW: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);

#[derive(Debug, Clone)]
pub(super) struct AccessTokens {
    issuer: Arc<str>,
    keys: Arc<dyn KeySource>,
    workspaces: Arc<dyn WorkspaceStates>,
    clock: Arc<dyn Clock>,
}

impl AccessTokens {
    pub(super) fn new(
        issuer: &str,
        keys: Arc<dyn KeySource>,
        workspaces: Arc<dyn WorkspaceStates>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { issuer: issuer.into(), keys, workspaces, clock }
    }

    pub(super) async fn authenticate(&self, token: &str) -> Result<Caller, Refusal> {
        let verified = self.verify(token).await?;
        let caller = self.caller(verified.claims(), self.clock.now()).ok_or_else(credentials_invalid)?;
        if let Some(workspace_id) = caller.only_workspace() {
            self.check_active(workspace_id).await?;
        }
        Ok(caller)
    }

    /// Checks that the workspace that a verified token speaks for is in use.
    async fn check_active(&self, workspace_id: &WorkspaceId) -> Result<(), Refusal> {
        match self.workspaces.workspace_state(workspace_id).await? {
            Some(WorkspaceState::Active) => Ok(()),
            Some(WorkspaceState::Disabled) | None => {
                Err(Refusal::new(Reason::CredentialsInvalid, "the workspace of the credentials is disabled or does not exist"))
            }
        }
    }

    async fn verify(&self, token: &str) -> Result<VerifiedToken<AccessTokenSubject>, Refusal> {
        let keys_unavailable = || Refusal::unavailable("the keys that verify access tokens cannot be had");
        let parse = || {
            let unverified = UnverifiedToken::parse(token).map_err(|_| credentials_invalid())?;
            // Anybody else's token is not worth a look for keys.
            if unverified.unverified_issuer() == &*self.issuer { Ok(unverified) } else { Err(credentials_invalid()) }
        };
        let policy = VerificationPolicy { algorithms: &ALGORITHMS, token_types: &TOKEN_TYPES };
        let unverified = parse()?;
        let keys = self.keys.key_set(false).await.ok_or_else(keys_unavailable)?;
        match unverified.verify_access_token(&keys, &policy) {
            Ok(verified) => Ok(verified),
            Err(VerifyError::UnknownKey) => {
                let keys = self.keys.key_set(true).await.ok_or_else(keys_unavailable)?;
                parse()?.verify_access_token(&keys, &policy).map_err(|_| credentials_invalid())
            }
            Err(_) => Err(credentials_invalid()),
        }
    }

    /// Who a verified token speaks for; `None` when it is not, or no longer, for us.
    fn caller(&self, claims: &Claims<AccessTokenSubject>, now: Timestamp) -> Option<Caller> {
        let soon = now.checked_add(CLOCK_SKEW).ok()?;
        let current = claims.issuer == *self.issuer
            && claims.audiences.iter().any(|audience| audience.as_str() == &*self.issuer)
            && now < claims.expires_at
            && claims.issued_at <= soon
            && claims.not_before.is_none_or(|not_before| not_before <= soon)
            // Nothing here asks for a proof of possession (SECURITY 79).
            && !claims.is_bound_to_key();
        if !current {
            return None;
        }
        let workspace_id: WorkspaceId = claims.members.get("workspace_id")?.as_str()?.parse().ok()?;
        let scopes = match claims.members.get("scope") {
            None => "",
            Some(scope) => scope.as_str()?,
        };
        // A deployment-wide permission never comes from a workspace's token, whatever it says.
        let authorizations = scopes
            .split(' ')
            .filter_map(|scope| scope.parse::<Authorization>().ok())
            .filter(|authorization| authorization.permission.reach() == Reach::Workspace)
            .collect();
        Some(Caller {
            subject: claims.subject.as_str().to_owned(),
            authority: Authority::Workspace { workspace_id, authorizations },
            lineage: Some(claims.lineage.unwrap_or_else(|| Lineage::beginning(claims.issued_at))),
        })
    }
}
