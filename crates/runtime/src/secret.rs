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
