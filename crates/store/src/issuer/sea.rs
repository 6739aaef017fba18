//! The adapter for SQLite and PostgreSQL.

use std::collections::HashMap;

use async_trait::async_trait;
use countersign_domain::issuing::issuer::Issuer;
use countersign_domain::issuing::signing_key::ServedKeySets;
use countersign_domain::values::id::{IssuerId, WorkspaceId};
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::name::KeyId;
use countersign_domain::values::time::Timestamp;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _, ExprTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, TryInsertResult,
};

use super::entity::{directory, issuer, issuer_url, served_key_sets, signing_key};
use super::{
    ChangeKeysOutcome, ChangedIssuer, CreateOutcome, IssuerChanges, IssuerIdentity, IssuerPosition, IssuerQuotas, IssuerStore,
    KeyChange, WriteOutcome, migration, row,
};
use crate::database::{Database, DatabaseUrl, StoreError};
use crate::quota;

/// How many issuers are read at once by [`IssuerStore::changes_since`]: below every database's limit of parameters.
const READ_CHUNK: usize = 500;
/// The length of a day in the microseconds of the tables.
const DAY: i64 = 24 * 3_600 * 1_000_000;

/// Keeps issuers in SQLite or PostgreSQL. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SeaIssuerStore {
    pub(super) database: Database,
    quotas: IssuerQuotas,
}

impl SeaIssuerStore {
    /// The name of the service's own PostgreSQL schema.
    const SCHEMA: &str = "countersign_issuer";

    /// Connects, waiting for a database that is not there yet, and brings it up to date. The quotas are the default ones.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let database = Database::connect(url, Self::SCHEMA).await?;
        database.migrate(&migration::migrations()).await?;
        Ok(Self { database, quotas: IssuerQuotas::default() })
    }

    /// Replaces the quotas of each workspace.
    pub fn with_quotas(self, quotas: IssuerQuotas) -> Self {
        Self { quotas, ..self }
    }

    /// Returns the quota that forbids another issuer of this workspace, if there is one.
    async fn reached_quota(&self, transaction: &DatabaseTransaction, issuer: &Issuer) -> Result<Option<CreateOutcome>, DbErr> {
        let IssuerQuotas { issuers, issuers_created_per_day } = self.quotas;
        let workspace_id = issuer.workspace_id.as_str();
        let present = issuer::Entity::find().filter(issuer::Column::WorkspaceId.eq(workspace_id));
        if quota::is_reached(transaction, present, issuers).await? {
            return Ok(Some(CreateOutcome::TooMany(issuers)));
        }
        let created = issuer_url::Entity::find()
            .filter(issuer_url::Column::WorkspaceId.eq(workspace_id))
            .filter(issuer_url::Column::ClaimedAt.gt(issuer.created_at.as_microsecond().saturating_sub(DAY)));
        let is_reached = quota::is_reached(transaction, created, issuers_created_per_day).await?;
        Ok(is_reached.then_some(CreateOutcome::TooManyPerDay(issuers_created_per_day)))
    }

    /// Begins a transaction that writes: takes the counter's row lock and returns the revision it makes.
    async fn begin_write(&self) -> Result<(DatabaseTransaction, i64), DbErr> {
        let transaction = self.database.begin_write().await?;
        let raised = directory::Entity::update_many()
            .col_expr(directory::Column::Revision, Expr::col(directory::Column::Revision).add(1))
            .filter(directory::Column::Id.eq(1))
            .exec_with_returning(&transaction)
            .await?;
        let row = raised.first().ok_or_else(no_directory)?;
        let revision = row.revision;
        Ok((transaction, revision))
    }

    async fn claim_url(transaction: &DatabaseTransaction, url: issuer_url::ActiveModel) -> Result<bool, DbErr> {
        let inserted = issuer_url::Entity::insert(url)
            .on_conflict(OnConflict::column(issuer_url::Column::IssuerUrl).do_nothing().to_owned())
            .try_insert()
            .exec_without_returning(transaction)
            .await?;
        Ok(matches!(inserted, TryInsertResult::Inserted(1)))
    }

    /// Notes that an issuer changed.
    async fn note_change(transaction: &DatabaseTransaction, issuer_id: &IssuerId, revision: i64) -> Result<(), DbErr> {
        issuer_url::Entity::update_many()
            .col_expr(issuer_url::Column::ChangeRevision, Expr::value(revision))
            .filter(issuer_url::Column::IssuerId.eq(issuer_id.as_str()))
            .exec(transaction)
            .await?;
        Ok(())
    }

    async fn change_keys(
        transaction: &DatabaseTransaction,
        issuer_id: &IssuerId,
        (as_of, revision): (i64, i64),
        changes: &[KeyChange],
    ) -> Result<ChangeKeysOutcome, DbErr> {
        let found = issuer_url::Entity::find_by_id(issuer_id.as_str()).one(transaction).await?;
        match found {
            Some(found) if found.deleted_at.is_none() && found.change_revision <= as_of => {}
            Some(found) if found.deleted_at.is_none() => return Ok(ChangeKeysOutcome::Stale),
            _ => return Ok(ChangeKeysOutcome::IssuerGone),
        }
        let served_since = served_key_sets::Entity::find().filter(served_key_sets::Column::ChangeRevision.gt(as_of));
        if served_since.one(transaction).await?.is_some() {
            return Ok(ChangeKeysOutcome::Stale);
        }
        Self::note_change(transaction, issuer_id, revision).await?;
        for change in changes {
            if !Self::change_key(transaction, issuer_id, change).await? {
                return Ok(ChangeKeysOutcome::Stale);
            }
        }
        Ok(ChangeKeysOutcome::Done)
    }

    /// False where the key is not as the change expects it.
    async fn change_key(transaction: &DatabaseTransaction, issuer_id: &IssuerId, change: &KeyChange) -> Result<bool, DbErr> {
        let unended = |key_id: &KeyId| {
            signing_key::Entity::update_many()
                .filter(signing_key::Column::IssuerId.eq(issuer_id.as_str()))
                .filter(signing_key::Column::KeyId.eq(key_id.as_str()))
                .filter(signing_key::Column::RevokedAt.is_null())
        };
        let changed = match change {
            KeyChange::Add(key) => {
                let inserted = signing_key::Entity::insert(row::from_sealed_key(issuer_id.as_str(), key))
                    .on_conflict(OnConflict::new().do_nothing().to_owned())
                    .try_insert()
                    .exec_without_returning(transaction)
                    .await?;
                return Ok(matches!(inserted, TryInsertResult::Inserted(1)));
            }
            KeyChange::Retire { key_id, retirement } => unended(key_id)
                .col_expr(signing_key::Column::SignUntil, Expr::value(retirement.sign_until.as_microsecond()))
                .col_expr(signing_key::Column::PublishUntil, Expr::value(retirement.publish_until.as_microsecond()))
                .filter(signing_key::Column::SignUntil.is_null()),
            KeyChange::Revoke { key_id, revoked_at } => unended(key_id)
                .col_expr(signing_key::Column::RevokedAt, Expr::value(revoked_at.as_microsecond()))
                .col_expr(signing_key::Column::SealedPrivateKey, Expr::value(Vec::<u8>::new())),
            KeyChange::EndWait { key_id, activate_at } => unended(key_id)
                .col_expr(signing_key::Column::AwaitsExport, Expr::value(false))
                .col_expr(signing_key::Column::ActivateAt, Expr::value(activate_at.as_microsecond()))
                .filter(signing_key::Column::AwaitsExport.eq(true))
                .filter(signing_key::Column::SignUntil.is_null()),
            KeyChange::Promote { key_id } => unended(key_id)
                .col_expr(signing_key::Column::ActivateAt, Expr::col(signing_key::Column::CreatedAt))
                .filter(signing_key::Column::SignUntil.is_null()),
        };
        Ok(changed.exec(transaction).await?.rows_affected == 1)
    }

    /// Why a guarded write touched no row.
    async fn why_untouched<C: ConnectionTrait>(
        connection: &C,
        workspace_id: &WorkspaceId,
        id: &IssuerId,
    ) -> Result<WriteOutcome, DbErr> {
        let found = issuer::Entity::find_by_id(id.as_str())
            .filter(issuer::Column::WorkspaceId.eq(workspace_id.as_str()))
            .one(connection)
            .await?;
        Ok(if found.is_some() { WriteOutcome::Stale } else { WriteOutcome::NotFound })
    }
}

#[async_trait]
impl IssuerStore for SeaIssuerStore {
    async fn create_issuer(&self, issuer: &Issuer) -> Result<CreateOutcome, StoreError> {
        let (transaction, revision) = self.begin_write().await?;
        // Under the counter's lock, so that concurrent creations cannot pass a quota together.
        if let Some(reached) = self.reached_quota(&transaction, issuer).await? {
            transaction.rollback().await?;
            return Ok(reached);
        }
        let url = issuer_url::ActiveModel {
            issuer_id: Set(issuer.id.to_string()),
            issuer_url: Set(issuer.issuer_url.to_string()),
            purpose: Set(issuer_url::ID_TOKENS.to_owned()),
            change_revision: Set(revision),
            claimed_at: Set(issuer.created_at.as_microsecond()),
            deleted_at: Set(None),
            workspace_id: Set(Some(issuer.workspace_id.to_string())),
        };
        if !Self::claim_url(&transaction, url).await? {
            transaction.rollback().await?;
            return Ok(CreateOutcome::UrlTaken);
        }
        issuer::Entity::insert(row::from_issuer(issuer)).exec_without_returning(&transaction).await?;
        transaction.commit().await?;
        Ok(CreateOutcome::Created)
    }

    async fn get_issuer(&self, workspace_id: &WorkspaceId, id: &IssuerId) -> Result<Option<Issuer>, StoreError> {
        let found = issuer::Entity::find_by_id(id.as_str())
            .filter(issuer::Column::WorkspaceId.eq(workspace_id.as_str()))
            .one(self.database.reader())
            .await?;
        found.as_ref().map(row::to_issuer).transpose()
    }

    async fn list_issuers(
        &self,
        workspace_id: &WorkspaceId,
        after: Option<&IssuerPosition>,
        limit: u64,
    ) -> Result<Vec<Issuer>, StoreError> {
        let behind = after.map(|IssuerPosition { created_at, id }| {
            let created_at = created_at.as_microsecond();
            Condition::any()
                .add(issuer::Column::CreatedAt.gt(created_at))
                .add(Condition::all().add(issuer::Column::CreatedAt.eq(created_at)).add(issuer::Column::Id.gt(id.as_str())))
        });
        let found = issuer::Entity::find()
            .filter(issuer::Column::WorkspaceId.eq(workspace_id.as_str()))
            .filter(behind.unwrap_or_else(Condition::all))
            .order_by_asc(issuer::Column::CreatedAt)
            .order_by_asc(issuer::Column::Id)
            .limit(limit)
            .all(self.database.reader())
            .await?;
        found.iter().map(row::to_issuer).collect()
    }

    async fn update_issuer(&self, issuer: &Issuer, expected_revision: i64) -> Result<WriteOutcome, StoreError> {
        let (transaction, revision) = self.begin_write().await?;
        let changed = issuer::ActiveModel {
            id: NotSet,
            workspace_id: NotSet,
            issuer_url: NotSet,
            created_at: NotSet,
            published_until: NotSet,
            ..row::from_issuer(issuer)
        };
        let updated = issuer::Entity::update_many()
            .set(changed)
            .filter(issuer::Column::Id.eq(issuer.id.as_str()))
            .filter(issuer::Column::WorkspaceId.eq(issuer.workspace_id.as_str()))
            .filter(issuer::Column::Revision.eq(expected_revision))
            .exec(&transaction)
            .await?;
        if updated.rows_affected == 0 {
            let why = Self::why_untouched(&transaction, &issuer.workspace_id, &issuer.id).await?;
            transaction.rollback().await?;
            return Ok(why);
        }
        Self::note_change(&transaction, &issuer.id, revision).await?;
        transaction.commit().await?;
        Ok(WriteOutcome::Done)
    }

    async fn delete_issuer(
        &self,
        workspace_id: &WorkspaceId,
        id: &IssuerId,
        expected_revision: Option<i64>,
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        let (transaction, revision) = self.begin_write().await?;
        let guard =
            expected_revision.map_or_else(Condition::all, |expected| Condition::all().add(issuer::Column::Revision.eq(expected)));
        let deleted = issuer::Entity::delete_many()
            .filter(issuer::Column::Id.eq(id.as_str()))
            .filter(issuer::Column::WorkspaceId.eq(workspace_id.as_str()))
            .filter(guard)
            .exec(&transaction)
            .await?;
        if deleted.rows_affected == 0 {
            let why = Self::why_untouched(&transaction, workspace_id, id).await?;
            transaction.rollback().await?;
            return Ok(why);
        }
        signing_key::Entity::delete_many().filter(signing_key::Column::IssuerId.eq(id.as_str())).exec(&transaction).await?;
        issuer_url::Entity::update_many()
            .col_expr(issuer_url::Column::ChangeRevision, Expr::value(revision))
            .col_expr(issuer_url::Column::DeletedAt, Expr::value(now.as_microsecond()))
            .filter(issuer_url::Column::IssuerId.eq(id.as_str()))
            .exec(&transaction)
            .await?;
        transaction.commit().await?;
        Ok(WriteOutcome::Done)
    }

    async fn set_published_until(&self, id: &IssuerId, until: Option<Timestamp>) -> Result<(), StoreError> {
        let (transaction, revision) = self.begin_write().await?;
        issuer::Entity::update_many()
            .col_expr(issuer::Column::PublishedUntil, Expr::value(until.map(Timestamp::as_microsecond)))
            .filter(issuer::Column::Id.eq(id.as_str()))
            .exec(&transaction)
            .await?;
        Self::note_change(&transaction, id, revision).await?;
        Ok(transaction.commit().await?)
    }

    async fn ensure_access_token_issuer(
        &self,
        issuer_url: &IssuerUrl,
        id: &IssuerId,
        now: Timestamp,
    ) -> Result<Option<IssuerId>, StoreError> {
        let find = || issuer_url::Entity::find().filter(issuer_url::Column::IssuerUrl.eq(issuer_url.as_str()));
        let mut found = find().one(self.database.reader()).await?;
        if found.is_none() {
            let (transaction, revision) = self.begin_write().await?;
            let url = issuer_url::ActiveModel {
                issuer_id: Set(id.to_string()),
                issuer_url: Set(issuer_url.to_string()),
                purpose: Set(issuer_url::ACCESS_TOKENS.to_owned()),
                change_revision: Set(revision),
                claimed_at: Set(now.as_microsecond()),
                deleted_at: Set(None),
                workspace_id: Set(None),
            };
            // Where another replica was first, its row is as good as ours.
            Self::claim_url(&transaction, url).await?;
            found = find().one(&transaction).await?;
            transaction.commit().await?;
        }
        found
            .filter(|found| found.purpose == issuer_url::ACCESS_TOKENS && found.deleted_at.is_none())
            .map(|found| row::to_issuer_id(&found.issuer_id))
            .transpose()
    }

    async fn change_signing_keys(
        &self,
        issuer_id: &IssuerId,
        as_of: i64,
        changes: &[KeyChange],
    ) -> Result<ChangeKeysOutcome, StoreError> {
        let (transaction, revision) = self.begin_write().await?;
        let outcome = Self::change_keys(&transaction, issuer_id, (as_of, revision), changes).await?;
        match outcome {
            ChangeKeysOutcome::Done => transaction.commit().await?,
            ChangeKeysOutcome::Stale | ChangeKeysOutcome::IssuerGone => transaction.rollback().await?,
        }
        Ok(outcome)
    }

    async fn reseal_signing_key(
        &self,
        issuer_id: &IssuerId,
        key_id: &KeyId,
        sealed: &[u8],
        resealed: Vec<u8>,
    ) -> Result<bool, StoreError> {
        use signing_key::Column;

        let updated = signing_key::Entity::update_many()
            .col_expr(Column::SealedPrivateKey, Expr::value(resealed))
            .filter(Column::IssuerId.eq(issuer_id.as_str()))
            .filter(Column::KeyId.eq(key_id.as_str()))
            .filter(Column::SealedPrivateKey.eq(sealed))
            .exec(self.database.writer())
            .await?;
        Ok(updated.rows_affected == 1)
    }

    async fn note_served_key_sets(&self, served: ServedKeySets) -> Result<(), StoreError> {
        use served_key_sets::Column::{ChangeRevision, MaxAgeSeconds, ServedUntil, StalenessLimitSeconds};

        let (transaction, revision) = self.begin_write().await?;
        let known = served_key_sets::Entity::find_by_id(row::served_key(served.policy));
        if known.one(&transaction).await?.is_some_and(|known| known.served_until >= served.until.as_microsecond()) {
            return Ok(transaction.rollback().await?);
        }
        let replace =
            OnConflict::columns([MaxAgeSeconds, StalenessLimitSeconds]).update_columns([ServedUntil, ChangeRevision]).to_owned();
        served_key_sets::Entity::insert(row::from_served(served, revision))
            .on_conflict(replace)
            .exec_without_returning(&transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    async fn changes_since(&self, revision: i64) -> Result<IssuerChanges, StoreError> {
        // Nothing new is the rule: one cheap statement finds it out.
        if revision == current_revision(self.database.reader()).await? {
            return Ok(IssuerChanges { revision, changed: Vec::new(), served: Vec::new() });
        }
        let moment = self.database.begin_read().await?;
        let now = current_revision(&moment).await?;
        let urls = issuer_url::Entity::find().filter(issuer_url::Column::ChangeRevision.gt(revision)).all(&moment).await?;
        let ids: Vec<&str> = urls.iter().filter(|url| url.deleted_at.is_none()).map(|url| url.issuer_id.as_str()).collect();
        let (mut issuers, mut keys) = (Vec::new(), Vec::new());
        for chunk in ids.chunks(READ_CHUNK) {
            let chunk = || chunk.iter().copied();
            issuers.extend(issuer::Entity::find().filter(issuer::Column::Id.is_in(chunk())).all(&moment).await?);
            let own = signing_key::Entity::find().filter(signing_key::Column::IssuerId.is_in(chunk()));
            keys.extend(own.all(&moment).await?);
        }
        let served = served_key_sets::Entity::find().all(&moment).await?;
        moment.commit().await?;
        let issuers: HashMap<_, _> = issuers.into_iter().map(|model| (model.id.clone(), model)).collect();
        let mut keys_of: HashMap<_, Vec<_>> = HashMap::new();
        for key in keys {
            keys_of.entry(key.issuer_id.clone()).or_default().push(key);
        }
        let changed = urls.iter().filter_map(|url| {
            let issuer = issuers.get(&url.issuer_id);
            let keys = keys_of.remove(&url.issuer_id).unwrap_or_default();
            changed_issuer(url, issuer, keys)
        });
        let served = served.iter().filter_map(|model| row::to_served(model).inspect_err(report).ok());
        Ok(IssuerChanges { revision: now, changed: changed.collect(), served: served.collect() })
    }
}

/// One damaged row must not stop the others: it takes its issuer, or a damaged key itself, out of service.
fn changed_issuer(
    url: &issuer_url::Model,
    issuer: Option<&issuer::Model>,
    keys: Vec<signing_key::Model>,
) -> Option<ChangedIssuer> {
    let id = row::to_issuer_id(&url.issuer_id).inspect_err(report).ok()?;
    let identity = match (url.purpose.as_str(), issuer) {
        _ if url.deleted_at.is_some() => return Some(ChangedIssuer::Gone(id)),
        (issuer_url::ID_TOKENS, Some(model)) => {
            row::to_claimed_issuer(model, url).map(|issuer| IssuerIdentity::Workspace(Box::new(issuer)))
        }
        (issuer_url::ACCESS_TOKENS, None) => {
            row::to_issuer_url(url).map(|issuer_url| IssuerIdentity::AccessTokens { id: id.clone(), issuer_url })
        }
        // Claimed for the one and used for the other.
        _ => return Some(ChangedIssuer::Gone(id)),
    };
    let Ok(identity) = identity.inspect_err(report) else { return Some(ChangedIssuer::Gone(id)) };
    let keys = keys.into_iter().filter_map(|key| row::to_sealed_key(key).inspect_err(report).ok()).collect();
    Some(ChangedIssuer::Present(identity, keys))
}

async fn current_revision<C: ConnectionTrait>(connection: &C) -> Result<i64, DbErr> {
    Ok(directory::Entity::find_by_id(1).one(connection).await?.ok_or_else(no_directory)?.revision)
}

fn no_directory() -> DbErr {
    DbErr::RecordNotFound("issuer_directory has no row".to_owned())
}

fn report(error: &StoreError) {
    tracing::error!(%error, "a damaged row is left out");
}
