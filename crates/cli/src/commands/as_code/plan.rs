//! What it takes to make a workspace what files say, and what that means.

use std::collections::{HashMap, HashSet};

use countersign_domain::insight::comparison::{Change, Reason, compare};
use countersign_domain::trust::trust_relationship::{TrustRelationshipDraft, TrustRelationshipSettings};
use countersign_domain::trust::trusted_issuer::TrustedIssuerSettings;
use countersign_domain::values::violation::Violations;
use countersign_proto::trust_v1::{TrustRelationship, TrustedIssuer};
use serde::Serialize;

use super::format::{IssuerDocument, RelationshipDocument};
use super::read::{Declared, DeclaredIssuer, DeclaredRelationship, Place, Problems, issuer_settings, relationship_settings};

/// What a workspace holds, as the service lists it.
#[derive(Debug, Default)]
pub(super) struct Current {
    pub(super) issuers: Vec<TrustedIssuer>,
    pub(super) relationships: Vec<TrustRelationship>,
}

/// Everything that is to be done, in order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
}

/// What is to become of one resource.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Item {
    pub(super) action: Action,
    pub(super) kind: &'static str,
    /// An issuer's URL; a relationship's key, or its id when it has none.
    pub(super) name: String,
    /// Empty: the resource is not there yet.
    pub(super) id: String,
    /// Where the resource is written; nowhere when it is deleted.
    pub(super) place: Option<Place>,
    /// What it means for tokens. An issuer that comes or goes means nothing: it has no relationships then.
    pub(super) change: Change,
    pub(super) reasons: Vec<Reason>,
    /// The fields that change in an update.
    pub(super) fields: Vec<&'static str>,
    #[serde(skip)]
    pub(super) step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    Create,
    Update,
    Unchanged,
    Delete,
}

/// What the service is asked for. Updates and deletes carry the etag of what the plan was made of.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Nothing,
    CreateIssuer(TrustedIssuer),
    UpdateIssuer(TrustedIssuer),
    DeleteIssuer {
        etag: String,
    },
    /// Of the issuer with this URL.
    CreateRelationship(TrustRelationship, String),
    UpdateRelationship(TrustRelationship),
    DeleteRelationship {
        etag: String,
    },
}

impl Plan {
    /// Makes a plan. What cannot be done is noted.
    pub(super) fn new(declared: Declared, current: &Current, prune: bool, problems: &mut Problems) -> Self {
        let issuers: HashMap<&str, &TrustedIssuer> =
            current.issuers.iter().map(|issuer| (issuer.issuer_url.as_str(), issuer)).collect();
        let mut known: HashSet<String> = declared.issuers.iter().map(|issuer| issuer.wire.issuer_url.clone()).collect();
        let mut items = Vec::new();
        for issuer in declared.issuers {
            let there = issuers.get(issuer.wire.issuer_url.as_str()).copied();
            items.extend(issuer_item(issuer, there, problems));
        }
        let index = Index::of(current);
        let mut kept = HashSet::new();
        for relationship in declared.relationships {
            if !known.contains(&relationship.issuer_url) && !issuers.contains_key(relationship.issuer_url.as_str()) {
                let url = &relationship.issuer_url;
                let what = format_args!("issuer_url: `{url}` is no trusted issuer, neither in the files nor in the workspace");
                problems.add(&relationship.place, what);
                continue;
            }
            // An issuer that a relationship names is not deleted, whether it has a document or not.
            known.insert(relationship.issuer_url.clone());
            let Ok(there) = index.find(&relationship).map_err(|what| problems.add(&relationship.place, what)) else {
                continue;
            };
            if let Some(there) = there
                && !kept.insert(there.id.as_str())
            {
                problems.add(&relationship.place, format_args!("another document means {} as well, by key or id", there.id));
                continue;
            }
            if let Some(there) = there
                && issuers.get(relationship.issuer_url.as_str()).is_none_or(|issuer| issuer.id != there.trusted_issuer_id)
            {
                let what =
                    format_args!("issuer_url: the issuer of {} cannot change; give the new relationship another key", there.id);
                problems.add(&relationship.place, what);
                continue;
            }
            items.extend(relationship_item(relationship, there, problems));
        }
        if prune {
            let gone = current.relationships.iter().filter(|there| !kept.contains(there.id.as_str()));
            items.extend(gone.map(relationship_gone));
            let gone = current.issuers.iter().filter(|there| !known.contains(&there.issuer_url));
            items.extend(gone.map(issuer_gone));
        }
        Self { items }
    }

    /// Whether anything is to be done.
    pub(super) fn changes(&self) -> bool {
        self.items.iter().any(|item| item.action != Action::Unchanged)
    }

    /// Whether a token may get what it did not get before.
    pub(super) fn broadens(&self) -> bool {
        self.items.iter().any(|item| item.change.may_give_more())
    }

    /// How many resources have this to be done.
    pub(super) fn count(&self, action: Action) -> usize {
        self.items.iter().filter(|item| item.action == action).count()
    }
}

/// The relationships of a workspace by what names them.
struct Index<'a> {
    by_key: HashMap<&'a str, &'a TrustRelationship>,
    by_id: HashMap<&'a str, &'a TrustRelationship>,
}

impl<'a> Index<'a> {
    fn of(current: &'a Current) -> Self {
        let keyed = current.relationships.iter().filter(|there| !there.key.is_empty());
        Self {
            by_key: keyed.map(|there| (there.key.as_str(), there)).collect(),
            by_id: current.relationships.iter().map(|there| (there.id.as_str(), there)).collect(),
        }
    }

    /// The relationship that a document means.
    fn find(&self, declared: &DeclaredRelationship) -> Result<Option<&'a TrustRelationship>, String> {
        let wire = &declared.wire;
        if wire.id.is_empty() {
            return Ok(self.by_key.get(wire.key.as_str()).copied());
        }
        let missing = || format!("id: there is no relationship {} in the workspace", wire.id);
        self.by_id.get(wire.id.as_str()).copied().map(Some).ok_or_else(missing)
    }
}

fn relationship_item(declared: DeclaredRelationship, there: Option<&TrustRelationship>, problems: &mut Problems) -> Option<Item> {
    let DeclaredRelationship { place, issuer_url, wire, settings } = declared;
    let name = if wire.key.is_empty() { wire.id.clone() } else { wire.key.clone() };
    let Some(there) = there else {
        note_created_disabled(settings.enabled, &place, problems);
        let comparison = compare(None, Some(&settings));
        return Some(Item {
            action: Action::Create,
            kind: RelationshipDocument::KIND,
            name,
            id: String::new(),
            place: Some(place),
            change: comparison.change,
            reasons: comparison.reasons,
            fields: Vec::new(),
            step: Step::CreateRelationship(wire, issuer_url),
        });
    };
    let before = current_settings(&there.clone().into(), there.enabled, &there.id, problems)?;
    let comparison = compare(Some(&before), Some(&settings));
    let fields = changed_fields(&before, &settings);
    let update =
        TrustRelationship { id: there.id.clone(), workspace_id: there.workspace_id.clone(), etag: there.etag.clone(), ..wire };
    Some(Item {
        action: if fields.is_empty() { Action::Unchanged } else { Action::Update },
        kind: RelationshipDocument::KIND,
        name,
        id: there.id.clone(),
        place: Some(place),
        change: comparison.change,
        reasons: comparison.reasons,
        step: if fields.is_empty() { Step::Nothing } else { Step::UpdateRelationship(update) },
        fields,
    })
}

fn current_settings(
    draft: &TrustRelationshipDraft,
    enabled: bool,
    id: &str,
    problems: &mut Problems,
) -> Option<TrustRelationshipSettings> {
    let mut violations = Violations::new();
    let settings = relationship_settings(draft, enabled, &mut violations);
    if settings.is_none() {
        problems.add(id, "what the service holds cannot be read: it is of another version");
    }
    settings
}

fn issuer_item(declared: DeclaredIssuer, there: Option<&TrustedIssuer>, problems: &mut Problems) -> Option<Item> {
    let DeclaredIssuer { place, wire, settings } = declared;
    let name = wire.issuer_url.clone();
    let Some(there) = there else {
        note_created_disabled(settings.enabled, &place, problems);
        return Some(Item {
            action: Action::Create,
            kind: IssuerDocument::KIND,
            name,
            id: String::new(),
            place: Some(place),
            change: Change::Unchanged,
            reasons: Vec::new(),
            fields: Vec::new(),
            step: Step::CreateIssuer(wire),
        });
    };
    let Some(before) = issuer_settings(there, &mut Violations::new()) else {
        problems.add(&there.id, "what the service holds cannot be read: it is of another version");
        return None;
    };
    let fields = changed_issuer_fields(&before, &settings);
    let change = issuer_change(&before, &settings);
    let reason = match change {
        Change::Unchanged => None,
        Change::Narrower => Some("its tokens are not accepted any more"),
        Change::Broader | Change::Different => {
            Some("what is accepted of the issuer's tokens is another set, for all its relationships")
        }
    };
    let update =
        TrustedIssuer { id: there.id.clone(), workspace_id: there.workspace_id.clone(), etag: there.etag.clone(), ..wire };
    Some(Item {
        action: if fields.is_empty() { Action::Unchanged } else { Action::Update },
        kind: IssuerDocument::KIND,
        name,
        id: there.id.clone(),
        place: Some(place),
        change,
        reasons: reason
            .map(|description| Reason { field: "", change, description: description.to_owned() })
            .into_iter()
            .collect(),
        step: if fields.is_empty() { Step::Nothing } else { Step::UpdateIssuer(update) },
        fields,
    })
}

/// A new resource is always enabled, and would mint until it was disabled.
fn note_created_disabled(enabled: bool, place: &Place, problems: &mut Problems) {
    if !enabled {
        problems.add(place, "enabled: a new resource cannot be disabled; leave it out of the files until it may hold");
    }
}

/// What another issuer means for the tokens of its relationships. Its fields are not weighed against each other.
fn issuer_change(before: &TrustedIssuerSettings, after: &TrustedIssuerSettings) -> Change {
    let takes = after.only_takes_from(before);
    match (takes, before.enabled == after.enabled) {
        (true, true) => Change::Unchanged,
        (true, false) => Change::Narrower,
        (false, _) if before.only_takes_from(after) => Change::Broader,
        (false, _) => Change::Different,
    }
}

fn relationship_gone(there: &TrustRelationship) -> Item {
    Item {
        action: Action::Delete,
        kind: RelationshipDocument::KIND,
        name: if there.key.is_empty() { there.id.clone() } else { there.key.clone() },
        id: there.id.clone(),
        place: None,
        change: Change::Narrower,
        reasons: vec![Reason { field: "", change: Change::Narrower, description: "the relationship is gone".to_owned() }],
        fields: Vec::new(),
        step: Step::DeleteRelationship { etag: there.etag.clone() },
    }
}

fn issuer_gone(there: &TrustedIssuer) -> Item {
    Item {
        action: Action::Delete,
        kind: IssuerDocument::KIND,
        name: there.issuer_url.clone(),
        id: there.id.clone(),
        place: None,
        change: Change::Unchanged,
        reasons: Vec::new(),
        fields: Vec::new(),
        step: Step::DeleteIssuer { etag: there.etag.clone() },
    }
}

macro_rules! changed {
    ($before:expr, $after:expr, { $($field:ident = $($name:literal)|+,)+ }) => {{
        let mut changed = Vec::new();
        $(
            if $before.$field != $after.$field {
                changed.extend([$($name),+]);
            }
        )+
        changed
    }};
}

/// The fields to name in an update.
fn changed_fields(before: &TrustRelationshipSettings, after: &TrustRelationshipSettings) -> Vec<&'static str> {
    changed!(before, after, {
        display_name = "display_name",
        key = "key",
        subject_matches = "subject_matches",
        claim_conditions = "claim_conditions",
        cel_condition = "cel_condition",
        attribute_mapping = "attribute_mapping",
        subject_audiences = "subject_audiences",
        access_token_audiences = "access_token_audiences",
        scopes = "scopes",
        grants = "grants",
        token_duration = "token_duration",
        expires_at = "expire_time",
        enabled = "enabled",
    })
}

fn changed_issuer_fields(before: &TrustedIssuerSettings, after: &TrustedIssuerSettings) -> Vec<&'static str> {
    changed!(before, after, {
        display_name = "display_name",
        preset = "preset",
        // Where keys come from is one thing in several fields.
        key_source = "jwks_url" | "jwks" | "jwks_expire_time" | "ca_certificates" | "max_stale_age",
        subject_audiences = "subject_audiences",
        algorithms = "algorithms",
        token_types = "token_types",
        max_token_lifetime = "max_token_lifetime",
        clock_skew = "clock_skew",
        replay_policy = "replay_policy",
        enabled = "enabled",
    })
}
