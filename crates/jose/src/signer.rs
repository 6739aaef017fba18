//! What signs, wherever its private key is kept.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use countersign_domain::values::name::KeyId;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use zeroize::Zeroizing;

use crate::compact::MAX_TOKEN_BYTES;
use crate::encoding;
use crate::key_set::KeySet;
use crate::public_jwk::{PublicJwk, PublicJwkSet};
use crate::sealed::NONCE_LEN;
use crate::signing_key::SigningError;

/// A private key that signs with one algorithm: in memory ([`SigningKey`](crate::SigningKey)), or in a device that does not give it
/// away ([`KeyDevice`]).
pub trait Signer: fmt::Debug + Send + Sync {
    /// The public half, to be published before the first signature.
    fn public_jwk(&self) -> &PublicJwk;

    /// The signature of a JWS (RFC 7518, section 3; RFC 8037, section 3.1).
    ///
    /// # Errors
    /// `Sign`, or `Device` where it may go well later.
    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SigningError>;

    /// Whether a signature takes so long, or waits for so much, that it is not for an async thread.
    fn takes_long(&self) -> bool;

    /// The key's id: its RFC 7638 thumbprint.
    fn key_id(&self) -> &KeyId {
        self.public_jwk().key_id()
    }

    /// The algorithm the key signs with.
    fn algorithm(&self) -> SignatureAlgorithm {
        self.public_jwk().algorithm()
    }

    /// Signs `claims_json` as a compact JWS with the header members `alg`, `kid` and `typ`.
    ///
    /// # Errors
    /// As of [`signature`](Self::signature), and `TooLong`.
    fn sign(&self, typ: &str, claims_json: &[u8]) -> Result<String, SigningError> {
        let typ = serde_json::Value::from(typ);
        let header = format!(r#"{{"alg":"{}","kid":"{}","typ":{typ}}}"#, self.algorithm(), self.key_id());
        compact(header.as_bytes(), claims_json, |message| self.signature(message))
    }
}

/// A compact JWS (RFC 7515, section 3.1) of this header and payload.
pub(crate) fn compact(
    header: &[u8],
    payload: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, SigningError>,
) -> Result<String, SigningError> {
    // Room for the two segments, the dots, and the longest usual signature.
    let mut token = String::with_capacity((header.len() + payload.len()) * 4 / 3 + 400);
    encoding::encode_to(header, &mut token);
    token.push('.');
    encoding::encode_to(payload, &mut token);
    let signature = sign(token.as_bytes())?;
    token.push('.');
    encoding::encode_to(&signature, &mut token);
    if token.len() > MAX_TOKEN_BYTES { Err(SigningError::TooLong) } else { Ok(token) }
}

/// A device that makes and keeps private keys, and does not give them away: a PKCS #11 token. Calls may take long.
pub trait KeyDevice: fmt::Debug + Send + Sync {
    /// Makes a key that is found under this id from then on. `label` is for people.
    ///
    /// # Errors
    /// Nothing was made, or it cannot be told.
    fn generate(&self, id: &DeviceKeyId, label: &str, algorithm: SignatureAlgorithm) -> Result<Arc<dyn Signer>, DeviceError>;

    /// The key of this id, of which is certain that it signs for the public half that comes with it. `None`: there is none.
    ///
    /// # Errors
    /// It cannot be told.
    fn find(&self, id: &DeviceKeyId, algorithm: SignatureAlgorithm) -> Result<Option<Arc<dyn Signer>>, DeviceError>;

    /// Destroys the key of this id, if there is one.
    ///
    /// # Errors
    /// It may still be there.
    fn destroy(&self, id: &DeviceKeyId) -> Result<(), DeviceError>;
}

/// Names a key in a device.
pub type DeviceKeyId = [u8; 32];

/// Random bits that make the id of a key in a device one that nobody else's key has.
///
/// # Errors
/// The system gave no randomness.
pub fn device_key_salt() -> Result<[u8; 16], SigningError> {
    let mut salt = [0; 16];
    rand::fill(&mut salt).map_err(|_| SigningError::Generate)?;
    Ok(salt)
}

/// What went wrong with a device, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeviceError(pub String);

/// AES-256-GCM under a key that is kept elsewhere, in a device. Calls may take long.
pub trait RemoteCipher: fmt::Debug + Send + Sync {
    /// Ciphertext and tag (16 bytes). The device may put a nonce of its own in place of the one that is given, which is random.
    ///
    /// # Errors
    /// The device did not do it.
    fn encrypt(&self, nonce: &mut [u8; NONCE_LEN], associated: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, DeviceError>;

    /// The plaintext. `None`: the ciphertext, or what is associated with it, is another.
    ///
    /// # Errors
    /// The device did not do it.
    fn decrypt(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        ciphertext: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, DeviceError>;
}

/// Whether a key signs for the public half that it says it has: tried, with a message that is no token of anybody.
///
/// # Errors
/// As of [`Signer::signature`], or there is no randomness.
pub fn is_sound(signer: &dyn Signer) -> Result<bool, SigningError> {
    let mut challenge = [0; 32];
    rand::fill(&mut challenge).map_err(|_| SigningError::Sign)?;
    let message = [b"countersign: does this key sign for its public half? ", challenge.as_slice()].concat();
    let signature = signer.signature(&message)?;
    let set = PublicJwkSet { keys: vec![signer.public_jwk().clone()] };
    let keys = serde_json::to_vec(&set).ok().and_then(|bytes| KeySet::parse(&bytes).ok());
    let key = keys.as_ref().and_then(|keys| keys.select(Some(signer.key_id()), signer.algorithm()).ok());
    Ok(key.is_some_and(|key| key.verifies(signer.algorithm(), &message, &signature)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::key;

    /// Says that it is another key than it is.
    #[derive(Debug)]
    struct Impostor {
        signs: crate::SigningKey,
        says: crate::SigningKey,
    }

    impl Signer for Impostor {
        fn public_jwk(&self) -> &PublicJwk {
            self.says.public_jwk()
        }

        fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
            self.signs.signature(message)
        }

        fn takes_long(&self) -> bool {
            false
        }
    }

    #[test]
    fn s58_a_key_is_tried_before_its_public_half_is_believed() {
        for algorithm in
            [SignatureAlgorithm::Es256, SignatureAlgorithm::Es384, SignatureAlgorithm::EdDsa, SignatureAlgorithm::Rs256]
        {
            assert_eq!(is_sound(&key(algorithm)), Ok(true), "{algorithm}");
        }
        let generate = || crate::SigningKey::generate(SignatureAlgorithm::Es256).unwrap();
        assert_eq!(is_sound(&Impostor { signs: generate(), says: generate() }), Ok(false));
    }
}
