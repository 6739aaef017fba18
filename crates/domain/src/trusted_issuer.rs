//! Trusted issuers: the OIDC issuers of others whose tokens a workspace accepts.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::draft::{self, Given, Mask};
use crate::exchange::DeploymentAudience;
use crate::id::{TrustedIssuerId, WorkspaceId};
use crate::issuer_url::{IssuerUrl, KeySetUrl, LoopbackHttp};
use crate::key_source::{AuthoritiesPem, KeySource, UploadedKeySet};
use crate::name::{Audience, DisplayName};
use crate::time::Timestamp;
use crate::violation::Violations;

/// An issuer of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// Its id.
    pub id: TrustedIssuerId,
    /// The owner.
    pub workspace_id: WorkspaceId,
    /// Everything an operator may set.
    pub settings: TrustedIssuerSettings,
    /// Counts its changes; the etag is made of it, and commits are checked against it.
    pub revision: i64,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What an operator may set of a trusted issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedIssuerSettings {
    /// For people.
    pub display_name: Option<DisplayName>,
    /// The exact `iss` of its tokens. Never changes.
    pub issuer_url: IssuerUrl,
    /// Where its keys come from.
    pub key_source: KeySource,
    /// The audiences accepted on its tokens. Empty: the deployment's own audience.
    pub subject_audiences: Vec<Audience>,
    /// The signature algorithms accepted. Never empty.
    pub algorithms: BTreeSet<SignatureAlgorithm>,
    /// The `typ` values accepted, compared exactly; `None` is an absent header. Never empty.
    pub token_types: BTreeSet<Option<String>>,
    /// The longest accepted `exp` - `iat`.
    pub max_token_lifetime: Duration,
    /// How far its clock may differ from ours.
    pub clock_skew: Duration,
    /// What makes a token single-use.
    pub replay_policy: ReplayPolicy,
    /// Whether its tokens are accepted at all.
    pub enabled: bool,
}

impl TrustedIssuerSettings {
    /// The longest `max_token_lifetime` that can be set: a day, and the minutes by which some issuers back-date `iat`. A managed
    /// identity of Azure has tokens of 24 h 5 min.
    pub const MAX_TOKEN_LIFETIME_LIMIT: Duration = Duration::from_hours(25);
    /// `max_token_lifetime` when nothing is said.
    pub const DEFAULT_MAX_TOKEN_LIFETIME: Duration = Duration::from_hours(1);
    /// The largest `clock_skew` that can be set (SECURITY 13).
    pub const CLOCK_SKEW_LIMIT: Duration = Duration::from_mins(1);
    /// `clock_skew` when nothing is said.
    pub const DEFAULT_CLOCK_SKEW: Duration = Duration::from_secs(30);
    /// The most `subject_audiences`.
    pub const MAX_SUBJECT_AUDIENCES: usize = 32;
    /// The most `token_types`.
    pub const MAX_TOKEN_TYPES: usize = 8;

    const SETTABLE: [&str; 13] = [
        "display_name",
        "jwks_url",
        "jwks",
        "jwks_expire_time",
        "ca_certificates",
        "max_stale_age",
        "subject_audiences",
        "algorithms",
        "token_types",
        "max_token_lifetime",
        "clock_skew",
        "replay_policy",
        "enabled",
    ];
    const IMMUTABLE: [&str; 7] = ["id", "workspace_id", "issuer_url", "etag", "create_time", "update_time", "health"];

    /// Checks a new trusted issuer, which is enabled whatever the draft says. `None` when a violation was noted.
    pub fn create(draft: &TrustedIssuerDraft, loopback_http: LoopbackHttp, violations: &mut Violations) -> Option<Self> {
        // Every field is read before the first absence ends this, so that all violations are reported at once.
        let display_name = draft.display_name(violations);
        let issuer_url = violations.check("trusted_issuer.issuer_url", IssuerUrl::parse(&draft.issuer_url, loopback_http));
        let key_source = KeyFields::default().update(draft, &|_| true, loopback_http, violations).into_source(violations);
        let subject_audiences = draft.subject_audiences(violations);
        let algorithms = draft.algorithms(violations);
        let token_types = draft.token_types(violations);
        let max_token_lifetime = draft.max_token_lifetime(violations);
        let clock_skew = draft.clock_skew(violations);
        let replay_policy = draft.replay_policy(violations);
        Some(Self {
            display_name: display_name?,
            issuer_url: issuer_url?,
            key_source: key_source?,
            subject_audiences: subject_audiences?,
            algorithms: algorithms?,
            token_types: token_types?,
            max_token_lifetime: max_token_lifetime?,
            clock_skew: clock_skew?,
            replay_policy: replay_policy?,
            enabled: true,
        })
    }

    /// These settings with the fields that the mask names taken from the draft. Violations are noted; the result counts only
    /// when there are none.
    #[must_use]
    pub fn update(
        mut self,
        draft: &TrustedIssuerDraft,
        mask: &[String],
        loopback_http: LoopbackHttp,
        violations: &mut Violations,
    ) -> Self {
        let mask = Mask::check(mask, &Self::SETTABLE, &Self::IMMUTABLE, violations);
        macro_rules! take {
            ($($field:ident ( $($argument:expr),* );)+) => {$(
                if mask.names(stringify!($field))
                    && let Some(value) = draft.$field($($argument),*)
                {
                    self.$field = value;
                }
            )+};
        }
        if KeyFields::NAMES.iter().any(|field| mask.names(field)) {
            let fields = KeyFields::from(self.key_source.clone());
            let fields = fields.update(draft, &|field| mask.names(field), loopback_http, violations);
            if let Some(key_source) = fields.into_source(violations) {
                self.key_source = key_source;
            }
        }
        take! {
            display_name(violations);
            subject_audiences(violations);
            algorithms(violations);
            token_types(violations);
            max_token_lifetime(violations);
            clock_skew(violations);
            replay_policy(violations);
        }
        if mask.names("enabled") {
            self.enabled = draft.enabled;
        }
        self
    }

    /// Notes when the issuer is this deployment: access tokens say who exchanged what, not how often it was exchanged before, so
    /// whoever could exchange them again would outlive his trust (SECURITY 54). Keys may be read from anywhere.
    pub fn check_foreign(&self, deployment: &DeploymentAudience, violations: &mut Violations) {
        let own = deployment.as_audience().as_str().trim_end_matches('/');
        if self.issuer_url.as_str().trim_end_matches('/') == own {
            violations.add("trusted_issuer.issuer_url", "is this deployment's own, whose access tokens are not exchanged again");
        }
    }

    /// Whether these settings accept nothing that the current ones do not: only the name differs, or the issuer is disabled.
    pub fn only_takes_from(&self, current: &Self) -> bool {
        let gives_again = self.enabled && !current.enabled;
        let same = Self { display_name: current.display_name.clone(), enabled: current.enabled, ..self.clone() };
        !gives_again && same == *current
    }

    /// The audiences accepted on its tokens; without any of its own, the deployment's (SECURITY 19).
    pub fn accepted_audiences<'a>(&'a self, deployment: &'a Audience) -> &'a [Audience] {
        if self.subject_audiences.is_empty() { std::slice::from_ref(deployment) } else { &self.subject_audiences }
    }
}

/// A trusted issuer as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedIssuerDraft {
    /// Empty: none.
    pub display_name: String,
    /// The exact `iss`.
    pub issuer_url: String,
    /// Empty: from the discovery document.
    pub jwks_url: String,
    /// A key set document. Empty: the keys are fetched.
    pub jwks: String,
    /// From when on `jwks` is not used any more.
    pub jwks_expire_time: Given<Timestamp>,
    /// Certificates in PEM. Empty: the authorities that everybody trusts.
    pub ca_certificates: String,
    /// Left out: [`KeySource::DEFAULT_MAX_STALE_AGE`].
    pub max_stale_age: Given<Duration>,
    /// Empty: the deployment's own audience.
    pub subject_audiences: Vec<String>,
    /// Empty: RS256, ES256, ES384, EdDSA.
    pub algorithms: Vec<String>,
    /// An empty element is an absent header; an empty list: absent and `JWT`.
    pub token_types: Vec<String>,
    /// Left out: [`TrustedIssuerSettings::DEFAULT_MAX_TOKEN_LIFETIME`].
    pub max_token_lifetime: Given<Duration>,
    /// Left out: [`TrustedIssuerSettings::DEFAULT_CLOCK_SKEW`].
    pub clock_skew: Given<Duration>,
    /// Left out: single use.
    pub replay_policy: Given<ReplayPolicy>,
    /// Read by updates only.
    pub enabled: bool,
}

#[expect(clippy::option_option, reason = "the outer option is a violation, the inner one an absent value")]
impl TrustedIssuerDraft {
    fn display_name(&self, violations: &mut Violations) -> Option<Option<DisplayName>> {
        draft::optional("trusted_issuer.display_name", &self.display_name, str::parse, violations)
    }

    fn jwks_url(&self, loopback_http: LoopbackHttp, violations: &mut Violations) -> Option<Option<KeySetUrl>> {
        let parse = |text: &str| KeySetUrl::parse(text, loopback_http);
        draft::optional("trusted_issuer.jwks_url", &self.jwks_url, parse, violations)
    }

    fn jwks(&self, violations: &mut Violations) -> Option<Option<UploadedKeySet>> {
        draft::optional("trusted_issuer.jwks", &self.jwks, str::parse, violations)
    }

    fn jwks_expire_time(&self, violations: &mut Violations) -> Option<Option<Timestamp>> {
        self.jwks_expire_time.map_or(Some(None), |given| violations.check("trusted_issuer.jwks_expire_time", given).map(Some))
    }

    fn ca_certificates(&self, violations: &mut Violations) -> Option<Option<AuthoritiesPem>> {
        draft::optional("trusted_issuer.ca_certificates", &self.ca_certificates, str::parse, violations)
    }

    fn max_stale_age(&self, violations: &mut Violations) -> Option<Option<Duration>> {
        if self.max_stale_age.is_none() {
            return Some(None);
        }
        let (bounds, default) = (Duration::ZERO..=KeySource::MAX_STALE_AGE_LIMIT, KeySource::DEFAULT_MAX_STALE_AGE);
        draft::whole_seconds("trusted_issuer.max_stale_age", self.max_stale_age, default, bounds, violations).map(Some)
    }

    fn subject_audiences(&self, violations: &mut Violations) -> Option<Vec<Audience>> {
        let most = TrustedIssuerSettings::MAX_SUBJECT_AUDIENCES;
        draft::list("trusted_issuer.subject_audiences", &self.subject_audiences, most, str::parse, violations)
    }

    fn algorithms(&self, violations: &mut Violations) -> Option<BTreeSet<SignatureAlgorithm>> {
        use SignatureAlgorithm::{EdDsa, Es256, Es384, Rs256};
        let most = SignatureAlgorithm::ALL.len();
        let algorithms = draft::list("trusted_issuer.algorithms", &self.algorithms, most, str::parse, violations)?;
        Some(if algorithms.is_empty() { [Rs256, Es256, Es384, EdDsa].into() } else { algorithms.into_iter().collect() })
    }

    fn token_types(&self, violations: &mut Violations) -> Option<BTreeSet<Option<String>>> {
        let most = TrustedIssuerSettings::MAX_TOKEN_TYPES;
        let token_types = draft::list("trusted_issuer.token_types", &self.token_types, most, token_type, violations)?;
        Some(if token_types.is_empty() { [None, Some("JWT".to_owned())].into() } else { token_types.into_iter().collect() })
    }

    fn max_token_lifetime(&self, violations: &mut Violations) -> Option<Duration> {
        let bounds = Duration::from_secs(1)..=TrustedIssuerSettings::MAX_TOKEN_LIFETIME_LIMIT;
        let default = TrustedIssuerSettings::DEFAULT_MAX_TOKEN_LIFETIME;
        draft::whole_seconds("trusted_issuer.max_token_lifetime", self.max_token_lifetime, default, bounds, violations)
    }

    fn clock_skew(&self, violations: &mut Violations) -> Option<Duration> {
        let bounds = Duration::ZERO..=TrustedIssuerSettings::CLOCK_SKEW_LIMIT;
        let default = TrustedIssuerSettings::DEFAULT_CLOCK_SKEW;
        draft::whole_seconds("trusted_issuer.clock_skew", self.clock_skew, default, bounds, violations)
    }

    fn replay_policy(&self, violations: &mut Violations) -> Option<ReplayPolicy> {
        violations.check("trusted_issuer.replay_policy", self.replay_policy.unwrap_or(Ok(ReplayPolicy::default())))
    }
}

/// The fields of a [`KeySource`] as the wire has them, side by side.
#[derive(Debug, Default)]
struct KeyFields {
    jwks_url: Option<KeySetUrl>,
    jwks: Option<UploadedKeySet>,
    jwks_expire_time: Option<Timestamp>,
    ca_certificates: Option<AuthoritiesPem>,
    max_stale_age: Option<Duration>,
    /// Whether one of them could not be read, which was noted.
    is_broken: bool,
}

impl From<KeySource> for KeyFields {
    fn from(source: KeySource) -> Self {
        match source {
            KeySource::Fetched { jwks_url, authorities, max_stale_age } => {
                Self { jwks_url, ca_certificates: authorities, max_stale_age: Some(max_stale_age), ..Self::default() }
            }
            KeySource::Uploaded { key_set, not_after } => {
                Self { jwks: Some(key_set), jwks_expire_time: Some(not_after), ..Self::default() }
            }
        }
    }
}

impl KeyFields {
    const NAMES: [&str; 5] = ["jwks_url", "jwks", "jwks_expire_time", "ca_certificates", "max_stale_age"];

    /// These fields with those that are named taken from the draft.
    fn update(
        mut self,
        draft: &TrustedIssuerDraft,
        names: &dyn Fn(&str) -> bool,
        loopback_http: LoopbackHttp,
        violations: &mut Violations,
    ) -> Self {
        macro_rules! take {
            ($($field:ident ( $($argument:expr),* );)+) => {$(
                if names(stringify!($field)) {
                    match draft.$field($($argument),*) {
                        Some(value) => self.$field = value,
                        None => self.is_broken = true,
                    }
                }
            )+};
        }
        take! {
            jwks_url(loopback_http, violations);
            jwks(violations);
            jwks_expire_time(violations);
            ca_certificates(violations);
            max_stale_age(violations);
        }
        // How long fetched keys may be used says nothing once they are uploaded, unless somebody says both.
        if self.jwks.is_some() && names("jwks") && !names("max_stale_age") {
            self.max_stale_age = None;
        }
        self
    }

    /// The source that the fields describe, when they agree.
    fn into_source(self, violations: &mut Violations) -> Option<KeySource> {
        let Self { jwks_url, jwks, jwks_expire_time, ca_certificates, max_stale_age, is_broken } = self;
        if is_broken {
            return None;
        }
        let Some(key_set) = jwks else {
            if jwks_expire_time.is_some() {
                violations.add("trusted_issuer.jwks_expire_time", "must be left out without `jwks`");
                return None;
            }
            let max_stale_age = max_stale_age.unwrap_or(KeySource::DEFAULT_MAX_STALE_AGE);
            return Some(KeySource::Fetched { jwks_url, authorities: ca_certificates, max_stale_age });
        };
        let idle = [
            ("trusted_issuer.jwks_url", jwks_url.is_some()),
            ("trusted_issuer.ca_certificates", ca_certificates.is_some()),
            ("trusted_issuer.max_stale_age", max_stale_age.is_some()),
        ];
        for (field, _) in idle.iter().filter(|(_, is_set)| *is_set) {
            violations.add(*field, "must be left out or cleared beside `jwks`: nothing is fetched");
        }
        let is_idle = idle.iter().any(|(_, is_set)| *is_set);
        let Some(not_after) = jwks_expire_time else {
            violations.add("trusted_issuer.jwks_expire_time", "is required beside `jwks`: uploaded keys must end some day");
            return None;
        };
        (!is_idle).then_some(KeySource::Uploaded { key_set, not_after })
    }
}

/// A `typ` header value; empty text stands for an absent header.
fn token_type(text: &str) -> Result<Option<String>, &'static str> {
    match text {
        "" => Ok(None),
        _ if text.len() > 64 || !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("must be at most 64 printable ASCII characters without space")
        }
        _ => Ok(Some(text.to_owned())),
    }
}

/// How often one token may be exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayPolicy {
    /// Once; without `jti` the hash of the signing input identifies the token.
    #[default]
    SingleUse,
    /// Once, and only with a `jti`.
    RequireJti,
    /// As often as it is valid.
    Reusable,
}

/// A JOSE signature algorithm (RFC 7518, section 3.1; RFC 8037; RFC 9864). `none` and the HMAC family do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSASSA-PSS with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSASSA-PSS with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// ECDSA on P-521 with SHA-512.
    #[serde(rename = "ES512")]
    Es512,
    /// Ed25519 under its first name.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// Ed25519 under its fully-specified name (RFC 9864).
    #[serde(rename = "Ed25519")]
    Ed25519,
}

impl SignatureAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 11] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// The exact value of the `alg` header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

impl std::fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of an algorithm that is ever accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519")]
pub struct UnknownAlgorithm;

impl std::str::FromStr for SignatureAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(UnknownAlgorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Unreadable;

    fn draft() -> TrustedIssuerDraft {
        TrustedIssuerDraft { issuer_url: "https://cloud.rwx.com/mint".to_owned(), ..TrustedIssuerDraft::default() }
    }

    fn created(draft: &TrustedIssuerDraft) -> Result<TrustedIssuerSettings, Violations> {
        let mut violations = Violations::new();
        let settings = TrustedIssuerSettings::create(draft, LoopbackHttp::Refused, &mut violations);
        assert_eq!(settings.is_none(), !violations.is_empty());
        settings.ok_or(violations)
    }

    fn fields(violations: &Violations) -> Vec<&str> {
        violations.iter().map(|violation| violation.field.as_str()).collect()
    }

    #[test]
    fn what_is_left_out_has_the_documented_defaults() {
        use SignatureAlgorithm::{EdDsa, Es256, Es384, Rs256};
        let settings = created(&draft()).unwrap();
        assert_eq!(settings.algorithms, [Rs256, Es256, Es384, EdDsa].into());
        assert_eq!(settings.token_types, [None, Some("JWT".to_owned())].into());
        assert_eq!(settings.max_token_lifetime, Duration::from_hours(1));
        assert_eq!(settings.clock_skew, Duration::from_secs(30));
        assert_eq!(settings.replay_policy, ReplayPolicy::SingleUse);
        assert!(settings.enabled);
    }

    #[test]
    fn every_violation_is_reported_at_once() {
        let violations = created(&TrustedIssuerDraft {
            display_name: "a\nb".to_owned(),
            issuer_url: "http://localhost:7401".to_owned(),
            jwks_url: "ftp://example.com".to_owned(),
            jwks: "x".repeat(UploadedKeySet::MAX_BYTES + 1),
            jwks_expire_time: Some(Err(Unreadable("must be a timestamp"))),
            ca_certificates: "x".repeat(AuthoritiesPem::MAX_BYTES + 1),
            max_stale_age: Some(Ok(Duration::from_secs(86_401))),
            subject_audiences: vec!["a".to_owned(), String::new(), "a".to_owned()],
            algorithms: vec!["RS256".to_owned(), "none".to_owned(), "rs256".to_owned()],
            token_types: vec!["J WT".to_owned()],
            max_token_lifetime: Some(Ok(Duration::from_secs(90_001))),
            clock_skew: Some(Err(Unreadable("must be a duration"))),
            replay_policy: Some(Err(Unreadable("must be a policy"))),
            enabled: false,
        })
        .unwrap_err();
        assert_eq!(
            fields(&violations),
            [
                "trusted_issuer.display_name",
                "trusted_issuer.issuer_url",
                "trusted_issuer.jwks_url",
                "trusted_issuer.jwks",
                "trusted_issuer.jwks_expire_time",
                "trusted_issuer.ca_certificates",
                "trusted_issuer.max_stale_age",
                "trusted_issuer.subject_audiences[1]",
                "trusted_issuer.subject_audiences[2]",
                "trusted_issuer.algorithms[1]",
                "trusted_issuer.algorithms[2]",
                "trusted_issuer.token_types[0]",
                "trusted_issuer.max_token_lifetime",
                "trusted_issuer.clock_skew",
                "trusted_issuer.replay_policy",
            ]
        );
    }

    #[test]
    fn s13_lifetime_and_skew_keep_within_their_limits() {
        for (seconds, fits) in [(0, false), (1, true), (90_000, true), (90_001, false)] {
            let draft = TrustedIssuerDraft { max_token_lifetime: Some(Ok(Duration::from_secs(seconds))), ..draft() };
            assert_eq!(created(&draft).is_ok(), fits, "lifetime {seconds}");
        }
        for (skew, fits) in [(0, true), (60_000, true), (60_001, false), (61_000, false), (1_500, false)] {
            let draft = TrustedIssuerDraft { clock_skew: Some(Ok(Duration::from_millis(skew))), ..draft() };
            assert_eq!(created(&draft).is_ok(), fits, "skew {skew} ms");
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn uploaded() -> TrustedIssuerDraft {
        TrustedIssuerDraft { jwks: r#"{"keys":[]}"#.to_owned(), jwks_expire_time: Some(Ok(at(7))), ..draft() }
    }

    #[test]
    fn keys_are_fetched_or_uploaded_and_never_both() {
        let source = |draft: &TrustedIssuerDraft| created(draft).map(|settings| settings.key_source);
        assert_eq!(source(&draft()), Ok(KeySource::default()));
        let key_set: UploadedKeySet = r#"{"keys":[]}"#.parse().unwrap();
        assert_eq!(source(&uploaded()), Ok(KeySource::Uploaded { key_set, not_after: at(7) }));

        let endless = TrustedIssuerDraft { jwks_expire_time: None, ..uploaded() };
        assert_eq!(fields(&source(&endless).unwrap_err()), ["trusted_issuer.jwks_expire_time"]);
        let nothing_ends = TrustedIssuerDraft { jwks: String::new(), ..uploaded() };
        assert_eq!(fields(&source(&nothing_ends).unwrap_err()), ["trusted_issuer.jwks_expire_time"]);
        let both = TrustedIssuerDraft {
            jwks_url: "https://keys.example".to_owned(),
            ca_certificates: "pem".to_owned(),
            max_stale_age: Some(Ok(Duration::from_secs(60))),
            ..uploaded()
        };
        let expected = ["trusted_issuer.jwks_url", "trusted_issuer.ca_certificates", "trusted_issuer.max_stale_age"];
        assert_eq!(fields(&source(&both).unwrap_err()), expected);
    }

    #[test]
    fn s45_the_stale_age_keeps_within_a_day() {
        for (seconds, fits) in [(0, true), (86_400, true), (86_401, false)] {
            let draft = TrustedIssuerDraft { max_stale_age: Some(Ok(Duration::from_secs(seconds))), ..draft() };
            assert_eq!(created(&draft).is_ok(), fits, "{seconds}");
        }
    }

    #[test]
    fn an_update_moves_between_the_sources_of_keys() {
        let update = |settings: TrustedIssuerSettings, draft: &TrustedIssuerDraft, mask: &[&str]| {
            let mask: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
            let mut violations = Violations::new();
            let updated = settings.update(draft, &mask, LoopbackHttp::Refused, &mut violations);
            violations.into_result(updated)
        };
        let pinned = TrustedIssuerDraft {
            jwks_url: "https://keys.example".to_owned(),
            max_stale_age: Some(Ok(Duration::from_secs(60))),
            ..draft()
        };
        let pinned = created(&pinned).unwrap();
        let upload = ["jwks", "jwks_expire_time"];
        // The URL stands in the way until it is cleared, so that nobody loses it unawares.
        assert_eq!(fields(&update(pinned.clone(), &uploaded(), &upload).unwrap_err()), ["trusted_issuer.jwks_url"]);
        let mask = [&upload[..], &["jwks_url"]].concat();
        let now_uploaded = update(pinned.clone(), &uploaded(), &mask).unwrap();
        assert_eq!(now_uploaded.key_source, created(&uploaded()).unwrap().key_source);
        // Keys alone, or their end alone, can be renewed.
        let renewed = TrustedIssuerDraft { jwks_expire_time: Some(Ok(at(9))), ..TrustedIssuerDraft::default() };
        let renewed = update(now_uploaded.clone(), &renewed, &["jwks_expire_time"]).unwrap();
        assert!(matches!(renewed.key_source, KeySource::Uploaded { not_after, .. } if not_after == at(9)));
        let back = update(now_uploaded, &draft(), &upload).unwrap();
        assert_eq!(back.key_source, KeySource::default());
        // A field that is not named stays as it is.
        let stale = TrustedIssuerDraft { max_stale_age: None, ..draft() };
        let source = update(pinned, &stale, &["ca_certificates"]).unwrap().key_source;
        let jwks_url = Some("https://keys.example".parse().unwrap());
        assert_eq!(source, KeySource::Fetched { jwks_url, authorities: None, max_stale_age: Duration::from_secs(60) });
    }

    #[test]
    fn s03_only_asymmetric_algorithms_can_be_allowed() {
        for algorithm in ["none", "HS256", "rs256", "RS256 ", ""] {
            let draft = TrustedIssuerDraft { algorithms: vec![algorithm.to_owned()], ..draft() };
            assert!(created(&draft).is_err(), "{algorithm}");
        }
    }

    #[test]
    fn an_update_changes_only_what_the_mask_names_and_never_the_url() {
        let before = created(&draft()).unwrap();
        let draft = TrustedIssuerDraft {
            issuer_url: "https://elsewhere.example".to_owned(),
            clock_skew: Some(Ok(Duration::from_secs(10))),
            max_token_lifetime: Some(Err(Unreadable("not named by the mask, so never read"))),
            ..TrustedIssuerDraft::default()
        };
        let mut violations = Violations::new();
        let mask = ["clock_skew", "enabled"].map(str::to_owned);
        let after = before.clone().update(&draft, &mask, LoopbackHttp::Refused, &mut violations);
        assert!(violations.is_empty());
        assert_eq!(after, TrustedIssuerSettings { clock_skew: Duration::from_secs(10), enabled: false, ..before.clone() });

        let mask = ["issuer_url", "workspace_id", "nonsense"].map(str::to_owned);
        let after = before.clone().update(&draft, &mask, LoopbackHttp::Refused, &mut violations);
        assert_eq!(after, before);
        assert_eq!(fields(&violations), ["update_mask.paths[0]", "update_mask.paths[1]", "update_mask.paths[2]"]);
    }

    #[test]
    fn s19_without_its_own_audiences_an_issuer_accepts_the_deployments() {
        let deployment: Audience = "https://gateway.example".parse().unwrap();
        let mut settings = created(&draft()).unwrap();
        assert_eq!(settings.accepted_audiences(&deployment), std::slice::from_ref(&deployment));
        settings.subject_audiences = vec!["other".parse().unwrap()];
        assert_eq!(settings.accepted_audiences(&deployment), ["other".parse::<Audience>().unwrap()]);
    }
}
