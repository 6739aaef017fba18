//! The documents over HTTP, and what becomes of them without the database.

use std::time::Duration;

use countersign_testkit::postgres::Postgres;
use countersign_testkit::wait;
use http::{Method, StatusCode};

use crate::harness::{GATEWAY, Ground, Service, http, path_of, rwx, wish, workspace};
use countersign_proto::issuer_v1 as wire;

const KEY_SET: &str = "/.well-known/jwks.json";
const DISCOVERY: &str = "/.well-known/openid-configuration";

async fn ask(service: &Service, method: Method, path: &str, if_none_match: Option<&str>) -> reqwest::Response {
    let mut request = http().request(method, format!("{}{path}", service.address));
    if let Some(etag) = if_none_match {
        request = request.header("if-none-match", etag);
    }
    request.send().await.unwrap()
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn s60_documents_are_cacheable() {
    let service = Ground::sqlite().start().await;
    let issuer = service.rwx(&workspace(1)).await;
    for (document, content_type) in [(KEY_SET, "application/jwk-set+json"), (DISCOVERY, "application/json")] {
        let path = format!("{}{document}", path_of(&issuer));
        let first = ask(&service, Method::GET, &path, None).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(header(&first, "cache-control"), Some("public, max-age=300"));
        assert_eq!(header(&first, "content-type"), Some(content_type));
        let etag = header(&first, "etag").unwrap().to_owned();
        assert!(etag.starts_with('"'), "strong: {etag}");
        let length = header(&first, "content-length").unwrap().to_owned();
        let body = first.bytes().await.unwrap();
        assert_eq!(length, body.len().to_string());

        for tag in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            let unchanged = ask(&service, Method::GET, &path, Some(&tag)).await;
            assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED, "{tag}");
            assert_eq!(header(&unchanged, "etag"), Some(etag.as_str()));
            assert_eq!(header(&unchanged, "cache-control"), Some("public, max-age=300"));
            assert!(unchanged.bytes().await.unwrap().is_empty());
        }
        assert_eq!(ask(&service, Method::GET, &path, Some("\"other\"")).await.status(), StatusCode::OK);

        let head = ask(&service, Method::HEAD, &path, None).await;
        assert_eq!((head.status(), header(&head, "etag")), (StatusCode::OK, Some(etag.as_str())));
        assert_eq!(header(&head, "content-length"), Some(length.as_str()));
        assert!(head.bytes().await.unwrap().is_empty());

        let gzipped = |etag: Option<String>| {
            let request = http().get(format!("{}{path}", service.address)).header("accept-encoding", "br, gzip");
            etag.into_iter().fold(request, |request, etag| request.header("if-none-match", etag)).send()
        };
        let smaller = gzipped(None).await.unwrap();
        assert_eq!((header(&smaller, "content-encoding"), header(&smaller, "vary")), (Some("gzip"), Some("accept-encoding")));
        let gzip_etag = header(&smaller, "etag").unwrap().to_owned();
        assert_ne!(gzip_etag, etag, "a strong validator is of one encoding");
        let smaller = smaller.bytes().await.unwrap();
        let mut decoded = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*smaller), &mut decoded).unwrap();
        assert!(decoded == body && smaller.len() < body.len());
        assert_eq!(gzipped(Some(gzip_etag)).await.unwrap().status(), StatusCode::NOT_MODIFIED);

        let post = ask(&service, Method::POST, &path, None).await;
        assert_eq!((post.status(), header(&post, "allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD")));
    }
    // The same bytes over gRPC.
    let request = wire::GetOpenIdConfigurationRequest { issuer_url: issuer.issuer_url.clone() };
    let over_grpc = service.key_sets().get_open_id_configuration(request).await.unwrap().into_inner();
    let over_http = service.get(&format!("{}{DISCOVERY}", path_of(&issuer))).await;
    assert_eq!(header(&over_http, "etag"), Some(over_grpc.etag.as_str()));
    assert_eq!(over_http.bytes().await.unwrap(), over_grpc.openid_configuration);
    assert_eq!(over_grpc.max_age.unwrap().seconds, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_issuers_have_documents() {
    let service = Ground::sqlite().start().await;
    let issuer = service.create(wire::Issuer { issuer_url: format!("{}/a/b", crate::harness::BASE), ..rwx(&workspace(1)) });
    issuer.await.unwrap();
    assert_eq!(service.get(&format!("/a/b{KEY_SET}")).await.status(), StatusCode::OK);
    // The gateway publishes what verifies access tokens.
    for path in [
        KEY_SET,
        "/a/.well-known/jwks.json",
        "/a/b/c/.well-known/jwks.json",
        "/a/b/.well-known/jwks.json/",
        "/a/b",
        "/A/b/.well-known/jwks.json",
        "//a/b/.well-known/jwks.json",
    ] {
        let answer = service.get(path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert_ne!(header(&answer, "cache-control"), Some("public, max-age=300"), "{path}");
    }
    assert_eq!(service.key_ids(GATEWAY).await.len(), 1, "over gRPC they are had here");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_with_a_host_name_of_its_own_is_found_by_it() {
    let service = Ground::sqlite().start().await;
    let issuer = wire::Issuer { issuer_url: "https://team.id.example.net".to_owned(), ..rwx(&workspace(1)) };
    let issuer = service.create(issuer).await.unwrap();
    let ask = async |document: &str, host: &str| {
        let request = http().get(format!("{}{document}", service.address)).header("host", host);
        request.header("x-forwarded-host", "other.id.example.net").send().await.unwrap()
    };
    let answer = ask(DISCOVERY, "team.id.example.net").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let discovery: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(discovery["issuer"], "https://team.id.example.net");
    assert_eq!(discovery["jwks_uri"], "https://team.id.example.net/.well-known/jwks.json");
    let key_set = ask(KEY_SET, "team.id.example.net").await.bytes().await.unwrap();
    let token = service.issue(wish(&issuer)).await.unwrap().id_token;
    crate::harness::verify(&token, &serde_json::from_slice(&key_set).unwrap(), &issuer.issuer_url, "sts.amazonaws.com");
    for host in ["other.id.example.net", "id.example.net", "evil.example", "team.id.example.net.evil.example"] {
        assert_eq!(ask(KEY_SET, host).await.status(), StatusCode::NOT_FOUND, "{host}");
    }
    let by_path = ask(&format!("/team.id.example.net{KEY_SET}"), "team.id.example.net").await;
    assert_eq!(by_path.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn s70_no_header_changes_which_issuer_is_meant() {
    let service = Ground::sqlite().start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let url = format!("{}{}{DISCOVERY}", service.address, path_of(&issuer));
    let plain = http().get(&url).send().await.unwrap().bytes().await.unwrap();
    for (name, value) in [("host", "evil.example"), ("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example")] {
        let answer = http().get(&url).header(name, value).send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap(), plain, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s60_documents_are_served_and_tokens_signed_with_the_database_down() {
    let mut server = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let ground = Ground::at(server.database());
    let service = ground.start().await;
    let used = service.rwx(&workspace(1)).await;
    let path = format!("{}{KEY_SET}", path_of(&used));
    let before = service.get_json(&path).await;

    let mut server = tokio::task::spawn_blocking(move || {
        server.kill();
        server
    })
    .await
    .unwrap();
    // Whether an issuer exists that is not in memory, only the database can say.
    let get_unknown = async || service.get(&format!("/unknown{KEY_SET}")).await;
    wait::until("the database is gone", async || get_unknown().await.status() == StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(service.get_json(&path).await, before);
    assert!(service.issue(wish(&used)).await.is_ok());
    assert!(service.create(rwx(&workspace(1))).await.is_err(), "what must be written is refused");

    let _server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    })
    .await
    .unwrap();
    wait::until("the database is back", async || get_unknown().await.status() == StatusCode::NOT_FOUND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_a_replica_cut_off_stops_at_its_staleness_limit() {
    let mut server = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let ground = Ground { staleness_limit: Duration::from_secs(3), ..Ground::at(server.database()) };
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let path = format!("{}{KEY_SET}", path_of(&issuer));
    let ready = || async { http().get(format!("{}/readyz", service.private)).send().await.unwrap().status() };
    assert_eq!(service.get(&path).await.status(), StatusCode::OK);
    wait::until("the replica is ready", async || ready().await == StatusCode::OK).await;

    let mut server = tokio::task::spawn_blocking(move || {
        server.kill();
        server
    })
    .await
    .unwrap();
    wait::until("it stops serving", async || service.get(&path).await.status() == StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(service.issue(wish(&issuer)).await.unwrap_err().code(), tonic::Code::Unavailable);
    wait::until("it is not ready", async || ready().await == StatusCode::SERVICE_UNAVAILABLE).await;

    let _server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    })
    .await
    .unwrap();
    wait::until("it serves again", async || service.get(&path).await.status() == StatusCode::OK).await;
    wait::until("it is ready again", async || ready().await == StatusCode::OK).await;
}
