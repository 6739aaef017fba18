//! The binary.

mod token;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use countersign_domain::issuing::issuer::KeyCustody;
use countersign_domain::trust::workspace;
use countersign_jose::sealed::{KeyEncryptionKey, KeyEncryptionKeys};
use countersign_runtime::ambient::{SystemClock, SystemEntropy};
use countersign_runtime::client::PeerChannel;
use countersign_runtime::process::{self, Program};
use countersign_runtime::secret::{self, BootstrapToken};
use countersign_runtime::server::Running;
use countersign_runtime::shutdown::Shutdown;
use countersign_store::database::DatabaseUrl;
use countersign_store::issuer::SeaIssuerStore;
use issuer_service::{Config, Deps, IssuerSettings};

fn main() -> ExitCode {
    process::run(Program { name: "issuer-service", version: env!("CARGO_PKG_VERSION") }, run)
}

async fn run(settings: IssuerSettings, shutdown: Shutdown) -> anyhow::Result<Running> {
    let base_url = settings.base_url().context("issuer_base_url")?;
    let host_base = settings.host_base().context("issuer_host_base_url")?;
    let export = settings.export.target().context("export")?;
    let access_token_issuer = settings.gateway_url().context("public_url")?;
    let deployment_secret = settings.deployment_secret().context("deployment_secret_file")?;
    let loopback_http = settings.loopback_http();
    // Everything is named, so that a setting that nobody uses does not compile.
    let IssuerSettings {
        listen,
        database,
        internal_tls,
        trust_service,
        // Set up before this runs.
        telemetry: _,
        public_url: _,
        issuer_base_url: _,
        issuer_host_base_url: _,
        key_encryption_key_file,
        other_key_encryption_key_files,
        pkcs11,
        export: _,
        deployment_secret_file: _,
        bootstrap_token_file,
        allow_loopback_http: _,
        key_set_max_age_seconds,
        staleness_limit_seconds,
        access_token_callers,
        quotas,
    } = settings;
    let config = Config {
        workspace_staleness_limit: workspace::STATE_STALENESS_LIMIT,
        base_url,
        host_base,
        access_token_issuer,
        loopback_http,
        key_set_max_age: Duration::from_secs(key_set_max_age_seconds),
        staleness_limit: Duration::from_secs(staleness_limit_seconds),
        access_token_callers,
        access_token_key_custody: if pkcs11.keeps_access_token_keys { KeyCustody::Device } else { KeyCustody::Sealed },
    };

    let token::Opened { key_device, key_encryption_key } = tokio::task::spawn_blocking(move || token::open(&pkcs11)).await??;
    let opening = other_key_encryption_key_files.iter().map(|file| read_key_encryption_key(file)).collect::<Result<_, _>>()?;
    let sealing = match (key_encryption_key, key_encryption_key_file) {
        (Some(in_token), _) => in_token,
        (None, file) => read_key_encryption_key(&file.context("key_encryption_key_file must be given")?)?,
    };
    let key_encryption_keys = KeyEncryptionKeys::new(sealing, opening);
    let bootstrap_token = bootstrap_token_file.as_deref().map(BootstrapToken::from_file).transpose()?;
    let identity = internal_tls.identity()?;
    let trust_service = PeerChannel::new("trust-service", trust_service.address(Arc::clone(&identity))?);
    let url: DatabaseUrl = database.resolve()?.reveal().parse().context("database.url")?;
    // Before the other ports are opened, so that nobody connects to a service that still waits for its database.
    let store = Box::pin(async { SeaIssuerStore::open(&url).await.context("cannot open the database") });
    let store = listen.while_waiting_for("database", store).await?.with_quotas(quotas.for_store());

    let deps = Deps {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        store: Arc::new(store),
        trust_service,
        key_encryption_keys,
        key_device,
        export,
        deployment_secret,
        bootstrap_token,
    };
    let listeners = listen.bind(Some((&internal_tls, identity))).await?;
    issuer_service::start(config, deps, listeners, shutdown).await
}

fn read_key_encryption_key(file: &Path) -> anyhow::Result<KeyEncryptionKey> {
    let text = secret::read_text(file)?;
    KeyEncryptionKey::from_base64(&text).with_context(|| format!("no key-encryption key: {}", file.display()))
}
