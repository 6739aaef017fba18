//! Where connections come from, and who is at the other end.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::tls::TlsIdentity;

/// Who is at the other end of a connection. In the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerIdentity {
    /// Anybody.
    Anonymous,
    /// A service of this deployment: the allow-listed DNS name in its client certificate.
    Service(Arc<str>),
    /// A part of this very process.
    InProcess,
}

impl PeerIdentity {
    /// Whether internal RPCs may be called (SECURITY 71).
    pub fn is_internal(&self) -> bool {
        !matches!(self, Self::Anonymous)
    }
}

/// A bound source of connections.
#[derive(Debug)]
pub enum Listener {
    /// Plain TCP: whoever connects is anonymous.
    Tcp(TcpListener),
    /// Mutual TLS: only clients with an allow-listed name get through the handshake.
    Tls {
        /// The socket.
        listener: TcpListener,
        /// The server's certificate and the authority that clients' certificates must come from.
        identity: Arc<TlsIdentity>,
        /// The DNS names of client certificates that are let in.
        allowed_peers: Arc<BTreeSet<String>>,
    },
    /// Connections from within the process.
    InProcess(InProcessListener),
}

impl Listener {
    /// The address, unless connections come from within the process.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) | Self::Tls { listener, .. } => listener.local_addr().ok(),
            Self::InProcess(_) => None,
        }
    }
}

/// The bound listeners of one service.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC and HTTP for everybody.
    pub public: Listener,
    /// gRPC for the other services. Absent where a service has no internal RPCs.
    pub internal: Option<Listener>,
    /// `/livez`, `/readyz`, `/metrics`. Absent in `dev` and in tests.
    pub private: Option<Listener>,
}

impl Listeners {
    /// Everything in process: no port is opened. For tests.
    pub fn in_process() -> (Self, InProcessConnectors) {
        let (public, public_connector) = InProcess::pair();
        let (internal, internal_connector) = InProcess::pair();
        let listeners = Self { public, internal: Some(internal), private: None };
        (listeners, InProcessConnectors { public: public_connector, internal: internal_connector })
    }
}

/// The other ends of [`Listeners::in_process`].
#[derive(Debug, Clone)]
pub struct InProcessConnectors {
    /// Reaches the public listener.
    pub public: InProcessConnector,
    /// Reaches the internal listener.
    pub internal: InProcessConnector,
}

/// Connections that never leave the process.
#[derive(Debug, Clone, Copy)]
pub struct InProcess;

/// Bytes under way in one direction of one connection.
const PIPE_BYTES: usize = 64 * 1024;

impl InProcess {
    /// A listener and the connector that reaches it.
    pub fn pair() -> (Listener, InProcessConnector) {
        let (sender, connections) = mpsc::channel(16);
        (Listener::InProcess(InProcessListener { connections }), InProcessConnector { sender })
    }
}

/// The listening end of [`InProcess::pair`].
#[derive(Debug)]
pub struct InProcessListener {
    connections: mpsc::Receiver<DuplexStream>,
}

impl InProcessListener {
    /// The next connection; `None` when every connector is gone.
    pub(crate) async fn accept(&mut self) -> Option<DuplexStream> {
        self.connections.recv().await
    }
}

/// The connecting end of [`InProcess::pair`].
#[derive(Debug, Clone)]
pub struct InProcessConnector {
    sender: mpsc::Sender<DuplexStream>,
}

impl InProcessConnector {
    /// A new connection.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        self.sender.send(far).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }
}

impl tower::Service<Uri> for InProcessConnector {
    type Response = TokioIo<DuplexStream>;
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
