//! Puts the service together.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_discovery::Discovery;
use countersign_domain::trust::preset::Preset;
use countersign_domain::values::deployment_audience::DeploymentAudience;
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_domain::values::time::{Clock, Entropy};
use countersign_jose::secret::DeploymentSecret;
use countersign_proto::trust_v1::audit_service_server::AuditServiceServer;
use countersign_proto::trust_v1::trust_relationship_service_server::TrustRelationshipServiceServer;
use countersign_proto::trust_v1::trusted_issuer_service_server::TrustedIssuerServiceServer;
use countersign_proto::trust_v1::workspace_service_server::WorkspaceServiceServer;
use countersign_runtime::auth::{Authenticator, KeySource};
use countersign_runtime::client::PeerChannel;
use countersign_runtime::health::Readiness;
use countersign_runtime::page_token::{self, PageTokens};
use countersign_runtime::secret::BootstrapToken;
use countersign_runtime::server::{Running, Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::{Listeners, OnlyServices};
use countersign_store::trust::TrustStore;
use tonic::service::interceptor::InterceptedService;

use crate::audit::Audit;
use crate::context::Context;
use crate::issuer_keys::IssuerKeys;
use crate::policy_feed::PolicyFeed;
use crate::trust_relationships::TrustRelationships;
use crate::trusted_issuers::TrustedIssuers;
use crate::turns::Turns;
use crate::uses::Uses;
use crate::workspace_states::StoredStates;
use crate::workspaces::Workspaces;
use crate::{audit, commits, issuer_health, policy_stream, pruning, reachable_scopes, workspace_states};

/// What distinguishes one deployment's trust-services from another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The gateway's URL: `iss` and `aud` of the access tokens that callers present, and the default audience of subject tokens.
    pub public_url: IssuerUrl,
    /// Whether trusted issuers may be plain http on loopback addresses. For development.
    pub loopback_http: LoopbackHttp,
    /// Whether trust relationships are refused for warnings of the linter, not for errors alone.
    pub strict_lint: bool,
    /// The DNS names, in client certificates, of the services that can read policies and commit exchanges.
    pub exchange_callers: BTreeSet<String>,
}

impl Config {
    /// `exchange_callers` by default.
    pub fn default_exchange_callers() -> BTreeSet<String> {
        BTreeSet::from(["exchange-gateway".to_owned()])
    }
}

/// What the service needs of the world.
pub struct Deps {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Where everything is kept, connected and migrated.
    pub store: Arc<dyn TrustStore>,
    /// issuer-service, for the keys that verify callers' access tokens.
    pub issuer_service: PeerChannel,
    /// Authenticates page tokens.
    pub deployment_secret: DeploymentSecret,
    /// Asks issuers for their keys, for checks of trusted issuers.
    pub discovery: Discovery,
    /// The operator's first credential.
    pub bootstrap_token: Option<BootstrapToken>,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps").field("issuer_service", &self.issuer_service).finish_non_exhaustive()
    }
}

/// Starts the service on bound listeners. It is ready while the database answers.
///
/// # Errors
/// When the listeners do not fit the service.
pub async fn start(config: Config, deps: Deps, listeners: Listeners, shutdown: Shutdown) -> anyhow::Result<Running> {
    let Config { public_url, loopback_http, strict_lint, exchange_callers } = config;
    let Deps { clock, entropy, store, issuer_service, deployment_secret, discovery, bootstrap_token } = deps;
    // Read while nobody waits for them yet: the first write is linted by them.
    tokio::task::spawn_blocking(Preset::all);
    let keys = Arc::new(IssuerKeys::new(issuer_service, public_url.clone()));
    let authenticator = Authenticator::new().with_bootstrap_token(bootstrap_token).with_access_tokens(
        public_url.as_str(),
        Arc::clone(&keys) as Arc<dyn KeySource>,
        Arc::new(StoredStates(Arc::clone(&store))),
        Arc::clone(&clock),
    );
    let readiness = Readiness::new();
    let uses = Arc::new(Uses::default());
    let recording_uses = Arc::clone(&uses).run(Arc::clone(&store), Arc::clone(&clock), shutdown.clone());
    let feed = PolicyFeed::new(Arc::clone(&store), readiness.condition("database"));
    let context = Arc::new(Context {
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        entropy,
        pages: PageTokens::new(deployment_secret.derive(page_token::PURPOSE)),
        deployment: DeploymentAudience::new(&public_url)?,
        loopback_http,
        strict_lint,
        feed: feed.clone(),
        issuer_keys: Arc::clone(&keys),
        discovery,
        turns: Turns::new(),
        uses,
    });
    let public = Surface::new()
        .grpc(WorkspaceServiceServer::new(Workspaces(Arc::clone(&context))))
        .grpc(TrustedIssuerServiceServer::new(TrustedIssuers(Arc::clone(&context))))
        .grpc(TrustRelationshipServiceServer::new(TrustRelationships(Arc::clone(&context))))
        .grpc(AuditServiceServer::new(Audit(Arc::clone(&context))));
    // issuer-service reaches the internal listener too, and needs nothing of what gateways do there (SECURITY 71).
    let for_gateways = OnlyServices::new(exchange_callers);
    let internal = Surface::new()
        .grpc(InterceptedService::new(commits::server(Arc::clone(&context)), for_gateways.clone()))
        .grpc(InterceptedService::new(audit::log_server(Arc::clone(&context)), for_gateways.clone()))
        .grpc(InterceptedService::new(issuer_health::server(Arc::clone(&context)), for_gateways.clone()))
        .grpc(InterceptedService::new(policy_stream::server(Arc::clone(&context), shutdown.clone()), for_gateways))
        .grpc(reachable_scopes::server(Arc::clone(&context)))
        .grpc(workspace_states::server(context, shutdown.clone()));
    Server::new("trust-service")
        .authenticator(authenticator)
        .readiness(readiness)
        .public(public)
        .internal(internal)
        .task("follow the database", feed.run())
        .task("follow the keys of access tokens", keys.run())
        .task("record when relationships are used", recording_uses)
        .task("forget what is past", pruning::run(store, clock))
        .start(listeners, shutdown)
}
