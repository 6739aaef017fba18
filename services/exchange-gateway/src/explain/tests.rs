use std::sync::atomic::Ordering;

use countersign_domain::exchange::request::ExchangeRequest;
use countersign_domain::trust::issuer_health::IssuerProblem;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::time::Clock as _;
use countersign_testkit::signer;

use super::*;
use crate::fakes::{ISSUER, SUBJECT, World, other_workspace_id, policy, relationship, workspace_id};
use crate::ports::Viewer;

fn input(token: String) -> ExchangeInput {
    ExchangeInput {
        subject_token: token.into(),
        workspace_id: Some(workspace_id()),
        request: ExchangeRequest::default(),
        request_id: "request-1".to_owned(),
    }
}

async fn explained(world: &World, token: &str) -> ExplainExchangeResponse {
    world.pipeline().explain(&input(token.to_owned()), &workspace_id(), Viewer::Administrator).await.unwrap().into()
}

/// The explanation gives the reason that the exchange gives, names this stage, and leaves no trace.
async fn agrees(world: &World, token: &str, stage: StageKind) -> ExplainExchangeResponse {
    let explained = explained(world, token).await;
    assert_eq!((world.replay.claims(), world.commits.asked.load(Ordering::SeqCst)), (0, 0));
    assert!(world.signer.signed.lock().unwrap().is_empty());
    let refusal = world.pipeline().exchange(input(token.to_owned())).await.unwrap_err();
    assert_eq!(explained.reason, refusal.reason().as_str());
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
    assert!(
        explained.summary.contains("no key with the token's kid \"key-2\"; its usable keys are \"key-1\""),
        "{}",
        explained.summary
    );
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
    let refusal = world.pipeline().explain(&input(world.token()), &workspace_id(), Viewer::Administrator).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::TemporarilyUnavailable);
}

#[tokio::test]
async fn without_token_or_workspace_there_is_nothing_to_explain() {
    let world = World::new();
    let missing = world.pipeline().explain(&input(String::new()), &workspace_id(), Viewer::Administrator).await.unwrap_err();
    assert_eq!(missing.reason(), Reason::SubjectTokenMissing);
    let nowhere =
        world.pipeline().explain(&input(world.token()), &other_workspace_id(), Viewer::Administrator).await.unwrap_err();
    assert_eq!(nowhere.reason(), Reason::ResourceNotFound);
}

#[tokio::test]
async fn s42_what_an_internal_host_answers_is_told_to_operators_alone() {
    let world = World::new();
    world.keys.fail();
    *world.keys.problem.lock().unwrap() = Some(IssuerProblem::KeySetStatus { status: 404 });
    for (viewer, is_told) in [(Viewer::Operator, true), (Viewer::Administrator, false)] {
        let explained: ExplainExchangeResponse =
            world.pipeline().explain(&input(world.token()), &workspace_id(), viewer).await.unwrap().into();
        assert_eq!(explained.summary.contains("status 404"), is_told, "{}", explained.summary);
    }
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_told_as_such() {
    let world = World::new();
    world.keys.fail();
    *world.keys.problem.lock().unwrap() = Some(IssuerProblem::KeySetSingleKey);
    let explained = explained(&world, &world.token()).await;
    assert_eq!(explained.reason, "TEMPORARILY_UNAVAILABLE");
    let issuer = policy(7, vec![]).issuer(ISSUER).unwrap().id.clone();
    for words in ["single JSON Web Key", &format!("`countersign trusted-issuers check {issuer}`")] {
        assert!(explained.summary.contains(words), "{}", explained.summary);
    }
}

#[tokio::test]
async fn s86_a_token_whose_signature_verifies_is_told_of_the_claim_that_is_wrong() {
    let world = World::new();
    for (claim, stage) in [
        ("exp", StageKind::Times),
        ("iat", StageKind::Times),
        ("aud", StageKind::Audience),
        ("sub", StageKind::Relationship),
        ("jti", StageKind::TokenId),
    ] {
        let token = world.issuer_key.sign(&world.claims().with(claim, serde_json::Value::Null));
        let explained = agrees(&world, &token, stage).await;
        assert!(explained.summary.starts_with(&format!("{stage}: the claim {claim} must be ")), "{}", explained.summary);
        let signature = explained.stages.iter().find(|stage| stage.name == StageKind::Signature.as_str()).unwrap();
        assert_eq!(signature.verdict(), ExplainedVerdict::Passed, "{claim}");
        assert_eq!(explained.reason, Reason::SubjectTokenClaimsInvalid.as_str());
    }
}

#[tokio::test]
async fn s86_a_header_that_is_refused_is_named_with_what_it_says() {
    let world = World::new();
    let wrong = signer::Signer::new(SignatureAlgorithm::Ps512, "key-1").sign(&world.claims());
    let explained = agrees(&world, &wrong, StageKind::Signature).await;
    assert!(explained.summary.contains("alg \"PS512\""), "{}", explained.summary);
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.QUFB", world.token().split('.').nth(1).unwrap());
    let explained = agrees(&world, &unsigned, StageKind::Token).await;
    assert!(explained.summary.contains("alg \"none\", which is never accepted"), "{}", explained.summary);
}

#[tokio::test]
async fn s86_a_refusal_without_an_event_is_said_to_be_counted() {
    let world = World::new();
    let forged = signer::Signer::new(SignatureAlgorithm::Es256, "key-1").sign(&world.claims());
    world.pipeline().exchange(input(forged)).await.unwrap_err();
    let refusal = past(&world, "request-1").await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::ResourceNotFound);
    for words in ["request-1", "before the signature verifies", "counted by cause", "exchange-gateway"] {
        assert!(refusal.message().contains(words), "{}", refusal.message());
    }
}

async fn past(world: &World, request_id: &str) -> Result<ExplainExchangeResponse, Refusal> {
    world.pipeline().explain_past(request_id, &workspace_id()).await.map(Into::into)
}

#[tokio::test]
async fn a_past_refusal_is_explained_by_its_request_id_under_the_present_policy() {
    let world = World::new();
    let asking = |branch: &str| {
        let mut relationship = relationship(SUBJECT);
        let condition = format!(r#"{{"claim": "ref", "equals": "{branch}"}}"#);
        relationship.settings.claim_conditions = vec![serde_json::from_str(&condition).unwrap()];
        relationship
    };
    world.policies.set(policy(7, vec![asking("main")]));
    let token = world.issuer_key.sign(&world.claims().with("ref", "dev"));
    world.pipeline().exchange(input(token)).await.unwrap_err();
    let explained = past(&world, "request-1").await.unwrap();
    assert_eq!((explained.accepted, explained.reason.as_str()), (false, Reason::SubjectNotTrusted.as_str()));
    let refused = explained.past_refusal.as_ref().unwrap();
    assert_eq!((refused.policy_revision, refused.reason.as_str()), (7, Reason::SubjectNotTrusted.as_str()));
    assert!(refused.cause.contains("claim condition number 1"), "{}", refused.cause);
    let check = &explained.candidates[0].checks[0];
    assert_eq!((check.field.as_str(), check.found.as_str()), ("claim_conditions[0]", r#""dev""#));
    assert_eq!(explained.stages.len(), StageKind::ALL.len());

    // Told by another gateway since, and the policy has changed.
    let told = world.refusals.find(&workspace_id(), "request-1").unwrap();
    let world = World { refusals: World::new().refusals, ..world };
    assert_eq!(past(&world, "request-1").await.unwrap_err().reason(), Reason::ResourceNotFound);
    world.past.refusals.lock().unwrap().push(told);
    world.policies.set(policy(8, vec![asking("dev")]));
    let explained = past(&world, "request-1").await.unwrap();
    assert!(explained.accepted && explained.summary.contains("under the present policy: the token is accepted"));

    let mut new = relationship(SUBJECT);
    new.settings.claim_conditions = vec![serde_json::from_str(r#"{"claim": "environment", "equals": "prod"}"#).unwrap()];
    world.policies.set(policy(9, vec![new]));
    let explained = past(&world, "request-1").await.unwrap();
    assert!(!explained.accepted && explained.reason.is_empty());
    assert!(explained.summary.contains("reads the claim `environment`, which was not kept"), "{}", explained.summary);
    assert_eq!(explained.candidates[0].checks[0].verdict(), ExplainedVerdict::NotReached);
}

#[tokio::test]
async fn what_never_verified_is_not_found_and_a_replayed_token_is_said_to_be_one() {
    let world = World::new();
    world.pipeline().exchange(input("not.a.token".to_owned())).await.unwrap_err();
    assert_eq!(past(&world, "request-1").await.unwrap_err().reason(), Reason::ResourceNotFound);
    world.pipeline().exchange(input(world.token())).await.unwrap();
    world.pipeline().exchange(input(world.token())).await.unwrap_err();
    let explained = past(&world, "request-1").await.unwrap();
    assert!(explained.accepted, "under the policy, which knows nothing of replay");
    let stage = explained.stages.iter().find(|stage| stage.name == "token id").unwrap();
    assert!(stage.verdict() == ExplainedVerdict::Failed && stage.detail.contains("exchanged before"));
}
