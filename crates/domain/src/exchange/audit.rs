//! The audit log: what is kept of each decision.
//!
//! What was allowed is appended by its commit ([`crate::exchange::commit`]). What was refused is appended afterwards, as long as the workspace
//! has not refused too much; beyond, and of all that is refused before a signature verifies, which anybody can make up, only the
//! number is kept (SECURITY 63). So a flood cannot fill the log.

use crate::exchange::commit::ExchangeAudit;
use crate::exchange::presentation::Presentation;
use crate::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use crate::values::reason::Reason;
use crate::values::time::Timestamp;

/// One event as it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// Its place in the log. Grows, with gaps.
    pub sequence: i64,
    /// When it happened.
    pub time: Timestamp,
    /// Whose it is; `None` for what was refused before it was clear whose policy would decide.
    pub workspace_id: Option<WorkspaceId>,
    /// What happened.
    pub decision: AuditedDecision,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum AuditedDecision {
    /// A token was exchanged.
    Allowed(Box<AllowedExchange>),
    /// A token that verified was refused.
    Refused(Box<RefusedExchange>),
    /// Several tokens were refused alike.
    Counted(Box<CountedRefusals>),
}

/// A token that was exchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct AllowedExchange {
    /// The token's issuer.
    pub trusted_issuer_id: TrustedIssuerId,
    /// The relationship that decided.
    pub trust_relationship_id: TrustRelationshipId,
    /// The workspace's policy revision that decided.
    pub policy_revision: i64,
    /// Of both tokens.
    pub audit: ExchangeAudit,
}

/// A token that was refused although it verified.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedExchange {
    /// The token's issuer.
    pub trusted_issuer_id: TrustedIssuerId,
    /// The relationship that refused it, or came nearest to accepting it.
    pub trust_relationship_id: Option<TrustRelationshipId>,
    /// The workspace's policy revision that decided.
    pub policy_revision: i64,
    /// What the caller was told.
    pub reason: Reason,
    /// Why, in full. Holds nothing that the token or the caller said.
    pub cause: String,
    /// The token.
    pub presentation: Presentation,
}

/// Tokens that were refused alike, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedRefusals {
    /// Their issuer, when it is known.
    pub trusted_issuer_id: Option<TrustedIssuerId>,
    /// What the callers were told.
    pub reason: Reason,
    /// Why, in full.
    pub cause: String,
    /// How many.
    pub count: u64,
    /// When the first was refused. The event's own time is that of the last.
    pub first_at: Timestamp,
    /// The request id of one of them.
    pub request_id: String,
}

/// A refusal to be appended.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRefusal {
    /// Whose policy refused; `None` when it was not clear whose would decide.
    pub workspace_id: Option<WorkspaceId>,
    /// When it was, or the last of several.
    pub time: Timestamp,
    /// What was refused.
    pub refused: Refusals,
}

/// What was refused: one, or several alike.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusals {
    /// A token that verified.
    One(Box<RefusedExchange>),
    /// Several, by number.
    Counted(CountedRefusals),
}

impl NewRefusal {
    /// The most that are appended at once.
    pub const MAX_BATCH: usize = 256;
    /// The most bytes of a cause.
    pub const MAX_CAUSE: usize = 512;
}
