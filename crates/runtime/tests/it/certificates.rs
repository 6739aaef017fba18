//! Certificates for tests: an authority, and a certificate for each service that also names loopback.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// The certificates in a folder.
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    pub(crate) fn certificate(&self, service: &str) -> PathBuf {
        self.0.join(format!("{service}.pem"))
    }

    pub(crate) fn key(&self, service: &str) -> PathBuf {
        self.0.join(format!("{service}.key"))
    }
}

/// Makes a new authority and certificates of its own for all services.
pub(crate) fn make(folder: &Path) -> Files {
    use std::os::unix::fs::PermissionsExt as _;

    let files = Files(folder.to_owned());
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(files.authority(), authority.pem()).unwrap();
    for service in ["issuer-service", "trust-service", "exchange-gateway"] {
        let names = [service, "localhost", "127.0.0.1"].map(str::to_owned);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        std::fs::write(files.certificate(service), certificate.pem()).unwrap();
        std::fs::write(files.key(service), key.serialize_pem()).unwrap();
        std::fs::set_permissions(files.key(service), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    files
}
