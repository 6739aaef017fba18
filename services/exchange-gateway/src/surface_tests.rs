//! What callers see, over real connections: the token endpoint, the gRPC service and the documents, all on one port.

mod narrowing;
mod silent_issuers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use countersign_domain::values::reason::Reason;
use countersign_proto::exchange_v1::ExchangeTokenRequest;
use countersign_proto::exchange_v1::exchange_service_client::ExchangeServiceClient;
use countersign_proto::issuer_v1::key_set_service_server::{KeySetService, KeySetServiceServer};
use countersign_proto::issuer_v1::{
    GetJsonWebKeySetRequest, GetJsonWebKeySetResponse, GetOpenIdConfigurationRequest, GetOpenIdConfigurationResponse,
};
use countersign_runtime::client::{PeerAddress, PeerChannel};
use countersign_runtime::server::{Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::{Admission, Listener, Listeners};
use countersign_testkit::status::{assert_refused, violated_fields, wire_name};
use countersign_testkit::wait::until;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status};

use crate::documents::KeySetKeeper;
use crate::fakes::{
    GATEWAY, SIGNED, World, gateway_url, other_workspace_id, policy, relationship, relationship_id, workspace_id,
};
use crate::pipeline::Pipeline;
use crate::start::surface;

const FORM: &str = "application/x-www-form-urlencoded";
const EXCHANGE: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
const BEARER: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
const JWT: (&str, &str) = ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt");

/// issuer-service as far as the gateway's documents need it.
struct PlayedIssuerService {
    away: Arc<AtomicBool>,
}

#[async_trait]
impl KeySetService for PlayedIssuerService {
    async fn get_json_web_key_set(
        &self,
        request: Request<GetJsonWebKeySetRequest>,
    ) -> Result<Response<GetJsonWebKeySetResponse>, Status> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        assert_eq!(request.into_inner().issuer_url, GATEWAY);
        Ok(Response::new(GetJsonWebKeySetResponse {
            json_web_key_set: br#"{"keys":[]}"#.as_slice().into(),
            etag: "\"abc\"".to_owned(),
            max_age: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
            ..Default::default()
        }))
    }

    async fn get_open_id_configuration(
        &self,
        _: Request<GetOpenIdConfigurationRequest>,
    ) -> Result<Response<GetOpenIdConfigurationResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

/// A gateway in a world that fails on request, on a real port.
struct Gateway {
    world: World,
    address: SocketAddr,
    http: reqwest::Client,
    issuer_service_away: Arc<AtomicBool>,
    shutdown: Shutdown,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Gateway {
    async fn new() -> Self {
        Self::with_issuer_service_away(false).await
    }

    async fn with_issuer_service_away(away: bool) -> Self {
        let world = World::new();
        let pipeline = world.pipeline();
        Self::of(world, pipeline, away).await
    }

    async fn of(world: World, pipeline: Pipeline, away: bool) -> Self {
        let shutdown = Shutdown::new();
        let issuer_service_away = Arc::new(AtomicBool::new(away));
        let (issuer_listeners, issuer_service) = Listeners::in_process();
        let played = PlayedIssuerService { away: Arc::clone(&issuer_service_away) };
        Server::new("issuer-service")
            .internal(Surface::new().grpc(KeySetServiceServer::new(played)))
            .start(issuer_listeners, shutdown.clone())
            .unwrap();
        let channel = PeerChannel::new("issuer-service", PeerAddress::InProcess(issuer_service.internal));
        let (keeper, key_set) = KeySetKeeper::new(channel, gateway_url());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Server::new("exchange-gateway")
            .public(surface(pipeline, &gateway_url(), key_set))
            .task("keep the key set", keeper.run())
            .start(
                Listeners { public: Listener::Tcp(listener), internal: None, private: None, admission: Admission::default() },
                shutdown.clone(),
            )
            .unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { world, address, http, issuer_service_away, shutdown }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn send(&self, method: Method, path: &str, content_type: Option<&str>, body: impl Into<String>) -> Answer {
        let mut request = self.http.request(method, self.url(path)).body(body.into());
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    /// Posts a form to the token endpoint.
    async fn post(&self, parameters: &[(&str, &str)]) -> Answer {
        self.send(Method::POST, "/oauth2/token", Some(FORM), form(parameters)).await
    }

    /// Posts an otherwise valid token exchange.
    async fn exchange(&self, more: &[(&str, &str)]) -> Answer {
        let token = self.world.token();
        let mut parameters = vec![EXCHANGE, JWT, ("subject_token", &token)];
        parameters.extend(more);
        self.post(&parameters).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, "").await
    }

    async fn grpc(&self, request: ExchangeTokenRequest) -> Result<countersign_proto::exchange_v1::ExchangeTokenResponse, Status> {
        let channel = PeerChannel::new("exchange-gateway", PeerAddress::plain(&self.url("")).unwrap());
        ExchangeServiceClient::new(channel).exchange_token(request).await.map(Response::into_inner)
    }

    /// The claims that were signed last.
    fn signed(&self) -> Value {
        let signed = self.world.signer.signed.lock().unwrap();
        serde_json::from_slice(&signed.last().unwrap().claims_json).unwrap()
    }
}

fn form(parameters: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

fn request(token: String) -> ExchangeTokenRequest {
    ExchangeTokenRequest {
        subject_token: token,
        workspace_id: String::new(),
        trust_relationship_id: String::new(),
        audiences: vec![],
        scopes: vec![],
        duration: None,
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Value,
}

impl Answer {
    async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        Self { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// RFC 6749, section 5.2, with our reason beside it; never stored.
    #[track_caller]
    fn refused(&self, status: StatusCode, error: &str, reason: Reason) {
        assert_eq!(
            (self.status, &self.body["error"], &self.body["error_reason"]),
            (status, &json!(error), &json!(wire_name(reason))),
            "{:?}",
            self.body
        );
        assert!(self.body["error_description"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(self.header(header::CONTENT_TYPE), Some("application/json"));
        self.not_stored();
    }

    #[track_caller]
    fn violates(&self, fields: &[&str]) {
        self.refused(StatusCode::BAD_REQUEST, "invalid_request", Reason::InvalidRequest);
        self.names(fields);
    }

    #[track_caller]
    fn names(&self, fields: &[&str]) {
        let mut found: Vec<&str> =
            self.body["violations"].as_array().unwrap().iter().map(|violation| violation["field"].as_str().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, fields);
    }

    #[track_caller]
    fn not_stored(&self) {
        assert_eq!(self.header(header::CACHE_CONTROL), Some("no-store"));
    }
}

#[tokio::test]
async fn s64_a_token_exchange_answers_as_rfc_8693_says() {
    let gateway = Gateway::new().await;
    let answer = gateway.exchange(&[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.not_stored();
    assert_eq!(
        answer.body,
        json!({
            "access_token": SIGNED,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3600,
            "scope": "deploy read",
        })
    );
}

#[tokio::test]
async fn the_jwt_bearer_grant_runs_the_same_pipeline() {
    let gateway = Gateway::new().await;
    let token = gateway.world.token();
    let answer = gateway.post(&[BEARER, ("assertion", &token), ("scope", "read")]).await;
    assert_eq!((answer.status, &answer.body["scope"]), (StatusCode::OK, &json!("read")));
    // RFC 7523 and RFC 8693 name a bad token differently.
    let again = gateway.post(&[BEARER, ("assertion", &token)]).await;
    again.refused(StatusCode::BAD_REQUEST, "invalid_grant", Reason::SubjectTokenReplayed);
    let exchange = gateway.exchange(&[]).await;
    exchange.refused(StatusCode::BAD_REQUEST, "invalid_request", Reason::SubjectTokenReplayed);
}

#[tokio::test]
async fn s55_scope_and_audience_narrow() {
    let gateway = Gateway::new().await;
    let answer = gateway.exchange(&[("scope", "read admin"), ("audience", "gateway.example")]).await;
    assert_eq!((answer.status, &answer.body["scope"]), (StatusCode::OK, &json!("read")));
    assert_eq!(gateway.signed()["aud"], GATEWAY);
    let answer = gateway.exchange(&[("scope", "admin")]).await;
    answer.refused(StatusCode::BAD_REQUEST, "invalid_scope", Reason::NothingGranted);
    for target in [("audience", "https://elsewhere.example"), ("resource", "https://elsewhere.example/")] {
        let answer = gateway.exchange(&[target]).await;
        answer.refused(StatusCode::BAD_REQUEST, "invalid_target", Reason::TargetNotGranted);
    }
}

#[tokio::test]
async fn an_audience_below_the_gateways_url_names_workspace_and_relationship() {
    let gateway = Gateway::new().await;
    let address = format!("{GATEWAY}/workspaces/{}/trust-relationships/{}", workspace_id(), relationship_id());
    assert_eq!(gateway.exchange(&[("audience", &address)]).await.status, StatusCode::OK);
    let elsewhere = format!("{GATEWAY}/workspaces/{}", other_workspace_id());
    let answer = gateway.exchange(&[("audience", &elsewhere)]).await;
    answer.refused(StatusCode::BAD_REQUEST, "invalid_request", Reason::SubjectTokenNotTrusted);
    let other = countersign_domain::values::id::TrustRelationshipId::from_random([9; 16]);
    let malformed = |answer: Answer| {
        answer.refused(StatusCode::BAD_REQUEST, "invalid_target", Reason::InvalidTarget);
        answer.names(&["audience"]);
    };
    for wrong in ["/workspaces/", "/workspaces/ws_1", "/x", "/workspaces/a/b", "/"] {
        malformed(gateway.exchange(&[("audience", &format!("{GATEWAY}{wrong}"))]).await);
    }
    malformed(gateway.exchange(&[("audience", &address), ("audience", &elsewhere)]).await);
    malformed(gateway.exchange(&[("audience", &address), ("client_id", other.as_str())]).await);
}

#[tokio::test]
async fn s28_client_id_names_the_relationship_that_alone_decides() {
    let gateway = Gateway::new().await;
    let answer = gateway.exchange(&[("client_id", relationship_id().as_str())]).await;
    assert_eq!(answer.status, StatusCode::OK);
    let other = countersign_domain::values::id::TrustRelationshipId::from_random([9; 16]);
    let refused = gateway.exchange(&[("client_id", other.as_str())]).await;
    refused.refused(StatusCode::BAD_REQUEST, "invalid_client", Reason::InvalidClient);
    for unknown in ["client", "ws_1", workspace_id().as_str(), "tr_", "tr_1", " "] {
        let answer = gateway.exchange(&[("client_id", unknown)]).await;
        answer.refused(StatusCode::BAD_REQUEST, "invalid_client", Reason::InvalidClient);
        answer.names(&["client_id"]);
    }
}

#[tokio::test]
async fn token_types_other_than_ours_are_refused() {
    let gateway = Gateway::new().await;
    let token = gateway.world.token();
    let access_token = "urn:ietf:params:oauth:token-type:access_token";
    for kind in [access_token, "urn:ietf:params:oauth:token-type:saml2", "jwt"] {
        let answer = gateway.post(&[EXCHANGE, ("subject_token", &token), ("subject_token_type", kind)]).await;
        assert_eq!(answer.body["error_reason"], wire_name(Reason::UnsupportedTokenType), "{kind}");
    }
    let refresh = gateway.exchange(&[("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")]).await;
    assert_eq!(refresh.body["error_reason"], wire_name(Reason::UnsupportedTokenType));
    let jwt = gateway.exchange(&[("requested_token_type", "urn:ietf:params:oauth:token-type:jwt")]).await;
    assert_eq!(jwt.body["issued_token_type"], "urn:ietf:params:oauth:token-type:jwt");
    let id_token = gateway.world.issuer_key.sign(&gateway.world.claims().with("jti", "t-2"));
    let kind = ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token");
    assert_eq!(gateway.post(&[EXCHANGE, ("subject_token", &id_token), kind]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn s65_every_violation_is_named_at_once() {
    let gateway = Gateway::new().await;
    let answer = gateway
        .post(&[
            EXCHANGE,
            ("audience", "a\u{7}"),
            ("scope", "\u{e9}"),
            ("actor_token", "y"),
            ("resource", "z"),
            ("requested_expires_in", "soon"),
            ("authorization_details", "[]"),
        ])
        .await;
    answer.violates(&[
        "actor_token",
        "audience",
        "authorization_details",
        "requested_expires_in",
        "resource",
        "scope",
        "subject_token_type",
    ]);
    gateway.post(&[("subject_token", "x")]).await.violates(&["grant_type"]);
    let unknown = gateway.post(&[("grant_type", "password")]).await;
    unknown.refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", Reason::UnsupportedGrantType);
    let missing = gateway.post(&[EXCHANGE, JWT]).await;
    missing.refused(StatusCode::BAD_REQUEST, "invalid_request", Reason::SubjectTokenMissing);
}

#[tokio::test]
async fn s65_duplicate_parameters_are_refused() {
    let gateway = Gateway::new().await;
    for name in ["grant_type", "subject_token", "subject_token_type", "requested_token_type", "client_id", "scope", "assertion"] {
        let answer = gateway.exchange(&[(name, "x"), (name, "y")]).await;
        let violations = answer.body["violations"].as_array().cloned().unwrap_or_default();
        let named = violations.iter().any(|violation| violation["field"] == name);
        // A second value of these is refused for what it is even before it is refused for being a second one.
        let by_value = ["grant_type", "subject_token_type", "requested_token_type"].contains(&name);
        assert!(named || by_value, "{name}: {:?}", answer.body);
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
    }
    // A parameter without a value counts as absent.
    assert_eq!(gateway.exchange(&[("scope", ""), ("scope", "read"), ("client_id", "")]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn s65_get_is_refused() {
    let gateway = Gateway::new().await;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = gateway.send(method.clone(), "/oauth2/token", None, "").await;
        answer.refused(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", Reason::InvalidRequest);
        assert_eq!(answer.header(header::ALLOW), Some("POST"), "{method}");
    }
}

#[tokio::test]
async fn s65_another_content_type_is_refused() {
    let gateway = Gateway::new().await;
    let token = gateway.world.token();
    let body = form(&[EXCHANGE, JWT, ("subject_token", &token)]);
    for content_type in [None, Some("application/json"), Some("text/plain"), Some("application/x-www-form-urlencoded2")] {
        let answer = gateway.send(Method::POST, "/oauth2/token", content_type, body.clone()).await;
        answer.violates(&["Content-Type"]);
    }
    for content_type in ["application/x-www-form-urlencoded; charset=utf-8", "Application/X-WWW-Form-Urlencoded"] {
        let claims = gateway.world.claims().with("jti", content_type);
        let token = gateway.world.issuer_key.sign(&claims);
        let body = form(&[EXCHANGE, JWT, ("subject_token", &token)]);
        assert_eq!(gateway.send(Method::POST, "/oauth2/token", Some(content_type), body).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn s65_tokens_in_the_query_are_refused() {
    let gateway = Gateway::new().await;
    let token = gateway.world.token();
    let path = format!("/oauth2/token?subject_token={token}");
    let answer = gateway.send(Method::POST, &path, Some(FORM), form(&[EXCHANGE, JWT])).await;
    answer.violates(&["query"]);
    assert!(!answer.body.to_string().contains(&token));
}

#[tokio::test]
async fn s65_a_body_over_64_kib_is_refused() {
    let gateway = Gateway::new().await;
    let long = "a".repeat(65 * 1024);
    let answer = gateway.exchange(&[("ignored", &long)]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    answer.not_stored();
    let fits = "a".repeat(50 * 1024);
    assert_eq!(gateway.exchange(&[("ignored", &fits)]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn s64_every_answer_of_the_token_endpoint_is_not_stored() {
    let gateway = Gateway::new().await;
    let world = &gateway.world;
    gateway.exchange(&[]).await.not_stored();
    gateway.exchange(&[]).await.not_stored();
    gateway.post(&[]).await.not_stored();
    world.keys.fail();
    let unavailable = gateway.exchange(&[]).await;
    assert_eq!(unavailable.body["error_reason"], wire_name(Reason::TemporarilyUnavailable));
    assert_eq!(unavailable.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(unavailable.header(header::RETRY_AFTER).is_some());
    unavailable.not_stored();
}

#[tokio::test]
async fn s63_the_same_answer_over_http_whatever_failed_before_the_signature() {
    let gateway = Gateway::new().await;
    let world = &gateway.world;
    let stranger = countersign_testkit::signer::Signer::new(countersign_jose::SignatureAlgorithm::Es256, "key-1");
    let elsewhere = format!("{GATEWAY}/workspaces/{}", other_workspace_id());
    let here = format!("{GATEWAY}/workspaces/{}", workspace_id());
    let unregistered = world.issuer_key.sign(&world.claims().with("iss", "https://nobody.example"));
    let forged = stranger.sign(&world.claims());
    let mut answers = vec![gateway.exchange(&[("audience", &elsewhere)]).await];
    for (token, audience) in [(&unregistered, &here), (&unregistered, &elsewhere), (&forged, &here)] {
        answers.push(gateway.post(&[EXCHANGE, JWT, ("subject_token", token), ("audience", audience)]).await);
    }
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (answers[0].status, &answers[0].body));
        assert_eq!(answer.body["error_reason"], wire_name(Reason::SubjectTokenNotTrusted));
    }
}

#[tokio::test]
async fn grpc_exchanges_through_the_same_pipeline() {
    let gateway = Gateway::new().await;
    let response = gateway.grpc(request(gateway.world.token())).await.unwrap();
    assert_eq!(response.access_token, SIGNED);
    assert_eq!(response.workspace_id, workspace_id().as_str());
    assert_eq!(response.trust_relationship_id, relationship_id().as_str());
    assert_eq!((response.scopes, response.audiences), (vec!["deploy".to_owned(), "read".to_owned()], vec![GATEWAY.to_owned()]));
    assert_eq!(response.workspace_display_name, "Acme");
    assert!(response.expire_time.is_some());
    let refused = gateway.grpc(request(gateway.world.token())).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, Reason::SubjectTokenReplayed);
    // Over HTTP it is the same token.
    assert_eq!(gateway.exchange(&[]).await.body["error_reason"], wire_name(Reason::SubjectTokenReplayed));
}

#[tokio::test]
async fn grpc_names_every_violation() {
    let gateway = Gateway::new().await;
    let status = gateway
        .grpc(ExchangeTokenRequest {
            workspace_id: "x".to_owned(),
            trust_relationship_id: "y".to_owned(),
            audiences: vec!["ok".to_owned(), "\n".to_owned()],
            scopes: vec!["two words".to_owned()],
            duration: Some(prost_types::Duration { seconds: 0, nanos: 5 }),
            ..request(String::new())
        })
        .await
        .unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&status), ["audiences[1]", "duration", "scopes[0]", "trust_relationship_id", "workspace_id"]);
}

#[tokio::test]
async fn s72_a_list_of_wishes_that_is_too_long_is_complained_of_once() {
    let gateway = Gateway::new().await;
    let many = ExchangeTokenRequest {
        audiences: vec![String::new(); 16_000],
        scopes: vec![String::new(); 16_000],
        ..request(String::new())
    };
    let status = gateway.grpc(many).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&status), ["audiences", "scopes"]);
    let scopes = "\u{e9} ".repeat(65);
    let mut form = vec![("audience", "\u{7}"); 2_000];
    form.extend([("resource", "x"); 65]);
    form.extend([("scope", scopes.as_str()), ("client_id", ""), ("client_id", "y"), ("client_id", "z"), ("client_id", "z")]);
    let answer = gateway.exchange(&form).await;
    answer.refused(StatusCode::BAD_REQUEST, "invalid_client", Reason::InvalidClient);
    answer.names(&["audience", "client_id", "client_id", "resource", "scope"]);
}

#[tokio::test]
async fn s84_the_longest_refusal_fits_what_clients_read() {
    let gateway = Gateway::new().await;
    let wrong = "é".repeat(129);
    let most = ExchangeTokenRequest { audiences: vec![String::new(); 64], scopes: vec![wrong; 64], ..request(String::new()) };
    let status = gateway.grpc(most).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    // What does not fit is counted.
    let left_out = tonic_types::StatusExt::get_details_error_info(&status).unwrap().metadata["violations_left_out"]
        .parse::<usize>()
        .unwrap();
    assert_eq!(violated_fields(&status).len() + left_out, countersign_domain::values::violation::Violations::MAX);
    assert!(status.details().len() <= 3 * 1024, "{}", status.details().len());
}

#[tokio::test]
async fn grpc_codes_follow_the_reasons() {
    let gateway = Gateway::new().await;
    let world = &gateway.world;
    let sign = |name: &str, value: Value| world.issuer_key.sign(&world.claims().with(name, value));
    let now = countersign_domain::values::time::Clock::now(&world.clock).as_second();
    let cases = [
        (String::new(), Code::Unauthenticated, Reason::SubjectTokenMissing),
        ("x".to_owned(), Code::Unauthenticated, Reason::SubjectTokenMalformed),
        (sign("iss", json!("https://nobody.example")), Code::Unauthenticated, Reason::SubjectTokenNotTrusted),
        (sign("nbf", json!(now + 60)), Code::Unauthenticated, Reason::SubjectTokenNotYetValid),
        (sign("aud", json!("https://other.example")), Code::Unauthenticated, Reason::SubjectTokenAudienceMismatch),
        (sign("sub", json!("org:other")), Code::PermissionDenied, Reason::SubjectNotTrusted),
    ];
    for (token, code, reason) in cases {
        let status = gateway.grpc(request(token)).await.unwrap_err();
        let info = tonic_types::StatusExt::get_error_details(&status).error_info().cloned().unwrap();
        assert_eq!(info.reason, wire_name(reason));
        assert!(status.code() == code || reason == Reason::SubjectTokenMissing, "{reason:?}: {:?}", status.code());
    }
    world.policies.set(policy(8, vec![relationship("org:other")]));
    let status = gateway.grpc(request(gateway.world.token())).await.unwrap_err();
    assert_refused(&status, Code::PermissionDenied, Reason::SubjectNotTrusted);
}

#[tokio::test]
async fn the_metadata_leads_to_endpoint_and_keys() {
    let gateway = Gateway::new().await;
    let answer = gateway.get("/.well-known/oauth-authorization-server").await;
    assert_eq!((answer.status, answer.header(header::CONTENT_TYPE)), (StatusCode::OK, Some("application/json")));
    assert_eq!(answer.body["issuer"], GATEWAY);
    assert_eq!(answer.body["token_endpoint"], format!("{GATEWAY}/oauth2/token"));
    assert_eq!(answer.body["jwks_uri"], format!("{GATEWAY}/.well-known/jwks.json"));
    assert_eq!(answer.body["grant_types_supported"], json!([EXCHANGE.1, BEARER.1]));
    assert_eq!(answer.body["response_types_supported"], json!([]));
}

#[tokio::test]
async fn s60_the_key_set_is_cacheable_and_outlives_issuer_service() {
    let gateway = Gateway::new().await;
    let answer = gateway.get("/.well-known/jwks.json").await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &json!({"keys": []})));
    assert_eq!(answer.header(header::CONTENT_TYPE), Some("application/jwk-set+json"));
    assert_eq!(answer.header(header::ETAG), Some("\"abc\""));
    let max_age: u64 = answer.header(header::CACHE_CONTROL).unwrap().strip_prefix("public, max-age=").unwrap().parse().unwrap();
    assert!((590..=600).contains(&max_age), "{max_age}");
    gateway.issuer_service_away.store(true, Ordering::SeqCst);
    for (etag, status) in [("\"abc\"", 304), ("W/\"abc\"", 304), ("\"x\", \"abc\"", 304), ("*", 304), ("\"ab\"", 200)] {
        let request = gateway.http.get(gateway.url("/.well-known/jwks.json")).header(header::IF_NONE_MATCH, etag);
        assert_eq!(request.send().await.unwrap().status(), status, "{etag}");
    }
}

#[tokio::test]
async fn the_key_set_is_unavailable_until_it_was_had_once() {
    let gateway = Gateway::with_issuer_service_away(true).await;
    let answer = gateway.get("/.well-known/jwks.json").await;
    answer.refused(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", Reason::TemporarilyUnavailable);
    gateway.issuer_service_away.store(false, Ordering::SeqCst);
    until("the key set is had", || async { gateway.get("/.well-known/jwks.json").await.status == StatusCode::OK }).await;
}
