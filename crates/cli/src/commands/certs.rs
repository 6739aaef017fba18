//! `countersign certs …`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use countersign_domain::values::time::Clock as _;
use countersign_runtime::ambient::SystemClock;

use crate::certificates::{self, CertsError, Files, SERVICES};
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::service_files;

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make an authority and a certificate for each service. Overwrites nothing.
    ///
    /// Services need `ca.pem` and their own certificate and key. `ca.key` belongs on none of their machines.
    Init(InitArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder for the files.
    #[arg(long, visible_alias = "out", value_name = "DIR")]
    dir: PathBuf,
    /// Succeed without doing anything when all of the services' files are there already.
    #[arg(long)]
    keep_existing: bool,
    /// A folder that gets one subfolder for each service, with copies of its certificate and key and of `ca.pem`.
    #[arg(long, value_name = "DIR")]
    services_dir: Option<PathBuf>,
}

impl CertsCommand {
    pub(crate) fn run(self, output: &mut Output) -> Result<()> {
        let Self::Init(InitArgs { dir, keep_existing, services_dir }) = self;
        if keep_existing && is_complete(&dir) {
            output.message(format!("kept {}", dir.display()));
        } else {
            make(&dir, output)?;
        }
        if let Some(services_dir) = services_dir {
            service_files::write_certificates(&Files::in_folder(dir), &services_dir).map_err(|error| {
                Failure::while_doing(
                    error,
                    format!("cannot write the certificates of the services to {}", services_dir.display()),
                )
            })?;
            output.message(format!("wrote the certificates of each service to {}", services_dir.display()));
        }
        Ok(())
    }
}

/// Makes the files and reports each.
fn make(dir: &Path, output: &mut Output) -> Result<()> {
    let files = certificates::init(dir, SystemClock.now()).map_err(|error| match error {
        CertsError::Exists { .. } => Failure::while_doing(error, "no certificates were made"),
        error => Failure::while_doing(error, format!("no complete set of certificates was made in {}", dir.display())),
    })?;
    output.message(format!("made {}", files.authority().display()));
    for service in SERVICES {
        output.message(format!("made {} and its key", files.certificate(service).display()));
    }
    output.message(format!("Keep {} away from the services' machines.", files.authority_key().display()));
    Ok(())
}

/// Whether every file that a service needs is there. The authority's key may have been put elsewhere, as it should.
fn is_complete(folder: &Path) -> bool {
    let files = Files::in_folder(folder);
    let of_services = SERVICES.iter().flat_map(|service| [files.certificate(service), files.key(service)]);
    [files.authority()].into_iter().chain(of_services).all(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::Captured;

    #[test]
    fn certificates_are_made_once_and_kept_when_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("certs");
        let init = |keep_existing| {
            CertsCommand::Init(InitArgs { dir: dir.clone(), keep_existing, services_dir: None })
                .run(&mut Captured::default().output())
        };
        init(true).unwrap();
        let files = Files::in_folder(&dir);
        let first = std::fs::read(files.key("trust-service")).unwrap();
        assert!(init(false).is_err());
        init(true).unwrap();
        std::fs::remove_file(files.authority_key()).unwrap();
        init(true).unwrap();
        assert_eq!(std::fs::read(files.key("trust-service")).unwrap(), first);
        // A part of a set is nothing to build on.
        std::fs::remove_file(files.certificate("issuer-service")).unwrap();
        assert!(init(true).is_err());
    }
}
