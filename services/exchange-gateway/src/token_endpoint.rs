//! `POST /oauth2/token`: the token exchange grant (RFC 8693) and the JWT bearer grant (RFC 7523) of RFC 6749's token endpoint.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use countersign_domain::access_token::scope_text;
use countersign_domain::reason::Reason;
use countersign_domain::violation::Violations;
use countersign_proto::status::{OAuthGrant, Refusal};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use serde::Serialize;

use crate::pipeline::{ExchangeInput, Exchanged, Pipeline, SubjectToken};
use crate::request::{Addresses, RequestReader, request_id};

/// The largest body (SECURITY 65).
const MAX_BODY: usize = 64 * 1024;

const GRANT_TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const GRANT_JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The grant types of this endpoint.
pub(crate) const GRANT_TYPES: [&str; 2] = [GRANT_TOKEN_EXCHANGE, GRANT_JWT_BEARER];

const TYPE_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const TYPE_ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// What the endpoint needs.
#[derive(Clone)]
pub(crate) struct TokenEndpoint {
    pub(crate) pipeline: Pipeline,
    pub(crate) addresses: Addresses,
}

/// RFC 8693, section 2.2.1. `issued_token_type` is not part of RFC 7523's answer, where an unknown member is ignored.
#[derive(Serialize)]
struct TokenResponse {
    access_token: String,
    issued_token_type: &'static str,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
}

impl TokenEndpoint {
    /// The endpoint's methods: POST, and a proper refusal of every other.
    pub(crate) fn route(self) -> MethodRouter {
        post(token).fallback(other_method).with_state(self)
    }
}

async fn token(State(endpoint): State<TokenEndpoint>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    // A parameter in a URL ends up in logs and histories, a token above all (RFC 6750, section 5.3).
    if parts.uri.query().is_some() {
        return refuse(
            &Refusal::invalid_field("query", "must be empty: parameters belong in the body"),
            OAuthGrant::TokenExchange,
        );
    }
    if !is_form(&parts.headers) {
        let refusal = Refusal::invalid_field("Content-Type", "must be application/x-www-form-urlencoded");
        return refuse(&refusal, OAuthGrant::TokenExchange);
    }
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        let refusal = Refusal::new(Reason::InvalidRequest, "the body must be at most 64 KiB and arrive whole");
        return with_status(StatusCode::PAYLOAD_TOO_LARGE, refuse(&refusal, OAuthGrant::TokenExchange));
    };
    let form = Form::parse(&body);
    let grant = form.grant();
    let (input, issued_token_type) = match form.read(&endpoint.addresses) {
        Ok(read) => read,
        Err(refusal) => return refuse(&refusal, grant),
    };
    match endpoint.pipeline.exchange(input).await {
        Ok(exchanged) => grant_response(exchanged, issued_token_type),
        Err(refusal) => refuse(&refusal, grant),
    }
}

async fn other_method() -> Response {
    let refusal = Refusal::new(Reason::InvalidRequest, "the token endpoint takes POST alone");
    let mut response = with_status(StatusCode::METHOD_NOT_ALLOWED, refuse(&refusal, OAuthGrant::TokenExchange));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The parameters of one request.
#[derive(Default)]
pub(crate) struct Form {
    grant_type: String,
    subject_token: String,
    subject_token_type: String,
    assertion: String,
    requested_token_type: String,
    client_id: String,
    scope: String,
    audiences: Vec<String>,
    resources: Vec<String>,
    actor: bool,
    violations: Violations,
}

impl Form {
    /// Reads the parameters. One without a value counts as absent, one that is unknown is ignored (RFC 6749, section 3.2).
    pub(crate) fn parse(body: &[u8]) -> Self {
        let mut form = Self::default();
        let (mut seen, mut twice) = (Vec::new(), Vec::new());
        for (name, value) in url::form_urlencoded::parse(body) {
            if value.is_empty() {
                continue;
            }
            let value = value.into_owned();
            let once = match &*name {
                "grant_type" => &mut form.grant_type,
                "subject_token" => &mut form.subject_token,
                "subject_token_type" => &mut form.subject_token_type,
                "assertion" => &mut form.assertion,
                "requested_token_type" => &mut form.requested_token_type,
                "client_id" => &mut form.client_id,
                "scope" => &mut form.scope,
                "audience" => {
                    form.audiences.push(value);
                    continue;
                }
                "resource" => {
                    form.resources.push(value);
                    continue;
                }
                "actor_token" | "actor_token_type" => {
                    form.actor = true;
                    continue;
                }
                _ => continue,
            };
            *once = value;
            if !seen.contains(&name) {
                seen.push(name);
            } else if !twice.contains(&name) {
                form.violations.add(name.clone(), "must not be given more than once");
                twice.push(name);
            }
        }
        form
    }

    fn grant(&self) -> OAuthGrant {
        if self.grant_type == GRANT_JWT_BEARER { OAuthGrant::JwtBearer } else { OAuthGrant::TokenExchange }
    }

    /// What is asked for, and the type of token to be issued.
    pub(crate) fn read(self, addresses: &Addresses) -> Result<(ExchangeInput, &'static str), Refusal> {
        let mut reader = RequestReader::new(addresses);
        for violation in self.violations {
            reader.violation(violation.field, violation.description);
        }
        let subject_token = match self.grant_type.as_str() {
            GRANT_TOKEN_EXCHANGE => {
                check_subject_token_type(&self.subject_token_type, &mut reader)?;
                self.subject_token
            }
            GRANT_JWT_BEARER => self.assertion,
            "" => {
                reader.violation("grant_type", "must be given");
                String::new()
            }
            _ => return Err(Refusal::new(Reason::UnsupportedGrantType, "the grant type is not supported")),
        };
        let issued_token_type = issued_token_type(&self.requested_token_type)?;
        if self.actor {
            reader.violation("actor_token", "is not supported: an access token names one subject");
        }
        reader.trust_relationship("client_id", &self.client_id);
        if reader.few_enough("audience", self.audiences.len()) {
            for audience in &self.audiences {
                reader.audience("audience", audience);
            }
        }
        if reader.few_enough("resource", self.resources.len()) {
            for resource in &self.resources {
                read_resource(resource, &mut reader);
            }
        }
        let scopes = || self.scope.split(' ').filter(|scope| !scope.is_empty());
        if reader.few_enough("scope", scopes().count()) {
            for scope in scopes() {
                reader.scope("scope", scope);
            }
        }
        Ok((reader.finish(SubjectToken::from(subject_token), request_id())?, issued_token_type))
    }
}

fn check_subject_token_type(given: &str, reader: &mut RequestReader<'_>) -> Result<(), Refusal> {
    match given {
        TYPE_JWT | TYPE_ID_TOKEN => Ok(()),
        "" => {
            reader.violation("subject_token_type", "must be given");
            Ok(())
        }
        _ => Err(Refusal::new(Reason::UnsupportedTokenType, "the subject token must be of the type jwt or id_token")),
    }
}

/// What is issued is an access token, and a JWT: either name may be asked for (RFC 8693, section 3).
fn issued_token_type(requested: &str) -> Result<&'static str, Refusal> {
    match requested {
        "" | TYPE_ACCESS_TOKEN => Ok(TYPE_ACCESS_TOKEN),
        TYPE_JWT => Ok(TYPE_JWT),
        _ => Err(Refusal::new(Reason::UnsupportedTokenType, "only access tokens, which are JWTs, are issued")),
    }
}

/// A resource (RFC 8693, section 2.1) is a wished audience that must be an absolute URI without fragment.
fn read_resource(resource: &str, reader: &mut RequestReader<'_>) {
    if url::Url::parse(resource).is_ok_and(|url| url.fragment().is_none()) {
        reader.audience("resource", resource);
    } else {
        reader.violation("resource", "must be an absolute URI without fragment");
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.to_str().ok().and_then(|text| text.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn grant_response(exchanged: Exchanged, issued_token_type: &'static str) -> Response {
    let body = TokenResponse {
        access_token: exchanged.access_token.token,
        issued_token_type,
        token_type: "Bearer",
        expires_in: exchanged.expires_in.as_secs(),
        scope: scope_text(&exchanged.scopes),
    };
    not_stored(Json(body).into_response())
}

fn refuse(refusal: &Refusal, grant: OAuthGrant) -> Response {
    let error = refusal.to_oauth(grant);
    let (status, retry_after) = (error.http_status, error.retry_after);
    let mut response = with_status(status, not_stored(Json(error).into_response()));
    if let Some(after) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

fn with_status(status: StatusCode, mut response: Response) -> Response {
    *response.status_mut() = status;
    response
}

/// RFC 6749, section 5.1.
fn not_stored(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
