//! Trust relationships: which tokens of a trusted issuer get what.

mod draft;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::permission::{Authorization, ScopeNotGrantable, check_grantable};
use crate::exchange::granted_claims;
use crate::trust::cel::CelExpression;
use crate::trust::claim_condition::ClaimCondition;
use crate::trust::trusted_issuer::TrustedIssuerSettings;
use crate::values::deployment_audience::DeploymentAudience;
use crate::values::draft::Mask;
use crate::values::grant::Grant;
use crate::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use crate::values::name::{AttributeName, Audience, DisplayName, RelationshipKey, Scope};
use crate::values::subject_match::SubjectMatch;
use crate::values::time::Timestamp;
use crate::values::violation::Violations;

pub use draft::TrustRelationshipDraft;

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
    /// Names it in files. Unique in the workspace.
    pub key: Option<RelationshipKey>,
    /// The accepted subjects; one must match. Never empty; a bare `*` only beside a condition that says whose tokens are meant.
    pub subject_matches: Vec<SubjectMatch>,
    /// What the token's claims must be. All must hold.
    pub claim_conditions: Vec<ClaimCondition>,
    /// What else must hold, of `assertion` and the mapped `attribute`s.
    pub cel_condition: Option<CelExpression>,
    /// What of the token's claims is carried into the access token. A value that cannot be had refuses the token.
    pub attribute_mapping: BTreeMap<AttributeName, CelExpression>,
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
    /// The most attributes that are mapped.
    pub const MAX_ATTRIBUTES: usize = 16;
    /// The most bytes that its audiences, scopes and grants may take of an access token, all together. A token is at most 16 KiB,
    /// in base64 and with its signature; what identifies the subject needs room beside them.
    pub const MAX_GIVEN_BYTES: usize = 8 * 1024;

    const SETTABLE: [&str; 13] = [
        "display_name",
        "key",
        "subject_matches",
        "claim_conditions",
        "cel_condition",
        "attribute_mapping",
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
        let key = draft.key(violations);
        let subject_matches = draft.subject_matches(violations);
        let claim_conditions = draft.claim_conditions(violations);
        let cel_condition = draft.cel_condition(violations);
        let attribute_mapping = draft.attribute_mapping(violations);
        let subject_audiences = draft.subject_audiences(violations);
        let access_token_audiences = draft.access_token_audiences(violations);
        let scopes = draft.scopes(violations);
        let grants = draft.grants(violations);
        let token_duration = draft.token_duration(violations);
        let expires_at = draft.expires_at(now, violations);
        let pins = match (&subject_matches, &claim_conditions) {
            (Some(subjects), Some(conditions)) => pins(subjects, conditions, violations),
            // What is not valid may have been meant to say whose tokens are meant.
            _ => true,
        };
        let gives = match (&scopes, &grants) {
            (Some(scopes), Some(grants)) => gives_something(scopes, grants, violations),
            // What is not valid may have been meant to give something.
            _ => true,
        };
        let settings = Self {
            display_name: display_name?,
            key: key?,
            subject_matches: subject_matches?,
            claim_conditions: claim_conditions?,
            cel_condition: cel_condition?,
            attribute_mapping: attribute_mapping?,
            subject_audiences: subject_audiences?,
            access_token_audiences: access_token_audiences?,
            scopes: scopes?,
            grants: grants?,
            token_duration: token_duration?,
            expires_at: expires_at?,
            enabled: true,
        };
        // Not `&&`: all of it is reported at once.
        (pins & gives & settings.fits(violations) & settings.maps_what_it_reads(violations)).then_some(settings)
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
            key = "key"(violations);
            subject_matches = "subject_matches"(violations);
            claim_conditions = "claim_conditions"(violations);
            cel_condition = "cel_condition"(violations);
            attribute_mapping = "attribute_mapping"(violations);
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
            pins(&self.subject_matches, &self.claim_conditions, violations);
            self.maps_what_it_reads(violations);
        }
        self
    }

    /// Notes attributes that the condition reads and nothing maps.
    fn maps_what_it_reads(&self, violations: &mut Violations) -> bool {
        let read = self.cel_condition.iter().flat_map(CelExpression::attributes);
        let unmapped: Vec<&str> = read.map(AsRef::as_ref).filter(|name| !self.attribute_mapping.contains_key(*name)).collect();
        if let [_, ..] = unmapped.as_slice() {
            let description = format!("reads attributes that `attribute_mapping` does not have: {}", unmapped.join(", "));
            violations.add("trust_relationship.cel_condition", description);
        }
        unmapped.is_empty()
    }

    /// Notes when all that the relationship may give is more than an access token has room for.
    fn fits(&self, violations: &mut Violations) -> bool {
        let bytes = granted_claims::given_bytes(&self.access_token_audiences, &self.scopes, &self.grants);
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
    pub fn check_grantable(&self, current: Option<&Self>, holds: impl Fn(&Authorization) -> bool) -> Result<(), NotGrantable> {
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

    /// Whether these settings accept and give nothing that the current ones do not: only name and key differ, or it is disabled.
    pub fn only_takes_from(&self, current: &Self) -> bool {
        let gives_again = self.enabled && !current.enabled;
        let (display_name, key) = (current.display_name.clone(), current.key.clone());
        let same = Self { display_name, key, enabled: current.enabled, ..self.clone() };
        !gives_again && same == *current
    }
}

/// Notes a bare `*` without a condition that says whose tokens are meant (SECURITY 18).
fn pins(subject_matches: &[SubjectMatch], claim_conditions: &[ClaimCondition], violations: &mut Violations) -> bool {
    if claim_conditions.iter().any(ClaimCondition::pins) {
        return true;
    }
    let mut pinned = true;
    for (index, _) in subject_matches.iter().enumerate().filter(|(_, subject)| subject.is_bare_wildcard()) {
        pinned = false;
        violations.add(
            format!("trust_relationship.subject_matches[{index}]"),
            "must hold more than `*`, which accepts every subject of the issuer, unless a claim condition says whose tokens are meant",
        );
    }
    pinned
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

#[cfg(test)]
mod tests;
