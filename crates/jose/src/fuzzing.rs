//! What must hold whatever a stranger writes: one function for each parser.
//!
//! The targets in `fuzz/` call these, and so do ordinary tests, with the corpus that the targets start from. A function says whether
//! its input is accepted, and panics where something does not hold.

#![expect(clippy::missing_panics_doc, reason = "panicking is how a target says that something does not hold")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use countersign_domain::exchange::claims::Claims;
use countersign_domain::values::name::{Audience, KeyId, TokenId};
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::token_type::TokenType;
use serde_json::{Map, Value};

use crate::compact::{CompactJws, Header, MAX_HEADER_BYTES, MAX_TOKEN_BYTES};
use crate::json::{self, MAX_DEPTH, MAX_VALUES};
use crate::{KeySet, MalformedToken, SignatureAlgorithm, UnverifiedToken, VerificationPolicy, encoding, verify_signature};

/// The keys that signed the honest tokens of the corpus.
static KEYS: LazyLock<Option<KeySet>> =
    LazyLock::new(|| KeySet::parse(include_bytes!("../../../fuzz/corpus/key_set/accepted-signers-of-the-corpus")).ok());

/// A token as it is presented, verified under the keys of the corpus.
pub fn token(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let unverified = UnverifiedToken::parse(text);
    let jws = match CompactJws::parse(text) {
        Ok(jws) => jws,
        Err(error) => {
            assert_eq!(unverified.err(), Some(error), "only what is split is parsed");
            return false;
        }
    };
    // Whatever is split was within the limits and canonical: one text for the bytes.
    let segments: Vec<&str> = text.split('.').collect();
    assert!(text.len() <= MAX_TOKEN_BYTES && segments.len() == 3);
    assert!(segments[0].len() <= MAX_HEADER_BYTES);
    assert_eq!([encoding::encode(&jws.payload), encoding::encode(&jws.signature)], segments[1..]);
    assert_eq!(jws.signing_input, text.rsplit_once('.').map_or("", |(signed, _)| signed).as_bytes());
    assert!(encoding::decode(segments[0]).is_some_and(|bytes| header(&bytes)));

    let all = BTreeSet::from(SignatureAlgorithm::ALL);
    let (nobodys, keys) = (KeySet::default(), KEYS.as_ref());
    assert!(verify_signature(text, &nobodys, &all).is_err(), "without a key nothing verifies");
    let signature_verifies = keys.is_some_and(|keys| verify_signature(text, keys, &all).as_deref() == Ok(&jws.payload));
    let unverified = match unverified {
        Ok(unverified) => unverified,
        Err(error) => {
            let is_empty = error == MalformedToken::Segments && jws.payload.is_empty();
            assert!(is_empty || matches!(error, MalformedToken::Payload(_) | MalformedToken::Issuer));
            return false;
        }
    };
    let lenient = serde_json::from_slice::<Value>(&jws.payload).ok();
    assert_eq!(lenient.as_ref().and_then(|claims| claims["iss"].as_str()), Some(unverified.unverified_issuer()));
    let token_types = [None, Some("JWT"), Some("JWS")].map(|typ| typ.map(TokenType::new)).into();
    let policy = VerificationPolicy { algorithms: &all, token_types: &token_types };
    let Some(Ok(verified)) = keys.map(|keys| unverified.verify(keys, &policy)) else { return false };
    assert!(signature_verifies, "claims are verified where the signature is, and nowhere else");
    assert!(claims(&jws.payload));
    assert_eq!((verified.algorithm(), verified.key_id()), (jws.header.algorithm, jws.header.key_id.as_ref()));
    true
}

/// The decoded header of a token.
pub fn header(bytes: &[u8]) -> bool {
    let Ok(header) = Header::parse(bytes) else { return false };
    let members = object(bytes);
    let text = |name: &str| members.get(name).map(|value| value.as_str().unwrap_or("(no string)"));
    let named = text("alg").and_then(|name| name.parse::<SignatureAlgorithm>().ok());
    assert_eq!(named, Some(header.algorithm));
    assert_eq!(text("kid"), header.key_id.as_ref().map(KeyId::as_str));
    assert_eq!(text("typ"), header.token_type.as_deref());
    assert!(!members.contains_key("crit") && !members.contains_key("enc"));
    assert!(members.get("b64").is_none_or(|b64| *b64 == Value::Bool(true)));
    true
}

/// The decoded payload of a token.
pub fn claims(bytes: &[u8]) -> bool {
    let Ok(members) = json::parse_object(bytes) else { return false };
    assert!(same(&Value::Object(members.clone()), &Value::Object(object(bytes))));
    let Ok(claims) = Claims::from_members(members.clone()) else { return false };
    assert_eq!(claims.members, members, "no claim is lost");
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    assert_eq!(text("iss"), Some(claims.issuer.as_str()));
    assert_eq!(text("sub"), Some(claims.subject.as_str()));
    assert!((1..=1024).contains(&claims.subject.as_str().len()) && !claims.subject.as_str().contains(char::is_control));
    assert_eq!(text("jti"), claims.token_id.as_ref().map(TokenId::as_str));
    let audiences: Vec<&str> = claims.audiences.iter().map(Audience::as_str).collect();
    match members.get("aud") {
        Some(Value::String(audience)) => assert_eq!(audiences, [audience]),
        Some(Value::Array(values)) => assert_eq!(values.iter().filter_map(Value::as_str).collect::<Vec<_>>(), audiences),
        other => assert!(other.is_some(), "aud is required"),
    }
    assert!(!audiences.is_empty());
    for time in [Some(claims.expires_at), Some(claims.issued_at), claims.not_before].into_iter().flatten() {
        assert!(time >= Timestamp::UNIX_EPOCH);
    }
    true
}

/// A key set. Accepted where a key of it is usable.
pub fn key_set(bytes: &[u8]) -> bool {
    let Ok(keys) = KeySet::parse(bytes) else { return false };
    assert!(bytes.len() <= KeySet::MAX_DOCUMENT_BYTES);
    let members = object(bytes);
    let jwks = members.get("keys").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    assert!(jwks.len() <= KeySet::MAX_ENTRIES && keys.len() <= KeySet::MAX_KEYS);
    let entries = keys.describe();
    assert_eq!(entries.len(), jwks.len(), "every entry is described");
    assert_eq!(entries.iter().filter(|entry| entry.problem.is_some()).count(), keys.skipped().len());
    assert!(keys.len() + keys.skipped().len() <= jwks.len(), "an entry is at most one key");
    let usable = (0..jwks.len()).filter(|position| keys.skipped().iter().all(|skipped| skipped.position != *position));
    for jwk in usable.filter_map(|position| jwks[position].as_object()) {
        assert!(matches!(jwk["kty"].as_str(), Some("RSA" | "EC" | "OKP")));
        assert!(["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"].iter().all(|member| !jwk.contains_key(*member)));
        assert!(jwk.get("use").is_none_or(|purpose| purpose == "sig"));
        assert!(jwk.get("alg").is_none_or(|name| {
            SignatureAlgorithm::ALL.iter().any(|known| name == known.as_str() || name == SignatureAlgorithm::ED25519)
        }));
    }
    for algorithm in SignatureAlgorithm::ALL {
        for key_id in keys.key_ids().map(Some).chain([None]) {
            let Ok(key) = keys.select(key_id, algorithm) else { continue };
            assert!(key.permits(algorithm) && !key.verifies(algorithm, b"message", b"signature"));
            assert!(key_id.is_none_or(|key_id| key.key_id.as_ref() == Some(key_id)));
            assert!(key_id.is_none_or(|key_id| !keys.ambiguous_key_ids().contains(key_id)));
        }
    }
    !keys.is_empty()
}

/// The members of a document that the strict parser took: a lenient one must take it too, and what is written must read the same.
fn object(bytes: &[u8]) -> Map<String, Value> {
    let lenient = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let written = json::parse(lenient.to_string().as_bytes());
    assert!(written.as_ref().is_ok_and(|again| same(again, &lenient)), "{written:?}");
    assert!(depth(&lenient) <= MAX_DEPTH && count(&lenient) <= MAX_VALUES);
    lenient.as_object().cloned().unwrap_or_default()
}

/// Whether two values are the same. A fraction that is written and read may differ in its last bit.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
            (a - b).abs() <= a.abs() * 1e-12
        }
        _ => a == b,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(count).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// Runs what a target starts from through its function, and complains of every seed that is not judged as its name says:
/// `accepted-…`, or `refused-…`, with the number of the statement. What a fuzzer found has other names, and is run alone.
pub fn check_corpus(target: &str, accepts: fn(&[u8]) -> bool) -> std::io::Result<Vec<String>> {
    let (mut accepted, mut refused, mut complaints) = (0, 0, Vec::new());
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let verdict = accepts(&std::fs::read(entry.path())?);
        let (is_accepted, is_refused) = (name.starts_with("accepted-"), name.starts_with("refused-"));
        if is_accepted && !verdict || is_refused && verdict {
            complaints.push(name);
        }
        accepted += usize::from(is_accepted);
        refused += usize::from(is_refused);
    }
    if accepted == 0 || refused == 0 {
        complaints.push(format!("{accepted} seeds to accept, {refused} to refuse"));
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s68_every_seed_is_judged_as_its_name_says() {
        assert_eq!(check_corpus("token", token).unwrap(), [""; 0]);
        assert_eq!(check_corpus("header", header).unwrap(), [""; 0]);
        assert_eq!(check_corpus("claims", claims).unwrap(), [""; 0]);
        assert_eq!(check_corpus("key_set", key_set).unwrap(), [""; 0]);
        // The domain reads no files.
        assert_eq!(check_corpus("pattern", countersign_domain::fuzzing::pattern).unwrap(), [""; 0]);
        assert_eq!(check_corpus("cel", countersign_domain::fuzzing::cel).unwrap(), [""; 0]);
        assert_eq!(check_corpus("condition", countersign_domain::fuzzing::condition).unwrap(), [""; 0]);
    }
}
