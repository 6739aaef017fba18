//! A service whose answers a test chooses, served over in-process channels, and clients for it.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use axum::Router;
use axum::routing::{get, post};
use countersign_jose::Signer as _;
use countersign_jose::{KeySet, SigningKey};
use countersign_proto::issuer_v1::key_set_service_client::KeySetServiceClient;
use countersign_proto::issuer_v1::key_set_service_server::{KeySetService, KeySetServiceServer};
use countersign_proto::issuer_v1::{
    GetJsonWebKeySetRequest, GetJsonWebKeySetResponse, GetOpenIdConfigurationRequest, GetOpenIdConfigurationResponse,
};
use countersign_proto::status::Refusal;
use countersign_runtime::auth::{Authenticator, KeySource};
use countersign_runtime::client::{PeerAddress, PeerChannel};
use countersign_runtime::context::{self, RequestContext};
use countersign_runtime::health::Readiness;
use countersign_runtime::secret::BootstrapToken;
use countersign_runtime::server::{Limits, Running, Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::{InProcessConnectors, Listeners};
use http_body_util::BodyExt as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::{Notify, Semaphore};
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tracing_subscriber::layer::SubscriberExt as _;

/// Every span of this process has a place in a trace. Set up for all tests before any of them serves: what a span's callsite
/// once heard from a process without a subscriber it may remember for good.
static TRACED: LazyLock<()> = LazyLock::new(|| {
    let tracer = SdkTracerProvider::builder().build().tracer("test");
    let subscriber = tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
    tracing::subscriber::set_global_default(subscriber).unwrap();
});

pub(crate) const BOOTSTRAP_TOKEN: &str = "a-bootstrap-token-of-more-than-32-characters";

/// Does what the request's `issuer_url` says.
#[derive(Debug)]
pub(crate) struct Obedient {
    /// Counts requests that hang.
    pub(crate) entered: Semaphore,
    /// Lets the requests that hang go on.
    pub(crate) release: Notify,
}

pub(crate) struct Shared(pub(crate) Arc<Obedient>);

#[tonic::async_trait]
impl KeySetService for Shared {
    async fn get_json_web_key_set(
        &self,
        request: Request<GetJsonWebKeySetRequest>,
    ) -> Result<Response<GetJsonWebKeySetResponse>, Status> {
        let answer =
            |text: String| Ok(Response::new(GetJsonWebKeySetResponse { json_web_key_set: text.into(), ..Default::default() }));
        match request.get_ref().issuer_url.as_str() {
            "answer" => answer("done".to_owned()),
            "panic" => panic!("as told"),
            "hang" => {
                self.0.entered.add_permits(1);
                self.0.release.notified().await;
                answer("late".to_owned())
            }
            "slip" => Err(Status::internal("the database at 10.0.0.7 said no")),
            "request id" => {
                let context = request.extensions().get::<RequestContext>().unwrap();
                assert_eq!(context.request_id, context::current().unwrap().request_id);
                answer(context.request_id.to_string())
            }
            "header" => {
                let header = request.metadata().get("traceparent").map(|value| value.to_str().unwrap().to_owned());
                answer(header.unwrap_or_default())
            }
            "trace id" => {
                use opentelemetry::trace::TraceContextExt as _;
                use tracing_opentelemetry::OpenTelemetrySpanExt as _;
                answer(tracing::Span::current().context().span().span_context().trace_id().to_string())
            }
            other => Err(Refusal::not_found("Issuer", other).into()),
        }
    }

    async fn get_open_id_configuration(
        &self,
        _: Request<GetOpenIdConfigurationRequest>,
    ) -> Result<Response<GetOpenIdConfigurationResponse>, Status> {
        Err(Refusal::invalid_field("issuer_url", "must be given").into())
    }
}

/// Answers every method of a service with an empty message.
macro_rules! anything {
    ($($type:ident = $name:literal;)+) => {$(
        #[derive(Clone)]
        pub(crate) struct $type;

        impl NamedService for $type {
            const NAME: &'static str = $name;
        }

        impl tower::Service<http::Request<tonic::body::Body>> for $type {
            type Response = http::Response<tonic::body::Body>;
            type Error = Infallible;
            type Future = std::future::Ready<Result<Self::Response, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, _: http::Request<tonic::body::Body>) -> Self::Future {
                std::future::ready(Ok(Status::ok("").into_http()))
            }
        }
    )+

        pub(crate) fn add_anything(surface: Surface) -> Surface {
            surface$(.grpc($type))+
        }
    };
}

anything! {
    Exchange = "countersign.exchange.v1.ExchangeService";
    AccessTokens = "countersign.issuer.v1.AccessTokenService";
    Audit = "countersign.trust.v1.AuditService";
    AuditLog = "countersign.trust.v1.AuditLogService";
    Commit = "countersign.trust.v1.CommitService";
    Policy = "countersign.trust.v1.PolicyService";
    IssuerHealth = "countersign.trust.v1.IssuerHealthService";
    WorkspaceStates = "countersign.trust.v1.WorkspaceStateService";
    ReachableScopes = "countersign.trust.v1.ReachableScopeService";
    Tokens = "countersign.issuer.v1.TokenService";
    Issuers = "countersign.issuer.v1.IssuerService";
    SigningKeys = "countersign.issuer.v1.SigningKeyService";
    Workspaces = "countersign.trust.v1.WorkspaceService";
    TrustedIssuers = "countersign.trust.v1.TrustedIssuerService";
    TrustRelationships = "countersign.trust.v1.TrustRelationshipService";
}

/// A running service.
pub(crate) struct Service {
    pub(crate) obedient: Arc<Obedient>,
    pub(crate) connectors: InProcessConnectors,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: Running,
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::start_with(Limits::default(), bootstrap())
    }

    pub(crate) fn start_with(limits: Limits, authenticator: Authenticator) -> Self {
        let (listeners, connectors) = Listeners::in_process();
        Self::start_on(listeners, connectors, limits, authenticator)
    }

    pub(crate) fn start_on(
        listeners: Listeners,
        connectors: InProcessConnectors,
        limits: Limits,
        authenticator: Authenticator,
    ) -> Self {
        LazyLock::force(&TRACED);
        let obedient = Arc::new(Obedient { entered: Semaphore::new(0), release: Notify::new() });
        let surface = || add_anything(Surface::new()).grpc(KeySetServiceServer::new(Shared(Arc::clone(&obedient))));
        let http = Router::new()
            .route("/answer", get(async || "done"))
            .route("/panic", get(async || -> &'static str { panic!("as told") }))
            .route("/length", post(async |body: axum::body::Bytes| body.len().to_string()));
        let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
        let running = Server::new("test-service")
            .authenticator(authenticator)
            .readiness(readiness.clone())
            .limits(limits)
            .gauge("answer", "What was computed", || 42)
            .gauge_by("answers", "What was computed, by method", "method", || vec![("guess", 41), ("sum", 42)])
            .public(surface().http(http))
            .internal(surface())
            .start(listeners, shutdown.clone())
            .unwrap();
        Self { obedient, connectors, readiness, shutdown, running }
    }

    pub(crate) fn public(&self) -> PeerChannel {
        PeerChannel::new("test-service", PeerAddress::InProcess(self.connectors.public.clone()))
    }

    pub(crate) fn internal(&self) -> PeerChannel {
        PeerChannel::new("test-service", PeerAddress::InProcess(self.connectors.internal.clone()))
    }

    /// Asks the key set service on the public surface.
    pub(crate) async fn ask(&self, what: &str) -> Result<Response<GetJsonWebKeySetResponse>, Status> {
        ask(self.public(), what).await
    }

    /// A plain HTTP request to the public surface, over HTTP/1.1.
    pub(crate) async fn http(&self, request: http::Request<String>) -> http::Response<String> {
        let stream = self.connectors.public.connect().await.unwrap();
        let (mut client, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response = client.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        http::Response::from_parts(parts, String::from_utf8(bytes.to_vec()).unwrap())
    }
}

pub(crate) async fn ask(channel: PeerChannel, what: &str) -> Result<Response<GetJsonWebKeySetResponse>, Status> {
    KeySetServiceClient::new(channel).get_json_web_key_set(GetJsonWebKeySetRequest { issuer_url: what.to_owned() }).await
}

pub(crate) fn text(response: Response<GetJsonWebKeySetResponse>) -> String {
    String::from_utf8(response.into_inner().json_web_key_set.to_vec()).unwrap()
}

pub(crate) fn bootstrap() -> Authenticator {
    Authenticator::new().with_bootstrap_token(Some(BootstrapToken::new(BOOTSTRAP_TOKEN).unwrap()))
}

/// Calls any method with an empty message and these headers; the status it ends with.
pub(crate) async fn call(channel: PeerChannel, path: &str, headers: &[(&str, &str)]) -> Status {
    // Not compressed, no bytes.
    call_with(channel, path, headers, &[0, 0, 0, 0, 0]).await
}

/// Calls any method with this body.
pub(crate) async fn call_with(channel: PeerChannel, path: &str, headers: &[(&str, &str)], body: &'static [u8]) -> Status {
    let mut request = http::Request::post(format!("http://test{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = tonic::body::Body::new(http_body_util::Full::new(bytes::Bytes::from_static(body)));
    let response = tower::ServiceExt::oneshot(channel, request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers) {
        return status;
    }
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    Status::from_header_map(&trailers).unwrap_or_else(|| Status::unknown("no status"))
}

/// Keys of which only some are given out until somebody asks for an unknown one.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) first: Option<Arc<KeySet>>,
    pub(crate) refreshed: Option<Arc<KeySet>>,
    pub(crate) refreshes: std::sync::atomic::AtomicUsize,
}

impl Keys {
    pub(crate) fn of(keys: &[&SigningKey]) -> Arc<KeySet> {
        let documents: Vec<serde_json::Value> = keys.iter().map(|key| serde_json::to_value(key.public_jwk()).unwrap()).collect();
        Arc::new(KeySet::parse(serde_json::json!({ "keys": documents }).to_string().as_bytes()).unwrap())
    }

    pub(crate) fn known(keys: &[&SigningKey]) -> Arc<Self> {
        let set = Self::of(keys);
        Arc::new(Self { first: Some(Arc::clone(&set)), refreshed: Some(set), ..Self::default() })
    }
}

#[async_trait::async_trait]
impl KeySource for Keys {
    async fn key_set(&self, unknown_key: bool) -> Option<Arc<KeySet>> {
        if unknown_key {
            self.refreshes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return self.refreshed.clone();
        }
        self.first.clone()
    }
}
