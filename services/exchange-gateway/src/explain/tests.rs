use std::sync::atomic::Ordering;

use countersign_domain::exchange::ExchangeRequest;
use countersign_domain::reason::Reason;
use countersign_domain::time::Clock as _;
use countersign_domain::trusted_issuer::SignatureAlgorithm;
use countersign_testkit::signer;

use super::*;
use crate::fakes::{ISSUER, World, other_workspace_id, policy, relationship, workspace_id};

fn input(token: String) -> ExchangeInput {
    ExchangeInput {
        subject_token: token.into(),
        workspace_id: Some(workspace_id()),
        request: ExchangeRequest::default(),
        request_id: "request-1".to_owned(),
    }
}

async fn explained(world: &World, token: &str) -> ExplainExchangeResponse {
    world.pipeline().explain(&input(token.to_owned()), &workspace_id()).await.unwrap().into()
}

/// The explanation gives the reason that the exchange gives, names this stage, and leaves no trace.
async fn agrees(world: &World, token: &str, stage: StageKind) -> ExplainExchangeResponse {
    let explained = explained(world, token).await;
    assert_eq!((world.replay.claims(), world.commits.asked.load(Ordering::SeqCst)), (0, 0));
    assert!(world.signer.signed.lock().unwrap().is_empty());
    let refusal = world.pipeline().exchange(input(token.to_owned())).await.unwrap_err();
    assert_eq!(explained.reason, status::reason_name(refusal.reason()));
    assert!(!explained.accepted);
    let failed = explained.stages.iter().find(|stage| stage.verdict() == ExplainedVerdict::Failed).unwrap();
    assert_eq!(failed.name, stage.as_str(), "{explained:#?}");
    assert_eq!(explained.stages.len(), StageKind::ALL.len(), "{explained:#?}");
    explained
}

#[tokio::test]
async fn an_accepted_token_is_explained_and_stays_unused() {
    let world = World::new();
    let token = world.token();
    for _ in 0..2 {
        let explained = explained(&world, &token).await;
        assert!(explained.accepted && explained.reason.is_empty());
        assert!(explained.stages.iter().all(|stage| stage.verdict() == ExplainedVerdict::Passed), "{explained:#?}");
        assert!(explained.candidates[0].accepts);
    }
    assert!(world.pipeline().exchange(input(token)).await.is_ok());
}

#[tokio::test]
async fn every_refusal_is_explained_by_the_stage_at_which_it_happens() {
    let world = World::new();
    let (claims, now) = (world.claims(), world.clock.now());
    agrees(&world, "a.b", StageKind::Token).await;
    let elsewhere = world.issuer_key.sign(&claims.clone().with("iss", "https://elsewhere.example"));
    agrees(&world, &elsewhere, StageKind::Issuer).await;
    let slash = world.issuer_key.sign(&claims.clone().with("iss", format!("{ISSUER}/")));
    let explained = agrees(&world, &slash, StageKind::Issuer).await;
    assert!(explained.summary.contains("a slash at the end count"), "{}", explained.summary);

    let other_key = signer::Signer::new(SignatureAlgorithm::Es256, "key-2").sign(&claims);
    let explained = agrees(&world, &other_key, StageKind::Signature).await;
    assert!(explained.summary.contains("kid `key-2`"), "{}", explained.summary);
    // Not a word of claims that are not verified.
    assert!(explained.candidates.is_empty() && !format!("{explained:?}").contains("token-1"));
    let forged = signer::Signer::new(SignatureAlgorithm::Es256, "key-1").sign(&claims);
    agrees(&world, &forged, StageKind::Signature).await;

    let expired = world.issuer_key.sign(&claims.clone().with("iat", now.as_second() - 7200).with("exp", now.as_second() - 3600));
    let explained = agrees(&world, &expired, StageKind::Times).await;
    assert!(explained.candidates[0].accepts, "{explained:#?}");
    agrees(&world, &world.issuer_key.sign(&claims.clone().with("aud", "somebody else")), StageKind::Audience).await;
    let other_subject = world.issuer_key.sign(&claims.clone().with("sub", "org:my-org:vault:other"));
    let explained = agrees(&world, &other_subject, StageKind::Relationship).await;
    assert_eq!(explained.candidates[0].checks[0].field, "subject_matches[0]");
}

#[tokio::test]
async fn what_was_changed_a_moment_ago_is_what_is_explained() {
    let world = World::new();
    world.policies.set_with_next_catch_up(policy(8, vec![relationship("org:my-org:vault:new")]));
    assert!(!explained(&world, &world.token()).await.accepted);
    world.policies.cut_off.store(true, Ordering::SeqCst);
    let refusal = world.pipeline().explain(&input(world.token()), &workspace_id()).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::TemporarilyUnavailable);
}

#[tokio::test]
async fn without_token_or_workspace_there_is_nothing_to_explain() {
    let world = World::new();
    let missing = world.pipeline().explain(&input(String::new()), &workspace_id()).await.unwrap_err();
    assert_eq!(missing.reason(), Reason::SubjectTokenMissing);
    let nowhere = world.pipeline().explain(&input(world.token()), &other_workspace_id()).await.unwrap_err();
    assert_eq!(nowhere.reason(), Reason::ResourceNotFound);
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_told_as_such() {
    let world = World::new();
    world.keys.fail();
    let explained = explained(&world, &world.token()).await;
    assert_eq!(explained.reason, "TEMPORARILY_UNAVAILABLE");
    assert!(explained.summary.contains("keys"), "{}", explained.summary);
}
