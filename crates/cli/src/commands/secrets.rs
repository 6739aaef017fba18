//! `countersign secrets …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_runtime::ambient::SystemEntropy;

use crate::deployment_secrets::DeploymentSecrets;
use crate::failure::{Failure, Result};
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Make the bootstrap token, the deployment secret and the key-encryption key, each in a file that only you can read.
    /// Files that exist are kept.
    Init(InitArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder for the files.
    #[arg(long, visible_alias = "out", value_name = "DIR")]
    dir: PathBuf,
}

impl SecretsCommand {
    pub(crate) fn run(self, output: &mut Output) -> Result<()> {
        let Self::Init(InitArgs { dir }) = self;
        let secrets = DeploymentSecrets::in_folder(&dir);
        let made = secrets
            .create_missing(&SystemEntropy)
            .map_err(|error| Failure::while_doing(error, format!("cannot write to {}", dir.display())))?;
        for path in [&secrets.bootstrap_token, &secrets.deployment_secret, &secrets.key_encryption_key] {
            let what = if made.contains(&path.as_path()) { "made" } else { "kept" };
            output.message(format!("{what} {}", path.display()));
        }
        Ok(())
    }
}
