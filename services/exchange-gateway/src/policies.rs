//! The policies of all workspaces, followed over one stream from trust-service.
//!
//! [`FollowedPolicies`] answers from memory. [`Follower`] is the task that keeps the stream and the memory. A workspace's policy is
//! loaded when it is first used, followed from then on, and forgotten when nobody used it for a while. What is here may always be
//! a little old: the commit point is the authority, and before a refusal [`Policies::catch_up`] asks for what was committed
//! meanwhile.

mod follower;
mod memory;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::workspace::{STATE_STALENESS_LIMIT, WorkspaceState};
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::name::DisplayName;
use countersign_runtime::auth::{StateUnknown, WorkspaceStates};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

pub(crate) use follower::Follower;
use memory::{Memory, Sought};

use crate::ports::{CatchUpCause, CaughtUp, CutOff, Policies};

/// How long a request waits for the stream to come back, when it cannot go on without it.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// How long a request waits for a barrier.
const BARRIER_PATIENCE: Duration = Duration::from_secs(2);
/// How long a request waits for a workspace to be loaded.
const LOAD_PATIENCE: Duration = Duration::from_secs(3);
/// The most requests that wait for a barrier for reasons that anybody can make up. Beyond, they are answered from what is known,
/// so that a flood of them holds up nobody else.
const MAX_UNVERIFIED_WAITING: usize = 64;

/// What the pipeline asks of the follower.
enum Command {
    /// A workspace that is not followed yet.
    Load(WorkspaceId),
    /// A barrier that begins after this moment.
    Barrier { cause: CatchUpCause, reached: oneshot::Sender<()> },
}

/// The policies as the follower keeps them.
#[derive(Clone)]
pub(crate) struct FollowedPolicies {
    memory: Arc<Memory>,
    commands: mpsc::UnboundedSender<Command>,
    connected: watch::Receiver<bool>,
    unverified_waiting: Arc<AtomicUsize>,
}

impl FollowedPolicies {
    /// Whether the directory has been received and the stream stands.
    pub(crate) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    async fn stream_stands(&self) -> Result<(), CutOff> {
        let mut connected = self.connected.clone();
        match timeout(RECONNECT_PATIENCE, connected.wait_for(|connected| *connected)).await {
            Ok(Ok(_)) => Ok(()),
            // Out of patience, or the follower is gone.
            Err(_) | Ok(Err(_)) => Err(CutOff),
        }
    }

    async fn barrier(&self, cause: CatchUpCause) -> Result<(), CutOff> {
        self.stream_stands().await?;
        let (sender, reached) = oneshot::channel();
        self.commands.send(Command::Barrier { cause, reached: sender }).map_err(|_| CutOff)?;
        timeout(BARRIER_PATIENCE, reached).await.map_err(|_| CutOff)?.map_err(|_| CutOff)
    }
}

#[async_trait]
impl Policies for FollowedPolicies {
    fn display_name(&self, workspace_id: &WorkspaceId) -> Option<DisplayName> {
        self.memory.display_name(workspace_id)
    }

    fn registered(&self, workspace_id: &WorkspaceId, issuer_url: &str) -> bool {
        self.memory.registered(workspace_id, issuer_url)
    }

    fn registrants(&self, issuer_url: &str, limit: usize) -> Vec<WorkspaceId> {
        self.memory.registrants(issuer_url, limit)
    }

    async fn policy(&self, workspace_id: &WorkspaceId) -> Result<Option<Arc<WorkspacePolicy>>, CutOff> {
        let mut policy = match self.memory.seek(workspace_id) {
            Sought::Loaded(policy) => return Ok(Some(policy)),
            Sought::Unknown => return Ok(None),
            Sought::Loading(policy) => policy,
            Sought::New(policy) => {
                self.commands.send(Command::Load(workspace_id.clone())).map_err(|_| CutOff)?;
                policy
            }
        };
        match timeout(LOAD_PATIENCE, policy.wait_for(Option::is_some)).await {
            Ok(Ok(policy)) => Ok(policy.clone()),
            // The workspace was deleted meanwhile.
            Ok(Err(_)) => Ok(None),
            Err(_) => Err(CutOff),
        }
    }

    async fn catch_up(&self, cause: CatchUpCause) -> Result<CaughtUp, CutOff> {
        match cause {
            CatchUpCause::Verified => self.barrier(cause).await?,
            CatchUpCause::Unverified => {
                let Some(_place) = Place::take(&self.unverified_waiting) else { return Ok(CaughtUp::Rationed) };
                self.barrier(cause).await?;
            }
        }
        Ok(CaughtUp::Fresh)
    }
}

/// Which callers are admitted. The directory may be a little old: before a caller is refused for the state of their workspace,
/// trust-service is asked for what was committed meanwhile.
#[async_trait]
impl WorkspaceStates for FollowedPolicies {
    async fn workspace_state(&self, id: &WorkspaceId) -> Result<Option<WorkspaceState>, StateUnknown> {
        let is_fresh = || self.memory.age().is_some_and(|age| age <= STATE_STALENESS_LIMIT);
        let known = self.memory.workspace_state(id);
        if is_fresh() && known == Some(WorkspaceState::Active) {
            return Ok(known);
        }
        // Callers who come back again and again cause no more barriers than strangers do.
        let caught_up = matches!(self.catch_up(CatchUpCause::Unverified).await, Ok(CaughtUp::Fresh));
        match (is_fresh(), self.memory.workspace_state(id)) {
            (true, Some(state)) => Ok(Some(state)),
            (true, None) if caught_up => Ok(None),
            (true, None) | (false, _) => Err(StateUnknown),
        }
    }
}

impl fmt::Debug for FollowedPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowedPolicies").finish_non_exhaustive()
    }
}

/// One of the places for requests that wait for reasons anybody can make up; given back when dropped, also by a caller who hangs
/// up.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(waiting: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |taken: usize| (taken < MAX_UNVERIFIED_WAITING).then_some(taken + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(waiting)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
