//! Secrets from files that only their owner may read.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use zeroize::Zeroizing;

/// The most bytes that a secret file may hold.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a secret file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than the owner may read or write it.
    #[error("{path} can be read or written by others (mode {mode:04o}); run `chmod 600` on it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// More than 64 KiB.
    #[error("{path} is larger than a secret can be")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// What it holds is no such secret.
    #[error("{path} {problem}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The bytes of a secret file.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let failed = |source| SecretFileError::Read { path: path.to_owned(), source };
    // Opened once, so that the file that is checked is the file that is read.
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(SecretFileError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// The text of a secret file, less the white space around it.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| SecretFileError::Unfit { path: path.to_owned(), problem: "is not UTF-8 text" })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// The operator's first credential, from a file. Only its hash is kept.
#[derive(Clone)]
pub struct BootstrapToken(Arc<[u8]>);

/// A bootstrap token that could be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be at least {} printable ASCII characters without spaces", BootstrapToken::MIN_CHARACTERS)]
pub struct WeakBootstrapToken;

impl BootstrapToken {
    /// The fewest characters.
    pub const MIN_CHARACTERS: usize = 32;

    /// A token as text.
    pub fn new(text: &str) -> Result<Self, WeakBootstrapToken> {
        if text.len() < Self::MIN_CHARACTERS || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(WeakBootstrapToken);
        }
        Ok(Self(hash(text).as_ref().into()))
    }

    /// A token from a file.
    pub fn from_file(path: &Path) -> Result<Self, SecretFileError> {
        Self::new(&read_text(path)?).map_err(|_| SecretFileError::Unfit {
            path: path.to_owned(),
            problem: "must hold at least 32 printable ASCII characters without spaces",
        })
    }

    /// Whether this is the token, in a time that says nothing about how much of it is right.
    pub(crate) fn matches(&self, presented: &str) -> bool {
        use subtle::ConstantTimeEq as _;
        hash(presented).as_ref().ct_eq(&self.0).into()
    }
}

fn hash(text: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, text.as_bytes())
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BootstrapToken(<redacted>)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_and_the_mode_named() {
        for mode in [0o600, 0o400, 0o700] {
            let (_folder, path) = file("x", mode);
            assert!(read(&path).is_ok(), "{mode:o}");
        }
        for mode in [0o640, 0o604, 0o660, 0o610, 0o644] {
            let (_folder, path) = file("x", mode);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn white_space_around_a_secret_is_not_part_of_it() {
        let (_folder, path) = file("  secret\n", 0o600);
        assert_eq!(read_text(&path).unwrap().as_str(), "secret");
    }

    #[test]
    fn a_secret_has_a_largest_size() {
        let (_folder, path) = file(&"x".repeat(64 * 1024 + 1), 0o600);
        assert!(matches!(read(&path), Err(SecretFileError::TooLarge { .. })));
    }

    #[test]
    fn a_bootstrap_token_has_32_characters_and_hides_itself() {
        let good = "0123456789abcdef0123456789abcdef";
        let token = BootstrapToken::new(good).unwrap();
        assert!(token.matches(good));
        assert!(!token.matches(&good[1..]) && !token.matches(""));
        assert_eq!(format!("{token:?}"), "BootstrapToken(<redacted>)");
        for bad in [&good[1..], &format!("{good} x"), &format!("{good}é"), ""] {
            assert_eq!(BootstrapToken::new(bad).unwrap_err(), WeakBootstrapToken, "{bad}");
        }
        let (_folder, path) = file("short", 0o600);
        assert!(BootstrapToken::from_file(&path).unwrap_err().to_string().contains("at least 32"));
    }
}
