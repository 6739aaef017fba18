//! What somebody wrote, before it is checked.
//!
//! A draft holds every field of a resource as the wire gave it; the resource's module turns it into settings, noting every
//! violation. An update reads only the fields its mask names, so an unreadable value in another field harms nobody.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::values::violation::Violations;

/// A value that the edge could not read: a duration out of range, an unknown enum value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable(
    /// What the value must be.
    pub &'static str,
);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An optional value that may be unreadable. `None`: the field was left out.
pub type Given<T> = Option<Result<T, Unreadable>>;

/// The fields an update names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask<'a>(BTreeSet<&'a str>);

impl<'a> Mask<'a> {
    /// Checks the paths of an update mask. An empty mask, an unknown path and a path that can never change are violations of
    /// `update_mask`; there is no wildcard, since only what is named may change.
    pub fn check(paths: &'a [String], settable: &[&str], immutable: &[&str], violations: &mut Violations) -> Self {
        let mut named = BTreeSet::new();
        if paths.is_empty() {
            violations.add("update_mask", "must name at least one field");
        }
        for (index, path) in paths.iter().enumerate() {
            if settable.contains(&path.as_str()) {
                named.insert(path.as_str());
            } else if immutable.contains(&path.as_str()) {
                violations.add(format!("update_mask.paths[{index}]"), format!("`{path}` cannot be changed"));
            } else {
                violations.add(format!("update_mask.paths[{index}]"), format!("must be one of {}", settable.join(", ")));
            }
        }
        Self(named)
    }

    /// Whether the field may change.
    pub fn names(&self, field: &str) -> bool {
        self.0.contains(field)
    }
}

/// Checks a duration of whole seconds within bounds. `None` when it is a violation.
pub fn whole_seconds(
    field: &str,
    given: Given<Duration>,
    default: Duration,
    bounds: std::ops::RangeInclusive<Duration>,
    violations: &mut Violations,
) -> Option<Duration> {
    let Some(given) = given else { return Some(default) };
    let duration = violations.check(field, given)?;
    if duration.subsec_nanos() != 0 || !bounds.contains(&duration) {
        let (least, most) = (bounds.start().as_secs(), bounds.end().as_secs());
        violations.add(field, format!("must be whole seconds, {least} s to {most} s"));
        return None;
    }
    Some(duration)
}

/// Checks every element of a list that may hold at most `most` different ones. `None` when something is a violation.
pub fn list<T: PartialEq, E: fmt::Display>(
    field: &str,
    written: &[String],
    most: usize,
    parse: impl Fn(&str) -> Result<T, E>,
    violations: &mut Violations,
) -> Option<Vec<T>> {
    if written.len() > most {
        violations.add(field, format!("must hold at most {most} elements"));
        return None;
    }
    let mut elements = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        match parse(text) {
            Ok(element) if elements.contains(&element) => violations.add(format!("{field}[{index}]"), "is named twice"),
            Ok(element) => elements.push(element),
            Err(error) => violations.add(format!("{field}[{index}]"), error.to_string()),
        }
    }
    (elements.len() == written.len()).then_some(elements)
}

/// Checks an optional name: empty text is absence.
pub fn optional<T, E: fmt::Display>(
    field: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
    violations: &mut Violations,
) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { violations.check(field, parse(text)).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_reports_every_bad_path_and_keeps_the_good_ones() {
        let paths = ["name", "id", "*", "name"].map(str::to_owned);
        let mut violations = Violations::new();
        let mask = Mask::check(&paths, &["name", "state"], &["id"], &mut violations);
        assert!(mask.names("name") && !mask.names("state") && !mask.names("id"));
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["update_mask.paths[1]", "update_mask.paths[2]"]);
    }

    #[test]
    fn an_empty_mask_is_refused() {
        let mut violations = Violations::new();
        Mask::check(&[], &["name"], &[], &mut violations);
        assert!(!violations.is_empty());
    }
}
