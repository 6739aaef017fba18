//! Whole-system tests, in one binary: linking is what costs.
//!
//! `tidy` holds the rules of the source tree.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod tidy;
