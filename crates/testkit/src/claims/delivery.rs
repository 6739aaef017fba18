//! Claims of systems that build, test and deploy.

use std::time::Duration;

use countersign_domain::values::time::Timestamp;
use serde_json::{Value, json};

use super::ClaimSet;

/// The issuer that all customers of RWX share.
pub const RWX_ISSUER: &str = "https://cloud.rwx.com/mint";
/// The issuer of GitHub Actions.
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

const COMMIT: &str = "714a629c0b401fdce83e847fc9589983fc6f46bc";

/// A task of RWX reading the vault `deploy-vault` of `my-org`. No `jti`, no `nbf`.
pub fn rwx(audience: &str, now: Timestamp) -> ClaimSet {
    ClaimSet::new(RWX_ISSUER, "org:my-org:vault:deploy-vault", audience, now)
        .with("run_id", "c9d0a1b2e3f4")
        .with("run_url", "https://cloud.rwx.com/mint/my-org/runs/c9d0a1b2e3f4")
        .with("task_id", "0123456789ab")
        .with("task_url", "https://cloud.rwx.com/mint/my-org/tasks/0123456789ab")
}

/// A job of GitHub Actions on the main branch. Numeric ids are strings; `nbf` is back-dated.
pub fn github(audience: &str, now: Timestamp) -> ClaimSet {
    ClaimSet::new(GITHUB_ISSUER, "repo:octo-org/octo-repo:ref:refs/heads/main", audience, now)
        .with("jti", "5f8e1a7c-3b9d-4e2f-8a6c-1d0b7e9f4a23")
        .with("nbf", now.as_second() - 300)
        .with("actor", "octocat")
        .with("actor_id", "12")
        .with("base_ref", "")
        .with("check_run_id", "96193868770")
        .with("event_name", "push")
        .with("head_ref", "")
        .with("job_workflow_ref", "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main")
        .with("job_workflow_sha", COMMIT)
        .with("ref", "refs/heads/main")
        .with("ref_protected", "true")
        .with("ref_type", "branch")
        .with("repository", "octo-org/octo-repo")
        .with("repository_id", "74")
        .with("repository_owner", "octo-org")
        .with("repository_owner_id", "65")
        .with("repository_visibility", "private")
        .with("run_attempt", "1")
        .with("run_id", "6290313475")
        .with("run_number", "10")
        .with("runner_environment", "github-hosted")
        .with("sha", COMMIT)
        .with("workflow", "deploy")
        .with("workflow_ref", "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main")
        .with("workflow_sha", COMMIT)
}

/// The same job with the form of subject that holds the ids of owner and repository, in an environment with a colon.
pub fn github_immutable(audience: &str, now: Timestamp) -> ClaimSet {
    github(audience, now)
        .with("sub", "repo:octo-org@65/octo-repo@74:environment:eu%3Aproduction")
        .with("environment", "eu:production")
        .with("environment_node_id", "EN_kwDOAA")
}

/// A job of GitLab CI. Numeric ids and booleans are strings, but for the runner's; `nbf` is back-dated by five seconds.
pub fn gitlab(audience: &str, now: Timestamp) -> ClaimSet {
    let subject = "project_path:my-group/my-project:ref_type:branch:ref:main";
    ClaimSet::new("https://gitlab.com", subject, audience, now)
        .with("jti", "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b")
        .with("nbf", now.as_second() - 5)
        .with("namespace_id", "72")
        .with("namespace_path", "my-group")
        .with("project_id", "20")
        .with("project_path", "my-group/my-project")
        .with("user_id", "1")
        .with("user_login", "sample-user")
        .with("user_email", "sample-user@example.com")
        .with("user_access_level", "developer")
        .with("user_identities", json!([{ "provider": "github", "extern_uid": "2435223452345" }]))
        .with("pipeline_id", "574")
        .with("pipeline_source", "push")
        .with("job_id", "302")
        .with("ref", "main")
        .with("ref_type", "branch")
        .with("ref_path", "refs/heads/main")
        .with("ref_protected", "true")
        .with("groups_direct", json!(["my-group/my-subgroup", "my-other-group"]))
        .with("environment", "production")
        .with("environment_protected", "false")
        .with("environment_action", "start")
        .with("deployment_tier", "production")
        .with("runner_id", 1)
        .with("runner_environment", "gitlab-hosted")
        .with("sha", COMMIT)
        .with("project_visibility", "private")
        .with("ci_config_ref_uri", "gitlab.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main")
        .with("ci_config_sha", COMMIT)
        .lasting(Duration::from_hours(1))
}

/// A job of Buildkite without a step key: the claim is null, and the subject ends where the key would be.
pub fn buildkite(audience: &str, now: Timestamp) -> ClaimSet {
    let subject = format!("organization:acme-inc:pipeline:super-duper-app:ref:refs/heads/main:commit:{COMMIT}:step:");
    ClaimSet::new("https://agent.buildkite.com", &subject, audience, now)
        .with("jti", "0184990a-4550-7000-8000-000000000001")
        .with("nbf", now.as_second())
        .with("organization_id", "0184990a-477b-4fa8-9968-496074483cec")
        .with("organization_slug", "acme-inc")
        .with("pipeline_id", "0184990a-4782-42b5-afc1-16715b10b1b0")
        .with("pipeline_slug", "super-duper-app")
        .with("build_id", "019583d7-3737-4e38-af67-f7cc356bd580")
        .with("build_number", 1)
        .with("build_branch", "main")
        .with("build_tag", Value::Null)
        .with("build_commit", COMMIT)
        .with("build_source", "webhook")
        .with("step_key", Value::Null)
        .with("job_id", "0184990a-477b-4fa8-9968-496074483cee")
        .with("agent_id", "0184990a-4782-42b5-afc1-16715b10b8ff")
        .with("runner_environment", "self-hosted")
}

/// The organization whose jobs [`circleci`] tells of; its id is in the issuer, and is the audience.
pub(super) const CIRCLECI_ORGANIZATION: &str = "3e5a1f9c-8b2d-4c70-9e6f-1a2b3c4d5e6f";

/// A job of CircleCI. Names of claims hold dots and a slash. No `jti`, no `nbf`.
pub fn circleci(now: Timestamp) -> ClaimSet {
    let (project, user) = ("44fc5d2d-186d-44e6-9364-56d19b0a5ecb", "7cf67bf2-cf99-4cc7-8ae5-a0daf86ae02b");
    let issuer = format!("https://oidc.circleci.com/org/{CIRCLECI_ORGANIZATION}");
    let subject = format!("org/{CIRCLECI_ORGANIZATION}/project/{project}/user/{user}");
    ClaimSet::new(&issuer, &subject, CIRCLECI_ORGANIZATION, now)
        .with("oidc.circleci.com/org-id", CIRCLECI_ORGANIZATION)
        .with("oidc.circleci.com/project-id", project)
        .with("oidc.circleci.com/context-ids", json!(["a74579f1-2e7d-451e-b009-5c082ad2729e"]))
        .with("oidc.circleci.com/job-id", "5d1b6e1f-3f5b-4e1b-9a44-0c2d9e8f7a6b")
        .with("oidc.circleci.com/pipeline-id", "1c2d3e4f-5a6b-4c7d-8e9f-0a1b2c3d4e5f")
        .with("oidc.circleci.com/pipeline-definition-id", "9f8e7d6c-5b4a-4938-8271-605f4e3d2c1b")
        .with("oidc.circleci.com/workflow-id", "0f1e2d3c-4b5a-4697-8889-9aabbccddeef")
        .with("oidc.circleci.com/vcs-origin", "github.com/octo-org/octo-repo")
        .with("oidc.circleci.com/vcs-ref", "refs/heads/main")
        .with("oidc.circleci.com/ssh-rerun", false)
        .lasting(Duration::from_hours(1))
}

/// A tracked run of a Spacelift stack, which writes. The audience is the account's bare host name.
pub fn spacelift(now: Timestamp) -> ClaimSet {
    let subject = "space:production-01:stack:infra:run_type:TRACKED:scope:write";
    ClaimSet::new("https://example.app.spacelift.io", subject, "example.app.spacelift.io", now)
        .with("jti", "01JB6Q3ZK8N4V7Y2M5T9X0R1CD")
        .with("nbf", now.as_second())
        .with("spaceId", "production-01")
        .with("callerType", "stack")
        .with("callerId", "infra")
        .with("runType", "TRACKED")
        .with("runId", "01JB6Q3ZK8RUN")
        .with("scope", "write")
        .lasting(Duration::from_hours(1))
}

/// The apply phase of a run of HCP Terraform, in a project whose name holds a space.
pub fn terraform(audience: &str, now: Timestamp) -> ClaimSet {
    let workspace = "organization:my-org:project:Default Project:workspace:my-workspace";
    ClaimSet::new("https://app.terraform.io", &format!("{workspace}:run_phase:apply"), audience, now)
        .with("jti", "1192426d-b525-4fde-9d42-f238be437bbd")
        .with("nbf", now.as_second() - 5)
        .with("terraform_organization_id", "org-GRNbCjYNpBB6NEH9")
        .with("terraform_organization_name", "my-org")
        .with("terraform_project_id", "prj-vegSA59s1XPwMr2t")
        .with("terraform_project_name", "Default Project")
        .with("terraform_workspace_id", "ws-mbsd5E3Ktt5Rg2Xm")
        .with("terraform_workspace_name", "my-workspace")
        .with("terraform_full_workspace", workspace)
        .with("terraform_run_id", "run-X3n1AUXNGWbfECsJ")
        .with("terraform_run_phase", "apply")
        .lasting(Duration::from_hours(2))
}
