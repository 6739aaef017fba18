//! Issuers: the identities this deployment signs ID tokens for.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{IssuerId, WorkspaceId};
use crate::issuer_url::{InvalidUrl, IssuerUrl, LoopbackHttp};
use crate::name::{Audience, DisplayName};
use crate::profile::BuiltInProfile;
use crate::time::Timestamp;
use crate::trusted_issuer::SignatureAlgorithm;
use crate::violation::Violations;

/// An identity this deployment signs for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its id.
    pub id: IssuerId,
    /// The owner.
    pub workspace_id: WorkspaceId,
    /// The `iss` of its tokens. Unique in the deployment; never changes, never used again.
    pub issuer_url: IssuerUrl,
    /// How `sub` is built. Never changes.
    pub profile: BuiltInProfile,
    /// Everything an operator may set.
    pub settings: IssuerSettings,
    /// Counts its changes; the etag is made of it.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What an operator may set of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerSettings {
    /// For people.
    pub display_name: Option<DisplayName>,
    /// The algorithms it signs with, each at most once; the first is the default. Of RS256, ES256, ES384, EdDSA. Never empty.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// The audiences a token may be asked for. Empty: any.
    pub allowed_audiences: Vec<Audience>,
    /// How long a token lives when the request does not say.
    pub default_token_duration: Duration,
    /// The longest a token may live.
    pub max_token_duration: Duration,
}

/// Settings as somebody wrote them, in the wire's terms. Becomes [`IssuerSettings`] by [`IssuerDraft::settings`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IssuerDraft {
    /// Empty: none.
    pub display_name: String,
    /// Names of algorithms. Empty: RS256.
    pub algorithms: Vec<String>,
    /// Empty: any.
    pub allowed_audiences: Vec<String>,
    /// Not given: [`IssuerSettings::DEFAULT_TOKEN_DURATION`], or the maximum where that is shorter.
    pub default_token_duration: Option<Duration>,
    /// Not given: [`IssuerSettings::DEFAULT_TOKEN_DURATION`].
    pub max_token_duration: Option<Duration>,
}

/// A settable field, as an update mask names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IssuerField {
    /// `display_name`.
    DisplayName,
    /// `algorithms`.
    Algorithms,
    /// `allowed_audiences`.
    AllowedAudiences,
    /// `default_token_duration`.
    DefaultTokenDuration,
    /// `max_token_duration`.
    MaxTokenDuration,
}

/// Not a field that can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of display_name, algorithms, allowed_audiences, default_token_duration, max_token_duration")]
pub struct UnknownField;

/// Where issuers may live: what the operator of the deployment decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerNamespace {
    /// Issuer URLs lie strictly below this one.
    pub base_url: IssuerUrl,
    /// The gateway's own URL: the `iss` of access tokens, never that of an issuer.
    pub gateway_url: IssuerUrl,
    /// Whether http to a loopback address will do.
    pub loopback_http: LoopbackHttp,
}

/// Why a URL cannot become that of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIssuerUrl {
    /// No acceptable URL at all.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// Outside of what the operator assigned.
    #[error("must lie below {base_url}")]
    OutsideBase {
        /// What the operator assigned.
        base_url: IssuerUrl,
    },
    /// Something but letters, digits, `-`, `_`, `.`, `~` in the path below the base, an empty segment, or a leading dot.
    #[error(
        "must have path segments of letters, digits, `-`, `_`, `.` and `~` that do not begin with a dot, and no slash at the end"
    )]
    PathNotPlain,
    /// A segment that only a generated URL may have.
    #[error("must not have a path segment that begins with `is_`, which is kept for ids")]
    PathOfId,
    /// The URL of the gateway.
    #[error("is the URL of the gateway, which signs access tokens")]
    Gateway,
}

impl IssuerSettings {
    /// The shortest a token may be made to live.
    pub const MIN_TOKEN_DURATION: Duration = Duration::from_mins(1);
    /// The largest `max_token_duration` that can be set.
    pub const MAX_TOKEN_DURATION_LIMIT: Duration = Duration::from_hours(24);
    /// Either duration when nothing is said.
    pub const DEFAULT_TOKEN_DURATION: Duration = Duration::from_hours(1);
    /// The most allowed audiences.
    pub const MAX_ALLOWED_AUDIENCES: usize = 100;
    /// The algorithms an issuer can sign with.
    pub const ALGORITHMS: [SignatureAlgorithm; 4] =
        [SignatureAlgorithm::Rs256, SignatureAlgorithm::Es256, SignatureAlgorithm::Es384, SignatureAlgorithm::EdDsa];
}

impl IssuerDraft {
    /// The settings this draft stands for. Everything wrong with it is noted, each under `path` and the field's name.
    pub fn settings(self, path: &str, violations: &mut Violations) -> Option<IssuerSettings> {
        let field = |name: &str| format!("{path}.{name}");
        let mut found = Violations::new();
        let display_name = if self.display_name.is_empty() {
            None
        } else {
            found.check(field("display_name"), self.display_name.parse::<DisplayName>())
        };
        let algorithms = check_algorithms(&field("algorithms"), &self.algorithms, &mut found);
        let allowed_audiences = check_audiences(
            &field("allowed_audiences"),
            &self.allowed_audiences,
            IssuerSettings::MAX_ALLOWED_AUDIENCES,
            &mut found,
        );
        let max_token_duration = self.max_token_duration.unwrap_or(IssuerSettings::DEFAULT_TOKEN_DURATION);
        let default_token_duration =
            self.default_token_duration.unwrap_or(IssuerSettings::DEFAULT_TOKEN_DURATION.min(max_token_duration));
        for (name, duration) in [("default_token_duration", default_token_duration), ("max_token_duration", max_token_duration)] {
            found.check(field(name), check_token_duration(duration, IssuerSettings::MAX_TOKEN_DURATION_LIMIT));
        }
        if default_token_duration > max_token_duration {
            found.add(field("default_token_duration"), "must not be longer than max_token_duration");
        }
        let settings = IssuerSettings { display_name, algorithms, allowed_audiences, default_token_duration, max_token_duration };
        let sound = found.is_empty();
        violations.extend(found);
        sound.then_some(settings)
    }

    /// This draft with everything that an update mask does not name taken from the present settings.
    pub fn onto(self, present: &IssuerSettings, mask: &BTreeSet<IssuerField>) -> Self {
        let present = Self::from(present);
        let named = |field| mask.contains(&field);
        Self {
            display_name: if named(IssuerField::DisplayName) { self.display_name } else { present.display_name },
            algorithms: if named(IssuerField::Algorithms) { self.algorithms } else { present.algorithms },
            allowed_audiences: if named(IssuerField::AllowedAudiences) {
                self.allowed_audiences
            } else {
                present.allowed_audiences
            },
            default_token_duration: if named(IssuerField::DefaultTokenDuration) {
                self.default_token_duration
            } else {
                present.default_token_duration
            },
            max_token_duration: if named(IssuerField::MaxTokenDuration) {
                self.max_token_duration
            } else {
                present.max_token_duration
            },
        }
    }
}

impl From<&IssuerSettings> for IssuerDraft {
    fn from(settings: &IssuerSettings) -> Self {
        Self {
            display_name: settings.display_name.as_ref().map(ToString::to_string).unwrap_or_default(),
            algorithms: settings.algorithms.iter().map(ToString::to_string).collect(),
            allowed_audiences: settings.allowed_audiences.iter().map(ToString::to_string).collect(),
            default_token_duration: Some(settings.default_token_duration),
            max_token_duration: Some(settings.max_token_duration),
        }
    }
}

impl IssuerNamespace {
    /// The URL of an issuer for which none was chosen.
    pub fn generated(&self, id: &IssuerId) -> Result<IssuerUrl, InvalidIssuerUrl> {
        let text = format!("{}/{id}", self.base_url.as_str().trim_end_matches('/'));
        Ok(IssuerUrl::parse(&text, self.loopback_http)?)
    }

    /// Checks the URL that somebody chose for a new issuer. Whether it was ever used is for the store to say.
    pub fn check(&self, text: &str) -> Result<IssuerUrl, InvalidIssuerUrl> {
        let url = IssuerUrl::parse(text, self.loopback_http)?;
        if text.trim_end_matches('/') == self.gateway_url.as_str().trim_end_matches('/') {
            return Err(InvalidIssuerUrl::Gateway);
        }
        let below = self.below_base(text).ok_or_else(|| InvalidIssuerUrl::OutsideBase { base_url: self.base_url.clone() })?;
        let plain = |segment: &str| {
            !segment.is_empty()
                && !segment.starts_with('.')
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
        };
        if !below.split('/').all(plain) {
            return Err(InvalidIssuerUrl::PathNotPlain);
        }
        if below.split('/').any(|segment| segment.starts_with(IssuerId::PREFIX)) {
            return Err(InvalidIssuerUrl::PathOfId);
        }
        Ok(url)
    }

    /// What follows the base and a slash in a URL; `None` where the URL lies elsewhere.
    pub fn below_base<'a>(&self, url: &'a str) -> Option<&'a str> {
        url.strip_prefix(self.base_url.as_str().trim_end_matches('/'))?.strip_prefix('/')
    }
}

/// A duration of tokens that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTokenDuration {
    /// Claims count whole seconds.
    #[error("must be whole seconds")]
    Fraction,
    /// Out of bounds.
    #[error("must be {} s to {} s", .min.as_secs(), .max.as_secs())]
    OutOfRange {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
}

/// Checks how long a token shall live.
pub fn check_token_duration(duration: Duration, max: Duration) -> Result<Duration, InvalidTokenDuration> {
    let min = IssuerSettings::MIN_TOKEN_DURATION;
    if duration.subsec_nanos() != 0 {
        Err(InvalidTokenDuration::Fraction)
    } else if duration < min || duration > max {
        Err(InvalidTokenDuration::OutOfRange { min, max })
    } else {
        Ok(duration)
    }
}

/// Checks a list of audiences, at most `max` and none twice. An empty list is for the caller to judge.
pub(crate) fn check_audiences(field: &str, texts: &[String], max: usize, violations: &mut Violations) -> Vec<Audience> {
    if texts.len() > max {
        violations.add(field, format!("must be at most {max}"));
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let mut audiences = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let field = format!("{field}[{index}]");
        if !seen.insert(text) {
            violations.add(&field, "is named twice");
        }
        audiences.extend(violations.check(&field, text.parse()));
    }
    audiences
}

fn check_algorithms(field: &str, texts: &[String], violations: &mut Violations) -> Vec<SignatureAlgorithm> {
    if texts.is_empty() {
        return vec![SignatureAlgorithm::Rs256];
    }
    let mut algorithms = Vec::new();
    if texts.len() > IssuerSettings::ALGORITHMS.len() {
        violations.add(field, format!("must be at most {}", IssuerSettings::ALGORITHMS.len()));
        return algorithms;
    }
    for (index, text) in texts.iter().enumerate() {
        let field = format!("{field}[{index}]");
        match text.parse() {
            Ok(algorithm) if algorithms.contains(&algorithm) => violations.add(field, "is named twice"),
            Ok(algorithm) if IssuerSettings::ALGORITHMS.contains(&algorithm) => algorithms.push(algorithm),
            Ok(_) | Err(_) => violations.add(field, "must be one of RS256, ES256, ES384, EdDSA"),
        }
    }
    algorithms
}

impl IssuerField {
    /// Every settable field.
    pub const ALL: [Self; 5] =
        [Self::DisplayName, Self::Algorithms, Self::AllowedAudiences, Self::DefaultTokenDuration, Self::MaxTokenDuration];

    /// Its name in an update mask.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DisplayName => "display_name",
            Self::Algorithms => "algorithms",
            Self::AllowedAudiences => "allowed_audiences",
            Self::DefaultTokenDuration => "default_token_duration",
            Self::MaxTokenDuration => "max_token_duration",
        }
    }
}

impl fmt::Display for IssuerField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for IssuerField {
    type Err = UnknownField;

    fn from_str(text: &str) -> Result<Self, UnknownField> {
        Self::ALL.into_iter().find(|field| field.as_str() == text).ok_or(UnknownField)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(base: &str) -> IssuerNamespace {
        IssuerNamespace {
            base_url: base.parse().unwrap(),
            gateway_url: "https://id.example.com/gateway".parse().unwrap(),
            loopback_http: LoopbackHttp::Refused,
        }
    }

    #[test]
    fn s38_an_issuer_url_lies_below_the_base_in_plain_segments() {
        for base in ["https://id.example.com", "https://id.example.com/"] {
            let namespace = namespace(base);
            for good in ["https://id.example.com/rwx", "https://id.example.com/a/b-c_d.e~f", "https://id.example.com/A1"] {
                assert_eq!(namespace.check(good).unwrap().as_str(), good);
            }
            let outside = InvalidIssuerUrl::OutsideBase { base_url: base.parse().unwrap() };
            for bad in ["https://id.example.com.evil.net/a", "https://id.example.company/a", "https://other.example.com/a"] {
                assert_eq!(namespace.check(bad), Err(outside.clone()), "{bad}");
            }
            for bad in [
                "https://id.example.com/",
                "https://id.example.com/a/",
                "https://id.example.com//a",
                "https://id.example.com/a//b",
                "https://id.example.com/.well-known",
                "https://id.example.com/a/.well-known/jwks.json",
                "https://id.example.com/a%2fb",
                "https://id.example.com/a;b",
                "https://id.example.com/a:b",
                "https://id.example.com/%C3%A9",
            ] {
                assert_eq!(namespace.check(bad), Err(InvalidIssuerUrl::PathNotPlain), "{bad}");
            }
            for (bad, why) in [
                ("https://id.example.com/a?q", InvalidUrl::Query),
                ("https://id.example.com/a#f", InvalidUrl::Fragment),
                ("https://ID.example.com/a", InvalidUrl::NotCanonical),
                ("https://id.example.com:443/a", InvalidUrl::NotCanonical),
                ("https://id.example.com/a/../b", InvalidUrl::NotCanonical),
                ("http://id.example.com/a", InvalidUrl::NotHttps),
                ("https://u@id.example.com/a", InvalidUrl::UserInfo),
                ("", InvalidUrl::NotCanonical),
            ] {
                assert_eq!(namespace.check(bad), Err(InvalidIssuerUrl::Url(why)), "{bad}");
            }
        }
        assert!(namespace("https://id.example.com/issuers").check("https://id.example.com/issuers-of-mine/a").is_err());
    }

    #[test]
    fn the_gateways_own_url_is_reserved() {
        let namespace = namespace("https://id.example.com");
        for text in ["https://id.example.com/gateway", "https://id.example.com/gateway/"] {
            assert_eq!(namespace.check(text), Err(InvalidIssuerUrl::Gateway));
        }
    }

    #[test]
    fn a_generated_url_cannot_be_chosen() {
        let namespace = namespace("https://id.example.com/");
        let id = IssuerId::from_random([3; 16]);
        let generated = namespace.generated(&id).unwrap();
        assert_eq!(generated.as_str(), format!("https://id.example.com/{id}"));
        assert_eq!(namespace.check(generated.as_str()), Err(InvalidIssuerUrl::PathOfId));
    }

    #[test]
    fn an_empty_draft_means_the_documented_defaults() {
        let settings = IssuerDraft::default().settings("issuer", &mut Violations::new()).unwrap();
        assert_eq!(settings.algorithms, [SignatureAlgorithm::Rs256]);
        assert_eq!(settings.default_token_duration, Duration::from_hours(1));
        assert_eq!(settings.max_token_duration, Duration::from_hours(1));
        assert_eq!(IssuerDraft::from(&settings).settings("issuer", &mut Violations::new()), Some(settings));
        let short = IssuerDraft { max_token_duration: Some(Duration::from_mins(5)), ..IssuerDraft::default() };
        let short = short.settings("issuer", &mut Violations::new()).unwrap();
        assert_eq!(short.default_token_duration, Duration::from_mins(5), "the default never exceeds the maximum");
    }

    #[test]
    fn every_violation_of_a_draft_is_noted_at_once() {
        let mut violations = Violations::new();
        let draft = IssuerDraft {
            display_name: "x".repeat(101),
            algorithms: ["RS256", "none", "RS256", "RS512"].map(str::to_owned).to_vec(),
            allowed_audiences: ["a", "", "a"].map(str::to_owned).to_vec(),
            default_token_duration: Some(Duration::from_secs(59)),
            max_token_duration: Some(Duration::from_secs(86_401)),
        };
        assert_eq!(draft.settings("issuer", &mut violations), None);
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "issuer.display_name",
                "issuer.algorithms[1]",
                "issuer.algorithms[2]",
                "issuer.algorithms[3]",
                "issuer.allowed_audiences[1]",
                "issuer.allowed_audiences[2]",
                "issuer.default_token_duration",
                "issuer.max_token_duration",
            ]
        );
    }

    #[test]
    fn durations_are_whole_seconds_from_a_minute_to_a_day() {
        let limit = IssuerSettings::MAX_TOKEN_DURATION_LIMIT;
        for good in [60, 86_400] {
            assert!(check_token_duration(Duration::from_secs(good), limit).is_ok());
        }
        for bad in [Duration::ZERO, Duration::from_secs(59), Duration::from_secs(86_401), Duration::from_millis(90_500)] {
            assert!(check_token_duration(bad, limit).is_err(), "{bad:?}");
        }
        let longer = IssuerDraft { default_token_duration: Some(Duration::from_hours(2)), ..IssuerDraft::default() };
        assert_eq!(longer.settings("issuer", &mut Violations::new()), None, "longer than the maximum");
    }

    #[test]
    fn a_mask_changes_what_it_names_and_nothing_else() {
        let present = IssuerDraft {
            display_name: "before".to_owned(),
            algorithms: vec!["ES256".to_owned()],
            allowed_audiences: vec!["a".to_owned()],
            default_token_duration: Some(Duration::from_mins(2)),
            max_token_duration: Some(Duration::from_mins(3)),
        };
        let settings = present.clone().settings("issuer", &mut Violations::new()).unwrap();
        let wish = IssuerDraft { display_name: "after".to_owned(), ..IssuerDraft::default() };
        let mask = BTreeSet::from([IssuerField::DisplayName]);
        assert_eq!(wish.clone().onto(&settings, &mask), IssuerDraft { display_name: "after".to_owned(), ..present });
        assert_eq!(wish.clone().onto(&settings, &BTreeSet::from(IssuerField::ALL)), wish, "all of it");
        for field in IssuerField::ALL {
            assert_eq!(field.as_str().parse(), Ok(field));
        }
        assert!("issuer_url".parse::<IssuerField>().is_err());
    }
}
