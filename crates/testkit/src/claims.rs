//! Valid claims as real issuers make them, to start from: a test changes one thing.
//!
//! Each provider's function gives every claim the JSON type that the provider gives it: ids that are strings of digits, booleans
//! that are strings, nulls, arrays, names with dots and slashes. [`layouts`] adds the headers and the keys.

mod clouds;
mod delivery;
mod layout;
mod platforms;

use std::time::Duration;

use countersign_domain::values::time::Timestamp;
use serde_json::{Map, Value};

pub use self::clouds::{COGNITO_ISSUER, aks, azure, cognito, google, kubernetes, sts};
pub use self::delivery::{
    GITHUB_ISSUER, RWX_ISSUER, buildkite, circleci, github, github_immutable, gitlab, rwx, spacelift, terraform,
};
pub use self::layout::{Layout, layouts};
pub use self::platforms::{meshstack, meshstack_runner, okta, spiffe};

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

#[cfg(test)]
mod tests {
    use countersign_domain::exchange::claims::Claims;
    use countersign_domain::trust::preset::{Preset, TokenIds};
    use countersign_domain::values::replay_policy::ReplayPolicy;
    use countersign_domain::values::token_type::TokenType;

    use super::*;

    fn now() -> Timestamp {
        crate::clock::NOON.parse().unwrap()
    }

    #[test]
    fn tokens_of_some_have_no_id() {
        for claims in [rwx("a", now()), cognito("eu-west-1:pool", now()), circleci(now())] {
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
    fn layouts_keep_to_their_issuers_paths() {
        let layouts = layouts("https://gateway.example", now());
        let path = |name: &str| layouts.iter().find(|layout| layout.name == name).unwrap().issuer_path.as_str();
        assert_eq!((path("RWX"), path("GitLab")), ("/mint", ""));
        assert_eq!(path("Azure"), "/c3c8f6a1-5b2d-4e7f-9a0b-1c2d3e4f5a6b/");
        let names: std::collections::BTreeSet<_> = layouts.iter().map(|layout| layout.name).collect();
        assert_eq!(names.len(), layouts.len());
    }

    #[test]
    fn layouts_are_what_presets_say_of_them() {
        for layout in layouts("https://gateway.example", now()) {
            let id = match layout.name {
                "RWX" => "rwx",
                "GitHub, names" | "GitHub, names and ids" => "github-actions",
                "GitLab" => "gitlab",
                "Buildkite" => "buildkite",
                "CircleCI" => "circleci",
                "Spacelift" => "spacelift",
                "Terraform" => "terraform-cloud",
                "Cognito" => "aws-cognito",
                "AWS STS" => "aws-sts",
                "Azure" => "azure",
                "Azure, a cluster" | "Kubernetes" => "kubernetes",
                "Google" => "google",
                "meshStack" | "meshStack, a runner" => "meshstack",
                "SPIFFE" => "spiffe",
                // Has no preset: what its subjects are is for its customers to say.
                "Okta" => continue,
                name => panic!("{name} has no preset"),
            };
            let preset = Preset::find(id).unwrap();
            let claims = Claims::from_members(layout.claims.members()).unwrap();
            assert!(preset.issuer.fits(&claims.issuer.parse().unwrap()), "{}", layout.name);
            assert!(preset.form_of(claims.subject.as_str()).is_some(), "{}: {}", layout.name, claims.subject);
            assert!(preset.algorithms.contains(&layout.algorithm), "{}", layout.name);
            assert!(preset.token_types.contains(&layout.token_type().map(TokenType::new)), "{}", layout.name);
            assert!(!layout.is_reused || preset.replay_policy == ReplayPolicy::Reusable, "{}", layout.name);
            match preset.token_ids {
                TokenIds::Always => assert!(claims.token_id.is_some(), "{}", layout.name),
                TokenIds::Never => assert!(claims.token_id.is_none(), "{}", layout.name),
                TokenIds::Sometimes => {}
            }
            let lifetime = claims.expires_at.duration_since(claims.issued_at).unsigned_abs();
            assert!(lifetime <= preset.max_token_lifetime, "{}", layout.name);
        }
    }

    #[test]
    fn one_thing_changes_at_a_time() {
        let claims = rwx("a", now());
        assert_eq!(claims.clone().with("sub", "x").with("sub", claims.get("sub").unwrap().clone()), claims);
        assert_eq!(claims.without("aud").get("aud"), None);
    }
}
