//! Sections that several services share.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use super::Problems;
use crate::client::PeerAddress;
use crate::concurrency::Share;
use crate::health;
use crate::open_files;
use crate::secret;
use crate::server::Limits;
use crate::tls::{TlsFiles, TlsIdentity};
use crate::transport::{Admission, Listener, Listeners};

/// `[listen]`: the addresses of the three ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// gRPC and HTTP for everybody.
    pub public: SocketAddr,
    /// mTLS for the other services. Not opened by a service without internal RPCs.
    pub internal: SocketAddr,
    /// `/livez`, `/readyz` and `/metrics`.
    pub private: SocketAddr,
    /// Whether the public port describes its services by gRPC reflection.
    pub reflection: bool,
    /// Networks of proxies in front of the public port: their `X-Forwarded-For` names the client.
    pub proxies: Vec<IpNet>,
    /// Connections to each port at a time.
    pub connections: usize,
    /// The same from one address, or from one IPv6 network of 64 bits.
    pub connections_per_peer: usize,
}

impl Listen {
    /// The usual ports, on loopback: `public`, internal 20 above it, private 10 above it.
    pub fn on_loopback(public: u16) -> Self {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let Share { total, per_peer } = Limits::default().connections;
        Self {
            public: at(public),
            internal: at(public + 20),
            private: at(public + 10),
            reflection: true,
            proxies: Vec::new(),
            connections: total,
            connections_per_peer: per_peer,
        }
    }

    /// Does what must be done before the ports are opened and may take a while, such as waiting for a database. Meanwhile the
    /// private port answers `/livez`, so that nobody ends the process for it, and `/readyz` with what it waits for.
    ///
    /// # Errors
    /// The private port cannot be opened, or the work's own.
    pub async fn while_waiting_for<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let private = Listener::Tcp(bind("listen.private", &self.private).await?);
        health::answer_while(private, what, work).await
    }

    /// Opens the ports. `internal_tls`: of a service with internal RPCs, its certificates.
    pub async fn bind(&self, internal_tls: Option<(&InternalTls, Arc<TlsIdentity>)>) -> anyhow::Result<Listeners> {
        let Self { public, internal, private, reflection, proxies, connections, connections_per_peer } = self;
        let public = Listener::Tcp(bind("listen.public", public).await?);
        let private = Some(Listener::Tcp(bind("listen.private", private).await?));
        let internal = match internal_tls {
            None => None,
            Some((settings, identity)) => Some(Listener::Tls {
                listener: bind("listen.internal", internal).await?,
                identity,
                allowed_peers: Arc::new(settings.allowed_peers.clone()),
            }),
        };
        let share = Share { total: *connections, per_peer: *connections_per_peer };
        let admission =
            Admission { reflection: *reflection, proxies: proxies.clone(), connections: Some(open_files::within(share)) };
        Ok(Listeners { public, internal, private, admission })
    }
}

async fn bind(key: &'static str, address: &SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
}

/// A secret text. Shown masked, whoever prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// `[database]`: inline or from a file, as the URL may hold a password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// `postgres://…` or `sqlite://…`.
    pub url: Option<SecretText>,
    /// A file that holds the URL and that only its owner may read.
    pub url_file: Option<PathBuf>,
}

impl Database {
    /// Notes what is wrong.
    pub fn check(&self, section: &str, problems: &mut Problems) {
        if self.url.is_none() && self.url_file.is_none() {
            problems.add(format!("{section}.url"), "must be given, here or as `url_file`");
        }
        check_either(section, self.url.as_ref(), self.url_file.as_deref(), problems);
    }

    /// The URL.
    pub fn resolve(&self) -> anyhow::Result<SecretText> {
        resolve(self.url.as_ref(), self.url_file.as_deref())?.context("no database is configured")
    }
}

/// `[redis]`, `[egress_proxy]`: something that need not be there, inline or from a file, as the URL may hold a password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionalUrl {
    /// The URL.
    pub url: Option<SecretText>,
    /// A file that holds the URL and that only its owner may read.
    pub url_file: Option<PathBuf>,
}

impl OptionalUrl {
    /// Notes what is wrong.
    pub fn check(&self, section: &str, problems: &mut Problems) {
        check_either(section, self.url.as_ref(), self.url_file.as_deref(), problems);
    }

    /// The URL, when there is one.
    pub fn resolve(&self) -> anyhow::Result<Option<SecretText>> {
        resolve(self.url.as_ref(), self.url_file.as_deref())
    }
}

fn check_either(section: &str, inline: Option<&SecretText>, file: Option<&Path>, problems: &mut Problems) {
    match (inline, file) {
        (Some(_), Some(_)) => problems.add(format!("{section}.url_file"), "must not be given beside `url`"),
        (None, Some(path)) => {
            problems.check(&format!("{section}.url_file"), secret::read_text(path));
        }
        _ => {}
    }
}

fn resolve(inline: Option<&SecretText>, file: Option<&Path>) -> anyhow::Result<Option<SecretText>> {
    match (inline, file) {
        (Some(url), _) => Ok(Some(url.clone())),
        (None, Some(path)) => Ok(Some(SecretText(secret::read_text(path)?))),
        (None, None) => Ok(None),
    }
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which are written: `tracing`'s filter directives.
    pub log_filter: String,
    /// Where traces go, `http://collector:4317`. Absent: no traces.
    pub otlp_endpoint: Option<String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: LogFormat::Text, log_filter: "info".to_owned(), otlp_endpoint: None }
    }
}

impl Telemetry {
    /// Notes what is wrong.
    pub fn check(&self, section: &str, problems: &mut Problems) {
        let Self { log_format: _, log_filter, otlp_endpoint } = self;
        // The filter's own error repeats the directive that it does not understand.
        if EnvFilter::try_new(log_filter).is_err() {
            let description = "must be directives of `tracing`, for example `info` or `warn,exchange_gateway=debug`";
            problems.add(format!("{section}.log_filter"), description);
        }
        if let Some(endpoint) = otlp_endpoint {
            problems.check(&format!("{section}.otlp_endpoint"), crate::client::check_url(endpoint, "http"));
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[internal_tls]`: the certificates of the internal listener and of calls to peers. PEM files, made by
/// `countersign certs init`, read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalTls {
    /// The deployment's authority.
    pub ca_file: Option<PathBuf>,
    /// The service's certificate.
    pub cert_file: Option<PathBuf>,
    /// Its private key, which only its owner may read.
    pub key_file: Option<PathBuf>,
    /// The DNS names of client certificates that the internal listener lets in.
    pub allowed_peers: BTreeSet<String>,
}

impl InternalTls {
    /// Lets these peers in.
    pub fn allowing<'a>(peers: impl IntoIterator<Item = &'a str>) -> Self {
        Self { allowed_peers: peers.into_iter().map(str::to_owned).collect(), ..Self::default() }
    }

    /// Notes what is wrong.
    pub fn check(&self, section: &str, problems: &mut Problems) {
        let Self { ca_file, cert_file, key_file, allowed_peers } = self;
        for (name, file) in [("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)] {
            if file.is_none() {
                problems.add(format!("{section}.{name}"), "must be given; `countersign certs init` makes the files");
            }
        }
        if let Some(key) = key_file {
            problems.check(&format!("{section}.key_file"), secret::read(key));
        }
        for name in allowed_peers {
            // Every service's certificate contains these names, so they would not distinguish the services.
            if name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok() {
                problems.add(format!("{section}.allowed_peers"), format!("cannot contain `{name}`, which names every service"));
            }
        }
    }

    /// Reads the certificates.
    pub fn identity(&self) -> anyhow::Result<Arc<TlsIdentity>> {
        let file = |file: &Option<PathBuf>| file.clone().context("the internal certificates are not configured");
        let files = TlsFiles { authority: file(&self.ca_file)?, certificate: file(&self.cert_file)?, key: file(&self.key_file)? };
        Ok(TlsIdentity::load(files)?)
    }
}

/// Where another service's internal port is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// `https://host:port`.
    pub url: String,
    /// The name that its certificate must carry, when that is not the URL's host.
    pub server_name: Option<String>,
}

impl Peer {
    /// A peer whose certificate carries the URL's host.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), server_name: None }
    }

    /// Notes what is wrong.
    pub fn check(&self, section: &str, problems: &mut Problems) {
        problems.check(&format!("{section}.url"), crate::client::check_url(&self.url, "https"));
    }

    /// Where to connect, and as whom.
    pub fn address(&self, identity: Arc<TlsIdentity>) -> anyhow::Result<PeerAddress> {
        Ok(PeerAddress::mutual_tls(&self.url, self.server_name.as_deref(), identity)?)
    }
}

/// The limits of a quota: none can be switched off, and a database counts up to it.
const QUOTA: std::ops::RangeInclusive<u64> = 1..=1_000_000_000;

/// Notes the quotas, each with the path of its key, that are out of range.
pub fn check_quotas(quotas: &[(&str, u64)], problems: &mut Problems) {
    for (key, quota) in quotas {
        if !QUOTA.contains(quota) {
            problems.add(*key, format!("must be {} to {}, got {quota}", QUOTA.start(), QUOTA.end()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_cannot_be_zero_or_beyond_what_is_counted() {
        let mut problems = Problems::default();
        check_quotas(&[("quotas.a", 0), ("quotas.b", 1), ("quotas.c", 1_000_000_000), ("quotas.d", u64::MAX)], &mut problems);
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["quotas.a", "quotas.d"]);
    }

    #[test]
    fn s71_loopback_is_never_an_allowed_peer() {
        for name in ["localhost", "LOCALHOST", "127.0.0.1", "::1"] {
            let mut problems = Problems::default();
            InternalTls::allowing([name, "exchange-gateway"]).check("internal_tls", &mut problems);
            let described = problems.iter().filter(|problem| problem.key == "internal_tls.allowed_peers").count();
            assert_eq!(described, 1, "{name}");
        }
    }

    #[test]
    fn peers_are_reached_over_https_only() {
        for (url, problems_found) in [
            ("https://issuer-service:7421", 0),
            ("https://[::1]:7421", 0),
            ("http://issuer-service:7421", 1),
            ("https://issuer-service:7421/path", 1),
            ("issuer-service:7421", 1),
            ("", 1),
        ] {
            let mut problems = Problems::default();
            Peer::at(url).check("peer", &mut problems);
            assert_eq!(problems.iter().count(), problems_found, "{url}");
        }
    }
}
