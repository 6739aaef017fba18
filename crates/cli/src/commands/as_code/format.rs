//! What files hold: one document for each trusted issuer and each trust relationship, with the names of the proto files.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_domain::trust::claim_condition::{ClaimCondition, ClaimConditionDraft};
use countersign_domain::values::grant::Grant;
use countersign_proto::common;
use countersign_proto::trust_v1::{ReplayPolicy, TrustRelationship, TrustedIssuer};
use serde::{Deserialize, Serialize};

use super::read::Fields;
use crate::duration;

/// A duration as the command line takes it: `3600s`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Length(Duration);

/// A moment in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Moment(prost_types::Timestamp);

/// A replay policy by its name on the wire, without the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Replay {
    SingleUse,
    RequireJti,
    Reusable,
}

macro_rules! document {
    ($(#[$doc:meta])* $name:ident = $kind:literal { $($field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize)]
        pub(super) struct $name {
            $(
                #[serde(skip_serializing_if = "is_default")]
                pub(super) $field: $type,
            )+
        }

        impl $name {
            /// What `kind` says.
            pub(super) const KIND: &str = $kind;
            /// The names of the fields beside `kind`.
            #[cfg(test)]
            pub(super) const FIELDS: &[&str] = &[$(stringify!($field),)+];

            /// Reads every field. What is wrong is noted, and stands for nothing.
            pub(super) fn read(fields: &mut Fields<'_>) -> Self {
                Self { $($field: fields.take(stringify!($field)),)+ }
            }
        }
    };
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

document! {
    /// A trusted issuer, named by `issuer_url`.
    IssuerDocument = "TrustedIssuer" {
        issuer_url: String,
        display_name: String,
        preset: String,
        enabled: Option<bool>,
        subject_audiences: Vec<String>,
        algorithms: Vec<String>,
        token_types: Vec<String>,
        max_token_lifetime: Option<Length>,
        clock_skew: Option<Length>,
        replay_policy: Option<Replay>,
        jwks_url: String,
        jwks: String,
        jwks_expire_time: Option<Moment>,
        ca_certificates: String,
        max_stale_age: Option<Length>,
    }
}

document! {
    /// A trust relationship, named by `key`, or by `id` when it has no key yet. Its issuer is named by URL.
    RelationshipDocument = "TrustRelationship" {
        key: String,
        id: String,
        issuer_url: String,
        display_name: String,
        enabled: Option<bool>,
        subject_matches: Vec<String>,
        claim_conditions: Vec<ClaimConditionDraft>,
        cel_condition: String,
        attribute_mapping: BTreeMap<String, String>,
        subject_audiences: Vec<String>,
        access_token_audiences: Vec<String>,
        scopes: Vec<String>,
        grants: Vec<Grant>,
        token_duration: Option<Length>,
        expire_time: Option<Moment>,
    }
}

/// A document as it is written.
#[derive(Debug, Serialize)]
struct Written<'a, T> {
    kind: &'static str,
    #[serde(flatten)]
    document: &'a T,
}

/// The documents as one file.
///
/// # Errors
/// A document cannot be written as YAML.
pub(super) fn write(issuers: &[IssuerDocument], relationships: &[RelationshipDocument]) -> Result<String, serde_norway::Error> {
    let issuers = issuers.iter().map(|document| serde_norway::to_string(&Written { kind: IssuerDocument::KIND, document }));
    let relationships =
        relationships.iter().map(|document| serde_norway::to_string(&Written { kind: RelationshipDocument::KIND, document }));
    let documents: Vec<String> = issuers.chain(relationships).collect::<Result<_, _>>()?;
    Ok(documents.join("---\n"))
}

impl From<TrustedIssuer> for IssuerDocument {
    fn from(issuer: TrustedIssuer) -> Self {
        Self {
            replay_policy: Replay::of(issuer.replay_policy()),
            issuer_url: issuer.issuer_url,
            display_name: issuer.display_name,
            preset: issuer.preset,
            enabled: (!issuer.enabled).then_some(false),
            subject_audiences: issuer.subject_audiences,
            algorithms: issuer.algorithms,
            token_types: issuer.token_types,
            max_token_lifetime: issuer.max_token_lifetime.and_then(Length::of),
            clock_skew: issuer.clock_skew.and_then(Length::of),
            jwks_url: issuer.jwks_url,
            jwks: issuer.jwks,
            jwks_expire_time: issuer.jwks_expire_time.map(Moment),
            ca_certificates: issuer.ca_certificates,
            max_stale_age: issuer.max_stale_age.and_then(Length::of),
        }
    }
}

impl From<IssuerDocument> for TrustedIssuer {
    fn from(document: IssuerDocument) -> Self {
        Self {
            issuer_url: document.issuer_url,
            display_name: document.display_name,
            preset: document.preset,
            enabled: document.enabled.unwrap_or(true),
            subject_audiences: document.subject_audiences,
            algorithms: document.algorithms,
            token_types: document.token_types,
            max_token_lifetime: document.max_token_lifetime.map(Length::wire),
            clock_skew: document.clock_skew.map(Length::wire),
            replay_policy: document.replay_policy.map(ReplayPolicy::from).unwrap_or_default().into(),
            jwks_url: document.jwks_url,
            jwks: document.jwks,
            jwks_expire_time: document.jwks_expire_time.map(|moment| moment.0),
            ca_certificates: document.ca_certificates,
            max_stale_age: document.max_stale_age.map(Length::wire),
            ..Self::default()
        }
    }
}

impl RelationshipDocument {
    /// The document of a relationship of this issuer. A relationship without key is named by its id.
    pub(super) fn of(relationship: TrustRelationship, issuer_url: String) -> Self {
        Self {
            id: if relationship.key.is_empty() { relationship.id } else { String::new() },
            key: relationship.key,
            issuer_url,
            display_name: relationship.display_name,
            enabled: (!relationship.enabled).then_some(false),
            subject_matches: relationship.subject_matches,
            claim_conditions: relationship.claim_conditions.into_iter().map(ClaimConditionDraft::from).collect(),
            cel_condition: relationship.cel_condition,
            attribute_mapping: relationship.attribute_mapping.into_iter().collect(),
            subject_audiences: relationship.subject_audiences,
            access_token_audiences: relationship.access_token_audiences,
            scopes: relationship.scopes,
            grants: relationship.grants.into_iter().map(Grant::from).collect(),
            token_duration: relationship.token_duration.and_then(Length::of),
            expire_time: relationship.expire_time.map(Moment),
        }
    }

    /// The relationship as the service takes it. Conditions that are none are left out: whoever asks has checked them.
    pub(super) fn into_wire(self) -> TrustRelationship {
        let conditions = self.claim_conditions.into_iter().filter_map(|written| ClaimCondition::try_from(written).ok());
        TrustRelationship {
            id: self.id,
            key: self.key,
            display_name: self.display_name,
            enabled: self.enabled.unwrap_or(true),
            subject_matches: self.subject_matches,
            claim_conditions: conditions.map(|condition| (&condition).into()).collect(),
            cel_condition: self.cel_condition,
            attribute_mapping: self.attribute_mapping.into_iter().collect(),
            subject_audiences: self.subject_audiences,
            access_token_audiences: self.access_token_audiences,
            scopes: self.scopes,
            grants: self.grants.into_iter().map(Into::into).collect(),
            token_duration: self.token_duration.map(Length::wire),
            expire_time: self.expire_time.map(|moment| moment.0),
            ..TrustRelationship::default()
        }
    }
}

impl Length {
    fn of(wire: prost_types::Duration) -> Option<Self> {
        common::read_duration(&wire).ok().map(Self)
    }

    fn wire(self) -> prost_types::Duration {
        common::duration(self.0)
    }
}

impl TryFrom<String> for Length {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        duration::parse(&text).map(Self)
    }
}

impl From<Length> for String {
    fn from(length: Length) -> Self {
        duration::from_wire(&length.wire())
    }
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        duration::parse_moment(&text).map(Self)
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        duration::moment_from_wire(&moment.0)
    }
}

impl Replay {
    fn of(policy: ReplayPolicy) -> Option<Self> {
        match policy {
            ReplayPolicy::Unspecified => None,
            ReplayPolicy::SingleUse => Some(Self::SingleUse),
            ReplayPolicy::RequireJti => Some(Self::RequireJti),
            ReplayPolicy::Reusable => Some(Self::Reusable),
        }
    }
}

impl From<Replay> for ReplayPolicy {
    fn from(policy: Replay) -> Self {
        match policy {
            Replay::SingleUse => Self::SingleUse,
            Replay::RequireJti => Self::RequireJti,
            Replay::Reusable => Self::Reusable,
        }
    }
}
