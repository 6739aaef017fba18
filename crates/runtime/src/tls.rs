//! Mutual TLS between services: certificates from files, reloaded when the files change (SECURITY 71).

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Where a service's certificate, its key and the deployment's authority lie. PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that peers' certificates must come from.
    pub authority: PathBuf,
    /// The service's own chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no PEM of the expected kind.
    #[error("cannot read {}", crate::disclosure::FileName(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The parts do not fit together.
    #[error("cannot use the certificates")]
    Configuration(#[from] rustls::Error),
    /// The authority cannot verify anybody.
    #[error("cannot use the authority's certificate")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

/// A service's certificate and the authority of its deployment, as they are now.
pub struct TlsIdentity {
    files: TlsFiles,
    current: ArcSwap<Material>,
    /// Whether a task looks after changes already.
    watched: AtomicBool,
}

struct Material {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client: Arc<ClientConfig>,
    /// When each file was last written, to notice a change.
    written: [Option<SystemTime>; 3],
}

impl TlsIdentity {
    /// Reads the files.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let material = Material::read(&files)?;
        Ok(Arc::new(Self { files, current: ArcSwap::from_pointee(material), watched: AtomicBool::new(false) }))
    }

    /// Reads the files again whenever they change, for as long as anybody uses the identity; every listener and channel that
    /// does so asks for it. Connections that exist stay as they are; a set of files that does not fit together (half of it
    /// written) is left for the next look.
    pub(crate) fn keep_fresh(self: &Arc<Self>) {
        if self.watched.swap(true, Ordering::Relaxed) {
            return;
        }
        let identity = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
            loop {
                ticks.tick().await;
                let Some(identity) = identity.upgrade() else { return };
                // Reading files blocks.
                match tokio::task::spawn_blocking(move || identity.reload()).await {
                    Ok(Ok(true)) => tracing::info!("certificates reloaded"),
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "changed certificates cannot be used yet");
                    }
                    Err(_) => tracing::error!("reading the certificates panicked"),
                }
            }
        });
    }

    /// Reads the files again if one of them changed since; says whether it did.
    ///
    /// # Errors
    /// They do not fit together. The certificates in use stay in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        if self.files.written() == self.current.load().written {
            return Ok(false);
        }
        self.current.store(Arc::new(Material::read(&self.files)?));
        Ok(true)
    }

    /// For a listener that lets in clients with one of these names.
    pub(crate) fn server_config(&self, allowed_peers: &Arc<BTreeSet<String>>) -> Result<Arc<ServerConfig>, TlsError> {
        let material = self.current.load();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain_verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&material.roots), Arc::clone(&provider)).build()?;
        let verifier = Arc::new(AllowedPeers { chain: chain_verifier, names: Arc::clone(allowed_peers) });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(material.chain.clone(), material.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would outlive its certificate and the allow-list it was admitted under.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// For connections to peers.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().client)
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("files", &self.files).finish_non_exhaustive()
    }
}

impl TlsFiles {
    fn written(&self) -> [Option<SystemTime>; 3] {
        [&self.authority, &self.certificate, &self.key].map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok())
    }
}

impl Material {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        // Taken before reading, so that a change while reading is noticed at the next look.
        let written = files.written();
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&files.authority)? {
            roots.add(certificate)?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&files.certificate)?;
        let key =
            PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Read { path: files.key.clone(), source })?;
        let mut client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { roots, chain, key, client: Arc::new(client), written })
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read { path: path.clone(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    if found.is_empty() { Err(read(rustls::pki_types::pem::Error::NoItemsFound)) } else { Ok(found) }
}

/// The first DNS name of a certificate that is on the list.
pub(crate) fn allowed_name(certificate: &CertificateDer<'_>, names: &BTreeSet<String>) -> Option<Arc<str>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()??;
    alternatives.value.general_names.iter().find_map(|name| match name {
        x509_parser::extensions::GeneralName::DNSName(name) if names.contains(*name) => Some(Arc::from(*name)),
        _ => None,
    })
}

/// Verifies a client's chain, then that its name is on the list, within the handshake.
#[derive(Debug)]
struct AllowedPeers {
    chain: Arc<dyn ClientCertVerifier>,
    names: Arc<BTreeSet<String>>,
}

impl ClientCertVerifier for AllowedPeers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        match allowed_name(end_entity, &self.names) {
            Some(_) => Ok(verified),
            None => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
