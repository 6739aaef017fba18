//! The keys of an issuer, one by one, as our own verifier and each relying party judge them.
//!
//! A token can be signed with any published key. So a party refuses an issuer for a key that it cannot use, unless the key is for an
//! algorithm that the party does not verify anyway: which algorithm signs is for the issuer's clients to choose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::{Diagnosis, Finding, OwnVerdict};
use crate::issuing::relying_party::RelyingParty;
use crate::values::signature_algorithm::SignatureAlgorithm;

const WHAT: &str = "key set";

/// A key that is meant to verify signatures.
struct Key<'a> {
    position: usize,
    jwk: &'a Value,
    algorithms: Vec<SignatureAlgorithm>,
    /// Why we cannot use it.
    problem: Option<&'a str>,
}

/// Judges the keys of a set.
pub(super) fn judge(jwks: &[Value], verdict: &OwnVerdict, diagnosis: &mut Diagnosis) {
    let mut keys = Vec::new();
    for (position, jwk) in jwks.iter().enumerate() {
        let name = name(position, jwk);
        match text(jwk, "use") {
            Some("enc") => diagnosis.advise(WHAT, format!("{name} is for encryption (`use`) and verifies nothing: leave it out")),
            None if jwk.get("use").is_some() => refuse_key(diagnosis, &name, "`use` must be the text `sig`"),
            None | Some("sig") => {
                // Without a verdict nothing is known of the key, which is no reason to accept it.
                let problem = verdict.keys.get(position).map_or(Some("it was not judged"), Option::as_deref);
                keys.push(Key { position, jwk, algorithms: algorithms(jwk), problem });
            }
            Some("jwt-svid") => {
                let why = "its `use` is `jwt-svid`, which only a trusted issuer with the preset `spiffe` accepts here";
                refuse_key(diagnosis, &name, why);
            }
            Some(_) => refuse_key(
                diagnosis,
                &name,
                "its `use` must be `sig`; Azure and this deployment refuse any other, and no party is known to accept it",
            ),
        }
    }
    for key in &keys {
        let name = name(key.position, key.jwk);
        if let Some(problem) = key.problem {
            refuse_key(diagnosis, &name, problem);
        } else if begins_with_zero(key.jwk, "n") || begins_with_zero(key.jwk, "e") {
            let detail = format!(
                "{name}: `n` and `e` must not begin with a zero octet (RFC 7518, section 6.3.1): AWS refuses the key, and Google Cloud \
                 and Azure are not known to accept it"
            );
            let parties = [RelyingParty::Aws, RelyingParty::Gcp, RelyingParty::Azure];
            diagnosis.refuse(parties.into_iter().filter(|party| key.serves(*party)), WHAT, detail);
        }
    }
    key_ids(&keys, diagnosis);
    let usable = |key: &&Key<'_>| key.problem.is_none();
    diagnosis.algorithms.extend(keys.iter().filter(usable).flat_map(|key| key.algorithms.iter().copied()));
    for party in RelyingParty::ALL {
        if !keys.iter().filter(usable).any(|key| key.serves(party)) {
            let accepted = party.algorithms().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            diagnosis.refuse(
                [party],
                WHAT,
                format!("{party} verifies {accepted} only, and there is no usable key for any of them"),
            );
        }
    }
    if !keys.iter().any(|key| usable(&key)) {
        let detail = "there is no usable key for this deployment".to_owned();
        diagnosis.findings.push(Finding { what: WHAT, refused_by: BTreeSet::new(), refused_by_us: true, detail });
    }
}

impl Key<'_> {
    /// Whether the party verifies an algorithm of the key.
    fn serves(&self, party: RelyingParty) -> bool {
        self.algorithms.iter().any(|algorithm| party.algorithms().contains(algorithm))
    }
}

fn refuse_key(diagnosis: &mut Diagnosis, name: &str, why: &str) {
    diagnosis.refuse(RelyingParty::ALL, WHAT, format!("{name} cannot be used: {why}; tokens that it signs are refused"));
}

/// Keys without a `kid`, and those that share one.
fn key_ids(keys: &[Key<'_>], diagnosis: &mut Diagnosis) {
    if keys.iter().any(|key| text(key.jwk, "kid").is_none()) {
        let detail = "a key has no `kid`: AWS, Google and Azure find keys by it";
        diagnosis.refuse([RelyingParty::Aws, RelyingParty::Gcp, RelyingParty::Azure], WHAT, detail);
    }
    let mut by_id: BTreeMap<&str, Vec<&Key<'_>>> = BTreeMap::new();
    for key in keys {
        if let Some(id) = text(key.jwk, "kid") {
            by_id.entry(id).or_default().push(key);
        }
    }
    let shared = by_id.values().filter(|keys| keys.len() > 1);
    let (same, different): (Vec<_>, Vec<_>) = shared.partition(|keys| {
        let first = keys.first().map(|key| material(key.jwk));
        keys.iter().all(|key| Some(material(key.jwk)) == first)
    });
    if !same.is_empty() {
        diagnosis.advise(WHAT, "a key is listed twice: it counts once here, and relying parties can differ");
    }
    if !different.is_empty() {
        diagnosis.refuse(RelyingParty::ALL, WHAT, "two keys have one `kid`: which of them verifies is left to chance");
    }
}

/// What makes a key this key.
fn material(jwk: &Value) -> [Option<&Value>; 6] {
    ["kty", "crv", "n", "e", "x", "y"].map(|member| jwk.get(member))
}

/// How a message names a key: by its place, and its id where that is a plain one.
fn name(position: usize, jwk: &Value) -> String {
    let mut name = format!("key {}", position + 1);
    let is_plain = |id: &&str| id.len() <= 128 && id.chars().all(|character| character.is_ascii_graphic());
    if let Some(id) = text(jwk, "kid").filter(is_plain) {
        let _ = write!(name, " (`{id}`)");
    }
    name
}

fn text<'a>(jwk: &'a Value, member: &str) -> Option<&'a str> {
    jwk.get(member).and_then(Value::as_str)
}

/// Whether a number in base64url begins with a zero octet: its first six bits are zero, and the next two.
fn begins_with_zero(jwk: &Value, member: &str) -> bool {
    text(jwk, member).is_some_and(|number| {
        let mut characters = number.bytes();
        number.len() > 2
            && characters.next() == Some(b'A')
            && characters.next().is_some_and(|second| (b'A'..=b'P').contains(&second))
    })
}

/// What a key can be for: what it says, or else what its type allows.
fn algorithms(jwk: &Value) -> Vec<SignatureAlgorithm> {
    use SignatureAlgorithm::{EdDsa, Es256, Es384, Es512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    if let Some(algorithm) = text(jwk, "alg") {
        return algorithm.parse().into_iter().collect();
    }
    match (text(jwk, "kty"), text(jwk, "crv")) {
        (Some("RSA"), _) => vec![Rs256, Rs384, Rs512, Ps256, Ps384, Ps512],
        (Some("EC"), Some("P-256")) => vec![Es256],
        (Some("EC"), Some("P-384")) => vec![Es384],
        (Some("EC"), Some("P-521")) => vec![Es512],
        (Some("OKP"), Some("Ed25519")) => vec![EdDsa],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(jwks: &Value, problems: &[Option<&str>]) -> Diagnosis {
        let mut diagnosis = Diagnosis { findings: Vec::new(), algorithms: BTreeSet::new(), not_checked: Vec::new() };
        let keys = problems.iter().map(|problem| problem.map(str::to_owned)).collect();
        judge(jwks.as_array().unwrap(), &OwnVerdict { problem: None, keys }, &mut diagnosis);
        diagnosis
    }

    fn refusing(diagnosis: &Diagnosis) -> (Vec<&'static str>, bool) {
        let parties = RelyingParty::ALL.into_iter().filter(|party| !diagnosis.is_accepted_by(*party));
        (parties.map(RelyingParty::as_str).collect(), !diagnosis.is_accepted_by_us())
    }

    const ALL: [&str; 5] = ["aws", "gcp", "azure", "vault", "kubernetes"];

    #[test]
    fn s86_a_key_that_a_party_cannot_use_is_never_ok_for_it() {
        let rsa = |members: Value| {
            let mut jwk = json!({"kty": "RSA", "kid": "1", "alg": "RS256", "n": "wX", "e": "AQAB"});
            jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            json!([jwk])
        };
        let cases: &[(Value, Option<&str>, &[&str], bool)] = &[
            (rsa(json!({})), None, &[], false),
            (rsa(json!({"n": "AAAA"})), Some("its modulus is not an odd number of 2048 to 8192 bits"), &ALL, true),
            (rsa(json!({"use": "sign"})), Some("it is not for verifying signatures"), &ALL, true),
            (rsa(json!({"use": "jwt-svid"})), None, &ALL, true),
            (rsa(json!({"use": ["sig"]})), Some("a member is malformed"), &ALL, true),
            (rsa(json!({"use": "enc"})), Some("it is not for verifying signatures"), &ALL, true),
            // 257 octets, which our own verifier accepts: Vault and Kubernetes read the number, AWS does not.
            (rsa(json!({"n": "AMFf"})), None, &["aws", "gcp", "azure"], false),
            (rsa(json!({"e": "AAEAAQ"})), None, &["aws", "gcp", "azure"], false),
            (rsa(json!({"n": "AQAB"})), None, &[], false),
            (rsa(json!({"alg": "PS256"})), None, &["aws", "gcp", "azure"], false),
            (rsa(json!({"alg": "RS512"})), None, &["gcp", "azure"], false),
            (rsa(json!({"alg": "HS256"})), Some("its alg is not an accepted algorithm"), &ALL, true),
            (json!([{"kty": "EC", "kid": "1", "crv": "P-256"}]), None, &["azure"], false),
            (json!([{"kty": "EC", "kid": "1", "crv": "P-384"}]), None, &["gcp", "azure"], false),
            (
                json!([{"kty": "OKP", "kid": "1", "crv": "Ed25519", "alg": "EdDSA"}]),
                None,
                &["aws", "gcp", "azure", "kubernetes"],
                false,
            ),
        ];
        for (jwks, problem, parties, refused_by_us) in cases {
            let diagnosis = judged(jwks, &[*problem]);
            assert_eq!(refusing(&diagnosis), (parties.to_vec(), *refused_by_us), "{jwks}: {:?}", diagnosis.findings);
        }
    }

    #[test]
    fn s86_one_bad_key_beside_a_good_one_refuses_the_tokens_that_it_signs() {
        let good = json!({"kty": "RSA", "kid": "1", "alg": "RS256", "n": "wX", "e": "AQAB"});
        let with = |other: Value, problem| judged(&json!([good, other]), &[None, problem]);
        let bad = with(json!({"kty": "RSA", "kid": "2", "alg": "RS256", "n": "AAAA"}), Some("its modulus"));
        assert_eq!(refusing(&bad), (ALL.to_vec(), true));
        assert!(bad.findings[0].detail.starts_with("key 2 (`2`) cannot be used: its modulus"), "{:?}", bad.findings);
        // Another algorithm, or a key for encryption, is in nobody's way.
        for (other, problem) in [
            (json!({"kty": "EC", "kid": "2", "crv": "P-384"}), None),
            (json!({"kty": "RSA", "kid": "2", "use": "enc"}), Some("it is not for verifying signatures")),
            (good.clone(), None),
        ] {
            assert_eq!(refusing(&with(other, problem)), (Vec::new(), false));
        }
        // A key that was not judged is not accepted.
        assert_eq!(refusing(&judged(&json!([good]), &[])), (ALL.to_vec(), true));
    }
}
