//! Fetching over HTTP.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_domain::issuer_url::{KeySetUrl, LoopbackHttp};
use http::StatusCode;
use http::header::{ACCEPT, AGE, CACHE_CONTROL};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Response, redirect, retry, tls};
use url::{Host, Url};

use crate::address::AddressRules;
use crate::egress_proxy::EgressProxy;
use crate::fetch::{Fetch, FetchError, Fetched, MAX_BYTES, Stored, Wanted};
use crate::freshness;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// For one request; a refresh of two requests has the same limit for both.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const MAX_HEADERS: usize = 64;
const USER_AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

/// Fetches over HTTPS, from addresses that the rules permit.
pub(crate) struct HttpFetcher {
    /// For issuers whose certificates come from the system's authorities.
    client: Client,
    bounds: Bounds,
}

/// Everything that bounds a request.
#[derive(Debug, Clone)]
struct Bounds {
    rules: Arc<AddressRules>,
    proxy: Option<EgressProxy>,
    lookup: Arc<dyn Lookup>,
}

impl HttpFetcher {
    pub(crate) fn new(rules: AddressRules, proxy: Option<EgressProxy>) -> Result<Self, reqwest::Error> {
        Self::with_lookup(rules, proxy, Arc::new(SystemLookup))
    }

    fn with_lookup(rules: AddressRules, proxy: Option<EgressProxy>, lookup: Arc<dyn Lookup>) -> Result<Self, reqwest::Error> {
        let bounds = Bounds { rules: Arc::new(rules), proxy, lookup };
        let client = bounds.client().build().or_else(|error| {
            // Without a single trusted CA on this machine no issuer can be reached over TLS, and each attempt says so. That must
            // not keep the process from starting: development needs none.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "no certificate authorities: no https issuer can be reached"
            );
            bounds.client().tls_certs_only([]).build()
        })?;
        Ok(Self { client, bounds })
    }

    /// Checks what the resolver is not asked about: the scheme, and a host that is an address.
    fn check(&self, url: &str) -> Result<Url, FetchError> {
        let rules = &self.bounds.rules;
        KeySetUrl::parse(url, rules.loopback)?;
        let url = Url::parse(url).map_err(|_| countersign_domain::issuer_url::InvalidUrl::NotCanonical)?;
        match url.host() {
            Some(Host::Ipv4(address)) => rules.check(IpAddr::V4(address))?,
            Some(Host::Ipv6(address)) => rules.check(IpAddr::V6(address))?,
            Some(Host::Domain(_)) | None => {}
        }
        Ok(url)
    }
}

impl Bounds {
    /// Nothing of it comes from the environment (SECURITY 47).
    fn client(&self) -> ClientBuilder {
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(retry::never())
            .https_only(self.rules.loopback == LoopbackHttp::Refused)
            .tls_version_min(tls::Version::TLS_1_2)
            .http1_only()
            .http1_max_headers(MAX_HEADERS)
            // Every request resolves and checks the name anew, and an idle connection is no use five minutes later.
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_LIMIT)
            .timeout(REQUEST_LIMIT)
            .user_agent(USER_AGENT);
        match &self.proxy {
            // The only name that is then resolved here is the proxy's own, which the operator chose.
            Some(proxy) => client.proxy(proxy.proxy()),
            None => client.dns_resolver(GuardedResolver { rules: Arc::clone(&self.rules), lookup: Arc::clone(&self.lookup) }),
        }
    }
}

#[async_trait]
impl Fetch for HttpFetcher {
    async fn fetch(&self, wanted: Wanted<'_>) -> Result<Fetched, FetchError> {
        let url = self.check(wanted.url)?;
        let own = match wanted.authorities {
            // Made for the occasion: such an issuer is asked every few minutes, and what it takes is little beside a handshake.
            Some(authorities) => {
                let client = self.bounds.client().tls_certs_only(authorities.certificates().iter().cloned()).build();
                Some(client.map_err(FetchError::Authorities)?)
            }
            None => None,
        };
        let client = own.as_ref().unwrap_or(&self.client);
        let mut request = client.get(url).header(ACCEPT, "application/json, application/jwk-set+json");
        if wanted.stored == Stored::Refused {
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        // The URL is left out of errors: what an operator needs of it is logged beside them.
        let response = request.send().await.map_err(|error| FetchError::Http(error.without_url()))?;
        // The content type is not looked at: honest issuers serve any, and what is not a strict JSON document fails anyway.
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let headers = response.headers();
        let cache_control = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
        let age = headers.get(AGE).and_then(|value| value.to_str().ok());
        let lifetime = freshness::lifetime(cache_control, age);
        Ok(Fetched { bytes: read(response).await?, lifetime })
    }
}

/// Reads a body up to the limit, counting decoded bytes, so that a bomb ends where it would begin to hurt.
async fn read(mut response: Response) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::Http(error.without_url()))? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Shows the limits that a deployment chose.
impl fmt::Debug for HttpFetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpFetcher")
            .field("rules", &self.bounds.rules)
            .field("proxy", &self.bounds.proxy)
            .finish_non_exhaustive()
    }
}

/// Finds the addresses of a name.
#[async_trait]
trait Lookup: Send + Sync + fmt::Debug {
    async fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>>;
}

/// As the system does.
#[derive(Debug)]
struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }
}

/// The name leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub(crate) struct UnknownHost(#[source] io::Error);

/// Resolves names and refuses those with an address that may not be dialled. What it returns is what is dialled, so a name that
/// changes its answer between check and use gains nothing (SECURITY 39).
#[derive(Debug)]
struct GuardedResolver {
    rules: Arc<AddressRules>,
    lookup: Arc<dyn Lookup>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, lookup) = (Arc::clone(&self.rules), Arc::clone(&self.lookup));
        Box::pin(async move {
            let addresses = lookup.lookup(name.as_str()).await.map_err(UnknownHost)?;
            let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
            rules.check_all(&ips)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
