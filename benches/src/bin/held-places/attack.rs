//! The attacks.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// When attackers who hold places connect again.
const SOON: Duration = Duration::from_secs(1);

/// When those do who only wait: as many as they are, they would be a flood of connections otherwise, which is another attack.
const LATER: Duration = Duration::from_secs(30);

type Body = BoxBody<Bytes, Infallible>;

/// The symbol that reflection is asked for: it is in one of the largest files, and every service describes it.
const REFLECTED: &str = "countersign.common.v1.ErrorReason";

const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A way to hold places.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attack {
    /// 12 connections, 95 requests each that never send their body, begun again when they are refused.
    WithoutBody,
    /// 200 connections, 99 streams each whose answers are not read.
    Unread,
    /// Connections with one `Health/Watch` each.
    Waiting {
        /// So many.
        connections: usize,
    },
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithoutBody => f.write_str("12 connections with 95 requests without a body"),
            Self::Unread => f.write_str("200 connections with 99 streams that are not read"),
            Self::Waiting { connections } => write!(f, "{connections} connections that wait for changes of health"),
        }
    }
}

impl Attack {
    /// Begins, and goes on until the result is dropped.
    pub(super) async fn begin(self, port: u16) -> JoinSet<()> {
        let mut attackers = JoinSet::new();
        match self {
            Self::WithoutBody => {
                for _ in 0..12 {
                    attackers.spawn(again(port, SOON, |client| without_body(client, 95)));
                }
            }
            Self::Unread => {
                for _ in 0..200 {
                    attackers.spawn(again(port, SOON, |client| unread(client, 99)));
                }
            }
            Self::Waiting { connections } => {
                for number in 0..connections {
                    attackers.spawn(again(port, LATER, unread_watch));
                    // A burst that a listen queue does not take would not be an attack of this kind.
                    if number % 200 == 0 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        attackers
    }
}

/// Connects, attacks, and connects again a while after the server ended it.
async fn again<F: Future<Output = ()>>(port: u16, pause: Duration, attack: impl Fn(SendRequest<Body>) -> F) {
    loop {
        if let Some((client, connection)) = connect(port).await {
            tokio::select! {
                () = attack(client) => {}
                _ = connection => {}
            }
        }
        tokio::time::sleep(pause).await;
    }
}

async fn connect(port: u16) -> Option<(SendRequest<Body>, impl Future<Output = hyper::Result<()>>)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    builder.handshake(TokioIo::new(stream)).await.ok()
}

async fn without_body(mut client: SendRequest<Body>, streams: usize) {
    let requests = (0..streams).map(|_| {
        let answer = client.send_request(post("/countersign.exchange.v1.ExchangeService/ExchangeToken", endless(Vec::new())));
        async move {
            let _ = answer.await;
        }
    });
    requests.collect::<stream::FuturesUnordered<_>>().for_each(|()| std::future::ready(())).await;
}

async fn unread(mut client: SendRequest<Body>, streams: usize) {
    let message = [&[0x22, u8::try_from(REFLECTED.len()).unwrap_or_default()][..], REFLECTED.as_bytes()].concat();
    let requests: Vec<_> = (0..streams).map(|_| client.send_request(post(REFLECTION, endless(frame(&message))))).collect();
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await);
    }
    std::future::pending::<()>().await;
}

async fn unread_watch(mut client: SendRequest<Body>) {
    let _answer = client.send_request(post("/grpc.health.v1.Health/Watch", whole(&[]))).await;
    std::future::pending::<()>().await;
}

/// A gRPC request.
pub(super) fn post(path: &str, body: Body) -> http::Request<Body> {
    let mut request = http::Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = format!("http://localhost{path}").parse().unwrap_or_default();
    request.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    request
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
    [&[0][..], &length, message].concat()
}

/// One message, and the end.
pub(super) fn whole(message: &[u8]) -> Body {
    Full::new(Bytes::from(frame(message))).boxed()
}

/// These bytes, and no end.
fn endless(bytes: Vec<u8>) -> Body {
    let begin = (!bytes.is_empty()).then(|| Ok(Frame::data(Bytes::from(bytes))));
    BodyExt::boxed(StreamBody::new(stream::iter(begin).chain(stream::pending())))
}
