//! ID tokens: what we say about a run to whoever relies on us.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::{Serialize, Serializer};

use crate::draft::{self, Given};
use crate::issuer::IssuerSettings;
use crate::issuer_url::IssuerUrl;
use crate::name::{Audience, Subject};
use crate::time::Timestamp;
use crate::trusted_issuer::SignatureAlgorithm;
use crate::violation::Violations;

/// The `typ` header of an ID token.
pub const ID_TOKEN_TYPE: &str = "JWT";

/// The most audiences one token can name.
pub const MAX_AUDIENCES: usize = 10;

/// The claims every ID token has, for the discovery document.
pub const ID_TOKEN_CLAIMS: [&str; 7] = ["aud", "exp", "iat", "iss", "jti", "nbf", "sub"];

/// What is asked of a token apart from its subject, within what the issuer allows. Made by [`IdTokenWish::within`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdTokenTerms {
    audiences: Vec<Audience>,
    duration: Duration,
    algorithm: Option<SignatureAlgorithm>,
}

/// What is asked of a token apart from its subject, as the caller wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdTokenWish {
    /// The `aud` of the token: one to [`MAX_AUDIENCES`].
    pub audiences: Vec<String>,
    /// Not given: the issuer's default.
    pub duration: Given<Duration>,
    /// The name of one of the issuer's algorithms. Empty: the issuer chooses.
    pub algorithm: String,
}

/// The claims of an ID token. Serialises to the claims set of RFC 7519.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdTokenClaims {
    iss: IssuerUrl,
    sub: Subject,
    #[serde(serialize_with = "one_as_text")]
    aud: Vec<Audience>,
    exp: i64,
    iat: i64,
    nbf: i64,
    jti: String,
}

impl IdTokenWish {
    /// Holds a wish against what the issuer allows. Everything wrong is noted under the names of the request's fields.
    pub fn within(&self, settings: &IssuerSettings, violations: &mut Violations) -> Option<IdTokenTerms> {
        let audiences = self.audiences_within(settings, violations);
        let bounds = IssuerSettings::MIN_TOKEN_DURATION..=settings.max_token_duration;
        let duration = draft::whole_seconds("duration", self.duration, settings.default_token_duration, bounds, violations);
        let algorithm = self.algorithm_within(settings, violations);
        Some(IdTokenTerms { audiences: audiences?, duration: duration?, algorithm: algorithm? })
    }

    fn audiences_within(&self, settings: &IssuerSettings, violations: &mut Violations) -> Option<Vec<Audience>> {
        if self.audiences.is_empty() {
            violations.add("audiences", "must name at least one audience");
            return None;
        }
        let allowed = &settings.allowed_audiences;
        let parse = |text: &str| match text.parse::<Audience>() {
            Ok(audience) if allowed.is_empty() || allowed.contains(&audience) => Ok(audience),
            Ok(_) => Err("is not an audience that this issuer allows".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        draft::list("audiences", &self.audiences, MAX_AUDIENCES, parse, violations)
    }

    #[expect(clippy::option_option, reason = "the outer option is a violation, the inner one an absent value")]
    fn algorithm_within(&self, settings: &IssuerSettings, violations: &mut Violations) -> Option<Option<SignatureAlgorithm>> {
        let parse = |text: &str| {
            let own = settings.algorithms.iter().copied();
            own.clone().find(|algorithm| algorithm.as_str() == text).ok_or_else(|| {
                format!("must be one of the issuer's: {}", own.map(SignatureAlgorithm::as_str).collect::<Vec<_>>().join(", "))
            })
        };
        draft::optional("algorithm", &self.algorithm, parse, violations)
    }
}

impl IdTokenTerms {
    /// The algorithm that was asked for; `None` leaves it to the issuer.
    pub const fn algorithm(&self) -> Option<SignatureAlgorithm> {
        self.algorithm
    }

    /// The claims of a token for this subject. `token_id` are 128 random bits that no other token has.
    pub fn claims(self, issuer_url: IssuerUrl, subject: Subject, now: Timestamp, token_id: [u8; 16]) -> IdTokenClaims {
        let iat = now.as_second();
        let lifetime = i64::try_from(self.duration.as_secs()).unwrap_or(i64::MAX);
        IdTokenClaims {
            iss: issuer_url,
            sub: subject,
            aud: self.audiences,
            exp: iat.saturating_add(lifetime),
            iat,
            nbf: iat,
            jti: BASE64URL_NOPAD.encode(&token_id),
        }
    }
}

impl IdTokenClaims {
    /// `sub`.
    pub const fn subject(&self) -> &Subject {
        &self.sub
    }

    /// `exp`.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_second(self.exp).unwrap_or(Timestamp::MAX)
    }
}

/// One audience is written as a string, several as an array (RFC 7519, section 4.1.3); some relying parties read only the first
/// form, where it is possible.
fn one_as_text<S: Serializer>(audiences: &[Audience], serializer: S) -> Result<S::Ok, S::Error> {
    match audiences {
        [only] => only.serialize(serializer),
        several => several.serialize(serializer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::IssuerDraft;

    fn settings(draft: &IssuerDraft) -> IssuerSettings {
        IssuerSettings::create(draft, &mut Violations::new()).unwrap()
    }

    fn claims(audiences: &[&str]) -> serde_json::Value {
        let wish = IdTokenWish { audiences: audiences.iter().map(ToString::to_string).collect(), ..IdTokenWish::default() };
        let terms = wish.within(&settings(&IssuerDraft::default()), &mut Violations::new()).unwrap();
        let now = "2026-11-20T10:00:00.999Z".parse().unwrap();
        let claims =
            terms.claims("https://id.example.com/rwx".parse().unwrap(), "org:a:vault:b".parse().unwrap(), now, [0xff; 16]);
        assert_eq!(claims.expires_at(), "2026-11-20T11:00:00Z".parse().unwrap());
        serde_json::to_value(claims).unwrap()
    }

    #[test]
    fn claims_are_complete_and_hold_whole_seconds() {
        assert_eq!(
            claims(&["sts.amazonaws.com"]),
            serde_json::json!({
                "iss": "https://id.example.com/rwx",
                "sub": "org:a:vault:b",
                "aud": "sts.amazonaws.com",
                "exp": 1_795_172_400,
                "iat": 1_795_168_800,
                "nbf": 1_795_168_800,
                "jti": "_____________________w",
            })
        );
        let value = claims(&["one"]);
        let names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ID_TOKEN_CLAIMS);
    }

    #[test]
    fn several_audiences_are_an_array() {
        assert_eq!(claims(&["one", "two"])["aud"], serde_json::json!(["one", "two"]));
    }

    #[test]
    fn s55_nothing_asked_for_goes_beyond_what_the_issuer_allows() {
        let own = settings(&IssuerDraft {
            algorithms: vec!["ES256".to_owned(), "EdDSA".to_owned()],
            allowed_audiences: vec!["vault".to_owned()],
            max_token_duration: Some(Ok(Duration::from_mins(10))),
            ..IssuerDraft::default()
        });
        let good = IdTokenWish {
            audiences: vec!["vault".to_owned()],
            duration: Some(Ok(Duration::from_mins(10))),
            algorithm: "EdDSA".to_owned(),
        };
        let terms = good.clone().within(&own, &mut Violations::new()).unwrap();
        assert_eq!(terms.algorithm(), Some(SignatureAlgorithm::EdDsa));
        for (wish, field) in [
            (IdTokenWish { audiences: vec!["Vault".to_owned()], ..good.clone() }, "audiences[0]"),
            (IdTokenWish { audiences: vec![], ..good.clone() }, "audiences"),
            (IdTokenWish { duration: Some(Ok(Duration::from_secs(601))), ..good.clone() }, "duration"),
            (IdTokenWish { duration: Some(Ok(Duration::from_secs(59))), ..good.clone() }, "duration"),
            (IdTokenWish { algorithm: "RS256".to_owned(), ..good.clone() }, "algorithm"),
            (IdTokenWish { algorithm: "none".to_owned(), ..good.clone() }, "algorithm"),
        ] {
            let mut violations = Violations::new();
            assert_eq!(wish.within(&own, &mut violations), None);
            assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
        }
        let too_many = IdTokenWish { audiences: (0..11).map(|n| n.to_string()).collect(), ..IdTokenWish::default() };
        assert_eq!(too_many.within(&settings(&IssuerDraft::default()), &mut Violations::new()), None);
    }
}
