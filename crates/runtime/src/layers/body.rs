//! Bounds the body of an HTTP request (SECURITY 65). gRPC messages are bounded by tonic, after decompression (SECURITY 66).

use axum::body::Body;
use axum::middleware::Next;
use axum::response::Response;
use countersign_domain::reason::Reason;
use countersign_proto::status::Refusal;
use http::{Request, StatusCode, header};
use http_body_util::Limited;

use super::refuse::Wire;

/// The largest body.
const MAX_BYTES: usize = 64 * 1024;

/// Refuses a body that says it is too long; one that is, without saying so, breaks off when it is read.
pub(super) async fn bound(request: Request<Body>, next: Next) -> Response {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BYTES as u64) {
        let mut response = Wire::Http.refuse(Refusal::new(Reason::InvalidRequest, "the body is larger than 64 KiB"));
        // Says more than the reason's own status, and is what proxies know.
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return response;
    }
    next.run(request.map(|body| Body::new(Limited::new(body, MAX_BYTES)))).await
}
