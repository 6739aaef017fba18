//! Whose tokens: subjects and audiences.

use super::{Change, Reasons};
use crate::trust::trust_relationship::TrustRelationshipSettings;
use crate::values::name::Audience;
use crate::values::subject_match::SubjectMatch;

/// Whether every text that `smaller` accepts is accepted by `larger`. Exact, for texts of any length.
///
/// A text of `smaller` is made with a character in place of each `*` that no pattern holds. When `larger` accepts it, some `*` of
/// its own must stand for each such character, and would stand for anything else in its place.
pub(crate) fn covers(larger: &SubjectMatch, smaller: &SubjectMatch) -> bool {
    larger.compile().accepts(&smaller.as_str().replace('*', "\0"))
}

/// Whether it can be shown that no text is accepted by both. Not finding it proves nothing.
pub(super) fn are_disjoint(one: &SubjectMatch, other: &SubjectMatch) -> bool {
    // A pattern without `*` is its own beginning and end.
    fn ends(pattern: &SubjectMatch) -> (&str, &str) {
        let text = pattern.as_str();
        (text.split('*').next().unwrap_or(text), text.rsplit('*').next().unwrap_or(text))
    }
    let ((prefix, suffix), (other_prefix, other_suffix)) = (ends(one), ends(other));
    let agree = prefix.starts_with(other_prefix) || other_prefix.starts_with(prefix);
    let agree = agree && (suffix.ends_with(other_suffix) || other_suffix.ends_with(suffix));
    match (one.is_literal(), other.is_literal()) {
        (true, _) => !other.compile().accepts(one.as_str()),
        (_, true) => !one.compile().accepts(other.as_str()),
        _ => !agree,
    }
}

pub(super) fn subject_matches(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, reasons: &mut Reasons) {
    let (before, after) = (&*before.subject_matches, &*after.subject_matches);
    let added = |new: &SubjectMatch| match before.iter().find(|old| covers(new, old)) {
        Some(old) => format!("`{new}` also accepts what `{old}` did not"),
        None => format!("`{new}` accepts subjects that were not accepted"),
    };
    let removed = |old: &SubjectMatch| match after.iter().find(|new| covers(old, new)) {
        Some(new) => format!("`{new}` does not accept all that `{old}` did"),
        None => format!("`{old}` is not accepted any more"),
    };
    // Of a union, each must lie within one: what several accept together only is not found.
    let covered = |element: &SubjectMatch, list: &[SubjectMatch]| list.iter().any(|larger| covers(larger, element));
    reasons.lists("subject_matches", [before, after], covered, [&added, &removed]);
}

pub(super) fn subject_audiences(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings, reasons: &mut Reasons) {
    let field = "subject_audiences";
    let (before, after) = (&*before.subject_audiences, &*after.subject_audiences);
    match (before.is_empty(), after.is_empty()) {
        (true, true) => {}
        (true, false) => reasons.add(field, Change::Narrower, "no longer every audience of the issuer is accepted"),
        (false, true) => reasons.add(field, Change::Broader, "every audience of the issuer is accepted"),
        (false, false) => {
            let added = |new: &Audience| format!("`{new}` is accepted");
            let removed = |old: &Audience| format!("`{old}` is not accepted any more");
            reasons.lists(field, [before, after], |element, list| list.contains(element), [&added, &removed]);
        }
    }
}
