//! Who makes a call, and what he may do.

use std::collections::BTreeSet;

use crate::access::permission::{Authorization, Permission};
use crate::exchange::lineage::Lineage;
use crate::values::id::{IssuerId, WorkspaceId};

/// An authenticated caller of a public, not-public-classified RPC. Made by `runtime` once per request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who: the access token's `sub`, or `bootstrap`.
    pub subject: String,
    /// What the caller may reach.
    pub authority: Authority,
    /// What tokens that he has issued go back to; `None` for the operator, at whom every line may begin anew.
    pub lineage: Option<Lineage>,
}

/// What a caller may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// The operator: every permission in every workspace. From the bootstrap token.
    Operator,
    /// One workspace, with these permissions. From one of our own access tokens.
    Workspace {
        /// The only workspace that exists for this caller.
        workspace_id: WorkspaceId,
        /// What may be done in it.
        authorizations: BTreeSet<Authorization>,
    },
}

impl Caller {
    /// Whether the caller holds a permission, in the workspaces that exist for him and for every issuer in them.
    pub fn holds(&self, permission: Permission) -> bool {
        self.is_authorized(&permission.into())
    }

    /// Whether the caller holds a permission for this issuer, or for every one.
    pub fn holds_for(&self, permission: Permission, issuer_id: &IssuerId) -> bool {
        self.is_authorized(&Authorization { permission, issuer_id: Some(issuer_id.clone()) })
    }

    /// Whether the caller holds a permission for any issuer.
    pub fn holds_for_any(&self, permission: Permission) -> bool {
        match &self.authority {
            Authority::Operator => true,
            Authority::Workspace { authorizations, .. } => authorizations.iter().any(|held| held.permission == permission),
        }
    }

    /// Whether the caller holds at least this.
    pub fn is_authorized(&self, wanted: &Authorization) -> bool {
        match &self.authority {
            Authority::Operator => true,
            Authority::Workspace { authorizations, .. } => {
                authorizations.contains(wanted) || authorizations.contains(&wanted.permission.into())
            }
        }
    }

    /// Whether the caller is the operator of the deployment.
    pub fn is_operator(&self) -> bool {
        matches!(self.authority, Authority::Operator)
    }

    /// Whether a workspace exists for this caller. To answer `false` as anything but "not found" would tell of other tenants
    /// (SECURITY 33).
    pub fn sees(&self, workspace_id: &WorkspaceId) -> bool {
        match &self.authority {
            Authority::Operator => true,
            Authority::Workspace { workspace_id: own, .. } => own == workspace_id,
        }
    }

    /// The only workspace that exists for this caller; `None` when all do.
    pub fn only_workspace(&self) -> Option<&WorkspaceId> {
        match &self.authority {
            Authority::Operator => None,
            Authority::Workspace { workspace_id, .. } => Some(workspace_id),
        }
    }
}
