//! Past events of a workspace, read backwards.

use std::time::Duration;

use countersign_domain::exchange::audit::{AuditEvent, AuditedDecision};
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::time::Timestamp;
use countersign_proto::status::Refusal;
use countersign_store::trust::{TrustStore, Which};

use crate::pages::Position;
use crate::refusals;

/// How many are read at once.
const PAGE: u64 = 500;
/// Events stand in the order in which they were appended. That of exchanges is nearly the order of their times; refusals are told
/// later, by the clocks of gateways, so that nothing is concluded from theirs.
const DISORDER: Duration = Duration::from_mins(15);

/// Reads the events of a workspace from the newest on, and no more of them than was said.
pub(crate) struct Backwards<'a> {
    store: &'a dyn TrustStore,
    workspace_id: Option<&'a WorkspaceId>,
    which: Which,
    since: Option<Timestamp>,
    before: Option<i64>,
    position: Option<Position>,
    left: u64,
    is_at_end: bool,
}

impl<'a> Backwards<'a> {
    /// Reads the events of a workspace, or those that belong to none.
    pub(crate) fn new(store: &'a dyn TrustStore, workspace_id: Option<&'a WorkspaceId>, which: Which, most: u64) -> Self {
        Self { store, workspace_id, which, since: None, before: None, position: None, left: most, is_at_end: false }
    }

    /// Only those that stand before a place in the log.
    pub(crate) fn before(self, before: Option<i64>) -> Self {
        Self { before, ..self }
    }

    /// Nothing that is older is wanted.
    pub(crate) fn since(self, since: Option<Timestamp>) -> Self {
        Self { since, ..self }
    }

    /// Whether everything was read that was wanted, rather than as much as may be.
    pub(crate) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// How far was read.
    pub(crate) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The next events, perhaps none of them young enough; `None` when there are no more, or enough were read.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<AuditEvent>>, Refusal> {
        if self.is_at_end || self.left == 0 {
            return Ok(None);
        }
        let limit = self.left.min(PAGE);
        let events = self.store.audit_events(self.workspace_id, self.which, self.before, limit).await;
        let mut events = events.map_err(refusals::store)?;
        self.left -= limit;
        if let Some(last) = events.last() {
            self.before = Some(last.sequence);
            self.position = Some(position(last));
        }
        let is_last_page = u64::try_from(events.len()).is_ok_and(|read| read < limit);
        let oldest_wanted = self.since.and_then(|since| since.checked_sub(DISORDER).ok());
        let is_exchange = |event: &&AuditEvent| matches!(event.decision, AuditedDecision::Allowed(_));
        let last_exchange = events.iter().rev().find(is_exchange);
        let is_too_old = oldest_wanted.zip(last_exchange).is_some_and(|(oldest, last)| last.time < oldest);
        self.is_at_end = is_last_page || is_too_old;
        events.retain(|event| self.since.is_none_or(|since| event.time >= since));
        Ok(Some(events))
    }
}

/// Where an event stands.
pub(crate) fn position(event: &AuditEvent) -> Position {
    Position { created_at: event.time, id: event.sequence.to_string() }
}
