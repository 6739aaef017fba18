//! The settings of the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use countersign_domain::issuing::issuer::{HostBase, InvalidHostBase};
use countersign_domain::values::issuer_url::{InvalidUrl, IssuerUrl, LoopbackHttp};
use countersign_jose::secret::DeploymentSecret;
use countersign_runtime::config::{
    self, Database, InternalTls, InvalidDeploymentSecret, InvalidPublicUrl, Listen, Peer, Problems, Telemetry,
};
use countersign_runtime::secret::{self, BootstrapToken, SecretFileError};
use countersign_store::issuer::IssuerQuotas;
use serde::{Deserialize, Serialize};

use crate::Config;
use crate::export::{ExportTarget, InvalidExportTarget};

/// The bounds of `key_set_max_age_seconds` and `staleness_limit_seconds`.
const SECONDS: std::ops::RangeInclusive<u64> = 10..=86_400;

/// The settings of issuer-service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IssuerSettings {
    /// Where it listens.
    pub listen: Listen,
    /// Its database.
    pub database: Database,
    /// The certificates of the internal listener and of calls to trust-service, and who is let in.
    pub internal_tls: InternalTls,
    /// trust-service's internal port, for the state of workspaces.
    pub trust_service: Peer,
    /// Where logs and traces go.
    pub telemetry: Telemetry,
    /// The gateway's public URL: the `iss` of access tokens.
    pub public_url: String,
    /// The URL below which issuers live: what answers there must be this service's public port.
    pub issuer_base_url: String,
    /// The URL of a host: issuers may have host names of their own, one label before it. Empty: none do.
    pub issuer_host_base_url: String,
    /// Seals private keys: 32 bytes in base64, which only the owner may read.
    pub key_encryption_key_file: Option<PathBuf>,
    /// Open private keys that are sealed under other keys: while the key-encryption key changes.
    pub other_key_encryption_key_files: Vec<PathBuf>,
    /// The PKCS #11 token that keeps keys.
    pub pkcs11: Pkcs11,
    /// Where the documents of issuers are exported to.
    pub export: Export,
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
    /// The limits on issuers.
    pub quotas: Quotas,
}

/// `[quotas]`: the limits on the issuers of one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// The most issuers at a time.
    pub issuers: u64,
    /// The most issuers created in 24 hours, deleted ones included.
    pub issuers_created_per_day: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        let IssuerQuotas { issuers, issuers_created_per_day } = IssuerQuotas::default();
        Self { issuers, issuers_created_per_day }
    }
}

impl Quotas {
    /// The quotas as the store takes them.
    pub fn for_store(&self) -> IssuerQuotas {
        let &Self { issuers, issuers_created_per_day } = self;
        IssuerQuotas { issuers, issuers_created_per_day }
    }
}

/// Where the documents of issuers are exported to, for relying parties that cannot reach this service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    /// `file:///directory`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`. Empty: nowhere.
    pub url: String,
    /// Options of the store, credentials among them, as TOML: `name = "text"`. Only the owner may read it.
    pub options_file: Option<PathBuf>,
}

/// Why there is no place to export to.
#[derive(Debug, thiserror::Error)]
pub enum InvalidExport {
    /// The file with the options.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// Its content, which is not repeated: it is secret.
    #[error("the options must be lines like `name = \"text\"`")]
    Options,
    /// The place.
    #[error(transparent)]
    Target(#[from] InvalidExportTarget),
    /// Options of nothing.
    #[error("the options are of no use without export.url")]
    NoUrl,
}

impl Export {
    /// Where to.
    ///
    /// # Errors
    /// When it is no place, or the options are not to be had.
    pub fn target(&self) -> Result<Option<ExportTarget>, InvalidExport> {
        let options = match &self.options_file {
            None => Vec::new(),
            Some(path) => {
                let text = secret::read_text(path)?;
                let options: BTreeMap<String, String> = toml::from_str(&text).map_err(|_| InvalidExport::Options)?;
                options.into_iter().collect()
            }
        };
        match (self.url.as_str(), self.options_file.is_some()) {
            ("", false) => Ok(None),
            ("", true) => Err(InvalidExport::NoUrl),
            (url, _) => Ok(Some(ExportTarget::parse(url, options)?)),
        }
    }
}

/// The PKCS #11 token that keeps keys. Only in a binary with the feature `pkcs11`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pkcs11 {
    /// The maker's library. Absent: there is no token.
    pub module: Option<PathBuf>,
    /// The token's label.
    pub token_label: String,
    /// The user's PIN, in a file that only the owner may read.
    pub pin_file: Option<PathBuf>,
    /// The label of an AES key in the token, which seals private keys in place of that of `key_encryption_key_file`. Empty: none.
    pub key_encryption_key_label: String,
    /// Whether keys of access tokens are made in the token.
    pub keeps_access_token_keys: bool,
}

impl Default for IssuerSettings {
    fn default() -> Self {
        Self {
            listen: Listen::on_loopback(7401),
            database: Database::default(),
            internal_tls: InternalTls::allowing(["exchange-gateway", "trust-service"]),
            trust_service: Peer::at("https://trust-service:7422"),
            telemetry: Telemetry::default(),
            public_url: String::new(),
            issuer_base_url: String::new(),
            issuer_host_base_url: String::new(),
            key_encryption_key_file: None,
            other_key_encryption_key_files: Vec::new(),
            pkcs11: Pkcs11::default(),
            export: Export::default(),
            deployment_secret_file: None,
            bootstrap_token_file: None,
            allow_loopback_http: false,
            key_set_max_age_seconds: Config::DEFAULT_KEY_SET_MAX_AGE.as_secs(),
            staleness_limit_seconds: Config::DEFAULT_STALENESS_LIMIT.as_secs(),
            access_token_callers: Config::default_access_token_callers(),
            quotas: Quotas::default(),
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

    /// The base of issuers' host names, if there is one.
    ///
    /// # Errors
    /// When it is not the URL of a host name.
    pub fn host_base(&self) -> Result<Option<HostBase>, InvalidHostBase> {
        let given = Some(&self.issuer_host_base_url).filter(|url| !url.is_empty());
        given.map(|url| HostBase::parse(url, self.loopback_http())).transpose()
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
}

impl config::Settings for IssuerSettings {
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    fn check(&self, problems: &mut Problems) {
        self.database.check("database", problems);
        self.internal_tls.check("internal_tls", problems);
        self.trust_service.check("trust_service", problems);
        problems.check("public_url", self.gateway_url());
        problems.check("issuer_base_url", self.base_url());
        problems.check("issuer_host_base_url", self.host_base());
        self.pkcs11.check(problems);
        problems.check("export", self.export.target());
        match (&self.key_encryption_key_file, self.pkcs11.key_encryption_key_label.is_empty()) {
            (None, true) => problems.add("key_encryption_key_file", "must be given"),
            (None, false) => {}
            (Some(path), true) => _ = problems.check("key_encryption_key_file", secret::read(path)),
            (Some(_), false) => {
                let problem = "cannot be given besides pkcs11.key_encryption_key_label; one that only opens is one of the others";
                problems.add("key_encryption_key_file", problem);
            }
        }
        for (index, path) in self.other_key_encryption_key_files.iter().enumerate() {
            problems.check(&format!("other_key_encryption_key_files[{index}]"), secret::read(path));
        }
        problems.check("deployment_secret_file", self.deployment_secret());
        if let Some(path) = &self.bootstrap_token_file {
            problems.check("bootstrap_token_file", BootstrapToken::from_file(path));
        }
        let Quotas { issuers, issuers_created_per_day } = self.quotas;
        let quotas = [("quotas.issuers", issuers), ("quotas.issuers_created_per_day", issuers_created_per_day)];
        config::check_quotas(&quotas, problems);
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

impl Pkcs11 {
    fn check(&self, problems: &mut Problems) {
        let Self { module, token_label, pin_file, key_encryption_key_label, keeps_access_token_keys } = self;
        if module.is_none() {
            let needing = [
                ("pkcs11.token_label", !token_label.is_empty()),
                ("pkcs11.pin_file", pin_file.is_some()),
                ("pkcs11.key_encryption_key_label", !key_encryption_key_label.is_empty()),
                ("pkcs11.keeps_access_token_keys", *keeps_access_token_keys),
            ];
            for (key, _) in needing.into_iter().filter(|(_, is_given)| *is_given) {
                problems.add(key, "is of no use without pkcs11.module");
            }
            return;
        }
        if cfg!(not(feature = "pkcs11")) {
            problems.add("pkcs11.module", "cannot be loaded: this binary was built without the feature `pkcs11`");
        }
        if token_label.is_empty() {
            problems.add("pkcs11.token_label", "must be given");
        }
        match pin_file {
            None => problems.add("pkcs11.pin_file", "must be given"),
            Some(path) => _ = problems.check("pkcs11.pin_file", secret::read(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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

    #[test]
    fn a_public_url_with_a_path_and_a_short_secret_are_both_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("deployment-secret");
        let found = |url: &str, bytes: &[u8]| {
            std::fs::write(&secret, bytes).unwrap();
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
            let mut problems = Problems::default();
            let settings = IssuerSettings {
                public_url: url.to_owned(),
                deployment_secret_file: Some(secret.clone()),
                ..IssuerSettings::default()
            };
            settings.check(&mut problems);
            let of_both = ["public_url", "deployment_secret_file"];
            of_both.into_iter().filter(|key| problems.iter().any(|problem| problem.key == *key)).collect::<Vec<_>>()
        };
        assert_eq!(found("https://x/", &[7; 31]), ["public_url", "deployment_secret_file"]);
        assert_eq!(found("https://x", &[7; 32]), [""; 0]);
    }
}
