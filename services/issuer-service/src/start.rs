//! Puts the service together.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use countersign_domain::issuing::issuer::{HostBase, IssuerBases, IssuerNamespace, KeyCustody};
use countersign_domain::issuing::signing_key::KeyPolicy;
use countersign_domain::trust::workspace;
use countersign_domain::values::id::IssuerId;
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_domain::values::time::{Clock, Entropy};
use countersign_jose::KeyDevice;
use countersign_jose::sealed::KeyEncryptionKeys;
use countersign_jose::secret::DeploymentSecret;
use countersign_proto::issuer_v1::access_token_service_server::AccessTokenServiceServer;
use countersign_proto::issuer_v1::issuer_service_server::IssuerServiceServer;
use countersign_proto::issuer_v1::key_set_service_server::KeySetServiceServer;
use countersign_proto::issuer_v1::signing_key_service_server::SigningKeyServiceServer;
use countersign_proto::issuer_v1::token_service_server::TokenServiceServer;
use countersign_runtime::auth::{Authenticator, WorkspaceStates};
use countersign_runtime::client::PeerChannel;
use countersign_runtime::health::{Condition, Readiness};
use countersign_runtime::page_token::{self, PageTokens};
use countersign_runtime::secret::BootstrapToken;
use countersign_runtime::server::{Running, Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::{Listeners, OnlyServices};
use countersign_store::issuer::IssuerStore;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::custody::Custody;
use crate::export::{Behind, ExportTarget, Exporter};
use crate::http::routes;
use crate::keeper::{Keeper, OwnKeys};
use crate::key_metrics::KeyMetrics;
use crate::reach::Reach;
use crate::rpc::access_tokens::AccessTokens;
use crate::rpc::issuers::Issuers;
use crate::rpc::key_sets::KeySets;
use crate::rpc::signing_keys::SigningKeys;
use crate::rpc::tokens::Tokens;
use crate::withdrawal::Withdrawal;
use crate::workspaces::{WorkspaceFollower, Workspaces};

/// How long a replica that has just started waits for the workspaces before it is ready to publish documents.
const WORKSPACES_PATIENCE: Duration = Duration::from_secs(30);

/// What the operator decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Issuers live strictly below this URL.
    pub base_url: IssuerUrl,
    /// Issuers may have host names of their own, one label before this host's.
    pub host_base: Option<HostBase>,
    /// The gateway's public URL: the `iss` of access tokens.
    pub access_token_issuer: IssuerUrl,
    /// Whether issuers may have http URLs on loopback. For development.
    pub loopback_http: LoopbackHttp,
    /// How long verifiers may keep a key set. A new key signs only after this and the staleness limit have passed.
    pub key_set_max_age: Duration,
    /// How long this replica signs and serves without having seen the database.
    pub staleness_limit: Duration,
    /// The DNS names, in client certificates, of the services that may have access tokens signed.
    pub access_token_callers: BTreeSet<String>,
    /// Where keys of access tokens are kept that are made from now on.
    pub access_token_key_custody: KeyCustody,
    /// How long this replica acts on the state of workspaces without having reached trust-service.
    pub workspace_staleness_limit: Duration,
}

impl Config {
    /// `key_set_max_age` when nothing is said.
    pub const DEFAULT_KEY_SET_MAX_AGE: Duration = Duration::from_mins(5);
    /// `staleness_limit` when nothing is said.
    pub const DEFAULT_STALENESS_LIMIT: Duration = Duration::from_mins(15);

    /// `access_token_callers` when nothing is said.
    pub fn default_access_token_callers() -> BTreeSet<String> {
        BTreeSet::from(["exchange-gateway".to_owned()])
    }

    /// The usual settings with these URLs.
    pub fn new(base_url: IssuerUrl, access_token_issuer: IssuerUrl) -> Self {
        Self {
            base_url,
            host_base: None,
            access_token_issuer,
            loopback_http: LoopbackHttp::Refused,
            key_set_max_age: Self::DEFAULT_KEY_SET_MAX_AGE,
            staleness_limit: Self::DEFAULT_STALENESS_LIMIT,
            access_token_callers: Self::default_access_token_callers(),
            access_token_key_custody: KeyCustody::default(),
            workspace_staleness_limit: workspace::STATE_STALENESS_LIMIT,
        }
    }
}

/// What the service needs from outside.
#[derive(Debug)]
pub struct Deps {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives ids of issuers and tokens.
    pub entropy: Arc<dyn Entropy>,
    /// Keeps issuers and sealed keys.
    pub store: Arc<dyn IssuerStore>,
    /// trust-service's internal port, for the state of workspaces.
    pub trust_service: PeerChannel,
    /// Seal and open private keys.
    pub key_encryption_keys: KeyEncryptionKeys,
    /// Keeps the keys of issuers that ask for it.
    pub key_device: Option<Arc<dyn KeyDevice>>,
    /// Where the documents of issuers are exported to.
    pub export: Option<ExportTarget>,
    /// Authenticates page tokens.
    pub deployment_secret: DeploymentSecret,
    /// The operator's first credential, unless it is switched off.
    pub bootstrap_token: Option<BootstrapToken>,
}

/// Starts the service: finds or makes the deployment's access token issuer with its key, then serves until the signal.
///
/// # Errors
/// The database cannot be reached; the gateway's URL is an issuer's; the key-encryption key is not the one that the keys were
/// sealed under.
pub async fn start(config: Config, deps: Deps, listeners: Listeners, shutdown: Shutdown) -> anyhow::Result<Running> {
    let Config {
        base_url,
        host_base,
        access_token_issuer,
        loopback_http,
        key_set_max_age,
        staleness_limit,
        access_token_callers,
        access_token_key_custody,
        workspace_staleness_limit,
    } = config;
    let Deps {
        clock,
        entropy,
        store,
        trust_service,
        key_encryption_keys,
        key_device,
        export,
        deployment_secret,
        bootstrap_token,
    } = deps;
    let namespace = Arc::new(IssuerNamespace { base_url, host_base, gateway_url: access_token_issuer.clone(), loopback_http });
    let policy = KeyPolicy { key_set_max_age, staleness_limit };

    let new_id = IssuerId::from_random(entropy.bits128());
    let access_token_issuer_id = store
        .ensure_access_token_issuer(&access_token_issuer, &new_id, clock.now())
        .await
        .context("cannot find the access token issuer")?
        .with_context(|| format!("{access_token_issuer} is, or was, the URL of a workspace's issuer"))?;
    let custody = Custody::new(key_encryption_keys, key_device);
    let keeper = Keeper::new(Arc::clone(&store), custody, Arc::clone(&clock), policy);
    let (follower, workspaces) = WorkspaceFollower::new(trust_service.clone(), Arc::clone(&entropy), workspace_staleness_limit);
    let keeper = keeper.with_access_token_keys(access_token_key_custody).with_exports(export.is_some());
    let keeper = Arc::new(keeper.with_workspaces(Arc::clone(&workspaces)));
    keeper.refresh().await.context("cannot read the issuers")?;
    keeper.note_serving().await.context("cannot note for how long key sets are handed out")?;
    let issuer = keeper.directory()?.by_id(&access_token_issuer_id).cloned().context("the access token issuer is gone")?;
    keeper
        .in_use(issuer)
        .await
        .context("the access token issuer has no usable key; is this the key-encryption key that it was sealed under?")?;

    let readiness = Readiness::new();
    let database = readiness.condition("database");
    let known = readiness.condition("workspaces");
    let own_keys = OwnKeys { keeper: Arc::clone(&keeper), access_token_issuer: access_token_issuer_id.clone() };
    let authenticator = Authenticator::new().with_bootstrap_token(bootstrap_token).with_access_tokens(
        access_token_issuer.as_str(),
        Arc::new(own_keys),
        Arc::clone(&workspaces) as Arc<dyn WorkspaceStates>,
        Arc::clone(&clock),
    );
    let page_tokens = PageTokens::new(deployment_secret.derive(page_token::PURPOSE));
    let key_sets = KeySets { keeper: Arc::clone(&keeper), bases: IssuerBases::from(&*namespace) };
    let withdrawal = Withdrawal {
        keeper: Arc::clone(&keeper),
        workspaces: Arc::clone(&workspaces),
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
    };
    let issuers = Issuers {
        keeper: Arc::clone(&keeper),
        store,
        workspaces: Arc::clone(&workspaces),
        reach: Reach::new(trust_service),
        namespace: Arc::clone(&namespace),
        page_tokens: page_tokens.clone(),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
    };
    let tokens = Tokens { keeper: Arc::clone(&keeper), workspaces: Arc::clone(&workspaces), clock: Arc::clone(&clock), entropy };
    let access_tokens = AccessTokens {
        keeper: Arc::clone(&keeper),
        clock: Arc::clone(&clock),
        issuer_id: access_token_issuer_id.clone(),
        callers: OnlyServices::new(access_token_callers),
    };
    let signing_keys = SigningKeys {
        keeper: Arc::clone(&keeper),
        workspaces: Arc::clone(&workspaces),
        page_tokens,
        clock: Arc::clone(&clock),
        access_token_issuer: access_token_issuer_id,
    };
    let public = Surface::new()
        .grpc(IssuerServiceServer::new(issuers))
        .grpc(TokenServiceServer::new(tokens))
        .grpc(SigningKeyServiceServer::new(signing_keys))
        .grpc(KeySetServiceServer::new(key_sets.clone()))
        .http(routes(Arc::clone(&keeper), Arc::clone(&namespace)));
    // The other services ask for the key set of access tokens here, so that they need no way to the public port.
    let internal = Surface::new().grpc(AccessTokenServiceServer::new(access_tokens)).grpc(KeySetServiceServer::new(key_sets));
    let server =
        Server::new("issuer-service").authenticator(authenticator).readiness(readiness).public(public).internal(internal);
    let server = with_export(with_key_metrics(server, &keeper, clock), &keeper, namespace, export);
    let server = server.task("open keys that wait for their device", Arc::clone(&keeper).follow_device());
    let server = server.task("keep the keys of issuers", Arc::clone(&keeper).keep_keys());
    let server = with_workspaces(server, workspaces, follower, withdrawal, known);
    server.task("follow the database", keeper.follow(database)).start(listeners, shutdown)
}

/// Adds what follows the state of workspaces and acts on it.
fn with_workspaces(
    server: Server,
    workspaces: Arc<Workspaces>,
    follower: WorkspaceFollower,
    withdrawal: Withdrawal,
    known: Condition,
) -> Server {
    let becoming_ready = become_ready(workspaces.connected(), known);
    server
        .gauge("workspaces_age_seconds", "How old the view of the state of workspaces is", move || {
            i64::try_from(workspaces.age().as_secs()).unwrap_or(i64::MAX)
        })
        .task("follow the workspaces", follower.run())
        .task("note the end of issuers", withdrawal.run())
        .task("become ready", becoming_ready)
}

/// Ready when the workspaces are known, so that no call to a new replica is refused for the want of them. A replica that does not
/// reach trust-service is ready after a while all the same, to publish documents; for everything else it says that it is unavailable.
async fn become_ready(mut connected: watch::Receiver<bool>, condition: Condition) {
    if timeout(WORKSPACES_PATIENCE, connected.wait_for(|connected| *connected)).await.is_err() {
        tracing::warn!("trust-service cannot be reached; documents are published, and nothing is signed until it can");
    }
    condition.set(true);
    pending::<()>().await;
}

/// Adds the export of documents, where there is one.
fn with_export(server: Server, keeper: &Arc<Keeper>, namespace: Arc<IssuerNamespace>, target: Option<ExportTarget>) -> Server {
    let Some(target) = target else { return server };
    let behind = Arc::new(Behind::default());
    let exporter = Exporter { keeper: Arc::clone(keeper), namespace, target, behind: Arc::clone(&behind) };
    server
        .gauge("issuer_export_behind", "Issuers whose exported documents are not as they should be", move || behind.count())
        .task("export documents", exporter.run())
}

/// Adds what operators watch of signing keys.
fn with_key_metrics(server: Server, keeper: &Arc<Keeper>, clock: Arc<dyn Clock>) -> Server {
    let keeper = Arc::clone(keeper);
    let metrics = move || KeyMetrics::of(&keeper.latest(), keeper.policy(), keeper.exports(), clock.now());
    let (by_state, age, next_changes) = (metrics.clone(), metrics.clone(), metrics);
    server
        .gauge_by("issuer_keys", "Signing keys of all issuers, by state", "state", move || by_state().by_state())
        .gauge("issuer_keys_oldest_active_age_seconds", "How long the oldest active signing key has been active", move || {
            age().oldest_active_seconds()
        })
        .gauge_by(
            "issuer_keys_next_change_seconds",
            "Until the next signing key changes its state, by what it waits for; negative: overdue",
            "wait",
            move || next_changes().next_changes(),
        )
}
