//! The folder in which `countersign dev` keeps everything.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use countersign_runtime::ambient::SystemEntropy;

use crate::connection::Service;
use crate::deployment_secrets::DeploymentSecrets;
use crate::failure::{Failure, Result};
use crate::private_file;
use crate::secret::Secret;

/// An opened state directory. Nobody else opens it while this lives.
#[derive(Debug)]
pub(super) struct State {
    pub(super) folder: PathBuf,
    pub(super) secrets: DeploymentSecrets,
    /// The system releases it however the process ends.
    lock: File,
}

impl Drop for State {
    fn drop(&mut self) {
        // To close the file is not enough while a process that is being started holds a copy of it.
        let _ = self.lock.unlock();
    }
}

impl State {
    /// Makes the folder and its secrets where they are missing, and takes it for this process.
    ///
    /// # Errors
    /// It cannot be written, or another process has it.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let cannot = |what: &str| {
            let what = format!("cannot {what} the state directory {}; choose another with --state-dir", folder.display());
            move |error: std::io::Error| Failure::while_doing(error, what)
        };
        private_file::create_folder(folder).map_err(cannot("make"))?;
        let lock = File::create(folder.join("lock")).map_err(cannot("write to"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::Failed(anyhow::anyhow!(
                    "another `countersign dev` runs on {}: stop that one, or choose another folder with --state-dir",
                    folder.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(cannot("lock")(error)),
        }
        let secrets = DeploymentSecrets::in_folder(&folder.join("secrets"));
        secrets.create_missing(&SystemEntropy).map_err(cannot("write to"))?;
        Ok(Self { folder: folder.to_owned(), secrets, lock })
    }

    /// The operator's credential.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub(super) fn bootstrap_token(&self) -> Result<Secret> {
        Ok(Secret::from_file("the bootstrap token", &self.secrets.bootstrap_token)?)
    }

    /// The URL of a service's own database.
    ///
    /// # Errors
    /// The folder is not an absolute path.
    pub(super) fn database_url(&self, service: Service) -> anyhow::Result<String> {
        let file = self.folder.join(format!("{}.db", service.name()));
        // `Url` escapes whatever stands in the path, so that none of it is read as a parameter.
        let url = url::Url::from_file_path(&file).map_err(|()| anyhow::anyhow!("{} is not an absolute path", file.display()))?;
        Ok(format!("sqlite://{}?mode=rwc", url.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_do_not_share_a_state_directory_and_a_restart_keeps_the_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let first = State::open(folder.path()).unwrap();
        let token = first.bootstrap_token().unwrap();
        let failure = State::open(folder.path()).unwrap_err().to_string();
        assert!(failure.contains("another `countersign dev`"), "{failure}");
        drop(first);
        assert_eq!(State::open(folder.path()).unwrap().bootstrap_token().unwrap(), token);
    }

    #[test]
    fn nothing_in_the_path_of_a_database_is_read_as_a_parameter() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("a b?mode=memory#%41")).unwrap();
        let url = state.database_url(Service::Trust).unwrap();
        assert!(url.ends_with("/a%20b%3Fmode=memory%23%2541/trust-service.db?mode=rwc"), "{url}");
    }
}
