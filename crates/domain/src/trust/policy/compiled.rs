//! One trust relationship in the form that can be evaluated, and the token it is evaluated for.

use std::cell::OnceCell;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::exchange::claims::Claims;
use crate::trust::cel::{Assertion, CelExpression, CelFailure};
use crate::trust::claim_condition::{ClaimCondition, ClaimVerdict, CompiledCondition};
use crate::trust::trust_relationship::TrustRelationship;
use crate::values::grant::Grant;
use crate::values::id::{TrustRelationshipId, TrustedIssuerId};
use crate::values::name::{AttributeName, Audience, Scope};
use crate::values::subject_match::{CompiledMatch, Specificity, SubjectMatch};
use crate::values::time::Timestamp;

/// What a relationship maps a token's claims to, by name. Goes into the access token.
pub type Attributes = Map<String, Value>;

/// The most bytes that mapped attributes may take of an access token.
const MAX_ATTRIBUTE_BYTES: usize = 2 * 1024;

/// A trust relationship that can be evaluated: what bears on a decision, compiled.
#[derive(Debug, PartialEq, Eq)]
pub struct CompiledRelationship {
    /// Its id.
    pub id: TrustRelationshipId,
    /// Its revision, which the commit is checked against.
    pub revision: i64,
    /// The issuer whose tokens are meant.
    pub trusted_issuer_id: TrustedIssuerId,
    /// The accepted subjects.
    pub subject_matches: Box<[CompiledMatch]>,
    /// What the token's claims must be.
    pub claim_conditions: Box<[CompiledCondition]>,
    /// What else must hold.
    pub cel_condition: Option<CelExpression>,
    /// What is carried into the access token.
    pub attribute_mapping: Box<[(AttributeName, CelExpression)]>,
    /// Narrows the trusted issuer's accepted audiences, unless empty.
    pub subject_audiences: Box<[Audience]>,
    /// What may stand in the access token's `aud`. Empty: the deployment's own audience.
    pub access_token_audiences: Box<[Audience]>,
    /// What the access token's `scope` may hold.
    pub scopes: Box<[Scope]>,
    /// What the access token allows.
    pub grants: Box<[Grant]>,
    /// How long the access token lives.
    pub token_duration: Duration,
    /// When the relationship stops to hold.
    pub expires_at: Option<Timestamp>,
    /// Whether the relationship holds.
    pub enabled: bool,
    /// When it was created: of two equally narrow relationships the older decides.
    pub created_at: Timestamp,
}

/// The claims of a token, and what CEL makes of them, made at most once.
pub struct TokenView<'a> {
    claims: &'a Claims,
    assertion: OnceCell<Assertion>,
}

/// What a token does not meet. Says nothing of the token's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// A claim condition.
    #[error("the claim condition number {} does not hold: the claim {}", place + 1, explanation(*verdict))]
    Claim {
        /// Its index.
        place: usize,
        /// How the claim fares.
        verdict: ClaimVerdict,
    },
    /// An attribute cannot be mapped.
    #[error("the attribute {name} cannot be mapped: {failure}")]
    Attribute {
        /// Its name.
        name: AttributeName,
        /// Why.
        failure: CelFailure,
    },
    /// The mapped attributes are longer than an access token has room for.
    #[error("the mapped attributes take more than {MAX_ATTRIBUTE_BYTES} bytes")]
    AttributesTooLong,
    /// The CEL condition is false.
    #[error("the CEL condition is false")]
    CelFalse,
    /// The CEL condition has no result.
    #[error("the CEL condition fails: {0}")]
    Cel(CelFailure),
}

const fn explanation(verdict: ClaimVerdict) -> &'static str {
    match verdict {
        ClaimVerdict::Satisfied => "is as asked",
        ClaimVerdict::Unsatisfied => "has another value",
        ClaimVerdict::Missing => "is missing",
        ClaimVerdict::Empty => "is empty",
        ClaimVerdict::WrongType => "is of another type",
    }
}

impl<'a> TokenView<'a> {
    /// The view of these claims.
    pub fn new(claims: &'a Claims) -> Self {
        Self { claims, assertion: OnceCell::new() }
    }

    /// Every member of the token.
    pub fn members(&self) -> &'a Map<String, Value> {
        &self.claims.members
    }

    /// What CEL sees.
    pub fn assertion(&self) -> &Assertion {
        self.assertion.get_or_init(|| Assertion::with_inexact(&self.claims.members, &self.claims.inexact))
    }
}

impl CompiledRelationship {
    /// The narrowest of the subject matches that accepts this subject.
    pub fn accepts(&self, subject: &str) -> Option<Specificity> {
        self.subject_matches.iter().filter(|accepted| accepted.accepts(subject)).map(CompiledMatch::specificity).max()
    }

    /// Whether the relationship holds at this time.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.enabled && self.expires_at.is_none_or(|end| now < end)
    }

    /// The attributes of a token that meets every condition.
    ///
    /// # Errors
    /// The first that it does not meet: claims, then attributes, then CEL.
    pub fn meet(&self, token: &TokenView<'_>) -> Result<Attributes, Unmet> {
        for (place, condition) in self.claim_conditions.iter().enumerate() {
            match condition.judge(token.members()) {
                ClaimVerdict::Satisfied => {}
                verdict => return Err(Unmet::Claim { place, verdict }),
            }
        }
        let attributes = self.map(token)?;
        match self.cel_condition.as_ref().map(|condition| condition.holds(token.assertion(), &attributes)) {
            None | Some(Ok(true)) => Ok(attributes),
            Some(Ok(false)) => Err(Unmet::CelFalse),
            Some(Err(failure)) => Err(Unmet::Cel(failure)),
        }
    }

    /// What the relationship maps the token to.
    ///
    /// # Errors
    /// When a value cannot be had, or all are too long.
    pub fn map(&self, token: &TokenView<'_>) -> Result<Attributes, Unmet> {
        let mut attributes = Attributes::new();
        if self.attribute_mapping.is_empty() {
            return Ok(attributes);
        }
        for (name, expression) in &self.attribute_mapping {
            let value = expression.map(token.assertion());
            let value = value.map_err(|failure| Unmet::Attribute { name: name.clone(), failure })?;
            attributes.insert(name.as_str().to_owned(), value);
        }
        let bytes = serde_json::to_string(&attributes).map_or(usize::MAX, |json| json.len());
        if bytes > MAX_ATTRIBUTE_BYTES { Err(Unmet::AttributesTooLong) } else { Ok(attributes) }
    }

    /// Every expression of it.
    pub fn expressions(&self) -> impl Iterator<Item = &CelExpression> {
        self.cel_condition.iter().chain(self.attribute_mapping.iter().map(|(_, expression)| expression))
    }

    pub(super) fn expressions_mut(&mut self) -> impl Iterator<Item = &mut CelExpression> {
        self.cel_condition.iter_mut().chain(self.attribute_mapping.iter_mut().map(|(_, expression)| expression))
    }
}

impl From<TrustRelationship> for CompiledRelationship {
    fn from(relationship: TrustRelationship) -> Self {
        let settings = relationship.settings;
        Self {
            id: relationship.id,
            revision: relationship.revision,
            trusted_issuer_id: relationship.trusted_issuer_id,
            subject_matches: settings.subject_matches.iter().map(SubjectMatch::compile).collect(),
            claim_conditions: settings.claim_conditions.iter().map(ClaimCondition::compile).collect(),
            cel_condition: settings.cel_condition,
            attribute_mapping: settings.attribute_mapping.into_iter().collect(),
            subject_audiences: settings.subject_audiences.into(),
            access_token_audiences: settings.access_token_audiences.into(),
            scopes: settings.scopes.into(),
            grants: settings.grants.into(),
            token_duration: settings.token_duration,
            expires_at: settings.expires_at,
            enabled: settings.enabled,
            created_at: relationship.created_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_on_a_claim_reads_in_its_own_way() {
        let verdicts = [
            ClaimVerdict::Satisfied,
            ClaimVerdict::Unsatisfied,
            ClaimVerdict::Missing,
            ClaimVerdict::Empty,
            ClaimVerdict::WrongType,
        ];
        let words: std::collections::BTreeSet<_> = verdicts.map(explanation).into();
        assert_eq!(words.len(), verdicts.len());
        assert!(words.iter().all(|word| word.starts_with("is ") || word.starts_with("has ")), "{words:?}");
    }
}
