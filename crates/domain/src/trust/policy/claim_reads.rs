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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::policy::tests::trusted_issuer;

    fn path(text: &str) -> ClaimPath {
        text.parse().unwrap()
    }

    fn order(reads: &ClaimReads) -> Vec<String> {
        reads.in_order().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_tells_tenants_apart_comes_first_and_then_what_most_relationships_read() {
        let mut reads = ClaimReads::default();
        assert!(reads.is_empty());
        reads.add(["a", "b"].map(path));
        reads.add(["b", "c", "owner"].map(path));
        assert_eq!(order(&reads), ["b", "a", "c", "owner"]);
        reads.set_tenants(vec![path("owner"), path("enterprise")]);
        assert_eq!(order(&reads), ["owner", "enterprise", "b", "a", "c"]);
        reads.add(["c", "c"].map(path));
        assert_eq!(order(&reads), ["owner", "enterprise", "c", "b", "a"]);
        assert!(!reads.is_empty());
    }

    #[test]
    fn a_claim_is_read_until_the_last_reader_is_gone() {
        let mut reads = ClaimReads::default();
        reads.add(["a", "a", "a", "b"].map(path));
        for left in [&["a", "b"][..], &["a", "b"], &["b"]] {
            reads.remove([path("a")]);
            assert_eq!(order(&reads), left);
        }
        assert!(reads.are_known(|claim| *claim == path("b")) && !reads.are_known(|claim| *claim == path("a")));
        reads.remove(["b", "never"].map(path));
        assert!(reads.is_empty() && reads.are_known(|_| false));
        reads.set_tenants(vec![path("owner")]);
        assert!(!reads.is_empty());
    }

    #[test]
    fn the_claims_that_tell_tenants_apart_are_those_of_the_preset() {
        let names = |url: &str| of_issuer(&trusted_issuer(url)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(names("https://token.actions.githubusercontent.com").contains(&"repository_owner_id".to_owned()));
        assert_eq!(names("https://nobody.example"), [""; 0]);
    }
}
