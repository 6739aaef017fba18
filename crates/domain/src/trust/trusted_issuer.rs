//! Trusted issuers: the OIDC issuers of others whose tokens a workspace accepts.

mod key_fields;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::trust::key_source::{AuthoritiesPem, KeySource, KeyUses, UploadedKeySet};
use crate::trust::preset::Preset;
use crate::values::deployment_audience::DeploymentAudience;
use crate::values::draft::{self, Given, Mask};
use crate::values::id::{TrustedIssuerId, WorkspaceId};
use crate::values::issuer_url::{IssuerUrl, KeySetUrl, LoopbackHttp};
use crate::values::name::{Audience, DisplayName, PresetId};
use crate::values::replay_policy::ReplayPolicy;
use crate::values::signature_algorithm::SignatureAlgorithm;
use crate::values::time::Timestamp;
use crate::values::token_type::TokenType;
use crate::values::violation::Violations;
use key_fields::KeyFields;

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
    /// What kind of issuer it is, when that was said.
    pub preset: Option<PresetId>,
    /// The exact `iss` of its tokens. Never changes.
    pub issuer_url: IssuerUrl,
    /// Where its keys come from.
    pub key_source: KeySource,
    /// The audiences accepted on its tokens. Empty: the deployment's own audience.
    pub subject_audiences: Vec<Audience>,
    /// The signature algorithms accepted. Never empty.
    pub algorithms: BTreeSet<SignatureAlgorithm>,
    /// The accepted media types of tokens, `typ`; `None` is an absent header. Never empty.
    pub token_types: BTreeSet<Option<TokenType>>,
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

    const SETTABLE: [&str; 14] = [
        "display_name",
        "preset",
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
        let preset = draft.preset(violations);
        let issuer_url = violations.check("trusted_issuer.issuer_url", IssuerUrl::parse(&draft.issuer_url, loopback_http));
        let key_source = KeyFields::default().update(draft, &|_| true, loopback_http, violations).into_source(violations);
        let subject_audiences = draft.subject_audiences(violations);
        let algorithms = draft.algorithms(violations);
        let token_types = draft.token_types(violations);
        let max_token_lifetime = draft.max_token_lifetime(violations);
        let clock_skew = draft.clock_skew(violations);
        let replay_policy = draft.replay_policy(violations);
        let preset = match (preset, &issuer_url) {
            (Some(Some(preset)), Some(issuer_url)) => fits(&preset, issuer_url, violations).then_some(Some(preset)),
            (preset, _) => preset,
        };
        Some(Self {
            display_name: display_name?,
            preset: preset?,
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
            preset(violations);
            subject_audiences(violations);
            algorithms(violations);
            token_types(violations);
            max_token_lifetime(violations);
            clock_skew(violations);
            replay_policy(violations);
        }
        if mask.names("preset")
            && let Some(preset) = &self.preset
        {
            fits(preset, &self.issuer_url, violations);
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

    /// The preset that an issuer's URL tells, or else the one that an operator chose. What the URL tells cannot be chosen away: a
    /// preset of other issuers knows nothing of who shares this one.
    pub fn known_preset(&self) -> Option<&'static Preset> {
        Preset::of_issuer(&self.issuer_url).or_else(|| Preset::find(self.preset.as_ref()?.as_str()))
    }

    /// With which `use` the keys of its tokens are published.
    pub fn key_uses(&self) -> KeyUses {
        self.known_preset().map(|preset| preset.key_uses).unwrap_or_default()
    }

    /// Whether these settings accept nothing that the current settings do not: only the name or the preset differs, or the issuer
    /// is disabled. A preset that lets more keys verify tokens does not count as such.
    pub fn only_takes_from(&self, current: &Self) -> bool {
        let gives_again = self.enabled && !current.enabled;
        let (display_name, preset) = (current.display_name.clone(), current.preset.clone());
        let same = Self { display_name, preset, enabled: current.enabled, ..self.clone() };
        !gives_again && same == *current && self.key_uses() <= current.key_uses()
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
    /// The id of a preset. Empty: what the URL tells.
    pub preset: String,
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

    fn preset(&self, violations: &mut Violations) -> Option<Option<PresetId>> {
        let parse = |text: &str| Preset::find(text).map(|preset| preset.id.clone()).ok_or_else(unknown_preset);
        draft::optional("trusted_issuer.preset", &self.preset, parse, violations)
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
        // One algorithm has two names, and a list can name both.
        let most = SignatureAlgorithm::ALL.len() + 1;
        let named = |text: &str| text.parse::<SignatureAlgorithm>().map(|algorithm| (algorithm, algorithm.as_str() == text));
        let algorithms = draft::list("trusted_issuer.algorithms", &self.algorithms, most, named, violations)?;
        let algorithms: BTreeSet<_> = algorithms.into_iter().map(|(algorithm, _)| algorithm).collect();
        Some(if algorithms.is_empty() { [Rs256, Es256, Es384, EdDsa].into() } else { algorithms })
    }

    fn token_types(&self, violations: &mut Violations) -> Option<BTreeSet<Option<TokenType>>> {
        let most = TrustedIssuerSettings::MAX_TOKEN_TYPES;
        // Two spellings of one type are no mistake: earlier versions told them apart.
        let spelling = |text: &str| token_type(text).map(|token_type| (token_type, text.to_owned()));
        let token_types = draft::list("trusted_issuer.token_types", &self.token_types, most, spelling, violations)?;
        let token_types: BTreeSet<_> = token_types.into_iter().map(|(token_type, _)| token_type).collect();
        Some(if token_types.is_empty() { [None, Some(TokenType::new("JWT"))].into() } else { token_types })
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

/// What to choose from instead of a preset that there is not.
fn unknown_preset() -> String {
    format!("must be one of {}", Preset::all().iter().map(|preset| preset.id.as_str()).collect::<Vec<_>>().join(", "))
}

/// Whether a preset's issuers can have this URL; noted when not, as what the preset says of subjects and tenants would be said of
/// somebody else's.
fn fits(id: &PresetId, issuer_url: &IssuerUrl, violations: &mut Violations) -> bool {
    let Some(preset) = Preset::find(id.as_str()).filter(|preset| !preset.issuer.fits(issuer_url)) else { return true };
    let forms: Vec<_> = preset.issuer.templates.iter().map(|one| one.template.as_str()).collect();
    violations.add("trusted_issuer.preset", format!("has issuers with the URL {} alone", forms.join(" or ")));
    false
}

/// A `typ` header value; empty text stands for an absent header.
fn token_type(text: &str) -> Result<Option<TokenType>, &'static str> {
    match text {
        "" => Ok(None),
        _ if text.len() > 64 || !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("must be at most 64 printable ASCII characters without space")
        }
        _ => Ok(Some(TokenType::new(text))),
    }
}

#[cfg(test)]
mod tests;
