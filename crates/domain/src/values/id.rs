//! Identifiers of resources: one type per resource, so that they cannot be swapped.
//!
//! An id is a prefix that names the resource and 128 random bits in lower-case base32, for example
//! `ws_4hq2k7d6x3m5yt2jv0r8n9c1be`. Ids are generated from randomness given by the caller and are never used again.

use std::fmt;
use std::str::FromStr;

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an id of the form {prefix}…")]
pub struct InvalidId {
    /// The prefix that was expected, with its underscore.
    pub prefix: &'static str,
}

/// Characters of an id behind its prefix: 128 bits, five bits each.
const BODY_LENGTH: usize = 26;

/// Crockford's alphabet in lower case: no `i`, `l`, `o`, `u`, so that an id read aloud survives.
fn base32() -> &'static Encoding {
    static ENCODING: std::sync::LazyLock<Encoding> = std::sync::LazyLock::new(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
        #[expect(clippy::expect_used, reason = "the alphabet is a constant with 32 distinct symbols")]
        specification.encoding().expect("a constant alphabet is valid")
    });
    &ENCODING
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// The id that these random bits make.
            pub fn from_random(bits: [u8; 16]) -> Self {
                Self(format!("{}{}", $prefix, base32().encode(&bits)).into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = InvalidId { prefix: $prefix };
                let body = text.strip_prefix($prefix).ok_or_else(|| invalid.clone())?;
                if body.len() != BODY_LENGTH || base32().decode(body.as_bytes()).is_err() {
                    return Err(invalid);
                }
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

ids! {
    /// Names a [workspace](crate::trust::workspace).
    WorkspaceId = "ws_";
    /// Names a [trusted issuer](crate::trust::trusted_issuer).
    TrustedIssuerId = "ti_";
    /// Names a [trust relationship](crate::trust::trust_relationship).
    TrustRelationshipId = "tr_";
    /// Names an [issuer](crate::issuing::issuer) of ours.
    IssuerId = "is_";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_survive_a_round_trip_through_text(bits: [u8; 16]) {
            let id = WorkspaceId::from_random(bits);
            prop_assert_eq!(id.to_string().parse::<WorkspaceId>(), Ok(id));
        }
    }

    #[test]
    fn ids_of_another_kind_or_alphabet_or_length_are_refused() {
        let id = TrustedIssuerId::from_random([7; 16]).to_string();
        assert!(id.parse::<TrustedIssuerId>().is_ok());
        assert!(id.parse::<TrustRelationshipId>().is_err());
        for wrong in
            [id.to_uppercase(), format!("{id}0"), id[..id.len() - 1].to_owned(), id.replace("ti_", "ti_é"), String::new()]
        {
            assert!(wrong.parse::<TrustedIssuerId>().is_err(), "{wrong}");
        }
    }
}
