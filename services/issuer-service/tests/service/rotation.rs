//! Signing keys that follow each other.

use std::time::Duration;

use countersign_proto::issuer_v1 as wire;
use countersign_testkit::wait;

use crate::harness::{Ground, LEAD, Service, rwx, wish, workspace};

/// The shortest rotation period, and a moment.
const DAY: Duration = Duration::from_hours(24);
const MOMENT: Duration = Duration::from_secs(1);

/// The key that a token of this issuer is signed with now.
async fn signer(service: &Service, issuer: &wire::Issuer) -> String {
    let answer = service.issue(wish(issuer)).await.unwrap();
    jsonwebtoken::decode_header(&answer.id_token).unwrap().kid.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s56_a_key_is_followed_by_another_when_its_period_ends() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let day = prost_types::Duration { seconds: 86_400, nanos: 0 };
    let issuer = service.create(wire::Issuer { rotation_period: Some(day), ..rwx(&workspace(1)) }).await.unwrap();
    assert_eq!(issuer.rotation_period, Some(day));
    let first = signer(&service, &issuer).await;

    ground.clock.advance(DAY.saturating_sub(LEAD));
    wait::until("the next key is published", async || service.key_ids(&issuer.issuer_url).await.len() == 2).await;
    ground.clock.advance(LEAD.saturating_sub(MOMENT));
    assert_eq!(signer(&service, &issuer).await, first);
    ground.clock.advance(MOMENT);
    let second = signer(&service, &issuer).await;
    assert_ne!(second, first);
    assert_eq!(service.key_ids(&issuer.issuer_url).await, [first.clone(), second.clone()]);
    let state_of = async |key_id: &str| {
        let keys = service.list_keys(&issuer).await;
        keys.into_iter().find(|key| key.key_id == key_id).unwrap().state()
    };
    wait::until("the first key retires", async || state_of(&first).await == wire::SigningKeyState::Retiring).await;
    assert_eq!(state_of(&second).await, wire::SigningKeyState::Active);
}
