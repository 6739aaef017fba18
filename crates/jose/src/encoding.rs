//! Strict base64url without padding (RFC 7515, section 2): one text for each sequence of bytes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Decodes, refusing padding, whitespace, the standard alphabet's `+` and `/`, and trailing bits that are not zero.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Encodes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Encodes to the end of `text`.
pub(crate) fn encode_to(bytes: &[u8], text: &mut String) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn s01_only_canonical_base64url_decodes() {
        assert_eq!(decode("QQ"), Some(b"A".to_vec()));
        assert_eq!(decode("-_-_"), Some(vec![0xfb, 0xff, 0xbf]));
        for text in ["QQ==", "QQ=", "QR", "QUJ", "+/+/", "Q Q", " QQ", "QQ\n", "Q\0", "Q", "QUFBQ", "é", "QQ.", "Q~"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn s01_no_two_texts_decode_alike(text in "[A-Za-z0-9_-]{0,40}") {
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }

        #[test]
        fn bytes_survive_a_round_trip(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
