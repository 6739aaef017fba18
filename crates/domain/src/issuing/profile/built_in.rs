//! The profiles that come with the system, from `profiles/`.

use std::sync::LazyLock;

use super::Profile;
use super::definition::ProfileDefinition;
use crate::values::violation::Violations;

macro_rules! sources {
    ($($name:literal)+) => { &[$(($name, include_str!(concat!("../../../profiles/", $name, ".toml")))),+] };
}

/// Names and texts.
pub(super) const SOURCES: &[(&str, &str)] = sources! {
    "namespace" "rwx" "spacelift" "meshstack-runner" "meshstack-run" "kubernetes"
};

/// A file that is no profile is left out; that there is none is for a test to say.
static ALL: LazyLock<Vec<Profile>> = LazyLock::new(|| SOURCES.iter().filter_map(|(name, text)| read(name, text).ok()).collect());

pub(super) fn all() -> impl Iterator<Item = &'static Profile> {
    ALL.iter()
}

pub(super) fn names() -> String {
    SOURCES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Reads a file.
pub(super) fn read(name: &str, text: &str) -> Result<Profile, Violations> {
    let mut violations = Violations::new();
    let definition = violations.check(name, ProfileDefinition::from_toml(text));
    let profile = definition.and_then(|definition| Profile::new(name, definition, name, &mut violations));
    profile.ok_or(violations)
}
