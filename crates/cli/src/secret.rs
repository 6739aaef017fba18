//! Tokens in memory.

use std::fmt;
use std::io::Read;
use std::path::Path;

use countersign_runtime::disclosure::FileName;
use countersign_runtime::secret::SecretFileError;
use countersign_runtime::text::{self, NotAToken, NotText};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

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
    #[error("cannot use {flag}")]
    Private {
        /// The flag that names it.
        flag: &'static str,
        /// Why not.
        #[source]
        source: SecretFileError,
    },
    /// The content is not text.
    #[error("{place} {problem}")]
    NotText {
        /// What was read.
        place: String,
        /// What it is instead.
        problem: NotText,
    },
    /// The text is not a token.
    #[error("{place} {problem}")]
    NotAToken {
        /// What was read.
        place: String,
        /// What it is instead.
        problem: NotAToken,
    },
    /// More than 64 KiB.
    #[error("{0} is longer than 64 KiB, the most that a token can have")]
    TooLong(String),
}

impl Secret {
    /// The token as it goes over the wire.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a token from the file that a flag names; `-` is standard input. What editors and shells put around a token is
    /// dropped: white space, a byte order mark, quotes, `Bearer `.
    ///
    /// # Errors
    /// See [`ReadSecretError`].
    pub(crate) fn from_file(flag: &str, path: &Path) -> Result<Self, ReadSecretError> {
        if path == Path::new("-") {
            return Self::from_reader(std::io::stdin().lock(), "standard input");
        }
        let place = format!("{flag} {}", FileName(path));
        let file = std::fs::File::open(path).map_err(|source| ReadSecretError::Read { place: place.clone(), source })?;
        Self::from_reader(file, &place)
    }

    /// Reads a credential from a file that only its owner may read, as the services demand of theirs; `-` is standard input.
    ///
    /// # Errors
    /// See [`ReadSecretError`].
    pub(crate) fn from_private_file(flag: &'static str, path: &Path) -> Result<Self, ReadSecretError> {
        if path == Path::new("-") {
            return Self::from_file(flag, path);
        }
        let token = countersign_runtime::secret::read_token(path);
        Ok(Self(token.map_err(|source| ReadSecretError::Private { flag, source })?.as_str().to_owned()))
    }

    /// The token in a text that was passed for one.
    ///
    /// # Errors
    /// There is none in it.
    pub(crate) fn from_text(place: &str, text: &str) -> Result<Self, ReadSecretError> {
        match text::token(text) {
            Ok(token) => Ok(Self(token.to_owned())),
            Err(problem) => Err(ReadSecretError::NotAToken { place: place.to_owned(), problem }),
        }
    }

    fn from_reader(reader: impl Read, place: &str) -> Result<Self, ReadSecretError> {
        let mut bytes = Zeroizing::new(Vec::new());
        let read = reader.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| ReadSecretError::Read { place: place.to_owned(), source })?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(ReadSecretError::TooLong(place.to_owned()));
        }
        let text = text::decode(&bytes).map_err(|problem| ReadSecretError::NotText { place: place.to_owned(), problem })?;
        Self::from_text(place, text)
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
        assert_eq!(Secret::from_private_file("--credential-file", file.path()).unwrap().expose(), "a.b.c");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = crate::failure::Failure::from(Secret::from_private_file("--credential-file", file.path()).unwrap_err());
        let error = error.to_string();
        assert!(error.contains("chmod 600") && error.contains("--credential-file"), "{error}");
    }

    #[test]
    fn a_token_is_read_as_editors_and_shells_write_it_and_what_is_none_is_named() {
        let read = |bytes: &[u8]| Secret::from_reader(bytes, "standard input").map_err(|error| error.to_string());
        for text in ["a.b.c", " a.b.c\n", "a.b.c\r\n", "\u{feff}a.b.c\r\n", "\"a.b.c\"\n", "Bearer a.b.c", "'bearer a.b.c'"] {
            assert_eq!(read(text.as_bytes()).unwrap().expose(), "a.b.c", "{text:?}");
        }
        let utf16: Vec<u8> = "\u{feff}a.b.c\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, words) in [
            (&b" \n"[..], "is empty"),
            (b"\"\"", "is empty"),
            (b"a.b.c\na.b.c", "white space inside"),
            (b"{\"value\":\"a.b.c\"}", "JSON"),
            (&utf16, "UTF-16"),
            (b"a.\xff.c", "not UTF-8"),
            (&vec![b'a'; 65 * 1024], "64 KiB"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.starts_with("standard input ") && error.contains(words), "{error}");
            assert!(!error.contains("a.b.c"), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_its_flag() {
        let error = Secret::from_file("--token-file", Path::new("no/such/ci.jwt")).unwrap_err();
        let error = crate::failure::Failure::from(error).to_string();
        assert!(error.starts_with("error: cannot read --token-file no/such/ci.jwt: No such file"), "{error}");
    }
}
