//! What every answer has in common: ids, refusals, panics, deadlines, load shedding, reflection.

use std::time::Duration;

use countersign_domain::values::reason::Reason;
use countersign_proto::issuer_v1::GetJsonWebKeySetRequest;
use countersign_proto::issuer_v1::key_set_service_client::KeySetServiceClient;
use countersign_proto::status::Refusal;
use countersign_runtime::server::Limits;
use countersign_testkit::status::{assert_refused, violated_fields};
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use serde_json::Value;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::{Service, ask, bootstrap, call, call_with, text};

const KEYS: &str = "/countersign.issuer.v1.KeySetService/GetJsonWebKeySet";

fn get(path: &str) -> http::Request<String> {
    http::Request::get(path).body(String::new()).unwrap()
}

#[tokio::test]
async fn one_port_speaks_grpc_and_http() {
    let service = Service::start();
    assert_eq!(text(service.ask("answer").await.unwrap()), "done");
    let response = service.http(get("/answer")).await;
    assert_eq!((response.status(), response.body().as_str()), (StatusCode::OK, "done"));
}

#[tokio::test]
async fn s63_what_nobody_serves_is_unimplemented_or_not_found() {
    let service = Service::start();
    assert_eq!(
        call(service.public(), "/countersign.trust.v1.AuditService/ForgetAuditEvents", &[]).await.code(),
        Code::Unimplemented
    );
    assert_eq!(service.http(get("/nowhere")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(service.http(get("/")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_answer_carries_the_request_id_that_the_handler_saw() {
    let service = Service::start();
    let response = service.ask("request id").await.unwrap();
    let id = response.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
    assert_eq!(id.len(), 32);
    assert_eq!(text(response), id);
    for path in ["/answer", "/panic", "/nowhere"] {
        assert!(service.http(get(path)).await.headers().contains_key("x-request-id"), "{path}");
    }
    let status = service.ask("unknown").await.unwrap_err();
    assert!(status.metadata().contains_key("x-request-id"));
}

#[tokio::test]
async fn s70_forwarded_headers_and_foreign_request_ids_change_nothing() {
    let service = Service::start();
    let chosen = "0123456789abcdef0123456789abcdef";
    let mut request = get("/answer");
    for (name, value) in [
        ("x-request-id", chosen),
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-forwarded-client-cert", "DNS=exchange-gateway"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let headers = request.headers().clone();
    assert_ne!(service.http(request).await.headers()["x-request-id"], chosen);
    // Nor does any of them make a caller internal.
    let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let path = "/countersign.trust.v1.CommitService/CommitExchanges";
    assert_eq!(call(service.public(), path, &pairs).await.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_service_of_ours_hands_its_request_id_on() {
    let service = Service::start();
    let mut request = tonic::Request::new(GetJsonWebKeySetRequest { issuer_url: "request id".into() });
    let chosen = "0123456789abcdef0123456789abcdef";
    request.metadata_mut().insert("x-request-id", chosen.parse().unwrap());
    let mut client = KeySetServiceClient::new(service.internal());
    assert_eq!(text(client.get_json_web_key_set(request).await.unwrap()), chosen);
}

#[tokio::test]
async fn s63_refusals_keep_their_reason_and_details_on_the_way() {
    let service = Service::start();
    assert_refused(&service.ask("unknown").await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
    let status = call(service.public(), "/countersign.issuer.v1.KeySetService/GetOpenIdConfiguration", &[]).await;
    assert_eq!(violated_fields(&status), ["issuer_url"]);
}

#[tokio::test]
async fn s63_no_status_outside_the_closed_list_gets_out() {
    let service = Service::start();
    let slip = service.ask("slip").await.unwrap_err();
    assert_refused(&slip, Code::Internal, Reason::Internal);
    assert!(!slip.message().contains("10.0.0.7"));
    let garbage = call_with(service.public(), KEYS, &[], b"\0\0\0\0\x02\xff\xff").await;
    assert_refused(&garbage, Code::InvalidArgument, Reason::InvalidRequest);
    let huge = call_with(service.public(), KEYS, &[], b"\0\x7f\xff\xff\xff").await;
    assert_refused(&huge, Code::InvalidArgument, Reason::InvalidRequest);
    let health = call(service.public(), "/grpc.health.v1.Health/Check", &[]).await;
    assert_eq!(health.code(), Code::Ok);
}

#[tokio::test]
async fn s66_a_message_is_bounded() {
    let service = Service::start();
    let long = service.ask(&"x".repeat(4 * 1024 * 1024)).await.unwrap_err();
    assert_refused(&long, Code::InvalidArgument, Reason::InvalidRequest);
}

#[tokio::test]
async fn s68_a_panic_costs_one_request() {
    let service = Service::start();
    let channel = service.public();
    assert_refused(&ask(channel.clone(), "panic").await.unwrap_err(), Code::Internal, Reason::Internal);
    assert_eq!(text(ask(channel, "answer").await.unwrap()), "done");
    let response = service.http(get("/panic")).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body: Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!((body["error"].as_str(), body["error_reason"].as_str()), (Some("server_error"), Some("INTERNAL")));
    assert!(!response.body().contains("as told"));
}

#[tokio::test]
async fn a_caller_who_would_not_wait_is_told_so() {
    let service = Service::start();
    // Without a client that keeps time itself.
    let stream = service.connectors.public.connect().await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let message = GetJsonWebKeySetRequest { issuer_url: "hang".to_owned() }.encode_to_vec();
    let body = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()][..], &message].concat();
    let request = http::Request::post(format!("http://test{KEYS}"))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "20m")
        .body(http_body_util::Full::new(bytes::Bytes::from(body)));
    let response = client.send_request(request.unwrap()).await.unwrap();
    let status = tonic::Status::from_header_map(response.headers()).unwrap();
    assert_refused(&status, Code::DeadlineExceeded, Reason::DeadlineExceeded);
    assert_eq!(service.obedient.entered.available_permits(), 1, "the handler was reached");
}

#[tokio::test]
async fn no_request_outlasts_the_limit() {
    let limits = Limits { deadline: Duration::from_millis(50), ..Limits::default() };
    let service = Service::start_with(limits, bootstrap());
    let status = service.ask("hang").await.unwrap_err();
    assert_refused(&status, Code::DeadlineExceeded, Reason::DeadlineExceeded);
}

#[tokio::test]
async fn load_beyond_the_limit_is_refused_at_once_on_both_wires() {
    let service = Service::start_with(Limits { requests: 1, ..Limits::default() }, bootstrap());
    let channel = service.public();
    let hanging = tokio::spawn(ask(channel.clone(), "hang"));
    service.obedient.entered.acquire().await.unwrap().forget();

    let status = ask(channel.clone(), "answer").await.unwrap_err();
    assert_refused(&status, Code::Unavailable, Reason::TemporarilyUnavailable);
    assert!(Refusal::from_status(&status).nothing_committed(), "no handler was reached");
    let response = service.http(get("/answer")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["retry-after"], "1");
    let body: Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!(body["error"], "temporarily_unavailable");
    assert_eq!(body["error_reason"], "TEMPORARILY_UNAVAILABLE");

    service.obedient.release.notify_one();
    assert_eq!(text(hanging.await.unwrap().unwrap()), "late");
    assert_eq!(text(ask(channel, "answer").await.unwrap()), "done");
}

#[tokio::test]
async fn reflection_names_what_is_served_here_and_nothing_internal() {
    let service = Service::start();
    let request =
        ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
    let mut client = ServerReflectionClient::new(service.public());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.next().await.unwrap().unwrap().message_response else {
        panic!("not a list");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["countersign.issuer.v1.KeySetService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for name in ["CommitService", "PolicyService", "AccessTokenService"] {
        assert!(!names.iter().any(|listed| listed.contains(name)), "{names:?}");
    }
}

/// What grpcurl asks for when an answer holds details of a refusal.
#[tokio::test]
async fn reflection_describes_the_details_of_refusals() {
    let mut client = ServerReflectionClient::new(Service::start().public());
    for name in ["google.rpc.BadRequest", "google.rpc.ErrorInfo", "google.rpc.RetryInfo", "google.rpc.ResourceInfo"] {
        let message_request = Some(MessageRequest::FileContainingSymbol(name.to_owned()));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let answer = answers.next().await.unwrap().unwrap().message_response;
        assert!(matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))), "{name}: {answer:?}");
    }
}
