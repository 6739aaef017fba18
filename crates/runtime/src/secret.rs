//! Secrets from files that only their owner may read.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use crate::disclosure::{FileName, SecretShape};
use crate::text::{self, NotText};

/// The most bytes that a secret file may hold.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a secret file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot read {}", Shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than the owner may read or write it.
    #[error("{} can be read or written by others (mode {mode:04o}); run `chmod 600` on it", Shown(path))]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// More than 64 KiB.
    #[error("{} is larger than 64 KiB, the most that a secret can have", Shown(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Its content is not such a secret.
    #[error("{} {problem}", Shown(path))]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Its content is not text in UTF-8.
    #[error("{} {problem}", Shown(path))]
    NotText {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        problem: NotText,
    },
}

/// The name of a secret file. A PIN in its place is not shown either.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_number = self.0.to_str().is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()));
        if is_number {
            return write!(f, "a file whose name is not shown, because it contains {}", SecretShape::Implausible.description());
        }
        FileName(self.0).fmt(f)
    }
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

/// The text of a secret file, without a byte order mark and the white space around it.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let bytes = read(path)?;
    let text = text::decode(&bytes).map_err(|problem| SecretFileError::NotText { path: path.to_owned(), problem })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// The token of a secret file, as [`text::token`] finds it.
pub fn read_token(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let text = read_text(path)?;
    let token = text::token(&text).map_err(|error| SecretFileError::Unfit { path: path.to_owned(), problem: error.problem() })?;
    Ok(Zeroizing::new(token.to_owned()))
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
        Self::new(&read_token(path)?).map_err(|_| SecretFileError::Unfit {
            path: path.to_owned(),
            problem: "must contain at least 32 printable ASCII characters without spaces",
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

    #[test]
    fn a_bootstrap_token_is_found_in_what_editors_and_shells_write() {
        let good = "0123456789abcdef0123456789abcdef";
        for text in [format!("\u{feff}{good}\r\n"), format!("\"{good}\"\n"), format!("Bearer {good}")] {
            let (_folder, path) = file(&text, 0o600);
            assert!(BootstrapToken::from_file(&path).unwrap().matches(good), "{text}");
        }
        let (_folder, path) = file(&format!("{good} {good}"), 0o600);
        assert!(BootstrapToken::from_file(&path).unwrap_err().to_string().contains("white space"));
    }

    #[test]
    fn s81_a_secret_in_place_of_a_file_name_is_not_shown() {
        let secret = "q1Z8v0x5m3Jt7b2Kc9Rf4Ws6Yd1Gh8Lp0Nq5Tv2Xz3B=";
        let error = read_text(Path::new(secret)).unwrap_err().to_string();
        assert!(!error.contains(secret) && error.contains("looks like a secret"), "{error}");
        assert!(!read_text(Path::new("493817")).unwrap_err().to_string().contains("493817"), "a PIN");
        assert_eq!(read_text(Path::new("no-such-file")).unwrap_err().to_string(), "cannot read no-such-file");
    }
}
