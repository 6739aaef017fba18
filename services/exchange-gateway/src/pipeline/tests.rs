use std::sync::atomic::Ordering;

use countersign_domain::values::reason::Reason;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_testkit::signer;
use countersign_testkit::wait::until;
use serde_json::{Value, json};

use super::*;
use crate::fakes::{
    ISSUER, SIGNED, SUBJECT, World, other_workspace_id, policy, policy_of, relationship, relationship_id, trusted_issuer,
    workspace_id,
};
use crate::ports::SignError;

fn input(token: String) -> ExchangeInput {
    ExchangeInput {
        subject_token: token.into(),
        workspace_id: Some(workspace_id()),
        request: ExchangeRequest::default(),
        request_id: "request-1".to_owned(),
    }
}

fn without_workspace(token: String) -> ExchangeInput {
    ExchangeInput { workspace_id: None, ..input(token) }
}

async fn reason(pipeline: &Pipeline, input: ExchangeInput) -> Result<Exchanged, Reason> {
    pipeline.exchange(input).await.map_err(|refusal| refusal.reason())
}

#[track_caller]
fn refused_as<T: fmt::Debug>(result: Result<T, Reason>, expected: Reason) {
    assert_eq!(result.map(|_| ()), Err(expected));
}

#[tokio::test]
async fn an_accepted_token_becomes_a_committed_access_token() {
    let world = World::new();
    let exchanged = world.pipeline().exchange(input(world.token())).await.unwrap();
    assert_eq!(exchanged.access_token.token, SIGNED);
    assert_eq!(exchanged.expires_in, Duration::from_hours(1));
    assert_eq!(exchanged.trust_relationship_id, relationship_id());
    let signed = world.signer.signed.lock().unwrap();
    let claims: Value = serde_json::from_slice(&signed[0].claims_json).unwrap();
    let committed = world.commits.committed.lock().unwrap();
    let audit = &committed[0].audit;
    // What is signed and what is committed is the same token.
    assert_eq!(claims["jti"], audit.access_token_id.as_str());
    assert_eq!(claims["scope"], "deploy read");
    assert_eq!(claims["policy_revision"], 7);
    assert_eq!((committed[0].trusted_issuer_revision, committed[0].trust_relationship_revision), (2, 5));
    assert_eq!((audit.presentation.subject_issuer.as_str(), audit.presentation.subject.as_str()), (ISSUER, SUBJECT));
    assert_eq!(audit.presentation.subject_key_id.as_ref().map(KeyIdText::text), Some("key-1"));
    assert_eq!(
        (audit.presentation.request_id.as_str(), audit.access_token_expires_at),
        ("request-1", exchanged.access_token.expires_at)
    );
}

trait KeyIdText {
    fn text(&self) -> &str;
}

impl KeyIdText for countersign_domain::values::name::KeyId {
    fn text(&self) -> &str {
        self.as_str()
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_before_anything_is_asked() {
    let world = World::new();
    let pipeline = world.pipeline();
    refused_as(reason(&pipeline, input(String::new())).await, Reason::SubjectTokenMissing);
    for text in ["x", "a.b", "a.b.c", "....", "e30.e30.e30"] {
        refused_as(reason(&pipeline, input(text.to_owned())).await, Reason::SubjectTokenMalformed);
    }
    assert_eq!(world.keys.asked.load(Ordering::SeqCst), 0);
    assert!(world.policies.caught_up.lock().unwrap().is_empty());
}

#[tokio::test]
async fn s17_an_unregistered_issuer_is_never_asked_for_keys_and_costs_no_load() {
    let world = World::new();
    let pipeline = world.pipeline();
    for issuer in ["https://nobody.example", "https://cloud.rwx.com/mint/", "https://cloud.rwx.com", "https://CLOUD.rwx.com/mint"]
    {
        let token = world.issuer_key.sign(&world.claims().with("iss", issuer));
        refused_as(reason(&pipeline, input(token.clone())).await, Reason::SubjectTokenNotTrusted);
        refused_as(reason(&pipeline, without_workspace(token)).await, Reason::SubjectTokenNotTrusted);
    }
    assert_eq!(world.keys.asked.load(Ordering::SeqCst), 0);
    assert_eq!(world.policies.loads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn s17_an_invented_workspace_costs_no_load() {
    let world = World::new();
    let invented = ExchangeInput { workspace_id: Some(other_workspace_id()), ..input(world.token()) };
    refused_as(reason(&world.pipeline(), invented).await, Reason::SubjectTokenNotTrusted);
    assert_eq!(world.policies.loads.load(Ordering::SeqCst), 0);
    assert_eq!(*world.policies.caught_up.lock().unwrap(), [CatchUpCause::Unverified]);
}

#[tokio::test]
async fn s63_every_cause_before_the_signature_reads_the_same() {
    let world = World::new();
    let pipeline = world.pipeline();
    let stranger = signer::Signer::new(SignatureAlgorithm::Es256, "key-1");
    let unknown_key = signer::Signer::new(SignatureAlgorithm::Es256, "key-2");
    let other_algorithm = signer::Signer::new(SignatureAlgorithm::EdDsa, "key-1");
    let claims = world.claims();
    let mut header = world.issuer_key.header();
    header["typ"] = json!("at+jwt");
    let own_kind = world.issuer_key.sign_bytes(&header, &claims.to_json());
    let inputs = [
        ExchangeInput { workspace_id: Some(other_workspace_id()), ..input(world.token()) },
        input(world.issuer_key.sign(&world.claims().with("iss", "https://nobody.example"))),
        without_workspace(world.issuer_key.sign(&world.claims().with("iss", "https://nobody.example"))),
        input(stranger.sign(&claims)),
        input(unknown_key.sign(&claims)),
        input(other_algorithm.sign(&claims)),
        input(own_kind),
    ];
    let mut answers = Vec::new();
    for input in inputs {
        world.policies.caught_up.lock().unwrap().clear();
        answers.push(pipeline.exchange(input).await.unwrap_err());
        // Nor does it take another way, which would show in how long it takes.
        assert_eq!(*world.policies.caught_up.lock().unwrap(), [CatchUpCause::Unverified]);
    }
    let mut disabled = trusted_issuer();
    disabled.settings.enabled = false;
    let mut with_disabled = policy(8, vec![relationship(SUBJECT)]);
    with_disabled.apply(countersign_domain::trust::policy_feed::PolicyChange {
        workspace_id: workspace_id(),
        state: countersign_domain::trust::workspace::WorkspaceState::Active,
        policy_revision: 9,
        trusted_issuers: vec![disabled],
        trust_relationships: vec![],
        deleted_trusted_issuer_ids: vec![],
        deleted_trust_relationship_ids: vec![],
    });
    world.policies.set(with_disabled);
    answers.push(pipeline.exchange(input(world.token())).await.unwrap_err());
    for answer in &answers {
        assert_eq!(answer.reason(), Reason::SubjectTokenNotTrusted);
        assert_eq!(answer, &answers[0]);
    }
}

#[tokio::test]
async fn s63_after_the_signature_the_caller_learns_which_of_his_claims_failed() {
    let world = World::new();
    let pipeline = world.pipeline();
    let now = world.clock.now().as_second();
    let cases = [
        (world.claims().with("iat", now - 300).with("exp", now - 60), Reason::SubjectTokenExpired),
        (world.claims().with("nbf", now + 60), Reason::SubjectTokenNotYetValid),
        (world.claims().with("exp", now + 9_999), Reason::SubjectTokenLifetimeTooLong),
        (world.claims().with("aud", "https://other.example"), Reason::SubjectTokenAudienceMismatch),
        (world.claims().with("sub", "org:other"), Reason::SubjectNotTrusted),
        (world.claims().with("exp", "soon"), Reason::SubjectTokenClaimsInvalid),
        (world.claims().without("iat"), Reason::SubjectTokenClaimsInvalid),
    ];
    for (claims, expected) in cases {
        refused_as(reason(&pipeline, input(world.issuer_key.sign(&claims))).await, expected);
    }
    assert_eq!(world.replay.claims(), 0);
}

#[tokio::test]
async fn s48_a_refused_token_leaves_no_claim_and_no_commit() {
    let world = World::new();
    let token = world.issuer_key.sign(&world.claims().with("sub", "org:other"));
    refused_as(reason(&world.pipeline(), input(token)).await, Reason::SubjectNotTrusted);
    assert_eq!(world.replay.lifetimes.lock().unwrap().len(), 0);
    assert_eq!(world.commits.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn s24_the_workspace_may_be_left_out_when_one_registered_the_issuer() {
    let world = World::new();
    let pipeline = world.pipeline();
    assert!(reason(&pipeline, without_workspace(world.token())).await.is_ok());
    world.policies.set(policy_of(other_workspace_id(), 1, vec![]));
    let again = world.issuer_key.sign(&world.claims().with("jti", "token-2"));
    refused_as(reason(&pipeline, without_workspace(again.clone())).await, Reason::SubjectTokenNotTrusted);
    // The relationship tells which of them is meant.
    let mut named = without_workspace(again);
    named.request.trust_relationship_id = Some(relationship_id());
    assert_eq!(reason(&pipeline, named).await.map(|exchanged| exchanged.workspace_id), Ok(workspace_id()));
}

#[tokio::test]
async fn a_key_that_appeared_a_moment_ago_is_found() {
    let world = World::new();
    let next = signer::Signer::new(SignatureAlgorithm::Es256, "key-2");
    world.keys.publish_with_next_refresh(&[&world.issuer_key, &next]);
    assert!(reason(&world.pipeline(), input(next.sign(&world.claims()))).await.is_ok());
    assert_eq!(*world.keys.refreshed.lock().unwrap(), [Some("key-2".to_owned())]);
}

#[tokio::test]
async fn s36_a_bad_signature_under_a_known_key_asks_for_no_refresh() {
    let world = World::new();
    let stranger = signer::Signer::new(SignatureAlgorithm::Es256, "key-1");
    refused_as(reason(&world.pipeline(), input(stranger.sign(&world.claims()))).await, Reason::SubjectTokenNotTrusted);
    assert!(world.keys.refreshed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn s45_without_keys_the_answer_is_unavailable() {
    let world = World::new();
    world.keys.fail();
    refused_as(reason(&world.pipeline(), input(world.token())).await, Reason::TemporarilyUnavailable);
}

#[tokio::test]
async fn what_was_registered_a_moment_ago_is_found_before_a_refusal() {
    let world = World::new();
    let pipeline = world.pipeline();
    world.policies.set(policy(7, vec![]));
    world.policies.set_with_next_catch_up(policy(8, vec![relationship(SUBJECT)]));
    assert!(reason(&pipeline, input(world.token())).await.is_ok());
    world.policies.clear();
    world.policies.set_with_next_catch_up(policy(8, vec![relationship(SUBJECT)]));
    let again = world.issuer_key.sign(&world.claims().with("jti", "token-2"));
    assert!(reason(&pipeline, input(again)).await.is_ok());
    assert_eq!(*world.policies.caught_up.lock().unwrap(), [CatchUpCause::Verified, CatchUpCause::Unverified]);
}

#[tokio::test]
async fn what_no_policy_can_change_is_refused_without_catching_up() {
    let world = World::new();
    let now = world.clock.now().as_second();
    let expired = world.issuer_key.sign(&world.claims().with("iat", now - 300).with("exp", now - 60));
    refused_as(reason(&world.pipeline(), input(expired)).await, Reason::SubjectTokenExpired);
    assert!(world.policies.caught_up.lock().unwrap().is_empty());
}

#[tokio::test]
async fn cut_off_from_the_policies_nothing_is_refused_for_want_of_them() {
    let world = World::new();
    world.policies.cut_off.store(true, Ordering::SeqCst);
    let unknown = world.issuer_key.sign(&world.claims().with("sub", "org:other"));
    refused_as(reason(&world.pipeline(), input(unknown)).await, Reason::TemporarilyUnavailable);
}

#[tokio::test]
async fn s63_cut_off_from_the_policies_every_cause_before_the_signature_reads_the_same() {
    let world = World::new();
    world.policies.cut_off.store(true, Ordering::SeqCst);
    let pipeline = world.pipeline();
    let stranger = signer::Signer::new(SignatureAlgorithm::Es256, "key-1");
    let other_algorithm = signer::Signer::new(SignatureAlgorithm::EdDsa, "key-1");
    let inputs = [
        input(stranger.sign(&world.claims())),
        input(other_algorithm.sign(&world.claims())),
        input(world.issuer_key.sign(&world.claims().with("iss", "https://nobody.example"))),
        without_workspace(world.issuer_key.sign(&world.claims().with("iss", "https://nobody.example"))),
        ExchangeInput { workspace_id: Some(other_workspace_id()), ..input(world.token()) },
    ];
    for input in inputs {
        refused_as(reason(&pipeline, input).await, Reason::SubjectTokenNotTrusted);
    }
}

#[tokio::test]
async fn when_catching_up_is_rationed_the_first_answer_stands() {
    let world = World::new();
    world.policies.rationed.store(true, Ordering::SeqCst);
    let token = world.issuer_key.sign(&world.claims().with("iss", "https://nobody.example"));
    refused_as(reason(&world.pipeline(), input(token)).await, Reason::SubjectTokenNotTrusted);
}

#[tokio::test]
async fn s49_of_many_presentations_one_mints_whatever_the_cache_says() {
    for answer in [None, Some(ReplayClaim::Unknown), Some(ReplayClaim::Claimed)] {
        let world = World::new();
        *world.replay.answer.lock().unwrap() = answer;
        let (pipeline, token) = (world.pipeline(), world.token());
        let presentations = (0..50).map(|_| {
            let (pipeline, input) = (pipeline.clone(), input(token.clone()));
            tokio::spawn(async move { reason(&pipeline, input).await })
        });
        let answers = futures::future::join_all(presentations).await;
        let minted = answers.iter().filter(|answer| answer.as_ref().unwrap().is_ok()).count();
        assert_eq!(minted, 1, "{answer:?}");
        for refused in answers.into_iter().filter_map(|answer| answer.unwrap().err()) {
            assert_eq!(refused, Reason::SubjectTokenReplayed);
        }
    }
}

#[tokio::test]
async fn s50_the_claim_outlives_the_token_by_its_skew_and_a_minute() {
    let world = World::new();
    assert!(reason(&world.pipeline(), input(world.token())).await.is_ok());
    let lifetimes = world.replay.lifetimes.lock().unwrap();
    assert!(lifetimes[0] >= Duration::from_secs(300 + 30 + 60), "{lifetimes:?}");
}

#[tokio::test]
async fn s51_a_failed_signature_releases_the_claim_so_that_a_retry_works() {
    let world = World::new();
    let pipeline = world.pipeline();
    world.signer.failures.lock().unwrap().push_back(SignError::Unavailable("gone".to_owned()));
    refused_as(reason(&pipeline, input(world.token())).await, Reason::TemporarilyUnavailable);
    assert_eq!((world.replay.claims(), world.commits.asked.load(Ordering::SeqCst)), (0, 0));
    assert!(reason(&pipeline, input(world.token())).await.is_ok());
}

#[tokio::test]
async fn a_refusal_to_sign_is_our_fault_and_releases_the_claim() {
    let world = World::new();
    world.signer.failures.lock().unwrap().push_back(SignError::Refused("too long".to_owned()));
    refused_as(reason(&world.pipeline(), input(world.token())).await, Reason::Internal);
    assert_eq!(world.replay.claims(), 0);
}

#[tokio::test]
async fn s51_a_commit_of_unknown_outcome_is_unavailable_and_uses_the_token_up() {
    let world = World::new();
    let pipeline = world.pipeline();
    world.commits.answers.lock().unwrap().push_back(Err(CommitError::OutcomeUnknown("cut".to_owned())));
    refused_as(reason(&pipeline, input(world.token())).await, Reason::TemporarilyUnavailable);
    assert_eq!((world.replay.claims(), world.replay.released.load(Ordering::SeqCst)), (1, 0));
    refused_as(reason(&pipeline, input(world.token())).await, Reason::SubjectTokenReplayed);
}

#[tokio::test]
async fn s51_a_commit_that_was_not_made_releases_the_claim() {
    let world = World::new();
    let pipeline = world.pipeline();
    world.commits.answers.lock().unwrap().push_back(Err(CommitError::NotMade("refused".to_owned())));
    refused_as(reason(&pipeline, input(world.token())).await, Reason::TemporarilyUnavailable);
    assert!(reason(&pipeline, input(world.token())).await.is_ok());
}

#[tokio::test]
async fn s51_the_commit_point_decides_when_the_cache_cannot_tell() {
    let world = World::new();
    *world.replay.answer.lock().unwrap() = Some(ReplayClaim::Unknown);
    let pipeline = world.pipeline();
    assert!(reason(&pipeline, input(world.token())).await.is_ok());
    refused_as(reason(&pipeline, input(world.token())).await, Reason::SubjectTokenReplayed);
    assert_eq!(world.commits.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn s31_a_stale_match_is_decided_again_once_on_the_fresh_policy() {
    let world = World::new();
    world.commits.answers.lock().unwrap().push_back(Ok(CommitOutcome::Stale));
    world.policies.set_with_next_catch_up(policy(9, vec![relationship(SUBJECT)]));
    assert!(reason(&world.pipeline(), input(world.token())).await.is_ok());
    assert_eq!(world.commits.committed.lock().unwrap()[0].policy_revision, 9);
    assert_eq!(*world.policies.caught_up.lock().unwrap(), [CatchUpCause::Verified]);
}

#[tokio::test]
async fn s30_a_match_that_is_gone_on_the_fresh_policy_mints_nothing() {
    for outcome in [CommitOutcome::Stale, CommitOutcome::Disabled] {
        let world = World::new();
        world.commits.answers.lock().unwrap().push_back(Ok(outcome));
        world.policies.set_with_next_catch_up(policy(9, vec![]));
        refused_as(reason(&world.pipeline(), input(world.token())).await, Reason::SubjectNotTrusted);
        assert_eq!((world.replay.claims(), world.commits.committed.lock().unwrap().len()), (0, 0));
    }
}

#[tokio::test]
async fn a_policy_that_changes_again_and_again_is_no_endless_loop() {
    for (outcome, expected) in
        [(CommitOutcome::Stale, Reason::TemporarilyUnavailable), (CommitOutcome::Disabled, Reason::SubjectNotTrusted)]
    {
        let world = World::new();
        world.commits.answers.lock().unwrap().extend([Ok(outcome), Ok(outcome)]);
        refused_as(reason(&world.pipeline(), input(world.token())).await, expected);
        assert_eq!((world.commits.asked.load(Ordering::SeqCst), world.replay.claims()), (2, 0));
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_during_the_commit_leaves_a_settled_exchange() {
    let world = World::new();
    world.commits.gate.forget_permits(usize::MAX);
    let (pipeline, request) = (world.pipeline(), input(world.token()));
    let caller = tokio::spawn(async move { pipeline.exchange(request).await });
    until("the commit is under way", || std::future::ready(world.commits.asked.load(Ordering::SeqCst) == 1)).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    world.commits.gate.add_permits(1);
    until("the commit is made", || std::future::ready(world.commits.committed.lock().unwrap().len() == 1)).await;
    assert_eq!((world.replay.claims(), world.replay.released.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn a_caller_who_hangs_up_before_a_failing_commit_leaves_no_claim() {
    let world = World::new();
    world.commits.gate.forget_permits(usize::MAX);
    world.commits.answers.lock().unwrap().push_back(Err(CommitError::NotMade("refused".to_owned())));
    let (pipeline, request) = (world.pipeline(), input(world.token()));
    let caller = tokio::spawn(async move { pipeline.exchange(request).await });
    until("the commit is under way", || std::future::ready(world.commits.asked.load(Ordering::SeqCst) == 1)).await;
    caller.abort();
    world.commits.gate.add_permits(1);
    until("the claim is released", || std::future::ready(world.replay.released.load(Ordering::SeqCst) == 1)).await;
    assert_eq!(world.replay.claims(), 0);
}

#[tokio::test]
async fn s72_what_is_being_settled_is_bounded_also_when_callers_hang_up() {
    let world = World::new();
    world.commits.gate.forget_permits(usize::MAX);
    let (pipeline, bound) = (world.pipeline(), world.settling.available_permits());
    for number in 0..bound {
        let (pipeline, token) = (pipeline.clone(), world.issuer_key.sign(&world.claims().with("jti", format!("t-{number}"))));
        let caller = tokio::spawn(async move { pipeline.exchange(input(token)).await });
        until("it commits", || std::future::ready(world.commits.asked.load(Ordering::SeqCst) == number + 1)).await;
        caller.abort();
    }
    refused_as(reason(&pipeline, input(world.token())).await, Reason::TemporarilyUnavailable);
    assert_eq!(world.replay.claims(), bound, "nothing was claimed for the one too many");
    world.commits.gate.add_permits(bound + 1);
    until("all is settled", || std::future::ready(world.settling.available_permits() == bound)).await;
    assert!(reason(&pipeline, input(world.token())).await.is_ok());
}

#[tokio::test]
async fn s72_what_fits_no_token_is_refused_before_it_joins_a_batch() {
    let world = World::new();
    let pipeline = world.pipeline();
    let mut generous = relationship(SUBJECT);
    generous.settings.scopes = (0..60).map(|number| format!("{number:0>200}").parse().unwrap()).collect();
    let narrow = generous.settings.scopes[7].clone();
    world.policies.set(policy(8, vec![generous]));
    refused_as(reason(&pipeline, input(world.token())).await, Reason::NothingGranted);
    assert!(world.signer.signed.lock().unwrap().is_empty());
    let mut narrower = input(world.token());
    narrower.request.scopes = vec![narrow];
    assert!(reason(&pipeline, narrower).await.is_ok(), "the claim was released");
}

#[tokio::test]
async fn s53_without_jti_the_signature_does_not_make_another_token() {
    let world = World::new();
    let pipeline = world.pipeline();
    let claims = world.claims().without("jti");
    let header = world.issuer_key.header();
    // ECDSA signatures are random: the same signed bytes, another signature.
    let (one, two) =
        (world.issuer_key.sign_bytes(&header, &claims.to_json()), world.issuer_key.sign_bytes(&header, &claims.to_json()));
    assert_ne!(one, two);
    assert!(reason(&pipeline, input(one)).await.is_ok());
    refused_as(reason(&pipeline, input(two)).await, Reason::SubjectTokenReplayed);
}

#[tokio::test]
async fn s53_the_refusal_of_an_equal_token_without_jti_names_the_remedy() {
    // Whether the replay cache or the commit point notices.
    for answer in [None, Some(ReplayClaim::Unknown)] {
        let world = World::new();
        *world.replay.answer.lock().unwrap() = answer;
        let pipeline = world.pipeline();
        let equal = world.issuer_key.sign(&world.claims().without("jti"));
        assert!(reason(&pipeline, input(equal.clone())).await.is_ok());
        let refusal = pipeline.exchange(input(equal)).await.unwrap_err();
        assert_eq!(refusal.reason(), Reason::SubjectTokenReplayed);
        for part in ["jti", "same second", "reusable"] {
            assert!(refusal.message().contains(part), "{answer:?}: {}", refusal.message());
        }
        let with_id = world.token();
        assert!(reason(&pipeline, input(with_id.clone())).await.is_ok());
        let refusal = pipeline.exchange(input(with_id)).await.unwrap_err();
        assert_eq!(refusal.message(), "the subject token was exchanged before");
        // Equal in everything but the second.
        let later = world.issuer_key.sign(&world.claims().without("jti").with("iat", world.clock.now().as_second() - 1));
        assert!(reason(&pipeline, input(later)).await.is_ok());
    }
}

#[tokio::test]
async fn s54_every_access_token_has_an_id_of_its_own() {
    let world = World::new();
    let pipeline = world.pipeline();
    for number in 0..20 {
        let token = world.issuer_key.sign(&world.claims().with("jti", format!("t-{number}")));
        assert!(reason(&pipeline, input(token)).await.is_ok());
    }
    let signed = world.signer.signed.lock().unwrap();
    let ids: std::collections::BTreeSet<String> = signed
        .iter()
        .map(|token| serde_json::from_slice::<Value>(&token.claims_json).unwrap()["jti"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 20);
    // 128 bits in base64url.
    assert!(ids.iter().all(|id| id.len() == 22));
}

#[tokio::test]
async fn s61_nothing_shows_the_tokens() {
    let world = World::new();
    let token = world.token();
    let request = input(token.clone());
    assert!(!format!("{request:?}").contains(&token));
    let exchanged = world.pipeline().exchange(request).await.unwrap();
    assert!(!format!("{exchanged:?}").contains(SIGNED));
}
