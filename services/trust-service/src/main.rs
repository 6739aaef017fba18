//! The binary.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use countersign_discovery::Discovery;
use countersign_domain::values::time::Entropy;
use countersign_runtime::ambient::{SystemClock, SystemEntropy};
use countersign_runtime::client::PeerChannel;
use countersign_runtime::process::{self, Program};
use countersign_runtime::secret::BootstrapToken;
use countersign_runtime::server::Running;
use countersign_runtime::shutdown::Shutdown;
use countersign_store::database::Database;
use countersign_store::trust::{SCHEMA, SeaTrustStore};
use trust_service::{Config, Deps, TrustSettings};

fn main() -> ExitCode {
    process::run(Program { name: "trust-service", version: env!("CARGO_PKG_VERSION") }, run)
}

async fn run(settings: TrustSettings, shutdown: Shutdown) -> anyhow::Result<Running> {
    let public_url = settings.gateway_url().context("public_url")?;
    let deployment_secret = settings.deployment_secret().context("deployment_secret_file")?;
    let (loopback_http, discovery) = (settings.loopback_http(), settings.discovery()?);
    let TrustSettings {
        public_url: _,
        listen,
        database,
        internal_tls,
        issuer_service,
        bootstrap_token_file,
        deployment_secret_file: _,
        issuer_networks: _,
        egress_proxy: _,
        strict_lint,
        quotas,
        exchange_callers,
        allow_loopback_http: _,
        // Set up before this runs.
        telemetry: _,
    } = settings;
    let bootstrap_token = bootstrap_token_file.as_deref().map(BootstrapToken::from_file).transpose()?;
    let identity = internal_tls.identity()?;
    let issuer_service = PeerChannel::new("issuer-service", issuer_service.address(Arc::clone(&identity))?);
    // Before the other ports are opened, so that nobody connects to a service that still waits for its database.
    let url = database.resolve()?.reveal().parse()?;
    let store = Box::pin(async {
        Ok(SeaTrustStore::open(Database::connect(&url, SCHEMA).await?).await?.with_quotas(quotas.for_store()))
    });
    let store = listen.while_waiting_for("database", store).await?;
    let listeners = listen.bind(Some((&internal_tls, identity))).await?;
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let deps = Deps {
        clock: Arc::new(SystemClock),
        entropy: Arc::clone(&entropy),
        store: Arc::new(store),
        issuer_service,
        deployment_secret,
        // Checks are for looking past caches, so they share none.
        discovery: Discovery::new(&discovery, None, entropy)?,
        bootstrap_token,
    };
    let config = Config { public_url, loopback_http, strict_lint, exchange_callers };
    trust_service::start(config, deps, listeners, shutdown).await
}
