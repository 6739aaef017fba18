//! Tokens laid out exactly like those of real providers verify, and are decided to what their workspace gives.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::LazyLock;
use std::time::Duration;

use countersign_domain::exchange::decision::{Decision, PresentedToken, Refused, TokenIdentity, decide};
use countersign_domain::exchange::request::ExchangeRequest;
use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::policy_feed::PolicySnapshot;
use countersign_domain::trust::trust_relationship::{TrustRelationship, TrustRelationshipDraft, TrustRelationshipSettings};
use countersign_domain::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerDraft, TrustedIssuerSettings};
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::deployment_audience::DeploymentAudience;
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_domain::values::replay_policy::ReplayPolicy;
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::violation::Violations;
use countersign_jose::{KeySet, UnverifiedToken, VerificationPolicy, VerifyError};
use countersign_testkit::claims::{ClaimSet, Layout, layouts};
use countersign_testkit::clock::NOON;
use countersign_testkit::signer::Signer;
use serde_json::{Value, json};

const GATEWAY: &str = "https://gateway.example";

/// A workspace that trusts one subject of one provider, and the provider's key.
struct Scene {
    layout: Layout,
    signer: Signer,
    keys: KeySet,
    settings: TrustedIssuerSettings,
    policy: WorkspacePolicy,
}

/// Why a token got nothing.
#[derive(Debug, PartialEq)]
enum Refusal {
    ByTheVerifier(VerifyError),
    ByTheDecision(Refused),
}

impl Scene {
    fn of(layout: Layout) -> Self {
        let signer = layout.new_signer();
        let keys = KeySet::parse(json!({ "keys": [layout.jwk(&signer)] }).to_string().as_bytes()).unwrap();
        assert_eq!((keys.len(), keys.skipped()), (1, &[][..]), "{}", layout.name);
        let settings = settings(&layout);
        let policy = policy(settings.clone(), text(&layout, "sub"));
        Self { layout, signer, keys, settings, policy }
    }

    fn exchange(&self, claims: &ClaimSet) -> Result<Decision, Refusal> {
        self.exchange_token(&self.layout.sign(&self.signer, claims))
    }

    fn exchange_token(&self, token: &str) -> Result<Decision, Refusal> {
        let policy = VerificationPolicy { algorithms: &self.settings.algorithms, token_types: &self.settings.token_types };
        let token = UnverifiedToken::parse(token).map_err(|error| Refusal::ByTheVerifier(error.into()))?;
        let token = token.verify(&self.keys, &policy).map_err(Refusal::ByTheVerifier)?;
        let presented = PresentedToken { claims: token.claims(), signing_input_hash: token.signing_input_hash() };
        let deployment = DeploymentAudience::new(&url(GATEWAY)).unwrap();
        decide(presented, &ExchangeRequest::default(), &self.policy, &deployment, now()).map_err(Refusal::ByTheDecision)
    }
}

/// What an operator has to say about a provider, and nothing that the defaults say already.
fn settings(layout: &Layout) -> TrustedIssuerSettings {
    let audience = audience(layout);
    let seconds = |claim| layout.claims.get(claim).and_then(Value::as_u64).unwrap();
    let draft = TrustedIssuerDraft {
        issuer_url: text(layout, "iss").to_owned(),
        subject_audiences: if audience == GATEWAY { vec![] } else { vec![audience.to_owned()] },
        algorithms: if layout.name == "Cognito" { vec!["RS512".to_owned()] } else { vec![] },
        token_types: if layout.name == "Cognito" { vec!["JWS".to_owned()] } else { vec![] },
        max_token_lifetime: Some(Ok(Duration::from_secs(seconds("exp") - seconds("iat")))),
        replay_policy: layout.is_reused.then_some(Ok(ReplayPolicy::Reusable)),
        ..TrustedIssuerDraft::default()
    };
    let mut violations = Violations::new();
    let settings = TrustedIssuerSettings::create(&draft, LoopbackHttp::Refused, &mut violations);
    assert!(violations.is_empty(), "{}: {violations:?}", layout.name);
    settings.unwrap()
}

fn policy(settings: TrustedIssuerSettings, subject: &str) -> WorkspacePolicy {
    let (workspace_id, trusted_issuer_id) = (WorkspaceId::from_random([1; 16]), TrustedIssuerId::from_random([2; 16]));
    let draft = TrustRelationshipDraft {
        subject_matches: vec![subject.to_owned()],
        scopes: vec!["deploy".to_owned()],
        ..TrustRelationshipDraft::default()
    };
    let mut violations = Violations::new();
    let relationship = TrustRelationshipSettings::create(&draft, now(), &mut violations);
    assert!(violations.is_empty(), "{subject}: {violations:?}");
    let mut policy = WorkspacePolicy::new(workspace_id.clone(), WorkspaceState::Active, 1);
    policy.add_part(PolicySnapshot {
        workspace_id: workspace_id.clone(),
        state: WorkspaceState::Active,
        policy_revision: 1,
        trusted_issuers: vec![TrustedIssuer {
            id: trusted_issuer_id.clone(),
            workspace_id: workspace_id.clone(),
            settings,
            revision: 1,
            created_at: now(),
            updated_at: now(),
        }],
        trust_relationships: vec![TrustRelationship {
            id: TrustRelationshipId::from_random([3; 16]),
            workspace_id,
            trusted_issuer_id,
            settings: relationship.unwrap(),
            revision: 1,
            creator: "operator".to_owned(),
            created_at: now(),
            updated_at: now(),
        }],
    });
    policy
}

fn text<'a>(layout: &'a Layout, claim: &str) -> &'a str {
    layout.claims.get(claim).and_then(Value::as_str).unwrap()
}

fn audience(layout: &Layout) -> &str {
    let audience = layout.claims.get("aud").unwrap();
    audience.as_str().or_else(|| audience[0].as_str()).unwrap()
}

fn url(url: &str) -> IssuerUrl {
    IssuerUrl::parse(url, LoopbackHttp::Refused).unwrap()
}

fn now() -> Timestamp {
    NOON.parse().unwrap()
}

/// One of each provider. RSA keys take long to make.
fn scenes() -> &'static [Scene] {
    static SCENES: LazyLock<Vec<Scene>> = LazyLock::new(|| layouts(GATEWAY, now()).into_iter().map(Scene::of).collect());
    &SCENES
}

#[test]
fn s08_s13_s14_tokens_of_every_provider_get_what_their_workspace_gives() {
    for scene in scenes() {
        let name = scene.layout.name;
        let decision = scene.exchange(&scene.layout.claims).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
        assert_eq!(decision.scopes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["deploy"], "{name}");
    }
}

#[test]
fn s53_tokens_without_an_id_are_known_by_what_was_signed() {
    for scene in scenes() {
        let (name, claims) = (scene.layout.name, &scene.layout.claims);
        let identity = scene.exchange(claims).unwrap().replay.map(|replay| replay.identity);
        match claims.get("jti").and_then(Value::as_str) {
            _ if scene.layout.is_reused => assert_eq!(identity, None, "{name}"),
            Some(id) => assert_eq!(identity, Some(TokenIdentity::TokenId(id.parse().unwrap())), "{name}"),
            None => assert!(matches!(identity, Some(TokenIdentity::SigningInput(_))), "{name}: {identity:?}"),
        }
    }
}

#[test]
fn s13_s20_s24_a_token_of_any_provider_with_one_thing_wrong_gets_nothing() {
    for scene in scenes() {
        let (name, claims) = (scene.layout.name, &scene.layout.claims);
        let seconds = |claim| claims.get(claim).and_then(Value::as_i64).unwrap();
        let issuer = text(&scene.layout, "iss").to_owned();
        let other_issuer = issuer.strip_suffix('/').map_or_else(|| format!("{issuer}/"), str::to_owned);
        for (what, wrong) in [
            ("expired", claims.clone().with("iat", seconds("iat") - 90_000).with("exp", seconds("exp") - 90_000)),
            ("issued in the future", claims.clone().with("iat", now().as_second() + 31)),
            ("valid in the future", claims.clone().with("nbf", now().as_second() + 31)),
            ("living longer", claims.clone().with("exp", seconds("exp") + 1)),
            ("for another audience", claims.clone().with("aud", "https://elsewhere.example")),
            (
                "for another audience too",
                claims.clone().with("aud", json!([audience(&scene.layout), "https://elsewhere.example"])),
            ),
            ("for nobody", claims.clone().with("aud", json!([]))),
            ("of another subject", claims.clone().with("sub", format!("{}x", text(&scene.layout, "sub")))),
            ("of no subject", claims.clone().without("sub")),
            ("of an issuer with another slash", claims.clone().with("iss", other_issuer.as_str())),
            ("with an id that is null", claims.clone().with("jti", Value::Null)),
            ("with a time that is text", claims.clone().with("exp", seconds("exp").to_string())),
        ] {
            assert!(scene.exchange(&wrong).is_err(), "{name}, {what}");
        }
    }
}

#[test]
fn s03_s08_only_the_header_of_the_provider_is_accepted() {
    for scene in scenes() {
        let (name, claims) = (scene.layout.name, &scene.layout.claims);
        let alg = scene.layout.algorithm.as_str();
        let sign = |header: Value| scene.exchange_token(&scene.signer.sign_bytes(&header, &claims.to_json()));
        let header = |typ: &str| json!({ "alg": alg, "kid": scene.signer.key_id(), "typ": typ });
        for typ in ["at+jwt", "logout+jwt", "JWE", "application/at+jwt", "x/jwt", "jwt;a=b", ""] {
            assert_eq!(sign(header(typ)), Err(Refusal::ByTheVerifier(VerifyError::TypeNotAllowed)), "{name}, {typ:?}");
        }
        // A media type, with or without what RFC 7515, section 4.1.9, lets a header leave out.
        if let Some(typ) = scene.layout.token_type() {
            for typ in [typ.to_lowercase(), format!("application/{typ}"), format!("Application/{}", typ.to_uppercase())] {
                assert!(sign(header(&typ)).is_ok(), "{name}, {typ:?}");
            }
        }
        assert!(sign(json!({ "alg": "PS256", "kid": scene.signer.key_id() })).is_err(), "{name}");
        assert_eq!(
            sign(json!({ "alg": alg, "kid": "another", "typ": scene.layout.token_type().unwrap_or("JWT") })),
            Err(Refusal::ByTheVerifier(VerifyError::UnknownKey)),
            "{name}"
        );
        let another = scene.layout.sign(&scene.layout.new_signer(), claims);
        assert_eq!(scene.exchange_token(&another), Err(Refusal::ByTheVerifier(VerifyError::BadSignature)), "{name}");
    }
}
