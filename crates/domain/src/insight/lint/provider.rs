//! What is known of the issuer: whose tokens it gives out, of which forms, for which audiences (SECURITY 19, 27).

use super::claims::is_same;
use super::{Findings, LintInput, Rule, Severity, subject_field};
use crate::trust::claim_condition::{ClaimCondition, ClaimTest, ClaimValue};
use crate::trust::preset::{Preset, PresetAudience, TenantClaim, TenantPin};
use crate::values::name::Audience;
use crate::values::subject_match::SubjectMatch;

/// How well something tells one tenant of the issuer from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pin {
    /// Not at all.
    None,
    /// By a name that somebody else can have later.
    Recyclable,
    /// By what never changes hands.
    Stable,
}

impl From<TenantPin> for Pin {
    fn from(pin: TenantPin) -> Self {
        match pin {
            TenantPin::NotPinned => Self::None,
            TenantPin::Recyclable => Self::Recyclable,
            TenantPin::Stable => Self::Stable,
        }
    }
}

/// How well the subjects of a pattern are told apart by it alone.
pub(super) fn pin_of_subject(input: &LintInput<'_>, pattern: &SubjectMatch) -> Pin {
    input.preset.map_or(Pin::None, |preset| Pin::from(preset.tenant_pin(pattern)).max(pin_of_named_claims(preset, pattern)))
}

/// Some issuers let their customers have subjects of claims, each by its name: `repository_owner_id:65:job_workflow_ref:…`.
fn pin_of_named_claims(preset: &Preset, pattern: &SubjectMatch) -> Pin {
    let (written, is_whole) = match pattern.as_str().split_once('*') {
        None => (pattern.as_str(), true),
        Some((before, _)) => (before, false),
    };
    let parts: Vec<&str> = written.split(':').collect();
    let is_written = |claim: &str| {
        // What a `*` follows at once is not the whole value.
        parts.windows(2).enumerate().any(|(place, pair)| {
            matches!(pair, [name, value] if *name == claim && !value.is_empty()) && (is_whole || place + 2 < parts.len())
        })
    };
    let in_subjects = |claim: &str| {
        let named = format!("{claim}:*");
        preset.forms.iter().flat_map(|form| &form.parts).any(|part| part.values.contains(&named))
    };
    let named =
        preset.tenant_claims.iter().filter(|tenant| is_written(tenant.claim.as_str()) && in_subjects(tenant.claim.as_str()));
    named.map(|tenant| if tenant.recyclable { Pin::Recyclable } else { Pin::Stable }).max().unwrap_or(Pin::None)
}

/// How well tenants are told apart by the claim conditions together.
pub(super) fn pin_of_conditions(input: &LintInput<'_>) -> Pin {
    let Some(preset) = input.preset else { return Pin::None };
    let conditions = input.relationship.claim_conditions.iter().filter(|condition| condition.pins());
    conditions.map(|condition| pin_of_condition(preset, condition)).max().unwrap_or(Pin::None)
}

fn pin_of_condition(preset: &Preset, condition: &ClaimCondition) -> Pin {
    let Some(claim) = tenant_claim(preset, condition) else { return Pin::None };
    if claim.claim.as_str() == "sub" {
        return pin_of_subjects(preset, condition);
    }
    match &condition.test {
        ClaimTest::Glob(pattern) if !names_a_tenant(pattern.as_str()) => Pin::None,
        _ if claim.recyclable => Pin::Recyclable,
        _ => Pin::Stable,
    }
}

/// A condition on the subject is as good as a subject match.
fn pin_of_subjects(preset: &Preset, condition: &ClaimCondition) -> Pin {
    let pin = |pattern: &SubjectMatch| Pin::from(preset.tenant_pin(pattern));
    if let ClaimTest::Glob(pattern) = &condition.test {
        return pin(pattern);
    }
    let subjects = condition.values().unwrap_or_default().iter().map(|value| match value {
        ClaimValue::Text(text) if !text.contains('*') => text.parse().map_or(Pin::None, |subject| pin(&subject)),
        _ => Pin::None,
    });
    subjects.min().unwrap_or(Pin::None)
}

/// Whether the condition is on a claim that tells tenants apart.
pub(super) fn is_tenant_claim(input: &LintInput<'_>, condition: &ClaimCondition) -> bool {
    input.preset.is_some_and(|preset| tenant_claim(preset, condition).is_some())
}

fn tenant_claim<'a>(preset: &'a Preset, condition: &ClaimCondition) -> Option<&'a TenantClaim> {
    preset.tenant_claims.iter().find(|tenant| is_same(&tenant.claim, &condition.claim))
}

/// `my-org/*` names a tenant; `my-org*` and `*/deploy` name whoever takes a name that begins or ends so.
fn names_a_tenant(pattern: &str) -> bool {
    pattern.split_once('*').is_none_or(|(before, _)| before.len() > 1 && before.ends_with(['/', ':']))
}

/// Some issuers tell their customers apart by the audience alone.
fn pin_of_audience(input: &LintInput<'_>, preset: &Preset) -> Pin {
    let Some(claim) = preset.tenant_claims.iter().find(|tenant| tenant.claim.as_str() == "aud") else { return Pin::None };
    let accepted = accepted_audiences(input);
    let own = accepted.iter().any(|audience| input.deployment.is(audience));
    match (own, claim.recyclable) {
        (true, _) => Pin::None,
        (false, true) => Pin::Recyclable,
        (false, false) => Pin::Stable,
    }
}

/// A token's audiences must all be among these.
fn accepted_audiences<'a>(input: &LintInput<'a>) -> &'a [Audience] {
    match input.relationship.subject_audiences.as_slice() {
        [] => input.issuer.accepted_audiences(input.deployment.as_audience()),
        accepted => accepted,
    }
}

pub(super) fn check(input: &LintInput<'_>, findings: &mut Findings) {
    audiences(input, findings);
    let Some(preset) = input.preset else { return };
    let elsewhere = pin_of_conditions(input).max(pin_of_audience(input, preset));
    for (index, pattern) in input.relationship.subject_matches.iter().enumerate() {
        let field = subject_field(index);
        if !preset.can_match(pattern) {
            cannot_match(preset, pattern, &field, findings);
            continue;
        }
        if preset.shared {
            tenant(input, preset, pattern, pin_of_subject(input, pattern).max(elsewhere), &field, findings);
        }
        if !pattern.is_bare_wildcard() {
            forms(preset, pattern, &field, findings);
        }
    }
}

fn cannot_match(preset: &Preset, pattern: &SubjectMatch, field: &str, findings: &mut Findings) {
    let templates: Vec<String> = preset.forms.iter().map(|form| format!("`{}`", form.template)).collect();
    findings.add(
        Rule::SubjectCannotMatch,
        Severity::Error,
        field,
        format!("`{pattern}` is no subject of {}: it accepts no token, as the whole subject must match", preset.name),
        format!("write it like {}, and end it in `*` where what follows does not matter", templates.join(" or ")),
    );
}

fn tenant(input: &LintInput<'_>, preset: &Preset, pattern: &SubjectMatch, pin: Pin, field: &str, findings: &mut Findings) {
    let stable = preset.tenant_claims.iter().filter(|tenant| !tenant.recyclable);
    let stable: Vec<String> = stable
        .map(|tenant| match tenant.claim.as_str() {
            "aud" => "accept no audience but your own".to_owned(),
            claim => format!("add a claim condition on `{claim}`"),
        })
        .collect();
    match pin {
        Pin::Stable => {}
        Pin::None => findings.add(
            Rule::TenantNotPinned,
            // An installation of one's own has tenants too, but no strangers.
            if preset.issuer.recognises(&input.issuer.issuer_url) { Severity::Error } else { Severity::Warning },
            field,
            format!(
                "all customers of {} share its issuer: whoever has an account there can get a token that `{pattern}` accepts",
                preset.name
            ),
            match stable.as_slice() {
                [] => "write out in the subject whose tokens are meant".to_owned(),
                _ => format!(
                    "write out in the subject whose tokens are meant, or {}; what a CEL condition asks for does not count here",
                    stable.join(", or ")
                ),
            },
        ),
        Pin::Recyclable => findings.add(
            Rule::RecyclableTenant,
            Severity::Warning,
            field,
            format!(
                "a name alone says whose tokens `{pattern}` accepts: once it is given up, somebody else can take it, and gets in"
            ),
            match stable.as_slice() {
                [] => format!(
                    "{} sends nothing that lasts longer than a name: disable the relationship before the name is given up",
                    preset.name
                ),
                _ => stable.join(", or "),
            },
        ),
    }
}

fn audiences(input: &LintInput<'_>, findings: &mut Findings) {
    let accepted = accepted_audiences(input);
    let others = || accepted.iter().filter(|audience| !input.deployment.is(audience));
    let field = "trust_relationship.subject_audiences";
    if let Some(preset) = input.preset
        && let PresetAudience::Fixed(template) = &preset.audience
    {
        // Whatever else is accepted may be what the template stands for.
        if others().next().is_none() {
            findings.add(
                Rule::AudienceCannotMatch,
                Severity::Error,
                field,
                format!(
                    "the audience of tokens of {} is `{template}`, whatever is asked for: none is for this deployment",
                    preset.name
                ),
                "set the audience that they have on the trusted issuer",
            );
        }
        return;
    }
    let tells_tenants = input.preset.is_some_and(|preset| pin_of_audience(input, preset) != Pin::None);
    if let Some(audience) = others().next().filter(|_| !tells_tenants) {
        findings.add(
            Rule::AudienceOfOthers,
            Severity::Advice,
            field,
            format!("`{audience}` is not this deployment's audience: others who receive tokens for it can exchange them here"),
            format!("have tokens issued for `{}`, and accept no other audience", input.deployment.as_audience()),
        );
    }
}

fn forms(preset: &Preset, pattern: &SubjectMatch, field: &str, findings: &mut Findings) {
    let accepted: Vec<_> = preset.forms.iter().filter(|form| form.can_match(pattern)).collect();
    let leaving = || accepted.iter().filter_map(|form| Some((form, form.leaving.as_ref()?)));
    let both = leaving().find_map(|(form, leaving)| {
        let successor = accepted.iter().find(|other| other.id == leaving.successor)?;
        Some((form, leaving, successor))
    });
    if let Some((form, leaving, successor)) = both {
        findings.add(
            Rule::SeveralSubjectForms,
            Severity::Warning,
            field,
            format!(
                "`{pattern}` accepts subjects like `{}` and the older ones like `{}`, whatever stands in their parts",
                successor.template, form.template
            ),
            format!("write one subject match for each form that is needed, with its parts written out: {}", leaving.hint),
        );
    } else if let Some((form, leaving)) = leaving().next() {
        let since = leaving.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        findings.add(
            Rule::LeavingSubjectForm,
            Severity::Advice,
            field,
            format!(
                "{} is giving up subjects like `{}`{since}: one day `{pattern}` accepts no token",
                preset.name, form.template
            ),
            leaving.hint.trim_end_matches('.'),
        );
    }
}
