//! What a client with nothing but an address can find out, and what it cannot reach.

use countersign_domain::values::reason::Reason;
use countersign_proto::common_v1::Grant;
use countersign_proto::exchange_v1::ExchangeTokenRequest;
use countersign_proto::issuer_v1::SignAccessTokensRequest;
use countersign_proto::issuer_v1::access_token_service_client::AccessTokenServiceClient;
use countersign_proto::trust_v1::commit_service_client::CommitServiceClient;
use countersign_proto::trust_v1::workspace_service_client::WorkspaceServiceClient;
use countersign_proto::trust_v1::{
    CommitExchangesRequest, CreateTrustRelationshipRequest, CreateTrustedIssuerRequest, ListWorkspacesRequest, TrustRelationship,
    TrustedIssuer,
};
use countersign_testkit::status::{assert_refused, violated_fields};
use countersign_tests::deployment::Instance;
use countersign_tests::http1;
use countersign_tests::operator::{Bearer, channel, exchange_client};
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::deployments::{Scene, shared};

/// The public services of each process.
const SERVICES: [(Instance, &[&str]); 3] = [
    (
        Instance::IssuerService,
        &[
            "countersign.issuer.v1.IssuerService",
            "countersign.issuer.v1.KeySetService",
            "countersign.issuer.v1.SigningKeyService",
            "countersign.issuer.v1.TokenService",
        ],
    ),
    (
        Instance::TrustService,
        &[
            "countersign.trust.v1.AuditService",
            "countersign.trust.v1.TrustRelationshipService",
            "countersign.trust.v1.TrustedIssuerService",
            "countersign.trust.v1.WorkspaceService",
        ],
    ),
    (Instance::Gateway, &["countersign.exchange.v1.ExchangeService"]),
];

async fn reflect(instance: Instance, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel(shared(), instance));
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer: ServerReflectionResponse = answers.message().await.unwrap().unwrap();
    answer.message_response.unwrap()
}

#[tokio::test]
async fn reflection_lists_and_describes_every_public_service_and_no_internal_one() {
    for (instance, services) in SERVICES {
        let MessageResponse::ListServicesResponse(list) = reflect(instance, MessageRequest::ListServices(String::new())).await
        else {
            panic!("{instance} does not list its services");
        };
        let mut names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
        names.retain(|name| name.starts_with("countersign."));
        names.sort_unstable();
        assert_eq!(names, services, "{instance}");
        for service in services {
            let question = MessageRequest::FileContainingSymbol((*service).to_owned());
            let answer = reflect(instance, question).await;
            let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{service}: {answer:?}") };
            assert!(!files.file_descriptor_proto.is_empty(), "{service}");
        }
    }
}

#[tokio::test]
async fn health_answers_serving() {
    for instance in Instance::ALL {
        let mut client = HealthClient::new(channel(shared(), instance));
        let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{instance}");
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(http1::get(shared().private_port(instance), path).unwrap().status, 200, "{instance} {path}");
        }
    }
}

#[tokio::test]
async fn a_bad_request_names_every_violation_at_once() {
    let scene = Scene::in_deployment(shared()).await;
    let trusted_issuer = TrustedIssuer {
        workspace_id: scene.trust.workspace_id.clone(),
        issuer_url: "http://issuer.example/\n".to_owned(),
        algorithms: vec!["none".to_owned()],
        ..TrustedIssuer::default()
    };
    let request = CreateTrustedIssuerRequest { trusted_issuer: Some(trusted_issuer) };
    let status = scene.operator.trusted_issuers().create_trusted_issuer(request).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&status), ["trusted_issuer.algorithms[0]", "trusted_issuer.issuer_url"]);

    let trust_relationship = TrustRelationship {
        workspace_id: scene.trust.workspace_id.clone(),
        trusted_issuer_id: scene.trust.trusted_issuer_id.clone(),
        subject_matches: vec!["*".to_owned()],
        scopes: vec!["two words".to_owned()],
        grants: vec![Grant::default()],
        ..TrustRelationship::default()
    };
    let request = CreateTrustRelationshipRequest { trust_relationship: Some(trust_relationship) };
    let status = scene.operator.trust_relationships().create_trust_relationship(request).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    let fields = violated_fields(&status);
    for field in ["trust_relationship.subject_matches[0]", "trust_relationship.scopes[0]", "trust_relationship.grants[0]"] {
        assert!(fields.iter().any(|violated| violated.starts_with(field)), "{field} is not among {fields:?}");
    }

    let request = ExchangeTokenRequest {
        subject_token: scene.token(),
        workspace_id: "my workspace".to_owned(),
        trust_relationship_id: "my relationship".to_owned(),
        ..ExchangeTokenRequest::default()
    };
    let status = exchange_client(shared(), Instance::Gateway).exchange_token(request).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&status), ["trust_relationship_id", "workspace_id"]);
}

#[tokio::test]
async fn administrative_calls_need_a_caller() {
    let trust_service = channel(shared(), Instance::TrustService);
    let request = ListWorkspacesRequest::default();
    let status = WorkspaceServiceClient::new(trust_service.clone()).list_workspaces(request.clone()).await.unwrap_err();
    assert_refused(&status, Code::Unauthenticated, Reason::CredentialsMissing);
    let guess = InterceptedService::new(trust_service, Bearer::new("guess"));
    let status = WorkspaceServiceClient::new(guess).list_workspaces(request).await.unwrap_err();
    assert_refused(&status, Code::Unauthenticated, Reason::CredentialsInvalid);
}

#[tokio::test]
async fn s69_internal_methods_are_not_on_public_ports_nor_open_to_strangers_on_their_own() {
    let bearer = Bearer::new(&shared().bootstrap_token());
    let issuer_service = InterceptedService::new(channel(shared(), Instance::IssuerService), bearer.clone());
    let status =
        AccessTokenServiceClient::new(issuer_service).sign_access_tokens(SignAccessTokensRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    let trust_service = InterceptedService::new(channel(shared(), Instance::TrustService), bearer);
    let status = CommitServiceClient::new(trust_service).commit_exchanges(CommitExchangesRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");

    // s71: without a certificate nobody gets as far as a method.
    for instance in [Instance::IssuerService, Instance::TrustService] {
        let port = shared().internal_port(instance);
        let plaintext = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect_lazy();
        let status = CommitServiceClient::new(plaintext).commit_exchanges(CommitExchangesRequest::default()).await.unwrap_err();
        assert_ne!(status.code(), Code::Ok);
        assert!(status.details().is_empty(), "the service itself answered: {status:?}");
    }
}
