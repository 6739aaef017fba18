//! Trusted issuers.

use std::collections::BTreeSet;

use async_trait::async_trait;
use countersign_domain::access::permission::RESERVED_SCOPE_PREFIX;
use countersign_domain::access::reachable_scopes::{ReservedGrant, issues_own, reachable_scopes};
use countersign_domain::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerSettings};
use countersign_domain::values::id::{TrustedIssuerId, WorkspaceId};
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::name::Scope;
use countersign_domain::values::time::Timestamp;
use sea_orm::sea_query::{Expr, ExprTrait as _, Func};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Select, SqlErr,
};

use super::entity::{trust_relationship, trusted_issuer};
use super::write::{PolicyWrite, TRUSTED_ISSUER};
use super::{MayGive, Page, Resource, SeaTrustStore, TrustedIssuerStore, WriteError, issuer_health, rows};
use crate::database::StoreError;

fn find(workspace_id: &WorkspaceId, id: &TrustedIssuerId) -> Select<trusted_issuer::Entity> {
    use trusted_issuer::Column;
    trusted_issuer::Entity::find().filter(Column::WorkspaceId.eq(workspace_id.as_str())).filter(Column::Id.eq(id.as_str()))
}

/// Every reserved scope that is obtained by whoever decides who the subjects of a trusted issuer are.
async fn reserved_scopes_through<C: ConnectionTrait>(
    connection: &C,
    workspace_id: &WorkspaceId,
    id: &TrustedIssuerId,
) -> Result<BTreeSet<Scope>, StoreError> {
    let granted: Vec<Scope> =
        reserved_grants(connection, workspace_id, Some(id)).await?.into_iter().flat_map(|grant| grant.scopes).collect();
    reserved_scopes_from(connection, workspace_id, id, &granted).await
}

/// The same, when these scopes are granted to the subjects.
async fn reserved_scopes_from<C: ConnectionTrait>(
    connection: &C,
    workspace_id: &WorkspaceId,
    id: &TrustedIssuerId,
    granted: &[Scope],
) -> Result<BTreeSet<Scope>, StoreError> {
    // Nothing else leads on.
    let grants = if issues_own(granted) { reserved_grants(connection, workspace_id, None).await? } else { Vec::new() };
    Ok(reachable_scopes(workspace_id, id, granted, &grants))
}

/// What relationships of a workspace, or of one of its trusted issuers, grant of the reserved scopes.
async fn reserved_grants<C: ConnectionTrait>(
    connection: &C,
    workspace_id: &WorkspaceId,
    id: Option<&TrustedIssuerId>,
) -> Result<Vec<ReservedGrant>, StoreError> {
    use trust_relationship::Column;
    // The list is JSON text: whatever contains the prefix anywhere is read, and nothing else.
    let mut query = trust_relationship::Entity::find()
        .filter(Column::WorkspaceId.eq(workspace_id.as_str()))
        .filter(Column::Scopes.contains(RESERVED_SCOPE_PREFIX));
    if let Some(id) = id {
        query = query.filter(Column::TrustedIssuerId.eq(id.as_str()));
    }
    let columns = query.select_only().column(Column::TrustedIssuerId).column(Column::SubjectMatches).column(Column::Scopes);
    let rows: Vec<(String, String, String)> = columns.distinct().into_tuple().all(connection).await?;
    let read = |(id, subject_matches, scopes): (String, String, String)| {
        Ok(ReservedGrant {
            trusted_issuer_id: rows::parse("trusted issuer id", &id)?,
            subject_matches: rows::read_json("list of subject matches", &subject_matches)?,
            scopes: rows::read_json("list of scopes", &scopes)?,
        })
    };
    rows.into_iter().map(read).collect()
}

/// Refuses key sets and certificates that would make those of the workspace too long. To be called under its lock.
async fn check_documents(
    transaction: &DatabaseTransaction,
    workspace_id: &WorkspaceId,
    id: &TrustedIssuerId,
    settings: &TrustedIssuerSettings,
    most: u64,
) -> Result<(), WriteError> {
    use trusted_issuer::Column;
    let new = settings.key_source.document_bytes();
    if new == 0 {
        return Ok(());
    }
    let length = |column: Column| Func::char_length(Func::coalesce([Expr::col(column), Expr::val("")]));
    let lengths: Vec<i32> = trusted_issuer::Entity::find()
        .filter(Column::WorkspaceId.eq(workspace_id.as_str()))
        .filter(Column::Id.ne(id.as_str()))
        .filter(Column::Jwks.is_not_null().or(Column::CaCertificates.is_not_null()))
        .select_only()
        .expr(Expr::expr(length(Column::Jwks)).add(length(Column::CaCertificates)))
        .into_tuple()
        .all(transaction)
        .await?;
    let held: u64 = lengths.into_iter().map(|length| u64::try_from(length).unwrap_or_default()).sum();
    if held + new as u64 > most {
        return Err(WriteError::KeyMaterialTooLong { owner: workspace_id.clone(), most });
    }
    Ok(())
}

#[async_trait]
impl TrustedIssuerStore for SeaTrustStore {
    async fn create_trusted_issuer(
        &self,
        workspace_id: &WorkspaceId,
        id: TrustedIssuerId,
        settings: TrustedIssuerSettings,
        now: Timestamp,
    ) -> Result<TrustedIssuer, WriteError> {
        let write = PolicyWrite::begin(&self.database, workspace_id, now).await?;
        let held = trusted_issuer::Entity::find().filter(trusted_issuer::Column::WorkspaceId.eq(workspace_id.as_str()));
        let held = (Some(workspace_id), held);
        super::check_quota(&write.transaction, held, Resource::TrustedIssuer, self.quotas.trusted_issuers).await?;
        check_documents(&write.transaction, workspace_id, &id, &settings, self.quotas.key_material_characters).await?;
        let issuer =
            TrustedIssuer { id, workspace_id: workspace_id.clone(), settings, revision: 1, created_at: now, updated_at: now };
        let inserted = trusted_issuer::Model::try_from(&issuer)?.into_active_model().insert(&write.transaction).await;
        inserted.map_err(|error| match error.sql_err() {
            // The id is fresh, so it is the URL.
            Some(SqlErr::UniqueConstraintViolation(_)) => WriteError::AlreadyExists,
            _ => error.into(),
        })?;
        write.commit(TRUSTED_ISSUER, issuer.id.as_str(), false).await?;
        Ok(issuer)
    }

    async fn trusted_issuer(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustedIssuerId,
    ) -> Result<Option<TrustedIssuer>, StoreError> {
        let row = find(workspace_id, id).one(self.database.reader()).await?;
        row.map(TryInto::try_into).transpose()
    }

    async fn reserved_scopes_behind(
        &self,
        workspace_id: &WorkspaceId,
        issuer_url: &IssuerUrl,
    ) -> Result<BTreeSet<Scope>, StoreError> {
        use trusted_issuer::Column;
        let snapshot = self.database.begin_read().await?;
        let registered = trusted_issuer::Entity::find()
            .filter(Column::WorkspaceId.eq(workspace_id.as_str()))
            .filter(Column::IssuerUrl.eq(issuer_url.as_str()));
        let Some(row) = registered.one(&snapshot).await? else { return Ok(BTreeSet::new()) };
        let id = rows::parse("trusted issuer id", &row.id)?;
        reserved_scopes_through(&snapshot, workspace_id, &id).await
    }

    async fn reserved_scopes_from(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustedIssuerId,
        granted: &[Scope],
    ) -> Result<BTreeSet<Scope>, StoreError> {
        reserved_scopes_from(self.database.reader(), workspace_id, id, granted).await
    }

    async fn list_trusted_issuers(&self, workspace_id: &WorkspaceId, page: &Page) -> Result<Vec<TrustedIssuer>, StoreError> {
        use trusted_issuer::Column;
        let mut query = trusted_issuer::Entity::find().filter(Column::WorkspaceId.eq(workspace_id.as_str()));
        if let Some(after) = &page.after {
            query = query.filter(super::later(Column::CreatedAt, Column::Id, after));
        }
        let query = query.order_by_asc(Column::CreatedAt).order_by_asc(Column::Id).limit(page.limit);
        let rows = query.all(self.database.reader()).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn update_trusted_issuer(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustedIssuerId,
        revision: i64,
        settings: TrustedIssuerSettings,
        may_give: &MayGive<'_>,
        now: Timestamp,
    ) -> Result<TrustedIssuer, WriteError> {
        let write = PolicyWrite::begin(&self.database, workspace_id, now).await?;
        let row = find(workspace_id, id).one(&write.transaction).await?;
        let mut issuer = TrustedIssuer::try_from(row.ok_or(WriteError::NotFound(Resource::TrustedIssuer))?)?;
        if issuer.revision != revision {
            return Err(WriteError::Changed);
        }
        let settings = TrustedIssuerSettings { issuer_url: issuer.settings.issuer_url.clone(), ..settings };
        if !settings.only_takes_from(&issuer.settings) {
            // Under the workspace's lock, so that no scope is added meanwhile.
            let through = reserved_scopes_through(&write.transaction, workspace_id, id).await?;
            if let Some(scope) = through.into_iter().find(|scope| !may_give(scope)) {
                return Err(WriteError::NotGrantable(scope));
            }
        }
        if settings.key_source != issuer.settings.key_source {
            check_documents(&write.transaction, workspace_id, id, &settings, self.quotas.key_material_characters).await?;
            issuer_health::forget(&write.transaction, id).await?;
        }
        issuer.settings = settings;
        issuer.revision += 1;
        issuer.updated_at = now;
        trusted_issuer::Model::try_from(&issuer)?.into_active_model().reset_all().update(&write.transaction).await?;
        write.commit(TRUSTED_ISSUER, id.as_str(), false).await?;
        Ok(issuer)
    }

    async fn delete_trusted_issuer(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustedIssuerId,
        revision: i64,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let write = PolicyWrite::begin(&self.database, workspace_id, now).await?;
        let row = find(workspace_id, id).one(&write.transaction).await?;
        let row = row.ok_or(WriteError::NotFound(Resource::TrustedIssuer))?;
        if row.revision != revision {
            return Err(WriteError::Changed);
        }
        let users = trust_relationship::Entity::find()
            .filter(trust_relationship::Column::WorkspaceId.eq(workspace_id.as_str()))
            .filter(trust_relationship::Column::TrustedIssuerId.eq(id.as_str()));
        if users.count(&write.transaction).await? > 0 {
            return Err(WriteError::Referenced);
        }
        row.into_active_model().delete(&write.transaction).await?;
        write.commit(TRUSTED_ISSUER, id.as_str(), true).await
    }
}
