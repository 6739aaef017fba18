//! Signing keys and their life: `prepared` (published, not signing), `active`, `retiring` (published, not signing), `retired`.
//!
//! The life of a key is a function of time and of its record, so that replicas agree without talking, and none can be killed
//! between two steps of it. A key signs only when every verifier and every replica must have seen it published; it stays
//! published until the last token it can have signed has expired. [`next_steps`] says what has to be written to keep it so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::issuer::IssuerSettings;
use crate::name::KeyId;
use crate::time::Timestamp;
use crate::trusted_issuer::{SignatureAlgorithm, TrustedIssuerSettings};

/// Where a key is in its life, with what is known of that stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKeyStage {
    /// Published, not signing yet.
    Prepared {
        /// When it may sign.
        activates_at: Timestamp,
    },
    /// Published and signing.
    Active {
        /// Since when it may sign.
        since: Timestamp,
    },
    /// Published, no longer signing.
    Retiring {
        /// Since when it does not sign.
        since: Timestamp,
        /// When the last token it signed has expired.
        until: Timestamp,
    },
    /// Neither published nor signing.
    Retired {
        /// Since when.
        since: Timestamp,
    },
}

/// The name of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigningKeyState {
    /// Published, not signing yet.
    Prepared,
    /// Published and signing.
    Active,
    /// Published, no longer signing.
    Retiring,
    /// Neither published nor signing.
    Retired,
}

/// What is recorded of a key pair: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeyRecord {
    /// The `kid`.
    pub key_id: KeyId,
    /// What it signs with.
    pub algorithm: SignatureAlgorithm,
    /// Counts the keys of one issuer and algorithm from 1. No two of them share one, which is how replicas that generate at the
    /// same time come to agree on one key.
    pub generation: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it first may sign. Not after `created_at`: at once, by any replica's clock.
    pub activate_at: Timestamp,
    /// The end of its life, once it is known.
    pub retirement: Option<Retirement>,
}

/// The end of a key's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retirement {
    /// When it stops to sign.
    pub sign_until: Timestamp,
    /// When it is withdrawn from the key set.
    pub publish_until: Timestamp,
}

/// How long others may hold on to what they have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPolicy {
    /// The `max-age` of the published key set: how long a verifier may keep a copy.
    pub key_set_max_age: Duration,
    /// How long a replica of ours may go without having seen the database.
    pub staleness_limit: Duration,
}

/// Something to be written, so that an issuer's keys are as they should be.
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
    },
    /// Set the end of a key's life.
    Retire {
        /// Which key.
        key_id: KeyId,
        /// Its end.
        retirement: Retirement,
    },
}

impl SigningKeyStage {
    /// The name of the stage.
    pub const fn state(self) -> SigningKeyState {
        match self {
            Self::Prepared { .. } => SigningKeyState::Prepared,
            Self::Active { .. } => SigningKeyState::Active,
            Self::Retiring { .. } => SigningKeyState::Retiring,
            Self::Retired { .. } => SigningKeyState::Retired,
        }
    }
}

impl SigningKeyState {
    /// Whether a key in this state stands in the key set.
    pub const fn is_published(self) -> bool {
        !matches!(self, Self::Retired)
    }
}

impl SigningKeyRecord {
    /// Where the key is in its life.
    pub fn stage(&self, now: Timestamp) -> SigningKeyStage {
        match self.retirement {
            Some(end) if end.publish_until <= now => SigningKeyStage::Retired { since: end.publish_until },
            Some(end) if end.sign_until <= now => SigningKeyStage::Retiring { since: end.sign_until, until: end.publish_until },
            _ if self.activate_at <= self.created_at || self.activate_at <= now => {
                SigningKeyStage::Active { since: self.activate_at }
            }
            _ => SigningKeyStage::Prepared { activates_at: self.activate_at },
        }
    }

    /// When the key next changes its stage by itself.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let end = self.retirement.map(|end| if end.sign_until > now { end.sign_until } else { end.publish_until });
        match self.stage(now) {
            SigningKeyStage::Prepared { activates_at } => Some(end.map_or(activates_at, |end| end.min(activates_at))),
            SigningKeyStage::Active { .. } | SigningKeyStage::Retiring { .. } => end,
            SigningKeyStage::Retired { .. } => None,
        }
    }
}

impl AsRef<Self> for SigningKeyRecord {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl KeyPolicy {
    /// How long a key is published before it signs: until the last copy of a key set without it, handed out by the last replica
    /// to learn of it, has expired.
    pub fn publication_lead(self) -> Duration {
        self.key_set_max_age.saturating_add(self.staleness_limit)
    }

    /// How long a key stays published after it was told to stop signing: until a replica that has not heard of it must have
    /// stopped, and the longest token signed at that moment has expired even by the slowest clock.
    fn publication_tail(self) -> Duration {
        self.staleness_limit
            .saturating_add(IssuerSettings::MAX_TOKEN_DURATION_LIMIT)
            .saturating_add(TrustedIssuerSettings::CLOCK_SKEW_LIMIT)
    }
}

/// The keys that stand in the key set, in the order given.
pub fn published<K: AsRef<SigningKeyRecord>>(now: Timestamp, keys: &[K]) -> impl Iterator<Item = &K> {
    keys.iter().filter(move |key| key.as_ref().stage(now).state().is_published())
}

/// The key that signs with an algorithm: of the active ones the youngest.
pub fn signer<K: AsRef<SigningKeyRecord>>(now: Timestamp, keys: &[K], algorithm: SignatureAlgorithm) -> Option<&K> {
    keys.iter()
        .filter(|key| key.as_ref().algorithm == algorithm && key.as_ref().stage(now).state() == SigningKeyState::Active)
        .max_by_key(|key| (key.as_ref().activate_at, key.as_ref().generation))
}

/// The key that signs where no algorithm is asked for: that of the first listed algorithm that can sign already, or else that of
/// an algorithm which [`next_steps`] keeps signing in its stead, of several the oldest.
pub fn default_signer<'a, K: AsRef<SigningKeyRecord>>(
    now: Timestamp,
    keys: &'a [K],
    algorithms: &[SignatureAlgorithm],
) -> Option<&'a K> {
    let active = |key: &&K| key.as_ref().stage(now).state() == SigningKeyState::Active;
    let stands_in = || keys.iter().filter(active).min_by_key(|key| (key.as_ref().activate_at, key.as_ref().algorithm));
    algorithms.iter().find_map(|&algorithm| signer(now, keys, algorithm)).or_else(stands_in)
}

/// When a key that is not active yet will sign with an algorithm.
pub fn next_activation<K: AsRef<SigningKeyRecord>>(
    now: Timestamp,
    keys: &[K],
    algorithm: SignatureAlgorithm,
) -> Option<Timestamp> {
    let prepared = |key: &K| match key.as_ref().stage(now) {
        SigningKeyStage::Prepared { activates_at } if key.as_ref().algorithm == algorithm => Some(activates_at),
        _ => None,
    };
    keys.iter().filter_map(prepared).min()
}

/// What has to be written for an issuer that signs with these algorithms. `keys` are all its keys, retired ones included.
///
/// The first keys of an issuer are active at once, since nobody can hold an earlier key set. A key made later is prepared first.
/// The key of an algorithm that the issuer no longer signs with is retired, but goes on signing until a key of some algorithm that
/// it does sign with is active: an issuer that changes its only algorithm is never without a key that signs.
pub fn next_steps<K: AsRef<SigningKeyRecord>>(
    now: Timestamp,
    algorithms: &[SignatureAlgorithm],
    keys: &[K],
    policy: KeyPolicy,
) -> Vec<KeyStep> {
    let activate_at = if keys.is_empty() { now } else { later(now, policy.publication_lead()) };
    let create = algorithms.iter().filter_map(|&algorithm| {
        let own = || keys.iter().map(AsRef::as_ref).filter(|key| key.algorithm == algorithm);
        let serves = own().any(|key| key.retirement.is_none());
        let generation = own().map(|key| key.generation).max().unwrap_or(0).saturating_add(1);
        (!serves).then_some(KeyStep::Create { algorithm, generation, activate_at })
    });
    let is_replaced = algorithms.iter().any(|&algorithm| signer(now, keys, algorithm).is_some());
    let retire = keys.iter().map(AsRef::as_ref).filter_map(|key| {
        let is_needed = !is_replaced && key.stage(now).state() == SigningKeyState::Active;
        let leaves = key.retirement.is_none() && !algorithms.contains(&key.algorithm) && !is_needed;
        let retirement = Retirement { sign_until: now, publish_until: later(now, policy.publication_tail()) };
        leaves.then(|| KeyStep::Retire { key_id: key.key_id.clone(), retirement })
    });
    create.chain(retire).collect()
}

/// A time later by a duration; the end of time where there is no such time.
fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use SignatureAlgorithm::{EdDsa, Es256, Rs256};
    use proptest::prelude::*;

    use super::*;

    const POLICY: KeyPolicy = KeyPolicy { key_set_max_age: Duration::from_mins(5), staleness_limit: Duration::from_mins(15) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(algorithm: SignatureAlgorithm, generation: i32, created: i64, activate: i64) -> SigningKeyRecord {
        let key_id = format!("{algorithm}-{generation}").parse().unwrap();
        SigningKeyRecord { key_id, algorithm, generation, created_at: at(created), activate_at: at(activate), retirement: None }
    }

    fn apply(keys: &mut Vec<SigningKeyRecord>, now: i64, steps: Vec<KeyStep>) {
        for step in steps {
            match step {
                KeyStep::Create { algorithm, generation, activate_at } => {
                    keys.push(key(algorithm, generation, now, activate_at.as_second()));
                }
                KeyStep::Retire { key_id, retirement } => {
                    keys.iter_mut().find(|key| key.key_id == key_id).unwrap().retirement = Some(retirement);
                }
            }
        }
    }

    #[test]
    fn the_first_keys_of_an_issuer_are_active_at_once_by_any_clock() {
        let mut keys = Vec::new();
        let steps = next_steps(at(1000), &[Rs256, Es256], &keys, POLICY);
        apply(&mut keys, 1000, steps);
        assert_eq!(keys.len(), 2);
        // A replica whose clock is behind signs too.
        for now in [0, 999, 1000, 1001] {
            assert_eq!(signer(at(now), &keys, Rs256).unwrap().key_id.as_str(), "RS256-1");
            assert_eq!(signer(at(now), &keys, Es256).unwrap().key_id.as_str(), "ES256-1");
        }
        assert!(next_steps(at(1000), &[Rs256, Es256], &keys, POLICY).is_empty(), "settled");
    }

    #[test]
    fn s56_a_key_made_later_is_published_longer_than_any_copy_lives_before_it_signs() {
        let mut keys = vec![key(Rs256, 1, 1000, 1000)];
        let steps = next_steps(at(5000), &[Rs256, EdDsa], &keys, POLICY);
        apply(&mut keys, 5000, steps);
        assert_eq!(keys[1].stage(at(5000)), SigningKeyStage::Prepared { activates_at: at(6200) });
        assert_eq!(published(at(5000), &keys).count(), 2, "published at once");
        assert_eq!(signer(at(6199), &keys, EdDsa), None);
        assert_eq!(next_activation(at(6199), &keys, EdDsa), Some(at(6200)));
        assert_eq!(signer(at(6200), &keys, EdDsa), Some(&keys[1]));
        assert_eq!(next_activation(at(6200), &keys, EdDsa), None);
        assert_eq!(keys[1].next_change(at(5000)), Some(at(6200)));
    }

    #[test]
    fn s56_a_key_that_no_longer_signs_stays_until_its_last_token_expired() {
        let mut keys = vec![key(Rs256, 1, 1000, 1000), key(Es256, 1, 1000, 1000)];
        let steps = next_steps(at(5000), &[Rs256], &keys, POLICY);
        apply(&mut keys, 5000, steps);
        assert_eq!(signer(at(5000), &keys, Es256), None);
        let end = 5000 + 900 + 24 * 3600 + 60;
        assert_eq!(keys[1].stage(at(end - 1)), SigningKeyStage::Retiring { since: at(5000), until: at(end) });
        assert_eq!(published(at(end - 1), &keys).count(), 2);
        assert_eq!(published(at(end), &keys).count(), 1);
        assert_eq!(keys[1].stage(at(end)), SigningKeyStage::Retired { since: at(end) });
        assert_eq!(keys[1].next_change(at(end)), None);
        // Wanted again, it is not revived: a new one takes its place.
        let again = next_steps(at(6000), &[Rs256, Es256], &keys, POLICY);
        assert_eq!(again, [KeyStep::Create { algorithm: Es256, generation: 2, activate_at: at(7200) }]);
    }

    #[test]
    fn an_issuer_that_changes_its_only_algorithm_signs_all_the_time() {
        let mut keys = vec![key(Rs256, 1, 1000, 1000)];
        let mut plan = |now: i64| {
            let steps = next_steps(at(now), &[Es256], &keys, POLICY);
            apply(&mut keys, now, steps);
            let signing = default_signer(at(now), &keys, &[Es256]).map(|key| key.key_id.to_string());
            (signing.unwrap_or_default(), keys[0].stage(at(now)).state())
        };
        assert_eq!(plan(5000), ("RS256-1".to_owned(), SigningKeyState::Active));
        assert_eq!(plan(6199), ("RS256-1".to_owned(), SigningKeyState::Active));
        assert_eq!(plan(6200), ("ES256-1".to_owned(), SigningKeyState::Retiring));
        // Nobody asks for it by its name meanwhile and gets another.
        assert_eq!(signer(at(6199), &keys, Es256), None);
    }

    #[test]
    fn a_key_that_never_signed_and_is_not_wanted_any_more_does_not_wait_to_be_replaced() {
        let mut keys = vec![key(Rs256, 1, 1000, 1000), key(Es256, 1, 5000, 6200)];
        let steps = next_steps(at(5100), &[EdDsa], &keys, POLICY);
        apply(&mut keys, 5100, steps);
        let states: Vec<_> = keys.iter().map(|key| (key.key_id.as_str(), key.stage(at(5100)).state())).collect();
        let expected = [
            ("RS256-1", SigningKeyState::Active),
            ("ES256-1", SigningKeyState::Retiring),
            ("EdDSA-1", SigningKeyState::Prepared),
        ];
        assert_eq!(states, expected);
    }

    #[test]
    fn of_two_active_keys_the_younger_signs() {
        let keys = [key(Rs256, 1, 1000, 1000), key(Rs256, 2, 5000, 6200)];
        assert_eq!(signer(at(6199), &keys, Rs256), Some(&keys[0]));
        assert_eq!(signer(at(6200), &keys, Rs256), Some(&keys[1]));
    }

    proptest! {
        /// Whatever an operator does to the algorithms and whenever it is planned: no key signs that is not published, none that
        /// was made later than the first signs before its lead has passed, none of an algorithm that is not listed while one of
        /// a listed algorithm does, some key signs at any time, and planning settles.
        #[test]
        fn s56_no_plan_lets_a_key_sign_that_is_not_published(
            changes in prop::collection::vec((prop::sample::subsequence(vec![Rs256, Es256, EdDsa], 1..=3), 0..100_000_i64), 1..8),
        ) {
            let mut keys: Vec<SigningKeyRecord> = Vec::new();
            let mut now = 1000;
            for (algorithms, wait) in changes {
                prop_assert!(keys.is_empty() || default_signer(at(now), &keys, &algorithms).is_some());
                let steps = next_steps(at(now), &algorithms, &keys, POLICY);
                apply(&mut keys, now, steps);
                let default = default_signer(at(now), &keys, &algorithms).map(|key| key.algorithm);
                prop_assert!(default.is_some());
                let is_replaced = default.is_some_and(|algorithm| algorithms.contains(&algorithm));
                prop_assert!(next_steps(at(now), &algorithms, &keys, POLICY).is_empty());
                for algorithm in [Rs256, Es256, EdDsa] {
                    if let Some(signing) = signer(at(now), &keys, algorithm) {
                        prop_assert!(published(at(now), &keys).any(|key| key.key_id == signing.key_id));
                        let lead = now - signing.created_at.as_second();
                        prop_assert!(signing.created_at == at(1000) || lead >= 1200);
                        prop_assert!(algorithms.contains(&algorithm) || !is_replaced);
                    }
                }
                now += wait;
            }
        }
    }
}
