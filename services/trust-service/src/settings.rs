//! The settings of the binary.

use std::collections::BTreeSet;
use std::path::PathBuf;

use countersign_discovery::DiscoverySettings;
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_jose::secret::DeploymentSecret;
use countersign_runtime::config::{
    self, Database, InternalTls, InvalidDeploymentSecret, InvalidPublicUrl, Listen, OptionalUrl, Peer, Problems, SecretText,
    Settings, Telemetry,
};
use countersign_runtime::secret;
use countersign_store::database::DatabaseUrl;
use countersign_store::trust::TrustQuotas;
use serde::{Deserialize, Serialize};

use crate::Config;

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
    /// Private networks in which issuers may be, like `10.0.0.0/8`, as the gateways have them: for checks of trusted issuers.
    pub issuer_networks: Vec<String>,
    /// The HTTP proxy through which issuers are reached. It resolves names and dials, so it must refuse private addresses itself.
    pub egress_proxy: OptionalUrl,
    /// Whether trust relationships are refused for warnings of the linter too, like a tenant that is told by a recyclable name.
    pub strict_lint: bool,
    /// The limits on workspaces and their resources.
    pub quotas: Quotas,
    /// The DNS names of client certificates that can read policies and commit exchanges.
    pub exchange_callers: BTreeSet<String>,
    /// For development: trusted issuers and the gateway may be plain http on loopback addresses.
    pub allow_loopback_http: bool,
    /// Logs and traces.
    pub telemetry: Telemetry,
}

/// `[quotas]`: the limits on what one workspace can have, and on the number of workspaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// The most workspaces of the deployment.
    pub workspaces: u64,
    /// The most trusted issuers of a workspace.
    pub trusted_issuers: u64,
    /// The most trust relationships of a workspace.
    pub trust_relationships: u64,
    /// The most characters of uploaded key sets and certificates of a workspace, in total.
    pub key_material_characters: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        let TrustQuotas { workspaces, trusted_issuers, trust_relationships, key_material_characters } = TrustQuotas::default();
        Self { workspaces, trusted_issuers, trust_relationships, key_material_characters }
    }
}

impl Quotas {
    /// The quotas as the store takes them.
    pub fn for_store(&self) -> TrustQuotas {
        let &Self { workspaces, trusted_issuers, trust_relationships, key_material_characters } = self;
        TrustQuotas { workspaces, trusted_issuers, trust_relationships, key_material_characters }
    }
}

impl Default for TrustSettings {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            listen: Listen::on_loopback(7402),
            database: Database::default(),
            internal_tls: InternalTls::allowing(["exchange-gateway", "issuer-service"]),
            issuer_service: Peer::at("https://issuer-service:7421"),
            bootstrap_token_file: None,
            deployment_secret_file: None,
            issuer_networks: Vec::new(),
            egress_proxy: OptionalUrl::default(),
            strict_lint: false,
            quotas: Quotas::default(),
            exchange_callers: Config::default_exchange_callers(),
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
    pub fn gateway_url(&self) -> Result<IssuerUrl, InvalidPublicUrl> {
        config::public_url(&self.public_url, self.loopback_http())
    }

    /// The secret of the deployment.
    ///
    /// # Errors
    /// When its file does not give one.
    pub fn deployment_secret(&self) -> Result<DeploymentSecret, InvalidDeploymentSecret> {
        config::deployment_secret(self.deployment_secret_file.as_deref())
    }

    /// How issuers are reached.
    ///
    /// # Errors
    /// When a network or the proxy is not one.
    pub fn discovery(&self) -> anyhow::Result<DiscoverySettings> {
        let proxy = self.egress_proxy.resolve()?;
        let proxy = proxy.as_ref().map(SecretText::reveal);
        Ok(DiscoverySettings::read(&self.issuer_networks, self.loopback_http(), proxy)?)
    }
}

impl Settings for TrustSettings {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    fn check(&self, problems: &mut Problems) {
        problems.check("public_url", self.gateway_url());
        self.database.check("database", problems);
        if let Some(url) = &self.database.url {
            problems.check("database.url", url.reveal().parse::<DatabaseUrl>());
        }
        self.internal_tls.check("internal_tls", problems);
        self.issuer_service.check("issuer_service", problems);
        if let Some(file) = &self.bootstrap_token_file {
            problems.check("bootstrap_token_file", secret::BootstrapToken::from_file(file));
        }
        problems.check("deployment_secret_file", self.deployment_secret());
        let Quotas { workspaces, trusted_issuers, trust_relationships, key_material_characters } = self.quotas;
        config::check_quotas(
            &[
                ("quotas.workspaces", workspaces),
                ("quotas.trusted_issuers", trusted_issuers),
                ("quotas.trust_relationships", trust_relationships),
                ("quotas.key_material_characters", key_material_characters),
            ],
            problems,
        );
        self.egress_proxy.check("egress_proxy", problems);
        let proxy = self.egress_proxy.url.as_ref().map(SecretText::reveal);
        if let Err(violations) = DiscoverySettings::read(&self.issuer_networks, self.loopback_http(), proxy) {
            problems.extend(violations);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_public_url_with_a_path_and_a_short_secret_are_both_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("deployment-secret");
        let found = |url: &str, bytes: &[u8]| {
            std::fs::write(&secret, bytes).unwrap();
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
            let mut problems = Problems::default();
            let settings = TrustSettings {
                public_url: url.to_owned(),
                deployment_secret_file: Some(secret.clone()),
                ..TrustSettings::default()
            };
            settings.check(&mut problems);
            let of_both = ["public_url", "deployment_secret_file"];
            of_both.into_iter().filter(|key| problems.iter().any(|problem| problem.key == *key)).collect::<Vec<_>>()
        };
        assert_eq!(found("https://x/", &[7; 31]), ["public_url", "deployment_secret_file"]);
        assert_eq!(found("https://x", &[7; 32]), [""; 0]);
    }
}
