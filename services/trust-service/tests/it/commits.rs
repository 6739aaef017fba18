//! The commit point over the wire.

use std::time::{Duration, Instant};

use countersign_domain::exchange::commit::CommitOutcome::{self, Committed, Disabled, Replayed, Stale};
use countersign_domain::exchange::commit::{ExchangeAudit, ExchangeCommit, ReplayMark};
use countersign_domain::exchange::presentation::Presentation;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::Clock as _;
use countersign_proto::status::Refusal;
use countersign_proto::trust::commit::{commit_request, read_commit_response};
use countersign_proto::trust_v1::{CommitExchangesRequest, TrustRelationship, UpdateTrustRelationshipRequest};
use countersign_testkit::postgres::Postgres;
use countersign_testkit::status::{assert_refused, violated_fields};
use countersign_testkit::wait;
use tonic::{Code, Status};

use crate::support::{Service, Tenant, mask, service, service_on};

fn exchange(service: &Service, tenant: &Tenant, token: u8) -> ExchangeCommit {
    let later = service.clock.now() + Duration::from_mins(10);
    ExchangeCommit {
        workspace_id: tenant.workspace.id.parse().unwrap(),
        trusted_issuer_id: tenant.issuer.id.parse().unwrap(),
        trust_relationship_id: tenant.relationship.id.parse().unwrap(),
        policy_revision: 3,
        trusted_issuer_revision: 1,
        trust_relationship_revision: tenant.relationship.revision,
        replay: Some(ReplayMark { hash: [token; 32], expires_at: later }),
        audit: ExchangeAudit {
            presentation: Presentation {
                request_id: "req-1".to_owned(),
                subject_issuer: tenant.issuer.issuer_url.parse().unwrap(),
                subject: "org:my-org:vault:deploy-vault".parse().unwrap(),
                subject_token_hash: [token; 32],
                subject_token_id: None,
                subject_key_id: None,
                claims: None,
                request: None,
            },
            access_token_id: format!("at-{token}").parse().unwrap(),
            access_token_audiences: Vec::new(),
            scopes: Vec::new(),
            access_token_expires_at: later,
        },
    }
}

async fn commit(service: &Service, exchanges: &[ExchangeCommit]) -> Result<Vec<CommitOutcome>, Status> {
    let response = service.commits().commit_exchanges(commit_request(exchanges.to_vec())).await?;
    Ok(read_commit_response(response.into_inner(), exchanges.len()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn s30_each_exchange_of_a_batch_has_its_own_outcome() {
    let service = service().await;
    let tenant = service.tenant().await;
    let stale = ExchangeCommit { trusted_issuer_revision: 2, ..exchange(&service, &tenant, 2) };
    let batch = [exchange(&service, &tenant, 1), stale, exchange(&service, &tenant, 1)];
    assert_eq!(commit(&service, &batch).await.unwrap(), [Committed, Stale, Replayed]);

    let disabled = TrustRelationship { enabled: false, ..tenant.relationship.clone() };
    let update = UpdateTrustRelationshipRequest { trust_relationship: Some(disabled), update_mask: Some(mask(&["enabled"])) };
    service.operator().relationships.update_trust_relationship(update).await.unwrap();
    assert_eq!(commit(&service, &[exchange(&service, &tenant, 3)]).await.unwrap(), [Disabled]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_read_commits_nothing() {
    let service = service().await;
    let tenant = service.tenant().await;
    let mut request = commit_request([exchange(&service, &tenant, 1), exchange(&service, &tenant, 2)]);
    request.exchanges[1].replay_hash = vec![1].into();
    let status = service.commits().commit_exchanges(request).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&status), ["exchanges[1].replay_hash"]);
    assert_eq!(commit(&service, &[exchange(&service, &tenant, 1)]).await.unwrap(), [Committed]);
    let status = service.commits().commit_exchanges(CommitExchangesRequest::default()).await.unwrap_err();
    assert_eq!(violated_fields(&status), ["exchanges"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s52_a_restart_forgets_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("trust.db").display());
    let first = service_on(&url, 1, None).await;
    let tenant = first.tenant().await;
    let presented = exchange(&first, &tenant, 1);
    assert_eq!(commit(&first, std::slice::from_ref(&presented)).await.unwrap(), [Committed]);
    first.shutdown.trigger();
    first.running.wait().await.unwrap();
    let second = service_on(&url, 2, Some(folder)).await;
    assert_eq!(commit(&second, &[presented]).await.unwrap(), [Replayed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s49_many_presentations_through_two_replicas_commit_once() {
    let url = tokio::task::spawn_blocking(|| Postgres::shared().database()).await.unwrap();
    let (one, other) = tokio::join!(service_on(&url, 1, None), service_on(&url, 2, None));
    let tenant = one.tenant().await;
    let attempts = (0..60).map(|attempt| {
        let service = if attempt % 2 == 0 { &one } else { &other };
        let exchange = exchange(service, &tenant, 1);
        async move {
            loop {
                match commit(service, std::slice::from_ref(&exchange)).await {
                    Ok(outcomes) => break outcomes[0],
                    // On a busy machine the turn at the database may not come in time. That settles nothing.
                    Err(status) => assert!(Refusal::from_status(&status).nothing_committed(), "{status:?}"),
                }
            }
        }
    });
    let outcomes = futures::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Committed).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Replayed).count(), 59);
}

#[tokio::test(flavor = "multi_thread")]
async fn s74_while_the_database_is_gone_commits_fail_fast_and_recover_with_it() {
    let (mut postgres, url) = tokio::task::spawn_blocking(|| {
        let postgres = Postgres::start();
        let url = postgres.database();
        (postgres, url)
    })
    .await
    .unwrap();
    let service = service_on(&url, 1, None).await;
    let tenant = service.tenant().await;
    assert_eq!(commit(&service, &[exchange(&service, &tenant, 1)]).await.unwrap(), [Committed]);
    let mut postgres = tokio::task::spawn_blocking(move || {
        postgres.kill();
        postgres
    })
    .await
    .unwrap();
    for _ in 0..3 {
        let began = Instant::now();
        let status = commit(&service, &[exchange(&service, &tenant, 2)]).await.unwrap_err();
        assert_refused(&status, Code::Unavailable, Reason::TemporarilyUnavailable);
        // No transaction was begun, so the token is as good as before.
        assert!(Refusal::from_status(&status).nothing_committed());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert!(!status.message().contains("sql"), "{}", status.message());
    }
    let _postgres = tokio::task::spawn_blocking(move || {
        postgres.restart();
        postgres
    })
    .await
    .unwrap();
    wait::until("commits work again", || async {
        commit(&service, &[exchange(&service, &tenant, 2)]).await.is_ok_and(|outcomes| outcomes == [Committed])
    })
    .await;
    assert_eq!(commit(&service, &[exchange(&service, &tenant, 1)]).await.unwrap(), [Replayed]);
}
