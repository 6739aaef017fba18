//! Tokens we sign verify under the key sets we publish, here and in another library.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_domain::values::token_type::TokenType;
use countersign_jose::Signer as _;
use countersign_jose::{
    KeySet, PublicJwkSet, SignatureAlgorithm, SigningKey, UnverifiedToken, VerificationPolicy, verify_signature,
};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};

fn claims() -> Value {
    json!({
        "iss": "https://issuer.example",
        "sub": "org:my-org:vault:deploy-vault",
        "aud": "https://gateway.example",
        "iat": 1_700_000_000,
        "exp": 4_000_000_000_i64,
    })
}

fn published(key: &SigningKey) -> Vec<u8> {
    let set = PublicJwkSet { keys: vec![key.public_jwk().clone()] };
    json!({ "keys": set.keys }).to_string().into_bytes()
}

#[test]
fn every_algorithm_signs_what_verifies() {
    for algorithm in SignatureAlgorithm::ALL {
        let key = SigningKey::generate(algorithm).unwrap();
        let token = key.sign("at+jwt", claims().to_string().as_bytes()).unwrap();
        let keys = KeySet::parse(&published(&key)).unwrap();
        assert_eq!((keys.len(), keys.skipped().len()), (1, 0), "{algorithm}");

        let only = BTreeSet::from([algorithm]);
        assert_eq!(verify_signature(&token, &keys, &only).unwrap(), claims().to_string().as_bytes(), "{algorithm}");

        let token_types = BTreeSet::from([Some(TokenType::new("at+jwt"))]);
        let policy = VerificationPolicy { algorithms: &only, token_types: &token_types };
        let unverified = UnverifiedToken::parse(&token).unwrap();
        assert_eq!(unverified.unverified_issuer(), "https://issuer.example");
        assert_eq!(unverified.unverified_key_id(), Some(key.key_id().as_str()));
        assert!(!unverified.lacks_key_in(&keys));
        let verified = unverified.verify(&keys, &policy).unwrap();
        assert_eq!(Value::Object(verified.claims().members.clone()), claims());
        assert_eq!(verified.key_id(), Some(key.key_id()));
        assert_eq!(verified.algorithm(), algorithm);
    }
}

#[test]
fn a_key_survives_pkcs8_with_its_id() {
    for algorithm in SignatureAlgorithm::ALL {
        let key = SigningKey::generate(algorithm).unwrap();
        let again = SigningKey::from_pkcs8(algorithm, &key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(again.public_jwk(), key.public_jwk());
        let token = again.sign("JWT", claims().to_string().as_bytes()).unwrap();
        let keys = KeySet::parse(&published(&key)).unwrap();
        assert!(verify_signature(&token, &keys, &BTreeSet::from([algorithm])).is_ok(), "{algorithm}");
    }
}

#[test]
fn another_library_verifies_our_tokens_with_our_published_keys() {
    let algorithms = [
        (SignatureAlgorithm::Rs256, Algorithm::RS256),
        (SignatureAlgorithm::Rs384, Algorithm::RS384),
        (SignatureAlgorithm::Rs512, Algorithm::RS512),
        (SignatureAlgorithm::Ps256, Algorithm::PS256),
        (SignatureAlgorithm::Ps384, Algorithm::PS384),
        (SignatureAlgorithm::Ps512, Algorithm::PS512),
        (SignatureAlgorithm::Es256, Algorithm::ES256),
        (SignatureAlgorithm::Es384, Algorithm::ES384),
        (SignatureAlgorithm::EdDsa, Algorithm::EdDSA),
    ];
    for (ours, theirs) in algorithms {
        let key = SigningKey::generate(ours).unwrap();
        let token = key.sign("at+jwt", claims().to_string().as_bytes()).unwrap();
        let set: JwkSet = serde_json::from_slice(&published(&key)).unwrap();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!((header.alg, header.typ.as_deref()), (theirs, Some("at+jwt")));
        let jwk = set.find(header.kid.as_deref().unwrap()).unwrap();
        let mut validation = Validation::new(theirs);
        validation.set_audience(&["https://gateway.example"]);
        let decoded = jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(jwk).unwrap(), &validation).unwrap();
        assert_eq!(decoded.claims, claims());
    }
}

#[test]
fn we_verify_what_another_library_signs() {
    let algorithms = [
        (SignatureAlgorithm::Rs256, Algorithm::RS256),
        (SignatureAlgorithm::Rs512, Algorithm::RS512),
        (SignatureAlgorithm::Ps256, Algorithm::PS256),
        (SignatureAlgorithm::Es256, Algorithm::ES256),
        (SignatureAlgorithm::Es384, Algorithm::ES384),
        (SignatureAlgorithm::EdDsa, Algorithm::EdDSA),
    ];
    for (ours, theirs) in algorithms {
        let key = SigningKey::generate(ours).unwrap();
        let pkcs8 = key.to_pkcs8().unwrap();
        let encoding_key = match theirs {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(&pkcs8),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&pkcs8),
            _ => {
                // That library reads PKCS #8 for RSA only out of PEM.
                let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(&pkcs8));
                EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
            }
        };
        let mut header = Header::new(theirs);
        header.kid = Some(key.key_id().to_string());
        let token = jsonwebtoken::encode(&header, &claims(), &encoding_key).unwrap();
        let keys = KeySet::parse(&published(&key)).unwrap();
        let payload = verify_signature(&token, &keys, &BTreeSet::from([ours])).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), claims(), "{ours}");
    }
}
