//! What gateways follow.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use countersign_domain::trust::policy_feed::{DirectoryChange, DirectoryEntry, PolicyChange, PolicySnapshot};
use countersign_domain::trust::workspace::Workspace;
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::time::Timestamp;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use super::entity::{policy_change, policy_clock, trust_relationship, trusted_issuer, workspace};
use super::write::{TRUST_RELATIONSHIP, TRUSTED_ISSUER, WORKSPACE};
use super::{FeedChanges, FeedPosition, Followed, FollowedChange, PolicyFeedStore, SeaTrustStore, rows};
use crate::database::StoreError;

/// The most changes read at once; the rest comes with the next reading.
const MOST_CHANGES: u64 = 5_000;
/// With more changed resources in one workspace, telling all of it again is simpler and hardly longer.
const MOST_RESOURCES: usize = 500;

#[async_trait]
impl PolicyFeedStore for SeaTrustStore {
    async fn directory(&self) -> Result<(FeedPosition, Vec<DirectoryEntry>), StoreError> {
        let snapshot = self.database.begin_read().await?;
        let position = position(&snapshot).await?;
        let workspaces = workspace::Entity::find().all(&snapshot).await?;
        let urls = trusted_issuer::Entity::find()
            .select_only()
            .column(trusted_issuer::Column::WorkspaceId)
            .column(trusted_issuer::Column::IssuerUrl)
            .order_by_asc(trusted_issuer::Column::CreatedAt)
            .into_tuple::<(String, String)>()
            .all(&snapshot)
            .await?;
        Ok((position, entries(workspaces, urls)?))
    }

    async fn policy(&self, workspace_id: &WorkspaceId) -> Result<Option<PolicySnapshot>, StoreError> {
        let snapshot = self.database.begin_read().await?;
        let row = workspace::Entity::find_by_id(workspace_id.as_str()).one(&snapshot).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(whole_policy(&snapshot, row.try_into()?).await?))
    }

    async fn changes_since(&self, position: FeedPosition, followed: &Followed<'_>) -> Result<FeedChanges, StoreError> {
        // Asked twice a second by every replica, and nearly always the answer is "nothing".
        if self::position(self.database.reader()).await? == position {
            return Ok(FeedChanges::Upto { position, complete: true, directory: Vec::new(), policies: Vec::new() });
        }
        let snapshot = self.database.begin_read().await?;
        let changes = policy_change::Entity::find()
            .filter(policy_change::Column::Sequence.gt(position.0))
            .order_by_asc(policy_change::Column::Sequence)
            .limit(MOST_CHANGES)
            .all(&snapshot)
            .await?;
        // The numbers have no gaps: if the next one is missing, it was forgotten (or the database is another one).
        let (first, last) = match (changes.first(), changes.last()) {
            (Some(first), Some(last)) => (first.sequence, last.sequence),
            _ => return Ok(FeedChanges::Lost),
        };
        if first != position.0 + 1 {
            return Ok(FeedChanges::Lost);
        }
        let complete = u64::try_from(changes.len()).is_ok_and(|count| count < MOST_CHANGES);
        let mut by_workspace: BTreeMap<WorkspaceId, Changed> = BTreeMap::new();
        for change in changes {
            by_workspace.entry(rows::parse("workspace id", &change.workspace_id)?).or_default().note(&change)?;
        }
        let (directory, states) = changed_directory(&snapshot, by_workspace.keys()).await?;
        let mut policies = Vec::new();
        for (workspace_id, changed) in by_workspace {
            if followed(&workspace_id) {
                policies.push(match states.get(&workspace_id) {
                    None => FollowedChange::Deleted(workspace_id),
                    Some(workspace) if changed.is_large() => {
                        FollowedChange::Replaced(whole_policy(&snapshot, workspace.clone()).await?)
                    }
                    Some(workspace) => FollowedChange::Changed(changed.read(&snapshot, workspace).await?),
                });
            }
        }
        Ok(FeedChanges::Upto { position: FeedPosition(last), complete, directory, policies })
    }

    async fn forget_policy_changes(&self, made_before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        use policy_change::Column;
        let transaction = self.database.begin_write().await?;
        // From the oldest on and without a hole: a hole would look like a lost change.
        let oldest = policy_change::Entity::find().order_by_asc(Column::Sequence).limit(limit).all(&transaction).await?;
        let upto =
            oldest.iter().take_while(|change| change.changed_at < rows::time(made_before)).map(|change| change.sequence).last();
        let forgotten = match upto {
            None => 0,
            Some(upto) => {
                policy_change::Entity::delete_many().filter(Column::Sequence.lte(upto)).exec(&transaction).await?.rows_affected
            }
        };
        transaction.commit().await?;
        Ok(forgotten)
    }
}

async fn position<C: ConnectionTrait>(connection: &C) -> Result<FeedPosition, StoreError> {
    let row = policy_clock::Entity::find_by_id(1).one(connection).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("policy_clock has no row".to_owned()))?;
    Ok(FeedPosition(row.sequence))
}

fn entries(workspaces: Vec<workspace::Model>, urls: Vec<(String, String)>) -> Result<Vec<DirectoryEntry>, StoreError> {
    let mut of_workspace: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (workspace_id, url) in urls {
        of_workspace.entry(workspace_id).or_default().push(url);
    }
    workspaces
        .into_iter()
        .map(|row| {
            let urls = of_workspace.remove(&row.id).unwrap_or_default();
            rows::directory_entry(row, &urls)
        })
        .collect()
}

/// The directory's changes for these workspaces, and those that still exist.
async fn changed_directory(
    snapshot: &DatabaseTransaction,
    ids: impl Iterator<Item = &WorkspaceId> + Clone,
) -> Result<(Vec<DirectoryChange>, BTreeMap<WorkspaceId, Workspace>), StoreError> {
    let texts: Vec<&str> = ids.clone().map(WorkspaceId::as_str).collect();
    let workspaces = workspace::Entity::find().filter(workspace::Column::Id.is_in(texts.iter().copied())).all(snapshot).await?;
    let urls = trusted_issuer::Entity::find()
        .filter(trusted_issuer::Column::WorkspaceId.is_in(texts))
        .select_only()
        .column(trusted_issuer::Column::WorkspaceId)
        .column(trusted_issuer::Column::IssuerUrl)
        .order_by_asc(trusted_issuer::Column::CreatedAt)
        .into_tuple::<(String, String)>()
        .all(snapshot)
        .await?;
    let mut existing = BTreeMap::new();
    for row in &workspaces {
        let workspace = Workspace::try_from(row.clone())?;
        existing.insert(workspace.id.clone(), workspace);
    }
    let mut changes: Vec<_> = entries(workspaces, urls)?.into_iter().map(DirectoryChange::Changed).collect();
    changes.extend(ids.filter(|id| !existing.contains_key(*id)).cloned().map(DirectoryChange::Deleted));
    Ok((changes, existing))
}

async fn whole_policy(snapshot: &DatabaseTransaction, workspace: Workspace) -> Result<PolicySnapshot, StoreError> {
    let issuers = trusted_issuer::Entity::find()
        .filter(trusted_issuer::Column::WorkspaceId.eq(workspace.id.as_str()))
        .all(snapshot)
        .await?;
    let relationships = trust_relationship::Entity::find()
        .filter(trust_relationship::Column::WorkspaceId.eq(workspace.id.as_str()))
        .all(snapshot)
        .await?;
    Ok(PolicySnapshot {
        workspace_id: workspace.id,
        state: workspace.state,
        policy_revision: workspace.policy_revision,
        trusted_issuers: issuers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        trust_relationships: relationships.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    })
}

/// What changed in one workspace: each resource once, as it is in the end.
#[derive(Debug, Default)]
struct Changed {
    revision: i64,
    trusted_issuers: BTreeSet<TrustedIssuerId>,
    trust_relationships: BTreeSet<TrustRelationshipId>,
    deleted_trusted_issuers: Vec<TrustedIssuerId>,
    deleted_trust_relationships: Vec<TrustRelationshipId>,
}

impl Changed {
    fn note(&mut self, change: &policy_change::Model) -> Result<(), StoreError> {
        self.revision = self.revision.max(change.revision);
        match (change.kind.as_str(), change.deleted) {
            (TRUSTED_ISSUER, false) => {
                self.trusted_issuers.insert(rows::parse("trusted issuer id", &change.resource_id)?);
            }
            (TRUSTED_ISSUER, true) => {
                let id = rows::parse("trusted issuer id", &change.resource_id)?;
                self.trusted_issuers.remove(&id);
                self.deleted_trusted_issuers.push(id);
            }
            (TRUST_RELATIONSHIP, false) => {
                self.trust_relationships.insert(rows::parse("trust relationship id", &change.resource_id)?);
            }
            (TRUST_RELATIONSHIP, true) => {
                let id = rows::parse("trust relationship id", &change.resource_id)?;
                self.trust_relationships.remove(&id);
                self.deleted_trust_relationships.push(id);
            }
            (WORKSPACE, _) => {}
            (other, _) => return Err(StoreError::unreadable("kind of change", other)),
        }
        Ok(())
    }

    fn is_large(&self) -> bool {
        let changed = self.trusted_issuers.len() + self.trust_relationships.len();
        changed + self.deleted_trusted_issuers.len() + self.deleted_trust_relationships.len() > MOST_RESOURCES
    }

    async fn read(self, snapshot: &DatabaseTransaction, workspace: &Workspace) -> Result<PolicyChange, StoreError> {
        let issuers = if self.trusted_issuers.is_empty() {
            Vec::new()
        } else {
            trusted_issuer::Entity::find()
                .filter(trusted_issuer::Column::WorkspaceId.eq(workspace.id.as_str()))
                .filter(trusted_issuer::Column::Id.is_in(self.trusted_issuers.iter().map(TrustedIssuerId::as_str)))
                .all(snapshot)
                .await?
        };
        let relationships = if self.trust_relationships.is_empty() {
            Vec::new()
        } else {
            trust_relationship::Entity::find()
                .filter(trust_relationship::Column::WorkspaceId.eq(workspace.id.as_str()))
                .filter(trust_relationship::Column::Id.is_in(self.trust_relationships.iter().map(TrustRelationshipId::as_str)))
                .all(snapshot)
                .await?
        };
        Ok(PolicyChange {
            workspace_id: workspace.id.clone(),
            state: workspace.state,
            policy_revision: self.revision,
            trusted_issuers: issuers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            trust_relationships: relationships.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            deleted_trusted_issuer_ids: self.deleted_trusted_issuers,
            deleted_trust_relationship_ids: self.deleted_trust_relationships,
        })
    }
}
