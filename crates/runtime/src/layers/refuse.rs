//! Refusals as answers: `google.rpc` details for gRPC, RFC 6749 JSON for HTTP.

use axum::body::Body;
use axum::response::Response;
use countersign_proto::status::{OAuthGrant, Refusal};
use http::{HeaderMap, Request, StatusCode, header};
use tonic::Status;

use crate::refusal::oauth_response;

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
            Self::Grpc => Status::from(refusal).into_http(),
            Self::Http => oauth_response(&refusal, OAuthGrant::TokenExchange),
        }
    }
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
    Status::unimplemented("there is no such method here").into_http()
}
