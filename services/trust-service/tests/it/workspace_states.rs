//! The stream that issuer-service follows.

use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::id::WorkspaceId;
use countersign_proto::trust::workspace_state::WorkspaceStateEvent;
use countersign_proto::trust_v1::{
    DeleteWorkspaceRequest, UpdateWorkspaceRequest, WatchWorkspacesRequest, WatchWorkspacesResponse, Workspace,
};
use countersign_testkit::postgres::Postgres;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Streaming};

use crate::support::{Service, mask, service, service_on, soon};

/// One end of the stream, as issuer-service has it.
struct Watcher {
    requests: mpsc::UnboundedSender<WatchWorkspacesRequest>,
    events: Streaming<WatchWorkspacesResponse>,
    last_sync: u64,
}

impl Watcher {
    /// Connects, and reads the snapshot.
    async fn connect(service: &Service) -> (Self, Vec<(WorkspaceId, WorkspaceState)>) {
        let (requests, outgoing) = mpsc::unbounded_channel();
        // A service that has just started is waited for.
        let opened = service.workspace_states().watch_workspaces(UnboundedReceiverStream::new(outgoing)).await;
        let mut watcher = Self { requests, events: opened.unwrap().into_inner(), last_sync: 0 };
        let mut all = Vec::new();
        loop {
            let WorkspaceStateEvent::Snapshot { entries, last } = watcher.next().await else {
                panic!("the snapshot comes first")
            };
            all.extend(entries);
            if last {
                return (watcher, all);
            }
        }
    }

    async fn next(&mut self) -> WorkspaceStateEvent {
        soon("an event", self.events.message()).await.unwrap().unwrap().try_into().unwrap()
    }

    /// Everything up to the answer to a barrier that is asked for now.
    async fn sync(&mut self) -> Vec<WorkspaceStateEvent> {
        self.last_sync += 1;
        self.requests.send(WatchWorkspacesRequest { sync: self.last_sync }).unwrap();
        let mut events = Vec::new();
        loop {
            match self.next().await {
                WorkspaceStateEvent::Synced(sync) => {
                    assert_eq!(sync, self.last_sync);
                    return events;
                }
                event => events.push(event),
            }
        }
    }
}

async fn set(service: &Service, workspace: &Workspace, state: countersign_proto::trust_v1::WorkspaceState) {
    let workspace = Workspace { id: workspace.id.clone(), state: state.into(), ..Default::default() };
    let request = UpdateWorkspaceRequest { workspace: Some(workspace), update_mask: Some(mask(&["state"])) };
    service.operator().workspaces.update_workspace(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_the_stream_reports_every_workspace_and_every_change_of_state_made_on_any_replica() {
    use countersign_proto::trust_v1::WorkspaceState as Wire;
    let url = tokio::task::spawn_blocking(|| Postgres::shared().database()).await.unwrap();
    let (one, other) = (service_on(&url, 1, None).await, service_on(&url, 2, None).await);
    let mut operator = one.operator();
    let (stays, changes) = (operator.workspace("Stays").await, operator.workspace("Changes").await);
    let (stays_id, changes_id): (WorkspaceId, WorkspaceId) = (stays.id.parse().unwrap(), changes.id.parse().unwrap());
    set(&one, &stays, Wire::Disabled).await;

    let (mut watcher, mut all) = Watcher::connect(&one).await;
    // The snapshot is as of the last reading; a barrier brings what was committed since.
    let caught_up = watcher.sync().await;
    all.extend(caught_up.into_iter().filter_map(|event| match event {
        WorkspaceStateEvent::Changed(id, state) => Some((id, state)),
        _ => None,
    }));
    assert!(all.contains(&(stays_id.clone(), WorkspaceState::Disabled)), "{all:?}");
    assert!(all.contains(&(changes_id.clone(), WorkspaceState::Active)), "{all:?}");

    for (state, expected) in [(Wire::Disabled, WorkspaceState::Disabled), (Wire::Active, WorkspaceState::Active)] {
        set(&other, &changes, state).await;
        let events = watcher.sync().await;
        assert!(events.contains(&WorkspaceStateEvent::Changed(changes_id.clone(), expected)), "{events:?}");
    }
    let delete = DeleteWorkspaceRequest { workspace_id: changes.id.clone(), etag: String::new() };
    other.operator().workspaces.delete_workspace(delete).await.unwrap();
    assert!(watcher.sync().await.contains(&WorkspaceStateEvent::Deleted(changes_id)));
    assert!(watcher.sync().await.is_empty(), "a barrier alone changes nothing");
    // Without a barrier too: nobody has to ask.
    set(&other, &stays, Wire::Active).await;
    assert_eq!(watcher.next().await, WorkspaceStateEvent::Changed(stays_id, WorkspaceState::Active));
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_a_workspace_with_trusted_issuers_cannot_be_deleted_and_stays_in_the_stream() {
    let service = service().await;
    let tenant = service.tenant().await;
    let delete = DeleteWorkspaceRequest { workspace_id: tenant.workspace.id.clone(), etag: String::new() };
    let refused = service.operator().workspaces.delete_workspace(delete).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let (mut watcher, mut all) = Watcher::connect(&service).await;
    all.extend(watcher.sync().await.into_iter().filter_map(|event| match event {
        WorkspaceStateEvent::Changed(id, state) => Some((id, state)),
        _ => None,
    }));
    assert!(all.contains(&(tenant.workspace.id.parse().unwrap(), WorkspaceState::Active)), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_the_stream_ends_when_the_service_drains_so_that_clients_go_elsewhere() {
    let service = service().await;
    let (mut watcher, _) = Watcher::connect(&service).await;
    service.shutdown.trigger();
    let ended = soon("the end of the stream", async {
        loop {
            match watcher.events.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    })
    .await;
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
}
