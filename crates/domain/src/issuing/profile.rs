//! Identity profiles: what an issuer says of a run, made of the attributes that the run's scheduler gives.
//!
//! A profile is data ([`ProfileDefinition`]): declared attributes with their types, attributes derived from them in CEL, templates of
//! the subject, claims, the audience where it is fixed, `nbf` and durations. Those that come with the system are files under
//! `profiles/`; an operator can give an issuer one of his own. Either becomes a [`Profile`] by one check, which reports everything
//! that is wrong at once.
//!
//! An attribute's value can never change the structure of the subject, because one that holds a delimiter of the subject's form is
//! refused; so two different sets of values never render the same subject (SECURITY 54). `form` says why.

mod attribute;
mod built_in;
mod change;
mod check;
mod declared;
mod definition;
mod form;
mod render;
mod table;
mod template;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use attribute::MAX_ATTRIBUTE_BYTES;
pub use change::SubjectChange;
pub use definition::{AttributeDefinition, ClaimDefinition, ProfileDefinition, SubjectFormDefinition};
pub use render::{Identity, IdentityContext};

use crate::trust::cel::CelExpression;
use crate::values::violation::Violations;
use check::Checked;
use template::Template;

/// The registered claims of an ID token, for the discovery document. `nbf` is left out where the issuer's profile says so.
pub const ID_TOKEN_CLAIMS: [&str; 7] = ["aud", "exp", "iat", "iss", "jti", "nbf", "sub"];

/// A profile that was checked. Equal names and definitions are equal profiles; cloning is cheap.
#[derive(Clone)]
pub struct Profile(Arc<Inner>);

struct Inner {
    name: Box<str>,
    definition: ProfileDefinition,
    checked: Checked,
}

/// Not the name of a profile that comes with the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}, {}", built_in::names(), Profile::CUSTOM)]
pub struct UnknownProfile;

/// When a token begins to be valid, as its `nbf` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NotBefore {
    /// When it was issued.
    #[default]
    IssuedAt,
    /// There is no `nbf`.
    Absent,
    /// So much earlier than it was issued, for verifiers whose clock is behind.
    BackDated(Duration),
}

/// Where a claim comes from.
#[derive(Debug)]
enum ClaimSource {
    Attribute(Box<str>),
    Template(Template),
    Expression(CelExpression),
}

impl Profile {
    /// The name of every profile that an operator defined.
    pub const CUSTOM: &str = "custom";

    /// The profiles that come with the system.
    pub fn built_in() -> impl Iterator<Item = Self> {
        built_in::all().cloned()
    }

    /// Checks a profile that an operator defined. Violations are noted below `field`; `None` when there was one.
    pub fn custom(definition: ProfileDefinition, field: &str, violations: &mut Violations) -> Option<Self> {
        Self::new(Self::CUSTOM, definition, field, violations)
    }

    fn new(name: &str, definition: ProfileDefinition, field: &str, violations: &mut Violations) -> Option<Self> {
        let mut own = Violations::new();
        let checked = check::check(&definition, field, &mut own);
        let is_good = own.is_empty();
        violations.extend(own);
        is_good.then(|| Self(Arc::new(Inner { name: name.into(), definition, checked })))
    }

    /// The name by which operators choose it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether an operator defined it.
    pub fn is_custom(&self) -> bool {
        self.name() == Self::CUSTOM
    }

    /// What it was made of.
    pub fn definition(&self) -> &ProfileDefinition {
        &self.0.definition
    }

    /// The templates of its subjects, in the order in which they are tried.
    pub fn subject_templates(&self) -> impl Iterator<Item = String> {
        self.checked().forms.iter().map(|form| form.template.to_string())
    }

    /// The claims of its tokens, sorted, for the discovery document: registered ones and the profile's own, whether or not a run has
    /// them all.
    pub fn claim_names(&self) -> Vec<String> {
        let own = self.checked().claims.iter().map(|(path, _)| path.top_level());
        let registered = ID_TOKEN_CLAIMS.into_iter().filter(|name| *name != "nbf" || self.not_before() != NotBefore::Absent);
        let names: BTreeSet<String> = own.chain(registered.map(str::to_owned)).collect();
        names.into_iter().collect()
    }

    /// What `nbf` is.
    pub fn not_before(&self) -> NotBefore {
        self.0.checked.not_before
    }

    /// Whether every token has the same audience, rather than the one that was asked for.
    pub fn fixes_audience(&self) -> bool {
        self.0.checked.audience.is_some()
    }

    /// Whether `aud` is an array even where it names one audience.
    pub fn audience_is_list(&self) -> bool {
        self.0.definition.audience_as_list
    }

    /// How long a token lives when neither request nor issuer says.
    pub fn default_token_duration(&self) -> Option<Duration> {
        self.0.checked.default_token_duration
    }

    /// The longest an issuer may let a token live.
    pub fn max_token_duration(&self) -> Duration {
        self.0.checked.max_token_duration
    }

    fn checked(&self) -> &Checked {
        &self.0.checked
    }
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.name == other.0.name && self.0.definition == other.0.definition)
    }
}

impl Eq for Profile {}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("name", &self.name()).field("definition", self.definition()).finish()
    }
}

/// Reads the name of a profile that comes with the system.
impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        built_in::all().find(|profile| profile.name() == name).cloned().ok_or(UnknownProfile)
    }
}
