//! What peers without credentials cannot hold (SECURITY 85). "Honest" requests come from the same peer as the attack's.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use countersign_domain::values::reason::Reason;
use countersign_proto::status::Refusal;
use countersign_runtime::concurrency::Share;
use countersign_runtime::server::Limits;
use futures::StreamExt as _;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::support::{Service, bootstrap, call_with, text};

const KEYS: &str = "/countersign.issuer.v1.KeySetService/GetJsonWebKeySet";

/// A connection of its own, whose peer lets the server send `window` bytes of an answer.
async fn connect(service: &Service, window: u32) -> (SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
    let stream = service.connectors.public.connect().await.unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window).initial_connection_window_size(1 << 20);
    let (client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (client, tokio::spawn(connection))
}

/// A body that never begins.
fn no_body() -> Body {
    Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>())
}

fn post(path: &str, content_type: &str, body: Body) -> http::Request<Body> {
    http::Request::post(format!("http://test{path}")).header("content-type", content_type).body(body).unwrap()
}

/// Begins requests without a body and waits until the server has seen them all: it answers a complete one that was sent later.
async fn without_body(
    client: &mut SendRequest<Body>,
    path: &str,
    content_type: &str,
    count: usize,
) -> Vec<JoinHandle<http::Response<Incoming>>> {
    let mut answers = Vec::new();
    for _ in 0..count {
        client.ready().await.unwrap();
        let answer = client.send_request(post(path, content_type, no_body()));
        answers.push(tokio::spawn(async { answer.await.unwrap() }));
    }
    client.ready().await.unwrap();
    let after = client.send_request(http::Request::get("http://test/answer").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(after.status(), StatusCode::OK, "a request with all of its body");
    answers
}

async fn honest_requests_succeed(service: &Service) {
    let post = http::Request::post("/length").body("x".repeat(1000)).unwrap();
    let response = service.http(post).await;
    assert_eq!((response.status(), response.body().as_str()), (StatusCode::OK, "1000"));
    assert_eq!(text(service.ask("answer").await.unwrap()), "done");
}

fn status_of(response: &http::Response<Incoming>) -> Status {
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::unknown("no status"))
}

#[tokio::test]
async fn s85_requests_without_a_body_hold_no_place_of_others() {
    let limits = Limits { requests: 2, body_start: Duration::from_secs(1), ..Limits::default() };
    let service = Service::start_with(limits, bootstrap());
    let (mut client, _connection) = connect(&service, 65_535).await;
    let mut answers = without_body(&mut client, "/length", "application/x-www-form-urlencoded", 20).await;
    answers.extend(without_body(&mut client, KEYS, "application/grpc", 20).await);
    honest_requests_succeed(&service).await;
    for (number, answer) in answers.into_iter().enumerate() {
        let response = answer.await.unwrap();
        if number < 20 {
            assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
        } else {
            let status = status_of(&response);
            assert_eq!(
                (status.code(), Refusal::from_status(&status).reason()),
                (Code::DeadlineExceeded, Reason::DeadlineExceeded)
            );
        }
    }
}

#[tokio::test]
async fn s85_a_body_must_keep_a_minimum_rate() {
    let limits = Limits { body_start: Duration::from_millis(200), body_rate: 1 << 20, ..Limits::default() };
    let service = Service::start_with(limits, bootstrap());
    let (mut client, _connection) = connect(&service, 65_535).await;
    let drip = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
    });
    let response = client.send_request(post("/length", "text/plain", Body::from_stream(drip))).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    let body = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(body.contains("DEADLINE_EXCEEDED"), "{body}");
}

#[tokio::test]
async fn s85_bodies_that_are_waited_for_are_bounded_by_connection_and_peer() {
    let limits = Limits {
        waiting_bodies: Share { total: 100, per_peer: 6 },
        waiting_bodies_per_connection: 4,
        body_start: Duration::from_mins(10),
        deadline: Duration::from_mins(10),
        ..Limits::default()
    };
    let service = Service::start_with(limits, bootstrap());
    let (mut first, _connection) = connect(&service, 65_535).await;
    let mut answers = without_body(&mut first, KEYS, "application/grpc", 5).await;
    // The newest of one connection is refused.
    let status = status_of(&answers.pop().unwrap().await.unwrap());
    assert_eq!(status.code(), Code::Unavailable);
    assert!(Refusal::from_status(&status).nothing_committed());
    // The oldest of one peer makes room.
    let (mut second, _connection) = connect(&service, 65_535).await;
    let later = without_body(&mut second, KEYS, "application/grpc", 3).await;
    let oldest = answers.remove(0).await.unwrap();
    assert_eq!(status_of(&oldest).code(), Code::Unavailable);
    assert!(answers.iter().chain(&later).all(|answer| !answer.is_finished()));
    honest_requests_succeed(&service).await;
}

#[tokio::test]
async fn s85_a_peer_that_leaves_answers_unread_is_cut() {
    let limits = Limits { write_stall: Duration::from_millis(400), ..Limits::default() };
    let service = Service::start_with(limits, bootstrap());
    let (mut client, connection) = connect(&service, 1).await;
    let response = client.send_request(http::Request::get("http://test/answer").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    // The body is four bytes, and the window has room for one.
    let ended = tokio::time::timeout(Duration::from_secs(20), connection).await.expect("cut").unwrap();
    drop((ended, response));
    honest_requests_succeed(&service).await;
}

#[tokio::test]
async fn s85_unread_answers_of_a_peer_are_bounded() {
    let limits = Limits {
        unread_responses: Share { total: 1000, per_peer: 15 },
        write_stall: Duration::from_mins(10),
        ..Limits::default()
    };
    let service = Service::start_with(limits, bootstrap());
    let mut connections = Vec::new();
    for _ in 0..3 {
        let (mut client, connection) = connect(&service, 1).await;
        let mut responses = Vec::new();
        for _ in 0..10 {
            client.ready().await.unwrap();
            let request = http::Request::get("http://test/answer").body(Body::empty()).unwrap();
            // The connection that is cut may be this one.
            if let Ok(response) = client.send_request(request).await {
                responses.push(response);
            }
        }
        connections.push((client, connection, responses));
    }
    honest_requests_succeed(&service).await;
    let first = &mut connections[0].1;
    let _ = tokio::time::timeout(Duration::from_secs(20), first).await.expect("the connection that waits for the longest is cut");
    assert!(!connections[2].1.is_finished());
}

#[tokio::test]
async fn s85_held_streams_are_bounded_by_connection_and_peer() {
    let limits = Limits { held_streams: Share { total: 100, per_peer: 3 }, held_streams_per_connection: 2, ..Limits::default() };
    let service = Service::start_with(limits, bootstrap());
    let request = || HealthCheckRequest { service: String::new() };
    let mut first = HealthClient::new(service.public());
    let mut oldest = first.watch(request()).await.unwrap().into_inner();
    let mut second = first.watch(request()).await.unwrap().into_inner();
    for stream in [&mut oldest, &mut second] {
        assert_eq!(stream.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    }
    let too_many = first.watch(request()).await.unwrap_err();
    assert_eq!((too_many.code(), Refusal::from_status(&too_many).reason()), (Code::ResourceExhausted, Reason::RateLimited));
    // Streams of both kinds count, over all connections of the peer.
    let mut reflection = ServerReflectionClient::new(service.public());
    let pending = || futures::stream::pending::<ServerReflectionRequest>();
    let _third = reflection.server_reflection_info(pending()).await.unwrap();
    let _fourth = reflection.server_reflection_info(pending()).await.unwrap();
    assert_eq!(oldest.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(text(service.ask("answer").await.unwrap()), "done");
    // What ended gives its place back.
    drop(second);
    let mut again = HealthClient::new(service.public()).watch(request()).await.unwrap().into_inner();
    assert!(again.message().await.unwrap().is_some());
}

#[tokio::test]
async fn s85_an_open_stream_does_not_keep_a_connection_that_is_idle() {
    let limits = Limits {
        header_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(200),
        held_stream_idle_timeout: Duration::from_millis(400),
        ..Limits::default()
    };
    let service = Service::start_with(limits, bootstrap());
    let (mut client, connection) = connect(&service, 65_535).await;
    let message = Body::from(&b"\0\0\0\0\0"[..]);
    let response = client.send_request(post("/grpc.health.v1.Health/Watch", "application/grpc", message)).await.unwrap();
    let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap();
    assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::Unavailable);
    tokio::time::timeout(Duration::from_secs(20), connection).await.expect("closed").unwrap().unwrap();
}

#[tokio::test]
async fn s85_connections_that_only_watch_make_room_for_those_that_are_of_use() {
    let limits = Limits { connections: Share { total: 100, per_peer: 4 }, ..Limits::default() };
    let service = Service::start_with(limits, bootstrap());
    let (mut useful, connection) = connect(&service, 65_535).await;
    let get = || http::Request::get("http://test/answer").body(Body::empty()).unwrap();
    assert_eq!(useful.send_request(get()).await.unwrap().status(), StatusCode::OK);
    let mut watching = Vec::new();
    for _ in 0..10 {
        let mut client = HealthClient::new(service.public());
        let mut stream = client.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        watching.push((client, stream));
    }
    assert_eq!(watching[0].1.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(useful.send_request(get()).await.unwrap().status(), StatusCode::OK);
    assert!(!connection.is_finished());
    honest_requests_succeed(&service).await;
}

#[tokio::test]
async fn a_service_that_is_not_served_is_unknown_and_its_watch_stays_open() {
    let service = Service::start();
    let mut client = HealthClient::new(service.public());
    let request = || HealthCheckRequest { service: "no.such.Service".to_owned() };
    assert_eq!(client.check(request()).await.unwrap_err().code(), Code::NotFound);
    let mut stream = client.watch(request()).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.next()).await.is_err(), "open");
}

#[tokio::test]
async fn a_broken_frame_is_the_callers_fault() {
    let service = Service::start();
    for body in [&b""[..], b"\0", b"\0\0\0\0", b"\0\0\0\0\x05abc", b"\0\0\0\0\0extra", b"\x02\0\0\0\0", b"\x01\0\0\0\x03abc"] {
        let status = call_with(service.public(), KEYS, &[], body).await;
        let seen = (status.code(), Refusal::from_status(&status).reason());
        assert_eq!(seen, (Code::InvalidArgument, Reason::InvalidRequest), "{body:?}: {status:?}");
    }
    // A compression that was announced, and bytes that are not compressed.
    let status = call_with(service.public(), KEYS, &[("grpc-encoding", "gzip")], b"\x01\0\0\0\x03abc").await;
    assert_ne!(status.code(), Code::Internal, "{status:?}");
}
