//! How long ID tokens can live.

use std::time::Duration;

/// The shortest lifetime of an ID token.
pub const MIN: Duration = Duration::from_mins(1);
/// The longest lifetime that an issuer or a profile can have.
pub const MAX_LIMIT: Duration = Duration::from_hours(24);
