//! The commit point of exchanges: what must be durable before an access token may leave.

use crate::exchange::presentation::Presentation;
use crate::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use crate::values::name::{Audience, Scope, TokenId};
use crate::values::time::Timestamp;

/// The most exchanges of one commit, and the most access tokens signed by one call: they are signed, then committed, together.
pub const MAX_BATCH: usize = 256;

/// One exchange, decided and signed, not yet released.
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangeCommit {
    /// The owner of everything below.
    pub workspace_id: WorkspaceId,
    /// The issuer of the subject token.
    pub trusted_issuer_id: TrustedIssuerId,
    /// The relationship that matched.
    pub trust_relationship_id: TrustRelationshipId,
    /// The workspace's policy revision that the decision was made on; for the audit event.
    pub policy_revision: i64,
    /// The revision of the trusted issuer that must still be current.
    pub trusted_issuer_revision: i64,
    /// The revision of the trust relationship that must still be current.
    pub trust_relationship_revision: i64,
    /// What makes the token single-use; `None` for a reusable one.
    pub replay: Option<ReplayMark>,
    /// What the audit log keeps.
    pub audit: ExchangeAudit,
}

/// The mark that a single-use token leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayMark {
    /// SHA-256 of (workspace, issuer, token id).
    pub hash: [u8; 32],
    /// Until when it must be remembered: `exp`, skew and a minute.
    pub expires_at: Timestamp,
}

/// What the audit log keeps of an exchange. Never a token, and of claims those that decide something (SECURITY 75).
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangeAudit {
    /// The token that was presented.
    pub presentation: Presentation,
    /// The minted token's `jti`.
    pub access_token_id: TokenId,
    /// The minted token's `aud`.
    pub access_token_audiences: Vec<Audience>,
    /// The minted token's `scope`.
    pub scopes: Vec<Scope>,
    /// The minted token's `exp`.
    pub access_token_expires_at: Timestamp,
}

/// What became of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitOutcome {
    /// Durable: the token may be released.
    Committed,
    /// The subject token was exchanged before.
    Replayed,
    /// Issuer or relationship changed since the match: match again on the fresh policy.
    Stale,
    /// Workspace, issuer or relationship is disabled, expired or gone.
    Disabled,
}
