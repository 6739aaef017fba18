//! The server: a thread of its own, which accepts, shakes hands and reads one request a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::Shared;
use super::answer::{drip, hold, response};
use super::behaviour::ConnectionBehaviour;

/// A running server. Dropping it closes its port.
#[derive(Debug)]
pub(super) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A port of loopback to serve on.
pub(super) fn bind() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("can bind a loopback port");
    listener.set_nonblocking(true).expect("a listener can be non-blocking");
    let address = listener.local_addr().expect("a bound listener has an address");
    (listener, address)
}

impl Server {
    pub(super) fn start(listener: std::net::TcpListener, shared: Arc<Shared>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("can make a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a runtime is entered");
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It only panics when a test's expectations about it were wrong, and then has said so.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A client that goes away in the middle is one of the things under test.
            let _ = connection(stream, &shared).await;
        });
    }
}

async fn connection(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let behaviour = shared.state().connection;
    match behaviour {
        ConnectionBehaviour::Honest => handshake(stream, shared).await,
        ConnectionBehaviour::Stall => hold(&mut stream).await,
        ConnectionBehaviour::Close => Ok(()),
        ConnectionBehaviour::Drip => {
            let (inner, outer) = tokio::io::duplex(64 * 1_024);
            let (mut from_client, mut to_client) = stream.split();
            let (mut from_server, mut to_server) = tokio::io::split(outer);
            let slowly = async {
                let mut bytes = [0; 1_024];
                loop {
                    let read = from_server.read(&mut bytes).await?;
                    if read == 0 {
                        return to_client.shutdown().await;
                    }
                    drip(&mut to_client, &bytes[..read]).await?;
                }
            };
            let serving = async {
                tokio::select! {
                    served = handshake(inner, shared) => served,
                    // The client has gone when there is nothing more to copy from it.
                    copied = tokio::io::copy(&mut from_client, &mut to_server) => copied.map(drop),
                }
            };
            tokio::try_join!(slowly, serving).map(drop)
        }
        ConnectionBehaviour::PlainHttp => {
            stream.write_all(&response("400 Bad Request", &[], b"plain HTTP is spoken here")).await?;
            stream.shutdown().await
        }
    }
}

async fn handshake(stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> std::io::Result<()> {
    let tls = shared.state().tls.clone();
    match tls {
        Some(tls) => serve(tls.accept(stream).await?, shared).await,
        None => serve(stream, shared).await,
    }
}

/// Answers one request and closes the connection.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut chunk = [0; 1_024];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..read]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let path = target.split('?').next().unwrap_or_default();
    let answer = shared.answer(path, request);
    match answer {
        Some(answer) => answer.write(&target, &mut stream).await?,
        None => stream.write_all(&response("404 Not Found", &[], b"")).await?,
    }
    stream.shutdown().await
}
