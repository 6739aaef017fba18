//! Bounds on the text of an expression, before a parser sees it, and on its numbers, which a parser rounds.
//!
//! The parser and everything behind it recurse; how deep is bounded by the number of tokens. To count them safely the ways of
//! writing text are cut down to those that cannot be misread: `'…'` and `"…"` with backslash escapes on one line.

use crate::values::inexact::is_exact;

/// The most bytes of an expression.
pub(super) const MAX_BYTES: usize = 1024;
/// The most tokens: names, numbers, texts, and each character of an operator.
const MAX_TOKENS: usize = 256;
/// The most brackets that are open at once.
const MAX_BRACKETS: usize = 12;

/// Why a text is not parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Nothing is there.
    #[error("must not be empty")]
    Empty,
    /// Too many bytes.
    #[error("must be at most {MAX_BYTES} bytes long")]
    TooLong,
    /// Too many names, numbers, texts and operators.
    #[error("must hold at most {MAX_TOKENS} names, numbers, texts and operators")]
    TooManyTokens,
    /// Brackets in brackets in brackets.
    #[error("must nest brackets at most {MAX_BRACKETS} deep")]
    TooDeep,
    /// Text that is raw, bytes or tripled.
    #[error("must write text as '…' or \"…\", without r, b or three quotation marks")]
    TextForm,
    /// Text without end.
    #[error("must close its text on the same line")]
    OpenText,
    /// A comment.
    #[error("must hold no comment")]
    Comment,
    /// A character that no expression needs outside of text.
    #[error("must hold nothing but ASCII without control characters outside of text")]
    Character,
    /// A whole number that needs more than 64 bits.
    #[error(
        "contains `{0}`, which 64 bits cannot represent; whole numbers are from -9223372036854775808 to 18446744073709551615, those \
         above 9223372036854775807 with the suffix `u`"
    )]
    NumberTooLarge(Box<str>),
    /// A number with a fraction or an exponent that a double changes, or cannot tell from its neighbours.
    #[error(
        "contains `{0}`, which a double cannot represent exactly; a number with a fraction or an exponent has at most 15 digits and \
         an absolute value below 9007199254740992"
    )]
    NumberInexact(Box<str>),
}

/// Checks the bounds.
pub(super) fn check(source: &str) -> Result<(), InvalidText> {
    if source.trim().is_empty() {
        return Err(InvalidText::Empty);
    }
    if source.len() > MAX_BYTES {
        return Err(InvalidText::TooLong);
    }
    let (mut tokens, mut open): (usize, usize) = (0, 0);
    let mut rest = source.chars().peekable();
    let mut in_word = false;
    while let Some(character) = rest.next() {
        let continues = in_word;
        in_word = false;
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => {
                in_word = true;
                tokens += usize::from(!continues);
            }
            ' ' | '\n' | '\r' | '\t' => {}
            '\'' | '"' => {
                // Directly behind a word it would be a prefix; behind another text, a tripled mark.
                if continues || !skip_text(character, &mut rest)? {
                    return Err(InvalidText::TextForm);
                }
                tokens += 1;
            }
            '/' if rest.peek() == Some(&'/') => return Err(InvalidText::Comment),
            '(' | '[' | '{' => {
                open += 1;
                tokens += 1;
            }
            ')' | ']' | '}' => {
                open = open.saturating_sub(1);
                tokens += 1;
            }
            '!'..='~' if character != '`' => tokens += 1,
            _ => return Err(InvalidText::Character),
        }
        if open > MAX_BRACKETS {
            return Err(InvalidText::TooDeep);
        }
        if tokens > MAX_TOKENS {
            return Err(InvalidText::TooManyTokens);
        }
    }
    check_numbers(source)
}

/// Checks every number outside of text.
fn check_numbers(source: &str) -> Result<(), InvalidText> {
    let bytes = source.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let (mut at, mut is_negative) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        let length = match byte {
            b'\'' | b'"' => text_length(bytes.get(at..).unwrap_or_default()),
            _ if is_digit(at) || byte == b'.' && is_digit(at + 1) => {
                let rest = source.get(at..).unwrap_or_default();
                let number = rest.get(..number_length(rest.as_bytes())).unwrap_or(rest);
                check_number(number, is_negative)?;
                number.len()
            }
            _ => word_length(bytes.get(at..).unwrap_or_default()).max(1),
        };
        if !byte.is_ascii_whitespace() {
            is_negative = byte == b'-';
        }
        at += length;
    }
    Ok(())
}

fn check_number(number: &str, is_negative: bool) -> Result<(), InvalidText> {
    let (digits, is_unsigned) = number.strip_suffix(['u', 'U']).map_or((number, false), |digits| (digits, true));
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    if hexadecimal.is_none() && digits.contains(['.', 'e', 'E']) {
        return if is_exact(digits) { Ok(()) } else { Err(InvalidText::NumberInexact(number.into())) };
    }
    let value = hexadecimal.map_or_else(|| digits.parse(), |digits| u64::from_str_radix(digits, 16));
    let limit = if is_unsigned { u64::MAX } else { i64::MAX.unsigned_abs() + u64::from(is_negative) };
    if value.is_ok_and(|value| value <= limit) { Ok(()) } else { Err(InvalidText::NumberTooLarge(number.into())) }
}

/// The bytes of a text with its marks.
fn text_length(bytes: &[u8]) -> usize {
    let Some((mark, mut rest)) = bytes.split_first() else { return 0 };
    while let Some((byte, behind)) = rest.split_first() {
        rest = if *byte == b'\\' { behind.get(1..).unwrap_or_default() } else { behind };
        if byte == mark {
            break;
        }
    }
    bytes.len() - rest.len()
}

fn word_length(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// The bytes of a number of CEL: `1`, `1u`, `0x1f`, `.5`, `1.5e-3`.
fn number_length(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    if bytes.starts_with(b"0x") || bytes.starts_with(b"0X") {
        return word_length(bytes);
    }
    let mut length = digits(0);
    if bytes.get(length) == Some(&b'.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let power = digits(length + 1 + sign);
        length += if power > 0 { 1 + sign + power } else { 0 };
    }
    length + usize::from(matches!(bytes.get(length), Some(b'u' | b'U')))
}

/// Leaves the rest behind the closing mark. False when another mark follows at once.
fn skip_text(mark: char, rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<bool, InvalidText> {
    loop {
        match rest.next() {
            Some('\\') => {
                rest.next();
            }
            Some('\n' | '\r') | None => return Err(InvalidText::OpenText),
            Some(character) if character == mark => return Ok(!matches!(rest.peek(), Some('\'' | '"'))),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s32_limits_of_the_text_are_exact() {
        for (fine, more, refused) in [
            ("a ".repeat(256), "a ".repeat(257), InvalidText::TooManyTokens),
            ("<".repeat(256), "<".repeat(257), InvalidText::TooManyTokens),
            ("'' ".repeat(256), "'' ".repeat(257), InvalidText::TooManyTokens),
            ("()".repeat(128), "()".repeat(129), InvalidText::TooManyTokens),
            ("([{".repeat(4), format!("{}(", "([{".repeat(4)), InvalidText::TooDeep),
            (format!("{}))(", "(".repeat(12)), format!("{})((", "(".repeat(12)), InvalidText::TooDeep),
            (format!("'{}'", "é".repeat(511)), format!("'{}é'", "é".repeat(511)), InvalidText::TooLong),
            (format!("a{}", " ".repeat(1023)), format!("a{}", " ".repeat(1024)), InvalidText::TooLong),
        ] {
            assert_eq!(check(&fine), Ok(()), "{fine}");
            assert_eq!(check(&more), Err(refused), "{more}");
        }
    }

    #[test]
    fn s32_numbers_end_where_the_parser_ends_them_and_none_are_in_text() {
        let large = "99999999999999999999";
        for source in [
            format!("'{large}'"),
            format!("\"'{large}\" + '{large}\"'"),
            format!(r"'\'{large}'"),
            format!("a{large} + _1{large}"),
            "1.a".to_owned(),
            "1e + 1e- + 1e+x".to_owned(),
            "-9223372036854775808 + 18446744073709551615u + 0xffffffffffffffffu".to_owned(),
        ] {
            assert_eq!(check(&source), Ok(()), "{source}");
        }
        for (source, number) in [
            (format!("'a' + {large}"), large),
            (format!(r"'\\' + {large}"), large),
            (format!("1.a{large} + {large}"), large),
            ("9223372036854775808".to_owned(), "9223372036854775808"),
            ("- 9223372036854775809".to_owned(), "9223372036854775809"),
            ("-a - 1 + 9223372036854775808".to_owned(), "9223372036854775808"),
            ("18446744073709551616u".to_owned(), "18446744073709551616u"),
            ("0x8000000000000000".to_owned(), "0x8000000000000000"),
        ] {
            assert_eq!(check(&source), Err(InvalidText::NumberTooLarge(number.into())), "{source}");
        }
        for number in ["1e22", ".1000000000000000000001", "9007199254740993.0", "1.5e-400"] {
            assert_eq!(check(&format!("a == {number}")), Err(InvalidText::NumberInexact(number.into())), "{number}");
        }
    }

    #[test]
    fn s32_text_is_written_in_one_way_and_everything_else_is_plain_ascii() {
        for source in ["'a'", "\"a\"", "'\"'", "\"'\"", r"'\''", r"'\\'", "a / b", "'//'", "'`é\u{1}'", "\ta\r\n+ b"] {
            assert_eq!(check(source), Ok(()), "{source}");
        }
        for (source, refused) in [
            ("", InvalidText::Empty),
            (" \n", InvalidText::Empty),
            ("r'a'", InvalidText::TextForm),
            ("1'a'", InvalidText::TextForm),
            ("_\"a\"", InvalidText::TextForm),
            ("'''a'''", InvalidText::TextForm),
            ("''\"\"", InvalidText::TextForm),
            ("a // b", InvalidText::Comment),
            ("a//", InvalidText::Comment),
            ("`a`", InvalidText::Character),
            ("é", InvalidText::Character),
            ("a\u{0}", InvalidText::Character),
            ("a\u{7f}", InvalidText::Character),
            ("a\u{b}", InvalidText::Character),
        ] {
            assert_eq!(check(source), Err(refused), "{source:?}");
        }
    }
}
