//! What an access token says (RFC 9068).
//!
//! The gateway decides these claims; issuer-service adds `iss`, `iat`, `nbf` and `exp` under its own limits and signs.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;

use crate::exchange::claims::Claims;
use crate::exchange::decision::{Decision, access_token_subject};
use crate::exchange::granted_claims::{AudienceClaim, AuthorizationDetail, scope_text};
use crate::exchange::lineage::Lineage;
use crate::trust::policy::Attributes;
use crate::values::signature_algorithm::SignatureAlgorithm;

/// The `typ` header of an access token (RFC 9068, section 2.1).
pub const TOKEN_TYPE: &str = "at+jwt";
/// What access tokens are signed with. Every replica signs and verifies with it, so it cannot be changed in one step.
pub const ALGORITHM: SignatureAlgorithm = SignatureAlgorithm::Es256;

/// The `jti` of an access token: 128 random bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccessTokenId(String);

impl AccessTokenId {
    /// The id that these random bits make.
    pub fn from_random(bits: [u8; 16]) -> Self {
        Self(BASE64URL_NOPAD.encode(&bits))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccessTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The claims of an access token, less `iss`, `iat`, `nbf` and `exp`. Serialises to the JSON object to be signed.
#[derive(Debug, Clone, Serialize)]
pub struct AccessTokenClaims<'a> {
    sub: String,
    aud: AudienceClaim<'a>,
    jti: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_details: Vec<AuthorizationDetail<'a>>,
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    attributes: &'a Attributes,
    workspace_id: &'a str,
    policy_revision: i64,
    source_identity: SourceIdentity<'a>,
    /// Handed on from the token that was exchanged.
    #[serde(rename = "countersign_lineage", skip_serializing_if = "Option::is_none")]
    lineage: Option<Lineage>,
}

/// The identity that was exchanged, as its issuer wrote it.
#[derive(Debug, Clone, Serialize)]
struct SourceIdentity<'a> {
    issuer: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
}

impl<'a> AccessTokenClaims<'a> {
    /// What the access token of this decision says.
    pub fn new(decision: &'a Decision, source: &'a Claims, id: &'a AccessTokenId) -> Self {
        Self {
            sub: access_token_subject(decision, &source.subject),
            aud: AudienceClaim::from(decision.audiences.as_slice()),
            jti: id.as_str(),
            client_id: decision.trust_relationship_id.as_str(),
            scope: scope_text(&decision.scopes),
            authorization_details: decision.grants.iter().map(AuthorizationDetail::from).collect(),
            attributes: &decision.attributes,
            workspace_id: decision.workspace_id.as_str(),
            policy_revision: decision.policy_revision,
            source_identity: SourceIdentity {
                issuer: &source.issuer,
                subject: source.subject.as_str(),
                token_id: source.token_id.as_ref().map(crate::values::name::TokenId::as_str),
            },
            lineage: source.lineage,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::values::grant::Grant;
    use crate::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};

    fn decision() -> Decision {
        Decision {
            workspace_id: WorkspaceId::from_random([1; 16]),
            policy_revision: 7,
            trusted_issuer_id: TrustedIssuerId::from_random([2; 16]),
            trusted_issuer_revision: 1,
            trust_relationship_id: TrustRelationshipId::from_random([3; 16]),
            trust_relationship_revision: 1,
            audiences: vec!["https://api.example".parse().unwrap()],
            scopes: vec!["read".parse().unwrap(), "deploy".parse().unwrap()],
            grants: vec![Grant { resource_type: "vault".into(), resource_id: "*".into(), actions: vec!["get".into()] }],
            attributes: Attributes::new(),
            duration: Duration::from_hours(1),
            replay: None,
        }
    }

    fn source(subject: &str, extra: &Value) -> Claims {
        let Value::Object(mut members) = json!({
            "iss": "https://issuer.example", "sub": subject, "aud": "x", "iat": 1_000, "exp": 2_000, "jti": "t-1",
        }) else {
            unreachable!()
        };
        members.extend(extra.as_object().unwrap().clone());
        Claims::from_members(members).unwrap()
    }

    fn claims(decision: &Decision, source: &Claims) -> Value {
        serde_json::to_value(AccessTokenClaims::new(decision, source, &AccessTokenId::from_random([9; 16]))).unwrap()
    }

    #[test]
    fn s54_says_everything_that_rfc_9068_asks_for() {
        let decision = decision();
        let (workspace, issuer) = (decision.workspace_id.as_str(), decision.trusted_issuer_id.as_str());
        assert_eq!(
            claims(&decision, &source("org:a/b", &json!({}))),
            json!({
                "sub": format!("{workspace}/{issuer}/org:a/b"),
                "aud": "https://api.example",
                "jti": "CQkJCQkJCQkJCQkJCQkJCQ",
                "client_id": decision.trust_relationship_id.as_str(),
                "scope": "read deploy",
                "authorization_details": [{"type": "vault", "identifier": "*", "actions": ["get"]}],
                "workspace_id": workspace,
                "policy_revision": 7,
                "source_identity": {"issuer": "https://issuer.example", "subject": "org:a/b", "token_id": "t-1"},
            })
        );
    }

    #[test]
    fn s54_the_line_of_our_own_tokens_is_handed_on() {
        let lineage = json!({"countersign_lineage": {"auth_time": 900, "depth": 2}});
        assert_eq!(claims(&decision(), &source("s", &lineage))[Lineage::CLAIM], lineage[Lineage::CLAIM]);
    }

    #[test]
    fn s54_what_is_not_there_is_left_out_and_several_audiences_are_an_array() {
        let mut decision = decision();
        (decision.scopes, decision.grants) = (vec![], vec![]);
        decision.audiences.push("second".parse().unwrap());
        let claims = claims(&decision, &source("s", &json!({})));
        assert_eq!(claims.get("scope"), None);
        assert_eq!(claims.get("authorization_details"), None);
        assert_eq!(claims.get("aud"), Some(&json!(["https://api.example", "second"])));
    }

    #[test]
    fn s54_no_claim_of_the_subject_token_becomes_a_claim_of_ours() {
        let plain = claims(&decision(), &source("s", &json!({})));
        let greedy =
            json!({"scope": "admin", "client_id": "tr_x", "workspace_id": "ws_x", "authorization_details": [], "act": {}});
        assert_eq!(claims(&decision(), &source("s", &greedy)), plain);
    }

    #[test]
    fn s14_the_longest_subject_makes_a_subject_that_is_read_again() {
        let longest = "x".repeat(1_024);
        let Value::Object(mut members) = claims(&decision(), &source(&longest, &json!({}))) else { unreachable!() };
        members.extend(json!({"iss": "https://gateway.example", "iat": 1_000, "exp": 2_000}).as_object().unwrap().clone());
        let own = Claims::from_access_token(members.clone()).unwrap();
        assert_eq!(own.subject.as_str(), access_token_subject(&decision(), &longest.parse().unwrap()));
        assert!(Claims::from_members(members).is_err(), "which no other issuer's token may have");
    }

    proptest! {
        #[test]
        fn s54_different_sources_never_share_a_subject(
            left in ("[a-z/]{1,9}", 0_u8..3, 0_u8..3), right in ("[a-z/]{1,9}", 0_u8..3, 0_u8..3),
        ) {
            let subject = |(text, workspace, issuer): &(String, u8, u8)| {
                let decision = Decision {
                    workspace_id: WorkspaceId::from_random([*workspace; 16]),
                    trusted_issuer_id: TrustedIssuerId::from_random([*issuer; 16]),
                    ..decision()
                };
                access_token_subject(&decision, &text.parse().unwrap())
            };
            prop_assert_eq!(subject(&left) == subject(&right), left == right);
        }

        #[test]
        fn s54_every_random_bit_is_in_the_id(left: [u8; 16], right: [u8; 16]) {
            prop_assert_eq!(AccessTokenId::from_random(left) == AccessTokenId::from_random(right), left == right);
        }
    }
}
