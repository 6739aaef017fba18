//! Tokens of real providers at the real token endpoint: each accepted as it is, and refused when one thing is wrong.
//!
//! Every provider is imitated by an issuer of its own, at the path and with the key set, the header and the claims that the real
//! one has. All of them are trusted by one workspace each, of one deployment.

use countersign_domain::values::reason::Reason;
use countersign_proto::common::duration;
use countersign_proto::trust_v1::{ReplayPolicy, TrustRelationship, TrustedIssuer};
use countersign_testkit::claims::{ClaimSet, Layout, layouts};
use countersign_testkit::clock::system_time;
use countersign_testkit::identity_provider::IdentityProvider;
use countersign_testkit::status::wire_name;
use countersign_tests::deployment::Instance;
use countersign_tests::operator::Operator;
use countersign_tests::token_endpoint::{Answer, exchange};
use serde_json::{Value, json};

use crate::deployments::shared;
use crate::verify;

/// A provider, and a workspace that trusts one subject of it.
struct Federation {
    layout: Layout,
    provider: IdentityProvider,
    workspace_id: String,
    trusted_issuer_id: String,
}

impl Federation {
    async fn with(operator: &Operator, layout: Layout, gateway: &str) -> Self {
        let provider = IdentityProvider::imitating(&layout);
        let workspace_id = operator.create_workspace(layout.name).await;
        let trusted_issuer = trusted_issuer(&layout, &provider, &workspace_id, gateway);
        let trusted_issuer_id = operator.create_trusted_issuer(trusted_issuer).await;
        let trust_relationship = TrustRelationship {
            workspace_id: workspace_id.clone(),
            trusted_issuer_id: trusted_issuer_id.clone(),
            subject_matches: vec![text(&layout.claims, "sub").to_owned()],
            scopes: vec!["deploy".to_owned()],
            ..TrustRelationship::default()
        };
        operator.create_trust_relationship(trust_relationship).await;
        Self { layout, provider, workspace_id, trusted_issuer_id }
    }

    /// The layout's claims, issued by the imitation.
    fn claims(&self) -> ClaimSet {
        self.layout.claims.clone().with("iss", self.provider.issuer_url())
    }

    async fn present(&self, claims: &ClaimSet) -> Answer {
        self.present_token(&self.layout.sign(&self.provider.signer(), claims)).await
    }

    async fn present_token(&self, token: &str) -> Answer {
        let workspace = format!("{}/workspaces/{}", shared().public_url(), self.workspace_id);
        exchange(&shared().url(Instance::Gateway), token, &[("audience", &workspace)]).await
    }

    async fn is_accepted(&self, public_url: &str) {
        let answer = self.present(&self.claims()).await;
        assert_eq!(answer.status, 200, "{}: {}", self.layout.name, answer.body);
        let (_, claims) = verify::access_token(&answer.access_token(), public_url, public_url).await;
        let subject = format!("{}/{}/{}", self.workspace_id, self.trusted_issuer_id, text(&self.layout.claims, "sub"));
        assert_eq!((&claims["sub"], &claims["scope"]), (&json!(subject), &json!("deploy")), "{}", self.layout.name);
    }

    async fn again_is(&self) {
        let again = self.present(&self.claims()).await;
        let expected = (!self.layout.is_reused).then(|| wire_name(Reason::SubjectTokenReplayed));
        assert_eq!(again.reason().map(str::to_owned), expected, "{}: {}", self.layout.name, again.body);
    }

    async fn is_refused_when_one_thing_is_wrong(&self) {
        let (name, claims) = (self.layout.name, self.claims());
        let seconds = |claim| claims.get(claim).and_then(Value::as_i64).unwrap();
        let issuer = self.provider.issuer_url();
        let other_issuer = issuer.strip_suffix('/').map_or_else(|| format!("{issuer}/"), str::to_owned);
        for (what, wrong, reason) in [
            ("another subject", claims.clone().with("sub", "nobody"), Reason::SubjectNotTrusted),
            ("another audience", claims.clone().with("aud", "https://elsewhere.example"), Reason::SubjectTokenAudienceMismatch),
            ("a longer life", claims.clone().with("exp", seconds("exp") + 1), Reason::SubjectTokenLifetimeTooLong),
            ("an id that is null", claims.clone().with("jti", Value::Null), Reason::SubjectTokenClaimsInvalid),
            ("no time of issue", claims.clone().without("iat"), Reason::SubjectTokenClaimsInvalid),
            (
                "a past life",
                claims.clone().with("iat", seconds("iat") - 90_060).with("exp", seconds("exp") - 90_060),
                Reason::SubjectTokenExpired,
            ),
            ("another issuer", claims.clone().with("iss", other_issuer), Reason::SubjectTokenNotTrusted),
        ] {
            let answer = self.present(&wrong).await;
            assert_eq!(answer.reason(), Some(wire_name(reason).as_str()), "{name}, {what}: {}", answer.body);
        }
        let another_key = self.layout.sign(&self.layout.new_signer(), &claims);
        let another_type =
            json!({ "alg": self.layout.algorithm.as_str(), "kid": self.provider.signer().key_id(), "typ": "at+jwt" });
        let another_type = self.provider.signer().sign_bytes(&another_type, &claims.to_json());
        for (what, token) in [("another key", another_key), ("another type", another_type)] {
            let answer = self.present_token(&token).await;
            let expected = wire_name(Reason::SubjectTokenNotTrusted);
            assert_eq!(answer.reason(), Some(expected.as_str()), "{name}, {what}: {}", answer.body);
        }
    }
}

/// What an operator has to say about a provider, and nothing that the defaults say already.
fn trusted_issuer(layout: &Layout, provider: &IdentityProvider, workspace_id: &str, gateway: &str) -> TrustedIssuer {
    let audience = layout.claims.get("aud").unwrap();
    let audience = audience.as_str().or_else(|| audience[0].as_str()).unwrap();
    let seconds = |claim| layout.claims.get(claim).and_then(Value::as_i64).unwrap();
    let is_cognito = layout.name == "Cognito";
    let replay_policy = if layout.is_reused { ReplayPolicy::Reusable } else { ReplayPolicy::Unspecified };
    let lifetime = std::time::Duration::from_secs(u64::try_from(seconds("exp") - seconds("iat")).unwrap());
    TrustedIssuer {
        workspace_id: workspace_id.to_owned(),
        display_name: layout.name.to_owned(),
        issuer_url: provider.issuer_url().to_owned(),
        subject_audiences: if audience == gateway { Vec::new() } else { vec![audience.to_owned()] },
        algorithms: if is_cognito { vec!["RS512".to_owned()] } else { Vec::new() },
        token_types: if is_cognito { vec!["JWS".to_owned()] } else { Vec::new() },
        max_token_lifetime: Some(duration(lifetime)),
        replay_policy: replay_policy.into(),
        ..TrustedIssuer::default()
    }
}

fn text<'a>(claims: &'a ClaimSet, claim: &str) -> &'a str {
    claims.get(claim).and_then(Value::as_str).unwrap()
}

#[tokio::test]
async fn s08_s13_s24_tokens_of_every_provider_are_accepted_and_refused_when_one_thing_is_wrong() {
    let (operator, public_url) = (Operator::of(shared()), shared().public_url());
    let federations =
        layouts(&public_url, system_time()).into_iter().map(|layout| Federation::with(&operator, layout, &public_url));
    for federation in futures::future::join_all(federations).await {
        federation.is_accepted(&public_url).await;
        federation.again_is().await;
        federation.is_refused_when_one_thing_is_wrong().await;
        let requests = (federation.provider.discovery_requests(), federation.provider.key_set_requests());
        assert_eq!(requests, (1, 1), "{}: its documents are asked for once", federation.layout.name);
    }
}
