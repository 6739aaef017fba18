//! Keeps the [`Directory`] fresh and the keys of issuers as they should be.
//!
//! Every replica polls the database and asks it after its own writes. What is due of an issuer's keys is planned from its picture
//! and written by whichever replica notices; the database takes it only where that picture still holds (SECURITY 57).

#[cfg(test)]
mod canary;
mod due;
mod first_keys;
pub(crate) mod keys;
mod permits;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use countersign_domain::issuing::issuer::KeyCustody;
use countersign_domain::issuing::signing_key::{KeyPolicies, KeyPolicy};
use countersign_domain::values::id::IssuerId;
use countersign_domain::values::time::Clock;
use countersign_jose::KeySet;
use countersign_jose::sealed::KeyEncryptionKeyId;
use countersign_runtime::auth::{KeySource, StateUnknown};
use countersign_runtime::health::Condition;
use countersign_runtime::outage::Outage;
use countersign_store::database::StoreError;
use countersign_store::issuer::{IssuerChanges, IssuerStore};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::causes::Causes;
use crate::custody::{Custody, CustodyError};
use crate::directory::{Directory, LoadedIssuer};
use crate::workspaces::Workspaces;
use first_keys::FirstKeys;
use permits::KeyPermits;

/// How often the database is asked for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A database that answers later than this is as good as down.
const POLL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long after it was last asked the database is asked again for a stranger who misses an issuer.
const STRANGERS_PAUSE: Duration = Duration::from_millis(200);
/// How long a stranger waits for the answer.
const STRANGERS_PATIENCE: Duration = Duration::from_millis(500);
/// How many strangers wait at a time, so that a flood of them leaves room for everybody else (SECURITY 72).
const STRANGERS_WAITING: usize = 64;
/// How many owners revoke at the same time keys that others have to follow. Nothing else delays a revocation (SECURITY 59).
const REVOCATIONS_AT_ONCE: usize = 16;

/// The keeper of all issuers and keys of this replica.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Arc<dyn IssuerStore>,
    custody: Arc<Custody>,
    /// Where the keys of access tokens are kept; issuers of workspaces say it themselves.
    access_token_key_custody: KeyCustody,
    /// Whether documents are exported, so that new keys wait for that.
    exports: bool,
    /// Which workspaces are active; absent where only keys are tested.
    workspaces: Option<Arc<Workspaces>>,
    clock: Arc<dyn Clock>,
    policy: KeyPolicy,
    directory: ArcSwap<Directory>,
    asked: Mutex<Asked>,
    refreshing: tokio::sync::Mutex<()>,
    changed_here: Notify,
    /// The picture was read: what is due may be planned from it.
    picture_read: Notify,
    first_keys: Mutex<HashMap<IssuerId, FirstKeys>>,
    permits: KeyPermits,
    /// Separate, so that a revocation waits for no other key.
    emergencies: KeyPermits,
    /// When a device last made no key of an issuer, or one that was not stored.
    device_failures: Mutex<HashMap<IssuerId, Instant>>,
    strangers: Semaphore,
}

/// When the database was asked. Monotonic, so that no clock jump revives a picture (SECURITY 77).
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The last time.
    tried: Instant,
    /// Whether it answered then.
    answered: bool,
    /// The last time it answered.
    seen: Instant,
}

/// Who misses an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A caller we know: the answer is as of now.
    Caller,
    /// Anybody. However many ask for issuers that nobody made, the database is asked no more than five times a second.
    Stranger,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeeperError {
    /// The database.
    #[error("cannot use the database")]
    Store(#[from] StoreError),
    /// It does not answer.
    #[error("the database does not answer in time")]
    Timeout,
    /// It did not answer when somebody else asked.
    #[error("the database did not answer just now")]
    NotNow,
    /// The key itself.
    #[error("cannot make a signing key")]
    Custody(#[from] CustodyError),
    /// A thread of ours ended early.
    #[error("a task was lost")]
    Lost(#[from] tokio::task::JoinError),
    /// The database was not seen for too long to sign or serve (SECURITY 59).
    #[error("the database was not seen for too long")]
    Stale,
    /// No key was made for the issuer yet.
    #[error("the issuer's first signing key is still being made")]
    NoKeyYet,
    /// No key of the issuer opens and matches.
    #[error("no signing key of the issuer can be used")]
    Unusable,
    /// Deleted meanwhile.
    #[error("the issuer is gone")]
    Gone,
    /// It has no keys, and none are made for its workspace (SECURITY 82).
    #[error("the issuer's workspace is disabled or deleted")]
    NotActive,
    /// It has no keys, and whether any are to be made is not known.
    #[error(transparent)]
    Workspace(#[from] StateUnknown),
    /// Others changed the issuer or its keys again and again.
    #[error("the issuer's keys were changed by others meanwhile")]
    Contended,
}

/// RSA keys take a core for a while: half of the cores, so that signing and serving have the others (SECURITY 72).
fn keys_made_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

impl Keeper {
    pub(crate) fn new(store: Arc<dyn IssuerStore>, custody: Custody, clock: Arc<dyn Clock>, policy: KeyPolicy) -> Self {
        Self {
            access_token_key_custody: KeyCustody::Sealed,
            exports: false,
            workspaces: None,
            store,
            custody: Arc::new(custody),
            clock,
            policy,
            directory: ArcSwap::default(),
            asked: Mutex::new(Asked { tried: Instant::now(), answered: false, seen: Instant::now() }),
            refreshing: tokio::sync::Mutex::new(()),
            changed_here: Notify::new(),
            picture_read: Notify::new(),
            first_keys: Mutex::default(),
            permits: KeyPermits::new(keys_made_at_once()),
            emergencies: KeyPermits::new(REVOCATIONS_AT_ONCE),
            device_failures: Mutex::default(),
            strangers: Semaphore::new(STRANGERS_WAITING),
        }
    }

    /// Says where the keys of access tokens are kept that are made from now on.
    pub(crate) fn with_access_token_keys(self, access_token_key_custody: KeyCustody) -> Self {
        Self { access_token_key_custody, ..self }
    }

    /// Says whether documents are exported.
    pub(crate) fn with_exports(self, exports: bool) -> Self {
        Self { exports, ..self }
    }

    /// Says which workspaces are active: keys are made for no other.
    pub(crate) fn with_workspaces(self, workspaces: Arc<Workspaces>) -> Self {
        Self { workspaces: Some(workspaces), ..self }
    }

    /// Whether documents are exported.
    pub(crate) const fn exports(&self) -> bool {
        self.exports
    }

    /// Whether keys can be kept in this way here.
    pub(crate) fn offers(&self, custody: KeyCustody) -> bool {
        self.custody.offers(custody)
    }

    /// How long verifiers may keep a key set, and replicas go without the database.
    pub(crate) const fn policy(&self) -> KeyPolicy {
        self.policy
    }

    /// All policies that planning has to reckon with, as far as they are known.
    pub(crate) fn policies(&self) -> KeyPolicies {
        self.directory.load().policies(self.policy)
    }

    /// Names the key that private keys are sealed under.
    pub(crate) fn key_encryption_key_id(&self) -> KeyEncryptionKeyId {
        self.custody.key_encryption_key_id()
    }

    /// The picture, unless it is too old to sign or serve by.
    pub(crate) fn directory(&self) -> Result<Arc<Directory>, KeeperError> {
        if self.age() > self.policy.staleness_limit { Err(KeeperError::Stale) } else { Ok(self.directory.load_full()) }
    }

    /// The picture, however old: for metrics.
    pub(crate) fn latest(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// Looks something up; where it is missing, asks the database once.
    pub(crate) async fn find<T>(&self, asker: Asker, find: impl Fn(&Directory) -> Option<T>) -> Result<Option<T>, KeeperError> {
        if let Some(found) = find(&*self.directory()?) {
            return Ok(Some(found));
        }
        let answer = match asker {
            Asker::Caller => self.refresh().await,
            Asker::Stranger => match self.strangers.try_acquire() {
                Ok(_waits) => tokio::time::timeout(STRANGERS_PATIENCE, self.refresh_for_stranger())
                    .await
                    .unwrap_or(Err(KeeperError::NotNow)),
                Err(_too_many) => Ok(()),
            },
        };
        match find(&*self.directory()?) {
            Some(found) => Ok(Some(found)),
            None => answer.map(|()| None),
        }
    }

    /// Asks the database for changes and applies them.
    pub(crate) async fn refresh(&self) -> Result<(), KeeperError> {
        self.refresh_unless_since(Instant::now()).await
    }

    /// Like [`refresh`](Self::refresh), but the database is asked no more than five times a second.
    async fn refresh_for_stranger(&self) -> Result<(), KeeperError> {
        let arrived = Instant::now();
        tokio::time::sleep_until(self.asked().tried + STRANGERS_PAUSE).await;
        self.refresh_unless_since(arrived).await
    }

    /// Asks the database for changes, unless that was done after `since`, perhaps while we waited for our turn.
    async fn refresh_unless_since(&self, since: Instant) -> Result<(), KeeperError> {
        let _turn = self.refreshing.lock().await;
        let last = self.asked();
        if last.tried > since {
            return if last.answered { Ok(()) } else { Err(KeeperError::NotNow) };
        }
        // The picture is as old as the question, not as the answer.
        let tried = Instant::now();
        let result = self.ask().await;
        let answered = result.is_ok();
        let seen = if answered { tried } else { last.seen };
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Asked { tried, answered, seen };
        result
    }

    async fn ask(&self) -> Result<(), KeeperError> {
        let changes_since = async |revision| {
            let answer = tokio::time::timeout(POLL_TIMEOUT, self.store.changes_since(revision)).await;
            answer.map_err(|_| KeeperError::Timeout)?.map_err(KeeperError::from)
        };
        let known = self.directory.load_full();
        let changes = changes_since(known.revision()).await?;
        match changes.revision.cmp(&known.revision()) {
            Ordering::Greater => self.apply(known, changes).await,
            Ordering::Equal => Ok(()),
            Ordering::Less => {
                tracing::warn!("the database is older than it was, as if restored from a backup; reading everything again");
                self.apply(Arc::default(), changes_since(0).await?).await
            }
        }
    }

    async fn apply(&self, known: Arc<Directory>, changes: IssuerChanges) -> Result<(), KeeperError> {
        let (custody, now) = (Arc::clone(&self.custody), self.clock.now());
        let next = tokio::task::spawn_blocking(move || known.with(changes, &custody, now)).await?;
        self.directory.store(Arc::new(next));
        Ok(())
    }

    /// After a write of ours: the sooner this replica knows, the better, but the write stands either way.
    pub(crate) async fn follow_own_write(&self) {
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, cause = %Causes(&error), "cannot read back a change; the next poll will");
        }
        self.changed_here.notify_one();
    }

    /// Follows the database until it is dropped.
    pub(crate) async fn follow(self: Arc<Self>, database: Condition) {
        let reading = Outage::new();
        loop {
            let result = self.refresh().await;
            match &result {
                Ok(()) => {
                    if let Some(lasted) = reading.over() {
                        tracing::info!(lasted_ms = lasted.as_millis(), "the database is back");
                    }
                }
                Err(error) if reading.begins() => {
                    tracing::warn!(%error, cause = %Causes(error), "cannot follow the database; going on from memory");
                }
                Err(error) => tracing::debug!(%error, "still cannot follow the database"),
            }
            database.set(self.age() <= self.policy.staleness_limit);
            if result.is_ok() {
                self.picture_read.notify_one();
            }
            self.render_due().await;
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = self.changed_here.notified() => {}
            }
        }
    }

    /// Opens the keys that wait for a device, until it is dropped. A task of its own: a device may take long.
    pub(crate) async fn follow_device(self: Arc<Self>) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            self.open_waiting().await;
        }
    }

    async fn open_waiting(&self) {
        let known = self.directory.load_full();
        if !known.waits() {
            return;
        }
        let (custody, now) = (Arc::clone(&self.custody), self.clock.now());
        let Ok(opened) = tokio::task::spawn_blocking(move || known.opened_again(&custody, now)).await else { return };
        let _turn = self.refreshing.lock().await;
        let next = self.directory.load().with_opened(opened);
        self.directory.store(Arc::new(next));
    }

    async fn render_due(&self) {
        let _turn = self.refreshing.lock().await;
        if let Some(next) = self.directory.load().as_of(self.clock.now()) {
            self.directory.store(Arc::new(next));
        }
    }

    /// Whether the keys of an issuer may be changed without an order: its workspace is active, or it belongs to none.
    fn check_active(&self, issuer: &LoadedIssuer) -> Result<(), KeeperError> {
        let (Some(workspaces), Some(issuer)) = (&self.workspaces, issuer.of_workspace()) else { return Ok(()) };
        if workspaces.is_active(&issuer.workspace_id)? { Ok(()) } else { Err(KeeperError::NotActive) }
    }

    /// Whether the picture is no older than this.
    pub(crate) fn saw_database_within(&self, age: Duration) -> bool {
        self.asked().answered && self.age() <= age
    }

    fn asked(&self) -> Asked {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn age(&self) -> Duration {
        self.asked().seen.elapsed()
    }
}

/// The keys that verify this deployment's own access tokens, for the administrative RPCs of this very service.
#[derive(Debug)]
pub(crate) struct OwnKeys {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) access_token_issuer: IssuerId,
}

#[async_trait]
impl KeySource for OwnKeys {
    async fn key_set(&self, unknown_key: bool) -> Option<Arc<KeySet>> {
        if unknown_key {
            // Whoever presents a token of an unknown key is a stranger. In vain, the set that is known decides.
            let _ = self.keeper.find(Asker::Stranger, |_| None::<()>).await;
        }
        self.keeper.directory().ok()?.by_id(&self.access_token_issuer)?.verification().cloned()
    }
}
