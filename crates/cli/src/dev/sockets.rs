//! The public ports of `countersign dev`.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::connection::Service;
use crate::failure::{Failure, Result};

/// One bound socket for each service.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) issuer: TcpListener,
    pub(super) trust: TcpListener,
    pub(super) gateway: TcpListener,
}

impl Sockets {
    /// Binds the addresses of issuer-service, trust-service and exchange-gateway.
    ///
    /// # Errors
    /// An address is taken or not ours; the message says which, and what to do.
    pub(super) async fn bind([issuer, trust, gateway]: [SocketAddr; 3]) -> Result<Self> {
        Ok(Self {
            issuer: bind(Service::Issuer, issuer, "--issuer-listen").await?,
            trust: bind(Service::Trust, trust, "--trust-listen").await?,
            gateway: bind(Service::Gateway, gateway, "--gateway-listen").await?,
        })
    }
}

async fn bind(service: Service, address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let name = service.name();
        let what = if error.kind() == io::ErrorKind::AddrInUse {
            format!(
                "port {} of {name} is taken, perhaps by another `countersign dev`: stop that one, or choose another port with \
                 {flag} {}:0",
                address.port(),
                address.ip(),
            )
        } else {
            format!("{name} cannot listen at {address}: choose another address with {flag}")
        };
        Failure::while_doing(error, what)
    })
}

/// The URL under which a socket is reached from this machine. `localhost` for loopback, as people write it.
pub(super) fn url(socket: &TcpListener) -> io::Result<String> {
    let address = socket.local_addr()?;
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        Ok(format!("http://localhost:{}", address.port()))
    } else {
        Ok(format!("http://{address}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_flag_that_changes_it() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let taken = TcpListener::bind(any).await.unwrap();
        let failure = Sockets::bind([any, taken.local_addr().unwrap(), any]).await.unwrap_err().to_string();
        let port = taken.local_addr().unwrap().port();
        assert!(failure.contains(&format!("port {port} of trust-service is taken")), "{failure}");
        assert!(failure.contains("--trust-listen 127.0.0.1:0"), "{failure}");
        assert_eq!(url(&taken).unwrap(), format!("http://localhost:{port}"));
    }
}
