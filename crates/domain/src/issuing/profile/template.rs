//! Text with places for values: `org:{org}:vault:{vault}`.

use std::fmt;
use std::str::FromStr;

/// A text with places for values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Box<[Piece]>);

/// One piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text that always stands there. Never empty, and never next to another literal.
    Literal(Box<str>),
    /// The value of this name.
    Value(Box<str>),
}

/// Why a text is not a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidTemplate {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {} bytes long", Template::MAX_BYTES)]
    TooLong,
    #[error("must not hold control characters")]
    Control,
    #[error("must hold braces around names only, as in `{{name}}`")]
    Braces,
}

impl Template {
    /// The most bytes of a template.
    const MAX_BYTES: usize = 512;

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The names of the values, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(name) => Some(&**name),
            Piece::Literal(_) => None,
        })
    }

    /// The text with these values in it; `None` when one is not there.
    pub(super) fn render(&self, value: impl Fn(&str) -> Option<String>) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Value(name) => text.push_str(&value(name)?),
            }
        }
        Some(text)
    }
}

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        if text.is_empty() {
            return Err(InvalidTemplate::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidTemplate::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidTemplate::Control);
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, after) = rest.split_once('{').map_or((rest, None), |(literal, after)| (literal, Some(after)));
            if literal.contains('}') {
                return Err(InvalidTemplate::Braces);
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.into()));
            }
            let Some(after) = after else { break };
            let (name, after) = after.split_once('}').ok_or(InvalidTemplate::Braces)?;
            if name.is_empty() || name.contains('{') {
                return Err(InvalidTemplate::Braces);
            }
            pieces.push(Piece::Value(name.into()));
            rest = after;
        }
        Ok(Self(pieces.into()))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(literal) => f.write_str(literal),
            Piece::Value(name) => write!(f, "{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_its_text() {
        for text in ["org:{org}:vault:{vault}", "{a}", "plain", "{a}{b}", "é{a}"] {
            assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
        }
        let template: Template = "org:{org}:vault:{vault}".parse().unwrap();
        assert_eq!(template.names().collect::<Vec<_>>(), ["org", "vault"]);
        assert_eq!(template.render(|name| Some(name.to_uppercase())).unwrap(), "org:ORG:vault:VAULT");
        assert_eq!(template.render(|name| (name == "org").then(String::new)), None);
    }

    #[test]
    fn other_texts_are_refused() {
        let long = "x".repeat(Template::MAX_BYTES + 1);
        for (text, error) in [
            ("", InvalidTemplate::Empty),
            (long.as_str(), InvalidTemplate::TooLong),
            ("a\n{b}", InvalidTemplate::Control),
            ("{", InvalidTemplate::Braces),
            ("}", InvalidTemplate::Braces),
            ("a}{b}", InvalidTemplate::Braces),
            ("{a", InvalidTemplate::Braces),
            ("{}", InvalidTemplate::Braces),
            ("{{a}}", InvalidTemplate::Braces),
        ] {
            assert_eq!(text.parse::<Template>(), Err(error), "{text:?}");
        }
    }
}
