//! The subject token that a command is about.

use std::path::PathBuf;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::secret::Secret;

#[derive(Debug, Args)]
#[group(id = "subject", required = true, multiple = false)]
pub(super) struct SubjectTokenArgs {
    /// The token. Other users of this machine can read it in the list of processes: prefer --token-file, or `-`.
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    token: Option<Secret>,
    /// A file with the token; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// `-`: read the token from standard input.
    // A token written here by mistake must not come back in an error message, as clap's own checks would have it.
    #[arg(value_name = "-")]
    standard_input: Option<Secret>,
}

impl SubjectTokenArgs {
    /// Reads the token from where it was said to be.
    pub(super) fn read(self) -> Result<Secret> {
        let Self { token, token_file, standard_input } = self;
        if standard_input.is_some_and(|text| text.expose() != "-") {
            return Err(Failure::usage(
                "a token cannot be an argument by itself; pipe it and pass `-`, or pass --token-file FILE",
            ));
        }
        Ok(match (token, token_file) {
            (Some(token), _) if token.expose() != "-" => Secret::from_text("--token", token.expose())?,
            (_, Some(file)) => Secret::from_file("--token-file", &file)?,
            _ => Secret::from_file("", "-".as_ref())?,
        })
    }
}
