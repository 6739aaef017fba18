//! Workspaces: the tenants that own every other resource.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::values::draft::{Given, Mask};
use crate::values::id::WorkspaceId;
use crate::values::name::DisplayName;
use crate::values::time::Timestamp;
use crate::values::violation::Violations;

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

/// How long a service acts on what it knows of the state of workspaces when it cannot reach trust-service (SECURITY 82).
pub const STATE_STALENESS_LIMIT: Duration = Duration::from_secs(30);

/// What a call does in a workspace, as far as the state of the workspace decides whether it can (SECURITY 82).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkspaceUse {
    /// Reads.
    Read,
    /// Takes something away: deletes an issuer, revokes a signing key.
    TakeAway,
    /// Creates or changes something.
    Change,
    /// Signs a token in the name of the workspace.
    Sign,
}

/// Why the state of a workspace forbids a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkspaceUnusable {
    /// The workspace was deleted, or never existed.
    #[error("the workspace does not exist")]
    Missing,
    /// The workspace is disabled.
    #[error("the workspace is disabled")]
    Disabled,
}

impl WorkspaceUse {
    /// Whether the state of the workspace decides about this use at all. The operator can always look and take away, so that an
    /// emergency revocation depends neither on the state nor on knowing it.
    pub const fn depends_on_state(self, is_operator: bool) -> bool {
        !(is_operator && matches!(self, Self::Read | Self::TakeAway))
    }

    /// Checks that a workspace in this state, `None` where there is no such workspace, permits this use.
    ///
    /// # Errors
    /// The workspace is missing, or it is disabled and the use is to sign or the caller is not the operator.
    pub const fn check(self, state: Option<WorkspaceState>, is_operator: bool) -> Result<(), WorkspaceUnusable> {
        if !self.depends_on_state(is_operator) {
            return Ok(());
        }
        match (state, self) {
            (Some(WorkspaceState::Active), _) => Ok(()),
            (Some(WorkspaceState::Disabled), Self::Change) if is_operator => Ok(()),
            (Some(WorkspaceState::Disabled), _) => Err(WorkspaceUnusable::Disabled),
            (None, _) => Err(WorkspaceUnusable::Missing),
        }
    }
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
    use crate::values::draft::Unreadable;

    #[test]
    fn s82_only_an_active_workspace_is_used_by_its_callers_and_only_the_operator_repairs_a_disabled_one() {
        use WorkspaceState::{Active, Disabled};
        use WorkspaceUse::{Change, Read, Sign, TakeAway};
        let (disabled, missing) = (Err(WorkspaceUnusable::Disabled), Err(WorkspaceUnusable::Missing));
        for (is_operator, wanted, when_disabled, when_missing) in [
            (false, Read, disabled, missing),
            (false, TakeAway, disabled, missing),
            (false, Change, disabled, missing),
            (false, Sign, disabled, missing),
            (true, Read, Ok(()), Ok(())),
            (true, TakeAway, Ok(()), Ok(())),
            (true, Change, Ok(()), missing),
            (true, Sign, disabled, missing),
        ] {
            assert_eq!(wanted.check(Some(Active), is_operator), Ok(()), "{wanted:?}, {is_operator}");
            assert_eq!(wanted.check(Some(Disabled), is_operator), when_disabled, "{wanted:?}, {is_operator}");
            assert_eq!(wanted.check(None, is_operator), when_missing, "{wanted:?}, {is_operator}");
            // Where the state is not asked for, it must not matter.
            let is_bound = when_disabled.is_err() || when_missing.is_err();
            assert_eq!(wanted.depends_on_state(is_operator), is_bound, "{wanted:?}, {is_operator}");
        }
    }

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
