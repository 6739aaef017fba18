//! A workspace of a deployment, with an identity provider that it trusts and many tokens.

use std::time::Duration;

use countersign_testkit::claims;
use countersign_testkit::clock::system_time;
use countersign_testkit::identity_provider::IdentityProvider;
use countersign_tests::deployment::{Deployment, Instance};
use countersign_tests::operator::{Operator, Trust};

/// As long as a trusted issuer allows when nothing is said, so that tokens outlive what is done with them.
const LIFETIME: Duration = Duration::from_hours(1);

/// A workspace with an identity provider that it trusts.
#[derive(Debug)]
pub struct Scene {
    /// Signs ES256.
    pub provider: IdentityProvider,
    trust: Trust,
    audience: String,
}

impl Scene {
    /// A new one in this deployment.
    pub async fn in_deployment(deployment: &Deployment) -> Self {
        let provider = IdentityProvider::start();
        let trust = Operator::of(deployment).trust(provider.issuer_url()).await;
        Self { provider, trust, audience: deployment.public_url() }
    }

    /// So many tokens that get something, each with a `jti` of its own that begins with this word.
    pub fn tokens(&self, word: &str, count: usize) -> Vec<String> {
        let claims = claims::rwx(&self.audience, system_time()).lasting(LIFETIME);
        (0..count).map(|number| self.provider.sign(&claims.clone().with("jti", format!("{word}-{number}")))).collect()
    }

    /// So many tokens under as many key ids that nobody ever published.
    pub fn tokens_of_unknown_keys(&self, word: &str, count: usize) -> Vec<String> {
        let signer = self.provider.signer();
        let claims = claims::rwx(&self.audience, system_time()).with("iss", self.provider.issuer_url()).lasting(LIFETIME);
        let token = |number| {
            let mut header = signer.header();
            header["kid"] = format!("{word}-{number}").into();
            signer.sign_bytes(&header, &claims.to_json())
        };
        (0..count).map(token).collect()
    }

    /// What stands in the audit log of the workspace as allowed: events, and different tokens among them.
    pub fn committed(&self, deployment: &Deployment) -> (usize, usize) {
        let workspace = &self.trust.workspace_id;
        let counts = deployment.sql(&format!(
            "SELECT count(*), count(DISTINCT subject_token_id) FROM countersign_trust.audit_events \
             WHERE workspace_id = '{workspace}' AND decision = 'allowed'"
        ));
        let (events, tokens) = counts.split_once('|').expect("there are two columns");
        (events.parse().expect("a count"), tokens.parse().expect("a count"))
    }
}

/// The public ports of these gateways.
pub fn ports(deployment: &Deployment, gateways: &[Instance]) -> Vec<u16> {
    gateways.iter().map(|gateway| deployment.public_port(*gateway)).collect()
}
