//! Claims: the registered ones as types, all of them as JSON.
//!
//! A claim of the wrong JSON type is an error and never counts as absent (SECURITY 12). Whether a [`Claims`] was verified is not
//! said here: only the `jose` crate's verifier makes verified ones.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Map, Value};

use crate::exchange::lineage::Lineage;
use crate::values::inexact::InexactNumbers;
use crate::values::name::{AccessTokenSubject, Audience, InvalidName, Subject, TokenId};
use crate::values::time::Timestamp;

/// The claims of a token: the registered ones of RFC 7519, section 4.1, checked and typed, and all members as they were.
///
/// Only our own access tokens have a `sub` of another type, which is longer as it holds that of the token exchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims<S = Subject> {
    /// `iss`, byte for byte.
    pub issuer: String,
    /// `sub`.
    pub subject: S,
    /// `aud`, in the order of the token; never empty.
    pub audiences: Vec<Audience>,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `nbf`.
    pub not_before: Option<Timestamp>,
    /// `jti`.
    pub token_id: Option<TokenId>,
    /// How the token came of our own, if it did. Anybody can write it, to the harm of his own tokens.
    pub lineage: Option<Lineage>,
    /// Every member of the token's payload, the registered ones included.
    pub members: Map<String, Value>,
    /// The numbers among the members that are not what the token says, for want of bits.
    pub inexact: InexactNumbers,
}

/// Why members are not the claims of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClaims {
    /// A required claim is absent.
    #[error("the claim {claim} is missing")]
    Missing {
        /// Its name.
        claim: &'static str,
    },
    /// A claim has another JSON type than RFC 7519 gives it; null is a type.
    #[error("the claim {claim} must be {expected}")]
    WrongType {
        /// Its name.
        claim: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A text that is too long, empty or holds control characters.
    #[error("the claim {claim} {problem}")]
    Text {
        /// Its name.
        claim: &'static str,
        /// What is wrong with it.
        problem: InvalidName,
    },
    /// A time before 1970 or after 9999.
    #[error("the claim {claim} is not a time between 1970 and 9999")]
    OutOfRange {
        /// Its name.
        claim: &'static str,
    },
}

impl InvalidClaims {
    /// The name of the claim that is wrong.
    pub const fn claim(&self) -> &'static str {
        match self {
            Self::Missing { claim } | Self::WrongType { claim, .. } | Self::Text { claim, .. } | Self::OutOfRange { claim } => {
                claim
            }
        }
    }
}

impl Claims {
    /// Checks the registered claims among `members` (SECURITY 12 to 14).
    ///
    /// `iss`, `sub`, `aud`, `exp` and `iat` are required; `nbf` and `jti` are not, but must be well formed when they are there.
    pub fn from_members(members: Map<String, Value>) -> Result<Self, InvalidClaims> {
        Self::read(members)
    }
}

impl<S> Claims<S> {
    /// The claim that binds a token to a key (RFC 7800).
    pub(crate) const CONFIRMATION: &str = "cnf";

    /// Whether the token is bound to a key. Any `cnf` binds it, whatever its JSON type, null and an empty object included: its issuer
    /// meant to restrict the token, and a restriction that cannot be read is not absent (SECURITY 12, 79).
    pub fn is_bound_to_key(&self) -> bool {
        self.members.contains_key(Self::CONFIRMATION)
    }
}

impl Claims {
    /// Everything that is wrong with the registered claims among `members`, in the order in which they are read.
    pub fn problems(members: &Map<String, Value>) -> Vec<InvalidClaims> {
        let problems = [
            required(members, "iss", issuer).err(),
            required(members, "sub", text::<Subject>).err(),
            required(members, "aud", audiences).err(),
            required(members, "exp", numeric_date).err(),
            required(members, "iat", numeric_date).err(),
            optional(members, "nbf", numeric_date).err(),
            optional(members, "jti", text::<TokenId>).err(),
            optional(members, Lineage::CLAIM, lineage).err(),
        ];
        problems.into_iter().flatten().collect()
    }
}

impl Claims<AccessTokenSubject> {
    /// Checks the registered claims of one of our own access tokens among `members`, as [`Claims::from_members`] does those of
    /// other tokens.
    pub fn from_access_token(members: Map<String, Value>) -> Result<Self, InvalidClaims> {
        Self::read(members)
    }
}

impl<S: std::str::FromStr<Err = InvalidName>> Claims<S> {
    fn read(members: Map<String, Value>) -> Result<Self, InvalidClaims> {
        Ok(Self {
            issuer: required(&members, "iss", issuer)?,
            subject: required(&members, "sub", text)?,
            audiences: required(&members, "aud", audiences)?,
            expires_at: required(&members, "exp", numeric_date)?,
            issued_at: required(&members, "iat", numeric_date)?,
            not_before: optional(&members, "nbf", numeric_date)?,
            token_id: optional(&members, "jti", text)?,
            lineage: optional(&members, Lineage::CLAIM, lineage)?,
            members,
            inexact: InexactNumbers::default(),
        })
    }
}

/// The bounds within which a token's times must lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRules {
    /// How far the issuer's clock may differ from ours.
    pub clock_skew: Duration,
    /// The longest accepted `exp` - `iat`.
    pub max_lifetime: Duration,
}

/// Why a token is not acceptable at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untimely {
    /// `exp` is not after `iat`: the token was never valid.
    #[error("the claim exp must be later than iat")]
    NeverValid,
    /// `exp` - `iat` exceeds the maximum.
    #[error("the token's lifetime is longer than accepted")]
    LifetimeTooLong,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `iat` is in the future.
    #[error("the token was issued in the future")]
    IssuedInFuture,
    /// `nbf` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It came of our own tokens, and the first of them is too old.
    #[error("the token came of an access token that is too old")]
    LineageTooOld,
}

impl Claims {
    /// Whether the token is acceptable `now` (SECURITY 13).
    ///
    /// With skew *s*: refused from `exp` + *s* on, and while `iat` or `nbf` is later than `now` + *s*. An `nbf` before `iat` is
    /// fine: some issuers back-date it by minutes.
    pub fn check_times(&self, now: Timestamp, rules: &TimeRules) -> Result<(), Untimely> {
        // Differences of timestamps cannot overflow a signed duration, unlike timestamps moved by a skew.
        let skew = SignedDuration::try_from(rules.clock_skew).unwrap_or(SignedDuration::MAX);
        let max_lifetime = SignedDuration::try_from(rules.max_lifetime).unwrap_or(SignedDuration::MAX);
        let lifetime = self.expires_at.duration_since(self.issued_at);
        if lifetime <= SignedDuration::ZERO {
            Err(Untimely::NeverValid)
        } else if now.duration_since(self.expires_at) >= skew {
            Err(Untimely::Expired)
        } else if self.issued_at.duration_since(now) > skew {
            Err(Untimely::IssuedInFuture)
        } else if self.not_before.is_some_and(|not_before| not_before.duration_since(now) > skew) {
            Err(Untimely::NotYetValid)
        } else if lifetime > max_lifetime {
            Err(Untimely::LifetimeTooLong)
        } else if self.lineage.is_some_and(|lineage| lineage.left(now).is_zero()) {
            Err(Untimely::LineageTooOld)
        } else {
            Ok(())
        }
    }
}

type Check<T> = fn(&'static str, &Value) -> Result<T, InvalidClaims>;

fn required<T>(members: &Map<String, Value>, claim: &'static str, check: Check<T>) -> Result<T, InvalidClaims> {
    check(claim, members.get(claim).ok_or(InvalidClaims::Missing { claim })?)
}

fn optional<T>(members: &Map<String, Value>, claim: &'static str, check: Check<T>) -> Result<Option<T>, InvalidClaims> {
    members.get(claim).map(|value| check(claim, value)).transpose()
}

fn issuer(claim: &'static str, value: &Value) -> Result<String, InvalidClaims> {
    match value {
        Value::String(text) if text.is_empty() => Err(InvalidClaims::Text { claim, problem: InvalidName::Empty }),
        Value::String(text) => Ok(text.clone()),
        _ => Err(InvalidClaims::WrongType { claim, expected: "a string" }),
    }
}

fn text<T: std::str::FromStr<Err = InvalidName>>(claim: &'static str, value: &Value) -> Result<T, InvalidClaims> {
    let Value::String(text) = value else { return Err(InvalidClaims::WrongType { claim, expected: "a string" }) };
    text.parse().map_err(|problem| InvalidClaims::Text { claim, problem })
}

fn audiences(claim: &'static str, value: &Value) -> Result<Vec<Audience>, InvalidClaims> {
    let wrong_type = InvalidClaims::WrongType { claim, expected: "a string or a non-empty array of strings" };
    match value {
        Value::String(_) => Ok(vec![text(claim, value)?]),
        Value::Array(values) if !values.is_empty() && values.iter().all(Value::is_string) => {
            values.iter().map(|value| text(claim, value)).collect()
        }
        _ => Err(wrong_type),
    }
}

fn lineage(claim: &'static str, value: &Value) -> Result<Lineage, InvalidClaims> {
    Lineage::read(value).ok_or(InvalidClaims::WrongType { claim, expected: "what this deployment writes there" })
}

/// A NumericDate: seconds since 1970, whole or not (RFC 7519, section 2).
fn numeric_date(claim: &'static str, value: &Value) -> Result<Timestamp, InvalidClaims> {
    let Value::Number(number) = value else { return Err(InvalidClaims::WrongType { claim, expected: "a number" }) };
    let out_of_range = InvalidClaims::OutOfRange { claim };
    let timestamp = if let Some(seconds) = number.as_i64() {
        Timestamp::from_second(seconds).map_err(|_| out_of_range)?
    } else {
        let seconds = number.as_f64().ok_or(out_of_range)?;
        // Casting saturates at the bounds of i64, which lie outside of what a timestamp can be.
        #[expect(clippy::cast_possible_truncation, reason = "the whole and the fractional part are separated on purpose")]
        let (whole, nanoseconds) = (seconds.floor() as i64, ((seconds - seconds.floor()) * 1e9) as i32);
        Timestamp::new(whole, nanoseconds).map_err(|_| out_of_range)?
    };
    if timestamp < Timestamp::UNIX_EPOCH { Err(out_of_range) } else { Ok(timestamp) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn members() -> Map<String, Value> {
        let members = json!({
            "iss": "https://cloud.rwx.com/mint",
            "sub": "org:my-org:vault:deploy-vault",
            "aud": "https://gateway.example",
            "exp": 1_700_000_600,
            "iat": 1_700_000_000,
        });
        members.as_object().unwrap().clone()
    }

    fn with(claim: &str, value: Value) -> Result<Claims, InvalidClaims> {
        let mut members = members();
        members.insert(claim.to_owned(), value);
        Claims::from_members(members)
    }

    #[test]
    fn claims_are_typed_and_all_members_are_kept() {
        let claims = with("nested", json!({"a": [null, 1.5]})).unwrap();
        assert_eq!(claims.issuer, "https://cloud.rwx.com/mint");
        assert_eq!(claims.subject.as_str(), "org:my-org:vault:deploy-vault");
        assert_eq!(claims.audiences.iter().map(Audience::as_str).collect::<Vec<_>>(), ["https://gateway.example"]);
        assert_eq!(claims.expires_at, Timestamp::from_second(1_700_000_600).unwrap());
        assert_eq!(claims.issued_at, Timestamp::from_second(1_700_000_000).unwrap());
        assert_eq!((&claims.not_before, &claims.token_id), (&None, &None));
        assert_eq!(claims.members["nested"], json!({"a": [null, 1.5]}));
        assert_eq!(claims.members.len(), 6);
    }

    #[test]
    fn s12_a_claim_of_the_wrong_type_is_an_error_never_absent() {
        let values = [
            json!(null),
            json!(true),
            json!(1),
            json!("1"),
            json!([]),
            json!(["a", 1]),
            json!([null]),
            json!([["a"]]),
            json!({}),
        ];
        for claim in ["iss", "sub", "jti", "aud", "exp", "iat", "nbf"] {
            let is_fine = if ["exp", "iat", "nbf"].contains(&claim) { Value::is_number } else { Value::is_string };
            for value in values.iter().filter(|value| !is_fine(value)) {
                let error = with(claim, value.clone()).unwrap_err();
                assert!(matches!(error, InvalidClaims::WrongType { claim: named, .. } if named == claim), "{claim} {value}");
            }
        }
    }

    #[test]
    fn s86_every_claim_that_is_wrong_is_named() {
        let mut members = members();
        assert_eq!(Claims::problems(&members), []);
        members.extend([("sub".to_owned(), json!("")), ("aud".to_owned(), json!(1)), ("jti".to_owned(), json!(null))]);
        members.remove("exp");
        let problems = Claims::problems(&members);
        assert_eq!(problems.iter().map(InvalidClaims::claim).collect::<Vec<_>>(), ["sub", "aud", "exp", "jti"]);
        assert_eq!(Claims::from_members(members).unwrap_err(), problems[0]);
    }

    #[test]
    fn s13_exp_and_iat_are_required() {
        for claim in ["iss", "sub", "aud", "exp", "iat"] {
            let mut members = members();
            members.remove(claim);
            assert_eq!(Claims::from_members(members), Err(InvalidClaims::Missing { claim }));
        }
    }

    #[test]
    fn s13_numeric_dates_may_be_fractional_but_not_out_of_range() {
        let fractional = with("exp", json!(1_700_000_600.25)).unwrap();
        assert_eq!(fractional.expires_at, Timestamp::new(1_700_000_600, 250_000_000).unwrap());
        for value in [json!(0), json!(253_402_207_200_i64)] {
            assert!(with("nbf", value.clone()).is_ok(), "{value}");
        }
        for value in
            [json!(-1), json!(-0.5), json!(1e300), json!(-1e300), json!(i64::MAX), json!(u64::MAX), json!(253_402_300_800_i64)]
        {
            for claim in ["exp", "iat", "nbf"] {
                assert_eq!(with(claim, value.clone()), Err(InvalidClaims::OutOfRange { claim }), "{value}");
            }
        }
    }

    #[test]
    fn s14_iss_sub_and_aud_have_their_shapes() {
        // The limit is on bytes: an é has two of them.
        for sub in ["x".repeat(1024), "é".repeat(512), " ".to_owned()] {
            assert!(with("sub", json!(sub)).is_ok(), "{sub:?}");
        }
        let controls =
            ["\u{0}", "\t", "\n", "\r", "\u{1b}", "\u{7f}", "\u{80}", "\u{85}", "\u{9f}"].map(|control| format!("a{control}b"));
        for sub in [String::new(), "x".repeat(1025), "é".repeat(513)].into_iter().chain(controls) {
            assert!(matches!(with("sub", json!(sub)), Err(InvalidClaims::Text { claim: "sub", .. })), "{sub:?}");
        }
        assert!(matches!(with("iss", json!("")), Err(InvalidClaims::Text { claim: "iss", .. })));
        assert!(matches!(with("jti", json!("")), Err(InvalidClaims::Text { claim: "jti", .. })));
        assert!(matches!(with("aud", json!(["a", ""])), Err(InvalidClaims::Text { claim: "aud", .. })));
        let several = with("aud", json!(["a", "b"])).unwrap();
        assert_eq!(several.audiences.iter().map(Audience::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }

    const RULES: TimeRules = TimeRules { clock_skew: Duration::from_secs(30), max_lifetime: Duration::from_mins(10) };

    fn times(iat: i64, exp: i64, nbf: Option<i64>, now: i64) -> Result<(), Untimely> {
        let mut members = members();
        members.insert("iat".to_owned(), iat.into());
        members.insert("exp".to_owned(), exp.into());
        members.extend(nbf.map(|nbf| ("nbf".to_owned(), nbf.into())));
        Claims::from_members(members).unwrap().check_times(Timestamp::from_second(now).unwrap(), &RULES)
    }

    #[test]
    fn s13_the_boundaries_of_time_are_exact_to_the_second() {
        const T: i64 = 1_700_000_000;
        let cases = [
            (T, T + 600, None, T, Ok(())),
            (T, T + 601, None, T, Err(Untimely::LifetimeTooLong)),
            (T, T, None, T, Err(Untimely::NeverValid)),
            (T, T - 1, None, T, Err(Untimely::NeverValid)),
            (T, T + 1, None, T, Ok(())),
            // exp + skew is the first instant of refusal.
            (T, T + 600, None, T + 629, Ok(())),
            (T, T + 600, None, T + 630, Err(Untimely::Expired)),
            (T, T + 600, None, T + 631, Err(Untimely::Expired)),
            // iat - skew is the first instant of acceptance.
            (T, T + 600, None, T - 30, Ok(())),
            (T, T + 600, None, T - 31, Err(Untimely::IssuedInFuture)),
            // nbf likewise; back-dated is fine.
            (T, T + 600, Some(T + 60), T + 30, Ok(())),
            (T, T + 600, Some(T + 60), T + 29, Err(Untimely::NotYetValid)),
            (T, T + 600, Some(T - 300), T, Ok(())),
        ];
        for (iat, exp, nbf, now, expected) in cases {
            assert_eq!(times(iat, exp, nbf, now), expected, "iat {} exp {} nbf {nbf:?} now {}", iat - T, exp - T, now - T);
        }
    }

    proptest! {
        #[test]
        fn s12_no_value_of_a_registered_claim_panics(claim in "iss|sub|aud|exp|iat|nbf|jti", number: f64, text: String) {
            let _ = with(&claim, json!(number));
            let _ = with(&claim, json!(text));
            let _ = with(&claim, json!([text]));
        }

        #[test]
        fn s13_no_times_panic(iat in 0..253_402_207_200_i64, exp in 0..253_402_207_200_i64, now in 0..253_402_207_200_i64, skew: u64) {
            let mut members = members();
            members.insert("iat".to_owned(), iat.into());
            members.insert("exp".to_owned(), exp.into());
            let rules = TimeRules { clock_skew: Duration::from_secs(skew), max_lifetime: Duration::from_secs(skew) };
            let accepted = Claims::from_members(members).unwrap().check_times(Timestamp::from_second(now).unwrap(), &rules);
            prop_assert!(accepted.is_err() || exp > iat);
        }
    }
}
