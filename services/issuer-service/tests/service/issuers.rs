//! Issuers as a resource.

use countersign_domain::values::reason::Reason;
use countersign_proto::issuer_v1 as wire;
use countersign_testkit::status::{assert_refused, violated_fields};
use tonic::Code;

use crate::harness::{BASE, GATEWAY, Ground, Service, rwx, workspace};

#[expect(clippy::unnecessary_wraps, reason = "messages hold optional durations")]
fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

async fn get(service: &Service, issuer: &wire::Issuer) -> Result<wire::Issuer, tonic::Status> {
    let request = wire::GetIssuerRequest { workspace_id: issuer.workspace_id.clone(), issuer_id: issuer.id.clone() };
    Ok(service.issuers().get_issuer(service.request(request)).await?.into_inner().issuer.unwrap())
}

async fn update(service: &Service, issuer: wire::Issuer, paths: &[&str]) -> Result<wire::Issuer, tonic::Status> {
    let update_mask = Some(prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
    let request = wire::UpdateIssuerRequest { issuer: Some(issuer), update_mask, accept_subject_change: None };
    Ok(service.issuers().update_issuer(service.request(request)).await?.into_inner().issuer.unwrap())
}

async fn delete(service: &Service, issuer: &wire::Issuer, etag: &str) -> Result<(), tonic::Status> {
    let request = wire::DeleteIssuerRequest {
        workspace_id: issuer.workspace_id.clone(),
        issuer_id: issuer.id.clone(),
        etag: etag.to_owned(),
    };
    service.issuers().delete_issuer(service.request(request)).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_created_with_the_documented_defaults() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let service = ground.start().await;
        let issuer = wire::Issuer { algorithms: vec![], ..rwx(&workspace(1)) };
        let issuer = service.create(issuer).await.unwrap();
        assert!(issuer.id.starts_with("is_"));
        assert_eq!(issuer.issuer_url, format!("{BASE}/{}", issuer.id));
        assert_eq!(issuer.algorithms, ["RS256"]);
        assert_eq!((issuer.default_token_duration, issuer.max_token_duration), (seconds(3600), seconds(3600)));
        assert!(!issuer.etag.is_empty() && issuer.create_time.is_some());
        assert_eq!(get(&service, &issuer).await.unwrap(), issuer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_violation_of_a_new_issuer_is_reported_at_once() {
    let service = Ground::sqlite().start().await;
    let issuer = wire::Issuer {
        workspace_id: "workspace".to_owned(),
        profile: "unheard-of".to_owned(),
        issuer_url: "https://elsewhere.example".to_owned(),
        display_name: "a\nb".to_owned(),
        algorithms: vec!["none".to_owned()],
        allowed_audiences: vec![String::new()],
        default_token_duration: seconds(1),
        max_token_duration: seconds(86_401),
        ..Default::default()
    };
    let refused = service.create(issuer).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(
        violated_fields(&refused),
        [
            "issuer.algorithms[0]",
            "issuer.allowed_audiences[0]",
            "issuer.default_token_duration",
            "issuer.display_name",
            "issuer.issuer_url",
            "issuer.max_token_duration",
            "issuer.profile",
            "issuer.workspace_id",
        ]
    );
    let nothing = service.issuers().create_issuer(service.request(wire::CreateIssuerRequest { issuer: None })).await;
    assert_eq!(violated_fields(&nothing.unwrap_err()), ["issuer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_iss_belongs_to_one_issuer_for_ever() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let service = ground.start().await;
        let wanted = |number| wire::Issuer { issuer_url: format!("{BASE}/vaults"), ..rwx(&workspace(number)) };
        let first = service.create(wanted(1)).await.unwrap();
        let refused = service.create(wanted(2)).await.unwrap_err();
        assert_refused(&refused, Code::AlreadyExists, Reason::ResourceAlreadyExists);
        delete(&service, &first, "").await.unwrap();
        assert_refused(&get(&service, &first).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
        let refused = service.create(wanted(1)).await.unwrap_err();
        assert_refused(&refused, Code::AlreadyExists, Reason::ResourceAlreadyExists);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_url_is_nobodys() {
    let service = Ground::sqlite().start().await;
    for url in [GATEWAY, BASE, "http://localhost:7401/", "http://localhost:7401/a/.well-known/x"] {
        let refused = service.create(wire::Issuer { issuer_url: url.to_owned(), ..rwx(&workspace(1)) }).await.unwrap_err();
        assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
        assert_eq!(violated_fields(&refused), ["issuer.issuer_url"], "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_its_mask_names_and_minds_the_etag() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let service = ground.start().await;
        let before = service.rwx(&workspace(1)).await;
        let wish = wire::Issuer {
            display_name: "vaults".to_owned(),
            max_token_duration: seconds(7200),
            profile: "namespace".to_owned(),
            ..before.clone()
        };
        let after = update(&service, wish.clone(), &["display_name"]).await.unwrap();
        let expected = wire::Issuer {
            display_name: "vaults".to_owned(),
            etag: after.etag.clone(),
            update_time: after.update_time,
            ..before.clone()
        };
        assert_eq!(after, expected);
        assert_ne!(after.etag, before.etag);
        assert_eq!(get(&service, &before).await.unwrap(), after);

        let stale = update(&service, wish.clone(), &["max_token_duration"]).await.unwrap_err();
        assert_refused(&stale, Code::Aborted, Reason::EtagMismatch);
        let unguarded = wire::Issuer { etag: String::new(), ..wish.clone() };
        let longer = update(&service, unguarded.clone(), &["max_token_duration"]).await.unwrap();
        assert_eq!(longer.max_token_duration, seconds(7200));

        let refused = update(&service, unguarded.clone(), &["issuer_url", "nonsense"]).await.unwrap_err();
        assert_eq!(violated_fields(&refused), ["update_mask.paths[0]", "update_mask.paths[1]"]);
        assert_eq!(violated_fields(&update(&service, unguarded, &[]).await.unwrap_err()), ["update_mask"]);

        assert_refused(&delete(&service, &before, &before.etag).await.unwrap_err(), Code::Aborted, Reason::EtagMismatch);
        delete(&service, &before, &longer.etag).await.unwrap();
        assert_refused(&delete(&service, &before, "").await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s73_lists_are_paged_and_page_tokens_bound_to_their_list() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let service = ground.start().await;
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(service.rwx(&workspace(1)).await.id);
        }
        service.rwx(&workspace(2)).await;
        let list = |number: u8, page_size, page_token: String| {
            let workspace_id = workspace(number).to_string();
            let request = service.request(wire::ListIssuersRequest { workspace_id, page_size, page_token });
            let mut client = service.issuers();
            async move { client.list_issuers(request).await.map(tonic::Response::into_inner) }
        };
        let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = list(1, 2, token).await.unwrap();
            seen.extend(page.issuers.into_iter().map(|issuer| issuer.id));
            pages += 1;
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
            let foreign = list(2, 2, token.clone()).await.unwrap_err();
            assert_refused(&foreign, Code::InvalidArgument, Reason::PageTokenInvalid);
        }
        // Those of one microsecond are ordered by their random ids.
        seen.sort();
        made.sort();
        assert_eq!((seen, pages), (made, 3));
        assert_refused(&list(1, -1, String::new()).await.unwrap_err(), Code::InvalidArgument, Reason::InvalidRequest);
        let all = list(1, i32::MAX, String::new()).await.unwrap();
        assert_eq!((all.issuers.len(), all.next_page_token), (5, String::new()));
        assert!(list(3, 0, String::new()).await.unwrap().issuers.is_empty());
    }
}
