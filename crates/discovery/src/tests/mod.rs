//! The cache against an issuer that does as it is told, in time that passes when the tests say so.

mod age;
mod crowd;
mod failures;
mod health;
mod second_level;
mod unknown_keys;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use countersign_cache::key_set_cache::KeySetCache;
use countersign_domain::values::issuer_url::{IssuerUrl, KeySetUrl, LoopbackHttp};
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_jose::KeySet;
use countersign_testkit::clock::SeededEntropy;
use countersign_testkit::signer::Signer;
use serde_json::{Value, json};

use crate::discovery::{Discovery, DiscoverySettings};
use crate::fetch::{Fetch, FetchError, Fetched, Stored, Wanted};
use crate::source::KeySetSource;

const ISSUER: &str = "https://issuer.example";
const KEYS: &str = "https://issuer.example/keys";
/// How long the issuer says that its key set is fresh.
const LIFETIME: Duration = Duration::from_mins(5);

/// How the issuer answers.
#[derive(Debug, Clone)]
enum Answer {
    Honest,
    Late(Duration),
    Fails,
    Body(Vec<u8>),
    Panics,
}

#[derive(Debug)]
struct Issuer {
    keys: Mutex<Vec<Value>>,
    answer: Mutex<Answer>,
    /// Where the discovery document says the keys are, and where they are.
    key_set_url: Mutex<(String, String)>,
    documents: AtomicUsize,
    key_sets: AtomicUsize,
    past_stores: AtomicUsize,
    /// Whether its host is one of the public internet.
    is_public: AtomicBool,
}

impl Issuer {
    fn with_keys(key_ids: &[&str]) -> Arc<Self> {
        let issuer = Self {
            keys: Mutex::default(),
            is_public: AtomicBool::new(true),
            answer: Mutex::new(Answer::Honest),
            key_set_url: Mutex::new((KEYS.to_owned(), KEYS.to_owned())),
            documents: AtomicUsize::new(0),
            key_sets: AtomicUsize::new(0),
            past_stores: AtomicUsize::new(0),
        };
        issuer.publish(key_ids);
        Arc::new(issuer)
    }

    fn publish(&self, key_ids: &[&str]) {
        let jwk = |key_id: &&str| Signer::new(SignatureAlgorithm::Es256, key_id).public_jwk();
        *self.keys.lock().unwrap() = key_ids.iter().map(jwk).collect();
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How many discovery documents and key sets were asked for.
    fn asked(&self) -> (usize, usize) {
        (self.documents.load(Ordering::SeqCst), self.key_sets.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Fetch for Issuer {
    async fn fetch(&self, Wanted { url, stored, reach, .. }: Wanted<'_>) -> Result<Fetched, FetchError> {
        if self.is_public.load(Ordering::SeqCst) {
            reach.note_public();
        } else {
            reach.begin();
        }
        let (named, actual) = self.key_set_url.lock().unwrap().clone();
        let is_document = url.ends_with("/.well-known/openid-configuration");
        let counter = if is_document { &self.documents } else { &self.key_sets };
        counter.fetch_add(1, Ordering::SeqCst);
        if stored == Stored::Refused {
            self.past_stores.fetch_add(1, Ordering::SeqCst);
        }
        let answer = self.answer.lock().unwrap().clone();
        let honest = if is_document {
            json!({ "issuer": ISSUER, "jwks_uri": named })
        } else if url == actual || url != named {
            json!({ "keys": *self.keys.lock().unwrap() })
        } else {
            return Err(FetchError::Status(404));
        };
        let honest = honest.to_string().into_bytes();
        let bytes = match answer {
            Answer::Late(delay) => {
                tokio::time::sleep(delay).await;
                honest
            }
            Answer::Body(body) if !is_document => body,
            Answer::Honest | Answer::Body(_) => honest,
            Answer::Fails => return Err(FetchError::Status(503)),
            Answer::Panics => panic!("the fetcher was told to panic"),
        };
        Ok(Fetched { bytes, lifetime: LIFETIME })
    }
}

fn discovery(issuer: &Arc<Issuer>, second_level: Option<Arc<dyn KeySetCache>>, seed: u64) -> Discovery {
    let fetcher: Arc<dyn Fetch> = Arc::clone(issuer) as Arc<dyn Fetch>;
    Discovery::with_fetcher(fetcher, &DiscoverySettings::default(), second_level, Arc::new(SeededEntropy::new(seed)))
}

fn alone(issuer: &Arc<Issuer>) -> Discovery {
    discovery(issuer, None, 1)
}

fn source() -> KeySetSource {
    KeySetSource::new(IssuerUrl::parse(ISSUER, LoopbackHttp::Refused).unwrap(), None)
}

fn pinned_source(jwks_url: &str) -> KeySetSource {
    let jwks_url = KeySetUrl::parse(jwks_url, LoopbackHttp::Refused).unwrap();
    KeySetSource::new(IssuerUrl::parse(ISSUER, LoopbackHttp::Refused).unwrap(), Some(jwks_url))
}

fn key_ids(key_set: &KeySet) -> Vec<String> {
    key_set.key_ids().map(ToString::to_string).collect()
}

/// The key ids that a caller would get now.
async fn held(discovery: &Discovery) -> Vec<String> {
    key_ids(&discovery.key_set(&source()).await.unwrap())
}

/// Lets what runs in the background end, as long as it waits for no time.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn pass(duration: Duration) {
    tokio::time::advance(duration).await;
    settle().await;
}
