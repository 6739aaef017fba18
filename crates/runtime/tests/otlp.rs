//! Traces reach a collector, what is left of them when telemetry ends included. In a process of its own, as telemetry is global.

use std::sync::{Arc, Mutex};

use countersign_runtime::config::Telemetry;
use countersign_runtime::telemetry;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_exported_over_otlp_and_flushed_at_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Vec::<(String, Vec<u8>)>::new()));
    let collector = Arc::clone(&received);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let collector = Arc::clone(&collector);
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let collector = Arc::clone(&collector);
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await?.to_bytes();
                    collector.lock().unwrap().push((path, body.to_vec()));
                    let empty_message = Full::new(bytes::Bytes::from_static(&[0, 0, 0, 0, 0]));
                    let answer = http::Response::builder().header("content-type", "application/grpc").header("grpc-status", "0");
                    Ok::<_, hyper::Error>(answer.body(empty_message).unwrap())
                }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
            );
        }
    });

    let settings = Telemetry { otlp_endpoint: Some(endpoint), log_filter: "warn,otlp=info".to_owned(), ..Telemetry::default() };
    let guard = telemetry::init("test-service", &settings).unwrap();
    tracing::info_span!("a span of this test").in_scope(|| {});
    // Flushing blocks, as `main` does after its runtime's work.
    tokio::task::spawn_blocking(move || drop(guard)).await.unwrap();

    let received = received.lock().unwrap();
    let (path, body) = received.first().expect("nothing was exported");
    assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    for text in ["a span of this test", "test-service"] {
        assert!(body.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
}
