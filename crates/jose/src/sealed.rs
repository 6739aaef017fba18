//! Sealing of private keys at rest: AES-256-GCM under a key-encryption key.
//!
//! An envelope is `version (1) ‖ key id (8) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`. Version and key id are authenticated along with
//! the caller's context, which names the row that the secret belongs to: an envelope moved to another row does not open
//! (SECURITY 58). The key id lets rows be sealed again under a new key, one by one.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::hash;
use crate::signer::{DeviceError, RemoteCipher};

/// How many bytes the nonce of AES-GCM has.
pub const NONCE_LEN: usize = 12;
const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 8;
const PREFIX_LEN: usize = 1 + KEY_ID_LEN;

/// Not a key-encryption key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key-encryption key must be 32 bytes in base64")]
pub struct InvalidKeyEncryptionKey;

/// Why nothing was sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system gave no randomness, or the cipher failed.
    #[error("sealing failed")]
    Seal,
    /// Not an envelope of a version that is known.
    #[error("not a sealed envelope")]
    NotAnEnvelope,
    /// Sealed under another key-encryption key.
    #[error("sealed under the key-encryption key {0}")]
    OtherKey(KeyEncryptionKeyId),
    /// The device that holds the key did not do it. It may go well later.
    #[error("the device that holds the key-encryption key cannot be used")]
    Device(#[source] DeviceError),
    /// The envelope was altered, or belongs elsewhere.
    #[error("the envelope was altered or belongs elsewhere")]
    Opening,
}

/// Names a key-encryption key without revealing it: the first bytes of a hash over it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyEncryptionKeyId([u8; KEY_ID_LEN]);

impl KeyEncryptionKeyId {
    fn of(parts: &[&[u8]]) -> Self {
        let digest = Zeroizing::new(hash::sha256(parts));
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&digest[..KEY_ID_LEN]);
        Self(id)
    }

    /// The key that an envelope was sealed under.
    pub fn of_envelope(envelope: &[u8]) -> Result<Self, SealError> {
        match envelope.split_first() {
            Some((&VERSION, rest)) => rest.first_chunk().map(|id| Self(*id)).ok_or(SealError::NotAnEnvelope),
            _ => Err(SealError::NotAnEnvelope),
        }
    }
}

impl fmt::Display for KeyEncryptionKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyEncryptionKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key that seals private keys.
pub struct KeyEncryptionKey {
    id: KeyEncryptionKeyId,
    cipher: Cipher,
}

enum Cipher {
    InMemory(Box<LessSafeKey>),
    Remote(Arc<dyn RemoteCipher>),
}

impl KeyEncryptionKey {
    /// Takes 32 bytes as they stand.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidKeyEncryptionKey> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| InvalidKeyEncryptionKey)?;
        let id = KeyEncryptionKeyId::of(&[b"countersign key-encryption key id v1", bytes]);
        Ok(Self { id, cipher: Cipher::InMemory(Box::new(LessSafeKey::new(key))) })
    }

    /// A key that stays in a device, where it has this name. Keys of one name are taken for one key.
    pub fn in_device(name: &str, cipher: Arc<dyn RemoteCipher>) -> Self {
        let id = KeyEncryptionKeyId::of(&[b"countersign key-encryption key id of a device v1", name.as_bytes()]);
        Self { id, cipher: Cipher::Remote(cipher) }
    }

    /// Takes the content of the key's file: 32 bytes in base64 (RFC 4648, section 4), as `openssl rand -base64 32` writes it.
    /// Whitespace around it is ignored.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKeyEncryptionKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim_ascii()).map_err(|_| InvalidKeyEncryptionKey)?);
        Self::from_bytes(bytes.as_slice().try_into().map_err(|_| InvalidKeyEncryptionKey)?)
    }

    /// Names this key; the same on every replica that has it.
    pub fn id(&self) -> KeyEncryptionKeyId {
        self.id
    }

    /// Seals `plaintext` so that it opens only with the same `context`: a list that names where the envelope belongs.
    pub fn seal(&self, plaintext: &[u8], context: &[&[u8]]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::Seal)?;
        let sealed = self.encrypt(&mut nonce, &self.associated(context), plaintext)?;
        Ok([&[VERSION][..], &self.id.0, &nonce, &sealed].concat())
    }

    /// Opens an envelope that [`KeyEncryptionKey::seal`] made with the same `context`.
    pub fn open(&self, envelope: &[u8], context: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let sealed_under = KeyEncryptionKeyId::of_envelope(envelope)?;
        if sealed_under != self.id {
            return Err(SealError::OtherKey(sealed_under));
        }
        let (nonce, sealed) =
            envelope.get(PREFIX_LEN..).and_then(|rest| rest.split_first_chunk::<NONCE_LEN>()).ok_or(SealError::NotAnEnvelope)?;
        self.decrypt(nonce, &self.associated(context), sealed)
    }

    fn encrypt(&self, nonce: &mut [u8; NONCE_LEN], associated: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = match &self.cipher {
            Cipher::InMemory(key) => key,
            Cipher::Remote(cipher) => return cipher.encrypt(nonce, associated, plaintext).map_err(SealError::Device),
        };
        let mut in_out = Zeroizing::new(plaintext.to_vec());
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(associated), &mut in_out)
            .map_err(|_| SealError::Seal)?;
        Ok([in_out.as_slice(), tag.as_ref()].concat())
    }

    fn decrypt(&self, nonce: &[u8; NONCE_LEN], associated: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = match &self.cipher {
            Cipher::InMemory(key) => key,
            Cipher::Remote(cipher) => {
                let opened = cipher.decrypt(nonce, associated, sealed).map_err(SealError::Device)?;
                return opened.ok_or(SealError::Opening);
            }
        };
        let mut in_out = Zeroizing::new(sealed.to_vec());
        let opened = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(associated), &mut in_out)
            .map_err(|_| SealError::Opening)?
            .len();
        in_out.truncate(opened);
        Ok(in_out)
    }

    /// What is authenticated along with the secret.
    fn associated(&self, context: &[&[u8]]) -> [u8; 32] {
        let mut parts: Vec<&[u8]> = vec![b"countersign sealed", &[VERSION], &self.id.0];
        parts.extend_from_slice(context);
        hash::sha256(&parts)
    }
}

/// The key that seals, and those that only open: one of them will seal after the others, or did before.
pub struct KeyEncryptionKeys {
    sealing: KeyEncryptionKey,
    opening: Vec<KeyEncryptionKey>,
}

impl KeyEncryptionKeys {
    /// Seals under the first, opens under all.
    pub fn new(sealing: KeyEncryptionKey, opening: Vec<KeyEncryptionKey>) -> Self {
        Self { sealing, opening }
    }

    /// Whether the key that seals stays in a device.
    pub fn is_in_device(&self) -> bool {
        matches!(self.sealing.cipher, Cipher::Remote(_))
    }

    /// Names the key that seals.
    pub fn id(&self) -> KeyEncryptionKeyId {
        self.sealing.id()
    }

    /// As of [`KeyEncryptionKey::seal`].
    pub fn seal(&self, plaintext: &[u8], context: &[&[u8]]) -> Result<Vec<u8>, SealError> {
        self.sealing.seal(plaintext, context)
    }

    /// As of [`KeyEncryptionKey::open`], by the key that the envelope names.
    pub fn open(&self, envelope: &[u8], context: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let id = KeyEncryptionKeyId::of_envelope(envelope)?;
        let key = self.opening.iter().find(|key| key.id() == id).unwrap_or(&self.sealing);
        key.open(envelope, context)
    }
}

impl From<KeyEncryptionKey> for KeyEncryptionKeys {
    fn from(key: KeyEncryptionKey) -> Self {
        Self::new(key, Vec::new())
    }
}

impl fmt::Debug for KeyEncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEncryptionKeys").field("sealing", &self.sealing).field("opening", &self.opening).finish()
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEncryptionKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A device that holds a key in memory, and may draw its own nonces as some do.
    #[derive(Debug)]
    struct Device {
        key: KeyEncryptionKey,
        own_nonce: Option<[u8; NONCE_LEN]>,
        broken: bool,
    }

    impl RemoteCipher for Device {
        fn encrypt(&self, nonce: &mut [u8; NONCE_LEN], associated: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, DeviceError> {
            if let Some(own) = self.own_nonce {
                *nonce = own;
            }
            self.key.encrypt(nonce, associated, plaintext).map_err(|error| DeviceError(error.to_string()))
        }

        fn decrypt(
            &self,
            nonce: &[u8; NONCE_LEN],
            associated: &[u8],
            ciphertext: &[u8],
        ) -> Result<Option<Zeroizing<Vec<u8>>>, DeviceError> {
            if self.broken {
                return Err(DeviceError("unplugged".to_owned()));
            }
            Ok(self.key.decrypt(nonce, associated, ciphertext).ok())
        }
    }

    fn in_device(name: &str, own_nonce: Option<[u8; NONCE_LEN]>, broken: bool) -> KeyEncryptionKey {
        let key = KeyEncryptionKey::from_bytes(&[9; 32]).unwrap();
        KeyEncryptionKey::in_device(name, Arc::new(Device { key, own_nonce, broken }))
    }

    #[test]
    fn s58_a_key_in_a_device_seals_as_one_in_memory_does() {
        for own_nonce in [None, Some([7; NONCE_LEN])] {
            let key = in_device("kek", own_nonce, false);
            let envelope = key.seal(b"secret", &[b"row"]).unwrap();
            assert_eq!(key.open(&envelope, &[b"row"]).unwrap().as_slice(), b"secret");
            assert_eq!(key.open(&envelope, &[b"other row"]), Err(SealError::Opening));
            assert!(matches!(in_device("other", None, false).open(&envelope, &[b"row"]), Err(SealError::OtherKey(_))));
            let unplugged = in_device("kek", None, true).open(&envelope, &[b"row"]);
            assert!(matches!(unplugged, Err(SealError::Device(_))), "not taken for an envelope of somebody else");
        }
    }

    fn key(byte: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn s58_one_key_seals_and_those_that_are_named_open() {
        let former = key(1).seal(b"private", &[b"row"]).unwrap();
        let keys = KeyEncryptionKeys::new(key(2), vec![key(1)]);
        assert_eq!(keys.open(&former, &[b"row"]).unwrap().as_slice(), b"private");
        let sealed = keys.seal(b"private", &[b"row"]).unwrap();
        assert_eq!(KeyEncryptionKeyId::of_envelope(&sealed), Ok(key(2).id()));
        assert_eq!(key(1).open(&sealed, &[b"row"]), Err(SealError::OtherKey(key(2).id())));
        let alone = KeyEncryptionKeys::from(key(2));
        assert_eq!(alone.open(&former, &[b"row"]), Err(SealError::OtherKey(key(1).id())));
    }

    #[test]
    fn s58_an_envelope_opens_only_where_it_belongs() {
        let envelope = key(1).seal(b"private", &[b"is_1", b"kid", b"ES256"]).unwrap();
        assert_eq!(key(1).open(&envelope, &[b"is_1", b"kid", b"ES256"]).unwrap().as_slice(), b"private");
        for context in [
            &[&b"is_2"[..], b"kid", b"ES256"][..],
            &[b"is_1", b"kid"],
            &[b"is_1kid", b"ES256"],
            &[b"is_1", b"kid", b"ES256", b""],
            &[],
        ] {
            assert_eq!(key(1).open(&envelope, context), Err(SealError::Opening), "{context:?}");
        }
    }

    #[test]
    fn s58_another_key_does_not_open_and_is_named() {
        let envelope = key(1).seal(b"private", &[]).unwrap();
        assert_eq!(key(2).open(&envelope, &[]), Err(SealError::OtherKey(key(1).id())));
        assert_eq!(KeyEncryptionKeyId::of_envelope(&envelope), Ok(key(1).id()));
        // Even when the envelope is made to name the other key.
        let mut renamed = envelope;
        renamed[1..PREFIX_LEN].copy_from_slice(&key(2).id().0);
        assert_eq!(key(2).open(&renamed, &[]), Err(SealError::Opening));
    }

    #[test]
    fn s58_altering_or_cutting_an_envelope_anywhere_spoils_it() {
        let envelope = key(1).seal(b"private", &[b"row"]).unwrap();
        for index in 0..envelope.len() {
            let mut altered = envelope.clone();
            altered[index] ^= 1;
            assert!(key(1).open(&altered, &[b"row"]).is_err(), "byte {index}");
            assert!(key(1).open(&envelope[..index], &[b"row"]).is_err(), "first {index} bytes");
        }
        assert!(key(1).open(&[envelope.as_slice(), b"x"].concat(), &[b"row"]).is_err());
    }

    #[test]
    fn sealing_twice_gives_two_envelopes() {
        assert_ne!(key(1).seal(b"private", &[]), key(1).seal(b"private", &[]));
    }

    #[test]
    fn keys_are_read_from_32_bytes_of_base64() {
        let text = STANDARD.encode([9; 32]);
        assert_eq!(KeyEncryptionKey::from_base64(&format!("{text}\n")).unwrap().id(), key(9).id());
        for wrong in [String::new(), STANDARD.encode([9; 31]), STANDARD.encode([9; 33]), "x".repeat(44), format!("{text} {text}")]
        {
            assert_eq!(KeyEncryptionKey::from_base64(&wrong).unwrap_err(), InvalidKeyEncryptionKey, "{wrong}");
        }
    }

    #[test]
    fn s61_debug_shows_the_id_alone() {
        let key = key(0x41);
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("KeyEncryptionKey {{ id: {}, .. }}", key.id()));
        assert!(!shown.contains("4141") && !shown.contains("65, 65"));
    }

    proptest! {
        #[test]
        fn what_is_sealed_can_be_opened(plaintext: Vec<u8>, context: Vec<Vec<u8>>) {
            let context: Vec<&[u8]> = context.iter().map(Vec::as_slice).collect();
            let envelope = key(1).seal(&plaintext, &context).unwrap();
            let opened = key(1).open(&envelope, &context).unwrap();
            prop_assert_eq!(opened.as_slice(), plaintext.as_slice());
        }

        #[test]
        fn s68_no_envelope_panics(mut bytes: Vec<u8>, named: bool) {
            if named {
                bytes.splice(0..0, [&[VERSION][..], &key(1).id().0].concat());
            }
            prop_assert!(key(1).open(&bytes, &[]).is_err());
        }
    }
}
