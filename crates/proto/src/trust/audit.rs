//! The audit log: gateways write refusals and read one back, trust-service reads and answers, operators read everything.

use countersign_domain::exchange::audit::{
    AllowedExchange, AuditEvent, AuditedDecision, CountedRefusals, NewRefusal, Refusals, RefusedExchange,
};
use countersign_domain::exchange::commit::ExchangeAudit;
use countersign_domain::exchange::presentation::{KeptClaims, Presentation};
use countersign_domain::exchange::request::ExchangeRequest;
use countersign_domain::values::violation::Violations;

use crate::common::{duration, read, read_duration, read_list, read_optional, read_time, text, texts, timestamp};
use crate::trust_v1 as wire;

/// A batch of refusals for the wire.
pub fn append_request<'a>(refusals: impl IntoIterator<Item = &'a NewRefusal>) -> wire::AppendRefusalsRequest {
    wire::AppendRefusalsRequest { refusals: refusals.into_iter().map(Into::into).collect() }
}

/// Reads a batch of refusals; notes everything wrong with any of them.
pub fn read_append_request(request: wire::AppendRefusalsRequest) -> Result<Vec<NewRefusal>, Violations> {
    let mut violations = Violations::new();
    if request.refusals.is_empty() || request.refusals.len() > NewRefusal::MAX_BATCH {
        violations.add("refusals", format!("must hold 1 to {} elements", NewRefusal::MAX_BATCH));
        return Err(violations);
    }
    let refusals = request.refusals.into_iter().enumerate();
    let refusals =
        refusals.filter_map(|(index, refusal)| read_refusal(&format!("refusals[{index}]"), refusal, &mut violations)).collect();
    violations.into_result(refusals)
}

/// Reads the answer to a question for one refusal.
pub fn read_refusal_response(response: wire::GetRefusalResponse) -> Result<NewRefusal, Violations> {
    let mut violations = Violations::new();
    let refusal = read_refusal("refusal", response.refusal.unwrap_or_default(), &mut violations);
    match refusal {
        Some(refusal) if violations.is_empty() => Ok(refusal),
        _ => Err(violations),
    }
}

impl From<&NewRefusal> for wire::Refusal {
    fn from(refusal: &NewRefusal) -> Self {
        let common =
            Self { workspace_id: text(refusal.workspace_id.as_ref()), time: Some(timestamp(refusal.time)), ..Self::default() };
        match &refusal.refused {
            Refusals::One(one) => Self {
                trusted_issuer_id: one.trusted_issuer_id.to_string(),
                trust_relationship_id: text(one.trust_relationship_id.as_ref()),
                policy_revision: one.policy_revision,
                reason: one.reason.to_string(),
                cause: one.cause.clone(),
                request_id: one.presentation.request_id.clone(),
                presentation: Some((&one.presentation).into()),
                ..common
            },
            Refusals::Counted(counted) => Self {
                trusted_issuer_id: text(counted.trusted_issuer_id.as_ref()),
                reason: counted.reason.to_string(),
                cause: counted.cause.clone(),
                request_id: counted.request_id.clone(),
                count: counted.count.try_into().unwrap_or(i64::MAX),
                first_time: Some(timestamp(counted.first_at)),
                ..common
            },
        }
    }
}

fn read_refusal(path: &str, refusal: wire::Refusal, violations: &mut Violations) -> Option<NewRefusal> {
    let workspace_id = read_optional(format!("{path}.workspace_id"), &refusal.workspace_id, violations);
    let time = read_time(format!("{path}.time"), refusal.time.as_ref(), violations);
    let reason = read(format!("{path}.reason"), &refusal.reason, violations);
    if refusal.cause.len() > NewRefusal::MAX_CAUSE {
        violations.add(format!("{path}.cause"), format!("must be at most {} bytes long", NewRefusal::MAX_CAUSE));
    }
    let request_id = read_request_id(&format!("{path}.request_id"), refusal.request_id, violations);
    let refused = if let Some(presentation) = refusal.presentation {
        let trusted_issuer_id = read(format!("{path}.trusted_issuer_id"), &refusal.trusted_issuer_id, violations);
        let relationship = read_optional(format!("{path}.trust_relationship_id"), &refusal.trust_relationship_id, violations);
        let presentation = read_presentation(&format!("{path}.presentation"), presentation, request_id, violations);
        Refusals::One(Box::new(RefusedExchange {
            trusted_issuer_id: trusted_issuer_id?,
            trust_relationship_id: relationship?,
            policy_revision: refusal.policy_revision,
            reason: reason?,
            cause: refusal.cause,
            presentation: presentation?,
        }))
    } else {
        let trusted_issuer_id = read_optional(format!("{path}.trusted_issuer_id"), &refusal.trusted_issuer_id, violations);
        let first_at = read_time(format!("{path}.first_time"), refusal.first_time.as_ref(), violations);
        let count = u64::try_from(refusal.count).ok().filter(|count| *count > 0).ok_or("must be positive");
        let count = violations.check(format!("{path}.count"), count);
        Refusals::Counted(CountedRefusals {
            trusted_issuer_id: trusted_issuer_id?,
            reason: reason?,
            cause: refusal.cause,
            count: count?,
            first_at: first_at?,
            request_id: request_id?,
        })
    };
    Some(NewRefusal { workspace_id: workspace_id?, time: time?, refused })
}

pub(super) fn read_request_id(field: &str, id: String, violations: &mut Violations) -> Option<String> {
    let most = Presentation::MAX_REQUEST_ID;
    if id.len() <= most && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some(id)
    } else {
        violations.add(field, format!("must be at most {most} printable ASCII characters without space"));
        None
    }
}

impl From<&Presentation> for wire::Presentation {
    fn from(presentation: &Presentation) -> Self {
        Self {
            subject_issuer: presentation.subject_issuer.to_string(),
            subject: presentation.subject.to_string(),
            subject_token_hash: presentation.subject_token_hash.to_vec().into(),
            subject_token_id: text(presentation.subject_token_id.as_ref()),
            subject_key_id: text(presentation.subject_key_id.as_ref()),
            claims: presentation.claims.as_ref().map(Into::into),
            request: presentation.request.as_ref().map(Into::into),
        }
    }
}

/// Reads what was kept of a token. Its request id stands elsewhere.
pub(super) fn read_presentation(
    path: &str,
    presentation: wire::Presentation,
    request_id: Option<String>,
    violations: &mut Violations,
) -> Option<Presentation> {
    let subject_issuer = read(format!("{path}.subject_issuer"), &presentation.subject_issuer, violations);
    let subject = read(format!("{path}.subject"), &presentation.subject, violations);
    let subject_token_hash = read_hash(format!("{path}.subject_token_hash"), &presentation.subject_token_hash, violations);
    let subject_token_id = read_optional(format!("{path}.subject_token_id"), &presentation.subject_token_id, violations);
    let subject_key_id = read_optional(format!("{path}.subject_key_id"), &presentation.subject_key_id, violations);
    // What cannot be read is a violation, so that its absence here does not count.
    let claims = presentation.claims.and_then(|claims| read_claims(&format!("{path}.claims"), &claims, violations));
    let request = presentation.request.and_then(|request| read_grant(&format!("{path}.request"), &request, violations));
    Some(Presentation {
        request_id: request_id?,
        subject_issuer: subject_issuer?,
        subject: subject?,
        subject_token_hash: subject_token_hash?,
        subject_token_id: subject_token_id?,
        subject_key_id: subject_key_id?,
        claims,
        request,
    })
}

pub(super) fn read_hash(field: String, hash: &[u8], violations: &mut Violations) -> Option<[u8; 32]> {
    violations.check(field, hash.try_into().map_err(|_| "must be 32 bytes"))
}

impl From<&KeptClaims> for wire::KeptClaims {
    fn from(claims: &KeptClaims) -> Self {
        Self { members_json: claims.json().to_owned(), claim_paths: claims.read().iter().map(ToString::to_string).collect() }
    }
}

/// What is more than is ever kept is not kept: a violation would keep everything else of the batch from being written.
fn read_claims(path: &str, claims: &wire::KeptClaims, violations: &mut Violations) -> Option<KeptClaims> {
    let paths = read_list(&format!("{path}.claim_paths"), &claims.claim_paths, violations)?;
    KeptClaims::from_parts(&claims.members_json, paths.into_iter().collect()).ok()
}

impl From<&ExchangeRequest> for wire::RequestedGrant {
    fn from(request: &ExchangeRequest) -> Self {
        Self {
            trust_relationship_id: text(request.trust_relationship_id.as_ref()),
            audiences: texts(&request.audiences),
            scopes: texts(&request.scopes),
            duration: request.duration.map(duration),
        }
    }
}

fn read_grant(path: &str, request: &wire::RequestedGrant, violations: &mut Violations) -> Option<ExchangeRequest> {
    let relationship = read_optional(format!("{path}.trust_relationship_id"), &request.trust_relationship_id, violations);
    let audiences = read_list(&format!("{path}.audiences"), &request.audiences, violations);
    let scopes = read_list(&format!("{path}.scopes"), &request.scopes, violations);
    let duration = request.duration.as_ref();
    let duration = duration.and_then(|duration| violations.check(format!("{path}.duration"), read_duration(duration)));
    Some(ExchangeRequest { trust_relationship_id: relationship?, audiences: audiences?, scopes: scopes?, duration })
}

impl From<&ExchangeAudit> for wire::MintedToken {
    fn from(audit: &ExchangeAudit) -> Self {
        Self {
            token_id: audit.access_token_id.to_string(),
            audiences: texts(&audit.access_token_audiences),
            scopes: texts(&audit.scopes),
            expire_time: Some(timestamp(audit.access_token_expires_at)),
        }
    }
}

impl From<&AuditEvent> for wire::AuditEvent {
    fn from(event: &AuditEvent) -> Self {
        let common = Self {
            sequence: event.sequence,
            time: Some(timestamp(event.time)),
            workspace_id: text(event.workspace_id.as_ref()),
            decision: wire::AuditDecision::Refused.into(),
            ..Self::default()
        };
        match &event.decision {
            AuditedDecision::Allowed(allowed) => {
                let AllowedExchange { trusted_issuer_id, trust_relationship_id, policy_revision, audit } = &**allowed;
                Self {
                    decision: wire::AuditDecision::Allowed.into(),
                    request_id: audit.presentation.request_id.clone(),
                    trusted_issuer_id: trusted_issuer_id.to_string(),
                    trust_relationship_id: trust_relationship_id.to_string(),
                    policy_revision: *policy_revision,
                    presentation: Some((&audit.presentation).into()),
                    minted_token: Some(audit.into()),
                    ..common
                }
            }
            AuditedDecision::Refused(refused) => Self {
                request_id: refused.presentation.request_id.clone(),
                reason: refused.reason.to_string(),
                cause: refused.cause.clone(),
                trusted_issuer_id: refused.trusted_issuer_id.to_string(),
                trust_relationship_id: text(refused.trust_relationship_id.as_ref()),
                policy_revision: refused.policy_revision,
                presentation: Some((&refused.presentation).into()),
                ..common
            },
            AuditedDecision::Counted(counted) => Self {
                request_id: counted.request_id.clone(),
                reason: counted.reason.to_string(),
                cause: counted.cause.clone(),
                trusted_issuer_id: text(counted.trusted_issuer_id.as_ref()),
                count: counted.count.try_into().unwrap_or(i64::MAX),
                first_time: Some(timestamp(counted.first_at)),
                ..common
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
    use countersign_domain::values::reason::Reason;
    use countersign_domain::values::time::Timestamp;
    use serde_json::json;

    use super::*;

    fn one() -> NewRefusal {
        let members = json!({"aud": "a", "iat": 1, "exp": 2, "k8s": {"ns": "prod"}});
        let read = ["/k8s/ns", "ref"].iter().map(|path| path.parse().unwrap()).collect();
        NewRefusal {
            workspace_id: Some(WorkspaceId::from_random([1; 16])),
            time: Timestamp::from_second(100).unwrap(),
            refused: Refusals::One(Box::new(RefusedExchange {
                trusted_issuer_id: TrustedIssuerId::from_random([2; 16]),
                trust_relationship_id: Some(TrustRelationshipId::from_random([3; 16])),
                policy_revision: 7,
                reason: Reason::SubjectNotTrusted,
                cause: "the CEL condition is false".to_owned(),
                presentation: Presentation {
                    request_id: "req-1".to_owned(),
                    subject_issuer: "https://issuer.example".parse().unwrap(),
                    subject: "s".parse().unwrap(),
                    subject_token_hash: [4; 32],
                    subject_token_id: Some("j".parse().unwrap()),
                    subject_key_id: None,
                    claims: Some(KeptClaims::from_parts(&members.to_string(), read).unwrap()),
                    request: Some(ExchangeRequest {
                        trust_relationship_id: None,
                        audiences: vec!["https://api.example".parse().unwrap()],
                        scopes: vec!["deploy".parse().unwrap()],
                        duration: Some(Duration::from_mins(1)),
                    }),
                },
            })),
        }
    }

    fn several() -> NewRefusal {
        NewRefusal {
            workspace_id: None,
            time: Timestamp::from_second(200).unwrap(),
            refused: Refusals::Counted(CountedRefusals {
                trusted_issuer_id: None,
                reason: Reason::SubjectTokenNotTrusted,
                cause: "no workspace registered the token's issuer".to_owned(),
                count: 12,
                first_at: Timestamp::from_second(150).unwrap(),
                request_id: "req-2".to_owned(),
            }),
        }
    }

    #[test]
    fn refusals_survive_a_round_trip() {
        let mut too_long_to_keep = one();
        if let Refusals::One(one) = &mut too_long_to_keep.refused {
            (one.presentation.claims, one.presentation.request) = (None, None);
        }
        let refusals = [one(), several(), too_long_to_keep];
        assert_eq!(read_append_request(append_request(&refusals)), Ok(refusals.to_vec()));
        let response = wire::GetRefusalResponse { refusal: Some((&one()).into()) };
        assert_eq!(read_refusal_response(response), Ok(one()));
        assert!(read_refusal_response(wire::GetRefusalResponse::default()).is_err());
    }

    #[test]
    fn a_batch_with_anything_wrong_is_refused_whole_and_names_all_of_it() {
        let mut request = append_request(&[one(), several()]);
        let presentation = request.refusals[0].presentation.as_mut().unwrap();
        presentation.claims.as_mut().unwrap().claim_paths = vec![String::new()];
        presentation.subject_token_hash = vec![4; 31].into();
        request.refusals[0].reason = "BAD_LUCK".to_owned();
        request.refusals[1].count = 0;
        request.refusals[1].cause = "x".repeat(513);
        let violations = read_append_request(request).unwrap_err();
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "refusals[0].reason",
                "refusals[0].presentation.subject_token_hash",
                "refusals[0].presentation.claims.claim_paths[0]",
                "refusals[1].cause",
                "refusals[1].count",
            ]
        );
        assert!(read_append_request(append_request(&[])).is_err());
    }

    #[test]
    fn s75_more_claims_than_are_ever_kept_are_not_kept_and_harm_no_neighbour() {
        for members_json in [json!({"aud": "a", "secret": "x".repeat(5_000)}).to_string(), "[]".to_owned()] {
            let mut request = append_request(&[one(), several()]);
            request.refusals[0].presentation.as_mut().unwrap().claims.as_mut().unwrap().members_json = members_json;
            let read = read_append_request(request).unwrap();
            assert!(matches!(&read[0].refused, Refusals::One(one) if one.presentation.claims.is_none()));
            assert_eq!(read[1], several());
        }
    }
}
