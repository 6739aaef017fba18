//! Natural batching: while one call is in flight, the next gathers.
//!
//! An idle batcher sends a single item at once, so a lone caller waits for nobody. Under load the items that arrive during a call
//! leave together in the next. The batcher lives in a task of its own: a caller who goes away takes neither his own item nor
//! anybody else's answer with him.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

/// The most items of one call.
pub(crate) const MAX_ITEMS: usize = 64;
/// The most calls in flight.
const MAX_CALLS: usize = 4;
/// How long a batch that is not full waits for a call in flight before it leaves beside it. A call that hangs holds nobody up
/// for longer.
const PATIENCE: Duration = Duration::from_millis(10);
/// Items waiting to be gathered; beyond, callers wait.
const QUEUE: usize = 1024;
/// The longest an item waits to be sent. By then its caller is about to be told that we are too slow, and a call for it would only
/// hold up those behind it.
const QUEUE_LIMIT: Duration = Duration::from_secs(2);

/// Why an item has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// It waited too long, and no call was made for it.
    #[error("it was not sent in time")]
    NotSent,
    /// The batcher is gone, or dropped the item, without saying what became of it.
    #[error("the batch came to no end")]
    Lost,
}

/// Sends items in batches. Cheap to clone.
pub(crate) struct Batcher<I, O> {
    queue: mpsc::Sender<Waiting<I, O>>,
}

/// An item, where it came from, and where its answer goes.
struct Waiting<I, O> {
    item: I,
    span: Span,
    /// From here on it is not sent any more.
    deadline: Instant,
    answer: oneshot::Sender<Result<O, Unanswered>>,
}

impl<I, O> Clone for Batcher<I, O> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// A batcher that sends its batches by `call`, which answers every item in the order of the items. It runs until every
    /// clone is dropped and everything sent is answered. `name` names its calls in traces. Must be called within a tokio runtime.
    pub(crate) fn new<F, R>(name: &'static str, call: F) -> Self
    where
        F: Fn(Vec<I>) -> R + Send + Sync + 'static,
        R: Future<Output = Vec<O>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(run(name, Arc::new(call), waiting));
        Self { queue }
    }

    /// Sends an item and waits for its answer. Once the item is queued it is sent, whether the caller still waits or not, unless it
    /// cannot be sent in time.
    pub(crate) async fn send(&self, item: I) -> Result<O, Unanswered> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { item, span: Span::current(), deadline: Instant::now() + QUEUE_LIMIT, answer };
        self.queue.send_timeout(waiting, QUEUE_LIMIT).await.map_err(|_| Unanswered::NotSent)?;
        answered.await.unwrap_or(Err(Unanswered::Lost))
    }
}

async fn run<I, O, F, R>(name: &'static str, call: Arc<F>, mut queue: mpsc::Receiver<Waiting<I, O>>)
where
    I: Send + 'static,
    O: Send + 'static,
    F: Fn(Vec<I>) -> R + Send + Sync + 'static,
    R: Future<Output = Vec<O>> + Send + 'static,
{
    let mut calls = FuturesUnordered::new();
    let mut batch: Vec<Waiting<I, O>> = Vec::new();
    let mut oldest = Instant::now();
    let mut open = true;
    while open || !batch.is_empty() || !calls.is_empty() {
        drop_overdue(&mut batch);
        // Whoever is queued already comes along.
        while batch.len() < MAX_ITEMS {
            let Ok(waiting) = queue.try_recv() else { break };
            if batch.is_empty() {
                oldest = Instant::now();
            }
            batch.push(waiting);
        }
        let due = calls.is_empty() || batch.len() >= MAX_ITEMS || oldest.elapsed() >= PATIENCE;
        if !batch.is_empty() && calls.len() < MAX_CALLS && due {
            // A task each, so that a panic costs one batch.
            calls.push(tokio::spawn(send_batch(name, Arc::clone(&call), std::mem::take(&mut batch))));
            continue;
        }
        tokio::select! {
            biased;
            Some(_) = calls.next() => {}
            waiting = queue.recv(), if open && batch.len() < MAX_ITEMS => match waiting {
                Some(waiting) => {
                    if batch.is_empty() {
                        oldest = Instant::now();
                    }
                    batch.push(waiting);
                }
                None => open = false,
            },
            () = tokio::time::sleep_until(oldest + PATIENCE), if !batch.is_empty() && calls.len() < MAX_CALLS => {}
            () = tokio::time::sleep_until(batch.first().map_or(oldest, |first| first.deadline)), if !batch.is_empty() => {}
        }
    }
}

/// Gives up what waited too long. The first of a batch came first, so that mostly a look at it is enough.
fn drop_overdue<I, O>(batch: &mut Vec<Waiting<I, O>>) {
    let now = Instant::now();
    if batch.first().is_none_or(|first| now < first.deadline) {
        return;
    }
    let (overdue, live): (Vec<_>, Vec<_>) = std::mem::take(batch).into_iter().partition(|waiting| waiting.deadline <= now);
    *batch = live;
    for waiting in overdue {
        // A caller who went away needs no answer.
        let _ = waiting.answer.send(Err(Unanswered::NotSent));
    }
}

/// One call. It belongs to the trace of its first item and is linked to those of the others.
async fn send_batch<I, O, F, R>(name: &'static str, call: Arc<F>, batch: Vec<Waiting<I, O>>)
where
    F: Fn(Vec<I>) -> R,
    R: Future<Output = Vec<O>>,
{
    let span =
        tracing::info_span!(parent: batch.first().map_or(&Span::none(), |first| &first.span), "batch", name, items = batch.len());
    for other in batch.iter().skip(1) {
        span.follows_from(&other.span);
    }
    let (items, answers): (Vec<I>, Vec<oneshot::Sender<_>>) =
        batch.into_iter().map(|waiting| (waiting.item, waiting.answer)).unzip();
    // A missing answer drops its sender, which tells the caller that his item is lost.
    for (answer, sender) in call(items).instrument(span).await.into_iter().zip(answers) {
        // A caller who went away needs no answer.
        let _ = sender.send(Ok(answer));
    }
}

#[cfg(test)]
mod tests;
