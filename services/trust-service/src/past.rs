//! Past events of a workspace, read backwards.

use std::time::Duration;

use countersign_domain::audit::AuditEvent;
use countersign_domain::id::WorkspaceId;
use countersign_domain::time::Timestamp;
use countersign_proto::status::Refusal;
use countersign_store::trust::TrustStore;

use crate::refusals;

/// How many are read at once.
const PAGE: u64 = 1_000;
/// Events stand in the order in which they were appended, which is nearly that of their times: refusals are told some time later,
/// by the clocks of gateways.
const DISORDER: Duration = Duration::from_mins(15);

/// Reads the events of a workspace from the newest on, and no more of them than was said.
pub(crate) struct Backwards<'a> {
    store: &'a dyn TrustStore,
    workspace_id: Option<&'a WorkspaceId>,
    before: Option<i64>,
    since: Option<Timestamp>,
    left: u64,
    is_at_end: bool,
}

impl<'a> Backwards<'a> {
    /// Reads the events of a workspace, or those that belong to none, that stand before a place in the log.
    pub(crate) fn from(store: &'a dyn TrustStore, workspace_id: Option<&'a WorkspaceId>, before: Option<i64>, most: u64) -> Self {
        Self { store, workspace_id, before, since: None, left: most, is_at_end: false }
    }

    /// Nothing that is older is wanted.
    pub(crate) fn since(self, since: Option<Timestamp>) -> Self {
        Self { since, ..self }
    }

    /// Whether everything was read that was wanted, rather than as much as may be.
    pub(crate) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// The next events; none when there are no more, or enough were read.
    pub(crate) async fn next(&mut self) -> Result<Vec<AuditEvent>, Refusal> {
        if self.is_at_end || self.left == 0 {
            return Ok(Vec::new());
        }
        let limit = self.left.min(PAGE);
        let mut events = self.store.audit_events(self.workspace_id, self.before, limit).await.map_err(refusals::store)?;
        self.left -= limit;
        self.before = events.last().map(|last| last.sequence);
        let last_page = u64::try_from(events.len()).is_ok_and(|read| read < limit);
        let oldest_wanted = self.since.and_then(|since| since.checked_sub(DISORDER).ok());
        let too_old = oldest_wanted.zip(events.last()).is_some_and(|(oldest, last)| last.time < oldest);
        self.is_at_end = last_page || too_old;
        events.retain(|event| self.since.is_none_or(|since| event.time >= since));
        if events.is_empty() && !self.is_at_end {
            // Out of order, and not the end.
            return Box::pin(self.next()).await;
        }
        Ok(events)
    }
}
