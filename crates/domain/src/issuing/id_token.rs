//! ID tokens: what we say about a run to whoever relies on us.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::exchange::lineage::Lineage;
use crate::issuing::issuer::{Issuer, IssuerSettings};
use crate::issuing::profile::{Identity, IdentityContext, NotBefore, Profile};
use crate::values::draft::{self, Given};
use crate::values::issuer_url::IssuerUrl;
use crate::values::name::{Audience, Subject};
use crate::values::signature_algorithm::SignatureAlgorithm;
use crate::values::time::Timestamp;
use crate::values::violation::Violations;

/// The `typ` header of an ID token.
pub const ID_TOKEN_TYPE: &str = "JWT";

/// The most audiences one token can name.
pub const MAX_AUDIENCES: usize = 10;

/// What a token says, but for its times and its id. Made by [`IdTokenWish::within`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdTokenTerms {
    issuer_url: IssuerUrl,
    subject: Subject,
    claims: Map<String, Value>,
    audiences: Audiences,
    not_before: NotBefore,
    duration: Duration,
    algorithm: Option<SignatureAlgorithm>,
}

/// What is asked of a token, as the caller wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdTokenWish {
    /// Whom the token is for.
    pub holder: Holder,
    /// The `aud` of the token: one to [`MAX_AUDIENCES`]. May be empty where the profile fixes the audience.
    pub audiences: Vec<String>,
    /// Not given: the issuer's default.
    pub duration: Given<Duration>,
    /// The name of one of the issuer's algorithms. Empty: the issuer chooses.
    pub algorithm: String,
}

/// Whom a token is for: who it says its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A run, in whose name a scheduler asks.
    Run {
        /// What the profile makes subject and claims of.
        attributes: BTreeMap<String, String>,
        /// The id of one of the profile's subject forms. Empty: the profile chooses.
        subject_form: String,
    },
    /// The caller himself.
    Caller {
        /// The `sub` of his access token.
        subject: String,
    },
}

/// The claims of an ID token. Serialises to the claims set of RFC 7519.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdTokenClaims {
    iss: IssuerUrl,
    sub: Subject,
    aud: Audiences,
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    jti: String,
    /// None has the name of a registered claim: a profile cannot set one.
    #[serde(flatten)]
    claims: Map<String, Value>,
    #[serde(rename = "countersign_lineage", skip_serializing_if = "Option::is_none")]
    lineage: Option<Lineage>,
}

/// The value of `aud`. One audience is written as a string, several as an array (RFC 7519, section 4.1.3); some relying parties
/// read only the first form, where it is possible, and some profiles promise the second.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Audiences {
    audiences: Vec<Audience>,
    always_a_list: bool,
}

impl IdTokenWish {
    /// Holds a wish against what the issuer allows.
    ///
    /// # Errors
    /// Everything wrong, under the names of the request's fields.
    pub fn within(self, issuer: &Issuer) -> Result<IdTokenTerms, Violations> {
        let Issuer { workspace_id, issuer_url, profile, settings, .. } = issuer;
        let mut violations = Violations::new();
        let context = IdentityContext { workspace_id, issuer_url };
        let identity = match &self.holder {
            Holder::Run { attributes, subject_form } => profile.identify(context, subject_form, attributes),
            Holder::Caller { subject } => profile.identify_caller(context, subject),
        };
        let identity = match identity {
            Ok(identity) => Some(identity),
            Err(found) => {
                violations.extend(found);
                None
            }
        };
        let audiences = self.audiences_within(profile, settings, identity.as_ref(), &mut violations);
        let bounds = IssuerSettings::MIN_TOKEN_DURATION..=settings.max_token_duration;
        let default = settings.default_token_duration;
        let duration = draft::whole_seconds("duration", self.duration, default, bounds, &mut violations);
        let algorithm = self.algorithm_within(settings, &mut violations);
        match (identity, audiences, duration, algorithm) {
            (Some(Identity { subject, claims, .. }), Some(audiences), Some(duration), Some(algorithm)) => Ok(IdTokenTerms {
                issuer_url: issuer_url.clone(),
                subject,
                claims,
                audiences: Audiences { audiences, always_a_list: profile.audience_is_list() },
                not_before: profile.not_before(),
                duration,
                algorithm,
            }),
            _ => Err(violations),
        }
    }

    fn audiences_within(
        &self,
        profile: &Profile,
        settings: &IssuerSettings,
        identity: Option<&Identity>,
        violations: &mut Violations,
    ) -> Option<Vec<Audience>> {
        if profile.fixes_audience() {
            let fixed = identity?.audience.clone()?;
            if self.audiences.iter().any(|asked| asked != fixed.as_str()) {
                violations.add("audiences", format!("must be left out or be `{fixed}`, which the issuer's profile fixes"));
                return None;
            }
            return Some(vec![fixed]);
        }
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
            text.parse().ok().filter(|algorithm| settings.algorithms.contains(algorithm)).ok_or_else(|| {
                let own: Vec<_> = settings.algorithms.iter().map(ToString::to_string).collect();
                format!("must be one of the issuer's: {}", own.join(", "))
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

    /// The claims of a token that is issued now, and expires before its line ends. `token_id` are 128 random bits that no other
    /// token has.
    pub fn claims(self, now: Timestamp, token_id: [u8; 16], lineage: Option<Lineage>) -> IdTokenClaims {
        let iat = now.as_second();
        let duration = lineage.map_or(self.duration, |lineage| self.duration.min(lineage.left(now)));
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        IdTokenClaims {
            iss: self.issuer_url,
            sub: self.subject,
            aud: self.audiences,
            exp: iat.saturating_add(seconds(duration)),
            iat,
            nbf: match self.not_before {
                NotBefore::IssuedAt => Some(iat),
                NotBefore::Absent => None,
                NotBefore::BackDated(by) => Some(iat.saturating_sub(seconds(by))),
            },
            jti: BASE64URL_NOPAD.encode(&token_id),
            claims: self.claims,
            lineage,
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

impl Serialize for Audiences {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.audiences.as_slice() {
            [only] if !self.always_a_list => only.serialize(serializer),
            audiences => audiences.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::issuing::issuer::IssuerDraft;
    use crate::issuing::profile::ProfileDefinition;
    use crate::values::id::{IssuerId, WorkspaceId};

    fn issuer(profile: Profile, draft: &IssuerDraft) -> Issuer {
        let settings = IssuerSettings::create(draft, Some(&profile), &mut Violations::new()).unwrap();
        Issuer {
            id: IssuerId::from_random([1; 16]),
            workspace_id: WorkspaceId::from_random([2; 16]),
            issuer_url: "https://id.example.com/a".parse().unwrap(),
            profile,
            former_subjects: Vec::new(),
            settings,
            revision: 1,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            published_until: None,
        }
    }

    fn rwx(draft: &IssuerDraft) -> Issuer {
        issuer("rwx".parse().unwrap(), draft)
    }

    fn custom(text: &str) -> Issuer {
        let mut violations = Violations::new();
        let profile = Profile::custom(ProfileDefinition::from_toml(text).unwrap(), "profile", &mut violations);
        issuer(profile.unwrap_or_else(|| panic!("{violations}")), &IssuerDraft::default())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn wish(audiences: &[&str]) -> IdTokenWish {
        wish_for(&[("org", "a"), ("vault", "b")], audiences)
    }

    fn wish_for(attributes: &[(&str, &str)], audiences: &[&str]) -> IdTokenWish {
        let attributes = attributes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let holder = Holder::Run { attributes, subject_form: String::new() };
        IdTokenWish { holder, audiences: texts(audiences), duration: None, algorithm: String::new() }
    }

    fn claims(issuer: &Issuer, wish: IdTokenWish) -> Value {
        let now = "2026-11-20T10:00:00.999Z".parse().unwrap();
        let claims = wish.within(issuer).unwrap_or_else(|violations| panic!("{violations}")).claims(now, [0xff; 16], None);
        assert_eq!(claims.expires_at(), "2026-11-20T11:00:00Z".parse().unwrap());
        serde_json::to_value(claims).unwrap()
    }

    fn violated(issuer: &Issuer, wish: IdTokenWish) -> Vec<String> {
        wish.within(issuer).unwrap_err().into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn claims_are_complete_and_hold_whole_seconds() {
        let value = claims(&rwx(&IssuerDraft::default()), wish(&["sts.amazonaws.com"]));
        assert_eq!(
            value,
            json!({
                "iss": "https://id.example.com/a",
                "sub": "org:a:vault:b",
                "aud": "sts.amazonaws.com",
                "exp": 1_795_172_400,
                "iat": 1_795_168_800,
                "nbf": 1_795_168_800,
                "jti": "_____________________w",
            })
        );
        let names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, crate::issuing::profile::ID_TOKEN_CLAIMS);
    }

    #[test]
    fn s54_a_token_that_is_issued_with_one_of_ours_says_so_and_expires_with_its_line() {
        let beginning = "2026-11-20T00:00:00Z".parse::<Timestamp>().unwrap();
        let expires = |now: &str| {
            let now: Timestamp = now.parse().unwrap();
            let lineage = Lineage::beginning(beginning).next(now).unwrap();
            let terms = wish(&["vault"]).within(&rwx(&IssuerDraft::default())).unwrap();
            let claims = terms.claims(now, [0xff; 16], Some(lineage));
            let expires_at = claims.expires_at().to_string();
            let written = serde_json::to_value(claims).unwrap();
            assert_eq!(written[Lineage::CLAIM], json!({"auth_time": beginning.as_second(), "depth": 1}));
            expires_at
        };
        assert_eq!(expires("2026-11-20T10:00:00Z"), "2026-11-20T11:00:00Z");
        assert_eq!(expires("2026-11-20T23:30:00Z"), "2026-11-21T00:00:00Z");
    }

    #[test]
    fn several_audiences_are_an_array_and_one_where_the_profile_says_so() {
        let chosen = rwx(&IssuerDraft::default());
        assert_eq!(claims(&chosen, wish(&["one", "two"]))["aud"], json!(["one", "two"]));
        let form = "[attributes.a]\n[[subject_forms]]\nid = 'a'\ntemplate = 'a:{a}'\ndelimiters = ':'";
        let listed = custom(&format!("audience_as_list = true\n{form}"));
        let wish = wish_for(&[("a", "b")], &["one"]);
        assert_eq!(claims(&listed, wish)["aud"], json!(["one"]));
    }

    #[test]
    fn nbf_is_what_the_profile_says() {
        let form = "[attributes.a]\n[[subject_forms]]\nid = 'a'\ntemplate = 'a:{a}'\ndelimiters = ':'";
        for (not_before, nbf) in [
            ("not_before = 'issued_at'", Some(json!(1_795_168_800))),
            ("not_before = 'absent'", None),
            ("not_before = 'back_dated'\nback_dating_seconds = 300", Some(json!(1_795_168_500))),
        ] {
            let wish = wish_for(&[("a", "b")], &["one"]);
            assert_eq!(claims(&custom(&format!("{not_before}\n{form}")), wish).get("nbf"), nbf.as_ref(), "{not_before}");
        }
    }

    #[test]
    fn a_fixed_audience_can_be_asked_for_and_no_other() {
        let form =
            "audience = '{issuer_host}'\n[attributes.a]\n[[subject_forms]]\nid = 'a'\ntemplate = 'a:{a}'\ndelimiters = ':'";
        let fixed = custom(form);
        let wish = |audiences: &[&str]| wish_for(&[("a", "b")], audiences);
        for audiences in [&[][..], &["id.example.com"]] {
            assert_eq!(claims(&fixed, wish(audiences))["aud"], json!("id.example.com"));
        }
        for audiences in [&["other"][..], &["id.example.com", "other"], &["https://id.example.com"]] {
            assert_eq!(violated(&fixed, wish(audiences)), ["audiences"], "{audiences:?}");
        }
    }

    #[test]
    fn everything_wrong_with_a_wish_is_said_at_once() {
        let attributes = [("org".to_owned(), "a:b".to_owned())].into();
        let wish = IdTokenWish {
            holder: Holder::Run { attributes, subject_form: "mint".to_owned() },
            audiences: vec![],
            duration: Some(Ok(Duration::from_secs(1))),
            algorithm: "none".to_owned(),
        };
        let expected = ["attributes[vault]", "subject_form", "audiences", "duration", "algorithm"];
        assert_eq!(violated(&rwx(&IssuerDraft::default()), wish), expected);
    }

    #[test]
    fn s55_nothing_asked_for_goes_beyond_what_the_issuer_allows() {
        let own = rwx(&IssuerDraft {
            algorithms: texts(&["ES256", "EdDSA"]),
            allowed_audiences: texts(&["vault"]),
            max_token_duration: Some(Ok(Duration::from_mins(10))),
            ..IssuerDraft::default()
        });
        let good = IdTokenWish { duration: Some(Ok(Duration::from_mins(10))), algorithm: "EdDSA".to_owned(), ..wish(&["vault"]) };
        assert_eq!(good.clone().within(&own).unwrap().algorithm(), Some(SignatureAlgorithm::EdDsa));
        let renamed = IdTokenWish { algorithm: "Ed25519".to_owned(), ..good.clone() };
        assert_eq!(renamed.within(&own).unwrap().algorithm(), Some(SignatureAlgorithm::EdDsa), "its name of RFC 9864");
        for (wish, field) in [
            (IdTokenWish { audiences: texts(&["Vault"]), ..good.clone() }, "audiences[0]"),
            (IdTokenWish { audiences: vec![], ..good.clone() }, "audiences"),
            (IdTokenWish { duration: Some(Ok(Duration::from_secs(601))), ..good.clone() }, "duration"),
            (IdTokenWish { duration: Some(Ok(Duration::from_secs(59))), ..good.clone() }, "duration"),
            (IdTokenWish { algorithm: "RS256".to_owned(), ..good.clone() }, "algorithm"),
            (IdTokenWish { algorithm: "none".to_owned(), ..good.clone() }, "algorithm"),
        ] {
            assert_eq!(violated(&own, wish), [field]);
        }
        let too_many: Vec<_> = (0..11).map(|number| number.to_string()).collect();
        let wish = IdTokenWish { audiences: too_many, ..wish(&[]) };
        assert_eq!(violated(&rwx(&IssuerDraft::default()), wish), ["audiences"]);
    }
}
