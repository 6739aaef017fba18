//! Everything in a request that names, authenticates or narrows is obeyed or refused on every way in: both grants over HTTP, and gRPC
//! (SECURITY 79, 80).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_domain::trust::trust_relationship::TrustRelationship;
use countersign_domain::values::id::TrustRelationshipId;
use countersign_proto::status::Refusal;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};

use super::*;
use crate::fakes::SUBJECT;
use crate::request::Concern;
use crate::token_endpoint::parameters;

/// One thing in a request.
#[derive(Debug, Clone)]
enum Part {
    Parameter(&'static str, String),
    Header(&'static str, String),
}

/// What must become of a request with these parts.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// Refused, and nothing else is looked at.
    Refused(Concern),
    /// The token has these members.
    Obeyed(fn(&Value) -> bool),
}

/// The grants over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Exchange,
    Bearer,
}

fn second_id() -> TrustRelationshipId {
    TrustRelationshipId::from_random([7; 16])
}

/// Accepts the same subject as the relationship that decides by default, and grants another scope and audience.
fn second_relationship() -> TrustRelationship {
    let mut second = relationship("org:my-org:*");
    second.id = second_id();
    second.settings.scopes = vec!["second".parse().unwrap()];
    second.settings.access_token_audiences = vec!["https://api.example".parse().unwrap(), "https://b.example".parse().unwrap()];
    second
}

async fn gateway() -> Gateway {
    let gateway = Gateway::new().await;
    gateway.world.policies.set(policy(7, vec![relationship(SUBJECT), second_relationship()]));
    gateway
}

fn basic(credentials: impl AsRef<[u8]>) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

fn parameter(name: &'static str, value: impl Into<String>) -> Part {
    Part::Parameter(name, value.into())
}

fn header(name: &'static str, value: impl Into<String>) -> Part {
    Part::Header(name, value.into())
}

/// Every case. Parameters are those of the form; headers are the metadata of gRPC too.
fn cases() -> Vec<(Vec<Part>, Expected)> {
    use Expected::{Obeyed, Refused};
    let (first, second, unknown) = (relationship_id(), second_id(), TrustRelationshipId::from_random([9; 16]));
    let by_second: fn(&Value) -> bool = |token| token["client_id"] == second_id().as_str() && token["scope"] == "second";
    let by_first: fn(&Value) -> bool = |token| token["client_id"] == relationship_id().as_str();
    let mut cases = vec![
        (vec![], Obeyed(by_first)),
        // Who the client is.
        (vec![parameter("client_id", second.as_str())], Obeyed(by_second)),
        (vec![header("authorization", basic(format!("{second}:")))], Obeyed(by_second)),
        (vec![header("authorization", basic(format!("{}:", second.as_str().replace('_', "%5F"))))], Obeyed(by_second)),
        (vec![parameter("client_id", second.as_str()), header("authorization", basic(format!("{second}:")))], Obeyed(by_second)),
        (
            vec![parameter("client_id", first.as_str()), header("authorization", basic(format!("{second}:")))],
            Refused(Concern::Client),
        ),
        (vec![parameter("client_id", unknown.as_str())], Refused(Concern::Client)),
        (vec![header("authorization", basic(format!("{unknown}:")))], Refused(Concern::Client)),
        (vec![parameter("client_id", second.as_str()), parameter("client_secret", "x")], Refused(Concern::Client)),
        // What is requested.
        (vec![parameter("scope", "read")], Obeyed(|token| token["scope"] == "read")),
        (vec![parameter("scope", "")], Obeyed(|token| token["scope"] == "deploy read")),
        (
            vec![parameter("client_id", second.as_str()), parameter("audience", "https://b.example")],
            Obeyed(|token| token["aud"] == "https://b.example"),
        ),
        (
            vec![
                parameter("client_id", second.as_str()),
                parameter("audience", "https://b.example"),
                parameter("resource", "https://api.example"),
            ],
            Obeyed(|token| token["aud"] == json!(["https://b.example", "https://api.example"])),
        ),
        (vec![parameter("scope", "read"), parameter("authorization_details", "")], Obeyed(|token| token["scope"] == "read")),
    ];
    for client in ["client", "ws_x", workspace_id().as_str(), "*", "tr_", "\u{e9}", " ", "tr_\u{0}"] {
        cases.push((vec![parameter("client_id", client)], Refused(Concern::Client)));
        cases.push((vec![header("authorization", basic(format!("{client}:")))], Refused(Concern::Client)));
    }
    let named = STANDARD.encode(format!("{second}:"));
    for authorization in [
        String::new(),
        "Basic".to_owned(),
        "garbage".to_owned(),
        format!("Basic {named}x"),
        format!("Basic {}", named.trim_end_matches('=')).replace("Basic ", "Basic,"),
        format!("Bearer {named}"),
        format!("DPoP {named}"),
        format!("Basic {named}, Bearer x"),
        basic(second.as_str()),
        basic(format!("{second}:secret")),
        basic(":"),
        basic(":secret"),
        basic(""),
        basic([0xff, b':']),
    ] {
        cases.push((vec![header("authorization", authorization)], Refused(Concern::Client)));
    }
    cases.push((
        vec![header("authorization", basic(format!("{second}:"))), header("authorization", basic(format!("{second}:")))],
        Refused(Concern::Client),
    ));
    for value in ["", "eyJ0eXAiOiJkcG9wK2p3dCJ9.e30.c2ln", "garbage"] {
        cases.push((vec![header("dpop", value)], Refused(Concern::Proof)));
    }
    for name in ["client-cert", "client-cert-chain", "oauth-client-attestation", "oauth-client-attestation-pop"] {
        cases.push((vec![header(name, ":MIIB:")], Refused(Concern::Client)));
    }
    for (name, concern) in parameters::unsupported() {
        for value in ["x", "[]", "{\"type\":\"vault\"}", " "] {
            cases.push((vec![parameter(name, value)], Refused(concern)));
        }
        // Without a value it counts as absent (RFC 6749, section 3.2).
        cases.push((vec![parameter(name, "")], Obeyed(by_first)));
    }
    for scope in [" ", "  ", "read ", " read", "read  deploy", "read\tdeploy", "re\"ad", "re\\ad", "\u{e9}", "read\u{0}", "\n"] {
        cases.push((vec![parameter("scope", scope)], Refused(Concern::Scope)));
    }
    for target in ["a\u{0}b", "\n"] {
        cases.push((vec![parameter("audience", target)], Refused(Concern::Target)));
    }
    for resource in ["elsewhere", "/path", "https://api.example/#fragment", " "] {
        cases.push((vec![parameter("resource", resource)], Refused(Concern::Target)));
    }
    for lifetime in ["0", "-1", "+60", "1.5", "soon", "1e3", " 60", "99999999999999999999999"] {
        cases.push((vec![parameter("requested_expires_in", lifetime)], Refused(Concern::Request)));
    }
    for misspelt in ["Client_ID", "client-id", "scope[]", "SCOPE", "audience[0]", "Authorization_Details", "client-secret"] {
        let concern = parameters::refused(misspelt).unwrap().concern;
        cases.push((vec![parameter(misspelt, "read")], Refused(concern)));
    }
    cases
}

/// The codes of RFC 6749, 8693, 9396 and 9449, and their reasons.
fn error_of(concern: Concern) -> (&'static str, Reason) {
    match concern {
        Concern::Client => ("invalid_client", Reason::InvalidClient),
        Concern::Proof => ("invalid_dpop_proof", Reason::InvalidDpopProof),
        Concern::Target => ("invalid_target", Reason::InvalidTarget),
        Concern::Scope => ("invalid_scope", Reason::InvalidScope),
        Concern::AuthorizationDetails => ("invalid_authorization_details", Reason::InvalidAuthorizationDetails),
        Concern::Request => ("invalid_request", Reason::InvalidRequest),
    }
}

impl Gateway {
    /// Presents a token over HTTP with these parts.
    async fn present(&self, way: Way, token: &str, parts: &[Part]) -> Answer {
        let mut parameters = match way {
            Way::Bearer => vec![BEARER, ("assertion", token)],
            Way::Exchange => vec![EXCHANGE, JWT, ("subject_token", token)],
        };
        let mut request = self.http.post(self.url("/oauth2/token")).header(header::CONTENT_TYPE, FORM);
        for part in parts {
            match part {
                Part::Parameter(name, value) => parameters.push((name, value)),
                Part::Header(name, value) => request = request.header(*name, value.as_bytes()),
            }
        }
        Answer::of(request.body(form(&parameters)).send().await.unwrap()).await
    }

    /// Presents a token over gRPC with the parts that exist there; `None` when one does not.
    async fn present_grpc(&self, token: &str, parts: &[Part]) -> Option<Result<(), Status>> {
        let mut message = request(token.to_owned());
        let mut headers = Vec::new();
        for part in parts {
            match part {
                Part::Header(name, value) => headers.push((name, value)),
                Part::Parameter("client_id", value) => message.trust_relationship_id.clone_from(value),
                Part::Parameter("scope", value) if !value.is_empty() => {
                    message.scopes = value.split(' ').map(str::to_owned).collect();
                }
                Part::Parameter("audience", value) => message.audiences.push(value.clone()),
                Part::Parameter(..) => return None,
            }
        }
        let mut request = Request::new(message);
        for (name, value) in headers {
            let name: MetadataKey<Ascii> = name.parse().unwrap();
            request.metadata_mut().append(name, MetadataValue::try_from(value.as_bytes()).unwrap());
        }
        let channel = PeerChannel::new("exchange-gateway", PeerAddress::plain(&self.url("")).unwrap());
        Some(ExchangeServiceClient::new(channel).exchange_token(request).await.map(|_| ()))
    }

    fn minted(&self) -> usize {
        self.world.signer.signed.lock().unwrap().len()
    }
}

#[tokio::test]
async fn s79_s80_what_names_authenticates_or_narrows_is_obeyed_or_refused_on_every_way_in() {
    let gateway = gateway().await;
    // Presented again and again while it is refused, which uses nothing up.
    let unused = gateway.world.token();
    for (number, (parts, expected)) in cases().into_iter().enumerate() {
        for way in [Way::Exchange, Way::Bearer] {
            let before = gateway.minted();
            match expected {
                Expected::Refused(concern) => {
                    let answer = gateway.present(way, &unused, &parts).await;
                    let (error, reason) = error_of(concern);
                    let in_header = parts.iter().any(|part| matches!(part, Part::Header("authorization", _)));
                    let status = if concern == Concern::Client && in_header { 401 } else { 400 };
                    let found = (answer.status.as_u16(), &answer.body["error"], &answer.body["error_reason"]);
                    assert_eq!(found, (status, &json!(error), &json!(wire_name(reason))), "{way:?} {parts:?}: {}", answer.body);
                    // RFC 6749, section 5.2, and RFC 9110, section 15.5.2.
                    let challenge = answer.header(header::WWW_AUTHENTICATE).is_some_and(|value| value.starts_with("Basic "));
                    assert_eq!(challenge, status == 401, "{way:?} {parts:?}");
                    answer.not_stored();
                    assert_eq!(gateway.minted(), before, "{way:?} {parts:?}");
                }
                Expected::Obeyed(check) => {
                    let id = format!("t-{number}-{way:?}");
                    let token = gateway.world.issuer_key.sign(&gateway.world.claims().with("jti", id));
                    let answer = gateway.present(way, &token, &parts).await;
                    assert_eq!(answer.status, StatusCode::OK, "{way:?} {parts:?}: {}", answer.body);
                    assert!(check(&gateway.signed()), "{way:?} {parts:?}: {}", gateway.signed());
                }
            }
        }
        let before = gateway.minted();
        match expected {
            Expected::Refused(concern) => {
                let Some(answer) = gateway.present_grpc(&unused, &parts).await else { continue };
                let refusal = Refusal::from_status(&answer.expect_err(&format!("{parts:?}")));
                // A malformed id in the message's own field is a malformed message.
                let of_field = matches!(parts.as_slice(), [Part::Parameter("client_id", _)]);
                let reasons = [error_of(concern).1, if of_field { Reason::InvalidRequest } else { error_of(concern).1 }];
                assert!(reasons.contains(&refusal.reason()), "gRPC {parts:?}: {refusal}");
                assert_eq!(gateway.minted(), before, "gRPC {parts:?}");
            }
            Expected::Obeyed(check) => {
                let id = format!("t-{number}-gRPC");
                let token = gateway.world.issuer_key.sign(&gateway.world.claims().with("jti", id));
                let Some(answer) = gateway.present_grpc(&token, &parts).await else { continue };
                answer.unwrap_or_else(|status| panic!("gRPC {parts:?}: {status:?}"));
                assert!(check(&gateway.signed()), "gRPC {parts:?}: {}", gateway.signed());
            }
        }
    }
    assert_eq!(gateway.present(Way::Exchange, &unused, &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn s79_a_subject_token_with_cnf_is_refused_on_every_way_in() {
    let gateway = gateway().await;
    for confirmation in [json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}), json!(null), json!({})] {
        let token = gateway.world.issuer_key.sign(&gateway.world.claims().with("cnf", confirmation.clone()));
        let second = [parameter("client_id", second_id().as_str())];
        for parts in [&[][..], &second[..]] {
            for (way, error) in [(Way::Exchange, "invalid_request"), (Way::Bearer, "invalid_grant")] {
                let answer = gateway.present(way, &token, parts).await;
                answer.refused(StatusCode::BAD_REQUEST, error, Reason::SubjectTokenProofMissing);
            }
            let status = gateway.present_grpc(&token, parts).await.unwrap().unwrap_err();
            assert_refused(&status, Code::Unauthenticated, Reason::SubjectTokenProofMissing);
        }
        // A proof that nobody checks makes it no better.
        let answer = gateway.present(Way::Exchange, &token, &[header("dpop", "e30.e30.c2ln")]).await;
        answer.refused(StatusCode::BAD_REQUEST, "invalid_dpop_proof", Reason::InvalidDpopProof);
    }
    assert_eq!((gateway.minted(), gateway.world.replay.claims()), (0, 0));
}

#[tokio::test]
async fn s80_the_requested_lifetime_is_obeyed_over_http_as_over_grpc() {
    let gateway = gateway().await;
    let last = || gateway.world.signer.signed.lock().unwrap().last().unwrap().duration.as_secs();
    for (number, (requested, given)) in [("60", 60), ("1", 1), ("3600", 3_600), ("86400", 3_600)].into_iter().enumerate() {
        for way in [Way::Exchange, Way::Bearer] {
            let token = gateway.world.issuer_key.sign(&gateway.world.claims().with("jti", format!("t-{number}-{way:?}")));
            let answer = gateway.present(way, &token, &[parameter("requested_expires_in", requested)]).await;
            assert_eq!((&answer.body["expires_in"], last()), (&json!(given), given), "{requested}");
        }
    }
}

#[tokio::test]
async fn s80_a_token_of_the_other_grant_is_refused_not_ignored() {
    let gateway = gateway().await;
    let token = gateway.world.token();
    gateway.present(Way::Exchange, &token, &[parameter("assertion", "e30.e30.c2ln")]).await.violates(&["assertion"]);
    gateway.present(Way::Bearer, &token, &[parameter("subject_token", "e30.e30.c2ln")]).await.violates(&["subject_token"]);
    let kind = parameter("subject_token_type", "urn:ietf:params:oauth:token-type:saml2");
    let answer = gateway.present(Way::Bearer, &token, &[kind]).await;
    answer.refused(StatusCode::BAD_REQUEST, "invalid_request", Reason::UnsupportedTokenType);
}

#[tokio::test]
async fn s80_a_client_that_is_not_accepted_is_the_answer_whatever_else_is_wrong() {
    let gateway = gateway().await;
    let parts = [
        parameter("scope", "\u{e9}"),
        parameter("authorization_details", "x"),
        parameter("audience", "\n"),
        parameter("requested_token_type", "x"),
        header("dpop", "x"),
        header("authorization", "Bearer x"),
    ];
    let answer = gateway.present(Way::Exchange, "x", &parts).await;
    answer.refused(StatusCode::UNAUTHORIZED, "invalid_client", Reason::InvalidClient);
    answer.names(&["Authorization", "DPoP", "audience", "authorization_details", "scope"]);
    let answer = gateway.post(&[("grant_type", "password"), ("client_secret", "x")]).await;
    answer.refused(StatusCode::BAD_REQUEST, "invalid_client", Reason::InvalidClient);
    // What is no form at all names no client.
    let request = gateway.http.post(gateway.url("/oauth2/token")).header(header::AUTHORIZATION, "Bearer x").body("{}");
    Answer::of(request.send().await.unwrap()).await.violates(&["Content-Type"]);
}

#[tokio::test]
async fn s80_no_answer_repeats_what_a_client_said() {
    const CANARY: &str = "canary-0123456789";
    let gateway = gateway().await;
    let parts = |value: &str| {
        let all = ["client_id", "client_secret", "client_assertion", "authorization_details", "password", "requested_expires_in"];
        let mut parts: Vec<Part> = all.into_iter().map(|name| parameter(name, value)).collect();
        parts.extend([header("authorization", basic(format!("{value}:{value}"))), header("dpop", value)]);
        parts
    };
    let answer = gateway.present(Way::Exchange, CANARY, &parts(CANARY)).await;
    assert!(!format!("{answer:?}").contains(CANARY), "{answer:?}");
    let in_header = [header("authorization", basic(format!("{CANARY}:")))];
    assert!(!format!("{:?}", gateway.present_grpc(CANARY, &in_header).await).contains(CANARY));
}

#[tokio::test]
async fn what_neither_names_nor_authenticates_nor_narrows_is_ignored() {
    let gateway = gateway().await;
    let parts = [
        parameter("state", "x"),
        parameter("state", "y"),
        parameter("unknown", "x"),
        parameter("include_client_id", "true"),
        header("x-forwarded-client-cert", "Hash=x"),
        header("x-goog-api-client", "gl-python/3"),
        header("cookie", "a=b"),
    ];
    assert_eq!(gateway.present(Way::Exchange, &gateway.world.token(), &parts).await.status, StatusCode::OK);
}
