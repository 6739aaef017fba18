//! Issuers: the identities this deployment signs ID tokens for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{IssuerId, WorkspaceId};
use crate::issuer_url::IssuerUrl;
use crate::name::{Audience, DisplayName};
use crate::profile::BuiltInProfile;
use crate::time::Timestamp;
use crate::trusted_issuer::SignatureAlgorithm;

/// An identity this deployment signs for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its id.
    pub id: IssuerId,
    /// The owner.
    pub workspace_id: WorkspaceId,
    /// The `iss` of its tokens. Unique in the deployment; never changes, never used again.
    pub issuer_url: IssuerUrl,
    /// How `sub` is built. Never changes.
    pub profile: BuiltInProfile,
    /// Everything an operator may set.
    pub settings: IssuerSettings,
    /// Counts its changes; the etag is made of it.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What an operator may set of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerSettings {
    /// For people.
    pub display_name: Option<DisplayName>,
    /// The algorithms it signs with, each at most once; the first is the default. Of RS256, ES256, ES384, EdDSA. Never empty.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// The audiences a token may be asked for. Empty: any.
    pub allowed_audiences: Vec<Audience>,
    /// How long a token lives when the request does not say.
    pub default_token_duration: Duration,
    /// The longest a token may live.
    pub max_token_duration: Duration,
}
