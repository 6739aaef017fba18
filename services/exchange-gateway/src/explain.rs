//! Why a token gets what it gets, from its first byte on.
//!
//! The steps are those of the pipeline, up to the decision, and stop where it would: what is not verified is not read. From there on
//! `domain::explain` looks further than an exchange does.

use std::sync::Arc;

use countersign_domain::exchange::audit::{NewRefusal, Refusals};
use countersign_domain::exchange::claims::Claims;
use countersign_domain::exchange::decision;
use countersign_domain::exchange::decision::{Decision, PresentedToken, Refused};
use countersign_domain::insight::explain::{self, Candidate, Check, Explanation, Stage, StageKind, Verdict};
use countersign_domain::insight::judgement::{Judgement, Unknown};
use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::trusted_issuer::TrustedIssuer;
use countersign_domain::values::id::WorkspaceId;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::text;
use countersign_jose::{UnverifiedToken, VerifiedToken, WrittenHeader};
use countersign_proto::common::timestamp;
use countersign_proto::exchange_v1::{
    ExplainExchangeResponse, ExplainedCandidate, ExplainedCheck, ExplainedStage, ExplainedVerdict, PastRefusal,
};
use countersign_proto::status::Refusal;

use tokio::sync::Semaphore;

use crate::cause::Cause;
use crate::pipeline::{self, ExchangeInput, Pipeline};
use crate::ports::{CatchUpCause, CutOff, Viewer};

/// What is told of a token.
#[derive(Debug)]
pub(crate) struct Explained {
    outcome: Outcome,
    /// The refusal that is explained, when it is not a token at hand.
    past: Option<PastRefusal>,
    stages: Vec<Stage>,
    candidates: Vec<Candidate>,
    candidates_left_out: usize,
}

/// What an exchange would come to.
#[derive(Debug)]
enum Outcome {
    Accepted,
    Refused(Cause),
    /// It depends on what was not kept.
    Unknown(Unknown),
}

impl From<Result<Box<Decision>, Refused>> for Outcome {
    fn from(outcome: Result<Box<Decision>, Refused>) -> Self {
        outcome.err().map_or(Self::Accepted, |refused| Self::Refused(Cause::Refused(refused)))
    }
}

impl Pipeline {
    /// Explains what a token gets in a workspace, which the caller may see. Claims, signs and commits nothing.
    ///
    /// # Errors
    /// When there is no token, no such workspace, or its policy cannot be had.
    pub(crate) async fn explain(
        &self,
        input: &ExchangeInput,
        workspace_id: &WorkspaceId,
        viewer: Viewer,
    ) -> Result<Explained, Refusal> {
        if input.subject_token.is_empty() {
            return Err(Cause::TokenMissing.refusal());
        }
        let policy = self.present_policy(workspace_id).await?;
        let mut stages = Vec::new();
        match self.verify_in_stages(input, &policy, viewer, &mut stages).await {
            Ok(token) => self.explain_verified(token, input, policy, stages).await,
            Err(cause) => {
                Stage::rest_of(&mut stages);
                let outcome = Outcome::Refused(cause);
                Ok(Explained { outcome, past: None, stages, candidates: Vec::new(), candidates_left_out: 0 })
            }
        }
    }

    /// Explains what the present policy makes of a token that was refused under this request id.
    ///
    /// # Errors
    /// When there is no such workspace or refusal, or they cannot be had.
    pub(crate) async fn explain_past(&self, request_id: &str, workspace_id: &WorkspaceId) -> Result<Explained, Refusal> {
        let parts = self.parts();
        let policy = self.present_policy(workspace_id).await?;
        let mut found = parts.refusals.find(workspace_id, request_id);
        if found.is_none() {
            let past = parts.past.refusal(workspace_id, request_id).await;
            found = past.map_err(|CutOff| Refusal::unavailable("the audit log cannot be read at the moment"))?;
        }
        let Some(NewRefusal { time, refused: Refusals::One(refused), .. }) = found else {
            return Err(not_recorded(request_id));
        };
        let presentation = &refused.presentation;
        let key = presentation.subject_key_id.as_ref().map_or("no kid".to_owned(), |kid| format!("kid `{kid}`"));
        let issuer = policy.issuer(presentation.subject_issuer.as_str());
        let mut stages = vec![Stage::passed(StageKind::Token, "it was a compact JWS with claims")];
        if let Some(issuer) = issuer {
            stages.push(Stage::passed(StageKind::Issuer, format!("`{}` is {}", presentation.subject_issuer, issuer.id)));
            stages.push(Stage::passed(StageKind::Signature, format!("{key} verified it when it was presented")));
        }
        let (kept, present, deployment) = (presentation.clone(), Arc::clone(&policy), parts.deployment.clone());
        let explained = apart(move || explain::explain_kept(&kept, &present, &deployment, time)).await?;
        let (outcome, candidates, candidates_left_out) = if let Some((explanation, judgement)) = explained {
            let Explanation { outcome: _, stages: further, candidates, candidates_left_out } = explanation;
            stages.extend(further);
            let outcome = match judgement {
                Judgement::Decided(outcome) => outcome.into(),
                Judgement::Undecided(unknown) => Outcome::Unknown(unknown),
            };
            (outcome, candidates, candidates_left_out)
        } else {
            Stage::rest_of(&mut stages);
            (Outcome::Unknown(Unknown::Token), Vec::new(), 0)
        };
        if refused.reason == Reason::SubjectTokenReplayed {
            for stage in stages.iter_mut().filter(|stage| stage.kind == StageKind::TokenId) {
                *stage = Stage::failed(StageKind::TokenId, "the token had been exchanged before");
            }
        }
        let past = Some(PastRefusal {
            time: Some(timestamp(time)),
            reason: refused.reason.to_string(),
            cause: refused.cause.clone(),
            policy_revision: refused.policy_revision,
            trust_relationship_id: refused.trust_relationship_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        });
        Ok(Explained { outcome, past, stages, candidates, candidates_left_out })
    }

    /// The policy as it stands now. What was changed a moment ago is what is being asked about; whoever asks was authenticated,
    /// so there is no rationing.
    async fn present_policy(&self, workspace_id: &WorkspaceId) -> Result<Arc<WorkspacePolicy>, Refusal> {
        let policies = &self.parts().policies;
        policies.catch_up(CatchUpCause::Verified).await.map_err(|cut_off| Cause::from(cut_off).refusal())?;
        let policy = policies.policy(workspace_id).await.map_err(|cut_off| Cause::from(cut_off).refusal())?;
        policy.ok_or_else(|| Refusal::not_found("Workspace", workspace_id))
    }

    async fn verify_in_stages(
        &self,
        input: &ExchangeInput,
        policy: &WorkspacePolicy,
        viewer: Viewer,
        stages: &mut Vec<Stage>,
    ) -> Result<VerifiedToken, Cause> {
        let header = WrittenHeader::of(input.subject_token.reveal());
        let token = match UnverifiedToken::parse(input.subject_token.reveal()) {
            Ok(token) => token,
            Err(malformed) => {
                stages.push(Stage::failed(StageKind::Token, header.malformed(malformed)));
                return Err(Cause::Malformed(malformed));
            }
        };
        stages.push(Stage::passed(StageKind::Token, "a compact JWS with claims"));
        let issuer_url = text::visible(token.unverified_issuer(), explain::MAX_SHOWN);
        let issuer = match decision::trusted_issuer(policy, token.unverified_issuer(), &self.parts().deployment) {
            Ok(issuer) => Arc::clone(issuer),
            Err(refused) => {
                let hint = explain::issuer_hint(policy, token.unverified_issuer());
                let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                let detail = format!("the token says iss `{issuer_url}`: {refused}{hint}");
                stages.push(Stage::failed(StageKind::Issuer, detail));
                return Err(Cause::IssuerRefused(refused));
            }
        };
        stages.push(Stage::passed(StageKind::Issuer, format!("`{issuer_url}` is {}", issuer.id)));
        let keys = match self.keys_for(&token, &issuer).await {
            Ok(keys) => keys,
            Err(cause) => {
                let detail = format!("{cause}: {}", self.no_keys(&issuer, viewer));
                stages.push(Stage::failed(StageKind::Signature, detail));
                return Err(cause);
            }
        };
        let rules = pipeline::rules(&issuer);
        let invalid = match token.signed_members(&keys, &rules) {
            Ok(members) => {
                stages.push(Stage::passed(StageKind::Signature, format!("the issuer's key verifies it, with {}", header.key())));
                explain::explain_invalid_claims(members, &Claims::problems(members))
            }
            Err(error) => {
                stages.push(Stage::failed(StageKind::Signature, header.not_verified(error, &keys, &rules)));
                return Err(Cause::NotVerified(error));
            }
        };
        token.verify(&keys, &rules).map_err(|error| {
            stages.extend(invalid);
            Cause::NotVerified(error)
        })
    }

    /// Why there are no keys to verify with, and how to find out more.
    fn no_keys(&self, issuer: &TrustedIssuer, viewer: Viewer) -> String {
        let problem = self.parts().keys.problem(issuer, viewer);
        let problem = problem.map(|problem| format!("{problem}; ")).unwrap_or_default();
        format!("{problem}run `countersign trusted-issuers check {}` to read them now and see what is wrong", issuer.id)
    }

    async fn explain_verified(
        &self,
        token: VerifiedToken,
        input: &ExchangeInput,
        policy: Arc<WorkspacePolicy>,
        mut stages: Vec<Stage>,
    ) -> Result<Explained, Refusal> {
        let parts = self.parts();
        let (request, deployment, now) = (input.request.clone(), parts.deployment.clone(), parts.clock.now());
        let explanation = apart(move || {
            let presented = PresentedToken { claims: token.claims(), signing_input_hash: token.signing_input_hash() };
            explain::explain(presented, &request, &policy, &deployment, now)
        });
        let explanation = explanation.await?;
        let Explanation { outcome, stages: further, candidates, candidates_left_out } = explanation;
        stages.extend(further);
        Ok(Explained { outcome: outcome.into(), past: None, stages, candidates, candidates_left_out })
    }
}

/// Explanations at a time. They take far more of a processor than exchanges, and only people wait for them.
static EXPLAINING: Semaphore = Semaphore::const_new(1);

/// Does what explains on a thread of its own, so that exchanges go on beside it (SECURITY 72).
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let permit = EXPLAINING.acquire().await.map_err(|_| Refusal::internal())?;
    let result = tokio::task::spawn_blocking(move || {
        // Held for as long as the work lasts, also when the caller has gone.
        let _permit = permit;
        work()
    });
    result.await.map_err(|_| Refusal::internal())
}

/// Where to look for a refusal that has no event of its own.
fn not_recorded(request_id: &str) -> Refusal {
    let message = format!(
        "no refusal with the request id {request_id} is recorded in this workspace; a refusal before the signature verifies is \
         counted by cause in the audit log and has no event of its own, and the operator can find it by its request id in the log of \
         exchange-gateway as far as that keeps a sample of its cause; a refusal after that appears within some seconds"
    );
    Refusal::new(Reason::ResourceNotFound, message).with_resource("Refusal", request_id.to_owned())
}

impl From<Explained> for ExplainExchangeResponse {
    fn from(explained: Explained) -> Self {
        let Explained { outcome, past, stages, candidates, candidates_left_out } = explained;
        let failed = stages.iter().find(|stage| stage.verdict == Verdict::Failed);
        let present = match (failed, &outcome) {
            (_, Outcome::Unknown(unknown)) => format!("it cannot be told: {unknown}"),
            (Some(stage), _) => format!("{}: {}", stage.kind, stage.detail),
            (None, Outcome::Refused(cause)) => cause.to_string(),
            (None, Outcome::Accepted) => "the token is accepted".to_owned(),
        };
        let summary = match &past {
            None => present,
            Some(past) => format!("{}; under the present policy: {present}", past.cause),
        };
        let reason = match &outcome {
            Outcome::Refused(cause) => cause.refusal().reason().to_string(),
            Outcome::Accepted | Outcome::Unknown(_) => String::new(),
        };
        Self {
            accepted: matches!(outcome, Outcome::Accepted),
            reason,
            summary,
            past_refusal: past,
            stages: stages.into_iter().map(stage).collect(),
            candidates: candidates.into_iter().map(candidate).collect(),
            candidates_left_out: i32::try_from(candidates_left_out).unwrap_or(i32::MAX),
        }
    }
}

fn stage(stage: Stage) -> ExplainedStage {
    ExplainedStage { name: stage.kind.to_string(), verdict: verdict(stage.verdict).into(), detail: stage.detail }
}

fn candidate(candidate: Candidate) -> ExplainedCandidate {
    ExplainedCandidate {
        trust_relationship_id: candidate.id.to_string(),
        accepts: candidate.accepts(),
        checks: candidate.checks.into_iter().map(check).collect(),
    }
}

fn check(check: Check) -> ExplainedCheck {
    let Check { field, expected, found, verdict: of, hint } = check;
    ExplainedCheck { field, verdict: verdict(of).into(), expected, found, hint: hint.unwrap_or_default() }
}

const fn verdict(verdict: Verdict) -> ExplainedVerdict {
    match verdict {
        Verdict::Passed => ExplainedVerdict::Passed,
        Verdict::Failed => ExplainedVerdict::Failed,
        Verdict::NotReached => ExplainedVerdict::NotReached,
    }
}

#[cfg(test)]
mod tests;
