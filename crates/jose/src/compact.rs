//! The compact serialisation of a JWS (RFC 7515, section 7.1) and its header, before anything is verified.

use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use serde_json::{Map, Value};

use crate::encoding;
use crate::json::{self, InvalidJson};

/// The most bytes a token may have.
pub(crate) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The most bytes a token's encoded header may have.
pub(crate) const MAX_HEADER_BYTES: usize = 2 * 1024;

/// Why a text is not a compact JWS that is ever accepted, whoever signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedToken {
    /// More than 16 KiB.
    #[error("longer than 16 KiB")]
    TooLong,
    /// The header has more than 2 KiB.
    #[error("the header is longer than 2 KiB")]
    HeaderTooLong,
    /// Not exactly three non-empty segments.
    #[error("not three segments separated by dots")]
    Segments,
    /// A segment is not canonical base64url.
    #[error("not canonical base64url")]
    Encoding,
    /// The header is not strict JSON.
    #[error("the header is refused: {0}")]
    Header(InvalidJson),
    /// `alg` is missing, or names nothing that is ever accepted: `none`, an HMAC, another spelling.
    #[error("the header's alg is missing or never accepted")]
    Algorithm,
    /// `kid` is not a string of 1 to 256 bytes without control characters.
    #[error("the header's kid is not acceptable")]
    KeyId,
    /// `typ` is not a string.
    #[error("the header's typ is not a string")]
    Type,
    /// The header has `crit`, `enc`, or a `b64` other than true: it asks for what is not implemented (RFC 7515, section 4.1.11).
    #[error("the header asks for an extension")]
    Extension,
    /// The payload is not strict JSON, or not an object.
    #[error("the payload is refused: {0}")]
    Payload(InvalidJson),
    /// `iss` is missing or not a string.
    #[error("the claim iss is missing or not a string")]
    Issuer,
}

/// What the verifier reads of a header. `jwk`, `jku`, `x5u`, `x5c` and all else is dropped unread (SECURITY 6).
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) key_id: Option<KeyId>,
    pub(crate) token_type: Option<String>,
}

/// A well-formed compact JWS, its segments decoded. Nothing in it is verified.
#[derive(Debug)]
pub(crate) struct CompactJws<'a> {
    pub(crate) header: Header,
    /// The bytes that were signed: the first two segments as they stand, with the dot.
    pub(crate) signing_input: &'a [u8],
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl<'a> CompactJws<'a> {
    /// Splits and decodes. Sizes are checked first, so that a flood of dots costs nothing (SECURITY 1, 2).
    ///
    /// The payload may be empty, as in any JWS: that no token's is, its parser says.
    pub(crate) fn parse(text: &'a str) -> Result<Self, MalformedToken> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(MalformedToken::TooLong);
        }
        let mut segments = text.splitn(4, '.');
        let (Some(header), Some(payload), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(MalformedToken::Segments);
        };
        if header.is_empty() || signature.is_empty() {
            return Err(MalformedToken::Segments);
        }
        if header.len() > MAX_HEADER_BYTES {
            return Err(MalformedToken::HeaderTooLong);
        }
        let signing_input = text.as_bytes().get(..header.len() + 1 + payload.len()).ok_or(MalformedToken::Segments)?;
        let decode = |segment| encoding::decode(segment).ok_or(MalformedToken::Encoding);
        let header = Header::parse(&decode(header)?)?;
        Ok(Self { header, signing_input, payload: decode(payload)?, signature: decode(signature)? })
    }
}

impl Header {
    /// Parses a decoded header.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, MalformedToken> {
        let mut members = json::parse_object(bytes).map_err(MalformedToken::Header)?;
        let unencoded_payload = members.get("b64").is_some_and(|value| *value != Value::Bool(true));
        if members.contains_key("crit") || members.contains_key("enc") || unencoded_payload {
            return Err(MalformedToken::Extension);
        }
        let algorithm = match members.get("alg") {
            Some(Value::String(name)) => name.parse().map_err(|_| MalformedToken::Algorithm)?,
            _ => return Err(MalformedToken::Algorithm),
        };
        let key_id = take_text(&mut members, "kid").map_err(|()| MalformedToken::KeyId)?;
        let key_id = key_id.map(KeyId::try_from).transpose().map_err(|_| MalformedToken::KeyId)?;
        let token_type = take_text(&mut members, "typ").map_err(|()| MalformedToken::Type)?;
        Ok(Self { algorithm, key_id, token_type })
    }
}

/// A member that is a string or absent.
fn take_text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, ()> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::quickest;

    const HEADER: &str = r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#;

    fn compact(header: &str) -> String {
        format!("{}.{}.{}", encoding::encode(header.as_bytes()), encoding::encode(b"{}"), encoding::encode(b"signature"))
    }

    fn refusal(text: &str) -> Option<MalformedToken> {
        CompactJws::parse(text).err()
    }

    #[test]
    fn a_well_formed_token_is_split_and_decoded() {
        let text = compact(HEADER);
        let jws = CompactJws::parse(&text).ok().unwrap();
        assert_eq!(jws.header.algorithm, SignatureAlgorithm::Es256);
        assert_eq!(jws.header.key_id.as_ref().map(KeyId::as_str), Some("k"));
        assert_eq!(jws.header.token_type.as_deref(), Some("JWT"));
        assert_eq!(jws.payload, b"{}");
        assert_eq!(jws.signature, b"signature");
        assert_eq!(jws.signing_input, text.rsplit_once('.').unwrap().0.as_bytes());
    }

    #[test]
    fn s01_anything_but_three_canonical_segments_is_refused() {
        let fine = compact(HEADER);
        let [header, payload, signature] = fine.split('.').collect::<Vec<_>>().try_into().unwrap();
        for text in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            format!("{header}.{payload}"),
            format!("{header}.{payload}."),
            format!(".{payload}.{signature}"),
            format!("{fine}."),
            format!(".{fine}"),
            // JWE has five segments (RFC 7516, section 7.1).
            format!("{fine}.{payload}.{signature}"),
        ] {
            assert_eq!(refusal(&text), Some(MalformedToken::Segments), "{text}");
        }
        for text in [
            format!("{fine}="),
            format!("{fine} "),
            format!(" {fine}"),
            format!("{fine}\n"),
            format!("{fine}\0"),
            format!("{header}=.{payload}.{signature}"),
            format!("{header}.{payload}==.{signature}"),
            format!("{header}.{payload}.a+b/"),
            // The same bytes as `QQ`, with a trailing bit.
            format!("{header}.{payload}.QR"),
            format!("{header}.{payload}.Q"),
            format!("{header}.{payload}.é"),
        ] {
            assert_eq!(refusal(&text), Some(MalformedToken::Encoding), "{text:?}");
        }
        // The JSON serialisation (RFC 7515, section 7.2).
        let json = format!(r#"{{"protected":"{header}","payload":"{payload}","signature":"{signature}"}}"#);
        assert_eq!(refusal(&json), Some(MalformedToken::Segments));
    }

    #[test]
    fn s02_too_long_tokens_are_refused_before_decoding() {
        let padded = |bytes: usize| {
            let head = format!("{}.e30.", encoding::encode(HEADER.as_bytes()));
            format!("{head}{}", "A".repeat(bytes - head.len()))
        };
        assert_ne!(refusal(&padded(MAX_TOKEN_BYTES)), Some(MalformedToken::TooLong));
        assert_eq!(refusal(&padded(MAX_TOKEN_BYTES + 1)), Some(MalformedToken::TooLong));
        // Were it decoded, it would be refused for its encoding.
        assert_eq!(refusal(&format!("{}.e30.QQ", "*".repeat(MAX_HEADER_BYTES + 1))), Some(MalformedToken::HeaderTooLong));
        let header = |bytes: usize| format!(r#"{{"alg":"RS256","x":"{}"}}"#, "x".repeat(bytes - 22));
        let of = |bytes: usize| format!("{}.e30.QQ", encoding::encode(header(bytes).as_bytes()));
        assert_eq!((of(1536).find('.'), refusal(&of(1536))), (Some(2048), None));
        assert_eq!((of(1537).find('.'), refusal(&of(1537))), (Some(2050), Some(MalformedToken::HeaderTooLong)));
        assert_eq!(refusal(&format!("{}.e30.QQ", "*".repeat(MAX_HEADER_BYTES))), Some(MalformedToken::Encoding));
    }

    #[test]
    fn s02_a_million_dots_cost_under_a_millisecond() {
        for dots in [1_000_000, MAX_TOKEN_BYTES] {
            let text = ".".repeat(dots);
            assert!(refusal(&text).is_some());
            let time = quickest(|| refusal(&text));
            assert!(time < Duration::from_millis(1), "{time:?}");
        }
    }

    #[test]
    fn s03_no_other_spelling_is_an_algorithm() {
        for name in SignatureAlgorithm::ALL {
            assert!(Header::parse(format!(r#"{{"alg":"{name}"}}"#).as_bytes()).is_ok_and(|header| header.algorithm == name));
        }
        // The name of RFC 9864.
        assert!(Header::parse(br#"{"alg":"Ed25519"}"#).is_ok_and(|header| header.algorithm == SignatureAlgorithm::EdDsa));
        for alg in [
            r#""none""#,
            r#""None""#,
            r#""NONE""#,
            r#""nOnE""#,
            r#""""#,
            r#"" ""#,
            r#""HS256""#,
            r#""HS384""#,
            r#""HS512""#,
            r#""rs256""#,
            r#""RS256 ""#,
            r#"" RS256""#,
            r#""RS256\u0000""#,
            r#""RS1""#,
            r#""RSA1_5""#,
            r#""ES256K""#,
            r#""es256""#,
            r#""EDDSA""#,
            r#""Eddsa""#,
            r#""ed25519""#,
            r#""Ed448""#,
            r#""A128KW""#,
            r#""dir""#,
            "null",
            "1",
            "true",
            r#"["RS256"]"#,
            r#"{"alg":"RS256"}"#,
        ] {
            let header = format!(r#"{{"alg":{alg},"kid":"k"}}"#);
            assert_eq!(refusal(&compact(&header)), Some(MalformedToken::Algorithm), "{alg}");
        }
        for header in ["{}", r#"{"kid":"k"}"#, r#"{"Alg":"RS256"}"#] {
            assert_eq!(refusal(&compact(header)), Some(MalformedToken::Algorithm), "{header}");
        }
    }

    #[test]
    fn s07_critical_extensions_and_unencoded_payloads_are_refused() {
        for extension in [
            r#""crit":["exp"]"#,
            r#""crit":[]"#,
            r#""crit":null"#,
            r#""crit":"b64""#,
            r#""b64":false"#,
            r#""b64":null"#,
            r#""b64":"true""#,
            r#""b64":1"#,
            r#""crit":["b64"],"b64":false"#,
            r#""crit":["b64"],"b64":true"#,
            r#""enc":"A128GCM""#,
        ] {
            let header = format!(r#"{{"alg":"ES256",{extension}}}"#);
            assert_eq!(refusal(&compact(&header)), Some(MalformedToken::Extension), "{extension}");
        }
        // What RFC 7797 calls the default asks for nothing.
        assert_eq!(refusal(&compact(r#"{"alg":"ES256","b64":true}"#)), None);
    }

    #[test]
    fn s10_s11_headers_are_strict_json() {
        for (header, expected) in [
            (r#"{"alg":"ES256","alg":"ES256"}"#, InvalidJson::DuplicateMember),
            (r#"{"alg":"ES256","\u0061lg":"none"}"#, InvalidJson::DuplicateMember),
            (r#"{"alg":"ES256","jwk":{"x":{"y":1,"y":2}}}"#, InvalidJson::DuplicateMember),
            (r#"{"alg":"ES256"} "x""#, InvalidJson::Malformed),
            (r#""ES256""#, InvalidJson::NotAnObject),
        ] {
            assert_eq!(refusal(&compact(header)), Some(MalformedToken::Header(expected)), "{header}");
        }
        let deep = format!(r#"{{"alg":"ES256","x":{}{}}}"#, "[".repeat(32), "]".repeat(32));
        assert_eq!(refusal(&compact(&deep)), Some(MalformedToken::Header(InvalidJson::TooDeep)));
    }

    #[test]
    fn s12_header_members_of_the_wrong_type_are_errors_never_absent() {
        for value in ["null", "1", "true", "[]", r#"["k"]"#, "{}"] {
            let header = format!(r#"{{"alg":"ES256","kid":{value}}}"#);
            assert_eq!(refusal(&compact(&header)), Some(MalformedToken::KeyId), "{value}");
            let header = format!(r#"{{"alg":"ES256","typ":{value}}}"#);
            assert_eq!(refusal(&compact(&header)), Some(MalformedToken::Type), "{value}");
        }
        for kid in [String::new(), "a\\u0000".to_owned(), "a\\n".to_owned(), "k".repeat(257)] {
            let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
            assert_eq!(refusal(&compact(&header)), Some(MalformedToken::KeyId), "{kid}");
        }
    }

    proptest! {
        #[test]
        fn s68_no_text_panics(text: String, dotted in "[A-Za-z0-9_=+/-]{0,30}(\\.[A-Za-z0-9_=+/ -]{0,30}){0,5}") {
            let _ = CompactJws::parse(&text);
            let _ = CompactJws::parse(&dotted);
        }

        #[test]
        fn s68_no_header_panics(bytes: Vec<u8>) {
            let _ = Header::parse(&bytes);
        }
    }
}
