//! Issuers, audiences and subjects made of the values of their parts.

use std::collections::{BTreeMap, BTreeSet};

use super::grammar::{Grammar, Part};
use super::{Preset, SubjectForm};
use crate::values::issuer_url::{IssuerUrl, KeySetUrl, LoopbackHttp};
use crate::values::name::Audience;
use crate::values::subject_match::SubjectMatch;

/// What is wrong with the value of one part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` {problem}")]
pub struct PartProblem {
    /// The part's name, or that of the whole: `issuer`, `subject`, `audience`, `form`.
    pub part: String,
    /// What is wrong with it.
    pub problem: InvalidPart,
}

/// Why a value cannot stand for a part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPart {
    /// No template of the preset has such a part.
    #[error("is no part of this preset: {0}")]
    Unknown(String),
    /// Nothing was given for it.
    #[error("is required by `{0}`")]
    Missing(String),
    /// It is a part of other templates than those that the other values need.
    #[error("is no part of `{0}`")]
    NotThere(String),
    /// A character that the part never holds.
    #[error("never holds `{0}`")]
    Character(char),
    /// None of the values that the part has.
    #[error("must be able to be one of {0}")]
    Values(String),
    /// Nothing, where the part is never that.
    #[error("is never empty")]
    Empty,
    /// `*` where one value is needed.
    #[error("must not hold `*`")]
    Wildcard,
    /// The whole is not acceptable.
    #[error("{0}")]
    Whole(String),
}

/// Values by the names of their parts.
type Values = BTreeMap<String, String>;

impl Preset {
    /// The pattern of the subjects whose parts have these values, which may hold `*`. Of several forms the first that has all
    /// the parts that were given. Parts behind the last one that was given can be anything. Values of parts of the issuer and of
    /// the audience are not looked at.
    ///
    /// # Errors
    /// Everything that is wrong with the values, when anything is.
    pub fn build_subject(&self, values: &Values) -> Result<SubjectMatch, Vec<PartProblem>> {
        self.build_subject_of(None, values)
    }

    /// As [`Preset::build_subject`], of the form of this id.
    ///
    /// # Errors
    /// As there, and when there is no such form.
    pub fn build_subject_of(&self, form: Option<&str>, values: &Values) -> Result<SubjectMatch, Vec<PartProblem>> {
        let own = self.subject_parts();
        let given: Vec<&str> = values.keys().map(String::as_str).filter(|name| own.contains(name)).collect();
        let mut problems = self.unknown(values);
        let has_all = |form: &&SubjectForm| given.iter().all(|name| form.parts.iter().any(|part| part.name == *name));
        let current = || self.forms.iter().find(has_all).or(self.forms.first());
        let form = form.map_or_else(current, |id| self.form(id));
        let Some(form) = form else {
            let ids: Vec<_> = self.forms.iter().map(|form| form.id.as_str()).collect();
            problems.push(problem("form", InvalidPart::Values(ids.join(", "))));
            return Err(problems);
        };
        let elsewhere = given.iter().filter(|name| !form.parts.iter().any(|part| part.name == **name));
        problems.extend(elsewhere.map(|name| problem(name, InvalidPart::NotThere(form.template.clone()))));
        let last = form.parts.iter().rposition(|part| values.contains_key(&part.name)).unwrap_or_default();
        for (at, part) in form.grammar.parts().enumerate() {
            match part.value_in(values) {
                Some(value) => problems.extend(check(part, value).err().map(|found| problem(&part.name, found))),
                None if at <= last => problems.push(problem(&part.name, InvalidPart::Missing(form.template.clone()))),
                None => {}
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let subject = form.grammar.write(|part| part.value_in(values).unwrap_or("*"));
        subject.parse().map_err(|error| whole("subject", &error))
    }

    /// The URL of the issuer whose parts have these values. Of several forms the first that has all the parts that were given.
    /// Values of parts of the subject and of the audience are not looked at.
    ///
    /// # Errors
    /// Everything that is wrong with the values, or that such an issuer can have any URL.
    pub fn build_issuer(&self, values: &Values) -> Result<IssuerUrl, Vec<PartProblem>> {
        let templates = &self.issuer.templates;
        let own: BTreeSet<&str> = templates.iter().flat_map(|one| &one.parts).map(|part| part.name.as_str()).collect();
        let given: Vec<&str> = values.keys().map(String::as_str).filter(|name| own.contains(name)).collect();
        let template = templates.iter().find(|one| given.iter().all(|name| one.parts.iter().any(|part| part.name == *name)));
        let Some(template) = template.or(templates.first()) else {
            return Err(vec![problem("issuer", InvalidPart::Missing(self.id.to_string()))]);
        };
        let mut problems: Vec<_> = given
            .iter()
            .filter(|name| !template.parts.iter().any(|part| part.name == **name))
            .map(|name| problem(name, InvalidPart::NotThere(template.template.clone())))
            .collect();
        match fill(&template.grammar, &template.template, values) {
            Ok(url) if problems.is_empty() => {
                IssuerUrl::parse(&url, LoopbackHttp::Refused).map_err(|error| whole("issuer", &error))
            }
            Ok(_) => Err(problems),
            Err(more) => {
                problems.extend(more);
                Err(problems)
            }
        }
    }

    /// The audience that tokens have whose parts have these values; `None` where whoever asks for the token chooses it.
    ///
    /// # Errors
    /// Everything that is wrong with the values.
    pub fn build_audience(&self, values: &Values) -> Result<Option<Audience>, Vec<PartProblem>> {
        let super::PresetAudience::Fixed(template) = &self.audience else { return Ok(None) };
        let Some(grammar) = &self.audience_grammar else { return Ok(None) };
        fill(grammar, template, values)?.parse().map(Some).map_err(|error| whole("audience", &error))
    }

    /// Where the keys of an issuer are, when that is on another host.
    pub fn jwks_url_of(&self, issuer: &IssuerUrl) -> Option<KeySetUrl> {
        let (template, grammar) = (self.jwks_url.as_deref()?, self.jwks_url_grammar.as_ref()?);
        let values = self.issuer.templates.iter().find_map(|one| one.read(issuer))?;
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        fill(grammar, template, &values).ok()?.parse().ok()
    }

    /// The names of the parts of its subjects, each once.
    pub fn subject_parts(&self) -> BTreeSet<&str> {
        self.forms.iter().flat_map(|form| form.grammar.parts()).map(|part| &*part.name).collect()
    }

    /// The names of the parts of its issuer and its audience, each once.
    pub fn issuer_parts(&self) -> BTreeSet<&str> {
        let issuers = self.issuer.templates.iter().map(|one| &one.grammar);
        issuers.chain(&self.audience_grammar).flat_map(Grammar::parts).map(|part| &*part.name).collect()
    }

    fn unknown(&self, values: &Values) -> Vec<PartProblem> {
        let names: BTreeSet<&str> = self.subject_parts().union(&self.issuer_parts()).copied().collect();
        let known = names.iter().copied().collect::<Vec<_>>().join(", ");
        let unknown = values.keys().filter(|name| !names.contains(name.as_str()));
        unknown.map(|name| problem(name, InvalidPart::Unknown(known.clone()))).collect()
    }
}

/// A template in which every part has one value.
fn fill(grammar: &Grammar, template: &str, values: &Values) -> Result<String, Vec<PartProblem>> {
    let mut problems = Vec::new();
    for part in grammar.parts() {
        let found = match part.value_in(values) {
            None => Err(InvalidPart::Missing(template.to_owned())),
            Some(value) if value.contains('*') => Err(InvalidPart::Wildcard),
            Some(value) => check(part, value),
        };
        problems.extend(found.err().map(|found| problem(&part.name, found)));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(grammar.write(|part| part.value_in(values).unwrap_or_default()))
}

/// Whether a value, which may hold `*`, can be that of the part.
fn check(part: &Part, value: &str) -> Result<(), InvalidPart> {
    if part.can_match(value) {
        return Ok(());
    }
    if value.is_empty() {
        return Err(InvalidPart::Empty);
    }
    match part.excluded_in(value) {
        Some(character) => Err(InvalidPart::Character(character)),
        None => Err(InvalidPart::Values(part.values().collect::<Vec<_>>().join(", "))),
    }
}

fn problem(part: &str, problem: InvalidPart) -> PartProblem {
    PartProblem { part: part.to_owned(), problem }
}

fn whole(part: &str, error: &dyn std::fmt::Display) -> Vec<PartProblem> {
    vec![problem(part, InvalidPart::Whole(error.to_string()))]
}
