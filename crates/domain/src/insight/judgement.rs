//! What a token that was presented earlier would come to under another policy, as far as what was kept of it tells.
//!
//! The verdict is [`decision::decide`]'s own. Where a relationship that reads something which was not kept could decide otherwise,
//! there is none: what cannot be known is not guessed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::SignedDuration;

use crate::exchange::claims::Claims;
use crate::exchange::decision::{self, Decision, PresentedToken, Refused};
use crate::exchange::presentation::Presentation;
use crate::exchange::request::ExchangeRequest;
use crate::trust::claim_condition::ClaimVerdict;
use crate::trust::policy::{CompiledRelationship, MatchedRelationship, TokenView, WorkspacePolicy};
use crate::values::claim_path::ClaimPath;
use crate::values::deployment_audience::DeploymentAudience;
use crate::values::id::{TrustRelationshipId, TrustedIssuerId};
use crate::values::time::Timestamp;

/// What a token of the past would come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// The exchange would be decided so, short of replay and signing.
    Decided(Result<Box<Decision>, Refused>),
    /// It depends on what was not kept.
    Undecided(Unknown),
}

/// Why there is no judgement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Too little of the token was kept to decide anything.
    #[error("too little of the token was kept")]
    Token,
    /// What was asked for was too long to keep.
    #[error("what was asked for was not kept")]
    Request,
    /// Tokens were kept in more ways than are looked through.
    #[error("tokens were kept in too many different ways")]
    TooManyKinds,
    /// A relationship that could decide reads a claim that was not kept.
    #[error("{relationship} reads the claim `{claim}`, which was not kept")]
    Claim {
        /// The relationship.
        relationship: TrustRelationshipId,
        /// The first of its claims that is not known.
        claim: ClaimPath,
    },
}

/// Looks at past tokens under one policy.
pub struct Judge {
    policy: Arc<WorkspacePolicy>,
    deployment: DeploymentAudience,
    /// The relationships that read more than was kept, by issuer and what was kept. Tokens of one time were kept alike.
    blind: HashMap<(TrustedIssuerId, BTreeSet<ClaimPath>), Vec<Arc<CompiledRelationship>>>,
}

impl Judge {
    /// The most kinds of what was kept that are looked through. Who presents tokens has a say in what is kept of them.
    const MAX_KINDS: usize = 64;

    /// Looks under this policy.
    pub fn new(policy: Arc<WorkspacePolicy>, deployment: DeploymentAudience) -> Self {
        Self { policy, deployment, blind: HashMap::new() }
    }

    /// What the token would come to if it were presented `now`, issued so much later than it was.
    pub fn judge(&mut self, presentation: &Presentation, later: SignedDuration, now: Timestamp) -> Judgement {
        let Some(claims) = presentation.known_claims(later) else { return Judgement::Undecided(Unknown::Token) };
        let Some(request) = &presentation.request else { return Judgement::Undecided(Unknown::Request) };
        let presented = PresentedToken { claims: &claims, signing_input_hash: presentation.subject_token_hash };
        let outcome = decision::decide(presented, request, &self.policy, &self.deployment, now);
        if outcome.as_ref().is_err_and(is_before_matching) {
            return Judgement::Decided(outcome.map(Box::new));
        }
        let decider = match &outcome {
            Ok(decision) => Some(&decision.trust_relationship_id),
            Err(Refused::AudienceNotGiven { id, .. } | Refused::ScopesNotGiven(id) | Refused::NothingToGive(id)) => Some(id),
            Err(_) => None,
        };
        match self.unknown(presentation, &claims, request, decider, now) {
            Some(unknown) => Judgement::Undecided(unknown),
            None => Judgement::Decided(outcome.map(Box::new)),
        }
    }

    /// A relationship that could take the decision from `decider`, and cannot be judged.
    fn unknown(
        &mut self,
        presentation: &Presentation,
        claims: &Claims,
        request: &ExchangeRequest,
        decider: Option<&TrustRelationshipId>,
        now: Timestamp,
    ) -> Option<Unknown> {
        let policy = Arc::clone(&self.policy);
        let issuer_id = &policy.issuer(&claims.issuer)?.id;
        if policy.reads_only(issuer_id, |claim| presentation.knows(claim)) {
            return None;
        }
        let read = presentation.claims.as_ref().map(|kept| kept.read().clone()).unwrap_or_default();
        let kind = (issuer_id.clone(), read);
        if self.blind.len() >= Self::MAX_KINDS && !self.blind.contains_key(&kind) {
            return Some(Unknown::TooManyKinds);
        }
        let blind = self.blind.entry(kind).or_insert_with(|| {
            let all = policy.relationships_of(issuer_id);
            all.filter(|relationship| relationship.reads().any(|claim| !presentation.knows(&claim))).cloned().collect()
        });
        let subject = claims.subject.as_str();
        let decider = decider.and_then(|id| {
            let relationship = policy.relationship(id)?;
            Some(MatchedRelationship { relationship, specificity: relationship.accepts(subject)? })
        });
        let token = TokenView::new(claims);
        blind.iter().find_map(|relationship| {
            let specificity = relationship.accepts(subject)?;
            let could_decide = request.trust_relationship_id.as_ref().is_none_or(|named| *named == relationship.id)
                && relationship.is_live(now)
                && decision::accepts_audiences(relationship, claims, &self.deployment)
                && !fails_what_is_known(relationship, presentation, &token);
            let this = MatchedRelationship { relationship, specificity };
            let comes_first = decider.is_none_or(|decider| this.cmp_by_narrowness(&decider).is_le());
            if !could_decide || !comes_first {
                return None;
            }
            let claim = relationship.reads().find(|claim| !presentation.knows(claim))?;
            Some(Unknown::Claim { relationship: relationship.id.clone(), claim })
        })
    }
}

/// One condition that is known not to hold is enough, whatever is not known of the others.
fn fails_what_is_known(relationship: &CompiledRelationship, presentation: &Presentation, token: &TokenView<'_>) -> bool {
    relationship.claim_conditions.iter().any(|condition| {
        presentation.knows(&condition.written().claim) && condition.judge(token.members()) != ClaimVerdict::Satisfied
    })
}

/// Whether a refusal has nothing to do with what relationships ask of claims.
const fn is_before_matching(refused: &Refused) -> bool {
    match refused {
        Refused::WorkspaceDisabled
        | Refused::IssuerUnknown
        | Refused::IssuedHere
        | Refused::IssuerDisabled(_)
        | Refused::Untimely(_)
        | Refused::TokenIdMissing
        | Refused::AudienceNotAccepted(_)
        | Refused::ProofMissing
        | Refused::RelationshipUnknown(_)
        | Refused::RelationshipNotLive(_)
        | Refused::SubjectNotAcceptedBy(_) => true,
        Refused::AudienceNotAcceptedBy(_)
        | Refused::ConditionNotMet { .. }
        | Refused::SubjectNotAccepted
        | Refused::AudienceNotGiven { .. }
        | Refused::ScopesNotGiven(_)
        | Refused::NothingToGive(_) => false,
    }
}

#[cfg(test)]
mod tests;
