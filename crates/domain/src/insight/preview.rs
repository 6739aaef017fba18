//! What a change of one trust relationship would have done to past exchanges.
//!
//! Each past token is looked at as if a token like it were presented now: under the policy as it stands, and under the policy with
//! the change ([`crate::insight::judgement`]). What cannot be decided from what was kept is told as undecided.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::exchange::decision::Decision;
use crate::exchange::presentation::Presentation;
use crate::insight::judgement::{Judge, Judgement};
use crate::trust::policy::WorkspacePolicy;
use crate::values::deployment_audience::DeploymentAudience;
use crate::values::id::TrustRelationshipId;
use crate::values::name::Subject;
use crate::values::time::Timestamp;

/// The most kinds of affected exchanges that are told apart, of each effect.
pub const MAX_AFFECTED: usize = 250;

/// What the change does to an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// It would be refused, and is not now.
    NewlyRefused,
    /// It would be allowed, and is not now.
    NewlyAllowed,
    /// It would be allowed as it is now, by another relationship or with other things given.
    DecidedOtherwise,
    /// What was kept of it does not tell.
    Undecided,
}

/// Past exchanges that the change does the same to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// What it does.
    pub effect: Effect,
    /// Their subject.
    pub subject: Subject,
    /// The relationship that allows them now.
    pub before: Option<TrustRelationshipId>,
    /// The relationship that would allow them.
    pub after: Option<TrustRelationshipId>,
    /// Why they would be refused, or cannot be judged, or what would be given otherwise.
    pub detail: String,
    /// How many there were.
    pub exchanges: u64,
    /// When the last of them was.
    pub last_at: Timestamp,
    /// Its request id.
    pub request_id: String,
}

/// What a change would have done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preview {
    /// How many past exchanges were looked at, refused ones included.
    pub examined: u64,
    /// How many of them the change does something to, or may.
    pub by_effect: BTreeMap<Effect, u64>,
    /// These by kind, the gravest effect first, then the most frequent.
    pub affected: Vec<Affected>,
    /// How many exchanges are of kinds that are left out of the list.
    pub left_out: u64,
}

/// Makes a [`Preview`] of exchanges that are shown to it one by one, the newest first.
pub struct Previewer {
    changed: TrustRelationshipId,
    versions: [Arc<WorkspacePolicy>; 2],
    before: Judge,
    after: Judge,
    now: Timestamp,
    kinds: HashMap<Kind, Affected>,
    kinds_by_effect: HashMap<Effect, usize>,
    preview: Preview,
}

#[derive(PartialEq, Eq, Hash)]
struct Kind {
    effect: Effect,
    subject: Subject,
    before: Option<TrustRelationshipId>,
    after: Option<TrustRelationshipId>,
    detail: String,
}

impl Previewer {
    /// Compares the policy as it stands with what it would be with the changed relationship, as of now.
    pub fn new(
        changed: TrustRelationshipId,
        before: WorkspacePolicy,
        after: WorkspacePolicy,
        deployment: &DeploymentAudience,
        now: Timestamp,
    ) -> Self {
        let versions = [Arc::new(before), Arc::new(after)];
        let [before, after] = versions.clone().map(|policy| Judge::new(policy, deployment.clone()));
        Self {
            changed,
            versions,
            before,
            after,
            now,
            kinds: HashMap::new(),
            kinds_by_effect: HashMap::new(),
            preview: Preview::default(),
        }
    }

    /// Looks at one past exchange.
    pub fn examine(&mut self, time: Timestamp, presentation: &Presentation) {
        self.preview.examined += 1;
        let subject = presentation.subject.as_str();
        let accepts = |policy: &Arc<WorkspacePolicy>| {
            policy.relationship(&self.changed).is_some_and(|relationship| relationship.accepts(subject).is_some())
        };
        // Whoever it was not for before and would not be for after, it does nothing to, whatever else is not known.
        if !self.versions.iter().any(accepts) {
            return;
        }
        let later = self.now.duration_since(time);
        let before = self.before.judge(presentation, later, self.now);
        let after = self.after.judge(presentation, later, self.now);
        let Some((effect, detail)) = effect(&before, &after) else { return };
        *self.preview.by_effect.entry(effect).or_default() += 1;
        let subject = presentation.subject.clone();
        let kind = Kind { effect, subject, before: decider(&before), after: decider(&after), detail };
        let of_effect = self.kinds_by_effect.entry(effect).or_default();
        if let Some(affected) = self.kinds.get_mut(&kind) {
            affected.exchanges += 1;
        } else if *of_effect < MAX_AFFECTED {
            *of_effect += 1;
            let affected = Affected {
                effect,
                subject: kind.subject.clone(),
                before: kind.before.clone(),
                after: kind.after.clone(),
                detail: kind.detail.clone(),
                exchanges: 1,
                last_at: time,
                request_id: presentation.request_id.clone(),
            };
            self.kinds.insert(kind, affected);
        } else {
            self.preview.left_out += 1;
        }
    }

    /// What was seen.
    pub fn finish(self) -> Preview {
        let mut affected: Vec<_> = self.kinds.into_values().collect();
        affected.sort_by(|a, b| {
            let order = a.effect.cmp(&b.effect).then(b.exchanges.cmp(&a.exchanges));
            order.then_with(|| a.subject.cmp(&b.subject)).then_with(|| a.detail.cmp(&b.detail))
        });
        Preview { affected, ..self.preview }
    }
}

fn decider(judgement: &Judgement) -> Option<TrustRelationshipId> {
    match judgement {
        Judgement::Decided(Ok(decision)) => Some(decision.trust_relationship_id.clone()),
        Judgement::Decided(Err(_)) | Judgement::Undecided(_) => None,
    }
}

/// What the change does, and why; `None`: nothing.
fn effect(before: &Judgement, after: &Judgement) -> Option<(Effect, String)> {
    match (before, after) {
        (Judgement::Undecided(unknown), _) | (_, Judgement::Undecided(unknown)) => Some((Effect::Undecided, unknown.to_string())),
        (Judgement::Decided(Ok(_)), Judgement::Decided(Err(refused))) => Some((Effect::NewlyRefused, refused.to_string())),
        (Judgement::Decided(Err(refused)), Judgement::Decided(Ok(_))) => Some((Effect::NewlyAllowed, format!("now: {refused}"))),
        (Judgement::Decided(Ok(before)), Judgement::Decided(Ok(after))) => {
            let otherwise = differences(before, after);
            (!otherwise.is_empty()).then(|| (Effect::DecidedOtherwise, otherwise.join(", ")))
        }
        (Judgement::Decided(Err(_)), Judgement::Decided(Err(_))) => None,
    }
}

/// What is given otherwise, by name.
fn differences(before: &Decision, after: &Decision) -> Vec<&'static str> {
    let differs = [
        ("another relationship decides", before.trust_relationship_id != after.trust_relationship_id),
        ("other audiences", before.audiences != after.audiences),
        ("other scopes", before.scopes != after.scopes),
        ("other grants", before.grants != after.grants),
        ("other attributes", before.attributes != after.attributes),
        ("another duration", before.duration != after.duration),
    ];
    differs.into_iter().filter_map(|(what, differs)| differs.then_some(what)).collect()
}

#[cfg(test)]
mod tests;
