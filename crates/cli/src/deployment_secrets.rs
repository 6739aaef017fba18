//! The three secrets of a deployment, as files.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_domain::values::time::Entropy;

use crate::private_file;

/// Where the secrets of a deployment lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeploymentSecrets {
    /// The operator's first credential.
    pub(crate) bootstrap_token: PathBuf,
    /// What every purpose derives its key from.
    pub(crate) deployment_secret: PathBuf,
    /// What seals the private halves of signing keys.
    pub(crate) key_encryption_key: PathBuf,
}

impl DeploymentSecrets {
    /// Their names in a folder.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self {
            bootstrap_token: folder.join("bootstrap-token"),
            deployment_secret: folder.join("deployment-secret"),
            key_encryption_key: folder.join("key-encryption-key"),
        }
    }

    /// Makes those that do not exist: 256 random bits in base64, mode 0600. Returns what was made.
    ///
    /// One that exists is never touched: a new key-encryption key would make every signing key unreadable.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn create_missing(&self, entropy: &dyn Entropy) -> io::Result<Vec<&Path>> {
        let mut made = Vec::new();
        for path in [&self.bootstrap_token, &self.deployment_secret, &self.key_encryption_key] {
            let mut bytes = [0; 32];
            entropy.fill(&mut bytes);
            if private_file::create(path, format!("{}\n", STANDARD.encode(bytes)).as_bytes())? {
                made.push(path.as_path());
            }
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use countersign_runtime::ambient::SystemEntropy;

    use super::*;

    #[test]
    fn secrets_are_made_once_private_and_all_different() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = DeploymentSecrets::in_folder(&folder.path().join("secrets"));
        assert_eq!(secrets.create_missing(&SystemEntropy).unwrap().len(), 3);
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let first = [&secrets.bootstrap_token, &secrets.deployment_secret, &secrets.key_encryption_key].map(|path| read(path));
        assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
        for text in &first {
            assert_eq!(STANDARD.decode(text.trim()).unwrap().len(), 32);
        }
        for path in [&secrets.bootstrap_token, &secrets.deployment_secret, &secrets.key_encryption_key] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::remove_file(&secrets.bootstrap_token).unwrap();
        assert_eq!(secrets.create_missing(&SystemEntropy).unwrap(), [secrets.bootstrap_token.as_path()]);
        assert_eq!(read(&secrets.key_encryption_key), first[2]);
    }
}
