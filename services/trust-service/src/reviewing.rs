//! What past exchanges tell of relationships.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use countersign_domain::exchange::audit::AuditedDecision;
use countersign_domain::insight::review::{self, Seen, Usage, Window};
use countersign_domain::trust::issuer_health::IssuerHealth;
use countersign_domain::trust::trust_relationship::TrustRelationship;
use countersign_domain::trust::trusted_issuer::TrustedIssuer;
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::violation::Violations;
use countersign_proto::common::{given_duration, read, text, timestamp};
use countersign_proto::status::Refusal;
use countersign_proto::trust_v1 as wire;
use countersign_store::trust::Which;
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::pages::{self, PageRequest, Position};
use crate::past::Backwards;
use crate::previewing::read_window;
use crate::refusals;
use crate::trust_relationships::TrustRelationships;

/// The most events that are looked at.
const MAX_EVENTS: u64 = 50_000;
const DEFAULT_WINDOW: Duration = Duration::from_hours(30 * 24);

impl TrustRelationships {
    /// Answers `ReviewTrustRelationships`.
    pub(crate) async fn answer_review(
        &self,
        request: Request<wire::ReviewTrustRelationshipsRequest>,
    ) -> Result<Response<wire::ReviewTrustRelationshipsResponse>, Status> {
        let wire = request.get_ref();
        let mut violations = Violations::new();
        let workspace_id: Option<WorkspaceId> = read("workspace_id", &wire.workspace_id, &mut violations);
        let window = match read_window(given_duration(wire.window.as_ref()), DEFAULT_WINDOW) {
            Ok(window) => Some(window),
            Err(more) => {
                violations.extend(more);
                None
            }
        };
        let (workspace_id, window) = workspace_id.zip(window).ok_or(violations).map_err(Refusal::invalid)?;
        Context::caller_in(&request, &workspace_id)?;
        self.0.check_exists(&workspace_id).await?;
        let list: &[&[u8]] = &[b"ReviewTrustRelationships", workspace_id.as_str().as_bytes()];
        let page = PageRequest::read(&self.0.pages, list, wire.page_size, &wire.page_token)?;
        let listed = self.0.store.list_trust_relationships(&workspace_id, None, &pages::query(&page)).await;
        let mut listed = listed.map_err(refusals::store)?;
        let next_page_token = page.finish(&mut listed, |last| Position { created_at: last.created_at, id: last.id.to_string() });

        let now = self.0.now();
        let _turn = self.0.turns.turn(&workspace_id).await?;
        let ids: Vec<TrustRelationshipId> = listed.iter().map(|relationship| relationship.id.clone()).collect();
        let last_uses = self.last_uses(&ids).await?;
        let issuers = self.issuers_of(&workspace_id, &listed).await?;
        let since = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        let (seen, since, is_whole) = self.seen(&workspace_id, &ids, since).await?;
        let nothing = Seen::default();
        let recorded_since = self.0.store.uses_recorded_since().await.map_err(refusals::store)?.unwrap_or(now);
        let window = Window { since, unused_for: window, is_whole, recorded_since };
        let reviews = listed.iter().filter_map(|relationship| {
            let (issuer, health) = issuers.get(&relationship.trusted_issuer_id)?;
            let seen = seen.get(&relationship.id).unwrap_or(&nothing);
            let last_used_at = last_uses.get(&relationship.id).copied();
            let usage = Usage { relationship, issuer, health: health.as_ref(), last_used_at, seen, window, now };
            Some(wire::TrustRelationshipReview {
                trust_relationship_id: relationship.id.to_string(),
                display_name: text(relationship.settings.display_name.as_ref()),
                key: text(relationship.settings.key.as_ref()),
                last_use_time: last_used_at.map(timestamp),
                exchanges: i64::try_from(seen.exchanges()).unwrap_or(i64::MAX),
                findings: review::review(&usage).into_iter().map(Into::into).collect(),
            })
        });
        let reviews = reviews.collect();
        let response = wire::ReviewTrustRelationshipsResponse { reviews, next_page_token, start_time: Some(timestamp(since)) };
        Ok(Response::new(response))
    }

    /// When relationships last decided: as recorded, and as this replica knows beyond.
    pub(crate) async fn last_uses(
        &self,
        ids: &[TrustRelationshipId],
    ) -> Result<HashMap<TrustRelationshipId, Timestamp>, Refusal> {
        let mut last_uses = self.0.store.last_uses(ids).await.map_err(refusals::store)?;
        self.0.uses.add_pending(ids, &mut last_uses);
        Ok(last_uses)
    }

    async fn issuers_of(
        &self,
        workspace_id: &WorkspaceId,
        relationships: &[TrustRelationship],
    ) -> Result<HashMap<TrustedIssuerId, (TrustedIssuer, Option<IssuerHealth>)>, Refusal> {
        let ids: BTreeSet<&TrustedIssuerId> = relationships.iter().map(|relationship| &relationship.trusted_issuer_id).collect();
        let mut issuers = HashMap::with_capacity(ids.len());
        for id in ids {
            // One that is gone took its relationships with it.
            if let Some(issuer) = self.0.store.trusted_issuer(workspace_id, id).await.map_err(refusals::store)? {
                let health = self.0.store.issuer_health(workspace_id, id).await.map_err(refusals::store)?;
                issuers.insert(id.clone(), (issuer, health));
            }
        }
        Ok(issuers)
    }

    /// The subjects that these relationships accepted, from when on every exchange was looked at, and whether that is the whole
    /// window.
    async fn seen(
        &self,
        workspace_id: &WorkspaceId,
        ids: &[TrustRelationshipId],
        since: Timestamp,
    ) -> Result<(HashMap<TrustRelationshipId, Seen>, Timestamp, bool), Refusal> {
        let mut seen: HashMap<TrustRelationshipId, Seen> = ids.iter().map(|id| (id.clone(), Seen::default())).collect();
        let events = Backwards::new(&*self.0.store, Some(workspace_id), Which::Allowed, MAX_EVENTS);
        let (mut events, mut oldest) = (events.since(Some(since)), None);
        while let Some(page) = events.next().await? {
            for event in page {
                oldest = Some(event.time);
                if let AuditedDecision::Allowed(allowed) = event.decision
                    && let Some(seen) = seen.get_mut(&allowed.trust_relationship_id)
                {
                    seen.add(&allowed.audit.presentation.subject);
                }
            }
        }
        let is_whole = events.is_at_end();
        let since = if is_whole { since } else { oldest.unwrap_or(since) };
        Ok((seen, since, is_whole))
    }
}
