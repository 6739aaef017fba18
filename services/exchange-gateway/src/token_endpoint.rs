//! `POST /oauth2/token`: the token exchange grant (RFC 8693) and the JWT bearer grant (RFC 7523) of RFC 6749's token endpoint.

pub(crate) mod parameters;

use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use countersign_domain::exchange::granted_claims::scope_text;
use countersign_domain::values::reason::Reason;
use countersign_proto::status::{OAuthGrant, Refusal};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use serde::Serialize;

use crate::client;
use crate::pipeline::{ExchangeInput, Exchanged, Pipeline, SubjectToken};
use crate::request::{Addresses, Concern, Problems, RequestReader, request_id};

/// The largest body (SECURITY 65).
const MAX_BODY: usize = 64 * 1024;

const GRANT_TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const GRANT_JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The grant types of this endpoint.
pub(crate) const GRANT_TYPES: [&str; 2] = [GRANT_TOKEN_EXCHANGE, GRANT_JWT_BEARER];

const TYPE_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const TYPE_ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The scheme by which a client can name itself (RFC 7617).
const CHALLENGE: &str = "Basic realm=\"token endpoint\", charset=\"UTF-8\"";

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
    let mut response = answer(&endpoint, &parts, body).await;
    if response.extensions().get::<Reason>() == Some(&Reason::InvalidClient) && parts.headers.contains_key(header::AUTHORIZATION)
    {
        // RFC 6749, section 5.2.
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    response
}

async fn answer(endpoint: &TokenEndpoint, parts: &Parts, body: Body) -> Response {
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
    let (input, issued_token_type) = match form.read(&parts.headers, &endpoint.addresses) {
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
    requested_expires_in: String,
    client_id: String,
    scope: String,
    audiences: Vec<String>,
    resources: Vec<String>,
    problems: Problems,
}

impl Form {
    /// Reads the parameters. One without a value counts as absent (RFC 6749, section 3.2).
    ///
    /// One that is unknown is ignored, as that section demands, unless it is [`parameters::UNSUPPORTED`] or a misspelt name.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let mut form = Self::default();
        let (mut seen, mut twice) = (Vec::new(), Vec::new());
        for (name, value) in url::form_urlencoded::parse(body) {
            if value.is_empty() {
                continue;
            }
            let once = match &*name {
                "grant_type" => &mut form.grant_type,
                "subject_token" => &mut form.subject_token,
                "subject_token_type" => &mut form.subject_token_type,
                "assertion" => &mut form.assertion,
                "requested_token_type" => &mut form.requested_token_type,
                "requested_expires_in" => &mut form.requested_expires_in,
                "client_id" => &mut form.client_id,
                "scope" => &mut form.scope,
                "audience" => {
                    form.audiences.push(value.into_owned());
                    continue;
                }
                "resource" => {
                    form.resources.push(value.into_owned());
                    continue;
                }
                other => {
                    if let Some(refused) = parameters::refused(other)
                        && !seen.contains(&name)
                    {
                        form.problems.add(refused.concern, refused.name, refused.description);
                        seen.push(name);
                    }
                    continue;
                }
            };
            *once = value.into_owned();
            if !seen.contains(&name) {
                seen.push(name);
            } else if !twice.contains(&name) {
                form.problems.add(Concern::Request, name.clone(), "must not be given more than once");
                twice.push(name);
            }
        }
        form
    }

    fn grant(&self) -> OAuthGrant {
        if self.grant_type == GRANT_JWT_BEARER { OAuthGrant::JwtBearer } else { OAuthGrant::TokenExchange }
    }

    /// What is requested, and the type of the token to issue.
    pub(crate) fn read(self, headers: &HeaderMap, addresses: &Addresses) -> Result<(ExchangeInput, &'static str), Refusal> {
        let mut reader = RequestReader::new(addresses);
        let in_header = client::read_headers(headers, &mut reader);
        reader.client(Concern::Client, "client_id", &self.client_id, in_header.as_deref());
        reader.problems(self.problems);
        // Who asks is settled before what for (RFC 6749, section 5.2).
        let subject_token = match self.grant_type.as_str() {
            GRANT_TOKEN_EXCHANGE => {
                if self.subject_token_type.is_empty() {
                    reader.violation(Concern::Request, "subject_token_type", "must be given");
                }
                if !self.assertion.is_empty() {
                    reader.violation(Concern::Request, "assertion", "belongs to the JWT bearer grant; use subject_token");
                }
                self.subject_token
            }
            GRANT_JWT_BEARER => {
                if !self.subject_token.is_empty() {
                    reader.violation(Concern::Request, "subject_token", "belongs to the token exchange grant; use assertion");
                }
                self.assertion
            }
            "" => {
                reader.violation(Concern::Request, "grant_type", "must be given");
                String::new()
            }
            _ if reader.has_client_problem() => String::new(),
            _ => return Err(Refusal::new(Reason::UnsupportedGrantType, "the grant type is not supported")),
        };
        if !reader.has_client_problem() {
            check_subject_token_type(&self.subject_token_type)?;
            issued_token_type(&self.requested_token_type)?;
        }
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
        read_scope(&self.scope, &mut reader);
        read_lifetime(&self.requested_expires_in, &mut reader);
        let input = reader.finish(SubjectToken::from(subject_token), request_id())?;
        Ok((input, issued_token_type(&self.requested_token_type)?))
    }
}

fn check_subject_token_type(given: &str) -> Result<(), Refusal> {
    match given {
        "" | TYPE_JWT | TYPE_ID_TOKEN => Ok(()),
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

/// A resource (RFC 8693, section 2.1) is a requested audience that must be an absolute URI without fragment.
fn read_resource(resource: &str, reader: &mut RequestReader<'_>) {
    if url::Url::parse(resource).is_ok_and(|url| url.fragment().is_none()) {
        reader.audience("resource", resource);
    } else {
        reader.violation(Concern::Target, "resource", "must be an absolute URI without fragment");
    }
}

/// Scopes with one space between two of them (RFC 6749, section 3.3). Nothing else: a value that names no scope must not count as
/// absent, which would request every scope.
fn read_scope(scope: &str, reader: &mut RequestReader<'_>) {
    let scopes = || scope.split(' ');
    if scope.is_empty() || !reader.few_enough("scope", scopes().count()) {
        return;
    }
    if scopes().any(str::is_empty) {
        reader.violation(Concern::Scope, "scope", "must be scopes with one space between two of them");
    }
    for scope in scopes().filter(|scope| !scope.is_empty()) {
        reader.scope("scope", scope);
    }
}

/// The requested lifetime in whole seconds.
fn read_lifetime(seconds: &str, reader: &mut RequestReader<'_>) {
    let is_number = seconds.bytes().all(|byte| byte.is_ascii_digit());
    match seconds.parse().ok().filter(|_| is_number) {
        _ if seconds.is_empty() => {}
        Some(seconds) => reader.duration("requested_expires_in", Duration::from_secs(seconds)),
        None => reader.violation(Concern::Request, "requested_expires_in", "must be a whole number of seconds"),
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
    let reason = refusal.reason();
    let error = refusal.to_oauth(grant);
    let (status, retry_after) = (error.http_status, error.retry_after);
    let mut response = with_status(status, not_stored(Json(error).into_response()));
    if let Some(after) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response.extensions_mut().insert(reason);
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
