//! Text as editors, shells and other programs write it: with byte order marks, in UTF-16, quoted.

use std::fmt;

/// What a file is in place of text in UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// UTF-16, with or without a byte order mark.
    #[error("is UTF-16, as PowerShell writes it; write it as UTF-8, for example with `Out-File -Encoding ascii`")]
    Utf16,
    /// Anything else.
    #[error("is not UTF-8 text")]
    Binary,
}

/// The text in a file, without a UTF-8 byte order mark.
///
/// # Errors
/// It is not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<&str, NotText> {
    // ASCII in UTF-16 is valid UTF-8, with a zero byte beside each character.
    let has_zeros = |offset: usize| {
        bytes.len() >= 4 && bytes.len().is_multiple_of(2) && bytes.iter().skip(offset).step_by(2).take(8).all(|byte| *byte == 0)
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || has_zeros(0) || has_zeros(1) {
        return Err(NotText::Utf16);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NotText::Binary)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAToken {
    /// Nothing but white space and quotes.
    Empty,
    /// A JSON document, such as the answer that a token came in.
    Json,
    /// More than one word.
    WhiteSpace,
}

impl NotAToken {
    /// What is wrong, as the rest of a sentence about the file.
    pub const fn problem(self) -> &'static str {
        match self {
            Self::Empty => "is empty",
            Self::Json => "contains JSON rather than a bare token; extract the token, for example with `jq -r .value`",
            Self::WhiteSpace => "contains white space inside the token; a token is one line without spaces",
        }
    }
}

impl fmt::Display for NotAToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem())
    }
}

impl std::error::Error for NotAToken {}

/// The bare token in a text: without byte order mark, white space, quotes and `Bearer ` around it.
///
/// # Errors
/// There is none, or more than one word.
pub fn token(text: &str) -> Result<&str, NotAToken> {
    let mut token = text;
    loop {
        let mut rest = token.trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}');
        for quote in ['"', '\'', '`'] {
            rest = rest.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote)).unwrap_or(rest);
        }
        rest = without_scheme(without_prefix(rest, "authorization:"));
        if rest.len() == token.len() {
            break;
        }
        token = rest;
    }
    match token {
        "" => Err(NotAToken::Empty),
        _ if token.starts_with(['{', '[']) => Err(NotAToken::Json),
        _ if token.contains(char::is_whitespace) => Err(NotAToken::WhiteSpace),
        token => Ok(token),
    }
}

fn without_scheme(text: &str) -> &str {
    let rest = without_prefix(text, "bearer");
    if rest.starts_with(char::is_whitespace) { rest } else { text }
}

fn without_prefix<'a>(text: &'a str, prefix: &str) -> &'a str {
    match text.split_at_checked(prefix.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(prefix) => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_dropped_and_utf_16_is_named() {
        assert_eq!(decode(b"\xef\xbb\xbfa.b.c"), Ok("a.b.c"));
        assert_eq!(decode(b"a.b.c"), Ok("a.b.c"));
        assert_eq!(decode(b""), Ok(""));
        let utf16 = |text: &str, little: bool| -> Vec<u8> {
            text.encode_utf16().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
        };
        for little in [true, false] {
            for text in ["a.b.c", "\u{feff}a.b.c", "\u{feff}a.b.c\r\n", "\u{feff}"] {
                assert_eq!(decode(&utf16(text, little)), Err(NotText::Utf16), "{text:?}");
            }
        }
        assert_eq!(decode(b"a\xff"), Err(NotText::Binary));
    }

    #[test]
    fn a_token_is_found_whatever_stands_around_it() {
        for text in [
            "a.b.c",
            " a.b.c\r\n",
            "\u{feff}a.b.c",
            "\"a.b.c\"\n",
            "'a.b.c'",
            "Bearer a.b.c",
            "bearer   a.b.c\n",
            "\"Bearer a.b.c\"",
            "Bearer \"a.b.c\"",
            "Authorization: Bearer a.b.c",
            "\u{feff}\"a.b.c\"",
        ] {
            assert_eq!(token(text), Ok("a.b.c"), "{text:?}");
        }
        assert_eq!(token("bearer"), Ok("bearer"), "an opaque token can be any word");
        assert_eq!(token("bearerish"), Ok("bearerish"));
        for (text, problem) in [
            ("", NotAToken::Empty),
            (" \"\" ", NotAToken::Empty),
            ("{\"value\":\"a.b.c\"}", NotAToken::Json),
            ("a.b\n.c", NotAToken::WhiteSpace),
            ("a.b.c a.b.c", NotAToken::WhiteSpace),
        ] {
            assert_eq!(token(text), Err(problem), "{text:?}");
        }
    }
}
