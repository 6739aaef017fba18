//! What the audit log is told of refusals.
//!
//! A token that verified and is refused has an event of its own, as long as its workspace keeps within a budget. Beyond, and before
//! a signature verifies, when anybody can make up whatever he likes, refusals are counted by cause, so that a flood fills neither
//! the log nor this memory (SECURITY 63). No exchange waits for any of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_domain::exchange::audit::{CountedRefusals, NewRefusal, Refusals, RefusedExchange};
use countersign_domain::exchange::presentation::Presentation;
use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::trusted_issuer::TrustedIssuer;
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::{Clock, Timestamp};
use countersign_jose::VerifiedToken;
use countersign_proto::trust::audit::append_request;
use countersign_proto::trust_v1::audit_log_service_client::AuditLogServiceClient;
use countersign_runtime::client::PeerChannel;
use countersign_runtime::shutdown::Shutdown;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::budget::{Budget, Rate};
use crate::cause::Cause;
use crate::pipeline::ExchangeInput;

/// How many refusals of one issuer's tokens in one workspace have events of their own at a time, and how fast there is room for
/// another. A workspace has room for twice as many, so that a flood from one issuer leaves some to the others.
const OF_ISSUER: Rate = Rate { burst: 200.0, per_second: 1.0 };
const OF_WORKSPACE: Rate = Rate { burst: 400.0, per_second: 2.0 };
/// The most events that wait to be told; beyond, refusals are counted.
const MAX_WAITING: usize = 2_000;
/// The most kinds of refusal that are counted apart, of one workspace and of all together.
const MAX_KINDS_OF_WORKSPACE: usize = 20;
const MAX_KINDS: usize = 1_000;
/// How often the log is told, and every how many times of numbers too.
const INTERVAL: Duration = Duration::from_secs(1);
const INTERVALS_COUNTED: u32 = 60;
/// For one call.
const LIMIT: Duration = Duration::from_secs(5);
/// What is said of the kinds beyond the most.
const OTHER_CAUSES: &str = "refused in more ways than are told apart";

/// What was met on the way to a refusal.
#[derive(Default)]
pub(crate) struct Met {
    /// Whose policy was to decide.
    pub(crate) workspace_id: Option<WorkspaceId>,
    /// The issuer that the token named, of that workspace.
    pub(crate) trusted_issuer_id: Option<TrustedIssuerId>,
    /// The token, when its signature verified, and the policy that it was held against.
    pub(crate) verified: Option<(Arc<VerifiedToken>, Arc<WorkspacePolicy>)>,
    /// The relationship that decided for it, before something else did not.
    pub(crate) trust_relationship_id: Option<TrustRelationshipId>,
}

/// Refusals that the audit log was not told of yet.
pub(crate) struct RefusalLog {
    clock: Arc<dyn Clock>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Of each workspace, and of each issuer in it.
    budgets: HashMap<(WorkspaceId, Option<TrustedIssuerId>), Budget>,
    one_by_one: VecDeque<NewRefusal>,
    counted: HashMap<Kind, Count>,
    kinds: HashMap<Option<WorkspaceId>, usize>,
}

/// Refusals of one kind are counted together.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    workspace_id: Option<WorkspaceId>,
    trusted_issuer_id: Option<TrustedIssuerId>,
    reason: Reason,
    cause: String,
}

struct Count {
    refusals: u64,
    first_at: Timestamp,
    last_at: Timestamp,
    request_id: String,
}

impl RefusalLog {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, waiting: Mutex::default() }
    }

    /// Notes a refusal. What is our trouble rather than the caller's is none.
    pub(crate) fn note(&self, cause: &Cause, met: Met, input: &ExchangeInput) {
        let reason = cause.refusal().reason();
        if matches!(reason, Reason::TemporarilyUnavailable | Reason::Internal) {
            return;
        }
        let (now, cause_text) = (self.clock.now(), shortened(cause.to_string()));
        let Met { workspace_id, trusted_issuer_id, verified, trust_relationship_id } = met;
        let kind = Kind { workspace_id, trusted_issuer_id, reason, cause: cause_text };
        // Made before the others are kept waiting.
        let one = verified.and_then(|(token, policy)| {
            let issuer = policy.issuer(&token.claims().issuer)?;
            let refused = RefusedExchange {
                trusted_issuer_id: issuer.id.clone(),
                trust_relationship_id: cause.trust_relationship_id().cloned().or(trust_relationship_id),
                policy_revision: policy.revision(),
                reason,
                cause: kind.cause.clone(),
                presentation: presentation(&token, &policy, issuer, input),
            };
            Some((policy.workspace_id().clone(), refused))
        });
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match one {
            Some((workspace_id, refused)) if waiting.admits(&workspace_id, &refused.trusted_issuer_id) => {
                let refused = Refusals::One(Box::new(refused));
                waiting.one_by_one.push_back(NewRefusal { workspace_id: Some(workspace_id), time: now, refused });
            }
            _ => waiting.count(kind, Count { refusals: 1, first_at: now, last_at: now, request_id: input.request_id.clone() }),
        }
    }

    /// A refusal that waits to be told.
    pub(crate) fn find(&self, workspace_id: &WorkspaceId, request_id: &str) -> Option<NewRefusal> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |refusal: &&NewRefusal| {
            refusal.workspace_id.as_ref() == Some(workspace_id)
                && matches!(&refusal.refused, Refusals::One(one) if one.presentation.request_id == request_id)
        };
        waiting.one_by_one.iter().rev().find(is_it).cloned()
    }

    /// How many events wait to be told.
    pub(crate) fn count_waiting(&self) -> i64 {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        i64::try_from(waiting.one_by_one.len() + waiting.counted.len()).unwrap_or(i64::MAX)
    }

    /// Tells the log from time to time until it is dropped, and all of it when the service begins to stop.
    pub(crate) async fn run(self: Arc<Self>, trust_service: PeerChannel, shutdown: Shutdown) {
        let client = AuditLogServiceClient::new(trust_service);
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut intervals, mut stopping) = (0_u32, false);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.requested(), if !stopping => stopping = true,
            }
            intervals = intervals.wrapping_add(1);
            if stopping || intervals.is_multiple_of(INTERVALS_COUNTED) {
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).close_counts();
            }
            self.tell(&client).await;
        }
    }

    /// Tells what waits, until nothing does or it cannot be told.
    async fn tell(&self, client: &AuditLogServiceClient<PeerChannel>) {
        loop {
            let batch = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            if batch.is_empty() {
                return;
            }
            match append(client, &batch).await {
                Told::Taken => {}
                Told::Unreachable => {
                    tracing::debug!(refusals = batch.len(), "the audit log cannot be told of refusals now");
                    self.waiting.lock().unwrap_or_else(PoisonError::into_inner).put_back(batch);
                    return;
                }
                // One that is not taken must not take the others with it.
                Told::NotTaken => {
                    for refusal in batch {
                        if append(client, std::slice::from_ref(&refusal)).await == Told::NotTaken {
                            tracing::error!("the audit log does not take a refusal");
                        }
                    }
                }
            }
        }
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Taken,
    /// To tell it again would be in vain.
    NotTaken,
    Unreachable,
}

async fn append(client: &AuditLogServiceClient<PeerChannel>, refusals: &[NewRefusal]) -> Told {
    match timeout(LIMIT, client.clone().append_refusals(append_request(refusals))).await {
        Ok(Ok(_)) => Told::Taken,
        Ok(Err(status)) if status.code() == tonic::Code::InvalidArgument => Told::NotTaken,
        Ok(Err(_)) | Err(_) => Told::Unreachable,
    }
}

impl Waiting {
    fn admits(&mut self, workspace_id: &WorkspaceId, trusted_issuer_id: &TrustedIssuerId) -> bool {
        let now = Instant::now();
        let mut take = |issuer: Option<&TrustedIssuerId>, rate: Rate| {
            let budget = self.budgets.entry((workspace_id.clone(), issuer.cloned()));
            budget.or_insert_with(|| Budget::full(rate, now)).take(now)
        };
        self.one_by_one.len() < MAX_WAITING && take(Some(trusted_issuer_id), OF_ISSUER) && take(None, OF_WORKSPACE)
    }

    fn count(&mut self, mut kind: Kind, more: Count) {
        if !self.counted.contains_key(&kind) {
            let of_workspace = self.kinds.get(&kind.workspace_id).copied().unwrap_or(0);
            if of_workspace >= MAX_KINDS_OF_WORKSPACE {
                (kind.trusted_issuer_id, kind.cause) = (None, OTHER_CAUSES.to_owned());
            }
            if self.counted.len() >= MAX_KINDS {
                let (reason, cause) = (kind.reason, OTHER_CAUSES.to_owned());
                kind = Kind { workspace_id: None, trusted_issuer_id: None, reason, cause };
            }
            if !self.counted.contains_key(&kind) {
                *self.kinds.entry(kind.workspace_id.clone()).or_default() += 1;
            }
        }
        match self.counted.get_mut(&kind) {
            Some(count) => {
                count.refusals = count.refusals.saturating_add(more.refusals);
                count.first_at = count.first_at.min(more.first_at);
                count.last_at = count.last_at.max(more.last_at);
            }
            None => {
                self.counted.insert(kind, more);
            }
        }
    }

    /// Makes events of the numbers, and forgets budgets that are full again.
    fn close_counts(&mut self) {
        self.kinds.clear();
        for (kind, count) in std::mem::take(&mut self.counted) {
            let Kind { workspace_id, trusted_issuer_id, reason, cause } = kind;
            let Count { refusals: count, first_at, last_at, request_id } = count;
            let counted = CountedRefusals { trusted_issuer_id, reason, cause, count, first_at, request_id };
            self.one_by_one.push_back(NewRefusal { workspace_id, time: last_at, refused: Refusals::Counted(counted) });
        }
        let now = Instant::now();
        self.budgets.retain(|_, budget| !budget.is_full(now));
    }

    fn take(&mut self) -> Vec<NewRefusal> {
        let count = self.one_by_one.len().min(NewRefusal::MAX_BATCH);
        self.one_by_one.drain(..count).collect()
    }

    /// For the next time; numbers become numbers again, lest every failure makes events of its own.
    fn put_back(&mut self, batch: Vec<NewRefusal>) {
        for refusal in batch.into_iter().rev() {
            let NewRefusal { workspace_id, time, refused } = refusal;
            match refused {
                Refusals::One(one) if self.one_by_one.len() < MAX_WAITING => {
                    self.one_by_one.push_front(NewRefusal { workspace_id, time, refused: Refusals::One(one) });
                }
                Refusals::One(one) => {
                    let trusted_issuer_id = Some(one.trusted_issuer_id);
                    let kind = Kind { workspace_id, trusted_issuer_id, reason: one.reason, cause: one.cause };
                    let request_id = one.presentation.request_id;
                    self.count(kind, Count { refusals: 1, first_at: time, last_at: time, request_id });
                }
                Refusals::Counted(counted) => {
                    let CountedRefusals { trusted_issuer_id, reason, cause, count, first_at, request_id } = counted;
                    let kind = Kind { workspace_id, trusted_issuer_id, reason, cause };
                    self.count(kind, Count { refusals: count, first_at, last_at: time, request_id });
                }
            }
        }
    }
}

/// What the audit log keeps of a token that verified.
pub(crate) fn presentation(
    token: &VerifiedToken,
    policy: &WorkspacePolicy,
    issuer: &TrustedIssuer,
    input: &ExchangeInput,
) -> Presentation {
    let claims = token.claims();
    Presentation {
        request_id: input.request_id.clone(),
        subject_issuer: issuer.settings.issuer_url.clone(),
        subject: claims.subject.clone(),
        subject_token_hash: token.signing_input_hash(),
        subject_token_id: claims.token_id.clone(),
        subject_key_id: token.key_id().cloned(),
        claims: policy.claims_to_keep(&issuer.id, claims),
        request: Presentation::request_to_keep(&input.request),
    }
}

/// Cut to what is kept of a cause, at the end of a character.
fn shortened(mut cause: String) -> String {
    let end = (0..=NewRefusal::MAX_CAUSE.min(cause.len())).rev().find(|&at| cause.is_char_boundary(at));
    cause.truncate(end.unwrap_or(0));
    cause
}

#[cfg(test)]
mod tests;
