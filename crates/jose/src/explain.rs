//! Why a token does not verify, in words for those who may see both the token and the issuer's keys.
//!
//! Nothing here decides anything: the verifier has decided, and its error is put beside what the token and the key set say. Values
//! of a token or key are shown as JSON, cut short, without characters that a terminal would act on.

use std::collections::BTreeSet;

use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::text;
use countersign_domain::values::token_type::TokenType;
use serde_json::{Map, Value};

use crate::compact::MalformedToken;
use crate::key_set::{DescribedKey, KeySet};
use crate::public_key::UnusableKey;
use crate::token::{VerificationPolicy, VerifyError};
use crate::{encoding, json};

/// The most key ids of a set that are listed.
const MAX_LISTED: usize = 8;
/// The most characters of a value that are shown.
const MAX_SHOWN: usize = 64;

fn shown(value: &Value) -> String {
    text::shown(value, MAX_SHOWN)
}

/// The header of a token as it was written, however wrong. For explanations alone.
#[derive(Debug, Clone, Default)]
pub struct WrittenHeader(Map<String, Value>);

impl WrittenHeader {
    /// Reads as much of a token's header as can be read.
    pub fn of(token: &str) -> Self {
        let segment = token.split('.').next().unwrap_or_default();
        let is_short = segment.len() <= crate::compact::MAX_HEADER_BYTES;
        let bytes = is_short.then(|| encoding::decode(segment)).flatten().unwrap_or_default();
        Self(json::parse_object(&bytes).unwrap_or_default())
    }

    /// A member as it is written, or that there is none.
    fn member(&self, name: &str) -> String {
        self.0.get(name).map_or_else(|| format!("no {name}"), |value| format!("{name} {}", shown(value)))
    }

    fn key_id(&self) -> Option<&str> {
        self.0.get("kid").and_then(Value::as_str)
    }

    /// The signing key and algorithm that the header names.
    pub fn key(&self) -> String {
        format!("{} and {}", self.member("kid"), self.member("alg"))
    }

    /// What is wrong with a token that is not a JWT which is ever accepted.
    pub fn malformed(&self, error: MalformedToken) -> String {
        match error {
            MalformedToken::Algorithm => {
                format!("the token has {}, which is never accepted; accepted are {}", self.member("alg"), every_algorithm())
            }
            MalformedToken::KeyId => format!("{error}: the token has {}", self.member("kid")),
            MalformedToken::Type => format!("{error}: the token has {}", self.member("typ")),
            MalformedToken::Extension => {
                let asked = ["crit", "enc", "b64"].into_iter().filter(|name| self.0.contains_key(*name));
                format!("{error}: the token has {}", asked.map(|name| self.member(name)).collect::<Vec<_>>().join(", "))
            }
            error => error.to_string(),
        }
    }

    /// Why a token with this header does not verify under these keys and rules.
    pub fn not_verified(&self, error: VerifyError, keys: &KeySet, policy: &VerificationPolicy<'_>) -> String {
        match error {
            VerifyError::Malformed(malformed) => self.malformed(malformed),
            VerifyError::AlgorithmNotAllowed => {
                let accepted = list(policy.algorithms.iter().map(ToString::to_string));
                format!("the token has {}, which the trusted issuer does not accept; it accepts {accepted}", self.member("alg"))
            }
            VerifyError::TypeNotAllowed => {
                let accepted = list(policy.token_types.iter().map(|typ| written_type(typ.as_ref())));
                format!("the token has {}, which the trusted issuer does not accept; it accepts {accepted}", self.member("typ"))
            }
            VerifyError::UnknownKey => self.unknown_key(keys),
            VerifyError::KeyNotPermitted => {
                let described = keys.describe();
                let named = described.iter().filter(|key| key.problem.is_none() && self.names(key.key_id.as_ref()));
                let permitted: BTreeSet<String> =
                    named.flat_map(|key| &key.algorithms).map(SignatureAlgorithm::to_string).collect();
                format!(
                    "the key of the token's {} does not permit the token's {}; it permits {}",
                    self.member("kid"),
                    self.member("alg"),
                    list(permitted.into_iter())
                )
            }
            VerifyError::AmbiguousKey => match self.key_id().filter(|_| keys.key_ids().next().is_some()) {
                Some(_) => format!(
                    "the key set has several different keys with the token's {}, so nothing verifies under it; the issuer must \
                     give each key an id of its own",
                    self.member("kid")
                ),
                None => format!(
                    "the token has {}, and several keys of the set permit its {}; the issuer must set kid",
                    self.member("kid"),
                    self.member("alg")
                ),
            },
            VerifyError::BadSignature if keys.key_ids().next().is_some() && self.key_id().is_some() => format!(
                "the signature does not verify under the issuer's key with the token's {}: the token was changed, is cut off, or was \
                 signed by another key with this id",
                self.member("kid")
            ),
            VerifyError::BadSignature => format!(
                "the signature does not verify under the issuer's only key for the token's {}: the token was changed, is cut off, or \
                 was signed by another key",
                self.member("alg")
            ),
            VerifyError::InvalidClaims(invalid) => invalid.to_string(),
        }
    }

    fn names(&self, key_id: Option<&KeyId>) -> bool {
        key_id.map(KeyId::as_str) == self.key_id()
    }

    /// The key is absent, or there and of no use.
    fn unknown_key(&self, keys: &KeySet) -> String {
        let described = keys.describe();
        if described.is_empty() {
            return "the issuer's key set has no keys at all".to_owned();
        }
        let unusable: Vec<_> = described.iter().filter(|key| key.problem.is_some()).collect();
        if let Some(key) = unusable.iter().find(|key| key.key_id.is_some() && self.names(key.key_id.as_ref())) {
            return format!(
                "the issuer's key set has the key with the token's {}, but it cannot be used: {}",
                self.member("kid"),
                key.detail
            );
        }
        let usable: Vec<_> = described.iter().filter(|key| key.problem.is_none()).collect();
        // Where no key has an id, the token's tells nothing apart.
        let names_a_key = self.key_id().is_some() && (usable.is_empty() || usable.iter().any(|key| key.key_id.is_some()));
        let what = if names_a_key {
            format!("the issuer's key set has no key with the token's {}", self.member("kid"))
        } else {
            format!("the token has {}, and no usable key of the set permits its {}", self.member("kid"), self.member("alg"))
        };
        let others = unusable.iter().find(|key| key.key_id.is_none() || !names_a_key);
        let others = others.map(|key| format!("another key cannot be used: {}", key.detail));
        [Some(what), Some(listed(&usable)), others].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// The ids of the usable keys.
fn listed(usable: &[&DescribedKey]) -> String {
    let mut names: Vec<String> = Vec::new();
    for key in usable {
        let name = key.key_id.as_ref().map_or("one without kid".to_owned(), |kid| shown(&kid.as_str().into()));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = match names.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match names.as_slice() {
        [] => "it has no usable key".to_owned(),
        names => format!("its usable keys are {}{more}", list(names.iter().take(MAX_LISTED).cloned())),
    }
}

fn written_type(token_type: Option<&TokenType>) -> String {
    token_type.map_or("no typ".to_owned(), |token_type| shown(&token_type.as_str().into()))
}

fn every_algorithm() -> String {
    list(SignatureAlgorithm::ALL.iter().map(ToString::to_string))
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// Why a key of a set is never used, with the value that makes it so.
pub(crate) fn unusable(jwk: &Value, reason: UnusableKey) -> String {
    let member = |name: &str| jwk.get(name).map_or_else(|| format!("no {name}"), |value| format!("{name} {}", shown(value)));
    let length = |name: &str| jwk.get(name).and_then(Value::as_str).and_then(encoding::decode).unwrap_or_default();
    let because = match reason {
        UnusableKey::NotForVerification => ["use", "key_ops"]
            .into_iter()
            .filter(|name| jwk.get(name).is_some())
            .map(|name| format!("it has {}", member(name)))
            .collect::<Vec<_>>()
            .join(" and "),
        UnusableKey::Algorithm => format!("it has {} and {}", member("alg"), member("kty")),
        UnusableKey::UnknownType if jwk.get("crv").is_some() => format!("it has {} and {}", member("kty"), member("crv")),
        UnusableKey::UnknownType => format!("it has {}", member("kty")),
        UnusableKey::Modulus => {
            let modulus = length("n");
            let significant = modulus.iter().position(|byte| *byte != 0).and_then(|at| modulus.get(at..)).unwrap_or_default();
            let bits = significant.len() * 8 - significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
            let parity = if modulus.last().is_some_and(|byte| byte % 2 == 0) { " and is even" } else { "" };
            format!("it has {bits} bits{parity}")
        }
        UnusableKey::Exponent => format!("it has {}", member("e")),
        UnusableKey::Point => {
            let octets = |name: &str| format!("{} octets in {name}", length(name).len());
            let y = if jwk.get("y").is_some() { format!(" and {}", octets("y")) } else { String::new() };
            format!("it has {}, {}{y}", member("crv"), octets("x"))
        }
        UnusableKey::Malformed if !jwk.is_object() => "it is not an object".to_owned(),
        UnusableKey::Malformed => malformed_member(jwk),
        _ => String::new(),
    };
    if because.is_empty() { reason.to_string() } else { format!("{reason}: {because}") }
}

/// The member that is missing, of the wrong type, or not canonical base64url.
fn malformed_member(jwk: &Value) -> String {
    let is_text = |name: &str| jwk.get(name).is_some_and(Value::is_string);
    let required: &[&str] = match jwk.get("kty").and_then(Value::as_str) {
        None => &["kty"],
        Some("RSA") => &["n", "e"],
        Some("EC") => &["crv", "x", "y"],
        Some("OKP") => &["crv", "x"],
        Some(_) => &[],
    };
    for name in required {
        if jwk.get(name).is_none() {
            return format!("{name} is missing");
        }
        if !is_text(name) {
            return format!("{name} is not a string");
        }
        let text = jwk.get(name).and_then(Value::as_str).unwrap_or_default();
        if ["n", "e", "x", "y"].contains(name) && encoding::decode(text).is_none_or(|bytes| bytes.is_empty()) {
            return format!("{name} is not canonical base64url");
        }
    }
    let optional = ["kid", "use", "alg"].into_iter().find(|name| jwk.get(name).is_some_and(|value| !value.is_string()));
    optional.map_or_else(String::new, |name| format!("{name} is not a string"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::{RSA, jwk, key, with};
    use crate::{Signer as _, SigningKey, UnverifiedToken};

    fn token(key: &SigningKey, typ: &str) -> String {
        let claims = json!({"iss": "https://issuer.example", "sub": "s", "aud": "a", "iat": 1, "exp": 2});
        key.sign(typ, claims.to_string().as_bytes()).unwrap()
    }

    fn explained(token: &str, keys: &Value, algorithms: &[SignatureAlgorithm]) -> String {
        let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
        let (algorithms, token_types) =
            (algorithms.iter().copied().collect(), BTreeSet::from([None, Some(TokenType::new("JWT"))]));
        let policy = VerificationPolicy { algorithms: &algorithms, token_types: &token_types };
        let header = WrittenHeader::of(token);
        match UnverifiedToken::parse(token) {
            Err(malformed) => header.malformed(malformed),
            Ok(token) => header.not_verified(token.verify(&keys, &policy).unwrap_err(), &keys, &policy),
        }
    }

    const ALL: &[SignatureAlgorithm] = &SignatureAlgorithm::ALL;

    #[track_caller]
    fn says(explained: &str, words: &[&str]) {
        for word in words {
            assert!(explained.contains(word), "`{word}` is not in: {explained}");
        }
    }

    #[test]
    fn s86_what_is_not_allowed_is_named_with_the_tokens_own_value() {
        let keys = json!({"keys": [jwk(&RSA)]});
        says(&explained(&token(&RSA, "JWT"), &keys, &[SignatureAlgorithm::Es256]), &["alg \"RS256\"", "it accepts ES256"]);
        says(&explained(&token(&RSA, "at+jwt"), &keys, ALL), &["typ \"at+jwt\"", "no typ", "\"JWT\""]);
        let unsigned = |header: Value| {
            let header = encoding::encode(header.to_string().as_bytes());
            format!("{header}.{}.QUFBQQ", encoding::encode(br#"{"iss":"i"}"#))
        };
        says(&explained(&unsigned(json!({"alg": "HS256"})), &keys, ALL), &["alg \"HS256\"", "never accepted", "RS256"]);
        says(&explained(&unsigned(json!({})), &keys, ALL), &["no alg", "never accepted"]);
        says(&explained(&unsigned(json!({"alg": "RS256", "typ": 1})), &keys, ALL), &["typ 1"]);
        says(&explained(&unsigned(json!({"alg": "RS256", "kid": ""})), &keys, ALL), &["kid \"\""]);
        says(
            &explained(&unsigned(json!({"alg": "RS256", "crit": ["b64"], "b64": false})), &keys, ALL),
            &["crit [\"b64\"]", "b64 false"],
        );
    }

    #[test]
    fn s86_values_of_a_token_are_shown_short_and_without_what_a_terminal_acts_on() {
        let keys = json!({"keys": [jwk(&RSA)]});
        let header = json!({"alg": format!("\u{1b}[31m\u{202e}\n{}", "x".repeat(900))});
        let token = format!("{}.e30.QQ", encoding::encode(header.to_string().as_bytes()));
        let explained = explained(&token, &keys, ALL);
        assert!(explained.len() < 400 && !explained.contains(['\u{1b}', '\u{202e}', '\n']), "{explained:?}");
    }

    fn altered(key: &SigningKey, name: &str, value: &Value) -> Map<String, Value> {
        with(jwk(key), &json!({ name: value }))
    }

    #[test]
    fn s86_a_key_that_is_there_and_unusable_is_not_said_to_be_absent() {
        let small = encoding::encode(&[&[0x80][..], &[1; 127]].concat());
        let point = key(SignatureAlgorithm::Es256);
        for (key, name, value, words) in [
            (&*RSA, "use", json!("enc"), vec!["use \"enc\""]),
            (&*RSA, "key_ops", json!(["encrypt"]), vec!["key_ops [\"encrypt\"]"]),
            (&*RSA, "alg", json!("RSA-OAEP"), vec!["alg \"RSA-OAEP\"", "kty \"RSA\""]),
            (&*RSA, "n", json!(small), vec!["2048 to 8192 bits", "it has 1024 bits"]),
            (&*RSA, "e", json!("Aw"), vec!["e \"Aw\""]),
            (&*RSA, "e", json!(65_537), vec!["e is not a string"]),
            (&*RSA, "kty", json!("oct"), vec!["it is symmetric"]),
            (&*RSA, "d", json!("AQ"), vec!["it holds private members"]),
            (&*RSA, "kty", json!("EC"), vec!["crv is missing"]),
            (&point, "crv", json!("secp256k1"), vec!["kty \"EC\"", "crv \"secp256k1\""]),
            (&point, "x", json!("AAAA"), vec!["crv \"P-256\"", "3 octets in x", "32 octets in y"]),
        ] {
            let explained = explained(&token(key, "JWT"), &json!({"keys": [altered(key, name, &value)]}), ALL);
            says(&explained, &["has the key with the token's kid", "cannot be used"]);
            says(&explained, &words);
        }
    }

    #[test]
    fn s86_an_absent_key_is_named_beside_those_that_are_there() {
        let others: Vec<_> = (0..10).map(|number| altered(&RSA, "kid", &json!(format!("other-{number}")))).collect();
        let explain = |keys: Value| explained(&token(&RSA, "JWT"), &json!({ "keys": keys }), ALL);
        says(&explain(json!(others)), &["no key with the token's kid", "\"other-0\"", "and 2 more"]);
        says(&explain(json!([])), &["no keys at all"]);
        says(&explain(json!([altered(&RSA, "alg", &json!("PS256"))])), &["alg \"RS256\"", "it permits PS256"]);
        let unusable = with(jwk(&RSA), &json!({"kid": null, "use": "enc"}));
        says(&explain(json!([unusable])), &["no key with the token's kid", "no usable key", "use \"enc\""]);
        let nameless = with(jwk(&RSA), &json!({"kid": null, "alg": "PS256"}));
        says(&explain(json!([nameless])), &["no usable key of the set permits its alg \"RS256\"", "one without kid"]);
        let twice = altered(&RSA, "kid", &json!("other"));
        says(&explain(json!([twice, twice])), &["its usable keys are \"other\""]);
        assert!(!explain(json!([twice, twice])).contains("\"other\", \"other\""));
    }
}
