//! The claims of a token, for showing them to its holder.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The text is not a compact JWS whose payload is a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what was received is not a token")]
pub(crate) struct NotAToken;

/// What a token says, without asking whether it is true. For display only: nothing is decided by it.
///
/// # Errors
/// The text is no token.
pub(crate) fn unverified_claims(token: &str) -> Result<Map<String, Value>, NotAToken> {
    let payload = token.split('.').nth(1).ok_or(NotAToken)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).map_err(|_| NotAToken)?;
    serde_json::from_slice(&bytes).map_err(|_| NotAToken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_from_the_middle_segment() {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(br#"{"sub":"a"}"#));
        assert_eq!(unverified_claims(&token).unwrap()["sub"], "a");
        for wrong in ["", "a", "a.b.c", "a.W10.c", "a..c"] {
            assert_eq!(unverified_claims(wrong), Err(NotAToken), "{wrong}");
        }
    }
}
