use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::trust::policy::Unmet;
use crate::trust::policy::tests as fixture;
use crate::trust::policy::tests::{issuer_id, relationship, relationship_id, set_relationships, workspace_id};
use crate::trust::policy_feed::PolicyChange;
use crate::trust::trust_relationship::TrustRelationship;
use crate::values::issuer_url::{IssuerUrl, LoopbackHttp};
use crate::values::reason::Reason;

const ISSUER: &str = "https://cloud.rwx.com/mint";
const SUBJECT: &str = "org:my-org:vault:deploy-vault";
/// The instant at which the tests' token is presented, 100 s after it was issued.
const NOW: i64 = 1_000_000;

/// A valid exchange. Each test changes one thing.
struct Case {
    claims: Map<String, Value>,
    request: ExchangeRequest,
    state: WorkspaceState,
    issuer: TrustedIssuer,
    relationships: Vec<TrustRelationship>,
    now: Timestamp,
}

impl Case {
    fn valid() -> Self {
        let Value::Object(claims) = json!({
            "iss": ISSUER, "sub": SUBJECT, "aud": "https://gateway.example", "iat": NOW - 100, "exp": NOW + 200, "jti": "t-1",
        }) else {
            unreachable!()
        };
        Self {
            claims,
            request: ExchangeRequest::default(),
            state: WorkspaceState::Active,
            issuer: fixture::trusted_issuer(ISSUER),
            relationships: vec![relationship(1, &["org:my-org:vault:*"])],
            now: at(0),
        }
    }

    fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn relationship(&mut self) -> &mut TrustRelationshipSettings {
        &mut self.relationships[0].settings
    }

    fn decide(self) -> Result<Decision, Refused> {
        let mut policy = WorkspacePolicy::new(workspace_id(), self.state, 1);
        policy.apply(PolicyChange {
            state: self.state,
            trusted_issuers: vec![self.issuer],
            ..set_relationships(5, self.relationships)
        });
        let claims = Claims::from_members(self.claims).unwrap();
        let token = PresentedToken { claims: &claims, signing_input_hash: [7; 32] };
        decide(token, &self.request, &policy, &deployment(), self.now)
    }

    #[track_caller]
    fn refused_as(self, reason: Reason) {
        assert_eq!(self.decide().map_err(|refused| refused.reason()), Err(reason));
    }
}

fn deployment() -> DeploymentAudience {
    DeploymentAudience::new(&IssuerUrl::parse("https://gateway.example", LoopbackHttp::Refused).unwrap()).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

fn audiences(texts: &[&str]) -> Vec<Audience> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn scopes(texts: &[&str]) -> Vec<Scope> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_valid_token_gets_what_its_relationship_gives() {
    let decision = Case::valid().decide().unwrap();
    assert_eq!(
        decision,
        Decision {
            workspace_id: workspace_id(),
            policy_revision: 5,
            trusted_issuer_id: issuer_id(),
            trusted_issuer_revision: 3,
            trust_relationship_id: relationship_id(1),
            trust_relationship_revision: 1,
            audiences: audiences(&["https://gateway.example"]),
            scopes: scopes(&["deploy"]),
            grants: vec![],
            attributes: Attributes::new(),
            duration: Duration::from_hours(1),
            replay: Some(Replay { identity: TokenIdentity::TokenId("t-1".parse().unwrap()), remember_until: at(200 + 120) }),
        }
    );
}

#[test]
fn s54_no_policy_makes_our_own_access_tokens_exchangeable() {
    for own in ["https://gateway.example", "https://gateway.example/"] {
        let registered = Case::valid().claim("iss", own).with(|case| case.issuer = fixture::trusted_issuer(own));
        assert_eq!(registered.decide(), Err(Refused::IssuedHere), "{own}");
    }
    for other in ["https://gateway.example/issuers/a", "https://gateway.example.org"] {
        let registered = Case::valid().claim("iss", other).with(|case| case.issuer = fixture::trusted_issuer(other));
        assert!(registered.decide().is_ok(), "{other}");
    }
}

#[test]
fn s61_the_cause_of_a_refusal_repeats_nothing_that_was_presented() {
    let canary = "https://canary.example";
    let of_the_token = Case::valid().claim("aud", json!(["https://gateway.example", canary])).decide().unwrap_err();
    let wished = |case: &mut Case| case.request.audiences = audiences(&["https://gateway.example", canary]);
    let of_the_caller = Case::valid().with(wished).decide().unwrap_err();
    for refused in [of_the_token, of_the_caller] {
        assert!(!format!("{refused} {refused:?}").contains("canary"), "{refused}");
        assert!(refused.to_string().contains("number 2"), "{refused}");
    }
}

#[test]
fn s13_times_are_judged_to_the_second() {
    // Skew is 30 s, the longest lifetime one hour.
    let judge = |case: Case| case.decide().map(|_| ()).map_err(|refused| refused.reason());
    let valid_until = |seconds| judge(Case::valid().claim("exp", NOW + seconds));
    assert_eq!(valid_until(-29), Ok(()));
    assert_eq!(valid_until(-30), Err(Reason::SubjectTokenExpired));
    assert_eq!(valid_until(-31), Err(Reason::SubjectTokenExpired));
    let issued = |seconds| judge(Case::valid().claim("iat", NOW + seconds));
    assert_eq!(issued(30), Ok(()));
    assert_eq!(issued(31), Err(Reason::SubjectTokenNotYetValid));
    let not_before = |seconds| judge(Case::valid().claim("nbf", NOW + seconds));
    assert_eq!(not_before(30), Ok(()));
    assert_eq!(not_before(31), Err(Reason::SubjectTokenNotYetValid));
    assert_eq!(not_before(-900), Ok(()));
    let living = |seconds| judge(Case::valid().claim("exp", NOW - 100 + seconds));
    assert_eq!(living(3_600), Ok(()));
    assert_eq!(living(3_601), Err(Reason::SubjectTokenLifetimeTooLong));
    let lifeless = |seconds| judge(Case::valid().claim("iat", NOW + seconds).claim("exp", NOW));
    assert_eq!(lifeless(-1), Ok(()));
    assert_eq!(lifeless(0), Err(Reason::SubjectTokenClaimsInvalid));
    assert_eq!(lifeless(1), Err(Reason::SubjectTokenClaimsInvalid));
}

#[test]
fn s19_the_default_audience_is_this_deployment_with_its_scheme_or_without() {
    for accepted in ["https://gateway.example", "gateway.example"] {
        assert!(Case::valid().claim("aud", accepted).decide().is_ok(), "{accepted}");
    }
    for refused in
        ["https://other.example", "https://gateway.example/", "http://gateway.example", "Gateway.example", "gateway.example.evil"]
    {
        Case::valid().claim("aud", refused).refused_as(Reason::SubjectTokenAudienceMismatch);
    }
}

#[test]
fn s19_a_token_minted_for_one_deployment_fails_at_another() {
    Case::valid().claim("aud", "https://gateway.other-deployment.example").refused_as(Reason::SubjectTokenAudienceMismatch);
}

#[test]
fn s19_a_configured_audience_replaces_the_default() {
    let configured = |list: &[&str], presented: &str| {
        Case::valid().with(|case| case.issuer.settings.subject_audiences = audiences(list)).claim("aud", presented)
    };
    assert!(configured(&["spacelift.example"], "spacelift.example").decide().is_ok());
    configured(&["spacelift.example"], "https://gateway.example").refused_as(Reason::SubjectTokenAudienceMismatch);
    configured(&["https://other.example"], "other.example").refused_as(Reason::SubjectTokenAudienceMismatch);
    // The deployment's own stands for both of its forms wherever it is written.
    assert!(configured(&["gateway.example"], "https://gateway.example").decide().is_ok());
    assert!(configured(&["https://gateway.example"], "gateway.example").decide().is_ok());
}

#[test]
fn s20_every_one_of_several_audiences_must_be_accepted() {
    let several = |list: &[&str]| {
        Case::valid().with(|case| case.issuer.settings.subject_audiences = audiences(&["a", "b"])).claim("aud", json!(list))
    };
    assert!(several(&["a", "b"]).decide().is_ok());
    assert!(several(&["b"]).decide().is_ok());
    several(&["a", "c"]).refused_as(Reason::SubjectTokenAudienceMismatch);
    several(&["c"]).refused_as(Reason::SubjectTokenAudienceMismatch);
    Case::valid().claim("aud", json!(["https://gateway.example", "x"])).refused_as(Reason::SubjectTokenAudienceMismatch);
}

#[test]
fn s20_a_relationship_narrows_the_issuers_audiences_and_never_widens_them() {
    let narrowed = |narrower: &[&str], presented: &[&str]| {
        Case::valid()
            .with(|case| {
                case.issuer.settings.subject_audiences = audiences(&["a", "b"]);
                case.relationship().subject_audiences = audiences(narrower);
            })
            .claim("aud", json!(presented))
    };
    assert!(narrowed(&["a"], &["a"]).decide().is_ok());
    narrowed(&["a"], &["b"]).refused_as(Reason::SubjectTokenAudienceMismatch);
    narrowed(&["a"], &["a", "b"]).refused_as(Reason::SubjectTokenAudienceMismatch);
    narrowed(&["c"], &["c"]).refused_as(Reason::SubjectTokenAudienceMismatch);
}

#[test]
fn s20_a_relationship_that_refuses_the_audience_leaves_the_choice_to_the_next() {
    let case = Case::valid().with(|case| {
        case.issuer.settings.subject_audiences = audiences(&["a", "https://gateway.example"]);
        let mut narrower = relationship(2, &[SUBJECT]);
        narrower.settings.subject_audiences = audiences(&["a"]);
        case.relationships.push(narrower);
    });
    assert_eq!(case.decide().map(|decision| decision.trust_relationship_id), Ok(relationship_id(1)));
}

#[test]
fn s28_no_match_is_a_refusal() {
    Case::valid().claim("sub", "org:other:vault:v").refused_as(Reason::SubjectNotTrusted);
    Case::valid().with(|case| case.relationships.clear()).refused_as(Reason::SubjectNotTrusted);
}

#[test]
fn s28_the_narrowest_relationship_decides() {
    let case = Case::valid().with(|case| case.relationships.push(relationship(2, &[SUBJECT])));
    assert_eq!(case.decide().map(|decision| decision.trust_relationship_id), Ok(relationship_id(2)));
}

#[test]
fn s28_a_named_relationship_decides_alone() {
    let named = |number: usize| {
        Case::valid().with(|case| {
            case.relationships.push(relationship(2, &[SUBJECT]));
            case.relationships.push(relationship(3, &["org:other:*"]));
            let mut elsewhere = relationship(4, &[SUBJECT]);
            elsewhere.trusted_issuer_id = TrustedIssuerId::from_random([8; 16]);
            case.relationships.push(elsewhere);
            case.request.trust_relationship_id = Some(relationship_id(number));
        })
    };
    assert_eq!(named(1).decide().map(|decision| decision.trust_relationship_id), Ok(relationship_id(1)));
    named(3).refused_as(Reason::SubjectNotTrusted);
    named(4).refused_as(Reason::InvalidClient);
    named(9).refused_as(Reason::InvalidClient);
}

#[test]
fn s28_requested_scopes_play_no_part_in_the_choice() {
    let case = Case::valid().with(|case| {
        let mut narrower = relationship(2, &[SUBJECT]);
        narrower.settings.scopes = scopes(&["read"]);
        case.relationships.push(narrower);
        case.request.scopes = scopes(&["deploy"]);
    });
    case.refused_as(Reason::NothingGranted);
}

#[test]
fn s79_a_token_with_cnf_of_any_json_type_is_refused() {
    let confirmations = [
        json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}),
        json!({}),
        json!([]),
        json!(null),
        json!(false),
        json!(0),
        json!(""),
    ];
    for confirmation in confirmations {
        for named in [None, Some(relationship_id(1))] {
            let case = Case::valid().claim("cnf", confirmation.clone());
            case.with(|case| case.request.trust_relationship_id = named).refused_as(Reason::SubjectTokenProofMissing);
        }
        // Neither reusability nor an earlier fault changes that nothing is minted.
        let case = Case::valid().claim("cnf", confirmation.clone());
        case.with(|case| case.issuer.settings.replay_policy = ReplayPolicy::Reusable)
            .refused_as(Reason::SubjectTokenProofMissing);
    }
    // The claim is named byte for byte (SECURITY 23), and only the token's own `cnf` binds it.
    for other in ["Cnf", "cnf ", "x_cnf"] {
        assert!(Case::valid().claim(other, json!({"jkt": "x"})).decide().is_ok(), "{other}");
    }
    assert!(Case::valid().claim("actor", json!({"cnf": {"jkt": "x"}})).decide().is_ok());
    assert!(!Refused::ProofMissing.depends_on_policy());
}

#[test]
fn s30_what_is_disabled_or_over_gives_nothing() {
    Case::valid().with(|case| case.state = WorkspaceState::Disabled).refused_as(Reason::SubjectTokenNotTrusted);
    Case::valid().with(|case| case.issuer.settings.enabled = false).refused_as(Reason::SubjectTokenNotTrusted);
    Case::valid().claim("iss", "https://cloud.rwx.com/mint/").refused_as(Reason::SubjectTokenNotTrusted);
    for named in [None, Some(relationship_id(1))] {
        let case = || Case::valid().with(|case| case.request.trust_relationship_id = named.clone());
        case().with(|case| case.relationship().enabled = false).refused_as(Reason::SubjectNotTrusted);
        case().with(|case| case.relationship().expires_at = Some(at(0))).refused_as(Reason::SubjectNotTrusted);
        assert!(case().with(|case| case.relationship().expires_at = Some(at(1))).decide().is_ok());
    }
}

#[test]
fn s50_a_token_is_remembered_beyond_the_largest_skew() {
    let case = Case::valid().with(|case| case.issuer.settings.clock_skew = TrustedIssuerSettings::CLOCK_SKEW_LIMIT);
    let replay = case.decide().unwrap().replay.unwrap();
    assert!(replay.remember_until >= at(200) + Duration::from_mins(1) + Duration::from_mins(1));
}

#[test]
fn s53_what_identifies_a_token_follows_the_replay_policy() {
    let identity = |policy, token_id: Option<&str>| {
        let mut case = Case::valid().with(|case| case.issuer.settings.replay_policy = policy);
        case.claims.remove("jti");
        if let Some(id) = token_id {
            case = case.claim("jti", id);
        }
        case.decide().map(|decision| decision.replay.map(|replay| replay.identity)).map_err(|refused| refused.reason())
    };
    let by_id = Ok(Some(TokenIdentity::TokenId("x".parse().unwrap())));
    assert_eq!(identity(ReplayPolicy::SingleUse, Some("x")), by_id);
    assert_eq!(identity(ReplayPolicy::SingleUse, None), Ok(Some(TokenIdentity::SigningInput([7; 32]))));
    assert_eq!(identity(ReplayPolicy::RequireJti, Some("x")), by_id);
    assert_eq!(identity(ReplayPolicy::RequireJti, None), Err(Reason::SubjectTokenClaimsInvalid));
    assert_eq!(identity(ReplayPolicy::Reusable, Some("x")), Ok(None));
    assert_eq!(identity(ReplayPolicy::Reusable, None), Ok(None));
}

#[test]
fn s48_replay_keys_differ_by_workspace_issuer_kind_and_token() {
    let (here, there) = (workspace_id(), WorkspaceId::from_random([9; 16]));
    let id = TokenIdentity::TokenId("a".repeat(32).parse().unwrap());
    let hash = TokenIdentity::SigningInput([b'a'; 32]);
    let parts = [
        id.replay_key_parts(&here, "i"),
        hash.replay_key_parts(&here, "i"),
        id.replay_key_parts(&there, "i"),
        id.replay_key_parts(&here, "j"),
    ];
    for (index, left) in parts.iter().enumerate() {
        assert!(parts[..index].iter().all(|right| left != right), "{left:?}");
    }
}

#[test]
fn s55_the_first_audience_is_the_default_and_others_must_be_given() {
    let wished = |wished: &[&str]| {
        Case::valid().with(|case| {
            case.relationship().access_token_audiences = audiences(&["api", "other"]);
            case.request.audiences = audiences(wished);
        })
    };
    let given = |case: Case| case.decide().map(|decision| decision.audiences).map_err(|refused| refused.reason());
    assert_eq!(given(wished(&[])), Ok(audiences(&["api"])));
    assert_eq!(given(wished(&["other"])), Ok(audiences(&["other"])));
    assert_eq!(given(wished(&["other", "api", "other"])), Ok(audiences(&["other", "api"])));
    assert_eq!(given(wished(&["other", "third"])), Err(Reason::TargetNotGranted));
    assert_eq!(given(wished(&["https://gateway.example"])), Err(Reason::TargetNotGranted));
    let own = Case::valid().with(|case| case.request.audiences = audiences(&["gateway.example"]));
    assert_eq!(given(own), Ok(audiences(&["https://gateway.example"])));
}

#[test]
fn s54_an_access_token_expires_with_the_line_of_the_token_it_is_given_for() {
    let of_age = |seconds: i64| Case::valid().claim("countersign_lineage", json!({"auth_time": NOW - seconds, "depth": 3}));
    let day = 86_400;
    assert_eq!(of_age(day - 90).decide().unwrap().duration, Duration::from_secs(90));
    assert_eq!(of_age(60).decide().unwrap().duration, Case::valid().decide().unwrap().duration);
    for past in [day, day + 1, 2 * day] {
        of_age(past).refused_as(Reason::SubjectTokenExpired);
    }
}

#[test]
fn s55_a_duration_is_the_shortest_of_all_bounds() {
    let minutes = Duration::from_mins;
    let check = |given, wished, left: Option<i64>, expected: Result<Duration, Reason>| {
        let case = Case::valid().with(|case| {
            case.relationship().token_duration = given;
            case.relationship().expires_at = left.map(at);
            case.request.duration = wished;
        });
        assert_eq!(case.decide().map(|decision| decision.duration).map_err(|refused| refused.reason()), expected);
    };
    check(minutes(60), None, None, Ok(minutes(60)));
    check(minutes(60), Some(minutes(10)), None, Ok(minutes(10)));
    check(minutes(60), Some(minutes(90)), None, Ok(minutes(60)));
    check(minutes(60), Some(minutes(10)), Some(90), Ok(Duration::from_secs(90)));
    check(minutes(60), Some(Duration::from_millis(1_900)), None, Ok(Duration::from_secs(1)));
    check(minutes(60), Some(Duration::from_millis(900)), None, Err(Reason::NothingGranted));
    check(Duration::from_hours(400), None, None, Ok(TrustRelationshipSettings::MAX_TOKEN_DURATION));
}

#[test]
fn s55_without_scope_and_grant_there_is_no_token() {
    Case::valid().with(|case| case.relationship().scopes.clear()).refused_as(Reason::NothingGranted);
    let granted = Case::valid().with(|case| {
        case.relationship().scopes.clear();
        case.relationship().grants =
            vec![Grant { resource_type: "t".into(), resource_id: "*".into(), actions: vec!["a".into()] }];
    });
    assert!(granted.decide().is_ok_and(|decision| decision.grants.len() == 1 && decision.scopes.is_empty()));
}

proptest! {
    #[test]
    fn s55_nothing_that_is_asked_for_widens_what_is_given(
        given in prop::collection::btree_set("[a-d]", 1..4), wished in prop::collection::vec("[a-f]", 0..5),
        seconds in 1_u64..100_000,
    ) {
        let texts: Vec<&str> = given.iter().map(String::as_str).collect();
        let wishes: Vec<&str> = wished.iter().map(String::as_str).collect();
        let case = Case::valid().with(|case| {
            case.relationship().scopes = scopes(&texts);
            case.request.scopes = scopes(&wishes);
            case.request.duration = Some(Duration::from_secs(seconds));
        });
        match case.decide() {
            Ok(decision) => {
                let got: Vec<&str> = decision.scopes.iter().map(Scope::as_str).collect();
                let expected: Vec<&str> =
                    texts.iter().copied().filter(|scope| wishes.is_empty() || wishes.contains(scope)).collect();
                prop_assert_eq!(got, expected);
                prop_assert_eq!(decision.duration, Duration::from_secs(seconds.min(3_600)));
            }
            Err(refused) => {
                prop_assert_eq!(refused.reason(), Reason::NothingGranted);
                prop_assert!(!wishes.is_empty() && wishes.iter().all(|wish| !texts.contains(wish)));
            }
        }
    }
}

#[test]
fn s63_the_caller_is_told_nothing_of_the_policy() {
    let (id, issuer) = (relationship_id(1), issuer_id());
    for refused in [
        Refused::WorkspaceDisabled,
        Refused::IssuerDisabled(issuer),
        Refused::AudienceNotAcceptedBy(id.clone()),
        Refused::RelationshipNotLive(id.clone()),
        Refused::RelationshipUnknown(id.clone()),
        Refused::AudienceNotGiven { id, number: 1 },
    ] {
        for secret in ["tr_", "ti_", "disabled", "expired"] {
            assert!(!refused.message().contains(secret), "{}", refused.message());
        }
    }
    assert_eq!(Refused::WorkspaceDisabled.message(), Refused::IssuerUnknown.message());
    assert_eq!(Refused::RelationshipNotLive(relationship_id(1)).message(), Refused::SubjectNotAccepted.message());
}

#[test]
fn s28_a_relationship_whose_conditions_do_not_hold_leaves_the_choice_to_the_next() {
    let with = |more: &[(&str, serde_json::Value)]| {
        let mut case = Case::valid();
        let subject = case.claims["sub"].as_str().unwrap().to_owned();
        case.claims.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        case.relationships = vec![relationship(1, &[&subject]), relationship(2, &["*"])];
        let protected = serde_json::from_str(r#"{"claim": "ref_protected", "equals": "true"}"#).unwrap();
        let owner = serde_json::from_str(r#"{"claim": "owner_id", "equals": "7"}"#).unwrap();
        case.relationships[0].settings.claim_conditions = vec![protected];
        case.relationships[1].settings.claim_conditions = vec![owner];
        case.relationships[1].settings.attribute_mapping =
            BTreeMap::from([("owner".parse().unwrap(), "assertion.owner_id".parse().unwrap())]);
        case
    };
    let (protected, owner) = (("ref_protected", "true".into()), ("owner_id", "7".into()));
    let decided = |more: &[_]| with(more).decide().map(|decision| (decision.trust_relationship_id, decision.attributes));
    assert_eq!(decided(&[protected.clone(), owner.clone()]).unwrap(), (relationship_id(1), Attributes::new()));
    let attributes = Attributes::from_iter([("owner".to_owned(), "7".into())]);
    assert_eq!(decided(&[owner]).unwrap(), (relationship_id(2), attributes));
    // The narrowest says why, and the caller learns no more than of a subject that nobody accepts.
    let refused = decided(&[]).unwrap_err();
    assert!(
        matches!(&refused, Refused::ConditionNotMet { id, unmet: Unmet::Claim { place: 0, .. } } if *id == relationship_id(1))
    );
    assert_eq!((refused.reason(), refused.message()), (Reason::SubjectNotTrusted, Refused::SubjectNotAccepted.message()));
    // Named, the first decides alone.
    let mut named = with(&[("owner_id", "7".into())]);
    named.request.trust_relationship_id = Some(relationship_id(1));
    named.refused_as(Reason::SubjectNotTrusted);
}
