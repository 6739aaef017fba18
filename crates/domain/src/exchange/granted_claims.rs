//! How an access token writes what a relationship grants: `aud`, `scope` and `authorization_details`.

use serde::Serialize;

use crate::values::grant::Grant;
use crate::values::name::{Audience, Scope};

/// RFC 7519, section 4.1.3: one audience may be a string, several are an array.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum AudienceClaim<'a> {
    One(&'a str),
    Several(Vec<&'a str>),
}

/// One element of `authorization_details`, with the common data fields of RFC 9396, section 2.2.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AuthorizationDetail<'a> {
    #[serde(rename = "type")]
    resource_type: &'a str,
    identifier: &'a str,
    actions: &'a [String],
}

/// How many bytes of an access token's claims these take: the values of `aud`, `scope` and `authorization_details` as JSON.
pub fn given_bytes(audiences: &[Audience], scopes: &[Scope], grants: &[Grant]) -> usize {
    let grants: Vec<_> = grants.iter().map(AuthorizationDetail::from).collect();
    // To write plain data as JSON cannot fail; should it ever, the value is one that fits nowhere.
    let written = serde_json::to_string(&(AudienceClaim::from(audiences), scope_text(scopes), grants));
    written.map_or(usize::MAX, |written| written.len())
}

/// Scopes as RFC 6749, section 3.3, writes them.
pub fn scope_text(scopes: &[Scope]) -> String {
    scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
}

impl<'a> From<&'a [Audience]> for AudienceClaim<'a> {
    fn from(audiences: &'a [Audience]) -> Self {
        match audiences {
            [one] => Self::One(one.as_str()),
            several => Self::Several(several.iter().map(Audience::as_str).collect()),
        }
    }
}

impl<'a> From<&'a Grant> for AuthorizationDetail<'a> {
    fn from(grant: &'a Grant) -> Self {
        Self { resource_type: &grant.resource_type, identifier: &grant.resource_id, actions: &grant.actions }
    }
}
