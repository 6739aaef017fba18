//! Keys and documents that several tests start from.

use crate::signer::Signer as _;
use std::sync::LazyLock;
use std::time::Duration;

use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

use crate::algorithm::{Scheme, scheme};
use crate::{KeySet, SigningKey};

/// RSA keys take long to make, so all tests share this one.
pub(crate) static RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(SignatureAlgorithm::Rs256).unwrap());

/// The same RSA key under another algorithm.
pub(crate) fn rsa(algorithm: SignatureAlgorithm) -> SigningKey {
    SigningKey::from_pkcs8(algorithm, &RSA.to_pkcs8().unwrap()).unwrap()
}

/// A fresh key; the shared one for RSA.
pub(crate) fn key(algorithm: SignatureAlgorithm) -> SigningKey {
    match scheme(algorithm) {
        Scheme::Rsa(_) => rsa(algorithm),
        Scheme::Ecdsa(_) | Scheme::Ed25519 => SigningKey::generate(algorithm).unwrap(),
    }
}

/// The published form of a key.
pub(crate) fn jwk(key: &SigningKey) -> Map<String, Value> {
    serde_json::to_value(key.public_jwk()).unwrap().as_object().unwrap().clone()
}

/// A JWK with some members replaced; null removes one.
pub(crate) fn with(mut jwk: Map<String, Value>, changes: &Value) -> Map<String, Value> {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            jwk.remove(name);
        } else {
            jwk.insert(name.clone(), value.clone());
        }
    }
    jwk
}

/// A key set document.
pub(crate) fn document(jwks: &[Map<String, Value>]) -> Vec<u8> {
    json!({ "keys": jwks }).to_string().into_bytes()
}

/// A parsed key set.
pub(crate) fn key_set(jwks: &[Map<String, Value>]) -> KeySet {
    KeySet::parse(&document(jwks)).unwrap()
}

/// The least processor time of a few runs: neither other threads nor other processes disturb it.
pub(crate) fn quickest<T>(run: impl Fn() -> T) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let time = |_| {
        let begin = now();
        drop(std::hint::black_box(run()));
        now().saturating_sub(begin)
    };
    (0..5).map(time).min().unwrap()
}
