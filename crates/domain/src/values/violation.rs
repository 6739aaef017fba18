//! What is wrong with a request, all of it at once.

use std::fmt;

/// One thing wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request, in the wire's names: `trust_relationship.subject_matches[2]`.
    pub field: String,
    /// What to do about it, for the caller.
    pub description: String,
}

/// Everything wrong with a request, up to [`Violations::MAX`]. Collect with [`Violations::add`], then [`Violations::into_result`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

/// What the last of too many violations ends with.
const MORE: &str = "; more is wrong, which is left out here";

impl Violations {
    /// The most that are kept. The last then says that there are more, so that a small request cannot ask for a large answer.
    pub const MAX: usize = 100;

    /// An empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes one violation.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.push(Violation { field: field.into(), description: description.into() });
    }

    /// Keeps the value of a check, or notes why there is none.
    pub fn check<T, E: fmt::Display>(&mut self, field: impl Into<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value`, unless something is wrong.
    ///
    /// # Errors
    /// The violations, when there are any.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// The violations in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }

    fn push(&mut self, violation: Violation) {
        if self.0.len() < Self::MAX {
            self.0.push(violation);
        } else if let Some(last) = self.0.last_mut()
            && !last.description.ends_with(MORE)
        {
            last.description.push_str(MORE);
        }
    }
}

impl Extend<Violation> for Violations {
    fn extend<I: IntoIterator<Item = Violation>>(&mut self, more: I) {
        for violation in more {
            self.push(violation);
        }
    }
}

impl IntoIterator for Violations {
    type Item = Violation;
    type IntoIter = std::vec::IntoIter<Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Violation { field, description }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{field}: {description}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_kept_in_order_up_to_the_limit_and_the_last_then_says_so() {
        let mut violations = Violations::new();
        for number in 0..Violations::MAX {
            violations.add(format!("field[{number}]"), "must be shorter");
        }
        assert!(violations.iter().all(|violation| violation.description == "must be shorter"));
        let whole = violations.clone();
        for number in 0..10 {
            violations.add(format!("more[{number}]"), "x");
        }
        violations.extend(whole.clone());
        assert_eq!(violations.iter().count(), Violations::MAX);
        assert!(violations.iter().zip(whole.iter()).all(|(kept, added)| kept.field == added.field));
        let last = violations.iter().last().unwrap();
        assert_eq!(last.description, format!("must be shorter{MORE}"));
    }
}
