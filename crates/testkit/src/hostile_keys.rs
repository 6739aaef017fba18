//! Members of a key set that no honest issuer publishes.

use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use serde_json::{Value, json};

use crate::signer::Signer;

/// A symmetric key: whoever reads the set could sign with it.
pub fn symmetric(key_id: &str) -> Value {
    json!({ "kty": "oct", "kid": key_id, "use": "sig", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA" })
}

/// So many keys, all good, each under its own id.
pub fn crowd(count: usize) -> Vec<Value> {
    let key = Signer::new(SignatureAlgorithm::Es256, "").public_jwk();
    (0..count).map(|index| with(&key, "kid", json!(format!("crowd-{index}")))).collect()
}

/// A key with a member set or replaced.
pub fn with(key: &Value, member: &str, value: Value) -> Value {
    let mut key = key.clone();
    key[member] = value;
    key
}

/// A key without a member.
pub fn without(key: &Value, member: &str) -> Value {
    let mut key = key.clone();
    key.as_object_mut().expect("a key is an object").remove(member);
    key
}

/// One of every kind of broken, unknown or forbidden key, with a word on what is wrong. No token verifies under any of them, and
/// none keeps the rest of its set from being used.
pub fn broken() -> Vec<(&'static str, Value)> {
    let ec = Signer::new(SignatureAlgorithm::Es256, "broken-ec").public_jwk();
    let rsa = Signer::new(SignatureAlgorithm::Rs256, "broken-rsa").public_jwk();
    let ed = Signer::new(SignatureAlgorithm::EdDsa, "broken-ed").public_jwk();
    let modulus = rsa["n"].as_str().expect("a modulus is text").to_owned();
    vec![
        ("null", Value::Null),
        ("a string", json!("key")),
        ("an array", json!([ec])),
        ("empty", json!({})),
        ("no type", without(&ec, "kty")),
        ("a type that is a number", with(&ec, "kty", json!(1))),
        ("an unknown type", with(&ec, "kty", json!("LWE"))),
        ("an id that is a number", with(&ec, "kid", json!(7))),
        ("an id that is empty", with(&ec, "kid", json!(""))),
        ("an unknown curve", with(&ec, "crv", json!("secp256k1"))),
        ("another curve", with(&ec, "crv", json!("P-384"))),
        ("a point off the curve", with(&ec, "y", ec["x"].clone())),
        ("half a point", without(&ec, "y")),
        ("a coordinate of another length", with(&ec, "x", json!("AQAB"))),
        ("padding", with(&ec, "x", json!(format!("{}=", ec["x"].as_str().expect("a coordinate is text"))))),
        ("for encryption", with(&ec, "use", json!("enc"))),
        ("for signing only", with(&ec, "key_ops", json!(["sign"]))),
        ("another key's algorithm", with(&ec, "alg", json!("RS256"))),
        ("no algorithm at all", with(&ec, "alg", json!("none"))),
        ("a symmetric algorithm", with(&rsa, "alg", json!("HS256"))),
        ("no modulus", without(&rsa, "n")),
        ("a short modulus", with(&rsa, "n", json!(modulus[..172]))),
        ("a modulus that is even", with(&rsa, "n", json!(format!("{}AA", &modulus[..340])))),
        ("an exponent of one", with(&rsa, "e", json!("AQ"))),
        ("an exponent of three", with(&rsa, "e", json!("Aw"))),
        ("an exponent that is even", with(&rsa, "e", json!("AQAC"))),
        ("a certificate and no key", json!({ "kty": "RSA", "kid": "broken-x5c", "x5c": ["MIIB"] })),
        ("a point of small order", with(&ed, "x", json!("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))),
        ("for key agreement", with(&ed, "crv", json!("X25519"))),
        ("symmetric", symmetric("broken-oct")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_shares_no_name() {
        let crowd = crowd(100);
        let names: std::collections::BTreeSet<&str> = crowd.iter().filter_map(|key| key["kid"].as_str()).collect();
        assert_eq!(names.len(), 100);
    }
}
