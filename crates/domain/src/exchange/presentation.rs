//! What the audit log keeps of a token that was presented, so that later questions are answered without the token.
//!
//! Of the claims only those are kept that decide something in the workspace: what a trust relationship's conditions read, what
//! tells the issuer's tenants apart, and the audience, the times and whether there is a `cnf`, on which every decision is made
//! (SECURITY 75). What was looked for
//! and not there is kept as absent; of everything else nothing is known, and whoever asks about it is told so.

use std::collections::BTreeSet;

use data_encoding::BASE64URL_NOPAD;
use jiff::SignedDuration;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::exchange::claims::Claims;
use crate::exchange::request::ExchangeRequest;
use crate::values::claim_path::ClaimPath;
use crate::values::inexact::InexactNumbers;
use crate::values::issuer_url::IssuerUrl;
use crate::values::name::{Audience, KeyId, Scope, Subject, TokenId};

/// One presentation of a token whose signature verified, as the audit log keeps it. Never the token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presentation {
    /// Joins the event to the caller's answer and the traces.
    pub request_id: String,
    /// The token's `iss`.
    pub subject_issuer: IssuerUrl,
    /// The token's `sub`.
    pub subject: Subject,
    /// SHA-256 of the token's signing input.
    pub subject_token_hash: [u8; 32],
    /// The token's `jti`, when it had one.
    pub subject_token_id: Option<TokenId>,
    /// The `kid` that verified it, when its key had one.
    pub subject_key_id: Option<KeyId>,
    /// Some of its claims; `None` when those that every decision needs were too long to keep.
    pub claims: Option<KeptClaims>,
    /// What was asked for; `None` when it was too long to keep.
    pub request: Option<ExchangeRequest>,
}

/// The claims that were kept of one token. As text, which is what is told and stored, and takes a small part of the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptClaims {
    json: Box<str>,
    read: BTreeSet<ClaimPath>,
}

/// A text and paths that no [`KeptClaims`] can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a JSON object of at most {} bytes with at most {} paths", KeptClaims::MAX_BYTES, KeptClaims::MAX_PATHS)]
pub struct NotKept;

/// Kept of every token. `iss`, `sub` and `jti` are too, beside the claims.
const ALWAYS: [&str; 4] = ["aud", "exp", "iat", "nbf"];
/// Known of every token.
const REGISTERED: [&str; 7] = ["aud", "exp", "iat", "iss", "jti", "nbf", "sub"];

impl Presentation {
    /// The most bytes of a request id.
    pub const MAX_REQUEST_ID: usize = 128;
    /// The most bytes of audiences and scopes asked for that are kept.
    pub const MAX_REQUEST_BYTES: usize = 2 * 1024;

    /// What was asked for, unless it is too long to keep, or a token stands where none belongs.
    pub fn request_to_keep(request: &ExchangeRequest) -> Option<ExchangeRequest> {
        let audiences = request.audiences.iter().map(Audience::as_str);
        let texts: Vec<&str> = audiences.chain(request.scopes.iter().map(Scope::as_str)).collect();
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        (bytes <= Self::MAX_REQUEST_BYTES && !texts.into_iter().any(looks_like_token)).then(|| request.clone())
    }

    /// The claims as far as they are known; `None` when too little was kept to decide anything. With `shifted_by` the token's
    /// times are moved, as if it had been issued that much later.
    pub fn known_claims(&self, shifted_by: SignedDuration) -> Option<Claims> {
        let (mut members, inexact) = self.claims.as_ref()?.read_members();
        for time in ["exp", "iat", "nbf"] {
            if let Some(shifted) = members.get(time).and_then(|value| shifted(value, shifted_by)) {
                members.insert(time.to_owned(), shifted);
            }
        }
        members.insert("iss".to_owned(), self.subject_issuer.as_str().into());
        members.insert("sub".to_owned(), self.subject.as_str().into());
        if let Some(id) = &self.subject_token_id {
            members.insert("jti".to_owned(), id.as_str().into());
        }
        Some(Claims { inexact, ..Claims::from_members(members).ok()? })
    }

    /// Whether the claim at this path is known, its absence included.
    pub fn knows(&self, path: &ClaimPath) -> bool {
        self.claims.as_ref().is_some_and(|claims| claims.knows(path))
    }
}

fn shifted(value: &Value, by: SignedDuration) -> Option<Value> {
    match value.as_i64() {
        Some(seconds) => Some(seconds.checked_add(by.as_secs())?.into()),
        // RFC 7519's NumericDate may have a fraction.
        None => serde_json::Number::from_f64(value.as_f64()? + by.as_secs_f64()).map(Value::Number),
    }
}

impl KeptClaims {
    /// The most bytes that the kept claims of one token take as JSON.
    pub const MAX_BYTES: usize = 4 * 1024;
    /// The most bytes of one claim, as JSON.
    pub const MAX_CLAIM_BYTES: usize = 1024;
    /// The most paths that are looked at.
    pub const MAX_PATHS: usize = 48;

    /// What is kept of a token, of the claims at these paths, those that come first first. `None` when what every decision needs is
    /// too long.
    ///
    /// A claim that is too long, or looks like a token, is passed over: of such a one nothing is known.
    pub fn of<'a>(claims: &Claims, paths: impl IntoIterator<Item = &'a ClaimPath>) -> Option<Self> {
        let mut members = Map::new();
        let mut known = Known::default();
        // Two braces.
        let mut room = Self::MAX_BYTES - 2;
        let is_bound = claims.is_bound_to_key();
        if is_bound {
            room -= Claims::<Subject>::CONFIRMATION.len() + PUNCTUATION + "true".len();
        }
        for name in ALWAYS {
            if let Some(value) = claims.members.get(name) {
                let bytes = weight(claims, &format!("/{name}"), value).filter(|&bytes| bytes <= Self::MAX_CLAIM_BYTES)?;
                room = room.checked_sub(bytes + name.len() + PUNCTUATION)?;
                members.insert(name.to_owned(), value.clone());
            }
        }
        let (nested, whole): (Vec<_>, Vec<_>) = paths.into_iter().take(Self::MAX_PATHS).partition(|path| path.is_nested());
        // What is kept whole need not be kept in parts.
        for path in whole.into_iter().chain(nested) {
            if known.knows(path) {
                continue;
            }
            // The path is kept itself, whether there is something or not.
            let Some(mut left) = room.checked_sub(path.as_str().len() + PUNCTUATION) else { continue };
            if let Some(value) = path.find(&claims.members) {
                let fits = weight(claims, &path.to_pointer(), value).filter(|&bytes| bytes <= Self::MAX_CLAIM_BYTES);
                // Its names stand in the text again, each perhaps with escapes.
                let names = 2 * path.as_str().len() + PUNCTUATION * path.as_str().split('/').count();
                let Some(rest) = fits.and_then(|bytes| left.checked_sub(bytes + names)) else { continue };
                left = rest;
                path.put(&mut members, value.clone());
            }
            room = left;
            known.0.insert(one_of_its_kind(path));
        }
        if is_bound {
            // That it is bound decides (SECURITY 79), to which key does not.
            members.entry(Claims::<Subject>::CONFIRMATION).or_insert(Value::Bool(true));
        }
        // With each number as the token has it, so that what reads one later is judged as it was.
        let json = claims.inexact.to_json("", &Value::Object(members)).into();
        Some(Self { json, read: known.0 })
    }

    /// What was kept earlier.
    ///
    /// # Errors
    /// When it is more than is ever kept, or no JSON object.
    pub fn from_parts(json: &str, read: BTreeSet<ClaimPath>) -> Result<Self, NotKept> {
        let paths: usize = read.iter().map(|path| path.as_str().len()).sum();
        let fits = json.len() <= Self::MAX_BYTES && paths <= Self::MAX_BYTES && read.len() <= Self::MAX_PATHS;
        let is_exact = || {
            let members = serde_json::from_str::<Map<String, Value>>(json);
            members.is_ok_and(|mut members| InexactNumbers::find(json.as_bytes(), &mut members).is_ok())
        };
        if !fits || !is_object(json) || !is_exact() {
            return Err(NotKept);
        }
        Ok(Self { json: json.into(), read })
    }

    /// The values as a JSON object, where they stood in the token. An object that is known in parts holds those parts alone.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The object of [`json`](Self::json).
    pub fn members(&self) -> Map<String, Value> {
        self.read_members().0
    }

    /// The object, and which of its numbers are not what the token said.
    fn read_members(&self) -> (Map<String, Value>, InexactNumbers) {
        // Either made from an object, or found to be one.
        let mut members = serde_json::from_str(&self.json).unwrap_or_default();
        // A part of a token in which they were found, or looked through when it was read.
        let inexact = InexactNumbers::find(self.json.as_bytes(), &mut members).unwrap_or_default();
        (members, inexact)
    }

    /// Every path that was looked at: what is not among the [`members`](Self::members) was not in the token.
    pub fn read(&self) -> &BTreeSet<ClaimPath> {
        &self.read
    }

    fn knows(&self, path: &ClaimPath) -> bool {
        knows(&self.read, path)
    }
}

/// Whether the text is a JSON object. Its values are looked through, and not kept.
fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(json).is_ok()
}

/// Room for quotation marks, colons, commas and braces around one name.
const PUNCTUATION: usize = 8;

/// Paths that were looked at.
#[derive(Default)]
struct Known(BTreeSet<ClaimPath>);

impl Known {
    fn knows(&self, path: &ClaimPath) -> bool {
        knows(&self.0, path)
    }
}

fn knows(read: &BTreeSet<ClaimPath>, path: &ClaimPath) -> bool {
    let whole = || ClaimPath::of_top_level(&path.top_level()).is_ok_and(|whole| read.contains(&whole));
    is_registered(path) || read.contains(path) || whole()
}

/// `/ref` and `ref` lead to one claim, so one of them stands for both.
fn one_of_its_kind(path: &ClaimPath) -> ClaimPath {
    let whole = (!path.is_nested()).then(|| ClaimPath::of_top_level(&path.top_level()).ok()).flatten();
    whole.unwrap_or_else(|| path.clone())
}

fn is_registered(path: &ClaimPath) -> bool {
    REGISTERED.contains(&path.top_level().as_str())
}

/// How many bytes the value takes; `None` when it holds something that looks like a token, which is never kept.
fn weight(claims: &Claims, pointer: &str, value: &Value) -> Option<usize> {
    if holds_token(value) { None } else { Some(claims.inexact.to_json(pointer, value).len()) }
}

fn holds_token(value: &Value) -> bool {
    match value {
        Value::String(text) => looks_like_token(text),
        Value::Array(elements) => elements.iter().any(holds_token),
        Value::Object(members) => members.iter().any(|(name, value)| looks_like_token(name) || holds_token(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether somewhere in the text stands a compact JWS or JWE: segments between dots, of which the first is an encoded JSON object.
fn looks_like_token(text: &str) -> bool {
    let is_of_token = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    text.split(|character| !is_of_token(character)).any(|part| {
        part.match_indices('.').count() >= 2
            && part.split('.').any(|segment| {
                // Of a whole header the beginning will do, as long as it ends with a whole byte.
                let begin = segment.get(..segment.len().min(32)).unwrap_or_default();
                let begin = begin.get(..begin.len() / 4 * 4).unwrap_or_default();
                let decoded = BASE64URL_NOPAD.decode(begin.as_bytes()).unwrap_or_default();
                let behind_brace = decoded.trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
                // Of a header with much white space nothing else may be left.
                behind_brace.is_some_and(|rest| rest.first().is_none_or(|byte| matches!(byte, b'"' | b'}')))
            })
    })
}

#[cfg(test)]
mod tests;
