//! What a token does, with SoftHSM as the token.

#![expect(clippy::unwrap_used, reason = "a test reports trouble by failing")]

use std::sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard};

use countersign_jose::sealed::{KeyEncryptionKeyId, SealError};
use countersign_jose::{
    DeviceKeyId, KeyDevice, KeySet, PublicJwkSet, SignatureAlgorithm, Signer, SigningKey, device_key_salt, hash, verify_signature,
};
use countersign_pkcs11::{OpenError, Token, TokenSettings};
use countersign_testkit::softhsm::SoftHsm;
use cryptoki::context::Pkcs11;

const ALGORITHMS: [SignatureAlgorithm; 4] =
    [SignatureAlgorithm::Es256, SignatureAlgorithm::Es384, SignatureAlgorithm::EdDsa, SignatureAlgorithm::Rs256];

/// Held by the test that logs everybody out, again and again, as nothing else does.
static LOGGING_OUT: RwLock<()> = RwLock::new(());
static TOKEN: LazyLock<Token> = LazyLock::new(|| Token::open(settings()).unwrap());

fn settings() -> TokenSettings {
    let hsm = SoftHsm::shared();
    TokenSettings { module: hsm.module.clone(), token_label: hsm.label.clone(), pin: SoftHsm::PIN.to_owned().into() }
}

fn undisturbed() -> RwLockReadGuard<'static, ()> {
    LOGGING_OUT.read().unwrap_or_else(PoisonError::into_inner)
}

fn new_id() -> DeviceKeyId {
    hash::sha256(&[&device_key_salt().unwrap()])
}

fn verifies(key: &dyn Signer, token: &str) -> bool {
    let set = serde_json::to_vec(&PublicJwkSet { keys: vec![key.public_jwk().clone()] }).unwrap();
    verify_signature(token, &KeySet::parse(&set).unwrap(), &[key.algorithm()].into()).is_ok()
}

#[test]
fn keys_of_every_algorithm_sign_and_are_found_again() {
    let _undisturbed = undisturbed();
    for algorithm in ALGORITHMS {
        let id = new_id();
        assert!(TOKEN.find(&id, algorithm).unwrap().is_none());
        let made = TOKEN.generate(&id, "a test's", algorithm).unwrap();
        assert_eq!(made.algorithm(), algorithm);
        let found = TOKEN.find(&id, algorithm).unwrap().unwrap();
        assert_eq!(found.public_jwk(), made.public_jwk());
        for key in [made, found] {
            for _ in 0..3 {
                let token = key.sign("JWT", b"{\"sub\":\"a\"}").unwrap();
                assert!(verifies(&*key, &token), "{algorithm}");
            }
        }
    }
}

#[test]
fn s58_a_key_is_found_by_its_own_id_and_algorithm_alone() {
    let _undisturbed = undisturbed();
    let id = new_id();
    TOKEN.generate(&id, "a test's", SignatureAlgorithm::Es256).unwrap();
    let mut other = id;
    other[31] ^= 1;
    assert!(TOKEN.find(&other, SignatureAlgorithm::Es256).unwrap().is_none());
    for algorithm in [SignatureAlgorithm::Es384, SignatureAlgorithm::EdDsa, SignatureAlgorithm::Rs256] {
        // Some tokens say at once that such an object has no such attribute.
        assert!(TOKEN.find(&id, algorithm).map_or(true, |found| found.is_none()), "{algorithm}");
    }
}

#[test]
fn s59_a_key_that_is_destroyed_signs_no_more() {
    let _undisturbed = undisturbed();
    let id = new_id();
    let key = TOKEN.generate(&id, "a test's", SignatureAlgorithm::Es256).unwrap();
    TOKEN.destroy(&id).unwrap();
    assert!(key.sign("JWT", b"{}").is_err());
    assert!(TOKEN.find(&id, SignatureAlgorithm::Es256).unwrap().is_none());
    TOKEN.destroy(&id).unwrap();
}

#[test]
fn many_threads_sign_at_once() {
    let _undisturbed = undisturbed();
    let key = TOKEN.generate(&new_id(), "a test's", SignatureAlgorithm::Es256).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let key = Arc::clone(&key);
            scope.spawn(move || {
                for number in 0..20 {
                    let claims = format!("{{\"sub\":\"{thread}-{number}\"}}");
                    assert!(verifies(&*key, &key.sign("JWT", claims.as_bytes()).unwrap()));
                }
            });
        }
    });
}

#[test]
fn who_is_logged_out_logs_in_again() {
    let _alone = LOGGING_OUT.write().unwrap_or_else(PoisonError::into_inner);
    let (id, algorithm) = (new_id(), SignatureAlgorithm::Es256);
    let key = TOKEN.generate(&id, "a test's", algorithm).unwrap();
    let sealing = TOKEN.key_encryption_key(SoftHsm::KEY_ENCRYPTION_KEY).unwrap();
    let envelope = sealing.seal(b"plain", &[]).unwrap();
    // A log-in is the process's: whoever logs out logs everybody out.
    let module = Pkcs11::new(&SoftHsm::shared().module).unwrap();
    let mut slots = module.get_slots_with_token().unwrap();
    slots.retain(|slot| module.get_token_info(*slot).unwrap().label() == SoftHsm::shared().label);
    let log_out = || module.open_rw_session(slots[0]).unwrap().logout().unwrap();
    log_out();
    assert!(verifies(&*key, &key.sign("JWT", b"{}").unwrap()));
    log_out();
    assert!(TOKEN.find(&id, algorithm).unwrap().is_some());
    log_out();
    assert_eq!(sealing.open(&envelope, &[]).unwrap().as_slice(), b"plain");
}

#[test]
fn s58_the_key_encryption_key_in_a_token_seals_for_one_row_alone() {
    let _undisturbed = undisturbed();
    let key = TOKEN.key_encryption_key(SoftHsm::KEY_ENCRYPTION_KEY).unwrap();
    let plain = SigningKey::generate(SignatureAlgorithm::Rs256).unwrap().to_pkcs8().unwrap();
    let envelope = key.seal(&plain, &[b"row"]).unwrap();
    assert_eq!(KeyEncryptionKeyId::of_envelope(&envelope).unwrap(), key.id());
    assert_eq!(*key.open(&envelope, &[b"row"]).unwrap(), *plain);
    assert_eq!(key.open(&envelope, &[b"other row"]), Err(SealError::Opening));
    for index in [9, 21, envelope.len() - 1] {
        let mut altered = envelope.clone();
        altered[index] ^= 1;
        assert_eq!(key.open(&altered, &[b"row"]), Err(SealError::Opening), "at {index}");
    }
    assert_eq!(*key.open(&envelope, &[b"row"]).unwrap(), *plain, "and goes on");
    assert_eq!(TOKEN.key_encryption_key(SoftHsm::KEY_ENCRYPTION_KEY).unwrap().id(), key.id(), "on every replica");
}

#[test]
fn what_is_missing_is_named() {
    let _undisturbed = undisturbed();
    let unknown = TokenSettings { token_label: "nobody".to_owned(), ..settings() };
    assert!(matches!(Token::open(unknown), Err(OpenError::Label { found: 0, .. })));
    let no_library = TokenSettings { module: "/nowhere/libpkcs11.so".into(), ..settings() };
    assert!(matches!(Token::open(no_library), Err(OpenError::Module(..))));
    assert!(matches!(TOKEN.key_encryption_key("nobody"), Err(OpenError::SecretKey { found: 0, .. })));
}

#[test]
fn s61_neither_the_pin_nor_a_key_is_shown() {
    let _undisturbed = undisturbed();
    let key = TOKEN.generate(&new_id(), "a test's", SignatureAlgorithm::Es256).unwrap();
    let sealing = TOKEN.key_encryption_key(SoftHsm::KEY_ENCRYPTION_KEY).unwrap();
    for shown in [format!("{:?}", settings()), format!("{:?}", *TOKEN), format!("{key:?}"), format!("{sealing:?}")] {
        assert!(!shown.contains(SoftHsm::PIN) && !shown.contains("canary"), "{shown}");
    }
}
