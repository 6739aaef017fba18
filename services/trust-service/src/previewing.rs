//! What a change would have done to past exchanges.

use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign_domain::exchange::audit::AuditedDecision;
use countersign_domain::exchange::presentation::Presentation;
use countersign_domain::insight::preview::{Affected, Effect, Preview, Previewer};
use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::policy_feed::{PolicyChange, PolicySnapshot};
use countersign_domain::trust::trust_relationship::TrustRelationship;
use countersign_domain::values::draft::Given;
use countersign_domain::values::id::TrustRelationshipId;
use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::violation::Violations;
use countersign_proto::common::{given_duration, mask_paths, timestamp};
use countersign_proto::status::Refusal;
use countersign_proto::trust_v1 as wire;
use countersign_runtime::auth;
use countersign_store::trust::Which;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::linting::{Linted, Proposed};
use crate::past::Backwards;
use crate::refusals;
use crate::trust_relationships::{TrustRelationships, check_grantable};
use crate::turns::{Abandonment, Turn};

/// The most events that are looked at.
const MAX_EVENTS: u64 = 20_000;
/// The most that are looked through for those that were only counted.
const MAX_COUNTED: u64 = 5_000;
/// How long it may take; then what was seen is told.
const MAX_TIME: Duration = Duration::from_secs(6);
const DEFAULT_WINDOW: Duration = Duration::from_hours(7 * 24);
/// The longest that is looked back, here and for reviews.
pub(crate) const MAX_WINDOW: Duration = Duration::from_hours(90 * 24);
/// What the relationship that would be created is called.
const NEW: &str = "new";

impl TrustRelationships {
    /// Answers `PreviewTrustRelationship`.
    pub(crate) async fn answer_preview(
        &self,
        request: Request<wire::PreviewTrustRelationshipRequest>,
    ) -> Result<Response<wire::PreviewTrustRelationshipResponse>, Status> {
        let caller = auth::caller(&request)?.clone();
        let wire::PreviewTrustRelationshipRequest { trust_relationship, update_mask, delete, window } = request.get_ref().clone();
        let (wire, mask) = (trust_relationship.unwrap_or_default(), mask_paths(update_mask));
        let window = read_window(given_duration(window.as_ref()), DEFAULT_WINDOW).map_err(Refusal::invalid)?;
        if delete && (wire.id.is_empty() || !mask.is_empty()) {
            return Err(Refusal::invalid_field("delete", "needs `trust_relationship.id`, and no `update_mask`").into());
        }
        let proposed = self.proposed(&request, wire, &mask).await?;
        let issuer = self.issuer(&proposed.workspace_id, &proposed.trusted_issuer_id).await?;
        let mut findings = Vec::new();
        if !delete {
            check_grantable(&caller, proposed.current.as_ref().map(|current| &current.settings), &proposed.settings)?;
            let id = proposed.current.as_ref().map(|current| &current.id);
            let linted = Linted { issuer: &issuer, id, settings: &proposed.settings };
            findings = self.findings(&linted, countersign_domain::insight::lint::MAX_OTHERS).await?;
        }
        let now = self.0.now();
        let since = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        let turn = self.0.turns.turn(&proposed.workspace_id).await?;
        let snapshot = self.0.store.policy(&proposed.workspace_id).await.map_err(refusals::store)?;
        let snapshot = snapshot.ok_or_else(|| Refusal::not_found("Workspace", &proposed.workspace_id))?;
        let changed = Changed::of(&proposed, delete, TrustRelationshipId::from_random(self.0.entropy.bits128()), now);
        let (is_new, id, deployment) = (proposed.current.is_none(), changed.id.clone(), self.0.deployment.clone());
        let look = Look::begin(turn, move || {
            let (before, after) = changed.versions(snapshot);
            Previewer::new(changed.id, before, after, &deployment, now)
        });
        let past = self.past(look, &proposed, issuer.settings.issuer_url.as_str(), since).await?;
        let start_time = if past.truncated { past.oldest.unwrap_or(since) } else { since };
        let mut response = answer(past.preview, is_new.then_some(&id));
        response.counted_refusals = i64::try_from(past.counted).unwrap_or(i64::MAX);
        response.start_time = Some(timestamp(start_time));
        response.truncated = past.truncated;
        response.findings = findings.into_iter().map(Into::into).collect();
        Ok(Response::new(response))
    }

    /// Looks at the past tokens of the issuer, and counts what cannot be looked at.
    async fn past(&self, mut look: Look, proposed: &Proposed, issuer_url: &str, since: Timestamp) -> Result<Past, Refusal> {
        let (store, workspace_id) = (&*self.0.store, Some(&proposed.workspace_id));
        let mut events = Backwards::new(store, workspace_id, Which::Presented, MAX_EVENTS).since(Some(since));
        let mut oldest = None;
        while let Some(page) = events.next().await? {
            oldest = page.last().map(|last| last.time).or(oldest);
            let presented = page.into_iter().filter_map(|event| {
                let presentation = match event.decision {
                    AuditedDecision::Allowed(allowed) => allowed.audit.presentation,
                    // The policy would have allowed a replayed token: it says nothing of the policy, and was an exchange already.
                    AuditedDecision::Refused(refused) if refused.reason != Reason::SubjectTokenReplayed => refused.presentation,
                    AuditedDecision::Refused(_) | AuditedDecision::Counted(_) => return None,
                };
                (presentation.subject_issuer.as_str() == issuer_url).then_some((event.time, presentation))
            });
            look = look.examine(presented.collect()).await?;
            if look.is_out_of_time() {
                break;
            }
        }
        let truncated = look.is_out_of_time() || !events.is_at_end();
        let counted = self.counted(proposed, since).await?;
        Ok(Past { preview: look.finish().await?, counted, oldest, truncated })
    }

    /// How many refusals of the issuer's tokens were only counted, as far as is worth looking.
    async fn counted(&self, proposed: &Proposed, since: Timestamp) -> Result<u64, Refusal> {
        let (store, workspace_id) = (&*self.0.store, Some(&proposed.workspace_id));
        let mut events = Backwards::new(store, workspace_id, Which::Everything, MAX_COUNTED).since(Some(since));
        let mut counted = 0_u64;
        while let Some(page) = events.next().await? {
            counted = page.iter().fold(counted, |sum, event| match &event.decision {
                AuditedDecision::Counted(of) if of.trusted_issuer_id.as_ref() == Some(&proposed.trusted_issuer_id) => {
                    sum.saturating_add(of.count)
                }
                _ => sum,
            });
        }
        Ok(counted)
    }
}

struct Past {
    preview: Preview,
    counted: u64,
    oldest: Option<Timestamp>,
    truncated: bool,
}

/// A look through the past, page by page, on a thread where it stands in nobody's way.
struct Look {
    previewer: JoinHandle<(Previewer, Turn)>,
    abandonment: Abandonment,
    until: Instant,
}

impl Look {
    fn begin(turn: Turn, previewer: impl FnOnce() -> Previewer + Send + 'static) -> Self {
        let previewer = tokio::task::spawn_blocking(move || (previewer(), turn));
        Self { previewer, abandonment: Abandonment::default(), until: Instant::now() + MAX_TIME }
    }

    /// The turn goes along, and ends with the work, also when the caller has hung up.
    async fn examine(self, presented: Vec<(Timestamp, Presentation)>) -> Result<Self, Refusal> {
        let Self { previewer, abandonment, until } = self;
        let (mut previewer, turn) = previewer.await.map_err(|_| Refusal::internal())?;
        let abandoned = abandonment.sign();
        let previewer = tokio::task::spawn_blocking(move || {
            for (time, presentation) in &presented {
                if abandoned.load(Ordering::Relaxed) || Instant::now() >= until {
                    break;
                }
                previewer.examine(*time, presentation);
            }
            (previewer, turn)
        });
        Ok(Self { previewer, abandonment, until })
    }

    fn is_out_of_time(&self) -> bool {
        Instant::now() >= self.until
    }

    async fn finish(self) -> Result<Preview, Refusal> {
        let (previewer, _turn) = self.previewer.await.map_err(|_| Refusal::internal())?;
        Ok(previewer.finish())
    }
}

/// A relationship as it would be; without settings it would be gone.
struct Changed {
    id: TrustRelationshipId,
    relationship: Option<TrustRelationship>,
}

impl Changed {
    fn of(proposed: &Proposed, delete: bool, fresh: TrustRelationshipId, now: Timestamp) -> Self {
        if let Some(current) = &proposed.current {
            let changed = TrustRelationship { settings: proposed.settings.clone(), ..current.clone() };
            return Self { id: current.id.clone(), relationship: (!delete).then_some(changed) };
        }
        let relationship = TrustRelationship {
            id: fresh.clone(),
            workspace_id: proposed.workspace_id.clone(),
            trusted_issuer_id: proposed.trusted_issuer_id.clone(),
            settings: proposed.settings.clone(),
            revision: 1,
            creator: String::new(),
            created_at: now,
            updated_at: now,
        };
        Self { id: fresh, relationship: Some(relationship) }
    }

    /// The policy as it stands, and with the change.
    fn versions(&self, snapshot: PolicySnapshot) -> (WorkspacePolicy, WorkspacePolicy) {
        let (workspace_id, state, policy_revision) =
            (snapshot.workspace_id.clone(), snapshot.state, snapshot.policy_revision + 1);
        let before = WorkspacePolicy::from(snapshot);
        let mut after = before.clone();
        let deleted = self.relationship.is_none().then(|| self.id.clone());
        after.apply(PolicyChange {
            workspace_id,
            state,
            policy_revision,
            trusted_issuers: Vec::new(),
            trust_relationships: self.relationship.clone().into_iter().collect(),
            deleted_trusted_issuer_ids: Vec::new(),
            deleted_trust_relationship_ids: deleted.into_iter().collect(),
        });
        (before, after)
    }
}

/// Reads how far back to look.
pub(crate) fn read_window(window: Given<Duration>, default: Duration) -> Result<Duration, Violations> {
    let mut violations = Violations::new();
    let window = match window {
        None => default,
        Some(Ok(window)) if (Duration::from_secs(1)..=MAX_WINDOW).contains(&window) => window,
        Some(Ok(_)) => {
            violations.add("window", "must be from one second to 90 days");
            default
        }
        Some(Err(unreadable)) => {
            violations.add("window", unreadable.to_string());
            default
        }
    };
    violations.into_result(window)
}

fn answer(preview: Preview, new: Option<&TrustRelationshipId>) -> wire::PreviewTrustRelationshipResponse {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let of = |effect: Effect| preview.by_effect.get(&effect).copied().unwrap_or(0);
    let touched: u64 = preview.by_effect.values().sum();
    wire::PreviewTrustRelationshipResponse {
        left_out: count(preview.left_out),
        examined: count(preview.examined),
        unchanged: count(preview.examined.saturating_sub(touched)),
        newly_refused: count(of(Effect::NewlyRefused)),
        newly_allowed: count(of(Effect::NewlyAllowed)),
        decided_otherwise: count(of(Effect::DecidedOtherwise)),
        undecided: count(of(Effect::Undecided)),
        affected: preview.affected.into_iter().map(|affected| affected_exchanges(affected, new)).collect(),
        ..wire::PreviewTrustRelationshipResponse::default()
    }
}

fn affected_exchanges(affected: Affected, new: Option<&TrustRelationshipId>) -> wire::AffectedExchanges {
    let name = |id: Option<TrustRelationshipId>| match id {
        Some(id) if Some(&id) == new => NEW.to_owned(),
        Some(id) => id.to_string(),
        None => String::new(),
    };
    let effect = match affected.effect {
        Effect::NewlyRefused => wire::PreviewEffect::NewlyRefused,
        Effect::NewlyAllowed => wire::PreviewEffect::NewlyAllowed,
        Effect::DecidedOtherwise => wire::PreviewEffect::DecidedOtherwise,
        Effect::Undecided => wire::PreviewEffect::Undecided,
    };
    wire::AffectedExchanges {
        effect: effect.into(),
        subject: affected.subject.to_string(),
        trust_relationship_id: name(affected.before),
        changed_trust_relationship_id: name(affected.after),
        detail: match new {
            // It has no id yet that would mean anything.
            Some(id) => affected.detail.replace(id.as_str(), NEW),
            None => affected.detail,
        },
        exchanges: i64::try_from(affected.exchanges).unwrap_or(i64::MAX),
        last_time: Some(timestamp(affected.last_at)),
        request_id: affected.request_id,
    }
}
