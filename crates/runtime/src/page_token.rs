//! Page tokens: authenticated, and bound to the list they continue (SECURITY 73).
//!
//! ```
//! # use countersign_jose::secret::DeploymentSecret;
//! # use countersign_runtime::page_token::{PageTokens, PURPOSE};
//! # let secret = DeploymentSecret::from_bytes(&[7; 32]).unwrap();
//! let tokens = PageTokens::new(secret.derive(PURPOSE));
//! let list: &[&[u8]] = &[b"ListTrustRelationships", b"ws_1", b"filter"];
//! let token = tokens.issue(list, b"last row");
//! assert_eq!(tokens.open(list, &token).unwrap(), b"last row");
//! assert!(tokens.open(&[b"ListTrustRelationships", b"ws_2", b"filter"], &token).is_err());
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_domain::values::reason::Reason;
use countersign_jose::secret::MacKey;
use countersign_proto::status::Refusal;

/// The purpose to derive the key for.
pub const PURPOSE: &str = "countersign page tokens v1";

const TAG_BYTES: usize = 32;

/// Makes and opens page tokens.
#[derive(Debug, Clone)]
pub struct PageTokens {
    key: MacKey,
}

impl PageTokens {
    /// With a key of the deployment, derived for [`PURPOSE`], so that every replica opens every token.
    pub fn new(key: MacKey) -> Self {
        Self { key }
    }

    /// A token that continues a list behind `cursor`. `list` says which list: method, workspace, and whatever filters it. The
    /// caller can read the cursor, but not make one.
    pub fn issue(&self, list: &[&[u8]], cursor: &[u8]) -> String {
        let mut token = self.key.tag(&parts(list, cursor)).to_vec();
        token.extend_from_slice(cursor);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The cursor of a token that was issued for this very list.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`.
    pub fn open(&self, list: &[&[u8]], token: &str) -> Result<Vec<u8>, Refusal> {
        let invalid = || Refusal::new(Reason::PageTokenInvalid, "the page token was altered or belongs to another list");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
        let (tag, cursor) = bytes.split_at_checked(TAG_BYTES).ok_or_else(invalid)?;
        if self.key.verify(&parts(list, cursor), tag) { Ok(cursor.to_vec()) } else { Err(invalid()) }
    }
}

/// The MAC prefixes each part with its length; the number of parts is fixed by putting the cursor first.
fn parts<'a>(list: &[&'a [u8]], cursor: &'a [u8]) -> Vec<&'a [u8]> {
    std::iter::once(cursor).chain(list.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use countersign_jose::secret::DeploymentSecret;

    use super::*;

    fn tokens(secret: u8) -> PageTokens {
        PageTokens::new(DeploymentSecret::from_bytes(&[secret; 32]).unwrap().derive(PURPOSE))
    }

    #[test]
    fn s73_page_tokens_are_bound_to_workspace_and_query() {
        let list: &[&[u8]] = &[b"ListIssuers", b"ws_a", b""];
        let token = tokens(1).issue(list, b"cursor");
        assert_eq!(tokens(1).open(list, &token).unwrap(), b"cursor");
        for other in [
            &[b"ListIssuers", b"ws_b".as_slice(), b""] as &[&[u8]],
            &[b"ListIssuers", b"ws_a", b"filter"],
            &[b"ListKeys", b"ws_a", b""],
            &[b"ListIssuers", b"ws_a"],
            &[b"ListIssuersws_a", b"", b""],
        ] {
            assert_eq!(tokens(1).open(other, &token).unwrap_err().reason(), Reason::PageTokenInvalid);
        }
        assert!(tokens(2).open(list, &token).is_err(), "another deployment's");
    }

    #[test]
    fn s73_every_altered_byte_is_noticed() {
        let list: &[&[u8]] = &[b"ListIssuers"];
        let token = tokens(1).issue(list, b"cursor");
        for index in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[index] = if altered[index] == b'A' { b'B' } else { b'A' };
            assert!(tokens(1).open(list, std::str::from_utf8(&altered).unwrap()).is_err(), "{index}");
        }
        for garbage in ["", "AAAA", "not base64!", "é"] {
            assert!(tokens(1).open(list, garbage).is_err(), "{garbage}");
        }
    }
}
