//! Calls of any gRPC method by its path, for tests that walk the table of all methods.

use std::fmt::Debug;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tonic::Status;
use tower::{Service, ServiceExt as _};

/// Calls the method at this path, `/package.Service/Method`, with an empty message. Returns its status, whatever it is.
pub async fn call_with_empty_message<S>(channel: S, path: &str, bearer: Option<&str>) -> Status
where
    S: Service<http::Request<tonic::body::Body>, Response = http::Response<tonic::body::Body>, Error: Debug>,
{
    let mut request = http::Request::post(format!("http://test{path}")).header("content-type", "application/grpc");
    if let Some(token) = bearer {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    // Not compressed, no bytes.
    let body = tonic::body::Body::new(Full::new(Bytes::from_static(&[0; 5])));
    let response = channel.oneshot(request.body(body).expect("a path makes a request")).await.expect("the service answers");
    let (parts, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers) {
        return status;
    }
    let trailers = body.collect().await.expect("the answer is read").trailers().cloned().unwrap_or_default();
    Status::from_header_map(&trailers).unwrap_or_else(|| Status::unknown("no status"))
}
