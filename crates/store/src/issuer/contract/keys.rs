//! What becomes of an issuer's keys.

use countersign_domain::issuing::signing_key::KeyPolicy;

use super::*;

on_every_database! {
    s57_of_concurrent_first_keys_one_set_remains
    s57_keys_change_all_at_once_or_not_at_all
    s57_a_plan_made_by_an_older_picture_changes_nothing
    s57_of_concurrent_changes_by_one_picture_one_is_done
    s56_it_is_remembered_until_when_key_sets_may_be_handed_out
    s56_a_plan_that_knows_not_of_all_served_key_sets_changes_nothing
    s58_a_sealed_key_is_replaced_only_where_it_is_still_the_one_that_was_read
    s59_a_revoked_key_loses_its_private_half_and_stays_revoked
}

async fn s57_of_concurrent_first_keys_one_set_remains(replicas: Replicas) {
    let issuer = issuer(1);
    replicas.one.create_issuer(&issuer).await.unwrap();
    let attempts = (0..8).map(|number| {
        let store = if number % 2 == 0 { &replicas.one } else { &replicas.other };
        let (store, id) = (Arc::clone(store), issuer.id.clone());
        tokio::spawn(async move {
            let keys = [
                key(&format!("es-{number}"), SignatureAlgorithm::Es256, 1),
                key(&format!("rs-{number}"), SignatureAlgorithm::Rs256, 1),
            ];
            // By a picture that is newer than all of them, so that only the generations tell.
            store.change_signing_keys(&id, i64::MAX, &add(&keys)).await.unwrap()
        })
    });
    let outcomes: Vec<_> = futures::future::join_all(attempts).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == ChangeKeysOutcome::Done).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == ChangeKeysOutcome::Stale).count(), 7);
    let left = keys_of(&replicas.one, &issuer.id).await;
    let attempts: BTreeSet<_> = left.iter().map(|key| key.record.key_id.as_str()[3..].to_owned()).collect();
    assert_eq!((left.len(), attempts.len()), (2, 1), "both keys of one attempt");
}

async fn s58_a_sealed_key_is_replaced_only_where_it_is_still_the_one_that_was_read(replicas: Replicas) {
    let (issuer, other) = (issuer(1), IssuerId::from_random([9; 16]));
    replicas.one.create_issuer(&issuer).await.unwrap();
    let key = key("a", SignatureAlgorithm::Es256, 1);
    change(&replicas.one, &issuer.id, &add(std::slice::from_ref(&key))).await;
    let (id, sealed) = (&key.record.key_id, &key.sealed_private_key);
    let reseal = async |issuer_id: &IssuerId, sealed: &[u8], to: u8| {
        replicas.other.reseal_signing_key(issuer_id, id, sealed, vec![to]).await.unwrap()
    };
    assert!(!reseal(&other, sealed, 1).await && !reseal(&issuer.id, &[0], 1).await);
    assert!(reseal(&issuer.id, sealed, 2).await);
    assert!(!reseal(&issuer.id, sealed, 3).await, "another was first");
    let [now] = keys_of(&replicas.one, &issuer.id).await.try_into().unwrap();
    assert_eq!(now, SealedSigningKey { sealed_private_key: vec![2], ..key });
}

async fn s57_keys_change_all_at_once_or_not_at_all(replicas: Replicas) {
    let issuer = issuer(1);
    replicas.one.create_issuer(&issuer).await.unwrap();
    let [a, b] = [key("a", SignatureAlgorithm::Es256, 1), key("b", SignatureAlgorithm::Es256, 2)];
    assert_eq!(change(&replicas.one, &issuer.id, &add(std::slice::from_ref(&a))).await, ChangeKeysOutcome::Done);
    let end = |key: &SealedSigningKey, second| KeyChange::Retire {
        key_id: key.record.key_id.clone(),
        retirement: Retirement { sign_until: at(second), publish_until: at(second + 10) },
    };
    let revoke = |key: &SealedSigningKey| KeyChange::Revoke { key_id: key.record.key_id.clone(), revoked_at: at(60) };
    let promote = |key: &SealedSigningKey| KeyChange::Promote { key_id: key.record.key_id.clone() };
    let unknown = key("unknown", SignatureAlgorithm::Es256, 9);
    let twin = key("twin", SignatureAlgorithm::Es256, 1);
    for (last, why) in [
        (KeyChange::Add(twin), "its generation is taken"),
        (end(&unknown, 30), "there is no such key"),
        (revoke(&unknown), "there is no such key"),
        (promote(&unknown), "there is no such key"),
        (KeyChange::Add(b.clone()), "it is added already"),
    ] {
        let changes = [KeyChange::Add(b.clone()), end(&a, 30), last];
        assert_eq!(change(&replicas.one, &issuer.id, &changes).await, ChangeKeysOutcome::Stale, "{why}");
        assert_eq!(keys_of(&replicas.other, &issuer.id).await, std::slice::from_ref(&a), "{why}");
    }
    let changes = [KeyChange::Add(b.clone()), end(&a, 30), promote(&b)];
    assert_eq!(change(&replicas.one, &issuer.id, &changes).await, ChangeKeysOutcome::Done);
    let retirement = Some(Retirement { sign_until: at(30), publish_until: at(40) });
    let retired = SealedSigningKey { record: SigningKeyRecord { retirement, ..a.record.clone() }, ..a.clone() };
    let activate_at = b.record.created_at;
    let promoted = SealedSigningKey { record: SigningKeyRecord { activate_at, ..b.record.clone() }, ..b.clone() };
    assert_eq!(keys_of(&replicas.other, &issuer.id).await, [retired.clone(), promoted.clone()]);
    // An end is set once, and a key that has one signs no sooner.
    for again in [end(&a, 50), promote(&a)] {
        assert_eq!(change(&replicas.other, &issuer.id, &[again]).await, ChangeKeysOutcome::Stale);
    }
    assert_eq!(keys_of(&replicas.one, &issuer.id).await, [retired, promoted]);
    let mut waits = key("c", SignatureAlgorithm::Es256, 3);
    waits.record.awaits_export = true;
    assert_eq!(change(&replicas.one, &issuer.id, &add(std::slice::from_ref(&waits))).await, ChangeKeysOutcome::Done);
    assert_eq!(keys_of(&replicas.other, &issuer.id).await.last(), Some(&waits));
    let end_wait = KeyChange::EndWait { key_id: waits.record.key_id.clone(), activate_at: at(70) };
    assert_eq!(change(&replicas.one, &issuer.id, std::slice::from_ref(&end_wait)).await, ChangeKeysOutcome::Done);
    waits.record = SigningKeyRecord { awaits_export: false, activate_at: at(70), ..waits.record };
    assert_eq!(keys_of(&replicas.other, &issuer.id).await.last(), Some(&waits));
    assert_eq!(change(&replicas.other, &issuer.id, &[end_wait]).await, ChangeKeysOutcome::Stale, "it ends once");
    let nobody = IssuerId::from_random([9; 16]);
    assert_eq!(change(&replicas.one, &nobody, &add(&[b])).await, ChangeKeysOutcome::IssuerGone);
}

async fn s57_a_plan_made_by_an_older_picture_changes_nothing(replicas: Replicas) {
    let (first, second) = (issuer(1), issuer(2));
    replicas.one.create_issuer(&first).await.unwrap();
    let as_of = replicas.one.changes_since(0).await.unwrap().revision;
    replicas.other.create_issuer(&second).await.unwrap();
    let attempt = async |as_of: i64, kid: &str, generation: i32| {
        let changes = add(&[key(kid, SignatureAlgorithm::Es256, generation)]);
        replicas.one.change_signing_keys(&first.id, as_of, &changes).await.unwrap()
    };
    assert_eq!(attempt(as_of, "a", 1).await, ChangeKeysOutcome::Done, "another issuer's change is none of this one");
    assert_eq!(attempt(as_of, "b", 2).await, ChangeKeysOutcome::Stale, "its keys changed");
    let as_of = replicas.one.changes_since(0).await.unwrap().revision;
    replicas.other.update_issuer(&Issuer { revision: 2, ..first.clone() }, 1).await.unwrap();
    assert_eq!(attempt(as_of, "b", 2).await, ChangeKeysOutcome::Stale, "its settings changed");
    assert_eq!(keys_of(&replicas.one, &first.id).await.len(), 1);
}

async fn s57_of_concurrent_changes_by_one_picture_one_is_done(replicas: Replicas) {
    let issuer = issuer(1);
    replicas.one.create_issuer(&issuer).await.unwrap();
    let as_of = replicas.one.changes_since(0).await.unwrap().revision;
    let attempts = (1..9).map(|number| {
        let store = Arc::clone(if number % 2 == 0 { &replicas.one } else { &replicas.other });
        let id = issuer.id.clone();
        tokio::spawn(async move {
            let changes = add(&[key(&format!("es-{number}"), SignatureAlgorithm::Es256, number)]);
            store.change_signing_keys(&id, as_of, &changes).await.unwrap()
        })
    });
    let outcomes: Vec<_> = futures::future::join_all(attempts).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == ChangeKeysOutcome::Done).count(), 1, "{outcomes:?}");
    assert_eq!(keys_of(&replicas.one, &issuer.id).await.len(), 1);
}

fn served(max_age: u64, staleness: u64, until: i64) -> ServedKeySets {
    let policy = KeyPolicy { key_set_max_age: Duration::from_secs(max_age), staleness_limit: Duration::from_secs(staleness) };
    ServedKeySets { policy, until: at(until) }
}

async fn s56_it_is_remembered_until_when_key_sets_may_be_handed_out(replicas: Replicas) {
    let noted = async || {
        let mut served = replicas.other.changes_since(0).await.unwrap().served;
        served.sort_by_key(|served| (served.policy.key_set_max_age, served.policy.staleness_limit));
        served
    };
    let note = async |served| replicas.one.note_served_key_sets(served).await.unwrap();
    note(served(300, 900, 10)).await;
    assert_eq!(noted().await, [served(300, 900, 10)]);
    let known = replicas.other.changes_since(0).await.unwrap();
    note(served(300, 900, 20)).await;
    note(served(300, 900, 15)).await;
    note(served(300, 60, 5)).await;
    note(served(3600, 900, 7)).await;
    assert_eq!(noted().await, [served(300, 60, 5), served(300, 900, 20), served(3600, 900, 7)]);
    // Whoever follows is told of all.
    let news = replicas.other.changes_since(known.revision).await.unwrap();
    assert_eq!((news.changed.len(), news.served.len()), (0, 3));
    assert!(news.revision > known.revision);
}

async fn s56_a_plan_that_knows_not_of_all_served_key_sets_changes_nothing(replicas: Replicas) {
    let issuer = issuer(1);
    replicas.one.create_issuer(&issuer).await.unwrap();
    let as_of = replicas.one.changes_since(0).await.unwrap().revision;
    replicas.other.note_served_key_sets(served(3600, 900, 10)).await.unwrap();
    let first = add(&[key("a", SignatureAlgorithm::Es256, 1)]);
    let outcome = replicas.one.change_signing_keys(&issuer.id, as_of, &first).await.unwrap();
    assert_eq!(outcome, ChangeKeysOutcome::Stale);
    assert_eq!(change(&replicas.one, &issuer.id, &first).await, ChangeKeysOutcome::Done);
}

async fn s59_a_revoked_key_loses_its_private_half_and_stays_revoked(replicas: Replicas) {
    let issuer = issuer(1);
    replicas.one.create_issuer(&issuer).await.unwrap();
    let key = key("a", SignatureAlgorithm::Es256, 1);
    let key_id = key.record.key_id.clone();
    change(&replicas.one, &issuer.id, &add(std::slice::from_ref(&key))).await;
    let revoke = |second| [KeyChange::Revoke { key_id: key_id.clone(), revoked_at: at(second) }];
    assert_eq!(change(&replicas.one, &issuer.id, &revoke(60)).await, ChangeKeysOutcome::Done);
    let record = SigningKeyRecord { revoked_at: Some(at(60)), ..key.record.clone() };
    let revoked = SealedSigningKey { record, sealed_private_key: Vec::new(), ..key };
    assert_eq!(keys_of(&replicas.other, &issuer.id).await, std::slice::from_ref(&revoked));
    let retirement = Retirement { sign_until: at(70), publish_until: at(80) };
    let retire = [KeyChange::Retire { key_id: key_id.clone(), retirement }];
    for later in [revoke(90).as_slice(), &[KeyChange::Promote { key_id: key_id.clone() }], &retire] {
        assert_eq!(change(&replicas.other, &issuer.id, later).await, ChangeKeysOutcome::Stale);
    }
    assert_eq!(keys_of(&replicas.one, &issuer.id).await, [revoked]);
}
