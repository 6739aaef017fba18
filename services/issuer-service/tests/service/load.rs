//! Twenty rotations under load, as a verifier sees them that honours `max-age` and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign_domain::values::time::{Clock as _, Timestamp};
use countersign_proto::issuer_v1 as wire;
use countersign_testkit::clock::TestClock;
use countersign_testkit::wait;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::harness::{Ground, LEAD, Service, http, path_of, wish, workspace};

const ROTATIONS: usize = 20;
const WORKERS: usize = 4;
/// How far the clock moves at a time; several times within a copy's life.
const STEP: Duration = Duration::from_secs(100);

/// A relying party. It asks for the key set when its copy has expired, and never because of a key that it does not know.
struct Verifier {
    clock: TestClock,
    addresses: [String; 2],
    copy: Mutex<Copy>,
}

struct Copy {
    key_set: Value,
    until: Timestamp,
    fetches: usize,
}

impl Verifier {
    async fn verify(&self, token: &str) {
        let mut copy = self.copy.lock().await;
        let now = self.clock.now();
        if copy.until <= now {
            let fetches = copy.fetches + 1;
            let answer = http().get(&self.addresses[fetches % 2]).send().await.unwrap();
            let cache_control = answer.headers()["cache-control"].to_str().unwrap().to_owned();
            let max_age = cache_control.strip_prefix("public, max-age=").unwrap().parse().unwrap();
            let key_set = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            *copy = Copy { key_set, until: now.checked_add(Duration::from_secs(max_age)).unwrap(), fetches };
        }
        let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(copy.key_set.clone()).unwrap();
        let key = set.find(&kid).unwrap_or_else(|| panic!("{kid} is not in the copy at {now}"));
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        // The clock of the test is not that of the library.
        (validation.validate_exp, validation.validate_aud) = (false, false);
        jsonwebtoken::decode::<Value>(token, &jsonwebtoken::DecodingKey::from_jwk(key).unwrap(), &validation).unwrap();
    }
}

/// What the workers have done so far.
#[derive(Default)]
struct Progress {
    verified: AtomicUsize,
    is_over: AtomicBool,
    signers: Mutex<BTreeSet<String>>,
}

/// Has a replica issue tokens and the verifier verify them, each at once and again when the next one is there.
async fn work(replica: Arc<Service>, issuer: wire::Issuer, verifier: Arc<Verifier>, progress: Arc<Progress>) {
    let mut last: Option<String> = None;
    while !progress.is_over.load(Ordering::SeqCst) {
        let token = replica.issue(wish(&issuer)).await.unwrap().id_token;
        for token in last.iter().chain([&token]) {
            verifier.verify(token).await;
        }
        progress.signers.lock().await.insert(jsonwebtoken::decode_header(&token).unwrap().kid.unwrap());
        progress.verified.fetch_add(1, Ordering::SeqCst);
        last = Some(token);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s56_a_verifier_that_honours_only_max_age_sees_no_failure_through_twenty_rotations() {
    let ground = Ground::sqlite();
    let replicas = [Arc::new(ground.start().await), Arc::new(ground.start().await)];
    let issuer = replicas[0].rwx(&workspace(1)).await;
    let addresses = [0, 1].map(|index: usize| format!("{}{}/.well-known/jwks.json", replicas[index].address, path_of(&issuer)));
    let copy = Mutex::new(Copy { key_set: Value::Null, until: Timestamp::MIN, fetches: 0 });
    let verifier = Arc::new(Verifier { clock: ground.clock.clone(), addresses, copy });
    let progress = Arc::<Progress>::default();
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let (replica, verifier) = (Arc::clone(&replicas[number % 2]), Arc::clone(&verifier));
            tokio::spawn(work(replica, issuer.clone(), verifier, Arc::clone(&progress)))
        })
        .collect();

    let mut next_keys = BTreeSet::new();
    for rotation in 0..ROTATIONS {
        let (next, was_prepared) = replicas[rotation % 2].rotate(&issuer).await.unwrap();
        assert!(!was_prepared, "the one before has taken over");
        // The other replica reads the database often while this clock moves; here it has to be told.
        assert!(replicas[(rotation + 1) % 2].list_keys(&issuer).await.iter().any(|key| key.key_id == next.key_id));
        next_keys.insert(next.key_id);
        let mut waited = Duration::ZERO;
        while waited < LEAD {
            ground.clock.advance(STEP);
            waited += STEP;
            let before = progress.verified.load(Ordering::SeqCst);
            let all_worked = async || {
                assert!(!workers.iter().any(tokio::task::JoinHandle::is_finished), "a verifier saw a failure");
                progress.verified.load(Ordering::SeqCst) >= before + WORKERS
            };
            wait::until("tokens are issued and verified", all_worked).await;
        }
    }
    progress.is_over.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    let signers = progress.signers.lock().await;
    assert!(next_keys.is_subset(&signers) && signers.len() == ROTATIONS + 1, "every key has signed");
    let fetches = verifier.copy.lock().await.fetches;
    let lives = ROTATIONS * usize::try_from(LEAD.as_secs()).unwrap() / 300;
    assert!(fetches <= lives + 1, "{fetches} fetches");
}
