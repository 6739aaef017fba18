//! A key-encryption key in a token.

use std::sync::Arc;

use countersign_jose::sealed::{KeyEncryptionKey, NONCE_LEN};
use countersign_jose::{DeviceError, RemoteCipher};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use zeroize::Zeroizing;

use crate::keys::find_one;
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
        let template = cipher.template();
        let found = self.with_session(Self::PATIENCE, move |session, _| find_objects(session, &template));
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
        let (nonce, associated, sealed, template) = (*nonce, associated.to_vec(), sealed.to_vec(), self.template());
        self.token.with_session(Token::PATIENCE, move |session, _| {
            let mut nonce = nonce;
            let parameters = GcmParams::new(&mut nonce, &associated, TAG_BITS.into())?;
            session.decrypt(&Mechanism::AesGcm(parameters), find_one(session, &template)?, &sealed).map(Zeroizing::new)
        })
    }
}

impl RemoteCipher for TokenCipher {
    fn encrypt(&self, nonce: &mut [u8; NONCE_LEN], associated: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, DeviceError> {
        let (given, associated, template) = (*nonce, associated.to_vec(), self.template());
        let plaintext = Zeroizing::new(plaintext.to_vec());
        let (used, sealed) = self.token.with_session(Token::PATIENCE, move |session, _| {
            // Some tokens write a nonce of their own into it.
            let mut used = given;
            let parameters = GcmParams::new(&mut used, &associated, TAG_BITS.into())?;
            let sealed = session.encrypt(&Mechanism::AesGcm(parameters), find_one(session, &template)?, &plaintext)?;
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
        // What tokens say of a ciphertext that is not theirs is as well what they say when they are broken: so it is one that does not
        // open before and after something else does.
        match self.open(nonce, associated, ciphertext) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if self.try_out().is_err() => Err(error),
            Err(_) => match self.open(nonce, associated, ciphertext) {
                Ok(opened) => Ok(Some(opened)),
                Err(error) if self.try_out().is_err() => Err(error),
                Err(_) => Ok(None),
            },
        }
    }
}
