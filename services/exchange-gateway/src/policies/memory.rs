//! What a gateway remembers of policies: every workspace and issuer URL, and the policies of the workspaces in use.
//!
//! Every method is short and holds the lock for its own length only.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::policy_feed::{DirectoryEntry, PolicyChange};
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::name::DisplayName;
use tokio::sync::watch;
use tokio::time::Instant;

/// A policy, once it is loaded.
pub(super) type Slot = Option<Arc<WorkspacePolicy>>;

/// What became of looking for a policy.
pub(super) enum Sought {
    /// Here it is.
    Loaded(Arc<WorkspacePolicy>),
    /// It has been asked for.
    Loading(watch::Receiver<Slot>),
    /// Nobody asked for it yet: whoever gets this answer does.
    New(watch::Receiver<Slot>),
    /// There is no such workspace.
    Unknown,
}

pub(super) struct Memory {
    state: RwLock<State>,
    /// Times of use are counted from here.
    start: Instant,
    /// When everything committed so far was known. Monotonic, so that no clock jump revives a view (SECURITY 77).
    seen: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct State {
    workspaces: HashMap<WorkspaceId, DirectoryEntry>,
    by_issuer: HashMap<String, BTreeSet<WorkspaceId>>,
    followed: HashMap<WorkspaceId, Followed>,
}

/// A workspace whose policy is in use.
struct Followed {
    policy: watch::Sender<Slot>,
    /// Milliseconds from the memory's start to the latest use.
    used: AtomicU64,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { state: RwLock::default(), start: Instant::now(), seen: Mutex::default() }
    }

    pub(super) fn workspace_state(&self, workspace_id: &WorkspaceId) -> Option<WorkspaceState> {
        self.read().workspaces.get(workspace_id).map(|entry| entry.state)
    }

    /// Notes that everything committed at this moment is known.
    pub(super) fn note_seen(&self, at: Instant) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// How long ago everything committed was known; `None` where that never was so.
    pub(super) fn age(&self) -> Option<Duration> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).map(|seen| seen.elapsed())
    }

    pub(super) fn display_name(&self, workspace_id: &WorkspaceId) -> Option<DisplayName> {
        self.read().workspaces.get(workspace_id).map(|entry| entry.display_name.clone())
    }

    pub(super) fn registered(&self, workspace_id: &WorkspaceId, issuer_url: &str) -> bool {
        self.read().by_issuer.get(issuer_url).is_some_and(|workspaces| workspaces.contains(workspace_id))
    }

    pub(super) fn registrants(&self, issuer_url: &str, limit: usize) -> Vec<WorkspaceId> {
        self.read().by_issuer.get(issuer_url).into_iter().flatten().take(limit).cloned().collect()
    }

    /// Looks for a policy and notes its use.
    pub(super) fn seek(&self, workspace_id: &WorkspaceId) -> Sought {
        let now = self.milliseconds();
        if let Some(sought) = self.read().seek(workspace_id, now) {
            return sought;
        }
        let mut state = self.write();
        // Somebody may have come between the two locks.
        if let Some(sought) = state.seek(workspace_id, now) {
            return sought;
        }
        if !state.workspaces.contains_key(workspace_id) {
            return Sought::Unknown;
        }
        let (policy, loading) = watch::channel(None);
        state.followed.insert(workspace_id.clone(), Followed { policy, used: AtomicU64::new(now) });
        Sought::New(loading)
    }

    /// Replaces the whole directory; what is followed and no longer exists is dropped.
    pub(super) fn set_directory(&self, entries: Vec<DirectoryEntry>) {
        let mut state = self.write();
        state.workspaces.clear();
        state.by_issuer.clear();
        for entry in entries {
            state.set_entry(entry);
        }
        let State { workspaces, followed, .. } = &mut *state;
        followed.retain(|id, _| workspaces.contains_key(id));
    }

    pub(super) fn set_entry(&self, entry: DirectoryEntry) {
        self.write().set_entry(entry);
    }

    /// Drops a workspace with everything known of it. Whoever waits for its policy learns that there is none.
    pub(super) fn remove(&self, workspace_id: &WorkspaceId) {
        let mut state = self.write();
        state.remove_entry(workspace_id);
        state.followed.remove(workspace_id);
    }

    /// Whether the workspace is followed.
    pub(super) fn is_followed(&self, workspace_id: &WorkspaceId) -> bool {
        self.read().followed.contains_key(workspace_id)
    }

    /// Every workspace that is followed.
    pub(super) fn followed(&self) -> Vec<WorkspaceId> {
        self.read().followed.keys().cloned().collect()
    }

    /// Sets the policy of a workspace that is followed.
    pub(super) fn set_policy(&self, policy: WorkspacePolicy) {
        let state = self.read();
        if let Some(followed) = state.followed.get(policy.workspace_id()) {
            followed.policy.send_replace(Some(Arc::new(policy)));
        }
    }

    /// Applies a change to the policy of a workspace that is followed and loaded.
    pub(super) fn apply(&self, change: PolicyChange) {
        let state = self.read();
        let Some(followed) = state.followed.get(&change.workspace_id) else { return };
        let Some(current) = followed.policy.borrow().clone() else { return };
        // Cheap: the copy shares all that does not change.
        let mut next = WorkspacePolicy::clone(&current);
        next.apply(change);
        followed.policy.send_replace(Some(Arc::new(next)));
    }

    /// Stops to follow what nobody used for this long, and says what that was.
    pub(super) fn forget_unused(&self, idle: Duration) -> Vec<WorkspaceId> {
        let Some(limit) = self.milliseconds().checked_sub(millis(idle)) else { return Vec::new() };
        let mut forgotten = Vec::new();
        self.write().followed.retain(|id, followed| {
            let keep = followed.used.load(Ordering::Relaxed) > limit;
            if !keep {
                forgotten.push(id.clone());
            }
            keep
        });
        forgotten
    }

    fn milliseconds(&self) -> u64 {
        millis(self.start.elapsed())
    }

    // A panic cannot leave the state half changed in a way that matters more than an outage of all exchanges would.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn seek(&self, workspace_id: &WorkspaceId, now: u64) -> Option<Sought> {
        let followed = self.followed.get(workspace_id)?;
        followed.used.fetch_max(now, Ordering::Relaxed);
        let loaded = followed.policy.borrow().clone();
        Some(loaded.map_or_else(|| Sought::Loading(followed.policy.subscribe()), Sought::Loaded))
    }

    fn set_entry(&mut self, entry: DirectoryEntry) {
        self.remove_entry(&entry.workspace_id);
        for url in &entry.issuer_urls {
            self.by_issuer.entry(url.as_str().to_owned()).or_default().insert(entry.workspace_id.clone());
        }
        self.workspaces.insert(entry.workspace_id.clone(), entry);
    }

    fn remove_entry(&mut self, workspace_id: &WorkspaceId) {
        let Some(entry) = self.workspaces.remove(workspace_id) else { return };
        for url in &entry.issuer_urls {
            if let Some(workspaces) = self.by_issuer.get_mut(url.as_str()) {
                workspaces.remove(workspace_id);
                if workspaces.is_empty() {
                    self.by_issuer.remove(url.as_str());
                }
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
