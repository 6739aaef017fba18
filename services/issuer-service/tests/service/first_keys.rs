//! First keys: made for the owner or in the background, never for anonymous callers. And how many issuers a workspace can have.

use std::time::Duration;

use countersign_domain::issuing::issuer::{Issuer, IssuerDraft, IssuerSettings};
use countersign_domain::values::id::IssuerId;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::Clock as _;
use countersign_domain::values::violation::Violations;
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::key_set_service_client::KeySetServiceClient;
use countersign_store::issuer::{CreateOutcome, IssuerQuotas, IssuerStore as _, SeaIssuerStore};
use countersign_testkit::status::assert_refused;
use countersign_testkit::wait;
use http::StatusCode;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{BASE, Ground, Service, path_of, rwx, wish, workspace};

/// An issuer without keys, as a service leaves it that is killed right after it wrote the issuer.
async fn abandoned(ground: &Ground, number: u8, algorithms: &[&str]) -> wire::Issuer {
    let draft = IssuerDraft { algorithms: algorithms.iter().map(ToString::to_string).collect(), ..IssuerDraft::default() };
    let issuer = Issuer {
        id: IssuerId::from_random([number; 16]),
        workspace_id: workspace(1),
        issuer_url: format!("{BASE}/abandoned-{number}").parse().unwrap(),
        profile: "rwx".parse().unwrap(),
        former_subjects: Vec::new(),
        settings: IssuerSettings::create(&draft, "rwx".parse().ok().as_ref(), &mut Violations::new()).unwrap(),
        revision: 1,
        created_at: ground.clock.now(),
        updated_at: ground.clock.now(),
        published_until: None,
    };
    let store = SeaIssuerStore::open(&ground.url.parse().unwrap()).await.unwrap();
    assert_eq!(store.create_issuer(&issuer).await.unwrap(), CreateOutcome::Created);
    (&issuer).into()
}

async fn ask_for_documents(service: &Service, issuer: &wire::Issuer) {
    for document in ["jwks.json", "openid-configuration"] {
        let answer = service.get(&format!("{}/.well-known/{document}", path_of(issuer))).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "neither an empty key set nor \"not found\"");
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(answer.headers()["cache-control"], "no-store");
    }
    for channel in [&service.public, &service.internal] {
        let mut client = KeySetServiceClient::new(channel.clone());
        let issuer_url = issuer.issuer_url.clone();
        let refused = client.get_json_web_key_set(wire::GetJsonWebKeySetRequest { issuer_url: issuer_url.clone() }).await;
        let refused = refused.expect_err("there is no key");
        assert_refused(&refused, Code::Unavailable, Reason::TemporarilyUnavailable);
        assert!(refused.get_error_details().retry_info().is_some());
        let refused = client.get_open_id_configuration(wire::GetOpenIdConfigurationRequest { issuer_url }).await;
        assert_refused(&refused.expect_err("there is no key"), Code::Unavailable, Reason::TemporarilyUnavailable);
    }
}

async fn s85_anonymous_requests_make_no_key(ground: Ground) {
    let service = ground.start().await;
    let mut issuers = Vec::new();
    for number in 1..=6 {
        issuers.push(abandoned(&ground, number, &["RS256", "ES256"]).await);
    }
    futures::future::join_all(issuers.iter().map(|issuer| ask_for_documents(&service, issuer))).await;
    for issuer in &issuers {
        assert_eq!(service.list_keys(issuer).await, [], "{}", issuer.issuer_url);
    }

    // The owner's call makes the keys of that one issuer.
    service.issue(wish(&issuers[0])).await.unwrap();
    assert_eq!(service.key_ids(&issuers[0].issuer_url).await.len(), 2);
    assert_eq!(service.get(&format!("{}/.well-known/jwks.json", path_of(&issuers[0]))).await.status(), StatusCode::OK);
    service.rotate(&issuers[1]).await.unwrap();
    assert_eq!(service.key_ids(&issuers[1].issuer_url).await.len(), 2 + 1, "the first ones, and the one that was asked for");
    ask_for_documents(&service, &issuers[2]).await;

    // The background makes those that no call makes any more.
    ground.clock.advance(Duration::from_secs(10));
    for issuer in &issuers[2..] {
        wait::until("the keys are made", async || service.list_keys(issuer).await.len() == 2).await;
        assert_eq!(service.get(&format!("{}/.well-known/jwks.json", path_of(issuer))).await.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s85_anonymous_requests_make_no_key_on_sqlite() {
    s85_anonymous_requests_make_no_key(Ground::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s85_anonymous_requests_make_no_key_on_postgresql() {
    s85_anonymous_requests_make_no_key(Ground::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_created_issuer_has_its_documents_on_every_replica() {
    let ground = Ground::sqlite();
    let (one, other) = (ground.start().await, ground.start().await);
    let algorithms = ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec();
    let issuer = one.create(wire::Issuer { algorithms, ..rwx(&workspace(1)) }).await.unwrap();
    assert_eq!(one.list_keys(&issuer).await.len(), 3, "the call returns when the keys are made");
    for service in [&one, &other] {
        assert_eq!(service.get(&format!("{}/.well-known/jwks.json", path_of(&issuer))).await.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_has_no_more_issuers_than_its_quota() {
    let quotas = IssuerQuotas { issuers: 3, issuers_created_per_day: 5 };
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let ground = Ground { quotas, ..ground };
        let replicas = [ground.start().await, ground.start().await];
        let attempts = (0..8).map(|number| replicas[number % 2].create(rwx(&workspace(1))));
        let (created, refused): (Vec<_>, Vec<_>) = futures::future::join_all(attempts).await.into_iter().partition(Result::is_ok);
        assert_eq!((created.len(), refused.len()), (3, 5));
        for refused in refused.into_iter().filter_map(Result::err) {
            assert_refused(&refused, Code::ResourceExhausted, Reason::QuotaExceeded);
            let details = refused.get_error_details();
            let failure = &details.quota_failure().unwrap().violations[0];
            assert_eq!(failure.subject, format!("Workspace {}", workspace(1)));
            assert!(failure.description.contains("3 issuers"), "{}", failure.description);
            assert!(details.retry_info().is_none(), "waiting does not help");
        }
        assert!(replicas[0].create(rwx(&workspace(2))).await.is_ok(), "another workspace has a quota of its own");

        // A deleted issuer frees its place, though not without end: its URL stays taken.
        for issuer in created.into_iter().flatten().take(2) {
            let request =
                wire::DeleteIssuerRequest { workspace_id: issuer.workspace_id, issuer_id: issuer.id, ..Default::default() };
            replicas[0].issuers().delete_issuer(replicas[0].request(request)).await.unwrap();
        }
        for _ in 0..2 {
            let issuer = replicas[1].create(rwx(&workspace(1))).await.unwrap();
            let request =
                wire::DeleteIssuerRequest { workspace_id: issuer.workspace_id, issuer_id: issuer.id, ..Default::default() };
            replicas[0].issuers().delete_issuer(replicas[0].request(request)).await.unwrap();
        }
        let refused = replicas[1].create(rwx(&workspace(1))).await.unwrap_err();
        assert_refused(&refused, Code::ResourceExhausted, Reason::QuotaExceeded);
        assert!(refused.get_error_details().retry_info().is_some(), "waiting helps");
        ground.clock.advance(Duration::from_hours(24));
        replicas[1].create(rwx(&workspace(1))).await.unwrap();
    }
}
