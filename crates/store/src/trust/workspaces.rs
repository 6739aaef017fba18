//! Workspaces.

use async_trait::async_trait;
use countersign_domain::trust::workspace::{Workspace, WorkspaceSettings};
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::time::Timestamp;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use super::entity::{trusted_issuer, workspace};
use super::write::{PolicyWrite, WORKSPACE};
use super::{Page, Resource, SeaTrustStore, WorkspaceStore, WriteError};
use crate::database::StoreError;

#[async_trait]
impl WorkspaceStore for SeaTrustStore {
    async fn create_workspace(
        &self,
        id: WorkspaceId,
        settings: WorkspaceSettings,
        now: Timestamp,
    ) -> Result<Workspace, WriteError> {
        let write = PolicyWrite::begin_new(&self.database, &id, now).await?;
        let most = self.quotas.workspaces;
        super::check_quota(&write.transaction, (None, workspace::Entity::find()), Resource::Workspace, most).await?;
        let workspace = Workspace {
            id,
            display_name: settings.display_name,
            state: settings.state,
            revision: 1,
            policy_revision: write.revision(),
            created_at: now,
            updated_at: now,
        };
        workspace::Model::from(&workspace).into_active_model().insert(&write.transaction).await?;
        write.commit(WORKSPACE, workspace.id.as_str(), false).await?;
        Ok(workspace)
    }

    async fn workspace(&self, id: &WorkspaceId) -> Result<Option<Workspace>, StoreError> {
        let row = workspace::Entity::find_by_id(id.as_str()).one(self.database.reader()).await?;
        row.map(TryInto::try_into).transpose()
    }

    async fn list_workspaces(&self, only: Option<&WorkspaceId>, page: &Page) -> Result<Vec<Workspace>, StoreError> {
        use workspace::Column;
        let mut query = workspace::Entity::find();
        if let Some(only) = only {
            query = query.filter(Column::Id.eq(only.as_str()));
        }
        if let Some(after) = &page.after {
            query = query.filter(super::later(Column::CreatedAt, Column::Id, after));
        }
        let query = query.order_by_asc(Column::CreatedAt).order_by_asc(Column::Id).limit(page.limit);
        let rows = query.all(self.database.reader()).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn update_workspace(
        &self,
        id: &WorkspaceId,
        revision: i64,
        settings: WorkspaceSettings,
        now: Timestamp,
    ) -> Result<Workspace, WriteError> {
        let write = PolicyWrite::begin(&self.database, id, now).await?;
        let row = workspace::Entity::find_by_id(id.as_str()).one(&write.transaction).await?;
        let mut workspace = Workspace::try_from(row.ok_or(WriteError::NotFound(Resource::Workspace))?)?;
        if workspace.revision != revision {
            return Err(WriteError::Changed);
        }
        workspace.display_name = settings.display_name;
        workspace.state = settings.state;
        workspace.revision += 1;
        workspace.updated_at = now;
        workspace::Model::from(&workspace).into_active_model().reset_all().update(&write.transaction).await?;
        write.commit(WORKSPACE, id.as_str(), false).await?;
        Ok(workspace)
    }

    async fn delete_workspace(&self, id: &WorkspaceId, revision: i64, now: Timestamp) -> Result<(), WriteError> {
        let write = PolicyWrite::begin(&self.database, id, now).await?;
        let owned = trusted_issuer::Entity::find().filter(trusted_issuer::Column::WorkspaceId.eq(id.as_str()));
        if owned.count(&write.transaction).await? > 0 {
            return Err(WriteError::Referenced);
        }
        let deleted = workspace::Entity::delete_many()
            .filter(workspace::Column::Id.eq(id.as_str()))
            .filter(workspace::Column::Revision.eq(revision))
            .exec(&write.transaction)
            .await?;
        if deleted.rows_affected == 0 {
            return Err(WriteError::Changed);
        }
        write.commit(WORKSPACE, id.as_str(), true).await
    }
}
