//! Workspaces, trusted issuers and trust relationships.

use countersign_domain::trust::claim_condition::{ClaimCondition, ClaimConditionDraft, ClaimTest, ClaimValue};
use countersign_domain::trust::key_source::KeySource;
use countersign_domain::trust::trust_relationship::{TrustRelationship, TrustRelationshipDraft};
use countersign_domain::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerDraft};
use countersign_domain::trust::workspace::{Workspace, WorkspaceDraft, WorkspaceState};
use countersign_domain::values::draft::{Given, Unreadable};
use countersign_domain::values::etag::Etag;
use countersign_domain::values::replay_policy::ReplayPolicy;

use crate::common::{duration, given_duration, given_timestamp, text, texts, timestamp};
use crate::trust_v1 as wire;

impl From<&Workspace> for wire::Workspace {
    fn from(workspace: &Workspace) -> Self {
        Self {
            id: workspace.id.to_string(),
            display_name: workspace.display_name.to_string(),
            state: wire::WorkspaceState::from(workspace.state).into(),
            etag: Etag::of(&workspace.id, workspace.revision).to_string(),
            create_time: Some(timestamp(workspace.created_at)),
            update_time: Some(timestamp(workspace.updated_at)),
        }
    }
}

impl From<wire::Workspace> for WorkspaceDraft {
    fn from(workspace: wire::Workspace) -> Self {
        Self { state: read_state(workspace.state), display_name: workspace.display_name }
    }
}

impl From<&TrustedIssuer> for wire::TrustedIssuer {
    fn from(issuer: &TrustedIssuer) -> Self {
        let settings = &issuer.settings;
        let keys = WireKeySource::from(&settings.key_source);
        Self {
            id: issuer.id.to_string(),
            workspace_id: issuer.workspace_id.to_string(),
            display_name: text(settings.display_name.as_ref()),
            preset: text(settings.preset.as_ref()),
            issuer_url: settings.issuer_url.to_string(),
            jwks_url: keys.jwks_url,
            jwks: keys.jwks,
            jwks_expire_time: keys.jwks_expire_time,
            ca_certificates: keys.ca_certificates,
            max_stale_age: keys.max_stale_age,
            health: None,
            subject_audiences: texts(&settings.subject_audiences),
            algorithms: settings.algorithms.iter().map(ToString::to_string).collect(),
            token_types: settings.token_types.iter().map(|typ| typ.clone().map(String::from).unwrap_or_default()).collect(),
            max_token_lifetime: Some(duration(settings.max_token_lifetime)),
            clock_skew: Some(duration(settings.clock_skew)),
            replay_policy: wire::ReplayPolicy::from(settings.replay_policy).into(),
            enabled: settings.enabled,
            etag: Etag::of(&issuer.id, issuer.revision).to_string(),
            create_time: Some(timestamp(issuer.created_at)),
            update_time: Some(timestamp(issuer.updated_at)),
        }
    }
}

/// The fields in which a key source is written.
#[derive(Default)]
struct WireKeySource {
    jwks_url: String,
    jwks: String,
    jwks_expire_time: Option<prost_types::Timestamp>,
    ca_certificates: String,
    max_stale_age: Option<prost_types::Duration>,
}

impl From<&KeySource> for WireKeySource {
    fn from(source: &KeySource) -> Self {
        match source {
            KeySource::Fetched { jwks_url, authorities, max_stale_age } => Self {
                jwks_url: text(jwks_url.as_ref()),
                ca_certificates: text(authorities.as_ref()),
                max_stale_age: Some(duration(*max_stale_age)),
                ..Self::default()
            },
            KeySource::Uploaded { key_set, not_after } => {
                Self { jwks: key_set.to_string(), jwks_expire_time: Some(timestamp(*not_after)), ..Self::default() }
            }
        }
    }
}

impl From<wire::TrustedIssuer> for TrustedIssuerDraft {
    fn from(issuer: wire::TrustedIssuer) -> Self {
        Self {
            replay_policy: read_replay_policy(issuer.replay_policy),
            max_token_lifetime: given_duration(issuer.max_token_lifetime.as_ref()),
            clock_skew: given_duration(issuer.clock_skew.as_ref()),
            display_name: issuer.display_name,
            preset: issuer.preset,
            issuer_url: issuer.issuer_url,
            jwks_expire_time: given_timestamp(issuer.jwks_expire_time.as_ref()),
            max_stale_age: given_duration(issuer.max_stale_age.as_ref()),
            jwks_url: issuer.jwks_url,
            jwks: issuer.jwks,
            ca_certificates: issuer.ca_certificates,
            subject_audiences: issuer.subject_audiences,
            algorithms: issuer.algorithms,
            token_types: issuer.token_types,
            enabled: issuer.enabled,
        }
    }
}

impl From<&TrustRelationship> for wire::TrustRelationship {
    fn from(relationship: &TrustRelationship) -> Self {
        let settings = &relationship.settings;
        Self {
            id: relationship.id.to_string(),
            workspace_id: relationship.workspace_id.to_string(),
            trusted_issuer_id: relationship.trusted_issuer_id.to_string(),
            display_name: text(settings.display_name.as_ref()),
            key: text(settings.key.as_ref()),
            subject_matches: texts(&settings.subject_matches),
            claim_conditions: settings.claim_conditions.iter().map(Into::into).collect(),
            cel_condition: text(settings.cel_condition.as_ref()),
            attribute_mapping: settings.attribute_mapping.iter().map(|(name, cel)| (name.to_string(), cel.to_string())).collect(),
            subject_audiences: texts(&settings.subject_audiences),
            access_token_audiences: texts(&settings.access_token_audiences),
            scopes: texts(&settings.scopes),
            grants: settings.grants.iter().cloned().map(Into::into).collect(),
            token_duration: Some(duration(settings.token_duration)),
            expire_time: settings.expires_at.map(timestamp),
            enabled: settings.enabled,
            revision: relationship.revision,
            etag: Etag::of(&relationship.id, relationship.revision).to_string(),
            creator: relationship.creator.clone(),
            create_time: Some(timestamp(relationship.created_at)),
            update_time: Some(timestamp(relationship.updated_at)),
            // Known elsewhere.
            last_use_time: None,
        }
    }
}

impl From<wire::TrustRelationship> for TrustRelationshipDraft {
    fn from(relationship: wire::TrustRelationship) -> Self {
        Self {
            token_duration: given_duration(relationship.token_duration.as_ref()),
            expires_at: given_timestamp(relationship.expire_time.as_ref()),
            display_name: relationship.display_name,
            key: relationship.key,
            subject_matches: relationship.subject_matches,
            claim_conditions: relationship.claim_conditions.into_iter().map(Into::into).collect(),
            cel_condition: relationship.cel_condition,
            attribute_mapping: relationship.attribute_mapping.into_iter().collect(),
            subject_audiences: relationship.subject_audiences,
            access_token_audiences: relationship.access_token_audiences,
            scopes: relationship.scopes,
            grants: relationship.grants.into_iter().map(Into::into).collect(),
            enabled: relationship.enabled,
        }
    }
}

impl From<&ClaimCondition> for wire::ClaimCondition {
    fn from(condition: &ClaimCondition) -> Self {
        use wire::claim_condition::Test;
        let test = match &condition.test {
            ClaimTest::Equals(value) => Test::Equals(value.into()),
            ClaimTest::OneOf(values) => Test::OneOf(wire::ClaimValues { values: values.iter().map(Into::into).collect() }),
            ClaimTest::Glob(pattern) => Test::Glob(pattern.to_string()),
            ClaimTest::Contains(value) => Test::Contains(value.into()),
            ClaimTest::Exists => Test::Exists(true),
        };
        Self { claim: condition.claim.to_string(), test: Some(test), negated: condition.negated }
    }
}

impl From<&ClaimValue> for wire::ClaimValue {
    fn from(value: &ClaimValue) -> Self {
        use wire::claim_value::Kind;
        let kind = match value {
            ClaimValue::Text(text) => Kind::Text(text.clone()),
            ClaimValue::Integer(integer) => Kind::Integer(*integer),
            ClaimValue::Boolean(truth) => Kind::Boolean(*truth),
        };
        Self { kind: Some(kind) }
    }
}

impl From<wire::ClaimCondition> for ClaimConditionDraft {
    /// A value without kind is empty text, which no condition may compare with.
    fn from(condition: wire::ClaimCondition) -> Self {
        use wire::claim_condition::Test;
        let draft = Self { claim: condition.claim, negated: condition.negated, ..Self::default() };
        match condition.test {
            Some(Test::Equals(value)) => Self { equals: Some(value.into()), ..draft },
            Some(Test::OneOf(wire::ClaimValues { values })) => {
                Self { one_of: values.into_iter().map(Into::into).collect(), ..draft }
            }
            Some(Test::Glob(pattern)) => Self { glob: Some(pattern), ..draft },
            Some(Test::Contains(value)) => Self { contains: Some(value.into()), ..draft },
            Some(Test::Exists(exists)) => Self { exists, ..draft },
            None => draft,
        }
    }
}

impl From<wire::ClaimValue> for ClaimValue {
    fn from(value: wire::ClaimValue) -> Self {
        use wire::claim_value::Kind;
        match value.kind {
            Some(Kind::Text(text)) => Self::Text(text),
            Some(Kind::Integer(integer)) => Self::Integer(integer),
            Some(Kind::Boolean(truth)) => Self::Boolean(truth),
            None => Self::Text(String::new()),
        }
    }
}

impl From<WorkspaceState> for wire::WorkspaceState {
    fn from(state: WorkspaceState) -> Self {
        match state {
            WorkspaceState::Active => Self::Active,
            WorkspaceState::Disabled => Self::Disabled,
        }
    }
}

impl From<ReplayPolicy> for wire::ReplayPolicy {
    fn from(policy: ReplayPolicy) -> Self {
        match policy {
            ReplayPolicy::SingleUse => Self::SingleUse,
            ReplayPolicy::RequireJti => Self::RequireJti,
            ReplayPolicy::Reusable => Self::Reusable,
        }
    }
}

pub(super) fn read_state(state: i32) -> Given<WorkspaceState> {
    match wire::WorkspaceState::try_from(state) {
        Ok(wire::WorkspaceState::Unspecified) => None,
        Ok(wire::WorkspaceState::Active) => Some(Ok(WorkspaceState::Active)),
        Ok(wire::WorkspaceState::Disabled) => Some(Ok(WorkspaceState::Disabled)),
        Err(_) => Some(Err(Unreadable("must be a value of WorkspaceState"))),
    }
}

fn read_replay_policy(policy: i32) -> Given<ReplayPolicy> {
    match wire::ReplayPolicy::try_from(policy) {
        Ok(wire::ReplayPolicy::Unspecified) => None,
        Ok(wire::ReplayPolicy::SingleUse) => Some(Ok(ReplayPolicy::SingleUse)),
        Ok(wire::ReplayPolicy::RequireJti) => Some(Ok(ReplayPolicy::RequireJti)),
        Ok(wire::ReplayPolicy::Reusable) => Some(Ok(ReplayPolicy::Reusable)),
        Err(_) => Some(Err(Unreadable("must be a value of ReplayPolicy"))),
    }
}
