//! The authorities of an issuer whose certificates do not come from those that everybody trusts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use countersign_jose::hash::sha256;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject as _, SectionKind};

/// The most certificates that one issuer may have.
const MAX_CERTIFICATES: usize = 16;

/// Certificates of authorities, which stand in the place of the system's. Cheap to clone.
#[derive(Clone)]
pub struct Authorities(Arc<Inner>);

struct Inner {
    roots: Arc<RootCertStore>,
    digest: [u8; 32],
}

/// Why a text does not name authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAuthorities {
    /// Not PEM (RFC 7468).
    #[error("must be certificates in PEM")]
    Malformed,
    /// Nothing in it is a certificate.
    #[error("must hold a certificate: BEGIN CERTIFICATE")]
    None,
    /// A private key, or anything else that is no certificate.
    #[error("must hold certificates alone, and no key")]
    NotACertificate,
    /// More than [`MAX_CERTIFICATES`].
    #[error("must hold at most 16 certificates")]
    TooMany,
    /// A certificate that no authority could have.
    #[error("holds a certificate that cannot be read")]
    Unreadable,
}

impl FromStr for Authorities {
    type Err = InvalidAuthorities;

    fn from_str(pem: &str) -> Result<Self, InvalidAuthorities> {
        let mut roots = RootCertStore::empty();
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
            let (kind, der) = section.map_err(|_| InvalidAuthorities::Malformed)?;
            if kind != SectionKind::Certificate {
                return Err(InvalidAuthorities::NotACertificate);
            }
            if roots.len() == MAX_CERTIFICATES {
                return Err(InvalidAuthorities::TooMany);
            }
            roots.add(CertificateDer::from(der.as_slice())).map_err(|_| InvalidAuthorities::Unreadable)?;
            parts.push(der);
        }
        if roots.is_empty() {
            return Err(InvalidAuthorities::None);
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Ok(Self(Arc::new(Inner { roots: Arc::new(roots), digest: sha256(&parts) })))
    }
}

impl Authorities {
    pub(crate) fn roots(&self) -> &Arc<RootCertStore> {
        &self.0.roots
    }

    /// A hash of the certificates, which are part of every source (SECURITY 34).
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({} certificates)", self.0.roots.len())
    }
}

#[cfg(test)]
mod tests {
    use countersign_testkit::identity_provider::IdentityProvider;

    use super::*;

    fn pem() -> String {
        IdentityProvider::start_tls().ca_certificate().unwrap().to_owned()
    }

    #[test]
    fn authorities_are_certificates_and_nothing_else() {
        let (one, other) = (pem(), pem());
        let both: Authorities = format!("# ours\n{one}\n{other}").parse().unwrap();
        assert_eq!(both.roots().len(), 2);
        assert_eq!(format!("{both:?}"), "Authorities(2 certificates)");
        for (text, expected) in [
            (String::new(), InvalidAuthorities::None),
            ("no pem at all".to_owned(), InvalidAuthorities::None),
            (one.repeat(MAX_CERTIFICATES + 1), InvalidAuthorities::TooMany),
            (format!("{one}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), InvalidAuthorities::NotACertificate),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), InvalidAuthorities::Unreadable),
            ("-----BEGIN CERTIFICATE-----\n****\n-----END CERTIFICATE-----\n".to_owned(), InvalidAuthorities::Malformed),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n".to_owned(), InvalidAuthorities::Malformed),
        ] {
            assert_eq!(text.parse::<Authorities>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn s34_other_certificates_are_other_authorities() {
        let (one, other) = (pem(), pem());
        let parse = |text: &str| text.parse::<Authorities>().unwrap();
        assert_eq!(parse(&one), parse(&format!("\n{one}")));
        assert_ne!(parse(&one), parse(&other));
        assert_ne!(parse(&one), parse(&format!("{one}{other}")));
    }
}
