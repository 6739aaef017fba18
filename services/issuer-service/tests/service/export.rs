//! The documents of issuers as files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_domain::values::reason::Reason;
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::{SigningKeyState as State, SigningKeyWait as Wait};
use countersign_testkit::status::assert_refused;
use countersign_testkit::wait;
use serde_json::Value;
use tonic::Code;

use crate::devices::FlakyDevice;
use crate::harness::{BASE, Ground, LEAD, Service, key_ids, path_of, rwx, verify, wish, workspace};

const MOMENT: Duration = Duration::from_secs(1);

/// A ground, and the directory that it exports to.
fn exporting(ground: Ground) -> (Ground, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let export = Some(format!("file://{}", folder.path().display()));
    (Ground { export, ..ground }, folder)
}

fn read(folder: &Path, place: &str, document: &str) -> Option<Value> {
    let bytes = std::fs::read(folder.join(place).join(".well-known").join(document)).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

fn key_set(folder: &Path, issuer: &wire::Issuer) -> Option<Value> {
    read(folder, path_of(issuer).trim_start_matches('/'), "jwks.json")
}

/// Has a token issued as soon as that can be, and verifies it by what is exported.
async fn check(service: &Service, folder: &Path, issuer: &wire::Issuer) -> String {
    wait::until("a token is issued", async || service.issue(wish(issuer)).await.is_ok()).await;
    let token = service.issue(wish(issuer)).await.unwrap().id_token;
    let token = verify(&token, &key_set(folder, issuer).unwrap(), &issuer.issuer_url, "sts.amazonaws.com");
    token.header.kid.unwrap()
}

/// Nothing can be written there; nor is what lies there found.
fn away(folder: &Path, is_away: bool) {
    let (from, to) = (folder.to_owned(), folder.with_extension("away"));
    let (from, to) = if is_away { (from, to) } else { (to, from) };
    if !is_away {
        std::fs::remove_file(&to).unwrap();
    }
    std::fs::rename(&from, &to).unwrap();
    if is_away {
        std::fs::write(&from, "in the way").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_exported_and_verify_what_is_issued() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let (ground, folder) = exporting(ground);
        let service = ground.start().await;
        let issuer = wire::Issuer { issuer_url: format!("{BASE}/a/b-c_d~e"), ..rwx(&workspace(1)) };
        let issuer = service.create(issuer).await.unwrap();
        check(&service, folder.path(), &issuer).await;
        let discovery = read(folder.path(), "a/b-c_d~e", "openid-configuration").unwrap();
        assert_eq!(discovery, service.get_json(&format!("{}/.well-known/openid-configuration", path_of(&issuer))).await);

        let at_host = wire::Issuer { issuer_url: "https://team.id.example.net".to_owned(), ..rwx(&workspace(1)) };
        let at_host = service.create(at_host).await.unwrap();
        wait::until("it is exported", async || read(folder.path(), "@team.id.example.net", "openid-configuration").is_some())
            .await;
        let request = wire::DeleteIssuerRequest {
            workspace_id: at_host.workspace_id.clone(),
            issuer_id: at_host.id.clone(),
            etag: String::new(),
        };
        service.issuers().delete_issuer(service.request(request)).await.unwrap();
        wait::until("it is gone", async || read(folder.path(), "@team.id.example.net", "jwks.json").is_none()).await;
        assert!(key_set(folder.path(), &issuer).is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s56_no_key_signs_before_the_export_has_it_however_long_that_takes() {
    let (ground, folder) = exporting(Ground::sqlite());
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let first = check(&service, folder.path(), &issuer).await;

    away(folder.path(), true);
    let (next, _) = service.rotate(&issuer).await.unwrap();
    assert_eq!((next.state(), next.wait(), next.activate_time), (State::Prepared, Wait::Export, None));
    ground.clock.advance(LEAD * 3);
    assert_eq!(kid_of_now(&service, &issuer).await, first, "although it is published here for long");
    // An issuer that was never exported signs nothing.
    let other = service.rwx(&workspace(1)).await;
    let refused = service.issue(wish(&other)).await.unwrap_err();
    assert_refused(&refused, Code::Unavailable, Reason::TemporarilyUnavailable);

    away(folder.path(), false);
    wait::until("it is exported", async || key_ids(&key_set(folder.path(), &issuer).unwrap()).len() == 2).await;
    let of_next = async || service.list_keys(&issuer).await.into_iter().find(|key| key.key_id == next.key_id).unwrap();
    wait::until("that is noted", async || of_next().await.wait() == Wait::KeySetCopies).await;
    ground.clock.advance(LEAD.saturating_sub(MOMENT));
    assert_eq!(kid_of_now(&service, &issuer).await, first);
    ground.clock.advance(MOMENT);
    assert_eq!(kid_of_now(&service, &issuer).await, next.key_id);
    wait::until("the other signs", async || service.issue(wish(&other)).await.is_ok()).await;
    assert_eq!(key_ids(&key_set(folder.path(), &other).unwrap()), [kid_of_now(&service, &other).await]);
}

/// The key that signs now. The clock may be far ahead of that of a verifier.
async fn kid_of_now(service: &Service, issuer: &wire::Issuer) -> String {
    let token = service.issue(wish(issuer)).await.unwrap().id_token;
    jsonwebtoken::decode_header(&token).unwrap().kid.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_a_revoked_key_leaves_the_export_and_the_next_signs_when_it_is_there() {
    let (ground, folder) = exporting(Ground::sqlite());
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let stolen = check(&service, folder.path(), &issuer).await;
    service.revoke(&issuer, &stolen).await.unwrap();
    let next = check(&service, folder.path(), &issuer).await;
    assert_eq!(key_ids(&key_set(folder.path(), &issuer).unwrap()), [next]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_ends_lets_keys_go_that_waited_for_it() {
    let (ground, folder) = exporting(Ground::sqlite());
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    check(&service, folder.path(), &issuer).await;
    away(folder.path(), true);
    let (next, _) = service.rotate(&issuer).await.unwrap();
    service.stop().await;
    let service = Ground { export: None, ..ground }.start().await;
    let of_next = async || service.list_keys(&issuer).await.into_iter().find(|key| key.key_id == next.key_id).unwrap();
    wait::until("it waits for verifiers' copies", async || of_next().await.wait() == Wait::KeySetCopies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_wrote_is_written_again() {
    let (ground, folder) = exporting(Ground::sqlite());
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    check(&service, folder.path(), &issuer).await;
    service.stop().await;
    let place = folder.path().join(path_of(&issuer).trim_start_matches('/')).join(".well-known/jwks.json");
    std::fs::write(&place, "{\"keys\":[]}").unwrap();
    let service = ground.start().await;
    wait::until("it is as it was", async || key_ids(&key_set(folder.path(), &issuer).unwrap()).len() == 1).await;
    check(&service, folder.path(), &issuer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_a_revoked_key_leaves_the_export_although_the_device_of_the_next_is_away() {
    let device = FlakyDevice::default();
    let (ground, folder) = exporting(Ground::sqlite());
    let service = Ground { key_device: Some(Arc::new(device.clone())), ..ground }.start().await;
    let custody = wire::KeyCustody::Device.into();
    let issuer = service.create(wire::Issuer { key_custody: custody, ..rwx(&workspace(1)) }).await.unwrap();
    let stolen = check(&service, folder.path(), &issuer).await;
    device.unplug(true);
    service.revoke(&issuer, &stolen).await.unwrap();
    wait::until("it is gone", async || key_ids(&key_set(folder.path(), &issuer).unwrap()).is_empty()).await;
    device.unplug(false);
    wait::until("another signs", async || service.issue(wish(&issuer)).await.is_ok()).await;
    let next = check(&service, folder.path(), &issuer).await;
    assert_ne!(next, stolen);
}
