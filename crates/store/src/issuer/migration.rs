//! The schema, step by step. A step that was released never changes.

use sea_orm::sea_query::{Expr, Index, Query, Table};
use sea_orm_migration::prelude::async_trait;
use sea_orm_migration::schema::{big_integer, big_integer_null, blob, boolean, integer, text, text_null};
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

/// Every step, oldest first.
pub(super) fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![
        Box::new(CreateIssuers),
        Box::new(AddKeyLifecycle),
        Box::new(AddServedKeySets),
        Box::new(AddProfileDefinitions),
        Box::new(AddFormerSubjects),
        Box::new(AddKeyCustody),
        Box::new(AddExport),
        Box::new(AddOwnersOfUrls),
        Box::new(AddPublishedUntil),
    ]
}

struct CreateIssuers;

impl MigrationName for CreateIssuers {
    fn name(&self) -> &'static str {
        "m0001_create_issuers"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait leaves it out, and async-trait compares the two")]
#[async_trait::async_trait]
impl MigrationTrait for CreateIssuers {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let directory =
            Table::create().table("issuer_directory").col(integer("id").primary_key()).col(big_integer("revision")).to_owned();
        manager.create_table(directory).await?;
        let first = Query::insert()
            .into_table("issuer_directory")
            .columns(["id", "revision"])
            .values_panic([1.into(), 0.into()])
            .to_owned();
        manager.execute(first).await?;

        let issuer_urls = Table::create()
            .table("issuer_urls")
            .col(text("issuer_id").primary_key())
            .col(text("issuer_url").unique_key())
            .col(text("purpose"))
            .col(big_integer("change_revision"))
            .col(big_integer("claimed_at"))
            .col(big_integer_null("deleted_at"))
            .to_owned();
        manager.create_table(issuer_urls).await?;
        let by_revision = Index::create().name("issuer_urls_by_revision").table("issuer_urls").col("change_revision").to_owned();
        manager.create_index(by_revision).await?;

        let issuers = Table::create()
            .table("issuers")
            .col(text("id").primary_key())
            .col(text("workspace_id"))
            .col(text("issuer_url").unique_key())
            .col(text("profile"))
            .col(text_null("display_name"))
            .col(text("algorithms"))
            .col(text("allowed_audiences"))
            .col(big_integer("default_token_seconds"))
            .col(big_integer("max_token_seconds"))
            .col(big_integer("revision"))
            .col(big_integer("created_at"))
            .col(big_integer("updated_at"))
            .to_owned();
        manager.create_table(issuers).await?;
        let by_workspace = Index::create()
            .name("issuers_by_workspace")
            .table("issuers")
            .col("workspace_id")
            .col("created_at")
            .col("id")
            .to_owned();
        manager.create_index(by_workspace).await?;

        let signing_keys = Table::create()
            .table("signing_keys")
            .col(text("issuer_id"))
            .col(text("key_id"))
            .col(text("algorithm"))
            .col(integer("generation"))
            .col(text("public_jwk"))
            .col(blob("sealed_private_key"))
            .col(big_integer("created_at"))
            .col(big_integer("activate_at"))
            .col(big_integer_null("sign_until"))
            .col(big_integer_null("publish_until"))
            .primary_key(Index::create().col("issuer_id").col("key_id"))
            .check(Expr::cust("(sign_until IS NULL) = (publish_until IS NULL)"))
            .to_owned();
        manager.create_table(signing_keys).await?;
        let one_a_generation = Index::create()
            .unique()
            .name("signing_keys_one_a_generation")
            .table("signing_keys")
            .col("issuer_id")
            .col("algorithm")
            .col("generation")
            .to_owned();
        manager.create_index(one_a_generation).await
    }
}

struct AddKeyLifecycle;

impl MigrationName for AddKeyLifecycle {
    fn name(&self) -> &'static str {
        "m0002_add_key_lifecycle"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait leaves it out, and async-trait compares the two")]
#[async_trait::async_trait]
impl MigrationTrait for AddKeyLifecycle {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // With a default, as the version before this one goes on creating issuers for a while: 90 days.
        let rotation = big_integer("rotation_seconds").default(7_776_000).take();
        manager.alter_table(Table::alter().table("issuers").add_column(rotation).to_owned()).await?;
        let revoked_at = big_integer_null("revoked_at");
        manager.alter_table(Table::alter().table("signing_keys").add_column(revoked_at).to_owned()).await
    }
}

struct AddServedKeySets;

impl MigrationName for AddServedKeySets {
    fn name(&self) -> &'static str {
        "m0003_add_served_key_sets"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait leaves it out, and async-trait compares the two")]
#[async_trait::async_trait]
impl MigrationTrait for AddServedKeySets {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let served_key_sets = Table::create()
            .table("served_key_sets")
            .col(big_integer("max_age_seconds"))
            .col(big_integer("staleness_limit_seconds"))
            .col(big_integer("served_until"))
            .col(big_integer("change_revision"))
            .primary_key(Index::create().col("max_age_seconds").col("staleness_limit_seconds"))
            .to_owned();
        manager.create_table(served_key_sets).await
    }
}

struct AddProfileDefinitions;

impl MigrationName for AddProfileDefinitions {
    fn name(&self) -> &'static str {
        "m0004_add_profile_definitions"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait leaves it out, and async-trait compares the two")]
#[async_trait::async_trait]
impl MigrationTrait for AddProfileDefinitions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("issuers").add_column(text_null("profile_definition")).to_owned()).await
    }
}

struct AddFormerSubjects;

impl MigrationName for AddFormerSubjects {
    fn name(&self) -> &'static str {
        "m0005_add_former_subjects"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait leaves it out, and async-trait compares the two")]
#[async_trait::async_trait]
impl MigrationTrait for AddFormerSubjects {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let none = text("former_subjects").default("[]").take();
        manager.alter_table(Table::alter().table("issuers").add_column(none).to_owned()).await
    }
}

struct AddKeyCustody;

impl MigrationName for AddKeyCustody {
    fn name(&self) -> &'static str {
        "m0006_add_key_custody"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait leaves it out, and async-trait compares the two")]
#[async_trait::async_trait]
impl MigrationTrait for AddKeyCustody {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sealed = text("key_custody").default("\"sealed\"").take();
        manager.alter_table(Table::alter().table("issuers").add_column(sealed).to_owned()).await
    }
}

struct AddExport;

impl MigrationName for AddExport {
    fn name(&self) -> &'static str {
        "m0007_add_export"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait leaves it out, and async-trait compares the two")]
#[async_trait::async_trait]
impl MigrationTrait for AddExport {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let awaits_export = boolean("awaits_export").default(false).take();
        manager.alter_table(Table::alter().table("signing_keys").add_column(awaits_export).to_owned()).await
    }
}

struct AddOwnersOfUrls;

impl MigrationName for AddOwnersOfUrls {
    fn name(&self) -> &'static str {
        "m0008_add_owners_of_urls"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait leaves it out, and async-trait compares the two")]
#[async_trait::async_trait]
impl MigrationTrait for AddOwnersOfUrls {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("issuer_urls").add_column(text_null("workspace_id")).to_owned()).await?;
        let by_owner =
            Index::create().name("issuer_urls_by_owner").table("issuer_urls").col("workspace_id").col("claimed_at").to_owned();
        manager.create_index(by_owner).await
    }
}

struct AddPublishedUntil;

impl MigrationName for AddPublishedUntil {
    fn name(&self) -> &'static str {
        "m0009_add_published_until"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "the trait leaves it out, and async-trait compares the two")]
#[async_trait::async_trait]
impl MigrationTrait for AddPublishedUntil {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let published_until = big_integer_null("published_until");
        manager.alter_table(Table::alter().table("issuers").add_column(published_until).to_owned()).await
    }
}
