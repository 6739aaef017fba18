//! How much is asked of all issuers together, and how one is kept from having it all (SECURITY 72).
//!
//! A tenant can register many issuers, on servers that answer as slowly as they please. So one host has few turns at a time, of which
//! one tenant cannot have all; one tenant has a share of what issuers take that never answered; those leave room for issuers that did,
//! and issuers that failed the last time leave room for both.

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
/// How many of them ask in the name of one tenant.
const OF_ONE_HOST_AND_TENANT: usize = 3;
/// How many ask issuers that never answered, or failed the last time, in the name of one tenant.
const OF_ONE_TENANT: usize = 24;
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
    /// Only those that a refresh has or waits for.
    turns: Mutex<HashMap<Turns, Arc<Semaphore>>>,
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

/// Whose turns are limited.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Turns {
    Host(String),
    HostForTenant(String, Arc<str>),
    Tenant(Arc<str>),
}

impl Turns {
    const fn most(&self) -> usize {
        match self {
            Self::Host(_) => OF_ONE_HOST,
            Self::HostForTenant(..) => OF_ONE_HOST_AND_TENANT,
            Self::Tenant(_) => OF_ONE_TENANT,
        }
    }
}

/// Leave to ask an issuer, until dropped.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    _turns: Vec<Turn<'a>>,
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
            turns: Mutex::default(),
            told: Mutex::default(),
        }
    }
}

impl Rooms {
    /// Leave to ask the host of that URL in the name of a tenant, when there is room for an issuer of this standing in time.
    pub(crate) async fn enter(&self, url: &str, tenant: Option<&Arc<str>>, standing: Standing) -> Result<Room<'_>, NoRoom> {
        let host = Url::parse(url).ok().and_then(|url| url.host_str().map(ToOwned::to_owned)).unwrap_or_default();
        // A refresh that waits for its tenant's or its host's turn holds nothing that other tenants wait for. Always in this order, so
        // that none waits in a circle.
        let mut wanted = Vec::with_capacity(3);
        if let Some(tenant) = tenant {
            wanted.push(Turns::HostForTenant(host.clone(), Arc::clone(tenant)));
            if standing != Standing::Proven {
                wanted.push(Turns::Tenant(Arc::clone(tenant)));
            }
        }
        wanted.push(Turns::Host(host));
        let entered = timeout(PATIENCE, async {
            let mut turns = Vec::with_capacity(wanted.len());
            for wanted in wanted {
                turns.push(self.turn(wanted).await);
            }
            let failing = lane(&self.failing, standing == Standing::Failing).await;
            let unproven = lane(&self.unproven, standing != Standing::Proven).await;
            let all = lane(&self.all, true).await;
            Room { _turns: turns, _lanes: [failing, unproven, all] }
        });
        entered.await.map_err(|_| {
            if self.is_to_be_told() {
                tracing::warn!(url, ?standing, "too many issuers answer slowly: keys cannot be asked for in time");
            }
            NoRoom
        })
    }

    async fn turn(&self, of: Turns) -> Turn<'_> {
        let most = of.most();
        let turns = Arc::clone(self.turns().entry(of.clone()).or_insert_with(|| Arc::new(Semaphore::new(most))));
        let mut turn = Turn { rooms: self, of, turns, permit: None };
        turn.permit = Arc::clone(&turn.turns).acquire_owned().await.ok();
        turn
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<Turns, Arc<Semaphore>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A turn, or the wait for it. Forgets whose it was with the last of them.
#[derive(Debug)]
struct Turn<'a> {
    rooms: &'a Rooms,
    of: Turns,
    turns: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.rooms.turns();
        self.permit = None;
        // The map's and this one.
        if Arc::strong_count(&self.turns) == 2 {
            turns.remove(&self.of);
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
            taken.push(rooms.enter(&format!("https://{n}.example/"), None, standing).await.unwrap());
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn s72_one_host_has_four_turns_whatever_its_port_and_path() {
        let rooms = Rooms::default();
        let mut taken = Vec::new();
        for url in [URL, "https://issuer.example:8443/keys", "https://issuer.example/a", "https://issuer.example/b"] {
            taken.push(rooms.enter(url, None, Standing::Proven).await.unwrap());
        }
        let start = Instant::now();
        assert_eq!(rooms.enter(URL, None, Standing::Proven).await.unwrap_err(), NoRoom);
        assert_eq!(start.elapsed(), PATIENCE);
        rooms.enter("https://other.example/keys", None, Standing::Failing).await.unwrap();
        assert_eq!(start.elapsed(), PATIENCE, "another host waits for nothing");
        taken.pop();
        rooms.enter(URL, None, Standing::Proven).await.unwrap();
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
                assert_eq!(rooms.enter(URL, None, standing).await.is_ok(), has_room, "{count}, {standing:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn s72_one_tenant_leaves_room_at_its_hosts_and_elsewhere() {
        let rooms = Rooms::default();
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        for standing in [Standing::Unproven, Standing::Failing] {
            let mut taken = Vec::new();
            for n in 0..OF_ONE_TENANT {
                taken.push(rooms.enter(&format!("https://{n}.example/"), Some(&one), standing).await.unwrap());
            }
            let start = Instant::now();
            assert!(rooms.enter(URL, Some(&other), standing).await.is_ok(), "another tenant does not wait");
            assert!(rooms.enter(URL, Some(&one), Standing::Proven).await.is_ok(), "nor what answered before");
            assert_eq!(start.elapsed(), Duration::ZERO);
            assert_eq!(rooms.enter(URL, Some(&one), standing).await.unwrap_err(), NoRoom, "{standing:?}");
        }
        let mut taken = Vec::new();
        for _ in 0..OF_ONE_HOST_AND_TENANT {
            taken.push(rooms.enter(URL, Some(&one), Standing::Proven).await.unwrap());
        }
        let start = Instant::now();
        assert!(rooms.enter(URL, Some(&other), Standing::Unproven).await.is_ok());
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(rooms.enter(URL, Some(&one), Standing::Proven).await.unwrap_err(), NoRoom);
        drop(taken);
        assert!(rooms.turns().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_are_forgotten_when_no_refresh_asks_them() {
        let rooms = Rooms::default();
        let taken = taken(&rooms, ALL, Standing::Proven).await;
        assert_eq!(rooms.enter(URL, None, Standing::Proven).await.unwrap_err(), NoRoom);
        assert_eq!(rooms.turns().len(), ALL, "nor when a wait for them was in vain");
        drop(taken);
        assert!(rooms.turns().is_empty());
    }
}
