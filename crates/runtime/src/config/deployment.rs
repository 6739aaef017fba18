//! What all services of a deployment must hold alike: the gateway's URL and the shared secret.

use std::path::{Path, PathBuf};

use countersign_domain::values::issuer_url::{InvalidUrl, IssuerUrl, LoopbackHttp};
use countersign_jose::secret::{DeploymentSecret, SecretTooShort};

use crate::disclosure::FileName;
use crate::secret::{self, SecretFileError};

/// Why a text is not the gateway's public URL.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPublicUrl {
    /// Nothing was given.
    #[error("must be given")]
    Missing,
    /// It is no acceptable URL.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// Well-known documents and addresses are made from it by appending, and `iss` is compared with it byte for byte.
    #[error("must have no path, not even a trailing slash")]
    Path,
}

/// The gateway's public URL: `iss` of access tokens, and the audience that is unique to the deployment.
///
/// # Errors
/// When it is not given, not an acceptable URL, or not an origin alone.
pub fn public_url(text: &str, loopback_http: LoopbackHttp) -> Result<IssuerUrl, InvalidPublicUrl> {
    if text.is_empty() {
        return Err(InvalidPublicUrl::Missing);
    }
    let url = IssuerUrl::parse(text, loopback_http)?;
    if text.splitn(4, '/').nth(3).is_some() { Err(InvalidPublicUrl::Path) } else { Ok(url) }
}

/// Why a file does not give the deployment's secret.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDeploymentSecret {
    /// No file was given.
    #[error("must be given")]
    Missing,
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// What it holds could be guessed.
    #[error("{} does not contain a deployment secret", FileName(path))]
    Short {
        /// The file.
        path: PathBuf,
        /// What is asked for.
        source: SecretTooShort,
    },
}

/// The deployment's secret from its file, as it stands there.
///
/// # Errors
/// When no file is given, others than its owner may read it, or it is too short.
pub fn deployment_secret(file: Option<&Path>) -> Result<DeploymentSecret, InvalidDeploymentSecret> {
    let path = file.ok_or(InvalidDeploymentSecret::Missing)?;
    let bytes = secret::read(path)?;
    DeploymentSecret::from_bytes(&bytes).map_err(|source| InvalidDeploymentSecret::Short { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_public_url_is_an_origin_alone() {
        let check = |text: &str| public_url(text, LoopbackHttp::Refused);
        assert_eq!(check("https://sts.example.com").unwrap().as_str(), "https://sts.example.com");
        assert_eq!(check("https://sts.example.com:8443").unwrap().as_str(), "https://sts.example.com:8443");
        assert!(matches!(check(""), Err(InvalidPublicUrl::Missing)));
        for path in ["https://sts.example.com/", "https://sts.example.com/a"] {
            assert!(matches!(check(path), Err(InvalidPublicUrl::Path)), "{path}");
        }
        for wrong in ["http://sts.example.com", "http://localhost:7403", "sts.example.com", "https://sts.example.com?a"] {
            assert!(matches!(check(wrong), Err(InvalidPublicUrl::Url(_))), "{wrong}");
        }
        assert!(public_url("http://localhost:7403", LoopbackHttp::Allowed).is_ok());
    }

    #[test]
    fn a_deployment_secret_has_at_least_32_bytes_that_only_the_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let with = |bytes: &[u8], mode| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            deployment_secret(Some(&path))
        };
        assert!(with(&[7; 32], 0o600).is_ok());
        assert!(matches!(with(&[7; 31], 0o600), Err(InvalidDeploymentSecret::Short { .. })));
        assert!(matches!(with(&[7; 32], 0o644), Err(InvalidDeploymentSecret::File(_))));
        assert!(matches!(deployment_secret(None), Err(InvalidDeploymentSecret::Missing)));
    }
}
