//! Conditions on claims: what a token must say besides its subject.
//!
//! A condition reads one claim and judges it by type and value. Nothing is coerced: `1` is not `"1"`, `1.9` is not `1`
//! (SECURITY 26). A claim that is missing, null, empty or of another type than the condition asks for satisfies nothing, not even
//! a negation (SECURITY 25): "not `main`" means that the token names another branch, never that it names none. For the same
//! reason presence cannot be negated; what is absent can be asked of CEL.

mod read;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::values::claim_path::{ClaimPath, InvalidClaimPath};
use crate::values::subject_match::{CompiledMatch, InvalidSubjectMatch, SubjectMatch};

/// One condition on one claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "ClaimConditionDraft", into = "ClaimConditionDraft")]
pub struct ClaimCondition {
    /// Which claim.
    pub claim: ClaimPath,
    /// What it must be.
    pub test: ClaimTest,
    /// Whether it must be of that type and *not* be that.
    pub negated: bool,
}

/// What a claim must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimTest {
    /// This value.
    Equals(ClaimValue),
    /// One of these values, all of one type. Never empty.
    OneOf(Vec<ClaimValue>),
    /// Text of this pattern, in the language of [`SubjectMatch`].
    Glob(SubjectMatch),
    /// An array, all of this value's type, with this value in it.
    Contains(ClaimValue),
    /// Anything but null, empty text, an empty array and an empty object.
    Exists,
}

/// A value that claims are compared with.
///
/// Numbers are whole and fit 64 bits, as those are what JSON parsers agree on (RFC 8259, section 6). A claim beyond, or with a
/// fraction, is of another type than any value here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum ClaimValue {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
}

/// How a claim fares against a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimVerdict {
    /// As the condition asks.
    Satisfied,
    /// Of the right type, with another value.
    Unsatisfied,
    /// Not there, or null.
    Missing,
    /// Empty text, array or object.
    Empty,
    /// Of another type than the condition asks for.
    WrongType,
}

impl ClaimCondition {
    /// The most conditions of one relationship.
    pub const MAX: usize = 32;
    /// The most values of one condition.
    pub const MAX_VALUES: usize = 64;
    /// The most bytes of a text to compare with.
    pub const MAX_TEXT: usize = 1024;

    /// The form that can be evaluated.
    pub fn compile(&self) -> CompiledCondition {
        let pattern = match &self.test {
            ClaimTest::Glob(pattern) => Some(pattern.compile()),
            _ => None,
        };
        CompiledCondition { written: self.clone(), pattern }
    }

    /// Whether the condition leaves few enough tokens to stand in place of a subject: it says what the claim is, not what it is
    /// not, and by more than its presence or truth.
    pub fn pins(&self) -> bool {
        let tells_apart = |value: &ClaimValue| !matches!(value, ClaimValue::Boolean(_));
        !self.negated
            && match &self.test {
                ClaimTest::Equals(value) | ClaimTest::Contains(value) => tells_apart(value),
                ClaimTest::OneOf(values) => values.iter().all(tells_apart),
                ClaimTest::Glob(pattern) => !pattern.is_bare_wildcard(),
                ClaimTest::Exists => false,
            }
    }

    /// The values of which the claim must be one, when the condition names them.
    pub fn values(&self) -> Option<&[ClaimValue]> {
        match &self.test {
            ClaimTest::Equals(value) if !self.negated => Some(std::slice::from_ref(value)),
            ClaimTest::OneOf(values) if !self.negated => Some(values),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), InvalidClaimCondition> {
        match &self.test {
            ClaimTest::Exists if self.negated => Err(InvalidClaimCondition::AbsenceAsked),
            ClaimTest::Equals(value) | ClaimTest::Contains(value) => check_value(value),
            ClaimTest::OneOf(values) => {
                if values.len() > Self::MAX_VALUES {
                    return Err(InvalidClaimCondition::TooManyValues);
                }
                values.iter().try_for_each(check_value)?;
                let one_type = values.windows(2).all(|pair| matches!(pair, [a, b] if a.type_name() == b.type_name()));
                if one_type { Ok(()) } else { Err(InvalidClaimCondition::MixedTypes) }
            }
            ClaimTest::Glob(_) | ClaimTest::Exists => Ok(()),
        }
    }
}

/// A condition that can be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledCondition {
    written: ClaimCondition,
    /// That of a glob.
    pattern: Option<CompiledMatch>,
}

impl CompiledCondition {
    /// The condition as written.
    pub fn written(&self) -> &ClaimCondition {
        &self.written
    }

    /// How the claim fares among these members of a token.
    pub fn judge(&self, members: &Map<String, Value>) -> ClaimVerdict {
        self.written.claim.find(members).map_or(ClaimVerdict::Missing, |value| self.judge_value(value))
    }

    /// How a value fares in place of the claim.
    pub fn judge_value(&self, value: &Value) -> ClaimVerdict {
        match value {
            Value::Null => return ClaimVerdict::Missing,
            Value::String(text) if text.is_empty() => return ClaimVerdict::Empty,
            Value::Array(elements) if elements.is_empty() => return ClaimVerdict::Empty,
            Value::Object(members) if members.is_empty() => return ClaimVerdict::Empty,
            _ => {}
        }
        match self.accepts(value) {
            None => ClaimVerdict::WrongType,
            Some(accepts) if accepts != self.written.negated => ClaimVerdict::Satisfied,
            Some(_) => ClaimVerdict::Unsatisfied,
        }
    }

    /// Whether the value passes; `None` when it is of another type than the test is about.
    fn accepts(&self, value: &Value) -> Option<bool> {
        match (&self.written.test, value) {
            (ClaimTest::Equals(expected), _) => expected.equals(value),
            // All of one type, so either all of them can be compared with the claim or none.
            (ClaimTest::OneOf(expected), _) => {
                expected.iter().try_fold(false, |found, expected| Some(expected.equals(value)? || found))
            }
            (ClaimTest::Glob(_), Value::String(text)) => self.pattern.as_ref().map(|pattern| pattern.accepts(text)),
            (ClaimTest::Contains(expected), Value::Array(elements)) => {
                elements.iter().try_fold(false, |found, element| Some(expected.equals(element)? || found))
            }
            (ClaimTest::Glob(_) | ClaimTest::Contains(_), _) => None,
            (ClaimTest::Exists, _) => Some(true),
        }
    }
}

impl ClaimValue {
    /// Whether a claim is this; `None` when it is of another type.
    pub fn equals(&self, value: &Value) -> Option<bool> {
        match (self, value) {
            (Self::Text(expected), Value::String(text)) => Some(expected == text),
            // Above `i64::MAX` is a whole number, and another one; what has a fraction or an exponent is none.
            (Self::Integer(expected), Value::Number(number)) if !number.is_f64() => Some(number.as_i64() == Some(*expected)),
            (Self::Boolean(expected), Value::Bool(truth)) => Some(expected == truth),
            _ => None,
        }
    }

    /// The value of a claim, when it is of a type that can be compared with.
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Number(number) => number.as_i64().map(Self::Integer),
            Value::Bool(truth) => Some(Self::Boolean(*truth)),
            _ => None,
        }
    }

    /// What the type is called.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
        }
    }
}

fn check_value(value: &ClaimValue) -> Result<(), InvalidClaimCondition> {
    match value {
        ClaimValue::Text(text) if text.is_empty() => Err(InvalidClaimCondition::EmptyText),
        ClaimValue::Text(text) if text.len() > ClaimCondition::MAX_TEXT => Err(InvalidClaimCondition::TextTooLong),
        _ => Ok(()),
    }
}

/// Why something is not a claim condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClaimCondition {
    /// The path is none.
    #[error("claim {0}")]
    Path(#[from] InvalidClaimPath),
    /// The pattern is none.
    #[error("glob {0}")]
    Glob(#[from] InvalidSubjectMatch),
    /// No test, or several.
    #[error("must hold exactly one of equals, one_of, glob, contains and exists")]
    NotOneTest,
    /// `exists` that is negated.
    #[error("cannot ask for the absence of a claim: a missing claim satisfies no condition; use a CEL condition with `!has(…)`")]
    AbsenceAsked,
    /// Empty text, which no claim satisfies.
    #[error("must not compare with empty text: an empty claim satisfies no condition")]
    EmptyText,
    /// Text that is too long.
    #[error("must compare with text of at most {} bytes", ClaimCondition::MAX_TEXT)]
    TextTooLong,
    /// Values of several types.
    #[error("one_of must hold values of one type")]
    MixedTypes,
    /// Too many values.
    #[error("one_of must hold at most {} values", ClaimCondition::MAX_VALUES)]
    TooManyValues,
    /// A value of no type that can be compared with.
    #[error("must compare with text, a whole number of 64 bits, true or false")]
    NoValue,
}

/// A claim condition as somebody wrote it; also the form in which it is stored, and written in JSON and YAML:
/// `{"claim": "ref_protected", "equals": "true"}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimConditionDraft {
    /// The path.
    pub claim: String,
    /// The value it must equal.
    #[serde(default, deserialize_with = "read::equals", skip_serializing_if = "Option::is_none")]
    pub equals: Option<ClaimValue>,
    /// The values of which it must be one.
    #[serde(default, deserialize_with = "read::one_of", skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<ClaimValue>,
    /// The pattern it must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// The element it must have.
    #[serde(default, deserialize_with = "read::contains", skip_serializing_if = "Option::is_none")]
    pub contains: Option<ClaimValue>,
    /// Whether its presence is enough.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exists: bool,
    /// Whether the test must fail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negated: bool,
}

impl TryFrom<ClaimConditionDraft> for ClaimCondition {
    type Error = InvalidClaimCondition;

    fn try_from(draft: ClaimConditionDraft) -> Result<Self, InvalidClaimCondition> {
        let ClaimConditionDraft { claim, equals, one_of, glob, contains, exists, negated } = draft;
        let glob = glob.map(|text| text.parse()).transpose()?.map(ClaimTest::Glob);
        let one_of = (!one_of.is_empty()).then_some(ClaimTest::OneOf(one_of));
        let exists = exists.then_some(ClaimTest::Exists);
        let tests = [equals.map(ClaimTest::Equals), one_of, glob, contains.map(ClaimTest::Contains), exists];
        let mut tests = tests.into_iter().flatten();
        let (Some(test), None) = (tests.next(), tests.next()) else { return Err(InvalidClaimCondition::NotOneTest) };
        let condition = Self { claim: claim.parse()?, test, negated };
        condition.check()?;
        Ok(condition)
    }
}

impl From<ClaimCondition> for ClaimConditionDraft {
    fn from(condition: ClaimCondition) -> Self {
        let written = Self { claim: condition.claim.into(), negated: condition.negated, ..Self::default() };
        match condition.test {
            ClaimTest::Equals(value) => Self { equals: Some(value), ..written },
            ClaimTest::OneOf(values) => Self { one_of: values, ..written },
            ClaimTest::Glob(pattern) => Self { glob: Some(pattern.into()), ..written },
            ClaimTest::Contains(value) => Self { contains: Some(value), ..written },
            ClaimTest::Exists => Self { exists: true, ..written },
        }
    }
}

impl fmt::Display for ClaimValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", Value::from(text.as_str())),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(truth) => write!(f, "{truth}"),
        }
    }
}

/// As a sentence: `ref is "refs/heads/main"`, `amr does not contain "unauthenticated"`.
impl fmt::Display for ClaimCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = if self.negated { "is not" } else { "is" };
        write!(f, "{} ", self.claim)?;
        match &self.test {
            ClaimTest::Equals(value) => write!(f, "{is} {value}"),
            ClaimTest::OneOf(values) => {
                write!(f, "{is} one of ")?;
                values.iter().enumerate().try_for_each(|(place, value)| {
                    let separator = if place == 0 { "" } else { ", " };
                    write!(f, "{separator}{value}")
                })
            }
            ClaimTest::Glob(pattern) => write!(f, "{is} like {}", Value::from(pattern.as_str())),
            ClaimTest::Contains(value) if self.negated => write!(f, "does not contain {value}"),
            ClaimTest::Contains(value) => write!(f, "contains {value}"),
            ClaimTest::Exists => write!(f, "exists"),
        }
    }
}

#[cfg(test)]
mod tests;
