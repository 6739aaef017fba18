mod export;

use std::collections::BTreeSet;
use std::time::Duration;

use SignatureAlgorithm::{EdDsa, Es256, Rs256};
use proptest::prelude::*;

use super::*;

const POLICY: KeyPolicy = KeyPolicy { key_set_max_age: Duration::from_mins(5), staleness_limit: Duration::from_mins(15) };
static NONE: BTreeSet<KeyId> = BTreeSet::new();
static POLICIES: KeyPolicies = KeyPolicies { own: POLICY, served: Vec::new() };

/// What [`POLICY`] makes of them, in seconds.
const LEAD: i64 = 1200;
const TAIL: i64 = 900 + 24 * 3600 + 60;
const DAY: i64 = 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key(algorithm: SignatureAlgorithm, generation: i32, created: i64, activate: i64) -> SigningKeyRecord {
    SigningKeyRecord {
        key_id: format!("{algorithm}-{generation}").parse().unwrap(),
        algorithm,
        generation,
        created_at: at(created),
        activate_at: at(activate),
        awaits_export: false,
        retirement: None,
        revoked_at: None,
    }
}

fn ring<'a>(algorithms: &'a [SignatureAlgorithm], keys: &'a [SigningKeyRecord]) -> Keyring<'a, SigningKeyRecord> {
    Keyring { algorithms, rotation: RotationPolicy::OnRequest, keys, foreign: &NONE, policies: &POLICIES, is_exported: false }
}

fn every_day<'a>(algorithms: &'a [SignatureAlgorithm], keys: &'a [SigningKeyRecord]) -> Keyring<'a, SigningKeyRecord> {
    Keyring { rotation: RotationPolicy::Every(RotationPolicy::MIN_PERIOD), ..ring(algorithms, keys) }
}

fn apply(keys: &mut Vec<SigningKeyRecord>, now: i64, steps: Vec<KeyStep>) {
    let find = |keys: &mut Vec<SigningKeyRecord>, id: &KeyId| keys.iter().position(|key| key.key_id == *id).unwrap();
    for step in steps {
        match step {
            KeyStep::Create { algorithm, generation, activate_at, awaits_export } => {
                keys.push(SigningKeyRecord { awaits_export, ..key(algorithm, generation, now, activate_at.as_second()) });
            }
            KeyStep::EndWait { key_id, activate_at } => {
                let index = find(keys, &key_id);
                keys[index].awaits_export = false;
                keys[index].activate_at = activate_at;
            }
            KeyStep::Retire { key_id, retirement } => {
                let index = find(keys, &key_id);
                keys[index].retirement = Some(retirement);
            }
            KeyStep::Revoke { key_id, revoked_at } => {
                let index = find(keys, &key_id);
                keys[index].revoked_at = Some(revoked_at);
            }
            KeyStep::Promote { key_id } => {
                let index = find(keys, &key_id);
                keys[index].activate_at = keys[index].created_at;
            }
        }
    }
}

fn states(keys: &[SigningKeyRecord], now: i64) -> Vec<(&str, SigningKeyState)> {
    keys.iter().map(|key| (key.key_id.as_str(), key.state(at(now)))).collect()
}

#[test]
fn the_first_keys_of_an_issuer_are_active_at_once_by_any_clock() {
    let mut keys = Vec::new();
    let steps = ring(&[Rs256, Es256], &keys).next_steps(at(1000));
    apply(&mut keys, 1000, steps);
    assert_eq!(keys.len(), 2);
    // A replica whose clock is behind signs too.
    for now in [0, 999, 1000, 1001] {
        assert_eq!(signer(at(now), &keys, Rs256).unwrap().key_id.as_str(), "RS256-1");
        assert_eq!(signer(at(now), &keys, Es256).unwrap().key_id.as_str(), "ES256-1");
    }
    assert!(ring(&[Rs256, Es256], &keys).next_steps(at(1000)).is_empty(), "settled");
}

#[test]
fn s56_a_key_made_later_is_published_longer_than_any_copy_lives_before_it_signs() {
    let mut keys = vec![key(Rs256, 1, 1000, 1000)];
    let steps = ring(&[Rs256, EdDsa], &keys).next_steps(at(5000));
    apply(&mut keys, 5000, steps);
    assert_eq!(keys[1].stage(at(5000)), SigningKeyStage::Prepared { activates_at: Some(at(6200)) });
    assert_eq!(published(at(5000), &keys).count(), 2, "published at once");
    assert_eq!(signer(at(6199), &keys, EdDsa), None);
    assert_eq!(next_activation(at(6199), &keys, EdDsa), Some(at(6200)));
    assert_eq!(signer(at(6200), &keys, EdDsa), Some(&keys[1]));
    assert_eq!(next_activation(at(6200), &keys, EdDsa), None);
    assert_eq!(keys[1].next_change(at(5000)), Some(at(6200)));
}

#[test]
fn s56_a_key_that_no_longer_signs_stays_until_its_last_token_expired() {
    let mut keys = vec![key(Rs256, 1, 1000, 1000), key(Es256, 1, 1000, 1000)];
    let steps = ring(&[Rs256], &keys).next_steps(at(5000));
    apply(&mut keys, 5000, steps);
    assert_eq!(signer(at(5000), &keys, Es256), None);
    let end = 5000 + 900 + 24 * 3600 + 60;
    assert_eq!(keys[1].stage(at(end - 1)), SigningKeyStage::Retiring { since: at(5000), until: at(end) });
    assert_eq!(published(at(end - 1), &keys).count(), 2);
    assert_eq!(published(at(end), &keys).count(), 1);
    assert_eq!(keys[1].stage(at(end)), SigningKeyStage::Retired { since: at(end) });
    assert_eq!(keys[1].next_change(at(end)), None);
    // Wanted again, it is not revived: a new one takes its place.
    let again = ring(&[Rs256, Es256], &keys).next_steps(at(6000));
    assert_eq!(again, [KeyStep::Create { algorithm: Es256, generation: 2, activate_at: at(7200), awaits_export: false }]);
}

#[test]
fn an_issuer_that_changes_its_only_algorithm_signs_all_the_time() {
    let mut keys = vec![key(Rs256, 1, 1000, 1000)];
    let mut plan = |now: i64| {
        let steps = ring(&[Es256], &keys).next_steps(at(now));
        apply(&mut keys, now, steps);
        let signing = default_signer(at(now), &keys, &[Es256]).map(|key| key.key_id.to_string());
        (signing.unwrap_or_default(), keys[0].stage(at(now)).state())
    };
    assert_eq!(plan(5000), ("RS256-1".to_owned(), SigningKeyState::Active));
    assert_eq!(plan(6199), ("RS256-1".to_owned(), SigningKeyState::Active));
    assert_eq!(plan(6200), ("ES256-1".to_owned(), SigningKeyState::Retiring));
    // Nobody asks for it by its name meanwhile and gets another.
    assert_eq!(signer(at(6199), &keys, Es256), None);
}

#[test]
fn a_key_that_never_signed_and_is_not_wanted_any_more_does_not_wait_to_be_replaced() {
    let mut keys = vec![key(Rs256, 1, 1000, 1000), key(Es256, 1, 5000, 6200)];
    let steps = ring(&[EdDsa], &keys).next_steps(at(5100));
    apply(&mut keys, 5100, steps);
    let states: Vec<_> = keys.iter().map(|key| (key.key_id.as_str(), key.stage(at(5100)).state())).collect();
    let expected =
        [("RS256-1", SigningKeyState::Active), ("ES256-1", SigningKeyState::Retiring), ("EdDSA-1", SigningKeyState::Prepared)];
    assert_eq!(states, expected);
}

#[test]
fn of_two_active_keys_the_younger_signs() {
    let keys = [key(Rs256, 1, 1000, 1000), key(Rs256, 2, 5000, 6200)];
    assert_eq!(signer(at(6199), &keys, Rs256), Some(&keys[0]));
    assert_eq!(signer(at(6200), &keys, Rs256), Some(&keys[1]));
}

#[test]
fn s56_a_key_follows_another_at_the_end_of_its_period_and_was_published_before() {
    let algorithms = [Rs256];
    let mut keys = vec![key(Rs256, 1, 1000, 1000)];
    let end = 1000 + DAY;
    assert_eq!(every_day(&algorithms, &keys).next_steps(at(end - LEAD - 1)), []);
    let steps = every_day(&algorithms, &keys).next_steps(at(end - LEAD));
    assert_eq!(steps, [KeyStep::Create { algorithm: Rs256, generation: 2, activate_at: at(end), awaits_export: false }]);
    apply(&mut keys, end - LEAD, steps);
    assert_eq!(every_day(&algorithms, &keys).next_steps(at(end - 1)), [], "settled");
    assert_eq!(signer(at(end - 1), &keys, Rs256), Some(&keys[0]));
    assert_eq!(signer(at(end), &keys, Rs256), Some(&keys[1]));

    let steps = every_day(&algorithms, &keys).next_steps(at(end + 1));
    apply(&mut keys, end + 1, steps);
    assert_eq!(keys[0].stage(at(end + 1)), SigningKeyStage::Retiring { since: at(end + 1), until: at(end + 1 + TAIL) });
    assert_eq!(states(&keys, end + 1 + TAIL), [("RS256-1", SigningKeyState::Retired), ("RS256-2", SigningKeyState::Active)]);
    // One that is late is not skipped.
    let steps = every_day(&algorithms, &keys).next_steps(at(end + 10 * DAY));
    assert_eq!(
        steps,
        [KeyStep::Create { algorithm: Rs256, generation: 3, activate_at: at(end + 10 * DAY + LEAD), awaits_export: false }]
    );
}

#[test]
fn s56_a_key_waits_for_copies_that_were_handed_out_under_other_settings() {
    let served = |max_age: u64, staleness: u64, until: i64| ServedKeySets {
        policy: KeyPolicy { key_set_max_age: Duration::from_secs(max_age), staleness_limit: Duration::from_secs(staleness) },
        until: at(until),
    };
    let activation = |served: &[ServedKeySets]| {
        let policies = KeyPolicies { own: POLICY, served: served.to_vec() };
        policies.activation(at(10_000)).as_second() - 10_000
    };
    assert_eq!(activation(&[]), LEAD);
    // Handed out until a moment ago, or long ago, under a longer max-age.
    assert_eq!(activation(&[served(7200, 900, 10_000)]), 7200);
    assert_eq!(activation(&[served(7200, 900, 4001)]), 1201);
    assert_eq!(activation(&[served(7200, 900, 3000)]), LEAD);
    // Still handed out: by replicas that may be as stale as theirs may be.
    assert_eq!(activation(&[served(7200, 900, 1_000_000)]), 8100);
    assert_eq!(activation(&[served(7200, 60, 1_000_000), served(60, 3600, 1_000_000)]), 7260);
    // Of a shorter one, copies are gone before ours are.
    assert_eq!(activation(&[served(10, 10, 1_000_000)]), LEAD);

    let withdrawal = |served: &[ServedKeySets]| {
        let policies = KeyPolicies { own: POLICY, served: served.to_vec() };
        policies.withdrawal(at(10_000)).as_second() - 10_000
    };
    assert_eq!(withdrawal(&[served(7200, 3600, 10_000), served(7200, 60, 1_000_000)]), TAIL);
    assert_eq!(withdrawal(&[served(10, 3600, 10_001)]), TAIL + 2700);
}

#[test]
fn a_period_that_leaves_no_time_to_publish_is_stretched() {
    let own = KeyPolicy { key_set_max_age: Duration::from_hours(24), staleness_limit: Duration::from_hours(24) };
    let slow = KeyPolicies { own, served: Vec::new() };
    let mut keys = vec![key(Rs256, 1, 0, 0)];
    for day in 0..20 {
        let ring = Keyring { policies: &slow, ..every_day(&[Rs256], &keys) };
        let steps = ring.next_steps(at(day * DAY));
        apply(&mut keys, day * DAY, steps);
    }
    let activations: Vec<_> = keys.iter().map(|key| key.activate_at.as_second() / DAY).collect();
    assert_eq!(activations, [0, 4, 8, 12, 16, 20]);
}

#[test]
fn without_a_period_a_key_follows_on_request_only() {
    let keys = vec![key(Rs256, 1, 1000, 1000)];
    assert_eq!(ring(&[Rs256], &keys).next_steps(at(1000 * DAY)), []);
}

#[test]
fn s57_a_repeated_wish_for_the_next_key_changes_nothing() {
    let algorithms = [Rs256, Es256];
    let mut keys = vec![key(Rs256, 1, 1000, 1000), key(Es256, 1, 1000, 1000)];
    let Ok(Rotation::Prepare(step)) = ring(&algorithms, &keys).rotate(at(5000), Es256) else { panic!() };
    assert_eq!(step, KeyStep::Create { algorithm: Es256, generation: 2, activate_at: at(5000 + LEAD), awaits_export: false });
    apply(&mut keys, 5000, vec![step]);
    for now in [5000, 5000 + LEAD - 1] {
        assert_eq!(ring(&algorithms, &keys).rotate(at(now), Es256), Ok(Rotation::Prepared(keys[2].key_id.clone())));
    }
    assert_eq!(ring(&algorithms, &keys).rotate(at(5000), EdDsa), Err(RotationRefused::Algorithm));
    // The other algorithm has keys of its own.
    assert!(matches!(ring(&algorithms, &keys).rotate(at(5000), Rs256), Ok(Rotation::Prepare(_))));
    // The next one after it has taken over.
    assert!(matches!(ring(&algorithms, &keys).rotate(at(5000 + LEAD), Es256), Ok(Rotation::Prepare(_))));
}

#[test]
fn wishes_cannot_swell_the_key_set_without_bounds() {
    let mut keys = vec![key(Rs256, 1, 0, 0)];
    let mut now = 0;
    let refused = loop {
        now += LEAD;
        let steps = ring(&[Rs256], &keys).next_steps(at(now));
        apply(&mut keys, now, steps);
        match ring(&[Rs256], &keys).rotate(at(now), Rs256) {
            Ok(Rotation::Prepare(step)) => apply(&mut keys, now, vec![step]),
            other => break other,
        }
    };
    assert_eq!(refused, Err(RotationRefused::TooManyPublished));
    assert_eq!(published(at(now), &keys).count(), MAX_PUBLISHED);
    assert!(ring(&[Rs256], &keys).rotate(at(now + TAIL), Rs256).is_ok());
}

#[test]
fn s59_a_revoked_key_is_gone_at_once_by_any_clock_and_for_ever() {
    let mut keys = vec![key(Rs256, 1, 1000, 1000)];
    let steps = ring(&[Rs256], &keys).revoke(at(5000), &keys[0].key_id).unwrap();
    apply(&mut keys, 5000, steps);
    for now in [0, 4999, 5000, 1_000_000_000] {
        assert_eq!(keys[0].stage(at(now)), SigningKeyStage::Revoked { since: at(5000) });
        assert_eq!(published(at(now), &keys).collect::<Vec<_>>(), [&keys[1]]);
        assert_eq!(signer(at(now), &keys, Rs256), Some(&keys[1]), "by a clock that is behind, too");
    }
    assert_eq!(keys[0].next_change(at(5000)), None);
    assert_eq!(ring(&[Rs256], &keys).revoke(at(6000), &keys[0].key_id.clone()), Some(Vec::new()), "once is enough");
    assert_eq!(ring(&[Rs256], &keys).revoke(at(6000), &"unknown".parse().unwrap()), None);
    assert_eq!(ring(&[Rs256], &keys).next_steps(at(6000)), []);
}

#[test]
fn s59_of_a_revoked_signer_the_prepared_key_takes_over_at_once() {
    let mut keys = vec![key(Rs256, 1, 1000, 1000), key(Rs256, 2, 5000, 5000 + LEAD)];
    let steps = ring(&[Rs256], &keys).revoke(at(5010), &keys[0].key_id).unwrap();
    assert_eq!(steps.len(), 2, "no further key is made: {steps:?}");
    apply(&mut keys, 5010, steps);
    for now in [4000, 5010] {
        assert_eq!(signer(at(now), &keys, Rs256), Some(&keys[1]), "by a clock that is behind, too");
    }
}

#[test]
fn s59_a_key_that_does_not_sign_is_revoked_without_another_signing_sooner() {
    let retiring = Retirement { sign_until: at(4000), publish_until: at(90_000) };
    let old = SigningKeyRecord { retirement: Some(retiring), ..key(Rs256, 1, 1000, 1000) };
    let keys = vec![old, key(Rs256, 2, 2000, 4000), key(Rs256, 3, 5000, 6200)];
    for index in [0, 2] {
        let steps = ring(&[Rs256], &keys).revoke(at(5010), &keys[index].key_id).unwrap();
        assert_eq!(steps, [KeyStep::Revoke { key_id: keys[index].key_id.clone(), revoked_at: at(5010) }]);
    }
    // One that was taken over from but is not retired yet goes on signing: every verifier has it.
    let steps = ring(&[Rs256], &keys).revoke(at(6200), &keys[2].key_id).unwrap();
    assert_eq!(steps.len(), 1);
}

#[test]
fn s59_an_issuer_whose_stand_in_is_revoked_signs_with_what_it_is_to_sign_with() {
    let prepared = vec![key(Rs256, 1, 1000, 1000), key(EdDsa, 1, 5000, 6200)];
    let mut keys = prepared.clone();
    let steps = ring(&[Es256, EdDsa], &keys).revoke(at(5010), &keys[0].key_id).unwrap();
    apply(&mut keys, 5010, steps);
    assert_eq!(default_signer(at(5010), &keys, &[Es256, EdDsa]).unwrap().key_id.as_str(), "ES256-1", "the default");
    let mut keys = prepared;
    let steps = ring(&[EdDsa], &keys).revoke(at(5010), &keys[0].key_id).unwrap();
    apply(&mut keys, 5010, steps);
    assert_eq!(default_signer(at(5010), &keys, &[EdDsa]), Some(&keys[1]));
}

#[test]
fn a_key_tells_what_it_waits_for() {
    let retiring = Retirement { sign_until: at(4000), publish_until: at(90_000) };
    let mut keys = vec![
        SigningKeyRecord { retirement: Some(retiring), ..key(Rs256, 1, 1000, 1000) },
        key(Rs256, 2, 2000, 4000),
        key(Rs256, 3, 5000, 6200),
    ];
    let outlooks = |keys: &[SigningKeyRecord], now: i64| -> Vec<_> {
        let ring = every_day(&[Rs256], keys);
        keys.iter().map(|key| ring.outlook(at(now), key).map(|outlook| (outlook.wait, outlook.until))).collect()
    };
    let tokens = Some((KeyWait::IssuedTokens, Some(at(90_000))));
    let copies = Some((KeyWait::KeySetCopies, Some(at(6200))));
    assert_eq!(outlooks(&keys, 5000), [tokens, copies, copies]);
    let period = Some((KeyWait::RotationPeriod, Some(at(4000 + DAY))));
    assert_eq!(outlooks(&keys[..2], 5000), [tokens, period]);
    assert_eq!(outlooks(&keys[..2], 90_000), [None, period]);
    let taken_over_from = Some((KeyWait::IssuedTokens, Some(at(6200 + TAIL))));
    let period = Some((KeyWait::RotationPeriod, Some(at(6200 + DAY))));
    assert_eq!(outlooks(&keys, 6200), [tokens, taken_over_from, period]);

    let on_request = ring(&[Rs256], &keys[..2]).outlook(at(5000), &keys[1]).unwrap();
    assert_eq!(on_request, Outlook { wait: KeyWait::RotationRequest, until: None });
    let stands_in = ring(&[EdDsa], &keys[..2]).outlook(at(5000), &keys[1]).unwrap();
    assert_eq!(stands_in, Outlook { wait: KeyWait::KeySetCopies, until: None });
    keys[0].revoked_at = Some(at(5000));
    assert_eq!(outlooks(&keys, 5000)[0], None);
}

/// What may happen to an issuer.
#[derive(Debug, Clone)]
enum Event {
    SetAlgorithms(Vec<SignatureAlgorithm>),
    Rotate(SignatureAlgorithm),
    /// Which of its keys.
    Revoke(prop::sample::Index),
    Plan,
}

fn events() -> impl Strategy<Value = Vec<(Event, i64)>> {
    let algorithms = vec![Rs256, Es256, EdDsa];
    let event = prop_oneof![
        2 => prop::sample::subsequence(algorithms.clone(), 1..=3).prop_map(Event::SetAlgorithms),
        4 => prop::sample::select(algorithms).prop_map(Event::Rotate),
        1 => any::<prop::sample::Index>().prop_map(Event::Revoke),
        4 => Just(Event::Plan),
    ];
    let wait = prop_oneof![0..LEAD, 0..2 * LEAD, 0..2 * DAY];
    prop::collection::vec((event, wait), 1..24)
}

proptest! {
    /// Whatever is done to an issuer, and whenever it is planned:
    /// - some key signs at any time, and it is published;
    /// - no key signs before its lead has passed but the first ones, and one that had to take over from a revoked key;
    /// - none of an algorithm that is not listed signs by default while one of a listed algorithm can;
    /// - a key stays published until the last token that it can have signed has expired, unless it is revoked;
    /// - a revoked key never comes back;
    /// - planning settles.
    #[test]
    fn s56_no_plan_lets_a_key_sign_that_is_not_published(events in events()) {
        let mut algorithms = vec![Rs256];
        let mut keys: Vec<SigningKeyRecord> = Vec::new();
        let mut emergencies = Vec::new();
        // When a token was last signed with a key.
        let mut signed: Vec<(KeyId, i64)> = Vec::new();
        let mut now = 1000;
        for (event, wait) in events {
            // A token just before anything is done about the time that has passed.
            if let Some(signing) = default_signer(at(now), &keys, &algorithms) {
                signed.push((signing.key_id.clone(), now));
            }
            let steps = match &event {
                Event::SetAlgorithms(listed) => {
                    algorithms.clone_from(listed);
                    every_day(&algorithms, &keys).next_steps(at(now))
                }
                Event::Rotate(algorithm) => match every_day(&algorithms, &keys).rotate(at(now), *algorithm) {
                    Ok(Rotation::Prepare(step)) => vec![step],
                    Ok(Rotation::Prepared(_)) | Err(_) => Vec::new(),
                },
                Event::Revoke(index) if !keys.is_empty() => {
                    let steps = every_day(&algorithms, &keys).revoke(at(now), &index.get(&keys).key_id).unwrap();
                    emergencies.extend(steps.iter().filter_map(|step| match step {
                        KeyStep::Create { algorithm, generation, .. } => format!("{algorithm}-{generation}").parse().ok(),
                        KeyStep::Promote { key_id } => Some(key_id.clone()),
                        KeyStep::Retire { .. } | KeyStep::Revoke { .. } | KeyStep::EndWait { .. } => None,
                    }));
                    steps
                }
                Event::Revoke(_) | Event::Plan => every_day(&algorithms, &keys).next_steps(at(now)),
            };
            apply(&mut keys, now, steps);
            let steps = every_day(&algorithms, &keys).next_steps(at(now));
            apply(&mut keys, now, steps);
            prop_assert_eq!(every_day(&algorithms, &keys).next_steps(at(now)), []);

            let default = default_signer(at(now), &keys, &algorithms).map(|key| key.algorithm);
            prop_assert!(default.is_some());
            let is_replaced = default.is_some_and(|algorithm| algorithms.contains(&algorithm));
            for algorithm in [Rs256, Es256, EdDsa] {
                let Some(signing) = signer(at(now), &keys, algorithm) else { continue };
                signed.push((signing.key_id.clone(), now));
                prop_assert!(published(at(now), &keys).any(|key| key.key_id == signing.key_id));
                let lead = now - signing.created_at.as_second();
                let is_exempt = signing.created_at == at(1000) || emergencies.contains(&signing.key_id);
                prop_assert!(lead >= LEAD || is_exempt, "{signing:?} at {now}");
                prop_assert!(algorithms.contains(&algorithm) || !is_replaced);
            }
            for (key_id, when) in &signed {
                let key = keys.iter().find(|key| key.key_id == *key_id).unwrap();
                let token_lives = now <= when + 24 * 3600 + 60;
                prop_assert!(key.revoked_at.is_some() || !token_lives || key.state(at(now)).is_published());
            }
            for key in keys.iter().filter(|key| key.revoked_at.is_some()) {
                prop_assert!(!key.state(at(now)).is_published());
            }
            now += wait;
        }
    }
}

#[test]
fn s58_a_key_that_somebody_wrote_into_the_database_takes_over_from_none() {
    let keys = vec![key(Es256, 1, 1000, 1000), key(Es256, 2, 1000, 1000)];
    let foreign = BTreeSet::from([keys[1].key_id.clone()]);
    let ring = Keyring { foreign: &foreign, ..ring(&[Es256], &keys) };
    assert_eq!(ring.next_steps(at(2000)), []);
    let steps = ring.revoke(at(2000), &keys[0].key_id).unwrap();
    let next = KeyStep::Create { algorithm: Es256, generation: 3, activate_at: at(2000), awaits_export: false };
    assert_eq!(steps[1..], [next]);
}

#[test]
fn s59_where_no_key_took_over_from_a_revoked_one_the_next_that_is_made_does() {
    // Its device was away.
    let mut keys = vec![key(Es256, 1, 1000, 1000)];
    keys[0].revoked_at = Some(at(5000));
    let steps = ring(&[Es256], &keys).next_steps(at(6000));
    assert_eq!(steps, [KeyStep::Create { algorithm: Es256, generation: 2, activate_at: at(6000), awaits_export: false }]);
    // An algorithm that is added waits as ever.
    let steps = ring(&[Es256, EdDsa], &keys).next_steps(at(6000));
    let added = KeyStep::Create { algorithm: EdDsa, generation: 1, activate_at: at(6000 + LEAD), awaits_export: false };
    assert_eq!(steps[1], added);
    // One that did not sign is no reason for haste.
    let mut keys = vec![key(Es256, 1, 1000, 1000), key(Es256, 2, 5000, 6200)];
    keys[1].revoked_at = Some(at(5500));
    assert_eq!(ring(&[Es256], &keys).next_steps(at(6000)), []);
}

#[test]
fn a_key_signs_for_90_days_unless_its_issuer_says_otherwise() {
    assert_eq!(RotationPolicy::default(), RotationPolicy::Every(Duration::from_hours(2_160)));
    assert_eq!(RotationPolicy::MIN_PERIOD, Duration::from_hours(24));
    assert_eq!(RotationPolicy::MAX_PERIOD, Duration::from_hours(17_520), "two years");
    assert_eq!(RotationPolicy::of_period(Duration::ZERO), RotationPolicy::OnRequest);
    for period in [Duration::from_nanos(1), Duration::from_hours(24)] {
        assert_eq!(RotationPolicy::of_period(period), RotationPolicy::Every(period));
        assert_eq!(RotationPolicy::of_period(period).period(), period);
    }
    assert_eq!(RotationPolicy::OnRequest.period(), Duration::ZERO);
}

#[test]
fn the_end_of_a_key_changes_its_stage_at_its_two_times_and_at_no_other() {
    let retirement = Some(Retirement { sign_until: at(100), publish_until: at(200) });
    let key = SigningKeyRecord { retirement, ..key(Es256, 1, 0, 0) };
    for (now, state, next) in [
        (0, SigningKeyState::Active, Some(100)),
        (99, SigningKeyState::Active, Some(100)),
        (100, SigningKeyState::Retiring, Some(200)),
        (199, SigningKeyState::Retiring, Some(200)),
        (200, SigningKeyState::Retired, None),
    ] {
        assert_eq!((key.state(at(now)), key.next_change(at(now))), (state, next.map(at)), "at {now}");
    }
}

#[test]
fn a_prepared_key_activates_its_own_algorithm_only() {
    let keys = [key(Es256, 1, 0, 0), key(Es256, 2, 10, 50), key(EdDsa, 1, 10, 30)];
    assert_eq!(next_activation(at(20), &keys, Es256), Some(at(50)));
    assert_eq!(next_activation(at(20), &keys, EdDsa), Some(at(30)));
    assert_eq!(next_activation(at(20), &keys, Rs256), None);
    assert_eq!(next_activation(at(50), &keys, Es256), None, "it signs already");
}

#[test]
fn metrics_and_logs_name_every_state_and_wait() {
    assert_eq!(SigningKeyState::ALL.map(SigningKeyState::as_str), ["prepared", "active", "retiring", "retired", "revoked"]);
    assert_eq!(SigningKeyState::ALL.map(SigningKeyState::is_published), [true, true, true, false, false]);
    assert_eq!(SigningKeyState::ALL.map(SigningKeyState::is_final), [false, false, false, true, true]);
    let waits = ["export", "key_set_copies", "rotation_period", "rotation_request", "issued_tokens"];
    assert_eq!(KeyWait::ALL.map(KeyWait::as_str), waits);
}
