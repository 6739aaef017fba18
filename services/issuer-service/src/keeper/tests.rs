//! Processes that are killed in the middle of a rotation, and what their tokens are worth afterwards.
//!
//! Time is a clock set by hand; the database is a real one. A process is a [`Keeper`] with a connection that falls silent at a
//! chosen call, before or after the database has done what it was asked; then the process is gone, and another one starts.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use countersign_domain::issuing::issuer::{Issuer, IssuerDraft, IssuerSettings};
use countersign_domain::issuing::signing_key::{ServedKeySets, SigningKeyState, signer};
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm::Es256;
use countersign_domain::values::time::{Entropy, Timestamp};
use countersign_domain::values::violation::Violations;
use countersign_jose::sealed::KeyEncryptionKey;
use countersign_store::issuer::{
    ChangeKeysOutcome, CreateOutcome, IssuerChanges, IssuerPosition, KeyChange, SeaIssuerStore, WriteOutcome,
};
use countersign_testkit::clock::{SeededEntropy, TestClock};
use countersign_testkit::postgres::Postgres;
use serde_json::{Value, json};

use super::*;
use crate::directory::LoadedIssuer;

const POLICY: KeyPolicy = KeyPolicy { key_set_max_age: Duration::from_mins(5), staleness_limit: Duration::from_mins(15) };
/// That of the process that is killed, in some histories: settings were changed, and copies of its key sets outlive it.
const FORMER_POLICY: KeyPolicy = KeyPolicy { key_set_max_age: Duration::from_hours(2), staleness_limit: Duration::from_mins(20) };
const TOKEN_LIFETIME: Duration = IssuerSettings::MAX_TOKEN_DURATION_LIMIT;
/// How many of its calls of the database a process may live to see: about as many as a few rotations make.
const CALLS: usize = 24;
/// How many things happen before the clock runs on.
const EVENTS: usize = 40;

/// A connection to the database that falls silent at one of its calls.
#[derive(Debug)]
struct Mortal {
    store: SeaIssuerStore,
    /// Calls until then.
    left: AtomicUsize,
    /// Whether the last one is carried out, though nobody hears of it.
    is_last_done: bool,
    killed: Notify,
}

impl Mortal {
    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let left = self.left.fetch_update(SeqCst, SeqCst, |left| Some(left.saturating_sub(1)));
        match left {
            Ok(left) if left > 1 => return call.await,
            Ok(1) if self.is_last_done => drop(call.await),
            _ => {}
        }
        self.killed.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl IssuerStore for Mortal {
    async fn create_issuer(&self, issuer: &Issuer) -> Result<CreateOutcome, StoreError> {
        self.call(self.store.create_issuer(issuer)).await
    }

    async fn get_issuer(&self, workspace_id: &WorkspaceId, id: &IssuerId) -> Result<Option<Issuer>, StoreError> {
        self.call(self.store.get_issuer(workspace_id, id)).await
    }

    async fn list_issuers(
        &self,
        workspace_id: &WorkspaceId,
        after: Option<&IssuerPosition>,
        limit: u64,
    ) -> Result<Vec<Issuer>, StoreError> {
        self.call(self.store.list_issuers(workspace_id, after, limit)).await
    }

    async fn update_issuer(&self, issuer: &Issuer, expected_revision: i64) -> Result<WriteOutcome, StoreError> {
        self.call(self.store.update_issuer(issuer, expected_revision)).await
    }

    async fn delete_issuer(
        &self,
        workspace_id: &WorkspaceId,
        id: &IssuerId,
        expected_revision: Option<i64>,
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        self.call(self.store.delete_issuer(workspace_id, id, expected_revision, now)).await
    }

    async fn set_published_until(&self, id: &IssuerId, until: Option<Timestamp>) -> Result<(), StoreError> {
        self.call(self.store.set_published_until(id, until)).await
    }

    async fn ensure_access_token_issuer(
        &self,
        issuer_url: &IssuerUrl,
        id: &IssuerId,
        now: Timestamp,
    ) -> Result<Option<IssuerId>, StoreError> {
        self.call(self.store.ensure_access_token_issuer(issuer_url, id, now)).await
    }

    async fn change_signing_keys(
        &self,
        issuer_id: &IssuerId,
        as_of: i64,
        changes: &[KeyChange],
    ) -> Result<ChangeKeysOutcome, StoreError> {
        self.call(self.store.change_signing_keys(issuer_id, as_of, changes)).await
    }

    async fn reseal_signing_key(
        &self,
        issuer_id: &IssuerId,
        key_id: &KeyId,
        sealed: &[u8],
        resealed: Vec<u8>,
    ) -> Result<bool, StoreError> {
        self.call(self.store.reseal_signing_key(issuer_id, key_id, sealed, resealed)).await
    }

    async fn note_served_key_sets(&self, served: ServedKeySets) -> Result<(), StoreError> {
        self.call(self.store.note_served_key_sets(served)).await
    }

    async fn changes_since(&self, revision: i64) -> Result<IssuerChanges, StoreError> {
        self.call(self.store.changes_since(revision)).await
    }
}

/// A replica, and when it last saw the database by the clock of the test.
struct Process {
    keeper: Arc<Keeper>,
    connection: Arc<Mortal>,
    policy: KeyPolicy,
    is_started: bool,
    seen: Timestamp,
}

/// A token that was handed out.
struct Token {
    text: String,
    key_id: KeyId,
    expires_at: Timestamp,
}

/// A verifier's copy of the key set, which it keeps for as long as it was told it may.
struct Copy {
    key_set: Value,
    until: Timestamp,
}

/// What may be done to an issuer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operators {
    Rotate,
    RotateAndRevoke,
}

struct World {
    clock: TestClock,
    store: SeaIssuerStore,
    issuer_id: IssuerId,
    dice: SeededEntropy,
    operators: Operators,
    processes: Vec<Process>,
    tokens: Vec<Token>,
    revoked: Vec<KeyId>,
    copy: Option<Copy>,
    killed: usize,
}

impl World {
    async fn new(store: SeaIssuerStore, seed: u64, operators: Operators) -> Self {
        let draft = IssuerDraft {
            algorithms: vec!["ES256".to_owned()],
            max_token_duration: Some(Ok(TOKEN_LIFETIME)),
            rotation_period: Some(Ok(Duration::from_hours(24))),
            ..IssuerDraft::default()
        };
        let clock = TestClock::noon();
        let issuer = Issuer {
            id: IssuerId::from_random([1; 16]),
            workspace_id: WorkspaceId::from_random([1; 16]),
            issuer_url: "https://id.example.com/a".parse().unwrap(),
            profile: "rwx".parse().unwrap(),
            former_subjects: Vec::new(),
            settings: IssuerSettings::create(&draft, "rwx".parse().ok().as_ref(), &mut Violations::new()).unwrap(),
            revision: 1,
            created_at: clock.now(),
            updated_at: clock.now(),
            published_until: None,
        };
        store.create_issuer(&issuer).await.unwrap();
        let mut world = Self {
            clock,
            store,
            issuer_id: issuer.id,
            dice: SeededEntropy::new(seed),
            operators,
            processes: Vec::new(),
            tokens: Vec::new(),
            revoked: Vec::new(),
            copy: None,
            killed: 0,
        };
        let policy = if world.below(2) == 0 { FORMER_POLICY } else { POLICY };
        world.processes = vec![world.process(world.below(CALLS) + 1, policy), world.process(usize::MAX, POLICY)];
        world
    }

    /// A number from zero up to but not including this one.
    fn below(&self, limit: usize) -> usize {
        let mut bytes = [0; 4];
        self.dice.fill(&mut bytes);
        usize::try_from(u32::from_le_bytes(bytes)).unwrap() % limit
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A process that lives to see this many calls of the database.
    fn process(&self, calls: usize, policy: KeyPolicy) -> Process {
        let connection = Arc::new(Mortal {
            store: self.store.clone(),
            left: AtomicUsize::new(calls),
            is_last_done: self.below(2) == 0,
            killed: Notify::new(),
        });
        let custody = Custody::new(KeyEncryptionKey::from_bytes(&[7; 32]).unwrap(), None);
        let store: Arc<dyn IssuerStore> = Arc::<Mortal>::clone(&connection);
        let keeper = Arc::new(Keeper::new(store, custody, Arc::new(self.clock.clone()), policy));
        Process { keeper, connection, policy, is_started: false, seen: Timestamp::MIN }
    }

    /// Has a process do something. Should it be killed by that, another one takes its place.
    async fn have(&mut self, index: usize, work: impl AsyncFnOnce(Arc<Keeper>)) {
        let Process { keeper, connection, is_started, .. } = &self.processes[index];
        let work = async {
            if !is_started {
                keeper.refresh().await.unwrap();
                keeper.note_serving().await.unwrap();
            }
            work(Arc::clone(keeper)).await;
        };
        let survives = tokio::select! {
            () = work => true,
            () = connection.killed.notified() => false,
        };
        if survives {
            self.processes[index].is_started = true;
        } else {
            self.processes[index] = self.process(usize::MAX, POLICY);
            self.killed += 1;
        }
    }

    /// What the task that follows the database does each second.
    async fn poll(&mut self, index: usize) {
        self.have(index, async |keeper| {
            keeper.refresh().await.unwrap();
            keeper.take_due_steps(&mut due::Rounds::default()).await;
            keeper.render_due().await;
        })
        .await;
        if self.processes[index].is_started {
            self.processes[index].seen = self.now();
        }
    }

    async fn all_poll(&mut self) {
        for index in 0..self.processes.len() {
            self.poll(index).await;
        }
    }

    /// The issuer as a process has it, if that saw the database recently enough to sign and serve.
    fn fresh(&self, index: usize) -> Option<Arc<LoadedIssuer>> {
        let Process { keeper, policy, seen, .. } = &self.processes[index];
        let limit = seen.checked_add(policy.staleness_limit).unwrap_or(Timestamp::MAX);
        let issuer = keeper.directory().unwrap().by_id(&self.issuer_id).cloned();
        issuer.filter(|_| self.now() <= limit)
    }

    /// The same, if it publishes anything. Before, it would read the database again for whoever asks.
    fn serving(&self, index: usize) -> Option<Arc<LoadedIssuer>> {
        self.fresh(index).filter(|issuer| !issuer.is_unused())
    }

    async fn something_happens(&mut self) {
        let index = self.below(self.processes.len());
        match self.below(10) {
            0..3 => self.poll(index).await,
            3..6 => self.issue(index).await,
            6 => {
                let id = self.issuer_id.clone();
                self.have(index, async |keeper| drop(keeper.rotate(&id, Es256).await.unwrap())).await;
            }
            7 if self.operators == Operators::RotateAndRevoke => self.revoke(index).await,
            8 => self.clock.advance(Duration::from_secs(u64::try_from(self.below(6 * 3600)).unwrap())),
            _ => self.clock.advance(Duration::from_secs(u64::try_from(self.below(900)).unwrap())),
        }
        self.check_all_tokens();
    }

    async fn issue(&mut self, index: usize) {
        if self.fresh(index).is_none() {
            return self.poll(index).await;
        }
        let id = self.issuer_id.clone();
        self.have(index, async |keeper| {
            let issuer = keeper.directory().unwrap().by_id(&id).cloned().unwrap();
            keeper.in_use(issuer).await.unwrap();
        })
        .await;
        let Some(issuer) = self.fresh(index) else { return };
        let now = self.now();
        let Some(key) = issuer.default_signer(now) else { panic!("no key signs at {now}") };
        let expires_at = now.checked_add(TOKEN_LIFETIME).unwrap();
        let claims = serde_json::to_vec(&json!({"sub": "a", "exp": expires_at.as_second()})).unwrap();
        let token = Token { text: key.sign("JWT", &claims).unwrap(), key_id: key.key_id().clone(), expires_at };
        assert!(verifies(&token, &key_set(&issuer)), "the signer is published");
        if self.operators == Operators::Rotate {
            let copy = self.copy_of_verifier();
            assert!(verifies(&token, &copy), "a verifier that honours only max-age sees no failure (SECURITY 56)");
        }
        self.tokens.push(token);
    }

    /// The copy that a verifier has, fetched anew from any replica when it has expired.
    fn copy_of_verifier(&mut self) -> Value {
        let now = self.now();
        if self.copy.as_ref().is_none_or(|copy| copy.until <= now) {
            let indices: Vec<_> = (0..self.processes.len()).filter(|&index| self.serving(index).is_some()).collect();
            let index = indices[self.below(indices.len())];
            let issuer = self.serving(index).unwrap();
            let until = now.checked_add(self.processes[index].policy.key_set_max_age).unwrap();
            self.copy = Some(Copy { key_set: key_set(&issuer), until });
        }
        self.copy.as_ref().unwrap().key_set.clone()
    }

    async fn revoke(&mut self, index: usize) {
        let Some(issuer) = self.fresh(index) else { return };
        let records = issuer.records();
        if records.is_empty() {
            return;
        }
        let key_id = match signer(self.now(), records, Es256) {
            Some(signer) if self.below(2) == 0 => signer.key_id.clone(),
            _ => records[self.below(records.len())].key_id.clone(),
        };
        let id = self.issuer_id.clone();
        let before = self.killed;
        self.have(index, async |keeper| drop(keeper.revoke(&id, &key_id).await.unwrap().expect("there is such a key"))).await;
        if self.killed == before {
            self.revoked.push(key_id);
        }
        // Within a second or so.
        self.all_poll().await;
    }

    /// On every replica that can serve, each token that lives has its key in the key set, unless it was revoked.
    fn check_all_tokens(&self) {
        for index in 0..self.processes.len() {
            let Some(issuer) = self.serving(index) else { continue };
            let is_revoked = |key_id: &KeyId| {
                issuer.records().iter().any(|key| key.key_id == *key_id && key.state(self.now()) == SigningKeyState::Revoked)
            };
            let key_set = key_set(&issuer);
            let keys: Vec<_> = key_set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
            for token in self.tokens.iter().filter(|token| token.expires_at > self.now()) {
                // The id of a key is a hash of it, so whoever has the id has the key.
                let published = keys.contains(&token.key_id.as_str());
                assert_eq!(published, !is_revoked(&token.key_id), "{} at {}", token.key_id, self.now());
            }
        }
    }

    /// Until the last token has expired.
    async fn run_out(&mut self) {
        for index in 0..self.processes.len() {
            self.issue(index).await;
        }
        for _ in 0..6 {
            self.all_poll().await;
            for index in 0..self.processes.len() {
                // One that was killed by its poll begins anew.
                let Some(issuer) = self.fresh(index) else { continue };
                assert!(issuer.default_signer(self.now()).is_some(), "no key signs at {}", self.now());
                let state = |key_id: &KeyId| issuer.records().iter().find(|key| key.key_id == *key_id).unwrap().state(self.now());
                assert!(self.revoked.iter().all(|key_id| state(key_id) == SigningKeyState::Revoked));
            }
            self.check_all_tokens();
            self.clock.advance(TOKEN_LIFETIME / 5);
        }
    }
}

fn key_set(issuer: &LoadedIssuer) -> Value {
    serde_json::from_slice(&issuer.documents().expect("keys are published").key_set.bytes).unwrap()
}

/// Whether a library that has no part in making it accepts a token by this key set.
fn verifies(token: &Token, key_set: &Value) -> bool {
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(key_set.clone()).unwrap();
    let Some(key) = set.find(token.key_id.as_str()) else { return false };
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    // The clock of the test is not that of the library.
    validation.validate_exp = false;
    jsonwebtoken::decode::<Value>(&token.text, &jsonwebtoken::DecodingKey::from_jwk(key).unwrap(), &validation).is_ok()
}

/// Runs one history, and says how many processes were killed in it.
async fn run(store: SeaIssuerStore, seed: u64, operators: Operators) -> usize {
    let mut world = World::new(store, seed, operators).await;
    for _ in 0..EVENTS {
        world.something_happens().await;
    }
    assert!(!world.tokens.is_empty());
    world.run_out().await;
    world.killed
}

async fn in_memory() -> SeaIssuerStore {
    SeaIssuerStore::open(&"sqlite::memory:".parse().unwrap()).await.unwrap()
}

async fn on_postgresql() -> SeaIssuerStore {
    let url = tokio::task::spawn_blocking(|| Postgres::shared().database()).await.unwrap();
    SeaIssuerStore::open(&url.parse().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_killed_at_any_point_of_a_rotation_no_token_is_left_without_its_key() {
    let mut killed = 0;
    for seed in 0..100 {
        killed += run(in_memory().await, seed, Operators::Rotate).await;
    }
    assert!(killed > 90, "{killed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s59_killed_at_any_point_of_a_revocation_some_key_signs_and_the_revoked_one_does_not() {
    let mut killed = 0;
    for seed in 1000..1020 {
        killed += run(in_memory().await, seed, Operators::RotateAndRevoke).await;
    }
    assert!(killed > 15, "{killed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_killed_at_any_point_of_a_rotation_on_postgresql() {
    let mut killed = 0;
    for seed in 2000..2002 {
        killed += run(on_postgresql().await, seed, Operators::RotateAndRevoke).await;
    }
    assert!(killed > 0);
}
