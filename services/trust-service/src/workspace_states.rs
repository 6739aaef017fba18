//! The state of workspaces: for this service's own callers from the database, for issuer-service as a stream,
//! `countersign.trust.v1.WorkspaceStateService`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_domain::trust::policy_feed::{DirectoryChange, DirectoryEntry};
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::id::WorkspaceId;
use countersign_proto::status::Refusal;
use countersign_proto::trust::workspace_state::WorkspaceStateEvent;
use countersign_proto::trust_v1::workspace_state_service_server::{WorkspaceStateService, WorkspaceStateServiceServer};
use countersign_proto::trust_v1::{WatchWorkspacesRequest, WatchWorkspacesResponse};
use countersign_runtime::auth::{StateUnknown, WorkspaceStates};
use countersign_runtime::shutdown::Shutdown;
use countersign_store::trust::{FeedPosition, TrustStore};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::context::Context;
use crate::policy_feed::{Batch, Subscription};
use crate::refusals;
use crate::streams::{Barriers, End};

/// Workspaces in one part of the snapshot.
const SNAPSHOT_PART: usize = 5_000;
/// Messages under way; the stream's task waits for a client that does not read.
const UNDER_WAY: usize = 16;
/// How long a client waits for a service that has just started and has not read the database yet.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// The state of workspaces as the database has it at that moment, so that a call which comes after a change is judged by it.
pub(crate) struct StoredStates(pub(crate) Arc<dyn TrustStore>);

impl fmt::Debug for StoredStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredStates").finish_non_exhaustive()
    }
}

#[async_trait]
impl WorkspaceStates for StoredStates {
    async fn workspace_state(&self, id: &WorkspaceId) -> Result<Option<WorkspaceState>, StateUnknown> {
        let workspace = self.0.workspace(id).await.map_err(|error| {
            // Logs the cause, which the caller does not learn.
            let _ = refusals::store(error);
            StateUnknown
        })?;
        Ok(workspace.map(|workspace| workspace.state))
    }
}

/// The service, for issuer-service.
pub(crate) struct States {
    context: Arc<Context>,
    shutdown: Shutdown,
}

/// The generated server of the service. Streams end when the service drains, so that clients go elsewhere immediately.
pub(crate) fn server(context: Arc<Context>, shutdown: Shutdown) -> WorkspaceStateServiceServer<States> {
    WorkspaceStateServiceServer::new(States { context, shutdown })
}

#[tonic::async_trait]
impl WorkspaceStateService for States {
    type WatchWorkspacesStream = ReceiverStream<Result<WatchWorkspacesResponse, Status>>;

    async fn watch_workspaces(
        &self,
        request: Request<Streaming<WatchWorkspacesRequest>>,
    ) -> Result<Response<Self::WatchWorkspacesStream>, Status> {
        let feed = &self.context.feed;
        let unavailable = || Refusal::unavailable("the workspaces have not been read yet");
        timeout(START_PATIENCE, feed.begun()).await.map_err(|_| unavailable())?;
        let Subscription { position, directory, batches } = feed.subscribe().ok_or_else(unavailable)?;
        let (events, outgoing) = mpsc::channel(UNDER_WAY);
        let stream = Stream { events, position, barriers: Barriers::new(feed.clone()) };
        let (requests, shutdown) = (request.into_inner(), self.shutdown.clone());
        tokio::spawn(async move {
            let events = stream.events.clone();
            if let Err(End::Refused(refusal)) = stream.run(&directory, requests, batches, shutdown).await {
                // Fails when the client is gone, which then needs no reason.
                let _ = events.send(Err(refusal.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

struct Stream {
    events: mpsc::Sender<Result<WatchWorkspacesResponse, Status>>,
    /// The place up to which everything was sent.
    position: FeedPosition,
    barriers: Barriers,
}

impl Stream {
    async fn run(
        mut self,
        directory: &[DirectoryEntry],
        mut requests: Streaming<WatchWorkspacesRequest>,
        mut batches: broadcast::Receiver<Arc<Batch>>,
        shutdown: Shutdown,
    ) -> Result<(), End> {
        let mut parts = directory.chunks(SNAPSHOT_PART).peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let entries = part.iter().map(|entry| (entry.workspace_id.clone(), entry.state)).collect();
            let last = parts.peek().is_none();
            self.send(WorkspaceStateEvent::Snapshot { entries, last }).await?;
            if last {
                break;
            }
        }
        loop {
            tokio::select! {
                () = shutdown.requested() => return Err(Refusal::unavailable("the service is shutting down").into()),
                () = self.events.closed() => return Err(End::Closed),
                batch = batches.recv() => match batch {
                    Ok(batch) => self.forward(&batch).await?,
                    Err(_) => return Err(Refusal::unavailable("the stream fell behind; begin again").into()),
                },
                () = self.barriers.place_next() => self.answer_barriers().await?,
                request = requests.message() => {
                    let request = request.map_err(|_| End::Closed)?.ok_or(End::Closed)?;
                    self.barriers.ask(request.sync)?;
                }
            }
        }
    }

    async fn forward(&mut self, batch: &Batch) -> Result<(), End> {
        for change in &batch.directory {
            let event = match change {
                DirectoryChange::Changed(entry) => WorkspaceStateEvent::Changed(entry.workspace_id.clone(), entry.state),
                DirectoryChange::Deleted(id) => WorkspaceStateEvent::Deleted(id.clone()),
            };
            self.send(event).await?;
        }
        self.position = batch.position;
        self.answer_barriers().await
    }

    async fn answer_barriers(&mut self) -> Result<(), End> {
        while let Some(nonce) = self.barriers.take_reached(self.position) {
            self.send(WorkspaceStateEvent::Synced(nonce)).await?;
        }
        Ok(())
    }

    async fn send(&self, event: WorkspaceStateEvent) -> Result<(), End> {
        self.events.send(Ok(event.into())).await.map_err(|_| End::Closed)
    }
}
