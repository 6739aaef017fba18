//! Bounds on the text of an expression, before a parser sees it.
//!
//! The parser and everything behind it recurse; how deep is bounded by the number of tokens. To count them safely the ways of
//! writing text are cut down to those that cannot be misread: `'…'` and `"…"` with backslash escapes on one line.

/// The most bytes of an expression.
pub(super) const MAX_BYTES: usize = 1024;
/// The most tokens: names, numbers, texts, and each character of an operator.
const MAX_TOKENS: usize = 256;
/// The most brackets that are open at once.
const MAX_BRACKETS: usize = 12;

/// Why a text is not parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
    Ok(())
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
