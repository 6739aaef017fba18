use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::fixtures::{RSA, document, jwk, key, key_set, quickest, with};

fn ec() -> Map<String, Value> {
    jwk(&key(SignatureAlgorithm::Es256))
}

fn selected<'a>(keys: &'a KeySet, key_id: Option<&str>, algorithm: SignatureAlgorithm) -> Result<&'a str, VerifyError> {
    let key_id = key_id.map(|key_id| key_id.parse::<KeyId>().unwrap());
    keys.select(key_id.as_ref(), algorithm).map(|key| key.key_id.as_ref().map_or("", KeyId::as_str))
}

#[test]
fn s10_a_duplicate_member_name_refuses_the_set() {
    let text = String::from_utf8(document(&[ec()])).unwrap();
    for altered in [
        text.replacen("\"kty\"", "\"kty\":\"EC\",\"kty\"", 1),
        text.replacen("\"kty\"", "\"x-nested\":{\"a\":1,\"a\":1},\"kty\"", 1),
        text.replacen("{\"keys\"", "{\"keys\":[],\"keys\"", 1),
    ] {
        assert_eq!(
            KeySet::parse(altered.as_bytes()).unwrap_err(),
            InvalidKeySet::Json(InvalidJson::DuplicateMember),
            "{altered}"
        );
    }
}

#[test]
fn s11_key_sets_that_are_bombs_are_refused_within_10_ms() {
    let fill = |head: &str, part: &str, tail: &str| {
        let parts = (KeySet::MAX_DOCUMENT_BYTES - head.len() - tail.len()) / part.len();
        format!("{head}{}{tail}", part.repeat(parts))
    };
    for bomb in [
        fill(r#"{"keys":["#, "0,", "0]}"),
        fill(r#"{"keys":["#, "{},", "{}]}"),
        fill(r#"{"keys":"#, "[", ""),
        fill(r#"{"keys":[{"kty":"RSA","n":""#, "A", "\"}"),
        format!(r#"{{"keys":[{}0]}}"#, "0,".repeat(100_000)),
        format!(r#"{{"keys":[{{"kty":"EC","x":1e999}},{}0]}}"#, "0,".repeat(100)),
    ] {
        assert!(KeySet::parse(bomb.as_bytes()).is_err());
        let time = quickest(|| KeySet::parse(bomb.as_bytes()));
        assert!(time < std::time::Duration::from_millis(10), "{time:?}");
    }
}

#[test]
fn s41_a_set_has_at_most_64_keys_and_100_kib() {
    let keys = |count| KeySet::parse(&document(&vec![ec(); count]));
    assert_eq!(keys(64).unwrap().len(), 64);
    assert_eq!(keys(65).unwrap_err(), InvalidKeySet::TooManyKeys);
    // Broken keys count too.
    let broken = json!({"keys": vec![json!(null); 65]}).to_string();
    assert_eq!(KeySet::parse(broken.as_bytes()).unwrap_err(), InvalidKeySet::TooManyKeys);
    let long = format!("{}{{\"keys\":[]}}", " ".repeat(KeySet::MAX_DOCUMENT_BYTES));
    assert_eq!(KeySet::parse(long.as_bytes()).unwrap_err(), InvalidKeySet::TooLong);
}

#[test]
fn s44_what_is_not_a_key_set_is_an_error_and_an_empty_one_is_not() {
    for text in ["{}", r#"{"keys":null}"#, r#"{"keys":{}}"#, r#"{"keys":"x"}"#, r#"{"Keys":[]}"#] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), InvalidKeySet::NoKeys, "{text}");
    }
    for text in ["", "[]", "<html>", r#"{"keys":["#, r#"{"keys":[]} x"#] {
        assert!(matches!(KeySet::parse(text.as_bytes()).unwrap_err(), InvalidKeySet::Json(_)), "{text}");
    }
    let empty = KeySet::parse(br#"{"keys":[]}"#).unwrap();
    assert!(empty.is_empty());
    assert_eq!(selected(&empty, Some("a"), SignatureAlgorithm::Es256), Err(VerifyError::UnknownKey));
    assert_eq!(selected(&empty, None, SignatureAlgorithm::Es256), Err(VerifyError::UnknownKey));
}

#[test]
fn s43_broken_keys_are_skipped_and_the_rest_stays_usable() {
    let fine = with(ec(), &json!({"kid": "fine"}));
    let text = json!({"keys": [
        {"kty": "oct", "k": "AA", "kid": "fine"},
        fine,
        null,
        with(ec(), &json!({"kid": "fine", "d": "AA"})),
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
        with(jwk(&RSA), &json!({"kid": "fine", "e": "Aw"})),
    ]});
    let keys = KeySet::parse(text.to_string().as_bytes()).unwrap();
    assert_eq!(keys.key_ids().map(KeyId::as_str).collect::<Vec<_>>(), ["fine"]);
    let skipped = [
        (0, UnusableKey::Symmetric),
        (2, UnusableKey::Malformed),
        (3, UnusableKey::Private),
        (4, UnusableKey::UnknownType),
        (5, UnusableKey::Exponent),
    ];
    assert_eq!(keys.skipped(), skipped.map(|(position, reason)| SkippedKey { position, reason }));
    assert!(keys.ambiguous_key_ids().is_empty());
    assert_eq!(selected(&keys, Some("fine"), SignatureAlgorithm::Es256), Ok("fine"));
    let described = keys.describe();
    assert_eq!(described.len(), 6);
    for (position, key) in described.iter().enumerate() {
        let problem = skipped.iter().find(|(skipped, _)| *skipped == position).map(|(_, reason)| *reason);
        assert_eq!(key.problem, problem, "{position}");
    }
    assert_eq!(
        (described[1].key_id.map(KeyId::as_str), described[1].algorithms),
        (Some("fine"), &[SignatureAlgorithm::Es256][..])
    );
}

#[test]
fn s43_two_candidates_make_a_key_id_unusable_for_every_algorithm() {
    let twin = |alg: &str| with(jwk(&RSA), &json!({"kid": "twin", "alg": alg}));
    let open = with(jwk(&RSA), &json!({"kid": "twin", "alg": null}));
    let other = with(ec(), &json!({"kid": "other"}));
    let ec_twin = with(ec(), &json!({"kid": "twin"}));

    for pair in
        [vec![twin("RS256"), twin("RS256")], vec![open.clone(), twin("PS512")], vec![twin("RS256"), ec_twin.clone(), open]]
    {
        let keys = key_set(&[pair, vec![other.clone()]].concat());
        assert_eq!(keys.ambiguous_key_ids().iter().map(KeyId::as_str).collect::<Vec<_>>(), ["twin"]);
        for algorithm in [SignatureAlgorithm::Rs256, SignatureAlgorithm::Ps512, SignatureAlgorithm::Es256] {
            assert_eq!(selected(&keys, Some("twin"), algorithm), Err(VerifyError::AmbiguousKey));
        }
        assert_eq!(selected(&keys, Some("other"), SignatureAlgorithm::Es256), Ok("other"));
    }

    // One id for keys of different algorithms is no ambiguity: some issuers list a key once for each algorithm.
    let keys = key_set(&[twin("RS256"), twin("RS512"), ec_twin]);
    assert!(keys.ambiguous_key_ids().is_empty());
    for algorithm in [SignatureAlgorithm::Rs256, SignatureAlgorithm::Rs512, SignatureAlgorithm::Es256] {
        assert_eq!(selected(&keys, Some("twin"), algorithm), Ok("twin"));
    }
}

#[test]
fn s04_a_known_key_that_forbids_the_algorithm_is_not_an_unknown_key() {
    let keys = key_set(&[with(ec(), &json!({"kid": "a"})), with(jwk(&RSA), &json!({"kid": "b", "alg": "RS512"}))]);
    assert_eq!(selected(&keys, Some("a"), SignatureAlgorithm::Rs256), Err(VerifyError::KeyNotPermitted));
    assert_eq!(selected(&keys, Some("b"), SignatureAlgorithm::Rs256), Err(VerifyError::KeyNotPermitted));
    assert_eq!(selected(&keys, Some("b"), SignatureAlgorithm::Rs512), Ok("b"));
    for unknown in ["c", "A", "a ", "aa"] {
        assert_eq!(selected(&keys, Some(unknown), SignatureAlgorithm::Es256), Err(VerifyError::UnknownKey), "{unknown}");
    }
}

#[test]
fn a_token_without_key_id_needs_exactly_one_key_that_permits_its_algorithm() {
    let ec_a = with(ec(), &json!({"kid": "a"}));
    let rsa_b = with(jwk(&RSA), &json!({"kid": "b"}));
    let nameless = with(ec(), &json!({"kid": null}));
    let one = key_set(&[ec_a.clone(), rsa_b]);
    assert_eq!(selected(&one, None, SignatureAlgorithm::Es256), Ok("a"));
    assert_eq!(selected(&one, None, SignatureAlgorithm::Rs256), Ok("b"));
    assert_eq!(selected(&one, None, SignatureAlgorithm::Rs512), Err(VerifyError::UnknownKey));
    let two = key_set(&[ec_a, nameless.clone()]);
    assert_eq!(selected(&two, None, SignatureAlgorithm::Es256), Err(VerifyError::AmbiguousKey));
    assert_eq!(selected(&two, Some("a"), SignatureAlgorithm::Es256), Ok("a"));
    // The only key for an algorithm, but its id is unusable.
    let twin = |changes| with(jwk(&RSA), &changes);
    let unusable = key_set(&[
        twin(json!({"kid": "t", "alg": "RS256"})),
        twin(json!({"kid": "t", "alg": "RS256"})),
        twin(json!({"kid": "t", "alg": "RS512"})),
    ]);
    assert_eq!(selected(&unusable, None, SignatureAlgorithm::Rs512), Err(VerifyError::AmbiguousKey));
}

#[test]
fn a_key_id_says_nothing_where_no_key_has_one() {
    let (nameless, other) = (with(ec(), &json!({"kid": null})), with(ec(), &json!({"kid": null})));
    let one = key_set(&[nameless.clone(), with(jwk(&RSA), &json!({"kid": null}))]);
    for key_id in [None, Some("a")] {
        assert_eq!(selected(&one, key_id, SignatureAlgorithm::Es256), Ok(""), "{key_id:?}");
        assert_eq!(selected(&one, key_id, SignatureAlgorithm::Rs256), Ok(""), "{key_id:?}");
        assert_eq!(selected(&one, key_id, SignatureAlgorithm::Es384), Err(VerifyError::UnknownKey), "{key_id:?}");
        let two = key_set(&[nameless.clone(), other.clone()]);
        assert_eq!(selected(&two, key_id, SignatureAlgorithm::Es256), Err(VerifyError::AmbiguousKey), "{key_id:?}");
    }
    // Beside keys that have one it is no stopgap for an id that is missing: the key of that id may be new.
    let beside = key_set(&[nameless, with(jwk(&RSA), &json!({"kid": "b"}))]);
    assert_eq!(selected(&beside, Some("a"), SignatureAlgorithm::Es256), Err(VerifyError::UnknownKey));
    assert_eq!(selected(&beside, Some("b"), SignatureAlgorithm::Es256), Err(VerifyError::KeyNotPermitted));
}

proptest! {
    #[test]
    fn s68_no_document_panics(bytes: Vec<u8>, member in "kty|crv|x|y|n|e|alg|use|kid|key_ops|d", text: String) {
        let _ = KeySet::parse(&bytes);
        let altered = with(ec(), &json!({member: text}));
        prop_assert!(KeySet::parse(&document(&[altered])).is_ok());
    }
}
