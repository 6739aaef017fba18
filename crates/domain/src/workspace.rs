//! Workspaces: the tenants that own every other resource.

use serde::{Deserialize, Serialize};

use crate::id::WorkspaceId;
use crate::name::DisplayName;
use crate::time::Timestamp;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// For people.
    pub display_name: DisplayName,
    /// Whether tokens are exchanged for it.
    pub state: WorkspaceState,
    /// Counts the changes of the workspace itself; the etag is made of it.
    pub revision: i64,
    /// Counts the changes of everything in it that bears on exchanges. Grows in commit order.
    pub policy_revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Whether a workspace is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceState {
    /// Tokens are exchanged.
    Active,
    /// Nothing is minted.
    Disabled,
}
