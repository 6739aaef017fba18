//! What past exchanges say of a trust relationship: whether it is used, and whether it lets in more than anybody uses.
//!
//! A narrower pattern is suggested only when it accepts everything that was seen, and nothing that the written one does not.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::insight::comparison::covers;
use crate::insight::lint::{Finding, Rule, Severity};
use crate::trust::issuer_health::IssuerHealth;
use crate::trust::trust_relationship::TrustRelationship;
use crate::trust::trusted_issuer::TrustedIssuer;
use crate::values::name::Subject;
use crate::values::subject_match::SubjectMatch;
use crate::values::time::Timestamp;

/// What is known of one relationship.
#[derive(Clone, Copy)]
pub struct Usage<'a> {
    /// The relationship.
    pub relationship: &'a TrustRelationship,
    /// Its issuer.
    pub issuer: &'a TrustedIssuer,
    /// How the issuer's keys fare, when somebody looked.
    pub health: Option<&'a IssuerHealth>,
    /// When it last decided, as far as is known.
    pub last_used_at: Option<Timestamp>,
    /// What it decided within the window.
    pub seen: &'a Seen,
    /// What was looked at.
    pub window: Window,
    /// The time.
    pub now: Timestamp,
}

/// What was looked at of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From when on every exchange was seen.
    pub since: Timestamp,
    /// Whether that is all that was asked for. There may have been too many exchanges to look at; what nobody used in their short time
    /// says little.
    pub is_whole: bool,
    /// Since when it is recorded when relationships decide.
    pub recorded_since: Timestamp,
    /// How long a relationship may go unused before that is told.
    pub unused_for: Duration,
}

/// The subjects that a relationship accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    exchanges: u64,
    subjects: BTreeMap<Subject, u64>,
    has_more: bool,
}

/// The most subjects that are kept apart. Of more, no pattern is suggested.
const MAX_SUBJECTS: usize = 1_000;
/// So few subjects are suggested one by one.
const FEW_SUBJECTS: usize = 3;
/// How many exchanges it takes to suggest anything by them.
const ENOUGH_EXCHANGES: u64 = 10;
/// How long before its end a relationship is said to expire.
const EXPIRES_SOON: Duration = Duration::from_hours(14 * 24);
/// How old the last success of fetching keys must be to count as trouble.
const UNHEALTHY_FOR: Duration = Duration::from_hours(1);

impl Seen {
    /// Adds an exchange.
    pub fn add(&mut self, subject: &Subject) {
        self.exchanges += 1;
        if let Some(count) = self.subjects.get_mut(subject) {
            *count += 1;
        } else if self.subjects.len() < MAX_SUBJECTS {
            self.subjects.insert(subject.clone(), 1);
        } else {
            self.has_more = true;
        }
    }

    /// How many exchanges there were.
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }
}

/// What there is to say, the worst first.
pub fn review(usage: &Usage<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    issuer(usage, &mut findings);
    expiry(usage, &mut findings);
    if usage.relationship.settings.enabled && usage.issuer.settings.enabled {
        if usage.seen.exchanges == 0 {
            unused(usage, &mut findings);
        } else {
            too_wide(usage, &mut findings);
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn add(findings: &mut Vec<Finding>, rule: Rule, severity: Severity, field: &str, risk: String, fix: impl Into<String>) {
    let field = if field.is_empty() { "trust_relationship".to_owned() } else { format!("trust_relationship.{field}") };
    findings.push(Finding { rule, severity, field, risk, fix: fix.into() });
}

fn issuer(usage: &Usage<'_>, findings: &mut Vec<Finding>) {
    let Usage { issuer, health, now, .. } = usage;
    let field = "trusted_issuer_id";
    if !issuer.settings.enabled {
        let risk = format!("the trusted issuer {} is disabled: no token of it is accepted", issuer.id);
        let fix = "enable the issuer, or remove the relationship";
        return add(findings, Rule::IssuerDisabled, Severity::Advice, field, risk, fix);
    }
    let Some(health) = health else { return };
    // Reviews are for administrators of the workspace.
    let Some(problem) = health.for_administrators().problem else { return };
    let long_enough = |at: Timestamp| now.duration_since(at) >= UNHEALTHY_FOR.try_into().unwrap_or_default();
    if health.succeeded_at.is_none_or(long_enough) {
        let since = health.succeeded_at.map_or("were never read".to_owned(), |at| format!("were last read at {at}"));
        let risk = format!("the keys of {} {since} ({problem}): its tokens stop being accepted", issuer.settings.issuer_url);
        let fix = "ask for a check of the trusted issuer, which tells what is wrong";
        add(findings, Rule::IssuerUnhealthy, Severity::Warning, field, risk, fix);
    }
}

fn expiry(usage: &Usage<'_>, findings: &mut Vec<Finding>) {
    let Some(end) = usage.relationship.settings.expires_at else { return };
    let left = end.duration_since(usage.now);
    if !left.is_negative() && left <= EXPIRES_SOON.try_into().unwrap_or_default() {
        let risk = format!("it stops to hold at {end}");
        let fix = "set a later end, if it is still needed";
        add(findings, Rule::ExpiresSoon, Severity::Warning, "expire_time", risk, fix);
    }
}

fn unused(usage: &Usage<'_>, findings: &mut Vec<Finding>) {
    let Usage { relationship, last_used_at, window, now, .. } = usage;
    let patience = window.unused_for.try_into().unwrap_or_default();
    let is_old = now.duration_since(relationship.created_at) >= patience;
    let changed = now.duration_since(relationship.updated_at) < patience;
    let risk = "whatever it lets in, nobody needs";
    match last_used_at {
        _ if !is_old || changed => {}
        // Before, it may have.
        None if relationship.created_at < window.recorded_since => {
            if now.duration_since(window.recorded_since) >= patience {
                let risk =
                    format!("it decided no exchange since {}, when that began to be recorded; {risk}", window.recorded_since);
                add(findings, Rule::UnusedLately, Severity::Warning, "", risk, "remove it, or give it an end");
            }
        }
        None => {
            let risk = format!("it never decided an exchange since it was created at {}; {risk}", relationship.created_at);
            let fix = "remove it, or find out with `explain` why its tokens are refused";
            add(findings, Rule::NeverMatched, Severity::Warning, "", risk, fix);
        }
        Some(last) if now.duration_since(*last) >= patience => {
            let risk = format!("it last decided an exchange at {last}; {risk}");
            add(findings, Rule::UnusedLately, Severity::Warning, "", risk, "remove it, or give it an end");
        }
        Some(_) => {}
    }
}

/// What of the relationship's patterns nobody used.
fn too_wide(usage: &Usage<'_>, findings: &mut Vec<Finding>) {
    let Usage { relationship, seen, window, .. } = usage;
    // What was written since may be for what is yet to come.
    let enough = window.is_whole && seen.exchanges >= ENOUGH_EXCHANGES && !seen.has_more;
    if !enough || relationship.updated_at > window.since {
        return;
    }
    let patterns = &relationship.settings.subject_matches;
    for (place, pattern) in patterns.iter().enumerate() {
        let field = format!("subject_matches[{place}]");
        let compiled = pattern.compile();
        let accepted: Vec<&str> = seen.subjects.keys().map(Subject::as_str).filter(|text| compiled.accepts(text)).collect();
        if accepted.is_empty() {
            unused_pattern(usage, pattern, &field, findings);
        } else if let Some(narrower) = narrower(pattern, &accepted) {
            let used: u64 = seen.subjects.iter().filter(|(subject, _)| compiled.accepts(subject.as_str())).map(|(_, n)| n).sum();
            let risk = format!(
                "all {used} exchanges that `{pattern}` accepted since {} were of {}: what else it accepts, nobody needs",
                window.since,
                if accepted.len() == 1 { "one subject".to_owned() } else { format!("{} subjects", accepted.len()) },
            );
            let narrower = narrower.iter().map(|narrower| format!("`{narrower}`")).collect::<Vec<_>>().join(", ");
            add(findings, Rule::WiderThanUsed, Severity::Advice, &field, risk, format!("write {narrower}"));
        }
    }
}

fn unused_pattern(usage: &Usage<'_>, pattern: &SubjectMatch, field: &str, findings: &mut Vec<Finding>) {
    let since = usage.window.since;
    let preset = usage.issuer.settings.known_preset();
    let old_form = preset.and_then(|preset| {
        let mut forms = preset.forms.iter().filter(|form| form.can_match(pattern)).peekable();
        forms.peek()?;
        forms.all(|form| form.leaving.is_some()).then_some(preset)
    });
    let (rule, risk, fix) = match old_form {
        Some(preset) => (
            Rule::OldFormUnused,
            format!("`{pattern}` is of a form that {} is giving up, and accepted nothing since {since}", preset.name),
            "drop it: other subjects of the relationship are in use",
        ),
        None => (
            Rule::UnusedSubjectMatch,
            format!("`{pattern}` accepted nothing since {since}, though the relationship is in use"),
            "drop it, if nothing is to come",
        ),
    };
    add(findings, rule, Severity::Advice, field, risk, fix);
}

/// Patterns that accept all these subjects, nothing that the given one does not, and less than it; `None` when there are none
/// worth to be suggested. A name is never cut in two: what stands around a `*` ends in a delimiter.
fn narrower(pattern: &SubjectMatch, subjects: &[&str]) -> Option<Vec<SubjectMatch>> {
    if pattern.is_literal() {
        return None;
    }
    let suggested: Vec<SubjectMatch> = if subjects.len() <= FEW_SUBJECTS {
        // A subject that holds `*` cannot be written as an exact match.
        subjects.iter().map(|subject| subject.parse().ok().filter(SubjectMatch::is_literal)).collect::<Option<_>>()?
    } else {
        let (first, rest) = subjects.split_first()?;
        let prefix = rest.iter().fold(*first, |prefix, subject| common_prefix(prefix, subject));
        let prefix = prefix.get(..prefix.rfind(DELIMITERS).map_or(0, |at| at + 1))?;
        let ends: Vec<&str> = subjects.iter().filter_map(|subject| subject.get(prefix.len()..)).collect();
        let (first, rest) = ends.split_first()?;
        let suffix = rest.iter().fold(*first, |suffix, end| common_suffix(suffix, end));
        let suffix = suffix.get(suffix.find(DELIMITERS).unwrap_or(suffix.len())..)?;
        vec![format!("{prefix}*{suffix}").parse().ok().filter(|_| !prefix.contains('*') && !suffix.contains('*'))?]
    };
    let is_narrower = |narrower: &SubjectMatch| covers(pattern, narrower) && !covers(narrower, pattern);
    suggested.iter().all(is_narrower).then_some(suggested)
}

/// What separates the parts of subjects.
const DELIMITERS: [char; 2] = [':', '/'];

fn common_prefix<'a>(one: &'a str, other: &str) -> &'a str {
    let ends = one.char_indices().zip(other.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
    one.get(..ends.unwrap_or(one.len().min(other.len()))).unwrap_or_default()
}

fn common_suffix<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.chars().rev().zip(other.chars().rev()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum::<usize>();
    one.get(one.len() - same..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
