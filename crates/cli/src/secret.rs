//! Tokens in memory.

use std::fmt;
use std::io::Read;
use std::path::Path;

use countersign_runtime::secret::SecretFileError;
use serde::{Deserialize, Serialize};

/// A token. Masked in `Debug`, and without `Display`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

/// Longer than any token that is ever accepted.
const MAX_BYTES: u64 = 64 * 1024;

/// Why no token could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadSecretError {
    /// The file or standard input cannot be read.
    #[error("cannot read {place}")]
    Read {
        /// What was read.
        place: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A credential that others may read, or that cannot be read at all.
    #[error(transparent)]
    Private(#[from] SecretFileError),
    /// There was nothing but white space.
    #[error("{0} is empty")]
    Empty(String),
    /// Nothing of that size is a token.
    #[error("{0} is too long to be a token")]
    TooLong(String),
}

impl Secret {
    /// The token as it goes over the wire.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a token from a file; `-` is standard input. Surrounding white space is dropped.
    ///
    /// # Errors
    /// See [`ReadSecretError`].
    pub(crate) fn from_file(path: &Path) -> Result<Self, ReadSecretError> {
        if path == Path::new("-") {
            return Self::from_reader(std::io::stdin().lock(), "standard input");
        }
        let place = path.display().to_string();
        let file = std::fs::File::open(path).map_err(|source| ReadSecretError::Read { place: place.clone(), source })?;
        Self::from_reader(file, &place)
    }

    /// Reads a credential from a file that only its owner may read, as the services demand of theirs; `-` is standard input.
    ///
    /// # Errors
    /// See [`ReadSecretError`].
    pub(crate) fn from_private_file(path: &Path) -> Result<Self, ReadSecretError> {
        if path == Path::new("-") {
            return Self::from_file(path);
        }
        match countersign_runtime::secret::read_text(path)?.as_str() {
            "" => Err(ReadSecretError::Empty(path.display().to_string())),
            token => Ok(Self(token.to_owned())),
        }
    }

    fn from_reader(reader: impl Read, place: &str) -> Result<Self, ReadSecretError> {
        let mut text = String::new();
        reader
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(|source| ReadSecretError::Read { place: place.to_owned(), source })?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(ReadSecretError::TooLong(place.to_owned()));
        }
        match text.trim() {
            "" => Err(ReadSecretError::Empty(place.to_owned())),
            token => Ok(Self(token.to_owned())),
        }
    }
}

impl From<String> for Secret {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s61_a_secret_hides_itself() {
        assert_eq!(format!("{:?}", Secret::from("eyJhbGciOiJub25lIn0".to_owned())), "<redacted>");
    }

    #[test]
    fn a_credential_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a.b.c\n").unwrap();
        assert_eq!(Secret::from_private_file(file.path()).unwrap().expose(), "a.b.c");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = Secret::from_private_file(file.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn white_space_around_a_token_is_dropped_and_nothing_is_no_token() {
        let read = |text: &str| Secret::from_reader(text.as_bytes(), "the file");
        assert_eq!(read(" a.b.c\n").unwrap().expose(), "a.b.c");
        assert!(matches!(read(" \n"), Err(ReadSecretError::Empty(_))));
        assert!(matches!(read(&"a".repeat(65 * 1024)), Err(ReadSecretError::TooLong(_))));
    }
}
