//! Writes that bear on exchanges.

use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::time::Timestamp;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait as _, DatabaseBackend, DatabaseTransaction, DbErr, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _,
};

use super::entity::{policy_change, policy_clock, workspace};
use super::{Resource, WriteError, rows};
use crate::database::Database;

/// Sets the advisory locks of workspaces apart from others in the same PostgreSQL database.
pub(super) const LOCK_SEED: i64 = 7402;

/// The advisory lock that creations of workspaces take; no workspace id looks like it.
const CREATION: &str = "creation of workspaces";

/// `kind` of a change of the workspace itself.
pub(super) const WORKSPACE: &str = "workspace";
/// `kind` of a change of a trusted issuer.
pub(super) const TRUSTED_ISSUER: &str = "trusted_issuer";
/// `kind` of a change of a trust relationship.
pub(super) const TRUST_RELATIONSHIP: &str = "trust_relationship";

/// A transaction that changes what bears on the exchanges of one workspace.
///
/// It holds the workspace's lock exclusively until it ends, so commits of exchanges, which share it, are wholly before or wholly
/// after. On PostgreSQL that is an advisory lock and not `FOR SHARE` on the row: row locks that are shared let every newcomer
/// pass the writer who waits, so a busy workspace could never be disabled, and each of them writes to the table.
pub(super) struct PolicyWrite {
    pub transaction: DatabaseTransaction,
    workspace_id: WorkspaceId,
    revision: i64,
    now: Timestamp,
}

impl PolicyWrite {
    /// Begins to change a workspace that exists.
    pub(super) async fn begin(database: &Database, workspace_id: &WorkspaceId, now: Timestamp) -> Result<Self, WriteError> {
        let transaction = database.begin_write().await?;
        if database.backend() == DatabaseBackend::Postgres {
            lock(database, &transaction, workspace_id.as_str()).await?;
        }
        let raised = workspace::Entity::update_many()
            .col_expr(workspace::Column::PolicyRevision, Expr::col(workspace::Column::PolicyRevision).add(1))
            .filter(workspace::Column::Id.eq(workspace_id.as_str()))
            .exec_with_returning(&transaction)
            .await?;
        let row = raised.first().ok_or(WriteError::NotFound(Resource::Workspace))?;
        let revision = row.policy_revision;
        Ok(Self { transaction, workspace_id: workspace_id.clone(), revision, now })
    }

    /// Begins to create a workspace, whose id no other caller can know yet. Creations follow each other, for the sake of the
    /// quota.
    pub(super) async fn begin_new(database: &Database, workspace_id: &WorkspaceId, now: Timestamp) -> Result<Self, WriteError> {
        let transaction = database.begin_write().await?;
        if database.backend() == DatabaseBackend::Postgres {
            lock(database, &transaction, CREATION).await?;
        }
        Ok(Self { transaction, workspace_id: workspace_id.clone(), revision: 1, now })
    }

    /// The workspace's policy revision that this change makes.
    pub(super) const fn revision(&self) -> i64 {
        self.revision
    }

    /// Notes the change in the feed and commits.
    pub(super) async fn commit(self, kind: &'static str, resource_id: &str, deleted: bool) -> Result<(), WriteError> {
        // Last of all, since this row is shared by all workspaces: whoever raises the number commits next, so the feed's order is
        // the order of commits, without gaps.
        let raised = policy_clock::Entity::update_many()
            .col_expr(policy_clock::Column::Sequence, Expr::col(policy_clock::Column::Sequence).add(1))
            .filter(policy_clock::Column::Id.eq(1))
            .exec_with_returning(&self.transaction)
            .await?;
        let row = raised.first().ok_or_else(|| DbErr::RecordNotFound("policy_clock has no row".to_owned()))?;
        let change = policy_change::Model {
            sequence: row.sequence,
            workspace_id: self.workspace_id.to_string(),
            revision: self.revision,
            kind: kind.to_owned(),
            resource_id: resource_id.to_owned(),
            deleted,
            changed_at: rows::time(self.now),
        };
        change.into_active_model().insert(&self.transaction).await?;
        self.transaction.commit().await?;
        Ok(())
    }
}

/// Takes an advisory lock of PostgreSQL until the transaction ends.
async fn lock(database: &Database, transaction: &DatabaseTransaction, name: &str) -> Result<(), DbErr> {
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))";
    transaction.execute_raw(database.statement(sql, [name.into(), LOCK_SEED.into()])).await?;
    Ok(())
}
