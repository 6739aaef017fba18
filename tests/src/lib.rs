//! The harness of the end-to-end tests: a deployment of the real binaries, as separate processes, started from the environment
//! of `docker-compose.yml` with a private PostgreSQL and Redis.
//!
//! It knows the services by their binaries, their variables and their wire alone. Start reading at [`deployment::Deployment`] and
//! [`operator::Operator`]. [`replay_storm`] and [`redis_faults`] are what a test and a measurement have in common.

#![expect(clippy::expect_used, clippy::panic, clippy::missing_panics_doc, reason = "a helper of a test fails the test")]

use std::path::{Path, PathBuf};

pub mod compose;
pub mod deployment;
pub mod http1;
pub mod keep_alive;
pub mod operator;
pub mod redis_faults;
pub mod replay_storm;
pub mod token_endpoint;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is one level down")
}

/// A program of this workspace, built beside the test or program that asks.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a program has a path");
    let folder = this.parent().expect("a program is in a folder");
    // A test is `target/<profile>/deps/<test>`, a program `target/<profile>/<program>`.
    let profile = if folder.ends_with("deps") { folder.parent().expect("`deps` is in a folder") } else { folder };
    let path = profile.join(name);
    assert!(path.is_file(), "{name} is not built: `./tests/run` builds the programs before it runs the tests");
    path
}
