//! What has to be written, and when: pure functions of the time, the records and the rules.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Retirement, SigningKeyRecord, SigningKeyStage, SigningKeyState, default_signer, published, signer};
use crate::issuing::id_token_durations;
use crate::trust::trusted_issuer::TrustedIssuerSettings;
use crate::values::name::KeyId;
use crate::values::signature_algorithm::SignatureAlgorithm;
use crate::values::time::Timestamp;

/// From how many published keys of an issuer on a wish for another one is refused. Verifiers bound the sets they read, ours at 64
/// keys (SECURITY 41).
pub const MAX_PUBLISHED: usize = 32;

/// How long others may hold on to what they have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPolicy {
    /// The `max-age` of the published key set: how long a verifier may keep a copy.
    pub key_set_max_age: Duration,
    /// How long a replica of ours may go without having seen the database.
    pub staleness_limit: Duration,
}

/// Key sets that were handed out, or may still be, under a policy: by replicas with other settings than ours, or by ourselves
/// before they were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedKeySets {
    /// What verifiers were told, and how stale the key sets may have been.
    pub policy: KeyPolicy,
    /// The last moment at which any may be handed out.
    pub until: Timestamp,
}

/// The policies that have to be reckoned with: that of a replica, and every other under which key sets were handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPolicies {
    /// That of the replica that plans.
    pub own: KeyPolicy,
    /// All that were ever noted.
    pub served: Vec<ServedKeySets>,
}

/// When the keys of an issuer follow each other without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RotationPolicy {
    /// A key signs for this long, then the next one takes over; longer where the next one could not be published in that time.
    Every(Duration),
    /// Only when somebody asks.
    OnRequest,
}

/// An issuer's keys, retired and revoked ones included, with the rules they live by.
#[derive(Debug, Clone, Copy)]
pub struct Keyring<'a, K> {
    /// What the issuer signs with, the default first.
    pub algorithms: &'a [SignatureAlgorithm],
    /// When a key follows another by itself.
    pub rotation: RotationPolicy,
    /// All keys there ever were.
    pub keys: &'a [K],
    /// Those of them that are not ours, as no replica can use them: somebody else wrote them. They take over from no key.
    pub foreign: &'a BTreeSet<KeyId>,
    /// How long a key is published before and after it signs.
    pub policies: &'a KeyPolicies,
    /// Whether relying parties read an export of the key set, which new keys wait for.
    pub is_exported: bool,
}

/// Something to be written. What is planned at once is written at once, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStep {
    /// Make a key.
    Create {
        /// What it will sign with.
        algorithm: SignatureAlgorithm,
        /// Its number among the keys of this algorithm.
        generation: i32,
        /// When it first may sign.
        activate_at: Timestamp,
        /// Whether it waits for the export.
        awaits_export: bool,
    },
    /// A key waits for the export no longer.
    EndWait {
        /// Which key.
        key_id: KeyId,
        /// When it first may sign.
        activate_at: Timestamp,
    },
    /// Set the end of a key's life.
    Retire {
        /// Which key.
        key_id: KeyId,
        /// Its end.
        retirement: Retirement,
    },
    /// Revoke a key.
    Revoke {
        /// Which key.
        key_id: KeyId,
        /// When.
        revoked_at: Timestamp,
    },
    /// Have a prepared key sign at once: date its activation back to its creation.
    Promote {
        /// Which key.
        key_id: KeyId,
    },
}

/// What a wish for another key comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The next key has to be made.
    Prepare(KeyStep),
    /// The next key is there already and waits for its time: nothing changes.
    Prepared(KeyId),
}

/// Why a wish for another key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotationRefused {
    /// The issuer does not sign with it.
    #[error("is none of the issuer's algorithms")]
    Algorithm,
    /// Verifiers must not be given a set that they refuse for its size.
    #[error("the issuer has {most} keys in its key set already; wait until one is withdrawn", most = MAX_PUBLISHED)]
    TooManyPublished,
}

impl ServedKeySets {
    /// When the last copy has expired that may lack what is published now: of a key set handed out by a replica that has not seen
    /// the database since.
    fn copies_end(self, now: Timestamp) -> Timestamp {
        later(self.until.min(later(now, self.policy.staleness_limit)), self.policy.key_set_max_age)
    }
}

impl KeyPolicies {
    /// When a key that is published now may sign: when the last copy of a key set without it has expired, whatever its holder was
    /// told and by whom.
    pub fn activation(&self, now: Timestamp) -> Timestamp {
        let own = ServedKeySets { policy: self.own, until: Timestamp::MAX };
        self.served.iter().map(|served| served.copies_end(now)).fold(own.copies_end(now), Timestamp::max)
    }

    /// When a key that is told now to stop signing may be withdrawn: when a replica that has not heard of it must have stopped,
    /// and the longest token signed at that moment has expired even by the slowest clock.
    pub fn withdrawal(&self, now: Timestamp) -> Timestamp {
        let others = self.served.iter().filter(|served| served.until > now).map(|served| served.policy.staleness_limit);
        let tail = others
            .fold(self.own.staleness_limit, Duration::max)
            .saturating_add(id_token_durations::MAX_LIMIT)
            .saturating_add(TrustedIssuerSettings::CLOCK_SKEW_LIMIT);
        later(now, tail)
    }
}

impl RotationPolicy {
    /// How long a key signs when nothing is said.
    pub const DEFAULT_PERIOD: Duration = Duration::from_hours(90 * 24);
    /// The shortest period that can be set: no more than a few keys of an algorithm are published at a time.
    pub const MIN_PERIOD: Duration = Duration::from_hours(24);
    /// The longest period that can be set.
    pub const MAX_PERIOD: Duration = Duration::from_hours(730 * 24);

    /// The policy of a period, of which zero stands for none.
    pub const fn of_period(period: Duration) -> Self {
        if period.is_zero() { Self::OnRequest } else { Self::Every(period) }
    }

    /// The period; zero when there is none.
    pub const fn period(self) -> Duration {
        match self {
            Self::Every(period) => period,
            Self::OnRequest => Duration::ZERO,
        }
    }
}

impl Default for RotationPolicy {
    fn default() -> Self {
        Self::Every(Self::DEFAULT_PERIOD)
    }
}

impl<K: AsRef<SigningKeyRecord>> Keyring<'_, K> {
    /// What has to be written for things to be as they should be.
    ///
    /// The first keys of an issuer are active at once, since nobody can hold an earlier key set. A key made later is prepared
    /// first; one that follows another by the [`RotationPolicy`] is prepared in time to take over at the period's end. A key that
    /// another has taken over from is retired. The key of an algorithm that the issuer no longer signs with is retired too, but
    /// goes on signing until a key of some algorithm that it does sign with is active: an issuer that changes its only algorithm
    /// is never without a key that signs.
    pub fn next_steps(&self, now: Timestamp) -> Vec<KeyStep> {
        let create = self.algorithms.iter().filter_map(|&algorithm| match self.newest(algorithm) {
            Some(newest) if !self.is_due(now, newest) => None,
            _ => Some(self.create(algorithm, self.next_activation_of(now, algorithm))),
        });
        let own: Vec<&SigningKeyRecord> = self.own().collect();
        let is_replaced = self.algorithms.iter().any(|&algorithm| signer(now, &own, algorithm).is_some());
        let retire = self.own().filter(|key| key.is_wanted()).filter_map(|key| {
            let is_active = key.state(now) == SigningKeyState::Active;
            let leaves = if self.algorithms.contains(&key.algorithm) {
                is_active && signer(now, &own, key.algorithm).is_some_and(|signer| signer.key_id != key.key_id)
            } else {
                is_replaced || !is_active
            };
            let retirement = Retirement { sign_until: now, publish_until: self.policies.withdrawal(now) };
            leaves.then(|| KeyStep::Retire { key_id: key.key_id.clone(), retirement })
        });
        // What was to be exported and is not any more.
        let awaited = self.records().filter(|key| !self.is_exported && self.algorithms.contains(&key.algorithm));
        create.chain(retire).chain(self.exported(now, now, awaited.map(|key| &key.key_id))).collect()
    }

    /// What has to be written when the exported key set has these keys, and has had them since no later than `now`.
    ///
    /// One that is the first of its issuer, or takes over from a revoked one, signs at once, as it would without an export. Any other
    /// one signs when the copies of the export without it have expired as well, those included that are handed out until
    /// `mended_at`: by then somebody has looked whether the export is still what it should be.
    pub fn exported<'k>(&self, now: Timestamp, mended_at: Timestamp, keys: impl Iterator<Item = &'k KeyId>) -> Vec<KeyStep> {
        let awaiting = keys.filter_map(|id| self.records().find(|key| key.key_id == *id && key.awaits_export && key.is_wanted()));
        let end = |key: &SigningKeyRecord| {
            let at_once = key.activate_at <= key.created_at;
            let copies_end = self.policies.activation(now).max(later(mended_at, self.policies.own.key_set_max_age));
            let activate_at = if at_once { key.activate_at } else { key.activate_at.max(copies_end) };
            KeyStep::EndWait { key_id: key.key_id.clone(), activate_at }
        };
        awaiting.map(end).collect()
    }

    /// What a wish for another key of an algorithm comes to. Repeated, it changes nothing until that key has taken over.
    ///
    /// # Errors
    /// The issuer does not sign with the algorithm, or has too many keys in its key set.
    pub fn rotate(&self, now: Timestamp, algorithm: SignatureAlgorithm) -> Result<Rotation, RotationRefused> {
        if !self.algorithms.contains(&algorithm) {
            return Err(RotationRefused::Algorithm);
        }
        if let Some(newest) = self.newest(algorithm)
            && newest.state(now) == SigningKeyState::Prepared
        {
            return Ok(Rotation::Prepared(newest.key_id.clone()));
        }
        if published(now, self.keys).count() >= MAX_PUBLISHED {
            return Err(RotationRefused::TooManyPublished);
        }
        Ok(Rotation::Prepare(self.create(algorithm, self.next_activation(now))))
    }

    /// What it takes to revoke a key. Nothing, where it is revoked already; `None`, where there is no such key.
    ///
    /// Where it was the one that signs, another signs at once: the one that is prepared, or else a new one. Verifiers may hold
    /// copies of the key set without it and refuse its tokens until they fetch anew, as most do for a key they do not know; to
    /// leave the issuer without a key would be worse.
    pub fn revoke(&self, now: Timestamp, key_id: &KeyId) -> Option<Vec<KeyStep>> {
        let revoked = self.records().find(|key| key.key_id == *key_id)?;
        if revoked.revoked_at.is_some() {
            return Some(Vec::new());
        }
        let mut steps = vec![KeyStep::Revoke { key_id: key_id.clone(), revoked_at: now }];
        let left: Vec<&SigningKeyRecord> = self.own().filter(|key| key.key_id != *key_id).collect();
        let left_without = if self.algorithms.contains(&revoked.algorithm) {
            signer(now, &left, revoked.algorithm).is_none().then_some(revoked.algorithm)
        } else if default_signer(now, &left, self.algorithms).is_none() {
            self.algorithms.first().copied()
        } else {
            None
        };
        if let Some(algorithm) = left_without
            && revoked.state(now) == SigningKeyState::Active
        {
            let prepared = left.iter().filter(|key| key.algorithm == algorithm && key.is_wanted());
            steps.push(match prepared.min_by_key(|key| key.activate_at) {
                Some(prepared) => KeyStep::Promote { key_id: prepared.key_id.clone() },
                None => self.create(algorithm, now),
            });
        }
        Some(steps)
    }

    /// When a key of an algorithm that is due now may sign: at once, where one was revoked and none signs in its place.
    fn next_activation_of(&self, now: Timestamp, algorithm: SignatureAlgorithm) -> Timestamp {
        let own: Vec<&SigningKeyRecord> = self.own().collect();
        let last = own.iter().filter(|key| key.algorithm == algorithm).max_by_key(|key| key.generation);
        let follows_revoked = last.is_some_and(|last| last.revoked_at.is_some());
        let none_signs = default_signer(now, &own, self.algorithms).is_none();
        if follows_revoked && none_signs { now } else { self.next_activation(now) }
    }

    /// When a key made now may sign.
    fn next_activation(&self, now: Timestamp) -> Timestamp {
        if self.keys.is_empty() { now } else { self.policies.activation(now) }
    }

    /// When the period of a key ends, if it has one.
    pub(super) fn period_end(&self, now: Timestamp, key: &SigningKeyRecord) -> Option<Timestamp> {
        let RotationPolicy::Every(period) = self.rotation else { return None };
        let lead = Duration::try_from(self.policies.activation(now).duration_since(now)).unwrap_or_default();
        Some(later(key.activate_at, period.max(lead.saturating_mul(2))))
    }

    /// Whether a key made now would take over no earlier than at the end of this key's period.
    fn is_due(&self, now: Timestamp, key: &SigningKeyRecord) -> bool {
        matches!(key.stage(now), SigningKeyStage::Active { .. })
            && self.period_end(now, key).is_some_and(|end| end <= self.policies.activation(now))
    }

    /// The key of an algorithm that is to sign, now or soon.
    fn newest(&self, algorithm: SignatureAlgorithm) -> Option<&SigningKeyRecord> {
        self.records().filter(|key| key.algorithm == algorithm && key.is_wanted()).max_by_key(|key| key.generation)
    }

    fn create(&self, algorithm: SignatureAlgorithm, activate_at: Timestamp) -> KeyStep {
        let last = self.records().filter(|key| key.algorithm == algorithm).map(|key| key.generation).max();
        let generation = last.unwrap_or(0).saturating_add(1);
        KeyStep::Create { algorithm, generation, activate_at, awaits_export: self.is_exported }
    }

    /// The keys that are ours.
    fn own(&self) -> impl Iterator<Item = &SigningKeyRecord> {
        self.records().filter(|key| !self.foreign.contains(&key.key_id))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &SigningKeyRecord> {
        self.keys.iter().map(AsRef::as_ref)
    }
}

/// A time later by a duration; the end of time where there is no such time.
fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}
