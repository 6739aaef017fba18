//! A certificate authority of one's own, and the certificates it should and should not have given a server.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// A root that signs certificates for servers. Nobody trusts it unless told to.
pub struct CertificateAuthority {
    root: CertifiedIssuer<'static, KeyPair>,
}

/// What a server shows for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// Valid today, for `localhost` and `127.0.0.1`, signed by the authority.
    Honest,
    /// The same, signed by an intermediate authority that the server sends along.
    ByIntermediate,
    /// The same, signed by an intermediate authority that the server does not send along.
    ByMissingIntermediate,
    /// Expired years ago.
    Expired,
    /// Valid in years to come.
    NotYetValid,
    /// For another name.
    ForAnotherName,
    /// Signed by another authority of the same name.
    ByAnotherAuthority,
    /// Signed by nobody but itself.
    SelfSigned,
    /// Signed by a certificate that the authority gave a server, not an authority.
    ByAnotherLeaf,
    /// For clients, not for servers.
    ForClients,
}

impl Leaf {
    /// Those that nobody may accept, whatever authority is trusted.
    pub const REFUSED: [Self; 8] = [
        Self::ByMissingIntermediate,
        Self::Expired,
        Self::NotYetValid,
        Self::ForAnotherName,
        Self::ByAnotherAuthority,
        Self::SelfSigned,
        Self::ByAnotherLeaf,
        Self::ForClients,
    ];
}

const SERVER_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

impl CertificateAuthority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = named("a private authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self { root: CertifiedIssuer::self_signed(params, key()).expect("can make a certificate") }
    }

    /// Its certificate, in PEM: what whoever trusts it has to know.
    pub fn certificate(&self) -> String {
        self.root.pem()
    }

    /// A server's end of TLS with this certificate.
    pub(super) fn acceptor(&self, leaf: Leaf) -> TlsAcceptor {
        let key = key();
        let signed_by = |issuer: &CertifiedIssuer<'_, KeyPair>| {
            leaf_params(leaf).signed_by(&key, issuer).expect("can make a certificate").der().clone()
        };
        let chain = match leaf {
            Leaf::ByIntermediate | Leaf::ByMissingIntermediate => {
                let intermediate = self.below(IsCa::Ca(BasicConstraints::Constrained(0)), "an intermediate authority");
                match leaf {
                    Leaf::ByIntermediate => vec![signed_by(&intermediate), intermediate.der().clone()],
                    _ => vec![signed_by(&intermediate)],
                }
            }
            Leaf::ByAnotherLeaf => {
                let server = self.below(IsCa::ExplicitNoCa, "a server");
                vec![signed_by(&server), server.der().clone()]
            }
            Leaf::ByAnotherAuthority => vec![signed_by(&Self::new().root)],
            Leaf::SelfSigned => vec![leaf_params(leaf).self_signed(&key).expect("can make a certificate").der().clone()],
            _ => vec![signed_by(&self.root)],
        };
        acceptor(chain, &key)
    }

    /// A certificate of the root that itself signs, whether it may or not.
    fn below(&self, is_ca: IsCa, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = named(name);
        params.is_ca = is_ca;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        CertifiedIssuer::signed_by(params, key(), &self.root).expect("can make a certificate")
    }
}

impl Default for CertificateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").finish_non_exhaustive()
    }
}

fn leaf_params(leaf: Leaf) -> CertificateParams {
    let mut params = match leaf {
        Leaf::ForAnotherName => params(&["elsewhere.example"]),
        _ => params(&SERVER_NAMES),
    };
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match leaf {
        Leaf::ForClients => vec![ExtendedKeyUsagePurpose::ClientAuth],
        _ => vec![ExtendedKeyUsagePurpose::ServerAuth],
    };
    match leaf {
        Leaf::Expired => {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        Leaf::NotYetValid => params.not_before = rcgen::date_time_ymd(2999, 1, 1),
        _ => {}
    }
    params
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("the names are fit for a certificate");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = params(&[]);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("can make a key")
}

fn acceptor(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .expect("a fresh certificate fits its key");
    TlsAcceptor::from(Arc::new(config))
}
