//! What issuer-service checks before it signs an access token: that it is one, and nothing else.
//!
//! The claims are made by the gateway ([`access_token`](crate::exchange::access_token)) and checked here by separate code, so that neither
//! can make a signing oracle of the other. Times and issuer are set here.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::exchange::lineage::Lineage;
use crate::trust::trust_relationship::TrustRelationshipSettings;
use crate::values::id::{TrustRelationshipId, WorkspaceId};
use crate::values::issuer_url::IssuerUrl;
use crate::values::name::{AccessTokenSubject, Audience, Scope, TokenId};
use crate::values::time::Timestamp;

/// The claims that are set here and by nobody else.
const SET_HERE: [&str; 4] = ["exp", "iat", "iss", "nbf"];

/// Members that make something else of a token: an ID token (OpenID Connect Core 1.0), a security event or logout token (RFC 8417).
const OF_OTHER_TOKENS: [&str; 6] = ["at_hash", "c_hash", "events", "nonce", "s_hash", "toe"];

/// 128 bits in base64url.
const MIN_TOKEN_ID_LENGTH: usize = 22;

/// Claims that are those of an access token. Made by [`CheckedAccessToken::check`] only.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedAccessToken {
    claims: Map<String, Value>,
    duration: Duration,
    lineage: Option<Lineage>,
}

/// Why a set of claims is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAccessToken {
    /// A required member is missing or of the wrong type.
    #[error("`{0}` is missing or not what RFC 9068 asks for")]
    Member(&'static str),
    /// A member that only issuer-service sets.
    #[error("`{0}` is set by issuer-service")]
    SetHere(&'static str),
    /// A member of another kind of token.
    #[error("`{0}` belongs to another kind of token")]
    OfAnotherToken(&'static str),
    /// A subject outside of the workspace.
    #[error("`sub` does not belong to `workspace_id`")]
    SubjectOfAnotherWorkspace,
    /// Neither scope nor grant.
    #[error("neither `scope` nor `authorization_details` gives anything")]
    GivesNothing,
    /// A duration that no relationship can have.
    #[error("`duration` must be whole seconds, 1 s to 12 h")]
    Duration,
}

impl CheckedAccessToken {
    /// The longest an access token lives, whatever the gateway says.
    pub const MAX_DURATION: Duration = TrustRelationshipSettings::MAX_TOKEN_DURATION;

    /// Checks the claims that a gateway wants signed, and how long the token shall live.
    pub fn check(claims: Map<String, Value>, duration: Duration) -> Result<Self, NotAnAccessToken> {
        if let Some(name) = SET_HERE.into_iter().find(|name| claims.contains_key(*name)) {
            return Err(NotAnAccessToken::SetHere(name));
        }
        if let Some(name) = OF_OTHER_TOKENS.into_iter().find(|name| claims.contains_key(*name)) {
            return Err(NotAnAccessToken::OfAnotherToken(name));
        }
        let subject: AccessTokenSubject = text(&claims, "sub")?;
        let workspace_id: WorkspaceId = text(&claims, "workspace_id")?;
        text::<TrustRelationshipId>(&claims, "client_id")?;
        let token_id: TokenId = text(&claims, "jti")?;
        if token_id.as_str().len() < MIN_TOKEN_ID_LENGTH {
            return Err(NotAnAccessToken::Member("jti"));
        }
        check_audience(&claims)?;
        if !subject.as_str().strip_prefix(workspace_id.as_str()).is_some_and(|rest| rest.starts_with('/')) {
            return Err(NotAnAccessToken::SubjectOfAnotherWorkspace);
        }
        if !(has_scopes(&claims)? | has_grants(&claims)?) {
            return Err(NotAnAccessToken::GivesNothing);
        }
        let read = |claim| Lineage::read(claim).ok_or(NotAnAccessToken::Member(Lineage::CLAIM));
        let lineage = claims.get(Lineage::CLAIM).map(read).transpose()?;
        if duration.subsec_nanos() != 0 || duration.is_zero() || duration > Self::MAX_DURATION {
            return Err(NotAnAccessToken::Duration);
        }
        Ok(Self { claims, duration, lineage })
    }

    /// The whole claims set, in the name of this issuer and from now on, and when the token expires: not after its line ends.
    pub fn complete(self, issuer_url: &IssuerUrl, now: Timestamp) -> (Map<String, Value>, Timestamp) {
        let Self { mut claims, duration, lineage } = self;
        let duration = lineage.map_or(duration, |lineage| duration.min(lineage.left(now)));
        let issued_at = now.as_second();
        let expires_at = issued_at.saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX));
        claims.insert("iss".to_owned(), issuer_url.as_str().into());
        claims.insert("iat".to_owned(), issued_at.into());
        claims.insert("nbf".to_owned(), issued_at.into());
        claims.insert("exp".to_owned(), expires_at.into());
        (claims, Timestamp::from_second(expires_at).unwrap_or(Timestamp::MAX))
    }
}

fn text<T: std::str::FromStr>(claims: &Map<String, Value>, name: &'static str) -> Result<T, NotAnAccessToken> {
    claims.get(name).and_then(Value::as_str).and_then(|text| text.parse().ok()).ok_or(NotAnAccessToken::Member(name))
}

fn check_audience(claims: &Map<String, Value>) -> Result<(), NotAnAccessToken> {
    let is_audience = |value: &Value| value.as_str().is_some_and(|text| text.parse::<Audience>().is_ok());
    let sound = match claims.get("aud") {
        Some(Value::Array(several)) => !several.is_empty() && several.iter().all(is_audience),
        Some(one) => is_audience(one),
        None => false,
    };
    if sound { Ok(()) } else { Err(NotAnAccessToken::Member("aud")) }
}

fn has_scopes(claims: &Map<String, Value>) -> Result<bool, NotAnAccessToken> {
    let Some(value) = claims.get("scope") else { return Ok(false) };
    let sound = value.as_str().is_some_and(|scopes| scopes.split(' ').all(|scope| scope.parse::<Scope>().is_ok()));
    if sound { Ok(true) } else { Err(NotAnAccessToken::Member("scope")) }
}

fn has_grants(claims: &Map<String, Value>) -> Result<bool, NotAnAccessToken> {
    let Some(value) = claims.get("authorization_details") else { return Ok(false) };
    // RFC 9396, section 2: objects, each with a `type`.
    let is_detail = |detail: &Value| detail.get("type").is_some_and(Value::is_string);
    let sound = value.as_array().is_some_and(|details| !details.is_empty() && details.iter().all(is_detail));
    if sound { Ok(true) } else { Err(NotAnAccessToken::Member("authorization_details")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace() -> String {
        WorkspaceId::from_random([1; 16]).to_string()
    }

    fn claims() -> Map<String, Value> {
        let claims = json!({
            "sub": format!("{}/ti_x/org:a", workspace()),
            "aud": "https://api.example",
            "jti": "CQkJCQkJCQkJCQkJCQkJCQ",
            "client_id": TrustRelationshipId::from_random([2; 16]).as_str(),
            "scope": "read deploy",
            "authorization_details": [{"type": "vault", "actions": ["get"]}],
            "workspace_id": workspace(),
            "policy_revision": 7,
        });
        claims.as_object().unwrap().clone()
    }

    const HOUR: Duration = Duration::from_hours(1);

    #[track_caller]
    fn check(change: impl FnOnce(&mut Map<String, Value>), expected: Result<(), NotAnAccessToken>) {
        let mut claims = claims();
        change(&mut claims);
        assert_eq!(CheckedAccessToken::check(claims, HOUR).map(|_| ()), expected);
    }

    #[test]
    fn s54_an_access_token_is_completed_with_issuer_and_times() {
        let checked = CheckedAccessToken::check(claims(), HOUR).unwrap();
        let now = "2026-11-20T10:00:00.9Z".parse().unwrap();
        let (signed, expires_at) = checked.complete(&"https://gateway.example".parse().unwrap(), now);
        assert_eq!(expires_at, "2026-11-20T11:00:00Z".parse().unwrap());
        for (name, value) in [
            ("iss", json!("https://gateway.example")),
            ("iat", json!(1_795_168_800)),
            ("nbf", json!(1_795_168_800)),
            ("exp", json!(1_795_172_400)),
        ] {
            assert_eq!(signed[name], value, "{name}");
        }
        assert!(claims().iter().all(|(name, value)| signed[name] == *value), "the rest as the gateway wrote it");
    }

    #[test]
    fn s54_what_is_set_here_cannot_be_brought_along() {
        for name in SET_HERE {
            check(|claims| _ = claims.insert(name.to_owned(), json!(1)), Err(NotAnAccessToken::SetHere(name)));
        }
    }

    #[test]
    fn s54_nothing_but_an_access_token_is_signed() {
        for name in OF_OTHER_TOKENS {
            check(|claims| _ = claims.insert(name.to_owned(), json!({})), Err(NotAnAccessToken::OfAnotherToken(name)));
        }
        for name in ["sub", "aud", "jti", "client_id", "workspace_id"] {
            check(|claims| _ = claims.remove(name), Err(NotAnAccessToken::Member(name)));
            for wrong in [json!(null), json!(7), json!(""), json!([]), json!({}), json!("a\nb"), json!([7])] {
                check(|claims| _ = claims.insert(name.to_owned(), wrong), Err(NotAnAccessToken::Member(name)));
            }
        }
        check(|claims| _ = claims.insert("jti".into(), json!("short")), Err(NotAnAccessToken::Member("jti")));
        check(|claims| _ = claims.insert("aud".into(), json!(["a", "b"])), Ok(()));
    }

    #[test]
    fn s54_a_subject_lies_in_its_workspace() {
        let foreign = WorkspaceId::from_random([9; 16]).to_string();
        for sub in ["org:a".to_owned(), format!("{foreign}/x"), workspace(), format!("{}x/y", workspace())] {
            check(|claims| _ = claims.insert("sub".into(), json!(sub)), Err(NotAnAccessToken::SubjectOfAnotherWorkspace));
        }
    }

    #[test]
    fn s14_the_longest_subject_of_another_issuer_fits() {
        let sub = |length: usize| format!("{}/ti_{}/{}", workspace(), "0".repeat(26), "x".repeat(length));
        check(|claims| _ = claims.insert("sub".into(), json!(sub(1_024))), Ok(()));
        check(|claims| _ = claims.insert("sub".into(), json!(sub(1_025))), Err(NotAnAccessToken::Member("sub")));
    }

    #[test]
    fn s55_a_token_that_gives_nothing_is_not_signed() {
        check(|claims| _ = claims.remove("scope"), Ok(()));
        check(|claims| _ = claims.remove("authorization_details"), Ok(()));
        let neither =
            |claims: &mut Map<String, Value>| claims.retain(|name, _| name != "scope" && name != "authorization_details");
        check(neither, Err(NotAnAccessToken::GivesNothing));
        for wrong in [json!(""), json!("a  b"), json!(["a"]), json!(null)] {
            check(|claims| _ = claims.insert("scope".into(), wrong), Err(NotAnAccessToken::Member("scope")));
        }
        for wrong in [json!([]), json!([{}]), json!("x"), json!([{"type": 7}])] {
            let name = "authorization_details";
            check(|claims| _ = claims.insert(name.into(), wrong), Err(NotAnAccessToken::Member(name)));
        }
    }

    #[test]
    fn s54_no_gateway_makes_a_token_outlive_its_line() {
        let with = |lineage: Value| {
            let mut claims = claims();
            claims.insert(Lineage::CLAIM.to_owned(), lineage);
            CheckedAccessToken::check(claims, HOUR)
        };
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let began = now.as_second() - 23 * 3_600 - 1_800;
        let lineage = json!({"auth_time": began, "depth": 1});
        let (signed, expires_at) = with(lineage.clone()).unwrap().complete(&"https://gateway.example".parse().unwrap(), now);
        assert_eq!((&signed["exp"], expires_at.as_second()), (&json!(began + 86_400), began + 86_400));
        assert_eq!(signed[Lineage::CLAIM], lineage);
        for wrong in [json!(null), json!({"auth_time": began, "depth": 9}), json!({"depth": 1})] {
            assert_eq!(with(wrong), Err(NotAnAccessToken::Member(Lineage::CLAIM)));
        }
    }

    #[test]
    fn s54_no_gateway_makes_a_token_outlive_the_cap() {
        for good in [1, 60, 43_200] {
            assert!(CheckedAccessToken::check(claims(), Duration::from_secs(good)).is_ok());
        }
        for bad in [Duration::ZERO, Duration::from_secs(43_201), Duration::from_millis(1500), Duration::MAX] {
            assert_eq!(CheckedAccessToken::check(claims(), bad), Err(NotAnAccessToken::Duration));
        }
    }
}
