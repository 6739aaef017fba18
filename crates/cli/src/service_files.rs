//! What each program of a deployment reads, in a folder of its own: no container sees the files of another one.
//!
//! The operator's folder has every secret once; the folders of the programs are copies of what each needs, and can be written again
//! at any time. Nothing of the authority but its certificate is in any of them.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_domain::values::time::Entropy;
use zeroize::Zeroizing;

use crate::certificates::{Files, SERVICES};
use crate::deployment_secrets::DeploymentSecrets;
use crate::private_file;

/// The services that keep something in the database, and the role of each, which its schema is named after.
const ROLES: [(&str, &str); 2] = [("issuer-service", "countersign_issuer"), ("trust-service", "countersign_trust")];
/// The folder of the database server.
const DATABASE_SERVER: &str = "postgres";
/// The folder of the Redis server.
const REDIS_SERVER: &str = "redis";
/// What the gateway may do in Redis, as README.md says.
const REDIS_RIGHTS: &str = "~countersign:* resetchannels -@all +set +get +del +strlen +pttl +eval";

/// Where the services reach what they share.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    /// `host:port/database`.
    pub(crate) database: String,
    /// `host:port`.
    pub(crate) redis: String,
}

/// Writes the secrets of each program below `folder`. Passwords that do not exist yet are created in the operator's folder `own`.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn write_secrets(own: &Path, folder: &Path, servers: &Servers, entropy: &dyn Entropy) -> io::Result<()> {
    let secrets = DeploymentSecrets::in_folder(own);
    let of_services: [(&str, &[&Path]); 3] = [
        ("issuer-service", &[&secrets.bootstrap_token, &secrets.deployment_secret, &secrets.key_encryption_key]),
        ("trust-service", &[&secrets.bootstrap_token, &secrets.deployment_secret]),
        // Callers of the gateway have access tokens: the operator's credential stays where it is needed.
        ("exchange-gateway", &[&secrets.deployment_secret]),
    ];
    for (service, files) in of_services {
        for file in files {
            copy(file, &folder.join(service))?;
        }
    }

    let Servers { database, redis } = servers;
    let superuser = password(own, "database-superuser", entropy)?;
    write(&folder.join(DATABASE_SERVER).join("superuser-password"), superuser.as_bytes())?;
    for (service, role) in ROLES {
        let password = password(own, &format!("{service}-database"), entropy)?;
        write(&folder.join(DATABASE_SERVER).join(format!("{service}-password")), password.as_bytes())?;
        let url = Zeroizing::new(format!("postgres://{role}:{}@{database}", *password));
        write(&folder.join(service).join("database-url"), url.as_bytes())?;
    }

    let password = password(own, "redis", entropy)?;
    // Health checks authenticate too, since the default user is off; theirs can do nothing else.
    let users = Zeroizing::new(format!(
        "user default reset off\nuser health reset on nopass -@all +ping\nuser countersign reset on >{} {REDIS_RIGHTS}\n",
        *password
    ));
    write(&folder.join(REDIS_SERVER).join("users.acl"), users.as_bytes())?;
    let url = Zeroizing::new(format!("redis://countersign:{}@{redis}", *password));
    write(&folder.join("exchange-gateway").join("redis-url"), url.as_bytes())
}

/// Writes the certificate and key of each service, and the authority's certificate, below `folder`.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn write_certificates(files: &Files, folder: &Path) -> io::Result<()> {
    for service in SERVICES {
        for file in [files.authority(), files.certificate(service), files.key(service)] {
            copy(&file, &folder.join(service))?;
        }
    }
    Ok(())
}

/// A password in the operator's folder, which is created when it does not exist: 256 random bits that need no escape in a URL.
fn password(own: &Path, name: &str, entropy: &dyn Entropy) -> io::Result<Zeroizing<String>> {
    let path = own.join(format!("{name}-password"));
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(&mut *bytes);
    let fresh = Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes));
    if private_file::create(&path, fresh.as_bytes())? {
        return Ok(fresh);
    }
    Ok(Zeroizing::new(std::fs::read_to_string(&path)?.trim().to_owned()))
}

fn copy(file: &Path, folder: &Path) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    write(&folder.join(name), &Zeroizing::new(std::fs::read(file)?))
}

/// Writes a file with mode 0600, unless it has this content already: services notice when their certificates change.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let present = std::fs::read(path).map(Zeroizing::new);
    if present.is_ok_and(|present| *present == content) { Ok(()) } else { private_file::replace(path, content) }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use countersign_runtime::ambient::SystemEntropy;

    use super::*;

    fn servers() -> Servers {
        Servers { database: "postgres:5432/countersign".to_owned(), redis: "redis:6379".to_owned() }
    }

    fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        for program in std::fs::read_dir(folder).unwrap() {
            for file in std::fs::read_dir(program.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
                let text = std::fs::read_to_string(&path).unwrap();
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), text);
            }
        }
        files
    }

    #[test]
    fn each_program_gets_its_own_files_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let (own, programs) = (folder.path().join("operator"), folder.path().join("programs"));
        DeploymentSecrets::in_folder(&own).create_missing(&SystemEntropy).unwrap();
        write_secrets(&own, &programs, &servers(), &SystemEntropy).unwrap();
        let authority = folder.path().join("authority");
        let certificates = crate::certificates::init(&authority, "2026-11-20T10:00:00Z".parse().unwrap()).unwrap();
        write_certificates(&certificates, &programs).unwrap();
        let written = files(&programs);
        let names: BTreeSet<&str> = written.keys().map(|path| path.to_str().unwrap()).collect();
        let expected = BTreeSet::from([
            "exchange-gateway/ca.pem",
            "exchange-gateway/deployment-secret",
            "exchange-gateway/exchange-gateway.key",
            "exchange-gateway/exchange-gateway.pem",
            "exchange-gateway/redis-url",
            "issuer-service/bootstrap-token",
            "issuer-service/ca.pem",
            "issuer-service/database-url",
            "issuer-service/deployment-secret",
            "issuer-service/issuer-service.key",
            "issuer-service/issuer-service.pem",
            "issuer-service/key-encryption-key",
            "postgres/issuer-service-password",
            "postgres/superuser-password",
            "postgres/trust-service-password",
            "redis/users.acl",
            "trust-service/bootstrap-token",
            "trust-service/ca.pem",
            "trust-service/database-url",
            "trust-service/deployment-secret",
            "trust-service/trust-service.key",
            "trust-service/trust-service.pem",
        ]);
        assert_eq!(names, expected);
        let text = |name: &str| written[Path::new(name)].trim().to_owned();
        let password = text("postgres/issuer-service-password");
        let url = text("issuer-service/database-url");
        assert_eq!(url, format!("postgres://countersign_issuer:{password}@postgres:5432/countersign"));
        assert_ne!(password, text("postgres/trust-service-password"));
        let redis_password = text("exchange-gateway/redis-url");
        let redis_password = redis_password.strip_prefix("redis://countersign:").unwrap().strip_suffix("@redis:6379").unwrap();
        assert_eq!(redis_password.len(), 43);
        assert!(text("redis/users.acl").contains(&format!("on >{redis_password} ~countersign:*")));
        let authority_key = std::fs::read_to_string(certificates.authority_key()).unwrap();
        assert!(!written.values().any(|text| *text == authority_key));

        // Again, nothing changes; what was lost comes back as it was.
        std::fs::remove_file(programs.join("trust-service/database-url")).unwrap();
        write_secrets(&own, &programs, &servers(), &SystemEntropy).unwrap();
        write_certificates(&certificates, &programs).unwrap();
        assert_eq!(files(&programs), written);
    }
}
