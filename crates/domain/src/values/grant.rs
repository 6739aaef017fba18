//! What an access token allows on one resource.

use serde::{Deserialize, Serialize};

use crate::values::violation::Violations;

/// One element of an access token's `authorization_details` (RFC 9396): `resource_type` becomes `type`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The kind of resource.
    pub resource_type: String,
    /// The resource; `*` is every resource of that type.
    pub resource_id: String,
    /// What may be done with it.
    pub actions: Vec<String>,
}

impl Grant {
    /// Notes everything wrong with this grant, as the field `path`.
    pub fn validate(&self, path: &str, violations: &mut Violations) {
        for (name, text) in [("resource_type", &self.resource_type), ("resource_id", &self.resource_id)] {
            note_text(&format!("{path}.{name}"), text, violations);
        }
        if self.actions.is_empty() {
            violations.add(format!("{path}.actions"), "must name at least one action");
        }
        if self.actions.len() > 64 {
            violations.add(format!("{path}.actions"), "must name at most 64 actions");
        }
        for (index, action) in self.actions.iter().enumerate() {
            note_text(&format!("{path}.actions[{index}]"), action, violations);
        }
    }
}

fn note_text(field: &str, text: &str, violations: &mut Violations) {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        violations.add(field, "must be 1 to 256 bytes without control characters");
    }
}
