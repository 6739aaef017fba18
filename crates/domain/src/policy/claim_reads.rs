//! Which claims decide something: those that the relationships of an issuer read, and those that tell its tenants apart.

use rpds::RedBlackTreeMapSync;

use super::CompiledRelationship;
use crate::cel::CelExpression;
use crate::claim_path::ClaimPath;
use crate::claims::Claims;
use crate::presentation::KeptClaims;
use crate::preset::Preset;
use crate::trusted_issuer::TrustedIssuer;

/// The claims that are read of one issuer's tokens, each with how many readers it has.
#[derive(Clone, Default)]
pub(super) struct ClaimReads(RedBlackTreeMapSync<ClaimPath, usize>);

impl ClaimReads {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, paths: impl IntoIterator<Item = ClaimPath>) {
        for path in paths {
            let readers = self.0.get(&path).copied().unwrap_or(0);
            self.0.insert_mut(path, readers + 1);
        }
    }

    pub(super) fn remove(&mut self, paths: impl IntoIterator<Item = ClaimPath>) {
        for path in paths {
            match self.0.get(&path).copied() {
                Some(readers @ 2..) => self.0.insert_mut(path, readers - 1),
                _ => {
                    self.0.remove_mut(&path);
                }
            }
        }
    }

    /// What is kept of a token.
    pub(super) fn keep(&self, claims: &Claims) -> Option<KeptClaims> {
        KeptClaims::of(claims, self.0.keys())
    }
}

impl CompiledRelationship {
    /// The claims that its conditions and its mapping read. A name that no path can have is read by nobody else either.
    pub fn reads(&self) -> impl Iterator<Item = ClaimPath> {
        let conditions = self.claim_conditions.iter().map(|condition| condition.written().claim.clone());
        let expressions = self.expressions().flat_map(CelExpression::claims);
        conditions.chain(expressions.filter_map(|name| ClaimPath::of_top_level(name).ok()))
    }
}

/// The claims that say whose tokens the issuer's are, and from when on a name is somebody else's.
pub(super) fn of_issuer(issuer: &TrustedIssuer) -> impl Iterator<Item = ClaimPath> {
    let preset = Preset::of(&issuer.settings);
    preset.into_iter().flat_map(|preset| preset.tenant_claims.iter().map(|tenant| tenant.claim.clone()))
}
