//! Why a token gets what it gets: every stage and every candidate, with the token's value beside what is asked.
//!
//! The verdict is [`decision::decide`]'s own, and each check is made by the code that makes it in an exchange, so an explanation
//! cannot tell another story than the exchange would. What an exchange stops at is looked past here: an expired token is still
//! compared with the relationships, since that is what its owner wants to know.
//!
//! Only for those who may see the workspace's policy: all of it is told.

mod candidate;
mod nearness;

use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Map, Value};

use crate::exchange::claims::{Claims, InvalidClaims, TimeRules};
use crate::exchange::decision::{self, Decision, PresentedToken, Refused};
use crate::exchange::presentation::Presentation;
use crate::exchange::request::ExchangeRequest;
use crate::insight::judgement::{Judge, Judgement};
use crate::trust::policy::WorkspacePolicy;
use crate::trust::trusted_issuer::TrustedIssuer;
use crate::values::deployment_audience::DeploymentAudience;
use crate::values::id::TrustRelationshipId;
use crate::values::name::Audience;
use crate::values::replay_policy::ReplayPolicy;
use crate::values::text;
use crate::values::time::Timestamp;

use candidate::Eye;
pub use candidate::{Candidate, Check};

/// The most candidates that are told of.
pub const MAX_CANDIDATES: usize = 10;
/// The most characters of a claim's value that are shown.
pub const MAX_SHOWN: usize = 256;

/// What happened to a token, stage by stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What the exchange would come to, short of replay and signing.
    pub outcome: Result<Box<Decision>, Refused>,
    /// The stages, in their order.
    pub stages: Vec<Stage>,
    /// The relationships that come into question: the one that decides or the named one, else the nearest misses first.
    pub candidates: Vec<Candidate>,
    /// How many more relationships the issuer has.
    pub candidates_left_out: usize,
}

/// One stage of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Which.
    pub kind: StageKind,
    /// Whether the token passes.
    pub verdict: Verdict,
    /// What was looked at, and what to do when it fails.
    pub detail: String,
}

/// The stages, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageKind {
    /// Size and shape of the token.
    Token,
    /// The trusted issuer of the workspace.
    Issuer,
    /// Key, signature and the types of registered claims.
    Signature,
    /// `exp`, `iat`, `nbf` and the lifetime.
    Times,
    /// `jti`, as the replay policy needs it.
    TokenId,
    /// `aud`, as the issuer's settings accept it.
    Audience,
    /// `cnf`, which binds a token to a key.
    Proof,
    /// A trust relationship that accepts the token.
    Relationship,
    /// What it gives of what was asked for.
    Grant,
}

/// How a stage or a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Passed,
    /// Not.
    Failed,
    /// Something before it failed, without which it cannot be judged.
    NotReached,
}

impl StageKind {
    /// Every stage.
    pub const ALL: [Self; 9] = [
        Self::Token,
        Self::Issuer,
        Self::Signature,
        Self::Times,
        Self::TokenId,
        Self::Audience,
        Self::Proof,
        Self::Relationship,
        Self::Grant,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Issuer => "issuer",
            Self::Signature => "signature",
            Self::Times => "times",
            Self::TokenId => "token id",
            Self::Audience => "audience",
            Self::Proof => "proof",
            Self::Relationship => "trust relationship",
            Self::Grant => "grant",
        }
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Stage {
    /// A stage that the token passes.
    pub fn passed(kind: StageKind, detail: impl Into<String>) -> Self {
        Self { kind, verdict: Verdict::Passed, detail: detail.into() }
    }

    /// A stage that the token fails.
    pub fn failed(kind: StageKind, detail: impl Into<String>) -> Self {
        Self { kind, verdict: Verdict::Failed, detail: detail.into() }
    }

    /// The stages behind the last of these, none of which is reached.
    pub fn rest_of(stages: &mut Vec<Self>) {
        let next =
            stages.last().and_then(|last| StageKind::ALL.iter().position(|kind| *kind == last.kind)).map_or(0, |at| at + 1);
        let rest = StageKind::ALL.iter().skip(next);
        stages.extend(rest.map(|&kind| Self { kind, verdict: Verdict::NotReached, detail: String::new() }));
    }
}

/// Explains what a verified token gets under a policy at this time: the stages from [`StageKind::Times`] on.
pub fn explain(
    token: PresentedToken<'_>,
    request: &ExchangeRequest,
    policy: &WorkspacePolicy,
    deployment: &DeploymentAudience,
    now: Timestamp,
) -> Explanation {
    let outcome = decision::decide(token, request, policy, deployment, now).map(Box::new);
    look(token.claims, None, request, policy, deployment, now, outcome)
}

/// Explains what is wrong with a token whose signature verifies and whose registered claims are missing or of the wrong type: the
/// stages from [`StageKind::Times`] on. The problems are those that [`Claims::problems`] finds among the members.
pub fn explain_invalid_claims(members: &Map<String, Value>, problems: &[InvalidClaims]) -> Vec<Stage> {
    let stage_of = |claim: &str| match claim {
        "sub" => StageKind::Relationship,
        "aud" => StageKind::Audience,
        "jti" => StageKind::TokenId,
        _ => StageKind::Times,
    };
    let stage = |kind: StageKind| {
        let own = problems.iter().filter(|problem| stage_of(problem.claim()) == kind);
        let details: Vec<String> = own.map(|problem| invalid_claim(members, problem)).collect();
        if details.is_empty() {
            Stage { kind, verdict: Verdict::NotReached, detail: String::new() }
        } else {
            Stage::failed(kind, details.join("; "))
        }
    };
    let settled = [StageKind::Token, StageKind::Issuer, StageKind::Signature];
    StageKind::ALL.into_iter().filter(|kind| !settled.contains(kind)).map(stage).collect()
}

/// What is wrong with one claim, with its value, and what is probably behind that.
fn invalid_claim(members: &Map<String, Value>, problem: &InvalidClaims) -> String {
    let Some(value) = members.get(problem.claim()) else {
        return format!("{problem}; the issuer must set it, as it signed the token without");
    };
    let hint = match (problem, value) {
        (InvalidClaims::WrongType { claim: "exp" | "iat" | "nbf", .. }, Value::String(text)) if text.parse::<f64>().is_ok() => {
            "; the issuer must write it without quotation marks"
        }
        (InvalidClaims::OutOfRange { .. }, Value::Number(number)) if number.as_f64().is_some_and(|time| time > 2.6e11) => {
            "; it looks like milliseconds, and must be in seconds"
        }
        (_, Value::Null) => "; a claim that is null is not absent",
        _ => "",
    };
    format!("{problem}; the token has {}{hint}", text::shown(value, MAX_SHOWN))
}

/// The issuer that was probably intended by a token whose `iss` the workspace does not trust, in words.
pub fn issuer_hint(policy: &WorkspacePolicy, issuer_url: &str) -> Option<String> {
    nearness::issuer_hint(issuer_url, policy.issuers().map(|issuer| issuer.settings.issuer_url.as_str()))
}

/// Explains what a token that was presented at this time would have got under a policy, as far as what was kept of it tells. What
/// was not kept is not reached. `None` when too little was kept to tell anything.
pub fn explain_kept(
    presentation: &Presentation,
    policy: &Arc<WorkspacePolicy>,
    deployment: &DeploymentAudience,
    presented_at: Timestamp,
) -> Option<(Explanation, Judgement)> {
    let claims = presentation.known_claims(SignedDuration::ZERO)?;
    let judgement = Judge::new(Arc::clone(policy), deployment.clone()).judge(presentation, SignedDuration::ZERO, presented_at);
    let request = presentation.request.clone().unwrap_or_default();
    let outcome = match &judgement {
        Judgement::Decided(outcome) => outcome.clone(),
        Judgement::Undecided(_) => Err(Refused::SubjectNotAccepted),
    };
    let explanation = look(&claims, Some(presentation), &request, policy, deployment, presented_at, outcome);
    Some((explanation, judgement))
}

fn look(
    claims: &Claims,
    kept: Option<&Presentation>,
    request: &ExchangeRequest,
    policy: &WorkspacePolicy,
    deployment: &DeploymentAudience,
    now: Timestamp,
    outcome: Result<Box<Decision>, Refused>,
) -> Explanation {
    let issuer = match decision::trusted_issuer(policy, &claims.issuer, deployment) {
        Ok(issuer) => issuer,
        // Whoever verified the token asked before, so this is a policy that changed since.
        Err(refused) => {
            let mut stages = vec![Stage::failed(StageKind::Issuer, refused.to_string())];
            Stage::rest_of(&mut stages);
            return Explanation { outcome, stages, candidates: Vec::new(), candidates_left_out: 0 };
        }
    };
    let named = request.trust_relationship_id.as_ref();
    let eye = Eye { claims, kept, issuer, policy, deployment, now };
    let (candidates, candidates_left_out) = candidate::of(&eye, named);
    let mut stages = vec![
        times(claims, issuer, now),
        token_id(claims, issuer),
        audience(claims, issuer, deployment),
        proof(claims),
        relationship(&candidates, named),
    ];
    if let Some(deciding) = candidates.first().filter(|candidate| candidate.accepts()) {
        stages.push(grant(&deciding.id, &outcome));
    }
    Stage::rest_of(&mut stages);
    Explanation { outcome, stages, candidates, candidates_left_out }
}

fn times(claims: &Claims, issuer: &TrustedIssuer, now: Timestamp) -> Stage {
    let settings = &issuer.settings;
    let rules = TimeRules { clock_skew: settings.clock_skew, max_lifetime: settings.max_token_lifetime };
    let not_before = claims.not_before.map(|time| format!(", nbf {time}")).unwrap_or_default();
    let lifetime = SignedDuration::as_secs(&claims.expires_at.duration_since(claims.issued_at));
    let seen = format!(
        "iat {}{not_before}, exp {} ({lifetime} s, at most {} s); now {now}, clock skew {} s",
        claims.issued_at,
        claims.expires_at,
        settings.max_token_lifetime.as_secs(),
        settings.clock_skew.as_secs(),
    );
    match claims.check_times(now, &rules) {
        Ok(()) => Stage::passed(StageKind::Times, seen),
        Err(untimely) => Stage::failed(StageKind::Times, format!("{untimely}: {seen}")),
    }
}

fn token_id(claims: &Claims, issuer: &TrustedIssuer) -> Stage {
    let kind = StageKind::TokenId;
    match (issuer.settings.replay_policy, &claims.token_id) {
        (ReplayPolicy::Reusable, _) => Stage::passed(kind, "the issuer's tokens may be exchanged again"),
        (ReplayPolicy::SingleUse, None) => Stage::passed(kind, "there is no jti: the token itself is its id, for one exchange"),
        (_, Some(_)) => Stage::passed(kind, "jti is there, for one exchange"),
        (ReplayPolicy::RequireJti, None) => {
            Stage::failed(kind, "jti is missing, which the issuer's replay policy asks for; SINGLE_USE does without")
        }
    }
}

fn audience(claims: &Claims, issuer: &TrustedIssuer, deployment: &DeploymentAudience) -> Stage {
    let accepted = issuer.settings.accepted_audiences(deployment.as_audience());
    let refused = claims.audiences.iter().find(|audience| !deployment.is_in(accepted, audience));
    let quoted = |audience: &Audience| format!("`{}`", text::visible(audience.as_str(), usize::MAX));
    let list = |audiences: &[Audience]| audiences.iter().map(quoted).collect::<Vec<_>>().join(", ");
    let seen = format!("aud is {}; accepted: {}", list(&claims.audiences), list(accepted));
    match refused {
        None => Stage::passed(StageKind::Audience, seen),
        Some(refused) => {
            let hint = nearness::audience_hint(refused, accepted).map(|hint| format!(" {hint}")).unwrap_or_default();
            let advice = "ask the issuer for a token with an accepted audience, or add this one to the trusted issuer";
            Stage::failed(
                StageKind::Audience,
                format!("{} is not accepted; {seen}.{hint} To mend it, {advice}.", quoted(refused)),
            )
        }
    }
}

fn proof(claims: &Claims) -> Stage {
    if claims.is_bound_to_key() {
        let detail = "the token has the claim cnf, which binds it to a key, and proofs of possession are not supported; configure the \
                      issuer to issue tokens without cnf";
        Stage::failed(StageKind::Proof, detail)
    } else {
        Stage::passed(StageKind::Proof, "there is no cnf, so the token needs no proof of possession")
    }
}

fn relationship(candidates: &[Candidate], named: Option<&TrustRelationshipId>) -> Stage {
    let kind = StageKind::Relationship;
    match candidates.first() {
        None => match named {
            Some(id) => Stage::failed(kind, format!("{id}, which was named, is no trust relationship with this issuer")),
            None => Stage::failed(kind, "the workspace has no trust relationship with this issuer"),
        },
        Some(first) if first.accepts() => Stage::passed(kind, format!("{} decides", first.id)),
        Some(first) => match first.failures().next() {
            Some(check) => Stage::failed(kind, format!("the nearest is {}: {}", first.id, check.sentence())),
            None => Stage {
                kind,
                verdict: Verdict::NotReached,
                detail: format!("the nearest is {}, which reads what was not kept", first.id),
            },
        },
    }
}

fn grant(deciding: &TrustRelationshipId, outcome: &Result<Box<Decision>, Refused>) -> Stage {
    let kind = StageKind::Grant;
    match outcome {
        Err(refused @ (Refused::AudienceNotGiven { .. } | Refused::ScopesNotGiven(_) | Refused::NothingToGive(_))) => {
            Stage::failed(kind, refused.to_string())
        }
        Ok(decision) => {
            let scopes = decision.scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let seconds = decision.duration.as_secs();
            Stage::passed(kind, format!("scopes `{scopes}`, {} grants, for {seconds} s", decision.grants.len()))
        }
        // An earlier stage fails, so it was not decided what is given.
        Err(_) => Stage { kind, verdict: Verdict::NotReached, detail: format!("{deciding} would say what is given") },
    }
}

#[cfg(test)]
mod tests;
