//! The audit log, and when relationships were last used.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use countersign_domain::exchange::audit::{
    AllowedExchange, AuditEvent, AuditedDecision, CountedRefusals, NewRefusal, Refusals, RefusedExchange,
};
use countersign_domain::exchange::commit::{ExchangeAudit, ExchangeCommit};
use countersign_domain::exchange::presentation::{KeptClaims, Presentation};
use countersign_domain::exchange::request::ExchangeRequest;
use countersign_domain::values::id::{TrustRelationshipId, WorkspaceId};
use countersign_domain::values::name::{Audience, Scope};
use countersign_domain::values::time::Timestamp;
use sea_orm::ActiveValue::NotSet;
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use serde::{Deserialize, Serialize};

use super::entity::{audit_event, refusal, trust_relationship, trust_relationship_use, use_recording};
use super::{AuditStore, SeaTrustStore, Which, rows};
use crate::database::StoreError;

#[async_trait]
impl AuditStore for SeaTrustStore {
    async fn append_refusals(&self, refusals: &[NewRefusal]) -> Result<(), StoreError> {
        if refusals.is_empty() {
            return Ok(());
        }
        let events = refusals.iter().map(refused).collect::<Result<Vec<_>, _>>()?;
        let transaction = self.database.begin_write().await?;
        for event in events {
            let (workspace_id, request_id) = (event.workspace_id.clone(), event.request_id.clone());
            let is_of_one = event.count.is_none();
            let row = audit_event::ActiveModel { sequence: NotSet, ..event.into_active_model() };
            let sequence = audit_event::Entity::insert(row).exec(&transaction).await?.last_insert_id;
            if is_of_one {
                let row = refusal::Model { workspace_id, request_id, sequence };
                refusal::Entity::insert(row.into_active_model()).exec_without_returning(&transaction).await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn audit_events(
        &self,
        workspace_id: Option<&WorkspaceId>,
        which: Which,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        use audit_event::Column;
        let workspace_id = workspace_id.map_or(audit_event::NO_WORKSPACE, WorkspaceId::as_str);
        let mut select = audit_event::Entity::find()
            .filter(Column::WorkspaceId.eq(workspace_id))
            // A newer version may know of other kinds.
            .filter(Column::Kind.eq(audit_event::EXCHANGE));
        select = match which {
            Which::Everything => select,
            Which::Presented => select.filter(Column::Count.is_null()),
            Which::Allowed => select.filter(Column::Decision.eq(audit_event::ALLOWED)),
        };
        if let Some(before) = before {
            select = select.filter(Column::Sequence.lt(before));
        }
        let rows = select.order_by_desc(Column::Sequence).limit(limit).all(self.database.reader()).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn refusals_of_request(&self, workspace_id: &WorkspaceId, request_id: &str) -> Result<Vec<AuditEvent>, StoreError> {
        let sequences: Vec<i64> = refusal::Entity::find()
            .filter(refusal::Column::WorkspaceId.eq(workspace_id.as_str()))
            .filter(refusal::Column::RequestId.eq(request_id))
            .order_by_desc(refusal::Column::Sequence)
            .limit(10)
            .select_only()
            .column(refusal::Column::Sequence)
            .into_tuple()
            .all(self.database.reader())
            .await?;
        let rows = audit_event::Entity::find()
            .filter(audit_event::Column::Sequence.is_in(sequences))
            .order_by_desc(audit_event::Column::Sequence)
            .all(self.database.reader())
            .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn begin_recording_uses(&self, now: Timestamp) -> Result<(), StoreError> {
        let row = use_recording::Model { id: 1, began_at: rows::time(now) }.into_active_model();
        let keep = OnConflict::column(use_recording::Column::Id).do_nothing().to_owned();
        use_recording::Entity::insert(row).on_conflict(keep).exec_without_returning(self.database.writer()).await?;
        Ok(())
    }

    async fn uses_recorded_since(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = use_recording::Entity::find().one(self.database.reader()).await?;
        row.map(|row| rows::read_time(row.began_at)).transpose()
    }

    async fn record_uses(&self, uses: &HashMap<TrustRelationshipId, Timestamp>) -> Result<(), StoreError> {
        use trust_relationship_use::{ActiveModel, Column, Entity, Model};
        let transaction = self.database.begin_write().await?;
        let there: BTreeSet<String> = trust_relationship::Entity::find()
            .filter(trust_relationship::Column::Id.is_in(uses.keys().map(TrustRelationshipId::as_str)))
            .select_only()
            .column(trust_relationship::Column::Id)
            .into_tuple()
            .all(&transaction)
            .await?
            .into_iter()
            .collect();
        // In one order, so that no two replicas wait for each other in a circle.
        let mut rows: Vec<Model> = uses
            .iter()
            .filter(|(id, _)| there.contains(id.as_str()))
            .map(|(id, last_at)| Model { trust_relationship_id: id.to_string(), last_at: rows::time(*last_at) })
            .collect();
        rows.sort_by(|a, b| a.trust_relationship_id.cmp(&b.trust_relationship_id));
        if !rows.is_empty() {
            let stored = || Expr::col((Entity, Column::LastAt));
            let told = || Expr::col(("excluded", Column::LastAt));
            let latest = CaseStatement::new().case(told().gt(stored()), told()).finally(stored());
            let mut keep_latest = OnConflict::column(Column::TrustRelationshipId);
            let keep_latest = keep_latest.value(Column::LastAt, latest).to_owned();
            let rows: Vec<ActiveModel> = rows.into_iter().map(Model::into_active_model).collect();
            Entity::insert_many(rows).on_conflict(keep_latest).exec_without_returning(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn last_uses(&self, ids: &[TrustRelationshipId]) -> Result<HashMap<TrustRelationshipId, Timestamp>, StoreError> {
        use trust_relationship_use::{Column, Entity};
        let ids = ids.iter().map(TrustRelationshipId::as_str);
        let rows = Entity::find().filter(Column::TrustRelationshipId.is_in(ids)).all(self.database.reader()).await?;
        let read = |row: trust_relationship_use::Model| {
            Ok((rows::parse("trust relationship id", &row.trust_relationship_id)?, rows::read_time(row.last_at)?))
        };
        rows.into_iter().map(read).collect()
    }
}

/// Appends events. Their sequences are the database's to give.
pub(super) async fn insert(transaction: &DatabaseTransaction, events: Vec<audit_event::Model>) -> Result<(), StoreError> {
    for event in events {
        let row = audit_event::ActiveModel { sequence: NotSet, ..event.into_active_model() };
        audit_event::Entity::insert(row).exec_without_returning(transaction).await?;
    }
    Ok(())
}

/// What was asked for, as it is written.
#[derive(Serialize, Deserialize)]
struct WrittenRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trust_relationship_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    audiences: Vec<Audience>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<Scope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration_nanos: Option<u64>,
}

/// An event of which nothing is known yet.
fn blank(time: Timestamp, workspace_id: Option<&WorkspaceId>, decision: &str, request_id: &str) -> audit_event::Model {
    audit_event::Model {
        sequence: 0,
        time: rows::time(time),
        workspace_id: workspace_id.map_or(audit_event::NO_WORKSPACE, WorkspaceId::as_str).to_owned(),
        kind: audit_event::EXCHANGE.to_owned(),
        decision: decision.to_owned(),
        reason: None,
        request_id: request_id.to_owned(),
        trusted_issuer_id: None,
        trusted_issuer_revision: None,
        trust_relationship_id: None,
        trust_relationship_revision: None,
        policy_revision: None,
        subject_issuer: None,
        subject: None,
        subject_token_hash: None,
        subject_token_id: None,
        subject_key_id: None,
        access_token_id: None,
        access_token_audiences: None,
        scopes: None,
        access_token_expires_at: None,
        claims: None,
        claim_paths: None,
        request: None,
        cause: None,
        count: None,
        first_at: None,
    }
}

/// An event with what was kept of the presented token.
fn presented(presentation: &Presentation, event: audit_event::Model) -> Result<audit_event::Model, StoreError> {
    let claims = presentation.claims.as_ref();
    let request = presentation.request.as_ref().map(|request| WrittenRequest {
        trust_relationship_id: request.trust_relationship_id.as_ref().map(ToString::to_string),
        audiences: request.audiences.clone(),
        scopes: request.scopes.clone(),
        duration_nanos: request.duration.map(|duration| duration.as_nanos().try_into().unwrap_or(u64::MAX)),
    });
    Ok(audit_event::Model {
        subject_issuer: Some(presentation.subject_issuer.to_string()),
        subject: Some(presentation.subject.to_string()),
        subject_token_hash: Some(presentation.subject_token_hash.to_vec()),
        subject_token_id: presentation.subject_token_id.as_ref().map(ToString::to_string),
        subject_key_id: presentation.subject_key_id.as_ref().map(ToString::to_string),
        claims: claims.map(|claims| claims.json().to_owned()),
        claim_paths: claims.map(|claims| rows::json("claim paths", claims.read())).transpose()?,
        request: request.map(|request| rows::json("request", &request)).transpose()?,
        ..event
    })
}

/// The event of a committed exchange.
pub(super) fn allowed(exchange: &ExchangeCommit, now: Timestamp) -> Result<audit_event::Model, StoreError> {
    let audit = &exchange.audit;
    let event = blank(now, Some(&exchange.workspace_id), audit_event::ALLOWED, &audit.presentation.request_id);
    presented(
        &audit.presentation,
        audit_event::Model {
            trusted_issuer_id: Some(exchange.trusted_issuer_id.to_string()),
            trusted_issuer_revision: Some(exchange.trusted_issuer_revision),
            trust_relationship_id: Some(exchange.trust_relationship_id.to_string()),
            trust_relationship_revision: Some(exchange.trust_relationship_revision),
            policy_revision: Some(exchange.policy_revision),
            access_token_id: Some(audit.access_token_id.to_string()),
            access_token_audiences: Some(rows::json("list of audiences", &audit.access_token_audiences)?),
            scopes: Some(rows::json("list of scopes", &audit.scopes)?),
            access_token_expires_at: Some(rows::time(audit.access_token_expires_at)),
            ..event
        },
    )
}

fn refused(refusal: &NewRefusal) -> Result<audit_event::Model, StoreError> {
    let NewRefusal { workspace_id, time, refused } = refusal;
    let blank = |request_id: &str| blank(*time, workspace_id.as_ref(), audit_event::REFUSED, request_id);
    match refused {
        Refusals::One(one) => presented(
            &one.presentation,
            audit_event::Model {
                reason: Some(one.reason.to_string()),
                cause: Some(one.cause.clone()),
                trusted_issuer_id: Some(one.trusted_issuer_id.to_string()),
                trust_relationship_id: one.trust_relationship_id.as_ref().map(ToString::to_string),
                policy_revision: Some(one.policy_revision),
                ..blank(&one.presentation.request_id)
            },
        ),
        Refusals::Counted(counted) => Ok(audit_event::Model {
            reason: Some(counted.reason.to_string()),
            cause: Some(counted.cause.clone()),
            trusted_issuer_id: counted.trusted_issuer_id.as_ref().map(ToString::to_string),
            count: Some(counted.count.try_into().unwrap_or(i64::MAX)),
            first_at: Some(rows::time(counted.first_at)),
            ..blank(&counted.request_id)
        }),
    }
}

impl TryFrom<audit_event::Model> for AuditEvent {
    type Error = StoreError;

    fn try_from(row: audit_event::Model) -> Result<Self, StoreError> {
        let workspace_id = match row.workspace_id.as_str() {
            audit_event::NO_WORKSPACE => None,
            id => Some(rows::parse("workspace id", id)?),
        };
        let (sequence, time) = (row.sequence, rows::read_time(row.time)?);
        let decision = match (row.decision.as_str(), row.count) {
            (audit_event::ALLOWED, _) => AuditedDecision::Allowed(Box::new(read_allowed(row)?)),
            (audit_event::REFUSED, None) => AuditedDecision::Refused(Box::new(read_refused(row)?)),
            (audit_event::REFUSED, Some(count)) => AuditedDecision::Counted(Box::new(read_counted(&row, count)?)),
            (other, _) => return Err(StoreError::unreadable("decision", other)),
        };
        Ok(Self { sequence, time, workspace_id, decision })
    }
}

fn read_allowed(row: audit_event::Model) -> Result<AllowedExchange, StoreError> {
    Ok(AllowedExchange {
        trusted_issuer_id: rows::parse("trusted issuer id", required("trusted issuer id", row.trusted_issuer_id.as_deref())?)?,
        trust_relationship_id: rows::parse(
            "trust relationship id",
            required("trust relationship id", row.trust_relationship_id.as_deref())?,
        )?,
        policy_revision: required("policy revision", row.policy_revision)?,
        audit: ExchangeAudit {
            access_token_id: rows::parse("token id", required("token id", row.access_token_id.as_deref())?)?,
            access_token_audiences: rows::read_json_or_default("list of audiences", row.access_token_audiences.as_deref())?,
            scopes: rows::read_json_or_default("list of scopes", row.scopes.as_deref())?,
            access_token_expires_at: rows::read_time(required("end of a token", row.access_token_expires_at)?)?,
            presentation: read_presentation(row)?,
        },
    })
}

fn read_refused(row: audit_event::Model) -> Result<RefusedExchange, StoreError> {
    Ok(RefusedExchange {
        trusted_issuer_id: rows::parse("trusted issuer id", required("trusted issuer id", row.trusted_issuer_id.as_deref())?)?,
        trust_relationship_id: rows::parse_optional("trust relationship id", row.trust_relationship_id.as_deref())?,
        policy_revision: required("policy revision", row.policy_revision)?,
        reason: rows::parse("reason", required("reason", row.reason.as_deref())?)?,
        cause: row.cause.clone().unwrap_or_default(),
        presentation: read_presentation(row)?,
    })
}

fn read_counted(row: &audit_event::Model, count: i64) -> Result<CountedRefusals, StoreError> {
    Ok(CountedRefusals {
        trusted_issuer_id: rows::parse_optional("trusted issuer id", row.trusted_issuer_id.as_deref())?,
        reason: rows::parse("reason", required("reason", row.reason.as_deref())?)?,
        cause: row.cause.clone().unwrap_or_default(),
        count: count.try_into().map_err(|cause| StoreError::unreadable("count", cause))?,
        first_at: rows::read_time(row.first_at.unwrap_or(row.time))?,
        request_id: row.request_id.clone(),
    })
}

/// Events from before claims were kept have none, and no request.
fn read_presentation(row: audit_event::Model) -> Result<Presentation, StoreError> {
    let hash = required("token hash", row.subject_token_hash)?;
    let claims = match row.claims {
        None => None,
        Some(members) => {
            let read = rows::read_json_or_default("claim paths", row.claim_paths.as_deref())?;
            Some(KeptClaims::from_parts(&members, read).map_err(|cause| StoreError::unreadable("claims", cause))?)
        }
    };
    let request = match row.request {
        None => None,
        Some(request) => {
            let request: WrittenRequest = rows::read_json("request", &request)?;
            let id = request.trust_relationship_id.as_deref();
            Some(ExchangeRequest {
                trust_relationship_id: rows::parse_optional("trust relationship id", id)?,
                audiences: request.audiences,
                scopes: request.scopes,
                duration: request.duration_nanos.map(Duration::from_nanos),
            })
        }
    };
    Ok(Presentation {
        request_id: row.request_id,
        subject_issuer: rows::parse("issuer URL", required("issuer URL", row.subject_issuer.as_deref())?)?,
        subject: rows::parse("subject", required("subject", row.subject.as_deref())?)?,
        subject_token_hash: hash.try_into().map_err(|_| StoreError::unreadable("token hash", "it is not 32 bytes long"))?,
        subject_token_id: rows::parse_optional("token id", row.subject_token_id.as_deref())?,
        subject_key_id: rows::parse_optional("key id", row.subject_key_id.as_deref())?,
        claims,
        request,
    })
}

fn required<T>(what: &'static str, value: Option<T>) -> Result<T, StoreError> {
    value.ok_or_else(|| StoreError::unreadable(what, "there is none"))
}
