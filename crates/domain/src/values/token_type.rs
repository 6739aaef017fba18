//! The `typ` of a token, which is a media type (RFC 7515, section 4.1.9).

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A media type as a `typ` header or a list of accepted types writes it.
///
/// Two spellings are equal when they name one media type: without regard to case (RFC 2045, section 5.1), and with or without
/// `application/`. Parameters, which no issuer is known to write, are compared as they are written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct TokenType {
    written: Box<str>,
    canonical: Box<str>,
}

impl TokenType {
    /// Takes a text as a media type. Every text is one here: a text that names no media type equals itself alone.
    pub fn new(written: &str) -> Self {
        let (name, parameters) = written.split_at(written.find(';').unwrap_or(written.len()));
        // "A recipient using the media type value MUST treat it as if 'application/' were prepended to any 'typ' value not
        // containing a '/'."
        let prefix = if written.contains('/') { "" } else { "application/" };
        let canonical = format!("{prefix}{}{parameters}", name.to_ascii_lowercase());
        Self { written: written.into(), canonical: canonical.into() }
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl PartialEq for TokenType {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }
}

impl Eq for TokenType {}

impl PartialOrd for TokenType {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TokenType {
    fn cmp(&self, other: &Self) -> Ordering {
        self.canonical.cmp(&other.canonical)
    }
}

impl From<String> for TokenType {
    fn from(written: String) -> Self {
        Self::new(&written)
    }
}

impl From<TokenType> for String {
    fn from(token_type: TokenType) -> Self {
        token_type.written.into()
    }
}

impl fmt::Display for TokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Debug for TokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.written, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let (one, other) = (TokenType::new(one), TokenType::new(other));
        assert_eq!(one == other, one.cmp(&other).is_eq(), "{one} {other}");
        assert_eq!(one.partial_cmp(&other), Some(one.cmp(&other)), "{one} {other}");
        one == other
    }

    #[test]
    fn s08_a_media_type_has_one_meaning_in_every_spelling() {
        for (one, other) in [
            ("JWT", "jwt"),
            ("JWT", "application/jwt"),
            ("jWt", "APPLICATION/JwT"),
            ("at+jwt", "Application/AT+JWT"),
            ("text/x", "TEXT/X"),
            ("a;p=X", "A;p=X"),
        ] {
            assert!(same(one, other) && same(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("JWT", "JWS"),
            ("JWT", "at+jwt"),
            ("JWT", "jwt "),
            ("JWT", " jwt"),
            ("JWT", "/jwt"),
            ("JWT", "jwt/"),
            ("JWT", "application/"),
            ("JWT", "application/application/jwt"),
            ("JWT", "text/jwt"),
            ("JWT", "application/jwt;p=x"),
            ("JWT", ""),
            ("", "application/x"),
            // The Kelvin sign and the long s fold to k and s in Unicode, not in media types.
            ("k", "\u{212a}"),
            ("s", "\u{17f}"),
            // Values of parameters have a case. A slash in one is a slash in the value.
            ("a;p=X", "a;p=x"),
            ("application/a;p=\"/\"", "a;p=\"/\""),
        ] {
            assert!(!same(one, other) && !same(other, one), "{one} {other}");
        }
    }

    #[test]
    fn a_type_is_shown_as_it_was_written_and_listed_once() {
        let types: BTreeSet<TokenType> = ["Application/JWT", "jwt", "JWS"].map(TokenType::new).into();
        assert_eq!(types.len(), 2);
        assert!(types.contains(&TokenType::new("application/jws")));
        assert_eq!(TokenType::new("Application/JWT").to_string(), "Application/JWT");
        let json = serde_json::to_string(&TokenType::new("Application/JWT")).unwrap();
        assert_eq!(json, r#""Application/JWT""#);
        let read: TokenType = serde_json::from_str(&json).unwrap();
        assert_eq!((read.as_str(), format!("{read:?}")), ("Application/JWT", json));
    }
}
