//! The stream that gateways follow.

use countersign_domain::trust::policy_feed::{DirectoryChange, DirectoryEntry, PolicyChange};
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::reason::Reason;
use countersign_proto::trust::policy::{PolicyEvent, PolicyRequest};
use countersign_proto::trust_v1::{
    DeleteTrustRelationshipRequest, DeleteTrustedIssuerRequest, DeleteWorkspaceRequest, TrustRelationship,
    UpdateTrustRelationshipRequest, WatchPoliciesRequest, WatchPoliciesResponse,
};
use countersign_testkit::postgres::Postgres;
use countersign_testkit::status::assert_refused;
use countersign_testkit::wait;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::support::{Service, Tenant, mask, service, service_on, soon};

/// One gateway's end of the stream.
struct Gateway {
    requests: mpsc::UnboundedSender<WatchPoliciesRequest>,
    events: Streaming<WatchPoliciesResponse>,
    nonce: u64,
}

impl Gateway {
    /// Connects, and reads the directory.
    async fn connect(service: &Service) -> (Self, Vec<DirectoryEntry>) {
        let (requests, events) = wait::some("the feed is ready", || async {
            let (requests, outgoing) = mpsc::unbounded_channel();
            let opened = service.policies().watch_policies(UnboundedReceiverStream::new(outgoing)).await;
            opened.ok().map(|response| (requests, response.into_inner()))
        })
        .await;
        let mut gateway = Self { requests, events, nonce: 0 };
        let mut directory = Vec::new();
        loop {
            let PolicyEvent::DirectorySnapshot { entries, last } = gateway.next().await.unwrap() else {
                panic!("the directory comes first")
            };
            directory.extend(entries);
            if last {
                return (gateway, directory);
            }
        }
    }

    async fn next(&mut self) -> Result<PolicyEvent, Status> {
        let event = soon("an event", self.events.message()).await?;
        Ok(PolicyEvent::try_from(event.unwrap()).unwrap())
    }

    fn send(&self, request: PolicyRequest) {
        self.requests.send(request.into()).unwrap();
    }

    /// Everything up to the answer to a barrier asked for now.
    async fn sync(&mut self) -> Vec<PolicyEvent> {
        self.nonce += 1;
        self.send(PolicyRequest::Sync(self.nonce));
        let mut events = Vec::new();
        loop {
            match self.next().await.unwrap() {
                PolicyEvent::Synced(nonce) => {
                    assert_eq!(nonce, self.nonce);
                    return events;
                }
                event => events.push(event),
            }
        }
    }

    async fn changes(&mut self) -> Vec<PolicyChange> {
        let changes = self.sync().await.into_iter().filter_map(|event| match event {
            PolicyEvent::PolicyChange(change) => Some(change),
            _ => None,
        });
        changes.collect()
    }
}

fn id(tenant: &Tenant) -> WorkspaceId {
    tenant.workspace.id.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s30_behind_a_barrier_everything_committed_before_it_has_arrived() {
    let service = service().await;
    let tenant = service.tenant().await;
    let (mut gateway, directory) = Gateway::connect(&service).await;
    // The directory may be from before the tenant; what is missing follows.
    drop(directory);
    gateway.sync().await;
    gateway.send(PolicyRequest::Load(id(&tenant)));
    let PolicyEvent::PolicySnapshot { part, last: true } = gateway.next().await.unwrap() else { panic!("a snapshot") };
    assert_eq!((part.policy_revision, part.trusted_issuers.len(), part.trust_relationships.len()), (3, 1, 1));

    let mut operator = service.operator();
    for round in 0..20_i64 {
        operator.relationship(&tenant.issuer).await;
        let changes = gateway.changes().await;
        assert_eq!(changes.iter().map(|change| change.trust_relationships.len()).sum::<usize>(), 1, "round {round}");
        assert_eq!(changes.last().map(|change| change.policy_revision), Some(4 + round));
    }
    let disabled = TrustRelationship { enabled: false, ..tenant.relationship.clone() };
    let update = UpdateTrustRelationshipRequest { trust_relationship: Some(disabled), update_mask: Some(mask(&["enabled"])) };
    operator.relationships.update_trust_relationship(update).await.unwrap();
    let changes = gateway.changes().await;
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert!(!change.trust_relationships[0].settings.enabled);

    // Changes arrive without being asked for, too.
    operator.relationship(&tenant.issuer).await;
    loop {
        if let PolicyEvent::PolicyChange(change) = gateway.next().await.unwrap() {
            assert_eq!(change.trust_relationships.len(), 1);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_tells_of_every_workspace_and_policies_of_those_that_are_loaded() {
    let service = service().await;
    let (mut gateway, directory) = Gateway::connect(&service).await;
    assert_eq!(directory, []);
    let tenant = service.tenant().await;
    let events = gateway.sync().await;
    let Some(PolicyEvent::DirectoryChange(DirectoryChange::Changed(entry))) = events.last() else { panic!("{events:?}") };
    assert_eq!(entry.workspace_id, id(&tenant));
    assert_eq!(entry.issuer_urls, ["https://cloud.rwx.com/mint".parse().unwrap()]);
    assert!(!events.iter().any(|event| matches!(event, PolicyEvent::PolicyChange(_))), "nobody asked for the policy");

    gateway.send(PolicyRequest::Load(id(&tenant)));
    gateway.sync().await;
    gateway.send(PolicyRequest::Forget(id(&tenant)));
    let mut operator = service.operator();
    operator.relationship(&tenant.issuer).await;
    assert_eq!(gateway.changes().await, []);

    let unknown = WorkspaceId::from_random([0; 16]);
    gateway.send(PolicyRequest::Load(unknown.clone()));
    assert_eq!(gateway.next().await.unwrap(), PolicyEvent::NoSuchWorkspace(unknown));

    // A workspace that is deleted is told of, and gone from the directory of whoever connects later.
    let empty = operator.workspace("Empty").await;
    let (empty_id, workspace_id) = (empty.id.parse::<WorkspaceId>().unwrap(), empty.id);
    gateway.send(PolicyRequest::Load(empty_id.clone()));
    gateway.sync().await;
    operator.workspaces.delete_workspace(DeleteWorkspaceRequest { workspace_id, etag: String::new() }).await.unwrap();
    let events = gateway.sync().await;
    assert!(events.contains(&PolicyEvent::DirectoryChange(DirectoryChange::Deleted(empty_id.clone()))));
    assert!(events.contains(&PolicyEvent::NoSuchWorkspace(empty_id)));
    let (_, directory) = Gateway::connect(&service).await;
    assert_eq!(directory.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn s31_a_change_tells_what_was_deleted() {
    let service = service().await;
    let tenant = service.tenant().await;
    let (mut gateway, _) = Gateway::connect(&service).await;
    gateway.send(PolicyRequest::Load(id(&tenant)));
    gateway.sync().await;
    let Tenant { workspace, issuer, relationship } = &tenant;
    let mut operator = service.operator();
    let delete = DeleteTrustRelationshipRequest {
        workspace_id: workspace.id.clone(),
        trust_relationship_id: relationship.id.clone(),
        etag: relationship.etag.clone(),
    };
    operator.relationships.delete_trust_relationship(delete).await.unwrap();
    let delete = DeleteTrustedIssuerRequest {
        workspace_id: workspace.id.clone(),
        trusted_issuer_id: issuer.id.clone(),
        etag: issuer.etag.clone(),
    };
    operator.issuers.delete_trusted_issuer(delete).await.unwrap();
    let changes = gateway.changes().await;
    let relationships: Vec<_> = changes.iter().flat_map(|change| &change.deleted_trust_relationship_ids).collect();
    let issuers: Vec<_> = changes.iter().flat_map(|change| &change.deleted_trusted_issuer_ids).collect();
    assert_eq!(relationships, [&relationship.id.parse().unwrap()]);
    assert_eq!(issuers, [&issuer.id.parse().unwrap()]);
    assert_eq!(changes.last().unwrap().policy_revision, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn s30_what_one_replica_writes_the_streams_of_the_other_tell() {
    let url = tokio::task::spawn_blocking(|| Postgres::shared().database()).await.unwrap();
    let (one, other) = tokio::join!(service_on(&url, 1, None), service_on(&url, 2, None));
    let tenant = one.tenant().await;
    let (mut gateway, _) = Gateway::connect(&other).await;
    gateway.send(PolicyRequest::Load(id(&tenant)));
    gateway.sync().await;
    for _ in 0..10 {
        one.operator().relationship(&tenant.issuer).await;
        let changes = gateway.changes().await;
        assert_eq!(changes.iter().map(|change| change.trust_relationships.len()).sum::<usize>(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_barriers_at_once_are_all_answered() {
    let service = service().await;
    let (mut gateway, _) = Gateway::connect(&service).await;
    for nonce in 100..150 {
        gateway.send(PolicyRequest::Sync(nonce));
    }
    let mut answered = Vec::new();
    while answered.len() < 50 {
        if let PolicyEvent::Synced(nonce) = gateway.next().await.unwrap() {
            answered.push(nonce);
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, (100..150).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_service_drains() {
    let service = service().await;
    let (mut gateway, _) = Gateway::connect(&service).await;
    service.shutdown.trigger();
    let status = gateway.next().await.unwrap_err();
    assert_refused(&status, Code::Unavailable, Reason::TemporarilyUnavailable);
    soon("the drain", service.running.wait()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_read_ends_the_stream() {
    let service = service().await;
    let (mut gateway, _) = Gateway::connect(&service).await;
    gateway.requests.send(WatchPoliciesRequest::default()).unwrap();
    let status = gateway.next().await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
}
