use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::encoding;
use crate::fixtures::{RSA, document, jwk, key, key_set, quickest, with};

fn ec() -> Map<String, Value> {
    jwk(&key(SignatureAlgorithm::Es256))
}

/// An RSA key that is not [`RSA`]. Its private half is not known to anyone.
fn another_rsa() -> Map<String, Value> {
    let mut modulus = vec![0xff; 256];
    modulus[255] = 0xfd;
    with(jwk(&RSA), &json!({"n": encoding::encode(&modulus)}))
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
    let different: Vec<_> = (0..65).map(|_| ec()).collect();
    let twice = |keys: &[Map<String, Value>]| document(&[keys, keys].concat());
    assert_eq!(key_set(&different[..64]).len(), 64);
    assert_eq!(KeySet::parse(&document(&different)).unwrap_err(), InvalidKeySet::TooManyKeys);
    // A key that is listed again is no further key, yet entries have a limit too.
    assert_eq!(KeySet::parse(&twice(&different[..64])).unwrap().len(), 64);
    assert_eq!(KeySet::parse(&twice(&different)).unwrap_err(), InvalidKeySet::TooManyKeys);
    assert_eq!(key_set(&vec![different[0].clone(); 128]).len(), 1);
    let more = KeySet::parse(&document(&vec![different[0].clone(); 129]));
    assert_eq!(more.unwrap_err(), InvalidKeySet::TooManyKeys);
    // Under another id it is one.
    let named: Vec<_> = (0..65).map(|id| with(different[0].clone(), &json!({"kid": id.to_string()}))).collect();
    assert_eq!(KeySet::parse(&document(&named)).unwrap_err(), InvalidKeySet::TooManyKeys);
    // Broken keys count too.
    let broken: Vec<_> = (0..65).map(|id| json!({"kty": "oct", "kid": id.to_string()})).collect();
    let set = |keys: &[Value]| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes());
    assert_eq!(set(&broken).unwrap_err(), InvalidKeySet::TooManyKeys);
    assert_eq!(set(&[&broken[..64], &broken[..64]].concat()).unwrap().skipped().len(), 128);
    let long = format!("{}{{\"keys\":[]}}", " ".repeat(KeySet::MAX_DOCUMENT_BYTES));
    assert_eq!(KeySet::parse(long.as_bytes()).unwrap_err(), InvalidKeySet::TooLong);
    let longest = format!("{{\"keys\":[]{}}}", " ".repeat(100 * 1024 - 11));
    assert_eq!((longest.len(), KeySet::parse(longest.as_bytes()).is_ok()), (KeySet::MAX_DOCUMENT_BYTES, true));
}

#[test]
fn s44_what_is_not_a_key_set_is_an_error_and_an_empty_one_is_not() {
    for text in [
        "{}",
        r#"{"keys":null}"#,
        r#"{"keys":{}}"#,
        r#"{"keys":"x"}"#,
        r#"{"Keys":[]}"#,
        r#"{"kty":"RSA","keys":{}}"#,
        r#"{"kty":1}"#,
    ] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), InvalidKeySet::NoKeys, "{text}");
    }
    for text in [r#"{"kty":"RSA"}"#, r#"{"kty":"EC","crv":"P-256","Keys":[]}"#] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), InvalidKeySet::SingleKey, "{text}");
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
        (described[1].key_id.as_ref().map(KeyId::as_str), described[1].algorithms.as_slice()),
        (Some("fine"), &[SignatureAlgorithm::Es256][..])
    );
}

#[test]
fn s43_two_candidates_make_a_key_id_unusable_for_every_algorithm() {
    let twin = |alg: &str| with(jwk(&RSA), &json!({"kid": "twin", "alg": alg}));
    let open = with(another_rsa(), &json!({"kid": "twin", "alg": null}));
    let other = with(ec(), &json!({"kid": "other"}));
    let ec_twin = with(ec(), &json!({"kid": "twin"}));

    let second = with(another_rsa(), &json!({"kid": "twin", "alg": "RS256"}));
    let ec_pair = vec![ec_twin.clone(), with(ec(), &json!({"kid": "twin"}))];
    for pair in [
        vec![twin("RS256"), second.clone()],
        vec![open.clone(), twin("PS512")],
        vec![twin("RS256"), ec_twin.clone(), open.clone()],
        // Listed once more, a key is as ambiguous as before.
        vec![twin("RS256"), twin("RS256"), second],
        vec![twin("RS512"), twin("RS256"), open],
        ec_pair,
    ] {
        let keys = key_set(&[pair, vec![other.clone()]].concat());
        assert_eq!(keys.ambiguous_key_ids().iter().map(KeyId::as_str).collect::<Vec<_>>(), ["twin"]);
        for algorithm in [SignatureAlgorithm::Rs256, SignatureAlgorithm::Ps512, SignatureAlgorithm::Es256] {
            assert_eq!(selected(&keys, Some("twin"), algorithm), Err(VerifyError::AmbiguousKey));
        }
        assert_eq!(selected(&keys, Some("other"), SignatureAlgorithm::Es256), Ok("other"));
    }

    // One id for keys of different algorithms is no ambiguity.
    let keys = key_set(&[twin("RS256"), twin("RS512"), ec_twin]);
    assert!(keys.ambiguous_key_ids().is_empty());
    for algorithm in [SignatureAlgorithm::Rs256, SignatureAlgorithm::Rs512, SignatureAlgorithm::Es256] {
        assert_eq!(selected(&keys, Some("twin"), algorithm), Ok("twin"));
    }
}

#[test]
fn s43_the_same_material_under_one_id_is_one_key() {
    use SignatureAlgorithm::{EdDsa, Ps256, Rs256, Rs512};
    let entry = |changes| with(with(jwk(&RSA), &json!({"kid": "a"})), &changes);
    let zero = |member: &str| {
        let octets = encoding::decode(jwk(&RSA)[member].as_str().unwrap()).unwrap();
        encoding::encode(&[&[0], &octets[..]].concat())
    };
    let plain = entry(json!({}));
    for (again, further, barred) in [
        // Byte for byte, as GitHub Enterprise Server does.
        (plain.clone(), &[][..], &[Rs512, Ps256][..]),
        // Once without `alg`, in either order: each entry permits what it says, and together they permit what either does.
        (entry(json!({"alg": null})), &[Rs512, Ps256], &[]),
        (entry(json!({"alg": "RS512"})), &[Rs512], &[Ps256]),
        (entry(json!({"use": null})), &[], &[Rs512]),
        (entry(json!({"key_ops": ["verify"]})), &[], &[Rs512]),
        (entry(json!({"x5t": "x", "x5c": [], "iat": 1})), &[], &[Rs512]),
        // One that is never used takes nothing from one that is, whichever comes first.
        (entry(json!({"use": "enc"})), &[], &[Rs512]),
        (entry(json!({"use": "enc", "alg": "RSA-OAEP"})), &[], &[Rs512]),
        (entry(json!({"alg": "RSA-OAEP", "use": null})), &[], &[Rs512]),
        (entry(json!({"key_ops": ["encrypt"], "use": null})), &[], &[Rs512]),
        (entry(json!({"d": "AA"})), &[], &[Rs512]),
        (entry(json!({"n": zero("n")})), &[], &[Rs512]),
        (entry(json!({"e": zero("e")})), &[], &[Rs512]),
    ] {
        for pair in [[plain.clone(), again.clone()], [again.clone(), plain.clone()]] {
            let keys = key_set(&pair);
            assert!(keys.ambiguous_key_ids().is_empty(), "{again:?}");
            assert_eq!((keys.len(), keys.key_ids().count(), keys.describe().len()), (1, 1, 2), "{again:?}");
            for (key_id, permitted) in [Some("a"), None].into_iter().flat_map(|id| further.iter().map(move |one| (id, one))) {
                assert_eq!(selected(&keys, key_id, *permitted), Ok("a"), "{again:?} {permitted}");
            }
            for key_id in [Some("a"), None] {
                assert_eq!(selected(&keys, key_id, Rs256), Ok("a"), "{again:?}");
            }
            for barred in barred {
                assert_eq!(selected(&keys, Some("a"), *barred), Err(VerifyError::KeyNotPermitted), "{again:?} {barred}");
            }
        }
    }
    let ed25519 = jwk(&key(EdDsa));
    for alg in [json!("EdDSA"), json!("Ed25519"), json!(null)] {
        let keys = key_set(&[ed25519.clone(), with(ed25519.clone(), &json!({"alg": alg}))]);
        assert_eq!((keys.len(), selected(&keys, None, EdDsa).is_ok()), (1, true), "{alg}");
    }
}

#[test]
fn s43_the_same_material_under_two_ids_is_found_under_both() {
    let same = jwk(&RSA);
    let (a, b, nameless) = (json!({"kid": "a"}), json!({"kid": "b", "alg": "RS512"}), json!({"kid": null}));
    let keys = key_set(&[a, b, nameless].map(|changes| with(same.clone(), &changes)));
    assert!(keys.ambiguous_key_ids().is_empty());
    assert_eq!(selected(&keys, Some("a"), SignatureAlgorithm::Rs256), Ok("a"));
    assert_eq!(selected(&keys, Some("b"), SignatureAlgorithm::Rs512), Ok("b"));
    // What one id permits says nothing of another.
    assert_eq!(selected(&keys, Some("b"), SignatureAlgorithm::Rs256), Err(VerifyError::KeyNotPermitted));
    assert_eq!(selected(&keys, Some("c"), SignatureAlgorithm::Rs256), Err(VerifyError::UnknownKey));
    // Without an id one key comes into question, by whichever name.
    assert_eq!(selected(&keys, None, SignatureAlgorithm::Rs256), Ok("a"));
    assert_eq!(selected(&keys, None, SignatureAlgorithm::Rs512), Ok("b"));
    // An id that is ambiguous spoils no other id of a key.
    let entry = |jwk, kid: &str| with(jwk, &json!({"kid": kid}));
    let spoiled = key_set(&[entry(jwk(&RSA), "a"), entry(another_rsa(), "a"), entry(jwk(&RSA), "b")]);
    assert_eq!(selected(&spoiled, Some("a"), SignatureAlgorithm::Rs256), Err(VerifyError::AmbiguousKey));
    assert_eq!(selected(&spoiled, Some("b"), SignatureAlgorithm::Rs256), Ok("b"));
}

#[test]
fn encryption_and_signature_keys_can_share_an_id() {
    let signs = with(jwk(&RSA), &json!({"kid": "shared", "alg": null}));
    for other in [
        with(another_rsa(), &json!({"kid": "shared", "use": "enc", "alg": null})),
        with(another_rsa(), &json!({"kid": "shared", "use": "enc", "alg": "RSA-OAEP-256"})),
        with(another_rsa(), &json!({"kid": "shared", "use": null, "alg": "RSA-OAEP"})),
        with(another_rsa(), &json!({"kid": "shared", "use": null, "alg": null, "key_ops": ["wrapKey", "encrypt"]})),
        with(ec(), &json!({"kid": "shared", "use": "enc", "alg": "ECDH-ES"})),
    ] {
        for pair in [[signs.clone(), other.clone()], [other.clone(), signs.clone()]] {
            let keys = key_set(&pair);
            assert!(keys.ambiguous_key_ids().is_empty(), "{other:?}");
            assert_eq!(selected(&keys, Some("shared"), SignatureAlgorithm::Rs256), Ok("shared"), "{other:?}");
            assert_eq!(keys.skipped().len(), 1, "{other:?}");
        }
    }
}

#[test]
fn what_is_unusual_about_a_key_is_noted() {
    let (same, other) = (ec(), jwk(&RSA));
    let n = encoding::decode(other["n"].as_str().unwrap()).unwrap();
    let padded = with(other.clone(), &json!({"n": encoding::encode(&[&[0], &n[..]].concat()), "kid": "padded"}));
    let keys = key_set(&[
        same.clone(),
        with(same.clone(), &json!({"use": "enc"})),
        other,
        with(same.clone(), &json!({"kid": "renamed"})),
        padded,
        with(same, &json!({"alg": null})),
    ]);
    let notes: Vec<_> = keys.describe().iter().map(|entry| entry.notes.clone()).collect();
    let same_as = |position| KeyNote::SameAs { position };
    let expected = [vec![], vec![], vec![], vec![same_as(0)], vec![KeyNote::LeadingZeros, same_as(2)], vec![same_as(0)]];
    assert_eq!(notes, expected);
    assert_eq!(same_as(2).to_string(), "it is the same key as keys[2]");
}

#[test]
fn s43_a_spiffe_bundle_is_a_key_set_of_its_jwt_svid_keys() {
    // RSA keys of 1024 bits and certificates alone are no fault of the set: they verify no token.
    let x509 = with(jwk(&RSA), &json!({"use": "x509-svid", "kid": null, "alg": null, "n": "_w", "x5c": ["MIIB"]}));
    let svid = with(ec(), &json!({"use": "jwt-svid", "kid": "svid", "alg": null}));
    let bundle = json!({"keys": [x509, svid], "spiffe_sequence": 7, "spiffe_refresh_hint": 300}).to_string();
    let keys = KeySet::parse_for(bundle.as_bytes(), KeyUses::SignatureAndJwtSvid).unwrap();
    assert_eq!(keys.skipped(), [SkippedKey { position: 0, reason: UnusableKey::NotForVerification }]);
    for key_id in [Some("svid"), None] {
        assert_eq!(selected(&keys, key_id, SignatureAlgorithm::Es256), Ok("svid"));
    }
    let keys = KeySet::parse(bundle.as_bytes()).unwrap();
    assert!(keys.is_empty());
    assert_eq!(keys.skipped()[1].reason, UnusableKey::JwtSvid);
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
    let entry = |jwk, kid: &str, alg: &str| with(jwk, &json!({"kid": kid, "alg": alg}));
    let twins = [entry(jwk(&RSA), "t", "RS256"), entry(another_rsa(), "t", "RS256"), entry(jwk(&RSA), "t", "RS512")];
    assert_eq!(selected(&key_set(&twins), None, SignatureAlgorithm::Rs512), Err(VerifyError::AmbiguousKey));
    // It has another id too, which is not.
    let renamed = key_set(&[&twins[..], &[entry(jwk(&RSA), "u", "RS512")]].concat());
    assert_eq!(selected(&renamed, None, SignatureAlgorithm::Rs512), Ok("u"));
    assert_eq!(selected(&renamed, None, SignatureAlgorithm::Rs256), Err(VerifyError::AmbiguousKey));
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
