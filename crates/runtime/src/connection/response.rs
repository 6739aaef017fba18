//! Sends the bodies of answers, within bounds on what a peer can leave unread (SECURITY 85).
//!
//! hyper takes a frame of a body whole, whatever the peer's flow control allows, and keeps it until it is written. So the
//! body is handed over in chunks, each of which is accounted for until the transport drops it.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, PollSemaphore};

use super::activity::InProgress;
use crate::concurrency::{ReachedLimits, Share};
use crate::peer::Peer;

/// The most that is handed over at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// The most of one connection's answers that the transport has at a time.
const UNSENT_BYTES: usize = 256 * 1024;

/// Answers of which a peer has not read the last byte, over all connections of a listener.
#[derive(Debug)]
pub(super) struct UnreadResponses {
    share: Share,
    reached: Arc<ReachedLimits>,
    total: AtomicUsize,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    all: HashMap<u64, Weak<Outbox>>,
    unread: HashMap<Option<Peer>, PeerUnread>,
}

#[derive(Debug, Default)]
struct PeerUnread {
    connections: usize,
    responses: Arc<AtomicUsize>,
}

impl UnreadResponses {
    pub(super) fn new(share: Share, reached: &Arc<ReachedLimits>) -> Arc<Self> {
        Arc::new(Self { share, reached: Arc::clone(reached), total: AtomicUsize::new(0), connections: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answers of a new connection. `cut` ends it.
    pub(super) fn of_connection(self: &Arc<Self>, peer: Option<Peer>, cut: CancellationToken) -> Arc<Outbox> {
        let mut connections = self.lock();
        connections.next += 1;
        let id = connections.next;
        let unread = connections.unread.entry(peer).or_default();
        unread.connections += 1;
        let outbox = Arc::new(Outbox {
            id,
            peer,
            cut,
            listener: Arc::clone(self),
            peer_unread: Arc::clone(&unread.responses),
            room: Arc::new(Semaphore::new(UNSENT_BYTES)),
            unsent: Mutex::default(),
        });
        connections.all.insert(id, Arc::downgrade(&outbox));
        outbox
    }

    /// Cuts the connection, of this peer or (`None`) of all, whose oldest chunk has waited for the longest.
    fn cut_slowest(&self, peer: Option<Peer>) {
        let candidates: Vec<Arc<Outbox>> = self.lock().all.values().filter_map(Weak::upgrade).collect();
        let slowest = candidates
            .iter()
            .filter(|outbox| (peer.is_none() || outbox.peer == peer) && !outbox.cut.is_cancelled())
            .filter_map(|outbox| Some((outbox.oldest()?, outbox)))
            .min_by_key(|(oldest, _)| *oldest);
        if let Some((_, outbox)) = slowest {
            outbox.cut.cancel();
            self.reached.note("unread_responses", outbox.peer);
        }
    }
}

/// The answers of one connection that the peer has not read.
#[derive(Debug)]
pub(super) struct Outbox {
    id: u64,
    peer: Option<Peer>,
    cut: CancellationToken,
    listener: Arc<UnreadResponses>,
    peer_unread: Arc<AtomicUsize>,
    room: Arc<Semaphore>,
    unsent: Mutex<Unsent>,
}

#[derive(Debug, Default)]
struct Unsent {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the oldest chunk waits.
    fn oldest(&self) -> Option<Instant> {
        self.lock().since.values().next().copied()
    }

    /// Ends when the peer has left a chunk unread for too long, at most a quarter later.
    pub(super) async fn stalled(&self, patience: Duration) {
        loop {
            tokio::time::sleep(patience / 4).await;
            if self.oldest().is_some_and(|oldest| oldest.elapsed() >= patience) {
                self.listener.reached.note("write_stall", self.peer);
                return;
            }
        }
    }

    fn begin(self: &Arc<Self>) -> Arc<Response> {
        let share = self.listener.share;
        let of_peer = self.peer_unread.fetch_add(1, Ordering::AcqRel) + 1;
        let total = self.listener.total.fetch_add(1, Ordering::AcqRel) + 1;
        if self.peer.is_some() && of_peer > share.per_peer {
            self.listener.cut_slowest(self.peer);
        } else if total > share.total {
            self.listener.cut_slowest(None);
        }
        Arc::new(Response(Arc::clone(self)))
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut connections = self.listener.lock();
        connections.all.remove(&self.id);
        if let Some(unread) = connections.unread.get_mut(&self.peer) {
            unread.connections -= 1;
            if unread.connections == 0 {
                connections.unread.remove(&self.peer);
            }
        }
    }
}

/// An answer, until its body and all of its chunks are gone.
#[derive(Debug)]
struct Response(Arc<Outbox>);

impl Drop for Response {
    fn drop(&mut self) {
        self.0.peer_unread.fetch_sub(1, Ordering::AcqRel);
        self.0.listener.total.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A chunk that the transport has.
#[derive(Debug)]
struct Chunk {
    id: u64,
    response: Arc<Response>,
    _room: OwnedSemaphorePermit,
}

impl Chunk {
    fn new(response: &Arc<Response>, room: OwnedSemaphorePermit) -> Self {
        let mut unsent = response.0.lock();
        unsent.next += 1;
        let id = unsent.next;
        unsent.since.insert(id, Instant::now());
        drop(unsent);
        Self { id, response: Arc::clone(response), _room: room }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.response.0.lock().since.remove(&self.id);
    }
}

/// Bytes for the transport.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Bytes,
    _chunk: Option<Chunk>,
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

/// The body of an answer. It keeps its request in progress, and the answer of an anonymous peer among those that are unread.
pub(super) struct Outbound {
    body: axum::body::Body,
    rest: Bytes,
    account: Option<Account>,
    _in_progress: InProgress,
}

struct Account {
    response: Arc<Response>,
    room: PollSemaphore,
}

impl Outbound {
    pub(super) fn new(body: axum::body::Body, outbox: Option<&Arc<Outbox>>, in_progress: InProgress) -> Self {
        let account = outbox
            .filter(|_| !body.is_end_stream())
            .map(|outbox| Account { response: outbox.begin(), room: PollSemaphore::new(Arc::clone(&outbox.room)) });
        Self { body, rest: Bytes::new(), account, _in_progress: in_progress }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Outgoing>>> {
        let Some(Account { response, room }) = &mut self.account else {
            return Poll::Ready(Some(Frame::data(Outgoing { bytes: std::mem::take(&mut self.rest), _chunk: None })));
        };
        let length = self.rest.len().min(CHUNK_BYTES);
        // A chunk is far smaller than `u32::MAX`; the semaphore is never closed.
        let permits = u32::try_from(length).unwrap_or(u32::MAX);
        let Some(permit) = ready!(room.poll_acquire_many(cx, permits)) else { return Poll::Ready(None) };
        let bytes = self.rest.split_to(length);
        Poll::Ready(Some(Frame::data(Outgoing { bytes, _chunk: Some(Chunk::new(response, permit)) })))
    }
}

impl Body for Outbound {
    type Data = Outgoing;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Outgoing>, axum::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(frame) => return Poll::Ready(frame.into_trailers().ok().map(|trailers| Ok(Frame::trailers(trailers)))),
                },
            }
        }
        this.poll_chunk(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}
