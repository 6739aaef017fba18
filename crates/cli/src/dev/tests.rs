//! The composition in this process, on ports that the system chose.

use std::net::SocketAddr;
use std::path::Path;

use countersign_runtime::shutdown::Shutdown;
use http::StatusCode;
use serde_json::Value;

use super::composition::{self, Deployment};
use super::demo;
use super::exchange;
use super::sockets::Sockets;
use super::state::State;
use crate::connection::Service;
use crate::output::tests::Captured;

struct Running {
    state: State,
    deployment: Deployment,
    shutdown: Shutdown,
}

impl Running {
    async fn start(folder: &Path, addresses: [SocketAddr; 3]) -> Self {
        let state = State::open(folder).unwrap();
        let sockets = Sockets::bind(addresses).await.unwrap();
        let shutdown = Shutdown::new();
        let deployment = Box::pin(composition::start(&state, sockets, &shutdown)).await.unwrap();
        Self { state, deployment, shutdown }
    }

    fn addresses(&self) -> [SocketAddr; 3] {
        [Service::Issuer, Service::Trust, Service::Gateway].map(|service| {
            let (_, port) = self.deployment.url(service).rsplit_once(':').unwrap();
            format!("127.0.0.1:{port}").parse().unwrap()
        })
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.deployment.wait().await.unwrap();
    }
}

fn any_ports() -> [SocketAddr; 3] {
    ["127.0.0.1:0"; 3].map(|address| address.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_composition_exchanges_a_token_and_tells_claims_but_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path(), any_ports()).await;
    let operator = running.state.bootstrap_token().unwrap();
    let demo = demo::seed(&running.deployment, &operator).await.unwrap();
    let captured = Captured::default();
    exchange::perform(&running.deployment, &operator, &demo, &mut captured.output()).await.unwrap();
    let told = captured.results();
    for part in ["\"sub\": \"org:my-org:vault:deploy-vault\"", &demo.trust_relationship_id, "SUBJECT_TOKEN_REPLAYED"] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert!(!told.contains("eyJ"), "a token is told:\n{told}");
    assert!(!told.contains(operator.expose()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s52_a_restart_finds_the_demo_and_still_refuses_what_was_exchanged_before() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path(), any_ports()).await;
    let operator = running.state.bootstrap_token().unwrap();
    let first = demo::seed(&running.deployment, &operator).await.unwrap();
    assert!(!first.is_found);
    let token = exchange::issue(&running.deployment, &operator, &first).await.unwrap();
    assert_eq!(exchange::present(&running.deployment, &first, &token).await.unwrap().status, StatusCode::OK);
    let addresses = running.addresses();
    running.stop().await;

    let running = Running::start(folder.path(), addresses).await;
    let second = demo::seed(&running.deployment, &operator).await.unwrap();
    assert!(second.is_found);
    assert_eq!(demo::Demo { is_found: false, ..second.clone() }, first);
    let answer = exchange::present(&running.deployment, &second, &token).await.unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &body["error_reason"]), (StatusCode::BAD_REQUEST, &Value::from("SUBJECT_TOKEN_REPLAYED")));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_method_is_on_no_port() {
    use countersign_proto::issuer_v1::SignAccessTokensRequest;
    use countersign_proto::issuer_v1::access_token_service_client::AccessTokenServiceClient;

    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path(), any_ports()).await;
    let bearer = crate::connection::Bearer::new(&running.state.bootstrap_token().unwrap()).unwrap();
    for service in [Service::Issuer, Service::Trust, Service::Gateway] {
        let channel = running.deployment.channel(service).await.unwrap();
        let mut client = AccessTokenServiceClient::with_interceptor(channel, bearer.clone());
        let refused = client.sign_access_tokens(SignAccessTokensRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unimplemented, "{service:?}: {refused:?}");
    }
    running.stop().await;
}
