//! The access token that `auth exchange-oidc-token` leaves for later commands.
//!
//! One file per gateway, in the folder `tokens` beside the context file, so that a token of one deployment is never sent to
//! another.

use std::io;
use std::path::{Path, PathBuf};

use countersign_domain::values::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::private_file::{self, Reserved};
use crate::secret::Secret;

/// An access token with what the commands need to know about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredToken {
    /// URL of the gateway that minted it.
    pub(crate) gateway_address: String,
    /// The workspace it is for.
    pub(crate) workspace_id: String,
    /// That workspace's name.
    pub(crate) workspace_display_name: String,
    /// The relationship that decided.
    pub(crate) trust_relationship_id: String,
    /// The token.
    pub(crate) access_token: Secret,
    /// Its `exp`.
    pub(crate) expire_time: Timestamp,
}

impl StoredToken {
    /// Prepares to store a token of this gateway, which is done before an exchange: that cannot be repeated.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn reserve(folder: &Path, gateway_address: &str) -> io::Result<Reserved> {
        private_file::reserve(&path_of(folder, gateway_address))
    }

    /// Writes the token for later commands: mode 0600, by atomic rename. Returns where.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn store(&self, place: Reserved) -> io::Result<PathBuf> {
        let path = place.path().to_owned();
        place.write(serde_json::to_string_pretty(self)?.as_bytes())?;
        Ok(path)
    }

    /// The token stored for this gateway, expired or not. A file that is not one of ours counts as none.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub(crate) fn load(folder: &Path, gateway_address: &str) -> io::Result<Option<Self>> {
        match std::fs::read(path_of(folder, gateway_address)) {
            Ok(bytes) => Ok(serde_json::from_slice::<Self>(&bytes).ok().filter(|token| token.gateway_address == gateway_address)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the token can still be used at this time.
    pub(crate) fn is_valid_at(&self, now: Timestamp) -> bool {
        now < self.expire_time
    }
}

/// Two gateways whose names differ only in odd characters share a file; the address inside tells them apart.
fn path_of(folder: &Path, gateway_address: &str) -> PathBuf {
    let host = gateway_address.split_once("://").map_or(gateway_address, |(_, host)| host);
    let name: String =
        host.chars().map(|letter| if letter.is_ascii_alphanumeric() || "-.".contains(letter) { letter } else { '_' }).collect();
    folder.join("tokens").join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn token(gateway_address: &str) -> StoredToken {
        StoredToken {
            gateway_address: gateway_address.to_owned(),
            workspace_id: "ws_0".to_owned(),
            workspace_display_name: "Demo".to_owned(),
            trust_relationship_id: "tr_0".to_owned(),
            access_token: "a.b.c".to_owned().into(),
            expire_time: "2027-01-31T18:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_token_is_stored_with_mode_0600_and_read_back_for_its_gateway_only() {
        let folder = tempfile::tempdir().unwrap();
        let stored = token("http://localhost:7403");
        let path = stored.store(StoredToken::reserve(folder.path(), "http://localhost:7403").unwrap()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(StoredToken::load(folder.path(), "http://localhost:7403").unwrap(), Some(stored));
        // The same file name, another gateway.
        assert_eq!(path_of(folder.path(), "https://localhost:7403"), path);
        assert_eq!(StoredToken::load(folder.path(), "https://localhost:7403").unwrap(), None);
        assert_eq!(StoredToken::load(folder.path(), "http://localhost:7404").unwrap(), None);
    }

    #[test]
    fn a_token_is_not_used_from_the_moment_it_expires() {
        let stored = token("http://localhost:7403");
        assert!(stored.is_valid_at("2027-01-31T17:59:59.999Z".parse().unwrap()));
        assert!(!stored.is_valid_at("2027-01-31T18:00:00Z".parse().unwrap()));
    }

    #[test]
    fn a_name_from_the_network_cannot_leave_the_folder() {
        let path = path_of(Path::new("/c"), "https://../../etc/passwd");
        assert_eq!(path, Path::new("/c/tokens/.._.._etc_passwd.json"));
    }
}
