//! Changing the key that seals private keys.

use countersign_domain::values::reason::Reason;
use countersign_proto::issuer_v1 as wire;
use countersign_testkit::status::assert_refused;
use tonic::Code;

use crate::harness::{GATEWAY, Ground, Service, wish, workspace};

async fn rewrap(service: &Service) -> (i64, i64, i64) {
    let request = service.request(wire::RewrapSigningKeysRequest {});
    let answer = service.signing_keys().rewrap_signing_keys(request).await.unwrap().into_inner();
    (answer.rewrapped, answer.already_wrapped, answer.not_opened)
}

#[tokio::test(flavor = "multi_thread")]
async fn s58_the_key_encryption_key_is_changed_without_a_key_being_lost() {
    for mut ground in [Ground::sqlite(), Ground::postgres().await] {
        let service = ground.start().await;
        let issuer = service.rwx(&workspace(1)).await;
        let before = (service.key_ids(&issuer.issuer_url).await, service.key_ids(GATEWAY).await);
        service.stop().await;

        // The new key alone opens nothing.
        let former = std::mem::replace(&mut ground.key_encryption_key, [8; 32]);
        assert!(ground.try_start().await.is_err());
        ground.other_key_encryption_keys = vec![former];
        let service = ground.start().await;
        let after = (service.key_ids(&issuer.issuer_url).await, service.key_ids(GATEWAY).await);
        assert_eq!(after, before);
        assert_eq!(rewrap(&service).await, (2, 0, 0));
        assert_eq!(rewrap(&service).await, (0, 2, 0));
        assert!(service.issue(wish(&issuer)).await.is_ok());
        service.stop().await;

        ground.other_key_encryption_keys.clear();
        let service = ground.start().await;
        let after = (service.key_ids(&issuer.issuer_url).await, service.key_ids(GATEWAY).await);
        assert_eq!(after, before);
        assert!(service.issue(wish(&issuer)).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s69_only_the_operator_has_keys_sealed_anew() {
    let service = Ground::sqlite().start().await;
    let anonymous = service.signing_keys().rewrap_signing_keys(wire::RewrapSigningKeysRequest {}).await.unwrap_err();
    assert_refused(&anonymous, Code::Unauthenticated, Reason::CredentialsMissing);
    // A workspace's token never holds what is the operator's, whatever it says.
    let token = service.access_token(&workspace(1), "countersign:signing_keys.rewrap").await;
    let request = service.request_as(&token, wire::RewrapSigningKeysRequest {});
    let refused = service.signing_keys().rewrap_signing_keys(request).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, Reason::PermissionMissing);
}
