//! Who calls, and whether he may.
//!
//! One layer authenticates and authorises every gRPC request by the table in `countersign_proto::access`; a handler asks
//! [`caller`] for the result and is left with the question of which workspaces exist for him:
//!
//! ```
//! # use countersign_runtime::auth;
//! # use countersign_proto::status::Refusal;
//! # use countersign_domain::values::id::WorkspaceId;
//! # struct GetWorkspaceRequest;
//! fn get(request: &tonic::Request<GetWorkspaceRequest>, id: &WorkspaceId) -> Result<(), Refusal> {
//!     let caller = auth::caller(request)?;
//!     if !caller.sees(id) {
//!         return Err(Refusal::not_found("Workspace", id));
//!     }
//!     Ok(())
//! }
//! ```

mod access_token;

use std::sync::Arc;

use access_token::AccessTokens;
pub use access_token::{KeySource, StateUnknown, WorkspaceStates};
use countersign_domain::access::caller::{Authority, Caller};
use countersign_domain::access::permission::Permission;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::Clock;
use countersign_proto::status::Refusal;
use http::{HeaderMap, header};

use crate::secret::BootstrapToken;

/// The caller of a request, once the layer let it pass.
///
/// # Errors
/// `CREDENTIALS_MISSING`: the method is public or internal, where nobody is asked who he is.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<&Caller, Refusal> {
    request.extensions().get::<Arc<Caller>>().map(AsRef::as_ref).ok_or_else(credentials_missing)
}

/// Authenticates callers. Whatever it is not given the means to accept, it refuses.
#[derive(Debug, Clone, Default)]
pub struct Authenticator {
    bootstrap: Option<BootstrapToken>,
    access_tokens: Option<AccessTokens>,
}

impl Authenticator {
    /// Accepts nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts the bootstrap token, as the operator.
    #[must_use]
    pub fn with_bootstrap_token(mut self, token: Option<BootstrapToken>) -> Self {
        self.bootstrap = token;
        self
    }

    /// Accepts this deployment's own access tokens, of workspaces that are active: `issuer`, the gateway's public URL, is both
    /// their `iss` and an element of their `aud`.
    #[must_use]
    pub fn with_access_tokens(
        mut self,
        issuer: &str,
        keys: Arc<dyn KeySource>,
        workspaces: Arc<dyn WorkspaceStates>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        self.access_tokens = Some(AccessTokens::new(issuer, keys, workspaces, clock));
        self
    }

    /// Who the credentials in these headers belong to.
    ///
    /// # Errors
    /// `CREDENTIALS_MISSING`, `CREDENTIALS_INVALID`, or `TEMPORARILY_UNAVAILABLE` when the keys or the state of the workspace
    /// cannot be had.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let token = bearer_token(headers)?;
        if self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.matches(token)) {
            return Ok(Caller { subject: "bootstrap".to_owned(), authority: Authority::Operator, lineage: None });
        }
        match &self.access_tokens {
            Some(access_tokens) => access_tokens.authenticate(token).await,
            None => Err(credentials_invalid()),
        }
    }

    /// Like [`authenticate`](Self::authenticate), and the caller must hold a permission, be it for one issuer alone.
    ///
    /// # Errors
    /// `PERMISSION_MISSING` besides.
    pub async fn authorise(&self, headers: &HeaderMap, permission: Permission) -> Result<Caller, Refusal> {
        let caller = self.authenticate(headers).await?;
        if caller.holds_for_any(permission) { Ok(caller) } else { Err(Refusal::permission_missing(permission)) }
    }
}

/// The credentials of RFC 6750, section 2.1: exactly one header, one scheme in any case, one token.
fn bearer_token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(credentials_missing)?;
    if values.next().is_some() {
        return Err(credentials_invalid());
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(credentials_invalid)?;
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() { Ok(token) } else { Err(credentials_invalid()) }
}

fn credentials_missing() -> Refusal {
    Refusal::new(Reason::CredentialsMissing, "the call needs credentials: `authorization: Bearer <access token>`")
}

fn credentials_invalid() -> Refusal {
    Refusal::new(Reason::CredentialsInvalid, "the credentials do not verify or have expired")
}
