//! Trust relationships.

use async_trait::async_trait;
use countersign_domain::trust::trust_relationship::{TrustRelationship, TrustRelationshipSettings};
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::time::Timestamp;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select, SqlErr,
};

use super::entity::{trust_relationship, trusted_issuer};
use super::write::{PolicyWrite, TRUST_RELATIONSHIP};
use super::{NewTrustRelationship, Page, Resource, SeaTrustStore, TrustRelationshipStore, WriteError};
use crate::database::StoreError;

fn find(workspace_id: &WorkspaceId, id: &TrustRelationshipId) -> Select<trust_relationship::Entity> {
    use trust_relationship::Column;
    trust_relationship::Entity::find().filter(Column::WorkspaceId.eq(workspace_id.as_str())).filter(Column::Id.eq(id.as_str()))
}

/// Ids are fresh, so a name that is taken is a key.
fn key_taken(error: DbErr) -> WriteError {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => WriteError::AlreadyExists,
        _ => error.into(),
    }
}

#[async_trait]
impl TrustRelationshipStore for SeaTrustStore {
    async fn create_trust_relationship(
        &self,
        new: NewTrustRelationship,
        now: Timestamp,
    ) -> Result<TrustRelationship, WriteError> {
        let write = PolicyWrite::begin(&self.database, &new.workspace_id, now).await?;
        let issuer = trusted_issuer::Entity::find()
            .filter(trusted_issuer::Column::WorkspaceId.eq(new.workspace_id.as_str()))
            .filter(trusted_issuer::Column::Id.eq(new.trusted_issuer_id.as_str()));
        if issuer.count(&write.transaction).await? == 0 {
            return Err(WriteError::NotFound(Resource::TrustedIssuer));
        }
        let held =
            trust_relationship::Entity::find().filter(trust_relationship::Column::WorkspaceId.eq(new.workspace_id.as_str()));
        let held = (Some(&new.workspace_id), held);
        super::check_quota(&write.transaction, held, Resource::TrustRelationship, self.quotas.trust_relationships).await?;
        let relationship = TrustRelationship {
            id: new.id,
            workspace_id: new.workspace_id,
            trusted_issuer_id: new.trusted_issuer_id,
            settings: new.settings,
            revision: 1,
            creator: new.creator,
            created_at: now,
            updated_at: now,
        };
        let inserted = trust_relationship::Model::try_from(&relationship)?.into_active_model().insert(&write.transaction).await;
        inserted.map_err(key_taken)?;
        write.commit(TRUST_RELATIONSHIP, relationship.id.as_str(), false).await?;
        Ok(relationship)
    }

    async fn trust_relationship(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustRelationshipId,
    ) -> Result<Option<TrustRelationship>, StoreError> {
        let row = find(workspace_id, id).one(self.database.reader()).await?;
        row.map(TryInto::try_into).transpose()
    }

    async fn list_trust_relationships(
        &self,
        workspace_id: &WorkspaceId,
        trusted_issuer_id: Option<&TrustedIssuerId>,
        page: &Page,
    ) -> Result<Vec<TrustRelationship>, StoreError> {
        use trust_relationship::Column;
        let mut query = trust_relationship::Entity::find().filter(Column::WorkspaceId.eq(workspace_id.as_str()));
        if let Some(trusted_issuer_id) = trusted_issuer_id {
            query = query.filter(Column::TrustedIssuerId.eq(trusted_issuer_id.as_str()));
        }
        if let Some(after) = &page.after {
            query = query.filter(super::later(Column::CreatedAt, Column::Id, after));
        }
        let query = query.order_by_asc(Column::CreatedAt).order_by_asc(Column::Id).limit(page.limit);
        let rows = query.all(self.database.reader()).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn update_trust_relationship(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustRelationshipId,
        revision: i64,
        settings: TrustRelationshipSettings,
        now: Timestamp,
    ) -> Result<TrustRelationship, WriteError> {
        let write = PolicyWrite::begin(&self.database, workspace_id, now).await?;
        let row = find(workspace_id, id).one(&write.transaction).await?;
        let mut relationship = TrustRelationship::try_from(row.ok_or(WriteError::NotFound(Resource::TrustRelationship))?)?;
        if relationship.revision != revision {
            return Err(WriteError::Changed);
        }
        relationship.settings = settings;
        relationship.revision += 1;
        relationship.updated_at = now;
        let row = trust_relationship::Model::try_from(&relationship)?.into_active_model().reset_all();
        row.update(&write.transaction).await.map_err(key_taken)?;
        write.commit(TRUST_RELATIONSHIP, id.as_str(), false).await?;
        Ok(relationship)
    }

    async fn delete_trust_relationship(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustRelationshipId,
        revision: i64,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let write = PolicyWrite::begin(&self.database, workspace_id, now).await?;
        let row = find(workspace_id, id).one(&write.transaction).await?;
        let row = row.ok_or(WriteError::NotFound(Resource::TrustRelationship))?;
        if row.revision != revision {
            return Err(WriteError::Changed);
        }
        row.into_active_model().delete(&write.transaction).await?;
        write.commit(TRUST_RELATIONSHIP, id.as_str(), true).await
    }
}
