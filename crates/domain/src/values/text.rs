//! Text of others, shown to people, and how two texts that look alike can differ.
//!
//! Nothing here decides anything: matching compares bytes.

use serde_json::Value;
use unicode_normalization::UnicodeNormalization as _;

/// A value as JSON of at most so many characters, cut short where need be. What a reader would not see, or a terminal would act on,
/// is escaped.
pub fn shown(value: &Value, max_chars: usize) -> String {
    visible(&value.to_string(), max_chars)
}

/// A text of at most so many characters, cut short where need be. What a reader would not see, or a terminal would act on, is
/// escaped.
pub fn visible(text: &str, max_chars: usize) -> String {
    let mut characters = text.chars();
    let mut shown = String::new();
    for character in characters.by_ref().take(max_chars) {
        if is_hidden(character) || is_other_blank(character) {
            shown.push_str(&code_point(character));
        } else {
            shown.push(character);
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// How the text of a token differs from the expected one, when both look alike to a reader; `accepts` says whether the expected
/// text accepts the token's after both were changed in one way.
pub fn difference_in_writing(expected: &str, found: &str, accepts: impl Fn(&str, &str) -> bool) -> Option<String> {
    let same = |fold: fn(&str) -> String| accepts(&fold(expected), &fold(found));
    if same(str::to_lowercase) {
        return Some("they differ only in upper and lower case, which counts".to_owned());
    }
    if same(trimmed) {
        let side = if trimmed(found) == found { "the expected text" } else { "the token's text" };
        return Some(format!("{side} has white space around it, which counts"));
    }
    if same(without_invisible) {
        let (side, hidden) = hidden_in(found)
            .map(|hidden| ("the token's text", hidden))
            .or_else(|| hidden_in(expected).map(|hidden| ("the expected text", hidden)))?;
        return Some(format!("{side} contains the invisible character {}, which counts", code_point(hidden)));
    }
    if same(composed) {
        return Some(format!(
            "they look alike and are composed differently, which counts: the token has {}, expected is {} (Unicode normalization \
             forms NFC and NFD)",
            first_difference(found, expected),
            first_difference(expected, found),
        ));
    }
    if same(plain) {
        return Some(
            "they differ only in how they are written, which counts: in case, white space, invisible characters or Unicode \
             normalization"
                .to_owned(),
        );
    }
    None
}

/// Whether a reader does not see the character, or a terminal acts on it: controls, marks of direction, what has no width.
pub fn is_hidden(character: char) -> bool {
    character.is_control() || is_invisible(character)
}

/// The name of a character, as `U+200B`.
fn code_point(character: char) -> String {
    format!("U+{:04X}", u32::from(character))
}

fn trimmed(text: &str) -> String {
    text.trim_matches(|character: char| character.is_whitespace()).to_owned()
}

fn without_invisible(text: &str) -> String {
    text.chars().filter(|character| !is_invisible(*character)).collect()
}

fn composed(text: &str) -> String {
    text.nfc().collect()
}

/// Everything at once, and compatibility forms such as full-width letters and no-break spaces with it.
fn plain(text: &str) -> String {
    let text: String =
        without_invisible(text).nfkc().map(|character| if character.is_whitespace() { ' ' } else { character }).collect();
    text.trim().to_lowercase()
}

fn hidden_in(text: &str) -> Option<char> {
    text.chars().find(|character| is_invisible(*character))
}

/// The characters, up to three, from which on the first text is not the second.
fn first_difference(text: &str, other: &str) -> String {
    let from = text.chars().zip(other.chars()).take_while(|(one, two)| one == two).count();
    let named: Vec<String> = text.chars().skip(from).take(2).map(code_point).collect();
    if named.is_empty() { "nothing more".to_owned() } else { named.join(" ") }
}

/// A character without width or ink: zero-width spaces and joiners, marks of direction, soft hyphens, variation selectors, tags.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// A blank that looks like a space and is none.
fn is_other_blank(character: char) -> bool {
    character != ' ' && character.is_whitespace()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn difference(expected: &str, found: &str) -> Option<String> {
        difference_in_writing(expected, found, |expected, found| expected == found)
    }

    #[test]
    fn s86_texts_that_look_alike_are_told_apart_by_what_differs() {
        for (expected, found, word) in [
            ("Repo:a", "repo:A", "upper and lower case"),
            ("a:b", " a:b", "the token's text has white space around it"),
            ("a:b", "a:b\u{a0}", "the token's text has white space around it"),
            ("a:b ", "a:b", "the expected text has white space around it"),
            ("a:b\u{3000}", "a:b", "the expected text has white space around it"),
            ("a:b", "a:\u{200b}b", "the token's text contains the invisible character U+200B"),
            ("\u{feff}a:b", "a:b", "the expected text contains the invisible character U+FEFF"),
            ("a\u{ad}b", "ab", "U+00AD"),
            ("ab", "a\u{2060}b", "U+2060"),
            ("ab", "ab\u{e0041}", "U+E0041"),
            ("caf\u{e9}", "cafe\u{301}", "the token has U+0065 U+0301, expected is U+00E9"),
            ("cafe\u{301}:x", "caf\u{e9}:x", "the token has U+00E9"),
            ("\u{ac00}", "\u{1100}\u{1161}", "composed differently"),
            ("a b", "a\u{a0}b", "only in how they are written"),
            ("abc", "\u{ff41}bc", "only in how they are written"),
            ("Caf\u{e9} ", "cafe\u{301}", "only in how they are written"),
        ] {
            let difference = difference(expected, found).unwrap_or_default();
            assert!(difference.contains(word), "{expected:?} {found:?}: {difference}");
        }
        for (expected, found) in [("a", "b"), ("", "a"), ("a:b", "a:b:c"), ("\u{430}", "a")] {
            assert_eq!(difference(expected, found), None, "{expected:?} {found:?}");
        }
    }

    #[test]
    fn s61_what_is_shown_is_short_and_harmless() {
        assert_eq!(shown(&json!("a\u{1b}[31m\n\u{202e}\u{a0}é"), 64), "\"a\\u001b[31m\\nU+202EU+00A0é\"");
        assert_eq!(visible("\u{85}\u{200b}x", 64), "U+0085U+200Bx");
        assert_eq!(visible("abcdef", 3), "abc…");
        assert_eq!(visible("abc", 3), "abc");
    }

    proptest! {
        #[test]
        fn s68_no_texts_panic(expected: String, found: String) {
            let _ = difference(&expected, &found);
            prop_assert!(!visible(&found, 20).chars().any(|character| character.is_control() || is_invisible(character)));
        }
    }
}
