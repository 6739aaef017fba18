//! When relationships last decided: noted in memory, written now and then, so that no exchange waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_domain::exchange::commit::{CommitOutcome, ExchangeCommit};
use countersign_domain::values::id::TrustRelationshipId;
use countersign_domain::values::time::{Clock, Timestamp};
use countersign_runtime::shutdown::Shutdown;
use countersign_store::database::StoreError;
use countersign_store::trust::TrustStore;
use tokio::time::{MissedTickBehavior, interval};

const INTERVAL: Duration = Duration::from_secs(5);
/// Of one statement.
const BATCH: usize = 1_000;

/// What was not written yet.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<HashMap<TrustRelationshipId, Timestamp>>);

impl Uses {
    /// Notes which relationships decided exchanges that were committed.
    pub(crate) fn note(&self, exchanges: &[ExchangeCommit], outcomes: &[CommitOutcome], now: Timestamp) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (exchange, outcome) in exchanges.iter().zip(outcomes) {
            if *outcome == CommitOutcome::Committed {
                note(&mut pending, exchange.trust_relationship_id.clone(), now);
            }
        }
    }

    /// Adds what was not written yet to what was.
    pub(crate) fn add_pending(&self, ids: &[TrustRelationshipId], written: &mut HashMap<TrustRelationshipId, Timestamp>) {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, at) in ids.iter().filter_map(|id| pending.get_key_value(id)) {
            note(written, id.clone(), *at);
        }
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// When the store fails; then it stays noted.
    pub(crate) async fn flush(&self, store: &dyn TrustStore) -> Result<(), StoreError> {
        loop {
            let batch: HashMap<_, _> = {
                let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let ids: Vec<_> = pending.keys().take(BATCH).cloned().collect();
                ids.into_iter().filter_map(|id| pending.remove_entry(&id)).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            if let Err(error) = store.record_uses(&batch).await {
                let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                for (id, at) in batch {
                    note(&mut pending, id, at);
                }
                return Err(error);
            }
        }
    }

    /// Writes from time to time until it is dropped, and at once when the service begins to stop.
    pub(crate) async fn run(self: Arc<Self>, store: Arc<dyn TrustStore>, clock: Arc<dyn Clock>, shutdown: Shutdown) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut stopping, mut began) = (false, false);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.requested(), if !stopping => stopping = true,
            }
            if !began {
                began = store.begin_recording_uses(clock.now()).await.is_ok();
            }
            if let Err(error) = self.flush(&*store).await {
                tracing::warn!(%error, "cannot record when relationships were used");
            }
        }
    }
}

fn note(pending: &mut HashMap<TrustRelationshipId, Timestamp>, id: TrustRelationshipId, at: Timestamp) {
    let latest = pending.entry(id).or_insert(at);
    *latest = (*latest).max(at);
}
