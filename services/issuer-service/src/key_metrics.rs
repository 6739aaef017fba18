//! What operators watch of signing keys. No label names an issuer or a key: there may be any number of them.

use std::collections::BTreeMap;

use countersign_domain::issuing::signing_key::{KeyPolicy, KeyWait, SigningKeyStage, SigningKeyState};
use countersign_domain::values::time::Timestamp;

use crate::directory::Directory;

/// How the signing keys of all issuers stand.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyMetrics {
    /// How many keys are in each state.
    states: BTreeMap<SigningKeyState, i64>,
    /// For how many seconds the key that became active first has been so.
    oldest_active: Option<i64>,
    /// Seconds until the next key that waits for this changes; negative where it is overdue.
    next_changes: BTreeMap<KeyWait, i64>,
}

impl KeyMetrics {
    /// Of the issuers in this picture.
    pub(crate) fn of(directory: &Directory, policy: KeyPolicy, exports: bool, now: Timestamp) -> Self {
        let (mut metrics, policies) = (Self::default(), directory.policies(policy));
        for issuer in directory.all() {
            let keyring = issuer.keyring(&policies, exports);
            for key in issuer.records() {
                let stage = key.stage(now);
                *metrics.states.entry(stage.state()).or_default() += 1;
                if let SigningKeyStage::Active { since } = stage {
                    let age = now.duration_since(since).as_secs();
                    metrics.oldest_active = metrics.oldest_active.max(Some(age));
                }
                if let Some(outlook) = keyring.outlook(now, key)
                    && let Some(until) = outlook.until
                {
                    let left = until.duration_since(now).as_secs();
                    let next = metrics.next_changes.entry(outlook.wait).or_insert(left);
                    *next = left.min(*next);
                }
            }
        }
        metrics
    }

    /// How many keys are in each state, by its name.
    pub(crate) fn by_state(&self) -> Vec<(&'static str, i64)> {
        let count = |state| self.states.get(&state).copied().unwrap_or_default();
        SigningKeyState::ALL.into_iter().map(|state| (state.as_str(), count(state))).collect()
    }

    /// For how many seconds the oldest active key has been active; 0 where there is none.
    pub(crate) fn oldest_active_seconds(&self) -> i64 {
        self.oldest_active.unwrap_or_default()
    }

    /// Seconds until the next change, by the name of what is waited for.
    pub(crate) fn next_changes(&self) -> Vec<(&'static str, i64)> {
        self.next_changes.iter().map(|(wait, seconds)| (wait.as_str(), *seconds)).collect()
    }
}
