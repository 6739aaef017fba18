//! The schema, step by step. A step that was released never changes.

use async_trait::async_trait;
use sea_orm::sea_query::{ColumnDef, ForeignKey, ForeignKeyAction, Index, Query, Table};
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DbErr};
use sea_orm_migration::schema::{big_integer, big_integer_null, blob, blob_null, boolean, integer, text, text_null};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

/// Brings trust-service's database up to date.
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(CreateTrust), Box::new(AddKeySources), Box::new(AddConditions), Box::new(AddRefusals)]
}

struct CreateTrust;

impl MigrationName for CreateTrust {
    fn name(&self) -> &'static str {
        "m0001_create_trust"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and the two must agree")]
#[async_trait]
impl MigrationTrait for CreateTrust {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create_resources(manager).await?;
        create_feed(manager).await?;
        create_commits(manager).await?;
        guard_audit(manager).await
    }
}

struct AddKeySources;

impl MigrationName for AddKeySources {
    fn name(&self) -> &'static str {
        "m0002_add_key_sources"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and the two must agree")]
#[async_trait]
impl MigrationTrait for AddKeySources {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            text_null("jwks"),
            big_integer_null("jwks_expires_at"),
            text_null("ca_certificates"),
            big_integer_null("max_stale_age"),
        ];
        // One at a time: SQLite knows no other way.
        for column in columns {
            manager.alter_table(Table::alter().table("trusted_issuers").add_column(column).to_owned()).await?;
        }
        let health = Table::create()
            .table("trusted_issuer_health")
            .col(text("trusted_issuer_id").primary_key())
            .col(big_integer("attempted_at"))
            .col(big_integer_null("succeeded_at"))
            .col(text_null("problem"))
            .col(text("keys"))
            .foreign_key(
                ForeignKey::create()
                    .from_col("trusted_issuer_id")
                    .to("trusted_issuers", "id")
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .to_owned();
        manager.create_table(health).await
    }
}

struct AddConditions;

impl MigrationName for AddConditions {
    fn name(&self) -> &'static str {
        "m0003_add_conditions"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and the two must agree")]
#[async_trait]
impl MigrationTrait for AddConditions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("trusted_issuers").add_column(text_null("preset")).to_owned()).await?;
        for column in ["key", "claim_conditions", "cel_condition", "attribute_mapping"] {
            manager.alter_table(Table::alter().table("trust_relationships").add_column(text_null(column)).to_owned()).await?;
        }
        let mut one_per_key = Index::create();
        one_per_key.unique().name("trust_relationships_one_per_key").table("trust_relationships");
        manager.create_index(one_per_key.col("workspace_id").col("key").to_owned()).await
    }
}

struct AddRefusals;

impl MigrationName for AddRefusals {
    fn name(&self) -> &'static str {
        "m0004_add_refusals"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait elides it, and the two must agree")]
#[async_trait]
impl MigrationTrait for AddRefusals {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            text_null("claims"),
            text_null("claim_paths"),
            text_null("request"),
            text_null("cause"),
            big_integer_null("count"),
            big_integer_null("first_at"),
        ];
        for column in columns {
            manager.alter_table(Table::alter().table("audit_events").add_column(column).to_owned()).await?;
        }
        // A table instead of an index of the log: nothing is read while the log is locked, and exchanges pay nothing for it.
        let refusals = Table::create()
            .table("refusals")
            .col(text("workspace_id"))
            .col(text("request_id"))
            .col(big_integer("sequence"))
            .primary_key(Index::create().col("workspace_id").col("request_id").col("sequence"))
            .to_owned();
        manager.create_table(refusals).await?;
        let recording =
            Table::create().table("use_recording").col(integer("id").primary_key()).col(big_integer("began_at")).to_owned();
        manager.create_table(recording).await?;
        let uses = Table::create()
            .table("trust_relationship_uses")
            .col(text("trust_relationship_id").primary_key())
            .col(big_integer("last_at"))
            .foreign_key(
                ForeignKey::create()
                    .from_col("trust_relationship_id")
                    .to("trust_relationships", "id")
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .to_owned();
        manager.create_table(uses).await
    }
}

async fn create_resources(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let workspaces = Table::create()
        .table("workspaces")
        .col(text("id").primary_key())
        .col(text("display_name"))
        .col(text("state"))
        .col(big_integer("revision"))
        .col(big_integer("policy_revision"))
        .col(big_integer("created_at"))
        .col(big_integer("updated_at"))
        .to_owned();
    manager.create_table(workspaces).await?;
    create_index(manager, "workspaces_by_age", "workspaces", &["created_at", "id"]).await?;

    let trusted_issuers = Table::create()
        .table("trusted_issuers")
        .col(text("id").primary_key())
        .col(text("workspace_id"))
        .col(text_null("display_name"))
        .col(text("issuer_url"))
        .col(text_null("jwks_url"))
        .col(text("subject_audiences"))
        .col(text("algorithms"))
        .col(text("token_types"))
        .col(big_integer("max_token_lifetime"))
        .col(big_integer("clock_skew"))
        .col(text("replay_policy"))
        .col(boolean("enabled"))
        .col(big_integer("revision"))
        .col(big_integer("created_at"))
        .col(big_integer("updated_at"))
        .index(Index::create().unique().name("trusted_issuers_one_per_url").col("workspace_id").col("issuer_url"))
        // What the relationships' reference below needs.
        .index(Index::create().unique().name("trusted_issuers_of_workspace").col("workspace_id").col("id"))
        .foreign_key(ForeignKey::create().from_col("workspace_id").to("workspaces", "id"))
        .to_owned();
    manager.create_table(trusted_issuers).await?;
    create_index(manager, "trusted_issuers_by_age", "trusted_issuers", &["workspace_id", "created_at", "id"]).await?;

    let trust_relationships = Table::create()
        .table("trust_relationships")
        .col(text("id").primary_key())
        .col(text("workspace_id"))
        .col(text("trusted_issuer_id"))
        .col(text_null("display_name"))
        .col(text("subject_matches"))
        .col(text("subject_audiences"))
        .col(text("access_token_audiences"))
        .col(text("scopes"))
        .col(text("grants"))
        .col(big_integer("token_duration"))
        .col(big_integer_null("expires_at"))
        .col(boolean("enabled"))
        .col(big_integer("revision"))
        .col(text("creator"))
        .col(big_integer("created_at"))
        .col(big_integer("updated_at"))
        // Both columns, so that the database itself refuses an issuer of another workspace.
        .foreign_key(
            ForeignKey::create()
                .from_col("workspace_id")
                .from_col("trusted_issuer_id")
                .to_tbl("trusted_issuers")
                .to_col("workspace_id")
                .to_col("id"),
        )
        .to_owned();
    manager.create_table(trust_relationships).await?;
    let table = "trust_relationships";
    create_index(manager, "trust_relationships_by_age", table, &["workspace_id", "created_at", "id"]).await?;
    let columns = ["workspace_id", "trusted_issuer_id", "created_at", "id"];
    create_index(manager, "trust_relationships_by_issuer", table, &columns).await
}

async fn create_feed(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let policy_changes = Table::create()
        .table("policy_changes")
        .col(big_integer("sequence").primary_key())
        .col(text("workspace_id"))
        .col(big_integer("revision"))
        .col(text("kind"))
        .col(text("resource_id"))
        .col(boolean("deleted"))
        .col(big_integer("changed_at"))
        .to_owned();
    manager.create_table(policy_changes).await?;
    let policy_clock =
        Table::create().table("policy_clock").col(integer("id").primary_key()).col(big_integer("sequence")).to_owned();
    manager.create_table(policy_clock).await?;
    let first =
        Query::insert().into_table("policy_clock").columns(["id", "sequence"]).values_panic([1.into(), 0.into()]).to_owned();
    manager.execute(first).await
}

async fn create_commits(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let replay_hashes =
        Table::create().table("replay_hashes").col(blob("hash").primary_key()).col(big_integer("expires_at")).to_owned();
    manager.create_table(replay_hashes).await?;
    create_index(manager, "replay_hashes_by_end", "replay_hashes", &["expires_at"]).await?;

    let audit_events = Table::create()
        .table("audit_events")
        // Autoincrement, so that SQLite never numbers an event like one that was there before.
        .col(ColumnDef::new("sequence").big_integer().not_null().auto_increment().primary_key())
        .col(big_integer("time"))
        .col(text("workspace_id"))
        .col(text("kind"))
        .col(text("decision"))
        .col(text_null("reason"))
        .col(text("request_id"))
        .col(text_null("trusted_issuer_id"))
        .col(big_integer_null("trusted_issuer_revision"))
        .col(text_null("trust_relationship_id"))
        .col(big_integer_null("trust_relationship_revision"))
        .col(big_integer_null("policy_revision"))
        .col(text_null("subject_issuer"))
        .col(text_null("subject"))
        .col(blob_null("subject_token_hash"))
        .col(text_null("subject_token_id"))
        .col(text_null("subject_key_id"))
        .col(text_null("access_token_id"))
        .col(text_null("access_token_audiences"))
        .col(text_null("scopes"))
        .col(big_integer_null("access_token_expires_at"))
        .to_owned();
    manager.create_table(audit_events).await?;
    create_index(manager, "audit_events_of_workspace", "audit_events", &["workspace_id", "sequence"]).await
}

/// Refuses every change of the audit log but an addition (SECURITY 74).
async fn guard_audit(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let statements: &[&str] = match manager.get_database_backend() {
        DatabaseBackend::Postgres => &[
            "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'audit events are only ever added'; END $$",
            "CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events
             FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()",
            "CREATE TRIGGER audit_events_keep BEFORE TRUNCATE ON audit_events
             FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()",
        ],
        _ => &[
            "CREATE TRIGGER audit_events_keep BEFORE DELETE ON audit_events
             BEGIN SELECT RAISE(ABORT, 'audit events are only ever added'); END",
            "CREATE TRIGGER audit_events_append_only BEFORE UPDATE ON audit_events
             BEGIN SELECT RAISE(ABORT, 'audit events are only ever added'); END",
        ],
    };
    for statement in statements {
        manager.get_connection().execute_unprepared(statement).await?;
    }
    Ok(())
}

async fn create_index(
    manager: &SchemaManager<'_>,
    name: &'static str,
    table: &'static str,
    columns: &[&'static str],
) -> Result<(), DbErr> {
    let mut index = Index::create();
    index.name(name).table(table);
    for column in columns {
        index.col(*column);
    }
    manager.create_index(index).await
}
