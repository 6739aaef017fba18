//! Templates of subjects and URLs as small languages: literal text, and parts between it whose characters are known.
//!
//! A part that is open ends before the first character that it does not hold, and the literal behind it must begin with such a
//! character. So a text has at most one reading for each choice of a part's listed values, and reading it takes no search.

use std::collections::BTreeMap;

use crate::values::subject_match::SubjectMatch;

/// Why a template and its parts are no grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidGrammar {
    #[error("the template has a brace without its other half")]
    Braces,
    #[error("the template must not hold `*` or control characters")]
    Literal,
    #[error("the part `{0}` is named in the template and not described, or the other way round, or twice")]
    Parts(String),
    #[error("the part `{0}` is open and is not followed by a character that it excludes")]
    NotDelimited(String),
    #[error("the part `{0}` can hold nothing")]
    Nothing(String),
}

/// The characters of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Characters {
    /// All but these, and never a control character.
    Except(Box<str>),
    /// These alone.
    Only(Box<str>),
}

impl Characters {
    fn allow(&self, character: char) -> bool {
        match self {
            Self::Except(excluded) => !character.is_control() && !excluded.contains(character),
            Self::Only(allowed) => allowed.contains(character),
        }
    }

    /// The longest beginning of the text that consists of these characters, and what follows it.
    fn split<'a>(&self, text: &'a str) -> (&'a str, &'a str) {
        text.split_at(text.find(|character| !self.allow(character)).unwrap_or(text.len()))
    }
}

/// What a part can be: one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alternative {
    literal: Box<str>,
    /// Whether any of the part's characters follow, at least one unless the part may be empty.
    is_open: bool,
}

/// What can stand at one place of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: Box<str>,
    pub(super) characters: Characters,
    pub(super) may_be_empty: bool,
    /// What it is when nothing is said.
    pub(super) default: Option<Box<str>>,
    alternatives: Box<[Alternative]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Part(Part),
}

/// A template that can be read, written and held against patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grammar {
    pieces: Box<[Piece]>,
    automaton: Automaton,
}

impl Part {
    /// A part. Each of `values` is a text, or one that ends in `*` for a run of the characters; no values: such a run alone.
    pub(super) fn new(name: &str, characters: Characters, may_be_empty: bool, values: &[String], default: Option<&str>) -> Self {
        let alternative = |value: &String| match value.strip_suffix('*') {
            Some(literal) => Alternative { literal: literal.into(), is_open: true },
            None => Alternative { literal: value.as_str().into(), is_open: false },
        };
        let mut alternatives: Vec<_> = values.iter().map(alternative).collect();
        if alternatives.is_empty() {
            alternatives.push(Alternative { literal: "".into(), is_open: true });
        }
        Self { name: name.into(), characters, may_be_empty, default: default.map(Box::from), alternatives: alternatives.into() }
    }

    fn check(&self, following: Option<&Piece>) -> Result<(), InvalidGrammar> {
        let is_open = self.alternatives.iter().any(|alternative| alternative.is_open);
        if is_open && self.characters == Characters::Only("".into()) {
            return Err(InvalidGrammar::Nothing(self.name.to_string()));
        }
        let is_delimited = match following {
            None => true,
            Some(Piece::Part(_)) => false,
            Some(Piece::Literal(literal)) => {
                !is_open || literal.chars().next().is_some_and(|first| !self.characters.allow(first))
            }
        };
        if is_delimited { Ok(()) } else { Err(InvalidGrammar::NotDelimited(self.name.to_string())) }
    }

    /// The ways to read the part at the beginning of the text: what it is, and what follows.
    fn readings<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.alternatives.iter().filter_map(move |alternative| {
            let rest = text.strip_prefix(&*alternative.literal)?;
            if !alternative.is_open {
                return Some(text.split_at(alternative.literal.len()));
            }
            let (run, _) = self.characters.split(rest);
            let is_there = self.may_be_empty || !run.is_empty();
            is_there.then(|| text.split_at(alternative.literal.len() + run.len()))
        })
    }

    /// The first character of a pattern that this part can never hold.
    pub(super) fn excluded_in(&self, pattern: &str) -> Option<char> {
        let listed = |character| self.alternatives.iter().any(|alternative| alternative.literal.contains(character));
        pattern.chars().find(|&character| character != '*' && !self.characters.allow(character) && !listed(character))
    }

    /// The value that it has among these, or else by default.
    pub(super) fn value_in<'a>(&'a self, values: &'a BTreeMap<String, String>) -> Option<&'a str> {
        values.get(&*self.name).map(String::as_str).or(self.default.as_deref())
    }

    /// Whether a pattern accepts something that this part can be.
    pub(super) fn can_match(&self, pattern: &str) -> bool {
        let mut automaton = Automaton::default();
        automaton.append_part(self);
        automaton.intersects(pattern)
    }

    /// The values it is limited to, as they were written.
    pub(super) fn values(&self) -> impl Iterator<Item = String> {
        let is_free = |alternative: &Alternative| alternative.is_open && alternative.literal.is_empty();
        let listed = self.alternatives.iter().filter(move |alternative| !is_free(alternative));
        listed.map(ToString::to_string)
    }
}

impl Grammar {
    /// Reads a template in which `{name}` stands for the part of that name.
    pub(super) fn new(template: &str, parts: Vec<Part>) -> Result<Self, InvalidGrammar> {
        let mut unused: Vec<Option<Part>> = parts.into_iter().map(Some).collect();
        let mut pieces = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let (literal, after) = rest.split_once('{').unwrap_or((rest, ""));
            if literal.contains('}') || literal.len() == rest.len() - 1 {
                return Err(InvalidGrammar::Braces);
            }
            if literal.contains(|character: char| character == '*' || character.is_control()) {
                return Err(InvalidGrammar::Literal);
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.into()));
            }
            if literal.len() == rest.len() {
                break;
            }
            let (name, after) = after.split_once('}').ok_or(InvalidGrammar::Braces)?;
            let named = |slot: &&mut Option<Part>| slot.as_ref().is_some_and(|part| *part.name == *name);
            let part = unused.iter_mut().find(named).and_then(Option::take);
            pieces.push(Piece::Part(part.ok_or_else(|| InvalidGrammar::Parts(name.to_owned()))?));
            rest = after;
        }
        if let Some(part) = unused.into_iter().flatten().next() {
            return Err(InvalidGrammar::Parts(part.name.into()));
        }
        for (at, piece) in pieces.iter().enumerate() {
            if let Piece::Part(part) = piece {
                part.check(pieces.get(at + 1))?;
            }
        }
        let automaton = Automaton::of(&pieces);
        Ok(Self { pieces: pieces.into(), automaton })
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Part(part) => Some(part),
            Piece::Literal(_) => None,
        })
    }

    /// The names and values of the parts of a text, in order; `None` when the text is not of this form.
    pub(super) fn read<'a>(&'a self, text: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        let mut values = Vec::new();
        read(&self.pieces, text, &mut values).then_some(values)
    }

    /// The text in which each part is what `value` says.
    pub(super) fn write<'a>(&'a self, mut value: impl FnMut(&'a Part) -> &'a str) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(literal) => literal,
                Piece::Part(part) => value(part),
            })
            .collect()
    }

    /// Whether a pattern accepts a text of this form. Exact but for the length of subjects, which is not looked at.
    pub(super) fn can_match(&self, pattern: &str) -> bool {
        self.automaton.intersects(pattern)
    }

    /// The names of the parts of which a pattern leaves only one value: those that lie, with the delimiter behind them, within
    /// what the pattern says before its first `*`.
    pub(super) fn pinned_by<'a>(&'a self, pattern: &'a SubjectMatch) -> Vec<&'a str> {
        let pattern = pattern.as_str();
        let names = self.parts().map(|part| &*part.name);
        match pattern.split_once('*') {
            None => self.read(pattern).map(|_| names.collect()).unwrap_or_default(),
            Some((prefix, _)) => names.take(closed(&self.pieces, prefix).unwrap_or_default()).collect(),
        }
    }
}

/// A part that has one value in a text, and would have to have another for a pattern to accept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OtherValue<'a> {
    pub(super) part: &'a str,
    /// The value in the text.
    pub(super) value: &'a str,
    /// What the pattern accepts there, of the values that the part is limited to.
    pub(super) accepted: Vec<String>,
}

impl Grammar {
    /// The parts with listed values that alone keep a text of this form from being accepted, given the values of all its parts.
    pub(super) fn other_values<'a>(&'a self, values: &[(&'a str, &'a str)], pattern: &str) -> Vec<OtherValue<'a>> {
        let value_of = |part: &Part| values.iter().find(|(name, _)| *name == &*part.name).map_or("", |(_, value)| *value);
        let is_listed = |part: &Part| part.values().next().is_some();
        // Whether the pattern accepts a text in which listed parts are free, but for one that stands for itself or a piece.
        let accepts = |one: &Part, piece: Option<Piece>| {
            let pieces = self.pieces.iter().map(|of| match of {
                Piece::Part(part) if part.name == one.name => piece.clone().unwrap_or_else(|| of.clone()),
                Piece::Part(part) if !is_listed(part) => Piece::Literal(value_of(part).into()),
                Piece::Part(_) | Piece::Literal(_) => of.clone(),
            });
            Automaton::of(&pieces.collect::<Vec<_>>()).intersects(pattern)
        };
        let others = self.parts().filter(|part| is_listed(part)).filter_map(|part| {
            let value = value_of(part);
            if !accepts(part, None) || accepts(part, Some(Piece::Literal(value.into()))) {
                return None;
            }
            let alone =
                |alternative: &Alternative| Piece::Part(Part { alternatives: Box::new([alternative.clone()]), ..part.clone() });
            let accepted: Vec<&Alternative> =
                part.alternatives.iter().filter(|alternative| accepts(part, Some(alone(alternative)))).collect();
            // Two values of one kind differ in what their kind leaves open, which the texts show.
            let is_of_its_kind = |alternative: &&Alternative| {
                *alternative.literal == *value || alternative.is_open && value.starts_with(&*alternative.literal)
            };
            if accepted.iter().any(is_of_its_kind) {
                return None;
            }
            let accepted = accepted.into_iter().map(ToString::to_string).collect();
            Some(OtherValue { part: &part.name, value, accepted })
        });
        others.collect()
    }
}

impl std::fmt::Display for Alternative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.literal, if self.is_open { "*" } else { "" })
    }
}

fn read<'a>(pieces: &'a [Piece], text: &'a str, values: &mut Vec<(&'a str, &'a str)>) -> bool {
    match pieces.split_first() {
        None => text.is_empty(),
        Some((Piece::Literal(literal), others)) => text.strip_prefix(&**literal).is_some_and(|rest| read(others, rest, values)),
        Some((Piece::Part(part), others)) => {
            let so_far = values.len();
            part.readings(text).any(|(value, rest)| {
                values.truncate(so_far);
                values.push((&part.name, value));
                read(others, rest, values)
            })
        }
    }
}

/// How many parts end within the beginning of a text of which this is a beginning; `None` when no text of these pieces begins so.
fn closed(pieces: &[Piece], prefix: &str) -> Option<usize> {
    if prefix.is_empty() {
        return Some(0);
    }
    match pieces.split_first()? {
        (Piece::Literal(literal), others) => match prefix.strip_prefix(&**literal) {
            Some(rest) => closed(others, rest),
            None => literal.starts_with(prefix).then_some(0),
        },
        (Piece::Part(part), others) => {
            let ends = part.readings(prefix).filter(|(_, rest)| !rest.is_empty());
            let ended = ends.filter_map(|(_, rest)| closed(others, rest)).map(|more| 1 + more).min();
            // Where the part may reach beyond the prefix in another reading, nothing is certain.
            if part.reaches_beyond(prefix) { Some(0) } else { ended }
        }
    }
}

impl Part {
    /// Whether the part can begin with all of this text, and be longer than it or end with it.
    fn reaches_beyond(&self, prefix: &str) -> bool {
        self.alternatives.iter().any(|alternative| {
            alternative.literal.starts_with(prefix)
                || alternative.is_open
                    && prefix.strip_prefix(&*alternative.literal).is_some_and(|rest| self.characters.split(rest).1.is_empty())
        })
    }
}

/// A nondeterministic automaton that accepts the texts of a template. Its last state accepts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Automaton {
    states: Vec<State>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct State {
    /// Where it is without reading anything.
    silent: Vec<usize>,
    /// Where it goes by reading a character.
    steps: Vec<(Reads, usize)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reads {
    Exactly(char),
    AnyOf(Characters),
}

impl Reads {
    fn reads(&self, character: char) -> bool {
        match self {
            Self::Exactly(own) => *own == character,
            Self::AnyOf(characters) => characters.allow(character),
        }
    }
}

impl Automaton {
    fn of(pieces: &[Piece]) -> Self {
        let mut automaton = Self::default();
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => automaton.append_literal(literal),
                Piece::Part(part) => automaton.append_part(part),
            }
        }
        automaton
    }

    /// The index of the last state, which is made where there is none.
    fn last(&mut self) -> usize {
        if self.states.is_empty() {
            self.states.push(State::default());
        }
        self.states.len() - 1
    }

    fn push(&mut self) -> usize {
        self.states.push(State::default());
        self.states.len() - 1
    }

    fn step(&mut self, from: usize, reads: Reads, to: usize) {
        if let Some(state) = self.states.get_mut(from) {
            state.steps.push((reads, to));
        }
    }

    fn silent(&mut self, from: usize, to: usize) {
        if let Some(state) = self.states.get_mut(from) {
            state.silent.push(to);
        }
    }

    fn append_literal(&mut self, literal: &str) {
        for character in literal.chars() {
            let from = self.last();
            let to = self.push();
            self.step(from, Reads::Exactly(character), to);
        }
    }

    fn append_part(&mut self, part: &Part) {
        let begin = self.last();
        let mut ends = Vec::new();
        for alternative in &part.alternatives {
            let first = self.push();
            self.silent(begin, first);
            self.append_literal(&alternative.literal);
            let mut at = self.last();
            if alternative.is_open {
                let any = Reads::AnyOf(part.characters.clone());
                if !part.may_be_empty {
                    let next = self.push();
                    self.step(at, any.clone(), next);
                    at = next;
                }
                self.step(at, any, at);
            }
            ends.push(at);
        }
        let end = self.push();
        for from in ends {
            self.silent(from, end);
        }
    }

    /// Whether a text is accepted by this and by the pattern. Walks the pairs of their states, each at most once.
    fn intersects(&self, pattern: &str) -> bool {
        if self.states.is_empty() {
            return pattern.chars().all(|character| character == '*');
        }
        let pattern: Vec<char> = pattern.chars().collect();
        let mut walk = Walk { seen: vec![false; (pattern.len() + 1) * self.states.len()], waiting: Vec::new() };
        let visit = |walk: &mut Walk, at: usize, state: usize| {
            if let Some(seen) = walk.seen.get_mut(at * self.states.len() + state)
                && !std::mem::replace(seen, true)
            {
                walk.waiting.push((at, state));
            }
        };
        visit(&mut walk, 0, 0);
        while let Some((at, state)) = walk.waiting.pop() {
            if at == pattern.len() && state + 1 == self.states.len() {
                return true;
            }
            let Some(State { silent, steps }) = self.states.get(state) else { continue };
            for &to in silent {
                visit(&mut walk, at, to);
            }
            match pattern.get(at) {
                None => {}
                Some('*') => {
                    visit(&mut walk, at + 1, state);
                    for &(_, to) in steps {
                        visit(&mut walk, at, to);
                    }
                }
                Some(&character) => {
                    for &(_, to) in steps.iter().filter(|(reads, _)| reads.reads(character)) {
                        visit(&mut walk, at + 1, to);
                    }
                }
            }
        }
        false
    }
}

/// A walk over pairs of a place in a pattern and a state of an automaton.
struct Walk {
    seen: Vec<bool>,
    waiting: Vec<(usize, usize)>,
}

#[cfg(test)]
mod tests;
