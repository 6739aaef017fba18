//! Inspecting an issuer's documents for a person who wants to know how relying parties judge them.
//!
//! Nothing that is seen here verifies a token, and nothing is cached.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use countersign_domain::issuing::relying_party::{Document, OwnVerdict, SeenIssuer};
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_jose::{KeySet, hash, json};
use serde_json::Value;
use tokio::time::Instant;

use crate::address::AddressRules;
use crate::authorities::Authorities;
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
    /// Authorities that are tried where those of the system do not verify the server.
    authorities: Option<Authorities>,
}

/// Where a document was found.
#[derive(Debug, Clone, Copy)]
struct Found {
    is_public: bool,
    has_private_authority: bool,
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
    pub fn new(authorities: Option<Authorities>) -> Result<Self, DiscoveryError> {
        let allowed_networks = PRIVATE_NETWORKS.iter().filter_map(|network| network.parse().ok()).collect();
        let anywhere = AddressRules { allowed_networks, loopback: LoopbackHttp::Allowed };
        let fetcher = |rules| HttpFetcher::new(rules, None).map_err(DiscoveryError::Client);
        Ok(Self { public: fetcher(AddressRules::default())?, anywhere: fetcher(anywhere)?, authorities })
    }

    /// Reads the two documents of an issuer, wherever it is.
    pub async fn inspect(&self, issuer_url: &str) -> SeenIssuer {
        let discovery_url = format!("{}/.well-known/openid-configuration", issuer_url.trim_end_matches('/'));
        let (discovery, mut found) = self.document(&discovery_url).await;
        let jwks_uri = discovery.as_ref().ok().and_then(|document| document.json.as_ref()?.get("jwks_uri")?.as_str());
        let key_set = match jwks_uri {
            None => None,
            Some(url) => {
                let (key_set, of_key_set) = self.document(url).await;
                found.is_public &= of_key_set.is_public;
                found.has_private_authority |= of_key_set.has_private_authority;
                Some(key_set)
            }
        };
        let verdict = key_set.as_ref().and_then(|key_set| key_set.as_ref().ok()?.json.as_ref()).map(verdict).unwrap_or_default();
        let Found { is_public, has_private_authority } = found;
        SeenIssuer { issuer_url: issuer_url.to_owned(), is_public, discovery, key_set, verdict, has_private_authority }
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

    /// The document, and where it was found.
    async fn document(&self, url: &str) -> (Result<Document, String>, Found) {
        let (mut document, is_public) = self.document_by(url, None).await;
        let mut found = Found { is_public, has_private_authority: false };
        if document.is_err()
            && let Some(authorities) = &self.authorities
            && let (Ok(verified), is_public) = self.document_by(url, Some(authorities)).await
        {
            found = Found { is_public, has_private_authority: true };
            document = Ok(verified);
        }
        (document, found)
    }

    /// The document, and whether the internet reaches it.
    async fn document_by(&self, url: &str, authorities: Option<&Authorities>) -> (Result<Document, String>, bool) {
        let begun = Instant::now();
        let mut is_public = true;
        let mut answer = self.public.inspect(url, authorities).await;
        if matches!(answer, Err(FetchError::Address(_) | FetchError::Url(_))) || answer.as_ref().is_err_and(is_address) {
            is_public = false;
            answer = self.anywhere.inspect(url, authorities).await;
        }
        (answer.map(|answer| document(answer, begun.elapsed())).map_err(|error| told(&error)), is_public)
    }
}

/// How our own verifier judges a key set: as a whole, and each key by itself.
fn verdict(key_set: &Value) -> OwnVerdict {
    let problem = KeySet::parse(key_set.to_string().as_bytes()).err().map(|error| error.to_string());
    let keys = key_set.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let alone = |key: &Value| {
        let set = KeySet::parse(serde_json::json!({ "keys": [key] }).to_string().as_bytes()).map_err(|error| error.to_string());
        match set.as_ref().map(|set| set.describe().first().map(|key| key.problem)) {
            Ok(Some(problem)) => problem.map(|problem| problem.to_string()),
            Ok(None) => Some("it is not a key".to_owned()),
            Err(error) => Some(error.clone()),
        }
    };
    OwnVerdict { problem, keys: keys.iter().map(alone).collect() }
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
        let seen = Inspector::new(None).unwrap().inspect(provider.issuer_url()).await;
        assert!(!seen.is_public);
        let discovery = seen.discovery.unwrap();
        assert_eq!((discovery.status, &discovery.json.unwrap()["issuer"]), (200, &provider.issuer_url().into()));
        assert!(seen.key_set.unwrap().unwrap().json.unwrap()["keys"].is_array());
        assert!(!seen.verdict.keys.is_empty() && seen.verdict.keys.iter().all(Option::is_none), "{:?}", seen.verdict);
        assert!(seen.verdict.problem.is_none() && !seen.has_private_authority);
    }

    #[tokio::test]
    async fn a_private_authority_is_honoured_and_noted() {
        let provider = IdentityProvider::start_tls();
        let seen = Inspector::new(None).unwrap().inspect(provider.issuer_url()).await;
        assert!(seen.discovery.is_err(), "without the authority");
        let authorities = provider.ca_certificate().unwrap().parse().unwrap();
        let seen = Inspector::new(Some(authorities)).unwrap().inspect(provider.issuer_url()).await;
        assert!(seen.has_private_authority && seen.discovery.is_ok(), "{:?}", seen.discovery);
        assert!(seen.key_set.unwrap().is_ok());
    }

    #[test]
    fn s86_each_key_is_judged_as_a_token_s_would_be() {
        let keys = serde_json::json!({"keys": [
            {"kty": "RSA", "kid": "1", "n": "AAAA", "e": "AQAB"},
            {"kty": "OKP", "kid": "2", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty": "OKP", "kid": "2", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "use": "sign"},
            "text",
        ]});
        let verdict = verdict(&keys);
        assert_eq!(verdict.keys.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true], "{verdict:?}");
        assert!(super::verdict(&serde_json::json!({})).problem.is_some());
    }

    #[tokio::test]
    async fn what_cannot_be_had_is_said_with_its_cause() {
        let nobody = format!("http://127.0.0.1:{}", countersign_testkit::ports::free());
        let seen = Inspector::new(None).unwrap().inspect(&nobody).await;
        assert!(seen.discovery.unwrap_err().contains("cannot be dialled") && seen.key_set.is_none());
    }
}
