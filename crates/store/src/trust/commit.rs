//! The commit point: nothing is released before it.
//!
//! One transaction: share the workspaces' locks, read what is live, claim the replay hashes, append the audit events. The
//! statements do not grow with the batch on PostgreSQL (arrays), so that they stay prepared; on SQLite, which is in the process,
//! each row is a statement.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use countersign_domain::exchange::commit::{CommitOutcome, ExchangeCommit};
use countersign_domain::values::time::Timestamp;
use sea_orm::sea_query::{LockBehavior, LockType};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseBackend, DatabaseTransaction, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QueryResult, QuerySelect as _, Select, Value,
};

use super::entity::{audit_event, replay_hash};
use super::write::LOCK_SEED;
use super::{CommitError, CommitStore, SeaTrustStore, audit, rows};
use crate::database::{Database, StoreError, is_rolled_back};

#[async_trait]
impl CommitStore for SeaTrustStore {
    async fn commit_exchanges(&self, exchanges: &[ExchangeCommit], now: Timestamp) -> Result<Vec<CommitOutcome>, CommitError> {
        if exchanges.is_empty() {
            return Ok(Vec::new());
        }
        // Whatever fails in here drops the transaction, which is rolled back.
        let (transaction, outcomes) = self.prepare(exchanges, now).await.map_err(CommitError::NothingCommitted)?;
        match transaction.commit().await {
            Ok(()) => Ok(outcomes),
            Err(error) if is_rolled_back(&error) => Err(CommitError::NothingCommitted(error.into())),
            Err(error) => Err(CommitError::OutcomeUnknown(error.into())),
        }
    }

    async fn forget_replay_hashes(&self, ended_before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        let transaction = self.database.begin_write().await?;
        let ended: Vec<Vec<u8>> =
            ended_hashes(self.database.backend(), ended_before, limit).into_tuple().all(&transaction).await?;
        let forgotten = if ended.is_empty() {
            0
        } else {
            replay_hash::Entity::delete_many()
                .filter(replay_hash::Column::Hash.is_in(ended))
                .exec(&transaction)
                .await?
                .rows_affected
        };
        transaction.commit().await?;
        Ok(forgotten)
    }
}

/// Some of the hashes that ended before then, to be deleted.
pub(super) fn ended_hashes(backend: DatabaseBackend, ended_before: Timestamp, limit: u64) -> Select<replay_hash::Entity> {
    use replay_hash::Column;
    let ended = replay_hash::Entity::find()
        .filter(Column::ExpiresAt.lt(rows::time(ended_before)))
        .order_by_asc(Column::ExpiresAt)
        .limit(limit)
        .select_only()
        .column(Column::Hash);
    if backend == DatabaseBackend::Postgres {
        // Another replica may be at the same rows: it shall not be waited for.
        ended.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
    } else {
        ended
    }
}

impl SeaTrustStore {
    /// Everything up to the `COMMIT`.
    async fn prepare(
        &self,
        exchanges: &[ExchangeCommit],
        now: Timestamp,
    ) -> Result<(DatabaseTransaction, Vec<CommitOutcome>), StoreError> {
        let transaction = self.database.begin_write().await?;
        let dialect = Dialect { database: &self.database, transaction: &transaction };
        dialect.share_locks(exchanges).await?;
        // Read after the locks are held, by a statement that began after: what it sees cannot change before the commit.
        let found = dialect.read(exchanges).await?;
        let mut outcomes: Vec<CommitOutcome> =
            exchanges.iter().zip(&found).map(|(exchange, found)| judge(Revisions::of(exchange), found, now)).collect();

        // Only what is live claims its hash. Within the batch the first of equal hashes wins.
        let mut claims = BTreeMap::new();
        for (exchange, outcome) in exchanges.iter().zip(&mut outcomes) {
            if let (CommitOutcome::Committed, Some(mark)) = (*outcome, &exchange.replay)
                && claims.insert(mark.hash, mark.expires_at).is_some()
            {
                *outcome = CommitOutcome::Replayed;
            }
        }
        let claimed = dialect.claim(&claims).await?;
        for (exchange, outcome) in exchanges.iter().zip(&mut outcomes) {
            if let (CommitOutcome::Committed, Some(mark)) = (*outcome, &exchange.replay)
                && !claimed.contains(mark.hash.as_slice())
            {
                *outcome = CommitOutcome::Replayed;
            }
        }

        let committed: Vec<&ExchangeCommit> = exchanges
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == CommitOutcome::Committed)
            .map(|(exchange, _)| exchange)
            .collect();
        if !committed.is_empty() {
            dialect.append_audit(&committed, now).await?;
        }
        Ok((transaction, outcomes))
    }
}

/// What stands in the tables for one exchange. `None` where there is nothing.
#[derive(Debug, Clone, Default)]
struct Found {
    state: Option<String>,
    issuer_revision: Option<i64>,
    issuer_enabled: Option<bool>,
    relationship_revision: Option<i64>,
    relationship_enabled: Option<bool>,
    relationship_expires_at: Option<i64>,
}

/// The revisions that an exchange was decided on.
#[derive(Debug, Clone, Copy)]
struct Revisions {
    issuer: i64,
    relationship: i64,
}

impl Revisions {
    fn of(exchange: &ExchangeCommit) -> Self {
        Self { issuer: exchange.trusted_issuer_revision, relationship: exchange.trust_relationship_revision }
    }
}

fn judge(decided_on: Revisions, found: &Found, now: Timestamp) -> CommitOutcome {
    let active = rows::state(countersign_domain::trust::workspace::WorkspaceState::Active);
    let live = found.state.as_deref() == Some(active)
        && found.issuer_enabled == Some(true)
        && found.relationship_enabled == Some(true)
        && found.relationship_expires_at.is_none_or(|end| end > rows::time(now));
    let current =
        found.issuer_revision == Some(decided_on.issuer) && found.relationship_revision == Some(decided_on.relationship);
    match (live, current) {
        (false, _) => CommitOutcome::Disabled,
        (true, false) => CommitOutcome::Stale,
        (true, true) => CommitOutcome::Committed,
    }
}

/// The statements, as each database likes them.
struct Dialect<'a> {
    database: &'a Database,
    transaction: &'a DatabaseTransaction,
}

impl Dialect<'_> {
    fn is_postgres(&self) -> bool {
        self.database.backend() == DatabaseBackend::Postgres
    }

    /// Keeps the policies of these workspaces as they are until the transaction ends. SQLite has one writer at a time anyway.
    async fn share_locks(&self, exchanges: &[ExchangeCommit]) -> Result<(), StoreError> {
        if self.is_postgres() {
            // In one order, so that two batches cannot wait for each other.
            let ids: BTreeSet<&str> = exchanges.iter().map(|exchange| exchange.workspace_id.as_str()).collect();
            let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
            let sql = "SELECT pg_advisory_xact_lock_shared(hashtextextended(id, $2)) FROM unnest($1::text[]) AS id";
            let values = [ids.into(), LOCK_SEED.into()];
            self.transaction.execute_raw(self.database.statement(sql, values)).await?;
        }
        Ok(())
    }

    /// Reads what stands for each exchange. Every id counts only together with its workspace.
    async fn read(&self, exchanges: &[ExchangeCommit]) -> Result<Vec<Found>, StoreError> {
        const COLUMNS: &str = "w.state AS state, i.revision AS issuer_revision, i.enabled AS issuer_enabled,
            r.revision AS relationship_revision, r.enabled AS relationship_enabled, r.expires_at AS relationship_expires_at";
        const JOINS: &str = "LEFT JOIN workspaces w ON w.id = item.workspace_id
            LEFT JOIN trusted_issuers i ON i.id = item.issuer_id AND i.workspace_id = item.workspace_id
            LEFT JOIN trust_relationships r ON r.id = item.relationship_id AND r.workspace_id = item.workspace_id
                AND r.trusted_issuer_id = item.issuer_id";
        if self.is_postgres() {
            let column = |id: fn(&ExchangeCommit) -> &str| -> Value {
                exchanges.iter().map(|exchange| id(exchange).to_owned()).collect::<Vec<String>>().into()
            };
            let values = [
                column(|exchange| exchange.workspace_id.as_str()),
                column(|exchange| exchange.trusted_issuer_id.as_str()),
                column(|exchange| exchange.trust_relationship_id.as_str()),
            ];
            let sql = format!(
                "SELECT {COLUMNS} FROM unnest($1::text[], $2::text[], $3::text[])
                    WITH ORDINALITY AS item(workspace_id, issuer_id, relationship_id, place) {JOINS} ORDER BY item.place"
            );
            let rows = self.transaction.query_all_raw(self.database.statement(sql, values)).await?;
            return rows.iter().map(found).collect();
        }
        let sql =
            format!("SELECT {COLUMNS} FROM (SELECT $1 AS workspace_id, $2 AS issuer_id, $3 AS relationship_id) AS item {JOINS}");
        let mut known: HashMap<[&str; 3], Found> = HashMap::new();
        let mut all = Vec::with_capacity(exchanges.len());
        for exchange in exchanges {
            let ids =
                [exchange.workspace_id.as_str(), exchange.trusted_issuer_id.as_str(), exchange.trust_relationship_id.as_str()];
            if let Some(known) = known.get(&ids) {
                all.push(known.clone());
                continue;
            }
            let statement = self.database.statement(sql.as_str(), ids.map(Value::from));
            let row = self.transaction.query_one_raw(statement).await?;
            let found = row.as_ref().map(found).transpose()?.unwrap_or_default();
            known.insert(ids, found.clone());
            all.push(found);
        }
        Ok(all)
    }

    /// Claims hashes, in their order, so that two batches cannot wait for each other; returns those that were free.
    async fn claim(&self, claims: &BTreeMap<[u8; 32], Timestamp>) -> Result<BTreeSet<Vec<u8>>, StoreError> {
        if claims.is_empty() {
            return Ok(BTreeSet::new());
        }
        if self.is_postgres() {
            let hashes: Vec<Vec<u8>> = claims.keys().map(|hash| hash.to_vec()).collect();
            let ends: Vec<i64> = claims.values().map(|end| rows::time(*end)).collect();
            let sql = "INSERT INTO replay_hashes (hash, expires_at) SELECT * FROM unnest($1::bytea[], $2::bigint[])
                ON CONFLICT (hash) DO NOTHING RETURNING hash";
            let rows = self.transaction.query_all_raw(self.database.statement(sql, [hashes.into(), ends.into()])).await?;
            return Ok(rows.iter().map(|row| row.try_get("", "hash")).collect::<Result<_, _>>()?);
        }
        let mut claimed = BTreeSet::new();
        for (hash, end) in claims {
            let sql = "INSERT INTO replay_hashes (hash, expires_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING";
            let values = [hash.to_vec().into(), rows::time(*end).into()];
            let inserted = self.transaction.execute_raw(self.database.statement(sql, values)).await?;
            if inserted.rows_affected() == 1 {
                claimed.insert(hash.to_vec());
            }
        }
        Ok(claimed)
    }

    async fn append_audit(&self, exchanges: &[&ExchangeCommit], now: Timestamp) -> Result<(), StoreError> {
        let events = exchanges.iter().map(|exchange| audit::allowed(exchange, now)).collect::<Result<Vec<_>, _>>()?;
        if !self.is_postgres() {
            return audit::insert(self.transaction, events).await;
        }
        let texts = |column: fn(&audit_event::Model) -> Option<&str>| -> Value {
            events.iter().map(|event| column(event).unwrap_or_default().to_owned()).collect::<Vec<String>>().into()
        };
        let numbers = |column: fn(&audit_event::Model) -> Option<i64>| -> Value {
            events.iter().map(|event| column(event).unwrap_or_default()).collect::<Vec<i64>>().into()
        };
        let hashes: Vec<Vec<u8>> = events.iter().map(|event| event.subject_token_hash.clone().unwrap_or_default()).collect();
        let sql = "INSERT INTO audit_events (time, kind, decision, workspace_id, request_id, trusted_issuer_id,
                trust_relationship_id, subject_issuer, subject, subject_token_id, subject_key_id, access_token_id,
                access_token_audiences, scopes, trusted_issuer_revision, trust_relationship_revision, policy_revision,
                access_token_expires_at, subject_token_hash, claims, claim_paths, request)
            SELECT $1, $2, $3, t1, t2, t3, t4, t5, t6, NULLIF(t7, ''), NULLIF(t8, ''), t9, t10, t11, n1, n2, n3, n4, hash,
                NULLIF(t12, ''), NULLIF(t13, ''), NULLIF(t14, '')
            FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
                $12::text[], $13::text[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bytea[],
                $20::text[], $21::text[], $22::text[])
                AS event(t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, n1, n2, n3, n4, hash, t12, t13, t14)";
        let values = [
            rows::time(now).into(),
            audit_event::EXCHANGE.into(),
            audit_event::ALLOWED.into(),
            texts(|event| Some(&event.workspace_id)),
            texts(|event| Some(&event.request_id)),
            texts(|event| event.trusted_issuer_id.as_deref()),
            texts(|event| event.trust_relationship_id.as_deref()),
            texts(|event| event.subject_issuer.as_deref()),
            texts(|event| event.subject.as_deref()),
            texts(|event| event.subject_token_id.as_deref()),
            texts(|event| event.subject_key_id.as_deref()),
            texts(|event| event.access_token_id.as_deref()),
            texts(|event| event.access_token_audiences.as_deref()),
            texts(|event| event.scopes.as_deref()),
            numbers(|event| event.trusted_issuer_revision),
            numbers(|event| event.trust_relationship_revision),
            numbers(|event| event.policy_revision),
            numbers(|event| event.access_token_expires_at),
            hashes.into(),
            texts(|event| event.claims.as_deref()),
            texts(|event| event.claim_paths.as_deref()),
            texts(|event| event.request.as_deref()),
        ];
        self.transaction.execute_raw(self.database.statement(sql, values)).await?;
        Ok(())
    }
}

fn found(row: &QueryResult) -> Result<Found, StoreError> {
    Ok(Found {
        state: row.try_get("", "state")?,
        issuer_revision: row.try_get("", "issuer_revision")?,
        issuer_enabled: row.try_get("", "issuer_enabled")?,
        relationship_revision: row.try_get("", "relationship_revision")?,
        relationship_enabled: row.try_get("", "relationship_enabled")?,
        relationship_expires_at: row.try_get("", "relationship_expires_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::CommitOutcome::{Committed, Disabled, Stale};
    use super::*;

    const DECIDED_ON: Revisions = Revisions { issuer: 4, relationship: 7 };

    fn now() -> Timestamp {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    fn good() -> Found {
        Found {
            state: Some("active".to_owned()),
            issuer_revision: Some(4),
            issuer_enabled: Some(true),
            relationship_revision: Some(7),
            relationship_enabled: Some(true),
            relationship_expires_at: Some(rows::time(now()) + 1),
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Found), expected: CommitOutcome) {
        let mut found = good();
        change(&mut found);
        assert_eq!(judge(DECIDED_ON, &found, now()), expected, "{found:?}");
    }

    #[test]
    fn s30_each_fault_alone_prevents_the_commit() {
        check(|_| {}, Committed);
        check(|found| found.relationship_expires_at = None, Committed);
        for state in [None, Some("disabled"), Some("Active"), Some("")] {
            check(|found| found.state = state.map(str::to_owned), Disabled);
        }
        for enabled in [None, Some(false)] {
            check(|found| found.issuer_enabled = enabled, Disabled);
            check(|found| found.relationship_enabled = enabled, Disabled);
        }
        // A relationship that ends now has ended.
        for end in [0, -1, i64::MIN / 2] {
            check(|found| found.relationship_expires_at = Some(rows::time(now()) + end), Disabled);
        }
        for other in [None, Some(0), Some(3), Some(5)] {
            check(|found| found.issuer_revision = other, Stale);
        }
        for other in [None, Some(0), Some(6), Some(8)] {
            check(|found| found.relationship_revision = other, Stale);
        }
        // The revisions of the two are not interchangeable.
        check(|found| (found.issuer_revision, found.relationship_revision) = (Some(7), Some(4)), Stale);
        assert_eq!(judge(DECIDED_ON, &Found::default(), now()), Disabled, "nothing is there");
    }

    #[test]
    fn s30_of_all_combinations_one_commits_and_what_is_not_live_is_never_decided_again() {
        let faults: [fn(&mut Found); 6] = [
            |found| found.state = Some("disabled".to_owned()),
            |found| found.issuer_enabled = Some(false),
            |found| found.relationship_enabled = Some(false),
            |found| found.relationship_expires_at = Some(0),
            |found| found.issuer_revision = Some(5),
            |found| found.relationship_revision = Some(8),
        ];
        for combination in 0..64_u8 {
            let mut found = good();
            for (_, fault) in faults.iter().enumerate().filter(|(index, _)| combination >> index & 1 == 1) {
                fault(&mut found);
            }
            // The last two faults are those of the revisions.
            let expected = match combination {
                0 => Committed,
                0b01_0000 | 0b10_0000 | 0b11_0000 => Stale,
                _ => Disabled,
            };
            assert_eq!(judge(DECIDED_ON, &found, now()), expected, "{combination:06b}");
        }
    }
}
