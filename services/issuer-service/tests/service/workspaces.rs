//! What the state of a workspace means for its issuers (SECURITY 82).

use std::time::Duration;

use countersign_domain::access::permission::{Access, Permission};
use countersign_domain::issuing::issuer::Issuer;
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::reason::Reason;
use countersign_proto::access;
use countersign_proto::issuer_v1 as wire;
use countersign_testkit::methods::call_with_empty_message;
use countersign_testkit::status::assert_refused;
use countersign_testkit::wait;
use tonic::{Code, Status};

use crate::access::{administrative, call};
use crate::harness::{Ground, Service, http, path_of, rwx, wish, workspace};

async fn token_with_every_scope(service: &Service, number: u8) -> String {
    let every: Vec<_> = Permission::ALL.iter().map(|permission| permission.as_scope()).collect();
    service.access_token(&workspace(number), &every.join(" ")).await
}

async fn list(service: &Service, number: u8) -> Result<usize, Status> {
    let request = wire::ListIssuersRequest { workspace_id: workspace(number).to_string(), ..Default::default() };
    Ok(service.issuers().list_issuers(service.request(request)).await?.into_inner().issuers.len())
}

/// Waits until no ID token is issued for a workspace. A service learns of the state over a stream.
async fn signs_nothing(service: &Service, issuer: &wire::Issuer) {
    wait::until("nothing is signed", || async { service.issue(wish(issuer)).await.is_err() }).await;
}

/// What has become of the documents of an issuer.
async fn status_of(service: &Service, issuer: &wire::Issuer) -> u16 {
    service.get(&format!("{}/.well-known/jwks.json", path_of(issuer))).await.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_no_method_accepts_the_access_token_of_a_disabled_or_deleted_workspace() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    // Issued while the workspace was active, or existed.
    let mut tokens = Vec::new();
    for number in 1..=3 {
        tokens.push(token_with_every_scope(&service, number).await);
    }
    let issuer = service.rwx(&workspace(1)).await;
    service.issue(wish(&issuer)).await.unwrap();
    ground.trust.set(&workspace(2), Some(WorkspaceState::Disabled));
    ground.trust.set(&workspace(3), None);
    tokens.push(token_with_every_scope(&service, 77).await);
    let mut walked = 0;
    for (path, access) in access::TABLE.iter().filter(|(path, _)| path.starts_with("/countersign.issuer.v1.")) {
        if !matches!(access, Access::Requires(_)) {
            continue;
        }
        let call = async |token: &str| call_with_empty_message(service.public.clone(), path, Some(token)).await;
        assert_ne!(call(&tokens[0]).await.code(), Code::Unauthenticated, "{path}");
        for token in &tokens[1..] {
            wait::until("the token is refused", || async { call(token).await.code() == Code::Unauthenticated }).await;
            assert_refused(&call(token).await, Code::Unauthenticated, Reason::CredentialsInvalid);
        }
        walked += 1;
    }
    assert!(walked >= 10, "{walked}");
    // The same through requests that would succeed.
    ground.trust.set(&workspace(1), Some(WorkspaceState::Disabled));
    signs_nothing(&service, &issuer).await;
    for (method, _) in administrative() {
        let refused = call(&service, method, Some(&tokens[0]), &issuer).await.unwrap_err();
        assert_refused(&refused, Code::Unauthenticated, Reason::CredentialsInvalid);
    }
    ground.trust.set(&workspace(1), Some(WorkspaceState::Active));
    for (method, _) in administrative() {
        call(&service, method, Some(&tokens[0]), &issuer).await.unwrap_or_else(|status| panic!("{method}: {status}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_in_a_disabled_workspace_the_operator_repairs_everything_and_nothing_is_signed() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    service.issue(wish(&issuer)).await.unwrap();
    ground.trust.set(&workspace(1), Some(WorkspaceState::Disabled));
    signs_nothing(&service, &issuer).await;
    let operator = Some(crate::harness::BOOTSTRAP);
    for (method, _) in administrative() {
        let answer = call(&service, method, operator, &issuer).await;
        match method {
            "IssueIdToken" | "IssueOwnIdToken" => {
                assert_refused(&answer.unwrap_err(), Code::FailedPrecondition, Reason::FailedPrecondition);
            }
            _ => answer.unwrap_or_else(|status| panic!("{method}: {status}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_in_a_deleted_workspace_the_operator_reads_revokes_and_deletes_and_nothing_else_happens() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let before = service.issue(wish(&issuer)).await.unwrap();
    ground.trust.set(&workspace(1), None);
    signs_nothing(&service, &issuer).await;
    assert_eq!(status_of(&service, &issuer).await, 200, "tokens that were issued before can be verified");
    let operator = Some(crate::harness::BOOTSTRAP);
    for (method, _) in administrative() {
        let answer = call(&service, method, operator, &issuer).await;
        match method {
            "GetIssuer" | "ListIssuers" | "ListSigningKeys" | "RevokeSigningKey" | "DeleteIssuer" => {
                answer.unwrap_or_else(|status| panic!("{method}: {status}"));
            }
            // Refused for want of the caller's own access token before the workspace is looked at.
            "IssueOwnIdToken" => assert_eq!(answer.unwrap_err().code(), Code::FailedPrecondition),
            _ => assert_refused(&answer.unwrap_err(), Code::NotFound, Reason::ResourceNotFound),
        }
    }
    assert!(!before.id_token.is_empty());
    assert_refused(&list(&service, 1).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_an_issuer_is_created_in_a_workspace_that_exists_and_in_no_other() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let refused = service.create(rwx(&workspace(77))).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::ResourceNotFound);
    assert_refused(&list(&service, 77).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
    // A workspace that was created a moment ago is known, however the stream lags: trust-service is asked first.
    ground.trust.set(&workspace(77), Some(WorkspaceState::Active));
    let issuer = service.rwx(&workspace(77)).await;
    service.issue(wish(&issuer)).await.unwrap();
    assert_eq!(list(&service, 77).await.unwrap(), 1);
    // The same for one that was enabled a moment ago.
    ground.trust.set(&workspace(77), Some(WorkspaceState::Disabled));
    signs_nothing(&service, &issuer).await;
    ground.trust.set(&workspace(77), Some(WorkspaceState::Active));
    service.issue(wish(&issuer)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_every_replica_stops_and_so_does_one_that_starts_later() {
    let ground = Ground::sqlite();
    let (one, other) = (ground.start().await, ground.start().await);
    let issuer = one.rwx(&workspace(1)).await;
    for service in [&one, &other] {
        service.issue(wish(&issuer)).await.unwrap();
    }
    ground.trust.set(&workspace(1), Some(WorkspaceState::Disabled));
    for service in [&one, &other, &ground.start().await] {
        signs_nothing(service, &issuer).await;
        let refused = service.issue(wish(&issuer)).await.unwrap_err();
        assert_refused(&refused, Code::FailedPrecondition, Reason::FailedPrecondition);
        assert_eq!(status_of(service, &issuer).await, 200, "disabling withdraws nothing from verifiers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_a_replica_that_is_cut_off_signs_within_the_staleness_limit_and_publishes_beyond_it() {
    let ground = Ground { workspace_staleness_limit: Duration::from_secs(3), ..Ground::sqlite() };
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let token = token_with_every_scope(&service, 1).await;
    service.issue(wish(&issuer)).await.unwrap();
    ground.trust.set_reachable(false);
    service.issue(wish(&issuer)).await.expect("the view is fresh enough for a while");
    signs_nothing(&service, &issuer).await;
    let operator = Some(crate::harness::BOOTSTRAP);
    for (method, _) in administrative() {
        let refused = call(&service, method, Some(&token), &issuer).await.unwrap_err();
        assert_refused(&refused, Code::Unavailable, Reason::TemporarilyUnavailable);
        if method == "DeleteIssuer" {
            continue;
        }
        let answer = call(&service, method, operator, &issuer).await;
        match method {
            // An emergency revocation waits for nobody.
            "GetIssuer" | "ListIssuers" | "ListSigningKeys" | "RevokeSigningKey" => {
                answer.unwrap_or_else(|status| panic!("{method}: {status}"));
            }
            "IssueOwnIdToken" => assert_eq!(answer.unwrap_err().code(), Code::FailedPrecondition),
            _ => assert_refused(&answer.unwrap_err(), Code::Unavailable, Reason::TemporarilyUnavailable),
        }
    }
    assert_eq!(status_of(&service, &issuer).await, 200, "s60: documents do not depend on trust-service");
    ground.trust.set_reachable(true);
    wait::until("tokens are issued again", || async { service.issue(wish(&issuer)).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_a_stream_that_falls_silent_is_as_good_as_none() {
    let ground = Ground { workspace_staleness_limit: Duration::from_secs(3), ..Ground::sqlite() };
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    ground.trust.set_silent(true);
    ground.trust.set(&workspace(1), Some(WorkspaceState::Disabled));
    signs_nothing(&service, &issuer).await;
    let refused = service.issue(wish(&issuer)).await.unwrap_err();
    assert_refused(&refused, Code::Unavailable, Reason::TemporarilyUnavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_documents_of_a_deleted_workspace_are_published_until_its_last_token_has_expired() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let ground = Ground { export: Some(url), ..Ground::sqlite() };
    let service = ground.start().await;
    let (issuer, other) = (service.rwx(&workspace(1)).await, service.rwx(&workspace(2)).await);
    let exported = |issuer: &wire::Issuer| folder.path().join(&path_of(issuer)[1..]).join(".well-known/jwks.json").exists();
    wait::until("the documents are exported", || async { exported(&issuer) && exported(&other) }).await;

    ground.trust.set(&workspace(1), None);
    signs_nothing(&service, &issuer).await;
    // How long that is, is noted in the database, and holds over a restart.
    let noted = async || {
        let changes = countersign_store::issuer::SeaIssuerStore::open(&ground.url.parse().unwrap()).await.unwrap();
        let id = issuer.id.parse().unwrap();
        let stored = countersign_store::issuer::IssuerStore::get_issuer(&changes, &workspace(1), &id).await.unwrap();
        stored.unwrap().published_until
    };
    wait::until("the end is noted", || async { noted().await.is_some() }).await;
    let until = noted().await.unwrap();
    service.stop().await;
    let service = ground.start().await;
    ground.clock.advance(Issuer::PUBLISHED_AFTER_DELETION.checked_sub(Duration::from_mins(10)).unwrap());
    wait::until("the replica has read the issuers", || async { status_of(&service, &issuer).await == 200 }).await;
    assert_eq!(noted().await, Some(until), "it is noted once");

    ground.clock.advance(Duration::from_mins(11));
    wait::until("the documents are gone", || async { status_of(&service, &issuer).await == 404 }).await;
    assert_refused(&service.key_set(&issuer.issuer_url).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
    wait::until("they are gone from the export", || async { !exported(&issuer) }).await;
    assert_eq!(status_of(&service, &other).await, 200);
    assert!(exported(&other));

    // As after a backup of trust-service was restored: nothing is lost.
    ground.trust.set(&workspace(1), Some(WorkspaceState::Active));
    wait::until("the documents are back", || async { status_of(&service, &issuer).await == 200 }).await;
    assert_eq!(noted().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn s82_in_a_workspace_that_is_not_active_no_key_is_made_on_schedule() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let (issuer, other) = (service.rwx(&workspace(1)).await, service.rwx(&workspace(2)).await);
    for issuer in [&issuer, &other] {
        service.issue(wish(issuer)).await.unwrap();
    }
    ground.trust.set(&workspace(1), Some(WorkspaceState::Disabled));
    signs_nothing(&service, &issuer).await;
    ground.clock.advance(Duration::from_hours(95 * 24));
    let count = async |issuer: &wire::Issuer| service.list_keys(issuer).await.len();
    wait::until("keys of the active workspace are made", || async { count(&other).await == 2 }).await;
    wait::until("a whole round has passed", || async { service.issue(wish(&other)).await.is_ok() }).await;
    assert_eq!(count(&issuer).await, 1);
    ground.trust.set(&workspace(1), Some(WorkspaceState::Active));
    wait::until("what was due is made", || async { count(&issuer).await == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s76_a_service_that_starts_before_trust_service_is_ready_when_it_knows_the_workspaces() {
    let ground = Ground::sqlite();
    ground.trust.set_reachable(false);
    let service = ground.start().await;
    let ready = async || http().get(format!("{}/readyz", service.private)).send().await.unwrap().text().await.unwrap();
    assert_eq!(ready().await, "not ready: workspaces\n");
    ground.trust.set_reachable(true);
    wait::until("the service is ready", || async { ready().await == "ready\n" }).await;
    service.rwx(&workspace(1)).await;
    let metrics = http().get(format!("{}/metrics", service.private)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.lines().any(|line| line.starts_with("countersign_workspaces_age_seconds")), "{metrics}");
    // Cut off later it stays ready: documents are published.
    ground.trust.set_reachable(false);
    assert_eq!(ready().await, "ready\n");
}
