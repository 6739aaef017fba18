//! What conditions ask of claims: types, names, and CEL's own semantics (SECURITY 25, 26).

use super::{Findings, LintInput, Rule, Severity, condition_field};
use crate::trust::cel::CelExpression;
use crate::trust::claim_condition::{ClaimCondition, ClaimTest, ClaimValue};
use crate::trust::preset::{ClaimKind, Preset};
use crate::values::claim_path::ClaimPath;

/// Claims that every token may have, and what they are (RFC 7519, section 4.1). An audience is text or an array.
const REGISTERED: [(&str, Option<ClaimKind>); 7] = [
    ("iss", Some(ClaimKind::Text)),
    ("sub", Some(ClaimKind::Text)),
    ("jti", Some(ClaimKind::Text)),
    ("exp", Some(ClaimKind::Integer)),
    ("iat", Some(ClaimKind::Integer)),
    ("nbf", Some(ClaimKind::Integer)),
    ("aud", None),
];

/// What is known of a claim.
enum Known {
    /// Tokens may have it, of this type if that is known.
    Claim(Option<ClaimKind>),
    /// The issuer's tokens never have it.
    Never,
    /// Nothing is known of the issuer.
    Nothing,
}

pub(super) fn check(input: &LintInput<'_>, findings: &mut Findings) {
    for (index, condition) in input.relationship.claim_conditions.iter().enumerate() {
        let field = condition_field(index);
        match known(&condition.claim, input.preset) {
            Known::Claim(Some(kind)) => type_of(condition, kind, &field, findings),
            Known::Claim(None) => {}
            Known::Never | Known::Nothing => unknown(&condition.claim, input.preset, &field, findings),
        }
    }
    for (field, expression) in expressions(input) {
        cel(expression, input.preset, &field, findings);
    }
}

fn expressions<'a>(input: &LintInput<'a>) -> impl Iterator<Item = (String, &'a CelExpression)> {
    let condition =
        input.relationship.cel_condition.iter().map(|condition| ("trust_relationship.cel_condition".to_owned(), condition));
    let mapped = input.relationship.attribute_mapping.iter();
    condition.chain(mapped.map(|(name, value)| (format!("trust_relationship.attribute_mapping[{name}]"), value)))
}

fn known(claim: &ClaimPath, preset: Option<&Preset>) -> Known {
    let specified = preset.and_then(|preset| preset.claims.iter().find(|spec| is_same(&spec.claim, claim)));
    let registered = REGISTERED.iter().find(|(name, _)| !claim.is_nested() && claim.top_level() == *name);
    match (specified, registered, preset) {
        (Some(spec), _, _) => Known::Claim(Some(spec.kind)),
        (None, Some((_, kind)), _) => Known::Claim(*kind),
        // What an object holds is listed as far as it matters, not to the last member.
        (None, None, Some(preset)) if is_object(preset, &claim.top_level()) => {
            Known::Claim((!claim.is_nested()).then_some(ClaimKind::Object))
        }
        (None, None, Some(_)) => Known::Never,
        (None, None, None) => Known::Nothing,
    }
}

/// Whether two paths lead to one claim: `/sub` is `sub`.
pub(super) fn is_same(one: &ClaimPath, other: &ClaimPath) -> bool {
    one == other || !one.is_nested() && !other.is_nested() && one.top_level() == other.top_level()
}

fn is_object(preset: &Preset, name: &str) -> bool {
    preset.claims.iter().any(|spec| spec.claim.top_level() == name && (spec.claim.is_nested() || spec.kind == ClaimKind::Object))
}

fn type_of(condition: &ClaimCondition, kind: ClaimKind, field: &str, findings: &mut Findings) {
    let value_kind = |value: &ClaimValue| match value {
        ClaimValue::Text(_) => ClaimKind::Text,
        ClaimValue::Integer(_) => ClaimKind::Integer,
        ClaimValue::Boolean(_) => ClaimKind::Boolean,
    };
    let asked = match &condition.test {
        ClaimTest::Exists => return,
        ClaimTest::Glob(_) => ClaimKind::Text,
        ClaimTest::Contains(_) => ClaimKind::List,
        ClaimTest::Equals(value) => value_kind(value),
        // All of one type.
        ClaimTest::OneOf(values) => values.first().map_or(kind, value_kind),
    };
    if asked == kind {
        return;
    }
    let claim = &condition.claim;
    let fix = match (kind, asked) {
        (ClaimKind::Text, ClaimKind::Integer | ClaimKind::Boolean) => "write the value as text, in quotes".to_owned(),
        (ClaimKind::Integer | ClaimKind::Boolean, ClaimKind::Text) => {
            format!("write the value as {}, without quotes", name_of(kind))
        }
        (ClaimKind::List, _) => "ask by `contains` for an element that the list must have".to_owned(),
        (_, ClaimKind::List) => format!("compare `{claim}` by `equals` or `one_of`"),
        (ClaimKind::Object, _) => format!("name a member of it: `{}/…`", pointer(&[&claim.top_level()])),
        _ => format!("compare `{claim}` with {}", name_of(kind)),
    };
    findings.add(
        Rule::ConditionTypeMismatch,
        Severity::Error,
        field,
        format!(
            "`{claim}` is {}, and the condition asks for {}: another type satisfies no condition, so no token gets in",
            name_of(kind),
            name_of(asked)
        ),
        fix,
    );
}

const fn name_of(kind: ClaimKind) -> &'static str {
    match kind {
        ClaimKind::Text => "text",
        ClaimKind::Integer => "a whole number",
        ClaimKind::Boolean => "true or false",
        ClaimKind::List => "a list",
        ClaimKind::Object => "an object",
    }
}

fn unknown(claim: &ClaimPath, preset: Option<&Preset>, field: &str, findings: &mut Findings) {
    let Some(preset) = preset else {
        // Without knowledge of the issuer only the look of the name tells.
        if looks_nested(claim) {
            findings.add(
                Rule::UnknownClaim,
                Severity::Advice,
                field,
                format!("`{claim}` is the name of a top-level claim, dots included: a member of an object is not found by it"),
                format!("if it is nested, write a JSON Pointer: `{}`", pointer(&claim.as_str().split('.').collect::<Vec<_>>())),
            );
        }
        return;
    };
    never(claim.as_str(), similar(claim, preset), preset, field, findings);
}

fn never(claim: &str, similar: Option<String>, preset: &Preset, field: &str, findings: &mut Findings) {
    findings.add(
        Rule::UnknownClaim,
        Severity::Advice,
        field,
        format!("tokens of {} are not known to have `{claim}`: without it, no token is accepted", preset.name),
        match similar {
            Some(similar) => format!("write `{similar}`"),
            None => "look at the claims of a token, letter by letter".to_owned(),
        },
    );
}

/// Host-like prefixes have a slash, as in `oidc.circleci.com/project-id`, and are names.
fn looks_nested(claim: &ClaimPath) -> bool {
    let text = claim.as_str();
    !text.contains('/') && text.split('.').count() > 1 && text.split('.').all(|name| !name.is_empty())
}

/// A claim that may have been meant: nested where dots were written, or of other case (SECURITY 23).
fn similar(claim: &ClaimPath, preset: &Preset) -> Option<String> {
    let written = claim.as_str().trim_start_matches('/');
    let mut known = preset.claims.iter().map(|spec| spec.claim.as_str());
    known
        .find(|known| {
            let names = known.strip_prefix('/').unwrap_or(known);
            known.starts_with('/') && names.replace('/', ".").eq_ignore_ascii_case(written) || names.eq_ignore_ascii_case(written)
        })
        .map(str::to_owned)
}

/// The pointer of these names (RFC 6901).
fn pointer(names: &[&str]) -> String {
    names.iter().flat_map(|name| ["/".to_owned(), name.replace('~', "~0").replace('/', "~1")]).collect()
}

fn cel(expression: &CelExpression, preset: Option<&Preset>, field: &str, findings: &mut Findings) {
    for claim in expression.unequal_claims() {
        findings.add(
            Rule::CelInequality,
            Severity::Advice,
            field,
            format!("`!=` is true of values of other types: of an array, `{claim} != \"a\"` holds whatever is in it"),
            "use a negated claim condition, which no claim of another type satisfies, or compare by `==` with what is allowed",
        );
    }
    let Some(preset) = preset else { return };
    for claim in expression.claims() {
        let Ok(path) = ClaimPath::of_top_level(claim) else { continue };
        if matches!(known(&path, Some(preset)), Known::Never) {
            never(claim, similar(&path, preset), preset, field, findings);
        }
    }
}
