//! Connecting to a database and migrating it, the same on SQLite and PostgreSQL.
//!
//! Each service owns one SQLite file or one PostgreSQL schema. [`Database`] hides what differs:
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | [`Database::begin_write`] | the one writing connection, `BEGIN IMMEDIATE`: writers queue in the process and never see `SQLITE_BUSY` | a pooled connection, `READ COMMITTED` |
//! | [`Database::begin_read`] | a reading connection; WAL gives it a snapshot | `REPEATABLE READ`, read only |
//! | who can read the file | its owner alone, from its first instant | |
//! | durability | WAL, `synchronous = FULL` | the server's `synchronous_commit` |
//! | replicas that start together | `BEGIN IMMEDIATE` | an advisory lock |

mod sqlite_file;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr, IsolationLevel,
    RuntimeErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::{MigrationTrait, SchemaManager};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

/// How long to wait for a database that is not there yet: services start in any order (SECURITY 76).
const STARTUP_LIMIT: Duration = Duration::from_secs(30);
const STARTUP_PAUSE: Duration = Duration::from_millis(250);
/// How long a request waits for a connection. Exchanges must fail within a second when the database is gone.
const POSTGRES_ACQUIRE_TIMEOUT: Duration = Duration::from_millis(900);
const POSTGRES_CONNECTIONS: u32 = 16;
const SQLITE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const SQLITE_READERS: u32 = 4;
/// Another process (a backup, an operator's shell) may hold the file's lock for a moment.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a database is: `sqlite:///path/file.db`, `sqlite::memory:` or `postgres://user:password@host/database`.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Box<str>);

/// Why a text is not a database URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must begin with sqlite: or postgres:// and be well-formed")]
pub struct InvalidDatabaseUrl;

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let valid = if text.starts_with("sqlite:") {
            text.parse::<SqliteConnectOptions>().is_ok()
        } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            text.parse::<sqlx::postgres::PgConnectOptions>().is_ok()
        } else {
            false
        };
        if valid { Ok(Self(text.into())) } else { Err(InvalidDatabaseUrl) }
    }
}

// The URL may hold a password.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split(':').next().unwrap_or_default();
        write!(f, "{scheme}:<redacted>")
    }
}

impl DatabaseUrl {
    fn is_postgres(&self) -> bool {
        self.0.starts_with("postgres")
    }

    fn is_memory(&self) -> bool {
        self.0.contains(":memory:") || self.0.contains("mode=memory")
    }

    /// The file of a SQLite database, by the rules of `sqlx`; `None` for a URI of SQLite's own.
    fn file(&self) -> Option<PathBuf> {
        let name = self.0.strip_prefix("sqlite:")?.trim_start_matches("//").split('?').next()?;
        let name = percent_decode_str(name).decode_utf8().ok()?;
        (!name.is_empty() && !name.starts_with("file:")).then(|| PathBuf::from(name.as_ref()))
    }
}

/// What went wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or gave up. The outcome of a commit may be unknown.
    #[error("the database is unavailable")]
    Unavailable(#[source] DbErr),
    /// The database refused a statement: a fault of ours.
    #[error("the database refused a statement")]
    Refused(#[source] DbErr),
    /// A stored value cannot be read back.
    #[error("a stored {what} cannot be read")]
    Unreadable {
        /// Which value.
        what: &'static str,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// A stored value that cannot be read back.
    pub fn unreadable(what: &'static str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unreadable { what, cause: cause.into() }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        if is_unavailable(&error) { Self::Unavailable(error) } else { Self::Refused(error) }
    }
}

/// What the driver says.
fn driver_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => Some(&**cause),
        _ => None,
    }
}

/// Whether a failed `COMMIT` certainly committed nothing: the database answered it with an error that it raises only before it
/// commits, as when a deferred constraint or trigger fails. A lost connection, a shutdown and an I/O error leave it open.
pub(crate) fn is_rolled_back(error: &DbErr) -> bool {
    let Some(sqlx::Error::Database(cause)) = driver_error(error) else { return false };
    let code = cause.code().unwrap_or_default();
    if cause.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // CONSTRAINT: the transaction is still open, and is rolled back when it is dropped.
        return code.parse::<u32>().is_ok_and(|code| code & 0xff == 19);
    }
    // Data exception, integrity constraint violation, invalid transaction state, triggered data change violation, transaction rollback,
    // syntax error or access rule violation, check option violation, and what a function raises.
    ["22", "23", "25", "27", "40", "42", "44", "P0"].iter().any(|class| code.starts_with(class))
}

fn is_unavailable(error: &DbErr) -> bool {
    if matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(RuntimeErr::Internal(_))) {
        return true;
    }
    match driver_error(error) {
        Some(cause) => driver_is_unavailable(cause),
        None => false,
    }
}

fn driver_is_unavailable(cause: &sqlx::Error) -> bool {
    match cause {
        sqlx::Error::Database(cause) => {
            let code = cause.code().unwrap_or_default();
            if cause.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
                // The low byte is the primary code: BUSY, LOCKED, IOERR, FULL, CANTOPEN.
                let primary = code.parse::<u32>().map(|code| code & 0xff);
                matches!(primary, Ok(5 | 6 | 10 | 13 | 14))
            } else {
                // Connection exception, insufficient resources, operator intervention (also statement timeouts), system error,
                // serialization failure, deadlock, lock not available.
                ["08", "53", "57", "58", "40001", "40P01", "55P03"].iter().any(|class| code.starts_with(class))
                    // A standby after failover, or a server that turned read-only.
                    || code == "25006"
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// A database that belongs to one service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    write: DatabaseConnection,
    read: DatabaseConnection,
    schema: &'static str,
}

impl Database {
    /// Connects, waiting up to half a minute for a server that is not there yet.
    ///
    /// `schema` names the service's own PostgreSQL schema (`countersign_trust`); a SQLite file belongs to one service anyway.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with the last trouble.
    pub async fn connect(url: &DatabaseUrl, schema: &'static str) -> Result<Self, StoreError> {
        let deadline = tokio::time::Instant::now() + STARTUP_LIMIT;
        loop {
            match Self::try_connect(url, schema).await {
                Ok(database) => return Ok(database),
                // A file that cannot be opened will not be there in a moment either.
                Err(error) if !url.is_postgres() || !is_unavailable(&error) || tokio::time::Instant::now() >= deadline => {
                    return Err(error.into());
                }
                Err(error) => {
                    tracing::warn!(%error, "the database is not there yet");
                    tokio::time::sleep(STARTUP_PAUSE).await;
                }
            }
        }
    }

    async fn try_connect(url: &DatabaseUrl, schema: &'static str) -> Result<Self, DbErr> {
        if url.is_postgres() {
            let pool = sea_orm::Database::connect(postgres(url, schema)).await?;
            Ok(Self { write: pool.clone(), read: pool, schema })
        } else if url.is_memory() {
            // Every connection to memory is a database of its own, so there is one.
            let connection = sea_orm::Database::connect(sqlite(url, 1, SqliteRole::Writer)).await?;
            Ok(Self { write: connection.clone(), read: connection, schema })
        } else {
            if let Some(file) = url.file() {
                sqlite_file::make_private(&file);
            }
            // The writer first: it switches the file to WAL.
            let write = sea_orm::Database::connect(sqlite(url, 1, SqliteRole::Writer)).await?;
            let read = sea_orm::Database::connect(sqlite(url, SQLITE_READERS, SqliteRole::Reader)).await?;
            Ok(Self { write, read, schema })
        }
    }

    /// Applies the migrations that the database has not seen, all in one transaction. Replicas that start together wait for
    /// each other. Migrations of a newer version, already applied, are left alone (SECURITY 76).
    pub async fn migrate(&self, migrations: &[Box<dyn MigrationTrait>]) -> Result<(), StoreError> {
        let schema = self.schema;
        let transaction = self.begin_write().await?;
        if self.backend() == DatabaseBackend::Postgres {
            // Held until the commit, which also makes the schema visible; `CREATE SCHEMA IF NOT EXISTS` alone can collide.
            let lock = format!("SELECT pg_advisory_xact_lock(hashtextextended('countersign migrations of {schema}', 0))");
            transaction.execute_unprepared("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").await?;
            transaction.execute_unprepared(&lock).await?;
            // Only a role that can create schemas may say `IF NOT EXISTS`; one that owns this schema alone is enough.
            let exists = self.statement("SELECT 1 FROM pg_namespace WHERE nspname = $1", [schema.into()]);
            if transaction.query_one_raw(exists).await?.is_none() {
                transaction.execute_unprepared(&format!("CREATE SCHEMA {schema}")).await?;
            }
        }
        transaction.execute_unprepared("CREATE TABLE IF NOT EXISTS schema_migrations (name text NOT NULL PRIMARY KEY)").await?;
        let rows = transaction.query_all_raw(self.statement("SELECT name FROM schema_migrations", [])).await?;
        let applied = rows.iter().map(|row| row.try_get::<String>("", "name")).collect::<Result<Vec<_>, _>>()?;
        let manager = SchemaManager::new(&transaction);
        for migration in migrations.iter().filter(|migration| !applied.iter().any(|name| name == migration.name())) {
            tracing::info!(migration = migration.name(), schema, "migrating");
            migration.up(&manager).await?;
            let insert = match self.backend() {
                DatabaseBackend::Postgres => "INSERT INTO schema_migrations (name) VALUES ($1)",
                _ => "INSERT INTO schema_migrations (name) VALUES (?)",
            };
            transaction.execute_raw(self.statement(insert, [migration.name().into()])).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Begins a transaction that writes.
    pub async fn begin_write(&self) -> Result<DatabaseTransaction, DbErr> {
        let options = match self.backend() {
            DatabaseBackend::Sqlite => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            },
            _ => TransactionOptions { isolation_level: Some(IsolationLevel::ReadCommitted), ..TransactionOptions::default() },
        };
        self.write.begin_with_options(options).await
    }

    /// Begins a transaction whose reads all see one moment.
    pub async fn begin_read(&self) -> Result<DatabaseTransaction, DbErr> {
        let options = match self.backend() {
            DatabaseBackend::Sqlite => TransactionOptions::default(),
            _ => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..TransactionOptions::default()
            },
        };
        self.read.begin_with_options(options).await
    }

    /// For single statements that read.
    pub fn reader(&self) -> &DatabaseConnection {
        &self.read
    }

    /// For single statements that write.
    pub fn writer(&self) -> &DatabaseConnection {
        &self.write
    }

    /// Which kind of database it is, where SQL has to differ.
    pub fn backend(&self) -> DatabaseBackend {
        self.write.get_database_backend()
    }

    /// A statement in this database's dialect.
    pub fn statement(&self, sql: impl Into<String>, values: impl IntoIterator<Item = sea_orm::Value>) -> Statement {
        Statement::from_sql_and_values(self.backend(), sql, values)
    }

    /// Asks the database for a sign of life; for readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.read.ping().await?)
    }
}

fn postgres(url: &DatabaseUrl, schema: &'static str) -> ConnectOptions {
    let mut options = quiet(url);
    options
        .max_connections(POSTGRES_CONNECTIONS)
        .min_connections(1)
        .connect_timeout(POSTGRES_ACQUIRE_TIMEOUT)
        .acquire_timeout(POSTGRES_ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        // Asking before every use would cost each exchange a round trip; after a pause, a dead connection is likely.
        .test_before_acquire_if_idle_for(Duration::from_secs(1))
        .map_sqlx_postgres_opts(move |options| {
            options.application_name(schema).options([
                ("search_path", schema),
                // A statement that hangs must not hold the locks that commits wait for.
                ("statement_timeout", "10s"),
                ("lock_timeout", "5s"),
                ("idle_in_transaction_session_timeout", "10s"),
            ])
        });
    options
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SqliteRole {
    Writer,
    Reader,
}

fn sqlite(url: &DatabaseUrl, connections: u32, role: SqliteRole) -> ConnectOptions {
    let mut options = quiet(url);
    let memory = url.is_memory();
    options
        .max_connections(connections)
        .min_connections(1)
        .connect_timeout(SQLITE_ACQUIRE_TIMEOUT)
        .acquire_timeout(SQLITE_ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        // A database in memory ends with its connection.
        .idle_timeout(None)
        .max_lifetime(None)
        .map_sqlx_sqlite_opts(move |options| {
            let options = options.foreign_keys(true).busy_timeout(SQLITE_BUSY_TIMEOUT);
            match role {
                SqliteRole::Writer if memory => options,
                SqliteRole::Writer => options
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // In WAL mode only FULL survives a power cut, and a commit that is lost is a token minted twice.
                    .synchronous(SqliteSynchronous::Full),
                SqliteRole::Reader => options.pragma("query_only", "ON"),
            }
        });
    options
}

fn quiet(url: &DatabaseUrl) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.0.to_string());
    // Statements carry subjects and hashes; the traces say enough by the names of the calls.
    options.sqlx_logging(false).record_stmt_in_spans(false);
    options
}

#[cfg(test)]
mod tests {
    use sea_orm_migration::MigrationName;

    use super::*;

    struct Numbers;

    impl MigrationName for Numbers {
        fn name(&self) -> &'static str {
            "numbers"
        }
    }

    #[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and the two must agree")]
    #[async_trait::async_trait]
    impl MigrationTrait for Numbers {
        async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
            manager.get_connection().execute_unprepared("CREATE TABLE numbers (n bigint NOT NULL)").await?;
            Ok(())
        }
    }

    fn url(text: &str) -> DatabaseUrl {
        text.parse().unwrap()
    }

    fn file(folder: &tempfile::TempDir) -> DatabaseUrl {
        url(&format!("sqlite://{}", folder.path().join("test.db").display()))
    }

    fn server() -> DatabaseUrl {
        url(&countersign_testkit::postgres::Postgres::shared().database())
    }

    async fn replicas_that_start_together_migrate_once(url: DatabaseUrl) {
        let start = || async {
            let database = Database::connect(&url, "countersign_test").await.unwrap();
            database.migrate(&[Box::new(Numbers)]).await.unwrap();
            database
        };
        let databases = futures::future::join_all((0..6).map(|_| start())).await;
        for database in &databases {
            database.writer().execute_unprepared("INSERT INTO numbers (n) VALUES (1)").await.unwrap();
            database.ping().await.unwrap();
        }
        // A version that knows fewer migrations starts beside it.
        databases[0].migrate(&[]).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn s76_replicas_on_postgresql_migrate_once() {
        replicas_that_start_together_migrate_once(server()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn s76_replicas_on_one_file_migrate_once() {
        let folder = tempfile::tempdir().unwrap();
        replicas_that_start_together_migrate_once(file(&folder)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn concurrent_writers_on_sqlite_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::connect(&file(&folder), "countersign_test").await.unwrap();
        database.migrate(&[Box::new(Numbers)]).await.unwrap();
        let increment = || async {
            let transaction = database.begin_write().await.unwrap();
            let sql = "INSERT INTO numbers (n) SELECT COALESCE(MAX(n), 0) + 1 FROM numbers";
            transaction.execute_unprepared(sql).await.unwrap();
            transaction.commit().await.unwrap();
        };
        futures::future::join_all((0..50).map(|_| increment())).await;
        let row = database.reader().query_one_raw(database.statement("SELECT MAX(n) AS n FROM numbers", [])).await.unwrap();
        assert_eq!(row.unwrap().try_get::<i64>("", "n").unwrap(), 50);
    }

    #[tokio::test]
    async fn sqlite_is_durable_guards_references_and_its_readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::connect(&file(&folder), "countersign_test").await.unwrap();
        for (pragma, expected) in [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")] {
            let sql = format!("SELECT CAST({pragma} AS text) AS value FROM pragma_{pragma}");
            let row = database.writer().query_one_raw(database.statement(sql, [])).await.unwrap().unwrap();
            assert_eq!(row.try_get::<String>("", "value").unwrap(), expected, "{pragma}");
        }
        assert!(database.reader().execute_unprepared("CREATE TABLE t (n bigint)").await.is_err());
    }

    #[tokio::test]
    async fn s81_a_database_file_is_its_owner_s_alone_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        // Names are percent-encoded in the URL, and parameters are not part of them.
        let path = folder.path().join("a b?c.db");
        let encoded = path.display().to_string().replace(' ', "%20").replace('?', "%3F");
        for parameters in ["?mode=rwc", "", "?mode=rw"] {
            let database = Database::connect(&url(&format!("sqlite://{encoded}{parameters}")), "countersign_test").await.unwrap();
            database.migrate(&[Box::new(Numbers)]).await.unwrap();
            let modes = sqlite_file::tests::modes(folder.path());
            assert!(modes.len() >= 2, "the log is beside the database: {modes:?}");
            assert!(modes.iter().all(|(_, mode)| *mode == 0o600), "{modes:?}");
        }
    }

    #[tokio::test]
    async fn a_snapshot_does_not_see_later_commits() {
        let folder = tempfile::tempdir().unwrap();
        for url in [file(&folder), server()] {
            let database = Database::connect(&url, "countersign_test").await.unwrap();
            database.migrate(&[Box::new(Numbers)]).await.unwrap();
            let count = || database.statement("SELECT count(*) AS n FROM numbers", []);
            let snapshot = database.begin_read().await.unwrap();
            snapshot.query_one_raw(count()).await.unwrap();
            database.writer().execute_unprepared("INSERT INTO numbers (n) VALUES (1)").await.unwrap();
            let row = snapshot.query_one_raw(count()).await.unwrap().unwrap();
            assert_eq!(row.try_get::<i64>("", "n").unwrap(), 0, "{url:?}");
        }
    }

    #[test]
    fn s61_the_url_hides_its_password() {
        let url = url("postgres://user:canary@localhost/db");
        assert_eq!(format!("{url:?}"), "postgres:<redacted>");
        for wrong in ["mysql://localhost/db", "", "localhost"] {
            assert_eq!(wrong.parse::<DatabaseUrl>(), Err(InvalidDatabaseUrl), "{wrong}");
        }
    }
}
