//! How the keys of trusted issuers fare.

use std::collections::HashMap;

use async_trait::async_trait;
use countersign_domain::trust::issuer_health::{IssuerHealth, IssuerHealthReport};
use countersign_domain::values::id::{TrustedIssuerId, WorkspaceId};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QuerySelect as _,
};

use super::entity::{trusted_issuer, trusted_issuer_health};
use super::{IssuerHealthStore, SeaTrustStore};
use crate::database::StoreError;

#[async_trait]
impl IssuerHealthStore for SeaTrustStore {
    async fn record_issuer_health(&self, reports: &[IssuerHealthReport]) -> Result<(), StoreError> {
        let latest = latest_of_each(reports);
        if latest.is_empty() {
            return Ok(());
        }
        let transaction = self.database.begin_write().await?;
        let current = current(&transaction, &latest).await?;
        let rows = latest
            .into_iter()
            .filter(|report| {
                current.contains(&(report.trusted_issuer_id.to_string(), report.workspace_id.to_string(), report.revision))
            })
            .map(|report| Ok(trusted_issuer_health::Model::try_from(report)?.into_active_model()))
            .collect::<Result<Vec<_>, StoreError>>()?;
        if !rows.is_empty() {
            let insert = trusted_issuer_health::Entity::insert_many(rows).on_conflict(keep_the_latest());
            insert.exec_without_returning(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn issuer_health(&self, workspace_id: &WorkspaceId, id: &TrustedIssuerId) -> Result<Option<IssuerHealth>, StoreError> {
        let of_workspace = trusted_issuer::Entity::find()
            .filter(trusted_issuer::Column::WorkspaceId.eq(workspace_id.as_str()))
            .filter(trusted_issuer::Column::Id.eq(id.as_str()))
            .select_only()
            .column(trusted_issuer::Column::Id);
        let row = trusted_issuer_health::Entity::find()
            .filter(trusted_issuer_health::Column::TrustedIssuerId.in_subquery(sea_orm::QueryTrait::into_query(of_workspace)))
            .one(self.database.reader())
            .await?;
        row.map(TryInto::try_into).transpose()
    }
}

/// Forgets what was seen of other settings.
pub(super) async fn forget(transaction: &DatabaseTransaction, id: &TrustedIssuerId) -> Result<(), StoreError> {
    trusted_issuer_health::Entity::delete_by_id(id.as_str()).exec(transaction).await?;
    Ok(())
}

/// Of several reports of one issuer the last attempt; in an order that all replicas share, so that none waits for another in a
/// circle.
fn latest_of_each(reports: &[IssuerHealthReport]) -> Vec<&IssuerHealthReport> {
    let mut latest: HashMap<&TrustedIssuerId, &IssuerHealthReport> = HashMap::with_capacity(reports.len());
    for report in reports {
        let known = latest.entry(&report.trusted_issuer_id).or_insert(report);
        if report.health.attempted_at > known.health.attempted_at {
            *known = report;
        }
    }
    let mut latest: Vec<_> = latest.into_values().collect();
    latest.sort_by(|a, b| a.trusted_issuer_id.cmp(&b.trusted_issuer_id));
    latest
}

/// Which issuers there are, in which workspace and at which revision.
async fn current(
    transaction: &DatabaseTransaction,
    reports: &[&IssuerHealthReport],
) -> Result<std::collections::HashSet<(String, String, i64)>, StoreError> {
    use trusted_issuer::Column;
    let ids = reports.iter().map(|report| report.trusted_issuer_id.as_str());
    let found: Vec<(String, String, i64)> = trusted_issuer::Entity::find()
        .filter(Column::Id.is_in(ids))
        .select_only()
        .columns([Column::Id, Column::WorkspaceId, Column::Revision])
        .into_tuple()
        .all(transaction)
        .await?;
    Ok(found.into_iter().collect())
}

/// Gateways report as they come: the later attempt counts, and the latest success of any of them.
fn keep_the_latest() -> OnConflict {
    use trusted_issuer_health::Column;
    let stored = |column: Column| Expr::col((trusted_issuer_health::Entity, column));
    let reported = |column: Column| Expr::col(("excluded", column));
    let is_later = |column: Column| reported(column).gt(stored(column));
    let mut on_conflict = OnConflict::column(Column::TrustedIssuerId);
    for column in [Column::Problem, Column::Keys, Column::AttemptedAt] {
        let latest = CaseStatement::new().case(is_later(Column::AttemptedAt), reported(column)).finally(stored(column));
        on_conflict.value(column, latest);
    }
    let success = Column::SucceededAt;
    let latest =
        CaseStatement::new().case(stored(success).is_null().or(is_later(success)), reported(success)).finally(stored(success));
    on_conflict.value(success, latest).to_owned()
}
