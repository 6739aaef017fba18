//! How much is asked of all issuers together, and how one is kept from having it all (SECURITY 72).
//!
//! Whoever may register issuers may register many, on servers that answer as slowly as they please. So one host has few turns at
//! a time; issuers that never answered leave room for those that did, and issuers that failed last time leave room for both.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use url::Url;

/// How many refreshes ask at one time.
const ALL: usize = 128;
/// How many of them ask an issuer that never answered.
const UNPROVEN: usize = 96;
/// How many of those ask an issuer that failed last time.
const FAILING: usize = 32;
/// How many ask one host.
const OF_ONE_HOST: usize = 4;
/// The longest that a refresh waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a lack of room is logged.
const REMINDER: Duration = Duration::from_mins(1);

/// The room for asking issuers.
#[derive(Debug)]
pub(crate) struct Rooms {
    all: Semaphore,
    unproven: Semaphore,
    failing: Semaphore,
    /// Only those that somebody asks or waits for.
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    told: Mutex<Option<Instant>>,
}

/// What is known of an issuer's behaviour, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its keys are held.
    Proven,
    /// It was not asked before, or not lately.
    Unproven,
    /// It failed the last time it was asked.
    Failing,
}

/// Leave to ask an issuer, until dropped.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    _host: HostTurn<'a>,
    _lanes: [Option<SemaphorePermit<'a>>; 3],
}

/// There was no room. That is not the issuer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl Default for Rooms {
    fn default() -> Self {
        Self {
            all: Semaphore::new(ALL),
            unproven: Semaphore::new(UNPROVEN),
            failing: Semaphore::new(FAILING),
            hosts: Mutex::default(),
            told: Mutex::default(),
        }
    }
}

impl Rooms {
    /// Leave to ask the host of that URL, when there is room for an issuer of this standing in time.
    pub(crate) async fn enter(&self, url: &str, standing: Standing) -> Result<Room<'_>, NoRoom> {
        let entered = timeout(PATIENCE, async {
            // Whoever waits for his host holds nothing that others wait for. Always in this order, so that none waits in a circle.
            let host = self.host_turn(url).await;
            let failing = lane(&self.failing, standing == Standing::Failing).await;
            let unproven = lane(&self.unproven, standing != Standing::Proven).await;
            let all = lane(&self.all, true).await;
            Room { _host: host, _lanes: [failing, unproven, all] }
        });
        entered.await.map_err(|_| {
            if self.is_to_be_told() {
                tracing::warn!(url, ?standing, "too many issuers answer slowly: keys cannot be asked for in time");
            }
            NoRoom
        })
    }

    async fn host_turn(&self, url: &str) -> HostTurn<'_> {
        let host = Url::parse(url).ok().and_then(|url| url.host_str().map(ToOwned::to_owned)).unwrap_or_default();
        let turns = Arc::clone(self.hosts().entry(host.clone()).or_insert_with(|| Arc::new(Semaphore::new(OF_ONE_HOST))));
        let mut turn = HostTurn { rooms: self, host, turns, permit: None };
        turn.permit = Arc::clone(&turn.turns).acquire_owned().await.ok();
        turn
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Arc<Semaphore>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_to_be_told(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| told.elapsed() >= REMINDER);
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }
}

/// A place in a lane, for those who must pass it. Lanes are never closed.
async fn lane(lane: &Semaphore, applies: bool) -> Option<SemaphorePermit<'_>> {
    if applies { lane.acquire().await.ok() } else { None }
}

/// A turn at a host, or the wait for it. Forgets the host with the last of them.
#[derive(Debug)]
struct HostTurn<'a> {
    rooms: &'a Rooms,
    host: String,
    turns: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for HostTurn<'_> {
    fn drop(&mut self) {
        let mut hosts = self.rooms.hosts();
        self.permit = None;
        // The map's and this one.
        if Arc::strong_count(&self.turns) == 2 {
            hosts.remove(&self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://issuer.example/keys";

    /// Rooms taken by so many issuers of that standing, each on a host of its own.
    async fn taken(rooms: &Rooms, count: usize, standing: Standing) -> Vec<Room<'_>> {
        let mut taken = Vec::new();
        for n in 0..count {
            taken.push(rooms.enter(&format!("https://{n}.example/"), standing).await.unwrap());
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn s72_one_host_has_four_turns_whatever_its_port_and_path() {
        let rooms = Rooms::default();
        let mut taken = Vec::new();
        for url in [URL, "https://issuer.example:8443/keys", "https://issuer.example/a", "https://issuer.example/b"] {
            taken.push(rooms.enter(url, Standing::Proven).await.unwrap());
        }
        let start = Instant::now();
        assert_eq!(rooms.enter(URL, Standing::Proven).await.unwrap_err(), NoRoom);
        assert_eq!(start.elapsed(), PATIENCE);
        rooms.enter("https://other.example/keys", Standing::Failing).await.unwrap();
        assert_eq!(start.elapsed(), PATIENCE, "another host waits for nothing");
        taken.pop();
        rooms.enter(URL, Standing::Proven).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn s72_the_worse_leave_room_for_the_better() {
        for (count, standing, has_room) in [
            (FAILING, Standing::Failing, [false, true, true]),
            (UNPROVEN, Standing::Unproven, [false, false, true]),
            (ALL, Standing::Proven, [false, false, false]),
        ] {
            let rooms = Rooms::default();
            let _taken = taken(&rooms, count, standing).await;
            for (standing, has_room) in [Standing::Failing, Standing::Unproven, Standing::Proven].into_iter().zip(has_room) {
                assert_eq!(rooms.enter(URL, standing).await.is_ok(), has_room, "{count}, {standing:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_are_forgotten_when_nobody_asks_them() {
        let rooms = Rooms::default();
        let taken = taken(&rooms, ALL, Standing::Proven).await;
        assert_eq!(rooms.enter(URL, Standing::Proven).await.unwrap_err(), NoRoom);
        assert_eq!(rooms.hosts().len(), ALL, "nor when a wait for them was in vain");
        drop(taken);
        assert!(rooms.hosts().is_empty());
    }
}
