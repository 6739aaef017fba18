//! profile

/// A profile that comes with the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuiltInProfile {
    /// `{workspace_id}/{path}`.
    Namespace,
    /// `org:{org}:vault:{vault}`.
    Rwx,
}
