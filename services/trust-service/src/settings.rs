//! The settings of the binary.

use std::path::PathBuf;

use countersign_domain::issuer_url::{InvalidUrl, IssuerUrl, LoopbackHttp};
use countersign_runtime::config::{Database, InternalTls, Listen, Peer, Problems, Settings, Telemetry};
use countersign_runtime::secret;
use countersign_store::database::DatabaseUrl;
use serde::{Deserialize, Serialize};

/// The settings of trust-service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustSettings {
    /// The gateway's URL: `iss` and `aud` of the access tokens that callers present, and the default audience of subject tokens.
    pub public_url: String,
    /// Where to listen.
    pub listen: Listen,
    /// Where everything is kept.
    pub database: Database,
    /// The certificates of the internal listener and of calls to issuer-service.
    pub internal_tls: InternalTls,
    /// issuer-service's internal port, for the keys that verify callers' access tokens.
    pub issuer_service: Peer,
    /// The operator's first credential. Without it only access tokens are accepted.
    pub bootstrap_token_file: Option<PathBuf>,
    /// At least 32 random bytes, the same for the whole deployment. It authenticates page tokens.
    pub deployment_secret_file: Option<PathBuf>,
    /// For development: trusted issuers and the gateway may be plain http on loopback addresses.
    pub allow_loopback_http: bool,
    /// Logs and traces.
    pub telemetry: Telemetry,
}

impl Default for TrustSettings {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            listen: Listen::on_loopback(7402),
            database: Database::default(),
            internal_tls: InternalTls::allowing(["exchange-gateway"]),
            issuer_service: Peer::at("https://issuer-service:7421"),
            bootstrap_token_file: None,
            deployment_secret_file: None,
            allow_loopback_http: false,
            telemetry: Telemetry::default(),
        }
    }
}

impl TrustSettings {
    /// Whether plain http on loopback addresses is acceptable.
    pub fn loopback_http(&self) -> LoopbackHttp {
        if self.allow_loopback_http { LoopbackHttp::Allowed } else { LoopbackHttp::Refused }
    }

    /// The gateway's URL.
    ///
    /// # Errors
    /// When it is not an acceptable URL.
    pub fn gateway_url(&self) -> Result<IssuerUrl, InvalidUrl> {
        IssuerUrl::parse(&self.public_url, self.loopback_http())
    }
}

impl Settings for TrustSettings {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    fn check(&self, problems: &mut Problems) {
        if self.public_url.is_empty() {
            problems.add("public_url", "must be given");
        } else {
            problems.check("public_url", self.gateway_url());
        }
        self.database.check("database", problems);
        if let Some(url) = &self.database.url {
            problems.check("database.url", url.reveal().parse::<DatabaseUrl>());
        }
        self.internal_tls.check("internal_tls", problems);
        self.issuer_service.check("issuer_service", problems);
        if let Some(file) = &self.bootstrap_token_file {
            problems.check("bootstrap_token_file", secret::BootstrapToken::from_file(file));
        }
        match &self.deployment_secret_file {
            None => problems.add("deployment_secret_file", "must be given"),
            Some(file) => {
                problems.check("deployment_secret_file", secret::read(file));
            }
        }
    }
}
