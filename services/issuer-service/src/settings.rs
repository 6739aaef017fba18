//! The settings of the process, and what is built from them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use countersign_domain::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_jose::sealed::KeyEncryptionKey;
use countersign_jose::secret::DeploymentSecret;
use countersign_runtime::ambient::{SystemClock, SystemEntropy};
use countersign_runtime::config::{self, Database, InternalTls, Listen, Problems, Telemetry};
use countersign_runtime::secret::{self, BootstrapToken};
use countersign_runtime::server::Running;
use countersign_runtime::shutdown::Shutdown;
use countersign_store::database::DatabaseUrl;
use countersign_store::issuer::SeaIssuerStore;
use serde::{Deserialize, Serialize};

use crate::{Config, Deps, start};

/// The bounds of `key_set_max_age_seconds` and `staleness_limit_seconds`.
const SECONDS: std::ops::RangeInclusive<u64> = 10..=86_400;

/// The settings of issuer-service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Where it listens.
    pub listen: Listen,
    /// Its database.
    pub database: Database,
    /// The certificates of the internal listener, and who is let in.
    pub internal_tls: InternalTls,
    /// Where logs and traces go.
    pub telemetry: Telemetry,
    /// The gateway's public URL: the `iss` of access tokens.
    pub public_url: String,
    /// The URL below which issuers live: what answers there must be this service's public port.
    pub issuer_base_url: String,
    /// Seals private keys: 32 bytes in base64, which only the owner may read.
    pub key_encryption_key_file: Option<PathBuf>,
    /// The secret that all services of the deployment share.
    pub deployment_secret_file: Option<PathBuf>,
    /// The operator's first credential. Absent: switched off.
    pub bootstrap_token_file: Option<PathBuf>,
    /// Whether URLs may be http on loopback. For development.
    pub allow_loopback_http: bool,
    /// How long verifiers may keep a key set.
    pub key_set_max_age_seconds: u64,
    /// How long a replica signs and serves without having seen the database.
    pub staleness_limit_seconds: u64,
    /// The DNS names of client certificates that may have access tokens signed.
    pub access_token_callers: BTreeSet<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Listen::on_loopback(7401),
            database: Database::default(),
            internal_tls: InternalTls::allowing(["exchange-gateway", "trust-service"]),
            telemetry: Telemetry::default(),
            public_url: String::new(),
            issuer_base_url: String::new(),
            key_encryption_key_file: None,
            deployment_secret_file: None,
            bootstrap_token_file: None,
            allow_loopback_http: false,
            key_set_max_age_seconds: Config::DEFAULT_KEY_SET_MAX_AGE.as_secs(),
            staleness_limit_seconds: Config::DEFAULT_STALENESS_LIMIT.as_secs(),
            access_token_callers: Config::default_access_token_callers(),
        }
    }
}

impl Settings {
    fn loopback_http(&self) -> LoopbackHttp {
        if self.allow_loopback_http { LoopbackHttp::Allowed } else { LoopbackHttp::Refused }
    }

    fn url(&self, text: &str) -> anyhow::Result<IssuerUrl> {
        Ok(IssuerUrl::parse(text, self.loopback_http())?)
    }
}

impl config::Settings for Settings {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    fn check(&self, problems: &mut Problems) {
        self.database.check("database", problems);
        self.internal_tls.check("internal_tls", problems);
        for (key, url) in [("public_url", &self.public_url), ("issuer_base_url", &self.issuer_base_url)] {
            problems.check(key, IssuerUrl::parse(url, self.loopback_http()));
        }
        let files = [
            ("key_encryption_key_file", &self.key_encryption_key_file),
            ("deployment_secret_file", &self.deployment_secret_file),
        ];
        for (key, file) in files {
            match file {
                None => problems.add(key, "must be given"),
                Some(path) => _ = problems.check(key, secret::read(path)),
            }
        }
        if let Some(path) = &self.bootstrap_token_file {
            problems.check("bootstrap_token_file", BootstrapToken::from_file(path));
        }
        let durations = [
            ("key_set_max_age_seconds", self.key_set_max_age_seconds),
            ("staleness_limit_seconds", self.staleness_limit_seconds),
        ];
        for (key, seconds) in durations {
            if !SECONDS.contains(&seconds) {
                problems.add(key, format!("must be {} to {}", SECONDS.start(), SECONDS.end()));
            }
        }
    }
}

/// Builds the dependencies from the settings, opens the ports and starts.
pub async fn start_from_settings(settings: Settings, shutdown: Shutdown) -> anyhow::Result<Running> {
    let base_url = settings.url(&settings.issuer_base_url).context("issuer_base_url")?;
    let access_token_issuer = settings.url(&settings.public_url).context("public_url")?;
    let loopback_http = settings.loopback_http();
    let Settings {
        listen,
        database,
        internal_tls,
        telemetry: _,
        public_url: _,
        issuer_base_url: _,
        key_encryption_key_file,
        deployment_secret_file,
        bootstrap_token_file,
        allow_loopback_http: _,
        key_set_max_age_seconds,
        staleness_limit_seconds,
        access_token_callers,
    } = settings;
    let config = Config {
        base_url,
        access_token_issuer,
        loopback_http,
        key_set_max_age: Duration::from_secs(key_set_max_age_seconds),
        staleness_limit: Duration::from_secs(staleness_limit_seconds),
        access_token_callers,
    };

    let key_encryption_key = read_key_encryption_key(key_encryption_key_file.as_deref())?;
    let deployment_secret = deployment_secret_file.context("deployment_secret_file must be given")?;
    let deployment_secret = DeploymentSecret::from_bytes(&secret::read(&deployment_secret)?).context("deployment_secret_file")?;
    let bootstrap_token = bootstrap_token_file.as_deref().map(BootstrapToken::from_file).transpose()?;
    let identity = internal_tls.identity()?;
    let url: DatabaseUrl = database.resolve()?.reveal().parse().context("database.url")?;
    let store = SeaIssuerStore::open(&url).await.context("cannot open the database")?;

    let deps = Deps {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        store: Arc::new(store),
        key_encryption_key,
        deployment_secret,
        bootstrap_token,
    };
    let listeners = listen.bind(Some((&internal_tls, identity))).await?;
    start(config, deps, listeners, shutdown).await
}

fn read_key_encryption_key(file: Option<&Path>) -> anyhow::Result<KeyEncryptionKey> {
    let file = file.context("key_encryption_key_file must be given")?;
    let text = secret::read_text(file)?;
    KeyEncryptionKey::from_base64(&text).with_context(|| format!("key_encryption_key_file: {}", file.display()))
}

#[cfg(test)]
mod tests {
    use countersign_runtime::config::Settings as _;

    use super::*;

    #[test]
    fn every_problem_is_found_at_once() {
        let mut problems = Problems::default();
        let settings =
            Settings { staleness_limit_seconds: 0, issuer_base_url: "http://localhost".to_owned(), ..Settings::default() };
        settings.check(&mut problems);
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        for key in [
            "database.url",
            "internal_tls.ca_file",
            "public_url",
            "issuer_base_url",
            "key_encryption_key_file",
            "deployment_secret_file",
            "staleness_limit_seconds",
        ] {
            assert!(keys.contains(&key), "{key} is not in {keys:?}");
        }
    }
}
