//! Keys that are stored with trusted issuers, checks of issuers, and their health.

use countersign_domain::values::reason::Reason;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_jose::Signer as _;
use countersign_jose::SigningKey;
use countersign_proto::common::timestamp;
use countersign_proto::status::Refusal;
use countersign_proto::trust_v1::issuer_health_service_client::IssuerHealthServiceClient;
use countersign_proto::trust_v1::{
    CheckTrustedIssuerRequest, CreateTrustedIssuerRequest, GetTrustedIssuerRequest, IssuerHealthReport,
    ReportIssuerHealthRequest, TrustedIssuer, TrustedIssuerHealth, TrustedIssuerProblem, UpdateTrustedIssuerRequest,
};
use countersign_testkit::identity_provider::{Behaviour, CertificateAuthority, IdentityProvider, Leaf};
use serde_json::{Value, json};
use tonic::Status;

use super::support::{Caller, Service, service};

fn key() -> Value {
    serde_json::to_value(SigningKey::generate(SignatureAlgorithm::Es256).unwrap().public_jwk()).unwrap()
}

/// An issuer whose keys are these and end in an hour.
fn uploaded(service: &Service, workspace_id: &str, keys: &[Value]) -> TrustedIssuer {
    use countersign_domain::values::time::Clock as _;
    let end = service.clock.now() + std::time::Duration::from_hours(1);
    TrustedIssuer {
        workspace_id: workspace_id.to_owned(),
        issuer_url: "https://kubernetes.default.svc".to_owned(),
        jwks: json!({ "keys": keys }).to_string(),
        jwks_expire_time: Some(timestamp(end)),
        ..TrustedIssuer::default()
    }
}

async fn workspace(service: &Service) -> String {
    service.operator().workspace("Acme").await.id
}

async fn create(caller: &Caller, trusted_issuer: TrustedIssuer) -> Result<TrustedIssuer, Status> {
    let request = CreateTrustedIssuerRequest { trusted_issuer: Some(trusted_issuer) };
    Ok(caller.issuers.clone().create_trusted_issuer(request).await?.into_inner().trusted_issuer.unwrap())
}

/// An issuer that can be asked, registered with the authority of its certificate.
async fn behind_a_private_authority(service: &Service) -> (IdentityProvider, TrustedIssuer) {
    let authority = std::sync::Arc::new(CertificateAuthority::new());
    let provider = IdentityProvider::start_tls_at("", &authority, Leaf::Honest);
    let issuer = TrustedIssuer {
        workspace_id: workspace(service).await,
        issuer_url: provider.issuer_url().to_owned(),
        ca_certificates: authority.certificate(),
        ..TrustedIssuer::default()
    };
    let issuer = create(&service.operator(), issuer).await.unwrap();
    (provider, issuer)
}

async fn get(caller: &Caller, issuer: &TrustedIssuer) -> TrustedIssuer {
    let request = GetTrustedIssuerRequest { workspace_id: issuer.workspace_id.clone(), trusted_issuer_id: issuer.id.clone() };
    caller.issuers.clone().get_trusted_issuer(request).await.unwrap().into_inner().trusted_issuer.unwrap()
}

async fn check(
    caller: &Caller,
    issuer: &TrustedIssuer,
) -> Result<countersign_proto::trust_v1::CheckTrustedIssuerResponse, Status> {
    let request = CheckTrustedIssuerRequest { workspace_id: issuer.workspace_id.clone(), trusted_issuer_id: issuer.id.clone() };
    Ok(caller.issuers.clone().check_trusted_issuer(request).await?.into_inner())
}

fn fields(status: &Status) -> Vec<String> {
    Refusal::from_status(status).violations().iter().map(|violation| violation.field.clone()).collect()
}

#[tokio::test]
async fn uploaded_keys_are_read_before_they_are_stored() {
    let service = service().await;
    let operator = service.operator();
    let workspace_id = workspace(&service).await;
    let enc = json!({ "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB" });
    let fine = create(&operator, uploaded(&service, &workspace_id, &[key(), enc.clone()])).await.unwrap();
    assert_eq!(fine.jwks, get(&operator, &fine).await.jwks);

    let (one, mut other) = (key(), key());
    other["kid"] = one["kid"].clone();
    // One key twice is one key, with or without `alg`.
    let mut again = one.clone();
    again.as_object_mut().unwrap().remove("alg");
    let mut twice = uploaded(&service, &workspace_id, &[one.clone(), again, one.clone()]);
    twice.issuer_url = "https://github.example".to_owned();
    create(&operator, twice).await.unwrap();
    // 1,008 bits.
    let weak = json!({ "kty": "RSA", "kid": "weak", "n": "_".repeat(168), "e": "AQAB" });
    let mut private = key();
    private["d"] = json!("AQAB");
    for (keys, expected) in [
        (vec![key(), private], vec!["trusted_issuer.jwks.keys[1]"]),
        (vec![json!({ "kty": "oct", "k": "AQAB" }), key()], vec!["trusted_issuer.jwks.keys[0]"]),
        (vec![weak, key(), json!(null)], vec!["trusted_issuer.jwks.keys[0]", "trusted_issuer.jwks.keys[2]"]),
        (vec![one, other], vec!["trusted_issuer.jwks"]),
        (vec![enc], vec!["trusted_issuer.jwks"]),
        (vec![], vec!["trusted_issuer.jwks"]),
    ] {
        let refused = create(&operator, uploaded(&service, &workspace_id, &keys)).await.unwrap_err();
        assert_eq!(fields(&refused), expected, "{refused:?}");
        let mut update = uploaded(&service, &workspace_id, &keys);
        update.id.clone_from(&fine.id);
        let update_mask = Some(prost_types::FieldMask { paths: vec!["jwks".to_owned()] });
        let request = UpdateTrustedIssuerRequest { trusted_issuer: Some(update), update_mask };
        let refused = operator.issuers.clone().update_trusted_issuer(request).await.unwrap_err();
        assert_eq!(fields(&refused), expected, "{refused:?}");
    }
    for jwks in ["{", "[]", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        let broken = TrustedIssuer { jwks: jwks.to_owned(), ..uploaded(&service, &workspace_id, &[]) };
        assert_eq!(fields(&create(&operator, broken).await.unwrap_err()), ["trusted_issuer.jwks"], "{jwks}");
    }
}

#[tokio::test]
async fn certificates_are_read_before_they_are_stored() {
    let service = service().await;
    let operator = service.operator();
    let workspace_id = workspace(&service).await;
    let issuer = |ca_certificates: String| TrustedIssuer {
        workspace_id: workspace_id.clone(),
        issuer_url: "https://issuer.example".to_owned(),
        ca_certificates,
        ..TrustedIssuer::default()
    };
    for pem in ["no certificate", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        let refused = create(&operator, issuer(pem.to_owned())).await.unwrap_err();
        assert_eq!(fields(&refused), ["trusted_issuer.ca_certificates"], "{pem}");
    }
    let created = create(&operator, issuer(CertificateAuthority::new().certificate())).await.unwrap();
    assert!(created.ca_certificates.contains("BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn a_check_reads_the_keys_now_and_becomes_the_issuers_health() {
    let service = service().await;
    let operator = service.operator();
    let (provider, issuer) = behind_a_private_authority(&service).await;
    assert_eq!(get(&operator, &issuer).await.health, None);

    let seen = check(&operator, &issuer).await.unwrap();
    assert_eq!(seen.jwks_uri, provider.key_set_url());
    assert_eq!(seen.keys.len(), 1);
    assert_eq!((seen.keys[0].key_id.as_str(), seen.keys[0].problem.as_str()), (provider.signer().key_id(), ""));
    assert_eq!(seen.keys[0].algorithms, ["ES256"]);
    assert_eq!(seen.fresh_for.unwrap().seconds, 300);
    let health = seen.trusted_issuer.unwrap().health.unwrap();
    assert_eq!((health.problem(), health.usable_keys), (TrustedIssuerProblem::Unspecified, 1));
    let stored = get(&operator, &issuer).await;
    assert_eq!(stored.health, Some(health));
    assert_eq!(stored.etag, issuer.etag, "health is no change of the resource");

    let refused = check(&operator, &issuer).await.unwrap_err();
    let refusal = Refusal::from_status(&refused);
    assert_eq!(refusal.reason(), Reason::RateLimited);
    assert!(refusal.retry_after().is_some());
}

#[tokio::test]
async fn a_check_that_finds_no_keys_is_an_answer_with_a_problem() {
    let service = service().await;
    let operator = service.operator();
    let (provider, issuer) = behind_a_private_authority(&service).await;
    provider.key_set_behaves(Behaviour::Status(503));
    let seen = check(&operator, &issuer).await.unwrap();
    let health = seen.trusted_issuer.unwrap().health.unwrap();
    assert_eq!((health.problem(), health.http_status), (TrustedIssuerProblem::KeySetStatus, 503));
    assert_eq!((health.success_time, seen.keys.len()), (None, 0));
    assert_eq!(get(&operator, &issuer).await.health, Some(health));
}

#[tokio::test]
async fn s42_what_an_internal_host_does_is_told_to_operators_alone_and_at_one_time() {
    let service = service().await;
    for behaviour in [Behaviour::Status(404), Behaviour::Close] {
        let (provider, issuer) = behind_a_private_authority(&service).await;
        provider.discovery_behaves(behaviour.clone());
        let member =
            service.member(&issuer.workspace_id, &["countersign:trusted_issuers.check", "countersign:trusted_issuers.get"]);
        let began = std::time::Instant::now();
        let seen = check(&member, &issuer).await.unwrap();
        assert!(began.elapsed() >= std::time::Duration::from_millis(4_900), "{:?}", began.elapsed());
        let health = seen.trusted_issuer.unwrap().health.unwrap();
        assert_eq!((health.problem(), health.http_status), (TrustedIssuerProblem::HostRefused, 0), "{behaviour:?}");
        assert!(!health.is_internal && seen.elapsed.is_none() && seen.jwks_uri.is_empty(), "{behaviour:?}");
        assert_eq!(get(&member, &issuer).await.health, Some(health));
        let operators = get(&service.operator(), &issuer).await.health.unwrap();
        assert!(operators.is_internal && operators.problem() != TrustedIssuerProblem::HostRefused, "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_check_of_uploaded_keys_says_when_they_have_ended() {
    let service = service().await;
    let operator = service.operator();
    let workspace_id = workspace(&service).await;
    let issuer = create(&operator, uploaded(&service, &workspace_id, &[key()])).await.unwrap();
    let problem = async || check(&operator, &issuer).await.unwrap().trusted_issuer.unwrap().health.unwrap().problem();
    assert_eq!(problem().await, TrustedIssuerProblem::Unspecified);
    service.clock.advance(std::time::Duration::from_hours(1));
    assert_eq!(problem().await, TrustedIssuerProblem::UploadedKeysExpired);
}

#[tokio::test]
async fn s33_nobody_checks_the_issuer_of_another_workspace() {
    let service = service().await;
    let provider = IdentityProvider::start_tls();
    let issuer = TrustedIssuer {
        workspace_id: workspace(&service).await,
        issuer_url: provider.issuer_url().to_owned(),
        ..TrustedIssuer::default()
    };
    let issuer = create(&service.operator(), issuer).await.unwrap();
    let member = service.member(&workspace(&service).await, &["countersign:trusted_issuers.check"]);
    let refused = check(&member, &issuer).await.unwrap_err();
    assert_eq!(Refusal::from_status(&refused).reason(), Reason::ResourceNotFound);
    assert_eq!(provider.connections(), 0);
}

#[tokio::test]
async fn what_gateways_report_is_shown() {
    let service = service().await;
    let operator = service.operator();
    let workspace_id = workspace(&service).await;
    let issuer = TrustedIssuer {
        workspace_id: workspace_id.clone(),
        issuer_url: "https://issuer.example".to_owned(),
        ..TrustedIssuer::default()
    };
    let issuer = create(&operator, issuer).await.unwrap();
    let health = TrustedIssuerHealth {
        attempt_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        problem: TrustedIssuerProblem::Unreachable.into(),
        key_ids: vec!["a".to_owned()],
        usable_keys: 1,
        ..TrustedIssuerHealth::default()
    };
    let report =
        IssuerHealthReport { workspace_id, trusted_issuer_id: issuer.id.clone(), revision: 1, health: Some(health.clone()) };
    let mut gateway = IssuerHealthServiceClient::new(service.internal.clone());
    gateway.report_issuer_health(ReportIssuerHealthRequest { reports: vec![report] }).await.unwrap();
    assert_eq!(get(&operator, &issuer).await.health, Some(health));
}
