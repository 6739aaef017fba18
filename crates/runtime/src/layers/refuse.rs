//! Refusals as answers: `google.rpc` details for gRPC, RFC 6749 JSON for HTTP.

use axum::body::Body;
use axum::response::Response;
use countersign_proto::status::{OAuthGrant, Refusal};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tonic::Status;

/// What a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Grpc,
    Http,
}

impl Wire {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let grpc = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
        if grpc { Self::Grpc } else { Self::Http }
    }

    pub(super) fn refuse(self, refusal: Refusal) -> Response {
        match self {
            Self::Grpc => grpc(Status::from(refusal)),
            Self::Http => http(&refusal),
        }
    }
}

pub(super) fn grpc(status: Status) -> Response {
    status.into_http()
}

fn http(refusal: &Refusal) -> Response {
    let error = refusal.to_oauth(OAuthGrant::TokenExchange);
    // Plain data with string keys always serialises.
    let body = serde_json::to_vec(&error).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = error.http_status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = error.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

/// A path that nobody serves.
pub(super) async fn unknown_path(request: Request<Body>) -> Response {
    match Wire::of(request.headers()) {
        Wire::Grpc => unimplemented(),
        Wire::Http => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

/// The gRPC protocol's own answer to a method that does not exist here.
pub(super) fn unimplemented() -> Response {
    grpc(Status::unimplemented("there is no such method here"))
}
