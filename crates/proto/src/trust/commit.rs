//! The commit point: gateways write the request, trust-service reads it, and the outcomes go back.

use countersign_domain::exchange::commit::{CommitOutcome, ExchangeAudit, ExchangeCommit, MAX_BATCH, ReplayMark};
use countersign_domain::values::violation::Violations;

use super::audit::{read_hash, read_presentation, read_request_id};
use crate::common::{read, read_list, read_time, texts, timestamp};
use crate::trust_v1 as wire;

/// A batch of exchanges for the wire.
pub fn commit_request(exchanges: impl IntoIterator<Item = ExchangeCommit>) -> wire::CommitExchangesRequest {
    wire::CommitExchangesRequest { exchanges: exchanges.into_iter().map(Into::into).collect() }
}

/// Reads a batch of exchanges; notes everything wrong with any of them.
pub fn read_commit_request(request: wire::CommitExchangesRequest) -> Result<Vec<ExchangeCommit>, Violations> {
    let mut violations = Violations::new();
    if request.exchanges.is_empty() || request.exchanges.len() > MAX_BATCH {
        violations.add("exchanges", format!("must hold 1 to {MAX_BATCH} elements"));
        return Err(violations);
    }
    let exchanges = request
        .exchanges
        .into_iter()
        .enumerate()
        .filter_map(|(index, exchange)| read_exchange(&format!("exchanges[{index}]"), exchange, &mut violations))
        .collect();
    violations.into_result(exchanges)
}

/// The outcomes for the wire.
pub fn commit_response(outcomes: impl IntoIterator<Item = CommitOutcome>) -> wire::CommitExchangesResponse {
    let outcomes = outcomes.into_iter().map(|outcome| wire::CommitOutcome::from(outcome).into()).collect();
    wire::CommitExchangesResponse { outcomes }
}

/// Reads as many outcomes as exchanges were sent. Anything else is an error: an outcome that was not understood is not
/// "committed".
pub fn read_commit_response(response: wire::CommitExchangesResponse, sent: usize) -> Result<Vec<CommitOutcome>, Violations> {
    let mut violations = Violations::new();
    if response.outcomes.len() != sent {
        violations.add("outcomes", format!("must hold {sent} elements"));
    }
    let mut outcomes = Vec::with_capacity(sent);
    for (index, outcome) in response.outcomes.into_iter().enumerate() {
        match wire::CommitOutcome::try_from(outcome) {
            Ok(wire::CommitOutcome::Committed) => outcomes.push(CommitOutcome::Committed),
            Ok(wire::CommitOutcome::Replayed) => outcomes.push(CommitOutcome::Replayed),
            Ok(wire::CommitOutcome::Stale) => outcomes.push(CommitOutcome::Stale),
            Ok(wire::CommitOutcome::Disabled) => outcomes.push(CommitOutcome::Disabled),
            Ok(wire::CommitOutcome::Unspecified) | Err(_) => {
                violations.add(format!("outcomes[{index}]"), "must be a value of CommitOutcome");
            }
        }
    }
    violations.into_result(outcomes)
}

impl From<CommitOutcome> for wire::CommitOutcome {
    fn from(outcome: CommitOutcome) -> Self {
        match outcome {
            CommitOutcome::Committed => Self::Committed,
            CommitOutcome::Replayed => Self::Replayed,
            CommitOutcome::Stale => Self::Stale,
            CommitOutcome::Disabled => Self::Disabled,
        }
    }
}

impl From<ExchangeCommit> for wire::ExchangeCommit {
    fn from(exchange: ExchangeCommit) -> Self {
        let (replay_hash, replay_expire_time) = match exchange.replay {
            Some(mark) => (mark.hash.to_vec().into(), Some(timestamp(mark.expires_at))),
            None => Default::default(),
        };
        Self {
            workspace_id: exchange.workspace_id.to_string(),
            trusted_issuer_id: exchange.trusted_issuer_id.to_string(),
            trust_relationship_id: exchange.trust_relationship_id.to_string(),
            policy_revision: exchange.policy_revision,
            trusted_issuer_revision: exchange.trusted_issuer_revision,
            trust_relationship_revision: exchange.trust_relationship_revision,
            replay_hash,
            replay_expire_time,
            audit: Some(exchange.audit.into()),
        }
    }
}

impl From<ExchangeAudit> for wire::ExchangeAudit {
    fn from(audit: ExchangeAudit) -> Self {
        let presentation = wire::Presentation::from(&audit.presentation);
        Self {
            request_id: audit.presentation.request_id,
            subject_issuer: presentation.subject_issuer,
            subject: presentation.subject,
            subject_token_hash: presentation.subject_token_hash,
            subject_token_id: presentation.subject_token_id,
            subject_key_id: presentation.subject_key_id,
            access_token_id: audit.access_token_id.to_string(),
            access_token_audiences: texts(&audit.access_token_audiences),
            scopes: texts(&audit.scopes),
            access_token_expire_time: Some(timestamp(audit.access_token_expires_at)),
            claims: presentation.claims,
            request: presentation.request,
        }
    }
}

fn read_exchange(path: &str, exchange: wire::ExchangeCommit, violations: &mut Violations) -> Option<ExchangeCommit> {
    let workspace_id = read(format!("{path}.workspace_id"), &exchange.workspace_id, violations);
    let trusted_issuer_id = read(format!("{path}.trusted_issuer_id"), &exchange.trusted_issuer_id, violations);
    let trust_relationship_id = read(format!("{path}.trust_relationship_id"), &exchange.trust_relationship_id, violations);
    let replay = if exchange.replay_hash.is_empty() {
        Some(None)
    } else {
        let hash = read_hash(format!("{path}.replay_hash"), &exchange.replay_hash, violations);
        let expires_at = read_time(format!("{path}.replay_expire_time"), exchange.replay_expire_time.as_ref(), violations);
        hash.zip(expires_at).map(|(hash, expires_at)| Some(ReplayMark { hash, expires_at }))
    };
    let audit = read_audit(&format!("{path}.audit"), exchange.audit.unwrap_or_default(), violations);
    Some(ExchangeCommit {
        workspace_id: workspace_id?,
        trusted_issuer_id: trusted_issuer_id?,
        trust_relationship_id: trust_relationship_id?,
        policy_revision: exchange.policy_revision,
        trusted_issuer_revision: exchange.trusted_issuer_revision,
        trust_relationship_revision: exchange.trust_relationship_revision,
        replay: replay?,
        audit: audit?,
    })
}

fn read_audit(path: &str, audit: wire::ExchangeAudit, violations: &mut Violations) -> Option<ExchangeAudit> {
    let request_id = read_request_id(&format!("{path}.request_id"), audit.request_id, violations);
    let presentation = wire::Presentation {
        subject_issuer: audit.subject_issuer,
        subject: audit.subject,
        subject_token_hash: audit.subject_token_hash,
        subject_token_id: audit.subject_token_id,
        subject_key_id: audit.subject_key_id,
        claims: audit.claims,
        request: audit.request,
    };
    let presentation = read_presentation(path, presentation, request_id, violations);
    let access_token_id = read(format!("{path}.access_token_id"), &audit.access_token_id, violations);
    let access_token_audiences = read_list(&format!("{path}.access_token_audiences"), &audit.access_token_audiences, violations);
    let scopes = read_list(&format!("{path}.scopes"), &audit.scopes, violations);
    let expires_at = read_time(format!("{path}.access_token_expire_time"), audit.access_token_expire_time.as_ref(), violations);
    Some(ExchangeAudit {
        presentation: presentation?,
        access_token_id: access_token_id?,
        access_token_audiences: access_token_audiences?,
        scopes: scopes?,
        access_token_expires_at: expires_at?,
    })
}

#[cfg(test)]
mod tests {
    use countersign_domain::exchange::presentation::Presentation;
    use countersign_domain::exchange::request::ExchangeRequest;
    use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
    use countersign_domain::values::time::Timestamp;

    use super::*;

    fn exchange() -> ExchangeCommit {
        ExchangeCommit {
            workspace_id: WorkspaceId::from_random([1; 16]),
            trusted_issuer_id: TrustedIssuerId::from_random([2; 16]),
            trust_relationship_id: TrustRelationshipId::from_random([3; 16]),
            policy_revision: 4,
            trusted_issuer_revision: 5,
            trust_relationship_revision: 6,
            replay: Some(ReplayMark { hash: [7; 32], expires_at: Timestamp::from_second(8).unwrap() }),
            audit: ExchangeAudit {
                presentation: Presentation {
                    request_id: "req-1".to_owned(),
                    subject_issuer: "https://cloud.rwx.com/mint".parse().unwrap(),
                    subject: "org:my-org:vault:deploy-vault".parse().unwrap(),
                    subject_token_hash: [9; 32],
                    subject_token_id: None,
                    subject_key_id: Some("k1".parse().unwrap()),
                    claims: None,
                    request: Some(ExchangeRequest::default()),
                },
                access_token_id: "at1".parse().unwrap(),
                access_token_audiences: vec!["https://api.example".parse().unwrap()],
                scopes: vec!["deploy".parse().unwrap()],
                access_token_expires_at: Timestamp::from_second(10).unwrap(),
            },
        }
    }

    #[test]
    fn exchanges_survive_a_round_trip() {
        let reusable = ExchangeCommit { replay: None, ..exchange() };
        let exchanges = vec![exchange(), reusable];
        assert_eq!(read_commit_request(commit_request(exchanges.clone())), Ok(exchanges));
    }

    #[test]
    fn a_batch_with_anything_wrong_is_refused_whole_and_names_all_of_it() {
        let mut request = commit_request([exchange(), exchange()]);
        request.exchanges[0].replay_hash = vec![7; 31].into();
        request.exchanges[0].replay_expire_time = None;
        request.exchanges[1].workspace_id = "ws_1".to_owned();
        request.exchanges[1].audit = None;
        let violations = read_commit_request(request).unwrap_err();
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "exchanges[0].replay_hash",
                "exchanges[0].replay_expire_time",
                "exchanges[1].workspace_id",
                "exchanges[1].audit.subject_issuer",
                "exchanges[1].audit.subject",
                "exchanges[1].audit.subject_token_hash",
                "exchanges[1].audit.access_token_id",
                "exchanges[1].audit.access_token_expire_time",
            ]
        );
        assert!(read_commit_request(commit_request([])).is_err());
        assert!(read_commit_request(commit_request(vec![exchange(); MAX_BATCH + 1])).is_err());
    }

    #[test]
    fn s74_an_outcome_that_is_missing_or_unknown_is_never_taken_for_committed() {
        use CommitOutcome::{Committed, Disabled, Replayed, Stale};
        let all = vec![Committed, Replayed, Stale, Disabled];
        assert_eq!(read_commit_response(commit_response(all.clone()), 4), Ok(all));
        assert!(read_commit_response(commit_response([Committed]), 2).is_err());
        for unknown in [0, 5, -1] {
            assert!(read_commit_response(wire::CommitExchangesResponse { outcomes: vec![unknown] }, 1).is_err());
        }
    }
}
