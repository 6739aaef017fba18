//! Keys in a device: a PKCS #11 token, and one that fails on request.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use countersign_domain::issuing::issuer::KeyCustody;
use countersign_domain::values::reason::Reason;
use countersign_jose::{DeviceError, DeviceKeyId, KeyDevice, PublicJwk, SignatureAlgorithm, Signer, SigningError, SigningKey};
use countersign_pkcs11::{Token, TokenSettings};
use countersign_proto::issuer_v1 as wire;
use countersign_testkit::softhsm::SoftHsm;
use countersign_testkit::status::{assert_refused, violated_fields};
use countersign_testkit::wait;
use serde_json::Value;
use tonic::Code;

use crate::harness::{GATEWAY, Ground, Service, own_issuer, path_of, rwx, verify, wish, workspace};

/// Keeps keys in memory, and can be unplugged.
#[derive(Debug, Default, Clone)]
pub(crate) struct FlakyDevice(Arc<Inner>);

#[derive(Default)]
struct Inner {
    keys: Mutex<HashMap<DeviceKeyId, Arc<SigningKey>>>,
    unplugged: AtomicBool,
    makes_no_rsa: AtomicBool,
    made: AtomicUsize,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inner")
    }
}

#[derive(Debug)]
struct FlakyKey {
    device: FlakyDevice,
    key: Arc<SigningKey>,
}

impl FlakyDevice {
    pub(crate) fn unplug(&self, unplugged: bool) {
        self.0.unplugged.store(unplugged, Ordering::SeqCst);
    }

    fn plugged(&self) -> Result<(), DeviceError> {
        if self.0.unplugged.load(Ordering::SeqCst) { Err(DeviceError("unplugged".to_owned())) } else { Ok(()) }
    }

    fn count(&self) -> usize {
        self.0.keys.lock().unwrap().len()
    }
}

impl KeyDevice for FlakyDevice {
    fn generate(&self, id: &DeviceKeyId, _: &str, algorithm: SignatureAlgorithm) -> Result<Arc<dyn Signer>, DeviceError> {
        self.plugged()?;
        if algorithm == SignatureAlgorithm::Rs256 && self.0.makes_no_rsa.load(Ordering::SeqCst) {
            return Err(DeviceError("no such mechanism".to_owned()));
        }
        self.0.made.fetch_add(1, Ordering::SeqCst);
        let key = Arc::new(SigningKey::generate(algorithm).unwrap());
        self.0.keys.lock().unwrap().insert(*id, Arc::clone(&key));
        Ok(Arc::new(FlakyKey { device: self.clone(), key }))
    }

    fn find(&self, id: &DeviceKeyId, algorithm: SignatureAlgorithm) -> Result<Option<Arc<dyn Signer>>, DeviceError> {
        self.plugged()?;
        let found = self.0.keys.lock().unwrap().get(id).filter(|key| key.algorithm() == algorithm).cloned();
        Ok(found.map(|key| Arc::new(FlakyKey { device: self.clone(), key }) as Arc<dyn Signer>))
    }

    fn destroy(&self, id: &DeviceKeyId) -> Result<(), DeviceError> {
        self.plugged()?;
        self.0.keys.lock().unwrap().remove(id);
        Ok(())
    }
}

impl Signer for FlakyKey {
    fn public_jwk(&self) -> &PublicJwk {
        self.key.public_jwk()
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.device.plugged().map_err(|_| SigningError::Device)?;
        self.key.signature(message)
    }

    fn takes_long(&self) -> bool {
        true
    }
}

static TOKEN: LazyLock<Token> = LazyLock::new(|| {
    let hsm = SoftHsm::shared();
    let pin = SoftHsm::PIN.to_owned().into();
    Token::open(TokenSettings { module: hsm.module.clone(), token_label: hsm.label.clone(), pin }).unwrap()
});

fn in_device(ground: Ground, device: impl KeyDevice + 'static) -> Ground {
    Ground { key_device: Some(Arc::new(device)), ..ground }
}

fn kept_in_device() -> wire::Issuer {
    let custody = wire::KeyCustody::Device.into();
    wire::Issuer { key_custody: custody, ..rwx(&workspace(1)) }
}

/// Has a token issued, and verifies it by what is published.
async fn check(service: &Service, issuer: &wire::Issuer, algorithm: &str) {
    let request = wire::IssueIdTokenRequest { algorithm: algorithm.to_owned(), ..wish(issuer) };
    let answer = service.issue(request).await.unwrap();
    let key_set = service.get_json(&format!("{}/.well-known/jwks.json", path_of(issuer))).await;
    verify(&answer.id_token, &key_set, &issuer.issuer_url, "sts.amazonaws.com");
}

async fn status_of_documents(service: &Service, issuer: &wire::Issuer) -> u16 {
    service.get(&format!("{}/.well-known/jwks.json", path_of(issuer))).await.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_a_token_sign_with_every_algorithm_on_every_replica_and_after_a_restart() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let ground = in_device(ground, TOKEN.clone());
        let service = ground.start().await;
        let algorithms = ["ES256", "ES384", "EdDSA", "RS256"];
        let issuer = wire::Issuer { algorithms: algorithms.map(str::to_owned).to_vec(), ..kept_in_device() };
        let issuer = service.create(issuer).await.unwrap();
        assert_eq!(issuer.key_custody(), wire::KeyCustody::Device);
        for algorithm in algorithms {
            check(&service, &issuer, algorithm).await;
        }
        let custodies: Vec<_> = service.list_keys(&issuer).await.iter().map(wire::SigningKey::key_custody).collect();
        assert_eq!(custodies, [wire::KeyCustody::Device; 4]);
        let before = service.key_ids(&issuer.issuer_url).await;

        let other = ground.start().await;
        assert_eq!(other.key_ids(&issuer.issuer_url).await, before);
        for algorithm in algorithms {
            check(&other, &issuer, algorithm).await;
        }
        let sealed = other.rwx(&workspace(1)).await;
        check(&other, &sealed, "").await;
        assert_eq!(other.list_keys(&sealed).await[0].key_custody(), wire::KeyCustody::Sealed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_tokens_can_be_signed_in_a_token() {
    let mut ground = in_device(Ground::sqlite(), TOKEN.clone());
    ground.access_token_key_custody = KeyCustody::Device;
    let service = ground.start().await;
    assert_eq!(service.list_keys(&own_issuer()).await[0].key_custody(), wire::KeyCustody::Device);
    let token = service.access_token(&workspace(1), "countersign:issuers.get").await;
    verify(&token, &service.key_set(GATEWAY).await.unwrap(), GATEWAY, GATEWAY);
    let request = wire::ListIssuersRequest { workspace_id: workspace(1).to_string(), ..Default::default() };
    assert!(service.issuers().list_issuers(service.request_as(&token, request)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_can_be_kept_in_one() {
    let service = Ground::sqlite().start().await;
    let refused = service.create(kept_in_device()).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
    assert_eq!(violated_fields(&refused), ["issuer.key_custody"]);

    let issuer = service.rwx(&workspace(1)).await;
    let update = wire::UpdateIssuerRequest {
        issuer: Some(wire::Issuer { id: issuer.id.clone(), ..kept_in_device() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["key_custody".to_owned()] }),
        accept_subject_change: None,
    };
    let refused = service.issuers().update_issuer(service.request(update)).await.unwrap_err();
    assert_eq!(violated_fields(&refused), ["issuer.key_custody"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s58_the_row_of_a_key_in_a_token_is_of_no_use_to_another_issuer() {
    let ground = in_device(Ground::postgres().await, TOKEN.clone());
    let service = ground.start().await;
    let (one, other) = (service.create(kept_in_device()).await.unwrap(), service.create(kept_in_device()).await.unwrap());
    check(&service, &one, "").await;
    check(&service, &other, "").await;
    service.stop().await;
    let (one_id, other_id) = (&one.id, &other.id);
    ground
        .execute(&format!(
            "DELETE FROM signing_keys WHERE issuer_id = '{other_id}'; \
             UPDATE signing_keys SET issuer_id = '{other_id}' WHERE issuer_id = '{one_id}'"
        ))
        .await;
    let service = ground.start().await;
    assert_eq!(service.list_keys(&other).await.len(), 1);
    assert_eq!(status_of_documents(&service, &other).await, 503);
    assert!(service.issue(wish(&other)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_revoked_and_deleted_keys_are_destroyed_in_their_device() {
    let device = FlakyDevice::default();
    let service = in_device(Ground::sqlite(), device.clone()).start().await;
    let issuer = service.create(kept_in_device()).await.unwrap();
    check(&service, &issuer, "").await;
    assert_eq!(device.count(), 1);
    let key_id = service.key_ids(&issuer.issuer_url).await.remove(0);
    service.revoke(&issuer, &key_id).await.unwrap();
    wait::until("another is in its place", async || service.issue(wish(&issuer)).await.is_ok()).await;
    assert_eq!(device.count(), 1);
    check(&service, &issuer, "").await;
    let request = wire::DeleteIssuerRequest {
        workspace_id: issuer.workspace_id.clone(),
        issuer_id: issuer.id.clone(),
        etag: String::new(),
    };
    service.issuers().delete_issuer(service.request(request)).await.unwrap();
    assert_eq!(device.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_a_key_is_revoked_although_its_device_is_away() {
    let device = FlakyDevice::default();
    let service = in_device(Ground::sqlite(), device.clone()).start().await;
    let issuer = service.create(kept_in_device()).await.unwrap();
    check(&service, &issuer, "").await;
    let key_id = service.key_ids(&issuer.issuer_url).await.remove(0);
    device.unplug(true);
    let refused = service.issue(wish(&issuer)).await.unwrap_err();
    assert_refused(&refused, Code::Unavailable, Reason::TemporarilyUnavailable);
    let revoked = service.revoke(&issuer, &key_id).await.unwrap();
    assert_eq!(revoked.signing_key.unwrap().state(), wire::SigningKeyState::Revoked);
    assert_eq!(revoked.active_signing_key, None);
    device.unplug(false);
    // It signs as soon as it is made: to have none for as long as copies may live would be worse.
    wait::until("another signs", async || service.issue(wish(&issuer)).await.is_ok()).await;
    check(&service, &issuer, "").await;
    assert_eq!(device.count(), 2, "the revoked one could not be destroyed");
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_a_key_is_revoked_on_a_replica_that_has_no_device() {
    let device = FlakyDevice::default();
    let ground = in_device(Ground::sqlite(), device.clone());
    let service = ground.start().await;
    let issuer = service.create(kept_in_device()).await.unwrap();
    check(&service, &issuer, "").await;
    let key_id = service.key_ids(&issuer.issuer_url).await.remove(0);
    let without = Ground { key_device: None, url: ground.url.clone(), clock: ground.clock.clone(), ..Ground::at(String::new()) };
    let other = without.start().await;
    assert_eq!(status_of_documents(&other, &issuer).await, 503);
    other.revoke(&issuer, &key_id).await.unwrap();
    wait::until("another signs", async || {
        let answer = service.issue(wish(&issuer)).await;
        answer.is_ok_and(|answer| jsonwebtoken::decode_header(&answer.id_token).unwrap().kid.unwrap() != key_id)
    })
    .await;
}

/// A failed attempt leaves nothing behind, however often it is repeated.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_made_in_vain_is_destroyed() {
    let device = FlakyDevice::default();
    device.0.makes_no_rsa.store(true, Ordering::SeqCst);
    let service = in_device(Ground::sqlite(), device.clone()).start().await;
    let algorithms = vec!["ES256".to_owned(), "RS256".to_owned()];
    let issuer = service.create(wire::Issuer { algorithms, ..kept_in_device() }).await.unwrap();
    for _ in 0..3 {
        assert_eq!(status_of_documents(&service, &issuer).await, 503);
    }
    assert_eq!(device.count(), 0);
    assert_eq!(device.0.made.load(Ordering::SeqCst), 1, "nor is it tried again and again");
}

/// Verifiers would keep a set without the key, and refuse what other replicas sign with it.
#[tokio::test(flavor = "multi_thread")]
async fn s56_no_set_is_published_without_a_key_that_only_waits_for_its_device() {
    let device = FlakyDevice::default();
    let ground = in_device(Ground::sqlite(), device.clone());
    let service = ground.start().await;
    let issuer = service.create(kept_in_device()).await.unwrap();
    check(&service, &issuer, "").await;
    service.stop().await;

    device.unplug(true);
    let service = ground.start().await;
    assert_eq!(status_of_documents(&service, &issuer).await, 503);
    assert!(service.issue(wish(&issuer)).await.is_err());
    let sealed = service.rwx(&workspace(1)).await;
    check(&service, &sealed, "").await;
    device.unplug(false);
    wait::until("the key is opened", async || status_of_documents(&service, &issuer).await == 200).await;
    check(&service, &issuer, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_custody_holds_for_the_next_key() {
    let device = FlakyDevice::default();
    let service = in_device(Ground::sqlite(), device.clone()).start().await;
    let issuer = service.rwx(&workspace(1)).await;
    check(&service, &issuer, "").await;
    let update = wire::UpdateIssuerRequest {
        issuer: Some(wire::Issuer { id: issuer.id.clone(), ..kept_in_device() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["key_custody".to_owned()] }),
        accept_subject_change: None,
    };
    service.issuers().update_issuer(service.request(update)).await.unwrap();
    let (next, _) = service.rotate(&issuer).await.unwrap();
    assert_eq!(next.key_custody(), wire::KeyCustody::Device);
    let published: Vec<Value> = service.key_set(&issuer.issuer_url).await.unwrap()["keys"].as_array().unwrap().clone();
    assert_eq!((published.len(), device.count()), (2, 1));
}
