//! The state of workspaces: trust-service writes, issuer-service reads.

use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::violation::Violations;

use super::policy::required_state;
use crate::common::read;
use crate::trust_v1 as wire;
use wire::watch_workspaces_response::Response;
use wire::workspace_state_change::Change;

/// One message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspaceStateEvent {
    /// A part of all workspaces, sent once at the start.
    Snapshot {
        /// The workspaces of this part, each with its state.
        entries: Vec<(WorkspaceId, WorkspaceState)>,
        /// Whether no other part follows.
        last: bool,
    },
    /// A workspace is new, or has this state now.
    Changed(WorkspaceId, WorkspaceState),
    /// A workspace was deleted.
    Deleted(WorkspaceId),
    /// Everything committed before the server received the barrier with this number has been sent.
    Synced(u64),
}

impl From<WorkspaceStateEvent> for wire::WatchWorkspacesResponse {
    fn from(event: WorkspaceStateEvent) -> Self {
        let change = |change| Response::Change(wire::WorkspaceStateChange { change: Some(change) });
        let response = match event {
            WorkspaceStateEvent::Snapshot { entries, last } => {
                let entries = entries.iter().map(|(id, state)| entry(id, *state)).collect();
                Response::Snapshot(wire::WorkspaceStateSnapshot { entries, last })
            }
            WorkspaceStateEvent::Changed(id, state) => change(Change::Entry(entry(&id, state))),
            WorkspaceStateEvent::Deleted(id) => change(Change::DeletedWorkspaceId(id.to_string())),
            WorkspaceStateEvent::Synced(number) => Response::Synced(number),
        };
        Self { response: Some(response) }
    }
}

impl TryFrom<wire::WatchWorkspacesResponse> for WorkspaceStateEvent {
    type Error = Violations;

    fn try_from(message: wire::WatchWorkspacesResponse) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let event = match message.response {
            Some(Response::Snapshot(snapshot)) => {
                let entries = snapshot.entries.iter().filter_map(|entry| read_entry(entry, &mut violations)).collect();
                Some(Self::Snapshot { entries, last: snapshot.last })
            }
            Some(Response::Change(wire::WorkspaceStateChange { change: Some(Change::Entry(entry)) })) => {
                read_entry(&entry, &mut violations).map(|(id, state)| Self::Changed(id, state))
            }
            Some(Response::Change(wire::WorkspaceStateChange { change: Some(Change::DeletedWorkspaceId(id)) })) => {
                read("deleted_workspace_id", &id, &mut violations).map(Self::Deleted)
            }
            Some(Response::Synced(number)) => Some(Self::Synced(number)),
            Some(Response::Change(wire::WorkspaceStateChange { change: None })) | None => {
                violations.add("response", "is required");
                None
            }
        };
        // One workspace that cannot be read must not be taken for one that does not exist.
        event.filter(|_| violations.is_empty()).ok_or(violations)
    }
}

fn entry(id: &WorkspaceId, state: WorkspaceState) -> wire::WorkspaceStateEntry {
    wire::WorkspaceStateEntry { workspace_id: id.to_string(), state: wire::WorkspaceState::from(state).into() }
}

fn read_entry(entry: &wire::WorkspaceStateEntry, violations: &mut Violations) -> Option<(WorkspaceId, WorkspaceState)> {
    let id = read("workspace_id", &entry.workspace_id, violations);
    let state = required_state(entry.state, violations);
    id.zip(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_survives_a_round_trip() {
        let id = WorkspaceId::from_random([1; 16]);
        let other = WorkspaceId::from_random([2; 16]);
        let entries = vec![(id.clone(), WorkspaceState::Active), (other, WorkspaceState::Disabled)];
        for event in [
            WorkspaceStateEvent::Snapshot { entries, last: false },
            WorkspaceStateEvent::Snapshot { entries: Vec::new(), last: true },
            WorkspaceStateEvent::Changed(id.clone(), WorkspaceState::Disabled),
            WorkspaceStateEvent::Deleted(id),
            WorkspaceStateEvent::Synced(u64::MAX),
        ] {
            assert_eq!(WorkspaceStateEvent::try_from(wire::WatchWorkspacesResponse::from(event.clone())), Ok(event));
        }
    }

    #[test]
    fn s82_a_workspace_that_cannot_be_read_makes_the_whole_message_an_error() {
        let good = entry(&WorkspaceId::from_random([1; 16]), WorkspaceState::Active);
        let stateless = wire::WorkspaceStateEntry { state: 0, ..good.clone() };
        let unknown = wire::WorkspaceStateEntry { state: 17, ..good.clone() };
        let nameless = wire::WorkspaceStateEntry { workspace_id: "ws_?".to_owned(), ..good.clone() };
        let message = |response| wire::WatchWorkspacesResponse { response };
        for bad in [stateless, unknown, nameless] {
            let snapshot = wire::WorkspaceStateSnapshot { entries: vec![good.clone(), bad.clone()], last: true };
            assert!(WorkspaceStateEvent::try_from(message(Some(Response::Snapshot(snapshot)))).is_err(), "{bad:?}");
            let change = wire::WorkspaceStateChange { change: Some(Change::Entry(bad.clone())) };
            assert!(WorkspaceStateEvent::try_from(message(Some(Response::Change(change)))).is_err(), "{bad:?}");
        }
        for nothing in [None, Some(Response::Change(wire::WorkspaceStateChange { change: None }))] {
            assert!(WorkspaceStateEvent::try_from(message(nothing)).is_err());
        }
    }
}
