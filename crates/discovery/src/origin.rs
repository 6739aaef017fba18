//! A trusted issuer's settings, made ready for getting its keys.

use std::sync::Arc;

use countersign_domain::trust::issuer_health::HeldKeys;
use countersign_domain::trust::key_source::KeySource;
use countersign_domain::trust::trusted_issuer::TrustedIssuer;
use countersign_domain::values::time::Timestamp;
use countersign_jose::{InvalidKeySet, KeySet};

use crate::authorities::InvalidAuthorities;
use crate::source::KeySetSource;

/// Where a trusted issuer's keys come from, parsed once.
#[derive(Debug)]
pub enum KeyOrigin {
    /// They are fetched, and kept by [`Discovery`](crate::Discovery).
    Fetched(KeySetSource),
    /// They were uploaded: here they are.
    Uploaded {
        /// The keys.
        key_set: Arc<KeySet>,
        /// From when on they are not used any more.
        not_after: Timestamp,
    },
}

/// Why settings lead to no keys. They are checked before they are stored, so this is a fault of ours by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// The certificates.
    #[error("the certificates of its authorities cannot be used")]
    Authorities(#[source] InvalidAuthorities),
    /// The key set.
    #[error("the uploaded key set cannot be used")]
    KeySet(#[source] InvalidKeySet),
}

impl KeyOrigin {
    /// Reads what a trusted issuer's settings say, its workspace being the tenant in whose name keys are fetched. Costs hashes, and
    /// parsing certificates and keys: keep it beside them.
    pub fn of(issuer: &TrustedIssuer) -> Result<Self, InvalidOrigin> {
        let TrustedIssuer { workspace_id, settings, .. } = issuer;
        match &settings.key_source {
            KeySource::Fetched { jwks_url, authorities, max_stale_age } => {
                let source = KeySetSource::new(settings.issuer_url.clone(), jwks_url.clone())
                    .with_key_uses(settings.key_uses())
                    .with_max_stale_age(*max_stale_age)
                    .for_tenant(workspace_id.as_str());
                let Some(pem) = authorities else { return Ok(Self::Fetched(source)) };
                let authorities = pem.as_str().parse().map_err(InvalidOrigin::Authorities)?;
                Ok(Self::Fetched(source.with_authorities(authorities)))
            }
            KeySource::Uploaded { key_set, not_after } => {
                let key_set =
                    KeySet::parse_for(key_set.as_str().as_bytes(), settings.key_uses()).map_err(InvalidOrigin::KeySet)?;
                Ok(Self::Uploaded { key_set: Arc::new(key_set), not_after: *not_after })
            }
        }
    }
}

/// What operators are told of the keys of a set.
pub fn held_keys(key_set: &KeySet) -> HeldKeys {
    // A set has at most 64 keys.
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    HeldKeys {
        usable: count(key_set.len()),
        key_ids: key_set.key_ids().cloned().collect(),
        ambiguous_key_ids: key_set.ambiguous_key_ids().to_vec(),
        unusable: count(key_set.skipped().len()),
    }
}
