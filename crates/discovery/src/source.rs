//! Where the keys of an issuer come from.

use countersign_domain::issuer_url::{IssuerUrl, KeySetUrl};
use countersign_jose::hash::sha256;

/// Everything that decides which keys an issuer has. Two sources that differ in anything share nothing, so no workspace can
/// poison or borrow the keys of another (SECURITY 34).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetSource {
    issuer: IssuerUrl,
    jwks_url: Option<KeySetUrl>,
    digest: [u8; 32],
}

impl KeySetSource {
    /// The keys at `jwks_url`, or, without one, those that the issuer's discovery document names.
    ///
    /// Costs a hash; keep it beside the issuer it belongs to.
    pub fn new(issuer: IssuerUrl, jwks_url: Option<KeySetUrl>) -> Self {
        let pinned = jwks_url.as_ref().map_or(&b""[..], |url| url.as_str().as_bytes());
        let digest = sha256(&[b"countersign key set source v1", issuer.as_str().as_bytes(), pinned]);
        Self { issuer, jwks_url, digest }
    }

    /// The issuer.
    pub fn issuer(&self) -> &IssuerUrl {
        &self.issuer
    }

    /// The key set's URL, when it is pinned.
    pub fn jwks_url(&self) -> Option<&KeySetUrl> {
        self.jwks_url.as_ref()
    }

    /// A hash of the whole source: what caches are keyed by.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}
