//! Deployments that tests share: starting one takes seconds, and most tests need a workspace of their own, not more.

use std::sync::LazyLock;

use countersign_testkit::claims::{self, ClaimSet};
use countersign_testkit::clock::system_time;
use countersign_testkit::identity_provider::IdentityProvider;
use countersign_tests::deployment::{Deployment, RedisAtStart};
use countersign_tests::operator::{Operator, Trust};

/// The deployment of all tests that break nothing.
pub(crate) fn shared() -> &'static Deployment {
    static SHARED: LazyLock<Deployment> = LazyLock::new(|| Deployment::start(RedisAtStart::Running));
    &SHARED
}

/// A workspace with an identity provider that it trusts.
pub(crate) struct Scene<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) operator: Operator,
    pub(crate) provider: IdentityProvider,
    pub(crate) trust: Trust,
}

impl<'a> Scene<'a> {
    /// In this deployment.
    pub(crate) async fn in_deployment(deployment: &'a Deployment) -> Self {
        let operator = Operator::of(deployment);
        let provider = IdentityProvider::start_at("/mint");
        let trust = operator.trust(provider.issuer_url()).await;
        Self { deployment, operator, provider, trust }
    }

    /// The claims of a run that the workspace trusts, issued now.
    pub(crate) fn claims(&self) -> ClaimSet {
        claims::rwx(&self.deployment.public_url(), system_time())
    }

    /// A token that the workspace trusts, different from every other one.
    pub(crate) fn token(&self) -> String {
        use std::sync::atomic::{AtomicU64, Ordering};
        static RUN: AtomicU64 = AtomicU64::new(0);
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        self.provider.sign(&self.claims().with("run_id", format!("run-{run}")))
    }
}
