//! What is done to the keys of issuers: the first ones made, what is due written, one followed by another, one revoked.
//!
//! Everything is planned by [`Keyring`](countersign_domain::issuing::signing_key::Keyring), a pure function of the picture and the time,
//! and written in one transaction, which the database refuses where the issuer changed since. So of two replicas that do the same
//! thing one does it, and whoever is killed leaves all of it done or nothing.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use countersign_domain::issuing::issuer::KeyCustody;
use countersign_domain::issuing::signing_key::{KeyStep, Rotation, RotationRefused, ServedKeySets};
use countersign_domain::values::id::IssuerId;
use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::time::Timestamp;
use countersign_store::issuer::{ChangeKeysOutcome, ChangedIssuer, IssuerIdentity, KeyChange, SealedSigningKey};
use tokio::time::Instant;

use super::permits::KeyPermit;
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
    Keeper(#[from] Arc<KeeperError>),
}

impl From<KeeperError> for RotateError {
    fn from(error: KeeperError) -> Self {
        Self::Keeper(Arc::new(error))
    }
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

    /// Makes the next key of an algorithm, unless it is there already.
    pub(crate) async fn rotate(self: &Arc<Self>, id: &IssuerId, algorithm: SignatureAlgorithm) -> Result<Rotated, RotateError> {
        let mut was_prepared = true;
        let mut permit = None;
        for _ in 0..ATTEMPTS {
            let (directory, issuer) = self.picture_of(id).await?;
            let now = self.now();
            match issuer.keyring(&directory.policies(self.policy), self.exports).rotate(now, algorithm)? {
                Rotation::Prepared(key_id) => return Ok(Rotated { issuer, key_id, was_prepared }),
                // The next one follows the first ones.
                Rotation::Prepare(_) if issuer.is_unused() => drop(self.first_keys(id).await?),
                Rotation::Prepare(step) => match permit.take() {
                    Some(permit) => {
                        let outcome = self.carry_out_in(permit, &directory, &issuer, now, vec![step]).await?;
                        was_prepared = outcome != ChangeKeysOutcome::Done;
                    }
                    // Planned again then: the wait may take long, and the key's times begin when it is published.
                    None => permit = Some(self.permits.wait(issuer.owner()).await),
                },
            }
        }
        Err(KeeperError::Contended.into())
    }

    /// Revokes a key and has another sign in its place. Returns the issuer as it is then; nothing is done where the key is revoked
    /// already. `None`: there is no such key.
    pub(crate) async fn revoke(&self, id: &IssuerId, key_id: &KeyId) -> Result<Option<Arc<LoadedIssuer>>, KeeperError> {
        // Waits for no keys but those that follow the owner's other revocations.
        let owner = self.latest().by_id(id).ok_or(KeeperError::Gone)?.owner();
        let _permit = self.emergencies.wait(owner).await;
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

    /// An issuer as the database has it now.
    pub(crate) async fn read_again(&self, id: &IssuerId) -> Result<Arc<LoadedIssuer>, KeeperError> {
        Ok(self.picture_of(id).await?.1)
    }

    /// The same, with the picture that it is part of.
    pub(super) async fn picture_of(&self, id: &IssuerId) -> Result<(Arc<Directory>, Arc<LoadedIssuer>), KeeperError> {
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

    /// Writes what was planned for an issuer with a permit to make keys, which ends with it.
    pub(super) async fn carry_out_in(
        &self,
        permit: KeyPermit,
        directory: &Directory,
        issuer: &LoadedIssuer,
        now: Timestamp,
        steps: Vec<KeyStep>,
    ) -> Result<ChangeKeysOutcome, KeeperError> {
        let outcome = self.carry_out(directory, issuer, now, steps).await;
        drop(permit);
        outcome
    }

    /// Writes what was planned for an issuer by a picture, all of it or nothing. The caller has a permit if the plan makes keys.
    pub(super) async fn carry_out(
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
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.clock.now().as_microsecond()).unwrap_or_default()
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
