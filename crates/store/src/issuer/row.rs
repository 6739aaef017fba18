//! Rows to domain values, fallible, and back.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use countersign_domain::issuing::issuer::{Issuer, IssuerSettings};
use countersign_domain::issuing::profile::Profile;
use countersign_domain::issuing::signing_key::{KeyPolicy, Retirement, RotationPolicy, ServedKeySets, SigningKeyRecord};
use countersign_domain::values::id::IssuerId;
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::violation::Violations;
use sea_orm::ActiveValue::Set;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SealedSigningKey;
use super::entity::{issuer, issuer_url, served_key_sets, signing_key};
use crate::database::StoreError;

/// Reads the columns of one row.
struct Row<'a> {
    table: &'static str,
    key: &'a str,
}

impl Row<'_> {
    fn unreadable(&self, problem: impl Display) -> StoreError {
        StoreError::unreadable(self.table, format!("{}: {problem}", self.key))
    }

    fn parse<T: FromStr<Err: Display>>(&self, column: &str, text: &str) -> Result<T, StoreError> {
        text.parse().map_err(|error| self.unreadable(format_args!("{column} {error}")))
    }

    fn json<T: DeserializeOwned>(&self, column: &str, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| self.unreadable(format_args!("{column}: {error}")))
    }

    fn time(&self, column: &str, micros: i64) -> Result<Timestamp, StoreError> {
        Timestamp::from_microsecond(micros).map_err(|error| self.unreadable(format_args!("{column}: {error}")))
    }

    fn seconds(&self, column: &str, seconds: i64) -> Result<Duration, StoreError> {
        u64::try_from(seconds).map(Duration::from_secs).map_err(|error| self.unreadable(format_args!("{column}: {error}")))
    }
}

pub(super) fn to_issuer_id(id: &str) -> Result<IssuerId, StoreError> {
    Row { table: "issuer URL", key: id }.parse("issuer_id", id)
}

pub(super) fn to_issuer_url(url: &issuer_url::Model) -> Result<IssuerUrl, StoreError> {
    Row { table: "issuer URL", key: &url.issuer_id }.parse("issuer_url", &url.issuer_url)
}

/// An issuer whose URL is the one that was claimed for it.
pub(super) fn to_claimed_issuer(model: &issuer::Model, claimed: &issuer_url::Model) -> Result<Issuer, StoreError> {
    if model.issuer_url != claimed.issuer_url {
        return Err(Row { table: "issuer", key: &model.id }.unreadable("its URL is not the one claimed for it"));
    }
    to_issuer(model)
}

pub(super) fn to_issuer(model: &issuer::Model) -> Result<Issuer, StoreError> {
    let row = Row { table: "issuer", key: &model.id };
    Ok(Issuer {
        id: row.parse("id", &model.id)?,
        workspace_id: row.parse("workspace_id", &model.workspace_id)?,
        issuer_url: row.parse("issuer_url", &model.issuer_url)?,
        profile: to_profile(&row, model)?,
        former_subjects: row.json("former_subjects", &model.former_subjects)?,
        settings: IssuerSettings {
            display_name: model.display_name.as_deref().map(|name| row.parse("display_name", name)).transpose()?,
            algorithms: row.json("algorithms", &model.algorithms)?,
            allowed_audiences: row.json("allowed_audiences", &model.allowed_audiences)?,
            default_token_duration: row.seconds("default_token_seconds", model.default_token_seconds)?,
            max_token_duration: row.seconds("max_token_seconds", model.max_token_seconds)?,
            rotation: RotationPolicy::of_period(row.seconds("rotation_seconds", model.rotation_seconds)?),
            key_custody: row.json("key_custody", &model.key_custody)?,
        },
        revision: model.revision,
        created_at: row.time("created_at", model.created_at)?,
        updated_at: row.time("updated_at", model.updated_at)?,
        published_until: model.published_until.map(|until| row.time("published_until", until)).transpose()?,
    })
}

fn to_profile(row: &Row<'_>, model: &issuer::Model) -> Result<Profile, StoreError> {
    let Some(definition) = &model.profile_definition else { return row.parse("profile", &model.profile) };
    let mut violations = Violations::new();
    let profile = Profile::custom(row.json("profile_definition", definition)?, "profile_definition", &mut violations);
    // What says otherwise was changed by somebody else.
    let profile = profile.filter(|profile| profile.name() == model.profile);
    profile.ok_or_else(|| row.unreadable(format_args!("it has no such profile: {violations}")))
}

pub(super) fn from_issuer(issuer: &Issuer) -> issuer::ActiveModel {
    let Issuer {
        id,
        workspace_id,
        issuer_url,
        profile,
        former_subjects,
        settings,
        revision,
        created_at,
        updated_at,
        published_until,
    } = issuer;
    let IssuerSettings {
        display_name,
        algorithms,
        allowed_audiences,
        default_token_duration,
        max_token_duration,
        rotation,
        key_custody,
    } = settings;
    issuer::ActiveModel {
        id: Set(id.to_string()),
        workspace_id: Set(workspace_id.to_string()),
        issuer_url: Set(issuer_url.to_string()),
        profile: Set(profile.to_string()),
        profile_definition: Set(profile.is_custom().then(|| json(profile.definition()))),
        former_subjects: Set(json(former_subjects)),
        display_name: Set(display_name.as_ref().map(ToString::to_string)),
        algorithms: Set(json(algorithms)),
        allowed_audiences: Set(json(allowed_audiences)),
        default_token_seconds: Set(seconds(*default_token_duration)),
        max_token_seconds: Set(seconds(*max_token_duration)),
        rotation_seconds: Set(seconds(rotation.period())),
        key_custody: Set(json(key_custody)),
        revision: Set(*revision),
        created_at: Set(created_at.as_microsecond()),
        updated_at: Set(updated_at.as_microsecond()),
        published_until: Set(published_until.map(Timestamp::as_microsecond)),
    }
}

fn to_record(model: &signing_key::Model) -> Result<SigningKeyRecord, StoreError> {
    let row = Row { table: "signing key", key: &model.key_id };
    let retirement = match (model.sign_until, model.publish_until) {
        (Some(sign_until), Some(publish_until)) => Some(Retirement {
            sign_until: row.time("sign_until", sign_until)?,
            publish_until: row.time("publish_until", publish_until)?,
        }),
        (None, None) => None,
        _ => return Err(row.unreadable("only one end of its life is set")),
    };
    Ok(SigningKeyRecord {
        key_id: row.parse("key_id", &model.key_id)?,
        algorithm: row.parse("algorithm", &model.algorithm)?,
        generation: model.generation,
        created_at: row.time("created_at", model.created_at)?,
        activate_at: row.time("activate_at", model.activate_at)?,
        awaits_export: model.awaits_export,
        retirement,
        revoked_at: model.revoked_at.map(|revoked_at| row.time("revoked_at", revoked_at)).transpose()?,
    })
}

pub(super) fn to_sealed_key(model: signing_key::Model) -> Result<SealedSigningKey, StoreError> {
    let record = to_record(&model)?;
    Ok(SealedSigningKey { record, public_jwk: model.public_jwk, sealed_private_key: model.sealed_private_key })
}

pub(super) fn from_sealed_key(issuer_id: &str, key: &SealedSigningKey) -> signing_key::ActiveModel {
    let SealedSigningKey { record, public_jwk, sealed_private_key } = key;
    let SigningKeyRecord { key_id, algorithm, generation, created_at, activate_at, awaits_export, retirement, revoked_at } =
        record;
    signing_key::ActiveModel {
        issuer_id: Set(issuer_id.to_owned()),
        key_id: Set(key_id.to_string()),
        algorithm: Set(algorithm.to_string()),
        generation: Set(*generation),
        public_jwk: Set(public_jwk.clone()),
        sealed_private_key: Set(sealed_private_key.clone()),
        created_at: Set(created_at.as_microsecond()),
        activate_at: Set(activate_at.as_microsecond()),
        sign_until: Set(retirement.map(|end| end.sign_until.as_microsecond())),
        publish_until: Set(retirement.map(|end| end.publish_until.as_microsecond())),
        revoked_at: Set(revoked_at.map(Timestamp::as_microsecond)),
        awaits_export: Set(*awaits_export),
    }
}

pub(super) fn to_served(model: &served_key_sets::Model) -> Result<ServedKeySets, StoreError> {
    let row = Row { table: "served key sets", key: "of a policy" };
    Ok(ServedKeySets {
        policy: KeyPolicy {
            key_set_max_age: row.seconds("max_age_seconds", model.max_age_seconds)?,
            staleness_limit: row.seconds("staleness_limit_seconds", model.staleness_limit_seconds)?,
        },
        until: row.time("served_until", model.served_until)?,
    })
}

/// What names a row of served key sets.
pub(super) fn served_key(policy: KeyPolicy) -> (i64, i64) {
    (seconds(policy.key_set_max_age), seconds(policy.staleness_limit))
}

pub(super) fn from_served(served: ServedKeySets, revision: i64) -> served_key_sets::ActiveModel {
    let ServedKeySets { policy, until } = served;
    let (max_age_seconds, staleness_limit_seconds) = served_key(policy);
    served_key_sets::ActiveModel {
        max_age_seconds: Set(max_age_seconds),
        staleness_limit_seconds: Set(staleness_limit_seconds),
        served_until: Set(until.as_microsecond()),
        change_revision: Set(revision),
    }
}

/// Lists of names, former subjects and definitions of profiles always have a JSON form.
fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
