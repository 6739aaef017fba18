//! The compiled policy of one workspace.
//!
//! A [`WorkspacePolicy`] is an immutable snapshot: cloning it is cheap, applying a [`PolicyChange`] to the clone leaves the
//! original as it was, and the two share everything that did not change. So one exchange sees one policy (SECURITY 31), and a
//! change to one of 100,000 relationships compiles one relationship.

mod claim_index;
mod claim_reads;
mod compiled;
mod hash_index;
mod literal_map;
mod subject_index;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use rpds::HashTrieMapSync;

use crate::exchange::claims::Claims;
use crate::exchange::presentation::KeptClaims;
use crate::trust::cel::CelExpression;
use crate::trust::policy_feed::{PolicyChange, PolicySnapshot};
use crate::trust::trust_relationship::TrustRelationship;
use crate::trust::trusted_issuer::TrustedIssuer;
use crate::trust::workspace::WorkspaceState;
use crate::values::claim_path::ClaimPath;
use crate::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use crate::values::subject_match::{CompiledMatch, Specificity};
use claim_reads::ClaimReads;
use subject_index::SubjectIndex;

pub use compiled::{Attributes, CompiledRelationship, TokenView, Unmet};

/// Everything that bears on the exchanges of one workspace, at one policy revision.
#[derive(Clone)]
pub struct WorkspacePolicy {
    workspace_id: WorkspaceId,
    state: WorkspaceState,
    revision: i64,
    issuers: HashTrieMapSync<TrustedIssuerId, Arc<TrustedIssuer>>,
    issuers_by_url: HashTrieMapSync<String, Arc<TrustedIssuer>>,
    relationships: HashTrieMapSync<TrustRelationshipId, Arc<CompiledRelationship>>,
    subjects: HashTrieMapSync<TrustedIssuerId, SubjectIndex>,
    /// Expressions in use, and by how many: a thousand relationships with one condition share one program.
    expressions: HashTrieMapSync<CelExpression, usize>,
    reads: HashTrieMapSync<TrustedIssuerId, ClaimReads>,
}

/// A relationship that accepts a subject.
#[derive(Debug, Clone, Copy)]
pub struct MatchedRelationship<'a> {
    /// The relationship.
    pub relationship: &'a Arc<CompiledRelationship>,
    /// How narrow the narrowest of its subject matches is that accepted.
    pub specificity: Specificity,
}

impl MatchedRelationship<'_> {
    /// The order in which relationships decide: the narrowest first, of equally narrow ones the older.
    pub fn cmp_by_narrowness(&self, other: &Self) -> Ordering {
        let (left, right) = (self.relationship, other.relationship);
        // The id only makes the order total: it is random, so it favours nobody, and is the same on every gateway.
        other.specificity.cmp(&self.specificity).then(left.created_at.cmp(&right.created_at)).then_with(|| left.id.cmp(&right.id))
    }
}

impl WorkspacePolicy {
    /// The policy of a workspace that owns nothing yet.
    pub fn new(workspace_id: WorkspaceId, state: WorkspaceState, revision: i64) -> Self {
        Self {
            workspace_id,
            state,
            revision,
            issuers: HashTrieMapSync::new_sync(),
            issuers_by_url: HashTrieMapSync::new_sync(),
            relationships: HashTrieMapSync::new_sync(),
            subjects: HashTrieMapSync::new_sync(),
            expressions: HashTrieMapSync::new_sync(),
            reads: HashTrieMapSync::new_sync(),
        }
    }

    /// Whose policy this is.
    pub fn workspace_id(&self) -> &WorkspaceId {
        &self.workspace_id
    }

    /// Whether tokens are exchanged for the workspace.
    pub fn state(&self) -> WorkspaceState {
        self.state
    }

    /// The policy revision of this snapshot.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The trusted issuer whose URL is exactly this (SECURITY 24), enabled or not.
    pub fn issuer(&self, issuer_url: &str) -> Option<&Arc<TrustedIssuer>> {
        self.issuers_by_url.get(issuer_url)
    }

    /// The trusted issuers, enabled or not, in no order.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<TrustedIssuer>> {
        self.issuers.values()
    }

    /// The relationship with this id, live or not.
    pub fn relationship(&self, id: &TrustRelationshipId) -> Option<&Arc<CompiledRelationship>> {
        self.relationships.get(id)
    }

    /// The relationships of an issuer, live or not, in no order. For those who ask everybody; an exchange does not.
    pub fn relationships_of<'a>(&'a self, issuer: &'a TrustedIssuerId) -> impl Iterator<Item = &'a Arc<CompiledRelationship>> {
        self.relationships.values().filter(move |relationship| relationship.trusted_issuer_id == *issuer)
    }

    /// What the audit log keeps of a token's claims: those that decide something in this workspace (SECURITY 75). `None` when what
    /// every decision needs is too long.
    pub fn claims_to_keep(&self, issuer: &TrustedIssuerId, claims: &Claims) -> Option<KeptClaims> {
        match self.reads.get(issuer) {
            Some(reads) => reads.keep(claims),
            None => KeptClaims::of(claims, []),
        }
    }

    /// Whether everything that relationships of the issuer read of a token is known.
    pub(crate) fn reads_only(&self, issuer: &TrustedIssuerId, knows: impl Fn(&ClaimPath) -> bool) -> bool {
        self.reads.get(issuer).is_none_or(|reads| reads.are_known(knows))
    }

    /// The number of relationships.
    pub fn relationship_count(&self) -> usize {
        self.relationships.size()
    }

    /// The enabled relationships of an issuer that accept the subject of these claims: the narrowest first, of equally narrow ones
    /// the older (exact before pattern, then the longer literal text). Expiry, audience and conditions are for the caller to judge;
    /// one whose conditions cannot hold may be left out.
    ///
    /// The cost does not grow with the number of relationships, as long as not too many share all their literal text and the
    /// values that they ask of claims.
    ///
    /// Exact subjects come first, so patterns are looked for only when what came before did not do.
    pub fn accepting<'a, 'c>(
        &'a self,
        issuer: &TrustedIssuerId,
        claims: &'c Claims,
    ) -> impl Iterator<Item = MatchedRelationship<'a>> + use<'a, 'c> {
        let subject = claims.subject.as_str();
        let index = self.subjects.get(issuer);
        let exact = in_order(index.into_iter().flat_map(move |index| index.accepting_exactly(subject)));
        // One relationship may accept by several of its matches; its narrowest stands first.
        let accepts_exactly = move |relationship: &CompiledRelationship| {
            relationship
                .subject_matches
                .iter()
                .any(|accepted| matches!(accepted, CompiledMatch::Exact(text) if **text == *subject))
        };
        let patterns = index.into_iter().flat_map(move |index| in_order(index.accepting_by_pattern(claims).into_iter()));
        exact.chain(patterns.filter(move |matched| !accepts_exactly(matched.relationship)))
    }

    /// Adds a part of a snapshot of this workspace; the first part made the policy.
    pub fn add_part(&mut self, part: PolicySnapshot) {
        let PolicySnapshot { workspace_id: _, state, policy_revision, trusted_issuers, trust_relationships } = part;
        (self.state, self.revision) = (state, policy_revision);
        self.set(trusted_issuers, trust_relationships);
    }

    /// Applies a change, deletions first. One that leads to an older revision than this snapshot's has been applied already, and
    /// is ignored; so is one of another workspace.
    pub fn apply(&mut self, change: PolicyChange) {
        if change.workspace_id != self.workspace_id || change.policy_revision < self.revision {
            return;
        }
        let PolicyChange {
            workspace_id: _,
            state,
            policy_revision,
            trusted_issuers,
            trust_relationships,
            deleted_trusted_issuer_ids,
            deleted_trust_relationship_ids,
        } = change;
        (self.state, self.revision) = (state, policy_revision);
        for id in &deleted_trust_relationship_ids {
            self.remove_relationship(id);
        }
        for id in &deleted_trusted_issuer_ids {
            self.remove_issuer(id);
        }
        self.set(trusted_issuers, trust_relationships);
    }

    fn set(&mut self, trusted_issuers: Vec<TrustedIssuer>, trust_relationships: Vec<TrustRelationship>) {
        for issuer in trusted_issuers {
            self.remove_issuer(&issuer.id);
            let issuer = Arc::new(issuer);
            self.change_reads(&issuer.id, |reads| reads.set_tenants(claim_reads::of_issuer(&issuer)));
            self.issuers_by_url.insert_mut(issuer.settings.issuer_url.as_str().to_owned(), Arc::clone(&issuer));
            self.issuers.insert_mut(issuer.id.clone(), issuer);
        }
        for relationship in trust_relationships {
            self.remove_relationship(&relationship.id);
            let mut relationship = CompiledRelationship::from(relationship);
            for expression in relationship.expressions_mut() {
                self.share(expression);
            }
            let relationship = Arc::new(relationship);
            self.change_reads(&relationship.trusted_issuer_id, |reads| reads.add(relationship.reads()));
            if relationship.enabled {
                self.change_index(&relationship.trusted_issuer_id, |index| index.insert(&relationship));
            }
            self.relationships.insert_mut(relationship.id.clone(), relationship);
        }
    }

    fn remove_issuer(&mut self, id: &TrustedIssuerId) {
        let Some(issuer) = self.issuers.get(id).cloned() else { return };
        self.issuers.remove_mut(id);
        self.change_reads(id, |reads| reads.set_tenants(Vec::new()));
        let url = issuer.settings.issuer_url.as_str();
        if self.issuers_by_url.get(url).is_some_and(|current| current.id == *id) {
            self.issuers_by_url.remove_mut(url);
        }
    }

    fn remove_relationship(&mut self, id: &TrustRelationshipId) {
        let Some(relationship) = self.relationships.get(id).cloned() else { return };
        self.relationships.remove_mut(id);
        self.change_reads(&relationship.trusted_issuer_id, |reads| reads.remove(relationship.reads()));
        self.change_index(&relationship.trusted_issuer_id, |index| index.remove(&relationship));
        for expression in relationship.expressions() {
            match self.expressions.get(expression).copied() {
                Some(users @ 2..) => self.expressions.insert_mut(expression.clone(), users - 1),
                _ => {
                    self.expressions.remove_mut(expression);
                }
            }
        }
    }

    /// Puts in place of an expression the equal one that is in use, if there is one.
    fn share(&mut self, expression: &mut CelExpression) {
        let users = match self.expressions.get_key_value(expression) {
            Some((shared, users)) => {
                *expression = shared.clone();
                *users
            }
            None => 0,
        };
        self.expressions.insert_mut(expression.clone(), users + 1);
    }

    fn change_reads(&mut self, issuer: &TrustedIssuerId, change: impl FnOnce(&mut ClaimReads)) {
        let mut reads = self.reads.get(issuer).cloned().unwrap_or_default();
        change(&mut reads);
        if reads.is_empty() {
            self.reads.remove_mut(issuer);
        } else {
            self.reads.insert_mut(issuer.clone(), reads);
        }
    }

    fn change_index(&mut self, issuer: &TrustedIssuerId, change: impl FnOnce(&mut SubjectIndex)) {
        if let Some(index) = self.subjects.get_mut(issuer) {
            change(index);
            if index.is_empty() {
                self.subjects.remove_mut(issuer);
            }
        } else {
            let mut index = SubjectIndex::default();
            change(&mut index);
            if !index.is_empty() {
                self.subjects.insert_mut(issuer.clone(), index);
            }
        }
    }
}

/// The narrowest first, of equally narrow ones the older; each relationship once, by its narrowest match.
fn in_order<'a>(mut matched: impl Iterator<Item = MatchedRelationship<'a>>) -> impl Iterator<Item = MatchedRelationship<'a>> {
    // There is seldom more than one, for which no list is made.
    let mut only = matched.next();
    let mut list: Vec<_> = matched.collect();
    if !list.is_empty() {
        list.extend(only.take());
        list.sort_by(MatchedRelationship::cmp_by_narrowness);
        let mut seen = HashSet::with_capacity(list.len());
        list.retain(|candidate| seen.insert(Arc::as_ptr(candidate.relationship)));
    }
    only.into_iter().chain(list)
}

impl From<PolicySnapshot> for WorkspacePolicy {
    fn from(snapshot: PolicySnapshot) -> Self {
        let mut policy = Self::new(snapshot.workspace_id.clone(), snapshot.state, snapshot.policy_revision);
        policy.add_part(snapshot);
        policy
    }
}

impl std::fmt::Debug for WorkspacePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkspacePolicy")
            .field("workspace_id", &self.workspace_id)
            .field("state", &self.state)
            .field("revision", &self.revision)
            .field("issuers", &self.issuers.size())
            .field("relationships", &self.relationships.size())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
