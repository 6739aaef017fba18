//! What operators are told of a failure: one of a closed list.

use std::error::Error;
use std::io;

use countersign_domain::trust::issuer_health::IssuerProblem;

use crate::address::RefusedAddress;
use crate::fetch::FetchError;
use crate::http_fetcher::{RequestError, UnknownHost};
use crate::server::NoServer;

/// Which document was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    DiscoveryDocument,
    KeySet,
}

/// What kept a document from being fetched.
pub(crate) fn of_fetch(error: &FetchError, wish: Wish) -> IssuerProblem {
    match (error, wish) {
        (FetchError::Url(_) | FetchError::Address(_), _) => IssuerProblem::HostRefused,
        (FetchError::Http(error), _) => of_request(error),
        (FetchError::Status(status), Wish::DiscoveryDocument) => IssuerProblem::DiscoveryStatus { status: *status },
        (FetchError::Status(status), Wish::KeySet) => IssuerProblem::KeySetStatus { status: *status },
        (FetchError::TooLong, Wish::DiscoveryDocument) => IssuerProblem::DiscoveryDocumentInvalid,
        (FetchError::TooLong, Wish::KeySet) => IssuerProblem::KeySetInvalid,
    }
}

/// Finds the cause in the chain of causes of a request that failed.
fn of_request(error: &RequestError) -> IssuerProblem {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let error = unwrapped(error);
        if error.is::<RefusedAddress>() || error.is::<UnknownHost>() || error.is::<NoServer>() {
            return IssuerProblem::HostRefused;
        }
        if let Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) = error.downcast_ref() {
            return IssuerProblem::CertificateRefused;
        }
        cause = error.source();
    }
    IssuerProblem::Unreachable
}

/// What an I/O error wraps is not among its sources: it stands in its place.
fn unwrapped<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => unwrapped(inner),
        None => error,
    }
}
