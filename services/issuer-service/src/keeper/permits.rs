//! Permits to make keys: one for each owner at a time, and few in all.
//!
//! An RSA key takes a core for a while, and every other workspace needs that core for signing. Each owner has a queue, and only its
//! first caller joins the common queue for a permit. So a workspace with a hundred keys to make delays another one by a single key
//! (SECURITY 72).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_domain::values::id::WorkspaceId;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// The owner of an issuer: a workspace, or the deployment itself.
pub(super) type Owner = Option<WorkspaceId>;

/// The queues for permits to make keys.
#[derive(Debug)]
pub(super) struct KeyPermits {
    owners: Mutex<HashMap<Owner, Arc<AsyncMutex<()>>>>,
    permits: Arc<Semaphore>,
}

/// A permit to make the keys of one plan, until it is dropped.
#[derive(Debug)]
pub(super) struct KeyPermit {
    _owner: OwnedMutexGuard<()>,
    /// `None` once the service ends.
    _permit: Option<OwnedSemaphorePermit>,
}

impl KeyPermits {
    /// Permits for this many owners at the same time.
    pub(super) fn new(at_once: usize) -> Self {
        Self { owners: Mutex::default(), permits: Arc::new(Semaphore::new(at_once)) }
    }

    /// Waits for the owner's other callers, and then for a permit.
    pub(super) async fn wait(&self, owner: Owner) -> KeyPermit {
        let own = self.own(owner).lock_owned().await;
        self.permit(own).await
    }

    /// Waits for a permit, or returns `None` while the owner makes or waits for another key.
    pub(super) async fn wait_unless_busy(&self, owner: Owner) -> Option<KeyPermit> {
        let own = self.own(owner).try_lock_owned().ok()?;
        Some(self.permit(own).await)
    }

    fn own(&self, owner: Owner) -> Arc<AsyncMutex<()>> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        // Queues without callers are of no more use.
        owners.retain(|_, queue| Arc::strong_count(queue) > 1);
        Arc::clone(owners.entry(owner).or_default())
    }

    async fn permit(&self, owner: OwnedMutexGuard<()>) -> KeyPermit {
        KeyPermit { _owner: owner, _permit: Arc::clone(&self.permits).acquire_owned().await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    fn workspace(number: u8) -> WorkspaceId {
        WorkspaceId::from_random([number; 16])
    }

    #[tokio::test]
    async fn s72_a_workspace_with_a_hundred_keys_to_make_delays_another_by_one() {
        let permits = Arc::new(KeyPermits::new(1));
        let first = permits.wait(Some(workspace(1))).await;
        let (done, mut order) = mpsc::unbounded_channel();
        for number in std::iter::repeat_n(1, 99).chain([2]) {
            let (waits, done) = (Arc::clone(&permits), done.clone());
            let task = tokio::spawn(async move {
                let _permit = waits.wait(Some(workspace(number))).await;
                done.send(number).unwrap();
            });
            // Each is in the queue before the next one comes.
            tokio::task::yield_now().await;
            assert!(!task.is_finished());
        }
        drop((first, done));
        let mut served = Vec::new();
        while let Some(number) = order.recv().await {
            served.push(number);
        }
        assert_eq!(served.len(), 100);
        let place = served.iter().position(|&number| number == 2).unwrap();
        assert!(place <= 1, "the other workspace was served after {place} keys of the busy one");
    }

    #[tokio::test]
    async fn an_owner_that_makes_a_key_is_passed_over_by_the_background() {
        let permits = KeyPermits::new(2);
        let busy = permits.wait(Some(workspace(1))).await;
        assert!(permits.wait_unless_busy(Some(workspace(1))).await.is_none());
        assert!(permits.wait_unless_busy(Some(workspace(2))).await.is_some());
        drop(busy);
        assert!(permits.wait_unless_busy(Some(workspace(1))).await.is_some());
    }

    #[tokio::test]
    async fn no_more_keys_are_made_at_the_same_time_than_there_are_permits() {
        let permits = KeyPermits::new(2);
        let (one, _other) = (permits.wait(Some(workspace(1))).await, permits.wait(Some(workspace(2))).await);
        let third = permits.wait(Some(workspace(3)));
        let mut third = std::pin::pin!(third);
        assert!(tokio::time::timeout(Duration::from_millis(20), third.as_mut()).await.is_err());
        drop(one);
        third.await;
    }

    #[tokio::test]
    async fn owners_without_callers_are_forgotten() {
        let permits = KeyPermits::new(1);
        for number in 0..50 {
            drop(permits.wait(Some(workspace(number))).await);
        }
        assert_eq!(permits.owners.lock().unwrap().len(), 1);
    }
}
