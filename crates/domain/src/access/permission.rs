//! Permissions of this deployment's own API.

use std::fmt;
use std::str::FromStr;

use crate::values::id::IssuerId;
use crate::values::name::Scope;

/// What begins every scope that is a permission of ours. Nobody grants one that he does not hold.
pub const RESERVED_SCOPE_PREFIX: &str = "countersign:";

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $scope:literal, $reach:ident;)+) => {
        /// One permission: the right to call certain RPCs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Permission {
            $($(#[$doc])* $name,)+
        }

        impl Permission {
            /// Every permission.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The scope that carries it in an access token.
            pub const fn as_scope(self) -> &'static str {
                match self { $(Self::$name => concat!("countersign:", $scope),)+ }
            }

            /// How far it reaches.
            pub const fn reach(self) -> Reach {
                match self { $(Self::$name => Reach::$reach,)+ }
            }
        }
    };
}

/// How far a permission reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The caller's own workspace. A trust relationship may grant it.
    Workspace,
    /// The deployment. Only the operator holds it; no workspace can grant it.
    Deployment,
}

permissions! {
    /// Create workspaces.
    WorkspacesCreate = "workspaces.create", Deployment;
    /// Read workspaces.
    WorkspacesGet = "workspaces.get", Workspace;
    /// Change workspaces.
    WorkspacesUpdate = "workspaces.update", Workspace;
    /// Delete workspaces.
    WorkspacesDelete = "workspaces.delete", Deployment;
    /// Register trusted issuers.
    TrustedIssuersCreate = "trusted_issuers.create", Workspace;
    /// Read trusted issuers.
    TrustedIssuersGet = "trusted_issuers.get", Workspace;
    /// Change trusted issuers.
    TrustedIssuersUpdate = "trusted_issuers.update", Workspace;
    /// Have a trusted issuer's keys read now.
    TrustedIssuersCheck = "trusted_issuers.check", Workspace;
    /// Delete trusted issuers.
    TrustedIssuersDelete = "trusted_issuers.delete", Workspace;
    /// Create trust relationships.
    TrustRelationshipsCreate = "trust_relationships.create", Workspace;
    /// Read trust relationships.
    TrustRelationshipsGet = "trust_relationships.get", Workspace;
    /// Change trust relationships.
    TrustRelationshipsUpdate = "trust_relationships.update", Workspace;
    /// Delete trust relationships.
    TrustRelationshipsDelete = "trust_relationships.delete", Workspace;
    /// Be told what past exchanges say of trust relationships, and of changes to them.
    TrustRelationshipsReview = "trust_relationships.review", Workspace;
    /// Be told why a token gets what it gets, policy and all.
    ExchangesExplain = "exchanges.explain", Workspace;
    /// Read what was decided: who exchanged what, and what was refused.
    AuditEventsGet = "audit_events.get", Workspace;
    /// Create issuers of ours.
    IssuersCreate = "issuers.create", Workspace;
    /// Read issuers of ours.
    IssuersGet = "issuers.get", Workspace;
    /// Change issuers of ours.
    IssuersUpdate = "issuers.update", Workspace;
    /// Delete issuers of ours.
    IssuersDelete = "issuers.delete", Workspace;
    /// Issue ID tokens on behalf of runs. Can be had for one issuer alone ([`Authorization`]).
    IdTokensIssue = "id_tokens.issue", Workspace;
    /// Have ID tokens issued for oneself.
    IdTokensIssueOwn = "id_tokens.issue_own", Workspace;
    /// Read signing keys' states.
    SigningKeysGet = "signing_keys.get", Workspace;
    /// Have a signing key followed by another.
    SigningKeysRotate = "signing_keys.rotate", Workspace;
    /// Revoke signing keys.
    SigningKeysRevoke = "signing_keys.revoke", Workspace;
    /// Have private keys sealed anew under the present key-encryption key.
    SigningKeysRewrap = "signing_keys.rewrap", Deployment;
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_scope())
    }
}

/// Not a permission of this deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a permission")]
pub struct UnknownPermission;

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(scope: &str) -> Result<Self, UnknownPermission> {
        Self::ALL.iter().copied().find(|permission| permission.as_scope() == scope).ok_or(UnknownPermission)
    }
}

/// What one scope of ours authorizes: a permission, `countersign:id_tokens.issue`, or one that holds for one issuer alone, with
/// that issuer's id behind it, `countersign:id_tokens.issue:is_…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authorization {
    /// What may be done.
    pub permission: Permission,
    /// In whose name. `None`: of every issuer of the workspace.
    pub issuer_id: Option<IssuerId>,
}

impl From<Permission> for Authorization {
    fn from(permission: Permission) -> Self {
        Self { permission, issuer_id: None }
    }
}

impl fmt::Display for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.issuer_id {
            None => self.permission.fmt(f),
            Some(issuer_id) => write!(f, "{}:{issuer_id}", self.permission),
        }
    }
}

impl FromStr for Authorization {
    type Err = UnknownPermission;

    fn from_str(scope: &str) -> Result<Self, UnknownPermission> {
        let of_one_issuer = || {
            let id = scope.strip_prefix(Permission::IdTokensIssue.as_scope())?.strip_prefix(':')?;
            Some(Self { permission: Permission::IdTokensIssue, issuer_id: Some(id.parse().ok()?) })
        };
        scope.parse::<Permission>().map(Self::from).or_else(|unknown| of_one_issuer().ok_or(unknown))
    }
}

/// What it takes to call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody may call.
    Public,
    /// A caller with this permission, be it for one issuer alone: then the method looks at whose name is used.
    Requires(Permission),
    /// An internal service, over the internal listener only.
    Internal,
}

/// Why a caller may not write a scope into a trust relationship.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScopeNotGrantable {
    /// The reserved prefix, but no permission of ours.
    #[error("the prefix `countersign:` is reserved, and this is none of its permissions")]
    Unknown,
    /// A deployment-wide permission.
    #[error("a deployment-wide permission cannot be granted by a workspace")]
    DeploymentWide,
    /// A permission the caller does not hold.
    #[error("you cannot grant a permission that you do not hold")]
    NotHeld,
}

/// Whether a scope is one of the reserved ones, which are permissions of this deployment.
///
/// Compared without regard to case, so that no reader who folds case can be handed a look-alike.
pub fn is_reserved(scope: &Scope) -> bool {
    scope.as_str().get(..RESERVED_SCOPE_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_SCOPE_PREFIX))
}

/// Whether somebody who holds what `holds` says may grant this scope (SECURITY 69).
pub fn check_grantable(scope: &Scope, holds: impl Fn(&Authorization) -> bool) -> Result<(), ScopeNotGrantable> {
    if !is_reserved(scope) {
        return Ok(());
    }
    let authorization: Authorization = scope.as_str().parse().map_err(|_| ScopeNotGrantable::Unknown)?;
    match authorization.permission.reach() {
        Reach::Deployment => Err(ScopeNotGrantable::DeploymentWide),
        Reach::Workspace if holds(&authorization) => Ok(()),
        Reach::Workspace => Err(ScopeNotGrantable::NotHeld),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_survives_a_round_trip_through_its_scope() {
        for &permission in Permission::ALL {
            assert_eq!(permission.as_scope().parse(), Ok(permission));
            assert!(permission.as_scope().starts_with(RESERVED_SCOPE_PREFIX));
        }
    }

    #[test]
    fn s69_one_permission_can_be_had_for_one_issuer_and_for_nothing_else() {
        let issuer_id = IssuerId::from_random([1; 16]);
        let scope = format!("countersign:id_tokens.issue:{issuer_id}");
        let authorization: Authorization = scope.parse().unwrap();
        assert_eq!(authorization, Authorization { permission: Permission::IdTokensIssue, issuer_id: Some(issuer_id.clone()) });
        assert_eq!(authorization.to_string(), scope);
        assert_eq!(Permission::IdTokensIssue.as_scope().parse(), Ok(Authorization::from(Permission::IdTokensIssue)));
        for other in [
            "countersign:id_tokens.issue:".to_owned(),
            "countersign:id_tokens.issue:*".to_owned(),
            format!("countersign:id_tokens.issue{issuer_id}"),
            format!("countersign:id_tokens.issue:{issuer_id}:"),
            format!("countersign:id_tokens.issue:{}", issuer_id.as_str().to_uppercase()),
            format!("countersign:id_tokens.issue_own:{issuer_id}"),
            format!("countersign:issuers.get:{issuer_id}"),
        ] {
            assert_eq!(other.parse::<Authorization>(), Err(UnknownPermission), "{other}");
        }
    }

    #[test]
    fn s69_nobody_grants_what_he_does_not_hold() {
        let scope = |text: &str| text.parse::<Scope>().unwrap();
        let holds = |authorization: &Authorization| *authorization == Permission::IssuersGet.into();
        assert_eq!(check_grantable(&scope("deploy"), |_| false), Ok(()));
        assert_eq!(check_grantable(&scope("countersign:issuers.get"), holds), Ok(()));
        assert_eq!(check_grantable(&scope("countersign:issuers.create"), holds), Err(ScopeNotGrantable::NotHeld));
        assert_eq!(check_grantable(&scope("countersign:workspaces.create"), |_| true), Err(ScopeNotGrantable::DeploymentWide));
        assert_eq!(check_grantable(&scope("countersign:other"), |_| true), Err(ScopeNotGrantable::Unknown));
        assert_eq!(check_grantable(&scope("Countersign:issuers.get"), |_| true), Err(ScopeNotGrantable::Unknown));
    }
}
