//! The tables. Times are microseconds since the epoch, durations seconds, lists JSON text, the same on every database.
//!
//! Replay hashes and audit events are written by [`super::commit`] in the dialect of each database, many in one statement.

#![expect(unreachable_pub, reason = "sea-orm's derive macros name these types in public traits")]

/// Tenants.
pub(super) mod workspace {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "workspaces")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub display_name: String,
        pub state: String,
        pub revision: i64,
        /// Raised by every change that bears on exchanges.
        pub policy_revision: i64,
        pub created_at: i64,
        pub updated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Issuers of others that workspaces accept.
pub(super) mod trusted_issuer {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "trusted_issuers")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub workspace_id: String,
        pub display_name: Option<String>,
        pub preset: Option<String>,
        pub issuer_url: String,
        pub jwks_url: Option<String>,
        /// Of uploaded keys, with their end.
        pub jwks: Option<String>,
        pub jwks_expires_at: Option<i64>,
        pub ca_certificates: Option<String>,
        /// Of fetched keys.
        pub max_stale_age: Option<i64>,
        pub subject_audiences: String,
        pub algorithms: String,
        pub token_types: String,
        pub max_token_lifetime: i64,
        pub clock_skew: i64,
        pub replay_policy: String,
        pub enabled: bool,
        pub revision: i64,
        pub created_at: i64,
        pub updated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// How their keys fare. No part of the resource: it changes without anybody's doing.
pub(super) mod trusted_issuer_health {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "trusted_issuer_health")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub trusted_issuer_id: String,
        pub attempted_at: i64,
        pub succeeded_at: Option<i64>,
        pub problem: Option<String>,
        pub keys: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Which tokens get what.
pub(super) mod trust_relationship {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "trust_relationships")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub workspace_id: String,
        pub trusted_issuer_id: String,
        pub display_name: Option<String>,
        pub key: Option<String>,
        pub subject_matches: String,
        pub claim_conditions: Option<String>,
        pub cel_condition: Option<String>,
        pub attribute_mapping: Option<String>,
        pub subject_audiences: String,
        pub access_token_audiences: String,
        pub scopes: String,
        pub grants: String,
        pub token_duration: i64,
        pub expires_at: Option<i64>,
        pub enabled: bool,
        pub revision: i64,
        pub creator: String,
        pub created_at: i64,
        pub updated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The feed: one row for each change that bears on exchanges, numbered without gaps in the order of commits.
pub(super) mod policy_change {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "policy_changes")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub sequence: i64,
        pub workspace_id: String,
        /// The workspace's policy revision that the change made.
        pub revision: i64,
        pub kind: String,
        pub resource_id: String,
        pub deleted: bool,
        pub changed_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// One row: the number of the last change.
pub(super) mod policy_clock {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "policy_clock")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub sequence: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Marks of single-use tokens.
pub(super) mod replay_hash {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "replay_hashes")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub hash: Vec<u8>,
        pub expires_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The audit log. Rows are only ever added; triggers refuse anything else.
pub(super) mod audit_event {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_events")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub sequence: i64,
        pub time: i64,
        pub workspace_id: String,
        pub kind: String,
        pub decision: String,
        /// Why it was refused.
        pub reason: Option<String>,
        pub request_id: String,
        pub trusted_issuer_id: Option<String>,
        pub trusted_issuer_revision: Option<i64>,
        pub trust_relationship_id: Option<String>,
        pub trust_relationship_revision: Option<i64>,
        pub policy_revision: Option<i64>,
        pub subject_issuer: Option<String>,
        pub subject: Option<String>,
        pub subject_token_hash: Option<Vec<u8>>,
        pub subject_token_id: Option<String>,
        pub subject_key_id: Option<String>,
        pub access_token_id: Option<String>,
        pub access_token_audiences: Option<String>,
        pub scopes: Option<String>,
        pub access_token_expires_at: Option<i64>,
        /// Claims of the subject token, as an object, and the paths that were looked at.
        pub claims: Option<String>,
        pub claim_paths: Option<String>,
        /// What was asked for.
        pub request: Option<String>,
        /// Why it was refused, in full.
        pub cause: Option<String>,
        /// How many were refused alike, and when the first was.
        pub count: Option<i64>,
        pub first_at: Option<i64>,
    }

    /// `kind` of an exchange.
    pub const EXCHANGE: &str = "exchange";
    /// `decision` of what was allowed.
    pub const ALLOWED: &str = "allowed";
    /// `decision` of what was refused.
    pub const REFUSED: &str = "refused";
    /// `workspace_id` of what belongs to none.
    pub const NO_WORKSPACE: &str = "";

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// When relationships last decided. No part of the resource: it changes without anybody's doing, and some seconds late.
pub(super) mod trust_relationship_use {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "trust_relationship_uses")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub trust_relationship_id: String,
        pub last_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Refusals by the request id that their callers were told.
pub(super) mod refusal {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "refusals")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub workspace_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub request_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub sequence: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// One row: since when it is recorded when relationships decide.
pub(super) mod use_recording {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "use_recording")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub began_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
