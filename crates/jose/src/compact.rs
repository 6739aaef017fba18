//! The compact serialisation of a JWS (RFC 7515, section 7.1) and its header, before anything is verified.

use countersign_domain::name::KeyId;
use countersign_domain::trusted_issuer::SignatureAlgorithm;
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
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
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
