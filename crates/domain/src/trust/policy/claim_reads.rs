//! Which claims decide something: those that tell an issuer's tenants apart, and those that its relationships read.

use std::cmp::Reverse;
use std::sync::{Arc, OnceLock};

use rpds::HashTrieMapSync;

use super::CompiledRelationship;
use crate::exchange::claims::Claims;
use crate::exchange::presentation::KeptClaims;
use crate::trust::cel::CelExpression;
use crate::trust::trusted_issuer::TrustedIssuer;
use crate::values::claim_path::ClaimPath;

/// The claims that are read of one issuer's tokens.
#[derive(Clone, Default)]
pub(super) struct ClaimReads {
    /// Those that tell tenants apart.
    tenants: Vec<ClaimPath>,
    /// Those that relationships read, each with how many do.
    readers: HashTrieMapSync<ClaimPath, usize>,
    /// What is kept, in its order; made when it is first asked for.
    kept: OnceLock<Arc<[ClaimPath]>>,
}

impl ClaimReads {
    pub(super) fn is_empty(&self) -> bool {
        self.tenants.is_empty() && self.readers.is_empty()
    }

    pub(super) fn set_tenants(&mut self, tenants: Vec<ClaimPath>) {
        self.tenants = tenants;
        self.kept = OnceLock::new();
    }

    pub(super) fn add(&mut self, paths: impl IntoIterator<Item = ClaimPath>) {
        for path in paths {
            let readers = self.readers.get(&path).copied().unwrap_or(0);
            self.readers.insert_mut(path, readers + 1);
            self.kept = OnceLock::new();
        }
    }

    pub(super) fn remove(&mut self, paths: impl IntoIterator<Item = ClaimPath>) {
        for path in paths {
            match self.readers.get(&path).copied() {
                Some(readers @ 2..) => self.readers.insert_mut(path, readers - 1),
                _ => {
                    self.readers.remove_mut(&path);
                }
            }
            self.kept = OnceLock::new();
        }
    }

    /// What is kept of a token. Where there is not room for all of it, what tells tenants apart comes first, then what most
    /// relationships read: nobody who writes relationships can crowd out what others are decided by.
    pub(super) fn keep(&self, claims: &Claims) -> Option<KeptClaims> {
        KeptClaims::of(claims, self.in_order().iter())
    }

    /// Whether everything that relationships read is among these paths or known anyway.
    pub(super) fn are_known(&self, knows: impl Fn(&ClaimPath) -> bool) -> bool {
        self.readers.keys().all(knows)
    }

    fn in_order(&self) -> &Arc<[ClaimPath]> {
        self.kept.get_or_init(|| {
            let mut readers: Vec<(&ClaimPath, usize)> = self.readers.iter().map(|(path, readers)| (path, *readers)).collect();
            readers.sort_unstable_by_key(|(path, readers)| (Reverse(*readers), *path));
            let readers = readers.into_iter().map(|(path, _)| path).filter(|path| !self.tenants.contains(path));
            self.tenants.iter().chain(readers).take(KeptClaims::MAX_PATHS).cloned().collect()
        })
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

/// The claims that say whose tokens the issuer's are.
pub(super) fn of_issuer(issuer: &TrustedIssuer) -> Vec<ClaimPath> {
    let preset = issuer.settings.known_preset();
    preset.map(|preset| preset.tenant_claims.iter().map(|tenant| tenant.claim.clone()).collect()).unwrap_or_default()
}
