//! A key-encryption key in a token.

use std::sync::Arc;

use countersign_jose::sealed::{KeyEncryptionKey, NONCE_LEN};
use countersign_jose::{DeviceError, RemoteCipher};
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::Zeroizing;

use crate::sessions::{OpenError, Token, find_objects};

const TAG_BITS: u64 = 128;

#[derive(Debug)]
struct TokenCipher {
    token: Token,
    label: String,
}

impl Token {
    /// The AES key with this label, as the key that seals. Tried before it is used.
    ///
    /// # Errors
    /// There is no such key, or more than one, or it does not encrypt with GCM.
    pub fn key_encryption_key(&self, label: &str) -> Result<KeyEncryptionKey, OpenError> {
        let cipher = TokenCipher { token: self.clone(), label: label.to_owned() };
        let found = self.with_session(|session| find_objects(session, &cipher.template()));
        let unfit = |cause| OpenError::Unfit { label: label.to_owned(), cause };
        match found.map_err(unfit)?.len() {
            1 => {}
            found => return Err(OpenError::SecretKey { label: label.to_owned(), found }),
        }
        cipher.try_out().map_err(unfit)?;
        Ok(KeyEncryptionKey::in_device(label, Arc::new(cipher)))
    }
}

impl TokenCipher {
    fn template(&self) -> [Attribute; 4] {
        [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Label(self.label.as_bytes().to_vec()),
        ]
    }

    /// Whether it opens what it seals.
    fn try_out(&self) -> Result<(), DeviceError> {
        let mut nonce = [0; NONCE_LEN];
        let sealed = self.encrypt(&mut nonce, b"trial", b"trial")?;
        let opened = self.open(&nonce, b"trial", &sealed)?;
        if opened.as_slice() == b"trial" { Ok(()) } else { Err(DeviceError("what it sealed does not open".to_owned())) }
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], associated: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DeviceError> {
        self.token.with_session(|session| {
            let mut nonce = *nonce;
            let parameters = GcmParams::new(&mut nonce, associated, TAG_BITS.into())?;
            session.decrypt(&Mechanism::AesGcm(parameters), self.key(session)?, sealed).map(Zeroizing::new)
        })
    }

    fn key(&self, session: &Session) -> Result<ObjectHandle, Error> {
        match find_objects(session, &self.template())?.as_slice() {
            [only] => Ok(*only),
            _ => Err(Error::InvalidValue),
        }
    }
}

impl RemoteCipher for TokenCipher {
    fn encrypt(&self, nonce: &mut [u8; NONCE_LEN], associated: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, DeviceError> {
        let (used, sealed) = self.token.with_session(|session| {
            // Some tokens write a nonce of their own into it.
            let mut used = *nonce;
            let parameters = GcmParams::new(&mut used, associated, TAG_BITS.into())?;
            let sealed = session.encrypt(&Mechanism::AesGcm(parameters), self.key(session)?, plaintext)?;
            Ok((used, sealed))
        })?;
        *nonce = used;
        Ok(sealed)
    }

    fn decrypt(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        ciphertext: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, DeviceError> {
        match self.open(nonce, associated, ciphertext) {
            Ok(opened) => Ok(Some(opened)),
            // What tokens say of a ciphertext that is not theirs is as well what they say when they are broken.
            Err(_) if self.try_out().is_ok() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
