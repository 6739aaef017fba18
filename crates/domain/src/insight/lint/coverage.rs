//! Other relationships of the issuer that accept all that this one accepts, or the other way round.

use super::{Findings, LintInput, MAX_OTHERS, Rule, Severity};
use crate::insight::comparison::{self, Change};
use crate::trust::trust_relationship::TrustRelationshipSettings;

/// The most patterns that are compared for one relationship. Beyond, what is not compared is not reported.
const MAX_COMPARISONS: usize = 10_000;
/// The most findings of overlap.
const MAX_REPORTED: usize = 8;

pub(super) fn check(input: &LintInput<'_>, findings: &mut Findings) {
    let this = input.relationship;
    let live = |settings: &TrustRelationshipSettings| settings.enabled && settings.expires_at.is_none_or(|end| input.now < end);
    if !live(this) {
        return;
    }
    let (mut comparisons, mut reported) = (0, 0);
    for (id, other) in input.others.iter().take(MAX_OTHERS).filter(|(_, other)| live(other)) {
        comparisons += 2 * this.subject_matches.len() * other.subject_matches.len();
        if comparisons > MAX_COMPARISONS || reported == MAX_REPORTED {
            return;
        }
        let (risk, fix) = match comparison::compare(Some(this), Some(&accepting_like(other, this))).change {
            Change::Unchanged => (
                format!("{id} accepts the same tokens: only the older of the two decides, and to disable one stops none of them"),
                "give both grants in one relationship and delete the other",
            ),
            Change::Broader => (
                format!("{id} accepts every token that this one accepts: to disable or narrow this one stops none of them"),
                "narrow the other one, or delete the one that is not needed",
            ),
            Change::Narrower => (
                format!("this one accepts every token that {id} accepts: to disable or narrow the other stops none of them"),
                "narrow this one, or delete the one that is not needed",
            ),
            Change::Different => continue,
        };
        reported += 1;
        findings.add(Rule::Overlap, Severity::Advice, "trust_relationship.subject_matches", risk, fix);
    }
}

/// What accepts the tokens that one relationship accepts, and gives what another gives.
fn accepting_like(accepts: &TrustRelationshipSettings, gives: &TrustRelationshipSettings) -> TrustRelationshipSettings {
    TrustRelationshipSettings {
        subject_matches: accepts.subject_matches.clone(),
        claim_conditions: accepts.claim_conditions.clone(),
        cel_condition: accepts.cel_condition.clone(),
        attribute_mapping: accepts.attribute_mapping.clone(),
        subject_audiences: accepts.subject_audiences.clone(),
        ..gives.clone()
    }
}
