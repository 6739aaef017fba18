//! The `exchange-gateway` binary: settings, dependencies, listeners, then [`exchange_gateway::start`].

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use countersign_cache::key_set_cache::{KeySetCache, RedisKeySetCache};
use countersign_cache::redis_link::{RedisLink, RedisUrl};
use countersign_cache::replay::{EmbeddedReplayCache, RedisReplayCache, ReplayCache};
use countersign_discovery::Discovery;
use countersign_domain::values::time::{Clock, Entropy};
use countersign_jose::secret::DeploymentSecret;
use countersign_runtime::ambient::{SystemClock, SystemEntropy};
use countersign_runtime::client::PeerChannel;
use countersign_runtime::process::{self, Program};
use countersign_runtime::secret::BootstrapToken;
use countersign_runtime::server::Running;
use countersign_runtime::shutdown::Shutdown;
use exchange_gateway::{Config, Deps, GatewaySettings, IssuerKeySets};

fn main() -> ExitCode {
    process::run(Program { name: "exchange-gateway", version: env!("CARGO_PKG_VERSION") }, start)
}

async fn start(settings: GatewaySettings, shutdown: Shutdown) -> anyhow::Result<Running> {
    let (public_url, discovery) = (settings.issuer_url().context("public_url")?, settings.discovery()?);
    let redis_url = settings.redis_url().context("redis")?;
    let deployment_secret = settings.deployment_secret().context("deployment_secret_file")?;
    // Everything is named, so that a setting that nobody uses does not compile.
    let GatewaySettings {
        public_url: _,
        listen,
        internal_tls,
        trust_service,
        issuer_service,
        bootstrap_token_file,
        redis: _,
        deployment_secret_file: _,
        issuer_networks: _,
        egress_proxy: _,
        allow_loopback_http: _,
        telemetry: _,
    } = settings;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let (replay, key_set_cache) = caches(redis_url, &deployment_secret, &clock)?;
    let discovery = Discovery::new(&discovery, key_set_cache, Arc::clone(&entropy))?;
    let keys = Arc::new(IssuerKeySets::new(discovery, Arc::clone(&clock)));
    let identity = internal_tls.identity()?;
    let bootstrap_token = bootstrap_token_file.as_deref().map(BootstrapToken::from_file).transpose()?;
    let deps = Deps {
        clock,
        entropy,
        trust_service: PeerChannel::new("trust-service", trust_service.address(Arc::clone(&identity))?),
        issuer_service: PeerChannel::new("issuer-service", issuer_service.address(identity)?),
        replay,
        keys,
        bootstrap_token,
    };
    let listeners = listen.bind(None).await?;
    exchange_gateway::start(Config { public_url }, deps, listeners, shutdown).await
}

type Caches = (Arc<dyn ReplayCache>, Option<Arc<dyn KeySetCache>>);

/// The caches that gateways share, or without Redis this gateway's own. Redis need not be there, now or ever; whether it is, the
/// log tells at the start, before an exchange would want to know.
fn caches(redis: Option<RedisUrl>, secret: &DeploymentSecret, clock: &Arc<dyn Clock>) -> anyhow::Result<Caches> {
    let Some(url) = redis else {
        return Ok((Arc::new(EmbeddedReplayCache::default()), None));
    };
    let link = RedisLink::new(url)?;
    link.connect();
    let key_sets = RedisKeySetCache::new(link.clone(), secret.derive("key set cache"), Arc::clone(clock));
    Ok((Arc::new(RedisReplayCache::new(link)), Some(Arc::new(key_sets))))
}
