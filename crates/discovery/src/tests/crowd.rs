//! Very many issuers at a time, most of them ill-disposed (SECURITY 72).

use std::collections::HashMap;

use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::discovery::KeysUnavailable;

/// Answers by host: `*.slow.example` when told to, `*.down.example` never, the others at once.
#[derive(Debug)]
struct Crowd {
    released: watch::Sender<bool>,
    asked: Mutex<HashMap<String, usize>>,
}

impl Crowd {
    fn new() -> Arc<Self> {
        Arc::new(Self { released: watch::Sender::new(false), asked: Mutex::default() })
    }

    fn discovery(self: &Arc<Self>) -> Discovery {
        let fetcher: Arc<dyn Fetch> = Arc::clone(self) as Arc<dyn Fetch>;
        Discovery::with_fetcher(fetcher, &DiscoverySettings::default(), None, Arc::new(SeededEntropy::new(1)))
    }

    /// How often that URL was asked.
    fn asked(&self, url: &str) -> usize {
        self.asked.lock().unwrap().get(url).copied().unwrap_or_default()
    }

    /// How often any URL with that text was asked.
    fn asked_of_all(&self, text: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(url, _)| url.contains(text)).map(|(_, count)| count).sum()
    }
}

#[async_trait]
impl Fetch for Crowd {
    async fn fetch(&self, Wanted { url, .. }: Wanted<'_>) -> Result<Fetched, FetchError> {
        *self.asked.lock().unwrap().entry(url.to_owned()).or_default() += 1;
        if url.contains(".slow.example") {
            self.released.subscribe().wait_for(|released| *released).await.unwrap();
        }
        if url.contains(".down.example") {
            return Err(FetchError::Status(503));
        }
        Ok(Fetched { bytes: br#"{"keys":[]}"#.to_vec(), lifetime: LIFETIME })
    }
}

const HONEST: &str = "https://honest.example/keys";

/// Asks for the keys of many in the name of one tenant, without waiting for any.
async fn ask_for(discovery: &Discovery, count: usize, url: impl Fn(usize) -> String) {
    ask_for_tenants(discovery, count, |_| "crowd".to_owned(), url).await;
}

async fn ask_for_tenants(discovery: &Discovery, count: usize, tenant: impl Fn(usize) -> String, url: impl Fn(usize) -> String) {
    for n in 0..count {
        let (discovery, source) = (discovery.clone(), pinned_source(&url(n)).for_tenant(&tenant(n)));
        tokio::spawn(async move { discovery.key_set(&source).await });
    }
    settle().await;
}

fn honest_source() -> KeySetSource {
    pinned_source(HONEST).for_tenant("honest")
}

#[tokio::test(start_paused = true)]
async fn s72_many_issuers_on_one_slow_host_keep_nobody_waiting() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    ask_for(&discovery, 1_000, |n| format!("https://one.slow.example/{n}")).await;
    assert_eq!(crowd.asked_of_all("slow"), 3, "one turn at the host is left to other tenants");
    let start = Instant::now();
    discovery.key_set(&honest_source()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn s72_an_issuer_that_could_not_be_asked_in_time_did_not_fail() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    // As many tenants as it takes to have every turn, and fewer callers than are let wait.
    ask_for_tenants(&discovery, 200, |n| format!("crowd-{n}"), |n| format!("https://{n}.slow.example/")).await;
    let start = Instant::now();
    assert_eq!(discovery.key_set(&honest_source()).await.unwrap_err(), KeysUnavailable);
    assert_eq!((start.elapsed(), crowd.asked(HONEST)), (Duration::from_secs(5), 0));
    // As soon as there is room it is asked: there is no back-off.
    crowd.released.send_replace(true);
    settle().await;
    let start = Instant::now();
    discovery.key_set(&honest_source()).await.unwrap();
    assert_eq!((start.elapsed(), crowd.asked(HONEST)), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn s72_s85_one_tenants_silent_issuers_delay_no_other_tenants_first_keys() {
    for issuers in [1, 200, 1_000] {
        let crowd = Crowd::new();
        let discovery = crowd.discovery();
        // Ten callers for each issuer, or a thousand for the only one.
        let callers = if issuers == 1 { 1_000 } else { 10 * issuers };
        ask_for(&discovery, callers, |n| format!("https://{}.slow.example/", n % issuers)).await;
        assert!(discovery.count_waiting().0 <= 192, "{issuers}: {:?}", discovery.count_waiting());
        let start = Instant::now();
        discovery.key_set(&honest_source()).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO, "{issuers}");
    }
}

#[tokio::test(start_paused = true)]
async fn s72_a_caller_beyond_the_limit_gets_no_keys_immediately() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    let silent = "https://one.slow.example/";
    ask_for(&discovery, 500, |_| silent.to_owned()).await;
    assert_eq!(discovery.count_waiting(), (128, 372));
    for _ in 0..10 {
        let start = Instant::now();
        let source = pinned_source(silent).for_tenant("crowd");
        assert_eq!(discovery.key_set(&source).await.unwrap_err(), KeysUnavailable);
        assert_eq!(discovery.refresh_for_unknown_key(&source, Some("x")).await.unwrap_err(), KeysUnavailable);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
    assert_eq!(crowd.asked(silent), 1, "they share one attempt");
    crowd.released.send_replace(true);
    settle().await;
    assert_eq!(discovery.count_waiting().0, 0);
    discovery.key_set(&pinned_source(silent)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn s72_few_callers_wait_a_second_for_an_issuer_that_never_answered_the_last_time() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    let silent = "https://one.slow.example/";
    ask_for(&discovery, 1, |_| silent.to_owned()).await;
    pass(Duration::from_secs(5)).await;
    // Left alone: no caller waits at all.
    let start = Instant::now();
    assert_eq!(discovery.key_set(&pinned_source(silent)).await.unwrap_err(), KeysUnavailable);
    assert_eq!((start.elapsed(), crowd.asked(silent)), (Duration::ZERO, 1));
    // Asked again.
    pass(Duration::from_secs(1)).await;
    ask_for(&discovery, 500, |_| silent.to_owned()).await;
    assert_eq!((discovery.count_waiting().0, crowd.asked(silent)), (8, 2));
    pass(Duration::from_secs(1)).await;
    assert_eq!(discovery.count_waiting().0, 0);
}

#[tokio::test(start_paused = true)]
async fn s72_the_wait_for_room_is_not_the_issuers() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    let one_too_many = "https://one.slow.example/late";
    ask_for(&discovery, 3, |n| format!("https://one.slow.example/{n}")).await;
    pass(Duration::from_secs(1)).await;
    ask_for(&discovery, 1, |_| one_too_many.to_owned()).await;
    // The three run into their limit, and the fourth, which waited for four seconds, has five of its own.
    pass(Duration::from_secs(4)).await;
    assert_eq!(crowd.asked(one_too_many), 1);
    pass(Duration::from_secs(4)).await;
    crowd.released.send_replace(true);
    settle().await;
    let start = Instant::now();
    discovery.key_set(&pinned_source(one_too_many)).await.unwrap();
    assert_eq!((start.elapsed(), crowd.asked(one_too_many)), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn s72_issuers_whose_keys_are_held_are_refreshed_while_others_take_every_other_turn() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    discovery.key_set(&honest_source()).await.unwrap();
    pass(LIFETIME).await;
    ask_for_tenants(&discovery, 200, |n| format!("crowd-{n}"), |n| format!("https://{n}.slow.example/")).await;
    let start = Instant::now();
    discovery.key_set(&honest_source()).await.unwrap();
    assert_eq!((start.elapsed(), crowd.asked(HONEST)), (Duration::ZERO, 2));
}

#[tokio::test(start_paused = true)]
async fn s37_s72_being_forgotten_ends_no_back_off_and_takes_no_keys_from_those_in_use() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    let failing = "https://0.down.example/";
    discovery.key_set(&pinned_source(HONEST)).await.unwrap();
    for _ in 0..6 {
        discovery.key_set(&pinned_source(failing)).await.unwrap_err();
        pass(Duration::from_secs(20)).await;
    }
    assert_eq!(crowd.asked(failing), 6, "left alone for a good while from now");
    discovery.key_set(&pinned_source(failing)).await.unwrap_err();
    let asked = crowd.asked(failing);
    for n in 1..10_000 {
        discovery.key_set(&pinned_source(&format!("https://{n}.down.example/"))).await.unwrap_err();
    }
    discovery.key_set(&pinned_source(failing)).await.unwrap_err();
    assert_eq!(crowd.asked(failing), asked, "asked again, as if it had not failed");
    discovery.key_set(&pinned_source(HONEST)).await.unwrap();
    assert_eq!(crowd.asked(HONEST), 1, "forgotten for the sake of issuers without keys");
}
