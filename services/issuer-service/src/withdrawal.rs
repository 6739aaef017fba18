//! The end of the issuers of deleted workspaces.
//!
//! An issuer whose workspace was deleted signs nothing (SECURITY 82), and its documents are published until the last ID token that
//! it may have signed has expired: a token that a relying party was handed keeps its meaning, and a view of workspaces that is wrong
//! for a while, as while trust-service's database is restored, breaks no verifier. The end of that time is noted in the database, so
//! that it holds for every replica and over restarts. Keys and rows stay, for an operator to delete or to restore.

use std::sync::Arc;
use std::time::Duration;

use countersign_domain::issuing::issuer::Issuer;
use countersign_domain::values::id::{IssuerId, WorkspaceId};
use countersign_domain::values::time::{Clock, Timestamp};
use countersign_runtime::outage::Outage;
use countersign_store::issuer::IssuerStore;

use crate::causes::Causes;
use crate::directory::Directory;
use crate::keeper::Keeper;
use crate::workspaces::Workspaces;

/// How often issuers and workspaces are compared.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many issuers are noted before they are compared again.
const AT_ONCE: usize = 64;

/// Notes which issuers have lost their workspace.
#[derive(Debug)]
pub(crate) struct Withdrawal {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) workspaces: Arc<Workspaces>,
    pub(crate) store: Arc<dyn IssuerStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Withdrawal {
    /// Compares until it is dropped.
    pub(crate) async fn run(self) {
        let outage = Outage::default();
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.note_all(&outage).await;
        }
    }

    async fn note_all(&self, outage: &Outage) {
        let exists = |id: &WorkspaceId| self.workspaces.contains(id);
        // Read before the barrier: an issuer is created after its workspace, so that the workspace of each is known after it.
        let directory = self.keeper.latest();
        if differing(&directory, exists).next().is_none() || !self.workspaces.catch_up().await {
            return;
        }
        for (id, exists) in differing(&directory, exists).take(AT_ONCE) {
            let end = self.clock.now().checked_add(Issuer::PUBLISHED_AFTER_DELETION).unwrap_or(Timestamp::MAX);
            let until = (!exists).then_some(end);
            match self.store.set_published_until(id, until).await {
                Ok(()) => {
                    if let Some(lasted) = outage.over() {
                        tracing::info!(lasted_ms = lasted.as_millis(), "the ends of issuers can be noted again");
                    }
                    if let Some(until) = until {
                        tracing::info!(issuer.id = %id, %until, "the workspace of an issuer is deleted; its documents have an end");
                    } else {
                        tracing::warn!(issuer.id = %id, "the workspace of an issuer is back; its documents have no end");
                    }
                }
                Err(error) if outage.begins() => {
                    tracing::warn!(issuer.id = %id, %error, cause = %Causes(&error), "cannot note the end of an issuer; trying again");
                }
                Err(_) => {}
            }
        }
        if let Err(error) = self.keeper.refresh().await {
            tracing::debug!(%error, cause = %Causes(&error), "cannot read back the ends of issuers; the next poll will");
        }
    }
}

/// The issuers of which the database notes the opposite of what is known of their workspace, and whether that exists.
fn differing<'a>(
    directory: &'a Directory,
    exists: impl Fn(&WorkspaceId) -> bool + 'a,
) -> impl Iterator<Item = (&'a IssuerId, bool)> {
    directory.all().filter_map(move |issuer| {
        let issuer = issuer.of_workspace()?;
        let exists = exists(&issuer.workspace_id);
        (exists == issuer.published_until.is_some()).then_some((&issuer.id, exists))
    })
}
