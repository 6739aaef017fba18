//! Fetching over HTTP.
//!
//! One connection for each request, made by `connector` and gone with the answer: every request resolves and checks the name anew, and
//! an idle connection is no use five minutes later. Everything that strangers can send is bounded where it comes in, by `limited`.

mod body;
mod connector;
mod error;
mod limited;
mod resolver;
mod tls;

use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_domain::values::issuer_url::{InvalidUrl, KeySetUrl};
use futures::future::{Either, select};
use http::header::{ACCEPT, ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use url::{Host, Position, Url};

use self::connector::Connector;
use self::resolver::{Lookup, SystemLookup};
use crate::address::{self, AddressRules};
use crate::authorities::Authorities;
use crate::egress_proxy::EgressProxy;
use crate::fetch::{Fetch, FetchError, Fetched, Stored, Wanted};
use crate::freshness;
use crate::inspect::Answer;

pub(crate) use self::error::RequestError;
pub(crate) use self::resolver::UnknownHost;

/// For everything up to the end of the handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// For one request; a refresh of two requests has the same limit for both.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// For one request of somebody who wants to know how slow the answer is.
const INSPECT_LIMIT: Duration = Duration::from_secs(15);
const MAX_HEADERS: usize = 64;
/// For the head of an answer, and for what is read ahead.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const PRODUCT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

/// A request has no body.
type NoBody = Empty<&'static [u8]>;

/// Fetches over HTTPS, from addresses that the rules permit.
pub(crate) struct HttpFetcher {
    rules: Arc<AddressRules>,
    /// For `Debug` alone.
    proxy: Option<EgressProxy>,
    connector: Connector,
}

impl HttpFetcher {
    pub(crate) fn new(rules: AddressRules, proxy: Option<EgressProxy>) -> Result<Self, rustls::Error> {
        Self::with_lookup(rules, proxy, Arc::new(SystemLookup))
    }

    fn with_lookup(rules: AddressRules, proxy: Option<EgressProxy>, lookup: Arc<dyn Lookup>) -> Result<Self, rustls::Error> {
        let rules = Arc::new(rules);
        let connector = Connector::new(Arc::clone(&rules), proxy.as_ref(), lookup)?;
        Ok(Self { rules, proxy, connector })
    }

    /// Checks what the resolver is not asked about: the scheme, and a host that is an address.
    fn check(&self, url: &str) -> Result<Url, FetchError> {
        KeySetUrl::parse(url, self.rules.loopback)?;
        let url = Url::parse(url).map_err(|_| InvalidUrl::NotCanonical)?;
        match url.host() {
            Some(Host::Ipv4(address)) => self.rules.check(IpAddr::V4(address))?,
            Some(Host::Ipv6(address)) => self.rules.check(IpAddr::V6(address))?,
            Some(Host::Domain(_)) | None => {}
        }
        Ok(url)
    }

    async fn request(&self, url: &Url, wanted: Wanted<'_>) -> Result<Fetched, FetchError> {
        self.exchange(url, wanted, async |response| {
            // The content type is not looked at: honest issuers serve any, and what is not a strict JSON document fails anyway.
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status(response.status().as_u16()));
            }
            let (head, body) = response.into_parts();
            let cache_control = head.headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
            let age = head.headers.get(AGE).and_then(|value| value.to_str().ok());
            let lifetime = freshness::lifetime(cache_control, age);
            Ok(Fetched { bytes: body::read(&head.headers, body).await?, lifetime })
        })
        .await
    }

    /// What a server answers, whatever it is.
    pub(crate) async fn inspect(&self, url: &str, authorities: Option<&Authorities>) -> Result<Answer, FetchError> {
        let parsed = self.check(url)?;
        let wanted = Wanted { url, stored: Stored::Acceptable, authorities, reach: &Arc::default() };
        let answer = self.exchange(&parsed, wanted, async |response| {
            let (head, body) = response.into_parts();
            let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            Ok(Answer {
                status: head.status.as_u16(),
                content_type: text(CONTENT_TYPE),
                cache_control: text(CACHE_CONTROL),
                has_etag: head.headers.contains_key(ETAG),
                bytes: body::read(&head.headers, body).await?,
            })
        });
        timeout(INSPECT_LIMIT, answer).await.map_err(|_| RequestError::TimedOut)?
    }

    /// The certificates that the server of a URL shows, its own first.
    pub(crate) async fn certificates(&self, url: &str) -> Result<Vec<Vec<u8>>, FetchError> {
        let url = self.check(url)?;
        let certificates = timeout(CONNECT_LIMIT, self.connector.certificates(&url));
        Ok(certificates.await.map_err(|_| RequestError::NotConnected)??)
    }

    /// Asks for a document, and reads the answer.
    async fn exchange<T>(
        &self,
        url: &Url,
        wanted: Wanted<'_>,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        let stream = timeout(CONNECT_LIMIT, self.connector.connect(url, wanted.authorities, wanted.reach));
        let stream = stream.await.map_err(|_| RequestError::NotConnected)??;
        let (mut sender, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(RequestError::Exchange)?;
        let answer = async {
            let response = sender.send_request(request(url, wanted.stored)?).await.map_err(RequestError::Exchange)?;
            read(response).await
        };
        // The connection does the work, and ends with the answer. When it ends before, with or without an error, the answer knows.
        match select(pin!(answer), pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, answer)) => answer.await,
        }
    }
}

/// Nothing of it comes from the environment (SECURITY 47).
fn request(url: &Url, stored: Stored) -> Result<Request<NoBody>, RequestError> {
    let mut request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(ACCEPT_ENCODING, "gzip")
        .header(USER_AGENT, PRODUCT);
    if stored == Stored::Refused {
        request = request.header(CACHE_CONTROL, "no-cache");
    }
    Ok(request.body(NoBody::new())?)
}

#[async_trait]
impl Fetch for HttpFetcher {
    async fn fetch(&self, wanted: Wanted<'_>) -> Result<Fetched, FetchError> {
        wanted.reach.begin();
        let url = self.check(wanted.url)?;
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        if address.is_some_and(address::is_public_address) {
            wanted.reach.note_public();
        }
        timeout(REQUEST_LIMIT, self.request(&url, wanted)).await.map_err(|_| RequestError::TimedOut)?
    }
}

/// Shows the limits that a deployment chose.
impl fmt::Debug for HttpFetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpFetcher").field("rules", &self.rules).field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
