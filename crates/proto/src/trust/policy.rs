//! The policy feed: trust-service writes, gateways read.
//!
//! What a gateway cannot read it must not guess: one unreadable resource makes the whole message an error.

use countersign_domain::trust::policy_feed::{DirectoryChange, DirectoryEntry, PolicyChange, PolicySnapshot};
use countersign_domain::trust::trust_relationship::{TrustRelationship, TrustRelationshipDraft, TrustRelationshipSettings};
use countersign_domain::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerDraft, TrustedIssuerSettings};
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::draft::{Given, Unreadable};
use countersign_domain::values::issuer_url::LoopbackHttp;
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::violation::Violations;

use super::resources::read_state;
use crate::common::{read, read_list, read_time, texts};
use crate::trust_v1 as wire;
use wire::watch_policies_request::{Forget, Load, Request, Sync};
use wire::watch_policies_response::Response;

/// What a gateway asks of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyRequest {
    /// A workspace's policy, and its changes from then on.
    Load(countersign_domain::values::id::WorkspaceId),
    /// No more of a workspace's changes.
    Forget(countersign_domain::values::id::WorkspaceId),
    /// A barrier, answered by [`PolicyEvent::Synced`] with the same number.
    Sync(u64),
}

/// What the feed answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyEvent {
    /// A part of the directory, sent once at the start.
    DirectorySnapshot {
        /// Workspaces of this part.
        entries: Vec<DirectoryEntry>,
        /// Whether no other part follows.
        last: bool,
    },
    /// A change of the directory.
    DirectoryChange(DirectoryChange),
    /// A part of a workspace's policy: the answer to [`PolicyRequest::Load`].
    PolicySnapshot {
        /// Resources of this part.
        part: PolicySnapshot,
        /// Whether no other part follows.
        last: bool,
    },
    /// The answer to [`PolicyRequest::Load`] of a workspace that does not exist.
    NoSuchWorkspace(countersign_domain::values::id::WorkspaceId),
    /// A change of a loaded workspace.
    PolicyChange(PolicyChange),
    /// Everything committed before the server received the barrier has been sent.
    Synced(u64),
}

impl From<PolicyRequest> for wire::WatchPoliciesRequest {
    fn from(request: PolicyRequest) -> Self {
        let request = match request {
            PolicyRequest::Load(id) => Request::Load(Load { workspace_id: id.to_string() }),
            PolicyRequest::Forget(id) => Request::Forget(Forget { workspace_id: id.to_string() }),
            PolicyRequest::Sync(nonce) => Request::Sync(Sync { nonce }),
        };
        Self { request: Some(request) }
    }
}

impl TryFrom<wire::WatchPoliciesRequest> for PolicyRequest {
    type Error = Violations;

    fn try_from(request: wire::WatchPoliciesRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let request = match request.request {
            Some(Request::Load(load)) => read("load.workspace_id", &load.workspace_id, &mut violations).map(Self::Load),
            Some(Request::Forget(forget)) => read("forget.workspace_id", &forget.workspace_id, &mut violations).map(Self::Forget),
            Some(Request::Sync(sync)) => Some(Self::Sync(sync.nonce)),
            None => {
                violations.add("request", "is required");
                None
            }
        };
        request.ok_or(violations)
    }
}

impl From<PolicyEvent> for wire::WatchPoliciesResponse {
    fn from(event: PolicyEvent) -> Self {
        let response = match event {
            PolicyEvent::DirectorySnapshot { entries, last } => {
                Response::DirectorySnapshot(wire::DirectorySnapshot { entries: entries.iter().map(Into::into).collect(), last })
            }
            PolicyEvent::DirectoryChange(change) => Response::DirectoryChange((&change).into()),
            PolicyEvent::PolicySnapshot { part, last } => Response::PolicySnapshot(wire::PolicySnapshot {
                workspace_id: part.workspace_id.to_string(),
                found: true,
                state: wire::WorkspaceState::from(part.state).into(),
                policy_revision: part.policy_revision,
                trusted_issuers: part.trusted_issuers.iter().map(Into::into).collect(),
                trust_relationships: part.trust_relationships.iter().map(Into::into).collect(),
                last,
            }),
            PolicyEvent::NoSuchWorkspace(id) => {
                Response::PolicySnapshot(wire::PolicySnapshot { workspace_id: id.to_string(), last: true, ..Default::default() })
            }
            PolicyEvent::PolicyChange(change) => Response::PolicyChange((&change).into()),
            PolicyEvent::Synced(nonce) => Response::Synced(nonce),
        };
        Self { response: Some(response) }
    }
}

impl TryFrom<wire::WatchPoliciesResponse> for PolicyEvent {
    type Error = Violations;

    fn try_from(response: wire::WatchPoliciesResponse) -> Result<Self, Violations> {
        match response.response {
            Some(Response::DirectorySnapshot(snapshot)) => Ok(Self::DirectorySnapshot {
                entries: snapshot.entries.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                last: snapshot.last,
            }),
            Some(Response::DirectoryChange(change)) => change.try_into().map(Self::DirectoryChange),
            Some(Response::PolicySnapshot(snapshot)) => read_snapshot(snapshot),
            Some(Response::PolicyChange(change)) => change.try_into().map(Self::PolicyChange),
            Some(Response::Synced(nonce)) => Ok(Self::Synced(nonce)),
            None => Err(violation("response", "is required")),
        }
    }
}

impl From<&DirectoryEntry> for wire::DirectoryEntry {
    fn from(entry: &DirectoryEntry) -> Self {
        Self {
            workspace_id: entry.workspace_id.to_string(),
            state: wire::WorkspaceState::from(entry.state).into(),
            policy_revision: entry.policy_revision,
            issuer_urls: texts(&entry.issuer_urls),
            display_name: entry.display_name.to_string(),
        }
    }
}

impl TryFrom<wire::DirectoryEntry> for DirectoryEntry {
    type Error = Violations;

    fn try_from(entry: wire::DirectoryEntry) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let workspace_id = read("workspace_id", &entry.workspace_id, &mut violations);
        let state = required_state(entry.state, &mut violations);
        let issuer_urls = read_list("issuer_urls", &entry.issuer_urls, &mut violations);
        let display_name = read("display_name", &entry.display_name, &mut violations);
        let read = || {
            Some(Self {
                workspace_id: workspace_id?,
                state: state?,
                policy_revision: entry.policy_revision,
                issuer_urls: issuer_urls?,
                display_name: display_name?,
            })
        };
        read().ok_or(violations)
    }
}

impl From<&DirectoryChange> for wire::DirectoryChange {
    fn from(change: &DirectoryChange) -> Self {
        use wire::directory_change::Change;
        let change = match change {
            DirectoryChange::Changed(entry) => Change::Entry(entry.into()),
            DirectoryChange::Deleted(id) => Change::DeletedWorkspaceId(id.to_string()),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<wire::DirectoryChange> for DirectoryChange {
    type Error = Violations;

    fn try_from(change: wire::DirectoryChange) -> Result<Self, Violations> {
        use wire::directory_change::Change;
        match change.change {
            Some(Change::Entry(entry)) => entry.try_into().map(Self::Changed),
            Some(Change::DeletedWorkspaceId(id)) => {
                let mut violations = Violations::new();
                read("deleted_workspace_id", &id, &mut violations).map(Self::Deleted).ok_or(violations)
            }
            None => Err(violation("change", "is required")),
        }
    }
}

impl From<&PolicyChange> for wire::PolicyChange {
    fn from(change: &PolicyChange) -> Self {
        Self {
            workspace_id: change.workspace_id.to_string(),
            state: wire::WorkspaceState::from(change.state).into(),
            policy_revision: change.policy_revision,
            trusted_issuers: change.trusted_issuers.iter().map(Into::into).collect(),
            trust_relationships: change.trust_relationships.iter().map(Into::into).collect(),
            deleted_trusted_issuer_ids: texts(&change.deleted_trusted_issuer_ids),
            deleted_trust_relationship_ids: texts(&change.deleted_trust_relationship_ids),
        }
    }
}

impl TryFrom<wire::PolicyChange> for PolicyChange {
    type Error = Violations;

    fn try_from(change: wire::PolicyChange) -> Result<Self, Violations> {
        let trusted_issuers = change.trusted_issuers.into_iter().map(TryInto::try_into).collect::<Result<_, Violations>>()?;
        let trust_relationships =
            change.trust_relationships.into_iter().map(TryInto::try_into).collect::<Result<_, Violations>>()?;
        let mut violations = Violations::new();
        let workspace_id = read("workspace_id", &change.workspace_id, &mut violations);
        let state = required_state(change.state, &mut violations);
        let issuers = read_list("deleted_trusted_issuer_ids", &change.deleted_trusted_issuer_ids, &mut violations);
        let relationships = read_list("deleted_trust_relationship_ids", &change.deleted_trust_relationship_ids, &mut violations);
        let read = || {
            Some(Self {
                workspace_id: workspace_id?,
                state: state?,
                policy_revision: change.policy_revision,
                trusted_issuers,
                trust_relationships,
                deleted_trusted_issuer_ids: issuers?,
                deleted_trust_relationship_ids: relationships?,
            })
        };
        read().ok_or(violations)
    }
}

fn read_snapshot(snapshot: wire::PolicySnapshot) -> Result<PolicyEvent, Violations> {
    let mut violations = Violations::new();
    let workspace_id = read("workspace_id", &snapshot.workspace_id, &mut violations);
    if !snapshot.found {
        return workspace_id.map(PolicyEvent::NoSuchWorkspace).ok_or(violations);
    }
    let state = required_state(snapshot.state, &mut violations);
    let (Some(workspace_id), Some(state)) = (workspace_id, state) else { return Err(violations) };
    let part = PolicySnapshot {
        workspace_id,
        state,
        policy_revision: snapshot.policy_revision,
        trusted_issuers: snapshot.trusted_issuers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        trust_relationships: snapshot.trust_relationships.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    };
    Ok(PolicyEvent::PolicySnapshot { part, last: snapshot.last })
}

impl From<&TrustedIssuer> for wire::TrustedIssuerPolicy {
    fn from(issuer: &TrustedIssuer) -> Self {
        Self { trusted_issuer: Some(issuer.into()), revision: issuer.revision }
    }
}

impl TryFrom<wire::TrustedIssuerPolicy> for TrustedIssuer {
    type Error = Violations;

    fn try_from(policy: wire::TrustedIssuerPolicy) -> Result<Self, Violations> {
        let issuer = policy.trusted_issuer.unwrap_or_default();
        let mut violations = Violations::new();
        let id = read("trusted_issuer.id", &issuer.id, &mut violations);
        let workspace_id = read("trusted_issuer.workspace_id", &issuer.workspace_id, &mut violations);
        let created_at = read_time("trusted_issuer.create_time", issuer.create_time.as_ref(), &mut violations);
        let updated_at = read_time("trusted_issuer.update_time", issuer.update_time.as_ref(), &mut violations);
        let enabled = issuer.enabled;
        // Whether http was acceptable is trust-service's decision, made when the issuer was registered.
        let draft = TrustedIssuerDraft::from(issuer);
        let settings = TrustedIssuerSettings::create(&draft, LoopbackHttp::Allowed, &mut violations);
        let read = || {
            Some(Self {
                id: id?,
                workspace_id: workspace_id?,
                settings: TrustedIssuerSettings { enabled, ..settings? },
                revision: policy.revision,
                created_at: created_at?,
                updated_at: updated_at?,
            })
        };
        read().ok_or(violations)
    }
}

impl TryFrom<wire::TrustRelationship> for TrustRelationship {
    type Error = Violations;

    /// Reads one that trust-service answered, for gateways and other clients.
    fn try_from(relationship: wire::TrustRelationship) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let id = read("trust_relationship.id", &relationship.id, &mut violations);
        let workspace_id = read("trust_relationship.workspace_id", &relationship.workspace_id, &mut violations);
        let trusted_issuer_id = read("trust_relationship.trusted_issuer_id", &relationship.trusted_issuer_id, &mut violations);
        let created_at = read_time("trust_relationship.create_time", relationship.create_time.as_ref(), &mut violations);
        let updated_at = read_time("trust_relationship.update_time", relationship.update_time.as_ref(), &mut violations);
        let (enabled, revision, creator) = (relationship.enabled, relationship.revision, relationship.creator.clone());
        // That the end must lie ahead is a rule for writing; one that has passed is read like any other.
        let draft = TrustRelationshipDraft::from(relationship);
        let settings = TrustRelationshipSettings::create(&draft, Timestamp::MIN, &mut violations);
        let read = || {
            Some(Self {
                id: id?,
                workspace_id: workspace_id?,
                trusted_issuer_id: trusted_issuer_id?,
                settings: TrustRelationshipSettings { enabled, ..settings? },
                revision,
                creator,
                created_at: created_at?,
                updated_at: updated_at?,
            })
        };
        read().ok_or(violations)
    }
}

pub(super) fn required_state(state: i32, violations: &mut Violations) -> Option<WorkspaceState> {
    let given: Given<WorkspaceState> = read_state(state);
    violations.check("state", given.unwrap_or(Err(Unreadable("is required"))))
}

fn violation(field: &str, description: &str) -> Violations {
    let mut violations = Violations::new();
    violations.add(field, description);
    violations
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_domain::trust::key_source::KeySource;
    use countersign_domain::values::grant::Grant;
    use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
    use countersign_domain::values::replay_policy::ReplayPolicy;
    use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
    use countersign_domain::values::token_type::TokenType;

    use super::*;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn issuer() -> TrustedIssuer {
        issuer_with(KeySource::Fetched {
            jwks_url: Some("https://keys.example/jwks?v=1".parse().unwrap()),
            authorities: Some("-----BEGIN CERTIFICATE-----".parse().unwrap()),
            max_stale_age: Duration::ZERO,
        })
    }

    fn issuer_with(key_source: KeySource) -> TrustedIssuer {
        TrustedIssuer {
            id: TrustedIssuerId::from_random([2; 16]),
            workspace_id: WorkspaceId::from_random([1; 16]),
            settings: TrustedIssuerSettings {
                display_name: None,
                preset: Some("rwx".parse().unwrap()),
                issuer_url: "http://localhost:7401/rwx".parse().unwrap(),
                key_source,
                subject_audiences: vec!["a".parse().unwrap()],
                algorithms: [SignatureAlgorithm::Rs512].into(),
                token_types: [None, Some(TokenType::new("JWS"))].into(),
                max_token_lifetime: Duration::from_mins(15),
                clock_skew: Duration::ZERO,
                replay_policy: ReplayPolicy::Reusable,
                enabled: false,
            },
            revision: 7,
            created_at: time(1),
            updated_at: time(2),
        }
    }

    fn relationship() -> TrustRelationship {
        TrustRelationship {
            id: TrustRelationshipId::from_random([3; 16]),
            workspace_id: WorkspaceId::from_random([1; 16]),
            trusted_issuer_id: TrustedIssuerId::from_random([2; 16]),
            settings: TrustRelationshipSettings {
                display_name: Some("deploy".parse().unwrap()),
                key: Some("deploy".parse().unwrap()),
                claim_conditions: [
                    r#"{"claim": "a", "equals": "x"}"#,
                    r#"{"claim": "a", "equals": -1, "negated": true}"#,
                    r#"{"claim": "a", "one_of": [true, false]}"#,
                    r#"{"claim": "/a/b", "glob": "x*"}"#,
                    r#"{"claim": "a", "contains": "x", "negated": true}"#,
                    r#"{"claim": "a", "exists": true}"#,
                ]
                .map(|condition| serde_json::from_str(condition).unwrap())
                .into(),
                cel_condition: Some("attribute.team == 'core'".parse().unwrap()),
                attribute_mapping: [("team".parse().unwrap(), "assertion.team".parse().unwrap())].into(),
                subject_matches: vec!["org:my-org:vault:*".parse().unwrap()],
                subject_audiences: vec!["a".parse().unwrap()],
                access_token_audiences: vec!["b".parse().unwrap()],
                scopes: vec!["deploy".parse().unwrap()],
                grants: vec![Grant {
                    resource_type: "vault".to_owned(),
                    resource_id: "*".to_owned(),
                    actions: vec!["read".to_owned()],
                }],
                token_duration: Duration::from_mins(5),
                expires_at: Some(time(3)),
                enabled: false,
            },
            revision: 9,
            creator: "bootstrap".to_owned(),
            created_at: time(1),
            updated_at: time(2),
        }
    }

    fn survives(event: PolicyEvent) {
        let wire = wire::WatchPoliciesResponse::from(event.clone());
        assert_eq!(PolicyEvent::try_from(wire), Ok(event));
    }

    #[test]
    fn every_event_survives_a_round_trip() {
        let workspace_id = WorkspaceId::from_random([1; 16]);
        let entry = DirectoryEntry {
            workspace_id: workspace_id.clone(),
            state: WorkspaceState::Disabled,
            policy_revision: 4,
            issuer_urls: vec!["https://cloud.rwx.com/mint".parse().unwrap()],
            display_name: "Acme".parse().unwrap(),
        };
        survives(PolicyEvent::DirectorySnapshot { entries: vec![entry.clone()], last: true });
        survives(PolicyEvent::DirectoryChange(DirectoryChange::Changed(entry)));
        survives(PolicyEvent::DirectoryChange(DirectoryChange::Deleted(workspace_id.clone())));
        survives(PolicyEvent::NoSuchWorkspace(workspace_id.clone()));
        survives(PolicyEvent::PolicySnapshot {
            part: PolicySnapshot {
                workspace_id: workspace_id.clone(),
                state: WorkspaceState::Active,
                policy_revision: 5,
                trusted_issuers: vec![
                    issuer(),
                    issuer_with(KeySource::default()),
                    issuer_with(KeySource::Uploaded { key_set: r#"{"keys":[]}"#.parse().unwrap(), not_after: time(4) }),
                ],
                trust_relationships: vec![relationship()],
            },
            last: false,
        });
        survives(PolicyEvent::PolicyChange(PolicyChange {
            workspace_id,
            state: WorkspaceState::Active,
            policy_revision: 6,
            trusted_issuers: vec![issuer()],
            trust_relationships: vec![relationship()],
            deleted_trusted_issuer_ids: vec![TrustedIssuerId::from_random([8; 16])],
            deleted_trust_relationship_ids: vec![TrustRelationshipId::from_random([9; 16])],
        }));
        survives(PolicyEvent::Synced(u64::MAX));
    }

    #[test]
    fn every_request_survives_a_round_trip() {
        let workspace_id = WorkspaceId::from_random([1; 16]);
        for request in [PolicyRequest::Load(workspace_id.clone()), PolicyRequest::Forget(workspace_id), PolicyRequest::Sync(3)] {
            assert_eq!(PolicyRequest::try_from(wire::WatchPoliciesRequest::from(request.clone())), Ok(request));
        }
        assert!(PolicyRequest::try_from(wire::WatchPoliciesRequest::default()).is_err());
    }

    #[test]
    fn a_message_with_one_unreadable_resource_is_refused_whole() {
        let mut broken = wire::TrustRelationship::from(&relationship());
        broken.subject_matches = vec![String::new()];
        let change = wire::PolicyChange {
            workspace_id: WorkspaceId::from_random([1; 16]).to_string(),
            state: wire::WorkspaceState::Active.into(),
            trust_relationships: vec![wire::TrustRelationship::from(&relationship()), broken],
            ..Default::default()
        };
        let violations = PolicyChange::try_from(change).unwrap_err();
        assert_eq!(violations.iter().next().unwrap().field, "trust_relationship.subject_matches[0]");
    }
}
