//! What issuer-service keeps: issuers, every URL that was ever one of theirs, and signing keys with sealed private halves.
//!
//! [`IssuerStore`] is the port, [`SeaIssuerStore`] its adapter for SQLite and PostgreSQL, `contract` the suite both pass. Private
//! halves are sealed above this module, which never sees a key.
//!
//! Every write raises one counter first. The counter's row lock makes writes follow each other, so that its values are in the
//! order of commits and [`IssuerStore::changes_since`] misses nothing.

mod entity;
mod migration;
mod row;
mod sea;

#[cfg(test)]
mod contract;

use async_trait::async_trait;
use countersign_domain::issuing::issuer::Issuer;
use countersign_domain::issuing::signing_key::{Retirement, ServedKeySets, SigningKeyRecord};
use countersign_domain::values::id::{IssuerId, WorkspaceId};
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::name::KeyId;
use countersign_domain::values::time::Timestamp;

use crate::database::StoreError;

pub use sea::SeaIssuerStore;

/// Issuers, their URLs and their signing keys.
///
/// Absence is `Ok(None)`. A write that lost a race says so in its outcome; errors are trouble with the database.
#[async_trait]
pub trait IssuerStore: Send + Sync + std::fmt::Debug {
    /// Creates an issuer, unless its URL was ever used or its workspace has reached one of its [`IssuerQuotas`].
    async fn create_issuer(&self, issuer: &Issuer) -> Result<CreateOutcome, StoreError>;

    /// The issuer of this id in this workspace.
    async fn get_issuer(&self, workspace_id: &WorkspaceId, id: &IssuerId) -> Result<Option<Issuer>, StoreError>;

    /// A workspace's issuers behind a position, oldest first, at most `limit`.
    async fn list_issuers(
        &self,
        workspace_id: &WorkspaceId,
        after: Option<&IssuerPosition>,
        limit: u64,
    ) -> Result<Vec<Issuer>, StoreError>;

    /// Replaces profile, former subjects, settings, revision and time of the last change, if the issuer still is at
    /// `expected_revision`. Ids, URL, time of creation and `published_until` stay as they are.
    async fn update_issuer(&self, issuer: &Issuer, expected_revision: i64) -> Result<WriteOutcome, StoreError>;

    /// Deletes an issuer and its keys, if it still is at `expected_revision` (when given). Its URL stays taken for ever.
    async fn delete_issuer(
        &self,
        workspace_id: &WorkspaceId,
        id: &IssuerId,
        expected_revision: Option<i64>,
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError>;

    /// Sets until when the documents of an issuer are published, as its workspace was deleted, or that this has no end. Its
    /// revision stays as it is. Nothing happens where the issuer is gone.
    async fn set_published_until(&self, id: &IssuerId, until: Option<Timestamp>) -> Result<(), StoreError>;

    /// The deployment's access token issuer of this URL: the one there is, or a new one with this id.
    ///
    /// `None`: the URL is, or was, that of a workspace's issuer.
    async fn ensure_access_token_issuer(
        &self,
        issuer_url: &IssuerUrl,
        id: &IssuerId,
        now: Timestamp,
    ) -> Result<Option<IssuerId>, StoreError>;

    /// Changes an issuer's keys: everything at once, or nothing.
    ///
    /// Nothing, where the issuer, its keys, or what is noted of served key sets changed after revision `as_of`: what was planned by
    /// an older picture may be wrong by now, and another replica may have done it already.
    async fn change_signing_keys(
        &self,
        issuer_id: &IssuerId,
        as_of: i64,
        changes: &[KeyChange],
    ) -> Result<ChangeKeysOutcome, StoreError>;

    /// Puts another sealed form of a private key in place of this one, and nothing else: no replica need read it. `false`: it is
    /// another by now.
    async fn reseal_signing_key(
        &self,
        issuer_id: &IssuerId,
        key_id: &KeyId,
        sealed: &[u8],
        resealed: Vec<u8>,
    ) -> Result<bool, StoreError>;

    /// Notes until when key sets may be handed out under a policy. An end that was noted before is never moved forward.
    async fn note_served_key_sets(&self, served: ServedKeySets) -> Result<(), StoreError>;

    /// Everything that changed after `revision`, each issuer once and whole. From revision 0 it is all there is.
    async fn changes_since(&self, revision: i64) -> Result<IssuerChanges, StoreError>;
}

/// What became of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateOutcome {
    /// It is there.
    Created,
    /// The URL is, or was, another's.
    UrlTaken,
    /// The workspace has this many issuers, the most that it can have.
    TooMany(u64),
    /// The workspace created this many issuers, deleted ones included, since 24 hours before the creation time of the new one.
    TooManyPerDay(u64),
}

/// The limits on the issuers of one workspace, enforced under the lock that every write takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerQuotas {
    /// The most issuers at a time. Deleted issuers do not count.
    pub issuers: u64,
    /// The most issuers created in 24 hours. Deleted issuers count: their URLs stay taken, so each leaves a row behind.
    pub issuers_created_per_day: u64,
}

impl Default for IssuerQuotas {
    fn default() -> Self {
        Self { issuers: 100, issuers_created_per_day: 1_000 }
    }
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It is done.
    Done,
    /// No such issuer in this workspace.
    NotFound,
    /// It changed since it was read.
    Stale,
}

/// A change of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// A new key.
    Add(SealedSigningKey),
    /// The end of a key's life, which is set once.
    Retire {
        /// Which key.
        key_id: KeyId,
        /// Its end.
        retirement: Retirement,
    },
    /// The revocation of a key. Its private half is destroyed, so that nothing brings it back.
    Revoke {
        /// Which key.
        key_id: KeyId,
        /// When.
        revoked_at: Timestamp,
    },
    /// The end of a key's wait for the export, and when it first may sign.
    EndWait {
        /// Which key.
        key_id: KeyId,
        /// When.
        activate_at: Timestamp,
    },
    /// The activation of a prepared key, dated back to its creation.
    Promote {
        /// Which key.
        key_id: KeyId,
    },
}

/// What became of a change of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKeysOutcome {
    /// It is done.
    Done,
    /// Something changed since the plan was made, as when another replica was first: read again.
    Stale,
    /// The issuer was deleted.
    IssuerGone,
}

/// Where a page of issuers ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerPosition {
    /// Of the last issuer on the page.
    pub created_at: Timestamp,
    /// Of the last issuer on the page.
    pub id: IssuerId,
}

/// A signing key as it lies in the database.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSigningKey {
    /// Everything but the key.
    pub record: SigningKeyRecord,
    /// The public half as a JWK, for whoever looks into the database. Never the source of what is published.
    pub public_jwk: String,
    /// The private half, sealed under the key-encryption key and bound to this row. Empty of a key that is revoked.
    pub sealed_private_key: Vec<u8>,
}

impl std::fmt::Debug for SealedSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedSigningKey").field("record", &self.record).finish_non_exhaustive()
    }
}

/// Whose tokens an issuer signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerIdentity {
    /// A workspace's: ID tokens.
    Workspace(Box<Issuer>),
    /// The deployment's own: access tokens, for the gateway.
    AccessTokens {
        /// Its id.
        id: IssuerId,
        /// The `iss` of access tokens.
        issuer_url: IssuerUrl,
    },
}

impl IssuerIdentity {
    /// The id of the issuer.
    pub const fn id(&self) -> &IssuerId {
        match self {
            Self::Workspace(issuer) => &issuer.id,
            Self::AccessTokens { id, .. } => id,
        }
    }

    /// The `iss` of the issuer.
    pub const fn issuer_url(&self) -> &IssuerUrl {
        match self {
            Self::Workspace(issuer) => &issuer.issuer_url,
            Self::AccessTokens { issuer_url, .. } => issuer_url,
        }
    }
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerChanges {
    /// To ask from the next time.
    pub revision: i64,
    /// The issuers that changed.
    pub changed: Vec<ChangedIssuer>,
    /// Under which policies key sets were handed out: all of them, whatever changed. Empty where nothing did.
    pub served: Vec<ServedKeySets>,
}

/// An issuer that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedIssuer {
    /// As it is now, with all its keys.
    Present(IssuerIdentity, Vec<SealedSigningKey>),
    /// Deleted, or so damaged that it must not be used.
    Gone(IssuerId),
}
