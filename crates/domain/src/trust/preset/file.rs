//! The files of presets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::grammar::{Characters, Grammar, InvalidGrammar, Part};
use super::{
    ClaimSpec, IssuerForm, IssuerTemplate, Leaving, Preset, PresetAudience, SubjectForm, SubjectPart, TenantClaim, TokenIds,
};
use crate::trust::key_source::KeyUses;
use crate::values::name::PresetId;
use crate::values::replay_policy::ReplayPolicy;
use crate::values::signature_algorithm::SignatureAlgorithm;
use crate::values::token_type::TokenType;

macro_rules! sources {
    ($($name:literal)+) => { &[$(include_str!(concat!("../../../presets/", $name, ".toml"))),+] };
}

/// The text of every preset.
pub(super) const SOURCES: &[&str] = sources! {
    "rwx" "namespace" "spacelift" "meshstack" "aws-sts" "aws-cognito" "github-actions" "gitlab" "buildkite" "circleci"
    "terraform-cloud" "kubernetes" "google" "azure" "spiffe"
};

/// Why a text is no preset.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidPreset {
    #[error("the text is not TOML of the expected form")]
    Text(#[from] toml::de::Error),
    #[error("the template `{template}` is wrong")]
    Template { template: String, source: InvalidGrammar },
    #[error("`{0}` is not described under `parts`, or described there and not used")]
    Part(String),
    #[error("the form `{0}` must be there once, and what follows it must be another")]
    Form(String),
    #[error("`{0}` must not be empty")]
    Empty(&'static str),
}

/// A preset as its file has it. Parts are described once, whichever templates they stand in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PresetFile {
    id: PresetId,
    name: String,
    documentation: String,
    shared: bool,
    token_ids: TokenIds,
    algorithms: Vec<SignatureAlgorithm>,
    /// An empty one is an absent header.
    token_types: Vec<String>,
    #[serde(default)]
    key_uses: KeyUses,
    max_token_lifetime_seconds: u64,
    replay_policy: ReplayPolicy,
    jwks_url: Option<String>,
    /// Left out: whoever asks for the token chooses.
    audience: Option<String>,
    #[serde(default)]
    issuers: Vec<String>,
    #[serde(default)]
    other_issuers: bool,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    parts: BTreeMap<String, PartFile>,
    forms: Vec<FormFile>,
    tenant_claims: Vec<TenantClaim>,
    claims: Vec<ClaimSpec>,
    samples: Vec<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartFile {
    description: String,
    #[serde(default)]
    tenant: bool,
    #[serde(default)]
    recyclable: bool,
    /// The characters that it never holds.
    #[serde(default)]
    excludes: String,
    /// The only characters that it ever holds.
    only: Option<CharacterClass>,
    #[serde(default)]
    may_be_empty: bool,
    #[serde(default)]
    values: Vec<String>,
    /// What it is when nothing is said.
    default: Option<String>,
}

/// Characters that are worth a name.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum CharacterClass {
    /// 0 to 9.
    Digits,
    /// What a UUID in lower case consists of.
    Uuid,
    /// What one label of a host name consists of.
    Label,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FormFile {
    id: String,
    template: String,
    leaving: Option<Leaving>,
}

impl CharacterClass {
    const fn characters(self) -> &'static str {
        match self {
            Self::Digits => "0123456789",
            Self::Uuid => "0123456789abcdef-",
            Self::Label => "abcdefghijklmnopqrstuvwxyz0123456789-",
        }
    }
}

impl PartFile {
    fn characters(&self) -> Characters {
        match self.only {
            Some(class) => Characters::Only(class.characters().into()),
            None => Characters::Except(self.excludes.as_str().into()),
        }
    }

    fn part(&self, name: &str) -> SubjectPart {
        SubjectPart {
            name: name.to_owned(),
            description: self.description.clone(),
            tenant: self.tenant,
            recyclable: self.recyclable,
            may_be_empty: self.may_be_empty,
            values: self.values.clone(),
            default: self.default.clone(),
        }
    }
}

/// The parts of all templates of a file.
struct Parts<'a> {
    described: &'a BTreeMap<String, PartFile>,
    used: BTreeSet<String>,
}

impl Parts<'_> {
    /// A template, and its parts in order.
    fn grammar(&mut self, template: &str) -> Result<(Grammar, Vec<SubjectPart>), InvalidPreset> {
        let mut parts = Vec::new();
        let mut grammar_parts = Vec::new();
        for named in template.split('{').skip(1) {
            let name = named.split('}').next().unwrap_or_default();
            let part = self.described.get(name).ok_or_else(|| InvalidPreset::Part(name.to_owned()))?;
            self.used.insert(name.to_owned());
            parts.push(part.part(name));
            grammar_parts.push(Part::new(name, part.characters(), part.may_be_empty, &part.values, part.default.as_deref()));
        }
        let grammar = Grammar::new(template, grammar_parts)
            .map_err(|source| InvalidPreset::Template { template: template.to_owned(), source })?;
        Ok((grammar, parts))
    }
}

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Preset, InvalidPreset> {
    let file: PresetFile = toml::from_str(text)?;
    let mut parts = Parts { described: &file.parts, used: BTreeSet::new() };
    let mut templates = Vec::new();
    for template in file.issuers {
        let (grammar, parts) = parts.grammar(&template)?;
        templates.push(IssuerTemplate { template, parts, grammar });
    }
    let mut forms: Vec<SubjectForm> = Vec::new();
    for FormFile { id, template, leaving } in file.forms {
        let (grammar, parts) = parts.grammar(&template)?;
        if forms.iter().any(|form| form.id == id) {
            return Err(InvalidPreset::Form(id));
        }
        forms.push(SubjectForm { id, template, parts, leaving, grammar });
    }
    for form in &forms {
        if let Some(leaving) = &form.leaving
            && !forms.iter().any(|other| other.id == leaving.successor && other.leaving.is_none())
        {
            return Err(InvalidPreset::Form(leaving.successor.clone()));
        }
    }
    let audience_grammar = file.audience.as_deref().map(|template| parts.grammar(template)).transpose()?.map(|found| found.0);
    let jwks_url_grammar = file.jwks_url.as_deref().map(|template| parts.grammar(template)).transpose()?.map(|found| found.0);
    if let Some(unused) = file.parts.keys().find(|name| !parts.used.contains(*name)) {
        return Err(InvalidPreset::Part(unused.clone()));
    }
    for (name, is_empty) in [
        ("algorithms", file.algorithms.is_empty()),
        ("token_types", file.token_types.is_empty()),
        ("forms", forms.is_empty()),
        ("issuers", templates.is_empty() && !file.other_issuers),
        ("samples", file.samples.is_empty()),
    ] {
        if is_empty {
            return Err(InvalidPreset::Empty(name));
        }
    }
    Ok(Preset {
        id: file.id,
        name: file.name,
        documentation: file.documentation,
        shared: file.shared,
        token_ids: file.token_ids,
        algorithms: file.algorithms,
        token_types: file.token_types.iter().map(|text| (!text.is_empty()).then(|| TokenType::new(text))).collect(),
        key_uses: file.key_uses,
        max_token_lifetime: Duration::from_secs(file.max_token_lifetime_seconds),
        replay_policy: file.replay_policy,
        jwks_url: file.jwks_url,
        audience: file.audience.map_or(PresetAudience::Chosen, PresetAudience::Fixed),
        forms,
        tenant_claims: file.tenant_claims,
        claims: file.claims,
        notes: file.notes,
        samples: file.samples,
        issuer: IssuerForm { templates, anywhere: file.other_issuers },
        audience_grammar,
        jwks_url_grammar,
    })
}
