//! Why something was decided, and what would change it: explain, lint, preview, review and comparison.

pub mod comparison;
pub mod explain;
pub mod judgement;
pub mod lint;
pub mod preview;
pub mod review;
