//! Refusals as HTTP answers.

use axum::body::Body;
use axum::response::Response;
use countersign_proto::status::{OAuthGrant, Refusal};
use http::{HeaderValue, StatusCode, header};

/// The answer of RFC 6749, section 5.2: JSON that no cache keeps (SECURITY 64), with `Retry-After` where the refusal says when to
/// come back and `WWW-Authenticate` where credentials are at fault.
pub fn oauth_response(refusal: &Refusal, grant: OAuthGrant) -> Response {
    let error = refusal.to_oauth(grant);
    // Plain data with string keys always serialises.
    let body = serde_json::to_vec(&error).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = error.http_status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if error.http_status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(after) = error.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}
