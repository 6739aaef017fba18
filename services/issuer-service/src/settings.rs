//! The settings of the binary.

use std::collections::BTreeSet;
use std::path::PathBuf;

use countersign_domain::issuer_url::{InvalidUrl, IssuerUrl, LoopbackHttp};
use countersign_runtime::config::{self, Database, InternalTls, Listen, Problems, Telemetry};
use countersign_runtime::secret::{self, BootstrapToken};
use serde::{Deserialize, Serialize};

use crate::Config;

/// The bounds of `key_set_max_age_seconds` and `staleness_limit_seconds`.
const SECONDS: std::ops::RangeInclusive<u64> = 10..=86_400;

/// The settings of issuer-service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IssuerSettings {
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

impl Default for IssuerSettings {
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

impl IssuerSettings {
    /// Whether URLs may be plain http on loopback addresses.
    pub fn loopback_http(&self) -> LoopbackHttp {
        if self.allow_loopback_http { LoopbackHttp::Allowed } else { LoopbackHttp::Refused }
    }

    /// The URL below which issuers live.
    ///
    /// # Errors
    /// When it is not an acceptable URL.
    pub fn base_url(&self) -> Result<IssuerUrl, InvalidUrl> {
        IssuerUrl::parse(&self.issuer_base_url, self.loopback_http())
    }

    /// The gateway's URL.
    ///
    /// # Errors
    /// When it is not an acceptable URL.
    pub fn gateway_url(&self) -> Result<IssuerUrl, InvalidUrl> {
        IssuerUrl::parse(&self.public_url, self.loopback_http())
    }
}

impl config::Settings for IssuerSettings {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    fn check(&self, problems: &mut Problems) {
        self.database.check("database", problems);
        self.internal_tls.check("internal_tls", problems);
        problems.check("public_url", self.gateway_url());
        problems.check("issuer_base_url", self.base_url());
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

#[cfg(test)]
mod tests {
    use countersign_runtime::config::Settings as _;

    use super::*;

    #[test]
    fn every_problem_is_found_at_once() {
        let mut problems = Problems::default();
        let settings = IssuerSettings {
            staleness_limit_seconds: 0,
            issuer_base_url: "http://localhost".to_owned(),
            ..IssuerSettings::default()
        };
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
