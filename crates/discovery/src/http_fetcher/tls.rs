//! Which certificates are good.

use std::sync::Arc;

use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_rustls::TlsConnector;

use crate::authorities::Authorities;

/// TLS with servers whose certificates are always verified, against the system's authorities or an issuer's own.
pub(super) struct Tls {
    unverified: ConfigBuilder<ClientConfig, WantsVerifier>,
    system: TlsConnector,
}

impl Tls {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let unverified = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12])?;
        let system = unverified.clone().with_platform_verifier().unwrap_or_else(|error| {
            // Without a single trusted CA on this machine no issuer can be reached over TLS, and each attempt says so. That must
            // not keep the process from starting: development needs none.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "no certificate authorities: no https issuer can be reached"
            );
            unverified.clone().with_root_certificates(RootCertStore::empty())
        });
        Ok(Self { unverified, system: connector(system) })
    }

    /// With those whose certificates come from the system's authorities, unless others are given, which then stand in their place.
    pub(super) fn trusting(&self, authorities: Option<&Authorities>) -> TlsConnector {
        match authorities {
            // Made for the occasion: such an issuer is asked every few minutes, and what it takes is little beside a handshake.
            Some(authorities) => connector(self.unverified.clone().with_root_certificates(Arc::clone(authorities.roots()))),
            None => self.system.clone(),
        }
    }
}

fn connector(verified: ConfigBuilder<ClientConfig, WantsClientCert>) -> TlsConnector {
    let mut config = verified.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Every handshake shows a certificate, which is verified: a session from five minutes ago proves nothing of now.
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}
