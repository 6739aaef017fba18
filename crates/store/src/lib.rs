//! See the module list.
pub mod issuer;
