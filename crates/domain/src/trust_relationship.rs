//! Trust relationships: which tokens of a trusted issuer get what.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::grant::Grant;
use crate::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use crate::name::{Audience, DisplayName, Scope};
use crate::subject_match::SubjectMatch;
use crate::time::Timestamp;

/// Which tokens of one trusted issuer are accepted, and what they are exchanged for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRelationship {
    /// Its id.
    pub id: TrustRelationshipId,
    /// The owner.
    pub workspace_id: WorkspaceId,
    /// The issuer whose tokens are meant.
    pub trusted_issuer_id: TrustedIssuerId,
    /// Everything an operator may set.
    pub settings: TrustRelationshipSettings,
    /// Counts its changes; the etag is made of it, and commits are checked against it.
    pub revision: i64,
    /// Who created it: the caller's subject.
    pub creator: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What an operator may set of a trust relationship.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRelationshipSettings {
    /// For people.
    pub display_name: Option<DisplayName>,
    /// The accepted subjects; one must match. Never empty.
    pub subject_matches: Vec<SubjectMatch>,
    /// Narrows the trusted issuer's accepted audiences. Empty: no narrower.
    pub subject_audiences: Vec<Audience>,
    /// What may stand in the access token's `aud`; the first is the default. Empty: the deployment's own audience.
    pub access_token_audiences: Vec<Audience>,
    /// What the access token's `scope` may hold.
    pub scopes: Vec<Scope>,
    /// What the access token allows.
    pub grants: Vec<Grant>,
    /// How long the access token lives.
    pub token_duration: Duration,
    /// When the relationship stops to hold.
    pub expires_at: Option<Timestamp>,
    /// Whether the relationship holds.
    pub enabled: bool,
}

impl TrustRelationshipSettings {
    /// The shortest `token_duration` that can be set.
    pub const MIN_TOKEN_DURATION: Duration = Duration::from_mins(1);
    /// The longest `token_duration` that can be set.
    pub const MAX_TOKEN_DURATION: Duration = Duration::from_hours(12);
    /// `token_duration` when nothing is said.
    pub const DEFAULT_TOKEN_DURATION: Duration = Duration::from_hours(1);
}
