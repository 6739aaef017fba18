//! What a change of a trust relationship means: does it accept more tokens, or give them more, than before?
//!
//! Every field is compared by itself, both ways: does what is new lie within what was, and what was within what is new? A change is
//! narrower when that holds of every field, so that no token, asking for anything at any time, gets from the relationship what
//! it did not get before; broader is the reverse. When neither can be shown the change is different. The answer is about the one
//! relationship, as a client may name it: which of several wins for one who names none is no part of it.

mod conditions;
mod given;
mod patterns;

use std::fmt;

use serde::Serialize;

use crate::trust::trust_relationship::TrustRelationshipSettings;

pub(crate) use patterns::covers;

/// What a change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The same tokens get the same.
    Unchanged,
    /// Nobody gets more, and somebody may get less.
    Narrower,
    /// Nobody gets less, and somebody may get more.
    Broader,
    /// Somebody may get more, somebody less, or the same people something else.
    Different,
}

/// What one part of a change means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The field, as on the wire; empty when it is the relationship as a whole.
    pub field: &'static str,
    /// What it means.
    pub change: Change,
    /// Why, for people.
    pub description: String,
}

/// What a change means, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// All of it together.
    pub change: Change,
    /// What every part means. A name is no part: it changes nothing for a token.
    pub reasons: Vec<Reason>,
}

/// Compares two versions of a relationship of one trusted issuer; `None` is one that does not exist.
pub fn compare(before: Option<&TrustRelationshipSettings>, after: Option<&TrustRelationshipSettings>) -> Comparison {
    let mut reasons = Reasons::default();
    match (before, after) {
        (None, None) => {}
        (None, Some(_)) => reasons.add("", Change::Broader, "the relationship is new"),
        (Some(_), None) => reasons.add("", Change::Narrower, "the relationship is gone"),
        (Some(before), Some(after)) => {
            given::enabled(before, after, &mut reasons);
            given::expiry(before, after, &mut reasons);
            patterns::subject_matches(before, after, &mut reasons);
            patterns::subject_audiences(before, after, &mut reasons);
            conditions::claim_conditions(before, after, &mut reasons);
            conditions::cel_condition(before, after, &mut reasons);
            conditions::attribute_mapping(before, after, &mut reasons);
            given::access_token_audiences(before, after, &mut reasons);
            given::scopes(before, after, &mut reasons);
            given::grants(before, after, &mut reasons);
            given::token_duration(before, after, &mut reasons);
        }
    }
    let change = reasons.0.iter().fold(Change::Unchanged, |all, reason| all.and(reason.change));
    Comparison { change, reasons: reasons.0 }
}

impl Change {
    /// What both together mean.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unchanged, one) | (one, Self::Unchanged) => one,
            (Self::Narrower, Self::Narrower) => Self::Narrower,
            (Self::Broader, Self::Broader) => Self::Broader,
            _ => Self::Different,
        }
    }

    /// Whether somebody may get what he did not get before.
    pub const fn may_give_more(self) -> bool {
        matches!(self, Self::Broader | Self::Different)
    }

    /// In one word: `narrower`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Narrower => "narrower",
            Self::Broader => "broader",
            Self::Different => "different",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.field.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}", self.field, self.description)
    }
}

#[derive(Debug, Default)]
struct Reasons(Vec<Reason>);

impl Reasons {
    fn add(&mut self, field: &'static str, change: Change, description: impl Into<String>) {
        self.0.push(Reason { field, change, description: description.into() });
    }

    /// Notes what either of two lists holds and the other does not cover: what is added makes the relationship broader, what is
    /// removed narrower.
    fn lists<T: PartialEq>(
        &mut self,
        field: &'static str,
        [before, after]: [&[T]; 2],
        covered: impl Fn(&T, &[T]) -> bool,
        [added, removed]: [&dyn Fn(&T) -> String; 2],
    ) {
        let noted = self.0.len();
        for element in after.iter().filter(|element| !covered(element, before)) {
            self.add(field, Change::Broader, added(element));
        }
        for element in before.iter().filter(|element| !covered(element, after)) {
            self.add(field, Change::Narrower, removed(element));
        }
        let same = before.len() == after.len() && before.iter().all(|element| after.contains(element));
        if self.0.len() == noted && !same {
            self.add(field, Change::Unchanged, "is written differently and means the same");
        }
    }
}

#[cfg(test)]
mod tests;
