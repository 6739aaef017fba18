//! What the streams to other services have in common: how they end, and barriers.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;

use countersign_proto::status::Refusal;
use countersign_store::trust::FeedPosition;
use futures::stream::{FuturesUnordered, StreamExt as _};

use crate::policy_feed::PolicyFeed;

/// Barriers that one client may wait for.
const MAX_BARRIERS: usize = 64;

/// Why a stream ends.
pub(crate) enum End {
    /// The client closed it.
    Closed,
    /// The client is told why.
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A barrier whose place will be known.
type Placing = Pin<Box<dyn Future<Output = (u64, FeedPosition)> + Send + Sync>>;

/// The barriers that the client of one stream waits for.
pub(crate) struct Barriers {
    feed: PolicyFeed,
    asked: FuturesUnordered<Placing>,
    /// Barriers whose place is known and not reached, in the order of places.
    placed: VecDeque<(u64, FeedPosition)>,
}

impl Barriers {
    pub(crate) fn new(feed: PolicyFeed) -> Self {
        Self { feed, asked: FuturesUnordered::new(), placed: VecDeque::new() }
    }

    /// Begins a barrier.
    ///
    /// # Errors
    /// The client waits for too many already.
    pub(crate) fn ask(&mut self, nonce: u64) -> Result<(), Refusal> {
        if self.asked.len() + self.placed.len() >= MAX_BARRIERS {
            return Err(Refusal::invalid_field("sync", "too many barriers at once"));
        }
        let feed = self.feed.clone();
        self.asked.push(Box::pin(async move { (nonce, feed.barrier().await) }));
        Ok(())
    }

    /// Waits until the place of one more barrier is known; for ever when none was asked for.
    pub(crate) async fn place_next(&mut self) {
        match self.asked.next().await {
            Some(placed) => self.placed.push_back(placed),
            None => pending().await,
        }
    }

    /// Takes the next barrier that a stream at this position has reached.
    pub(crate) fn take_reached(&mut self, position: FeedPosition) -> Option<u64> {
        let (nonce, place) = *self.placed.front()?;
        if place > position {
            return None;
        }
        self.placed.pop_front();
        Some(nonce)
    }
}
