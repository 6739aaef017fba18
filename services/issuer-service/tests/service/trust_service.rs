//! A trust-service that is played by the test: which workspaces there are, what they grant, and whether it can be reached.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::id::WorkspaceId;
use countersign_proto::trust::workspace_state::WorkspaceStateEvent;
use countersign_proto::trust_v1::reachable_scope_service_server::{ReachableScopeService, ReachableScopeServiceServer};
use countersign_proto::trust_v1::workspace_state_service_server::{WorkspaceStateService, WorkspaceStateServiceServer};
use countersign_proto::trust_v1::{
    ListReachableScopesRequest, ListReachableScopesResponse, WatchWorkspacesRequest, WatchWorkspacesResponse,
};
use countersign_runtime::client::{PeerAddress, PeerChannel};
use countersign_runtime::server::{Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::Listeners;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Plays trust-service for any number of services. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PlayedTrustService(Arc<watch::Sender<Played>>);

#[derive(Debug, Clone)]
struct Played {
    states: HashMap<WorkspaceId, WorkspaceState>,
    /// Scopes that a workspace grants to subjects of the issuer with this URL.
    reachable: HashMap<(String, String), Vec<String>>,
    is_reachable: bool,
    /// Whether changes and barriers are held back, as by a replica that lags.
    is_silent: bool,
}

impl PlayedTrustService {
    pub(crate) fn with_active(numbers: impl IntoIterator<Item = u8>) -> Self {
        let states = numbers.into_iter().map(|number| (WorkspaceId::from_random([number; 16]), WorkspaceState::Active)).collect();
        Self(Arc::new(watch::Sender::new(Played { states, reachable: HashMap::new(), is_reachable: true, is_silent: false })))
    }

    /// Sets the state of a workspace; `None` deletes it.
    pub(crate) fn set(&self, id: &WorkspaceId, state: Option<WorkspaceState>) {
        self.0.send_modify(|played| {
            match state {
                Some(state) => played.states.insert(id.clone(), state),
                None => played.states.remove(id),
            };
        });
    }

    /// Sets what relationships of a workspace grant to subjects of an issuer.
    pub(crate) fn grant(&self, id: &WorkspaceId, issuer_url: &str, scopes: &[&str]) {
        let scopes = scopes.iter().map(ToString::to_string).collect();
        self.0.send_modify(|played| _ = played.reachable.insert((id.to_string(), issuer_url.to_owned()), scopes));
    }

    /// Cuts every stream and refuses new ones, or accepts them again.
    pub(crate) fn set_reachable(&self, is_reachable: bool) {
        self.0.send_modify(|played| played.is_reachable = is_reachable);
    }

    /// Says nothing more on open streams and sends no more than the snapshot on new ones, or goes on.
    pub(crate) fn set_silent(&self, is_silent: bool) {
        self.0.send_modify(|played| played.is_silent = is_silent);
    }

    /// Serves until the signal. Returns a channel to it.
    pub(crate) fn serve(&self, shutdown: &Shutdown) -> PeerChannel {
        let (listeners, connectors) = Listeners::in_process();
        Server::new("trust-service")
            .internal(
                Surface::new()
                    .grpc(WorkspaceStateServiceServer::new(self.clone()))
                    .grpc(ReachableScopeServiceServer::new(self.clone())),
            )
            .start(listeners, shutdown.clone())
            .unwrap();
        PeerChannel::new("trust-service", PeerAddress::InProcess(connectors.internal))
    }
}

#[async_trait]
impl WorkspaceStateService for PlayedTrustService {
    type WatchWorkspacesStream = UnboundedReceiverStream<Result<WatchWorkspacesResponse, Status>>;

    async fn watch_workspaces(
        &self,
        request: Request<Streaming<WatchWorkspacesRequest>>,
    ) -> Result<Response<Self::WatchWorkspacesStream>, Status> {
        let mut played = self.0.subscribe();
        if !played.borrow_and_update().is_reachable {
            return Err(Status::unavailable("away"));
        }
        let (events, stream) = mpsc::unbounded_channel();
        let mut told = played.borrow().states.clone();
        let entries = told.iter().map(|(id, state)| (id.clone(), *state)).collect();
        let tell = move |event: WorkspaceStateEvent| events.send(Ok(event.into())).is_ok();
        tell(WorkspaceStateEvent::Snapshot { entries, last: true });
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            loop {
                tokio::select! {
                    changed = played.changed() => if changed.is_err() { return },
                    request = requests.message() => match request {
                        Ok(Some(request)) => unanswered.push(request.sync),
                        _ => return,
                    },
                }
                let now = played.borrow_and_update().clone();
                if !now.is_reachable {
                    return;
                }
                if now.is_silent {
                    continue;
                }
                let deleted = told.keys().filter(|id| !now.states.contains_key(*id)).cloned();
                let deleted: Vec<_> = deleted.map(WorkspaceStateEvent::Deleted).collect();
                let changed = now.states.iter().filter(|(id, state)| told.get(*id) != Some(state));
                let changed = changed.map(|(id, state)| WorkspaceStateEvent::Changed(id.clone(), *state));
                let synced = unanswered.drain(..).map(WorkspaceStateEvent::Synced);
                if !deleted.into_iter().chain(changed).chain(synced).all(&tell) {
                    return;
                }
                told = now.states;
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }
}

#[async_trait]
impl ReachableScopeService for PlayedTrustService {
    async fn list_reachable_scopes(
        &self,
        request: Request<ListReachableScopesRequest>,
    ) -> Result<Response<ListReachableScopesResponse>, Status> {
        let played = self.0.borrow();
        if !played.is_reachable {
            return Err(Status::unavailable("away"));
        }
        let ListReachableScopesRequest { workspace_id, issuer_url } = request.into_inner();
        let scopes = played.reachable.get(&(workspace_id, issuer_url)).cloned().unwrap_or_default();
        Ok(Response::new(ListReachableScopesResponse { scopes }))
    }
}
