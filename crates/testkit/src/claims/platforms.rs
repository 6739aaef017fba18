//! Claims of platforms, of SPIFFE and of identity providers for people and machines.

use std::time::Duration;

use countersign_domain::values::time::Timestamp;
use serde_json::json;

use super::ClaimSet;

/// A building block run of meshStack, in the newer form of its subject.
pub fn meshstack(audience: &str, now: Timestamp) -> ClaimSet {
    let definition = "4b8c2d1e-7f3a-4960-8e5d-0a9c6b3f1e27";
    let subject = format!("system:serviceaccount:my-meshstack:workspace.my-workspace.buildingblockdefinition.{definition}");
    ClaimSet::new("https://meshstack.example", &subject, audience, now)
        .with("nbf", now.as_second())
        .with("jti", "a3e1c5d7-2b4f-4860-9d8e-7f6a5b4c3d21")
}

/// A runner of meshStack, in the older form of the subject, which names nobody but the runner.
pub fn meshstack_runner(audience: &str, now: Timestamp) -> ClaimSet {
    meshstack(audience, now).with("sub", "system:serviceaccount:my-meshstack:runner-7f6a5b4c")
}

/// A JWT-SVID of SPIFFE: an array of audiences, a URI as subject. No `jti`, no `nbf`.
pub fn spiffe(audience: &str, now: Timestamp) -> ClaimSet {
    ClaimSet::new("https://spire.example", "spiffe://trust.example/ns/deploy/sa/runner", audience, now)
        .with("aud", json!([audience]))
}

/// A service application of Okta with an access token of a custom authorization server. `ver` is a number, `scp` an array.
pub fn okta(audience: &str, now: Timestamp) -> ClaimSet {
    ClaimSet::new("https://example.okta.com/oauth2/default", "0oa1a2b3c4D5E6F7g8h9", audience, now)
        .with("ver", 1)
        .with("jti", "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE")
        .with("cid", "0oa1a2b3c4D5E6F7g8h9")
        .with("scp", json!(["deploy"]))
        .lasting(Duration::from_hours(1))
}
