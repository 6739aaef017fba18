//! Profiles as somebody wrote them: in a file, or as a field of an issuer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A profile before it is checked. Becomes a [`super::Profile`] by [`super::Profile::custom`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileDefinition {
    /// What a scheduler says of a run, by name.
    pub attributes: BTreeMap<String, AttributeDefinition>,
    /// What follows from the attributes: CEL, by name.
    pub derived: BTreeMap<String, String>,
    /// How the subject may be written. The first whose condition holds is used, unless the request names one.
    pub subject_forms: Vec<SubjectFormDefinition>,
    /// Claims beside the registered ones, by their paths.
    pub claims: BTreeMap<String, ClaimDefinition>,
    /// Template of the audience that every token has. Empty: the request chooses.
    pub audience: String,
    /// Whether `aud` is an array even where it names one.
    pub audience_as_list: bool,
    /// What `nbf` is: `issued_at` (also when empty), `absent`, or `back_dated`.
    pub not_before: String,
    /// How much earlier than `iat` a back-dated `nbf` is.
    pub back_dating_seconds: u32,
    /// How long a token lives when neither request nor issuer says. 0: the issuer's default.
    pub default_token_seconds: u32,
    /// The longest an issuer may let a token live. 0: as long as any.
    pub max_token_seconds: u32,
}

/// One attribute of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttributeDefinition {
    /// What it is, for people.
    pub description: String,
    /// `text` (also when empty), `integer` or `boolean`.
    pub kind: String,
    /// Whether it must be given. One that stands in the subject must be, unless it has a default.
    pub required: bool,
    /// The only values it has. Empty: any.
    pub allowed_values: Vec<String>,
    /// What its text looks like, with `*` for any run of characters. Empty: anything.
    pub pattern: String,
    /// The only characters of its text: `digits`, `uuid` or `label`. Empty: any.
    pub characters: String,
    /// CEL for its value when it is not given. Empty: it has none.
    pub default: String,
}

/// One way to write a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubjectFormDefinition {
    /// The name by which a request asks for it.
    pub id: String,
    /// Text with `{name}` for values.
    pub template: String,
    /// The characters that separate the parts of the subject: no value in it may hold one.
    pub delimiters: String,
    /// CEL for whether it is used when the request names none. Empty: always.
    pub condition: String,
}

/// Where a claim comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimDefinition {
    /// The value of an attribute, with its type; left out where the run has none.
    Attribute(String),
    /// Text with `{name}` for values; left out where the run lacks one of them.
    Template(String),
    /// CEL.
    Expression(String),
}

impl ProfileDefinition {
    /// Reads a profile's file. Samples in it are for whoever reads the file.
    ///
    /// # Errors
    /// It is not TOML of this form.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        let mut file: toml::Table = toml::from_str(text)?;
        file.remove("samples");
        file.try_into()
    }

    /// The texts of all expressions.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &str> {
        let defaults = self.attributes.values().map(|attribute| &attribute.default);
        let conditions = self.subject_forms.iter().map(|form| &form.condition);
        let claims = self.claims.values().filter_map(|claim| match claim {
            ClaimDefinition::Expression(source) => Some(source),
            ClaimDefinition::Attribute(_) | ClaimDefinition::Template(_) => None,
        });
        let all = defaults.chain(self.derived.values()).chain(conditions).chain(claims);
        all.map(String::as_str).filter(|source| !source.is_empty())
    }
}
