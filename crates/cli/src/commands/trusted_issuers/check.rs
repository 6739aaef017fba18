//! What a check of a trusted issuer found, for people and programs.

use countersign_proto::trust_v1::{CheckTrustedIssuerResponse, CheckedKey, TrustedIssuer, TrustedIssuerProblem};
use serde_json::{Value, json};

use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};
use crate::resources::trusted_issuer_json;

/// Shows what was found.
///
/// # Errors
/// The keys cannot be read, or none of them verifies anything: scripts are to notice.
pub(super) fn show(found: &CheckTrustedIssuerResponse, format: ListFormat, output: &mut Output) -> Result<()> {
    let issuer = found.trusted_issuer.clone().unwrap_or_default();
    match format {
        ListFormat::Json => output.json(&as_json(found, &issuer))?,
        ListFormat::Table => {
            if !found.jwks_uri.is_empty() {
                output.message(format!("Keys of {} at {}.", issuer.issuer_url, found.jwks_uri));
            }
            let rows: Vec<_> = found.keys.iter().map(row).collect();
            output.table(["KEY", "ALGORITHMS", "PROBLEM", "NOTE"], &rows)?;
        }
    }
    match advice(&issuer) {
        Some(advice) => Err(Failure::Failed(anyhow::anyhow!("{}: {advice}", issuer.issuer_url))),
        None => Ok(()),
    }
}

fn row(key: &CheckedKey) -> [String; 4] {
    [key.key_id.clone(), key.algorithms.join(" "), key.problem.clone(), key.notes.join("; ")]
}

fn as_json(found: &CheckTrustedIssuerResponse, issuer: &TrustedIssuer) -> Value {
    let key = |key: &CheckedKey| json!({ "key_id": key.key_id, "algorithms": key.algorithms, "problem": key.problem, "notes": key.notes });
    json!({
        "trusted_issuer": trusted_issuer_json(issuer),
        "jwks_uri": found.jwks_uri,
        "keys": found.keys.iter().map(key).collect::<Vec<_>>(),
        "fresh_for": found.fresh_for.as_ref().map(duration::from_wire),
    })
}

/// What to do about what was found; nothing when all is well.
fn advice(issuer: &TrustedIssuer) -> Option<String> {
    let health = issuer.health.as_ref()?;
    let advice = match health.problem() {
        TrustedIssuerProblem::Unspecified if health.usable_keys == 0 => "its key set holds no key that verifies signatures",
        TrustedIssuerProblem::Unspecified => return None,
        TrustedIssuerProblem::HostRefused => {
            "its host has no address, or one that is not public: the operator must allow the network with \
             COUNTERSIGN_ISSUER_NETWORKS; where the network is allowed, the host does not serve the keys, and the log of trust-service has \
             the cause; give a private authority with --issuer-ca-file, or the keys with --jwks-file"
        }
        TrustedIssuerProblem::Unreachable => {
            "it does not answer in time; if it cannot be reached at all, give its keys with --jwks-file"
        }
        TrustedIssuerProblem::CertificateRefused => {
            "its certificate is not from a trusted authority, not for this host or not valid now; give a private authority with --issuer-ca-file"
        }
        TrustedIssuerProblem::DiscoveryStatus => {
            return Some(format!(
                "its discovery document came with status {}; give the key set with --jwks-url",
                health.http_status
            ));
        }
        TrustedIssuerProblem::DiscoveryDocumentInvalid => {
            "its discovery document is longer than 100 KiB, not strict JSON or without issuer"
        }
        TrustedIssuerProblem::DiscoveryIssuerMismatch => {
            "its discovery document names another issuer: the URL must be the same to the last byte, a trailing slash included"
        }
        TrustedIssuerProblem::JwksUriInvalid => "its discovery document names no https URL for its keys",
        TrustedIssuerProblem::JwksUriElsewhere => {
            "its keys are on another host: if that is right, give their URL with --jwks-url"
        }
        TrustedIssuerProblem::KeySetStatus => return Some(format!("its key set came with status {}", health.http_status)),
        TrustedIssuerProblem::KeySetInvalid => "its key set is longer than 100 KiB or not strict JSON",
        TrustedIssuerProblem::KeySetSingleKey => {
            "its key set is a single JSON Web Key (JWK), not a JSON Web Key Set: the issuer must write {\"keys\":[…]} around it, or give \
             the set with --jwks-file"
        }
        TrustedIssuerProblem::KeySetWithoutKeys => "its key set has no array named `keys`, so it is not a JSON Web Key Set",
        TrustedIssuerProblem::KeySetTooManyKeys => "its key set has more than 64 keys",
        TrustedIssuerProblem::UploadedKeysExpired => {
            "its uploaded keys have ended; give new ones with --jwks-file and --jwks-expire-time"
        }
    };
    Some(advice.to_owned())
}
