//! Reads the keys and certificates that somebody wants to store with a trusted issuer.

use countersign_discovery::Authorities;
use countersign_domain::key_source::{KeySource, UploadedKeySet};
use countersign_domain::trusted_issuer::TrustedIssuerSettings;
use countersign_domain::violation::Violations;
use countersign_jose::{KeySet, SkippedKey, UnusableKey};

const KEY_SET: &str = "trusted_issuer.jwks";

/// Notes everything that is wrong with key sets and certificates. What passes can be used by gateways as it is.
pub(crate) fn check(settings: &TrustedIssuerSettings, violations: &mut Violations) {
    match &settings.key_source {
        KeySource::Fetched { authorities: Some(pem), .. } => {
            violations.check("trusted_issuer.ca_certificates", pem.as_str().parse::<Authorities>());
        }
        KeySource::Fetched { authorities: None, .. } => {}
        KeySource::Uploaded { key_set, .. } => check_key_set(key_set, violations),
    }
}

/// Unlike in a set that is fetched, a key that should not be there is refused: who uploads can be told, and what is secret must
/// not be stored. Keys of other types, or for other uses, are no fault.
fn check_key_set(document: &UploadedKeySet, violations: &mut Violations) {
    let Some(key_set) = violations.check(KEY_SET, KeySet::parse(document.as_str().as_bytes())) else { return };
    for SkippedKey { position, reason } in key_set.skipped() {
        if !matches!(reason, UnusableKey::UnknownType | UnusableKey::NotForVerification | UnusableKey::Algorithm) {
            violations.add(format!("{KEY_SET}.keys[{position}]"), format!("is never used: {reason}; leave it out"));
        }
    }
    for key_id in key_set.ambiguous_key_ids() {
        violations.add(KEY_SET, format!("has several keys with the id `{key_id}`, under which nothing would verify"));
    }
    if key_set.is_empty() && violations.is_empty() {
        violations.add(KEY_SET, "must hold a key that verifies signatures");
    }
}
