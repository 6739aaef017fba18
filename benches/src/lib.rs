//! Measurements of the whole system: deployments of the real binaries, as the end-to-end tests start them, under loads that take
//! minutes and print figures. Nothing here is run by `cargo test`; what must hold is tested elsewhere, small.
//!
//! Each program is in `src/bin`; what they share is here. `README.md` says how to run them and what they print.

#![expect(clippy::expect_used, clippy::panic, clippy::missing_panics_doc, reason = "a measurement that cannot be made ends")]

pub mod arguments;
pub mod latencies;
pub mod load;
pub mod machine;
pub mod scene;
pub mod verdict;
