//! Names that strangers and operators choose: subjects, audiences, key ids, token ids, scopes.
//!
//! Each is compared byte for byte, never normalised, and can only be made by a check, so that past the edge of the system no
//! bare string carries meaning.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing is there.
    #[error("must not be empty")]
    Empty,
    /// More bytes than the kind of name allows.
    #[error("must be at most {max} bytes long")]
    TooLong {
        /// The most bytes allowed.
        max: usize,
    },
    /// A control character.
    #[error("must not hold control characters")]
    Control,
    /// A character that a name in files does not have.
    #[error("must consist of lower-case letters, digits, `.`, `_` and `-`, begin with a letter or digit, and not with `tr_`")]
    NotKey,
    /// A character that the name of an attribute does not have.
    #[error("must consist of lower-case letters, digits and `_`, and begin with a letter")]
    NotAttribute,
    /// A name that has a meaning of its own in tokens.
    #[error("is reserved")]
    Reserved,
    /// A character outside RFC 6749's `scope-token`.
    #[error("must consist of printable ASCII without space, quotation mark and backslash")]
    NotScopeToken,
}

fn plain_text(text: &str, max: usize) -> Result<(), InvalidName> {
    if text.is_empty() {
        Err(InvalidName::Empty)
    } else if text.len() > max {
        Err(InvalidName::TooLong { max })
    } else if text.chars().any(char::is_control) {
        Err(InvalidName::Control)
    } else {
        Ok(())
    }
}

fn scope_token(text: &str, max: usize) -> Result<(), InvalidName> {
    plain_text(text, max)?;
    // RFC 6749, section 3.3.
    let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if text.bytes().all(allowed) { Ok(()) } else { Err(InvalidName::NotScopeToken) }
}

fn key(text: &str, max: usize) -> Result<(), InvalidName> {
    plain_text(text, max)?;
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric()) && !text.starts_with("tr_");
    if begins && text.bytes().all(allowed) { Ok(()) } else { Err(InvalidName::NotKey) }
}

/// Claims of RFC 7519, 8693, 9068, 9396, 7800 and OpenID Connect Core, and names of our own: a service that reads attributes must
/// never take one for what only we say (SECURITY 54).
const RESERVED_ATTRIBUTES: [&str; 36] = [
    "acr",
    "act",
    "amr",
    "at_hash",
    "attributes",
    "aud",
    "auth_time",
    "authorization_details",
    "azp",
    "c_hash",
    "client_id",
    "cnf",
    "entitlements",
    "events",
    "exp",
    "groups",
    "iat",
    "iss",
    "jti",
    "may_act",
    "nbf",
    "nonce",
    "original_auth_time",
    "policy_revision",
    "roles",
    "s_hash",
    "scope",
    "scp",
    "sid",
    "source_identity",
    "sub",
    "toe",
    "token_type",
    "txn",
    "workspace_id",
    "countersign",
];

fn attribute(text: &str, max: usize) -> Result<(), InvalidName> {
    plain_text(text, max)?;
    if RESERVED_ATTRIBUTES.contains(&text) || text.starts_with("countersign_") {
        return Err(InvalidName::Reserved);
    }
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    let begins = text.starts_with(|first: char| first.is_ascii_lowercase());
    if begins && text.bytes().all(allowed) { Ok(()) } else { Err(InvalidName::NotAttribute) }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $check:ident, $max:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The most bytes a name of this kind may have.
            pub const MAX_BYTES: usize = $max;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                $check(text, Self::MAX_BYTES)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                $check(&text, Self::MAX_BYTES)?;
                Ok(Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )+};
}

names! {
    /// A `sub` (RFC 7519, section 4.1.2).
    Subject: plain_text, 1024;
    /// The `sub` of our own access tokens: two ids, each with a slash behind it, and the [`Subject`] that was exchanged.
    AccessTokenSubject: plain_text, 2 * 30 + Subject::MAX_BYTES;
    /// An element of `aud` (RFC 7519, section 4.1.3).
    Audience: plain_text, 1024;
    /// A `kid` (RFC 7515, section 4.1.4).
    KeyId: plain_text, 256;
    /// A `jti` (RFC 7519, section 4.1.7).
    TokenId: plain_text, 512;
    /// One scope: `scope-token` of RFC 6749, section 3.3.
    Scope: scope_token, 256;
    /// A name for people.
    DisplayName: plain_text, 100;
    /// The name of a trust relationship in files. Its own id is none, so that the two cannot be confused.
    RelationshipKey: key, 63;
    /// The id of a preset.
    PresetId: key, 63;
    /// The name of a mapped attribute.
    AttributeName: attribute, 64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_byte_for_byte() {
        for text in ["org:my-org:vault:deploy-vault", "Straße", " leading", "a/b:c@d"] {
            assert_eq!(text.parse::<Subject>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn empty_long_and_control_characters_are_refused() {
        assert_eq!("".parse::<Subject>(), Err(InvalidName::Empty));
        assert_eq!("x".repeat(1025).parse::<Subject>(), Err(InvalidName::TooLong { max: 1024 }));
        assert!("x".repeat(1024).parse::<Subject>().is_ok());
        for text in ["a\0", "a\nb", "\u{7f}", "\u{85}"] {
            assert_eq!(text.parse::<Subject>(), Err(InvalidName::Control), "{text:?}");
        }
    }

    #[test]
    fn keys_are_no_ids() {
        for text in ["deploy", "0", "team-a.deploy_2", "tr-x"] {
            assert!(text.parse::<RelationshipKey>().is_ok(), "{text}");
        }
        for text in ["tr_x", "-a", ".a", "Deploy", "a b", "é", "a/b"] {
            assert_eq!(text.parse::<RelationshipKey>(), Err(InvalidName::NotKey), "{text}");
        }
    }

    #[test]
    fn s54_attributes_have_no_name_that_means_something_in_a_token() {
        for text in ["team", "repository_id", "x1"] {
            assert!(text.parse::<AttributeName>().is_ok(), "{text}");
        }
        for text in ["sub", "aud", "scope", "workspace_id", "countersign_x", "authorization_details", "groups"] {
            assert_eq!(text.parse::<AttributeName>(), Err(InvalidName::Reserved), "{text}");
        }
        for text in ["Team", "1x", "_x", "a-b", "a.b", "é"] {
            assert_eq!(text.parse::<AttributeName>(), Err(InvalidName::NotAttribute), "{text}");
        }
    }

    #[test]
    fn scopes_follow_rfc_6749() {
        assert!("countersign:workspaces.get".parse::<Scope>().is_ok());
        for text in ["a b", "a\"b", "a\\b", "é"] {
            assert_eq!(text.parse::<Scope>(), Err(InvalidName::NotScopeToken), "{text}");
        }
    }
}
