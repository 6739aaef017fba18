//! Accepts connections, by TCP, by mutual TLS and from within the process.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::Endpoint;
use crate::log_budget::LogBudget;
use crate::tls;
use crate::transport::{Listener, PeerIdentity};

/// How long to wait before accepting again when the process is out of file descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(10);

/// How often a failure that peers can cause is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

pub(super) async fn accept(listener: Listener, endpoint: &Endpoint, tasks: &TaskTracker) {
    let log = LogBudget::new(LOG_INTERVAL);
    match listener {
        Listener::InProcess(mut listener) => {
            while let Some(stream) = listener.accept().await {
                let accepted = endpoint.admit(None);
                tasks.spawn(endpoint.clone().serve(stream, PeerIdentity::InProcess, accepted));
            }
            // Every connector is gone; what remains is to wait for the end.
            std::future::pending::<()>().await;
        }
        Listener::Tcp(listener) => loop {
            let (stream, address) = accept_tcp(&listener, endpoint, &log).await;
            let accepted = endpoint.admit(Some(address));
            tasks.spawn(endpoint.clone().serve(stream, PeerIdentity::Anonymous, accepted));
        },
        Listener::Tls { listener, identity, allowed_peers } => {
            identity.keep_fresh();
            let refusals = Arc::new(LogBudget::new(LOG_INTERVAL));
            loop {
                let (stream, address) = accept_tcp(&listener, endpoint, &log).await;
                // Made for each connection, so that the next one sees new certificates; internal connections are few and long.
                let config = match identity.server_config(&allowed_peers) {
                    Ok(config) => config,
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                        continue;
                    }
                };
                let accepted = endpoint.admit(Some(address));
                let (endpoint, allowed_peers) = (endpoint.clone(), Arc::clone(&allowed_peers));
                let refusals = Arc::clone(&refusals);
                tasks.spawn(async move {
                    let handshake = TlsAcceptor::from(config).accept(stream);
                    let stream = tokio::select! {
                        result = tokio::time::timeout(endpoint.limits.header_timeout, handshake) => result,
                        () = endpoint.draining.requested() => return,
                        () = accepted.evicted.cancelled() => return,
                    };
                    let stream = match stream {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(error)) => {
                            if let Some(count) = refusals.spend() {
                                tracing::warn!(%error, count, "an internal connection was refused");
                            }
                            return;
                        }
                        Err(_) => return,
                    };
                    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                    // The handshake admits no other peer; checked again rather than trusted.
                    let Some(name) = certificate.and_then(|leaf| tls::allowed_name(leaf, &allowed_peers)) else { return };
                    // A service of the deployment outlasts every peer that never authenticates.
                    accepted.permit.touch();
                    endpoint.serve(stream, PeerIdentity::Service(name), accepted).await;
                });
            }
        }
    }
}

async fn accept_tcp(listener: &TcpListener, endpoint: &Endpoint, log: &LogBudget) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Small answers must not wait for a full packet; a socket that refuses still works.
                let _ = stream.set_nodelay(true);
                return (stream, address.ip());
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if let Some(count) = log.spend() {
                    tracing::warn!(%error, count, "cannot accept connections");
                }
                if is_out_of_descriptors(&error) {
                    endpoint.connections.make_room();
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
