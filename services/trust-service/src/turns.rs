//! Turns at reading the recorded exchanges of a workspace, for preview and review.
//!
//! Reading can take a core and memory for a while, so few callers do it at a time, and one for each workspace: a caller that asks again
//! and again delays only its own workspace (SECURITY 72). A turn lasts as long as the work, even when no caller waits for it any more.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::reason::Reason;
use countersign_proto::status::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many callers read at a time.
const AT_ONCE: usize = 1;
/// When another caller of the same workspace can try again.
const RETRY: Duration = Duration::from_secs(2);

/// The turns of all workspaces. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    permits: Arc<Semaphore>,
    asking: Arc<Mutex<HashSet<WorkspaceId>>>,
}

/// A turn. Others wait until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _place: Place,
    _permit: OwnedSemaphorePermit,
}

/// The one place of a workspace.
#[derive(Debug)]
struct Place {
    asking: Arc<Mutex<HashSet<WorkspaceId>>>,
    workspace_id: WorkspaceId,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_ONCE)), asking: Arc::default() }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// `RATE_LIMITED` while another of the workspace has one or waits for one.
    pub(crate) async fn turn(&self, workspace_id: &WorkspaceId) -> Result<Turn, Refusal> {
        if !self.asking.lock().unwrap_or_else(PoisonError::into_inner).insert(workspace_id.clone()) {
            let message = "another preview or review of this workspace is running; try again when it has ended";
            return Err(Refusal::new(Reason::RateLimited, message).with_retry(RETRY));
        }
        // From here on it is given back, whoever hangs up.
        let place = Place { asking: Arc::clone(&self.asking), workspace_id: workspace_id.clone() };
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Refusal::internal())?;
        Ok(Turn { _place: place, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.workspace_id);
    }
}

/// Tells work on another thread that nobody waits for it any more: when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Abandonment(Arc<AtomicBool>);

impl Abandonment {
    /// What the work looks at.
    pub(crate) fn sign(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Abandonment {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(number: u8) -> WorkspaceId {
        WorkspaceId::from_random([number; 16])
    }

    #[tokio::test]
    async fn s72_one_of_each_workspace_looks_and_others_wait_for_the_work_itself() {
        let turns = Turns::new();
        let first = turns.turn(&workspace(1)).await.unwrap();
        assert_eq!(turns.turn(&workspace(1)).await.unwrap_err().reason(), Reason::RateLimited);
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.turn(&workspace(2)).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
        assert!(turns.turn(&workspace(1)).await.is_ok());
    }

    #[tokio::test]
    async fn s72_whoever_hangs_up_while_waiting_leaves_his_place() {
        let turns = Turns::new();
        let _first = turns.turn(&workspace(1)).await.unwrap();
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.turn(&workspace(2)).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        waiting.abort();
        let _ = waiting.await;
        assert!(turns.asking.lock().unwrap().len() == 1);
    }

    #[test]
    fn work_learns_that_it_was_abandoned() {
        let abandonment = Abandonment::default();
        let sign = abandonment.sign();
        assert!(!sign.load(Ordering::Relaxed));
        drop(abandonment);
        assert!(sign.load(Ordering::Relaxed));
    }
}
