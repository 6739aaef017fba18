//! What is known about the request being answered: its id and its deadline.
//!
//! A handler reads them with [`current`]; calls to peers made within the handler carry them on. Work that is handed to another
//! task (a batch of many requests) is outside, as it belongs to no single request.

use std::fmt;

use countersign_domain::values::time::Entropy;
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// Joins an answer to the operator's logs and to the audit log. Made here for every request that comes from outside.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// Characters of an id.
    const LENGTH: usize = 32;

    pub(crate) fn generate(entropy: &(dyn Entropy + 'static)) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(entropy.bits128())).into())
    }

    /// What another service of ours says the id is.
    pub(crate) fn from_peer(text: &str) -> Option<Self> {
        let plausible = text.len() == Self::LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        plausible.then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The request being answered. Also in the extensions of every request.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Its id.
    pub request_id: RequestId,
    /// When the answer is due. Monotonic.
    pub deadline: Instant,
}

/// The request that the current task is answering.
pub fn current() -> Option<RequestContext> {
    CURRENT.try_with(Clone::clone).ok()
}

pub(crate) async fn scope<F: Future>(context: RequestContext, work: F) -> F::Output {
    CURRENT.scope(context, work).await
}
