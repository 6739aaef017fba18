//! What past exchanges tell: why one was refused, what a change would do, what nobody needs.

use std::time::Duration;

use countersign_testkit::wait;
use countersign_tests::deployment::Instance;
use countersign_tests::token_endpoint::{Answer, exchange};
use serde_json::{Value, json};

use crate::deployments::{Scene, shared};

const LIMIT: Duration = Duration::from_secs(30);

/// What a command says in the workspace of the scene.
fn command(scene: &Scene<'_>, line: &[&str]) -> (Option<i32>, String, String) {
    let line = [["--workspace", scene.trust.workspace_id.as_str()].as_slice(), line].concat();
    let output = shared().command_line(&line).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn command_json(scene: &Scene<'_>, line: &[&str]) -> Value {
    let (_, results, messages) = command(scene, line);
    assert!(!results.is_empty(), "{line:?}: {messages}");
    serde_json::from_str(&results).unwrap()
}

async fn present(scene: &Scene<'_>, more: &[(&str, Value)]) -> Answer {
    let claims = more.iter().fold(scene.claims(), |claims, (name, value)| claims.with(name, value.clone()));
    exchange(&scene.deployment.url(Instance::Gateway), &scene.provider.sign(&claims), &[]).await
}

fn update(scene: &Scene<'_>, more: &[&str]) -> (Option<i32>, String, String) {
    let update = ["auth", "trust-relationships", "update", "--id", &scene.trust.trust_relationship_id];
    command(scene, &[update.as_slice(), more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn s63_a_refusal_is_found_and_explained_by_the_request_id_its_caller_was_told() {
    let scene = Scene::in_deployment(shared()).await;
    let (code, _, messages) = update(&scene, &["--condition", r#"{"claim": "branch", "equals": "main"}"#]);
    assert_eq!(code, Some(0), "{messages}");
    let refused = present(&scene, &[("branch", json!("dev")), ("actor", json!("octocat@example.org"))]).await;
    assert_eq!(refused.reason(), Some("SUBJECT_NOT_TRUSTED"));
    let id = refused.headers["x-request-id"].to_str().unwrap().to_owned();

    let explain = ["auth", "explain", "--request-id", &id];
    wait::blocking("the refusal is told", LIMIT, || command(&scene, &explain).0 == Some(2));
    let (_, tree, _) = command(&scene, &explain);
    assert!(tree.starts_with("refused at ") && tree.contains("; now refused, SUBJECT_NOT_TRUSTED"), "{tree}");
    assert!(tree.contains("FAIL claim_conditions[0]: branch is \"main\"\n         token: \"dev\""), "{tree}");

    let refusals = ["audit-events", "list", "--decision", "refused", "--request-id", &id, "-o", "json"];
    wait::blocking("the refusal is in the log", LIMIT, || command_json(&scene, &refusals).as_array().unwrap().len() == 1);
    let event = &command_json(&scene, &refusals)[0];
    assert_eq!((&event["reason"], &event["presentation"]["claims"]["branch"]), (&json!("SUBJECT_NOT_TRUSTED"), &json!("dev")));
    assert!(!event.to_string().contains("octocat"), "nothing that no condition reads (SECURITY 75): {event}");

    // What was wrong is mended, and the old refusal tells so.
    update(&scene, &["--condition", r#"{"claim": "branch", "equals": "dev"}"#]);
    let (code, tree, _) = command(&scene, &explain);
    assert!(code == Some(0) && tree.contains("; now accepted"), "{tree}");
    let unknown = command(&scene, &["auth", "explain", "--request-id", "nobody-was-told-this"]);
    assert!(unknown.0 == Some(1) && unknown.2.contains("RESOURCE_NOT_FOUND"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_previewed_against_what_was_exchanged() {
    let scene = Scene::in_deployment(shared()).await;
    assert_eq!(present(&scene, &[("run_id", json!("preview-1"))]).await.status, 200);
    let subject = scene.claims().get("sub").unwrap().as_str().unwrap().to_owned();
    let dry_run = |more: &[&str]| update(&scene, &[more, ["--dry-run", "--dry-run-output", "json"].as_slice()].concat());
    let (code, results, _) = dry_run(&["--subject-match", "org:my-org:vault:another"]);
    let preview: Value = serde_json::from_str(&results).unwrap();
    assert_eq!((code, &preview["newly_refused"], &preview["affected"][0]["subject"]), (Some(2), &json!(1), &json!(subject)));

    let (code, results, _) = dry_run(&["--condition", r#"{"claim": "attempt", "equals": 1}"#]);
    let preview: Value = serde_json::from_str(&results).unwrap();
    assert_eq!((code, &preview["undecided"]), (Some(2), &json!(1)), "{preview}");

    let (code, results, messages) = dry_run(&["--subject-match", &subject, "--subject-match", "org:my-org:vault:more"]);
    let preview: Value = serde_json::from_str(&results).unwrap();
    assert_eq!((code, &preview["unchanged"]), (Some(0), &json!(1)), "{preview}{messages}");
    // Nothing of it was done.
    assert_eq!(present(&scene, &[("run_id", json!("preview-2"))]).await.status, 200);

    let remove = ["auth", "trust-relationships", "remove", &scene.trust.trust_relationship_id, "--dry-run"];
    let (code, table, messages) = command(&scene, &remove);
    assert!(code == Some(2) && table.contains("newly refused") && messages.contains("2 newly refused"), "{table}{messages}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_tells_how_relationships_are_used() {
    let scene = Scene::in_deployment(shared()).await;
    for run in 0..3 {
        assert_eq!(present(&scene, &[("run_id", json!(format!("report-{run}")))]).await.status, 200);
    }
    let report = command_json(&scene, &["auth", "trust-relationships", "report", "--all", "-o", "json"]);
    let review = &report[0];
    assert_eq!((&review["trust_relationship_id"], &review["exchanges"]), (&json!(scene.trust.trust_relationship_id), &json!(3)));
    assert!(review["last_use_time"].is_string(), "{report}");
    let (code, table, messages) = command(&scene, &["auth", "trust-relationships", "report", "--all", "--window", "1h"]);
    assert!(code == Some(0) && table.contains(&scene.trust.trust_relationship_id), "{table}{messages}");
}
