//! The port through which documents are fetched.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::address::RefusedAddress;
use crate::authorities::Authorities;
use crate::http_fetcher::RequestError;

/// The most bytes that a document may have, after decompression (SECURITY 41).
pub(crate) const MAX_BYTES: usize = 100 * 1024;

/// A document to be fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) url: &'a str,
    pub(crate) stored: Stored,
    /// Whose certificates the server's must come from; those that everybody trusts, unless given.
    pub(crate) authorities: Option<&'a Authorities>,
    /// Where the fetcher notes whom it asks.
    pub(crate) reach: &'a Arc<Reach>,
}

/// Whether a request goes to the public internet: until that is certain, it does not.
#[derive(Debug, Default)]
pub(crate) struct Reach(AtomicBool);

impl Reach {
    /// Notes that a request begins.
    pub(crate) fn begin(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Notes that every address of the host is public.
    pub(crate) fn note_public(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the last request went to the public internet.
    pub(crate) fn is_public(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A document and how long it counts as fresh.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lifetime: Duration,
}

/// Whether an intermediary may answer from what it has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Acceptable,
    /// `Cache-Control: no-cache`.
    Refused,
}

/// Why a document could not be fetched. For operators; callers are told none of it (SECURITY 42).
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the url may not be fetched")]
    Url(#[from] countersign_domain::values::issuer_url::InvalidUrl),
    #[error("the url's host may not be dialled")]
    Address(#[from] RefusedAddress),
    #[error("the request failed")]
    Http(#[from] RequestError),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer is longer than 100 KiB")]
    TooLong,
}

/// Fetches documents.
#[async_trait]
pub(crate) trait Fetch: Send + Sync + fmt::Debug {
    /// The document that is wanted. The caller sets the deadline.
    async fn fetch(&self, wanted: Wanted<'_>) -> Result<Fetched, FetchError>;
}
