//! Lets a gRPC request through when the table of access says so (SECURITY 69).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use countersign_domain::access::permission::Access;
use countersign_domain::values::reason::Reason;
use countersign_proto::access::access_of;
use countersign_proto::status::Refusal;
use http::{Request, StatusCode};

use super::Audience;
use super::refuse::{self, Wire};
use crate::auth::Authenticator;
use crate::transport::PeerIdentity;

/// Who is let through.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) audience: Audience,
    pub(super) authenticator: Arc<Authenticator>,
}

pub(super) async fn authorise(State(gate): State<Gate>, mut request: Request<Body>, next: Next) -> Response {
    // Decided by the path alone, as that is what the generated servers go by, whatever the content type says.
    let access = match access_of(request.uri().path()) {
        // On a public listener an internal method does not exist.
        Some(Access::Internal) if gate.audience == Audience::Public => None,
        access => access,
    };
    let Some(access) = access else { return refuse::unimplemented() };
    if Wire::of(request.headers()) != Wire::Grpc {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    match access {
        Access::Public => {}
        Access::Internal => {
            let internal = request.extensions().get::<PeerIdentity>().is_some_and(PeerIdentity::is_internal);
            if !internal {
                let refusal = Refusal::new(Reason::CredentialsMissing, "the call needs a service's certificate");
                return Wire::Grpc.refuse(refusal);
            }
        }
        Access::Requires(permission) => match gate.authenticator.authorise(request.headers(), permission).await {
            Ok(caller) => {
                request.extensions_mut().insert(Arc::new(caller));
            }
            Err(refusal) => return Wire::Grpc.refuse(refusal),
        },
    }
    next.run(request).await
}
