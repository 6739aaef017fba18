//! Looking at an issuer's documents for somebody who wants to know what others would make of them.
//!
//! Nothing that is seen here verifies anything: whoever looks has a person in front of him, and no cache behind.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use countersign_domain::issuer_url::LoopbackHttp;
use countersign_domain::relying_party::{Document, SeenIssuer};
use countersign_jose::{hash, json};
use serde_json::Value;
use tokio::time::Instant;

use crate::address::AddressRules;
use crate::discovery::DiscoveryError;
use crate::fetch::FetchError;
use crate::http_fetcher::HttpFetcher;

/// Where private addresses are, which only those within reach.
const PRIVATE_NETWORKS: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

/// Looks at issuers from where it runs.
pub struct Inspector {
    /// Reaches what the internet reaches.
    public: HttpFetcher,
    /// Reaches private networks and this machine too.
    anywhere: HttpFetcher,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) has_etag: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Inspector {
    /// An inspector without a proxy.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, DiscoveryError> {
        let allowed_networks = PRIVATE_NETWORKS.iter().filter_map(|network| network.parse().ok()).collect();
        let anywhere = AddressRules { allowed_networks, loopback: LoopbackHttp::Allowed };
        let fetcher = |rules| HttpFetcher::new(rules, None).map_err(DiscoveryError::Client);
        Ok(Self { public: fetcher(AddressRules::default())?, anywhere: fetcher(anywhere)? })
    }

    /// Reads the two documents of an issuer, wherever it is.
    pub async fn inspect(&self, issuer_url: &str) -> SeenIssuer {
        let discovery_url = format!("{}/.well-known/openid-configuration", issuer_url.trim_end_matches('/'));
        let (discovery, mut is_public) = self.document(&discovery_url).await;
        let jwks_uri = discovery.as_ref().ok().and_then(|document| document.json.as_ref()?.get("jwks_uri")?.as_str());
        let key_set = match jwks_uri {
            None => None,
            Some(url) => {
                let (key_set, is_key_set_public) = self.document(url).await;
                is_public &= is_key_set_public;
                Some(key_set)
            }
        };
        SeenIssuer { issuer_url: issuer_url.to_owned(), is_public, discovery, key_set }
    }

    /// The thumbprint of the certificate that AWS asks for, of the issuer's host: of the last one that the server shows.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub async fn thumbprint(&self, url: &str) -> Result<String, String> {
        let chain = self.anywhere.certificates(url).await.map_err(|error| told(&error))?;
        let last = chain.last().ok_or("the server shows no certificate")?;
        Ok(hash::certificate_thumbprint(last))
    }

    /// The document, and whether the internet reaches it.
    async fn document(&self, url: &str) -> (Result<Document, String>, bool) {
        let begun = Instant::now();
        let mut is_public = true;
        let mut answer = self.public.inspect(url).await;
        if matches!(answer, Err(FetchError::Address(_) | FetchError::Url(_))) || answer.as_ref().is_err_and(is_address) {
            is_public = false;
            answer = self.anywhere.inspect(url).await;
        }
        (answer.map(|answer| document(answer, begun.elapsed())).map_err(|error| told(&error)), is_public)
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").finish_non_exhaustive()
    }
}

/// Whether somewhere behind the error an address was refused.
fn is_address(error: &FetchError) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<crate::address::RefusedAddress>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn document(answer: Answer, elapsed: Duration) -> Document {
    let Answer { status, content_type, cache_control, has_etag, bytes } = answer;
    // Strict: what names a member twice is read differently by different verifiers.
    let json = json::parse_object(&bytes).ok().map(Value::Object);
    Document { status, content_type, cache_control, has_etag, bytes: bytes.len(), json, elapsed }
}

/// The error with everything behind it.
fn told(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        told.extend([": ", &error.to_string()]);
        source = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use countersign_testkit::identity_provider::IdentityProvider;

    use super::*;

    #[tokio::test]
    async fn an_issuer_on_this_machine_is_seen_and_said_to_be_out_of_the_internet_s_reach() {
        let provider = IdentityProvider::start();
        let seen = Inspector::new().unwrap().inspect(provider.issuer_url()).await;
        assert!(!seen.is_public);
        let discovery = seen.discovery.unwrap();
        assert_eq!((discovery.status, &discovery.json.unwrap()["issuer"]), (200, &provider.issuer_url().into()));
        assert!(seen.key_set.unwrap().unwrap().json.unwrap()["keys"].is_array());
    }

    #[tokio::test]
    async fn what_cannot_be_had_is_said_with_its_cause() {
        let nobody = format!("http://127.0.0.1:{}", countersign_testkit::ports::free());
        let seen = Inspector::new().unwrap().inspect(&nobody).await;
        assert!(seen.discovery.unwrap_err().contains("cannot be dialled") && seen.key_set.is_none());
    }
}
