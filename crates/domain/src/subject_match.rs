//! subject_match

use serde::{Deserialize, Serialize};
/// One accepted subject as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SubjectMatch(String);
