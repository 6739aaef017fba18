//! Puts the service together.

use std::future::pending;
use std::sync::Arc;

use axum::Router;
use countersign_cache::replay::ReplayCache;
use countersign_domain::trust::preset::Preset;
use countersign_domain::values::deployment_audience::DeploymentAudience;
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::time::{Clock, Entropy};
use countersign_runtime::auth::Authenticator;
use countersign_runtime::client::PeerChannel;
use countersign_runtime::health::{Condition, Readiness};
use countersign_runtime::secret::BootstrapToken;
use countersign_runtime::server::{Running, Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::Listeners;
use tokio::sync::{Semaphore, watch};

use crate::documents::{self, KeySetDocument, KeySetKeeper};
use crate::keys::IssuerKeySets;
use crate::peers::{AuditLog, IssuerService, TrustService};
use crate::pipeline::{MAX_SETTLING, Parts, Pipeline};
use crate::policies::Follower;
use crate::refusal_lines::RefusalLines;
use crate::refusals::RefusalLog;
use crate::request::Addresses;
use crate::token_endpoint::TokenEndpoint;
use crate::{grpc, health_reports};

/// What distinguishes one deployment's gateways from another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The URL that callers know: `iss` of the access tokens, and the audience that is unique to the deployment.
    pub public_url: IssuerUrl,
}

/// What the service needs of the world.
pub struct Deps {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// trust-service's internal port.
    pub trust_service: PeerChannel,
    /// issuer-service's internal port.
    pub issuer_service: PeerChannel,
    /// The replay cache.
    pub replay: Arc<dyn ReplayCache>,
    /// The keys of other issuers.
    pub keys: Arc<IssuerKeySets>,
    /// The operator's first credential.
    pub bootstrap_token: Option<BootstrapToken>,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps").field("replay", &self.replay).finish_non_exhaustive()
    }
}

/// Starts the gateway on bound listeners. It serves at once, and is ready when it has the directory of policies.
///
/// # Errors
/// When the listeners do not fit the service.
pub async fn start(config: Config, deps: Deps, listeners: Listeners, shutdown: Shutdown) -> anyhow::Result<Running> {
    let Config { public_url } = config;
    let Deps { clock, entropy, trust_service, issuer_service, replay, keys, bootstrap_token } = deps;
    let deployment = DeploymentAudience::new(&public_url)?;
    let (follower, policies) = Follower::new(trust_service.clone(), Arc::clone(&entropy));
    let (keeper, key_set) = KeySetKeeper::new(issuer_service.clone(), public_url.clone());
    let authenticator = Authenticator::new().with_bootstrap_token(bootstrap_token).with_access_tokens(
        public_url.as_str(),
        Arc::new(key_set.clone()),
        Arc::new(policies.clone()),
        Arc::clone(&clock),
    );
    let reporting = health_reports::run(Arc::clone(&keys), trust_service.clone());
    let (failing, ambiguous) = (Arc::clone(&keys), Arc::clone(&keys));
    let (waiting, turned_away) = (Arc::clone(&keys), Arc::clone(&keys));
    let readiness = Readiness::new();
    let becoming_ready = become_ready(policies.connected(), readiness.condition("policies"));
    let replay_cache = Arc::clone(&replay);
    // Read while nobody waits for them yet: a policy knows by them which claims tell an issuer's tenants apart.
    tokio::task::spawn_blocking(Preset::all);
    let refusals = Arc::new(RefusalLog::new(Arc::clone(&clock)));
    let telling_refusals = Arc::clone(&refusals).run(trust_service.clone(), shutdown.clone());
    let untold_refusals = Arc::clone(&refusals);
    let lines = Arc::<RefusalLines>::default();
    let (reporting_lines, counted_lines) = (Arc::clone(&lines).run(shutdown.clone()), Arc::clone(&lines));
    let pipeline = Pipeline::new(Parts {
        policies: Arc::new(policies),
        keys,
        replay,
        signer: Arc::new(IssuerService::new(issuer_service)),
        commits: Arc::new(TrustService::new(trust_service.clone())),
        refusals,
        lines,
        past: Arc::new(AuditLog::new(trust_service)),
        clock,
        entropy,
        deployment,
        settling: Arc::new(Semaphore::new(MAX_SETTLING)),
    });
    Server::new("exchange-gateway")
        .authenticator(authenticator)
        .readiness(readiness)
        .public(surface(pipeline, &public_url, key_set))
        .gauge("replay_cache_connected", "1 while the replay cache answers; exchanges go on without", move || {
            i64::from(replay_cache.is_connected())
        })
        .gauge("issuers_failing", "Trusted issuers whose keys could not be read the last time", move || failing.count_failing())
        .gauge("issuers_with_ambiguous_keys", "Trusted issuers that publish several keys under one id", move || {
            ambiguous.count_ambiguous()
        })
        .gauge("key_waiters", "Requests that wait for an issuer's keys", move || waiting.count_waiting())
        .gauge("key_waiters_refused", "Requests refused since the start because too many waited for keys", move || {
            turned_away.count_turned_away()
        })
        .gauge("refusals_waiting", "Refusals that the audit log was not told of yet", move || untold_refusals.count_waiting())
        .gauge_by("exchanges_refused", "Exchanges refused or failed since the start, by cause", "cause", move || {
            counted_lines.counts()
        })
        .task("report refusals without a line", reporting_lines)
        .task("tell the audit log of refusals", telling_refusals)
        .task("follow policies", follower.run())
        .task("keep the key set", keeper.run())
        .task("report the health of issuers", reporting)
        .task("become ready", becoming_ready)
        .start(listeners, shutdown)
}

/// What everybody reaches.
pub(crate) fn surface(pipeline: Pipeline, public_url: &IssuerUrl, key_set: KeySetDocument) -> Surface {
    let addresses = Addresses::below(public_url);
    let token_endpoint = TokenEndpoint { pipeline: pipeline.clone(), addresses: addresses.clone() };
    let http = Router::new().route("/oauth2/token", token_endpoint.route()).merge(documents::routes(public_url, key_set));
    Surface::new().grpc(grpc::server(pipeline, addresses)).http(http)
}

/// Ready from the first directory on. A gateway that is cut off later stays in service: it still publishes the key set, and says
/// for itself that tokens cannot be exchanged.
async fn become_ready(mut connected: watch::Receiver<bool>, condition: Condition) {
    if connected.wait_for(|connected| *connected).await.is_ok() {
        condition.set(true);
    }
    pending::<()>().await;
}
