//! Issuers: the identities this deployment signs ID tokens for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::draft::{self, Given, Mask};
use crate::id::{IssuerId, WorkspaceId};
use crate::issuer_url::{InvalidUrl, IssuerUrl, LoopbackHttp};
use crate::name::{Audience, DisplayName};
use crate::profile::BuiltInProfile;
use crate::signing_key::RotationPolicy;
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
    /// When its keys follow each other.
    pub rotation: RotationPolicy,
}

/// Settings as somebody wrote them. Becomes [`IssuerSettings`] by [`IssuerSettings::create`] or [`IssuerSettings::update`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IssuerDraft {
    /// Empty: none.
    pub display_name: String,
    /// Names of algorithms. Empty: RS256.
    pub algorithms: Vec<String>,
    /// Empty: any.
    pub allowed_audiences: Vec<String>,
    /// Not given: [`IssuerSettings::DEFAULT_TOKEN_DURATION`], or the maximum where that is shorter.
    pub default_token_duration: Given<Duration>,
    /// Not given: [`IssuerSettings::DEFAULT_TOKEN_DURATION`].
    pub max_token_duration: Given<Duration>,
    /// Not given: [`RotationPolicy::DEFAULT_PERIOD`]. Zero: only on request.
    pub rotation_period: Given<Duration>,
}

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

    const SETTABLE: [&str; 6] =
        ["display_name", "algorithms", "allowed_audiences", "default_token_duration", "max_token_duration", "rotation_period"];
    const IMMUTABLE: [&str; 7] = ["id", "workspace_id", "issuer_url", "profile", "etag", "create_time", "update_time"];

    /// Checks the settings of a new issuer. `None` when a violation was noted.
    pub fn create(draft: &IssuerDraft, violations: &mut Violations) -> Option<Self> {
        // Every field is read before the first absence ends this, so that all violations are reported at once.
        let display_name = draft.display_name(violations);
        let algorithms = draft.algorithms(violations);
        let allowed_audiences = draft.allowed_audiences(violations);
        let max_token_duration = draft.max_token_duration(violations);
        let default_token_duration = draft.default_token_duration(max_token_duration, violations);
        let rotation = draft.rotation_period(violations);
        let settings = Self {
            display_name: display_name?,
            algorithms: algorithms?,
            allowed_audiences: allowed_audiences?,
            default_token_duration: default_token_duration?,
            max_token_duration: max_token_duration?,
            rotation: rotation?,
        };
        settings.check_order(violations).then_some(settings)
    }

    /// These settings with the fields that the mask names taken from the draft. Violations are noted; the result counts only
    /// when there are none.
    #[must_use]
    pub fn update(mut self, draft: &IssuerDraft, mask: &[String], violations: &mut Violations) -> Self {
        let mask = Mask::check(mask, &Self::SETTABLE, &Self::IMMUTABLE, violations);
        macro_rules! take {
            ($($field:ident ( $($argument:expr),* );)+) => {$(
                if mask.names(stringify!($field))
                    && let Some(value) = draft.$field($($argument,)* violations)
                {
                    self.$field = value;
                }
            )+};
        }
        take! {
            display_name();
            algorithms();
            allowed_audiences();
            max_token_duration();
            default_token_duration(Some(self.max_token_duration));
        }
        if mask.names("rotation_period")
            && let Some(rotation) = draft.rotation_period(violations)
        {
            self.rotation = rotation;
        }
        self.check_order(violations);
        self
    }

    fn check_order(&self, violations: &mut Violations) -> bool {
        let ordered = self.default_token_duration <= self.max_token_duration;
        if !ordered {
            violations.add("issuer.default_token_duration", "must not be longer than max_token_duration");
        }
        ordered
    }
}

impl IssuerDraft {
    #[expect(clippy::option_option, reason = "the outer option is a violation, the inner one an absent value")]
    fn display_name(&self, violations: &mut Violations) -> Option<Option<DisplayName>> {
        draft::optional("issuer.display_name", &self.display_name, str::parse, violations)
    }

    fn algorithms(&self, violations: &mut Violations) -> Option<Vec<SignatureAlgorithm>> {
        if self.algorithms.is_empty() {
            return Some(vec![SignatureAlgorithm::Rs256]);
        }
        let parse = |text: &str| {
            let own = IssuerSettings::ALGORITHMS.into_iter().find(|algorithm| algorithm.as_str() == text);
            own.ok_or("must be one of RS256, ES256, ES384, EdDSA")
        };
        draft::list("issuer.algorithms", &self.algorithms, IssuerSettings::ALGORITHMS.len(), parse, violations)
    }

    fn allowed_audiences(&self, violations: &mut Violations) -> Option<Vec<Audience>> {
        let most = IssuerSettings::MAX_ALLOWED_AUDIENCES;
        draft::list("issuer.allowed_audiences", &self.allowed_audiences, most, str::parse, violations)
    }

    fn max_token_duration(&self, violations: &mut Violations) -> Option<Duration> {
        let bounds = IssuerSettings::MIN_TOKEN_DURATION..=IssuerSettings::MAX_TOKEN_DURATION_LIMIT;
        let default = IssuerSettings::DEFAULT_TOKEN_DURATION;
        draft::whole_seconds("issuer.max_token_duration", self.max_token_duration, default, bounds, violations)
    }

    fn default_token_duration(&self, max: Option<Duration>, violations: &mut Violations) -> Option<Duration> {
        let bounds = IssuerSettings::MIN_TOKEN_DURATION..=IssuerSettings::MAX_TOKEN_DURATION_LIMIT;
        let default = IssuerSettings::DEFAULT_TOKEN_DURATION;
        let default = max.map_or(default, |max| default.min(max));
        draft::whole_seconds("issuer.default_token_duration", self.default_token_duration, default, bounds, violations)
    }

    fn rotation_period(&self, violations: &mut Violations) -> Option<RotationPolicy> {
        if self.rotation_period == Some(Ok(Duration::ZERO)) {
            return Some(RotationPolicy::OnRequest);
        }
        let bounds = RotationPolicy::MIN_PERIOD..=RotationPolicy::MAX_PERIOD;
        let default = RotationPolicy::DEFAULT_PERIOD;
        draft::whole_seconds("issuer.rotation_period", self.rotation_period, default, bounds, violations)
            .map(RotationPolicy::Every)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Unreadable;

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

    fn create(draft: &IssuerDraft) -> Result<IssuerSettings, Vec<String>> {
        let mut violations = Violations::new();
        let settings = IssuerSettings::create(draft, &mut violations);
        assert_eq!(settings.is_some(), violations.is_empty());
        settings.ok_or_else(|| violations.into_iter().map(|violation| violation.field).collect())
    }

    #[expect(clippy::unnecessary_wraps, reason = "drafts hold optional values")]
    fn given(seconds: u64) -> Given<Duration> {
        Some(Ok(Duration::from_secs(seconds)))
    }

    #[test]
    fn an_empty_draft_means_the_documented_defaults() {
        let settings = create(&IssuerDraft::default()).unwrap();
        assert_eq!(settings.algorithms, [SignatureAlgorithm::Rs256]);
        assert_eq!(settings.default_token_duration, Duration::from_hours(1));
        assert_eq!(settings.max_token_duration, Duration::from_hours(1));
        assert_eq!(settings.rotation, RotationPolicy::Every(Duration::from_hours(90 * 24)));
        let short = create(&IssuerDraft { max_token_duration: given(300), ..IssuerDraft::default() }).unwrap();
        assert_eq!(short.default_token_duration, Duration::from_mins(5), "the default never exceeds the maximum");
    }

    #[test]
    fn every_violation_of_a_draft_is_noted_at_once() {
        let draft = IssuerDraft {
            display_name: "x".repeat(101),
            algorithms: ["RS256", "none", "RS256", "RS512"].map(str::to_owned).to_vec(),
            allowed_audiences: ["a", "", "a"].map(str::to_owned).to_vec(),
            default_token_duration: given(59),
            max_token_duration: Some(Err(Unreadable("must be a duration"))),
            rotation_period: given(86_399),
        };
        assert_eq!(
            create(&draft).unwrap_err(),
            [
                "issuer.display_name",
                "issuer.algorithms[1]",
                "issuer.algorithms[2]",
                "issuer.algorithms[3]",
                "issuer.allowed_audiences[1]",
                "issuer.allowed_audiences[2]",
                "issuer.max_token_duration",
                "issuer.default_token_duration",
                "issuer.rotation_period",
            ]
        );
    }

    #[test]
    fn durations_are_whole_seconds_from_a_minute_to_a_day() {
        for good in [60, 3600, 86_400] {
            assert!(create(&IssuerDraft { max_token_duration: given(good), ..IssuerDraft::default() }).is_ok());
        }
        for bad in [Duration::ZERO, Duration::from_secs(59), Duration::from_secs(86_401), Duration::from_millis(90_500)] {
            let draft = IssuerDraft { max_token_duration: Some(Ok(bad)), ..IssuerDraft::default() };
            assert_eq!(create(&draft).unwrap_err(), ["issuer.max_token_duration"], "{bad:?}");
        }
        let longer = IssuerDraft { default_token_duration: given(7200), ..IssuerDraft::default() };
        assert_eq!(create(&longer).unwrap_err(), ["issuer.default_token_duration"], "longer than the maximum");
    }

    #[test]
    fn keys_are_rotated_every_day_to_every_other_year_or_on_request() {
        for (seconds, expected) in [
            (0, Some(RotationPolicy::OnRequest)),
            (1, None),
            (86_399, None),
            (86_400, Some(RotationPolicy::Every(Duration::from_hours(24)))),
            (730 * 86_400, Some(RotationPolicy::Every(Duration::from_hours(730 * 24)))),
            (730 * 86_400 + 1, None),
        ] {
            let created = create(&IssuerDraft { rotation_period: given(seconds), ..IssuerDraft::default() });
            assert_eq!(created.map(|settings| settings.rotation).ok(), expected, "{seconds} s");
        }
    }

    #[test]
    fn a_mask_changes_what_it_names_and_nothing_else() {
        let present = create(&IssuerDraft {
            display_name: "before".to_owned(),
            algorithms: vec!["ES256".to_owned()],
            allowed_audiences: vec!["a".to_owned()],
            default_token_duration: given(120),
            max_token_duration: given(180),
            rotation_period: given(0),
        });
        let present = present.unwrap();
        // Unreadable where it is not named.
        let unreadable = Some(Err(Unreadable("must be a duration")));
        let draft = IssuerDraft {
            display_name: "after".to_owned(),
            default_token_duration: unreadable,
            max_token_duration: unreadable,
            ..IssuerDraft::default()
        };
        let update = |draft: &IssuerDraft, mask: &[&str]| {
            let mask: Vec<_> = mask.iter().map(ToString::to_string).collect();
            let mut violations = Violations::new();
            let updated = present.clone().update(draft, &mask, &mut violations);
            violations.into_result(updated).map_err(|found| found.into_iter().map(|one| one.field).collect::<Vec<_>>())
        };
        let renamed = IssuerSettings { display_name: Some("after".parse().unwrap()), ..present.clone() };
        assert_eq!(update(&draft, &["display_name"]), Ok(renamed));
        assert_eq!(update(&draft, &["max_token_duration"]).unwrap_err(), ["issuer.max_token_duration"]);
        let all = update(&IssuerDraft::default(), &IssuerSettings::SETTABLE);
        assert_eq!(all, Ok(create(&IssuerDraft::default()).unwrap()));
        let shorter = IssuerDraft { max_token_duration: given(60), ..IssuerDraft::default() };
        assert_eq!(update(&shorter, &["max_token_duration"]).unwrap_err(), ["issuer.default_token_duration"]);
        let fixed = update(&draft, &["issuer_url", "profile", "nonsense"]).unwrap_err();
        assert_eq!(fixed, ["update_mask.paths[0]", "update_mask.paths[1]", "update_mask.paths[2]"]);
        assert_eq!(update(&draft, &[]).unwrap_err(), ["update_mask"]);
    }
}
