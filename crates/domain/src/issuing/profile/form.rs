//! Subject forms, and why rendering them is injective.
//!
//! Every literal behind a value begins with a delimiter, and no value holds one. So whoever reads a subject from the left knows
//! where each value ends, and two different lists of values never give one subject. For two forms of a profile [`SubjectForm::apart`]
//! finds a reason why no subject can be of both: it may miss one, and then refuses a profile that would do no harm, but never
//! sees one that is not there.

use super::declared::Declared;
use super::template::{Piece, Template};
use crate::trust::cel::CelExpression;

/// One way to write a subject.
#[derive(Debug, Clone)]
pub(super) struct SubjectForm {
    pub(super) id: Box<str>,
    pub(super) template: Template,
    pub(super) delimiters: Box<str>,
    pub(super) condition: Option<CelExpression>,
}

/// Why two attribute sets could render one subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ambiguous {
    #[error("must hold at least one value")]
    NoValue,
    #[error("must have a delimiter between `{{{0}}}` and `{{{1}}}`")]
    NothingBetween(String, String),
    #[error("must go on with a delimiter behind `{{{0}}}`")]
    NoDelimiterBehind(String),
}

/// The most delimiters of a form.
const MAX_DELIMITERS: usize = 8;

/// Why a text names no delimiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidDelimiters {
    #[error("must hold one to {MAX_DELIMITERS} characters")]
    Number,
    #[error("must consist of ASCII punctuation, without `_` and braces")]
    Character,
}

/// Checks the delimiters of a form. Letters, digits and `_` are none, as ids consist of them.
pub(super) fn check_delimiters(text: &str) -> Result<(), InvalidDelimiters> {
    if !(1..=MAX_DELIMITERS).contains(&text.len()) {
        return Err(InvalidDelimiters::Number);
    }
    let good = |byte: u8| byte.is_ascii_punctuation() && !b"_{}".contains(&byte);
    if text.bytes().all(good) { Ok(()) } else { Err(InvalidDelimiters::Character) }
}

impl SubjectForm {
    /// Whether no value may hold the character.
    pub(super) fn delimits(&self, character: char) -> bool {
        self.delimiters.contains(character)
    }

    /// Checks that two lists of values never render one subject.
    pub(super) fn check_injective(&self) -> Result<(), Ambiguous> {
        if self.template.names().next().is_none() {
            return Err(Ambiguous::NoValue);
        }
        for pair in self.template.pieces().windows(2) {
            match pair {
                [Piece::Value(one), Piece::Value(next)] => {
                    return Err(Ambiguous::NothingBetween(one.to_string(), next.to_string()));
                }
                [Piece::Value(name), Piece::Literal(text)] if !text.starts_with(|first| self.delimits(first)) => {
                    return Err(Ambiguous::NoDelimiterBehind(name.to_string()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether no subject can be of both forms.
    ///
    /// No value of either holds a delimiter that they share, so these delimiters are, in each, those of the template. Where they
    /// are not the same ones in the same order, that tells the forms apart; else one of the segments between them must.
    pub(super) fn apart(&self, other: &Self, declared: &Declared) -> bool {
        let shared = |character| self.delimits(character) && other.delimits(character);
        let ((own_delimiters, own), (other_delimiters, others)) = (self.segments(shared), other.segments(shared));
        own_delimiters != other_delimiters
            || own.iter().zip(&others).any(|(one, two)| {
                let (one, two) = (Segment::new(one, self, declared), Segment::new(two, other, declared));
                one.differs_from(&two) || two.differs_from(&one)
            })
    }

    /// The delimiters in the literals, in order, and what lies before, between and behind them.
    fn segments(&self, is_delimiter: impl Fn(char) -> bool) -> (Vec<char>, Vec<Vec<Part<'_>>>) {
        let (mut delimiters, mut segments, mut current) = (Vec::new(), Vec::new(), Vec::new());
        for piece in self.template.pieces() {
            match piece {
                Piece::Value(name) => current.push(Part::Value(name)),
                Piece::Literal(text) => {
                    for (at, text) in text.split(&is_delimiter).enumerate() {
                        if at > 0 {
                            segments.push(std::mem::take(&mut current));
                        }
                        if !text.is_empty() {
                            current.push(Part::Literal(text));
                        }
                    }
                    delimiters.extend(text.chars().filter(|character| is_delimiter(*character)));
                }
            }
        }
        segments.push(current);
        (delimiters, segments)
    }
}

/// A literal, or a value by its name.
#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    Literal(&'a str),
    Value(&'a str),
}

/// What lies between two delimiters of a subject, as one form writes it.
struct Segment<'a> {
    parts: &'a [Part<'a>],
    form: &'a SubjectForm,
    declared: &'a Declared,
}

impl<'a> Segment<'a> {
    const fn new(parts: &'a [Part<'a>], form: &'a SubjectForm, declared: &'a Declared) -> Self {
        Self { parts, form, declared }
    }

    /// Whether something of this segment is never in the other.
    fn differs_from(&self, other: &Self) -> bool {
        let apart = |one: &str, two: &str, fits: fn(&str, &str) -> bool| !fits(one, two) && !fits(two, one);
        apart(self.prefix(), other.prefix(), |long, short| long.starts_with(short))
            || apart(self.suffix(), other.suffix(), |long, short| long.ends_with(short))
            || self.literals().flat_map(str::chars).any(|character| !other.can_hold(character))
            || self.values().is_some_and(|own| own.iter().all(|value| !other.can_be(value)))
            // A value is never empty.
            || (self.parts.is_empty() && !other.parts.is_empty())
    }

    fn literals(&self) -> impl Iterator<Item = &'a str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(*text),
            Part::Value(_) => None,
        })
    }

    /// What every text of the segment begins with.
    fn prefix(&self) -> &'a str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// What every text of the segment ends with.
    fn suffix(&self) -> &'a str {
        match self.parts.last() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    fn can_hold(&self, character: char) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Literal(text) => text.contains(character),
            Part::Value(name) => !self.form.delimits(character) && self.declared.can_hold(name, character),
        })
    }

    /// Whether the segment may be this text; false only when it is certainly not.
    fn can_be(&self, text: &str) -> bool {
        self.values().is_none_or(|values| values.contains(&text)) && text.chars().all(|character| self.can_hold(character))
    }

    /// Every text of the segment, where they can be listed.
    fn values(&self) -> Option<Vec<&'a str>> {
        match self.parts {
            [Part::Literal(text)] => Some(vec![text]),
            [Part::Value(name)] => self.declared.values(name),
            _ => None,
        }
    }
}
