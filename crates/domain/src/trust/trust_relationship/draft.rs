//! What somebody wrote, field by field.

use std::collections::BTreeMap;
use std::time::Duration;

use super::TrustRelationshipSettings;
use crate::trust::cel::CelExpression;
use crate::trust::claim_condition::{ClaimCondition, ClaimConditionDraft};
use crate::values::draft::{self, Given};
use crate::values::grant::Grant;
use crate::values::name::{AttributeName, Audience, DisplayName, RelationshipKey, Scope};
use crate::values::subject_match::SubjectMatch;
use crate::values::time::Timestamp;
use crate::values::violation::Violations;

/// A trust relationship as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustRelationshipDraft {
    /// Empty: none.
    pub display_name: String,
    /// Empty: none.
    pub key: String,
    /// At least one.
    pub subject_matches: Vec<String>,
    /// All must hold.
    pub claim_conditions: Vec<ClaimConditionDraft>,
    /// Empty: none.
    pub cel_condition: String,
    /// CEL expressions by the name of the attribute.
    pub attribute_mapping: BTreeMap<String, String>,
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
    pub(super) fn display_name(&self, violations: &mut Violations) -> Option<Option<DisplayName>> {
        draft::optional("trust_relationship.display_name", &self.display_name, str::parse, violations)
    }

    pub(super) fn subject_matches(&self, violations: &mut Violations) -> Option<Vec<SubjectMatch>> {
        let field = "trust_relationship.subject_matches";
        if self.subject_matches.is_empty() {
            violations.add(field, "must hold at least one subject");
            return None;
        }
        draft::list(field, &self.subject_matches, TrustRelationshipSettings::MAX_ELEMENTS, str::parse, violations)
    }

    pub(super) fn key(&self, violations: &mut Violations) -> Option<Option<RelationshipKey>> {
        draft::optional("trust_relationship.key", &self.key, str::parse, violations)
    }

    pub(super) fn claim_conditions(&self, violations: &mut Violations) -> Option<Vec<ClaimCondition>> {
        let field = "trust_relationship.claim_conditions";
        if self.claim_conditions.len() > ClaimCondition::MAX {
            violations.add(field, format!("must hold at most {} conditions", ClaimCondition::MAX));
            return None;
        }
        let mut conditions: Vec<ClaimCondition> = Vec::with_capacity(self.claim_conditions.len());
        for (index, written) in self.claim_conditions.iter().enumerate() {
            match ClaimCondition::try_from(written.clone()) {
                Ok(condition) if conditions.contains(&condition) => {
                    violations.add(format!("{field}[{index}]"), "is there twice");
                }
                Ok(condition) => conditions.push(condition),
                Err(error) => violations.add(format!("{field}[{index}]"), error.to_string()),
            }
        }
        (conditions.len() == self.claim_conditions.len()).then_some(conditions)
    }

    pub(super) fn cel_condition(&self, violations: &mut Violations) -> Option<Option<CelExpression>> {
        draft::optional("trust_relationship.cel_condition", &self.cel_condition, str::parse, violations)
    }

    pub(super) fn attribute_mapping(&self, violations: &mut Violations) -> Option<BTreeMap<AttributeName, CelExpression>> {
        let field = "trust_relationship.attribute_mapping";
        if self.attribute_mapping.len() > TrustRelationshipSettings::MAX_ATTRIBUTES {
            violations.add(field, format!("must hold at most {} attributes", TrustRelationshipSettings::MAX_ATTRIBUTES));
            return None;
        }
        let mut mapping = BTreeMap::new();
        for (index, (name, source)) in self.attribute_mapping.iter().enumerate() {
            // A name that is none may be anything, so it is told by its place.
            let name = violations.check(format!("{field}.keys[{index}]"), name.parse::<AttributeName>());
            let at = name.as_ref().map_or_else(|| format!("{field}.values[{index}]"), |name| format!("{field}[{name}]"));
            let expression = violations.check(at.as_str(), source.parse::<CelExpression>());
            let Some((name, expression)) = name.zip(expression) else { continue };
            if !expression.attributes().is_empty() {
                violations.add(at, "must read `assertion` alone: attributes are not made of attributes");
                continue;
            }
            mapping.insert(name, expression);
        }
        (mapping.len() == self.attribute_mapping.len()).then_some(mapping)
    }

    pub(super) fn subject_audiences(&self, violations: &mut Violations) -> Option<Vec<Audience>> {
        names("trust_relationship.subject_audiences", &self.subject_audiences, violations)
    }

    pub(super) fn access_token_audiences(&self, violations: &mut Violations) -> Option<Vec<Audience>> {
        names("trust_relationship.access_token_audiences", &self.access_token_audiences, violations)
    }

    pub(super) fn scopes(&self, violations: &mut Violations) -> Option<Vec<Scope>> {
        names("trust_relationship.scopes", &self.scopes, violations)
    }

    pub(super) fn grants(&self, violations: &mut Violations) -> Option<Vec<Grant>> {
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

    pub(super) fn token_duration(&self, violations: &mut Violations) -> Option<Duration> {
        let bounds = TrustRelationshipSettings::MIN_TOKEN_DURATION..=TrustRelationshipSettings::MAX_TOKEN_DURATION;
        let default = TrustRelationshipSettings::DEFAULT_TOKEN_DURATION;
        draft::whole_seconds("trust_relationship.token_duration", self.token_duration, default, bounds, violations)
    }

    pub(super) fn expires_at(&self, now: Timestamp, violations: &mut Violations) -> Option<Option<Timestamp>> {
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
    T: std::str::FromStr<Err = crate::values::name::InvalidName> + PartialEq,
{
    draft::list(field, written, TrustRelationshipSettings::MAX_ELEMENTS, str::parse, violations)
}
