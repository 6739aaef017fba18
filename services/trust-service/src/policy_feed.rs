//! Follows the database and tells every stream of this replica.
//!
//! One task reads what was committed since its last reading: twice a second, at once after a write of this replica, and at once
//! when a stream asks for a barrier. Requests that come while it reads share the next reading, so the load on the database does
//! not grow with the number of gateways.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_domain::trust::policy_feed::{DirectoryChange, DirectoryEntry};
use countersign_domain::values::id::WorkspaceId;
use countersign_runtime::health::Condition;
use countersign_runtime::outage::Outage;
use countersign_store::trust::{FeedChanges, FeedPosition, FollowedChange, TrustStore};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::timeout;

const INTERVAL: Duration = Duration::from_millis(500);
/// Between attempts while the database does not answer.
const RETRY: Duration = Duration::from_millis(250);
/// How far a stream may fall behind before it has to begin again.
const BACKLOG: usize = 256;

/// What one reading found.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The place it leads to.
    pub(crate) position: FeedPosition,
    /// Every changed workspace.
    pub(crate) directory: Vec<DirectoryChange>,
    /// Those that some stream of this replica follows.
    pub(crate) policies: Vec<FollowedChange>,
}

/// What a new stream begins with.
pub(crate) struct Subscription {
    /// The place of the directory.
    pub(crate) position: FeedPosition,
    /// Every workspace.
    pub(crate) directory: Vec<DirectoryEntry>,
    /// Everything from there on. Closed when the stream has to begin again.
    pub(crate) batches: broadcast::Receiver<Arc<Batch>>,
}

/// The feed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PolicyFeed(Arc<Shared>);

struct Shared {
    store: Arc<dyn TrustStore>,
    database: Condition,
    outage: Outage,
    /// `None` until the directory was read.
    known: Mutex<Option<Known>>,
    /// How many streams follow each workspace.
    followed: Mutex<HashMap<WorkspaceId, usize>>,
    wake: Notify,
    /// Counts the barriers that were asked for.
    asked: AtomicU64,
    /// How many of them the last reading covers, and the place it led to.
    reached: watch::Sender<Reached>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reached {
    barriers: u64,
    position: Option<FeedPosition>,
}

struct Known {
    position: FeedPosition,
    directory: HashMap<WorkspaceId, DirectoryEntry>,
    batches: broadcast::Sender<Arc<Batch>>,
}

/// Keeps a workspace followed until it is dropped.
pub(crate) struct Following {
    shared: Arc<Shared>,
    workspace_id: WorkspaceId,
}

impl PolicyFeed {
    /// A feed that [`run`](Self::run) fills. The condition tells whether the database answers.
    pub(crate) fn new(store: Arc<dyn TrustStore>, database: Condition) -> Self {
        Self(Arc::new(Shared {
            store,
            database,
            outage: Outage::new(),
            known: Mutex::new(None),
            followed: Mutex::new(HashMap::new()),
            wake: Notify::new(),
            asked: AtomicU64::new(0),
            reached: watch::Sender::new(Reached::default()),
        }))
    }

    /// Something was committed here: there is no need to wait for the next turn.
    pub(crate) fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// The place of the feed behind everything that was committed before this call. Waits while the database does not answer.
    pub(crate) async fn barrier(&self) -> FeedPosition {
        let mine = self.0.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.wake();
        let mut reached = self.0.reached.subscribe();
        // The sender is in `self`, so waiting cannot fail.
        let reached = reached.wait_for(|reached| reached.barriers >= mine).await.map(|reached| *reached).unwrap_or_default();
        reached.position.unwrap_or(FeedPosition(0))
    }

    /// Waits until the directory was read for the first time.
    pub(crate) async fn begun(&self) {
        // The sender is in `self`, so waiting cannot fail.
        let _ = self.0.reached.subscribe().wait_for(|reached| reached.position.is_some()).await;
    }

    /// Joins the feed: the directory, and everything from there on. `None` until the directory was read.
    pub(crate) fn subscribe(&self) -> Option<Subscription> {
        // Under the lock that readings publish under, so that nothing falls between the two.
        let known = self.0.known();
        known.as_ref().map(|known| Subscription {
            position: known.position,
            directory: known.directory.values().cloned().collect(),
            batches: known.batches.subscribe(),
        })
    }

    /// Follows a workspace. To be called before its policy is read: then no change falls between the two.
    pub(crate) fn follow(&self, workspace_id: WorkspaceId) -> Following {
        *self.0.followed().entry(workspace_id.clone()).or_default() += 1;
        Following { shared: Arc::clone(&self.0), workspace_id }
    }

    /// Follows the database until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            let position = self.begin().await;
            self.follow_from(position).await;
            tracing::warn!("the feed of policies is lost; every stream begins again");
        }
    }

    /// Reads the directory. Streams of an earlier one end, as its senders are gone.
    async fn begin(&self) -> FeedPosition {
        loop {
            let asked = self.0.asked.load(Ordering::SeqCst);
            match self.0.store.directory().await {
                Ok((position, entries)) => {
                    let directory = entries.into_iter().map(|entry| (entry.workspace_id.clone(), entry)).collect();
                    let batches = broadcast::Sender::new(BACKLOG);
                    *self.0.known() = Some(Known { position, directory, batches });
                    self.0.answered(asked, position);
                    return position;
                }
                Err(error) => self.0.failed(&error).await,
            }
        }
    }

    /// Reads change after change; returns when they are lost.
    async fn follow_from(&self, mut position: FeedPosition) {
        loop {
            // Whoever asked before this line is covered by the reading below it.
            let asked = self.0.asked.load(Ordering::SeqCst);
            let followed = |workspace_id: &WorkspaceId| self.0.followed().contains_key(workspace_id);
            match self.0.store.changes_since(position, &followed).await {
                Ok(FeedChanges::Upto { position: next, complete, directory, policies }) => {
                    if next != position {
                        position = next;
                        self.0.publish(Batch { position, directory, policies });
                    }
                    if !complete {
                        continue;
                    }
                    self.0.answered(asked, position);
                }
                Ok(FeedChanges::Lost) => return,
                Err(error) => {
                    self.0.failed(&error).await;
                    continue;
                }
            }
            let _ = timeout(INTERVAL, self.0.wake.notified()).await;
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<WorkspaceId, usize>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, batch: Batch) {
        let mut known = self.known();
        let Some(known) = known.as_mut() else { return };
        for change in &batch.directory {
            match change {
                DirectoryChange::Changed(entry) => known.directory.insert(entry.workspace_id.clone(), entry.clone()),
                DirectoryChange::Deleted(id) => known.directory.remove(id),
            };
        }
        known.position = batch.position;
        // Nobody may be listening.
        let _ = known.batches.send(Arc::new(batch));
    }

    fn answered(&self, barriers: u64, position: FeedPosition) {
        if let Some(lasted) = self.outage.over() {
            tracing::info!(lasted_ms = lasted.as_millis(), "the database can be followed again");
        }
        self.database.set(true);
        self.reached.send_replace(Reached { barriers, position: Some(position) });
    }

    async fn failed(&self, error: &countersign_store::database::StoreError) {
        if self.outage.begins() {
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(cause, "cannot follow the database: {error}");
        }
        self.database.set(false);
        tokio::time::sleep(RETRY).await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = self.shared.followed();
        if let Some(streams) = followed.get_mut(&self.workspace_id) {
            *streams -= 1;
            if *streams == 0 {
                followed.remove(&self.workspace_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use countersign_runtime::health::Readiness;
    use countersign_store::database::{Database, StoreError};
    use countersign_store::trust::{SCHEMA, SeaTrustStore};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Log {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[tokio::test]
    async fn an_outage_of_the_database_is_two_lines_in_the_log() {
        let database = Database::connect(&"sqlite::memory:".parse().unwrap(), SCHEMA).await.unwrap();
        let store = Arc::new(SeaTrustStore::open(database).await.unwrap());
        let feed = PolicyFeed::new(store, Readiness::new().condition("database"));
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        tokio::time::pause();
        for _ in 0..2 {
            for _ in 0..20 {
                feed.0.failed(&StoreError::unreadable("place in the feed", "it is broken")).await;
            }
            for _ in 0..3 {
                feed.0.answered(0, FeedPosition(1));
            }
        }
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let kinds: Vec<&str> = log.lines().map(|line| if line.contains("cannot follow") { "lost" } else { "found" }).collect();
        assert_eq!(kinds, ["lost", "found", "lost", "found"], "{log}");
        assert!(log.contains("it is broken"), "{log}");
    }
}
