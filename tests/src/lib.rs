//! The harness of the end-to-end tests: a deployment of the real binaries, as separate processes, started from the environment
//! of `docker-compose.yml` with a private PostgreSQL and Redis.
//!
//! It knows the services by their binaries, their variables and their wire alone. Start reading at [`deployment::Deployment`] and
//! [`operator::Operator`].

#![expect(clippy::expect_used, clippy::panic, clippy::missing_panics_doc, reason = "a helper of a test fails the test")]

use std::path::{Path, PathBuf};

pub mod compose;
pub mod deployment;
pub mod http1;
pub mod operator;
pub mod token_endpoint;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is one level down")
}

/// A program of this workspace, built beside the test that asks.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // `target/<profile>/deps/<test>`
    let path = test.parent().and_then(Path::parent).expect("cargo puts tests below the profile's folder").join(name);
    assert!(path.is_file(), "{name} is not built: `./tests/run` builds the programs before it runs the tests");
    path
}
