//! Where the keys of an issuer come from.

use std::sync::Arc;
use std::time::Duration;

use countersign_domain::trust::key_source::{KeySource, KeyUses};
use countersign_domain::values::issuer_url::{IssuerUrl, KeySetUrl};
use countersign_jose::hash::sha256;
use countersign_jose::{InvalidKeySet, KeySet};

use crate::authorities::Authorities;

/// Everything that decides which keys an issuer has. Two sources that differ in anything share nothing, so no workspace can
/// poison or borrow the keys of another (SECURITY 34).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetSource {
    issuer: IssuerUrl,
    jwks_url: Option<KeySetUrl>,
    authorities: Option<Authorities>,
    key_uses: KeyUses,
    max_stale_age: Duration,
    tenant: Option<Arc<str>>,
    digest: [u8; 32],
}

impl KeySetSource {
    /// The keys at `jwks_url`, or, without one, those that the issuer's discovery document names.
    ///
    /// Costs a hash; keep it beside the issuer it belongs to.
    pub fn new(issuer: IssuerUrl, jwks_url: Option<KeySetUrl>) -> Self {
        let source = Self {
            issuer,
            jwks_url,
            authorities: None,
            key_uses: KeyUses::default(),
            max_stale_age: KeySource::DEFAULT_MAX_STALE_AGE,
            tenant: None,
            digest: [0; 32],
        };
        source.with_digest()
    }

    /// The same, from servers whose certificates come from these authorities and no others.
    pub fn with_authorities(self, authorities: Authorities) -> Self {
        Self { authorities: Some(authorities), ..self }.with_digest()
    }

    /// The same, of whose keys those with one of these uses verify tokens.
    pub fn with_key_uses(self, key_uses: KeyUses) -> Self {
        Self { key_uses, ..self }.with_digest()
    }

    /// The same, used for so long after it was last read while the issuer cannot be reached. This is about who uses the keys,
    /// not about which they are: sources that differ in it alone share them.
    pub fn with_max_stale_age(self, max_stale_age: Duration) -> Self {
        Self { max_stale_age, ..self }
    }

    /// The same, asked for in the name of this tenant, whose share of connections and of waiting callers is limited (SECURITY 72). Like
    /// the stale age, this is about who uses the keys.
    pub fn for_tenant(self, tenant: &str) -> Self {
        Self { tenant: Some(tenant.into()), ..self }
    }

    fn with_digest(self) -> Self {
        let pinned = self.jwks_url.as_ref().map_or(&b""[..], |url| url.as_str().as_bytes());
        let authorities = self.authorities.as_ref().map_or(&b""[..], |authorities| authorities.digest());
        let key_uses: &[u8] = match self.key_uses {
            KeyUses::Signature => b"sig",
            KeyUses::SignatureAndJwtSvid => b"sig jwt-svid",
        };
        let digest = sha256(&[b"countersign key set source v3", self.issuer.as_str().as_bytes(), pinned, authorities, key_uses]);
        Self { digest, ..self }
    }

    /// The issuer.
    pub fn issuer(&self) -> &IssuerUrl {
        &self.issuer
    }

    /// The key set's URL, when it is pinned.
    pub fn jwks_url(&self) -> Option<&KeySetUrl> {
        self.jwks_url.as_ref()
    }

    /// The authorities, when they are not those that everybody trusts.
    pub fn authorities(&self) -> Option<&Authorities> {
        self.authorities.as_ref()
    }

    /// Reads a document as this source's key set.
    pub(crate) fn parse(&self, document: &[u8]) -> Result<KeySet, InvalidKeySet> {
        KeySet::parse_for(document, self.key_uses)
    }

    /// How long after it was last read the set is used while the issuer cannot be reached.
    pub fn max_stale_age(&self) -> Duration {
        self.max_stale_age
    }

    /// In whose name the keys are asked for.
    pub(crate) fn tenant(&self) -> Option<&Arc<str>> {
        self.tenant.as_ref()
    }

    /// A hash of the whole source: what caches are keyed by.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}
