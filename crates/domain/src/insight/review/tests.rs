use proptest::prelude::*;

use super::*;
use crate::trust::issuer_health::{HeldKeys, IssuerProblem};
use crate::trust::policy::tests::{relationship, trusted_issuer};

const DAY: Duration = Duration::from_hours(24);
const GITHUB: &str = "https://token.actions.githubusercontent.com";

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn ago(days: u32) -> Timestamp {
    now() - DAY * days
}

fn seen(subjects: &[(&str, u64)]) -> Seen {
    let mut seen = Seen::default();
    for (subject, count) in subjects {
        (0..*count).for_each(|_| seen.add(&subject.parse().unwrap()));
    }
    seen
}

/// A relationship of a year ago, with these subjects.
fn old(subjects: &[&str]) -> TrustRelationship {
    TrustRelationship { created_at: ago(365), updated_at: ago(365), ..relationship(1, subjects) }
}

struct Case {
    relationship: TrustRelationship,
    issuer: TrustedIssuer,
    health: Option<IssuerHealth>,
    last_used_at: Option<Timestamp>,
    seen: Seen,
    is_whole: bool,
    recorded_since: Timestamp,
}

impl Case {
    fn new(relationship: TrustRelationship, seen: Seen) -> Self {
        let last_used_at = (seen.exchanges() > 0).then(|| ago(1));
        Self {
            relationship,
            issuer: trusted_issuer("https://issuer.example"),
            health: None,
            last_used_at,
            seen,
            is_whole: true,
            recorded_since: ago(400),
        }
    }

    fn review(&self) -> Vec<Finding> {
        review(&Usage {
            relationship: &self.relationship,
            issuer: &self.issuer,
            health: self.health.as_ref(),
            last_used_at: self.last_used_at,
            seen: &self.seen,
            window: Window { since: ago(30), unused_for: DAY * 30, is_whole: self.is_whole, recorded_since: self.recorded_since },
            now: now(),
        })
    }

    fn rules(&self) -> Vec<(Rule, String)> {
        let short = |field: String| field.trim_start_matches("trust_relationship").trim_start_matches('.').to_owned();
        self.review().into_iter().map(|finding| (finding.rule, short(finding.field))).collect()
    }
}

#[test]
fn what_never_matched_and_what_was_long_unused_is_told_and_what_is_new_is_given_time() {
    let unused = |created: u32, updated: u32, last_used_at: Option<Timestamp>| {
        let mut relationship = old(&["a"]);
        (relationship.created_at, relationship.updated_at) = (ago(created), ago(updated));
        Case { last_used_at, ..Case::new(relationship, Seen::default()) }
    };
    for (case, expected) in [
        (unused(365, 365, None), vec![Rule::NeverMatched]),
        (unused(365, 365, Some(ago(31))), vec![Rule::UnusedLately]),
        (unused(365, 365, Some(ago(29))), vec![]),
        (unused(29, 29, None), vec![]),
        (unused(365, 2, None), vec![]),
    ] {
        assert_eq!(case.rules().into_iter().map(|(rule, _)| rule).collect::<Vec<_>>(), expected);
    }
    // Before uses were recorded it may have been used.
    let since = |days| Case { recorded_since: ago(days), ..unused(365, 365, None) };
    assert_eq!(since(31).rules().into_iter().map(|(rule, _)| rule).collect::<Vec<_>>(), [Rule::UnusedLately]);
    assert_eq!(since(29).rules(), []);
    let mut disabled = unused(365, 365, None);
    disabled.relationship.settings.enabled = false;
    assert_eq!(disabled.rules(), []);
}

#[test]
fn a_pattern_far_wider_than_its_use_is_told_with_a_narrower_one() {
    for (pattern, subjects, expected) in [
        ("org:my-org:*", vec![("org:my-org:vault:a", 20)], Some("write `org:my-org:vault:a`")),
        ("org:my-org:*", vec![("org:my-org:vault:a", 9)], None),
        (
            "org:my-org:*",
            vec![("org:my-org:vault:a", 5), ("org:my-org:vault:b", 5)],
            Some("write `org:my-org:vault:a`, `org:my-org:vault:b`"),
        ),
        (
            "repo:octo/*",
            vec![
                ("repo:octo/app:ref:refs/heads/1", 5),
                ("repo:octo/app:ref:refs/heads/2", 5),
                ("repo:octo/app:ref:refs/heads/3", 5),
                ("repo:octo/app:ref:refs/heads/4", 5),
            ],
            Some("write `repo:octo/app:ref:refs/heads/*`"),
        ),
        (
            "repo:octo/*",
            vec![
                ("repo:octo/a:environment:prod", 5),
                ("repo:octo/b:environment:prod", 5),
                ("repo:octo/c:environment:prod", 5),
                ("repo:octo/d:environment:prod", 5),
            ],
            Some("write `repo:octo/*:environment:prod`"),
        ),
        // As wide as its use.
        ("repo:octo/*", vec![("repo:octo/a:x", 9), ("repo:octo/b:y", 9), ("repo:octo/c:z", 9), ("repo:octo/d:w", 9)], None),
        // Exact.
        ("a", vec![("a", 20)], None),
    ] {
        let findings = Case::new(old(&[pattern]), seen(&subjects)).review();
        let fix = findings.first().map(|finding| finding.fix.as_str());
        assert_eq!(fix, expected, "{pattern} {subjects:?}");
    }
    let part = Case { is_whole: false, ..Case::new(old(&["org:my-org:*"]), seen(&[("org:my-org:vault:a", 20)])) };
    assert_eq!(part.rules(), [], "what nobody used in a part of the window says little");
    let mut fresh = Case::new(old(&["org:my-org:*"]), seen(&[("org:my-org:vault:a", 20)]));
    fresh.relationship.updated_at = ago(3);
    assert_eq!(fresh.rules(), [], "what was written a moment ago may be for what is to come");
}

#[test]
fn an_unused_subject_match_is_told_and_one_of_an_old_form_is_safe_to_drop() {
    let patterns = ["repo:octo-org/app:ref:refs/heads/main", "repo:octo-org@65/app@74:ref:refs/heads/main"];
    let mut case = Case::new(old(&patterns), seen(&[(patterns[1], 20)]));
    assert_eq!(case.rules(), [(Rule::UnusedSubjectMatch, "subject_matches[0]".to_owned())]);
    case.issuer = trusted_issuer(GITHUB);
    assert_eq!(case.rules(), [(Rule::OldFormUnused, "subject_matches[0]".to_owned())]);
    // The other way round it is the new form that is not in use yet.
    case.seen = seen(&[(patterns[0], 20)]);
    assert_eq!(case.rules(), [(Rule::UnusedSubjectMatch, "subject_matches[1]".to_owned())]);
}

#[test]
fn an_end_that_is_near_and_an_issuer_in_trouble_are_told() {
    let mut case = Case::new(old(&["a"]), seen(&[("a", 1)]));
    case.relationship.settings.expires_at = Some(now() + DAY * 13);
    let health = |succeeded_at, problem| {
        Some(IssuerHealth { attempted_at: now(), succeeded_at, problem, is_internal: false, keys: HeldKeys::default() })
    };
    case.health = health(Some(ago(1)), Some(IssuerProblem::Unreachable));
    let expected = [(Rule::IssuerUnhealthy, "trusted_issuer_id".to_owned()), (Rule::ExpiresSoon, "expire_time".to_owned())];
    assert_eq!(case.rules(), expected);
    case.relationship.settings.expires_at = Some(now() + DAY * 15);
    case.health = health(Some(now()), Some(IssuerProblem::Unreachable));
    assert_eq!(case.rules(), [], "a moment's trouble");
    case.health = health(None, Some(IssuerProblem::Unreachable));
    assert_eq!(case.rules(), [(Rule::IssuerUnhealthy, "trusted_issuer_id".to_owned())]);
    case.issuer.settings.enabled = false;
    assert_eq!(case.rules(), [(Rule::IssuerDisabled, "trusted_issuer_id".to_owned())]);
}

proptest! {
    /// Whatever was seen, a suggestion accepts all of it, and nothing that the written pattern does not.
    #[test]
    fn a_suggestion_takes_nothing_away_that_was_used_and_adds_nothing(
        pattern in "[ab:/*]{1,8}",
        fillings in prop::collection::vec(prop::collection::vec("[ab:/*é]{0,4}", 9), 1..8),
        other in "[ab:/]{1,8}",
    ) {
        let Ok(pattern) = pattern.parse::<SubjectMatch>() else { return Ok(()) };
        let compiled = pattern.compile();
        // What stands for each `*`.
        let filled = |filling: &Vec<String>| {
            let mut pieces = pattern.as_str().split('*');
            let first = pieces.next().unwrap_or_default().to_owned();
            pieces.zip(filling).fold(first, |subject, (piece, filled)| subject + filled + piece)
        };
        let subjects: std::collections::BTreeSet<String> = fillings.iter().map(filled).collect();
        let accepted: Vec<&str> = subjects.iter().map(String::as_str).collect();
        if let Some(narrower) = narrower(&pattern, &accepted) {
            let accepts = |subject: &str| narrower.iter().any(|narrower| narrower.compile().accepts(subject));
            prop_assert!(accepted.iter().all(|subject| accepts(subject)), "{:?} {:?}", narrower, accepted);
            prop_assert!(!accepts(&other) || compiled.accepts(&other), "{:?} {}", narrower, other);
        }
    }
}
