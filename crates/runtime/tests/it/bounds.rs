//! What peers cannot make a service do.

use std::time::Duration;

use countersign_runtime::concurrency::Share;
use countersign_runtime::server::Limits;
use countersign_runtime::transport::{Admission, Listener, Listeners};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Service, bootstrap};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn impatient() -> Limits {
    Limits { header_timeout: Duration::from_millis(200), idle_timeout: Duration::from_millis(200), ..Limits::default() }
}

fn post(body: String) -> http::Request<String> {
    http::Request::post("/length").body(body).unwrap()
}

/// Sends one byte after the other for as long as the server lets it.
async fn drip(mut stream: DuplexStream, opening: &[u8]) {
    let dripping = async {
        stream.write_all(opening).await?;
        let (mut read, mut write) = tokio::io::split(stream);
        let swallow = tokio::spawn(async move { while matches!(read.read(&mut [0; 1024]).await, Ok(1..)) {} });
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !swallow.is_finished() {
            ticks.tick().await;
            write.write_all(b"a").await?;
        }
        Ok::<(), std::io::Error>(())
    };
    let cut = tokio::time::timeout(Duration::from_secs(20), dripping).await;
    assert!(cut.is_ok(), "never cut: {:?}", String::from_utf8_lossy(opening));
}

#[tokio::test]
async fn s65_bodies_over_64_kib_are_refused() {
    let service = Service::start();
    let most = service.http(post("x".repeat(64 * 1024))).await;
    assert_eq!((most.status(), most.body().as_str()), (StatusCode::OK, "65536"));
    let more = service.http(post("x".repeat(64 * 1024 + 1))).await;
    assert_eq!(more.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(more.body().contains("INVALID_REQUEST"));
}

#[tokio::test]
async fn s65_a_body_of_unknown_length_breaks_off_at_64_kib() {
    let service = Service::start();
    let mut stream = service.connectors.public.connect().await.unwrap();
    stream.write_all(b"POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    for _ in 0..17 {
        stream.write_all(b"1000\r\n").await.unwrap();
        stream.write_all(&[b'x'; 4096]).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[tokio::test]
async fn s66_a_head_of_more_than_32_kib_is_refused_on_both_protocols() {
    let service = Service::start();
    let mut request = http::Request::get("/answer").body(String::new()).unwrap();
    request.headers_mut().insert("x-long", "a".repeat(40 * 1024).parse().unwrap());
    assert_eq!(service.http(request).await.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let long = "a".repeat(40 * 1024);
    let path = "/countersign.issuer.v1.KeySetService/GetJsonWebKeySet";
    let request =
        http::Request::post(format!("http://test{path}")).header("x-long", long).body(tonic::body::Body::empty()).unwrap();
    let answer = tower::ServiceExt::oneshot(service.public(), request).await;
    assert!(answer.is_err() || answer.unwrap().status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn s67_at_most_100_streams_a_connection() {
    let service = Service::start();
    let mut stream = service.connectors.public.connect().await.unwrap();
    stream.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame holds the settings");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    let streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
    assert_eq!(streams[2..], 100u32.to_be_bytes());
}

#[tokio::test]
async fn s67_whoever_sends_nothing_or_drips_is_cut() {
    let service = Service::start_with(impatient(), bootstrap());
    for opening in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n",
        b"GET /answer HTTP/1.1\r\nx-slow: ",
        b"GET /answer HTTP/1.1\r\nhost: a\r\n\r\nGET /answer HTTP/1.1\r\nx-slow: ",
        PREFACE,
        &[PREFACE, EMPTY_SETTINGS].concat(),
        // A frame of 16 KiB that never gets complete.
        &[PREFACE, EMPTY_SETTINGS, &[0x3f, 0xff, 0xff, 1, 4, 0, 0, 0, 1]].concat(),
    ] {
        drip(service.connectors.public.connect().await.unwrap(), opening).await;
    }
}

#[tokio::test]
async fn s67_a_body_that_drips_is_cut_by_the_deadline() {
    let limits = Limits { deadline: Duration::from_millis(200), ..Limits::default() };
    let service = Service::start_with(limits, bootstrap());
    let mut stream = service.connectors.public.connect().await.unwrap();
    stream.write_all(b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nx").await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 504");
}

#[tokio::test]
async fn s67_an_idle_http2_connection_is_closed() {
    let service = Service::start_with(impatient(), bootstrap());
    let stream = service.connectors.public.connect().await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream))
            .await
            .unwrap();
    let closed = tokio::spawn(connection);
    let request = http::Request::get("http://test/answer").body(String::new()).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), StatusCode::OK);
    // hyper answers pings, so only idleness can end this.
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("closed").unwrap().unwrap();
}

#[tokio::test]
async fn s67_idle_connections_make_room_for_others() {
    let (Listeners { internal, .. }, connectors) = Listeners::in_process();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listeners = Listeners { public: Listener::Tcp(socket), internal, private: None, admission: Admission::default() };
    let limits = Limits { connections: Share { total: 4, per_peer: 4 }, ..impatient() };
    let service = Service::start_on(listeners, connectors, limits, bootstrap());
    assert_eq!(service.running.addresses().public, Some(address));
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /answer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn s67_dripping_after_a_first_request_is_cut_too() {
    let limits = Limits { idle_timeout: Duration::from_hours(1), ..impatient() };
    let service = Service::start_with(limits, bootstrap());
    // HEADERS that end stream 1: GET http://a/answer, in HPACK's static table but for path and authority.
    let request = [&[0, 0, 14, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x04, 7][..], b"/answer", &[0x41, 1, b'a']].concat();
    let incomplete_frame = &[0x3f, 0xff, 0xff, 1, 4, 0, 0, 0, 3][..];
    let opening = [PREFACE, EMPTY_SETTINGS, &request, incomplete_frame].concat();
    drip(service.connectors.public.connect().await.unwrap(), &opening).await;
}
