//! What the shape of a pattern accepts (SECURITY 22). Needs no knowledge of the issuer, and is milder where there is some.

use super::provider::Pin;
use super::{Findings, LintInput, Rule, Severity, condition_field, provider, subject_field};
use crate::trust::claim_condition::{ClaimCondition, ClaimTest};

/// What separates the parts of subjects. Not `-`, `_` and `.`, which names hold: `my-org-evil` is no part of `my-org`.
const DELIMITERS: [char; 10] = [':', '/', '|', '@', ',', ';', '=', '#', '?', '&'];

/// What surrounds one run of `*`; `None` is an end of the pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wildcard {
    before: Option<char>,
    after: Option<char>,
}

impl Wildcard {
    /// Every run of `*`, in order.
    fn all_in(pattern: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let mut before = None;
        let mut in_run = false;
        for letter in pattern.chars() {
            if letter == '*' {
                if !in_run {
                    found.push(Self { before, after: None });
                }
                in_run = true;
                continue;
            }
            if in_run && let Some(last) = found.last_mut() {
                last.after = Some(letter);
            }
            in_run = false;
            before = Some(letter);
        }
        found
    }

    fn is_within_name(self) -> bool {
        [self.before, self.after].into_iter().flatten().any(|letter| !DELIMITERS.contains(&letter))
    }

    fn is_between_delimiters(self) -> bool {
        self.before.is_some() && self.after.is_some() && !self.is_within_name()
    }
}

pub(super) fn check(input: &LintInput<'_>, findings: &mut Findings) {
    for (index, pattern) in input.relationship.subject_matches.iter().enumerate() {
        let field = subject_field(index);
        if pattern.is_bare_wildcard() {
            bare(input, &field, findings);
        } else {
            subject(input, pattern.as_str(), provider::pin_of_subject(input, pattern), &field, findings);
        }
    }
    for (index, condition) in input.relationship.claim_conditions.iter().enumerate() {
        if let ClaimTest::Glob(pattern) = &condition.test
            && !condition.negated
            && !pattern.is_bare_wildcard()
            && Wildcard::all_in(pattern.as_str()).into_iter().any(Wildcard::is_within_name)
        {
            let tenant = provider::is_tenant_claim(input, condition);
            let severity = if tenant { Severity::Warning } else { Severity::Advice };
            within_name(pattern.as_str(), severity, &condition_field(index), findings);
        }
    }
}

fn bare(input: &LintInput<'_>, field: &str, findings: &mut Findings) {
    let severity = if !input.relationship.claim_conditions.iter().any(ClaimCondition::pins) {
        Severity::Error
    } else if provider::pin_of_conditions(input) == Pin::Stable {
        Severity::Advice
    } else {
        Severity::Warning
    };
    findings.add(
        Rule::BareWildcard,
        severity,
        field,
        "`*` accepts every subject of the issuer: only the conditions decide who gets in",
        "name the subjects that are meant, with `*` for the last part at most",
    );
}

fn subject(input: &LintInput<'_>, pattern: &str, pin: Pin, field: &str, findings: &mut Findings) {
    let wildcards = Wildcard::all_in(pattern);
    if wildcards.first().is_some_and(|first| first.before.is_none()) {
        // Issuers whose customers have one each document such patterns.
        let own = input.preset.is_some_and(|preset| !preset.shared);
        findings.add(
            Rule::LeadingWildcard,
            if own { Severity::Advice } else { Severity::Warning },
            field,
            format!("`{pattern}` accepts subjects that begin with anything, whoever can choose their end"),
            "write out what the accepted subjects begin with",
        );
    }
    if wildcards.iter().copied().any(Wildcard::is_within_name) {
        // Within the tenant that is meant, it is a matter of who may choose names there.
        within_name(pattern, if pin == Pin::None { Severity::Warning } else { Severity::Advice }, field, findings);
    }
    if wildcards.iter().copied().any(Wildcard::is_between_delimiters) {
        findings.add(
            Rule::WildcardSpansDelimiters,
            if input.preset.is_some() { Severity::Advice } else { Severity::Warning },
            field,
            format!(
                "a `*` in the middle of `{pattern}` stands for delimiters too: who puts one into a value makes up the parts behind"
            ),
            "write out every part but the last, or say by claim conditions what those parts must be",
        );
    }
}

fn within_name(pattern: &str, severity: Severity, field: &str, findings: &mut Findings) {
    findings.add(
        Rule::WildcardWithinName,
        severity,
        field,
        format!(
            "`{pattern}` accepts other names that begin or end alike, which others can take: as `my-org*` accepts `my-org-evil`"
        ),
        "put `*` only where a whole part stands, next to a delimiter: `my-org:*`",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_wildcards_are_found_with_their_neighbours() {
        let found = |pattern| Wildcard::all_in(pattern).into_iter().map(|one| (one.before, one.after)).collect::<Vec<_>>();
        assert_eq!(found("abc"), []);
        assert_eq!(found("*"), [(None, None)]);
        assert_eq!(found("a:**:b*"), [(Some(':'), Some(':')), (Some('b'), None)]);
        assert_eq!(found("*é*"), [(None, Some('é')), (Some('é'), None)]);
    }
}
