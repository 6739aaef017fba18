//! The node of a cluster that has the key's slot.
//!
//! Each node that has slots has a [`Link`] of its own. Which slots it has, the nodes say; one task in the background asks them at
//! the start, whenever a command meets trouble that another map of the slots may cure, and as long as a node cannot be used or a
//! slot has no owner, since a failover will give the slots to another node. Commands never wait for that, but for the first map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::FutureExt as _;
use futures::future::select_ok;
use redis::{Cmd, FromRedisValue, ServerErrorKind, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::link::{self, Link, PROBE_KEY, Target};
use super::slots::{SlotMap, slot_of};
use super::url::{Address, Dial};
use super::{CONNECT_LIMIT, FIRST_PAUSE, RedisTrouble, STAGGER, pause_after};

/// How many nodes are asked at most in one attempt to learn who has which slots.
const ASKED_AT_ONCE: usize = 8;

/// How many keys are tried to find one for each node. A node with a single slot is missed by all with odds of 1 to 10^26.
const PROBE_KEYS: u32 = 1_000_000;

pub(super) struct Cluster {
    dial: Dial,
    /// Those that the address names. At least one.
    seeds: Vec<Address>,
    state: Mutex<State>,
    map: watch::Sender<Map>,
}

/// What is known of who has which slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Map {
    /// Nobody was asked yet, or nobody has answered yet.
    Awaited,
    /// Nobody that was asked answered.
    Missing,
    /// Good for all that is known.
    Trusted,
    /// A command met trouble that another map may cure.
    Doubted,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<Address, Node>,
    slots: Option<SlotMap>,
    /// Whether the background task runs.
    following: bool,
    /// The node that gave the latest reason for doubt, alive enough to be asked first.
    knows_better: Option<Address>,
    /// Counts reasons for doubt, so that an answer given before the last one does not dispel it.
    doubts: u64,
    /// When the nodes were asked last. A cluster whose nodes disagree is not to be asked in a tight loop.
    last_asked: Option<Instant>,
}

struct Node {
    link: Arc<Link>,
    probe_key: String,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Address>, dial: Dial) -> Arc<Self> {
        Arc::new(Self { dial, seeds, state: Mutex::default(), map: watch::Sender::new(Map::Awaited) })
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state().is_whole()
    }

    /// Waits until the node that has this key can be used.
    pub(super) async fn available(self: &Arc<Self>, key: &str) {
        let mut map = self.map.subscribe();
        loop {
            self.follow_unless_trusted();
            // The sender lives as long as `self`, so this ends only with `true`.
            let _ = map.wait_for(|map| *map == Map::Trusted).await;
            let node = self.state().node_of(key);
            let Some(link) = node else {
                self.follow();
                let _ = map.changed().await;
                continue;
            };
            // The node may never come back, and its slots go to another.
            tokio::select! {
                () = link.available() => return,
                _ = map.changed() => {}
            }
        }
    }

    /// Sends one command, once, to the node that has its key.
    pub(super) async fn run<T: FromRedisValue>(
        self: &Arc<Self>,
        key: &str,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<T, RedisTrouble> {
        self.first_map(deadline).await?;
        let node = self.state().node_of(key);
        let Some(link) = node else {
            self.follow();
            return Err(RedisTrouble::Unreachable);
        };
        let result = link.run(command, deadline).await;
        if let Err(trouble) = &result {
            self.met(trouble, &link);
        }
        result
    }

    /// Waits for the first map until the deadline, but not at all when an attempt to get it has failed.
    async fn first_map(self: &Arc<Self>, deadline: Instant) -> Result<(), RedisTrouble> {
        let mut map = self.map.subscribe();
        loop {
            let known = *map.borrow_and_update();
            match known {
                Map::Trusted | Map::Doubted => return Ok(()),
                Map::Missing => return Err(RedisTrouble::Unreachable),
                Map::Awaited => {}
            }
            self.follow();
            if timeout_at(deadline, map.changed()).await.is_err() {
                // The next one need not wait as well.
                self.map_is_missing(&RedisTrouble::TimedOut);
            }
        }
    }

    fn map_is_missing(&self, trouble: &RedisTrouble) {
        let error = trouble as &dyn std::error::Error;
        if self.map.send_if_modified(|map| *map == Map::Awaited && std::mem::replace(map, Map::Missing) == Map::Awaited) {
            tracing::warn!(error, "no node of the redis cluster can be used; going on without it");
        } else {
            tracing::debug!(error, "no node of the redis cluster tells who has which slots");
        }
    }

    /// Takes in what became of a command.
    fn met(self: &Arc<Self>, trouble: &RedisTrouble, link: &Link) {
        let moved = match (trouble, trouble.server_error()) {
            // The breaker is open: that was told before.
            (RedisTrouble::Unreachable, _) => return self.follow(),
            (_, Some(ServerErrorKind::Moved)) => true,
            (_, None | Some(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::ClusterDown)) => false,
            // A slot on its way has its old owner until it has arrived, and a refusal has nothing to do with slots.
            _ => return,
        };
        {
            let mut state = self.state();
            state.doubts += 1;
            if moved {
                state.knows_better = link.node().cloned();
            }
            self.map.send_if_modified(|map| *map == Map::Trusted && std::mem::replace(map, Map::Doubted) == Map::Trusted);
        }
        self.follow();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow_unless_trusted(self: &Arc<Self>) {
        if *self.map.borrow() != Map::Trusted {
            self.follow();
        }
    }

    /// Starts the background task unless it runs already.
    pub(super) fn follow(self: &Arc<Self>) {
        let not_before = {
            let mut state = self.state();
            if std::mem::replace(&mut state.following, true) {
                return;
            }
            state.last_asked.map(|asked| asked + FIRST_PAUSE)
        };
        tokio::spawn(follow(Arc::downgrade(self), not_before));
    }

    /// Whom to ask: who knows better, then who has slots, then those that the address names; others first at each attempt. And
    /// how many reasons for doubt there were before.
    fn candidates(&self, attempt: u32) -> (Vec<Address>, u64) {
        let mut state = self.state();
        state.last_asked = Some(Instant::now());
        let first = state.knows_better.take();
        let owners: BTreeSet<&Address> = state.slots.iter().flat_map(SlotMap::owners).collect();
        let mut others: Vec<&Address> = owners.iter().copied().filter(|owner| Some(*owner) != first.as_ref()).collect();
        others.extend(self.seeds.iter().filter(|seed| !owners.contains(seed) && Some(*seed) != first.as_ref()));
        let turn = usize::try_from(attempt).unwrap_or_default() % others.len().max(1);
        others.rotate_left(turn);
        let others = others.into_iter().cloned().collect::<Vec<_>>();
        (first.into_iter().chain(others).take(ASKED_AT_ONCE).collect(), state.doubts)
    }

    /// Takes in who has which slots; says whether all is well.
    fn take_in(self: &Arc<Self>, read: Result<SlotMap, RedisTrouble>, doubts: u64) -> bool {
        let mut state = self.state();
        match read {
            Ok(slots) => {
                state.replace(slots, &self.dial);
                let now = if state.doubts == doubts { Map::Trusted } else { Map::Doubted };
                if self.map.send_replace(now) == Map::Missing {
                    tracing::info!("the redis cluster is back");
                }
                let done = now == Map::Trusted && state.is_whole();
                state.following = !done;
                done
            }
            Err(trouble) => {
                self.map_is_missing(&trouble);
                false
            }
        }
    }
}

impl State {
    fn node_of(&self, key: &str) -> Option<Arc<Link>> {
        let owner = self.slots.as_ref()?.owner(slot_of(key))?;
        self.nodes.get(owner).map(|node| Arc::clone(&node.link))
    }

    /// Whether every slot has an owner that can be used.
    fn is_whole(&self) -> bool {
        self.slots.as_ref().is_some_and(SlotMap::is_complete) && self.nodes.values().all(|node| node.link.is_connected())
    }

    /// Keeps the links to nodes that still have slots, makes those that are new, and drops the rest.
    fn replace(&mut self, slots: SlotMap, dial: &Dial) {
        let mut without_probe: BTreeSet<&Address> = slots.owners().collect();
        self.nodes.retain(|address, _| without_probe.contains(address));
        without_probe
            .retain(|owner| self.nodes.get(*owner).is_none_or(|node| slots.owner(slot_of(&node.probe_key)) != Some(*owner)));
        // One after the other, the keys fall on all slots soon.
        for probe_key in (0..PROBE_KEYS).map(|number| format!("{PROBE_KEY}:{number}")) {
            if without_probe.is_empty() {
                break;
            }
            let Some(owner) = slots.owner(slot_of(&probe_key)).and_then(|owner| without_probe.take(owner)) else { continue };
            if let Some(node) = self.nodes.get_mut(owner) {
                node.link.probe_at(&probe_key);
                node.probe_key = probe_key;
            } else {
                let link = Link::new(Target::node(owner.clone(), dial.clone(), probe_key.clone()));
                link.recover();
                self.nodes.insert(owner.clone(), Node { link, probe_key });
            }
        }
        self.slots = Some(slots);
    }
}

/// Asks until all is well or nobody wants to know any more.
async fn follow(cluster: Weak<Cluster>, not_before: Option<Instant>) {
    if let Some(not_before) = not_before {
        sleep_until(not_before).await;
    }
    for attempt in 0.. {
        sleep(pause_after(attempt)).await;
        let Some(strong) = cluster.upgrade() else { return };
        let (candidates, doubts) = strong.candidates(attempt);
        let read = timeout(CONNECT_LIMIT, ask(&strong.dial, candidates)).await.unwrap_or(Err(RedisTrouble::TimedOut));
        if strong.take_in(read, doubts) {
            return;
        }
    }
}

/// The first good answer of several nodes.
async fn ask(dial: &Dial, nodes: Vec<Address>) -> Result<SlotMap, RedisTrouble> {
    let attempts = nodes.into_iter().zip(0..).map(|(node, place)| {
        async move {
            sleep(STAGGER * place).await;
            let mut connection = link::open(dial, &node, None).await?;
            let answer: Value =
                redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await.map_err(RedisTrouble::Failed)?;
            let slots = SlotMap::read(&answer, &node).map_err(RedisTrouble::Failed)?;
            // A node that was not made part of the cluster yet knows of none.
            if slots.owners().next().is_none() {
                return Err(RedisTrouble::NotWhatItShouldBe("the node knows of no slots"));
            }
            Ok(slots)
        }
        .boxed()
    });
    let (slots, _) = select_ok(attempts).await?;
    Ok(slots)
}
