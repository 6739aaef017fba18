//! The `countersign` command against separate services.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

use countersign_testkit::wait;
use countersign_tests::deployment::Deployment;
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::deployments::{Scene, shared};

/// Runs a command line; the result is what it printed to standard output.
fn run(deployment: &Deployment, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = deployment.command_line(arguments).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap().trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn relationships_are_added_listed_updated_and_removed() {
    let scene = Scene::in_deployment(shared()).await;
    let workspace = scene.trust.workspace_id.as_str();
    let relationships =
        |arguments: &[&str]| run(shared(), &[&["--workspace", workspace, "auth", "trust-relationships"], arguments].concat());
    let issuer = scene.provider.issuer_url();
    let grant = r#"{"resource_type":"cluster","resource_id":"staging","actions":["deploy"]}"#;
    let id = relationships(&["add", "--issuer", issuer, "--subject-match", "org:my-org:vault:staging", "--grant", grant]);
    assert!(id.starts_with("tr_"), "{id}");

    let listed = |id: &str| {
        let list: Value = serde_json::from_str(&relationships(&["list", "-o", "json"])).unwrap();
        list.as_array().unwrap().iter().find(|relationship| relationship["id"] == id).cloned()
    };
    assert_eq!(listed(&id).unwrap()["subject_matches"][0], "org:my-org:vault:staging");
    relationships(&["update", "--id", &id, "--subject-match", "org:my-org:vault:test"]);
    let updated = listed(&id).unwrap();
    assert_eq!(updated["subject_matches"][0], "org:my-org:vault:test");
    assert_eq!(updated["grants"][0]["resource_id"], "staging", "flags that were not given change nothing");
    relationships(&["remove", &id]);
    assert_eq!(listed(&id), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preset_builds_issuer_and_relationship_and_refuses_what_could_never_match() {
    let scene = Scene::in_deployment(shared()).await;
    let workspace = ["--workspace", scene.trust.workspace_id.as_str()];
    let add = ["auth", "trust-relationships", "add", "--scope", "deploy", "--preset"];
    let json =
        |arguments: &[&str]| -> Value { serde_json::from_str(&run(shared(), &[&workspace[..], arguments].concat())).unwrap() };
    let id = run(shared(), &[&workspace[..], &add, &["rwx", "--org", "my-org", "--vault", "*"]].concat());
    let relationships = json(&["auth", "trust-relationships", "list", "-o", "json"]);
    let added = relationships.as_array().unwrap().iter().find(|relationship| relationship["id"] == id.as_str()).unwrap();
    assert_eq!(added["subject_matches"], serde_json::json!(["org:my-org:vault:*"]));
    let issuers = json(&["trusted-issuers", "list", "-o", "json"]);
    let issuer = issuers.as_array().unwrap().iter().find(|issuer| issuer["id"] == added["trusted_issuer_id"]).unwrap();
    assert_eq!((&issuer["preset"], &issuer["issuer_url"]), (&"rwx".into(), &"https://cloud.rwx.com/mint".into()));
    assert_eq!(issuer["algorithms"], serde_json::json!(["RS256"]));
    for never in [&["rwx", "--org", "a:b"][..], &["rwx", "--vault", "deploy"], &["rwx", "--subject-match", "org:my-org"]] {
        let refused = shared().command_line(&[&workspace[..], &add, never].concat()).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{never:?}: {}", String::from_utf8_lossy(&refused.stderr));
    }
    // What the command line does not look at the service refuses.
    let id = issuer["id"].as_str().unwrap();
    let update = [&workspace[..], &["trusted-issuers", "update", id, "--preset", "google"]].concat();
    let refused = shared().command_line(&update).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("trusted_issuer.preset"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_is_issued_bare_and_exchanged_and_the_access_token_is_kept_private() {
    let scene = Scene::in_deployment(shared()).await;
    let workspace = scene.trust.workspace_id.as_str();
    let issuer = scene.operator.create_rwx_issuer(workspace, &["ES256"]).await;
    scene.operator.trust_in(workspace, &issuer.issuer_url).await;

    let audience = shared().public_url();
    let issue = ["--workspace", workspace, "auth", "issue-id-token", "--audience", &audience];
    let attributes = ["--attribute", "org=my-org", "--attribute", "vault=deploy-vault"];
    let id_token = run(shared(), &[issue.as_slice(), &attributes].concat());
    assert_eq!(id_token.split('.').count(), 3, "only the token is printed: {}", id_token.len());

    let token_file = shared().file("id-token");
    std::fs::write(&token_file, &id_token).unwrap();
    let exchange = ["auth", "exchange-oidc-token", "--token-file", token_file.to_str().unwrap(), "--tenant_id", workspace];
    assert_eq!(run(shared(), &exchange), "My workspace");

    let mut stored = Vec::new();
    let mut folders = vec![shared().file("home")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { stored.push(path) }
        }
    }
    assert!(!stored.is_empty(), "the access token is stored");
    for path in stored {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }

    let refused = shared().command_line(&exchange).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "the same token again");
    assert!(refused.stdout.is_empty());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SUBJECT_TOKEN_REPLAYED"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_is_written_to_a_private_file_once_or_for_as_long_as_the_command_runs() {
    let scene = Scene::in_deployment(shared()).await;
    let workspace = scene.trust.workspace_id.as_str();
    scene.operator.create_rwx_issuer(workspace, &["ES256"]).await;
    let file = shared().file("tokens-of-a-job/id-token");
    let issue = ["--workspace", workspace, "auth", "issue-id-token", "--audience", "sts.amazonaws.com"];
    let attributes = ["--attribute", "org=my-org", "--attribute", "vault=deploy-vault"];
    let arguments = [issue.as_slice(), &attributes, &["--to", file.to_str().unwrap()]].concat();

    assert_eq!(run(shared(), &arguments), "", "the token goes to the file alone");
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!((written.split('.').count(), written.trim()), (3, written.as_str()), "the bare token, no line feed");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let arguments = [arguments.as_slice(), &["--watch"]].concat();
    let mut watching = shared().command_line(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    wait::until("another token is in the file", async || std::fs::read_to_string(&file).unwrap() != written).await;
    assert_eq!(watching.try_wait().unwrap(), None, "it goes on");
    rustix::process::kill_process(Pid::from_child(&watching), Signal::TERM).unwrap();
    let ended = watching.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(!String::from_utf8_lossy(&ended.stderr).contains(&std::fs::read_to_string(&file).unwrap()), "no token in messages");
}
