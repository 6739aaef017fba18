//! What becomes of a key next, and what it waits for.

use super::{Keyring, SigningKeyRecord, SigningKeyStage, next_activation, signer};
use crate::values::time::Timestamp;

/// What becomes of a key next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// What the key waits for.
    pub wait: KeyWait,
    /// When the wait is over and the key changes its stage; `None` where that is not known yet.
    pub until: Option<Timestamp>,
}

/// What a key waits for before it changes its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyWait {
    /// The exported key set must have the key.
    Export,
    /// Copies of the key set that were handed out before the next key was published must have expired: then that key signs.
    KeySetCopies,
    /// The end of the rotation period.
    RotationPeriod,
    /// Somebody to ask for the next key.
    RotationRequest,
    /// The tokens it signed must have expired: then it is withdrawn.
    IssuedTokens,
}

impl KeyWait {
    /// Everything that is waited for.
    pub const ALL: [Self; 5] =
        [Self::Export, Self::KeySetCopies, Self::RotationPeriod, Self::RotationRequest, Self::IssuedTokens];

    /// The name, as metrics and logs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::KeySetCopies => "key_set_copies",
            Self::RotationPeriod => "rotation_period",
            Self::RotationRequest => "rotation_request",
            Self::IssuedTokens => "issued_tokens",
        }
    }
}

impl<K: AsRef<SigningKeyRecord>> Keyring<'_, K> {
    /// What becomes of a key next; `None` when nothing does.
    pub fn outlook(&self, now: Timestamp, key: &SigningKeyRecord) -> Option<Outlook> {
        let (wait, until) = match key.stage(now) {
            SigningKeyStage::Prepared { activates_at: None } => (KeyWait::Export, None),
            SigningKeyStage::Prepared { activates_at } => (KeyWait::KeySetCopies, activates_at),
            SigningKeyStage::Active { .. } => self.outlook_of_active(now, key),
            SigningKeyStage::Retiring { until, .. } => (KeyWait::IssuedTokens, Some(until)),
            SigningKeyStage::Retired { .. } | SigningKeyStage::Revoked { .. } => return None,
        };
        Some(Outlook { wait, until })
    }

    fn outlook_of_active(&self, now: Timestamp, key: &SigningKeyRecord) -> (KeyWait, Option<Timestamp>) {
        if !self.algorithms.contains(&key.algorithm) {
            // Until one of a listed algorithm can take its place.
            let next = self.algorithms.iter().filter_map(|&algorithm| next_activation(now, self.keys, algorithm)).min();
            return (KeyWait::KeySetCopies, next);
        }
        if signer(now, self.keys, key.algorithm).is_some_and(|signer| signer.as_ref().key_id != key.key_id) {
            // Taken over from a moment ago; its end is about to be written.
            return (KeyWait::IssuedTokens, Some(self.policies.withdrawal(now)));
        }
        match (next_activation(now, self.keys, key.algorithm), self.period_end(now, key)) {
            (Some(next), _) => (KeyWait::KeySetCopies, Some(next)),
            (None, Some(end)) => (KeyWait::RotationPeriod, Some(end)),
            (None, None) => (KeyWait::RotationRequest, None),
        }
    }
}
