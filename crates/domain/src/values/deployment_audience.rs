//! The audience of a deployment.

use crate::values::issuer_url::IssuerUrl;
use crate::values::name::{Audience, InvalidName};

/// The audience that is unique to this deployment: the gateway's public URL (SECURITY 19).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentAudience {
    url: Audience,
    without_scheme: Audience,
}

impl DeploymentAudience {
    /// The audience of the deployment whose gateway has this public URL.
    ///
    /// # Errors
    /// When the URL is longer than an audience may be, which no [`IssuerUrl`] is.
    pub fn new(public_url: &IssuerUrl) -> Result<Self, InvalidName> {
        let url = public_url.as_str();
        let without_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
        Ok(Self { url: url.parse()?, without_scheme: without_scheme.parse()? })
    }

    /// The form with the scheme, which is put into access tokens.
    pub fn as_audience(&self) -> &Audience {
        &self.url
    }

    /// Whether this is the deployment's audience, with its scheme or without.
    pub fn is(&self, audience: &Audience) -> bool {
        *audience == self.url || *audience == self.without_scheme
    }

    /// Whether an issuer of this URL is this deployment, a slash at the end or not.
    pub fn is_issuer(&self, issuer_url: &str) -> bool {
        issuer_url.trim_end_matches('/') == self.url.as_str().trim_end_matches('/')
    }

    /// Whether a list written by an operator holds this audience, either form of the deployment's standing for both.
    pub fn is_in(&self, list: &[Audience], audience: &Audience) -> bool {
        list.contains(audience) || self.is(audience) && list.iter().any(|listed| self.is(listed))
    }
}
