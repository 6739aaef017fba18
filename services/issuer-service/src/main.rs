//! The issuer-service binary.

use std::process::ExitCode;

use countersign_runtime::process::{self, Program};

fn main() -> ExitCode {
    let program = Program { name: "issuer-service", version: env!("CARGO_PKG_VERSION") };
    process::run(program, issuer_service::start_from_settings)
}
