//! What had to hold, and whether it did.

use std::process::ExitCode;

/// Collects what had to hold, and prints it.
#[derive(Debug, Default)]
pub struct Verdict {
    broken: usize,
}

impl Verdict {
    /// Says whether that holds.
    pub fn must_hold(&mut self, what: &str, holds: bool) {
        #[expect(clippy::print_stdout, reason = "the answer of a measurement")]
        {
            println!("  {}  {what}", if holds { "holds " } else { "BROKEN" });
        }
        self.broken += usize::from(!holds);
    }

    /// Success when everything held.
    pub fn exit_code(&self) -> ExitCode {
        if self.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
