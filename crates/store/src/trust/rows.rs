//! Rows to resources and back. A row that cannot be read is an error, never a default.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use countersign_domain::trust::issuer_health::{IssuerHealth, IssuerHealthReport, IssuerProblem};
use countersign_domain::trust::key_source::KeySource;
use countersign_domain::trust::policy_feed::DirectoryEntry;
use countersign_domain::trust::trust_relationship::{TrustRelationship, TrustRelationshipSettings};
use countersign_domain::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerSettings};
use countersign_domain::trust::workspace::{Workspace, WorkspaceState};
use countersign_domain::values::replay_policy::ReplayPolicy;
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::token_type::TokenType;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entity::{trust_relationship, trusted_issuer, trusted_issuer_health, workspace};
use crate::database::StoreError;

impl TryFrom<workspace::Model> for Workspace {
    type Error = StoreError;

    fn try_from(row: workspace::Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: parse("workspace id", &row.id)?,
            display_name: parse("workspace name", &row.display_name)?,
            state: read_state(&row.state)?,
            revision: row.revision,
            policy_revision: row.policy_revision,
            created_at: read_time(row.created_at)?,
            updated_at: read_time(row.updated_at)?,
        })
    }
}

impl From<&Workspace> for workspace::Model {
    fn from(workspace: &Workspace) -> Self {
        Self {
            id: workspace.id.to_string(),
            display_name: workspace.display_name.to_string(),
            state: state(workspace.state).to_owned(),
            revision: workspace.revision,
            policy_revision: workspace.policy_revision,
            created_at: time(workspace.created_at),
            updated_at: time(workspace.updated_at),
        }
    }
}

impl TryFrom<trusted_issuer::Model> for TrustedIssuer {
    type Error = StoreError;

    fn try_from(row: trusted_issuer::Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: parse("trusted issuer id", &row.id)?,
            workspace_id: parse("workspace id", &row.workspace_id)?,
            settings: TrustedIssuerSettings {
                display_name: parse_optional("trusted issuer name", row.display_name.as_deref())?,
                preset: parse_optional("preset", row.preset.as_deref())?,
                issuer_url: parse("issuer URL", &row.issuer_url)?,
                key_source: read_key_source(&row)?,
                subject_audiences: read_json("list of audiences", &row.subject_audiences)?,
                algorithms: read_json("list of algorithms", &row.algorithms)?,
                token_types: read_json::<BTreeSet<Option<TokenType>>>("list of token types", &row.token_types)?,
                max_token_lifetime: read_seconds(row.max_token_lifetime)?,
                clock_skew: read_seconds(row.clock_skew)?,
                replay_policy: read_replay_policy(&row.replay_policy)?,
                enabled: row.enabled,
            },
            revision: row.revision,
            created_at: read_time(row.created_at)?,
            updated_at: read_time(row.updated_at)?,
        })
    }
}

impl TryFrom<&TrustedIssuer> for trusted_issuer::Model {
    type Error = StoreError;

    fn try_from(issuer: &TrustedIssuer) -> Result<Self, StoreError> {
        let settings = &issuer.settings;
        let keys = KeyColumns::try_from(&settings.key_source)?;
        Ok(Self {
            id: issuer.id.to_string(),
            workspace_id: issuer.workspace_id.to_string(),
            display_name: settings.display_name.as_ref().map(ToString::to_string),
            preset: settings.preset.as_ref().map(ToString::to_string),
            issuer_url: settings.issuer_url.to_string(),
            jwks_url: keys.jwks_url,
            jwks: keys.jwks,
            jwks_expires_at: keys.jwks_expires_at,
            ca_certificates: keys.ca_certificates,
            max_stale_age: keys.max_stale_age,
            subject_audiences: json("list of audiences", &settings.subject_audiences)?,
            algorithms: json("list of algorithms", &settings.algorithms)?,
            token_types: json("list of token types", &settings.token_types)?,
            max_token_lifetime: seconds(settings.max_token_lifetime)?,
            clock_skew: seconds(settings.clock_skew)?,
            replay_policy: replay_policy(settings.replay_policy).to_owned(),
            enabled: settings.enabled,
            revision: issuer.revision,
            created_at: time(issuer.created_at),
            updated_at: time(issuer.updated_at),
        })
    }
}

/// The columns in which a key source is written.
#[derive(Default)]
struct KeyColumns {
    jwks_url: Option<String>,
    jwks: Option<String>,
    jwks_expires_at: Option<i64>,
    ca_certificates: Option<String>,
    max_stale_age: Option<i64>,
}

impl TryFrom<&KeySource> for KeyColumns {
    type Error = StoreError;

    fn try_from(source: &KeySource) -> Result<Self, StoreError> {
        Ok(match source {
            KeySource::Fetched { jwks_url, authorities, max_stale_age } => Self {
                jwks_url: jwks_url.as_ref().map(ToString::to_string),
                ca_certificates: authorities.as_ref().map(ToString::to_string),
                max_stale_age: Some(seconds(*max_stale_age)?),
                ..Self::default()
            },
            KeySource::Uploaded { key_set, not_after } => {
                Self { jwks: Some(key_set.to_string()), jwks_expires_at: Some(time(*not_after)), ..Self::default() }
            }
        })
    }
}

fn read_key_source(row: &trusted_issuer::Model) -> Result<KeySource, StoreError> {
    if let Some(jwks) = &row.jwks {
        let end = row.jwks_expires_at.ok_or_else(|| StoreError::unreadable("end of uploaded keys", "there is none"))?;
        return Ok(KeySource::Uploaded { key_set: parse("uploaded key set", jwks)?, not_after: read_time(end)? });
    }
    Ok(KeySource::Fetched {
        jwks_url: parse_optional("key set URL", row.jwks_url.as_deref())?,
        authorities: parse_optional("authorities", row.ca_certificates.as_deref())?,
        max_stale_age: row.max_stale_age.map_or(Ok(KeySource::DEFAULT_MAX_STALE_AGE), read_seconds)?,
    })
}

/// A problem of an issuer, and whether it is for operators only. Those that do not say are.
#[derive(serde::Serialize, serde::Deserialize)]
struct StoredFailure {
    #[serde(flatten)]
    problem: IssuerProblem,
    #[serde(default = "yes")]
    is_internal: bool,
}

const fn yes() -> bool {
    true
}

impl TryFrom<trusted_issuer_health::Model> for IssuerHealth {
    type Error = StoreError;

    fn try_from(row: trusted_issuer_health::Model) -> Result<Self, StoreError> {
        let failure: Option<StoredFailure> =
            row.problem.as_deref().map(|problem| read_json("problem of an issuer", problem)).transpose()?;
        Ok(Self {
            attempted_at: read_time(row.attempted_at)?,
            succeeded_at: row.succeeded_at.map(read_time).transpose()?,
            problem: failure.as_ref().map(|failure| failure.problem),
            is_internal: failure.is_some_and(|failure| failure.is_internal),
            keys: read_json("keys of an issuer", &row.keys)?,
        })
    }
}

impl TryFrom<&IssuerHealthReport> for trusted_issuer_health::Model {
    type Error = StoreError;

    fn try_from(report: &IssuerHealthReport) -> Result<Self, StoreError> {
        let IssuerHealth { attempted_at, succeeded_at, problem, is_internal, keys } = &report.health;
        let failure = problem.map(|problem| StoredFailure { problem, is_internal: *is_internal });
        Ok(Self {
            trusted_issuer_id: report.trusted_issuer_id.to_string(),
            attempted_at: time(*attempted_at),
            succeeded_at: succeeded_at.map(time),
            problem: failure.map(|failure| json("problem of an issuer", &failure)).transpose()?,
            keys: json("keys of an issuer", keys)?,
        })
    }
}

impl TryFrom<trust_relationship::Model> for TrustRelationship {
    type Error = StoreError;

    fn try_from(row: trust_relationship::Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: parse("trust relationship id", &row.id)?,
            workspace_id: parse("workspace id", &row.workspace_id)?,
            trusted_issuer_id: parse("trusted issuer id", &row.trusted_issuer_id)?,
            settings: TrustRelationshipSettings {
                display_name: parse_optional("trust relationship name", row.display_name.as_deref())?,
                key: parse_optional("trust relationship key", row.key.as_deref())?,
                subject_matches: read_json("list of subject matches", &row.subject_matches)?,
                claim_conditions: read_json_or_default("list of claim conditions", row.claim_conditions.as_deref())?,
                cel_condition: parse_optional("CEL condition", row.cel_condition.as_deref())?,
                attribute_mapping: read_json_or_default("attribute mapping", row.attribute_mapping.as_deref())?,
                subject_audiences: read_json("list of audiences", &row.subject_audiences)?,
                access_token_audiences: read_json("list of audiences", &row.access_token_audiences)?,
                scopes: read_json("list of scopes", &row.scopes)?,
                grants: read_json("list of grants", &row.grants)?,
                token_duration: read_seconds(row.token_duration)?,
                expires_at: row.expires_at.map(read_time).transpose()?,
                enabled: row.enabled,
            },
            revision: row.revision,
            creator: row.creator,
            created_at: read_time(row.created_at)?,
            updated_at: read_time(row.updated_at)?,
        })
    }
}

impl TryFrom<&TrustRelationship> for trust_relationship::Model {
    type Error = StoreError;

    fn try_from(relationship: &TrustRelationship) -> Result<Self, StoreError> {
        let settings = &relationship.settings;
        Ok(Self {
            id: relationship.id.to_string(),
            workspace_id: relationship.workspace_id.to_string(),
            trusted_issuer_id: relationship.trusted_issuer_id.to_string(),
            display_name: settings.display_name.as_ref().map(ToString::to_string),
            key: settings.key.as_ref().map(ToString::to_string),
            subject_matches: json("list of subject matches", &settings.subject_matches)?,
            claim_conditions: Some(json("list of claim conditions", &settings.claim_conditions)?),
            cel_condition: settings.cel_condition.as_ref().map(ToString::to_string),
            attribute_mapping: Some(json("attribute mapping", &settings.attribute_mapping)?),
            subject_audiences: json("list of audiences", &settings.subject_audiences)?,
            access_token_audiences: json("list of audiences", &settings.access_token_audiences)?,
            scopes: json("list of scopes", &settings.scopes)?,
            grants: json("list of grants", &settings.grants)?,
            token_duration: seconds(settings.token_duration)?,
            expires_at: settings.expires_at.map(time),
            enabled: settings.enabled,
            revision: relationship.revision,
            creator: relationship.creator.clone(),
            created_at: time(relationship.created_at),
            updated_at: time(relationship.updated_at),
        })
    }
}

/// A workspace and the URLs of its issuers.
pub(super) fn directory_entry(row: workspace::Model, issuer_urls: &[String]) -> Result<DirectoryEntry, StoreError> {
    let workspace = Workspace::try_from(row)?;
    Ok(DirectoryEntry {
        workspace_id: workspace.id,
        state: workspace.state,
        policy_revision: workspace.policy_revision,
        issuer_urls: issuer_urls.iter().map(|url| parse("issuer URL", url)).collect::<Result<_, _>>()?,
        display_name: workspace.display_name,
    })
}

pub(super) const fn state(state: WorkspaceState) -> &'static str {
    match state {
        WorkspaceState::Active => "active",
        WorkspaceState::Disabled => "disabled",
    }
}

fn read_state(text: &str) -> Result<WorkspaceState, StoreError> {
    match text {
        "active" => Ok(WorkspaceState::Active),
        "disabled" => Ok(WorkspaceState::Disabled),
        other => Err(StoreError::unreadable("workspace state", other)),
    }
}

const fn replay_policy(policy: ReplayPolicy) -> &'static str {
    match policy {
        ReplayPolicy::SingleUse => "single_use",
        ReplayPolicy::RequireJti => "require_jti",
        ReplayPolicy::Reusable => "reusable",
    }
}

fn read_replay_policy(text: &str) -> Result<ReplayPolicy, StoreError> {
    match text {
        "single_use" => Ok(ReplayPolicy::SingleUse),
        "require_jti" => Ok(ReplayPolicy::RequireJti),
        "reusable" => Ok(ReplayPolicy::Reusable),
        other => Err(StoreError::unreadable("replay policy", other)),
    }
}

/// Microseconds since the epoch.
pub(super) fn time(time: Timestamp) -> i64 {
    time.as_microsecond()
}

pub(super) fn read_time(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|cause| StoreError::unreadable("time", cause))
}

fn seconds(duration: Duration) -> Result<i64, StoreError> {
    i64::try_from(duration.as_secs()).map_err(|cause| StoreError::unreadable("duration", cause))
}

fn read_seconds(seconds: i64) -> Result<Duration, StoreError> {
    u64::try_from(seconds).map(Duration::from_secs).map_err(|cause| StoreError::unreadable("duration", cause))
}

pub(super) fn json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|cause| StoreError::unreadable(what, cause))
}

pub(super) fn read_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|cause| StoreError::unreadable(what, cause))
}

/// Reads a column that rows from before it was added do not have.
pub(super) fn read_json_or_default<T: DeserializeOwned + Default>(
    what: &'static str,
    text: Option<&str>,
) -> Result<T, StoreError> {
    text.map_or_else(|| Ok(T::default()), |text| read_json(what, text))
}

pub(super) fn parse<T>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|cause: T::Err| StoreError::unreadable(what, cause.to_string()))
}

pub(super) fn parse_optional<T>(what: &'static str, text: Option<&str>) -> Result<Option<T>, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    text.map(|text| parse(what, text)).transpose()
}
