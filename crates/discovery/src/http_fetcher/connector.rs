//! From a URL to a connection over which its document can be asked for.

use std::error::Error;
use std::sync::Arc;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};
use url::Url;

use super::limited::Limited;
use super::resolver::{GuardedResolver, Lookup};
use super::tls::Tls;
use super::{CONNECT_LIMIT, RequestError};
use crate::address::AddressRules;
use crate::authorities::Authorities;
use crate::egress_proxy::EgressProxy;
use crate::fetch::Reach;
use crate::server::Server;

/// A connection, whatever it is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Bytes go to a host and port and come from there, at most so many; or through the proxy.
type Way = BoxCloneSyncService<Uri, TokioIo<Box<dyn Stream>>, RequestError>;

/// Makes connections, each of which serves one request.
pub(super) struct Connector {
    route: Route,
    tls: Tls,
}

/// How servers are reached.
enum Route {
    Direct { rules: Arc<AddressRules>, lookup: Arc<dyn Lookup> },
    Proxied(Way),
}

impl Route {
    /// Where a proxy resolves names, nothing is known of the addresses, and nothing is noted.
    fn way(&self, reach: &Arc<Reach>) -> Way {
        match self {
            Self::Direct { rules, lookup } => {
                dialler(GuardedResolver { rules: Arc::clone(rules), lookup: Arc::clone(lookup), reach: Arc::clone(reach) })
            }
            Self::Proxied(way) => way.clone(),
        }
    }
}

impl Connector {
    pub(super) fn new(
        rules: Arc<AddressRules>,
        proxy: Option<&EgressProxy>,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, rustls::Error> {
        let tls = Tls::new()?;
        let route = match proxy {
            Some(proxy) => Route::Proxied(tunnel(proxy, tls.trusting(None))),
            None => Route::Direct { rules, lookup },
        };
        Ok(Self { route, tls })
    }

    /// The certificates that the server of a URL shows, verified, its own first.
    pub(super) async fn certificates(&self, url: &Url) -> Result<Vec<Vec<u8>>, RequestError> {
        let server = Server::try_from(url)?;
        let stream = self.route.way(&Arc::default()).oneshot(server.origin).await?.into_inner();
        let stream = self.tls.trusting(None).connect(server.name, stream).await.map_err(RequestError::Tls)?;
        let (_, session) = stream.get_ref();
        Ok(session.peer_certificates().unwrap_or_default().iter().map(|certificate| certificate.to_vec()).collect())
    }

    /// A connection to the server of a URL that may be fetched.
    pub(super) async fn connect(
        &self,
        url: &Url,
        authorities: Option<&Authorities>,
        reach: &Arc<Reach>,
    ) -> Result<Box<dyn Stream>, RequestError> {
        let server = Server::try_from(url)?;
        let stream = self.route.way(reach).oneshot(server.origin).await?.into_inner();
        // Whether it may be without TLS was checked with the URL.
        if server.is_plain {
            return Ok(stream);
        }
        secure(self.tls.trusting(authorities), server.name, stream).await
    }
}

/// Dials the addresses that a resolver finds, IPv6 and IPv4 side by side (RFC 8305).
fn dialler<R>(resolver: R) -> Way
where
    HttpConnector<R>: Service<Uri, Response = TokioIo<TcpStream>, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    // Divided among the addresses, so that the first cannot use it up.
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    let limited = |stream: TokioIo<TcpStream>| TokioIo::new(Box::new(Limited::new(stream.into_inner())) as Box<dyn Stream>);
    BoxCloneSyncService::new(connector.map_response(limited).map_err(|error| RequestError::Dial(error.into())))
}

/// Has the proxy dial. The only name that is then resolved here is the proxy's own, which the operator chose, and an issuer's own
/// authorities have no say in who the proxy is.
fn tunnel(proxy: &EgressProxy, tls: TlsConnector) -> Way {
    let server = proxy.server().clone();
    let dialler = dialler(GaiResolver::new());
    let dialler = if server.is_plain {
        dialler
    } else {
        BoxCloneSyncService::new(dialler.and_then(move |stream: TokioIo<Box<dyn Stream>>| {
            let (tls, name) = (tls.clone(), server.name.clone());
            async move { Ok(TokioIo::new(secure(tls, name, stream.into_inner()).await?)) }
        }))
    };
    let mut tunnel = Tunnel::new(server.origin, dialler);
    if let Some(credentials) = proxy.credentials() {
        tunnel = tunnel.with_auth(credentials.clone());
    }
    BoxCloneSyncService::new(tunnel.map_err(|error| RequestError::Tunnel(error.into())))
}

/// TLS with the server of this name over a connection.
async fn secure(tls: TlsConnector, name: ServerName<'static>, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, RequestError> {
    Ok(Box::new(tls.connect(name, stream).await.map_err(RequestError::Tls)?))
}

#[cfg(test)]
mod tests {
    use countersign_testkit::identity_provider::IdentityProvider;

    use super::*;

    #[tokio::test]
    async fn s47_a_proxy_that_is_spoken_to_over_tls_must_be_the_one_that_was_meant() {
        // It answers to `CONNECT` that there is no such page.
        let server = IdentityProvider::start_tls();
        let tls = Tls::new().unwrap();
        let proxy: EgressProxy = format!("https://user:password@127.0.0.1:{}", server.address().port()).parse().unwrap();
        let ask = |authorities: Option<&Authorities>| {
            tunnel(&proxy, tls.trusting(authorities)).oneshot(Uri::from_static("https://issuer.example:443"))
        };
        assert!(ask(None).await.is_err());
        assert!(server.requests().is_empty(), "{:?}", server.requests());
        let authorities: Authorities = server.ca_certificate().unwrap().parse().unwrap();
        assert!(ask(Some(&authorities)).await.is_err());
        let requests = server.requests();
        assert!(requests.len() == 1 && requests[0].starts_with("CONNECT issuer.example:443 HTTP/1.1\r\n"), "{requests:?}");
        assert!(requests[0].contains("Basic dXNlcjpwYXNzd29yZA=="), "{requests:?}");
    }
}
