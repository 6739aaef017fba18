//! Makes a deployment's certificates for its internal listeners: one authority, and one certificate for each service.
//!
//! A service is told from the others by the DNS name in its certificate. `localhost` and `127.0.0.1` are in all of them, so that
//! they serve on one machine too, and for that very reason never stand on an allow-list.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use countersign_domain::values::time::Timestamp;
use countersign_runtime::disclosure::FileName;
use jiff::{Span, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use zeroize::Zeroizing;

/// The services that have a certificate.
pub(crate) const SERVICES: [&str; 3] = ["issuer-service", "trust-service", "exchange-gateway"];

const AUTHORITY_DAYS: i64 = 3650;
/// Renewed by making new ones; services take them up while they run.
const SERVICE_DAYS: i64 = 397;

/// Why no certificates were made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertsError {
    /// A file is there already. Nothing was written.
    #[error("{} exists already and is not overwritten", FileName(path))]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}", FileName(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The time is outside what certificates can express.
    #[error("the time is out of range")]
    Time(#[from] jiff::Error),
}

/// The files of a deployment's certificates in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    /// The files in this folder, whether they are there or not.
    pub(crate) fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The authority's certificate: every service needs it.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The authority's key: no service needs it; keep it off the machines.
    pub(crate) fn authority_key(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    /// A service's certificate.
    pub(crate) fn certificate(&self, service: &str) -> PathBuf {
        self.folder.join(format!("{service}.pem"))
    }

    /// A service's key.
    pub(crate) fn key(&self, service: &str) -> PathBuf {
        self.folder.join(format!("{service}.key"))
    }

    fn all(&self) -> Vec<PathBuf> {
        let services = SERVICES.iter().flat_map(|service| [self.certificate(service), self.key(service)]);
        [self.authority(), self.authority_key()].into_iter().chain(services).collect()
    }
}

/// Makes an authority and the certificates of [`SERVICES`] in a folder, which is made when it is not there. Keys can be read by
/// their owner only. Overwrites nothing.
pub(crate) fn init(folder: &Path, now: Timestamp) -> Result<Files, CertsError> {
    let files = Files::in_folder(folder);
    if let Some(path) = files.all().into_iter().find(|path| path.exists()) {
        return Err(CertsError::Exists { path });
    }
    let written = |source| CertsError::Write { path: folder.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(written)?;

    let authority = CertifiedIssuer::self_signed(authority(now)?, KeyPair::generate()?)?;
    let mut contents = vec![
        (files.authority_key(), Zeroizing::new(authority.key().serialize_pem()), 0o600),
        (files.authority(), Zeroizing::new(authority.pem()), 0o644),
    ];
    for name in SERVICES {
        let key = KeyPair::generate()?;
        let certificate = service(name, now)?.signed_by(&key, &authority)?;
        contents.push((files.key(name), Zeroizing::new(key.serialize_pem()), 0o600));
        contents.push((files.certificate(name), Zeroizing::new(certificate.pem()), 0o644));
    }
    write_all(&contents)?;
    Ok(files)
}

/// Writes all files or none: a part of a set would be in the way of the next attempt.
fn write_all(contents: &[(PathBuf, Zeroizing<String>, u32)]) -> Result<(), CertsError> {
    for (number, (path, text, mode)) in contents.iter().enumerate() {
        if let Err(error) = write(path, text, *mode) {
            // The file that failed is there in part, unless it existed before.
            let is_own = !matches!(&error, CertsError::Write { source, .. } if source.kind() == io::ErrorKind::AlreadyExists);
            for (path, ..) in contents.iter().take(number + usize::from(is_own)) {
                let _ = fs::remove_file(path);
            }
            return Err(error);
        }
    }
    Ok(())
}

fn authority(now: Timestamp) -> Result<CertificateParams, CertsError> {
    let mut params = valid(CertificateParams::default(), now, AUTHORITY_DAYS)?;
    params.distinguished_name.push(DnType::CommonName, "countersign internal authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn service(name: &str, now: Timestamp) -> Result<CertificateParams, CertsError> {
    let mut params = valid(CertificateParams::new(vec![name.to_owned(), "localhost".to_owned()])?, now, SERVICE_DAYS)?;
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Every service is a server to some of the others and a client to the rest.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// From yesterday, for machines whose clocks lag.
fn valid(mut params: CertificateParams, now: Timestamp, days: i64) -> Result<CertificateParams, CertsError> {
    params.distinguished_name = rcgen::DistinguishedName::new();
    let day = |offset: i64| -> Result<_, CertsError> {
        let date = now.to_zoned(TimeZone::UTC).checked_add(Span::new().try_days(offset)?)?.date();
        Ok(rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs()))
    };
    params.not_before = day(-1)?;
    params.not_after = day(days)?;
    Ok(params)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| CertsError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use countersign_runtime::tls::{TlsFiles, TlsIdentity};

    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn keys_are_for_their_owner_only_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let files = init(&folder.path().join("certs"), now()).unwrap();
        for key in [files.authority_key(), files.key("trust-service")] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let before = fs::read(files.authority()).unwrap();
        fs::remove_file(files.authority_key()).unwrap();
        assert!(matches!(init(&folder.path().join("certs"), now()), Err(CertsError::Exists { .. })));
        assert_eq!(fs::read(files.authority()).unwrap(), before);
        assert!(!files.authority_key().exists(), "nothing at all is written");
    }

    #[test]
    fn a_set_that_cannot_be_written_whole_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let text = || Zeroizing::new("text".to_owned());
        let at = |name: &str| folder.path().join(name);
        let contents = [(at("a"), text(), 0o600), (at("b"), text(), 0o600), (at("no/such/folder"), text(), 0o600)];
        assert!(write_all(&contents).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // A file of somebody else is left alone.
        fs::write(at("b"), "kept").unwrap();
        assert!(write_all(&contents).is_err());
        assert!(!at("a").exists());
        assert_eq!(fs::read_to_string(at("b")).unwrap(), "kept");
    }

    #[test]
    fn a_service_certificate_names_the_service_and_loopback() {
        let folder = tempfile::tempdir().unwrap();
        let files = init(folder.path(), now()).unwrap();
        let pem = fs::read(files.certificate("trust-service")).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let names: Vec<String> = certificate
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(!certificate.is_ca());
        assert!(names[0].contains("trust-service"), "{names:?}");
    }

    #[test]
    fn a_service_takes_up_its_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let files = init(folder.path(), now()).unwrap();
        for service in SERVICES {
            let of_service =
                TlsFiles { authority: files.authority(), certificate: files.certificate(service), key: files.key(service) };
            assert!(TlsIdentity::load(of_service).is_ok(), "{service}");
        }
    }
}
