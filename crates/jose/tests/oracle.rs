//! Another library as an oracle: what it refuses we refuse, and where it is known to be laxer we are not.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_domain::values::token_type::TokenType;
use countersign_jose::Signer as _;
use countersign_jose::{KeySet, SignatureAlgorithm, SigningKey, UnverifiedToken, VerificationPolicy};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use proptest::prelude::*;
use serde_json::{Value, json};

/// One key, as we have it and as the other library has it. Its JWK says nothing of the algorithm, so that its type alone decides.
struct Pair {
    ours: SignatureAlgorithm,
    theirs: Algorithm,
    kid: String,
    keys: KeySet,
    signer: EncodingKey,
    verifier: DecodingKey,
    /// A token that both accept.
    honest: String,
}

/// Every algorithm that the other library knows.
static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    [
        (SignatureAlgorithm::Rs256, Algorithm::RS256),
        (SignatureAlgorithm::Rs384, Algorithm::RS384),
        (SignatureAlgorithm::Rs512, Algorithm::RS512),
        (SignatureAlgorithm::Ps256, Algorithm::PS256),
        (SignatureAlgorithm::Ps384, Algorithm::PS384),
        (SignatureAlgorithm::Ps512, Algorithm::PS512),
        (SignatureAlgorithm::Es256, Algorithm::ES256),
        (SignatureAlgorithm::Es384, Algorithm::ES384),
        (SignatureAlgorithm::EdDsa, Algorithm::EdDSA),
    ]
    .map(|(ours, theirs)| Pair::new(ours, theirs))
    .into()
});

impl Pair {
    fn new(ours: SignatureAlgorithm, theirs: Algorithm) -> Self {
        let key = SigningKey::generate(ours).unwrap();
        let pkcs8 = key.to_pkcs8().unwrap();
        let signer = match theirs {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(&pkcs8),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&pkcs8),
            // That library reads PKCS #8 for RSA only out of PEM.
            _ => {
                let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(&pkcs8));
                EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
            }
        };
        let mut jwk = serde_json::to_value(key.public_jwk()).unwrap();
        jwk.as_object_mut().unwrap().remove("alg");
        let keys = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        let verifier = DecodingKey::from_jwk(&serde_json::from_value::<Jwk>(jwk).unwrap()).unwrap();
        let mut pair = Self { ours, theirs, kid: key.key_id().to_string(), keys, signer, verifier, honest: String::new() };
        pair.honest = pair.sign(&pair.header().to_string(), &claims().to_string());
        pair
    }

    fn header(&self) -> Value {
        json!({"alg": self.ours.as_str(), "kid": self.kid, "typ": "JWT"})
    }

    /// A token over any two texts, signed by the other library.
    fn sign(&self, header: &str, payload: &str) -> String {
        self.sign_message(&format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload)))
    }

    fn sign_message(&self, message: &str) -> String {
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.signer, self.theirs).unwrap();
        format!("{message}.{signature}")
    }

    fn we_accept(&self, token: &str) -> bool {
        let algorithms = BTreeSet::from(SignatureAlgorithm::ALL);
        let token_types = BTreeSet::from([None, Some(TokenType::new("JWT"))]);
        let policy = VerificationPolicy { algorithms: &algorithms, token_types: &token_types };
        UnverifiedToken::parse(token).is_ok_and(|token| token.verify(&self.keys, &policy).is_ok())
    }

    fn they_accept(&self, token: &str, mut validation: Validation) -> bool {
        validation.algorithms = self.verifier.family().algorithms().to_vec();
        jsonwebtoken::decode::<Value>(token, &self.verifier, &validation).is_ok()
    }
}

/// The checks that the other library makes by itself, and those of the issuer and the audience.
fn everything() -> Validation {
    let mut validation = Validation::default();
    validation.set_audience(&["https://gateway.example"]);
    validation.set_issuer(&["https://issuer.example"]);
    validation
}

/// The signature, without any claim that only a policy decides.
fn signature_alone() -> Validation {
    let mut validation = Validation::default();
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    validation
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.example",
        "sub": "org:my-org:vault:deploy-vault",
        "aud": "https://gateway.example",
        "iat": 1_700_000_000,
        "exp": 4_000_000_000_i64,
    })
}

/// Some JSON with some members replaced; null removes one.
fn with(mut base: Value, changes: &Value) -> String {
    for (name, value) in changes.as_object().unwrap() {
        base[name] = value.clone();
        if value.is_null() {
            base.as_object_mut().unwrap().remove(name);
        }
    }
    base.to_string()
}

#[test]
fn both_accept_honest_tokens_and_neither_one_under_another_key_or_algorithm() {
    for pair in PAIRS.iter() {
        let token = &pair.honest;
        for other in PAIRS.iter() {
            let is_own = other.kid == pair.kid;
            assert_eq!(
                (other.we_accept(token), other.they_accept(token, everything())),
                (is_own, is_own),
                "{} {}",
                pair.ours,
                other.ours
            );
            // Under the own key, with the header of the other.
            let header = with(pair.header(), &json!({"alg": other.ours.as_str()}));
            let token = pair.sign(&header, &claims().to_string());
            assert_eq!(
                (pair.we_accept(&token), pair.they_accept(&token, everything())),
                (is_own, is_own),
                "{} {}",
                pair.ours,
                other.ours
            );
        }
    }
}

#[test]
fn where_the_other_library_is_laxer_we_are_not() {
    let pair = &PAIRS[0];
    let (header, payload) = (pair.header().to_string(), claims().to_string());
    let headers = [
        ("s07 unknown crit", with(pair.header(), &json!({"crit": ["exp"]}))),
        ("s07 b64", with(pair.header(), &json!({"b64": false}))),
        ("s08 typ", with(pair.header(), &json!({"typ": "at+jwt"}))),
        ("s08 typ", with(pair.header(), &json!({"typ": "logout+jwt"}))),
        ("s10 twice", header.replacen('{', r#"{"x":1,"x":2,"#, 1)),
        ("s11 deep", header.replacen('{', &format!(r#"{{"x":{}{},"#, "[".repeat(40), "]".repeat(40)), 1)),
    ];
    let payloads = [
        ("s10 twice", payload.replacen('{', r#"{"x":1,"x":2,"#, 1)),
        ("s11 deep", payload.replacen('{', &format!(r#"{{"x":{}{},"#, "[".repeat(40), "]".repeat(40)), 1)),
        ("s12 nbf", with(claims(), &json!({"nbf": "1700000000"}))),
        ("s12 jti", with(claims(), &json!({"jti": 7}))),
        ("s13 no iat", with(claims(), &json!({"iat": null}))),
        ("s12 iat", with(claims(), &json!({"iat": "1700000000"}))),
        ("s14 iss", with(claims(), &json!({"iss": ["https://issuer.example", "https://evil.example"]}))),
        ("s14 no sub", with(claims(), &json!({"sub": null}))),
        ("s14 aud", with(claims(), &json!({"aud": ["https://gateway.example", 7]}))),
        ("s14 empty sub", with(claims(), &json!({"sub": ""}))),
    ];
    let tokens = headers.iter().map(|(rule, header)| (rule, pair.sign(header, &payload)));
    let tokens = tokens.chain(payloads.iter().map(|(rule, payload)| (rule, pair.sign(&header, payload))));
    for (rule, token) in tokens {
        assert!(pair.they_accept(&token, everything()), "{rule}: it is as strict by now");
        assert!(!pair.we_accept(&token), "{rule}");
    }
}

/// One way to spoil a token. Positions wrap around, so that all of them hit.
#[derive(Debug, Clone)]
enum Mutation {
    /// One bit of what a segment encodes.
    FlipBit { segment: usize, bit: usize },
    /// One character of the text.
    Replace { position: usize, by: char },
    /// One character more.
    Insert { position: usize, added: char },
    /// One character less.
    Remove { position: usize },
    /// A segment of a token of another key.
    Swap { segment: usize, other: usize },
    /// The algorithm of another key.
    SwapAlgorithm { other: usize },
    /// A good signature over what the token has become.
    SignAgain,
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let character = || prop_oneof![prop::char::range('!', '~'), Just(' '), Just('\0'), Just('é')];
    let mutation = prop_oneof![
        4 => (0..3_usize, any::<usize>()).prop_map(|(segment, bit)| Mutation::FlipBit { segment, bit }),
        2 => (any::<usize>(), character()).prop_map(|(position, by)| Mutation::Replace { position, by }),
        1 => (any::<usize>(), character()).prop_map(|(position, added)| Mutation::Insert { position, added }),
        1 => any::<usize>().prop_map(|position| Mutation::Remove { position }),
        1 => (0..3_usize, any::<usize>()).prop_map(|(segment, other)| Mutation::Swap { segment, other }),
        1 => any::<usize>().prop_map(|other| Mutation::SwapAlgorithm { other }),
        4 => Just(Mutation::SignAgain),
    ];
    prop::collection::vec(mutation, 1..5)
}

impl Mutation {
    fn apply(&self, pair: &Pair, token: &str) -> String {
        let mut characters: Vec<char> = token.chars().collect();
        let mut segments: Vec<String> = token.split('.').map(str::to_owned).collect();
        match self {
            Self::FlipBit { segment, bit } => {
                let segment = segment % segments.len();
                let Ok(mut bytes) = URL_SAFE_NO_PAD.decode(&segments[segment]) else { return token.to_owned() };
                let bit = bit % (bytes.len() * 8).max(1);
                bytes.get_mut(bit / 8).into_iter().for_each(|byte| *byte ^= 1 << (bit % 8));
                segments[segment] = URL_SAFE_NO_PAD.encode(bytes);
                segments.join(".")
            }
            Self::Replace { position, by } => {
                let position = position % characters.len();
                characters[position] = *by;
                characters.into_iter().collect()
            }
            Self::Insert { position, added } => {
                characters.insert(position % (characters.len() + 1), *added);
                characters.into_iter().collect()
            }
            Self::Remove { position } => {
                characters.remove(position % characters.len());
                characters.into_iter().collect()
            }
            Self::Swap { segment, other } => {
                let segment = segment % segments.len();
                PAIRS[other % PAIRS.len()].honest.split('.').nth(segment).unwrap_or_default().clone_into(&mut segments[segment]);
                segments.join(".")
            }
            Self::SwapAlgorithm { other } => {
                segments[0] =
                    URL_SAFE_NO_PAD.encode(with(pair.header(), &json!({"alg": PAIRS[other % PAIRS.len()].ours.as_str()})));
                segments.join(".")
            }
            Self::SignAgain => match token.rsplit_once('.') {
                Some((message, _)) => pair.sign_message(message),
                None => pair.sign_message(token),
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_mutated_token_is_accepted_that_the_other_library_refuses(pair in any::<usize>(), mutations in mutations()) {
        let pair = &PAIRS[pair % PAIRS.len()];
        let token = mutations.iter().fold(pair.honest.clone(), |token, mutation| mutation.apply(pair, &token));
        if pair.we_accept(&token) {
            prop_assert!(pair.they_accept(&token, signature_alone()), "{} {mutations:?} {token}", pair.ours);
        }
        // Unless it is signed again, whatever was changed spoils it.
        if token != pair.honest && !mutations.iter().any(|mutation| matches!(mutation, Mutation::SignAgain)) {
            prop_assert!(!pair.we_accept(&token), "{} {mutations:?} {token}", pair.ours);
        }
    }
}
