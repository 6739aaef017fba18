//! What is told of refusals, and how much of it.

use countersign_domain::exchange::request::ExchangeRequest;
use serde_json::{Value, json};

use super::*;
use crate::fakes::{SUBJECT, World, policy, relationship, relationship_id, trusted_issuer, workspace_id};

fn input(token: String, request_id: &str) -> ExchangeInput {
    ExchangeInput {
        subject_token: token.into(),
        workspace_id: Some(workspace_id()),
        request: ExchangeRequest { scopes: vec!["deploy".parse().unwrap()], ..ExchangeRequest::default() },
        request_id: request_id.to_owned(),
    }
}

impl RefusalLog {
    /// Everything that would be told now, numbers included.
    fn drain(&self) -> Vec<NewRefusal> {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.close_counts();
        std::iter::from_fn(|| Some(waiting.take()).filter(|batch| !batch.is_empty())).flatten().collect()
    }
}

/// A world whose one relationship asks for the branch `main`.
fn world() -> World {
    let world = World::new();
    let mut strict = relationship(SUBJECT);
    strict.settings.claim_conditions = vec![serde_json::from_str(r#"{"claim": "ref", "equals": "main"}"#).unwrap()];
    world.policies.set(policy(7, vec![strict]));
    world
}

async fn refuse(world: &World, more: &[(&str, Value)], request_id: &str) {
    let claims = more.iter().fold(world.claims(), |claims, (name, value)| claims.with(name, value.clone()));
    let token = world.issuer_key.sign(&claims);
    world.pipeline().exchange(input(token, request_id)).await.unwrap_err();
}

fn one(refusal: &NewRefusal) -> &RefusedExchange {
    match &refusal.refused {
        Refusals::One(one) => one,
        Refusals::Counted(counted) => panic!("{counted:?}"),
    }
}

fn counted(refusal: &NewRefusal) -> &CountedRefusals {
    match &refusal.refused {
        Refusals::One(one) => panic!("{one:?}"),
        Refusals::Counted(counted) => counted,
    }
}

#[tokio::test]
async fn s63_a_token_that_verified_has_an_event_with_the_full_cause_under_its_request_id() {
    let world = world();
    refuse(&world, &[("ref", json!("dev")), ("email", json!("a@b.example"))], "req-1").await;
    let refusals = world.refusals.drain();
    let refused = one(&refusals[0]);
    assert_eq!((refusals[0].workspace_id.clone(), refused.reason), (Some(workspace_id()), Reason::SubjectNotTrusted));
    assert_eq!(refused.trust_relationship_id, Some(relationship_id()));
    assert!(refused.cause.contains("claim condition number 1"), "{}", refused.cause);
    let Presentation { request_id, subject, claims, request, .. } = &refused.presentation;
    assert_eq!((request_id.as_str(), subject.as_str()), ("req-1", SUBJECT));
    assert_eq!(request.as_ref().unwrap().scopes.len(), 1);
    // What a condition reads, and nothing else of what is personal (SECURITY 75).
    let claims = claims.as_ref().unwrap();
    assert_eq!(claims.members()["ref"], "dev");
    assert!(!claims.members().contains_key("email"));
}

#[tokio::test]
async fn s75_an_exchange_is_committed_with_the_claims_that_decided() {
    let world = world();
    let token = world.issuer_key.sign(&world.claims().with("ref", "main").with("email", "a@b.example"));
    world.pipeline().exchange(input(token, "req-1")).await.unwrap();
    let committed = world.commits.committed.lock().unwrap();
    let claims = committed[0].audit.presentation.claims.as_ref().unwrap();
    assert_eq!(claims.members()["ref"], "main");
    assert!(!claims.members().contains_key("email"));
    assert!(world.refusals.drain().is_empty());
}

#[tokio::test]
async fn a_replayed_token_is_told_with_the_relationship_that_would_have_decided() {
    let world = World::new();
    world.pipeline().exchange(input(world.token(), "req-1")).await.unwrap();
    world.pipeline().exchange(input(world.token(), "req-2")).await.unwrap_err();
    let refusals = world.refusals.drain();
    let refused = one(&refusals[0]);
    assert_eq!((refused.reason, &refused.trust_relationship_id), (Reason::SubjectTokenReplayed, &Some(relationship_id())));
}

#[tokio::test]
async fn s63_what_does_not_verify_is_counted_by_cause_and_not_kept() {
    let world = World::new();
    let stranger = countersign_testkit::signer::Signer::new(
        countersign_domain::values::signature_algorithm::SignatureAlgorithm::Es256,
        "key-1",
    );
    for number in 0..3 {
        let forged = stranger.sign(&world.claims());
        world.pipeline().exchange(input(forged, &format!("req-{number}"))).await.unwrap_err();
    }
    world.pipeline().exchange(input("not.a.token".to_owned(), "req-9")).await.unwrap_err();
    let mut refusals = world.refusals.drain();
    refusals.sort_by_key(|refusal| counted(refusal).count);
    let [malformed, forged] = refusals.as_slice() else { panic!("{refusals:?}") };
    assert_eq!((malformed.workspace_id.clone(), counted(malformed).reason), (None, Reason::SubjectTokenMalformed));
    let forged_count = counted(forged);
    assert_eq!((forged.workspace_id.clone(), forged_count.count), (Some(workspace_id()), 3));
    assert_eq!(forged_count.trusted_issuer_id, Some(trusted_issuer().id));
    assert!(forged_count.request_id.starts_with("req-"));
}

#[tokio::test]
async fn our_own_trouble_is_no_refusal() {
    let world = World::new();
    world.keys.fail();
    world.pipeline().exchange(input(world.token(), "req-1")).await.unwrap_err();
    assert!(world.refusals.drain().is_empty());
}

#[tokio::test(start_paused = true)]
async fn s63_beyond_its_budget_a_workspace_is_counted_until_there_is_room_again() {
    let world = world();
    let wrong = [("ref", json!("dev"))];
    for number in 0..250 {
        refuse(&world, &wrong, &format!("req-{number}")).await;
    }
    let refusals = world.refusals.drain();
    let counts: Vec<_> = refusals.iter().filter(|refusal| matches!(refusal.refused, Refusals::Counted(_))).collect();
    assert_eq!((refusals.len(), counts.len()), (201, 1));
    assert_eq!(counted(counts[0]).count, 50);

    tokio::time::advance(Duration::from_secs(3)).await;
    for number in 0..10 {
        refuse(&world, &wrong, &format!("later-{number}")).await;
    }
    let refusals = world.refusals.drain();
    assert_eq!(refusals.iter().filter(|refusal| matches!(refusal.refused, Refusals::One(_))).count(), 3);
    assert_eq!(counted(refusals.last().unwrap()).count, 7);
}

#[tokio::test]
async fn what_could_not_be_told_is_told_later_and_numbers_stay_numbers() {
    let world = world();
    refuse(&world, &[("ref", json!("dev"))], "req-1").await;
    refuse(&world, &[("ref", json!("dev"))], "req-2").await;
    world.pipeline().exchange(input("not.a.token".to_owned(), "req-3")).await.unwrap_err();
    let (batch, found) = {
        let mut waiting = world.refusals.waiting.lock().unwrap();
        waiting.close_counts();
        let batch = waiting.take();
        waiting.put_back(batch.clone());
        (batch, waiting.one_by_one.len())
    };
    assert_eq!((batch.len(), found, world.refusals.count_waiting()), (3, 2, 3));
    assert_eq!(one(&world.refusals.find(&workspace_id(), "req-2").unwrap()).presentation.request_id, "req-2");
    world.pipeline().exchange(input("not.a.token".to_owned(), "req-4")).await.unwrap_err();
    let told = world.refusals.drain();
    assert_eq!(told[..2], batch[..2]);
    assert_eq!((told.len(), counted(&told[2]).count), (3, 2));
}

#[tokio::test]
async fn s63_no_flood_of_causes_fills_the_memory_nor_hides_others() {
    let log = World::new().refusals;
    let mut waiting = log.waiting.lock().unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let mut count = |workspace: Option<u8>, cause: String| {
        let workspace_id = workspace.map(|number| WorkspaceId::from_random([number; 16]));
        let kind = Kind { workspace_id, trusted_issuer_id: None, reason: Reason::SubjectTokenMalformed, cause };
        waiting.count(kind, Count { refusals: 1, first_at: now, last_at: now, request_id: String::new() });
    };
    for number in 0..5_000 {
        count(Some(1), format!("cause {number}"));
    }
    count(Some(2), "an honest one".to_owned());
    // One more, for those that are lumped together, under the workspace that made them.
    assert_eq!(waiting.counted.len(), MAX_KINDS_OF_WORKSPACE + 2);
    assert!(waiting.counted.keys().any(|kind| kind.cause == "an honest one"));
    assert!(waiting.counted.keys().all(|kind| kind.workspace_id.is_some()));
    assert_eq!(waiting.counted.values().map(|count| count.refusals).sum::<u64>(), 5_001);
}

#[tokio::test]
async fn s63_what_a_caller_chooses_makes_no_kind_of_its_own() {
    let world = World::new();
    for number in 10..40_u8 {
        let request = ExchangeRequest {
            trust_relationship_id: Some(TrustRelationshipId::from_random([number; 16])),
            ..ExchangeRequest::default()
        };
        let input = ExchangeInput { request, ..input(world.token(), &format!("req-{number}")) };
        world.pipeline().exchange(input).await.unwrap_err();
    }
    let refusals = world.refusals.drain();
    let causes: std::collections::BTreeSet<&str> = refusals.iter().map(|refusal| one(refusal).cause.as_str()).collect();
    assert_eq!((refusals.len(), causes.len()), (30, 1), "{causes:?}");
}

#[tokio::test(start_paused = true)]
async fn s72_a_flood_from_one_issuer_leaves_room_for_another() {
    let log = World::new().refusals;
    let mut waiting = log.waiting.lock().unwrap();
    let (workspace, [loud, quiet]) = (workspace_id(), [1, 2].map(|number| TrustedIssuerId::from_random([number; 16])));
    assert_eq!((0..500).filter(|_| waiting.admits(&workspace, &loud)).count(), 200);
    assert_eq!((0..500).filter(|_| waiting.admits(&workspace, &quiet)).count(), 200);
    let third = TrustedIssuerId::from_random([3; 16]);
    assert!(!waiting.admits(&workspace, &third), "the workspace has its own bound");
}

#[test]
fn a_long_cause_is_cut_at_a_character() {
    assert_eq!(shortened("short".to_owned()), "short");
    assert_eq!(shortened("é".repeat(400)).len(), 512);
    assert_eq!(shortened(format!("a{}", "é".repeat(400))).len(), 511);
}
