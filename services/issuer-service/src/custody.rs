//! Where private keys are kept: sealed under the key-encryption key and bound to their row, or in a device.

use std::sync::Arc;

use countersign_domain::issuing::issuer::KeyCustody;
use countersign_domain::issuing::signing_key::SigningKeyRecord;
use countersign_domain::values::id::IssuerId;
use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::time::Timestamp;
use countersign_jose::sealed::{KeyEncryptionKeyId, KeyEncryptionKeys, SealError};
use countersign_jose::{DeviceError, DeviceKeyId, KeyDevice, Signer, SigningError, SigningKey, device_key_salt, hash};
use countersign_store::issuer::SealedSigningKey;
use serde_json::Value;

/// The members that make a public key what it is, of every type of key.
const PUBLIC_MEMBERS: [&str; 6] = ["crv", "e", "kty", "n", "x", "y"];
/// What stands in a row in place of a sealed private key when a device keeps it: this, and random bits that are part of the key's
/// id there. No sealed envelope begins so.
const IN_DEVICE: &[u8] = b"\xffdevice v1:";

/// Makes, keeps and opens signing keys.
#[derive(Debug)]
pub(crate) struct Custody {
    keys: KeyEncryptionKeys,
    device: Option<Arc<dyn KeyDevice>>,
}

/// Why a key is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CustodyError {
    /// No key was made.
    #[error("cannot make a key")]
    Make(#[source] SigningError),
    /// It was not sealed.
    #[error("cannot seal the key")]
    Seal(#[source] SealError),
    /// Sealed under another key, altered, or moved from another row (SECURITY 58).
    #[error("cannot open the sealed key")]
    Open(#[source] SealError),
    /// What was sealed is no key of this algorithm.
    #[error("what was sealed is not a key of its algorithm")]
    Read(#[source] SigningError),
    /// The row names another public key than the one that belongs to the private key.
    #[error("the public half in the row does not belong to the sealed private half")]
    ForeignPublicHalf,
    /// The issuer's keys are in a device, and this replica has none.
    #[error("the key is kept in a device, and no device is configured")]
    NoDevice,
    /// The device did not do it.
    #[error("cannot use the device that keeps keys")]
    Device(#[from] DeviceError),
    /// The device has no such key, at least not for this row (SECURITY 58).
    #[error("the device has no key of this row")]
    NotInDevice,
}

impl CustodyError {
    /// Whether the same may go well later, with nothing changed but the state of a device, or that this replica has one.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::NoDevice
                | Self::Device(_)
                | Self::Open(SealError::Device(_))
                | Self::Seal(SealError::Device(_))
                | Self::Make(SigningError::Device)
        )
    }
}

impl Custody {
    pub(crate) fn new(keys: impl Into<KeyEncryptionKeys>, device: Option<Arc<dyn KeyDevice>>) -> Self {
        Self { keys: keys.into(), device }
    }

    /// Names the key that seals.
    pub(crate) fn key_encryption_key_id(&self) -> KeyEncryptionKeyId {
        self.keys.id()
    }

    /// Whether keys can be kept in this way here.
    pub(crate) const fn offers(&self, kept: KeyCustody) -> bool {
        match kept {
            KeyCustody::Sealed => true,
            KeyCustody::Device => self.device.is_some(),
        }
    }

    /// Whether nothing of a row can be had without a device.
    pub(crate) fn needs_device(&self, sealed_private_key: &[u8]) -> bool {
        Self::kept(sealed_private_key) == Some(KeyCustody::Device) || self.keys.is_in_device()
    }

    /// How the key of a row is kept; `None` when there is nothing left of it.
    pub(crate) fn kept(sealed_private_key: &[u8]) -> Option<KeyCustody> {
        match sealed_private_key {
            [] => None,
            bytes if bytes.starts_with(IN_DEVICE) => Some(KeyCustody::Device),
            _ => Some(KeyCustody::Sealed),
        }
    }

    /// Makes a key, ready to be stored. Takes long for RSA and in a device: not for an async thread.
    pub(crate) fn make(
        &self,
        issuer_id: &IssuerId,
        kept: KeyCustody,
        algorithm: SignatureAlgorithm,
        generation: i32,
        (created_at, activate_at): (Timestamp, Timestamp),
        awaits_export: bool,
    ) -> Result<SealedSigningKey, CustodyError> {
        let (public_jwk, sealed_private_key) = match kept {
            KeyCustody::Sealed => {
                let key = SigningKey::generate(algorithm).map_err(CustodyError::Make)?;
                let plain = key.to_pkcs8().map_err(CustodyError::Make)?;
                let sealed = self.keys.seal(&plain, &context(issuer_id, key.key_id(), algorithm)).map_err(CustodyError::Seal)?;
                (key.public_jwk().clone(), sealed)
            }
            KeyCustody::Device => {
                let row = [IN_DEVICE, &device_key_salt().map_err(CustodyError::Make)?].concat();
                let id = device_key_id(issuer_id, algorithm, &row);
                let key = self.device()?.generate(&id, &format!("countersign {issuer_id} {algorithm}"), algorithm)?;
                (key.public_jwk().clone(), row)
            }
        };
        let key_id = public_jwk.key_id().clone();
        let record = SigningKeyRecord {
            key_id,
            algorithm,
            generation,
            created_at,
            activate_at,
            awaits_export,
            retirement: None,
            revoked_at: None,
        };
        let public_jwk = serde_json::to_string(&public_jwk).unwrap_or_default();
        Ok(SealedSigningKey { record, public_jwk, sealed_private_key })
    }

    /// Opens a key. What is published is derived from the result, never taken from the row: whoever can write to the database
    /// can add no key (SECURITY 58).
    pub(crate) fn open(&self, issuer_id: &IssuerId, sealed: &SealedSigningKey) -> Result<Arc<dyn Signer>, CustodyError> {
        let algorithm = sealed.record.algorithm;
        let key: Arc<dyn Signer> = match Self::kept(&sealed.sealed_private_key) {
            Some(KeyCustody::Device) => {
                let id = device_key_id(issuer_id, algorithm, &sealed.sealed_private_key);
                self.device()?.find(&id, algorithm)?.ok_or(CustodyError::NotInDevice)?
            }
            _ => Arc::new(self.unseal(issuer_id, sealed)?),
        };
        if key.key_id() == &sealed.record.key_id && same_public_key(&*key, &sealed.public_jwk) {
            Ok(key)
        } else {
            Err(CustodyError::ForeignPublicHalf)
        }
    }

    /// The private half of a sealed key.
    pub(crate) fn unseal(&self, issuer_id: &IssuerId, sealed: &SealedSigningKey) -> Result<SigningKey, CustodyError> {
        let SigningKeyRecord { key_id, algorithm, .. } = &sealed.record;
        let context = context(issuer_id, key_id, *algorithm);
        let plain = self.keys.open(&sealed.sealed_private_key, &context).map_err(CustodyError::Open)?;
        SigningKey::from_pkcs8(*algorithm, &plain).map_err(CustodyError::Read)
    }

    /// The private half under the key that seals now; `None` when it is already, or in a device.
    ///
    /// What does not open and match is not sealed anew: it would look as if it had been ours.
    pub(crate) fn reseal(&self, issuer_id: &IssuerId, sealed: &SealedSigningKey) -> Result<Option<Vec<u8>>, CustodyError> {
        if Self::kept(&sealed.sealed_private_key) == Some(KeyCustody::Device) {
            return Ok(None);
        }
        let under = KeyEncryptionKeyId::of_envelope(&sealed.sealed_private_key).map_err(CustodyError::Open)?;
        if under == self.keys.id() {
            return Ok(None);
        }
        let key = self.unseal(issuer_id, sealed)?;
        let SigningKeyRecord { key_id, algorithm, .. } = &sealed.record;
        if key.key_id() != key_id || !same_public_key(&key, &sealed.public_jwk) {
            return Err(CustodyError::ForeignPublicHalf);
        }
        let plain = key.to_pkcs8().map_err(CustodyError::Make)?;
        self.keys.seal(&plain, &context(issuer_id, key_id, *algorithm)).map(Some).map_err(CustodyError::Seal)
    }

    /// Destroys what a device keeps for a row that is no longer of use. Of a sealed key nothing is left with its row.
    pub(crate) fn destroy(
        &self,
        issuer_id: &IssuerId,
        algorithm: SignatureAlgorithm,
        sealed_private_key: &[u8],
    ) -> Result<(), CustodyError> {
        if Self::kept(sealed_private_key) == Some(KeyCustody::Device) {
            self.device()?.destroy(&device_key_id(issuer_id, algorithm, sealed_private_key))?;
        }
        Ok(())
    }

    fn device(&self) -> Result<&dyn KeyDevice, CustodyError> {
        self.device.as_deref().ok_or(CustodyError::NoDevice)
    }
}

/// Names the row that a private key belongs to.
fn context<'a>(issuer_id: &'a IssuerId, key_id: &'a KeyId, algorithm: SignatureAlgorithm) -> [&'a [u8]; 4] {
    [b"signing key", issuer_id.as_str().as_bytes(), key_id.as_str().as_bytes(), algorithm.as_str().as_bytes()]
}

/// The id in the device of the key of a row: the row of another issuer or algorithm leads to no key.
fn device_key_id(issuer_id: &IssuerId, algorithm: SignatureAlgorithm, row: &[u8]) -> DeviceKeyId {
    hash::sha256(&[b"countersign device key id v1", issuer_id.as_str().as_bytes(), algorithm.as_str().as_bytes(), row])
}

fn same_public_key(key: &dyn Signer, stored: &str) -> bool {
    let (Ok(own), Ok(stored)) = (serde_json::to_value(key.public_jwk()), serde_json::from_str::<Value>(stored)) else {
        return false;
    };
    PUBLIC_MEMBERS.iter().all(|member| own.get(member) == stored.get(member))
}

#[cfg(test)]
mod tests {
    use countersign_jose::sealed::KeyEncryptionKey;

    use super::*;

    fn custody(byte: u8) -> Custody {
        Custody::new(KeyEncryptionKey::from_bytes(&[byte; 32]).unwrap(), None)
    }

    fn issuer(number: u8) -> IssuerId {
        IssuerId::from_random([number; 16])
    }

    fn make(algorithm: SignatureAlgorithm) -> SealedSigningKey {
        let now = "2026-11-20T10:00:00Z".parse().unwrap();
        custody(1).make(&issuer(1), KeyCustody::Sealed, algorithm, 1, (now, now), false).unwrap()
    }

    #[test]
    fn a_key_comes_back_as_it_was_made() {
        for algorithm in countersign_domain::issuing::issuer::IssuerSettings::ALGORITHMS {
            let sealed = make(algorithm);
            let opened = custody(1).open(&issuer(1), &sealed).unwrap();
            assert_eq!((opened.key_id(), opened.algorithm()), (&sealed.record.key_id, algorithm));
        }
    }

    #[test]
    fn s58_a_key_opens_only_under_its_key_encryption_key_and_in_its_own_row() {
        let sealed = make(SignatureAlgorithm::Es256);
        assert!(matches!(custody(2).open(&issuer(1), &sealed), Err(CustodyError::Open(SealError::OtherKey(_)))));
        assert!(matches!(custody(1).open(&issuer(2), &sealed), Err(CustodyError::Open(SealError::Opening))));

        let other = make(SignatureAlgorithm::Es256);
        let swapped = SealedSigningKey { sealed_private_key: other.sealed_private_key, ..sealed.clone() };
        assert!(matches!(custody(1).open(&issuer(1), &swapped), Err(CustodyError::Open(SealError::Opening))));

        let mut renamed = sealed.clone();
        renamed.record.algorithm = SignatureAlgorithm::EdDsa;
        assert!(matches!(custody(1).open(&issuer(1), &renamed), Err(CustodyError::Open(SealError::Opening))));
    }

    #[test]
    fn s58_a_key_is_sealed_anew_under_another_key_and_only_what_is_ours() {
        let key = |byte| KeyEncryptionKey::from_bytes(&[byte; 32]).unwrap();
        let both = Custody::new(KeyEncryptionKeys::new(key(2), vec![key(1)]), None);
        let sealed = make(SignatureAlgorithm::Es256);
        let resealed = both.reseal(&issuer(1), &sealed).unwrap().unwrap();
        let resealed = SealedSigningKey { sealed_private_key: resealed, ..sealed.clone() };
        assert_eq!(both.reseal(&issuer(1), &resealed).unwrap(), None);
        assert_eq!(custody(2).open(&issuer(1), &resealed).unwrap().key_id(), &sealed.record.key_id);
        assert!(custody(1).open(&issuer(1), &resealed).is_err());
        assert!(both.reseal(&issuer(2), &sealed).is_err(), "from another row");
        let foreign = SealedSigningKey { public_jwk: make(SignatureAlgorithm::Es256).public_jwk, ..sealed };
        assert!(matches!(both.reseal(&issuer(1), &foreign), Err(CustodyError::ForeignPublicHalf)));
    }

    #[test]
    fn s58_a_foreign_public_key_is_noticed() {
        let sealed = make(SignatureAlgorithm::Es256);
        for public_jwk in [make(SignatureAlgorithm::Es256).public_jwk, "{}".to_owned(), String::new()] {
            let foreign = SealedSigningKey { public_jwk, ..sealed.clone() };
            assert!(matches!(custody(1).open(&issuer(1), &foreign), Err(CustodyError::ForeignPublicHalf)));
        }
    }

    #[test]
    fn s61_no_form_of_a_key_shows_its_private_half() {
        let sealed = make(SignatureAlgorithm::EdDsa);
        let opened = custody(1).open(&issuer(1), &sealed).unwrap();
        let secret = custody(1).unseal(&issuer(1), &sealed).unwrap().to_pkcs8().unwrap();
        let decimal = format!("{:?}", &secret[16..24]);
        let decimal = decimal.trim_matches(['[', ']']);
        let envelope = format!("{:?}", &sealed.sealed_private_key[24..32]);
        let envelope = envelope.trim_matches(['[', ']']);
        for shown in [format!("{sealed:?}"), format!("{opened:?}"), format!("{:?}", custody(7))] {
            assert!(!shown.contains(decimal) && !shown.contains(envelope), "{shown}");
            assert!(!shown.contains("7, 7, 7"), "{shown}");
        }
        let published = serde_json::to_value(opened.public_jwk()).unwrap();
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(published.get(private).is_none(), "{private}");
        }
    }
}
