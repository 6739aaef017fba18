//! Where the keys of a trusted issuer come from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::values::issuer_url::KeySetUrl;
use crate::values::time::Timestamp;

/// Where the keys of a trusted issuer come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// They are asked for over HTTPS.
    Fetched {
        /// Where they are, when not where the discovery document says.
        jwks_url: Option<KeySetUrl>,
        /// The authorities that the issuer's certificates must come from, instead of those that everybody trusts.
        authorities: Option<AuthoritiesPem>,
        /// How long after they were last read they are used, while the issuer cannot be reached. They are always used for as
        /// long as the issuer calls them fresh.
        max_stale_age: Duration,
    },
    /// An operator handed them in, for an issuer that cannot be reached.
    Uploaded {
        /// The document.
        key_set: UploadedKeySet,
        /// Nothing verifies under them from this moment on: whoever uploads keys must come back in time.
        not_after: Timestamp,
    },
}

impl KeySource {
    /// The longest `max_stale_age` that can be set (SECURITY C).
    pub const MAX_STALE_AGE_LIMIT: Duration = Duration::from_hours(24);
    /// `max_stale_age` when nothing is said.
    pub const DEFAULT_MAX_STALE_AGE: Duration = Duration::from_hours(1);

    /// The bytes of the documents that came with it, which every gateway keeps.
    pub fn document_bytes(&self) -> usize {
        match self {
            Self::Fetched { authorities, .. } => authorities.as_ref().map_or(0, |authorities| authorities.as_str().len()),
            Self::Uploaded { key_set, .. } => key_set.as_str().len(),
        }
    }
}

/// Keys are asked for where the discovery document says.
impl Default for KeySource {
    fn default() -> Self {
        Self::Fetched { jwks_url: None, authorities: None, max_stale_age: Self::DEFAULT_MAX_STALE_AGE }
    }
}

/// With which `use` (RFC 7517, section 4.2) an issuer publishes the keys that verify its tokens. A key without `use` always can.
///
/// A greater value accepts more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyUses {
    /// `sig`.
    #[default]
    Signature,
    /// `sig`, or `jwt-svid`, which marks the keys of JWT-SVIDs in a SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4.2.2).
    /// The `x509-svid` keys beside them verify certificates, never a token.
    SignatureAndJwtSvid,
}

/// Why a text cannot be one of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocument {
    /// Nothing is there.
    #[error("must not be empty")]
    Empty,
    /// More bytes than are kept.
    #[error("must be at most {max} bytes long")]
    TooLong {
        /// The most bytes allowed.
        max: usize,
    },
}

macro_rules! documents {
    ($($(#[$doc:meta])* $name:ident, $max:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The most bytes it may have.
            pub const MAX_BYTES: usize = $max;

            /// The text as it was handed in.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidDocument;

            fn from_str(text: &str) -> Result<Self, InvalidDocument> {
                if text.is_empty() {
                    Err(InvalidDocument::Empty)
                } else if text.len() > Self::MAX_BYTES {
                    Err(InvalidDocument::TooLong { max: Self::MAX_BYTES })
                } else {
                    Ok(Self(text.into()))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        /// Long, and of no use in a log.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({} bytes)", stringify!($name), self.0.len())
            }
        }
    )+};
}

documents! {
    /// A JSON Web Key Set that an operator uploaded. Whether it holds usable keys, and no private ones, is checked by whoever
    /// can read keys, before it is stored.
    UploadedKeySet, 64 * 1024;
    /// Certificates of authorities in PEM. Whether they can be read is checked before they are stored.
    AuthoritiesPem, 32 * 1024;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_bounds_and_are_not_printed() {
        assert_eq!("".parse::<UploadedKeySet>(), Err(InvalidDocument::Empty));
        let most = UploadedKeySet::MAX_BYTES;
        assert_eq!("x".repeat(most + 1).parse::<UploadedKeySet>(), Err(InvalidDocument::TooLong { max: most }));
        let longest: UploadedKeySet = "x".repeat(most).parse().unwrap();
        assert_eq!(format!("{longest:?}"), "UploadedKeySet(65536 bytes)");
        let source = KeySource::Uploaded { key_set: longest, not_after: Timestamp::UNIX_EPOCH };
        assert_eq!(source.document_bytes(), most);
        assert_eq!(KeySource::default().document_bytes(), 0);
    }
}
