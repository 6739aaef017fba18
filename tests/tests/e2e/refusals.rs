//! Bad input gets one reason of the closed list, as RFC 6749 JSON over HTTP and as `google.rpc` details over gRPC.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_domain::values::reason::Reason;
use countersign_proto::exchange_v1::ExchangeTokenRequest;
use countersign_proto::trust_v1::TrustRelationship;
use countersign_testkit::identity_provider::IdentityProvider;
use countersign_testkit::status::{assert_refused, wire_name};
use countersign_tests::deployment::Instance;
use countersign_tests::http1;
use countersign_tests::operator::exchange_client;
use countersign_tests::token_endpoint::{Answer, JWT, TOKEN_EXCHANGE, exchange, exchange_with_headers, post};
use tonic::{Code, Status};

use crate::deployments::{Scene, shared};

/// A request that must be refused.
struct Case {
    what: &'static str,
    subject_token: String,
    workspace_id: String,
    scopes: Vec<String>,
    reason: Reason,
    code: Code,
    error: &'static str,
}

impl Case {
    fn new(what: &'static str, subject_token: impl Into<String>, reason: Reason) -> Self {
        let (subject_token, code) = (subject_token.into(), Code::Unauthenticated);
        Self { what, subject_token, workspace_id: String::new(), scopes: Vec::new(), reason, code, error: "invalid_request" }
    }

    async fn over_http(&self, scene: &Scene<'_>) -> Answer {
        let workspace = format!("{}/workspaces/{}", scene.deployment.public_url(), self.workspace_id);
        let scope = self.scopes.join(" ");
        let mut more = Vec::new();
        if !self.workspace_id.is_empty() {
            more.push(("audience", workspace.as_str()));
        }
        if !self.scopes.is_empty() {
            more.push(("scope", scope.as_str()));
        }
        exchange(&scene.deployment.url(Instance::Gateway), &self.subject_token, &more).await
    }

    async fn over_grpc(&self, scene: &Scene<'_>) -> Status {
        let request = ExchangeTokenRequest {
            subject_token: self.subject_token.clone(),
            workspace_id: self.workspace_id.clone(),
            scopes: self.scopes.clone(),
            ..ExchangeTokenRequest::default()
        };
        exchange_client(scene.deployment, Instance::Gateway).exchange_token(request).await.expect_err(self.what)
    }

    async fn check(&self, scene: &Scene<'_>) {
        let answer = self.over_http(scene).await;
        let expected = (400, Some(wire_name(self.reason)));
        assert_eq!((answer.status, answer.reason().map(str::to_owned)), expected, "{}: {}", self.what, answer.body);
        assert_eq!(answer.body["error"], self.error, "{}", self.what);
        assert_eq!(answer.headers["cache-control"], "no-store", "s64: {}", self.what);
        assert_refused(&self.over_grpc(scene).await, self.code, self.reason);
    }
}

#[tokio::test]
async fn every_bad_token_gets_its_reason_on_http_and_grpc() {
    let scene = Scene::in_deployment(shared()).await;
    let sign = |claims| scene.provider.sign(&claims);
    let used = scene.token();
    exchange(&scene.deployment.url(Instance::Gateway), &used, &[]).await.access_token();
    let an_hour_ago = countersign_testkit::clock::system_time() - Duration::from_hours(1);

    let cases = [
        Case { code: Code::InvalidArgument, ..Case::new("no token", "", Reason::SubjectTokenMissing) },
        Case::new("not a JWT", "not-a-token", Reason::SubjectTokenMalformed),
        Case::new("expired", sign(scene.claims().issued_at(an_hour_ago)), Reason::SubjectTokenExpired),
        Case::new(
            "not valid yet",
            sign(scene.claims().with("nbf", an_hour_ago.as_second() + 7_200)),
            Reason::SubjectTokenNotYetValid,
        ),
        Case::new("living too long", sign(scene.claims().lasting(Duration::from_hours(30))), Reason::SubjectTokenLifetimeTooLong),
        Case::new(
            "for somebody else",
            sign(scene.claims().with("aud", "sts.amazonaws.com")),
            Reason::SubjectTokenAudienceMismatch,
        ),
        Case::new("a claim of the wrong type", sign(scene.claims().with("exp", "soon")), Reason::SubjectTokenClaimsInvalid),
        Case {
            code: Code::PermissionDenied,
            ..Case::new("another subject", sign(scene.claims().with("sub", "org:your-org:vault:v")), Reason::SubjectNotTrusted)
        },
        Case::new("used before", used, Reason::SubjectTokenReplayed),
        Case {
            scopes: vec!["admin".to_owned()],
            code: Code::PermissionDenied,
            error: "invalid_scope",
            ..Case::new("nothing granted", scene.token(), Reason::NothingGranted)
        },
    ];
    for case in cases {
        case.check(&scene).await;
    }
}

#[tokio::test]
async fn s63_before_the_signature_verifies_every_cause_looks_the_same() {
    let scene = Scene::in_deployment(shared()).await;
    let stranger = IdentityProvider::start();
    let claims = scene.claims().with("iss", scene.provider.issuer_url());
    let unpublished =
        scene.provider.rotate_unpublished(countersign_domain::values::signature_algorithm::SignatureAlgorithm::Es256);
    let (input, _) = scene.token().rsplit_once('.').map(|(input, signature)| (input.to_owned(), signature.to_owned())).unwrap();
    let unknown_workspace = "ws_00000000000000000000000000".to_owned();

    let refused = Reason::SubjectTokenNotTrusted;
    let cases = [
        Case { workspace_id: unknown_workspace, ..Case::new("unknown workspace", scene.token(), refused) },
        Case::new("unknown issuer", stranger.sign(&scene.claims()), refused),
        Case::new("unknown key", unpublished.sign(&claims), refused),
        Case::new("bad signature", format!("{input}.{}", "A".repeat(86)), refused),
    ];
    let mut answers = Vec::new();
    for case in cases {
        case.check(&scene).await;
        let (http, grpc) = (case.over_http(&scene).await, case.over_grpc(&scene).await);
        answers.push((case.what, http.body, grpc.message().to_owned(), grpc.details().to_vec()));
    }
    for (what, http, message, details) in &answers {
        assert_eq!((http, message, details), (&answers[0].1, &answers[0].2, &answers[0].3), "{what}");
    }
    assert_eq!(stranger.connections(), 0, "s17: an issuer that nobody registered is never contacted");
}

#[tokio::test]
async fn s65_requests_of_another_shape_are_refused_as_rfc_6749_says() {
    let scene = Scene::in_deployment(shared()).await;
    let gateway = scene.deployment.url(Instance::Gateway);
    let token = scene.token();
    let right = [("grant_type", TOKEN_EXCHANGE), ("subject_token", token.as_str()), ("subject_token_type", JWT)];
    let with = |name: &'static str, value: &'static str| right.map(|pair| if pair.0 == name { (name, value) } else { pair });
    for (what, parameters, error) in [
        ("no parameters", Vec::new(), "invalid_request"),
        ("an unknown grant type", with("grant_type", "password").to_vec(), "unsupported_grant_type"),
        ("an unknown token type", with("subject_token_type", "urn:example:token").to_vec(), "invalid_request"),
        ("a parameter twice", [right.as_slice(), &[("subject_token", "x")]].concat(), "invalid_request"),
    ] {
        let answer = post(&gateway, &parameters).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &error.into()), "{what}: {}", answer.body);
        assert_eq!(answer.headers["cache-control"], "no-store", "s64: {what}");
    }
    // The token was looked at by none of them.
    exchange(&gateway, &token, &[]).await.access_token();
}

#[tokio::test]
async fn s80_basic_names_the_relationship_that_decides_and_nothing_in_it_is_ignored() {
    let scene = Scene::in_deployment(shared()).await;
    let gateway = scene.deployment.url(Instance::Gateway);
    // Accepts the same subject, and grants less.
    let narrow = TrustRelationship {
        workspace_id: scene.trust.workspace_id.clone(),
        trusted_issuer_id: scene.trust.trusted_issuer_id.clone(),
        subject_matches: vec!["org:my-org:*".to_owned()],
        scopes: vec!["narrow".to_owned()],
        ..TrustRelationship::default()
    };
    let narrow = scene.operator.create_trust_relationship(narrow).await;
    let basic = |credentials: &str| format!("Basic {}", STANDARD.encode(credentials));
    let named = exchange_with_headers(&gateway, &scene.token(), &[("authorization", &basic(&format!("{narrow}:")))]).await;
    assert_eq!((named.status, &named.body["scope"]), (200, &"narrow".into()), "{}", named.body);

    let token = scene.token();
    for header in [basic(&format!("{narrow}:secret")), basic(&narrow), "garbage".to_owned(), format!("Bearer {token}")] {
        let refused = exchange_with_headers(&gateway, &token, &[("authorization", &header)]).await;
        assert_eq!((refused.status, &refused.body["error"]), (401, &"invalid_client".into()), "{}", refused.body);
        assert!(refused.headers["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    }
    let refused = exchange_with_headers(&gateway, &token, &[("dpop", "e30.e30.c2ln")]).await;
    assert_eq!((refused.status, &refused.body["error"]), (400, &"invalid_dpop_proof".into()), "{}", refused.body);
    for (name, error) in [
        ("client_secret", "invalid_client"),
        ("client_assertion", "invalid_client"),
        ("authorization_details", "invalid_authorization_details"),
    ] {
        let refused = exchange(&gateway, &token, &[(name, "garbage")]).await;
        assert_eq!((refused.status, &refused.body["error"]), (400, &error.into()), "{name}: {}", refused.body);
    }
    let other = [("audience", "https://unknown.example")];
    let refused = exchange(&gateway, &token, &other).await;
    assert_eq!((refused.status, &refused.body["error"]), (400, &"invalid_target".into()), "{}", refused.body);
    // None of it used the token.
    exchange(&gateway, &token, &[]).await.access_token();
}

#[test]
fn s65_get_and_large_bodies_are_refused() {
    let port = shared().public_port(Instance::Gateway);
    assert_eq!(http1::get(port, "/oauth2/token?subject_token=x").unwrap().status, 405);
    let body = "a=".to_owned() + &"b".repeat(70_000);
    let head = "POST /oauth2/token HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                content-type: application/x-www-form-urlencoded\r\n";
    let answer = http1::exchange(port, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).unwrap();
    assert_eq!(answer.status, 413, "{}", answer.body);
}
