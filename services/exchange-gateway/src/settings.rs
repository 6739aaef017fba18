//! The settings of the binary.

use std::path::PathBuf;

use countersign_cache::redis_link::RedisUrl;
use countersign_discovery::DiscoverySettings;
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_jose::secret::DeploymentSecret;
use countersign_runtime::config::{
    self, InternalTls, InvalidDeploymentSecret, InvalidPublicUrl, Listen, OptionalUrl, Peer, Problems, SecretText, Settings,
    Telemetry,
};
use countersign_runtime::secret::BootstrapToken;
use serde::{Deserialize, Serialize};

/// The settings of exchange-gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewaySettings {
    /// The URL that callers know, without a path: `iss` of the access tokens, and the audience that is unique to the deployment.
    pub public_url: String,
    /// Where to listen.
    pub listen: Listen,
    /// The certificates for calls to the other services.
    pub internal_tls: InternalTls,
    /// trust-service's internal port.
    pub trust_service: Peer,
    /// issuer-service's internal port.
    pub issuer_service: Peer,
    /// The operator's first credential, for explanations. Without, only access tokens are accepted.
    pub bootstrap_token_file: Option<PathBuf>,
    /// The shared caches. Without them each gateway keeps its own.
    pub redis: OptionalUrl,
    /// At least 32 random bytes, the same for the whole deployment. It authenticates what lies in Redis.
    pub deployment_secret_file: Option<PathBuf>,
    /// Private networks in which issuers may be, like `10.0.0.0/8`. Without, only public addresses are ever dialled.
    pub issuer_networks: Vec<String>,
    /// The HTTP proxy through which issuers are reached. It resolves names and dials, so it must refuse private addresses itself.
    pub egress_proxy: OptionalUrl,
    /// For development: issuers and this gateway may be plain http on loopback addresses.
    pub allow_loopback_http: bool,
    /// Logs and traces.
    pub telemetry: Telemetry,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            listen: Listen::on_loopback(7403),
            internal_tls: InternalTls::default(),
            trust_service: Peer::at("https://trust-service:7422"),
            issuer_service: Peer::at("https://issuer-service:7421"),
            bootstrap_token_file: None,
            redis: OptionalUrl::default(),
            deployment_secret_file: None,
            issuer_networks: Vec::new(),
            egress_proxy: OptionalUrl::default(),
            allow_loopback_http: false,
            telemetry: Telemetry::default(),
        }
    }
}

impl GatewaySettings {
    /// Whether plain http on loopback addresses is acceptable.
    pub fn loopback_http(&self) -> LoopbackHttp {
        if self.allow_loopback_http { LoopbackHttp::Allowed } else { LoopbackHttp::Refused }
    }

    /// The URL that callers know.
    ///
    /// # Errors
    /// When it is not an acceptable URL.
    pub fn issuer_url(&self) -> Result<IssuerUrl, InvalidPublicUrl> {
        config::public_url(&self.public_url, self.loopback_http())
    }

    /// The secret of the deployment.
    ///
    /// # Errors
    /// When its file does not give one.
    pub fn deployment_secret(&self) -> Result<DeploymentSecret, InvalidDeploymentSecret> {
        config::deployment_secret(self.deployment_secret_file.as_deref())
    }

    /// Where Redis is, when there is one.
    ///
    /// # Errors
    /// When its file does not give an address, or what is given is none.
    pub fn redis_url(&self) -> anyhow::Result<Option<RedisUrl>> {
        Ok(self.redis.resolve()?.map(|url| url.reveal().parse()).transpose()?)
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

impl Settings for GatewaySettings {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    fn check(&self, problems: &mut Problems) {
        problems.check("public_url", self.issuer_url());
        self.internal_tls.check("internal_tls", problems);
        self.trust_service.check("trust_service", problems);
        self.issuer_service.check("issuer_service", problems);
        self.redis.check("redis", problems);
        if let Ok(Some(url)) = self.redis.resolve() {
            let key = if self.redis.url.is_some() { "redis.url" } else { "redis.url_file" };
            problems.check(key, url.reveal().parse::<RedisUrl>());
        }
        problems.check("deployment_secret_file", self.deployment_secret());
        if let Some(file) = &self.bootstrap_token_file {
            problems.check("bootstrap_token_file", BootstrapToken::from_file(file));
        }
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

    use countersign_runtime::config::SecretText;

    use super::*;

    #[test]
    fn a_public_url_with_a_path_and_a_short_secret_are_both_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("deployment-secret");
        let found = |url: &str, bytes: &[u8]| {
            std::fs::write(&secret, bytes).unwrap();
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
            let mut problems = Problems::default();
            let settings = GatewaySettings {
                public_url: url.to_owned(),
                deployment_secret_file: Some(secret.clone()),
                ..GatewaySettings::default()
            };
            settings.check(&mut problems);
            let of_both = ["public_url", "deployment_secret_file"];
            of_both.into_iter().filter(|key| problems.iter().any(|problem| problem.key == *key)).collect::<Vec<_>>()
        };
        assert_eq!(found("https://x/", &[7; 31]), ["public_url", "deployment_secret_file"]);
        assert_eq!(found("https://x", &[7; 32]), [""; 0]);
    }

    #[test]
    fn s61_an_address_of_redis_that_is_none_is_refused_at_the_start_and_not_repeated() {
        let found = |redis: OptionalUrl| {
            let mut problems = Problems::default();
            GatewaySettings { redis, ..GatewaySettings::default() }.check(&mut problems);
            let of_redis = problems.iter().filter(|problem| problem.key.starts_with("redis"));
            of_redis.map(|problem| format!("{}: {}", problem.key, problem.description)).collect::<Vec<_>>()
        };
        let inline = |url: &str| found(OptionalUrl { url: Some(SecretText::new(url)), url_file: None });
        for good in ["redis://a", "rediss://:p@a:1/2", "redis-sentinel://a,b/mymaster", "redis-cluster://:p@a,b"] {
            assert_eq!(inline(good), [""; 0], "{good}");
        }
        for bad in ["http://a", "redis://:hunter2/x@a", "redis-sentinel://:hunter2@a", "redis-cluster://:hunter2@a/1"] {
            let problems = inline(bad);
            assert!(matches!(&problems[..], [one] if one.starts_with("redis.url: ") && !one.contains("hunter2")), "{problems:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("redis-url");
        std::fs::write(&file, "redis-cluster://a/1").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let problems = found(OptionalUrl { url: None, url_file: Some(file) });
        assert!(matches!(&problems[..], [one] if one.starts_with("redis.url_file: ")), "{problems:?}");
    }
}
