//! Trust relationships: which tokens of a trusted issuer get what.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access_token;
use crate::draft::{self, Given, Mask};
use crate::exchange::DeploymentAudience;
use crate::grant::Grant;
use crate::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use crate::name::{Audience, DisplayName, Scope};
use crate::permission::{Permission, ScopeNotGrantable, check_grantable};
use crate::subject_match::SubjectMatch;
use crate::time::Timestamp;
use crate::trusted_issuer::TrustedIssuerSettings;
use crate::violation::Violations;

/// Which tokens of one trusted issuer are accepted, and what they are exchanged for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRelationship {
    /// Its id.
    pub id: TrustRelationshipId,
    /// The owner.
    pub workspace_id: WorkspaceId,
    /// The issuer whose tokens are meant.
    pub trusted_issuer_id: TrustedIssuerId,
    /// Everything an operator may set.
    pub settings: TrustRelationshipSettings,
    /// Counts its changes; the etag is made of it, and commits are checked against it.
    pub revision: i64,
    /// Who created it: the caller's subject.
    pub creator: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What an operator may set of a trust relationship.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRelationshipSettings {
    /// For people.
    pub display_name: Option<DisplayName>,
    /// The accepted subjects; one must match. Never empty.
    pub subject_matches: Vec<SubjectMatch>,
    /// Narrows the trusted issuer's accepted audiences. Empty: no narrower.
    pub subject_audiences: Vec<Audience>,
    /// What may stand in the access token's `aud`; the first is the default. Empty: the deployment's own audience.
    pub access_token_audiences: Vec<Audience>,
    /// What the access token's `scope` may hold.
    pub scopes: Vec<Scope>,
    /// What the access token allows.
    pub grants: Vec<Grant>,
    /// How long the access token lives.
    pub token_duration: Duration,
    /// When the relationship stops to hold.
    pub expires_at: Option<Timestamp>,
    /// Whether the relationship holds.
    pub enabled: bool,
}

impl TrustRelationshipSettings {
    /// The shortest `token_duration` that can be set.
    pub const MIN_TOKEN_DURATION: Duration = Duration::from_mins(1);
    /// The longest `token_duration` that can be set.
    pub const MAX_TOKEN_DURATION: Duration = Duration::from_hours(12);
    /// `token_duration` when nothing is said.
    pub const DEFAULT_TOKEN_DURATION: Duration = Duration::from_hours(1);
    /// The most elements of each of its lists.
    pub const MAX_ELEMENTS: usize = 64;
    /// The most bytes that its audiences, scopes and grants may take of an access token, all together. A token is at most 16 KiB,
    /// in base64 and with its signature; what identifies the subject needs room beside them.
    pub const MAX_GIVEN_BYTES: usize = 8 * 1024;

    const SETTABLE: [&str; 9] = [
        "display_name",
        "subject_matches",
        "subject_audiences",
        "access_token_audiences",
        "scopes",
        "grants",
        "token_duration",
        "expire_time",
        "enabled",
    ];
    const IMMUTABLE: [&str; 8] =
        ["id", "workspace_id", "trusted_issuer_id", "revision", "etag", "creator", "create_time", "update_time"];

    /// Checks a new trust relationship, which is enabled whatever the draft says. `None` when a violation was noted.
    pub fn create(draft: &TrustRelationshipDraft, now: Timestamp, violations: &mut Violations) -> Option<Self> {
        // Every field is read before the first absence ends this, so that all violations are reported at once.
        let display_name = draft.display_name(violations);
        let subject_matches = draft.subject_matches(violations);
        let subject_audiences = draft.subject_audiences(violations);
        let access_token_audiences = draft.access_token_audiences(violations);
        let scopes = draft.scopes(violations);
        let grants = draft.grants(violations);
        let token_duration = draft.token_duration(violations);
        let expires_at = draft.expires_at(now, violations);
        let gives = match (&scopes, &grants) {
            (Some(scopes), Some(grants)) => gives_something(scopes, grants, violations),
            // What is not valid may have been meant to give something.
            _ => true,
        };
        let settings = Self {
            display_name: display_name?,
            subject_matches: subject_matches?,
            subject_audiences: subject_audiences?,
            access_token_audiences: access_token_audiences?,
            scopes: scopes?,
            grants: grants?,
            token_duration: token_duration?,
            expires_at: expires_at?,
            enabled: true,
        };
        (gives && settings.fits(violations)).then_some(settings)
    }

    /// These settings with the fields that the mask names taken from the draft. Violations are noted; the result counts only
    /// when there are none.
    #[must_use]
    pub fn update(
        mut self,
        draft: &TrustRelationshipDraft,
        mask: &[String],
        now: Timestamp,
        violations: &mut Violations,
    ) -> Self {
        let mask = Mask::check(mask, &Self::SETTABLE, &Self::IMMUTABLE, violations);
        macro_rules! take {
            ($($field:ident = $name:literal ( $($argument:expr),* );)+) => {$(
                if mask.names($name)
                    && let Some(value) = draft.$field($($argument),*)
                {
                    self.$field = value;
                }
            )+};
        }
        take! {
            display_name = "display_name"(violations);
            subject_matches = "subject_matches"(violations);
            subject_audiences = "subject_audiences"(violations);
            access_token_audiences = "access_token_audiences"(violations);
            scopes = "scopes"(violations);
            grants = "grants"(violations);
            token_duration = "token_duration"(violations);
            expires_at = "expire_time"(now, violations);
        }
        if mask.names("enabled") {
            self.enabled = draft.enabled;
        }
        if violations.is_empty() {
            gives_something(&self.scopes, &self.grants, violations);
            // Only who changes what is given is told: a relationship is disabled whatever it gives.
            if ["access_token_audiences", "scopes", "grants"].iter().any(|field| mask.names(field)) {
                self.fits(violations);
            }
        }
        self
    }

    /// Notes when all that the relationship may give is more than an access token has room for.
    fn fits(&self, violations: &mut Violations) -> bool {
        let bytes = access_token::given_bytes(&self.access_token_audiences, &self.scopes, &self.grants);
        let fits = bytes <= Self::MAX_GIVEN_BYTES;
        if !fits {
            let description = format!(
                "must, with `scopes` and `access_token_audiences`, take at most {} bytes of an access token, not {bytes}",
                Self::MAX_GIVEN_BYTES
            );
            violations.add("trust_relationship.grants", description);
        }
        fits
    }

    /// Notes every subject audience that the trusted issuer does not accept: a relationship narrows, it never widens.
    pub fn check_audiences(&self, issuer: &TrustedIssuerSettings, deployment: &DeploymentAudience, violations: &mut Violations) {
        let accepted = issuer.accepted_audiences(deployment.as_audience());
        for (index, audience) in self.subject_audiences.iter().enumerate() {
            if !deployment.is_in(accepted, audience) {
                violations.add(
                    format!("trust_relationship.subject_audiences[{index}]"),
                    "is not among the audiences that the trusted issuer accepts",
                );
            }
        }
    }

    /// Checks that somebody who holds what `holds` says may write these settings in place of the current ones (SECURITY 69).
    ///
    /// Every scope is checked, not only new ones: whoever changes the accepted subjects gives the old scopes to new ones. Only
    /// a change that takes away and gives nothing, disabling, is free, so that nobody needs more rights to stop minting.
    pub fn check_grantable(&self, current: Option<&Self>, holds: impl Fn(Permission) -> bool) -> Result<(), NotGrantable> {
        if current.is_some_and(|current| self.only_takes_from(current)) {
            return Ok(());
        }
        let mut refused = NotGrantable { scopes: Vec::new() };
        for (index, scope) in self.scopes.iter().enumerate() {
            if let Err(cause) = check_grantable(scope, &holds) {
                refused.scopes.push((index, cause));
            }
        }
        if refused.scopes.is_empty() { Ok(()) } else { Err(refused) }
    }

    fn only_takes_from(&self, current: &Self) -> bool {
        let gives_again = self.enabled && !current.enabled;
        let same = Self { display_name: current.display_name.clone(), enabled: current.enabled, ..self.clone() };
        !gives_again && same == *current
    }
}

fn gives_something(scopes: &[Scope], grants: &[Grant], violations: &mut Violations) -> bool {
    let gives = !scopes.is_empty() || !grants.is_empty();
    if !gives {
        violations.add("trust_relationship.grants", "must hold at least one grant, unless `scopes` holds at least one scope");
    }
    gives
}

/// Scopes that the caller may not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotGrantable {
    /// The index of each in `scopes`, and why.
    pub scopes: Vec<(usize, ScopeNotGrantable)>,
}

impl std::fmt::Display for NotGrantable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, (index, cause)) in self.scopes.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}trust_relationship.scopes[{index}]: {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NotGrantable {}

/// A trust relationship as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustRelationshipDraft {
    /// Empty: none.
    pub display_name: String,
    /// At least one.
    pub subject_matches: Vec<String>,
    /// Empty: no narrower than the trusted issuer.
    pub subject_audiences: Vec<String>,
    /// Empty: the deployment's own audience.
    pub access_token_audiences: Vec<String>,
    /// With no scope, there must be a grant.
    pub scopes: Vec<String>,
    /// With no grant, there must be a scope.
    pub grants: Vec<Grant>,
    /// Left out: [`TrustRelationshipSettings::DEFAULT_TOKEN_DURATION`].
    pub token_duration: Given<Duration>,
    /// Left out: never.
    pub expires_at: Given<Timestamp>,
    /// Read by updates only.
    pub enabled: bool,
}

#[expect(clippy::option_option, reason = "the outer option is a violation, the inner one an absent value")]
impl TrustRelationshipDraft {
    fn display_name(&self, violations: &mut Violations) -> Option<Option<DisplayName>> {
        draft::optional("trust_relationship.display_name", &self.display_name, str::parse, violations)
    }

    fn subject_matches(&self, violations: &mut Violations) -> Option<Vec<SubjectMatch>> {
        let field = "trust_relationship.subject_matches";
        if self.subject_matches.is_empty() {
            violations.add(field, "must hold at least one subject");
            return None;
        }
        draft::list(field, &self.subject_matches, TrustRelationshipSettings::MAX_ELEMENTS, str::parse, violations)
    }

    fn subject_audiences(&self, violations: &mut Violations) -> Option<Vec<Audience>> {
        names("trust_relationship.subject_audiences", &self.subject_audiences, violations)
    }

    fn access_token_audiences(&self, violations: &mut Violations) -> Option<Vec<Audience>> {
        names("trust_relationship.access_token_audiences", &self.access_token_audiences, violations)
    }

    fn scopes(&self, violations: &mut Violations) -> Option<Vec<Scope>> {
        names("trust_relationship.scopes", &self.scopes, violations)
    }

    fn grants(&self, violations: &mut Violations) -> Option<Vec<Grant>> {
        let mut found = Violations::new();
        if self.grants.len() > TrustRelationshipSettings::MAX_ELEMENTS {
            found.add(
                "trust_relationship.grants",
                format!("must hold at most {} elements", TrustRelationshipSettings::MAX_ELEMENTS),
            );
        } else {
            for (index, grant) in self.grants.iter().enumerate() {
                grant.validate(&format!("trust_relationship.grants[{index}]"), &mut found);
            }
        }
        let valid = found.is_empty();
        violations.extend(found);
        valid.then(|| self.grants.clone())
    }

    fn token_duration(&self, violations: &mut Violations) -> Option<Duration> {
        let bounds = TrustRelationshipSettings::MIN_TOKEN_DURATION..=TrustRelationshipSettings::MAX_TOKEN_DURATION;
        let default = TrustRelationshipSettings::DEFAULT_TOKEN_DURATION;
        draft::whole_seconds("trust_relationship.token_duration", self.token_duration, default, bounds, violations)
    }

    fn expires_at(&self, now: Timestamp, violations: &mut Violations) -> Option<Option<Timestamp>> {
        let field = "trust_relationship.expire_time";
        let Some(given) = self.expires_at else { return Some(None) };
        let expires_at = violations.check(field, given)?;
        if expires_at <= now {
            violations.add(field, "must be in the future; to end a relationship now, disable or delete it");
            return None;
        }
        Some(Some(expires_at))
    }
}

fn names<T>(field: &str, written: &[String], violations: &mut Violations) -> Option<Vec<T>>
where
    T: std::str::FromStr<Err = crate::name::InvalidName> + PartialEq,
{
    draft::list(field, written, TrustRelationshipSettings::MAX_ELEMENTS, str::parse, violations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Unreadable;
    use crate::issuer_url::LoopbackHttp;
    use crate::trusted_issuer::TrustedIssuerDraft;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn draft() -> TrustRelationshipDraft {
        TrustRelationshipDraft {
            subject_matches: vec!["org:my-org:vault:deploy-vault".to_owned()],
            scopes: vec!["deploy".to_owned()],
            ..TrustRelationshipDraft::default()
        }
    }

    fn created(draft: &TrustRelationshipDraft) -> Result<TrustRelationshipSettings, Violations> {
        let mut violations = Violations::new();
        let settings = TrustRelationshipSettings::create(draft, now(), &mut violations);
        assert_eq!(settings.is_none(), !violations.is_empty());
        settings.ok_or(violations)
    }

    fn fields(violations: &Violations) -> Vec<&str> {
        violations.iter().map(|violation| violation.field.as_str()).collect()
    }

    #[test]
    fn what_is_left_out_has_the_documented_defaults() {
        let settings = created(&draft()).unwrap();
        assert_eq!(settings.token_duration, Duration::from_hours(1));
        assert_eq!(settings.expires_at, None);
        assert!(settings.enabled);
    }

    #[test]
    fn giving_nothing_is_reported_beside_the_other_violations() {
        let violations = created(&TrustRelationshipDraft {
            subject_matches: vec!["*".to_owned()],
            scopes: Vec::new(),
            ..TrustRelationshipDraft::default()
        });
        let expected = ["trust_relationship.subject_matches[0]", "trust_relationship.grants"];
        assert_eq!(fields(&violations.unwrap_err()), expected);
    }

    #[test]
    fn every_violation_is_reported_at_once() {
        let violations = created(&TrustRelationshipDraft {
            display_name: "x".repeat(101),
            subject_matches: vec!["*".to_owned(), "a".to_owned(), "a".to_owned()],
            subject_audiences: vec![String::new()],
            access_token_audiences: vec!["a\nb".to_owned()],
            scopes: vec!["a b".to_owned()],
            grants: vec![Grant { resource_type: String::new(), resource_id: "*".to_owned(), actions: Vec::new() }],
            token_duration: Some(Ok(Duration::from_secs(59))),
            expires_at: Some(Ok(now())),
            enabled: true,
        })
        .unwrap_err();
        assert_eq!(
            fields(&violations),
            [
                "trust_relationship.display_name",
                "trust_relationship.subject_matches[0]",
                "trust_relationship.subject_matches[2]",
                "trust_relationship.subject_audiences[0]",
                "trust_relationship.access_token_audiences[0]",
                "trust_relationship.scopes[0]",
                "trust_relationship.grants[0].resource_type",
                "trust_relationship.grants[0].actions",
                "trust_relationship.token_duration",
                "trust_relationship.expire_time",
            ]
        );
    }

    #[test]
    fn s18_a_relationship_without_a_subject_match_cannot_be_saved() {
        let none = TrustRelationshipDraft { subject_matches: Vec::new(), ..draft() };
        assert_eq!(fields(&created(&none).unwrap_err()), ["trust_relationship.subject_matches"]);
        for bare in ["*", "**", "***", ""] {
            let bare = TrustRelationshipDraft { subject_matches: vec![bare.to_owned()], ..draft() };
            assert_eq!(fields(&created(&bare).unwrap_err()), ["trust_relationship.subject_matches[0]"]);
        }
        let before = created(&draft()).unwrap();
        let mut violations = Violations::new();
        let emptied = TrustRelationshipDraft::default();
        let _ = before.update(&emptied, &["subject_matches".to_owned()], now(), &mut violations);
        assert_eq!(fields(&violations), ["trust_relationship.subject_matches"]);
    }

    #[test]
    fn a_relationship_that_gives_nothing_cannot_be_saved() {
        let nothing = TrustRelationshipDraft { scopes: Vec::new(), ..draft() };
        assert_eq!(fields(&created(&nothing).unwrap_err()), ["trust_relationship.grants"]);
        let mut violations = Violations::new();
        let _ = created(&draft()).unwrap().update(&nothing, &["scopes".to_owned()], now(), &mut violations);
        assert_eq!(fields(&violations), ["trust_relationship.grants"]);
    }

    #[test]
    fn s54_what_no_access_token_could_hold_cannot_be_saved() {
        let audiences = |bytes: usize| vec!["a".repeat(1000), "b".repeat(1000), "c".repeat(bytes)];
        let grant = |actions: usize| Grant {
            resource_type: "vault".to_owned(),
            resource_id: "*".to_owned(),
            actions: vec!["x".repeat(250); actions],
        };
        // All three count, and as they are written: `["a","b","c"]`, `"deploy"`, and the grant.
        let of = |bytes| TrustRelationshipDraft { access_token_audiences: audiences(bytes), grants: vec![grant(23)], ..draft() };
        let settings = created(&of(1)).unwrap();
        let rest = TrustRelationshipSettings::MAX_GIVEN_BYTES
            - access_token::given_bytes(&settings.access_token_audiences, &settings.scopes, &settings.grants);
        assert!((1..1000).contains(&rest), "{rest}");
        created(&of(1 + rest)).unwrap();
        assert_eq!(fields(&created(&of(2 + rest)).unwrap_err()), ["trust_relationship.grants"]);

        let large = TrustRelationshipDraft { grants: vec![grant(64); 64], ..draft() };
        assert_eq!(fields(&created(&large).unwrap_err()), ["trust_relationship.grants"]);
        let mut violations = Violations::new();
        let _ = settings.update(&large, &["grants".to_owned()], now(), &mut violations);
        assert_eq!(fields(&violations), ["trust_relationship.grants"]);
    }

    #[test]
    fn an_update_changes_only_what_the_mask_names() {
        let before = created(&draft()).unwrap();
        let written = TrustRelationshipDraft {
            subject_matches: vec!["org:my-org:vault:*".to_owned()],
            token_duration: Some(Err(Unreadable("not named by the mask, so never read"))),
            ..TrustRelationshipDraft::default()
        };
        let mut violations = Violations::new();
        let after = before.clone().update(&written, &["subject_matches".to_owned()], now(), &mut violations);
        assert!(violations.is_empty());
        let subject_matches = vec!["org:my-org:vault:*".parse().unwrap()];
        assert_eq!(after, TrustRelationshipSettings { subject_matches, ..before.clone() });

        let mask = ["trusted_issuer_id", "creator", "id", "*"].map(str::to_owned);
        assert_eq!(before.clone().update(&written, &mask, now(), &mut violations), before);
        assert_eq!(violations.iter().count(), 4);
    }

    #[test]
    fn subject_audiences_narrow_the_issuers_and_never_widen_them() {
        let deployment = DeploymentAudience::new(&"https://gateway.example".parse().unwrap()).unwrap();
        let issuer = |subject_audiences: &[&str]| {
            let issuer = TrustedIssuerDraft {
                issuer_url: "https://cloud.rwx.com/mint".to_owned(),
                subject_audiences: subject_audiences.iter().map(|text| (*text).to_owned()).collect(),
                ..TrustedIssuerDraft::default()
            };
            TrustedIssuerSettings::create(&issuer, LoopbackHttp::Refused, &mut Violations::new()).unwrap()
        };
        let check = |narrower: &[&str], issuer: &TrustedIssuerSettings| {
            let subject_audiences = narrower.iter().map(|text| (*text).to_owned()).collect();
            let settings = created(&TrustRelationshipDraft { subject_audiences, ..draft() }).unwrap();
            let mut violations = Violations::new();
            settings.check_audiences(issuer, &deployment, &mut violations);
            violations
        };
        assert!(check(&["a", "b"], &issuer(&["a", "b", "c"])).is_empty());
        // Without audiences of its own the issuer accepts the deployment's, in both forms.
        assert!(check(&["https://gateway.example"], &issuer(&[])).is_empty());
        assert!(check(&["gateway.example"], &issuer(&[])).is_empty());
        assert!(!check(&["https://gateway.example"], &issuer(&["a"])).is_empty());
        let violations = check(&["a", "b"], &issuer(&["a"]));
        assert_eq!(fields(&violations), ["trust_relationship.subject_audiences[1]"]);
    }

    #[test]
    fn s69_nobody_writes_a_relationship_that_gives_what_he_does_not_hold() {
        let scopes = ["deploy", "countersign:issuers.get", "countersign:workspaces.create"].map(str::to_owned).into();
        let settings = created(&TrustRelationshipDraft { scopes, ..draft() }).unwrap();
        let refused = settings.check_grantable(None, |_| false).unwrap_err();
        assert_eq!(refused.scopes, [(1, ScopeNotGrantable::NotHeld), (2, ScopeNotGrantable::DeploymentWide)]);

        let scopes = vec!["countersign:issuers.get".to_owned()];
        let current = created(&TrustRelationshipDraft { scopes, ..draft() }).unwrap();
        let holds_nothing = |after: TrustRelationshipSettings| after.check_grantable(Some(&current), |_| false);
        // Another subject would receive what the caller does not hold.
        let subject_matches = vec!["org:my-org:vault:*".parse().unwrap()];
        assert!(holds_nothing(TrustRelationshipSettings { subject_matches, ..current.clone() }).is_err());
        // Disabling gives nothing; enabling again does.
        let disabled = TrustRelationshipSettings { enabled: false, ..current.clone() };
        assert!(holds_nothing(disabled.clone()).is_ok());
        assert!(current.check_grantable(Some(&disabled), |_| false).is_err());
        assert!(current.check_grantable(None, |permission| permission == Permission::IssuersGet).is_ok());
    }
}
