//! One relationship that comes into question, check by check.

use std::cell::Cell;

use serde_json::Value;

use super::{MAX_CANDIDATES, MAX_SHOWN, Verdict, nearness};
use crate::exchange::claims::Claims;
use crate::exchange::presentation::Presentation;
use crate::trust::cel::CelExpression;
use crate::trust::claim_condition::{ClaimTest, ClaimValue, ClaimVerdict, CompiledCondition};
use crate::trust::policy::{CompiledRelationship, TokenView, WorkspacePolicy};
use crate::trust::preset::Preset;
use crate::trust::trusted_issuer::TrustedIssuer;
use crate::values::claim_path::ClaimPath;
use crate::values::deployment_audience::DeploymentAudience;
use crate::values::id::TrustRelationshipId;
use crate::values::inexact::escaped;
use crate::values::subject_match::CompiledMatch;
use crate::values::text;
use crate::values::time::Timestamp;

/// How many hints are looked for in one explanation. Each of them compares texts in several ways.
const HINTS: usize = 24;
/// How many elements of an array are compared with what a condition expects, for a hint.
const ELEMENTS: usize = 100;
/// How many subject matches of a relationship are compared in full with the subject.
const MATCHES: usize = 8;
/// How many relationships are compared in full. Beyond, those whose subjects have the least in common with the token's are left.
const COMPARED: usize = 100;

/// What a check that fails weighs against a subject that does not match at all.
const FAILED_CHECK: f64 = 1.0;
const SUBJECT_MISSED: f64 = 4.0;

/// A relationship, and how the token fares against it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which relationship.
    pub id: TrustRelationshipId,
    /// Everything it asks, the failures first.
    pub checks: Vec<Check>,
    /// How far the token is from being accepted; 0 is accepted.
    pub distance: f64,
}

/// One thing that a relationship asks of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The field of the relationship: `claim_conditions[0]`.
    pub field: String,
    /// What it asks.
    pub expected: String,
    /// What the token says.
    pub found: String,
    /// Whether that will do.
    pub verdict: Verdict,
    /// What may be behind it, when it will not.
    pub hint: Option<String>,
}

impl Candidate {
    /// Whether it accepts the token.
    pub fn accepts(&self) -> bool {
        self.checks.iter().all(|check| check.verdict == Verdict::Passed)
    }

    /// The checks that fail.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.verdict == Verdict::Failed)
    }
}

impl Check {
    fn new(field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>, passed: bool) -> Self {
        let verdict = if passed { Verdict::Passed } else { Verdict::Failed };
        Self { field: field.into(), expected: expected.into(), found: found.into(), verdict, hint: None }
    }

    /// One that cannot be made, as the claim was not kept.
    fn unknown(field: impl Into<String>, expected: impl Into<String>, claim: &str) -> Self {
        let found = format!("the claim `{claim}` was not kept");
        Self { field: field.into(), expected: expected.into(), found, verdict: Verdict::NotReached, hint: None }
    }

    #[must_use]
    fn with_hint(mut self, hint: Option<String>) -> Self {
        if self.verdict == Verdict::Failed {
            self.hint = hint;
        }
        self
    }

    /// The check in one sentence.
    pub fn sentence(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{} asks for {}, and the token has {}{hint}", self.field, self.expected, self.found)
    }
}

/// The token that is held against relationships, and by what.
pub(super) struct Eye<'a> {
    pub(super) claims: &'a Claims,
    /// When only some of its claims were kept: what was.
    pub(super) kept: Option<&'a Presentation>,
    pub(super) issuer: &'a TrustedIssuer,
    pub(super) policy: &'a WorkspacePolicy,
    pub(super) deployment: &'a DeploymentAudience,
    pub(super) now: Timestamp,
}

impl Eye<'_> {
    fn knows(&self, claim: &ClaimPath) -> bool {
        self.kept.is_none_or(|kept| kept.knows(claim))
    }

    /// The first claim that an expression reads and that is not known.
    fn unknown<'e>(&self, expression: &'e CelExpression) -> Option<&'e str> {
        let is_unknown = |name: &&str| !ClaimPath::of_top_level(name).is_ok_and(|claim| self.knows(&claim));
        expression.claims().iter().map(AsRef::as_ref).find(is_unknown)
    }
}

/// The candidates among the issuer's relationships, and how many more there are. The one that an exchange would choose stands
/// first, then the nearest.
pub(super) fn of(eye: &Eye<'_>, named: Option<&TrustRelationshipId>) -> (Vec<Candidate>, usize) {
    let Eye { claims, issuer, policy, .. } = eye;
    let (token, preset) = (TokenView::new(claims), issuer.settings.known_preset());
    let examined = |relationship: &CompiledRelationship| candidate(relationship, eye, &token, None);
    let hints = Hints(Cell::new(HINTS));
    let with_hints = |relationship: &CompiledRelationship| candidate(relationship, eye, &token, Some(&hints));
    if let Some(id) = named {
        let relationship = policy.relationship(id).filter(|relationship| relationship.trusted_issuer_id == issuer.id);
        let mut candidates: Vec<_> = relationship.map(|relationship| with_hints(relationship)).into_iter().collect();
        if let (Some(candidate), Some(preset)) = (candidates.first_mut(), preset) {
            hint_by_preset(candidate, eye, preset);
        }
        return (candidates, 0);
    }
    let chosen = policy.accepting(&issuer.id, claims).map(|matched| matched.relationship);
    let chosen = chosen.map(|relationship| examined(relationship)).find(Candidate::accepts);
    let mut all: Vec<_> = policy.relationships_of(&issuer.id).collect();
    let total = all.len();
    if total > COMPARED {
        let likeness = |relationship: &CompiledRelationship| {
            let subjects = relationship.subject_matches.iter();
            subjects.map(|subject| nearness::common_ends(subject, claims.subject.as_str())).max().unwrap_or(0)
        };
        all.sort_by_cached_key(|relationship| (std::cmp::Reverse(likeness(relationship)), relationship.id.clone()));
        all.truncate(COMPARED);
    }
    let mut candidates: Vec<_> = all.into_iter().map(|relationship| examined(relationship)).collect();
    candidates.sort_by(|a, b| a.distance.total_cmp(&b.distance).then_with(|| a.id.cmp(&b.id)));
    if let Some(chosen) = chosen {
        candidates.retain(|candidate| candidate.id != chosen.id);
        candidates.insert(0, chosen);
    }
    candidates.truncate(MAX_CANDIDATES);
    // Not before: most of what is compared is not shown.
    for shown in candidates.iter_mut().filter(|candidate| !candidate.accepts()) {
        if let Some(relationship) = policy.relationship(&shown.id) {
            *shown = with_hints(relationship);
        }
    }
    if let Some(preset) = preset {
        for candidate in &mut candidates {
            hint_by_preset(candidate, eye, preset);
        }
    }
    let left_out = total.saturating_sub(candidates.len());
    (candidates, left_out)
}

/// How many hints may still be looked for.
struct Hints(Cell<usize>);

impl Hints {
    /// Looks for a hint, while any are left.
    fn look<T>(hints: Option<&Self>, hint: impl FnOnce() -> Option<T>) -> Option<T> {
        let left = hints?.0.get();
        hints?.0.set(left.checked_sub(1)?);
        hint()
    }
}

/// Adds what the issuer's preset knows of a subject that is refused. Costs too much to be done for relationships that are left out.
fn hint_by_preset(candidate: &mut Candidate, eye: &Eye<'_>, preset: &Preset) {
    let subject = eye.claims.subject.as_str();
    let Some(relationship) = eye.policy.relationship(&candidate.id) else { return };
    let Some((_, place, pattern)) = nearest(relationship, subject) else { return };
    let field = subject_field(place);
    let check = candidate.checks.iter_mut().find(|check| check.field == field && check.hint.is_none());
    if let Some(check) = check.filter(|check| check.verdict == Verdict::Failed) {
        check.hint = nearness::preset_hint(preset, pattern, subject);
    }
}

fn candidate(relationship: &CompiledRelationship, eye: &Eye<'_>, token: &TokenView<'_>, hints: Option<&Hints>) -> Candidate {
    let (subject, missed_by) = subject(relationship, eye.claims.subject.as_str(), hints);
    let mut checks = vec![subject, audience(relationship, eye.claims, eye.deployment, hints)];
    let conditions = relationship.claim_conditions.iter().enumerate();
    checks.extend(conditions.map(|(place, condition)| claim(place, condition, eye, token, hints)));
    checks.extend(attributes(relationship, eye, token));
    checks.extend(cel(relationship, eye, token));
    checks.extend(live(relationship, eye.now));
    #[expect(clippy::cast_precision_loss, reason = "a relationship has at most some dozens of checks")]
    let failed = checks.iter().skip(1).filter(|check| check.verdict == Verdict::Failed).count() as f64;
    // A subject that is missed at all weighs as a failed check, and the more the less it is alike.
    let missed = if missed_by > 0.0 { FAILED_CHECK + SUBJECT_MISSED * missed_by } else { 0.0 };
    // Stable, so that checks of one verdict keep their order.
    checks.sort_by_key(|check| match check.verdict {
        Verdict::Failed => 0,
        Verdict::NotReached => 1,
        Verdict::Passed => 2,
    });
    Candidate { id: relationship.id.clone(), checks, distance: failed * FAILED_CHECK + missed }
}

/// The subject match that accepts the subject or is nearest: how far it is, and its place.
fn nearest<'a>(relationship: &'a CompiledRelationship, subject: &str) -> Option<(f64, usize, &'a CompiledMatch)> {
    let mut matches: Vec<_> = relationship.subject_matches.iter().enumerate().collect();
    if matches.len() > MATCHES {
        matches.sort_by_cached_key(|(place, pattern)| {
            (!pattern.accepts(subject), std::cmp::Reverse(nearness::common_ends(pattern, subject)), *place)
        });
        matches.truncate(MATCHES);
    }
    let distances = matches.into_iter().map(|(place, pattern)| (nearness::distance(pattern, subject), place, pattern));
    distances.min_by(|a, b| a.0.total_cmp(&b.0))
}

fn subject_field(place: usize) -> String {
    format!("subject_matches[{place}]")
}

/// The check of the subject match that accepts the subject or is nearest, and how far it is from that, 0 to 1.
fn subject(relationship: &CompiledRelationship, subject: &str, hints: Option<&Hints>) -> (Check, f64) {
    let found = quoted(subject);
    let Some((distance, place, pattern)) = nearest(relationship, subject) else {
        return (Check::new("subject_matches", "a subject", found, false), 1.0);
    };
    let accepts = pattern.accepts(subject);
    let check = Check::new(subject_field(place), quoted(&pattern.to_string()), found, accepts);
    let distance = if accepts { 0.0 } else { distance.max(f64::EPSILON) };
    let hint = Hints::look(hints.filter(|_| !accepts), || nearness::subject_hint(pattern, subject));
    (check.with_hint(hint), distance)
}

/// A subject or pattern in quotation marks, in full, with what a reader would not see escaped.
fn quoted(text: &str) -> String {
    format!("`{}`", text::visible(text, usize::MAX))
}

fn audience(
    relationship: &CompiledRelationship,
    claims: &Claims,
    deployment: &DeploymentAudience,
    hints: Option<&Hints>,
) -> Check {
    let narrower = &relationship.subject_audiences;
    let list = |audiences: &mut dyn Iterator<Item = String>| audiences.collect::<Vec<_>>().join(", ");
    let found = list(&mut claims.audiences.iter().map(|audience| quoted(audience.as_str())));
    if narrower.is_empty() {
        return Check::new("subject_audiences", "what the trusted issuer accepts", found, true);
    }
    let refused = claims.audiences.iter().find(|audience| !deployment.is_in(narrower, audience));
    let expected = list(&mut narrower.iter().map(|audience| quoted(audience.as_str())));
    let hint = refused.and_then(|refused| Hints::look(hints, || nearness::audience_hint(refused, narrower)));
    Check::new("subject_audiences", format!("nothing but {expected}"), found, refused.is_none()).with_hint(hint)
}

fn claim(place: usize, condition: &CompiledCondition, eye: &Eye<'_>, token: &TokenView<'_>, hints: Option<&Hints>) -> Check {
    let written = condition.written();
    let field = format!("claim_conditions[{place}]");
    if !eye.knows(&written.claim) {
        return Check::unknown(field, written.to_string(), written.claim.as_str());
    }
    let verdict = condition.judge(token.members());
    let value = written.claim.find(token.members());
    let found = match (verdict, value) {
        (ClaimVerdict::Missing, None) => "no such claim".to_owned(),
        (_, value) => value.map(|value| shown(eye, &written.claim.to_pointer(), value)).unwrap_or_default(),
    };
    let hint = match verdict {
        ClaimVerdict::WrongType => Some(wrong_type(&written.test, value)),
        ClaimVerdict::Empty => Some("an empty claim satisfies no condition".to_owned()),
        ClaimVerdict::Missing if value.is_some() => {
            Some("the claim is null, which counts as missing and satisfies no condition, negated or not".to_owned())
        }
        ClaimVerdict::Missing => Some(
            Hints::look(hints, || nearness::claim_hint(&written.claim, token.members()))
                .unwrap_or_else(|| "a missing claim satisfies no condition, negated or not".to_owned()),
        ),
        ClaimVerdict::Unsatisfied if !written.negated => {
            value.and_then(|value| Hints::look(hints, || alike(&written.test, value)))
        }
        ClaimVerdict::Satisfied | ClaimVerdict::Unsatisfied => None,
    };
    let passed = verdict == ClaimVerdict::Satisfied;
    Check::new(field, written.to_string(), found, passed).with_hint(hint)
}

/// How a text differs from one that would do, when both look alike.
fn alike(test: &ClaimTest, value: &Value) -> Option<String> {
    let among = |expected: &ClaimValue| {
        let ClaimValue::Text(expected) = expected else { return None };
        let texts = match value {
            Value::Array(elements) => elements.as_slice(),
            value => std::slice::from_ref(value),
        };
        texts.iter().take(ELEMENTS).filter_map(Value::as_str).find_map(|found| nearness::text_difference(expected, found))
    };
    match test {
        ClaimTest::Equals(expected) | ClaimTest::Contains(expected) => among(expected),
        ClaimTest::OneOf(expected) => expected.iter().find_map(among),
        ClaimTest::Glob(pattern) => nearness::pattern_difference(pattern.as_str(), value.as_str()?),
        ClaimTest::Exists => None,
    }
}

fn wrong_type(test: &ClaimTest, value: Option<&Value>) -> String {
    let expected = match test {
        ClaimTest::Equals(value) => value.type_name(),
        ClaimTest::OneOf(values) => values.first().map_or("a value", |value| value.type_name()),
        ClaimTest::Glob(_) => "text",
        ClaimTest::Contains(_) => "an array of such values",
        ClaimTest::Exists => "a value",
    };
    let found = match value {
        Some(Value::String(_)) => "text",
        Some(Value::Number(number)) if number.is_f64() => "a number with a fraction, or too large",
        Some(Value::Number(_)) => "a whole number",
        Some(Value::Bool(_)) => "true or false",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
        Some(Value::Null) | None => "nothing",
    };
    format!("the condition is about {expected}, the claim is {found}; nothing is converted")
}

fn attributes(relationship: &CompiledRelationship, eye: &Eye<'_>, token: &TokenView<'_>) -> Option<Check> {
    if relationship.attribute_mapping.is_empty() {
        return None;
    }
    let names: Vec<&str> = relationship.attribute_mapping.iter().map(|(name, _)| name.as_str()).collect();
    let expected = format!("values for {}", names.join(", "));
    if let Some(claim) = unmapped(relationship, eye) {
        return Some(Check::unknown("attribute_mapping", expected, claim));
    }
    Some(match relationship.map(token) {
        Ok(attributes) => Check::new("attribute_mapping", expected, text::shown(&attributes.into(), MAX_SHOWN), true),
        Err(unmet) => Check::new("attribute_mapping", expected, unmet.to_string(), false),
    })
}

/// The first claim that the mapping reads and that is not known.
fn unmapped<'r>(relationship: &'r CompiledRelationship, eye: &Eye<'_>) -> Option<&'r str> {
    relationship.attribute_mapping.iter().find_map(|(_, expression)| eye.unknown(expression))
}

fn cel(relationship: &CompiledRelationship, eye: &Eye<'_>, token: &TokenView<'_>) -> Option<Check> {
    let condition = relationship.cel_condition.as_ref()?;
    let (field, expected) = ("cel_condition", format!("`{condition}`"));
    let unmapped = || unmapped(relationship, eye).filter(|_| !condition.attributes().is_empty());
    if let Some(claim) = eye.unknown(condition).or_else(unmapped) {
        return Some(Check::unknown(field, expected, claim));
    }
    // Only what it reads is shown.
    let read = condition.claims().iter().map(|claim| match token.members().get(&**claim) {
        Some(value) => format!("{claim} = {}", shown(eye, &format!("/{}", escaped(claim)), value)),
        None => format!("no claim {claim}"),
    });
    let read = read.collect::<Vec<_>>().join(", ");
    // A mapping that fails is told of by its own check.
    let attributes = relationship.map(token).unwrap_or_default();
    Some(match condition.holds(token.assertion(), &attributes) {
        Ok(holds) => Check::new(field, expected, read, holds),
        Err(failure) => Check::new(field, expected, read, false).with_hint(Some(format!("{failure}, which refuses the token"))),
    })
}

fn live(relationship: &CompiledRelationship, now: Timestamp) -> Vec<Check> {
    let mut checks = Vec::new();
    if !relationship.enabled {
        checks.push(Check::new("enabled", "an enabled relationship", "one that is disabled", false));
    }
    if let Some(end) = relationship.expires_at {
        checks.push(Check::new("expire_time", format!("a time before {end}"), format!("now, {now}"), now < end));
    }
    checks
}

/// The value of a claim as the token has it, cut short.
fn shown(eye: &Eye<'_>, pointer: &str, value: &Value) -> String {
    text::visible(&eye.claims.inexact.to_json(pointer, value), MAX_SHOWN)
}
