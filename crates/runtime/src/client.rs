//! Calls to other services.
//!
//! ```no_run
//! # use countersign_runtime::client::{PeerAddress, PeerChannel};
//! # use countersign_proto::issuer_v1::key_set_service_client::KeySetServiceClient;
//! # fn example() -> Result<(), countersign_runtime::client::InvalidPeer> {
//! let channel = PeerChannel::new("issuer-service", PeerAddress::plain("http://127.0.0.1:7401")?);
//! let keys: KeySetServiceClient<PeerChannel> = KeySetServiceClient::new(channel);
//! # Ok(()) }
//! ```
//!
//! A channel connects when it is first used and again whenever the connection is lost, so services start in any order
//! (SECURITY 76). Every call carries the trace context, the request id and what is left of the deadline of the request that it
//! serves.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::channel::ResponseFuture;
use tonic::transport::{Channel, Endpoint};

use crate::context;
use crate::telemetry;
use crate::tls::TlsIdentity;
use crate::transport::InProcessConnector;

/// How long a connection may take, handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The deadline of a call that serves no request, and the longest of any: at most eight digits of microseconds.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// Where a peer is.
#[derive(Debug, Clone)]
pub enum PeerAddress {
    /// A public port, without TLS.
    Plain {
        /// `http://host:port`.
        uri: Uri,
    },
    /// An internal port.
    MutualTls {
        /// `https://host:port`.
        uri: Uri,
        /// The name that the peer's certificate must carry.
        server_name: ServerName<'static>,
        /// Our own certificate.
        identity: Arc<TlsIdentity>,
    },
    /// Another part of this process.
    InProcess(InProcessConnector),
}

/// Why an address is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeer {
    /// Not `scheme://host:port`.
    #[error("must be a URL of the form {scheme}://host:port")]
    Url {
        /// The scheme that is needed.
        scheme: &'static str,
    },
    /// No certificate can carry this name.
    #[error("is not a name that a certificate can carry")]
    ServerName,
}

impl PeerAddress {
    /// A peer's public port, without TLS.
    pub fn plain(url: &str) -> Result<Self, InvalidPeer> {
        Ok(Self::Plain { uri: parse(url, "http")? })
    }

    /// A peer's internal port. The peer's certificate must carry `server_name`, or the URL's host when there is none.
    pub fn mutual_tls(url: &str, server_name: Option<&str>, identity: Arc<TlsIdentity>) -> Result<Self, InvalidPeer> {
        let uri = parse(url, "https")?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let server_name = ServerName::try_from(server_name.unwrap_or(host).to_owned()).map_err(|_| InvalidPeer::ServerName)?;
        Ok(Self::MutualTls { uri, server_name, identity })
    }
}

/// Whether a text is a peer's URL.
pub(crate) fn check_url(url: &str, scheme: &'static str) -> Result<(), InvalidPeer> {
    parse(url, scheme).map(|_| ())
}

fn parse(url: &str, scheme: &'static str) -> Result<Uri, InvalidPeer> {
    let uri: Uri = url.parse().map_err(|_| InvalidPeer::Url { scheme })?;
    let bare = uri.path() == "/" && uri.query().is_none();
    if uri.scheme_str() == Some(scheme) && uri.host().is_some() && bare { Ok(uri) } else { Err(InvalidPeer::Url { scheme }) }
}

/// A connection to a peer, made when needed. Cheap to clone; the type that generated clients are used with.
#[derive(Debug, Clone)]
pub struct PeerChannel {
    peer: &'static str,
    channel: Channel,
}

impl PeerChannel {
    /// A channel to a peer; `peer` names it in traces. Must be called within a tokio runtime; connects when first used.
    pub fn new(peer: &'static str, address: PeerAddress) -> Self {
        let endpoint = |uri: Uri| {
            Endpoint::from(uri)
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(Duration::from_secs(10))
                .keep_alive_timeout(Duration::from_secs(5))
                .http2_max_header_list_size(32 * 1024)
                .tcp_nodelay(true)
        };
        let channel = match address {
            PeerAddress::Plain { uri } => endpoint(uri).connect_lazy(),
            PeerAddress::MutualTls { uri, server_name, identity } => {
                // TLS is the connector's business, as the certificates change while the channel lives.
                identity.keep_fresh();
                let origin = uri.clone();
                let connector = MutualTlsConnector { target: uri, server_name, identity };
                endpoint(Uri::from_static("http://mutual-tls.invalid")).origin(origin).connect_with_connector_lazy(connector)
            }
            PeerAddress::InProcess(connector) => {
                endpoint(Uri::from_static("http://in-process.invalid")).connect_with_connector_lazy(connector)
            }
        };
        Self { peer, channel }
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for PeerChannel {
    type Response = http::Response<tonic::body::Body>;
    type Error = tonic::transport::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        tracing::trace!(peer = self.peer, "call");
        let context = context::current();
        let headers = request.headers_mut();
        telemetry::inject(headers);
        if let Some(id) = context.as_ref().and_then(|context| HeaderValue::from_str(context.request_id.as_str()).ok()) {
            headers.insert("x-request-id", id);
        }
        // Bounds the time to the answer's headers, so a stream that lives on is not cut by it.
        if !headers.contains_key("grpc-timeout") {
            let left = context.map_or(DEFAULT_DEADLINE, |context| {
                context.deadline.saturating_duration_since(tokio::time::Instant::now()).min(DEFAULT_DEADLINE)
            });
            if let Ok(value) = HeaderValue::from_str(&format!("{}u", left.as_micros())) {
                headers.insert("grpc-timeout", value);
            }
        }
        self.channel.call(request)
    }
}

/// Makes TLS connections with the certificates as they are at that moment.
#[derive(Debug, Clone)]
struct MutualTlsConnector {
    target: Uri,
    server_name: ServerName<'static>,
    identity: Arc<TlsIdentity>,
}

impl MutualTlsConnector {
    async fn connect(self) -> io::Result<TlsStream<TcpStream>> {
        let host = self.target.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.target.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(self.identity.client_config()).connect(self.server_name, stream).await
    }
}

impl tower::Service<Uri> for MutualTlsConnector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}
