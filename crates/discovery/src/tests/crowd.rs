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

/// Asks for the keys of many, without waiting for any.
async fn ask_for(discovery: &Discovery, count: usize, url: impl Fn(usize) -> String) {
    for n in 0..count {
        let (discovery, source) = (discovery.clone(), pinned_source(&url(n)));
        tokio::spawn(async move { discovery.key_set(&source).await });
    }
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn s72_many_issuers_on_one_slow_host_keep_nobody_waiting() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    ask_for(&discovery, 1_000, |n| format!("https://one.slow.example/{n}")).await;
    assert_eq!(crowd.asked_of_all("slow"), 4);
    let start = Instant::now();
    discovery.key_set(&pinned_source(HONEST)).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn s72_an_issuer_that_could_not_be_asked_in_time_did_not_fail() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    ask_for(&discovery, 1_000, |n| format!("https://{n}.slow.example/")).await;
    let start = Instant::now();
    assert_eq!(discovery.key_set(&pinned_source(HONEST)).await.unwrap_err(), KeysUnavailable);
    assert_eq!((start.elapsed(), crowd.asked(HONEST)), (Duration::from_secs(5), 0));
    // As soon as there is room it is asked: there is no back-off.
    crowd.released.send_replace(true);
    settle().await;
    let start = Instant::now();
    discovery.key_set(&pinned_source(HONEST)).await.unwrap();
    assert_eq!((start.elapsed(), crowd.asked(HONEST)), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn s72_the_wait_for_room_is_not_the_issuers() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    let one_too_many = "https://one.slow.example/late";
    ask_for(&discovery, 4, |n| format!("https://one.slow.example/{n}")).await;
    pass(Duration::from_secs(1)).await;
    ask_for(&discovery, 1, |_| one_too_many.to_owned()).await;
    // The four run into their limit, and the fifth, which waited for four seconds, has five of its own.
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
async fn s72_issuers_whose_keys_are_held_are_refreshed_while_strangers_take_what_room_they_can() {
    let crowd = Crowd::new();
    let discovery = crowd.discovery();
    discovery.key_set(&pinned_source(HONEST)).await.unwrap();
    pass(LIFETIME).await;
    ask_for(&discovery, 1_000, |n| format!("https://{n}.slow.example/")).await;
    let start = Instant::now();
    discovery.key_set(&pinned_source(HONEST)).await.unwrap();
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
