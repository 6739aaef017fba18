//! A running service, and clients of it.

use std::sync::Arc;
use std::time::Duration;

use countersign_domain::issuing::issuer::{HostBase, KeyCustody};
use countersign_domain::values::id::{IssuerId, TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_jose::KeyDevice;
use countersign_jose::sealed::{KeyEncryptionKey, KeyEncryptionKeys};
use countersign_jose::secret::DeploymentSecret;
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::access_token_service_client::AccessTokenServiceClient;
use countersign_proto::issuer_v1::issuer_service_client::IssuerServiceClient;
use countersign_proto::issuer_v1::key_set_service_client::KeySetServiceClient;
use countersign_proto::issuer_v1::signing_key_service_client::SigningKeyServiceClient;
use countersign_proto::issuer_v1::token_service_client::TokenServiceClient;
use countersign_runtime::ambient::SystemEntropy;
use countersign_runtime::client::{PeerAddress, PeerChannel};
use countersign_runtime::secret::BootstrapToken;
use countersign_runtime::server::Running;
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::{Admission, InProcess, Listener, Listeners};
use countersign_store::issuer::{IssuerQuotas, SeaIssuerStore};
use countersign_testkit::clock::TestClock;
use countersign_testkit::postgres::Postgres;
use issuer_service::{Config, Deps, ExportTarget};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use crate::trust_service::PlayedTrustService;

pub(crate) const BASE: &str = "http://localhost:7401";
pub(crate) const HOST_BASE: &str = "https://id.example.net";
pub(crate) const GATEWAY: &str = "http://localhost:7403";
pub(crate) const BOOTSTRAP: &str = "bootstrap-token-of-these-tests-0001";
/// What a new key waits for before it signs: max-age and staleness limit.
pub(crate) const LEAD: Duration = Duration::from_mins(5 + 15);

/// Where a service keeps its things, so that a second one can be started on them.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) url: String,
    pub(crate) clock: TestClock,
    pub(crate) key_encryption_key: [u8; 32],
    /// Those that only open.
    pub(crate) other_key_encryption_keys: Vec<[u8; 32]>,
    pub(crate) key_set_max_age: Duration,
    pub(crate) staleness_limit: Duration,
    pub(crate) quotas: IssuerQuotas,
    /// Keeps the keys of issuers that ask for it.
    pub(crate) key_device: Option<Arc<dyn KeyDevice>>,
    pub(crate) access_token_key_custody: KeyCustody,
    /// Where documents are exported to.
    pub(crate) export: Option<String>,
    /// The trust-service of every service on this ground.
    pub(crate) trust: PlayedTrustService,
    pub(crate) workspace_staleness_limit: Duration,
    /// Removed when neither the ground nor a service on it is left.
    pub(crate) folder: Option<Arc<tempfile::TempDir>>,
}

impl Ground {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("issuer.db").display());
        Self { folder: Some(Arc::new(folder)), ..Self::at(url) }
    }

    pub(crate) async fn postgres() -> Self {
        Self::at(tokio::task::spawn_blocking(|| Postgres::shared().database()).await.unwrap())
    }

    pub(crate) fn at(url: String) -> Self {
        Self {
            url,
            clock: TestClock::system(),
            key_encryption_key: [7; 32],
            other_key_encryption_keys: Vec::new(),
            key_set_max_age: Config::DEFAULT_KEY_SET_MAX_AGE,
            staleness_limit: Config::DEFAULT_STALENESS_LIMIT,
            quotas: IssuerQuotas::default(),
            key_device: None,
            access_token_key_custody: KeyCustody::Sealed,
            export: None,
            trust: PlayedTrustService::with_active(1..=9),
            workspace_staleness_limit: countersign_domain::trust::workspace::STATE_STALENESS_LIMIT,
            folder: None,
        }
    }

    /// Runs SQL behind the service's back.
    pub(crate) async fn execute(&self, sql: &str) {
        let database = self.url.rsplit('/').next().unwrap().to_owned();
        let sql = format!("SET search_path TO countersign_issuer; {sql}");
        tokio::task::spawn_blocking(move || Postgres::shared().execute(&database, &sql)).await.unwrap();
    }

    fn key_encryption_keys(&self) -> KeyEncryptionKeys {
        let key = |bytes: &[u8; 32]| KeyEncryptionKey::from_bytes(bytes).unwrap();
        KeyEncryptionKeys::new(key(&self.key_encryption_key), self.other_key_encryption_keys.iter().map(key).collect())
    }

    pub(crate) async fn start(&self) -> Service {
        self.try_start().await.unwrap()
    }

    pub(crate) async fn try_start(&self) -> anyhow::Result<Service> {
        // What a service says is shown with the test that fails.
        let _ = tracing_subscriber::fmt().with_env_filter("warn").with_test_writer().try_init();
        let mut config = Config::new(BASE.parse().unwrap(), GATEWAY.parse().unwrap());
        config.loopback_http = LoopbackHttp::Allowed;
        config.key_set_max_age = self.key_set_max_age;
        config.staleness_limit = self.staleness_limit;
        config.host_base = Some(HostBase::parse(HOST_BASE, LoopbackHttp::Refused).unwrap());
        config.access_token_key_custody = self.access_token_key_custody;
        config.workspace_staleness_limit = self.workspace_staleness_limit;
        let shutdown = Shutdown::new();
        let deps = Deps {
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SystemEntropy),
            store: Arc::new(SeaIssuerStore::open(&self.url.parse().unwrap()).await.unwrap().with_quotas(self.quotas)),
            trust_service: self.trust.serve(&shutdown),
            key_encryption_keys: self.key_encryption_keys(),
            key_device: self.key_device.clone(),
            export: self.export.as_ref().map(|url| ExportTarget::parse(url, Vec::new()).unwrap()),
            deployment_secret: DeploymentSecret::from_bytes(&[9; 32]).unwrap(),
            bootstrap_token: Some(BootstrapToken::new(BOOTSTRAP).unwrap()),
        };
        let shown = format!("{deps:?}");
        assert!(!shown.contains("7, 7, 7") && !shown.contains("9, 9, 9") && !shown.contains(BOOTSTRAP), "s61: {shown}");
        let (internal, connector) = InProcess::pair();
        let public = Listener::Tcp(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let private = Listener::Tcp(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let listeners = Listeners { public, internal: Some(internal), private: Some(private), admission: Admission::default() };
        let running = issuer_service::start(config, deps, listeners, shutdown.clone()).await?;
        let address = format!("http://{}", running.addresses().public.unwrap());
        Ok(Service {
            public: PeerChannel::new("issuer-service", PeerAddress::plain(&address).unwrap()),
            internal: PeerChannel::new("issuer-service", PeerAddress::InProcess(connector)),
            address,
            private: format!("http://{}", running.addresses().private.unwrap()),
            credential: BOOTSTRAP.to_owned(),
            running,
            shutdown,
            _folder: self.folder.clone(),
        })
    }
}

/// A running service and a caller of it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) public: PeerChannel,
    pub(crate) internal: PeerChannel,
    /// Of the public port, to be used as the base URL.
    pub(crate) address: String,
    pub(crate) private: String,
    credential: String,
    running: Running,
    shutdown: Shutdown,
    _folder: Option<Arc<tempfile::TempDir>>,
}

impl Service {
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        drop((self.public, self.internal));
        self.running.wait().await.unwrap();
    }

    /// A request with the caller's credential.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        self.request_as(&self.credential, message)
    }

    #[expect(clippy::unused_self, reason = "reads like the rest")]
    pub(crate) fn request_as<T>(&self, credential: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let value: MetadataValue<_> = format!("Bearer {credential}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }

    pub(crate) fn issuers(&self) -> IssuerServiceClient<PeerChannel> {
        IssuerServiceClient::new(self.public.clone())
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<PeerChannel> {
        TokenServiceClient::new(self.public.clone())
    }

    pub(crate) fn signing_keys(&self) -> SigningKeyServiceClient<PeerChannel> {
        SigningKeyServiceClient::new(self.public.clone())
    }

    pub(crate) fn key_sets(&self) -> KeySetServiceClient<PeerChannel> {
        KeySetServiceClient::new(self.public.clone())
    }

    pub(crate) fn access_tokens(&self) -> AccessTokenServiceClient<PeerChannel> {
        AccessTokenServiceClient::new(self.internal.clone())
    }

    pub(crate) async fn create(&self, issuer: wire::Issuer) -> Result<wire::Issuer, Status> {
        let request = self.request(wire::CreateIssuerRequest { issuer: Some(issuer) });
        Ok(self.issuers().create_issuer(request).await?.into_inner().issuer.unwrap())
    }

    /// An `rwx` issuer that signs with ES256.
    pub(crate) async fn rwx(&self, workspace_id: &WorkspaceId) -> wire::Issuer {
        self.create(rwx(workspace_id)).await.unwrap()
    }

    pub(crate) async fn issue(&self, request: wire::IssueIdTokenRequest) -> Result<wire::IssueIdTokenResponse, Status> {
        Ok(self.tokens().issue_id_token(self.request(request)).await?.into_inner())
    }

    pub(crate) async fn key_set(&self, issuer_url: &str) -> Result<Value, Status> {
        let request = wire::GetJsonWebKeySetRequest { issuer_url: issuer_url.to_owned() };
        let answer = self.key_sets().get_json_web_key_set(request).await?.into_inner();
        Ok(serde_json::from_slice(&answer.json_web_key_set).unwrap())
    }

    pub(crate) async fn key_ids(&self, issuer_url: &str) -> Vec<String> {
        key_ids(&self.key_set(issuer_url).await.unwrap())
    }

    pub(crate) async fn list_keys(&self, issuer: &wire::Issuer) -> Vec<wire::SigningKey> {
        let request = wire::ListSigningKeysRequest {
            workspace_id: issuer.workspace_id.clone(),
            issuer_id: issuer.id.clone(),
            ..Default::default()
        };
        self.signing_keys().list_signing_keys(self.request(request)).await.unwrap().into_inner().signing_keys
    }

    /// Asks for the next key. Returns it, and whether it was there already.
    pub(crate) async fn rotate(&self, issuer: &wire::Issuer) -> Result<(wire::SigningKey, bool), Status> {
        let request = wire::RotateSigningKeyRequest {
            workspace_id: issuer.workspace_id.clone(),
            issuer_id: issuer.id.clone(),
            algorithm: issuer.algorithms.first().cloned().unwrap_or_default(),
        };
        let answer = self.signing_keys().rotate_signing_key(self.request(request)).await?.into_inner();
        Ok((answer.signing_key.unwrap(), answer.already_prepared))
    }

    pub(crate) async fn revoke(&self, issuer: &wire::Issuer, key_id: &str) -> Result<wire::RevokeSigningKeyResponse, Status> {
        let request = wire::RevokeSigningKeyRequest {
            workspace_id: issuer.workspace_id.clone(),
            issuer_id: issuer.id.clone(),
            key_id: key_id.to_owned(),
        };
        Ok(self.signing_keys().revoke_signing_key(self.request(request)).await?.into_inner())
    }

    /// One of our own access tokens for this workspace, with these scopes.
    pub(crate) async fn access_token(&self, workspace_id: &WorkspaceId, scope: &str) -> String {
        let mut claims = access_token_claims(workspace_id);
        claims["scope"] = json!(scope);
        match self.sign(&claims, 3600).await {
            wire::signed_access_token::Result::AccessToken(token) => token,
            wire::signed_access_token::Result::Refusal(why) => panic!("{why}"),
        }
    }

    pub(crate) async fn sign(&self, claims: &Value, seconds: i64) -> wire::signed_access_token::Result {
        let item = to_sign(claims, seconds);
        let request = wire::SignAccessTokensRequest { access_tokens: vec![item] };
        let mut answer = self.access_tokens().sign_access_tokens(request).await.unwrap().into_inner();
        assert_eq!(answer.access_tokens.len(), 1);
        answer.access_tokens.remove(0).result.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        http().get(format!("{}{path}", self.address)).send().await.unwrap()
    }

    pub(crate) async fn get_json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }
}

pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub(crate) fn workspace(number: u8) -> WorkspaceId {
    WorkspaceId::from_random([number; 16])
}

pub(crate) fn rwx(workspace_id: &WorkspaceId) -> wire::Issuer {
    wire::Issuer {
        workspace_id: workspace_id.to_string(),
        profile: "rwx".to_owned(),
        algorithms: vec!["ES256".to_owned()],
        ..Default::default()
    }
}

/// A good request to an `rwx` issuer.
pub(crate) fn wish(issuer: &wire::Issuer) -> wire::IssueIdTokenRequest {
    wire::IssueIdTokenRequest {
        workspace_id: issuer.workspace_id.clone(),
        issuer_id: issuer.id.clone(),
        audiences: vec!["sts.amazonaws.com".to_owned()],
        attributes: [("org", "my-org"), ("vault", "deploy-vault")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..Default::default()
    }
}

/// A good request for the caller himself.
pub(crate) fn own_wish(issuer: &wire::Issuer) -> wire::IssueOwnIdTokenRequest {
    wire::IssueOwnIdTokenRequest {
        workspace_id: issuer.workspace_id.clone(),
        issuer_id: issuer.id.clone(),
        audiences: vec!["sts.amazonaws.com".to_owned()],
        ..Default::default()
    }
}

pub(crate) fn access_token_claims(workspace_id: &WorkspaceId) -> Value {
    json!({
        "sub": format!("{workspace_id}/{}/org:my-org", TrustedIssuerId::from_random([4; 16])),
        "aud": GATEWAY,
        "jti": "CQkJCQkJCQkJCQkJCQkJCQ",
        "client_id": TrustRelationshipId::from_random([3; 16]).as_str(),
        "scope": "deploy",
        "workspace_id": workspace_id.as_str(),
    })
}

pub(crate) fn to_sign(claims: &Value, seconds: i64) -> wire::AccessTokenToSign {
    wire::AccessTokenToSign {
        claims_json: serde_json::to_vec(claims).unwrap().into(),
        duration: Some(prost_types::Duration { seconds, nanos: 0 }),
    }
}

pub(crate) fn key_ids(key_set: &Value) -> Vec<String> {
    key_set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn path_of(issuer: &wire::Issuer) -> &str {
    issuer.issuer_url.strip_prefix(BASE).unwrap()
}

/// The deployment's own issuer, as the operator names it.
pub(crate) fn own_issuer() -> wire::Issuer {
    wire::Issuer { issuer_url: GATEWAY.to_owned(), ..Default::default() }
}

/// An id that no issuer has.
pub(crate) fn nobody() -> String {
    IssuerId::from_random([0xee; 16]).to_string()
}

/// Verifies a token with a library that has no part in making it, by a published key set alone.
pub(crate) fn verify(token: &str, key_set: &Value, issuer: &str, audience: &str) -> jsonwebtoken::TokenData<Value> {
    let header = jsonwebtoken::decode_header(token).unwrap();
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(key_set.clone()).unwrap();
    let key = set.find(header.kid.as_deref().unwrap()).expect("the key is published");
    let mut validation = jsonwebtoken::Validation::new(header.alg);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub", "nbf"]);
    validation.validate_nbf = true;
    jsonwebtoken::decode(token, &jsonwebtoken::DecodingKey::from_jwk(key).unwrap(), &validation).unwrap()
}
