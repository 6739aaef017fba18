//! One exchange, from an untrusted text to a committed access token.
//!
//! ```text
//! size, shape -> unverified iss + kid -> trusted issuer of this workspace -> key -> signature -> types, times, audience
//!   -> match a trust relationship -> claim in the replay cache -> sign -> COMMIT -> release
//! ```
//!
//! gRPC and HTTP decode into [`ExchangeInput`] and render [`Exchanged`] or a refusal; everything between is here, once. What is
//! decided is decided by `domain::exchange`; this module asks for keys and policies, and keeps the order in which claim, signature
//! and commit happen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_cache::replay::{Nonce, ReplayCache, ReplayClaim, ReplayKey};
use countersign_domain::exchange::access_token::{AccessTokenClaims, AccessTokenId};
use countersign_domain::exchange::commit::{CommitOutcome, ExchangeAudit, ExchangeCommit, ReplayMark};
use countersign_domain::exchange::decision::{self, Decision, PresentedToken, TokenIdentity};
use countersign_domain::exchange::presentation::Presentation;
use countersign_domain::exchange::request::ExchangeRequest;
use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::trusted_issuer::TrustedIssuer;
use countersign_domain::values::deployment_audience::DeploymentAudience;
use countersign_domain::values::id::{TrustRelationshipId, WorkspaceId};
use countersign_domain::values::name::{Audience, DisplayName, Scope};
use countersign_domain::values::time::{Clock, Entropy, Timestamp};
use countersign_jose::{KeySet, UnverifiedToken, VerificationPolicy, VerifiedToken, VerifyError, hash};
use countersign_proto::status::Refusal;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use crate::batch;
use crate::cause::{Cause, IdentifiedBy};
use crate::ports::{
    CatchUpCause, CaughtUp, CommitError, CommitPoint, CutOff, Keys, PastRefusals, Policies, SignedToken, Signer, UnsignedToken,
};
use crate::refusal_lines::RefusalLines;
use crate::refusals::{self, Met, RefusalLog};

/// The most decisions that are being settled at once. Settling goes on when its caller hangs up, so the bound on requests does not
/// bound it.
pub(crate) const MAX_SETTLING: usize = 2_048;

/// The most bytes of claims that are sent to be signed. With header, signature, issuer and times the token stays within the 16 KiB
/// that every verifier of ours reads.
const MAX_CLAIMS_JSON: usize = 11 * 1024;

/// A batch of claims, and one of their commits, which hold less (the claims that are kept, what was asked for, ids and names), stays
/// well within the 4 MiB of a gRPC message.
const _: () = assert!(batch::MAX_ITEMS * MAX_CLAIMS_JSON <= 1024 * 1024);

/// The most workspaces that are looked through for a relationship that is named without its workspace.
const MAX_WORKSPACES_OF_RELATIONSHIP: usize = 32;

/// What is asked for, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExchangeInput {
    /// What is presented.
    pub(crate) subject_token: SubjectToken,
    /// The workspace, when it was named.
    pub(crate) workspace_id: Option<WorkspaceId>,
    /// Everything else.
    pub(crate) request: ExchangeRequest,
    /// Joins the answer to log and audit.
    pub(crate) request_id: String,
}

/// A presented token. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct SubjectToken(String);

impl From<String> for SubjectToken {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl SubjectToken {
    /// Whether nothing was presented.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The token itself, for whoever parses it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectToken(…)")
    }
}

/// A committed exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchanged {
    /// The access token and its end of life.
    pub(crate) access_token: SignedToken,
    /// How long it lives from now on.
    pub(crate) expires_in: Duration,
    /// Whose policy decided.
    pub(crate) workspace_id: WorkspaceId,
    /// The workspace's name.
    pub(crate) workspace_display_name: Option<DisplayName>,
    /// Which relationship decided.
    pub(crate) trust_relationship_id: TrustRelationshipId,
    /// The token's `scope`.
    pub(crate) scopes: Vec<Scope>,
    /// The token's `aud`.
    pub(crate) audiences: Vec<Audience>,
}

/// Exchanges tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pipeline(Arc<Parts>);

/// What the pipeline is made of.
pub(crate) struct Parts {
    pub(crate) policies: Arc<dyn Policies>,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) replay: Arc<dyn ReplayCache>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) commits: Arc<dyn CommitPoint>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) deployment: DeploymentAudience,
    pub(crate) refusals: Arc<RefusalLog>,
    pub(crate) lines: Arc<RefusalLines>,
    pub(crate) past: Arc<dyn PastRefusals>,
    /// A place for each decision that is being settled; [`MAX_SETTLING`].
    pub(crate) settling: Arc<Semaphore>,
}

/// A verified token and what it gets under one snapshot of the policy.
struct Decided {
    token: Arc<VerifiedToken>,
    policy: Arc<WorkspacePolicy>,
    decision: Decision,
}

/// How settling a decision ended, if not in a refusal.
enum Settled {
    Committed(SignedToken),
    /// The decision was made on a policy that the commit point finds outdated; `Disabled` or changed.
    Outdated(CommitOutcome),
}

/// What an issuer's settings ask of header and key.
pub(crate) fn rules(issuer: &TrustedIssuer) -> VerificationPolicy<'_> {
    VerificationPolicy { algorithms: &issuer.settings.algorithms, token_types: &issuer.settings.token_types }
}

impl Pipeline {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    /// Exchanges a token, or says to the caller why not. The full cause is logged and counted here.
    pub(crate) async fn exchange(&self, input: ExchangeInput) -> Result<Exchanged, Refusal> {
        let mut met = Met::default();
        self.try_exchange(&input, &mut met).await.map_err(|cause| {
            let refusal = cause.refusal();
            self.0.lines.write(&cause, refusal.reason().as_str(), &input.request_id, &met);
            self.0.refusals.note(&cause, met, &input);
            refusal
        })
    }

    async fn try_exchange(&self, input: &ExchangeInput, met: &mut Met) -> Result<Exchanged, Cause> {
        let decided = self.decide_on_fresh_policy(input, met).await?;
        match self.settle_detached(&decided, input).await? {
            Settled::Committed(token) => return Ok(self.exchanged(decided.decision, token)),
            Settled::Outdated(_) => {}
        }
        // Once more, on what the commit point saw.
        if self.0.policies.catch_up(CatchUpCause::Verified).await? != CaughtUp::Fresh {
            return Err(Cause::StaleTwice);
        }
        let decided = self.decide(input, met).await?;
        match self.settle_detached(&decided, input).await? {
            Settled::Committed(token) => Ok(self.exchanged(decided.decision, token)),
            Settled::Outdated(CommitOutcome::Disabled) => Err(Cause::Disabled),
            Settled::Outdated(_) => Err(Cause::StaleTwice),
        }
    }

    /// Decides, and before refusing for want of something that may have been registered a moment ago, asks whether it was.
    async fn decide_on_fresh_policy(&self, input: &ExchangeInput, met: &mut Met) -> Result<Decided, Cause> {
        let cause = match self.decide(input, met).await {
            Ok(decided) => return Ok(decided),
            Err(cause) => cause,
        };
        let Some(why) = cause.worth_catching_up() else { return Err(cause) };
        match (self.0.policies.catch_up(why).await, why) {
            (Ok(CaughtUp::Fresh), _) => self.decide(input, met).await,
            (Err(cut_off), CatchUpCause::Verified) => Err(cut_off.into()),
            // What anybody can make up is refused as it stands. To call it unavailable would tell it from what is refused although
            // the policies did catch up, some time ago.
            (Ok(CaughtUp::Rationed), _) | (Err(CutOff), CatchUpCause::Unverified) => Err(cause),
        }
    }

    /// Everything up to the decision, on one snapshot of the policy (SECURITY 31). Has no effects but to say what it met.
    async fn decide(&self, input: &ExchangeInput, met: &mut Met) -> Result<Decided, Cause> {
        *met = Met::default();
        let text = input.subject_token.0.as_str();
        if text.is_empty() {
            return Err(Cause::TokenMissing);
        }
        let token = UnverifiedToken::parse(text).map_err(Cause::Malformed)?;
        let policy = self.policy_for(&token, input).await?;
        met.workspace_id = Some(policy.workspace_id().clone());
        met.trusted_issuer_id = policy.issuer(token.unverified_issuer()).map(|issuer| issuer.id.clone());
        let token = Arc::new(self.verify(token, &policy).await?);
        met.verified = Some((Arc::clone(&token), Arc::clone(&policy)));
        let presented = PresentedToken { claims: token.claims(), signing_input_hash: token.signing_input_hash() };
        let decision = decision::decide(presented, &input.request, &policy, &self.0.deployment, self.0.clock.now())
            .map_err(Cause::Refused)?;
        met.trust_relationship_id = Some(decision.trust_relationship_id.clone());
        Ok(Decided { token, policy, decision })
    }

    /// The policy of the workspace that is meant. Only workspaces that registered the token's issuer come into question, which is
    /// known from memory, so names that are made up cost nothing.
    async fn policy_for(&self, token: &UnverifiedToken, input: &ExchangeInput) -> Result<Arc<WorkspacePolicy>, Cause> {
        let issuer = token.unverified_issuer();
        if let Some(id) = &input.workspace_id {
            if !self.0.policies.registered(id, issuer) {
                return Err(Cause::NotRegistered);
            }
            return self.0.policies.policy(id).await?.ok_or(Cause::NotRegistered);
        }
        let candidates = self.0.policies.registrants(issuer, MAX_WORKSPACES_OF_RELATIONSHIP);
        match (candidates.as_slice(), &input.request.trust_relationship_id) {
            ([], _) => Err(Cause::IssuerUnknown),
            ([only], _) => self.0.policies.policy(only).await?.ok_or(Cause::IssuerUnknown),
            (several, Some(relationship)) => {
                for id in several {
                    if let Some(policy) = self.0.policies.policy(id).await?
                        && policy.relationship(relationship).is_some()
                    {
                        return Ok(policy);
                    }
                }
                Err(Cause::RelationshipNowhere)
            }
            (_, None) => Err(Cause::WorkspaceAmbiguous),
        }
    }

    /// The keys of the token's issuer, newer ones where they lack the token's.
    pub(crate) async fn keys_for(&self, token: &UnverifiedToken, issuer: &TrustedIssuer) -> Result<Arc<KeySet>, Cause> {
        let keys = self.0.keys.key_set(issuer).await?;
        if token.lacks_key_in(&keys) {
            return Ok(self.0.keys.refresh_for_unknown_key(issuer, token.unverified_key_id()).await?);
        }
        Ok(keys)
    }

    pub(crate) async fn verify(&self, token: UnverifiedToken, policy: &WorkspacePolicy) -> Result<VerifiedToken, Cause> {
        let issuer =
            decision::trusted_issuer(policy, token.unverified_issuer(), &self.0.deployment).map_err(Cause::IssuerRefused)?;
        let keys = self.keys_for(&token, issuer).await?;
        token.verify(&keys, &rules(issuer)).map_err(|error| match error {
            VerifyError::Malformed(malformed) => Cause::Malformed(malformed),
            error => Cause::NotVerified(error),
        })
    }

    /// Settles in a task of its own. A caller who hangs up must not leave a claim behind that nobody releases, nor a commit whose
    /// outcome nobody heard. Without a place nothing is claimed.
    async fn settle_detached(&self, decided: &Decided, input: &ExchangeInput) -> Result<Settled, Cause> {
        let place = Arc::clone(&self.0.settling).try_acquire_owned().map_err(|_| Cause::Overloaded)?;
        let Decided { token, policy, decision } = decided;
        debug_assert_eq!(policy.revision(), decision.policy_revision);
        let issuer = policy.issuer(&token.claims().issuer).ok_or(Cause::Internal("the issuer of a verified token is gone"))?;
        let presentation = refusals::presentation(token, policy, issuer, input);
        let (pipeline, token, decision) = (self.clone(), Arc::clone(token), decision.clone());
        let settling = async move {
            let _place = place;
            pipeline.settle(&token, &decision, presentation).await
        };
        tokio::spawn(settling.in_current_span()).await.map_err(|_| Cause::Internal("the task of an exchange ended early"))?
    }

    /// Claim, sign, commit, in this order. Whatever did not come to a commit releases the claim, so that an honest retry works;
    /// what may have been committed keeps it.
    async fn settle(&self, token: &VerifiedToken, decision: &Decision, presentation: Presentation) -> Result<Settled, Cause> {
        let claim = Claim::make(&self.0, token, decision).await?;
        let id = AccessTokenId::from_random(self.0.entropy.bits128());
        let signed = match self.sign(token, decision, &id).await {
            Ok(signed) => signed,
            Err(cause) => {
                claim.release(&self.0).await;
                return Err(cause);
            }
        };
        let commit = match exchange_commit(decision, &id, &signed, claim.mark.clone(), presentation) {
            Ok(commit) => commit,
            Err(cause) => {
                claim.release(&self.0).await;
                return Err(cause);
            }
        };
        match self.0.commits.commit(commit).await {
            Ok(CommitOutcome::Committed) => Ok(Settled::Committed(signed)),
            Ok(CommitOutcome::Replayed) => Err(Cause::Replayed { by: claim.identified_by }),
            Ok(outdated @ (CommitOutcome::Stale | CommitOutcome::Disabled)) => {
                claim.release(&self.0).await;
                Ok(Settled::Outdated(outdated))
            }
            Err(error @ CommitError::NotMade(_)) => {
                claim.release(&self.0).await;
                Err(Cause::Commit(error))
            }
            Err(error @ CommitError::OutcomeUnknown(_)) => Err(Cause::Commit(error)),
        }
    }

    async fn sign(&self, token: &VerifiedToken, decision: &Decision, id: &AccessTokenId) -> Result<SignedToken, Cause> {
        let claims = AccessTokenClaims::new(decision, token.claims(), id);
        let claims_json = serde_json::to_vec(&claims).map_err(|_| Cause::Internal("claims cannot be written as JSON"))?;
        // Not left to issuer-service: what does not fit must not fail the tokens of others in one batch.
        if claims_json.len() > MAX_CLAIMS_JSON {
            return Err(Cause::TooMuch { relationship: decision.trust_relationship_id.clone(), bytes: claims_json.len() });
        }
        self.0.signer.sign(UnsignedToken { claims_json, duration: decision.duration }).await.map_err(Cause::Sign)
    }

    fn exchanged(&self, decision: Decision, access_token: SignedToken) -> Exchanged {
        let left = access_token.expires_at.duration_since(self.0.clock.now());
        Exchanged {
            expires_in: Duration::try_from(left).unwrap_or_default(),
            access_token,
            workspace_display_name: self.0.policies.display_name(&decision.workspace_id),
            workspace_id: decision.workspace_id,
            trust_relationship_id: decision.trust_relationship_id,
            scopes: decision.scopes,
            audiences: decision.audiences,
        }
    }
}

/// A claim in the replay cache, or none for a token that may be exchanged again.
struct Claim {
    mark: Option<ReplayMark>,
    nonce: Nonce,
    identified_by: IdentifiedBy,
}

impl Claim {
    /// Claims the token. An answer of "unknown" is as good as a claim: the commit point decides (SECURITY 51).
    async fn make(parts: &Parts, token: &VerifiedToken, decision: &Decision) -> Result<Self, Cause> {
        let nonce = Nonce::from_bits(parts.entropy.bits128());
        let Some(replay) = &decision.replay else {
            return Ok(Self { mark: None, nonce, identified_by: IdentifiedBy::Id });
        };
        let identified_by = match replay.identity {
            TokenIdentity::TokenId(_) => IdentifiedBy::Id,
            TokenIdentity::SigningInput(_) => IdentifiedBy::Content,
        };
        let hash = hash::sha256(&replay.identity.replay_key_parts(&decision.workspace_id, &token.claims().issuer));
        let left = replay.remember_until.duration_since(parts.clock.now());
        let ttl = Duration::try_from(left).unwrap_or_default();
        match parts.replay.claim(&ReplayKey::from_hash(hash), nonce, ttl).await {
            ReplayClaim::Duplicate => Err(Cause::ReplayedInCache { by: identified_by }),
            ReplayClaim::Claimed | ReplayClaim::Unknown => {
                Ok(Self { mark: Some(ReplayMark { hash, expires_at: replay.remember_until }), nonce, identified_by })
            }
        }
    }

    /// Takes the claim back, if it is still ours.
    async fn release(&self, parts: &Parts) {
        if let Some(mark) = &self.mark {
            parts.replay.release(&ReplayKey::from_hash(mark.hash), self.nonce).await;
        }
    }
}

fn exchange_commit(
    decision: &Decision,
    id: &AccessTokenId,
    signed: &SignedToken,
    replay: Option<ReplayMark>,
    presentation: Presentation,
) -> Result<ExchangeCommit, Cause> {
    let expires_at: Timestamp = signed.expires_at;
    Ok(ExchangeCommit {
        workspace_id: decision.workspace_id.clone(),
        trusted_issuer_id: decision.trusted_issuer_id.clone(),
        trust_relationship_id: decision.trust_relationship_id.clone(),
        policy_revision: decision.policy_revision,
        trusted_issuer_revision: decision.trusted_issuer_revision,
        trust_relationship_revision: decision.trust_relationship_revision,
        replay,
        audit: ExchangeAudit {
            presentation,
            access_token_id: id.as_str().parse().map_err(|_| Cause::Internal("an access token's id is none"))?,
            access_token_audiences: decision.audiences.clone(),
            scopes: decision.scopes.clone(),
            access_token_expires_at: expires_at,
        },
    })
}

#[cfg(test)]
mod tests;
