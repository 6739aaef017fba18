//! `countersign.trust.v1.PolicyService`: one stream for each gateway.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_domain::trust::policy_feed::{PolicyChange, PolicySnapshot};
use countersign_domain::trust::trust_relationship::TrustRelationship;
use countersign_domain::trust::trusted_issuer::TrustedIssuer;
use countersign_domain::values::id::WorkspaceId;
use countersign_proto::status::Refusal;
use countersign_proto::trust::policy::{PolicyEvent, PolicyRequest};
use countersign_proto::trust_v1::policy_service_server::{PolicyService, PolicyServiceServer};
use countersign_proto::trust_v1::{WatchPoliciesRequest, WatchPoliciesResponse};
use countersign_runtime::shutdown::Shutdown;
use countersign_store::trust::{FeedPosition, FollowedChange};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::context::Context;
use crate::policy_feed::{Batch, Following, Subscription};
use crate::refusals;
use crate::streams::{Barriers, End};

/// Workspaces in one part of the directory.
const DIRECTORY_PART: usize = 500;
/// About as many bytes go into one message, unless one resource alone is larger.
const PART_BYTES: usize = 1024 * 1024;
/// Messages under way; the stream's task waits for a client that does not read.
const UNDER_WAY: usize = 16;

/// The service.
pub(crate) struct Policies {
    context: Arc<Context>,
    shutdown: Shutdown,
}

/// The generated server of the service. Streams end when the service drains, so that clients go elsewhere at once.
pub(crate) fn server(context: Arc<Context>, shutdown: Shutdown) -> PolicyServiceServer<Policies> {
    PolicyServiceServer::new(Policies { context, shutdown })
}

#[tonic::async_trait]
impl PolicyService for Policies {
    type WatchPoliciesStream = ReceiverStream<Result<WatchPoliciesResponse, Status>>;

    async fn watch_policies(
        &self,
        request: Request<Streaming<WatchPoliciesRequest>>,
    ) -> Result<Response<Self::WatchPoliciesStream>, Status> {
        let unavailable = || Refusal::unavailable("the policies have not been read yet");
        let Subscription { position, directory, batches } = self.context.feed.subscribe().ok_or_else(unavailable)?;
        let (events, outgoing) = mpsc::channel(UNDER_WAY);
        let barriers = Barriers::new(self.context.feed.clone());
        let stream = Stream { context: Arc::clone(&self.context), events, position, followed: HashMap::new(), barriers };
        let (requests, shutdown) = (request.into_inner(), self.shutdown.clone());
        tokio::spawn(async move {
            let events = stream.events.clone();
            if let Err(End::Refused(refusal)) = stream.run(directory, requests, batches, shutdown).await {
                // Fails when the client is gone, who then needs no reason.
                let _ = events.send(Err(refusal.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

struct Stream {
    context: Arc<Context>,
    events: mpsc::Sender<Result<WatchPoliciesResponse, Status>>,
    /// The place up to which everything was sent.
    position: FeedPosition,
    followed: HashMap<WorkspaceId, Loaded>,
    barriers: Barriers,
}

struct Loaded {
    /// The policy revision that the client has.
    revision: i64,
    _following: Following,
}

impl Stream {
    async fn run(
        mut self,
        directory: Vec<countersign_domain::trust::policy_feed::DirectoryEntry>,
        mut requests: Streaming<WatchPoliciesRequest>,
        mut batches: broadcast::Receiver<Arc<Batch>>,
        shutdown: Shutdown,
    ) -> Result<(), End> {
        let mut entries = directory.into_iter().peekable();
        loop {
            let part: Vec<_> = entries.by_ref().take(DIRECTORY_PART).collect();
            let last = entries.peek().is_none();
            self.send(PolicyEvent::DirectorySnapshot { entries: part, last }).await?;
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
                    match PolicyRequest::try_from(request).map_err(Refusal::invalid)? {
                        PolicyRequest::Load(workspace_id) => self.load(workspace_id).await?,
                        PolicyRequest::Forget(workspace_id) => drop(self.followed.remove(&workspace_id)),
                        PolicyRequest::Sync(nonce) => self.barriers.ask(nonce)?,
                    }
                }
            }
        }
    }

    async fn load(&mut self, workspace_id: WorkspaceId) -> Result<(), End> {
        // Followed first, read then: what is committed in between is in the snapshot, in the feed, or in both.
        let following = self.context.feed.follow(workspace_id.clone());
        match self.context.store.policy(&workspace_id).await.map_err(refusals::store)? {
            None => {
                self.followed.remove(&workspace_id);
                self.send(PolicyEvent::NoSuchWorkspace(workspace_id)).await
            }
            Some(snapshot) => {
                let loaded = Loaded { revision: snapshot.policy_revision, _following: following };
                self.followed.insert(workspace_id, loaded);
                self.send_snapshot(snapshot).await
            }
        }
    }

    async fn forward(&mut self, batch: &Batch) -> Result<(), End> {
        for change in &batch.directory {
            self.send(PolicyEvent::DirectoryChange(change.clone())).await?;
        }
        for change in &batch.policies {
            match change {
                FollowedChange::Changed(change) => {
                    if self.advances(&change.workspace_id, change.policy_revision) {
                        if change_bytes(change) > PART_BYTES {
                            self.load(change.workspace_id.clone()).await?;
                        } else {
                            self.send(PolicyEvent::PolicyChange(change.clone())).await?;
                        }
                    }
                }
                FollowedChange::Replaced(snapshot) => {
                    if self.advances(&snapshot.workspace_id, snapshot.policy_revision) {
                        self.send_snapshot(snapshot.clone()).await?;
                    }
                }
                FollowedChange::Deleted(workspace_id) => {
                    if self.followed.remove(workspace_id).is_some() {
                        self.send(PolicyEvent::NoSuchWorkspace(workspace_id.clone())).await?;
                    }
                }
            }
        }
        self.position = batch.position;
        self.answer_barriers().await
    }

    /// Whether this client follows the workspace and has less than this revision, which it has from now on. A snapshot may be
    /// ahead of the feed.
    fn advances(&mut self, workspace_id: &WorkspaceId, revision: i64) -> bool {
        match self.followed.get_mut(workspace_id) {
            Some(loaded) if loaded.revision < revision => {
                loaded.revision = revision;
                true
            }
            _ => false,
        }
    }

    async fn answer_barriers(&mut self) -> Result<(), End> {
        while let Some(nonce) = self.barriers.take_reached(self.position) {
            self.send(PolicyEvent::Synced(nonce)).await?;
        }
        Ok(())
    }

    async fn send_snapshot(&self, snapshot: PolicySnapshot) -> Result<(), End> {
        let PolicySnapshot { workspace_id, state, policy_revision, trusted_issuers, trust_relationships } = snapshot;
        let empty = || PolicySnapshot {
            workspace_id: workspace_id.clone(),
            state,
            policy_revision,
            trusted_issuers: Vec::new(),
            trust_relationships: Vec::new(),
        };
        let (mut part, mut bytes) = (empty(), 0);
        for issuer in trusted_issuers {
            bytes += issuer_bytes(&issuer);
            part.trusted_issuers.push(issuer);
            if bytes >= PART_BYTES {
                bytes = 0;
                self.send(PolicyEvent::PolicySnapshot { part: std::mem::replace(&mut part, empty()), last: false }).await?;
            }
        }
        for relationship in trust_relationships {
            bytes += relationship_bytes(&relationship);
            part.trust_relationships.push(relationship);
            if bytes >= PART_BYTES {
                bytes = 0;
                self.send(PolicyEvent::PolicySnapshot { part: std::mem::replace(&mut part, empty()), last: false }).await?;
            }
        }
        self.send(PolicyEvent::PolicySnapshot { part, last: true }).await
    }

    async fn send(&self, event: PolicyEvent) -> Result<(), End> {
        self.events.send(Ok(event.into())).await.map_err(|_| End::Closed)
    }
}

/// About how long a message with this change is.
fn change_bytes(change: &PolicyChange) -> usize {
    let issuers: usize = change.trusted_issuers.iter().map(issuer_bytes).sum();
    let relationships: usize = change.trust_relationships.iter().map(relationship_bytes).sum();
    issuers + relationships
}

/// What the bounded fields of a resource come to, with room to spare.
const SMALL_FIELDS: usize = 1024;
/// What a text costs beside its bytes.
const TEXT: usize = 8;

fn issuer_bytes(issuer: &TrustedIssuer) -> usize {
    let settings = &issuer.settings;
    let audiences: usize = settings.subject_audiences.iter().map(|audience| audience.as_str().len() + TEXT).sum();
    let types: usize = settings.token_types.iter().flatten().map(|typ| typ.as_str().len() + TEXT).sum();
    // The key set's URL is among the small fields.
    let keys = settings.key_source.document_bytes();
    SMALL_FIELDS + settings.issuer_url.as_str().len() + keys + audiences + types
}

fn relationship_bytes(relationship: &TrustRelationship) -> usize {
    let settings = &relationship.settings;
    let subjects: usize = settings.subject_matches.iter().map(|subject| subject.as_str().len() + TEXT).sum();
    let audiences = settings.subject_audiences.iter().chain(&settings.access_token_audiences);
    let audiences: usize = audiences.map(|audience| audience.as_str().len() + TEXT).sum();
    let scopes: usize = settings.scopes.iter().map(|scope| scope.as_str().len() + TEXT).sum();
    let grants = settings.grants.iter().flat_map(|grant| grant.actions.iter().chain([&grant.resource_type, &grant.resource_id]));
    let grants: usize = grants.map(|text| text.len() + TEXT).sum();
    SMALL_FIELDS + relationship.creator.len() + subjects + audiences + scopes + grants
}
