//! Starting, being ready, draining.

use std::net::SocketAddr;
use std::time::Duration;

use countersign_runtime::auth::Authenticator;
use countersign_runtime::config::Listen;
use countersign_runtime::server::{Limits, Server, Surface};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::transport::{Admission, InProcess, InProcessConnector, Listener, Listeners};
use countersign_testkit::wait;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Service, ask, bootstrap, text};

async fn health(service: &Service, name: &str) -> Result<i32, Code> {
    let request = HealthCheckRequest { service: name.to_owned() };
    let answer = HealthClient::new(service.public()).check(request).await;
    answer.map(|answer| answer.into_inner().status).map_err(|status| status.code())
}

#[tokio::test]
async fn health_follows_the_conditions() {
    let service = Service::start();
    for name in ["", "countersign.issuer.v1.KeySetService", "countersign.trust.v1.WorkspaceService"] {
        wait::until("serving", async || health(&service, name).await == Ok(ServingStatus::Serving as i32)).await;
    }
    assert_eq!(health(&service, "countersign.trust.v1.CommitService").await, Ok(ServingStatus::Serving as i32));
    assert_eq!(health(&service, "nobody").await, Err(Code::NotFound));
    let database = service.readiness.condition("database");
    wait::until("not serving", async || health(&service, "").await == Ok(ServingStatus::NotServing as i32)).await;
    database.set(true);
    wait::until("serving again", async || health(&service, "").await == Ok(ServingStatus::Serving as i32)).await;
    service.readiness.ready().await;
}

#[tokio::test]
async fn a_drain_lets_finish_what_is_in_flight_and_takes_nothing_new() {
    let service = Service::start();
    let channel = service.public();
    let hanging = tokio::spawn(ask(channel, "hang"));
    service.obedient.entered.acquire().await.unwrap().forget();
    service.shutdown.trigger();
    wait::until("no new connection", async || service.connectors.public.connect().await.is_err()).await;
    assert!(!service.readiness.is_ready());
    service.obedient.release.notify_one();
    assert_eq!(text(hanging.await.unwrap().unwrap()), "late");
    service.running.wait().await.unwrap();
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_finish_within_the_grace_period() {
    let service = Service::start_with(Limits { grace: Duration::from_millis(100), ..Limits::default() }, bootstrap());
    let hanging = tokio::spawn(ask(service.public(), "hang"));
    service.obedient.entered.acquire().await.unwrap().forget();
    service.shutdown.trigger();
    service.running.wait().await.unwrap();
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn a_service_stops_when_a_task_it_cannot_do_without_ends() {
    for failing in [true, false] {
        let (listeners, _connectors) = Listeners::in_process();
        let running = Server::new("test-service")
            .public(Surface::new())
            .task("lives on", std::future::pending())
            .task("watcher", async move { assert!(!failing, "as told") })
            .start(listeners, Shutdown::new())
            .unwrap();
        let error = running.wait().await.unwrap_err();
        assert!(error.to_string().contains("`watcher`"), "{error}");
    }
}

#[tokio::test]
async fn s71_an_internal_listener_is_never_plain() {
    let (Listeners { public, .. }, _connectors) = Listeners::in_process();
    let internal = Some(Listener::Tcp(TcpListener::bind("127.0.0.1:0").await.unwrap()));
    let started = Server::new("test-service")
        .start(Listeners { public, internal, private: None, admission: Admission::default() }, Shutdown::new());
    assert!(started.unwrap_err().to_string().contains("mutual TLS"));
}

async fn private(connector: &InProcessConnector, path: &str) -> (u16, String) {
    let stream = connector.connect().await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = client.send_request(http::Request::get(path).body(String::new()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_private_port_tells_life_readiness_and_numbers() {
    let (listeners, connectors) = Listeners::in_process();
    let (private_listener, port) = InProcess::pair();
    let listeners = Listeners { private: Some(private_listener), ..listeners };
    let service = Service::start_on(listeners, connectors, Limits::default(), Authenticator::new());
    assert_eq!(private(&port, "/livez").await, (200, "alive\n".to_owned()));
    assert_eq!(private(&port, "/readyz").await, (200, "ready\n".to_owned()));
    let database = service.readiness.condition("database");
    assert_eq!(private(&port, "/readyz").await, (503, "not ready: database\n".to_owned()));
    assert_eq!(private(&port, "/livez").await.0, 200);
    database.set(true);

    service.ask("answer").await.unwrap();
    service.ask("unknown").await.unwrap_err();
    service.http(http::Request::get("/a-path-that-a-stranger-chose").body(String::new()).unwrap()).await;
    let (status, metrics) = private(&port, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "countersign_up 1",
        "countersign_answer 42",
        "countersign_answers{method=\"guess\"} 41",
        "countersign_answers{method=\"sum\"} 42",
        "countersign_build_info{service=\"test-service\"",
        "countersign_requests_total{route=\"countersign.issuer.v1.KeySetService/GetJsonWebKeySet\",status=\"Ok\"} 1",
        "countersign_requests_total{route=\"countersign.issuer.v1.KeySetService/GetJsonWebKeySet\",status=\"NotFound\"} 1",
        "countersign_requests_total{route=\"unknown\",status=\"404\"} 1",
        "countersign_request_duration_seconds_count{route=",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("stranger"));
}

#[tokio::test]
async fn the_private_port_shows_the_drain() {
    let (listeners, connectors) = Listeners::in_process();
    let (private_listener, port) = InProcess::pair();
    let listeners = Listeners { private: Some(private_listener), ..listeners };
    let service = Service::start_on(listeners, connectors, Limits::default(), Authenticator::new());
    let hanging = tokio::spawn(ask(service.public(), "hang"));
    service.obedient.entered.acquire().await.unwrap().forget();
    service.shutdown.trigger();
    wait::until("draining", async || private(&port, "/readyz").await == (503, "not ready: draining\n".to_owned())).await;
    service.obedient.release.notify_one();
    hanging.await.unwrap().unwrap();
    service.running.wait().await.unwrap();
}

#[tokio::test]
async fn a_process_that_waits_for_its_database_is_alive_and_not_ready() {
    // A port that was free a moment ago.
    let private = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let listen = Listen { private, ..Listen::on_loopback(7401) };
    let waited = listen.while_waiting_for("database", async {
        assert_eq!(probe(private, "/livez").await, (200, "alive\n".to_owned()));
        assert_eq!(probe(private, "/readyz").await, (503, "not ready: database\n".to_owned()));
        // Somebody who stays connected does not keep the port from being opened anew.
        Ok(TcpStream::connect(private).await?)
    });
    let _connected = waited.await.unwrap();
    TcpListener::bind(private).await.unwrap();
    let failed = listen.while_waiting_for("database", async { anyhow::Result::<()>::Err(anyhow::anyhow!("refused")) });
    assert_eq!(failed.await.unwrap_err().to_string(), "refused");
}

/// Status and body of what a port answers.
async fn probe(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
