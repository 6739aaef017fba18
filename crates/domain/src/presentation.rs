//! What the audit log keeps of a token that was presented, so that later questions are answered without the token.
//!
//! Of the claims only those are kept that decide something in the workspace: what a trust relationship's conditions read, what
//! tells the issuer's tenants apart, and the audience and times that every decision is made on (SECURITY 75). What was looked for
//! and not there is kept as absent; of everything else nothing is known, and whoever asks about it is told so.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::{Map, Value};

use crate::claim_path::ClaimPath;
use crate::claims::Claims;
use crate::exchange::ExchangeRequest;
use crate::issuer_url::IssuerUrl;
use crate::name::{KeyId, Subject, TokenId};

/// One presentation of a token whose signature verified, as the audit log keeps it. Never the token itself.
#[derive(Debug, Clone, PartialEq)]
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

/// The claims that were kept of one token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptClaims {
    members: Map<String, Value>,
    read: BTreeSet<ClaimPath>,
}

/// Members and paths that no [`KeptClaims`] can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must hold at most {} bytes of claims and {} paths", KeptClaims::MAX_BYTES, KeptClaims::MAX_PATHS)]
pub struct TooManyClaims;

/// Kept of every token. `iss`, `sub` and `jti` are too, beside the claims.
const ALWAYS: [&str; 4] = ["aud", "exp", "iat", "nbf"];
/// Known of every token.
const REGISTERED: [&str; 7] = ["aud", "exp", "iat", "iss", "jti", "nbf", "sub"];

impl Presentation {
    /// The most bytes of a request id.
    pub const MAX_REQUEST_ID: usize = 128;
    /// The most bytes of audiences and scopes asked for that are kept.
    pub const MAX_REQUEST_BYTES: usize = 2 * 1024;

    /// What was asked for, unless it is too long to keep.
    pub fn request_to_keep(request: &ExchangeRequest) -> Option<ExchangeRequest> {
        let audiences = request.audiences.iter().map(|audience| audience.as_str().len());
        let scopes = request.scopes.iter().map(|scope| scope.as_str().len());
        (audiences.chain(scopes).sum::<usize>() <= Self::MAX_REQUEST_BYTES).then(|| request.clone())
    }

    /// The claims as far as they are known; `None` when too little was kept to decide anything. With `shifted_by` the token's
    /// times are moved, as if it had been issued that much later.
    pub fn known_claims(&self, shifted_by: SignedDuration) -> Option<Claims> {
        let mut members = self.claims.as_ref()?.members.clone();
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
        Claims::from_members(members).ok()
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
    /// The most bytes that the kept claims of one token take as JSON, a few for punctuation aside.
    pub const MAX_BYTES: usize = 4 * 1024;
    /// The most bytes of one claim, as JSON.
    pub const MAX_CLAIM_BYTES: usize = 1024;
    /// The most paths that are looked at.
    pub const MAX_PATHS: usize = 32;

    /// What is kept of a token, of the claims at these paths. `None` when what every decision needs is too long.
    ///
    /// A claim that is too long, or looks like a token, is passed over: of such a one nothing is known.
    pub fn of<'a>(claims: &Claims, paths: impl IntoIterator<Item = &'a ClaimPath>) -> Option<Self> {
        let mut kept = Self::default();
        let mut room = Self::MAX_BYTES;
        for name in ALWAYS {
            if let Some(value) = claims.members.get(name) {
                room = room.checked_sub(weight(value).filter(|&bytes| bytes <= Self::MAX_CLAIM_BYTES)?)?;
                kept.members.insert(name.to_owned(), value.clone());
            }
        }
        let (nested, whole): (Vec<_>, Vec<_>) = paths.into_iter().take(Self::MAX_PATHS).partition(|path| path.is_nested());
        // What is kept whole need not be kept in parts.
        for path in whole.into_iter().chain(nested) {
            if kept.knows(path) {
                continue;
            }
            if let Some(value) = path.find(&claims.members) {
                let fits = weight(value).filter(|&bytes| bytes <= Self::MAX_CLAIM_BYTES);
                let Some(left) = fits.and_then(|bytes| room.checked_sub(bytes)) else { continue };
                room = left;
                path.put(&mut kept.members, value.clone());
            }
            kept.read.insert(one_of_its_kind(path));
        }
        Some(kept)
    }

    /// What was kept earlier.
    ///
    /// # Errors
    /// When it is more than is ever kept.
    pub fn from_parts(members: Map<String, Value>, read: BTreeSet<ClaimPath>) -> Result<Self, TooManyClaims> {
        let bytes: usize = members.values().map(|value| weight(value).unwrap_or(usize::MAX)).fold(0, usize::saturating_add);
        if bytes > Self::MAX_BYTES || read.len() > Self::MAX_PATHS {
            return Err(TooManyClaims);
        }
        Ok(Self { members, read })
    }

    /// The values, where they stood in the token. An object that is known in parts holds those parts alone.
    pub fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// Every path that was looked at: what is not among the [`members`](Self::members) was not in the token.
    pub fn read(&self) -> &BTreeSet<ClaimPath> {
        &self.read
    }

    fn knows(&self, path: &ClaimPath) -> bool {
        let whole = || ClaimPath::of_top_level(&path.top_level()).is_ok_and(|whole| self.read.contains(&whole));
        is_registered(path) || self.read.contains(path) || whole()
    }
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
fn weight(value: &Value) -> Option<usize> {
    if holds_token(value) { None } else { serde_json::to_string(value).ok().map(|json| json.len()) }
}

/// Whether a text in it begins like a JWS: `eyJ` is how an encoded JSON object begins.
fn holds_token(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("eyJ") && text.contains('.'),
        Value::Array(elements) => elements.iter().any(holds_token),
        Value::Object(members) => members.values().any(holds_token),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests;
