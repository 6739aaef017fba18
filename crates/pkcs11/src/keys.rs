//! Signing keys in a token.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_jose::{
    DeviceError, DeviceKeyId, KeyDevice, PublicJwk, RawPublicKey, SignatureAlgorithm, Signer, SigningError, hash, is_sound,
};
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::sessions::{Token, find_objects};

/// `id-prime256v1`, `secp384r1` and `id-Ed25519` in DER (RFC 5480, section 2.1.1.1; RFC 8410, section 3).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const RSA_BITS: u64 = 2048;
/// Before each attempt to make a key. Some tokens, SoftHSM among them, now and then fail at it while others use them.
const PAUSES: [Duration; 4] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(300)];

/// How a token does what an algorithm asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    Ecdsa(&'static [u8]),
    Ed25519,
}

fn kind(algorithm: SignatureAlgorithm) -> Result<Kind, DeviceError> {
    match algorithm {
        SignatureAlgorithm::Rs256 => Ok(Kind::Rsa),
        SignatureAlgorithm::Es256 => Ok(Kind::Ecdsa(P256)),
        SignatureAlgorithm::Es384 => Ok(Kind::Ecdsa(P384)),
        SignatureAlgorithm::EdDsa => Ok(Kind::Ed25519),
        other => Err(DeviceError(format!("no key for {other} is ever made in a token"))),
    }
}

/// A private key in a token.
struct TokenKey {
    token: Token,
    id: DeviceKeyId,
    kind: Kind,
    public: PublicJwk,
    /// What it is called in a log-in. Handles end with that.
    handle: Arc<Mutex<Option<(u64, ObjectHandle)>>>,
}

impl KeyDevice for Token {
    fn generate(&self, id: &DeviceKeyId, label: &str, algorithm: SignatureAlgorithm) -> Result<Arc<dyn Signer>, DeviceError> {
        let mut last = DeviceError("the key that was made is not found".to_owned());
        for pause in PAUSES {
            std::thread::sleep(pause);
            match self.make(id, label, algorithm).and_then(|()| self.find(id, algorithm)) {
                Ok(Some(key)) => return Ok(key),
                Ok(None) => {}
                Err(error) => last = error,
            }
            tracing::debug!(error = %last, "a PKCS #11 token made no key");
        }
        // Nobody will ever use what may be there.
        let _ = self.destroy(id);
        Err(last)
    }

    fn find(&self, id: &DeviceKeyId, algorithm: SignatureAlgorithm) -> Result<Option<Arc<dyn Signer>>, DeviceError> {
        let (kind, wanted) = (kind(algorithm)?, *id);
        let found = self.with_session(Self::PATIENCE, move |session, generation| {
            let private = find_objects(session, &template(ObjectClass::PRIVATE_KEY, &wanted))?;
            let public = find_objects(session, &template(ObjectClass::PUBLIC_KEY, &wanted))?;
            match (private.as_slice(), public.as_slice()) {
                ([private], [public]) => {
                    let public = read_public(session, kind, *public, algorithm)?;
                    Ok(public.map(|public| ((generation, *private), public)))
                }
                _ => Ok(None),
            }
        })?;
        let Some((handle, public)) = found else { return Ok(None) };
        let key = TokenKey { token: self.clone(), id: *id, kind, public, handle: Arc::new(Mutex::new(Some(handle))) };
        match is_sound(&key) {
            Ok(true) => Ok(Some(Arc::new(key))),
            Ok(false) => Ok(None),
            Err(error) => Err(DeviceError(error.to_string())),
        }
    }

    fn destroy(&self, id: &DeviceKeyId) -> Result<(), DeviceError> {
        let id = *id;
        self.with_session_alone(Self::PATIENCE, move |session| destroy_all(session, &id))
    }
}

impl Token {
    /// Makes a key pair, in place of what an attempt before this one has left.
    fn make(&self, id: &DeviceKeyId, label: &str, algorithm: SignatureAlgorithm) -> Result<(), DeviceError> {
        let (kind, id, label) = (kind(algorithm)?, *id, label.to_owned());
        self.with_session_alone(Self::PATIENCE_WITH_KEYS, move |session| {
            destroy_all(session, &id)?;
            generate(session, kind, &id, &label)
        })
    }
}

impl Signer for TokenKey {
    fn public_jwk(&self) -> &PublicJwk {
        &self.public
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let (message, known) = (message.to_vec(), Arc::clone(&self.handle));
        let (id, kind, algorithm) = (self.id, self.kind, self.public.algorithm());
        let signed = self.token.with_session(Token::PATIENCE, move |session, generation| {
            let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
            // Of another log-in it may name another object by now.
            let of_this = lock().take().filter(|(of, _)| *of == generation);
            let handle = match of_this {
                Some((_, handle)) => handle,
                None => find_one(session, &template(ObjectClass::PRIVATE_KEY, &id))?,
            };
            let signature = sign(session, kind, algorithm, handle, &message)?;
            // Only what has just worked is kept for the next.
            *lock() = Some((generation, handle));
            Ok(signature)
        });
        signed.map_err(|error| {
            tracing::warn!(%error, key.id = %self.key_id(), "a PKCS #11 token does not sign");
            SigningError::Device
        })
    }

    fn takes_long(&self) -> bool {
        true
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("token", &self.token).field("key_id", self.key_id()).finish_non_exhaustive()
    }
}

fn template(class: ObjectClass, id: &DeviceKeyId) -> [Attribute; 3] {
    [Attribute::Class(class), Attribute::Token(true), Attribute::Id(id.to_vec())]
}

/// The only object with these attributes.
pub(crate) fn find_one(session: &Session, template: &[Attribute]) -> Result<ObjectHandle, Error> {
    match find_objects(session, template)?.as_slice() {
        [only] => Ok(*only),
        _ => Err(Error::InvalidValue),
    }
}

fn generate(session: &Session, kind: Kind, id: &DeviceKeyId, label: &str) -> Result<(), Error> {
    let named = [Attribute::Token(true), Attribute::Id(id.to_vec()), Attribute::Label(label.as_bytes().to_vec())];
    let mut public = [named.as_slice(), &[Attribute::Private(false), Attribute::Verify(true)]].concat();
    // Nothing gets it out, and it does nothing but sign.
    let private = [
        named.as_slice(),
        &[
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
        ],
    ]
    .concat();
    let mechanism = match kind {
        Kind::Rsa => {
            public.push(Attribute::ModulusBits(RSA_BITS.into()));
            public.push(Attribute::PublicExponent(vec![0x01, 0x00, 0x01]));
            Mechanism::RsaPkcsKeyPairGen
        }
        Kind::Ecdsa(curve) => {
            public.push(Attribute::EcParams(curve.to_vec()));
            Mechanism::EccKeyPairGen
        }
        Kind::Ed25519 => {
            public.push(Attribute::EcParams(ED25519.to_vec()));
            Mechanism::EccEdwardsKeyPairGen
        }
    };
    session.generate_key_pair(&mechanism, &public, &private)?;
    Ok(())
}

/// The public half; `None` when the object is none of this kind.
fn read_public(
    session: &Session,
    kind: Kind,
    object: ObjectHandle,
    algorithm: SignatureAlgorithm,
) -> Result<Option<PublicJwk>, Error> {
    let wanted: &[AttributeType] = match kind {
        Kind::Rsa => &[AttributeType::KeyType, AttributeType::Modulus, AttributeType::PublicExponent],
        Kind::Ecdsa(_) | Kind::Ed25519 => &[AttributeType::KeyType, AttributeType::EcParams, AttributeType::EcPoint],
    };
    let (mut key_type, mut params, mut point, mut modulus, mut exponent) = (None, Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for attribute in session.get_attributes(object, wanted)? {
        match attribute {
            Attribute::KeyType(value) => key_type = Some(value),
            Attribute::EcParams(value) => params = value,
            Attribute::EcPoint(value) => point = value,
            Attribute::Modulus(value) => modulus = value,
            Attribute::PublicExponent(value) => exponent = value,
            _ => {}
        }
    }
    let raw = match (kind, key_type) {
        (Kind::Rsa, Some(KeyType::RSA)) => RawPublicKey::Rsa { modulus: &modulus, exponent: &exponent },
        (Kind::Ecdsa(curve), Some(KeyType::EC)) if params == curve => RawPublicKey::Point(out_of_octet_string(&point)),
        (Kind::Ed25519, Some(KeyType::EC_EDWARDS)) => RawPublicKey::Point(out_of_octet_string(&point)),
        _ => return Ok(None),
    };
    Ok(PublicJwk::from_raw(algorithm, raw))
}

/// The content of a DER `OCTET STRING`, in which most tokens wrap points, as the standard says; others give them as they are.
fn out_of_octet_string(point: &[u8]) -> &[u8] {
    match point {
        [0x04, length, content @ ..] if usize::from(*length) == content.len() && *length < 0x80 => content,
        [0x04, 0x81, length, content @ ..] if usize::from(*length) == content.len() => content,
        _ => point,
    }
}

fn sign(
    session: &Session,
    kind: Kind,
    algorithm: SignatureAlgorithm,
    key: ObjectHandle,
    message: &[u8],
) -> Result<Vec<u8>, Error> {
    match kind {
        Kind::Rsa => session.sign(&Mechanism::Sha256RsaPkcs, key, message),
        // Of the plain mechanism, which every token has, the result is what JWS asks for: r and s, each as long as the order.
        Kind::Ecdsa(_) => {
            let digest = hash::ecdsa_digest(algorithm, message).ok_or(Error::InvalidValue)?;
            session.sign(&Mechanism::Ecdsa, key, &digest)
        }
        Kind::Ed25519 => session.sign(&Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)), key, message),
    }
}

/// Destroys both halves, the private one first.
fn destroy_all(session: &Session, id: &DeviceKeyId) -> Result<(), Error> {
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for object in find_objects(session, &template(class, id))? {
            session.destroy_object(object)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_wrapped_and_bare() {
        let bare = |length: usize| [&[0x04][..], &vec![7; length - 1]].concat();
        for length in [65, 97] {
            let point = bare(length);
            let wrapped = [&[0x04, u8::try_from(length).unwrap()][..], &point].concat();
            assert_eq!(out_of_octet_string(&wrapped), point);
            assert_eq!(out_of_octet_string(&point), point, "its second byte is no length");
        }
        let point = bare(133);
        assert_eq!(out_of_octet_string(&[&[0x04, 0x81, 133][..], &point].concat()), point);
        let edwards = [9; 32];
        assert_eq!(out_of_octet_string(&edwards), edwards);
    }
}
