//! `countersign secrets …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_runtime::ambient::SystemEntropy;

use crate::deployment_secrets::DeploymentSecrets;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::service_files::{self, Servers};

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
    /// A folder that gets one subfolder for each program, with copies of what the program reads and nothing else. Passwords of the
    /// database and of Redis are created too.
    #[arg(long, value_name = "DIR")]
    services_dir: Option<PathBuf>,
    /// The database in the URLs of the services: host, port and name.
    #[arg(long, value_name = "HOST:PORT/NAME", default_value = "postgres:5432/countersign", requires = "services_dir")]
    database: String,
    /// Redis in the URL of the gateway: host and port.
    #[arg(long, value_name = "HOST:PORT", default_value = "redis:6379", requires = "services_dir")]
    redis: String,
}

impl SecretsCommand {
    pub(crate) fn run(self, output: &mut Output) -> Result<()> {
        let Self::Init(InitArgs { dir, services_dir, database, redis }) = self;
        let secrets = DeploymentSecrets::in_folder(&dir);
        let made = secrets
            .create_missing(&SystemEntropy)
            .map_err(|error| Failure::while_doing(error, format!("cannot write to {}", dir.display())))?;
        for path in [&secrets.bootstrap_token, &secrets.deployment_secret, &secrets.key_encryption_key] {
            let what = if made.contains(&path.as_path()) { "made" } else { "kept" };
            output.message(format!("{what} {}", path.display()));
        }
        if let Some(services_dir) = services_dir {
            let servers = Servers { database, redis };
            service_files::write_secrets(&dir, &services_dir, &servers, &SystemEntropy).map_err(|error| {
                Failure::while_doing(error, format!("cannot write the files of the services to {}", services_dir.display()))
            })?;
            output.message(format!("wrote the files of each service to {}", services_dir.display()));
        }
        Ok(())
    }
}
