//! The pattern language of subjects: exact text, or text in which `*` stands for any run of characters.
//!
//! [`SubjectMatch`] is what an operator wrote, checked. [`CompiledMatch`] is the only form that can be evaluated. Patterns match
//! the whole subject, on bytes, case-sensitive and without normalisation; a pattern has no alternation, group or escape, so
//! nothing can get round its anchors (SECURITY 21, 23). Claims are compared with the same patterns.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not a subject match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubjectMatch {
    /// Nothing is there.
    #[error("must not be empty")]
    Empty,
    /// More bytes than any accepted subject has.
    #[error("must be at most {} bytes long", SubjectMatch::MAX_BYTES)]
    TooLong,
    /// A control character, which no accepted subject holds.
    #[error("must not hold control characters")]
    Control,
}

/// One accepted subject as written: exact text, or with `*` for any run of characters, `:` and `/` included.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectMatch(Arc<str>);

impl SubjectMatch {
    /// The most bytes a subject match may have.
    pub const MAX_BYTES: usize = 1024;

    /// The match as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it holds nothing but `*`, and so accepts every subject.
    pub fn is_bare_wildcard(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Whether it accepts one text only.
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether it can accept a subject that begins with this.
    pub fn can_begin_with(&self, start: &str) -> bool {
        match self.0.split_once('*') {
            None => self.0.starts_with(start),
            Some((prefix, _)) => prefix.starts_with(start) || start.starts_with(prefix),
        }
    }

    /// The form that can be evaluated.
    pub fn compile(&self) -> CompiledMatch {
        let mut pieces = self.0.split('*');
        // `split` yields at least one piece.
        let prefix: Box<str> = pieces.next().unwrap_or_default().into();
        let Some(suffix) = pieces.next_back() else { return CompiledMatch::Exact(Arc::clone(&self.0)) };
        let infixes: Box<[Box<str>]> = pieces.filter(|piece| !piece.is_empty()).map(Box::from).collect();
        CompiledMatch::Pattern(Pattern { prefix, infixes, suffix: suffix.into() })
    }
}

/// A subject match that can be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompiledMatch {
    /// This text and no other.
    Exact(Arc<str>),
    /// Literal pieces with anything between them.
    Pattern(Pattern),
}

/// A match with at least one `*`: begins with `prefix`, ends with `suffix`, and holds `infixes` in between, in this order and
/// without overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    prefix: Box<str>,
    infixes: Box<[Box<str>]>,
    suffix: Box<str>,
}

/// How narrow a match is. Greater is narrower: exact before pattern, then the longer literal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    exact: bool,
    literal_bytes: usize,
}

impl Specificity {
    /// How narrow a match is that accepts this subject alone.
    pub const fn of_exact(subject: &str) -> Self {
        Self { exact: true, literal_bytes: subject.len() }
    }
}

impl CompiledMatch {
    /// Whether the whole subject matches. Takes time linear in the length of subject and pattern.
    pub fn accepts(&self, subject: &str) -> bool {
        match self {
            Self::Exact(text) => **text == *subject,
            Self::Pattern(pattern) => pattern.accepts(subject),
        }
    }

    /// How narrow the match is.
    pub fn specificity(&self) -> Specificity {
        match self {
            Self::Exact(text) => Specificity::of_exact(text),
            Self::Pattern(pattern) => Specificity { exact: false, literal_bytes: pattern.literal_bytes() },
        }
    }
}

/// The shortest text that compiles to this.
impl fmt::Display for CompiledMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Pattern(Pattern { prefix, infixes, suffix }) => {
                write!(f, "{prefix}*")?;
                infixes.iter().try_for_each(|infix| write!(f, "{infix}*"))?;
                f.write_str(suffix)
            }
        }
    }
}

impl Pattern {
    /// What every accepted subject begins with. May be empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What every accepted subject ends with. May be empty.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// What stands between two `*`, in order. None is empty.
    pub fn infixes(&self) -> impl Iterator<Item = &str> {
        self.infixes.iter().map(AsRef::as_ref)
    }

    /// Whether the whole subject matches.
    pub fn accepts(&self, subject: &str) -> bool {
        // Splitting at `*`, which is ASCII, leaves valid UTF-8, and `str` searches bytes: no normalisation takes place. The
        // leftmost place for each piece leaves the most room for the next, so that no step is ever taken back.
        let Some(mut rest) = subject.strip_prefix(&*self.prefix).and_then(|rest| rest.strip_suffix(&*self.suffix)) else {
            return false;
        };
        for infix in &self.infixes {
            let Some((_, after)) = rest.split_once(&**infix) else { return false };
            rest = after;
        }
        true
    }

    fn literal_bytes(&self) -> usize {
        self.prefix.len() + self.infixes.iter().map(|infix| infix.len()).sum::<usize>() + self.suffix.len()
    }
}

fn check(text: &str) -> Result<(), InvalidSubjectMatch> {
    if text.is_empty() {
        Err(InvalidSubjectMatch::Empty)
    } else if text.len() > SubjectMatch::MAX_BYTES {
        Err(InvalidSubjectMatch::TooLong)
    } else if text.chars().any(char::is_control) {
        Err(InvalidSubjectMatch::Control)
    } else {
        Ok(())
    }
}

impl FromStr for SubjectMatch {
    type Err = InvalidSubjectMatch;

    fn from_str(text: &str) -> Result<Self, InvalidSubjectMatch> {
        check(text)?;
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for SubjectMatch {
    type Error = InvalidSubjectMatch;

    fn try_from(text: String) -> Result<Self, InvalidSubjectMatch> {
        check(&text)?;
        Ok(Self(text.into()))
    }
}

impl From<SubjectMatch> for String {
    fn from(subject_match: SubjectMatch) -> String {
        subject_match.as_str().to_owned()
    }
}

impl fmt::Display for SubjectMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SubjectMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compiled(text: &str) -> CompiledMatch {
        text.parse::<SubjectMatch>().unwrap().compile()
    }

    fn check(pattern: &str, accepted: &[&str], refused: &[&str]) {
        let compiled = compiled(pattern);
        for subject in accepted {
            assert!(compiled.accepts(subject), "{pattern} should accept {subject}");
        }
        for subject in refused {
            assert!(!compiled.accepts(subject), "{pattern} should refuse {subject}");
        }
    }

    /// The textbook definition, on bytes, with no thought of cost.
    fn reference(pattern: &[u8], subject: &[u8]) -> bool {
        match pattern.split_first() {
            None => subject.is_empty(),
            Some((b'*', rest)) => (0..=subject.len()).any(|at| reference(rest, &subject[at..])),
            Some((byte, rest)) => subject.first() == Some(byte) && reference(rest, &subject[1..]),
        }
    }

    proptest! {
        #[test]
        fn s21_agrees_with_the_reference_on_small_alphabets(pattern in "[ab*é]{1,8}", subject in "[abé]{0,10}") {
            prop_assert_eq!(compiled(&pattern).accepts(&subject), reference(pattern.as_bytes(), subject.as_bytes()));
        }

        #[test]
        fn s21_agrees_with_the_reference_on_any_text(pattern in "\\PC{0,4}\\*?\\PC{0,3}\\*?\\PC{0,2}", subject in "\\PC{0,10}") {
            if let Ok(written) = pattern.parse::<SubjectMatch>() {
                let accepts = written.compile().accepts(&subject);
                prop_assert_eq!(accepts, reference(pattern.as_bytes(), subject.as_bytes()));
                // What stands in place of the stars makes a subject that is accepted.
                prop_assert!(written.compile().accepts(&pattern.replace('*', &subject)));
            }
        }

        #[test]
        fn s21_accepts_what_its_own_stars_were_filled_with(
            pieces in prop::collection::vec("[a-c:/]{0,4}", 2..5), fill in "[ -~]{0,6}",
        ) {
            prop_assert!(compiled(&pieces.join("*")).accepts(&pieces.join(&fill)));
        }

        #[test]
        fn what_is_compiled_can_be_written_again(text in "[ab*]{1,8}") {
            prop_assert_eq!(compiled(&compiled(&text).to_string()), compiled(&text));
        }

        #[test]
        fn survives_a_round_trip_through_text_and_json(text in "[ -~]{1,40}") {
            if let Ok(written) = text.parse::<SubjectMatch>() {
                prop_assert_eq!(written.to_string(), text);
                let json = serde_json::to_string(&written).unwrap();
                prop_assert_eq!(serde_json::from_str::<SubjectMatch>(&json).unwrap(), written);
            }
        }
    }

    #[test]
    fn s21_patterns_match_the_whole_subject() {
        check(
            "org:my-org:vault:deploy-vault",
            &["org:my-org:vault:deploy-vault"],
            &["org:my-org:vault:deploy-vault2", "xorg:my-org:vault:deploy-vault", "org:my-org:vault:deploy-vaul", ""],
        );
        check(
            "org:my-org:vault:*",
            &["org:my-org:vault:", "org:my-org:vault:a", "org:my-org:vault:a/b:c"],
            &["org:my-org:vault", " org:my-org:vault:a", "org:my-org2:vault:a"],
        );
        check("*:stack:infra:*", &["space:x:stack:infra:run", ":stack:infra:"], &["stack:infra:", "x:stack:infra"]);
        check("a*a", &["aa", "aba"], &["a", "", "ab", "ba"]);
        check("a*b*c", &["abc", "axbxc", "abbc", "abcbc"], &["acb", "ab", "bc", "ac"]);
        check("ab*ba", &["abba", "ab-ba"], &["aba"]);
        check("a|b*", &["a|b", "a|bc"], &["a", "b"]);
        check("(a*", &["(a", "(a)"], &["a"]);
        check("a.*", &["a.", "a.b"], &["ab"]);
        check("*", &["", "a", "a:b/c"], &[]);
    }

    #[test]
    fn s21_stars_span_delimiters_as_the_seeds_need() {
        check("arn:aws:iam::123456789012:role/*", &["arn:aws:iam::123456789012:role/path/to/name"], &[]);
        check("*:project:infra", &["org:a:project:infra"], &["org:a:project:infra:x"]);
    }

    #[test]
    fn s23_comparison_is_on_bytes() {
        check("Sub", &["Sub"], &["sub", "SUB", "ſub", "Sub "]);
        // Composed and decomposed forms are other subjects.
        check("caf\u{e9}*", &["caf\u{e9}", "caf\u{e9}s"], &["cafe\u{301}", "CAF\u{c9}"]);
        check("*\u{301}", &["e\u{301}"], &["\u{e9}"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, error) in
            [("", InvalidSubjectMatch::Empty), ("a\nb", InvalidSubjectMatch::Control), ("a\0", InvalidSubjectMatch::Control)]
        {
            assert_eq!(text.parse::<SubjectMatch>(), Err(error), "{text:?}");
        }
        assert!("a".repeat(1024).parse::<SubjectMatch>().is_ok());
        assert_eq!("a".repeat(1025).parse::<SubjectMatch>(), Err(InvalidSubjectMatch::TooLong));
        assert!(serde_json::from_str::<SubjectMatch>("\"\"").is_err());
    }

    #[test]
    fn s28_exact_is_narrower_than_any_pattern_and_longer_text_than_shorter() {
        let ascending = ["*a", "a*b", "abc*", "*ab*cd*", "abcdefgh*", "a", "ab"];
        let specificities: Vec<_> = ascending.iter().map(|text| compiled(text).specificity()).collect();
        assert!(specificities.is_sorted_by(|a, b| a < b), "{specificities:?}");
        assert_eq!(compiled("ab*").specificity(), compiled("*a*b").specificity());
    }

    #[test]
    fn s21_an_evil_pattern_takes_linear_time() {
        // A backtracking matcher would take about 1024^10 steps.
        let pattern = compiled(&format!("{}b", "a*".repeat(500)));
        assert!(!pattern.accepts(&"a".repeat(1024)));
    }
}
