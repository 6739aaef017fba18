//! What is done to the keys of issuers: the first ones made, what is due written, one followed by another, one revoked.
//!
//! Everything is planned by [`Keyring`](countersign_domain::signing_key::Keyring), a pure function of the picture and the time,
//! and written in one transaction, which the database refuses where the issuer changed since. So of two replicas that do the same
//! thing one does it, and whoever is killed leaves all of it done or nothing.

use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use countersign_domain::id::IssuerId;
use countersign_domain::issuer::KeyCustody;
use countersign_domain::name::KeyId;
use countersign_domain::signing_key::{KeyStep, Rotation, RotationRefused, ServedKeySets};
use countersign_domain::time::Timestamp;
use countersign_domain::trusted_issuer::SignatureAlgorithm;
use countersign_runtime::outage::Outage;
use countersign_store::issuer::{ChangeKeysOutcome, ChangedIssuer, IssuerIdentity, KeyChange, SealedSigningKey};
use tokio::time::Instant;

use super::{Keeper, KeeperError};
use crate::causes::Causes;
use crate::custody::{Custody, CustodyError};
use crate::directory::{Directory, LoadedIssuer};

/// How often something is planned anew because another replica changed the issuer meanwhile.
const ATTEMPTS: usize = 8;
/// For how much longer than a replica can go without the database it notes that key sets may be handed out: twice the time between
/// two notes.
const NOTED_AHEAD: Duration = Duration::from_hours(1);
/// How long after it failed a device is not asked again for a key of the same issuer.
const DEVICE_PAUSE: Duration = Duration::from_secs(10);
/// How long keys are made between two polls: many issuers may be due at once, and a revocation must not wait for them (SECURITY
/// 59).
const BUDGET: Duration = Duration::from_millis(500);

/// A key that was asked for.
#[derive(Debug)]
pub(crate) struct Rotated {
    /// As of now.
    pub(crate) issuer: Arc<LoadedIssuer>,
    /// The next key.
    pub(crate) key_id: KeyId,
    /// Whether it was there before.
    pub(crate) was_prepared: bool,
}

/// Why there is no next key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    /// The wish cannot be granted.
    #[error(transparent)]
    Refused(#[from] RotationRefused),
    /// It could be, but not now.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

/// What became of sealing keys anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rewrapped {
    pub(crate) done: u64,
    pub(crate) already: u64,
    /// They are as they were, and do not sign.
    pub(crate) not_opened: u64,
}

impl Keeper {
    /// Seals every private key anew that is not sealed under the present key-encryption key. Whoever is killed in between leaves
    /// each key sealed under one or the other.
    pub(crate) async fn rewrap(&self) -> Result<Rewrapped, KeeperError> {
        let all = self.store.changes_since(0).await?;
        let mut result = Rewrapped::default();
        for changed in all.changed {
            let ChangedIssuer::Present(issuer, keys) = changed else { continue };
            let issuer_id = issuer.id().clone();
            // Those that were revoked have no private half.
            for key in keys.into_iter().filter(|key| !key.sealed_private_key.is_empty()) {
                let (custody, id) = (Arc::clone(&self.custody), issuer_id.clone());
                let (key, resealed) = tokio::task::spawn_blocking(move || {
                    let resealed = custody.reseal(&id, &key);
                    (key, resealed)
                })
                .await?;
                let key_id = &key.record.key_id;
                match resealed {
                    Ok(None) => result.already += 1,
                    Ok(Some(resealed)) => {
                        // Another replica may have been first, which is as good.
                        self.store.reseal_signing_key(&issuer_id, key_id, &key.sealed_private_key, resealed).await?;
                        result.done += 1;
                    }
                    Err(error) => {
                        result.not_opened += 1;
                        tracing::warn!(issuer.id = %issuer_id, key.id = %key_id, %error, cause = %Causes(&error), "cannot seal a key anew");
                    }
                }
            }
        }
        Ok(result)
    }

    /// This issuer with its keys, which are made if it never had any.
    pub(crate) async fn in_use(self: &Arc<Self>, issuer: Arc<LoadedIssuer>) -> Result<Arc<LoadedIssuer>, KeeperError> {
        if !issuer.is_unused() {
            return if issuer.keys.is_empty() { Err(KeeperError::Unusable) } else { Ok(issuer) };
        }
        // In a task of its own: a caller who goes away does not stop what others wait for.
        let (keeper, id) = (Arc::clone(self), issuer.identity.id().clone());
        tokio::spawn(async move { keeper.make_first_keys(id).await }).await?
    }

    /// Makes the next key of an algorithm, unless it is there already.
    pub(crate) async fn rotate(&self, id: &IssuerId, algorithm: SignatureAlgorithm) -> Result<Rotated, RotateError> {
        let mut was_prepared = true;
        for _ in 0..ATTEMPTS {
            let (directory, issuer) = self.picture_of(id).await?;
            let now = self.now();
            match issuer.keyring(&directory.policies(self.policy), self.exports).rotate(now, algorithm)? {
                Rotation::Prepared(key_id) => return Ok(Rotated { issuer, key_id, was_prepared }),
                // The next one follows the first ones.
                Rotation::Prepare(_) if issuer.is_unused() => drop(self.make_first_keys(id.clone()).await?),
                Rotation::Prepare(step) => {
                    let outcome = self.carry_out(&directory, &issuer, now, vec![step]).await?;
                    was_prepared = outcome != ChangeKeysOutcome::Done;
                }
            }
        }
        Err(KeeperError::Contended.into())
    }

    /// Revokes a key and has another sign in its place. Returns the issuer as it is then; nothing is done where the key is revoked
    /// already. `None`: there is no such key.
    pub(crate) async fn revoke(&self, id: &IssuerId, key_id: &KeyId) -> Result<Option<Arc<LoadedIssuer>>, KeeperError> {
        for _ in 0..ATTEMPTS {
            let (directory, issuer) = self.picture_of(id).await?;
            let now = self.now();
            let Some(steps) = issuer.keyring(&directory.policies(self.policy), self.exports).revoke(now, key_id) else {
                return Ok(None);
            };
            if steps.is_empty() {
                return Ok(Some(issuer));
            }
            self.carry_out(&directory, &issuer, now, steps).await?;
            // What has to follow is due now.
            self.changed_here.notify_one();
        }
        Err(KeeperError::Contended)
    }

    /// Notes that the exported key set has these keys, so that those that waited for it may sign. Within `mended_in` somebody looks
    /// again whether it still has.
    pub(crate) async fn note_exported(&self, id: &IssuerId, key_ids: &[KeyId], mended_in: Duration) -> Result<(), KeeperError> {
        let directory = self.directory.load_full();
        let Some(issuer) = directory.by_id(id) else { return Ok(()) };
        if !issuer.records().iter().any(|key| key.awaits_export) {
            return Ok(());
        }
        let now = self.now();
        let mended_at = now.checked_add(mended_in).unwrap_or(Timestamp::MAX);
        let steps = issuer.keyring(&directory.policies(self.policy), self.exports).exported(now, mended_at, key_ids.iter());
        if !steps.is_empty() {
            self.carry_out(&directory, issuer, now, steps).await?;
            self.refresh().await?;
        }
        Ok(())
    }

    /// Writes what is due, for issuers as much as fits between two polls. First keys wait for the first use, or are
    /// made to be exported.
    pub(super) async fn take_due_steps(&self, writing: &Outage) {
        let (mut any_taken, mut any_failed) = (false, false);
        if let Err(error) = self.note_serving().await {
            any_failed = true;
            if writing.begins() {
                tracing::warn!(%error, cause = %Causes(&error), "cannot note for how long key sets are handed out; trying again");
            }
        }
        let directory = self.directory.load_full();
        let policies = directory.policies(self.policy);
        let began = Instant::now();
        // Where documents are exported, nobody asks here for those of an issuer that has no keys yet.
        let is_used = |issuer: &&Arc<LoadedIssuer>| !issuer.is_unused() || (self.exports && issuer.of_workspace().is_some());
        for issuer in directory.all().filter(is_used) {
            let now = self.now();
            let due = issuer.keyring(&policies, self.exports).next_steps(now);
            if due.is_empty() {
                continue;
            }
            if began.elapsed() > BUDGET {
                break;
            }
            match self.carry_out(&directory, issuer, now, due).await {
                Ok(_) => any_taken = true,
                Err(error) => {
                    any_failed = true;
                    let id = issuer.identity.id();
                    if writing.begins() {
                        tracing::warn!(issuer.id = %id, %error, cause = %Causes(&error), "cannot bring an issuer's keys up to date; trying again");
                    } else {
                        tracing::debug!(issuer.id = %id, %error, "still cannot bring an issuer's keys up to date");
                    }
                }
            }
        }
        if !any_failed && let Some(lasted) = writing.over() {
            tracing::info!(lasted_ms = lasted.as_millis(), "the keys of all issuers are up to date again");
        }
        // In vain, the next poll reads them, and tells the outage.
        if any_taken && let Err(error) = self.refresh().await {
            tracing::debug!(%error, cause = %Causes(&error), "cannot read back new keys");
        }
    }

    async fn make_first_keys(&self, id: IssuerId) -> Result<Arc<LoadedIssuer>, KeeperError> {
        let turn = self.first_use_of(&id);
        let result = self.make_keys_in_turn(&id, &turn).await;
        self.forget_first_use(&id, turn);
        result
    }

    async fn make_keys_in_turn(&self, id: &IssuerId, turn: &tokio::sync::Mutex<()>) -> Result<Arc<LoadedIssuer>, KeeperError> {
        let _turn = turn.lock().await;
        for _ in 0..ATTEMPTS {
            let directory = self.directory.load_full();
            let issuer = directory.by_id(id).cloned().ok_or(KeeperError::Gone)?;
            if !issuer.is_unused() {
                return if issuer.keys.is_empty() { Err(KeeperError::Unusable) } else { Ok(issuer) };
            }
            let now = self.now();
            let steps = issuer.keyring(&directory.policies(self.policy), self.exports).next_steps(now);
            self.carry_out(&directory, &issuer, now, steps).await?;
            self.refresh().await?;
        }
        Err(KeeperError::Contended)
    }

    /// An issuer as the database has it now.
    pub(crate) async fn read_again(&self, id: &IssuerId) -> Result<Arc<LoadedIssuer>, KeeperError> {
        Ok(self.picture_of(id).await?.1)
    }

    /// The same, with the picture that it is part of.
    async fn picture_of(&self, id: &IssuerId) -> Result<(Arc<Directory>, Arc<LoadedIssuer>), KeeperError> {
        self.refresh().await?;
        let directory = self.directory()?;
        let issuer = directory.by_id(id).cloned().ok_or(KeeperError::Gone)?;
        Ok((directory, issuer))
    }

    /// Notes in good time until when key sets may be handed out under this replica's policy, so that replicas with other settings,
    /// and those that come after, reckon with the copies. Nothing is served before the first time.
    pub(crate) async fn note_serving(&self) -> Result<(), KeeperError> {
        let now = self.now();
        let until =
            |ahead: Duration| now.checked_add(ahead.saturating_add(self.policy.staleness_limit)).unwrap_or(Timestamp::MAX);
        let noted = self.directory.load().served().iter().find(|served| served.policy == self.policy).map(|served| served.until);
        if noted.is_some_and(|noted| noted >= until(NOTED_AHEAD / 2)) {
            return Ok(());
        }
        match self.store.note_served_key_sets(ServedKeySets { policy: self.policy, until: until(NOTED_AHEAD) }).await {
            Ok(()) => self.refresh().await,
            Err(error) if noted.is_some_and(|noted| noted >= until(Duration::ZERO)) => {
                tracing::debug!(%error, "cannot note for how long key sets are handed out; what was noted is enough for now");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what was planned for an issuer by a picture, all of it or nothing.
    async fn carry_out(
        &self,
        directory: &Directory,
        issuer: &LoadedIssuer,
        now: Timestamp,
        steps: Vec<KeyStep>,
    ) -> Result<ChangeKeysOutcome, KeeperError> {
        let id = issuer.identity.id();
        let changes = self.make(issuer, now, steps).await?;
        let outcome = self.store.change_signing_keys(id, directory.revision(), &changes).await;
        // After an outcome that is not known, what was made stays in its device: it may be in use.
        let outcome = outcome.inspect_err(|_| self.note_device_failure(id))?;
        let made = changes.iter().filter_map(|change| if let KeyChange::Add(key) = change { Some(key.clone()) } else { None });
        match outcome {
            ChangeKeysOutcome::Done => {
                for change in &changes {
                    tell(id, change);
                }
                let revoked = |key: &SealedSigningKey| {
                    let is =
                        |change: &KeyChange| matches!(change, KeyChange::Revoke { key_id, .. } if *key_id == key.record.key_id);
                    changes.iter().any(is)
                };
                self.destroy_in_device(id, issuer.sealed_keys().filter(revoked).collect()).await;
            }
            ChangeKeysOutcome::Stale => {
                tracing::info!(issuer.id = %id, "another replica changed the issuer first");
                self.destroy_in_device(id, made.collect()).await;
            }
            ChangeKeysOutcome::IssuerGone => {
                self.destroy_in_device(id, made.collect()).await;
                return Err(KeeperError::Gone);
            }
        }
        Ok(outcome)
    }

    /// Destroys what devices keep for rows that are no longer of use. What cannot be destroyed is told: nobody else will do it.
    pub(crate) async fn destroy_in_device(&self, id: &IssuerId, keys: Vec<SealedSigningKey>) {
        let in_device = |key: &SealedSigningKey| Custody::kept(&key.sealed_private_key) == Some(KeyCustody::Device);
        let keys: Vec<_> = keys.into_iter().filter(in_device).collect();
        if keys.is_empty() {
            return;
        }
        let (custody, id) = (Arc::clone(&self.custody), id.clone());
        let destroyed = tokio::task::spawn_blocking(move || {
            for key in keys {
                let key_id = &key.record.key_id;
                match custody.destroy(&id, key.record.algorithm, &key.sealed_private_key) {
                    Ok(()) => tracing::info!(issuer.id = %id, key.id = %key_id, "destroyed a key in its device"),
                    Err(error) => {
                        tracing::error!(issuer.id = %id, key.id = %key_id, %error, cause = %Causes(&error), "a key is still in its device, and not in use");
                    }
                }
            }
        });
        let _ = destroyed.await;
    }

    /// Steps as they are stored, with the keys that have to be made.
    async fn make(&self, issuer: &LoadedIssuer, now: Timestamp, steps: Vec<KeyStep>) -> Result<Vec<KeyChange>, KeeperError> {
        // A revocation waits for nobody's keys (SECURITY 59).
        let is_emergency = steps.iter().any(|step| matches!(step, KeyStep::Revoke { .. }));
        let makes_keys = steps.iter().any(|step| matches!(step, KeyStep::Create { .. }));
        let kept = match &issuer.identity {
            IssuerIdentity::Workspace(issuer) => issuer.settings.key_custody,
            IssuerIdentity::AccessTokens { .. } => self.access_token_key_custody,
        };
        let makes_in_device = makes_keys && kept == KeyCustody::Device;
        if makes_in_device && !is_emergency && self.device_failed_lately(issuer.identity.id()) {
            return Err(KeeperError::NotNow);
        }
        let _permit = if makes_keys && !is_emergency { self.making.acquire().await.ok() } else { None };
        let (custody, owner) = (Arc::clone(&self.custody), issuer.identity.id().clone());
        let changes = tokio::task::spawn_blocking(move || {
            let mut changes = Vec::new();
            for step in steps {
                // Nor does it wait for a device: what follows is made right after it, and signs at once as well.
                if is_emergency && makes_in_device && matches!(step, KeyStep::Create { .. }) {
                    continue;
                }
                match change(&custody, &owner, kept, now, step) {
                    Ok(change) => changes.push(change),
                    Err(error) if is_emergency => {
                        tracing::error!(issuer.id = %owner, %error, cause = %Causes(&error), "a key is revoked, and no other made in its place yet");
                    }
                    Err(error) => {
                        // None of the others will be of use.
                        for change in &changes {
                            if let KeyChange::Add(key) = change {
                                let _ = custody.destroy(&owner, key.record.algorithm, &key.sealed_private_key);
                            }
                        }
                        return Err(error);
                    }
                }
            }
            Ok(changes)
        });
        let changes = changes.await?;
        if makes_in_device && changes.is_err() {
            self.note_device_failure(issuer.identity.id());
        }
        Ok(changes?)
    }

    /// Whether a device made no key of an issuer a moment ago, or one that came to nothing: those would fill it.
    fn device_failed_lately(&self, id: &IssuerId) -> bool {
        let mut failures = self.device_failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, failed| failed.elapsed() < DEVICE_PAUSE);
        failures.contains_key(id)
    }

    fn note_device_failure(&self, id: &IssuerId) {
        self.device_failures.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), Instant::now());
    }

    /// The time to the microsecond: what is stored and what is held are the same.
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.clock.now().as_microsecond()).unwrap_or_default()
    }

    fn first_use_of(&self, id: &IssuerId) -> Arc<tokio::sync::Mutex<()>> {
        let mut first_uses = self.first_uses.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(first_uses.entry(id.clone()).or_default())
    }

    /// Drops the turn, and its entry when nobody else waits for one.
    fn forget_first_use(&self, id: &IssuerId, turn: Arc<tokio::sync::Mutex<()>>) {
        let mut first_uses = self.first_uses.lock().unwrap_or_else(PoisonError::into_inner);
        drop(turn);
        if let Entry::Occupied(entry) = first_uses.entry(id.clone())
            && Arc::strong_count(entry.get()) == 1
        {
            entry.remove();
        }
    }
}

/// A step as it is stored; a key that is to be made is made here.
fn change(
    custody: &Custody,
    issuer_id: &IssuerId,
    kept: KeyCustody,
    now: Timestamp,
    step: KeyStep,
) -> Result<KeyChange, CustodyError> {
    Ok(match step {
        KeyStep::Create { algorithm, generation, activate_at, awaits_export } => {
            KeyChange::Add(custody.make(issuer_id, kept, algorithm, generation, (now, activate_at), awaits_export)?)
        }
        KeyStep::EndWait { key_id, activate_at } => KeyChange::EndWait { key_id, activate_at },
        KeyStep::Retire { key_id, retirement } => KeyChange::Retire { key_id, retirement },
        KeyStep::Revoke { key_id, revoked_at } => KeyChange::Revoke { key_id, revoked_at },
        KeyStep::Promote { key_id } => KeyChange::Promote { key_id },
    })
}

fn tell(issuer_id: &IssuerId, change: &KeyChange) {
    match change {
        KeyChange::Add(key) => {
            let (key_id, algorithm) = (&key.record.key_id, key.record.algorithm);
            tracing::info!(issuer.id = %issuer_id, key.id = %key_id, %algorithm, signs_at = %key.record.activate_at, "made a signing key");
        }
        KeyChange::EndWait { key_id, activate_at } => {
            tracing::info!(issuer.id = %issuer_id, key.id = %key_id, signs_at = %activate_at, "a signing key is exported");
        }
        KeyChange::Retire { key_id, retirement } => {
            tracing::info!(issuer.id = %issuer_id, key.id = %key_id, until = %retirement.publish_until, "retires a signing key");
        }
        KeyChange::Revoke { key_id, .. } => {
            tracing::warn!(issuer.id = %issuer_id, key.id = %key_id, "revoked a signing key");
        }
        KeyChange::Promote { key_id } => {
            tracing::warn!(issuer.id = %issuer_id, key.id = %key_id, "a prepared signing key signs at once in place of a revoked one");
        }
    }
}
