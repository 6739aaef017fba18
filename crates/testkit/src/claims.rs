//! Valid claims as real issuers make them, to start from: a test changes one thing.

use std::time::Duration;

use countersign_domain::time::Timestamp;
use serde_json::{Map, Value, json};

/// The claims of a token to be.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimSet(Map<String, Value>);

impl ClaimSet {
    /// The claims that every issuer sets: `iss`, `sub`, `aud`, `iat`, and `exp` five minutes later.
    pub fn new(issuer: &str, subject: &str, audience: &str, now: Timestamp) -> Self {
        let now = now.as_second();
        Self(Map::new()).with("iss", issuer).with("sub", subject).with("aud", audience).with("iat", now).with("exp", now + 300)
    }

    /// With a claim set or replaced.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Without a claim.
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// Issued at this time; what `iat`, `nbf` and `exp` are to each other stays as it is.
    pub fn issued_at(mut self, time: Timestamp) -> Self {
        let shift = time.as_second() - self.0["iat"].as_i64().expect("`iat` is a whole number");
        for name in ["iat", "nbf", "exp", "auth_time"] {
            if let Some(seconds) = self.0.get(name).and_then(Value::as_i64) {
                self.0.insert(name.to_owned(), (seconds + shift).into());
            }
        }
        self
    }

    /// Living for this long from its `iat`.
    pub fn lasting(self, lifetime: Duration) -> Self {
        let issued = self.0["iat"].as_i64().expect("`iat` is a whole number");
        self.with("exp", issued + i64::try_from(lifetime.as_secs()).expect("a lifetime of a token"))
    }

    /// A claim.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The members, for code that takes claims apart.
    pub fn members(&self) -> Map<String, Value> {
        self.0.clone()
    }

    /// The claims as the payload of a token.
    pub fn to_json(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }
}

/// The issuer that all customers of RWX share.
pub const RWX_ISSUER: &str = "https://cloud.rwx.com/mint";
/// The issuer of GitHub Actions.
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
/// The issuer that all customers of Amazon Cognito share.
pub const COGNITO_ISSUER: &str = "https://cognito-identity.amazonaws.com";

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
        .with("ref", "refs/heads/main")
        .with("ref_type", "branch")
        .with("repository", "octo-org/octo-repo")
        .with("repository_id", "74")
        .with("repository_owner", "octo-org")
        .with("repository_owner_id", "65")
        .with("workflow", "deploy")
        .with("event_name", "push")
        .with("run_id", "6290313475")
        .with("run_attempt", "1")
}

/// The developer identity that Amazon Cognito gives a run of a workspace. To be signed as RS512 with `typ: JWS`. No `jti`, no
/// `nbf`; `amr` is an array.
pub fn cognito(audience: &str, now: Timestamp) -> ClaimSet {
    let identity = "eu-west-1:7d3b6c1e-2f48-4a0b-9c57-8e1f0a2b3c4d";
    ClaimSet::new(COGNITO_ISSUER, identity, audience, now)
        .with("amr", json!(["authenticated", "login.example", format!("login.example:{audience}:my-workspace")]))
        .with("https://aws.amazon.com/tags", json!({ "principal_tags": { "team": ["deploy"] } }))
        .lasting(Duration::from_mins(15))
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

/// A building block run of meshStack, in the newer form of its subject.
pub fn meshstack(audience: &str, now: Timestamp) -> ClaimSet {
    let definition = "4b8c2d1e-7f3a-4960-8e5d-0a9c6b3f1e27";
    let subject = format!("system:serviceaccount:my-meshstack:workspace.my-workspace.buildingblockdefinition.{definition}");
    ClaimSet::new("https://meshstack.example", &subject, audience, now)
        .with("nbf", now.as_second())
        .with("jti", "a3e1c5d7-2b4f-4860-9d8e-7f6a5b4c3d21")
}

/// A pod with a projected Kubernetes token: an array of audiences and a nested object.
pub fn kubernetes(audience: &str, now: Timestamp) -> ClaimSet {
    ClaimSet::new("https://kubernetes.default.svc.cluster.local", "system:serviceaccount:deploy:runner", audience, now)
        .with("aud", json!([audience]))
        .with("jti", "6c5d4e3f-2a1b-4c9d-8e7f-0a1b2c3d4e5f")
        .with("nbf", now.as_second())
        .with(
            "kubernetes.io",
            json!({
                "namespace": "deploy",
                "pod": { "name": "runner-0", "uid": "0f1e2d3c-4b5a-4968-8776-5a4b3c2d1e0f" },
                "serviceaccount": { "name": "runner", "uid": "9a8b7c6d-5e4f-4321-8fed-cba987654321" },
            }),
        )
        .lasting(Duration::from_hours(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        crate::clock::NOON.parse().unwrap()
    }

    #[test]
    fn tokens_of_rwx_and_cognito_have_no_id() {
        for claims in [rwx("a", now()), cognito("eu-west-1:pool", now())] {
            assert_eq!(claims.get("jti"), None);
            assert_eq!(claims.get("nbf"), None);
        }
    }

    #[test]
    fn moving_the_issue_keeps_the_distances() {
        let later = now() + jiff::SignedDuration::from_hours(1);
        let (before, after) = (github("a", now()), github("a", now()).issued_at(later));
        for name in ["iat", "nbf", "exp"] {
            let seconds = |claims: &ClaimSet| claims.get(name).and_then(Value::as_i64).unwrap();
            assert_eq!(seconds(&after) - seconds(&before), 3_600, "{name}");
        }
    }

    #[test]
    fn one_thing_changes_at_a_time() {
        let claims = rwx("a", now());
        assert_eq!(claims.clone().with("sub", "x").with("sub", claims.get("sub").unwrap().clone()), claims);
        assert_eq!(claims.without("aud").get("aud"), None);
    }
}
