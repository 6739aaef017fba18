//! Signing keys that follow each other, and such as are revoked.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use countersign_domain::access::permission::Permission;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::{Clock as _, Timestamp};
use countersign_proto::common::timestamp;
use countersign_proto::issuer_v1 as wire;
use countersign_proto::issuer_v1::{SigningKeyState as State, SigningKeyWait as Wait};
use countersign_testkit::status::{assert_refused, violated_fields};
use countersign_testkit::wait;
use tonic::Code;

use crate::harness::{GATEWAY, Ground, LEAD, Service, http, own_issuer, rwx, wish, workspace};

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
    wait::until("the first key retires", async || state_of(&first).await == State::Retiring).await;
    assert_eq!(state_of(&second).await, State::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn s56_the_next_key_takes_over_when_it_was_published_long_enough_and_each_says_what_it_waits_for() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let first = signer(&service, &issuer).await;
    let find = async |key_id: &str| {
        let keys = service.list_keys(&issuer).await;
        keys.into_iter().find(|key| key.key_id == key_id).expect("the key is listed")
    };
    let began = ground.clock.now();
    let in_period = find(&first).await;
    assert_eq!((in_period.state(), in_period.wait()), (State::Active, Wait::RotationPeriod));

    let (next, was_prepared) = service.rotate(&issuer).await.unwrap();
    assert!(!was_prepared);
    let activation = Timestamp::from_microsecond(began.checked_add(LEAD).unwrap().as_microsecond()).unwrap();
    assert_eq!(next.state(), State::Prepared);
    for key in [find(&first).await, next.clone()] {
        assert_eq!((key.wait(), key.next_change_time), (Wait::KeySetCopies, Some(timestamp(activation))), "{key:?}");
    }
    let (again, was_prepared) = service.rotate(&issuer).await.unwrap();
    assert_eq!((again, was_prepared), (next.clone(), true), "a repeated wish changes nothing");
    assert_eq!(service.key_ids(&issuer.issuer_url).await.len(), 2, "published at once");
    assert_eq!(signer(&service, &issuer).await, first);

    ground.clock.advance(LEAD);
    assert_eq!(signer(&service, &issuer).await, next.key_id);
    wait::until("the first key retires", async || find(&first).await.state() == State::Retiring).await;
    let retiring = find(&first).await;
    assert_eq!((retiring.wait(), retiring.next_change_time), (Wait::IssuedTokens, retiring.withdraw_time));
    assert!(retiring.retire_time.is_some() && retiring.revoke_time.is_none());
    let active = find(&next.key_id).await;
    assert_eq!((active.state(), active.wait()), (State::Active, Wait::RotationPeriod));
}

#[tokio::test(flavor = "multi_thread")]
async fn s56_copies_that_were_handed_out_before_max_age_was_lowered_are_waited_for() {
    let mut ground = Ground { key_set_max_age: Duration::from_hours(2), ..Ground::sqlite() };
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    signer(&service, &issuer).await;
    service.stop().await;
    ground.key_set_max_age = Duration::from_mins(5);
    let service = ground.start().await;
    let lead = async || {
        let (next, was_prepared) = service.rotate(&issuer).await.unwrap();
        assert!(!was_prepared);
        next.activate_time.unwrap().seconds - ground.clock.now().as_second()
    };
    let longest = 7200 + 900;
    let first = lead().await;
    assert!((longest - 1..=longest).contains(&first), "{first} s");
    // Another replica may go on for a while; when that is over, so are its copies two hours later.
    ground.clock.advance(Duration::from_hours(4));
    let second = lead().await;
    assert!((1199..=1200).contains(&second), "{second} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_the_next_key_names_an_algorithm_of_the_issuer() {
    let service = Ground::sqlite().start().await;
    let algorithms = ["ES256", "EdDSA"].map(str::to_owned).to_vec();
    let issuer = service.create(wire::Issuer { algorithms, ..rwx(&workspace(1)) }).await.unwrap();
    for (algorithm, fields) in [("ES384", ["algorithm"]), ("HS256", ["algorithm"]), ("", ["algorithm"])] {
        let refused =
            service.rotate(&wire::Issuer { algorithms: vec![algorithm.to_owned()], ..issuer.clone() }).await.unwrap_err();
        assert_refused(&refused, Code::InvalidArgument, Reason::InvalidRequest);
        assert_eq!(violated_fields(&refused), fields, "{algorithm:?}");
    }
    assert_eq!(service.list_keys(&issuer).await.len(), 2, "only the first keys exist");
    let (next, _) = service.rotate(&issuer).await.unwrap();
    assert_eq!((next.algorithm.as_str(), next.state()), ("ES256", State::Prepared));
    assert_eq!(service.list_keys(&issuer).await.len(), 3);
}

async fn s57_rotations_asked_for_at_once_make_one_key(ground: Ground) {
    let replicas = [ground.start().await, ground.start().await];
    let issuer = replicas[0].rwx(&workspace(1)).await;
    assert_eq!(replicas[0].key_ids(&issuer.issuer_url).await.len(), 1);
    let wishes = (0..12).map(|number| replicas[number % 2].rotate(&issuer));
    let answers: Vec<_> = futures::future::join_all(wishes).await.into_iter().map(Result::unwrap).collect();
    let keys: BTreeSet<_> = answers.iter().map(|(key, _)| key.key_id.clone()).collect();
    assert_eq!(keys.len(), 1, "everybody is told of one key");
    assert_eq!(answers.iter().filter(|(_, was_prepared)| !was_prepared).count(), 1, "that one of them made");
    for replica in &replicas {
        assert_eq!(replica.list_keys(&issuer).await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s57_rotations_asked_for_at_once_make_one_key_on_sqlite() {
    s57_rotations_asked_for_at_once_make_one_key(Ground::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s57_rotations_asked_for_at_once_make_one_key_on_postgresql() {
    s57_rotations_asked_for_at_once_make_one_key(Ground::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_a_key_revoked_on_one_replica_is_gone_from_the_other_within_five_seconds() {
    let ground = Ground::postgres().await;
    let replicas = [ground.start().await, ground.start().await];
    let issuer = replicas[0].rwx(&workspace(1)).await;
    let revoked = signer(&replicas[1], &issuer).await;
    let began = Instant::now();
    let answer = replicas[0].revoke(&issuer, &revoked).await.unwrap();
    let successor = answer.active_signing_key.unwrap();
    assert_eq!(answer.signing_key.unwrap().state(), State::Revoked);
    assert_eq!((successor.state(), successor.activate_time), (State::Active, successor.create_time), "it signs at once");
    // On this one at once, on the other without being told.
    assert_eq!(signer(&replicas[0], &issuer).await, successor.key_id);
    wait::until("the other replica signs with the next key", async || signer(&replicas[1], &issuer).await == successor.key_id)
        .await;
    assert_eq!(replicas[1].key_ids(&issuer.issuer_url).await, std::slice::from_ref(&successor.key_id));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    // Once is enough, and what never was is not found.
    let again = replicas[1].revoke(&issuer, &revoked).await.unwrap();
    assert_eq!(again.active_signing_key.unwrap().key_id, successor.key_id);
    assert_eq!(replicas[0].list_keys(&issuer).await.len(), 2);
    let refused = replicas[0].revoke(&issuer, "unknown").await.unwrap_err();
    assert_refused(&refused, Code::NotFound, Reason::ResourceNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_a_key_that_is_on_its_way_takes_over_from_a_revoked_one() {
    let service = Ground::sqlite().start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let first = signer(&service, &issuer).await;
    let (next, _) = service.rotate(&issuer).await.unwrap();
    let answer = service.revoke(&issuer, &first).await.unwrap();
    assert_eq!(answer.active_signing_key.unwrap().key_id, next.key_id);
    assert_eq!(signer(&service, &issuer).await, next.key_id);
    assert_eq!(service.key_ids(&issuer.issuer_url).await, [next.key_id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_a_revoked_key_does_not_come_back_though_somebody_can_write_to_the_database() {
    let ground = Ground::postgres().await;
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let first = signer(&service, &issuer).await;
    service.revoke(&issuer, &first).await.unwrap();
    ground.execute(&format!("UPDATE signing_keys SET revoked_at = NULL WHERE key_id = '{first}'")).await;
    service.stop().await;
    let service = ground.start().await;
    assert_ne!(signer(&service, &issuer).await, first);
    assert!(!service.key_ids(&issuer.issuer_url).await.contains(&first));
}

#[tokio::test(flavor = "multi_thread")]
async fn s59_the_operator_rotates_and_revokes_the_keys_of_access_tokens() {
    let ground = Ground::sqlite();
    let service = ground.start().await;
    let own = own_issuer();
    let token = service.access_token(&workspace(1), Permission::IssuersGet.as_scope()).await;
    let [first] = &service.list_keys(&own).await[..] else { panic!("one key") };
    let (next, _) = service.rotate(&own).await.unwrap();
    let published = BTreeSet::from_iter(service.key_ids(GATEWAY).await);
    assert_eq!(published, BTreeSet::from([first.key_id.clone(), next.key_id.clone()]));
    let by_its_id = wire::Issuer { id: first.issuer_id.clone(), ..own.clone() };
    assert_eq!(service.list_keys(&by_its_id).await.len(), 2);

    let list = || wire::ListIssuersRequest { workspace_id: workspace(1).to_string(), ..Default::default() };
    assert!(service.issuers().list_issuers(service.request_as(&token, list())).await.is_ok());
    service.revoke(&own, &first.key_id).await.unwrap();
    assert_eq!(service.key_ids(GATEWAY).await, std::slice::from_ref(&next.key_id));
    let refused = service.issuers().list_issuers(service.request_as(&token, list())).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, Reason::CredentialsInvalid);
    let token = service.access_token(&workspace(1), Permission::IssuersGet.as_scope()).await;
    assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid, Some(next.key_id));
    assert!(service.issuers().list_issuers(service.request_as(&token, list())).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn s33_no_workspace_reaches_the_keys_of_access_tokens() {
    let service = Ground::sqlite().start().await;
    let [key] = &service.list_keys(&own_issuer()).await[..] else { panic!("one key") };
    let every: Vec<_> = Permission::ALL.iter().map(|permission| permission.as_scope()).collect();
    let token = service.access_token(&workspace(1), &every.join(" ")).await;
    for (workspace_id, code, reason) in [
        (String::new(), Code::InvalidArgument, Reason::InvalidRequest),
        (workspace(1).to_string(), Code::NotFound, Reason::ResourceNotFound),
    ] {
        let (issuer_id, key_id) = (key.issuer_id.clone(), key.key_id.clone());
        let request = wire::RevokeSigningKeyRequest { workspace_id, issuer_id, key_id };
        let refused = service.signing_keys().revoke_signing_key(service.request_as(&token, request)).await.unwrap_err();
        assert_refused(&refused, code, reason);
    }
    // Nor does the operator by the name of a workspace.
    let disguised = wire::Issuer { id: key.issuer_id.clone(), workspace_id: workspace(1).to_string(), ..own_issuer() };
    assert_refused(&service.revoke(&disguised, &key.key_id).await.unwrap_err(), Code::NotFound, Reason::ResourceNotFound);
    assert_eq!(service.key_ids(GATEWAY).await, std::slice::from_ref(&key.key_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_how_keys_stand_and_name_none() {
    let ground = Ground::sqlite();
    ground.clock.set(Timestamp::from_second(ground.clock.now().as_second()).unwrap());
    let service = ground.start().await;
    let issuer = service.rwx(&workspace(1)).await;
    let first = signer(&service, &issuer).await;
    service.rotate(&issuer).await.unwrap();
    service.revoke(&own_issuer(), &service.list_keys(&own_issuer()).await[0].key_id).await.unwrap();
    ground.clock.advance(Duration::from_mins(5));
    let metrics = http().get(format!("{}/metrics", service.private)).send().await.unwrap().text().await.unwrap();
    let period = 90 * 86_400 - 300;
    for line in [
        "countersign_issuer_keys{state=\"prepared\"} 1",
        "countersign_issuer_keys{state=\"active\"} 2",
        "countersign_issuer_keys{state=\"retiring\"} 0",
        "countersign_issuer_keys{state=\"retired\"} 0",
        "countersign_issuer_keys{state=\"revoked\"} 1",
        "countersign_issuer_keys_oldest_active_age_seconds 300",
        "countersign_issuer_keys_next_change_seconds{wait=\"key_set_copies\"} 900",
        &format!("countersign_issuer_keys_next_change_seconds{{wait=\"rotation_period\"}} {period}"),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("issued_tokens"), "nothing waits for that");
    assert!(!metrics.contains(&first) && !metrics.contains(&issuer.id));
}
