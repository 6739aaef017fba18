//! The tables. Times are microseconds since the epoch; lists are JSON text, the same on every database.

#![expect(unreachable_pub, reason = "sea-orm's derive macros name these types in public traits")]

/// One row: the counter that every write raises.
pub(super) mod directory {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "issuer_directory")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub revision: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Every issuer there ever was, with its URL. Rows are never deleted, so that neither is used again.
pub(super) mod issuer_url {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "issuer_urls")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub issuer_id: String,
        #[sea_orm(unique)]
        pub issuer_url: String,
        pub purpose: String,
        /// The directory's revision at the last change of the issuer or of its keys.
        pub change_revision: i64,
        pub claimed_at: i64,
        pub deleted_at: Option<i64>,
        /// The owner, for its quota. Absent of the access token issuer and in rows of versions that did not record it.
        pub workspace_id: Option<String>,
    }

    /// `purpose` of a workspace's issuer.
    pub const ID_TOKENS: &str = "id_tokens";
    /// `purpose` of the deployment's own issuer.
    pub const ACCESS_TOKENS: &str = "access_tokens";

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The issuers of workspaces.
pub(super) mod issuer {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "issuers")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub workspace_id: String,
        /// As in `issuer_urls`, whose row it must equal.
        #[sea_orm(unique)]
        pub issuer_url: String,
        pub profile: String,
        /// JSON, of the profile that an operator defined.
        pub profile_definition: Option<String>,
        /// JSON, oldest first.
        pub former_subjects: String,
        pub display_name: Option<String>,
        pub algorithms: String,
        pub allowed_audiences: String,
        pub default_token_seconds: i64,
        pub max_token_seconds: i64,
        /// 0: only on request.
        pub rotation_seconds: i64,
        /// JSON: `"sealed"` or `"device"`.
        pub key_custody: String,
        pub revision: i64,
        pub created_at: i64,
        pub updated_at: i64,
        /// Set where the workspace was found deleted.
        pub published_until: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Signing keys.
pub(super) mod signing_key {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "signing_keys")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub issuer_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub key_id: String,
        pub algorithm: String,
        pub generation: i32,
        pub public_jwk: String,
        /// Empty of a key that is revoked.
        pub sealed_private_key: Vec<u8>,
        pub created_at: i64,
        pub activate_at: i64,
        pub sign_until: Option<i64>,
        pub publish_until: Option<i64>,
        pub revoked_at: Option<i64>,
        pub awaits_export: bool,
    }

    impl std::fmt::Debug for Model {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("signing_keys")
                .field("issuer_id", &self.issuer_id)
                .field("key_id", &self.key_id)
                .finish_non_exhaustive()
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Under which settings key sets were handed out, and until when that may go on.
pub(super) mod served_key_sets {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "served_key_sets")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub max_age_seconds: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub staleness_limit_seconds: i64,
        pub served_until: i64,
        /// The directory's revision at the last change.
        pub change_revision: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
