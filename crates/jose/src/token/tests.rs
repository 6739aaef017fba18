use crate::signer::Signer as _;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::compact::MAX_TOKEN_BYTES;
use crate::fixtures::{RSA, jwk, key, key_set, quickest, rsa, with};
use crate::json::InvalidJson;
use crate::{SigningKey, encoding};

fn claims() -> Value {
    json!({
        "iss": "https://cloud.rwx.com/mint",
        "sub": "org:my-org:vault:deploy-vault",
        "aud": "https://gateway.example",
        "iat": 1_700_000_000,
        "exp": 1_700_000_600,
    })
}

fn payload() -> Vec<u8> {
    claims().to_string().into_bytes()
}

/// Verifies with one algorithm and the types `JWT` and none.
fn verify(token: &str, keys: &KeySet, algorithms: &[SignatureAlgorithm]) -> Result<VerifiedToken, VerifyError> {
    let algorithms = algorithms.iter().copied().collect();
    let token_types = BTreeSet::from([None, Some(TokenType::new("JWT"))]);
    UnverifiedToken::parse(token)?.verify(keys, &VerificationPolicy { algorithms: &algorithms, token_types: &token_types })
}

fn set_of(key: &SigningKey) -> KeySet {
    key_set(&[jwk(key)])
}

#[test]
fn s03_only_algorithms_of_the_allow_list_reach_the_verifier() {
    for algorithm in SignatureAlgorithm::ALL {
        let key = key(algorithm);
        let token = key.sign("JWT", &payload()).unwrap();
        let keys = set_of(&key);
        assert!(verify(&token, &keys, &[algorithm]).is_ok(), "{algorithm}");
        let others: Vec<_> = SignatureAlgorithm::ALL.into_iter().filter(|other| *other != algorithm).collect();
        assert_eq!(verify(&token, &keys, &others), Err(VerifyError::AlgorithmNotAllowed), "{algorithm}");
        assert_eq!(verify(&token, &keys, &[]), Err(VerifyError::AlgorithmNotAllowed));
        let others = others.into_iter().collect();
        assert_eq!(verify_signature(&token, &keys, &others), Err(VerifyError::AlgorithmNotAllowed), "{algorithm}");
    }
}

#[test]
fn s03_ed25519_is_one_algorithm_under_both_names() {
    let key = key(SignatureAlgorithm::EdDsa);
    for header in ["EdDSA", "Ed25519"] {
        let header_json = json!({"alg": header, "kid": key.key_id(), "typ": "JWT"}).to_string();
        let token = key.sign_with_header(header_json.as_bytes(), &payload()).unwrap();
        for jwk_alg in [json!("EdDSA"), json!("Ed25519"), json!(null)] {
            let keys = key_set(&[with(jwk(&key), &json!({"alg": jwk_alg}))]);
            for allowed in ["EdDSA", "Ed25519"] {
                let allowed = allowed.parse().unwrap();
                let verified = verify(&token, &keys, &[allowed]).unwrap();
                assert_eq!(verified.algorithm(), SignatureAlgorithm::EdDsa, "{header} {jwk_alg} {allowed}");
            }
            let others = SignatureAlgorithm::ALL.into_iter().filter(|other| *other != SignatureAlgorithm::EdDsa);
            let others: Vec<_> = others.collect();
            assert_eq!(verify(&token, &keys, &others), Err(VerifyError::AlgorithmNotAllowed), "{header}");
        }
    }
}

#[test]
fn s03_unsigned_and_hmac_tokens_are_refused() {
    let segment = |json: Value| encoding::encode(json.to_string().as_bytes());
    for (alg, signature) in [("none", "QQ"), ("HS256", "QUFBQQ"), ("None", "QQ")] {
        let token = format!("{}.{}.{signature}", segment(json!({"alg": alg})), segment(claims()));
        assert_eq!(
            verify(&token, &set_of(&RSA), &SignatureAlgorithm::ALL),
            Err(VerifyError::Malformed(MalformedToken::Algorithm))
        );
    }
    let unsigned = format!("{}.{}.", segment(json!({"alg": "none"})), segment(claims()));
    assert_eq!(UnverifiedToken::parse(&unsigned).unwrap_err(), MalformedToken::Segments);
}

#[test]
fn s04_the_header_never_chooses_the_key_type() {
    // The same RSA key signs RS256 and PS256; its JWK says which one it is for.
    let pss = rsa(SignatureAlgorithm::Ps256);
    let kid = RSA.key_id();
    assert_eq!(pss.key_id(), kid);
    let token = pss.sign("JWT", &payload()).unwrap();
    assert_eq!(verify(&token, &set_of(&RSA), &SignatureAlgorithm::ALL), Err(VerifyError::KeyNotPermitted));
    assert!(verify(&token, &key_set(&[with(jwk(&RSA), &json!({"alg": null}))]), &SignatureAlgorithm::ALL).is_ok());

    // Every other algorithm in the header over an RS256 signature.
    for algorithm in SignatureAlgorithm::ALL.into_iter().filter(|algorithm| *algorithm != SignatureAlgorithm::Rs256) {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
        let token = RSA.sign_with_header(header.as_bytes(), &payload()).unwrap();
        assert_eq!(verify(&token, &set_of(&RSA), &SignatureAlgorithm::ALL), Err(VerifyError::KeyNotPermitted), "{algorithm}");
        let open = key_set(&[with(jwk(&RSA), &json!({"alg": null}))]);
        assert!(verify(&token, &open, &SignatureAlgorithm::ALL).is_err(), "{algorithm}");
    }
}

#[test]
fn s06_header_keys_and_urls_never_supply_a_key() {
    let (ours, attackers) = (key(SignatureAlgorithm::Es256), key(SignatureAlgorithm::Es256));
    for header in [
        json!({"alg": "ES256", "jwk": jwk(&attackers)}),
        json!({"alg": "ES256", "kid": ours.key_id(), "jwk": jwk(&attackers)}),
        json!({"alg": "ES256", "kid": ours.key_id(), "jku": "https://attacker.example/jwks.json"}),
        json!({"alg": "ES256", "kid": ours.key_id(), "x5u": "https://attacker.example", "x5c": ["MIIB"], "x5t": "x"}),
    ] {
        let token = attackers.sign_with_header(header.to_string().as_bytes(), &payload()).unwrap();
        assert_eq!(verify(&token, &set_of(&ours), &SignatureAlgorithm::ALL), Err(VerifyError::BadSignature), "{header}");
        // Nor do they harm a token that is signed with the right key.
        let token = ours.sign_with_header(header.to_string().as_bytes(), &payload()).unwrap();
        assert!(verify(&token, &set_of(&ours), &SignatureAlgorithm::ALL).is_ok(), "{header}");
    }
    let named = json!({"alg": "ES256", "kid": attackers.key_id(), "jwk": jwk(&attackers)});
    let token = attackers.sign_with_header(named.to_string().as_bytes(), &payload()).unwrap();
    assert_eq!(verify(&token, &set_of(&ours), &SignatureAlgorithm::ALL), Err(VerifyError::UnknownKey));
}

#[test]
fn s07_extensions_refuse_a_token_that_is_otherwise_fine() {
    let key = key(SignatureAlgorithm::Es256);
    for extension in [json!({"crit": ["exp"], "exp": 1}), json!({"b64": false}), json!({"crit": ["b64"], "b64": false})] {
        let mut header = json!({"alg": "ES256", "kid": key.key_id()});
        header.as_object_mut().unwrap().extend(extension.as_object().unwrap().clone());
        let token = key.sign_with_header(header.to_string().as_bytes(), &payload()).unwrap();
        let only = BTreeSet::from([SignatureAlgorithm::Es256]);
        assert_eq!(verify_signature(&token, &set_of(&key), &only), Err(VerifyError::Malformed(MalformedToken::Extension)));
        assert_eq!(UnverifiedToken::parse(&token).unwrap_err(), MalformedToken::Extension);
    }
}

#[test]
fn s08_the_type_is_compared_as_a_media_type() {
    let key = key(SignatureAlgorithm::Es256);
    let keys = set_of(&key);
    let typed = |typ: Option<&str>| {
        let header = json!({"alg": "ES256", "kid": key.key_id(), "typ": typ});
        let header = with(header.as_object().unwrap().clone(), &json!({"typ": typ}));
        key.sign_with_header(Value::Object(header).to_string().as_bytes(), &payload()).unwrap()
    };
    let check = |typ: Option<&str>, accepted: &[Option<&str>]| {
        let algorithms = BTreeSet::from([SignatureAlgorithm::Es256]);
        let token_types = accepted.iter().map(|typ| typ.map(TokenType::new)).collect();
        let policy = VerificationPolicy { algorithms: &algorithms, token_types: &token_types };
        UnverifiedToken::parse(&typed(typ)).unwrap().verify(&keys, &policy).map(|_| ())
    };
    for typ in [None, Some("JWT"), Some("JWS"), Some("at+jwt")] {
        assert_eq!(check(typ, &[typ]), Ok(()), "{typ:?}");
    }
    for typ in ["JWT", "jwt", "Jwt", "application/jwt", "application/JWT", "Application/Jwt", "APPLICATION/JWT"] {
        for accepted in ["JWT", "jwt", "application/jwt", "Application/JWT"] {
            assert_eq!(check(Some(typ), &[Some(accepted)]), Ok(()), "{typ} {accepted}");
        }
    }
    for typ in ["JWT ", "JWT\0", "text/jwt", "/jwt", "application/", "JWT;x=y", "JOSE", "", "J\u{17f}WT", "logout+jwt"] {
        assert_eq!(check(Some(typ), &[None, Some("JWT")]), Err(VerifyError::TypeNotAllowed), "{typ:?}");
    }
    // Our own access tokens, and logout tokens, in every spelling, unless they are named: in any spelling.
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+JWT", "logout+jwt", "Application/Logout+JWT"] {
        assert_eq!(check(Some(typ), &[None, Some("JWT"), Some("JWS")]), Err(VerifyError::TypeNotAllowed), "{typ}");
        assert_eq!(check(Some(typ), &[Some("at+jwt"), Some("application/LOGOUT+jwt")]), Ok(()), "{typ}");
    }
    assert_eq!(check(None, &[Some("JWT")]), Err(VerifyError::TypeNotAllowed));
    assert_eq!(check(Some("JWT"), &[]), Err(VerifyError::TypeNotAllowed));
}

#[test]
fn s10_s11_payloads_are_strict_json_objects() {
    let key = key(SignatureAlgorithm::Es256);
    for (payload, expected) in [
        (r#"{"iss":"a","iss":"a"}"#, InvalidJson::DuplicateMember),
        (r#"{"iss":"a","x":[{"y":1,"y":1}]}"#, InvalidJson::DuplicateMember),
        (r#"{"iss":"a","exp":1e999}"#, InvalidJson::Malformed),
        (r#"{"iss":"\ud800"}"#, InvalidJson::Malformed),
        (r#"["iss"]"#, InvalidJson::NotAnObject),
        (r#""iss""#, InvalidJson::NotAnObject),
    ] {
        let token = key.sign("JWT", payload.as_bytes()).unwrap();
        assert_eq!(UnverifiedToken::parse(&token).unwrap_err(), MalformedToken::Payload(expected), "{payload}");
    }
    let deep = format!(r#"{{"iss":"a","x":{}{}}}"#, "[".repeat(32), "]".repeat(32));
    let token = key.sign("JWT", deep.as_bytes()).unwrap();
    assert_eq!(UnverifiedToken::parse(&token).unwrap_err(), MalformedToken::Payload(InvalidJson::TooDeep));
}

#[test]
fn s11_tokens_that_are_bombs_are_refused_within_10_ms() {
    let key = key(SignatureAlgorithm::Es256);
    let fill = |head: &str, part: &str, tail: &str| {
        let parts = (11 * 1024 - head.len() - tail.len()) / part.len();
        key.sign("JWT", format!("{head}{}{tail}", part.repeat(parts)).as_bytes()).unwrap()
    };
    let hundred_thousand = encoding::encode(format!(r#"{{"iss":[{}0]}}"#, "0,".repeat(100_000)).as_bytes());
    for bomb in [
        fill(r#"{"iss":"a","x":"#, "[", ""),
        fill(r#"{"iss":"a","x":"#, r#"{"a":"#, ""),
        fill(r#"{"iss":["#, "0,", "0]}"),
        fill(r#"{"iss":["#, "{},", "{}]}"),
        fill(r#"{"iss":"a","x":1e"#, "9", "}"),
        format!("{}.{hundred_thousand}.QQ", encoding::encode(br#"{"alg":"ES256"}"#)),
    ] {
        assert!(UnverifiedToken::parse(&bomb).is_err());
        let time = quickest(|| UnverifiedToken::parse(&bomb));
        assert!(time < std::time::Duration::from_millis(10), "{time:?}");
    }
}

#[test]
fn s01_no_token_has_an_empty_payload_though_a_signature_may_be_over_none() {
    let key = key(SignatureAlgorithm::Es256);
    let header = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, key.key_id());
    let signed = key.sign_with_header(header.as_bytes(), b"").unwrap();
    assert_eq!(verify_signature(&signed, &set_of(&key), &[SignatureAlgorithm::Es256].into()), Ok(Vec::new()));
    assert_eq!(UnverifiedToken::parse(&signed).unwrap_err(), MalformedToken::Segments);
    // A detached payload (RFC 7515, appendix F) is not this one.
    let token = key.sign("JWT", &payload()).unwrap();
    let (signing_input, signature) = token.rsplit_once('.').unwrap();
    let detached = format!("{}..{signature}", signing_input.split_once('.').unwrap().0);
    assert_eq!(verify_signature(&detached, &set_of(&key), &[SignatureAlgorithm::Es256].into()), Err(VerifyError::BadSignature));
}

#[test]
fn s12_claims_are_judged_after_the_signature() {
    let (ours, attackers) = (key(SignatureAlgorithm::Es256), key(SignatureAlgorithm::Es256));
    let mut wrong = claims();
    wrong["aud"] = json!([1]);
    let payload = wrong.to_string().into_bytes();
    let expected = InvalidClaims::WrongType { claim: "aud", expected: "a string or a non-empty array of strings" };
    let signed = ours.sign("JWT", &payload).unwrap();
    assert_eq!(verify(&signed, &set_of(&ours), &SignatureAlgorithm::ALL), Err(VerifyError::InvalidClaims(expected)));
    let header = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, ours.key_id());
    let forged = attackers.sign_with_header(header.as_bytes(), &payload).unwrap();
    assert_eq!(verify(&forged, &set_of(&ours), &SignatureAlgorithm::ALL), Err(VerifyError::BadSignature));
}

#[test]
fn s32_numbers_that_parsing_changed_are_known_with_the_verified_claims() {
    let mut text = claims().to_string();
    text.pop();
    let token =
        RSA.sign("JWT", format!(r#"{text},"tenant":20000000000000000001,"o":{{"n":[1.0,1.00000000000000000001]}}}}"#).as_bytes());
    let verified = verify(&token.unwrap(), &set_of(&RSA), &SignatureAlgorithm::ALL).unwrap();
    let Claims { inexact, .. } = verified.claims();
    assert!(
        inexact.contains("/tenant") && inexact.contains("/o/n/1") && !inexact.contains("/o/n/0") && !inexact.contains("/exp")
    );
}

#[test]
fn s14_s15_the_issuer_that_selects_the_keys_is_the_one_that_is_verified() {
    let key = key(SignatureAlgorithm::Es256);
    for issuer in ["https://a.example", "https://a.example/", " https://A.example", "x"] {
        let mut claims = claims();
        claims["iss"] = json!(issuer);
        let token = key.sign("JWT", claims.to_string().as_bytes()).unwrap();
        let unverified = UnverifiedToken::parse(&token).unwrap();
        assert_eq!(unverified.unverified_issuer(), issuer);
        assert_eq!(verify(&token, &set_of(&key), &SignatureAlgorithm::ALL).unwrap().claims().issuer, issuer);
    }
    for issuer in [json!(null), json!(["https://a.example"]), json!(1), json!({"a": "b"})] {
        let mut claims = claims();
        claims["iss"] = issuer;
        let token = key.sign("JWT", claims.to_string().as_bytes()).unwrap();
        assert_eq!(UnverifiedToken::parse(&token).unwrap_err(), MalformedToken::Issuer);
    }
    let token = key.sign("JWT", b"{}").unwrap();
    assert_eq!(UnverifiedToken::parse(&token).unwrap_err(), MalformedToken::Issuer);
}

#[test]
fn s16_s61_debug_shows_nothing_of_a_token() {
    let key = key(SignatureAlgorithm::Es256);
    let mut claims = claims();
    claims["sub"] = json!("canary");
    let token = key.sign("JWT", claims.to_string().as_bytes()).unwrap();
    let unverified = UnverifiedToken::parse(&token).unwrap();
    assert_eq!(format!("{unverified:?}"), "UnverifiedToken(…)");
    let verified = verify(&token, &set_of(&key), &SignatureAlgorithm::ALL).unwrap();
    assert_eq!(
        format!("{verified:?}"),
        format!("VerifiedToken {{ key_id: Some({:?}), algorithm: Es256, .. }}", key.key_id().as_str())
    );
}

#[test]
fn s16_a_refusal_repeats_nothing_of_the_token() {
    let key = key(SignatureAlgorithm::Es256);
    let signed = |header: Value, claims: &Value| {
        key.sign_with_header(header.to_string().as_bytes(), claims.to_string().as_bytes()).unwrap()
    };
    let with_claim = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signed(json!({"alg": "ES256", "kid": key.key_id()}), &claims)
    };
    let tokens = [
        "canary".to_owned(),
        "canary.canary.canary".to_owned(),
        signed(json!({"alg": "canary"}), &claims()),
        signed(json!({"alg": "ES256", "kid": "canary"}), &claims()),
        signed(json!({"alg": "ES256", "kid": ["canary"]}), &claims()),
        signed(json!({"alg": "ES256", "kid": key.key_id(), "typ": "canary"}), &claims()),
        signed(json!({"alg": "ES256", "crit": ["canary"]}), &claims()),
        with_claim("iss", json!(["canary"])),
        with_claim("sub", json!({"canary": "canary"})),
        with_claim("sub", json!("canary\n")),
        with_claim("exp", json!("canary")),
        with_claim("aud", json!(["canary", ""])),
    ];
    for token in tokens {
        let refusal = verify(&token, &set_of(&key), &SignatureAlgorithm::ALL).unwrap_err();
        assert!(!format!("{refusal} {refusal:?}").contains("canary"), "{refusal}");
    }
}

#[test]
fn altering_any_character_spoils_a_token() {
    for algorithm in [SignatureAlgorithm::Rs256, SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa] {
        let key = key(algorithm);
        let keys = set_of(&key);
        let token = key.sign("JWT", &payload()).unwrap();
        for index in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[index] = if altered[index] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(verify(&altered, &keys, &[algorithm]).is_err(), "{algorithm} {index}");
        }
    }
}

#[test]
fn signatures_of_another_length_or_form_are_refused() {
    for (algorithm, length) in
        [(SignatureAlgorithm::Es256, 64), (SignatureAlgorithm::Es384, 96), (SignatureAlgorithm::Es512, 132)]
    {
        let key = key(algorithm);
        let token = key.sign("JWT", &payload()).unwrap();
        let (signing_input, signature) = token.rsplit_once('.').unwrap();
        let signature = encoding::decode(signature).unwrap();
        assert_eq!(signature.len(), length);
        let (r, s) = signature.split_at(length / 2);
        // RFC 7518, section 3.4: two integers of fixed length, neither shortened, nor lengthened, nor in ASN.1. Nor zeros
        // (CVE-2022-21449).
        let half = u8::try_from(length / 2).unwrap();
        let asn1 = [&[0x30, 4 + 2 * half, 2, half], r, &[2, half], s].concat();
        for wrong in [
            vec![0; length],
            signature[1..].to_vec(),
            signature[..length - 1].to_vec(),
            [&signature[..], &[0]].concat(),
            [&[0], r, &[0], s].concat(),
            [s, r].concat(),
            [r, &vec![0; s.len()]].concat(),
            asn1,
            vec![0xff; length],
        ] {
            let token = format!("{signing_input}.{}", encoding::encode(&wrong));
            assert_eq!(verify(&token, &set_of(&key), &[algorithm]), Err(VerifyError::BadSignature), "{algorithm} {wrong:02x?}");
        }
    }
}

#[test]
fn s53_a_malleated_signature_does_not_change_the_hash_that_identifies_a_token() {
    // The order of P-256: (r, n - s) verifies whenever (r, s) does.
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
        0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let key = key(SignatureAlgorithm::Es256);
    let token = key.sign("JWT", &payload()).unwrap();
    let (signing_input, signature) = token.rsplit_once('.').unwrap();
    let mut signature = encoding::decode(signature).unwrap();
    let mut borrow = 0;
    for index in (0..32).rev() {
        let difference = i16::from(ORDER[index]) - i16::from(signature[32 + index]) - borrow;
        borrow = i16::from(difference < 0);
        signature[32 + index] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let twin = format!("{signing_input}.{}", encoding::encode(&signature));
    assert_ne!(twin, token);
    let [first, second] = [&token, &twin].map(|token| verify(token, &set_of(&key), &[SignatureAlgorithm::Es256]).unwrap());
    assert_eq!(first.signing_input_hash(), second.signing_input_hash());
    assert_eq!(first.signing_input_hash(), hash::plain_sha256(signing_input.as_bytes()));
}

#[test]
fn a_missing_key_is_told_apart_before_verifying() {
    let (ours, others) = (key(SignatureAlgorithm::Es256), key(SignatureAlgorithm::Es256));
    let token = |key: &SigningKey| UnverifiedToken::parse(&key.sign("JWT", &payload()).unwrap()).unwrap();
    assert!(!token(&ours).lacks_key_in(&set_of(&ours)));
    assert!(token(&ours).lacks_key_in(&set_of(&others)));
    assert!(token(&ours).lacks_key_in(&KeySet::default()));
    // A key that is there but unfit, or ambiguous, is no reason to fetch.
    let unfit = key_set(&[with(jwk(&RSA), &json!({"kid": ours.key_id()}))]);
    assert!(!token(&ours).lacks_key_in(&unfit));
    let twin = with(jwk(&others), &json!({"kid": ours.key_id()}));
    assert!(!token(&ours).lacks_key_in(&key_set(&[jwk(&ours), twin])));
}

#[test]
fn s02_we_never_sign_what_we_would_refuse_to_read() {
    let key = key(SignatureAlgorithm::Es256);
    let padded = |length: usize| json!({"iss": "a", "padding": "x".repeat(length)}).to_string().into_bytes();
    let longest = (0..MAX_TOKEN_BYTES).rev().find_map(|length| key.sign("JWT", &padded(length)).ok()).unwrap();
    assert!(longest.len() > MAX_TOKEN_BYTES - 4);
    assert!(UnverifiedToken::parse(&longest).is_ok());
}

proptest! {
    #[test]
    fn s68_no_text_panics(text: String, payload: Vec<u8>) {
        let _ = UnverifiedToken::parse(&text);
        let header = encoding::encode(br#"{"alg":"ES256"}"#);
        let _ = UnverifiedToken::parse(&format!("{header}.{}.QQ", encoding::encode(&payload)));
    }
}

#[test]
fn a_token_tells_its_key_id_before_it_verifies_and_its_claims_after() {
    let (ours, others) = (key(SignatureAlgorithm::Es256), key(SignatureAlgorithm::Es256));
    let algorithms = BTreeSet::from([SignatureAlgorithm::Es256]);
    let (jwt, none) = (BTreeSet::from([Some(TokenType::new("JWT"))]), BTreeSet::from([None]));
    let policy = VerificationPolicy { algorithms: &algorithms, token_types: &jwt };
    let token = UnverifiedToken::parse(&ours.sign("JWT", &payload()).unwrap()).unwrap();
    assert_eq!(token.unverified_key_id(), Some(ours.key_id().as_str()));
    assert_eq!(token.signed_members(&set_of(&ours), &policy).map(|members| &members["sub"]), Ok(&claims()["sub"]));
    let twin = key_set(&[with(jwk(&others), &json!({"kid": ours.key_id()}))]);
    assert_eq!(token.signed_members(&twin, &policy), Err(VerifyError::BadSignature));
    let policy = VerificationPolicy { token_types: &none, ..policy };
    assert_eq!(token.signed_members(&set_of(&ours), &policy), Err(VerifyError::TypeNotAllowed));
    let nameless = ours.sign_with_header(br#"{"alg":"ES256"}"#, &payload()).unwrap();
    assert_eq!(UnverifiedToken::parse(&nameless).unwrap().unverified_key_id(), None);
}
