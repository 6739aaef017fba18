//! Who may call what, and who may give what to whom.

pub mod caller;
pub mod permission;
pub mod reachable_scopes;
