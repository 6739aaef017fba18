//! Resources as the commands show them: JSON with the names of the proto files.

use std::collections::BTreeMap;

use countersign_domain::issuing::profile::ProfileDefinition;
use countersign_domain::trust::claim_condition::ClaimConditionDraft;
use countersign_proto::common_v1::Grant;
use countersign_proto::issuer_v1::{FormerSubjectForms, Issuer, KeyCustody, SigningKey, SigningKeyWait};
use countersign_proto::trust_v1::{
    ReplayPolicy, TrustRelationship, TrustedIssuer, TrustedIssuerHealth, TrustedIssuerProblem, Workspace, WorkspaceState,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::duration;
use crate::text_file;

fn moment(moment: Option<&prost_types::Timestamp>) -> Option<String> {
    moment.map(duration::moment_from_wire)
}

fn length(length: Option<&prost_types::Duration>) -> Option<String> {
    length.map(duration::from_wire)
}

/// An enum's name without the prefix that the wire wants.
fn short(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// A workspace's state: `ACTIVE`, `DISABLED`.
pub(crate) fn workspace_state(workspace: &Workspace) -> &'static str {
    short(workspace.state().as_str_name(), "WORKSPACE_STATE_")
}

/// A workspace as JSON.
pub(crate) fn workspace_json(workspace: &Workspace) -> Value {
    json!({
        "id": workspace.id,
        "display_name": workspace.display_name,
        "state": workspace_state(workspace),
        "etag": workspace.etag,
        "create_time": moment(workspace.create_time.as_ref()),
        "update_time": moment(workspace.update_time.as_ref()),
    })
}

/// A trusted issuer as JSON.
pub(crate) fn trusted_issuer_json(issuer: &TrustedIssuer) -> Value {
    json!({
        "id": issuer.id,
        "workspace_id": issuer.workspace_id,
        "display_name": issuer.display_name,
        "preset": issuer.preset,
        "issuer_url": issuer.issuer_url,
        "jwks_url": issuer.jwks_url,
        "jwks": issuer.jwks,
        "jwks_expire_time": moment(issuer.jwks_expire_time.as_ref()),
        "ca_certificates": issuer.ca_certificates,
        "max_stale_age": length(issuer.max_stale_age.as_ref()),
        "subject_audiences": issuer.subject_audiences,
        "algorithms": issuer.algorithms,
        "token_types": issuer.token_types,
        "max_token_lifetime": length(issuer.max_token_lifetime.as_ref()),
        "clock_skew": length(issuer.clock_skew.as_ref()),
        "replay_policy": short(issuer.replay_policy().as_str_name(), "REPLAY_POLICY_"),
        "enabled": issuer.enabled,
        "etag": issuer.etag,
        "create_time": moment(issuer.create_time.as_ref()),
        "update_time": moment(issuer.update_time.as_ref()),
        "health": issuer.health.as_ref().map(health_json),
    })
}

fn health_json(health: &TrustedIssuerHealth) -> Value {
    let problem = short(health.problem().as_str_name(), "TRUSTED_ISSUER_PROBLEM_");
    json!({
        "attempt_time": moment(health.attempt_time.as_ref()),
        "success_time": moment(health.success_time.as_ref()),
        "problem": (health.problem() != TrustedIssuerProblem::Unspecified).then_some(problem),
        "http_status": (health.http_status != 0).then_some(health.http_status),
        "usable_keys": health.usable_keys,
        "key_ids": health.key_ids,
        "ambiguous_key_ids": health.ambiguous_key_ids,
        "unusable_keys": health.unusable_keys,
    })
}

/// A trust relationship as JSON, with the URL of its issuer beside the id.
pub(crate) fn trust_relationship_json(relationship: &TrustRelationship, issuer_url: Option<&str>) -> Value {
    json!({
        "id": relationship.id,
        "workspace_id": relationship.workspace_id,
        "trusted_issuer_id": relationship.trusted_issuer_id,
        "issuer_url": issuer_url,
        "display_name": relationship.display_name,
        "key": relationship.key,
        "subject_matches": relationship.subject_matches,
        "claim_conditions": relationship.claim_conditions.iter().cloned().map(ClaimConditionDraft::from).collect::<Vec<_>>(),
        "cel_condition": relationship.cel_condition,
        "attribute_mapping": relationship.attribute_mapping.iter().collect::<BTreeMap<_, _>>(),
        "subject_audiences": relationship.subject_audiences,
        "access_token_audiences": relationship.access_token_audiences,
        "scopes": relationship.scopes,
        "grants": relationship.grants.iter().map(GrantJson::from).collect::<Vec<_>>(),
        "token_duration": length(relationship.token_duration.as_ref()),
        "expire_time": moment(relationship.expire_time.as_ref()),
        "enabled": relationship.enabled,
        "revision": relationship.revision,
        "etag": relationship.etag,
        "creator": relationship.creator,
        "create_time": moment(relationship.create_time.as_ref()),
        "update_time": moment(relationship.update_time.as_ref()),
        "last_use_time": moment(relationship.last_use_time.as_ref()),
    })
}

/// An issuer of ours as JSON.
pub(crate) fn issuer_json(issuer: &Issuer) -> Value {
    json!({
        "id": issuer.id,
        "workspace_id": issuer.workspace_id,
        "display_name": issuer.display_name,
        "issuer_url": issuer.issuer_url,
        "profile": issuer.profile,
        "profile_definition": issuer.profile_definition.clone().map(ProfileDefinition::from),
        "subject_templates": issuer.subject_templates,
        "former_subject_forms": issuer.former_subject_forms.iter().map(former_subjects_json).collect::<Vec<_>>(),
        "algorithms": issuer.algorithms,
        "allowed_audiences": issuer.allowed_audiences,
        "default_token_duration": length(issuer.default_token_duration.as_ref()),
        "max_token_duration": length(issuer.max_token_duration.as_ref()),
        "rotation_period": length(issuer.rotation_period.as_ref()),
        "key_custody": short(issuer.key_custody().as_str_name(), "KEY_CUSTODY_"),
        "etag": issuer.etag,
        "create_time": moment(issuer.create_time.as_ref()),
        "update_time": moment(issuer.update_time.as_ref()),
    })
}

fn former_subjects_json(former: &FormerSubjectForms) -> Value {
    json!({"templates": former.templates, "replace_time": moment(former.replace_time.as_ref())})
}

/// A signing key's state: `PREPARED`, `ACTIVE`, `RETIRING`, `RETIRED`, `REVOKED`.
pub(crate) fn signing_key_state(key: &SigningKey) -> &'static str {
    short(key.state().as_str_name(), "SIGNING_KEY_STATE_")
}

/// What a signing key waits for, for people; empty when its state is final.
pub(crate) fn signing_key_wait(key: &SigningKey) -> &'static str {
    match key.wait() {
        SigningKeyWait::Unspecified => "",
        SigningKeyWait::Export => "the export to have it",
        SigningKeyWait::KeySetCopies => "verifiers' copies of the key set to expire",
        SigningKeyWait::RotationPeriod => "the end of the rotation period",
        SigningKeyWait::RotationRequest => "somebody to rotate it",
        SigningKeyWait::IssuedTokens => "the tokens it signed to expire",
    }
}

/// A signing key as JSON. There is nothing secret in it.
pub(crate) fn signing_key_json(key: &SigningKey) -> Value {
    json!({
        "key_id": key.key_id,
        "issuer_id": key.issuer_id,
        "algorithm": key.algorithm,
        "state": signing_key_state(key),
        "key_custody": (key.key_custody() != KeyCustody::Unspecified).then(|| short(key.key_custody().as_str_name(), "KEY_CUSTODY_")),
        "create_time": moment(key.create_time.as_ref()),
        "activate_time": moment(key.activate_time.as_ref()),
        "retire_time": moment(key.retire_time.as_ref()),
        "withdraw_time": moment(key.withdraw_time.as_ref()),
        "revoke_time": moment(key.revoke_time.as_ref()),
        "next_change_time": moment(key.next_change_time.as_ref()),
        "wait": (key.wait() != SigningKeyWait::Unspecified).then(|| short(key.wait().as_str_name(), "SIGNING_KEY_WAIT_")),
    })
}

/// A grant as `--grant` takes it.
#[derive(Debug, Serialize)]
struct GrantJson<'a> {
    resource_type: &'a str,
    resource_id: &'a str,
    actions: &'a [String],
}

impl<'a> From<&'a Grant> for GrantJson<'a> {
    fn from(grant: &'a Grant) -> Self {
        let Grant { resource_type, resource_id, actions } = grant;
        Self { resource_type, resource_id, actions }
    }
}

/// Reads `--grant`.
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse_grant(text: &str) -> Result<Grant, String> {
    let grant: countersign_domain::values::grant::Grant = serde_json::from_str(text).map_err(|error| {
        let problem = text_file::problem(&error.to_string());
        format!(r#"is not a grant: {problem}; write {{"resource_type":"vault","resource_id":"deploy-vault","actions":["read"]}}"#)
    })?;
    let countersign_domain::values::grant::Grant { resource_type, resource_id, actions } = grant;
    Ok(Grant { resource_type, resource_id, actions })
}

/// A grant in few characters: `vault/deploy-vault:read,write`.
pub(crate) fn grant_summary(grant: &Grant) -> String {
    format!("{}/{}:{}", grant.resource_type, grant.resource_id, grant.actions.join(","))
}

/// The states a workspace can be put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WorkspaceStateArg {
    /// Tokens are exchanged.
    Active,
    /// Nothing is minted.
    Disabled,
}

impl From<WorkspaceStateArg> for WorkspaceState {
    fn from(state: WorkspaceStateArg) -> Self {
        match state {
            WorkspaceStateArg::Active => Self::Active,
            WorkspaceStateArg::Disabled => Self::Disabled,
        }
    }
}

/// Where the private half of a signing key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KeyCustodyArg {
    /// In the database, sealed under the key-encryption key.
    Sealed,
    /// In the deployment's PKCS #11 token, which does not give it away.
    Device,
}

impl From<KeyCustodyArg> for KeyCustody {
    fn from(custody: KeyCustodyArg) -> Self {
        match custody {
            KeyCustodyArg::Sealed => Self::Sealed,
            KeyCustodyArg::Device => Self::Device,
        }
    }
}

/// How often one token may be exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ReplayPolicyArg {
    /// Once. A token without `jti` is known by the hash of what was signed.
    SingleUse,
    /// Once, and a token without `jti` is refused.
    RequireJti,
    /// As often as it is valid.
    Reusable,
}

impl From<ReplayPolicyArg> for ReplayPolicy {
    fn from(policy: ReplayPolicyArg) -> Self {
        match policy {
            ReplayPolicyArg::SingleUse => Self::SingleUse,
            ReplayPolicyArg::RequireJti => Self::RequireJti,
            ReplayPolicyArg::Reusable => Self::Reusable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_read_as_it_is_shown() {
        let text = r#"{"resource_type":"vault","resource_id":"deploy-vault","actions":["read","write"]}"#;
        let grant = parse_grant(text).unwrap();
        assert_eq!(serde_json::to_string(&GrantJson::from(&grant)).unwrap(), text);
        assert_eq!(grant_summary(&grant), "vault/deploy-vault:read,write");
        for wrong in [
            "",
            "{}",
            r#"{"resource_type":"vault"}"#,
            r#"{"resource_type":1,"resource_id":"a","actions":[]}"#,
            r#"{"resource_type":"a","resource_id":"b","actions":["c"],"more":1}"#,
        ] {
            assert!(parse_grant(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn enums_are_shown_without_the_prefix_of_the_wire() {
        let workspace = Workspace { state: WorkspaceState::Disabled.into(), ..Workspace::default() };
        assert_eq!(workspace_json(&workspace)["state"], "DISABLED");
        let issuer = TrustedIssuer { replay_policy: ReplayPolicy::RequireJti.into(), ..TrustedIssuer::default() };
        assert_eq!(trusted_issuer_json(&issuer)["replay_policy"], "REQUIRE_JTI");
    }
}
