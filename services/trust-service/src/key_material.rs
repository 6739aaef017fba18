//! Reads the keys and certificates that somebody wants to store with a trusted issuer.

use countersign_discovery::Authorities;
use countersign_domain::trust::key_source::{KeySource, KeyUses, UploadedKeySet};
use countersign_domain::trust::trusted_issuer::TrustedIssuerSettings;
use countersign_domain::values::violation::Violations;
use countersign_jose::{KeySet, UnusableKey};

const KEY_SET: &str = "trusted_issuer.jwks";

/// Notes everything that is wrong with key sets and certificates. What passes can be used by gateways as it is.
pub(crate) fn check(settings: &TrustedIssuerSettings, violations: &mut Violations) {
    match &settings.key_source {
        KeySource::Fetched { authorities: Some(pem), .. } => {
            violations.check("trusted_issuer.ca_certificates", pem.as_str().parse::<Authorities>());
        }
        KeySource::Fetched { authorities: None, .. } => {}
        KeySource::Uploaded { key_set, .. } => check_key_set(key_set, settings.key_uses(), violations),
    }
}

/// Unlike in a set that is fetched, a key that should not be there is refused: who uploads can be told, and what is secret must
/// not be stored. Keys of other types, or for other uses, are no fault.
fn check_key_set(document: &UploadedKeySet, uses: KeyUses, violations: &mut Violations) {
    let parsed = KeySet::parse_for(document.as_str().as_bytes(), uses);
    let Some(key_set) = violations.check(KEY_SET, parsed) else { return };
    for (position, key) in key_set.describe().iter().enumerate() {
        if key.problem.is_some_and(|reason| !is_for_another_purpose(reason)) {
            let key_id = key.key_id.as_ref().map(|key_id| format!("the key `{key_id}` ")).unwrap_or_default();
            violations.add(format!("{KEY_SET}.keys[{position}]"), format!("{key_id}is never used: {}; leave it out", key.detail));
        }
    }
    for key_id in key_set.ambiguous_key_ids() {
        violations.add(KEY_SET, format!("contains different keys with the id `{key_id}`, under which nothing would verify"));
    }
    if key_set.is_empty() && violations.is_empty() {
        let has_jwt_svid = key_set.skipped().iter().any(|skipped| skipped.reason == UnusableKey::JwtSvid);
        let remedy = if has_jwt_svid { "; its keys with `use: jwt-svid` do so under the preset `spiffe`" } else { "" };
        violations.add(KEY_SET, format!("must contain a key that verifies signatures{remedy}"));
    }
}

/// Whether a key is fit for something else, so that its place in the set is no mistake.
const fn is_for_another_purpose(reason: UnusableKey) -> bool {
    matches!(reason, UnusableKey::UnknownType | UnusableKey::NotForVerification | UnusableKey::JwtSvid | UnusableKey::Algorithm)
}
