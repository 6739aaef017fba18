//! `countersign apply` and `countersign export` against separate services.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Output, Stdio};

use countersign_proto::trust_v1::{ListTrustRelationshipsRequest, TrustRelationship};
use serde_json::Value;

use crate::deployments::{Scene, shared};

/// A workspace and a folder of files about it.
struct AsCode {
    scene: Scene<'static>,
    folder: PathBuf,
}

impl AsCode {
    /// With what the workspace holds in the folder.
    async fn exported(name: &str) -> Self {
        let scene = Scene::in_deployment(shared()).await;
        let folder = shared().file(name);
        std::fs::create_dir(&folder).unwrap();
        let this = Self { scene, folder };
        let exported = this.run(&["export", "--to", this.folder.to_str().unwrap()]);
        assert!(exported.status.success(), "{exported:?}");
        this
    }

    fn run(&self, arguments: &[&str]) -> Output {
        shared().command_line(&[&["--workspace", &self.scene.trust.workspace_id], arguments].concat()).output().unwrap()
    }

    /// Applies the folder; the exit code and what was printed.
    fn apply(&self, flags: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.run(&[&["apply", "-f", self.folder.to_str().unwrap()], flags].concat());
        (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.join(file), text).unwrap();
    }

    fn replace(&self, old: &str, new: &str) {
        let file = self.folder.join("trust-relationships.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(old), "{text}");
        std::fs::write(file, text.replace(old, new)).unwrap();
    }

    async fn relationships(&self) -> Vec<TrustRelationship> {
        let workspace_id = self.scene.trust.workspace_id.clone();
        let request = ListTrustRelationshipsRequest { workspace_id, ..ListTrustRelationshipsRequest::default() };
        let listed = self.scene.operator.trust_relationships().list_trust_relationships(request).await;
        listed.unwrap().into_inner().trust_relationships
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_applies_unchanged_and_a_plan_tells_narrower_from_broader() {
    let code = AsCode::exported("as-code-plan").await;
    assert_eq!(code.apply(&["--plan", "--prune", "--fail-on", "broader"]).0, Some(0));
    assert_eq!(code.apply(&["--prune"]).0, Some(0));
    let before = code.relationships().await;

    code.replace("org:my-org:vault:*", "org:my-org:vault:test");
    let (exit, text) = code.apply(&["--plan", "--fail-on", "broader"]);
    assert_eq!(exit, Some(2), "{text}");
    assert!(text.contains("narrower: subject_matches"), "{text}");
    assert_eq!(code.relationships().await, before, "a plan changes nothing");
    let (exit, text) = code.apply(&["--fail-on", "broader"]);
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(code.relationships().await[0].subject_matches, ["org:my-org:vault:test"]);

    code.replace("org:my-org:vault:test", "org:my-org:*");
    let (exit, text) = code.apply(&["--fail-on", "broader"]);
    assert_eq!(exit, Some(3), "{text}");
    assert_eq!(code.relationships().await[0].subject_matches, ["org:my-org:vault:test"], "what is forbidden is not done");
    let Output { status, stdout, .. } = code.run(&["apply", "-f", code.folder.to_str().unwrap(), "--plan", "-o", "json"]);
    let plan: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(status.code(), Some(2));
    let updated = plan["items"].as_array().unwrap().iter().find(|item| item["action"] == "update").unwrap();
    assert_eq!((&updated["change"], &updated["kind"]), (&"broader".into(), &"TrustRelationship".into()));

    code.replace("kind: TrustRelationship", "kind: TrustRelationship\nscope: [a]");
    let (exit, text) = code.apply(&["--plan"]);
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("trust-relationships.yaml: document 1: scope: there is no such field"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_make_a_workspace_and_prune_it() {
    let code = AsCode::exported("as-code-prune").await;
    code.write("trusted-issuers.yaml", "kind: TrustedIssuer\nissuer_url: https://issuer.example\nclock_skew: 10s\n");
    code.write(
        "trust-relationships.yaml",
        "kind: TrustRelationship
key: deploy
issuer_url: https://issuer.example
subject_matches: ['*']
claim_conditions:
  - {claim: /org/id, equals: 17}
  - {claim: ref, glob: 'refs/heads/*'}
cel_condition: attribute.team == 'core'
attribute_mapping: {team: assertion.team}
grants:
  - {resource_type: vault, resource_id: '*', actions: [read]}
expire_time: 2126-01-31T18:00:00Z
",
    );
    let (exit, text) = code.apply(&[]);
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(code.relationships().await.len(), 2, "nothing is deleted unless that is asked for");
    assert_eq!(code.apply(&["--plan"]).0, Some(0));

    let (exit, text) = code.apply(&["--prune"]);
    assert_eq!(exit, Some(0), "{text}");
    let left = code.relationships().await;
    assert_eq!(left.iter().map(|relationship| relationship.key.as_str()).collect::<Vec<_>>(), ["deploy"]);
    assert_eq!(left[0].claim_conditions.len(), 2);
    assert_eq!(code.apply(&["--plan", "--prune"]).0, Some(0));

    let exported = code.run(&["export"]);
    code.write("trusted-issuers.yaml", "");
    code.write("trust-relationships.yaml", &String::from_utf8(exported.stdout).unwrap());
    assert_eq!(code.apply(&["--plan", "--prune"]).0, Some(0));

    code.write("trust-relationships.yaml", "");
    let (exit, text) = code.apply(&["--prune"]);
    assert_eq!(exit, Some(1), "an empty folder deletes nothing: {text}");
    assert_eq!(code.relationships().await, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_changed_meanwhile_fails_alone() {
    let code = AsCode::exported("as-code-stale").await;
    let issuer = code.scene.provider.issuer_url();
    // The reasons of this plan are longer than a pipe holds, so that the command waits, with its plan made, until it is read.
    let document = |key: &str, letter: &str| {
        let subjects: Vec<String> = (0..64).map(|number| format!("  - {number}{}\n", letter.repeat(1000))).collect();
        format!(
            "kind: TrustRelationship\nkey: {key}\nissuer_url: {issuer}\nscopes: [deploy]\nsubject_matches:\n{}",
            subjects.concat()
        )
    };
    let documents = |letter| [document("first", letter), document("second", letter)].join("---\n");
    code.write("trust-relationships.yaml", &documents("a"));
    assert_eq!(code.apply(&[]).0, Some(0));
    code.write("trust-relationships.yaml", &documents("b"));

    let workspace = code.scene.trust.workspace_id.as_str();
    let mut command = shared().command_line(&["--workspace", workspace, "apply", "-f", code.folder.to_str().unwrap()]);
    let mut command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(command.stdout.take().unwrap());
    let mut text = String::new();
    printed.read_line(&mut text).unwrap();
    let first = code.relationships().await.into_iter().find(|relationship| relationship.key == "first").unwrap().id;
    let renamed = code.run(&["auth", "trust-relationships", "update", "--id", &first, "--display-name", "Changed meanwhile"]);
    assert!(renamed.status.success(), "{renamed:?}");
    printed.read_to_string(&mut text).unwrap();

    assert_eq!(command.wait().unwrap().code(), Some(1));
    assert!(text.contains("failed: update TrustRelationship first") && text.contains("ETAG_MISMATCH"), "no item failed");
    assert!(text.contains("done: update TrustRelationship second"), "the other item was not done");
    let subjects = |relationships: &[TrustRelationship], key: &str| {
        relationships.iter().find(|relationship| relationship.key == key).unwrap().subject_matches[0].clone()
    };
    let after = code.relationships().await;
    assert!(subjects(&after, "first").ends_with('a') && subjects(&after, "second").ends_with('b'));
    assert_eq!(code.apply(&[]).0, Some(0), "the next time it is done");
    assert_eq!(code.apply(&["--plan"]).0, Some(0));
}
