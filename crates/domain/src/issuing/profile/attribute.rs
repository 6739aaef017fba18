//! Attributes of a run: what a value of each must be.

use serde_json::Value;

use super::definition::AttributeDefinition;
use crate::trust::cel::CelExpression;
use crate::values::subject_match::CompiledMatch;

/// The most bytes the value of an attribute may have.
pub const MAX_ATTRIBUTE_BYTES: usize = 256;

/// What the value of an attribute is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttributeKind {
    Text,
    /// A whole number of 64 bits, written without plus sign or leading zeros.
    Integer,
    /// `true` or `false`.
    Boolean,
}

/// Characters that are worth a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CharacterClass {
    /// 0 to 9.
    Digits,
    /// What a UUID in lower case consists of.
    Uuid,
    /// What one label of a host name consists of.
    Label,
}

/// A declared attribute.
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    pub(super) kind: AttributeKind,
    pub(super) required: bool,
    pub(super) allowed_values: Box<[String]>,
    pub(super) pattern: Option<CompiledMatch>,
    pub(super) characters: Option<CharacterClass>,
    pub(super) default: Option<CelExpression>,
}

/// Why a value is none of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidValue {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {MAX_ATTRIBUTE_BYTES} bytes long")]
    TooLong,
    #[error("must not hold control characters")]
    Control,
    #[error("must be {0}")]
    Kind(&'static str),
    #[error("must be one of {0}")]
    NotAllowed(String),
    #[error("must look like `{0}`")]
    Pattern(String),
    #[error("must consist of {0}")]
    Characters(&'static str),
}

impl AttributeKind {
    pub(super) const NAMES: &str = "text, integer, boolean";

    /// The kind of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "" | "text" => Self::Text,
            "integer" => Self::Integer,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "a whole number of 64 bits without leading zeros",
            Self::Boolean => "true or false",
        }
    }

    fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::Text => Some(text.into()),
            // Two texts of one number would be two attribute sets with one meaning.
            Self::Integer => text.parse::<i64>().ok().filter(|number| number.to_string() == text).map(Value::from),
            Self::Boolean => text.parse::<bool>().ok().map(Value::from),
        }
    }

    /// Whether a text of this kind can hold the character.
    fn can_hold(self, character: char) -> bool {
        match self {
            Self::Text => true,
            Self::Integer => character == '-' || character.is_ascii_digit(),
            Self::Boolean => "truefalse".contains(character),
        }
    }
}

impl CharacterClass {
    pub(super) const NAMES: &str = "digits, uuid, label";

    /// The class of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "digits" => Self::Digits,
            "uuid" => Self::Uuid,
            "label" => Self::Label,
            _ => return None,
        })
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Uuid => "the digits of a UUID in lower case, and `-`",
            Self::Label => "lower-case letters, digits and `-`",
        }
    }

    const fn holds(self, character: char) -> bool {
        match self {
            Self::Digits => character.is_ascii_digit(),
            Self::Uuid => matches!(character, '0'..='9' | 'a'..='f' | '-'),
            Self::Label => matches!(character, 'a'..='z' | '0'..='9' | '-'),
        }
    }
}

impl Attribute {
    /// The typed value of a text.
    pub(super) fn read(&self, text: &str) -> Result<Value, InvalidValue> {
        self.check_text(text)?;
        self.kind.read(text).ok_or(InvalidValue::Kind(self.kind.description()))
    }

    /// Holds a value that was computed against the same rules.
    pub(super) fn check(&self, value: &Value) -> Result<(), InvalidValue> {
        let right = match self.kind {
            AttributeKind::Text => value.is_string(),
            AttributeKind::Integer => value.is_i64(),
            AttributeKind::Boolean => value.is_boolean(),
        };
        let text = text_of(value).filter(|_| right).ok_or(InvalidValue::Kind(self.kind.description()))?;
        self.check_text(&text)
    }

    /// Whether a value can hold the character.
    pub(super) fn can_hold(&self, character: char) -> bool {
        let allowed = &self.allowed_values;
        self.kind.can_hold(character)
            && self.characters.is_none_or(|class| class.holds(character))
            && (allowed.is_empty() || allowed.iter().any(|value| value.contains(character)))
    }

    fn check_text(&self, text: &str) -> Result<(), InvalidValue> {
        if text.is_empty() {
            return Err(InvalidValue::Empty);
        }
        if text.len() > MAX_ATTRIBUTE_BYTES {
            return Err(InvalidValue::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidValue::Control);
        }
        if !self.allowed_values.is_empty() && !self.allowed_values.iter().any(|allowed| allowed == text) {
            return Err(InvalidValue::NotAllowed(self.allowed_values.join(", ")));
        }
        if let Some(class) = self.characters.filter(|class| !text.chars().all(|character| class.holds(character))) {
            return Err(InvalidValue::Characters(class.description()));
        }
        match &self.pattern {
            Some(pattern) if !pattern.accepts(text) => Err(InvalidValue::Pattern(pattern.to_string())),
            _ => Ok(()),
        }
    }
}

impl AttributeDefinition {
    /// Whether it restricts text, which only text can be.
    pub(super) fn restricts_text(&self) -> bool {
        !self.pattern.is_empty() || !self.characters.is_empty()
    }
}

/// A value as it stands in a text; lists do not.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attribute(kind: AttributeKind) -> Attribute {
        Attribute { kind, required: true, allowed_values: Box::default(), pattern: None, characters: None, default: None }
    }

    #[test]
    fn a_value_has_one_text() {
        let integer = attribute(AttributeKind::Integer);
        assert_eq!(integer.read("-17"), Ok(json!(-17)));
        for text in ["017", "+17", "-0", "1.0", "1e3", "9223372036854775808", "seven"] {
            assert_eq!(integer.read(text), Err(InvalidValue::Kind("a whole number of 64 bits without leading zeros")), "{text}");
        }
        let boolean = attribute(AttributeKind::Boolean);
        assert_eq!(boolean.read("true"), Ok(json!(true)));
        for text in ["True", "1", "yes"] {
            assert_eq!(boolean.read(text), Err(InvalidValue::Kind("true or false")), "{text}");
        }
    }

    #[test]
    fn every_rule_of_a_text_holds() {
        let text = attribute(AttributeKind::Text);
        assert_eq!(text.read("a:b/c"), Ok(json!("a:b/c")));
        assert_eq!(text.read(""), Err(InvalidValue::Empty));
        assert_eq!(text.read(&"x".repeat(MAX_ATTRIBUTE_BYTES + 1)), Err(InvalidValue::TooLong));
        assert_eq!(text.read("a\u{85}"), Err(InvalidValue::Control));
        let one_of = Attribute { allowed_values: Box::new(["stack".to_owned(), "module".to_owned()]), ..text.clone() };
        assert!(one_of.read("stack").is_ok());
        assert_eq!(one_of.read("Stack"), Err(InvalidValue::NotAllowed("stack, module".to_owned())));
        let digits = Attribute { characters: Some(CharacterClass::Digits), ..text.clone() };
        assert!(digits.read("007").is_ok());
        assert_eq!(digits.read("7f"), Err(InvalidValue::Characters("digits")));
        let pattern = Attribute {
            pattern: Some("team-*".parse::<crate::values::subject_match::SubjectMatch>().unwrap().compile()),
            ..text
        };
        assert!(pattern.read("team-a").is_ok());
        assert_eq!(pattern.read("a-team-"), Err(InvalidValue::Pattern("team-*".to_owned())));
    }

    #[test]
    fn a_computed_value_has_the_attributes_kind() {
        assert!(attribute(AttributeKind::Integer).check(&json!(1)).is_ok());
        for (kind, value) in [
            (AttributeKind::Integer, json!("1")),
            (AttributeKind::Integer, json!(u64::MAX)),
            (AttributeKind::Boolean, json!("true")),
            (AttributeKind::Text, json!(true)),
            (AttributeKind::Text, json!(["a"])),
        ] {
            assert!(attribute(kind).check(&value).is_err(), "{kind:?} {value}");
        }
    }
}
