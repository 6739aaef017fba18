//! Keys that wait until the exported key set has them.

use super::*;

fn exported(keys: &[SigningKeyRecord]) -> Keyring<'_, SigningKeyRecord> {
    Keyring { is_exported: true, ..ring(&[Es256], keys) }
}

fn export(keys: &mut Vec<SigningKeyRecord>, now: i64) {
    let ids: Vec<_> = published(at(now), keys).map(|key| key.key_id.clone()).collect();
    let steps = exported(keys).exported(at(now), at(now), ids.iter());
    apply(keys, now, steps);
}

#[test]
fn s56_the_first_key_signs_when_it_is_exported_and_not_before() {
    let mut keys = Vec::new();
    let steps = exported(&keys).next_steps(at(1000));
    apply(&mut keys, 1000, steps);
    assert_eq!(keys[0].stage(at(99_999)), SigningKeyStage::Prepared { activates_at: None });
    assert_eq!(exported(&keys).outlook(at(1000), &keys[0]), Some(Outlook { wait: KeyWait::Export, until: None }));
    assert_eq!((keys[0].next_change(at(1000)), next_activation(at(1000), &keys, Es256)), (None, None));
    assert_eq!(published(at(1000), &keys).count(), 1, "or it could not be exported");
    assert!(exported(&keys).next_steps(at(1001)).is_empty(), "no other is made meanwhile");
    export(&mut keys, 2000);
    // By any clock: nobody can hold a set without it.
    for now in [999, 2000, 2001] {
        assert_eq!(signer(at(now), &keys, Es256), Some(&keys[0]));
    }
}

#[test]
fn s56_the_next_key_signs_when_copies_of_the_export_without_it_have_expired() {
    let mut keys = vec![key(Es256, 1, 1000, 1000)];
    let Ok(Rotation::Prepare(step)) = exported(&keys).rotate(at(5000), Es256) else { panic!() };
    apply(&mut keys, 5000, vec![step]);
    // However long the export takes.
    assert_eq!(signer(at(99_999), &keys, Es256), Some(&keys[0]));
    let ids = [keys[0].key_id.clone()];
    assert_eq!(exported(&keys).exported(at(50_000), at(50_000), ids.iter()), [], "an export without the key ends no wait");
    export(&mut keys, 50_000);
    assert_eq!(keys[1].stage(at(50_000)), SigningKeyStage::Prepared { activates_at: Some(at(50_000 + LEAD)) });
    assert_eq!(signer(at(50_000 + LEAD), &keys, Es256), Some(&keys[1]));
    let before = keys.clone();
    export(&mut keys, 60_000);
    assert_eq!(keys, before, "once");
}

#[test]
fn s59_a_key_that_takes_over_from_a_revoked_one_signs_when_it_is_exported() {
    let mut keys = vec![key(Es256, 1, 1000, 1000)];
    let steps = exported(&keys).revoke(at(5000), &keys[0].key_id.clone()).unwrap();
    apply(&mut keys, 5000, steps);
    assert_eq!(signer(at(5000), &keys, Es256), None);
    export(&mut keys, 5001);
    assert_eq!(signer(at(5001), &keys, Es256), Some(&keys[1]));
}

#[test]
fn keys_that_wait_for_an_export_are_let_go_when_nothing_is_exported_any_more() {
    let mut keys = vec![key(Es256, 1, 1000, 1000)];
    let Ok(Rotation::Prepare(step)) = exported(&keys).rotate(at(5000), Es256) else { panic!() };
    apply(&mut keys, 5000, vec![step]);
    let steps = ring(&[Es256], &keys).next_steps(at(7000));
    assert_eq!(steps, [KeyStep::EndWait { key_id: keys[1].key_id.clone(), activate_at: at(7000 + LEAD) }]);
}

#[test]
fn s56_an_export_that_may_have_been_spoilt_is_reckoned_with() {
    let mut keys = vec![key(Es256, 1, 1000, 1000)];
    let Ok(Rotation::Prepare(step)) = exported(&keys).rotate(at(5000), Es256) else { panic!() };
    apply(&mut keys, 5000, vec![step]);
    let ids = [keys[1].key_id.clone()];
    let steps = exported(&keys).exported(at(5000), at(5000 + LEAD), ids.iter());
    let max_age = 300;
    assert_eq!(steps, [KeyStep::EndWait { key_id: ids[0].clone(), activate_at: at(5000 + LEAD + max_age) }]);
}

#[test]
fn a_key_that_waited_for_an_export_and_is_not_wanted_any_more_is_retired_and_nothing_else() {
    let mut keys = vec![key(Rs256, 1, 1000, 1000), key(Es256, 1, 5000, 6200)];
    keys[1].awaits_export = true;
    let steps = ring(&[Rs256], &keys).next_steps(at(7000));
    assert!(matches!(steps.as_slice(), [KeyStep::Retire { key_id, .. }] if *key_id == keys[1].key_id), "{steps:?}");
}
