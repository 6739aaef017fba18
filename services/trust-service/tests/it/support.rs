//! A service of its own for each test, with an issuer-service that signs callers' access tokens.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_discovery::address::AddressRules;
use countersign_discovery::{Discovery, DiscoverySettings};
use countersign_domain::access::permission::Permission;
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::time::Clock as _;
use countersign_jose::Signer as _;
use countersign_jose::SigningKey;
use countersign_jose::secret::DeploymentSecret;
use countersign_proto::issuer_v1::key_set_service_server::{KeySetService, KeySetServiceServer};
use countersign_proto::issuer_v1::{
    GetJsonWebKeySetRequest, GetJsonWebKeySetResponse, GetOpenIdConfigurationRequest, GetOpenIdConfigurationResponse,
};
use countersign_proto::trust_v1::audit_log_service_client::AuditLogServiceClient;
use countersign_proto::trust_v1::audit_service_client::AuditServiceClient;
use countersign_proto::trust_v1::commit_service_client::CommitServiceClient;
use countersign_proto::trust_v1::policy_service_client::PolicyServiceClient;
use countersign_proto::trust_v1::reachable_scope_service_client::ReachableScopeServiceClient;
use countersign_proto::trust_v1::trust_relationship_service_client::TrustRelationshipServiceClient;
use countersign_proto::trust_v1::trusted_issuer_service_client::TrustedIssuerServiceClient;
use countersign_proto::trust_v1::workspace_service_client::WorkspaceServiceClient;
use countersign_proto::trust_v1::workspace_state_service_client::WorkspaceStateServiceClient;
use countersign_proto::trust_v1::{
    CreateTrustRelationshipRequest, CreateTrustedIssuerRequest, CreateWorkspaceRequest, TrustRelationship, TrustedIssuer,
    Workspace,
};
use countersign_runtime::client::{PeerAddress, PeerChannel};
use countersign_runtime::secret::BootstrapToken;
use countersign_runtime::server::{Running, Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::{InProcessConnector, Listeners};
use countersign_store::database::Database;
use countersign_store::trust::{SCHEMA, SeaTrustStore, TrustQuotas};
use countersign_testkit::clock::{SeededEntropy, TestClock};
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};
use trust_service::{Config, Deps};

pub(crate) const GATEWAY: &str = "https://gateway.example";
const BOOTSTRAP: &str = "bootstrap-token-of-the-test-0123456789";

/// A channel that carries credentials.
pub(crate) type Channel = InterceptedService<PeerChannel, Bearer>;

#[derive(Clone)]
pub(crate) struct Bearer(Option<String>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// The clients of one caller.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) workspaces: WorkspaceServiceClient<Channel>,
    pub(crate) issuers: TrustedIssuerServiceClient<Channel>,
    pub(crate) relationships: TrustRelationshipServiceClient<Channel>,
    pub(crate) audit: AuditServiceClient<Channel>,
}

pub(crate) struct Service {
    pub(crate) clock: TestClock,
    pub(crate) public: InProcessConnector,
    pub(crate) internal: PeerChannel,
    pub(crate) keys: Arc<FakeKeys>,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: Running,
    _folder: Option<tempfile::TempDir>,
}

/// Signs callers' access tokens and publishes the key, like issuer-service does.
pub(crate) struct FakeKeys {
    key: Mutex<SigningKey>,
}

impl FakeKeys {
    fn new() -> Self {
        Self { key: Mutex::new(SigningKey::generate(SignatureAlgorithm::Es256).unwrap()) }
    }

    /// Another key from now on; the old one is gone.
    pub(crate) fn rotate(&self) {
        *self.key.lock().unwrap() = SigningKey::generate(SignatureAlgorithm::Es256).unwrap();
    }

    fn sign(&self, claims: &Value) -> String {
        self.key.lock().unwrap().sign("at+jwt", claims.to_string().as_bytes()).unwrap()
    }
}

struct KeySets(Arc<FakeKeys>);

#[tonic::async_trait]
impl KeySetService for KeySets {
    async fn get_json_web_key_set(
        &self,
        request: Request<GetJsonWebKeySetRequest>,
    ) -> Result<Response<GetJsonWebKeySetResponse>, Status> {
        assert_eq!(request.get_ref().issuer_url, GATEWAY);
        let document = json!({ "keys": [self.0.key.lock().unwrap().public_jwk()] });
        Ok(Response::new(GetJsonWebKeySetResponse { json_web_key_set: document.to_string().into(), ..Default::default() }))
    }

    async fn get_open_id_configuration(
        &self,
        _: Request<GetOpenIdConfigurationRequest>,
    ) -> Result<Response<GetOpenIdConfigurationResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }
}

/// A service on a SQLite file of its own.
pub(crate) async fn service() -> Service {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("trust.db").display());
    service_on(&url, 1, Some(folder)).await
}

/// A service that refuses for the linter's warnings too.
pub(crate) async fn strict_service() -> Service {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("trust.db").display());
    start(&url, (1, Some(folder)), true, TrustQuotas::default()).await
}

/// A service with these quotas.
pub(crate) async fn service_with_quotas(quotas: TrustQuotas) -> Service {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("trust.db").display());
    start(&url, (1, Some(folder)), false, quotas).await
}

/// A service on this database. Replicas need different seeds, lest they make the same ids.
pub(crate) async fn service_on(url: &str, seed: u64, folder: Option<tempfile::TempDir>) -> Service {
    start(url, (seed, folder), false, TrustQuotas::default()).await
}

async fn start(url: &str, (seed, folder): (u64, Option<tempfile::TempDir>), strict_lint: bool, quotas: TrustQuotas) -> Service {
    let (clock, keys) = (TestClock::noon(), Arc::new(FakeKeys::new()));
    let database = Database::connect(&url.parse().unwrap(), SCHEMA).await.unwrap();
    let (listeners, connectors) = Listeners::in_process();
    let shutdown = Shutdown::new();
    let deps = Deps {
        clock: Arc::new(clock.clone()),
        entropy: Arc::new(SeededEntropy::new(seed)),
        store: Arc::new(SeaTrustStore::open(database).await.unwrap().with_quotas(quotas)),
        issuer_service: issuer_service(&keys, &shutdown),
        deployment_secret: DeploymentSecret::from_bytes(&[7; 32]).unwrap(),
        discovery: discovery(seed),
        bootstrap_token: Some(BootstrapToken::new(BOOTSTRAP).unwrap()),
    };
    let config = Config {
        public_url: GATEWAY.parse().unwrap(),
        loopback_http: LoopbackHttp::Refused,
        strict_lint,
        exchange_callers: Config::default_exchange_callers(),
    };
    let running = trust_service::start(config, deps, listeners, shutdown.clone()).await.unwrap();
    let internal = PeerChannel::new("trust-service", PeerAddress::InProcess(connectors.internal));
    Service { clock, public: connectors.public, internal, keys, shutdown, running, _folder: folder }
}

/// Issuers on this machine can be asked, though not over plain http unless the service allows to register them.
fn discovery(seed: u64) -> Discovery {
    let address_rules = AddressRules { loopback: LoopbackHttp::Allowed, ..AddressRules::default() };
    let settings = DiscoverySettings { address_rules, ..DiscoverySettings::default() };
    Discovery::new(&settings, None, Arc::new(SeededEntropy::new(seed + 1_000))).unwrap()
}

fn issuer_service(keys: &Arc<FakeKeys>, shutdown: &Shutdown) -> PeerChannel {
    let (listeners, connectors) = Listeners::in_process();
    let surface = Surface::new().grpc(KeySetServiceServer::new(KeySets(Arc::clone(keys))));
    Server::new("issuer-service").public(surface).start(listeners, shutdown.clone()).unwrap();
    PeerChannel::new("issuer-service", PeerAddress::InProcess(connectors.public))
}

impl Service {
    fn caller(&self, bearer: &Bearer) -> Caller {
        let channel = || {
            let channel = PeerChannel::new("trust-service", PeerAddress::InProcess(self.public.clone()));
            InterceptedService::new(channel, bearer.clone())
        };
        Caller {
            workspaces: WorkspaceServiceClient::new(channel()),
            issuers: TrustedIssuerServiceClient::new(channel()),
            relationships: TrustRelationshipServiceClient::new(channel()),
            audit: AuditServiceClient::new(channel()),
        }
    }

    /// Whoever holds the bootstrap token.
    pub(crate) fn operator(&self) -> Caller {
        self.caller(&Bearer(Some(BOOTSTRAP.to_owned())))
    }

    pub(crate) fn nobody(&self) -> Caller {
        self.caller(&Bearer(None))
    }

    /// A caller with an access token of this workspace that has these scopes.
    pub(crate) fn member(&self, workspace_id: &str, scopes: &[&str]) -> Caller {
        self.caller(&Bearer(Some(self.token(workspace_id, scopes))))
    }

    /// An access token of this workspace with every permission, deployment-wide ones included.
    pub(crate) fn token_with_every_scope(&self, workspace_id: &str) -> String {
        let every: Vec<_> = Permission::ALL.iter().map(|permission| permission.as_scope()).collect();
        self.token(workspace_id, &every)
    }

    fn token(&self, workspace_id: &str, scopes: &[&str]) -> String {
        let now = self.clock.now().as_second();
        self.keys.sign(&json!({
            "iss": GATEWAY,
            "sub": format!("{workspace_id}/ti/member"),
            "aud": GATEWAY,
            "iat": now,
            "exp": now + 600,
            "jti": "at-1",
            "workspace_id": workspace_id,
            "scope": scopes.join(" "),
        }))
    }

    /// With every permission a workspace can give but those whose name holds one of these.
    pub(crate) fn member_without(&self, workspace_id: &str, lacking: &[&str]) -> Caller {
        let scopes: Vec<&str> = Permission::ALL
            .iter()
            .map(|permission| permission.as_scope())
            .filter(|scope| !lacking.iter().any(|part| scope.contains(part)))
            .collect();
        self.member(workspace_id, &scopes)
    }

    pub(crate) fn commits(&self) -> CommitServiceClient<PeerChannel> {
        CommitServiceClient::new(self.internal.clone())
    }

    pub(crate) fn audit_log(&self) -> AuditLogServiceClient<PeerChannel> {
        AuditLogServiceClient::new(self.internal.clone())
    }

    pub(crate) fn reachable_scopes(&self) -> ReachableScopeServiceClient<PeerChannel> {
        ReachableScopeServiceClient::new(self.internal.clone())
    }

    pub(crate) fn workspace_states(&self) -> WorkspaceStateServiceClient<PeerChannel> {
        WorkspaceStateServiceClient::new(self.internal.clone())
    }

    pub(crate) fn policies(&self) -> PolicyServiceClient<PeerChannel> {
        PolicyServiceClient::new(self.internal.clone())
    }

    /// A workspace, an issuer and a relationship.
    pub(crate) async fn tenant(&self) -> Tenant {
        let mut operator = self.operator();
        let workspace = operator.workspace("Acme").await;
        let issuer = operator.issuer(&workspace.id, "https://cloud.rwx.com/mint").await;
        let relationship = operator.relationship(&issuer).await;
        Tenant { workspace, issuer, relationship }
    }
}

#[derive(Clone)]
pub(crate) struct Tenant {
    pub(crate) workspace: Workspace,
    pub(crate) issuer: TrustedIssuer,
    pub(crate) relationship: TrustRelationship,
}

impl Caller {
    pub(crate) async fn workspace(&mut self, name: &str) -> Workspace {
        let workspace = Workspace { display_name: name.to_owned(), ..Default::default() };
        let request = CreateWorkspaceRequest { workspace: Some(workspace) };
        self.workspaces.create_workspace(request).await.unwrap().into_inner().workspace.unwrap()
    }

    pub(crate) async fn issuer(&mut self, workspace_id: &str, url: &str) -> TrustedIssuer {
        let request = new_issuer(workspace_id, url);
        self.issuers.create_trusted_issuer(request).await.unwrap().into_inner().trusted_issuer.unwrap()
    }

    pub(crate) async fn relationship(&mut self, issuer: &TrustedIssuer) -> TrustRelationship {
        let request = new_relationship(issuer, &["deploy"]);
        self.relationships.create_trust_relationship(request).await.unwrap().into_inner().trust_relationship.unwrap()
    }
}

pub(crate) fn new_issuer(workspace_id: &str, url: &str) -> CreateTrustedIssuerRequest {
    CreateTrustedIssuerRequest {
        trusted_issuer: Some(TrustedIssuer {
            workspace_id: workspace_id.to_owned(),
            issuer_url: url.to_owned(),
            ..Default::default()
        }),
    }
}

pub(crate) fn new_relationship(issuer: &TrustedIssuer, scopes: &[&str]) -> CreateTrustRelationshipRequest {
    CreateTrustRelationshipRequest {
        trust_relationship: Some(TrustRelationship {
            workspace_id: issuer.workspace_id.clone(),
            trusted_issuer_id: issuer.id.clone(),
            subject_matches: vec!["org:my-org:vault:deploy-vault".to_owned()],
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            ..Default::default()
        }),
    }
}

pub(crate) fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
