//! Issuers: the identities this deployment signs ID tokens for.

mod namespace;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::issuing::id_token_durations;
use crate::issuing::profile::{Profile, ProfileDefinition, SubjectChange};
use crate::issuing::signing_key::RotationPolicy;
use crate::trust::trusted_issuer::TrustedIssuerSettings;
use crate::trust::workspace;
use crate::values::draft::{self, Given, Mask};
use crate::values::id::{IssuerId, WorkspaceId};
use crate::values::issuer_url::IssuerUrl;
use crate::values::name::{Audience, DisplayName};
use crate::values::signature_algorithm::SignatureAlgorithm;
use crate::values::time::Timestamp;
use crate::values::violation::Violations;

pub use namespace::{HostBase, InvalidHostBase, InvalidIssuerUrl, IssuerBases, IssuerNamespace};

/// An identity this deployment signs for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its id.
    pub id: IssuerId,
    /// The owner.
    pub workspace_id: WorkspaceId,
    /// The `iss` of its tokens. Unique in the deployment; never changes, never used again.
    pub issuer_url: IssuerUrl,
    /// What its tokens say of a run.
    pub profile: Profile,
    /// What its subjects were before its profile changed, oldest first.
    pub former_subjects: Vec<FormerSubjects>,
    /// Everything an operator may set.
    pub settings: IssuerSettings,
    /// Counts its changes; the etag is made of it.
    pub revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Until when its documents are published, once its workspace was found deleted. `None`: the workspace exists.
    pub published_until: Option<Timestamp>,
}

/// What the subjects of an issuer were until its profile changed. Relying parties may still know them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerSubjects {
    /// Their templates.
    pub templates: Vec<String>,
    /// When they were replaced.
    pub replaced_at: Timestamp,
}

/// What an operator may set of an issuer, but for its profile.
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
    /// Where the private halves of keys are kept that are made from now on.
    pub key_custody: KeyCustody,
}

/// Where the private half of a signing key is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyCustody {
    /// In the database, sealed under the key-encryption key; opened in memory to sign.
    #[default]
    Sealed,
    /// In a device that makes it, signs with it and does not give it away: a PKCS #11 token.
    Device,
}

/// Settings as somebody wrote them. Becomes [`IssuerSettings`] by [`IssuerSettings::create`] or [`IssuerSettings::update`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IssuerDraft {
    /// The name of a profile.
    pub profile: String,
    /// What the profile `custom` is.
    pub profile_definition: Option<ProfileDefinition>,
    /// Empty: none.
    pub display_name: String,
    /// Names of algorithms. Empty: RS256.
    pub algorithms: Vec<String>,
    /// Empty: any.
    pub allowed_audiences: Vec<String>,
    /// Not given: the profile's default or else [`IssuerSettings::DEFAULT_TOKEN_DURATION`], or the maximum where that is shorter.
    pub default_token_duration: Given<Duration>,
    /// Not given: the profile's default or [`IssuerSettings::DEFAULT_TOKEN_DURATION`], whichever is longer, within the profile's
    /// maximum.
    pub max_token_duration: Given<Duration>,
    /// Not given: [`RotationPolicy::DEFAULT_PERIOD`]. Zero: only on request.
    pub rotation_period: Given<Duration>,
    /// Not given: [`KeyCustody::Sealed`].
    pub key_custody: Given<KeyCustody>,
}

impl Issuer {
    /// How long the documents of an issuer are published after its workspace was found deleted: until a replica that has not
    /// heard of it must have stopped signing, and the longest token signed at that moment has expired by the slowest clock.
    pub const PUBLISHED_AFTER_DELETION: Duration = IssuerSettings::MAX_TOKEN_DURATION_LIMIT
        .saturating_add(TrustedIssuerSettings::CLOCK_SKEW_LIMIT)
        .saturating_add(workspace::STATE_STALENESS_LIMIT);

    /// How often the subjects of an issuer may change.
    pub const MAX_FORMER_SUBJECTS: usize = 32;

    const SETTABLE: [&str; 9] = [
        "display_name",
        "profile",
        "profile_definition",
        "algorithms",
        "allowed_audiences",
        "default_token_duration",
        "max_token_duration",
        "rotation_period",
        "key_custody",
    ];
    const IMMUTABLE: [&str; 8] =
        ["id", "workspace_id", "issuer_url", "subject_templates", "former_subject_forms", "etag", "create_time", "update_time"];

    /// This issuer with the fields that the mask names taken from the draft, one revision on.
    ///
    /// A profile that gives a run another subject takes its place only when the caller names the change: relying parties trust
    /// subjects, and the runs of this issuer would no longer be who they were. `accepted` is that naming.
    ///
    /// # Errors
    /// Everything that is wrong, under the names of the request's fields.
    pub fn update(
        &self,
        draft: &IssuerDraft,
        mask: &[String],
        accepted: Option<&SubjectChange>,
        now: Timestamp,
    ) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let mask = Mask::check(mask, &Self::SETTABLE, &Self::IMMUTABLE, &mut violations);
        let profile = self.updated_profile(draft, &mask, &mut violations);
        let settings = self.settings.clone().update(draft, &mask, profile.as_ref(), &mut violations);
        let mut former_subjects = self.former_subjects.clone();
        if let Some(profile) = &profile
            && let Some(change) = self.accepted_change(profile, accepted, &mut violations)
        {
            former_subjects.push(FormerSubjects { templates: change.from, replaced_at: now });
        }
        let updated = Self {
            profile: profile.unwrap_or_else(|| self.profile.clone()),
            former_subjects,
            settings,
            revision: self.revision.saturating_add(1),
            updated_at: now,
            ..self.clone()
        };
        violations.into_result(updated)
    }

    /// Whether every subject, set of claims and audience that this issuer can sign, the former one can sign too. Only such a change is
    /// free of what can be obtained with the issuer's tokens (SECURITY 69).
    pub fn only_takes_from(&self, former: &Self) -> bool {
        // Everything is named, so that a new setting does not compile until it is decided about. Algorithms, durations and keys change
        // how a token is signed and for how long, not what it says.
        let IssuerSettings {
            allowed_audiences,
            display_name: _,
            algorithms: _,
            default_token_duration: _,
            max_token_duration: _,
            rotation: _,
            key_custody: _,
        } = &self.settings;
        let before = &former.settings.allowed_audiences;
        // An empty list allows every audience.
        let allows_no_more =
            before.is_empty() || (!allowed_audiences.is_empty() && allowed_audiences.iter().all(|one| before.contains(one)));
        self.profile == former.profile && self.issuer_url == former.issuer_url && allows_no_more
    }

    /// The profile after an update. A definition is kept as long as the profile is one of the operator's.
    fn updated_profile(&self, draft: &IssuerDraft, mask: &Mask<'_>, violations: &mut Violations) -> Option<Profile> {
        let (renamed, redefined) = (mask.names("profile"), mask.names("profile_definition"));
        if !renamed && !redefined {
            return Some(self.profile.clone());
        }
        let name = if renamed { &draft.profile } else { self.profile.name() };
        let kept = || Some(self.profile.definition()).filter(|_| self.profile.is_custom() && name == Profile::CUSTOM);
        let definition = if redefined { draft.profile_definition.as_ref() } else { kept() };
        profile(name, definition, violations)
    }

    /// The change of subjects that comes with a profile, if there is one and it is accepted. Anything else that does not fit is a
    /// violation.
    fn accepted_change(
        &self,
        next: &Profile,
        accepted: Option<&SubjectChange>,
        violations: &mut Violations,
    ) -> Option<SubjectChange> {
        const FIELD: &str = "accept_subject_change";
        let Some(change) = self.profile.subject_change(next) else {
            if accepted.is_some() {
                violations.add(FIELD, "must be left out, as no subject changes");
            }
            return None;
        };
        let SubjectChange { from, to } = &change;
        let (named_from, named_to) = (quoted(from, "the issuer's subject templates"), quoted(to, "those of the new profile"));
        match accepted {
            None => {
                let what = format!("they change from {named_from} to {named_to}");
                violations.add(FIELD, format!("is required, as runs would have other subjects: {what}"));
            }
            Some(accepted) => {
                if accepted.from != *from {
                    violations.add(format!("{FIELD}.from"), format!("must be {named_from}"));
                }
                if accepted.to != *to {
                    violations.add(format!("{FIELD}.to"), format!("must be {named_to}"));
                }
            }
        }
        if self.former_subjects.len() >= Self::MAX_FORMER_SUBJECTS {
            violations.add(FIELD, "cannot be: subjects changed too often; create another issuer");
        }
        Some(change)
    }
}

impl IssuerSettings {
    /// The shortest a token may be made to live.
    pub const MIN_TOKEN_DURATION: Duration = id_token_durations::MIN;
    /// The largest `max_token_duration` that can be set.
    pub const MAX_TOKEN_DURATION_LIMIT: Duration = id_token_durations::MAX_LIMIT;
    /// Either duration when neither issuer nor profile says anything.
    pub const DEFAULT_TOKEN_DURATION: Duration = Duration::from_hours(1);
    /// The most allowed audiences.
    pub const MAX_ALLOWED_AUDIENCES: usize = 100;
    /// The algorithms an issuer can sign with.
    pub const ALGORITHMS: [SignatureAlgorithm; 4] =
        [SignatureAlgorithm::Rs256, SignatureAlgorithm::Es256, SignatureAlgorithm::Es384, SignatureAlgorithm::EdDsa];

    /// Checks the settings of a new issuer with this profile, as far as that is known to be one. `None` when a violation was noted.
    pub fn create(draft: &IssuerDraft, profile: Option<&Profile>, violations: &mut Violations) -> Option<Self> {
        // Every field is read before the first absence ends this, so that all violations are reported at once.
        let display_name = draft.display_name(violations);
        let algorithms = draft.algorithms(violations);
        let allowed_audiences = draft.allowed_audiences(violations);
        let max_token_duration = draft.max_token_duration(profile, violations);
        let default_token_duration = draft.default_token_duration(profile, max_token_duration, violations);
        let rotation = draft.rotation_period(violations);
        let key_custody = draft.key_custody(violations);
        let settings = Self {
            display_name: display_name?,
            algorithms: algorithms?,
            allowed_audiences: allowed_audiences?,
            default_token_duration: default_token_duration?,
            max_token_duration: max_token_duration?,
            rotation: rotation?,
            key_custody: key_custody?,
        };
        settings.check_together(profile, violations).then_some(settings)
    }

    /// These settings, of an issuer with this profile, with the fields that the mask names taken from the draft. Violations are
    /// noted; the result counts only when there are none.
    fn update(mut self, draft: &IssuerDraft, mask: &Mask<'_>, profile: Option<&Profile>, violations: &mut Violations) -> Self {
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
            max_token_duration(profile);
            default_token_duration(profile, Some(self.max_token_duration));
            key_custody();
        }
        if mask.names("rotation_period")
            && let Some(rotation) = draft.rotation_period(violations)
        {
            self.rotation = rotation;
        }
        self.check_together(profile, violations);
        self
    }

    /// Checks what no field is wrong in by itself. False when a violation was noted.
    fn check_together(&self, profile: Option<&Profile>, violations: &mut Violations) -> bool {
        let ordered = self.default_token_duration <= self.max_token_duration;
        if !ordered {
            violations.add("issuer.default_token_duration", "must not be longer than max_token_duration");
        }
        let one_choice = self.allowed_audiences.is_empty() || !profile.is_some_and(Profile::fixes_audience);
        if !one_choice {
            violations.add("issuer.allowed_audiences", "must be empty, as the profile fixes the audience");
        }
        let longest = profile.map_or(Self::MAX_TOKEN_DURATION_LIMIT, Profile::max_token_duration);
        let short_enough = self.max_token_duration <= longest;
        if !short_enough {
            let limit = format!("must be at most {} s, as the profile says", longest.as_secs());
            violations.add("issuer.max_token_duration", limit);
        }
        ordered && one_choice && short_enough
    }
}

impl IssuerDraft {
    /// The profile. `None` when a violation was noted.
    pub fn profile(&self, violations: &mut Violations) -> Option<Profile> {
        profile(&self.profile, self.profile_definition.as_ref(), violations)
    }

    #[expect(clippy::option_option, reason = "the outer option is a violation, the inner one an absent value")]
    fn display_name(&self, violations: &mut Violations) -> Option<Option<DisplayName>> {
        draft::optional("issuer.display_name", &self.display_name, str::parse, violations)
    }

    fn algorithms(&self, violations: &mut Violations) -> Option<Vec<SignatureAlgorithm>> {
        if self.algorithms.is_empty() {
            return Some(vec![SignatureAlgorithm::Rs256]);
        }
        let parse = |text: &str| {
            let own = text.parse().ok().filter(|algorithm| IssuerSettings::ALGORITHMS.contains(algorithm));
            own.ok_or("must be one of RS256, ES256, ES384, EdDSA")
        };
        draft::list("issuer.algorithms", &self.algorithms, IssuerSettings::ALGORITHMS.len(), parse, violations)
    }

    fn allowed_audiences(&self, violations: &mut Violations) -> Option<Vec<Audience>> {
        let most = IssuerSettings::MAX_ALLOWED_AUDIENCES;
        draft::list("issuer.allowed_audiences", &self.allowed_audiences, most, str::parse, violations)
    }

    fn max_token_duration(&self, profile: Option<&Profile>, violations: &mut Violations) -> Option<Duration> {
        let longest = profile.map_or(IssuerSettings::MAX_TOKEN_DURATION_LIMIT, Profile::max_token_duration);
        let bounds = IssuerSettings::MIN_TOKEN_DURATION..=longest;
        let usual = IssuerSettings::DEFAULT_TOKEN_DURATION;
        let default = profile.and_then(Profile::default_token_duration).map_or(usual, |own| own.max(usual)).min(longest);
        draft::whole_seconds("issuer.max_token_duration", self.max_token_duration, default, bounds, violations)
    }

    fn default_token_duration(
        &self,
        profile: Option<&Profile>,
        max: Option<Duration>,
        violations: &mut Violations,
    ) -> Option<Duration> {
        let bounds = IssuerSettings::MIN_TOKEN_DURATION..=IssuerSettings::MAX_TOKEN_DURATION_LIMIT;
        let default = profile.and_then(Profile::default_token_duration).unwrap_or(IssuerSettings::DEFAULT_TOKEN_DURATION);
        let default = max.map_or(default, |max| default.min(max));
        draft::whole_seconds("issuer.default_token_duration", self.default_token_duration, default, bounds, violations)
    }

    fn key_custody(&self, violations: &mut Violations) -> Option<KeyCustody> {
        violations.check("issuer.key_custody", self.key_custody.unwrap_or(Ok(KeyCustody::default())))
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

/// Templates as an answer shows them; many long ones would be more than an answer can hold.
fn quoted(templates: &[String], otherwise: &str) -> String {
    const MOST_BYTES: usize = 1024;
    let text = format!("`{}`", templates.join("`, `"));
    if text.len() <= MOST_BYTES { text } else { otherwise.to_owned() }
}

/// The profile of this name, or the one that is defined.
fn profile(name: &str, definition: Option<&ProfileDefinition>, violations: &mut Violations) -> Option<Profile> {
    const FIELD: &str = "issuer.profile_definition";
    match definition {
        Some(definition) if name == Profile::CUSTOM => Profile::custom(definition.clone(), FIELD, violations),
        None if name == Profile::CUSTOM => {
            violations.add(FIELD, format!("is required for the profile `{}`", Profile::CUSTOM));
            None
        }
        Some(_) => {
            violations.add(FIELD, format!("must be left out unless the profile is `{}`", Profile::CUSTOM));
            violations.check("issuer.profile", name.parse())
        }
        None => violations.check("issuer.profile", name.parse()),
    }
}

#[cfg(test)]
mod tests;
