//! Where connections come from, and who is at the other end.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use countersign_domain::values::reason::Reason;
use countersign_proto::status::Refusal;
use http::Uri;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::concurrency::Share;
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

    /// Whether it is a part of this process or a service with one of these names.
    pub fn is_one_of(&self, services: &BTreeSet<String>) -> bool {
        match self {
            Self::Anonymous => false,
            Self::InProcess => true,
            Self::Service(name) => services.contains(&**name),
        }
    }
}

/// Refuses calls of every other service than these: for internal methods that not every service on the allow-list needs (SECURITY 71).
#[derive(Debug, Clone)]
pub struct OnlyServices(Arc<BTreeSet<String>>);

impl OnlyServices {
    /// Lets services with these names call.
    pub fn new(names: BTreeSet<String>) -> Self {
        Self(Arc::new(names))
    }

    /// Checks that a peer is one of the services.
    ///
    /// # Errors
    /// Returns `PERMISSION_MISSING` for every other peer.
    pub fn check(&self, peer: Option<&PeerIdentity>) -> Result<(), Refusal> {
        if peer.is_some_and(|peer| peer.is_one_of(&self.0)) {
            Ok(())
        } else {
            Err(Refusal::new(Reason::PermissionMissing, "the method is not for this service"))
        }
    }
}

impl tonic::service::Interceptor for OnlyServices {
    fn call(&mut self, request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        self.check(request.extensions().get())?;
        Ok(request)
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
    /// Whom the public listener admits.
    pub admission: Admission,
}

/// Whom a public listener admits, as far as the operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Whether it describes its services by gRPC reflection.
    pub reflection: bool,
    /// Networks of proxies, whose `X-Forwarded-For` is believed and whose connections have no limit for each peer.
    pub proxies: Vec<IpNet>,
    /// Connections at a time, in place of the usual limits.
    pub connections: Option<Share>,
}

impl Default for Admission {
    fn default() -> Self {
        Self { reflection: true, proxies: Vec::new(), connections: None }
    }
}

impl Listeners {
    /// Everything in process: no port is opened. For tests.
    pub fn in_process() -> (Self, InProcessConnectors) {
        let (public, public_connector) = InProcess::pair();
        let (internal, internal_connector) = InProcess::pair();
        let listeners = Self { public, internal: Some(internal), private: None, admission: Admission::default() };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s71_a_method_for_some_services_is_closed_to_the_others() {
        let only = OnlyServices::new(["exchange-gateway".to_owned()].into());
        let service = |name: &str| PeerIdentity::Service(name.into());
        for peer in [PeerIdentity::InProcess, service("exchange-gateway")] {
            assert_eq!(only.check(Some(&peer)), Ok(()));
        }
        for peer in [Some(PeerIdentity::Anonymous), Some(service("issuer-service")), Some(service("Exchange-Gateway")), None] {
            assert_eq!(only.check(peer.as_ref()).unwrap_err().reason(), Reason::PermissionMissing, "{peer:?}");
        }
    }
}
