//! What gateways learn of policies: a directory of every workspace, the whole policy of one, and changes of it.

use crate::trust::trust_relationship::TrustRelationship;
use crate::trust::trusted_issuer::TrustedIssuer;
use crate::trust::workspace::WorkspaceState;
use crate::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use crate::values::issuer_url::IssuerUrl;
use crate::values::name::DisplayName;

/// What a gateway must know of a workspace before it loads its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Which workspace.
    pub workspace_id: WorkspaceId,
    /// Whether tokens are exchanged for it.
    pub state: WorkspaceState,
    /// Grows with every change of the workspace or of anything it owns that bears on exchanges.
    pub policy_revision: i64,
    /// The issuers it registered, enabled or not.
    pub issuer_urls: Vec<IssuerUrl>,
    /// For people.
    pub display_name: DisplayName,
}

/// A change of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryChange {
    /// The workspace is new or changed.
    Changed(DirectoryEntry),
    /// The workspace is gone.
    Deleted(WorkspaceId),
}

/// Everything that bears on the exchanges of one workspace, as of one revision. A part of it, on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySnapshot {
    /// Which workspace.
    pub workspace_id: WorkspaceId,
    /// Whether tokens are exchanged for it.
    pub state: WorkspaceState,
    /// As of which revision.
    pub policy_revision: i64,
    /// The issuers, enabled or not.
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// The relationships, enabled or not.
    pub trust_relationships: Vec<TrustRelationship>,
}

/// What changed in one workspace up to a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// Which workspace.
    pub workspace_id: WorkspaceId,
    /// Whether tokens are exchanged for it.
    pub state: WorkspaceState,
    /// The revision this change leads to.
    pub policy_revision: i64,
    /// New and changed issuers.
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// New and changed relationships.
    pub trust_relationships: Vec<TrustRelationship>,
    /// Issuers that are gone.
    pub deleted_trusted_issuer_ids: Vec<TrustedIssuerId>,
    /// Relationships that are gone.
    pub deleted_trust_relationship_ids: Vec<TrustRelationshipId>,
}
