//! The keys of other issuers, from `discovery`.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_discovery::{Discovery, KeySetSource};
use countersign_domain::trusted_issuer::TrustedIssuer;
use countersign_jose::KeySet;

use crate::ports::{Keys, KeysUnavailable};

#[async_trait]
impl Keys for Discovery {
    async fn key_set(&self, issuer: &TrustedIssuer) -> Result<Arc<KeySet>, KeysUnavailable> {
        Discovery::key_set(self, &source(issuer)).await.map_err(|_| KeysUnavailable)
    }

    async fn refresh_for_unknown_key(
        &self,
        issuer: &TrustedIssuer,
        key_id: Option<&str>,
    ) -> Result<Arc<KeySet>, KeysUnavailable> {
        Discovery::refresh_for_unknown_key(self, &source(issuer), key_id).await.map_err(|_| KeysUnavailable)
    }
}

/// Where a trusted issuer's keys come from. One more hash beside a signature's verification.
fn source(issuer: &TrustedIssuer) -> KeySetSource {
    KeySetSource::new(issuer.settings.issuer_url.clone(), issuer.settings.jwks_url.clone())
}
