//! Forgets what no decision needs any more: marks of tokens that have long expired, and old changes of policies.

use std::sync::Arc;
use std::time::Duration;

use countersign_domain::values::time::{Clock, Timestamp};
use countersign_store::database::StoreError;
use countersign_store::trust::TrustStore;
use tokio::time::{MissedTickBehavior, interval, sleep};

const INTERVAL: Duration = Duration::from_mins(1);
/// Small batches, so that nobody waits for their locks.
const BATCH: u64 = 500;
/// Between two batches: commits come first.
const PAUSE: Duration = Duration::from_millis(20);
/// A mark is kept for longer than it is needed, so that a clock that jumps ahead and back again revives no token (SECURITY 77).
const MARKS_KEPT: Duration = Duration::from_hours(3);
/// A replica that has not looked at the feed for so long begins with the directory again.
const CHANGES_KEPT: Duration = Duration::from_hours(24);

/// Prunes until it is dropped. A failure is left to the next turn.
pub(crate) async fn run(store: Arc<dyn TrustStore>, clock: Arc<dyn Clock>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = prune(&*store, clock.now()).await {
            tracing::warn!(%error, "cannot forget what is past");
        }
    }
}

async fn prune(store: &dyn TrustStore, now: Timestamp) -> Result<(), StoreError> {
    let before = |kept: Duration| now.checked_sub(kept).unwrap_or(Timestamp::MIN);
    while store.forget_replay_hashes(before(MARKS_KEPT), BATCH).await? == BATCH {
        sleep(PAUSE).await;
    }
    while store.forget_policy_changes(before(CHANGES_KEPT), BATCH).await? == BATCH {
        sleep(PAUSE).await;
    }
    Ok(())
}
