//! The names that templates and expressions of a profile may use.

use std::collections::{BTreeMap, BTreeSet};

use super::attribute::{Attribute, AttributeKind};
use super::table::Table;
use crate::trust::cel::CelExpression;

/// The host name in the issuer's URL, without a port.
pub(super) const ISSUER_HOST: &str = "issuer_host";
/// The issuer's URL.
pub(super) const ISSUER_URL: &str = "issuer_url";
/// The id of the workspace that owns the issuer.
pub(super) const WORKSPACE_ID: &str = "workspace_id";

/// What is known of the issuer, whatever the caller says.
pub(super) const CONTEXT: [&str; 3] = [ISSUER_HOST, ISSUER_URL, WORKSPACE_ID];

/// What a profile declares.
#[derive(Debug, Clone, Default)]
pub(super) struct Declared {
    pub(super) attributes: BTreeMap<Box<str>, Attribute>,
    pub(super) derived: BTreeMap<Box<str>, CelExpression>,
    /// What is derived from attributes of few values, computed beforehand.
    pub(super) tables: BTreeMap<Box<str>, Table>,
}

impl Declared {
    /// Computes beforehand what can be.
    pub(super) fn tabulate(&mut self) {
        let tables =
            self.derived.iter().filter_map(|(name, expression)| Some((name.clone(), Table::of(expression, &self.attributes)?)));
        self.tables = tables.collect();
    }

    /// Whether the name stands for something that attributes are computed from.
    pub(super) fn is_given(&self, name: &str) -> bool {
        CONTEXT.contains(&name) || self.attributes.contains_key(name)
    }

    /// Whether the name stands for anything.
    pub(super) fn is_known(&self, name: &str) -> bool {
        self.is_given(name) || self.derived.contains_key(name)
    }

    /// Whether the value of this name can hold the character.
    pub(super) fn can_hold(&self, name: &str, character: char) -> bool {
        match self.attributes.get(name) {
            Some(attribute) => attribute.can_hold(character),
            None if name == WORKSPACE_ID => character == '_' || character.is_ascii_alphanumeric(),
            None => true,
        }
    }

    /// The values of this name, where they can be listed.
    pub(super) fn values(&self, name: &str) -> Option<Vec<&str>> {
        let allowed = &self.attributes.get(name)?.allowed_values;
        (!allowed.is_empty()).then(|| allowed.iter().map(String::as_str).collect())
    }

    /// The names that decide the values of these names, these included.
    pub(super) fn deciding<'a>(&'a self, names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = names.collect();
        while let Some(name) = open.pop() {
            if found.insert(name) {
                let expressions = self.default_of(name).into_iter().chain(self.derived.get(name));
                open.extend(expressions.flat_map(CelExpression::attributes).map(AsRef::<str>::as_ref));
            }
        }
        found
    }

    /// How the value of this name comes about; two equal rules give equal values where they give any.
    pub(super) fn rule(&self, name: &str) -> (Option<AttributeKind>, Option<&CelExpression>, Option<&CelExpression>) {
        (self.attributes.get(name).map(|attribute| attribute.kind), self.default_of(name), self.derived.get(name))
    }

    fn default_of(&self, name: &str) -> Option<&CelExpression> {
        self.attributes.get(name)?.default.as_ref()
    }
}
