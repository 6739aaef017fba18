//! What trust-service keeps: workspaces, trusted issuers, trust relationships, replay hashes, audit events.
//!
//! [`TrustStore`] is the sum of the ports; [`SeaTrustStore`] is the adapter for SQLite and PostgreSQL. Two rules hold everywhere:
//!
//! - Every call names the workspace, and every statement carries it: a resource of another workspace is not there.
//! - Every write that bears on exchanges excludes the commits of its workspace, raises `workspaces.policy_revision` and leaves a
//!   row in `policy_changes`, in one transaction. So a commit sees a policy or the next one, never a mixture, and what a commit
//!   saw was current when it became durable (SECURITY 30).

mod audit;
mod commit;
mod entity;
mod feed;
mod issuer_health;
mod issuers;
mod migration;
mod relationships;
mod rows;
mod workspaces;
mod write;

#[cfg(test)]
mod contract;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use countersign_domain::exchange::audit::{AuditEvent, NewRefusal};
use countersign_domain::exchange::commit::{CommitOutcome, ExchangeCommit};
use countersign_domain::trust::issuer_health::{IssuerHealth, IssuerHealthReport};
use countersign_domain::trust::policy_feed::{DirectoryChange, DirectoryEntry, PolicyChange, PolicySnapshot};
use countersign_domain::trust::trust_relationship::{TrustRelationship, TrustRelationshipSettings};
use countersign_domain::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerSettings};
use countersign_domain::trust::workspace::{Workspace, WorkspaceSettings};
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::name::Scope;
use countersign_domain::values::time::Timestamp;

use sea_orm::{DatabaseTransaction, EntityTrait, Select};

use crate::database::{Database, StoreError};
use crate::quota;

pub use migration::migrations;

/// The PostgreSQL schema of trust-service.
pub const SCHEMA: &str = "countersign_trust";

/// The kinds of resource, as errors name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A workspace.
    Workspace,
    /// A trusted issuer.
    TrustedIssuer,
    /// A trust relationship.
    TrustRelationship,
}

/// Why a resource was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no such resource in this workspace, or no such workspace.
    #[error("the {0:?} does not exist")]
    NotFound(Resource),
    /// The resource is not at the revision that was read.
    #[error("the resource changed since it was read")]
    Changed,
    /// Another resource of the workspace has this name.
    #[error("the name is taken")]
    AlreadyExists,
    /// The workspace has as many of these resources as it can have, or the deployment as many workspaces.
    #[error("there are already {most} of {resource:?}, the maximum")]
    QuotaReached {
        /// The workspace that has them; absent for workspaces.
        owner: Option<WorkspaceId>,
        /// The kind of resource.
        resource: Resource,
        /// The most that there can be.
        most: u64,
    },
    /// The key sets and certificates of the workspace's trusted issuers would be too long in total.
    #[error("key sets and certificates would have more than {most} characters in total")]
    KeyMaterialTooLong {
        /// The workspace that has them.
        owner: WorkspaceId,
        /// The most characters.
        most: u64,
    },
    /// The writer may not give this scope, which a trust relationship of the issuer gives.
    #[error("a trust relationship of the issuer gives {0}")]
    NotGrantable(Scope),
    /// Something still refers to the resource.
    #[error("the resource is still referred to")]
    Referenced,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sea_orm::DbErr> for WriteError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// Why exchanges were not committed, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing was: what failed, failed before the transaction's own `COMMIT`, or the database refused the `COMMIT`, so the transaction
    /// is rolled back.
    #[error("nothing was committed")]
    NothingCommitted(#[source] StoreError),
    /// Perhaps they were: the `COMMIT` failed without an answer that it was refused.
    #[error("it is not known whether anything was committed")]
    OutcomeUnknown(#[source] StoreError),
}

/// A page of a list that is ordered by creation, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The last element of the page before.
    pub after: Option<PageKey>,
    /// The most elements to return.
    pub limit: u64,
}

/// Where an element stands in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageKey {
    /// When the element was created.
    pub created_at: Timestamp,
    /// Its id, which decides among elements created at once.
    pub id: String,
}

/// Workspaces.
#[async_trait]
pub trait WorkspaceStore: Send + Sync {
    /// Creates a workspace under a fresh id.
    async fn create_workspace(
        &self,
        id: WorkspaceId,
        settings: WorkspaceSettings,
        now: Timestamp,
    ) -> Result<Workspace, WriteError>;
    /// Returns a workspace.
    async fn workspace(&self, id: &WorkspaceId) -> Result<Option<Workspace>, StoreError>;
    /// Lists workspaces: all, or the only one there is for the caller.
    async fn list_workspaces(&self, only: Option<&WorkspaceId>, page: &Page) -> Result<Vec<Workspace>, StoreError>;
    /// Replaces the settings of a workspace that is at this revision.
    async fn update_workspace(
        &self,
        id: &WorkspaceId,
        revision: i64,
        settings: WorkspaceSettings,
        now: Timestamp,
    ) -> Result<Workspace, WriteError>;
    /// Deletes a workspace that is at this revision and holds no trusted issuer.
    async fn delete_workspace(&self, id: &WorkspaceId, revision: i64, now: Timestamp) -> Result<(), WriteError>;
}

/// Trusted issuers.
#[async_trait]
pub trait TrustedIssuerStore: Send + Sync {
    /// Creates a trusted issuer under a fresh id. Its URL must be new to the workspace.
    async fn create_trusted_issuer(
        &self,
        workspace_id: &WorkspaceId,
        id: TrustedIssuerId,
        settings: TrustedIssuerSettings,
        now: Timestamp,
    ) -> Result<TrustedIssuer, WriteError>;
    /// Returns a trusted issuer.
    async fn trusted_issuer(&self, workspace_id: &WorkspaceId, id: &TrustedIssuerId)
    -> Result<Option<TrustedIssuer>, StoreError>;
    /// Every scope below the reserved prefix that is obtained by whoever decides who the subjects of the issuer with this URL are, in
    /// this workspace, whether or not a relationship or the issuer is enabled ([`reachable_scopes`]).
    ///
    /// [`reachable_scopes`]: countersign_domain::access::reachable_scopes
    async fn reserved_scopes_behind(
        &self,
        workspace_id: &WorkspaceId,
        issuer_url: &IssuerUrl,
    ) -> Result<BTreeSet<Scope>, StoreError>;
    /// The same for a trusted issuer, when these scopes are granted to its subjects.
    async fn reserved_scopes_from(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustedIssuerId,
        granted: &[Scope],
    ) -> Result<BTreeSet<Scope>, StoreError>;
    /// Lists a workspace's trusted issuers.
    async fn list_trusted_issuers(&self, workspace_id: &WorkspaceId, page: &Page) -> Result<Vec<TrustedIssuer>, StoreError>;
    /// Replaces the settings, but not the URL, of a trusted issuer that is at this revision.
    ///
    /// Unless the new settings only take from the current ones, the writer must be able to give every scope below the reserved
    /// prefix that is reached through the issuer at the commit: whoever decides whose keys verify an issuer's tokens decides who its
    /// subjects are (SECURITY 69).
    async fn update_trusted_issuer(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustedIssuerId,
        revision: i64,
        settings: TrustedIssuerSettings,
        may_give: &MayGive<'_>,
        now: Timestamp,
    ) -> Result<TrustedIssuer, WriteError>;
    /// Deletes a trusted issuer that is at this revision and that no trust relationship uses.
    async fn delete_trusted_issuer(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustedIssuerId,
        revision: i64,
        now: Timestamp,
    ) -> Result<(), WriteError>;
}

/// Trust relationships.
#[async_trait]
pub trait TrustRelationshipStore: Send + Sync {
    /// Creates a trust relationship under a fresh id.
    async fn create_trust_relationship(&self, new: NewTrustRelationship, now: Timestamp)
    -> Result<TrustRelationship, WriteError>;
    /// Returns a trust relationship.
    async fn trust_relationship(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustRelationshipId,
    ) -> Result<Option<TrustRelationship>, StoreError>;
    /// Lists a workspace's trust relationships: all, or those of one trusted issuer.
    async fn list_trust_relationships(
        &self,
        workspace_id: &WorkspaceId,
        trusted_issuer_id: Option<&TrustedIssuerId>,
        page: &Page,
    ) -> Result<Vec<TrustRelationship>, StoreError>;
    /// Replaces the settings of a trust relationship that is at this revision.
    async fn update_trust_relationship(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustRelationshipId,
        revision: i64,
        settings: TrustRelationshipSettings,
        now: Timestamp,
    ) -> Result<TrustRelationship, WriteError>;
    /// Deletes a trust relationship that is at this revision.
    async fn delete_trust_relationship(
        &self,
        workspace_id: &WorkspaceId,
        id: &TrustRelationshipId,
        revision: i64,
        now: Timestamp,
    ) -> Result<(), WriteError>;
}

/// A trust relationship to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTrustRelationship {
    /// A fresh id.
    pub id: TrustRelationshipId,
    /// The owner.
    pub workspace_id: WorkspaceId,
    /// The issuer whose tokens are meant; of the same workspace.
    pub trusted_issuer_id: TrustedIssuerId,
    /// What was checked.
    pub settings: TrustRelationshipSettings,
    /// Who creates it.
    pub creator: String,
}

/// The commit point.
#[async_trait]
pub trait CommitStore: Send + Sync {
    /// Commits exchanges in one transaction: claims each replay hash, checks that workspace, issuer and relationship are live at
    /// the revision that was matched, and appends the audit event. Of equal hashes in one batch the first wins.
    ///
    /// # Errors
    /// On any error nothing may be released. Only of [`CommitError::NothingCommitted`] is it known that no token was used up.
    async fn commit_exchanges(&self, exchanges: &[ExchangeCommit], now: Timestamp) -> Result<Vec<CommitOutcome>, CommitError>;
    /// Forgets at most `limit` replay hashes whose time ended before this; returns how many.
    async fn forget_replay_hashes(&self, ended_before: Timestamp, limit: u64) -> Result<u64, StoreError>;
}

/// The audit log. What was allowed is appended by [`CommitStore`].
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Appends refusals.
    async fn append_refusals(&self, refusals: &[NewRefusal]) -> Result<(), StoreError>;
    /// A workspace's events, or those that belong to none: the newest first, from before a place in the log on.
    async fn audit_events(
        &self,
        workspace_id: Option<&WorkspaceId>,
        which: Which,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<AuditEvent>, StoreError>;
    /// Refusals of single tokens under a request id, the newest first; at most ten.
    async fn refusals_of_request(&self, workspace_id: &WorkspaceId, request_id: &str) -> Result<Vec<AuditEvent>, StoreError>;
    /// Notes that from now on it is recorded when relationships decide, unless that was noted before.
    async fn begin_recording_uses(&self, now: Timestamp) -> Result<(), StoreError>;
    /// Since when it is recorded when relationships decide; `None`: not yet.
    async fn uses_recorded_since(&self) -> Result<Option<Timestamp>, StoreError>;
    /// Records when relationships decided. Those that are gone are passed over; the latest time counts.
    async fn record_uses(&self, uses: &HashMap<TrustRelationshipId, Timestamp>) -> Result<(), StoreError>;
    /// When each of these relationships last decided, as far as it was recorded.
    async fn last_uses(&self, ids: &[TrustRelationshipId]) -> Result<HashMap<TrustRelationshipId, Timestamp>, StoreError>;
}

/// Which events are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    Everything,
    /// Those of one presented token, rather than of several that were only counted.
    Presented,
    /// Exchanges.
    Allowed,
}

/// How the keys of trusted issuers fare. It bears on no exchange, so it has no place in the feed, and no etag.
#[async_trait]
pub trait IssuerHealthStore: Send + Sync {
    /// Records what was seen. Reports of issuers that are gone, of other workspaces or of other revisions are dropped; the later
    /// attempt counts.
    async fn record_issuer_health(&self, reports: &[IssuerHealthReport]) -> Result<(), StoreError>;
    /// What was last seen of a trusted issuer, under the settings it has now.
    async fn issuer_health(&self, workspace_id: &WorkspaceId, id: &TrustedIssuerId) -> Result<Option<IssuerHealth>, StoreError>;
}

/// What gateways follow.
#[async_trait]
pub trait PolicyFeedStore: Send + Sync {
    /// Every workspace, and the place in the feed that this is the state of.
    async fn directory(&self) -> Result<(FeedPosition, Vec<DirectoryEntry>), StoreError>;
    /// Everything that bears on the exchanges of a workspace, as of one revision.
    async fn policy(&self, workspace_id: &WorkspaceId) -> Result<Option<PolicySnapshot>, StoreError>;
    /// What was committed since a place in the feed. `followed` says whose policies are wanted; it is asked after the changes
    /// were read, so that whoever begins to follow before he loads a policy misses nothing.
    async fn changes_since(&self, position: FeedPosition, followed: &Followed<'_>) -> Result<FeedChanges, StoreError>;
    /// Forgets at most `limit` changes made before this; returns how many. A reader further behind gets [`FeedChanges::Lost`].
    async fn forget_policy_changes(&self, made_before: Timestamp, limit: u64) -> Result<u64, StoreError>;
}

/// Says whether the writer may give a scope below the reserved prefix.
pub type MayGive<'a> = dyn Fn(&Scope) -> bool + Send + Sync + 'a;

/// Says whether somebody follows a workspace's policy.
pub type Followed<'a> = dyn Fn(&WorkspaceId) -> bool + Send + Sync + 'a;

/// A place in the feed of changes. Grows by one with every change in the deployment, in the order of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPosition(pub i64);

/// What was committed since a place in the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedChanges {
    /// These changes lead to a new place; several changes of one resource are one.
    Upto {
        /// The place they lead to.
        position: FeedPosition,
        /// Whether that place is the present, as of the call. Otherwise there is more to read.
        complete: bool,
        /// Every changed workspace.
        directory: Vec<DirectoryChange>,
        /// Those that are followed.
        policies: Vec<FollowedChange>,
    },
    /// The changes from that place on are no longer kept: begin with the directory again.
    Lost,
}

/// What became of a followed workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowedChange {
    /// Some of its resources changed.
    Changed(PolicyChange),
    /// So many changed that all of it is told again.
    Replaced(PolicySnapshot),
    /// It is gone.
    Deleted(WorkspaceId),
}

/// All ports of trust-service.
pub trait TrustStore:
    WorkspaceStore + TrustedIssuerStore + TrustRelationshipStore + CommitStore + AuditStore + IssuerHealthStore + PolicyFeedStore
{
}

impl<T> TrustStore for T where
    T: WorkspaceStore
        + TrustedIssuerStore
        + TrustRelationshipStore
        + CommitStore
        + AuditStore
        + IssuerHealthStore
        + PolicyFeedStore
{
}

/// The limits on what one workspace can have, and on how many workspaces there can be. Every gateway keeps all of it in memory,
/// so one workspace must not fill the memory that all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustQuotas {
    /// The most workspaces of the deployment.
    pub workspaces: u64,
    /// The most trusted issuers of a workspace.
    pub trusted_issuers: u64,
    /// The most trust relationships of a workspace.
    pub trust_relationships: u64,
    /// The most characters of uploaded key sets and certificates of a workspace, in total.
    pub key_material_characters: u64,
}

impl Default for TrustQuotas {
    fn default() -> Self {
        Self {
            workspaces: 10_000,
            trusted_issuers: 1_000,
            trust_relationships: 200_000,
            key_material_characters: 4 * 1024 * 1024,
        }
    }
}

/// The adapter for SQLite and PostgreSQL.
#[derive(Debug, Clone)]
pub struct SeaTrustStore {
    database: Arc<Database>,
    quotas: TrustQuotas,
}

impl SeaTrustStore {
    /// A store over a database of its own, which it migrates. The quotas are the default ones.
    pub async fn open(database: Database) -> Result<Self, StoreError> {
        database.migrate(&migrations()).await?;
        Ok(Self { database: Arc::new(database), quotas: TrustQuotas::default() })
    }

    /// Replaces the quotas.
    pub fn with_quotas(self, quotas: TrustQuotas) -> Self {
        Self { quotas, ..self }
    }

    /// Asks the database for a sign of life; for readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

/// Refuses one more resource where there are as many as there can be. Call it under the lock that every creation takes.
async fn check_quota<E: EntityTrait>(
    transaction: &DatabaseTransaction,
    (owner, held): (Option<&WorkspaceId>, Select<E>),
    resource: Resource,
    most: u64,
) -> Result<(), WriteError> {
    if quota::is_reached(transaction, held, most).await? {
        return Err(WriteError::QuotaReached { owner: owner.cloned(), resource, most });
    }
    Ok(())
}

/// The condition that a row stands behind this place in a list.
fn later<C: sea_orm::ColumnTrait>(created_at: C, id: C, after: &PageKey) -> sea_orm::Condition {
    let time = rows::time(after.created_at);
    sea_orm::Condition::any()
        .add(created_at.gt(time))
        .add(sea_orm::Condition::all().add(created_at.eq(time)).add(id.gt(after.id.as_str())))
}
