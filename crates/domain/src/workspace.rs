//! Workspaces: the tenants that own every other resource.

use serde::{Deserialize, Serialize};

use crate::draft::{Given, Mask};
use crate::id::WorkspaceId;
use crate::name::DisplayName;
use crate::time::Timestamp;
use crate::violation::Violations;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// For people.
    pub display_name: DisplayName,
    /// Whether tokens are exchanged for it.
    pub state: WorkspaceState,
    /// Counts the changes of the workspace itself; the etag is made of it.
    pub revision: i64,
    /// Counts the changes of everything in it that bears on exchanges. Grows in commit order.
    pub policy_revision: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Whether a workspace is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceState {
    /// Tokens are exchanged.
    Active,
    /// Nothing is minted.
    Disabled,
}

/// What may be set of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceSettings {
    /// For people.
    pub display_name: DisplayName,
    /// Whether tokens are exchanged for it.
    pub state: WorkspaceState,
}

/// A workspace as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkspaceDraft {
    /// For people.
    pub display_name: String,
    /// Left out: active.
    pub state: Given<WorkspaceState>,
}

impl WorkspaceSettings {
    const SETTABLE: [&str; 2] = ["display_name", "state"];
    const IMMUTABLE: [&str; 4] = ["id", "etag", "create_time", "update_time"];

    /// Checks a new workspace. `None` when a violation was noted.
    pub fn create(draft: &WorkspaceDraft, violations: &mut Violations) -> Option<Self> {
        let display_name = draft.display_name(violations);
        let state = draft.state(violations);
        Some(Self { display_name: display_name?, state: state? })
    }

    /// These settings with the fields that the mask names taken from the draft. Violations are noted; the result counts only
    /// when there are none.
    #[must_use]
    pub fn update(mut self, draft: &WorkspaceDraft, mask: &[String], violations: &mut Violations) -> Self {
        let mask = Mask::check(mask, &Self::SETTABLE, &Self::IMMUTABLE, violations);
        if mask.names("display_name")
            && let Some(display_name) = draft.display_name(violations)
        {
            self.display_name = display_name;
        }
        if mask.names("state")
            && let Some(state) = draft.state(violations)
        {
            self.state = state;
        }
        self
    }
}

impl WorkspaceDraft {
    fn display_name(&self, violations: &mut Violations) -> Option<DisplayName> {
        violations.check("workspace.display_name", self.display_name.parse())
    }

    fn state(&self, violations: &mut Violations) -> Option<WorkspaceState> {
        violations.check("workspace.state", self.state.unwrap_or(Ok(WorkspaceState::Active)))
    }
}

impl Workspace {
    /// What may be set of it.
    pub fn settings(&self) -> WorkspaceSettings {
        WorkspaceSettings { display_name: self.display_name.clone(), state: self.state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Unreadable;

    #[test]
    fn a_workspace_needs_a_name_and_is_active_unless_it_says_otherwise() {
        let mut violations = Violations::new();
        let draft = WorkspaceDraft { display_name: "Acme".to_owned(), state: None };
        let settings = WorkspaceSettings::create(&draft, &mut violations).unwrap();
        assert_eq!((settings.display_name.as_str(), settings.state), ("Acme", WorkspaceState::Active));
        assert!(violations.is_empty());

        let draft = WorkspaceDraft { display_name: String::new(), state: Some(Err(Unreadable("must be a state"))) };
        assert_eq!(WorkspaceSettings::create(&draft, &mut violations), None);
        assert_eq!(violations.to_string(), "workspace.display_name: must not be empty; workspace.state: must be a state");
    }

    #[test]
    fn an_update_changes_only_what_the_mask_names() {
        let before = WorkspaceSettings { display_name: "Acme".parse().unwrap(), state: WorkspaceState::Active };
        let mut violations = Violations::new();
        let draft = WorkspaceDraft { display_name: String::new(), state: Some(Ok(WorkspaceState::Disabled)) };
        let after = before.update(&draft, &["state".to_owned()], &mut violations);
        assert!(violations.is_empty());
        assert_eq!((after.display_name.as_str(), after.state), ("Acme", WorkspaceState::Disabled));
    }
}
