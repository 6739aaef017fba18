//! The decision of one exchange: what a verified token gets under one policy at one time.
//!
//! [`decide`] is the whole of it, a function of values. [`trusted_issuer`] is the part that is asked before the signature is
//! checked, and answers with nothing but the issuer's settings.

mod refused;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

pub use refused::{NOT_TRUSTED, Refused};

use crate::exchange::claims::{Claims, TimeRules};
use crate::exchange::request::ExchangeRequest;
use crate::trust::policy::{Attributes, CompiledRelationship, TokenView, WorkspacePolicy};
use crate::trust::trust_relationship::TrustRelationshipSettings;
use crate::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerSettings};
use crate::trust::workspace::WorkspaceState;
use crate::values::deployment_audience::DeploymentAudience;
use crate::values::grant::Grant;
use crate::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use crate::values::name::{Audience, Scope, Subject, TokenId};
use crate::values::replay_policy::ReplayPolicy;
use crate::values::time::Timestamp;

/// A token whose signature was verified under a key of its issuer.
#[derive(Debug, Clone, Copy)]
pub struct PresentedToken<'a> {
    /// Its claims.
    pub claims: &'a Claims,
    /// SHA-256 of its signing input. It identifies a token without `jti`; the signature would not, being malleable
    /// (SECURITY 53).
    pub signing_input_hash: [u8; 32],
}

/// What a token gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The workspace whose policy decided.
    pub workspace_id: WorkspaceId,
    /// The revision of that policy.
    pub policy_revision: i64,
    /// The token's issuer.
    pub trusted_issuer_id: TrustedIssuerId,
    /// The issuer's revision, which the commit is checked against.
    pub trusted_issuer_revision: i64,
    /// The relationship that decided.
    pub trust_relationship_id: TrustRelationshipId,
    /// The relationship's revision, which the commit is checked against.
    pub trust_relationship_revision: i64,
    /// The access token's `aud`. Never empty.
    pub audiences: Vec<Audience>,
    /// The access token's `scope`.
    pub scopes: Vec<Scope>,
    /// The access token's `authorization_details`. With no scope there is at least one.
    pub grants: Vec<Grant>,
    /// The access token's `attributes`.
    pub attributes: Attributes,
    /// How long the access token lives, in whole seconds.
    pub duration: Duration,
    /// What makes the token single-use; `None` when it may be exchanged again.
    pub replay: Option<Replay>,
}

/// How a second exchange of one token is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// What identifies the token among those of its issuer in a workspace.
    pub identity: TokenIdentity,
    /// Until when the token must be remembered: beyond the last instant at which it could be accepted (SECURITY 50).
    pub remember_until: Timestamp,
}

/// What identifies a token among those of its issuer in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenIdentity {
    /// Its `jti`.
    TokenId(TokenId),
    /// SHA-256 of its signing input.
    SigningInput([u8; 32]),
}

/// How much longer than any clock skew that could ever be set a token is remembered (SECURITY 50).
const REPLAY_MARGIN: Duration = Duration::from_mins(1);

/// The trusted issuer whose keys may verify a token that claims this `iss`.
///
/// This deployment is none, whatever the policy says: one of its access tokens could otherwise be exchanged for the next, and
/// that for another, beyond the end of every trust (SECURITY 54).
///
/// # Errors
/// When the workspace or the issuer is disabled, or the issuer unknown, or this deployment.
pub fn trusted_issuer<'a>(
    policy: &'a WorkspacePolicy,
    issuer_url: &str,
    deployment: &DeploymentAudience,
) -> Result<&'a Arc<TrustedIssuer>, Refused> {
    if deployment.is_issuer(issuer_url) {
        return Err(Refused::IssuedHere);
    }
    if policy.state() != WorkspaceState::Active {
        return Err(Refused::WorkspaceDisabled);
    }
    let issuer = policy.issuer(issuer_url).ok_or(Refused::IssuerUnknown)?;
    if issuer.settings.enabled { Ok(issuer) } else { Err(Refused::IssuerDisabled(issuer.id.clone())) }
}

/// Decides what a verified token gets.
///
/// # Errors
/// Why it gets nothing.
pub fn decide(
    token: PresentedToken<'_>,
    request: &ExchangeRequest,
    policy: &WorkspacePolicy,
    deployment: &DeploymentAudience,
    now: Timestamp,
) -> Result<Decision, Refused> {
    let claims = token.claims;
    let issuer = trusted_issuer(policy, &claims.issuer, deployment)?;
    let rules = TimeRules { clock_skew: issuer.settings.clock_skew, max_lifetime: issuer.settings.max_token_lifetime };
    claims.check_times(now, &rules)?;
    let replay = replay(token, &issuer.settings)?;
    check_issuer_audiences(claims, &issuer.settings, deployment)?;
    if claims.is_bound_to_key() {
        return Err(Refused::ProofMissing);
    }
    let (relationship, attributes) = match &request.trust_relationship_id {
        Some(id) => named_relationship(id, claims, issuer, policy, deployment, now)?,
        None => narrowest_relationship(claims, issuer, policy, deployment, now)?,
    };
    Ok(Decision {
        workspace_id: policy.workspace_id().clone(),
        policy_revision: policy.revision(),
        trusted_issuer_id: issuer.id.clone(),
        trusted_issuer_revision: issuer.revision,
        trust_relationship_id: relationship.id.clone(),
        trust_relationship_revision: relationship.revision,
        audiences: given_audiences(relationship, &request.audiences, deployment)?,
        scopes: given_scopes(relationship, &request.scopes)?,
        grants: relationship.grants.to_vec(),
        attributes,
        duration: given_duration(relationship, request.duration, claims, now)?,
        replay,
    })
}

fn replay(token: PresentedToken<'_>, issuer: &TrustedIssuerSettings) -> Result<Option<Replay>, Refused> {
    let identity = match (issuer.replay_policy, &token.claims.token_id) {
        (ReplayPolicy::Reusable, _) => return Ok(None),
        (ReplayPolicy::RequireJti, None) => return Err(Refused::TokenIdMissing),
        (ReplayPolicy::SingleUse | ReplayPolicy::RequireJti, Some(id)) => TokenIdentity::TokenId(id.clone()),
        (ReplayPolicy::SingleUse, None) => TokenIdentity::SigningInput(token.signing_input_hash),
    };
    // The largest skew that can be set, not the one that is: it may be raised while the token is still remembered.
    let remembered = TrustedIssuerSettings::CLOCK_SKEW_LIMIT + REPLAY_MARGIN;
    let remember_until = token.claims.expires_at.saturating_add(remembered).unwrap_or(Timestamp::MAX);
    Ok(Some(Replay { identity, remember_until }))
}

/// Every one of the token's audiences must be accepted: a token that is also meant for somebody else may be presented by him
/// (SECURITY 20).
fn check_issuer_audiences(
    claims: &Claims,
    issuer: &TrustedIssuerSettings,
    deployment: &DeploymentAudience,
) -> Result<(), Refused> {
    let accepted = |audience: &Audience| {
        if issuer.subject_audiences.is_empty() {
            deployment.is(audience)
        } else {
            deployment.is_in(&issuer.subject_audiences, audience)
        }
    };
    match claims.audiences.iter().position(|audience| !accepted(audience)) {
        Some(index) => Err(Refused::AudienceNotAccepted(index + 1)),
        None => Ok(()),
    }
}

pub(crate) fn accepts_audiences(relationship: &CompiledRelationship, claims: &Claims, deployment: &DeploymentAudience) -> bool {
    let narrower = &relationship.subject_audiences;
    narrower.is_empty() || claims.audiences.iter().all(|audience| deployment.is_in(narrower, audience))
}

/// The named relationship decides alone: that another would accept the token does not matter (SECURITY 28).
fn named_relationship<'a>(
    id: &TrustRelationshipId,
    claims: &Claims,
    issuer: &TrustedIssuer,
    policy: &'a WorkspacePolicy,
    deployment: &DeploymentAudience,
    now: Timestamp,
) -> Result<(&'a CompiledRelationship, Attributes), Refused> {
    let relationship = policy
        .relationship(id)
        .filter(|relationship| relationship.trusted_issuer_id == issuer.id)
        .ok_or_else(|| Refused::RelationshipUnknown(id.clone()))?;
    if !relationship.is_live(now) {
        Err(Refused::RelationshipNotLive(id.clone()))
    } else if relationship.accepts(claims.subject.as_str()).is_none() {
        Err(Refused::SubjectNotAcceptedBy(id.clone()))
    } else if !accepts_audiences(relationship, claims, deployment) {
        Err(Refused::AudienceNotAcceptedBy(id.clone()))
    } else {
        let attributes = relationship.meet(&TokenView::new(claims));
        let attributes = attributes.map_err(|unmet| Refused::ConditionNotMet { id: id.clone(), unmet })?;
        Ok((relationship, attributes))
    }
}

/// Of the relationships that accept the token, the narrowest. What was requested plays no part in the choice. When none does, the
/// narrowest that accepts at least the subject says why.
fn narrowest_relationship<'a>(
    claims: &Claims,
    issuer: &TrustedIssuer,
    policy: &'a WorkspacePolicy,
    deployment: &DeploymentAudience,
    now: Timestamp,
) -> Result<(&'a CompiledRelationship, Attributes), Refused> {
    let token = TokenView::new(claims);
    let mut refused = None;
    for candidate in policy.accepting(&issuer.id, claims) {
        let relationship: &CompiledRelationship = candidate.relationship;
        if !relationship.is_live(now) {
            continue;
        }
        let unmet = if accepts_audiences(relationship, claims, deployment) {
            match relationship.meet(&token) {
                Ok(attributes) => return Ok((relationship, attributes)),
                Err(unmet) => Refused::ConditionNotMet { id: relationship.id.clone(), unmet },
            }
        } else {
            Refused::AudienceNotAcceptedBy(relationship.id.clone())
        };
        refused.get_or_insert(unmet);
    }
    Err(refused.unwrap_or(Refused::SubjectNotAccepted))
}

/// A wished audience that is not given refuses the exchange: a token without it would only fail later, elsewhere (RFC 8693,
/// section 2.1.1).
fn given_audiences(
    relationship: &CompiledRelationship,
    wished: &[Audience],
    deployment: &DeploymentAudience,
) -> Result<Vec<Audience>, Refused> {
    let own = std::slice::from_ref(deployment.as_audience());
    let given = if relationship.access_token_audiences.is_empty() { own } else { &relationship.access_token_audiences };
    if wished.is_empty() {
        return Ok(given.first().cloned().into_iter().collect());
    }
    let mut audiences: Vec<Audience> = Vec::with_capacity(wished.len());
    for (index, audience) in wished.iter().enumerate() {
        if !deployment.is_in(given, audience) {
            return Err(Refused::AudienceNotGiven { id: relationship.id.clone(), number: index + 1 });
        }
        let written = if deployment.is(audience) { deployment.as_audience() } else { audience };
        if !audiences.contains(written) {
            audiences.push(written.clone());
        }
    }
    Ok(audiences)
}

/// The relationship's scopes, less those that were not wished for, in the relationship's order.
fn given_scopes(relationship: &CompiledRelationship, wished: &[Scope]) -> Result<Vec<Scope>, Refused> {
    let given = |scope: &&Scope| wished.is_empty() || wished.contains(scope);
    let scopes: Vec<Scope> = relationship.scopes.iter().filter(given).cloned().collect();
    if !scopes.is_empty() {
        Ok(scopes)
    } else if !wished.is_empty() {
        Err(Refused::ScopesNotGiven(relationship.id.clone()))
    } else if relationship.grants.is_empty() {
        Err(Refused::NothingToGive(relationship.id.clone()))
    } else {
        Ok(scopes)
    }
}

/// The shortest of what is wished, what the relationship gives, what is left of it and of the token's line, and what anything may
/// have.
fn given_duration(
    relationship: &CompiledRelationship,
    wished: Option<Duration>,
    claims: &Claims,
    now: Timestamp,
) -> Result<Duration, Refused> {
    let mut duration = relationship.token_duration.min(TrustRelationshipSettings::MAX_TOKEN_DURATION);
    if let Some(wished) = wished {
        duration = duration.min(wished);
    }
    if let Some(end) = relationship.expires_at {
        let left: SignedDuration = end.duration_since(now);
        duration = duration.min(Duration::try_from(left).unwrap_or(Duration::ZERO));
    }
    if let Some(lineage) = claims.lineage {
        duration = duration.min(lineage.left(now));
    }
    let whole_seconds = Duration::from_secs(duration.as_secs());
    if whole_seconds.is_zero() { Err(Refused::NothingToGive(relationship.id.clone())) } else { Ok(whole_seconds) }
}

impl TokenIdentity {
    /// The parts whose length-prefixed hash is the token's replay key. The first tells the kinds apart, so that no `jti` can be
    /// chosen to collide with another token's hash; the issuer's URL, rather than its id, survives registering it anew.
    pub fn replay_key_parts<'a>(&'a self, workspace_id: &'a WorkspaceId, issuer_url: &'a str) -> [&'a [u8]; 4] {
        let (kind, identity): (&[u8], &[u8]) = match self {
            Self::TokenId(id) => (b"jti", id.as_str().as_bytes()),
            Self::SigningInput(hash) => (b"signing-input", hash),
        };
        [kind, workspace_id.as_str().as_bytes(), issuer_url.as_bytes(), identity]
    }
}

/// The `sub` of an access token, `<workspace id>/<trusted issuer id>/<external subject>`. No two external subjects give the same
/// one: ids hold no slash (SECURITY 54).
pub fn access_token_subject(decision: &Decision, subject: &Subject) -> String {
    format!("{}{subject}", access_token_subject_prefix(&decision.workspace_id, &decision.trusted_issuer_id))
}

/// What stands before the external subject in the `sub` of an access token.
pub(crate) fn access_token_subject_prefix(workspace_id: &WorkspaceId, trusted_issuer_id: &TrustedIssuerId) -> String {
    format!("{workspace_id}/{trusted_issuer_id}/")
}

/// Whether a text is the `sub` that an access token of this workspace could have.
pub fn is_access_token_subject(workspace_id: &WorkspaceId, text: &str) -> bool {
    let behind = text.strip_prefix(workspace_id.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let ids = behind.and_then(|rest| rest.split_once('/'));
    ids.is_some_and(|(issuer, _)| issuer.parse::<TrustedIssuerId>().is_ok())
}
