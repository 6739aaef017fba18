//! What is requested in an exchange.

use std::time::Duration;

use crate::values::id::TrustRelationshipId;
use crate::values::name::{Audience, Scope};

/// What the holder of a token asks for. Every part can only narrow what a trust relationship gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExchangeRequest {
    /// When given, this relationship alone decides.
    pub trust_relationship_id: Option<TrustRelationshipId>,
    /// The wished `aud`. Empty: the relationship's default.
    pub audiences: Vec<Audience>,
    /// The wished scopes. Empty: all that the relationship gives.
    pub scopes: Vec<Scope>,
    /// The wished lifetime. `None`: the relationship's.
    pub duration: Option<Duration>,
}
