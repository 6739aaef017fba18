//! Through a real client on an in-process channel, against a trust-service that is played by the test.

use async_trait::async_trait;
use countersign_domain::trust::policy_feed::{DirectoryChange, DirectoryEntry, PolicyChange, PolicySnapshot};
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::id::TrustRelationshipId;
use countersign_proto::trust::policy::{PolicyEvent, PolicyRequest};
use countersign_proto::trust_v1::policy_service_server::{PolicyService, PolicyServiceServer};
use countersign_proto::trust_v1::{WatchPoliciesRequest, WatchPoliciesResponse};
use countersign_runtime::client::{PeerAddress, PeerChannel};
use countersign_runtime::server::{Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::Listeners;
use countersign_testkit::clock::SeededEntropy;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::fakes::{ISSUER, SUBJECT, other_workspace_id, relationship, relationship_id, trusted_issuer, workspace_id};

/// One open stream, as trust-service sees it.
struct Session {
    requests: Streaming<WatchPoliciesRequest>,
    events: mpsc::UnboundedSender<Result<WatchPoliciesResponse, Status>>,
}

impl Session {
    fn send(&self, event: PolicyEvent) {
        self.events.send(Ok(event.into())).unwrap();
    }

    async fn next(&mut self) -> PolicyRequest {
        self.requests.message().await.unwrap().unwrap().try_into().unwrap()
    }

    /// The next request that is no barrier; barriers are answered.
    async fn next_load(&mut self) -> PolicyRequest {
        loop {
            match self.next().await {
                PolicyRequest::Sync(nonce) => self.send(PolicyEvent::Synced(nonce)),
                other => return other,
            }
        }
    }

    fn send_directory(&self, entries: Vec<DirectoryEntry>) {
        self.send(PolicyEvent::DirectorySnapshot { entries, last: true });
    }
}

struct PlayedTrustService(mpsc::UnboundedSender<Session>);

#[async_trait]
impl PolicyService for PlayedTrustService {
    type WatchPoliciesStream = UnboundedReceiverStream<Result<WatchPoliciesResponse, Status>>;

    async fn watch_policies(
        &self,
        request: Request<Streaming<WatchPoliciesRequest>>,
    ) -> Result<Response<Self::WatchPoliciesStream>, Status> {
        let (events, stream) = mpsc::unbounded_channel();
        self.0.send(Session { requests: request.into_inner(), events }).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }
}

/// The policies under test, and trust-service's end of every stream they open.
struct Stage {
    policies: FollowedPolicies,
    sessions: mpsc::UnboundedReceiver<Session>,
    _follower: JoinHandle<()>,
    _shutdown: Shutdown,
}

impl Stage {
    fn new() -> Self {
        let (sender, sessions) = mpsc::unbounded_channel();
        let (listeners, connectors) = Listeners::in_process();
        let shutdown = Shutdown::new();
        Server::new("trust-service")
            .internal(Surface::new().grpc(PolicyServiceServer::new(PlayedTrustService(sender))))
            .start(listeners, shutdown.clone())
            .unwrap();
        let channel = PeerChannel::new("trust-service", PeerAddress::InProcess(connectors.internal));
        let (follower, policies) = Follower::new(channel, Arc::new(SeededEntropy::new(1)));
        Self { policies, sessions, _follower: tokio::spawn(follower.run()), _shutdown: shutdown }
    }

    async fn session(&mut self) -> Session {
        self.sessions.recv().await.unwrap()
    }

    /// A stage whose first session has sent this directory.
    async fn with_directory(entries: Vec<DirectoryEntry>) -> (Self, Session) {
        let mut stage = Self::new();
        let session = stage.session().await;
        session.send_directory(entries);
        stage.policies.stream_stands().await.unwrap();
        (stage, session)
    }

    /// Asks for a policy in the background.
    fn ask(&self, id: WorkspaceId) -> JoinHandle<Result<Option<Arc<WorkspacePolicy>>, CutOff>> {
        let policies = self.policies.clone();
        tokio::spawn(async move { policies.policy(&id).await })
    }

    fn catch_up(&self, cause: CatchUpCause) -> JoinHandle<Result<CaughtUp, CutOff>> {
        let policies = self.policies.clone();
        tokio::spawn(async move { policies.catch_up(cause).await })
    }
}

fn entry(id: WorkspaceId, issuers: &[&str]) -> DirectoryEntry {
    DirectoryEntry {
        workspace_id: id,
        state: WorkspaceState::Active,
        policy_revision: 1,
        issuer_urls: issuers.iter().map(|url| url.parse().unwrap()).collect(),
        display_name: "Acme".parse().unwrap(),
    }
}

fn snapshot(revision: i64, relationships: usize) -> PolicySnapshot {
    PolicySnapshot {
        workspace_id: workspace_id(),
        state: WorkspaceState::Active,
        policy_revision: revision,
        trusted_issuers: vec![trusted_issuer()],
        trust_relationships: (0..relationships)
            .map(|number| {
                let id = TrustRelationshipId::from_random((number as u128 + 100).to_be_bytes());
                countersign_domain::trust::trust_relationship::TrustRelationship { id, ..relationship(&format!("s{number}")) }
            })
            .collect(),
    }
}

#[tokio::test]
async fn the_directory_tells_who_registered_what() {
    let (stage, session) = Stage::with_directory(vec![entry(workspace_id(), &[ISSUER]), entry(other_workspace_id(), &[])]).await;
    let policies = &stage.policies;
    assert!(policies.registered(&workspace_id(), ISSUER));
    assert!(!policies.registered(&workspace_id(), "https://cloud.rwx.com/mint/"));
    assert!(!policies.registered(&other_workspace_id(), ISSUER));
    assert_eq!(policies.registrants(ISSUER, 10), [workspace_id()]);
    assert_eq!(policies.display_name(&workspace_id()).unwrap().as_str(), "Acme");
    session.send(PolicyEvent::DirectoryChange(DirectoryChange::Changed(entry(other_workspace_id(), &[ISSUER]))));
    session.send(PolicyEvent::DirectoryChange(DirectoryChange::Deleted(workspace_id())));
    countersign_testkit::wait::until("the changes arrive", || {
        std::future::ready(policies.registrants(ISSUER, 10) == [other_workspace_id()])
    })
    .await;
    assert!(policies.display_name(&workspace_id()).is_none());
}

#[tokio::test]
async fn a_workspace_is_loaded_once_however_many_ask_and_followed_from_then_on() {
    let (stage, mut session) = Stage::with_directory(vec![entry(workspace_id(), &[ISSUER])]).await;
    let asking: Vec<_> = (0..20).map(|_| stage.ask(workspace_id())).collect();
    assert_eq!(session.next_load().await, PolicyRequest::Load(workspace_id()));
    session.send(PolicyEvent::PolicySnapshot { part: snapshot(3, 2), last: false });
    session.send(PolicyEvent::PolicySnapshot {
        part: PolicySnapshot { trust_relationships: vec![relationship(SUBJECT)], ..snapshot(3, 0) },
        last: true,
    });
    for asked in asking {
        let policy = asked.await.unwrap().unwrap().unwrap();
        assert_eq!((policy.revision(), policy.relationship_count()), (3, 3));
    }
    session.send(PolicyEvent::PolicyChange(PolicyChange {
        workspace_id: workspace_id(),
        state: WorkspaceState::Active,
        policy_revision: 4,
        trusted_issuers: vec![],
        trust_relationships: vec![],
        deleted_trusted_issuer_ids: vec![],
        deleted_trust_relationship_ids: vec![relationship_id()],
    }));
    let caught_up = stage.catch_up(CatchUpCause::Verified);
    let PolicyRequest::Sync(nonce) = session.next().await else { panic!("a second load") };
    session.send(PolicyEvent::Synced(nonce));
    assert_eq!(caught_up.await.unwrap(), Ok(CaughtUp::Fresh));
    let policy = stage.policies.policy(&workspace_id()).await.unwrap().unwrap();
    assert_eq!((policy.revision(), policy.relationship_count()), (4, 2));
}

#[tokio::test]
async fn s17_a_workspace_outside_the_directory_is_never_asked_for() {
    let (stage, mut session) = Stage::with_directory(vec![entry(workspace_id(), &[ISSUER])]).await;
    assert!(stage.policies.policy(&other_workspace_id()).await.unwrap().is_none());
    // Had it been asked for, that request would be before the barrier.
    let caught_up = stage.catch_up(CatchUpCause::Verified);
    assert!(matches!(session.next().await, PolicyRequest::Sync(_)));
    caught_up.abort();
}

#[tokio::test]
async fn a_workspace_that_is_deleted_while_it_is_loaded_is_none() {
    let (stage, mut session) = Stage::with_directory(vec![entry(workspace_id(), &[ISSUER])]).await;
    let asked = stage.ask(workspace_id());
    assert_eq!(session.next_load().await, PolicyRequest::Load(workspace_id()));
    session.send(PolicyEvent::NoSuchWorkspace(workspace_id()));
    assert!(asked.await.unwrap().unwrap().is_none());
}

#[tokio::test]
async fn one_barrier_is_in_flight_and_who_comes_during_it_gets_the_next() {
    let (stage, mut session) = Stage::with_directory(vec![]).await;
    let first = stage.catch_up(CatchUpCause::Verified);
    let PolicyRequest::Sync(one) = session.next().await else { panic!("no barrier") };
    // Each asks while the first is under way.
    let mut later: Vec<_> = (0..50).map(|_| stage.policies.catch_up(CatchUpCause::Verified)).collect();
    for waiting in &mut later {
        assert!(futures::poll!(waiting).is_pending());
    }
    session.send(PolicyEvent::Synced(one));
    assert_eq!(first.await.unwrap(), Ok(CaughtUp::Fresh));
    // The answer to the first does not do for them; the next does for all of them.
    for waiting in &mut later {
        assert!(futures::poll!(waiting).is_pending());
    }
    let PolicyRequest::Sync(two) = session.next().await else { panic!("no barrier") };
    assert!(two > one);
    session.send(PolicyEvent::Synced(two));
    assert!(futures::future::join_all(later).await.into_iter().all(|caught_up| caught_up == Ok(CaughtUp::Fresh)));
}

#[tokio::test]
async fn barriers_that_anybody_can_cause_are_rationed() {
    let (stage, mut session) = Stage::with_directory(vec![]).await;
    let stop = Arc::new(tokio::sync::Notify::new());
    let stopped = Arc::clone(&stop);
    let answering = tokio::spawn(async move {
        let mut barriers = 0_u32;
        loop {
            tokio::select! {
                request = session.next() => if let PolicyRequest::Sync(nonce) = request {
                    barriers += 1;
                    session.send(PolicyEvent::Synced(nonce));
                },
                () = stopped.notified() => return barriers,
            }
        }
    });
    let start = tokio::time::Instant::now();
    for _ in 0..5 {
        let wave = (0..300).map(|_| stage.catch_up(CatchUpCause::Unverified));
        let answers = futures::future::join_all(wave).await;
        let fresh = answers.iter().filter(|answer| *answer.as_ref().unwrap() == Ok(CaughtUp::Fresh)).count();
        assert!((1..=MAX_UNVERIFIED_WAITING).contains(&fresh), "{fresh} of 300 were let to wait");
    }
    stop.notify_one();
    let (barriers, took) = (answering.await.unwrap(), start.elapsed());
    // At most ten a second, the first at once, and a heartbeat.
    assert!(u128::from(barriers) <= took.as_millis() / 100 + 2, "{barriers} barriers in {took:?}");
    assert_eq!(stage.policies.unverified_waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn after_a_lost_connection_everything_in_use_is_loaded_again() {
    let (mut stage, mut session) = Stage::with_directory(vec![entry(workspace_id(), &[ISSUER])]).await;
    let asked = stage.ask(workspace_id());
    assert_eq!(session.next_load().await, PolicyRequest::Load(workspace_id()));
    session.send(PolicyEvent::PolicySnapshot { part: snapshot(3, 1), last: true });
    assert_eq!(asked.await.unwrap().unwrap().unwrap().revision(), 3);
    drop(session);
    let mut session = stage.session().await;
    assert_eq!(session.next_load().await, PolicyRequest::Load(workspace_id()));
    session.send_directory(vec![entry(workspace_id(), &[ISSUER])]);
    session.send(PolicyEvent::PolicySnapshot { part: snapshot(9, 1), last: true });
    let policies = &stage.policies;
    countersign_testkit::wait::until("the new snapshot arrives", || async {
        policies.policy(&workspace_id()).await.unwrap().unwrap().revision() == 9
    })
    .await;
}

#[tokio::test]
async fn what_disappeared_while_the_connection_was_lost_is_gone() {
    let (mut stage, session) = Stage::with_directory(vec![entry(workspace_id(), &[ISSUER])]).await;
    drop(session);
    let session = stage.session().await;
    session.send_directory(vec![entry(other_workspace_id(), &[ISSUER])]);
    let policies = &stage.policies;
    countersign_testkit::wait::until("the new directory arrives", || {
        std::future::ready(policies.registrants(ISSUER, 10) == [other_workspace_id()])
    })
    .await;
    assert!(policies.policy(&workspace_id()).await.unwrap().is_none());
}

#[tokio::test]
async fn cut_off_nobody_waits_for_ever() {
    let stage = Stage::new();
    // The stream opens, but the directory never comes.
    let asked = tokio::time::Instant::now();
    assert_eq!(stage.policies.catch_up(CatchUpCause::Verified).await, Err(CutOff));
    assert!(asked.elapsed() < Duration::from_secs(3));
}

/// Answers every barrier.
fn answer_barriers(mut session: Session) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok(Some(request)) = session.requests.message().await {
            if let Ok(PolicyRequest::Sync(nonce)) = request.try_into() {
                session.send(PolicyEvent::Synced(nonce));
            }
        }
    })
}

#[tokio::test]
async fn s82_a_caller_is_judged_by_the_state_of_their_workspace_as_it_is_after_a_barrier() {
    let disabled = DirectoryEntry { state: WorkspaceState::Disabled, ..entry(other_workspace_id(), &[]) };
    let (stage, mut session) = Stage::with_directory(vec![entry(workspace_id(), &[]), disabled]).await;
    let policies = stage.policies.clone();
    let asked = |id: WorkspaceId| {
        let policies = policies.clone();
        tokio::spawn(async move { policies.workspace_state(&id).await })
    };
    // Disabled by the directory, and active again when it is looked at.
    let answer = asked(other_workspace_id());
    let PolicyRequest::Sync(nonce) = session.next().await else { panic!("a barrier is asked for first") };
    session.send(PolicyEvent::DirectoryChange(DirectoryChange::Changed(entry(other_workspace_id(), &[]))));
    session.send(PolicyEvent::Synced(nonce));
    assert_eq!(answer.await.unwrap(), Ok(Some(WorkspaceState::Active)));
    // From now on the view is fresh, and an active workspace costs no barrier.
    assert_eq!(asked(workspace_id()).await.unwrap(), Ok(Some(WorkspaceState::Active)));

    session.send(PolicyEvent::DirectoryChange(DirectoryChange::Deleted(workspace_id())));
    let _answering = answer_barriers(session);
    countersign_testkit::wait::until("the deletion arrives", || async {
        policies.workspace_state(&workspace_id()).await == Ok(None)
    })
    .await;
}

#[tokio::test]
async fn s82_a_gateway_that_is_cut_off_admits_callers_until_its_view_is_too_old() {
    let (mut stage, session) = Stage::with_directory(vec![entry(workspace_id(), &[])]).await;
    let policies = stage.policies.clone();
    let answering = answer_barriers(session);
    assert_eq!(policies.workspace_state(&workspace_id()).await, Ok(Some(WorkspaceState::Active)));
    answering.abort();
    // The stream is lost and another one says nothing.
    let silent = stage.session().await;
    assert_eq!(policies.workspace_state(&workspace_id()).await, Ok(Some(WorkspaceState::Active)), "within the limit");
    let too_old = STATE_STALENESS_LIMIT + Duration::from_secs(1);
    policies.memory.note_seen(tokio::time::Instant::now().checked_sub(too_old).unwrap());
    assert_eq!(policies.workspace_state(&workspace_id()).await, Err(StateUnknown), "beyond it");
    drop(silent);
}
