//! The three services in one process, through the same `start` functions that their own binaries call.
//!
//! What differs from production is given from outside: SQLite files instead of PostgreSQL, the embedded twin of each role of
//! Redis, and internal RPCs over pipes in the process instead of mutual TLS.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use countersign_cache::replay::EmbeddedReplayCache;
use countersign_discovery::address::AddressRules;
use countersign_discovery::{Discovery, DiscoverySettings};
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_domain::values::time::{Clock, Entropy};
use countersign_jose::sealed::KeyEncryptionKey;
use countersign_jose::secret::DeploymentSecret;
use countersign_runtime::ambient::{SystemClock, SystemEntropy};
use countersign_runtime::client::{PeerAddress, PeerChannel};
use countersign_runtime::secret::{self, BootstrapToken};
use countersign_runtime::server::Running;
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::{Admission, InProcess, InProcessConnector, Listener, Listeners};
use countersign_store::database::{Database, DatabaseUrl};
use countersign_store::issuer::SeaIssuerStore;
use countersign_store::trust::{self, SeaTrustStore};
use exchange_gateway::IssuerKeySets;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::sockets::{self, Sockets};
use super::state::State;
use crate::connection::Service;
use crate::failure::{Failure, Result};

/// How long the services may take until they are ready. They take a tenth of a second; a slow disk may need its time.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// The services, started.
#[derive(Debug)]
pub(super) struct Deployment {
    issuer_url: String,
    trust_url: String,
    gateway_url: String,
    gateway: Running,
    /// What the gateway calls.
    peers: [Running; 2],
    /// Stops the gateway.
    shutdown: Shutdown,
    /// Stops its peers, once it has finished what it was doing.
    peers_shutdown: Shutdown,
}

/// Starts the services on these sockets, with their data in the state directory, and waits until they are ready. `shutdown`
/// stops all of them.
///
/// # Errors
/// A database cannot be opened, or a secret does not fit it.
pub(super) async fn start(state: &State, sockets: Sockets, shutdown: &Shutdown) -> Result<Deployment> {
    Box::pin(compose(state, sockets, shutdown)).await.map_err(|error| Failure::while_doing(error, "cannot start the services"))
}

async fn compose(state: &State, sockets: Sockets, shutdown: &Shutdown) -> anyhow::Result<Deployment> {
    let [issuer_url, trust_url, gateway_url] =
        [sockets::url(&sockets.issuer)?, sockets::url(&sockets.trust)?, sockets::url(&sockets.gateway)?];
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let surroundings = Surroundings {
        clock: Arc::new(SystemClock),
        discovery: discovery(&entropy)?,
        entropy,
        public_url: url(&gateway_url)?,
        issuer_base_url: url(&issuer_url)?,
        peers_shutdown: Shutdown::new(),
    };
    let (issuer_internal, to_issuer) = InProcess::pair();
    let (trust_internal, to_trust) = InProcess::pair();
    let (issuer, trust) = tokio::try_join!(
        surroundings.start_issuer(state, to_trust.clone(), listeners(sockets.issuer, Some(issuer_internal))),
        surroundings.start_trust(state, to_issuer.clone(), listeners(sockets.trust, Some(trust_internal))),
    )?;
    // Services may start in any order. This one finds the gateway its peers at the first attempt, which saves it a pause.
    let peers_are_ready =
        async { tokio::try_join!(is_serving(Service::Issuer, &issuer_url), is_serving(Service::Trust, &trust_url)) };
    in_time(peers_are_ready).await?;
    let gateway = surroundings.start_gateway(state, to_issuer, to_trust, listeners(sockets.gateway, None), shutdown).await?;
    in_time(is_serving(Service::Gateway, &gateway_url)).await?;
    let (shutdown, peers_shutdown) = (shutdown.clone(), surroundings.peers_shutdown);
    Ok(Deployment { issuer_url, trust_url, gateway_url, gateway, peers: [issuer, trust], shutdown, peers_shutdown })
}

async fn in_time<T>(ready: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let limit = || format!("not ready after {} s", READY_LIMIT.as_secs());
    tokio::time::timeout(READY_LIMIT, ready).await.with_context(limit)?
}

/// Waits until a service says that it is ready.
async fn is_serving(service: Service, url: &str) -> anyhow::Result<()> {
    let mut client = HealthClient::new(connect(service, url).await?);
    let mut states = client.watch(HealthCheckRequest::default()).await?.into_inner();
    while let Some(state) = states.message().await? {
        if state.status() == ServingStatus::Serving {
            return Ok(());
        }
    }
    anyhow::bail!("{} stopped", service.name())
}

async fn connect(service: Service, url: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.timeout(READY_LIMIT);
    endpoint.connect().await.with_context(|| format!("cannot reach {} at {url}", service.name()))
}

fn url(text: &str) -> anyhow::Result<IssuerUrl> {
    IssuerUrl::parse(text, LoopbackHttp::Allowed)
        .with_context(|| format!("{text} cannot be the URL of a service; listen on a loopback address"))
}

/// Without a private port: the terminal shows whether `dev` is alive.
fn listeners(public: TcpListener, internal: Option<Listener>) -> Listeners {
    Listeners { public: Listener::Tcp(public), internal, private: None, admission: Admission::default() }
}

/// What the services are given alike.
struct Surroundings {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// The keys of other issuers, shared by the services: making one reads the system's authorities, which takes a while.
    discovery: Discovery,
    public_url: IssuerUrl,
    issuer_base_url: IssuerUrl,
    peers_shutdown: Shutdown,
}

impl Surroundings {
    async fn start_issuer(&self, state: &State, trust: InProcessConnector, listeners: Listeners) -> anyhow::Result<Running> {
        let config = issuer_service::Config {
            loopback_http: LoopbackHttp::Allowed,
            ..issuer_service::Config::new(self.issuer_base_url.clone(), self.public_url.clone())
        };
        let store =
            SeaIssuerStore::open(&database_url(state, Service::Issuer)?).await.context("the database of issuer-service")?;
        let key_encryption_key = secret::read_text(&state.secrets.key_encryption_key)?;
        let deps = issuer_service::Deps {
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            store: Arc::new(store),
            trust_service: peer(Service::Trust, trust),
            // A laptop has no hardware security module.
            key_device: None,
            export: None,
            key_encryption_keys: KeyEncryptionKey::from_base64(&key_encryption_key)?.into(),
            deployment_secret: deployment_secret(state)?,
            bootstrap_token: Some(BootstrapToken::from_file(&state.secrets.bootstrap_token)?),
        };
        issuer_service::start(config, deps, listeners, self.peers_shutdown.clone()).await
    }

    async fn start_trust(&self, state: &State, issuer: InProcessConnector, listeners: Listeners) -> anyhow::Result<Running> {
        let config = trust_service::Config {
            public_url: self.public_url.clone(),
            loopback_http: LoopbackHttp::Allowed,
            strict_lint: false,
            exchange_callers: trust_service::Config::default_exchange_callers(),
        };
        let database = Database::connect(&database_url(state, Service::Trust)?, trust::SCHEMA).await;
        let store = SeaTrustStore::open(database.context("the database of trust-service")?).await;
        let deps = trust_service::Deps {
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            store: Arc::new(store.context("the database of trust-service")?),
            issuer_service: peer(Service::Issuer, issuer),
            deployment_secret: deployment_secret(state)?,
            discovery: self.discovery.clone(),
            bootstrap_token: Some(BootstrapToken::from_file(&state.secrets.bootstrap_token)?),
        };
        trust_service::start(config, deps, listeners, self.peers_shutdown.clone()).await
    }

    async fn start_gateway(
        &self,
        state: &State,
        issuer: InProcessConnector,
        trust: InProcessConnector,
        listeners: Listeners,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Running> {
        let config = exchange_gateway::Config { public_url: self.public_url.clone() };
        let deps = exchange_gateway::Deps {
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            trust_service: peer(Service::Trust, trust),
            issuer_service: peer(Service::Issuer, issuer),
            replay: Arc::new(EmbeddedReplayCache::default()),
            keys: Arc::new(IssuerKeySets::new(self.discovery.clone(), Arc::clone(&self.clock))),
            bootstrap_token: Some(BootstrapToken::from_file(&state.secrets.bootstrap_token)?),
        };
        exchange_gateway::start(config, deps, listeners, shutdown.clone()).await
    }
}

/// The keys of issuers, also of those on this machine. One gateway shares them with no other.
fn discovery(entropy: &Arc<dyn Entropy>) -> anyhow::Result<Discovery> {
    let address_rules = AddressRules { loopback: LoopbackHttp::Allowed, ..AddressRules::default() };
    let settings = DiscoverySettings { address_rules, ..DiscoverySettings::default() };
    Ok(Discovery::new(&settings, None, Arc::clone(entropy))?)
}

fn peer(service: Service, connector: InProcessConnector) -> PeerChannel {
    PeerChannel::new(service.name(), PeerAddress::InProcess(connector))
}

fn database_url(state: &State, service: Service) -> anyhow::Result<DatabaseUrl> {
    Ok(state.database_url(service)?.parse()?)
}

fn deployment_secret(state: &State) -> anyhow::Result<DeploymentSecret> {
    Ok(DeploymentSecret::from_bytes(&secret::read(&state.secrets.deployment_secret)?)?)
}

impl Deployment {
    /// The URL of a service's public port.
    pub(super) fn url(&self, service: Service) -> &str {
        match service {
            Service::Issuer => &self.issuer_url,
            Service::Trust => &self.trust_url,
            Service::Gateway => &self.gateway_url,
        }
    }

    /// A connection to a service's public port.
    ///
    /// # Errors
    /// Nobody answers there.
    pub(super) async fn channel(&self, service: Service) -> Result<Channel> {
        Ok(connect(service, self.url(service)).await?)
    }

    /// Waits until the services were told to stop and have drained: first the gateway, then what it calls. One that stops by
    /// itself takes the others with it.
    ///
    /// # Errors
    /// A service stopped by itself.
    pub(super) async fn wait(self) -> anyhow::Result<()> {
        let mut waiting = JoinSet::new();
        waiting.spawn(async { (Service::Gateway, self.gateway.wait().await) });
        for (service, running) in [Service::Issuer, Service::Trust].into_iter().zip(self.peers) {
            waiting.spawn(async move { (service, running.wait().await) });
        }
        let mut outcome = Ok(());
        while let Some(stopped) = waiting.join_next().await {
            let (service, result) = stopped?;
            self.shutdown.trigger();
            if service == Service::Gateway {
                self.peers_shutdown.trigger();
            }
            outcome = outcome.and(result);
        }
        outcome
    }
}
