//! Whole-system tests, in one binary: linking is what costs.
//!
//! `exchange` is the main job; `deployments` and `verify` are what the others share; `tidy` holds the rules of the source tree.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails the test")]

mod as_code;
mod command_line;
mod compose;
mod deployments;
mod dev;
mod disclosure;
mod exchange;
mod explain;
mod faults;
mod hostile;
mod key_sources;
mod past;
mod providers;
mod refusals;
mod replay;
mod restart;
mod secrets;
mod signing_keys;
mod surface;
mod tidy;
mod unknown_keys;
mod verify;
mod workspaces;
