//! The documents over HTTP: `<issuer path>/.well-known/openid-configuration` and `<issuer path>/.well-known/jwks.json`.
//!
//! Which issuer is meant follows from the path; at the root, from the host name that the request is for, where the operator gives
//! issuers host names of their own. Never from a forwarded header (SECURITY 70). Whatever is here is answered from memory.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use countersign_domain::issuing::issuer::IssuerNamespace;
use countersign_runtime::log_budget::LogBudget;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH,
    RETRY_AFTER, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tonic::Status;

use crate::causes::Causes;
use crate::documents::{DISCOVERY_PATH, Document, Documents, KEY_SET_PATH};
use crate::keeper::{Keeper, KeeperError};

/// The routes of all issuers.
pub(crate) fn routes(keeper: Arc<Keeper>, namespace: Arc<IssuerNamespace>) -> Router {
    let failures = Arc::new(LogBudget::new(Duration::from_secs(1)));
    Router::new().route("/{*path}", any(serve)).with_state(Site { keeper, namespace, failures })
}

#[derive(Debug, Clone)]
struct Site {
    keeper: Arc<Keeper>,
    namespace: Arc<IssuerNamespace>,
    /// Bounds the lines about documents that cannot be served, as requests for them are anonymous.
    failures: Arc<LogBudget>,
}

/// One of the two documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Discovery,
    KeySet,
}

impl Kind {
    const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Discovery => "application/json",
            Self::KeySet => "application/jwk-set+json",
        })
    }

    const fn of(self, documents: &Documents) -> &Document {
        match self {
            Self::Discovery => &documents.discovery,
            Self::KeySet => &documents.key_set,
        }
    }
}

async fn serve(State(site): State<Site>, request: Request) -> Response {
    // What reaches this route under gRPC is a method that does not exist.
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if content_type.starts_with(b"application/grpc") {
        return Status::unimplemented("there is no such method here").into_http();
    }
    let Some((issuer_path, kind)) = split(request.uri().path()) else { return bare(StatusCode::NOT_FOUND) };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = bare(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let Some(url) = site.url(issuer_path, &request) else { return bare(StatusCode::NOT_FOUND) };
    match site.keeper.published(&url).await {
        Ok(Some(documents)) => {
            let max_age = site.keeper.policy().key_set_max_age.as_secs();
            document(kind, kind.of(&documents), max_age, request.method() == Method::HEAD, request.headers())
        }
        Ok(None) => bare(StatusCode::NOT_FOUND),
        Err(error) => {
            if matches!(error, KeeperError::NoKeyYet) {
                tracing::debug!(%error, "cannot serve a document");
            } else if let Some(count) = site.failures.spend() {
                tracing::warn!(%error, cause = %Causes(&error), count, "cannot serve a document");
            }
            let mut response = bare(StatusCode::SERVICE_UNAVAILABLE);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
    }
}

impl Site {
    /// The URL of the issuer that a request is for, if there is one. Not that of the gateway, which serves its own documents, unless
    /// its URL lies below the base.
    fn url(&self, issuer_path: &str, request: &Request) -> Option<String> {
        if issuer_path.is_empty() {
            let of_header = || request.headers().get(HOST)?.to_str().ok();
            return self.namespace.at_host(request.uri().authority().map(Authority::as_str).or_else(of_header)?);
        }
        let url = format!("{}{issuer_path}", origin(self.namespace.base_url.as_str()));
        self.namespace.below_base(&url)?;
        Some(url)
    }
}

fn document(kind: Kind, document: &Document, max_age: u64, head: bool, headers: &HeaderMap) -> Response {
    let gzip = document.gzip.as_ref().filter(|_| accepts_gzip(headers));
    let (bytes, etag) = gzip.map_or((&document.bytes, &document.etag), |gzip| (&gzip.bytes, &gzip.etag));
    let unchanged = headers.get_all(IF_NONE_MATCH).iter().any(|given| names(given, etag));
    let (status, body) = match (unchanged, head) {
        (true, _) => (StatusCode::NOT_MODIFIED, Bytes::new()),
        (false, true) => (StatusCode::OK, Bytes::new()),
        (false, false) => (StatusCode::OK, bytes.clone()),
    };
    let mut response = (status, Body::from(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, text(format!("public, max-age={max_age}")));
    headers.insert(ETAG, text(etag.clone()));
    // Whoever stores it must not give one client's encoding to another (RFC 9110, section 12.5.5).
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if status == StatusCode::OK {
        headers.insert(CONTENT_TYPE, kind.content_type());
        // Also for HEAD: what GET would send (RFC 9110, section 8.6).
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        if gzip.is_some() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    response
}

/// Whether `Accept-Encoding` (RFC 9110, section 12.5.3) takes gzip, by its name. `*` is left alone: who means gzip says so.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let given = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        // A weight of nothing says no.
        let refused =
            parts.any(|part| part.strip_prefix("q=").is_some_and(|weight| weight.trim_end_matches(['0', '.']).is_empty()));
        is_gzip && !refused
    })
}

/// Whether a value of `If-None-Match` names this tag (RFC 9110, section 13.1.2: by weak comparison).
fn names(given: &HeaderValue, etag: &str) -> bool {
    given.to_str().is_ok_and(|given| {
        given.trim() == "*" || given.split(',').any(|tag| tag.trim().strip_prefix("W/").unwrap_or(tag.trim()) == etag)
    })
}

/// The issuer's path and the document of it that is meant.
fn split(path: &str) -> Option<(&str, Kind)> {
    [(DISCOVERY_PATH, Kind::Discovery), (KEY_SET_PATH, Kind::KeySet)]
        .into_iter()
        .find_map(|(suffix, kind)| path.strip_suffix(suffix).map(|issuer| (issuer, kind)))
}

/// Scheme, host and port of a canonical URL.
fn origin(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url.get(authority..).and_then(|rest| rest.find('/')).map_or(url.len(), |path| authority + path);
    url.get(..end).unwrap_or(url)
}

/// An answer without a document. Nobody keeps it: an issuer may be made the next moment.
fn bare(status: StatusCode) -> Response {
    let mut response = status.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_at_their_end_only() {
        assert_eq!(split("/rwx/.well-known/jwks.json"), Some(("/rwx", Kind::KeySet)));
        assert_eq!(split("/a/b/.well-known/openid-configuration"), Some(("/a/b", Kind::Discovery)));
        for other in ["/rwx/.well-known/jwks.json/", "/rwx/jwks.json", "/.well-known", "/"] {
            assert_eq!(split(other), None, "{other}");
        }
    }

    #[test]
    fn gzip_is_sent_to_who_names_it() {
        let accepts = |values: &[&'static str]| {
            let headers: HeaderMap = values.iter().map(|value| (ACCEPT_ENCODING, HeaderValue::from_static(value))).collect();
            accepts_gzip(&headers)
        };
        for yes in [&["gzip"][..], &["br, GZIP;q=0.5"], &["identity", "gzip"], &["gzip; q=1.0"]] {
            assert!(accepts(yes), "{yes:?}");
        }
        for no in [&[][..], &["identity"], &["gzip;q=0"], &["gzip; q=0.0"], &["*"], &["x-gzip"]] {
            assert!(!accepts(no), "{no:?}");
        }
    }

    #[test]
    fn origins_end_before_the_path() {
        for (url, expected) in [
            ("https://id.example.com", "https://id.example.com"),
            ("https://id.example.com/", "https://id.example.com"),
            ("https://id.example.com:8443/issuers/a", "https://id.example.com:8443"),
            ("http://[::1]:7401/a", "http://[::1]:7401"),
        ] {
            assert_eq!(origin(url), expected);
        }
    }

    #[test]
    fn s60_conditional_requests_follow_rfc_9110() {
        let names = |given: &'static str| names(&HeaderValue::from_static(given), "\"abc\"");
        for given in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*", " \"abc\" "] {
            assert!(names(given), "{given}");
        }
        for given in ["abc", "\"ab\"", "\"x\", \"y\"", ""] {
            assert!(!names(given), "{given}");
        }
    }
}
