//! Presets: what is known of the tokens of well-known issuers.
//!
//! Each preset is a file of `presets/`, read once. It says who issues, how a subject is built, which of its parts and which claims
//! name the tenant, what the tokens look like, and holds the claims of sample tokens, against which it is tested. Presets advise the
//! people who write trust relationships, and build relationships for them. Of what decides an exchange a preset states one thing:
//! which keys of a set verify the issuer's tokens ([`KeyUses`]).

mod build;
mod file;
mod grammar;

use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::trust::key_source::KeyUses;
use crate::values::claim_path::ClaimPath;
use crate::values::issuer_url::IssuerUrl;
use crate::values::name::PresetId;
use crate::values::replay_policy::ReplayPolicy;
use crate::values::signature_algorithm::SignatureAlgorithm;
use crate::values::subject_match::SubjectMatch;
use crate::values::token_type::TokenType;
use grammar::Grammar;

pub use build::{InvalidPart, PartProblem};

/// What is known of the tokens of one kind of issuer.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// By which operators choose it.
    pub id: PresetId,
    /// For people.
    pub name: String,
    /// Where the provider documents its tokens.
    pub documentation: String,
    /// Whether customers who do not know of each other get tokens of one issuer.
    pub shared: bool,
    /// Whether its tokens have a `jti`.
    pub token_ids: TokenIds,
    /// What it signs with.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// The `typ` headers of its tokens; `None` is an absent header.
    pub token_types: Vec<Option<TokenType>>,
    /// With which `use` it publishes the keys of its tokens.
    pub key_uses: KeyUses,
    /// The longest `exp` - `iat` of its tokens.
    pub max_token_lifetime: Duration,
    /// The replay policy that its honest callers can live with.
    pub replay_policy: ReplayPolicy,
    /// Where its keys are, when that is on another host than the issuer. May name parts of the issuer's URL.
    pub jwks_url: Option<String>,
    /// Who says what the `aud` of its tokens is.
    pub audience: PresetAudience,
    /// What its subjects look like: the current form first.
    pub forms: Vec<SubjectForm>,
    /// The claims that say whose tokens they are. Where no part of the subject does, `aud` can be one.
    pub tenant_claims: Vec<TenantClaim>,
    /// What is known of its claims beyond those of every token.
    pub claims: Vec<ClaimSpec>,
    /// What an operator must know.
    pub notes: Vec<String>,
    /// The claims of sample tokens.
    pub samples: Vec<Map<String, Value>>,
    /// What its `iss` looks like.
    pub issuer: IssuerForm,
    audience_grammar: Option<Grammar>,
    jwks_url_grammar: Option<Grammar>,
}

/// Whether tokens have a `jti`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenIds {
    /// Every token.
    Always,
    /// No token.
    Never,
    /// Depends on versions or settings.
    Sometimes,
}

/// Who says what the `aud` of tokens is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresetAudience {
    /// Whoever asks for the token.
    Chosen,
    /// The issuer, by a template of parts.
    Fixed(String),
}

/// What the `iss` of a kind of issuer looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerForm {
    /// Forms that are known: the usual one first.
    pub templates: Vec<IssuerTemplate>,
    /// Whether anybody may run such an issuer under a URL of his own.
    pub anywhere: bool,
}

/// One form of an `iss`, which belongs to this kind of issuer and no other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IssuerTemplate {
    /// The URL, with `{name}` for each part.
    pub template: String,
    /// Its parts in order.
    pub parts: Vec<SubjectPart>,
    #[serde(skip)]
    grammar: Grammar,
}

/// One form of subjects.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubjectForm {
    /// Names it among the preset's.
    pub id: String,
    /// The subject, with `{name}` for each part.
    pub template: String,
    /// Its parts in order.
    pub parts: Vec<SubjectPart>,
    /// Said when the issuer is giving the form up.
    pub leaving: Option<Leaving>,
    #[serde(skip)]
    grammar: Grammar,
}

/// One part of a subject, an issuer's URL or an audience.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubjectPart {
    /// Names it in templates and on the command line.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// Whether it says whose token it is.
    pub tenant: bool,
    /// Whether the same text can come to mean somebody else.
    pub recyclable: bool,
    /// Whether it can be nothing.
    pub may_be_empty: bool,
    /// What it is limited to; a `*` at the end stands for more. Empty: not limited.
    pub values: Vec<String>,
    /// What it is where nothing is said and something behind it is.
    pub default: Option<String>,
}

/// That an issuer is giving up a form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaving {
    /// Since when, as a date.
    pub since: Option<String>,
    /// The id of the form that takes its place.
    pub successor: String,
    /// What an operator should know, in a sentence.
    pub hint: String,
}

/// A claim that says whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantClaim {
    /// Where it is.
    pub claim: ClaimPath,
    /// Whether the same value can come to mean somebody else.
    pub recyclable: bool,
}

/// What is known of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimSpec {
    /// Where it is.
    pub claim: ClaimPath,
    /// Its JSON type, when it is there and not null.
    pub kind: ClaimKind,
    /// What it is, for people.
    pub description: String,
}

/// The JSON type of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimKind {
    /// A string.
    Text,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// An array.
    List,
    /// An object.
    Object,
}

/// How firmly a pattern says whose subjects it accepts. Greater is firmer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TenantPin {
    /// Subjects of several tenants, of none, or no subject of this issuer at all.
    NotPinned,
    /// One tenant, by a name that somebody else can have later.
    Recyclable,
    /// One tenant for ever.
    Stable,
}

static ALL: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    // A file that cannot be read fails the tests; should one be shipped all the same, it must not take the others with it.
    file::SOURCES.iter().filter_map(|source| file::read(source).ok()).collect()
});

impl Preset {
    /// Every preset, in the order in which they are documented.
    pub fn all() -> &'static [Self] {
        &ALL
    }

    /// The preset of this id.
    pub fn find(id: &str) -> Option<&'static Self> {
        Self::all().iter().find(|preset| preset.id.as_str() == id)
    }

    /// The preset whose issuers alone have such a URL.
    pub fn of_issuer(url: &IssuerUrl) -> Option<&'static Self> {
        Self::all().iter().find(|preset| preset.issuer.recognises(url))
    }

    /// The form of a subject, and the names and values of its parts in order.
    pub fn form_of<'a>(&'a self, subject: &'a str) -> Option<(&'a SubjectForm, Vec<(&'a str, &'a str)>)> {
        self.forms.iter().find_map(|form| Some((form, form.read(subject)?)))
    }

    /// The form of this id.
    pub fn form(&self, id: &str) -> Option<&SubjectForm> {
        self.forms.iter().find(|form| form.id == id)
    }

    /// Whether the pattern accepts a subject of any of the forms.
    pub fn can_match(&self, pattern: &SubjectMatch) -> bool {
        self.forms.iter().any(|form| form.can_match(pattern))
    }

    /// Whether the pattern accepts subjects of one tenant alone: in every form that it can match, a part that names the tenant is
    /// written out before the first `*`, with the delimiter behind it.
    pub fn tenant_pin(&self, pattern: &SubjectMatch) -> TenantPin {
        let possible = self.forms.iter().filter(|form| form.can_match(pattern));
        possible.map(|form| form.tenant_pin(pattern)).min().unwrap_or(TenantPin::NotPinned)
    }
}

impl IssuerForm {
    /// Whether a URL is one of the known forms.
    pub fn recognises(&self, url: &IssuerUrl) -> bool {
        self.templates.iter().any(|template| template.read(url).is_some())
    }

    /// Whether an issuer of this kind can have this URL. One of development, which is no URL of any provider, fits them all.
    pub fn fits(&self, url: &IssuerUrl) -> bool {
        self.anywhere || self.recognises(url) || url.as_str().starts_with("http://")
    }
}

impl IssuerTemplate {
    /// The names and values of the parts of a URL, when it is of this form.
    pub fn read<'a>(&'a self, url: &'a IssuerUrl) -> Option<Vec<(&'a str, &'a str)>> {
        self.grammar.read(url.as_str())
    }
}

impl SubjectForm {
    /// The names and values of the parts of a subject, when it is of this form.
    pub fn read<'a>(&'a self, subject: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        self.grammar.read(subject)
    }

    /// Whether the pattern accepts a subject of this form.
    pub fn can_match(&self, pattern: &SubjectMatch) -> bool {
        self.grammar.can_match(pattern.as_str())
    }

    /// The parts of a subject of this form that are of another kind than a pattern accepts: of each the value that the subject has,
    /// and those that the pattern accepts in its place.
    pub(crate) fn other_kinds<'a>(
        &'a self,
        values: &[(&'a str, &'a str)],
        pattern: &str,
    ) -> Vec<(&'a SubjectPart, &'a str, Vec<String>)> {
        let others = self.grammar.other_values(values, pattern).into_iter();
        let part = |name: &str| self.parts.iter().find(|part| part.name == name);
        others.filter_map(|other| Some((part(other.part)?, other.value, other.accepted))).collect()
    }

    fn tenant_pin(&self, pattern: &SubjectMatch) -> TenantPin {
        let pinned = self.grammar.pinned_by(pattern);
        let parts = self.parts.iter().filter(|part| part.tenant && pinned.contains(&part.name.as_str()));
        let pin = |part: &SubjectPart| if part.recyclable { TenantPin::Recyclable } else { TenantPin::Stable };
        parts.map(pin).max().unwrap_or(TenantPin::NotPinned)
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
