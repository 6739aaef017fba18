//! Random versions of a relationship, and random tokens: the decision of an exchange judges what the comparison promised.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::Change::{Broader, Narrower, Unchanged};
use super::super::{compare, conditions, patterns};
use super::{NOW, at, grant, names, settings};
use crate::exchange::claims::Claims;
use crate::exchange::decision::{Decision, PresentedToken, decide};
use crate::exchange::request::ExchangeRequest;
use crate::trust::claim_condition::ClaimCondition;
use crate::trust::policy::WorkspacePolicy;
use crate::trust::policy::tests::{relationship, set_relationships, trusted_issuer, workspace_id};
use crate::trust::policy_feed::PolicyChange;
use crate::trust::trust_relationship::{TrustRelationship, TrustRelationshipSettings};
use crate::trust::workspace::WorkspaceState;
use crate::values::deployment_audience::DeploymentAudience;
use crate::values::grant::Grant;
use crate::values::issuer_url::{IssuerUrl, LoopbackHttp};
use crate::values::name::AttributeName;
use crate::values::subject_match::SubjectMatch;

const ISSUER: &str = "https://issuer.example";

fn condition() -> impl Strategy<Value = ClaimCondition> {
    let value = || {
        prop_oneof![
            prop::sample::select(vec!["a", "b", "ab", "ba"]).prop_map(Value::from),
            (0..3_i64).prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
        ]
    };
    let test = prop_oneof![
        3 => value().prop_map(|value| json!({"equals": value})),
        3 => prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "aa"]), 1..4).prop_map(|values| json!({"one_of": values})),
        1 => prop::collection::vec(0..3_i64, 1..3).prop_map(|values| json!({"one_of": values})),
        5 => "[ab*]{1,3}".prop_map(|pattern| json!({"glob": pattern})),
        2 => value().prop_map(|value| json!({"contains": value})),
        1 => Just(json!({"exists": true})),
    ];
    (prop::sample::select(vec!["c", "/c", "d", "/o/c"]), test, any::<bool>()).prop_map(|(claim, mut test, negated)| {
        test["claim"] = claim.into();
        test["negated"] = (negated && test.get("exists").is_none()).into();
        serde_json::from_value(test).unwrap()
    })
}

fn claim() -> impl Strategy<Value = Value> {
    let text = || "[abx]{0,3}".prop_map(Value::from);
    prop_oneof![
        6 => text(),
        2 => (-1..4_i64).prop_map(Value::from),
        1 => Just(json!(u64::MAX)),
        1 => Just(json!(1.5)),
        2 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        3 => prop::collection::vec(text(), 0..3).prop_map(Value::from),
        1 => prop::collection::vec(prop_oneof![Just(json!(1)), Just(json!(true)), Just(json!("a"))], 0..3).prop_map(Value::from),
        1 => text().prop_map(|text| json!({"c": text})),
    ]
}

fn some_of(texts: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(texts, least..=texts.len()).prop_shuffle()
}

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let one = (prop::sample::select(vec!["t", "u"]), prop::sample::select(vec!["*", "x", "y"]), some_of(&["r", "w"], 1));
    prop::collection::vec(one.prop_map(|(kind, id, actions)| grant(kind, id, &actions)), 0..3)
}

/// Whose tokens.
fn accepting() -> impl Strategy<Value = TrustRelationshipSettings> {
    (
        prop::collection::vec("[ab*]{1,3}".prop_map(|text| text.parse::<SubjectMatch>().unwrap()), 1..4),
        some_of(&["https://gateway.example", "e", "f"], 0),
        prop::collection::vec(condition(), 0..2),
        prop::option::weighted(
            0.2,
            prop::sample::select(vec!["has(assertion.c)", "assertion.d == 'a'", "attribute.team == 'a'"]),
        ),
        prop::option::weighted(0.2, prop::sample::select(vec!["assertion.c", "assertion.d"])),
    )
        .prop_map(|(subject_matches, audiences, claim_conditions, cel, mapping)| TrustRelationshipSettings {
            subject_matches,
            subject_audiences: names(&audiences),
            claim_conditions,
            cel_condition: cel.map(|cel| cel.parse().unwrap()),
            attribute_mapping: mapping
                .map(|cel| ("team".parse::<AttributeName>().unwrap(), cel.parse().unwrap()))
                .into_iter()
                .collect(),
            ..settings()
        })
}

/// What they get, and when.
fn giving() -> impl Strategy<Value = TrustRelationshipSettings> {
    (
        some_of(&["e", "f", "https://gateway.example"], 0),
        some_of(&["r", "s"], 0),
        grants(),
        prop::sample::select(vec![60, 600]),
        prop::option::of(1..200_i64),
        prop::bool::weighted(0.9),
    )
        .prop_map(|(audiences, scopes, grants, duration, end, enabled)| TrustRelationshipSettings {
            access_token_audiences: names(&audiences),
            scopes: names(&scopes),
            grants,
            token_duration: Duration::from_secs(duration),
            expires_at: end.map(at),
            enabled,
            ..settings()
        })
}

/// Two versions, of which the second takes only those fields from others that the bits say.
fn versions(
    accepting: &BoxedStrategy<TrustRelationshipSettings>,
    giving: &BoxedStrategy<TrustRelationshipSettings>,
) -> impl Strategy<Value = [TrustRelationshipSettings; 2]> {
    let one = || (accepting.clone(), giving.clone());
    (one(), one(), any::<[u16; 2]>()).prop_map(|((accepts, gives), (other, other_gives), bits)| {
        // A quarter of them.
        let bits = bits[0] & bits[1];
        let before = TrustRelationshipSettings {
            access_token_audiences: gives.access_token_audiences,
            scopes: gives.scopes,
            grants: gives.grants,
            token_duration: gives.token_duration,
            expires_at: gives.expires_at,
            enabled: gives.enabled,
            ..accepts
        };
        let mut after = before.clone();
        macro_rules! take {
            ($($bit:literal $from:ident $field:ident;)+) => {$(
                if bits & (1 << $bit) != 0 {
                    after.$field = $from.$field;
                }
            )+};
        }
        take! {
            0 other subject_matches;
            1 other subject_audiences;
            2 other claim_conditions;
            3 other cel_condition;
            4 other attribute_mapping;
            5 other_gives access_token_audiences;
            6 other_gives scopes;
            7 other_gives grants;
            8 other_gives token_duration;
            9 other_gives expires_at;
            10 other_gives enabled;
        }
        if bits & (1 << 11) != 0 {
            after.claim_conditions.pop();
        }
        if bits & (1 << 12) != 0 {
            after.subject_matches.truncate(1);
        }
        [before, after]
    })
}

/// A token's claims, and what is asked for with it, and when.
fn token() -> impl Strategy<Value = (Claims, ExchangeRequest, i64)> {
    let claims = ("[abx]{1,3}", some_of(&["https://gateway.example", "e", "f"], 1), claim(), claim(), claim());
    let asked = (some_of(&["e", "f", "https://gateway.example"], 0), some_of(&["r", "s"], 0), prop::option::of(1..700_u64));
    (claims, asked, 0..210_i64).prop_map(|((subject, aud, c, d, nested), (audiences, scopes, duration), now)| {
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": aud, "iat": NOW - 10, "exp": NOW + 300, "jti": "t", "c": c, "d": d,
            "o": {"c": nested},
        });
        let request = ExchangeRequest {
            trust_relationship_id: None,
            audiences: names(&audiences),
            scopes: names(&scopes),
            duration: duration.map(Duration::from_secs),
        };
        (Claims::from_members(claims.as_object().unwrap().clone()).unwrap(), request, now)
    })
}

/// A token that is presented now, without a wish.
fn plain_token() -> impl Strategy<Value = (Claims, ExchangeRequest, i64)> {
    token().prop_map(|(claims, _, _)| (claims, ExchangeRequest::default(), 0))
}

/// What the relationship alone gives.
struct Oracle {
    policy: WorkspacePolicy,
    deployment: DeploymentAudience,
}

impl Oracle {
    fn of(settings: &TrustRelationshipSettings) -> Self {
        let mut issuer = trusted_issuer(ISSUER);
        issuer.settings.subject_audiences = names(&["https://gateway.example", "e", "f"]);
        let written = TrustRelationship { settings: settings.clone(), ..relationship(1, &["a"]) };
        let mut policy = WorkspacePolicy::new(workspace_id(), WorkspaceState::Active, 1);
        policy.apply(PolicyChange { trusted_issuers: vec![issuer], ..set_relationships(5, vec![written]) });
        let url = IssuerUrl::parse("https://gateway.example", LoopbackHttp::Refused).unwrap();
        Self { policy, deployment: DeploymentAudience::new(&url).unwrap() }
    }

    fn decide(&self, (claims, request, now): &(Claims, ExchangeRequest, i64)) -> Option<Decision> {
        let token = PresentedToken { claims, signing_input_hash: [7; 32] };
        decide(token, request, &self.policy, &self.deployment, at(*now)).ok()
    }
}

/// Everything that a decision allows, spelled out.
fn allowed(decision: &Decision) -> BTreeSet<[&str; 3]> {
    let mut all = BTreeSet::new();
    for grant in &decision.grants {
        let resources = if grant.resource_id == "*" { vec!["*", "x", "y", "another"] } else { vec![grant.resource_id.as_str()] };
        for resource in resources {
            all.extend(grant.actions.iter().map(|action| [grant.resource_type.as_str(), resource, action.as_str()]));
        }
    }
    all
}

fn is_no_more(smaller: Option<&Decision>, larger: Option<&Decision>) -> bool {
    let (Some(smaller), Some(larger)) = (smaller, larger) else { return smaller.is_none() };
    smaller.audiences == larger.audiences
        && smaller.scopes.iter().all(|scope| larger.scopes.contains(scope))
        && allowed(smaller).is_subset(&allowed(larger))
        && smaller.attributes == larger.attributes
        && smaller.duration <= larger.duration
}

/// Whatever the answer promises of all tokens holds of these.
fn check_promise(
    [before, after]: &[TrustRelationshipSettings; 2],
    tokens: &[(Claims, ExchangeRequest, i64)],
) -> Result<(), TestCaseError> {
    let comparison = compare(Some(before), Some(after));
    let (before, after) = (Oracle::of(before), Oracle::of(after));
    for token in tokens {
        let (was, is) = (before.decide(token), after.decide(token));
        if matches!(comparison.change, Narrower | Unchanged) {
            prop_assert!(is_no_more(is.as_ref(), was.as_ref()), "{comparison:?}: {is:?} after {was:?}");
        }
        if matches!(comparison.change, Broader | Unchanged) {
            prop_assert!(is_no_more(was.as_ref(), is.as_ref()), "{comparison:?}: {is:?} after {was:?}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn nobody_new_gets_anything_from_a_narrower_relationship(
        versions in versions(&accepting().boxed(), &Just(settings()).boxed()),
        tokens in prop::collection::vec(plain_token(), 16..32),
    ) {
        check_promise(&versions, &tokens)?;
    }

    #[test]
    fn nobody_gets_more_from_a_narrower_relationship(
        versions in versions(&Just(settings()).boxed(), &giving().boxed()),
        tokens in prop::collection::vec(token(), 16..32),
    ) {
        // Whom it accepts is the same, and everybody.
        let versions = versions.map(|version| TrustRelationshipSettings { subject_matches: names(&["*"]), ..version });
        check_promise(&versions, &tokens)?;
    }

    #[test]
    fn a_narrower_relationship_is_narrower_in_every_way(
        versions in versions(&accepting().boxed(), &giving().boxed()),
        tokens in prop::collection::vec(token(), 8),
    ) {
        check_promise(&versions, &tokens)?;
    }

    /// What a pattern is said to cover it covers; what it is said not to, some text shows.
    #[test]
    fn a_pattern_covers_another_exactly_when_it_accepts_all_of_its_texts(
        larger in "[ab*]{1,6}",
        smaller in "[ab*]{1,6}",
        runs in prop::collection::vec("[abx]{0,4}", 6),
    ) {
        let [larger, smaller] = [larger, smaller].map(|text| text.parse::<SubjectMatch>().unwrap());
        let covers = patterns::covers(&larger, &smaller);
        let text_of = |runs: &mut dyn Iterator<Item = &str>| {
            smaller.as_str().chars().map(|letter| if letter == '*' { runs.next().unwrap().to_owned() } else { letter.into() })
                .collect::<String>()
        };
        let text = text_of(&mut runs.iter().map(String::as_str));
        prop_assert!(smaller.compile().accepts(&text));
        prop_assert!(!covers || larger.compile().accepts(&text));
        // `x` is in no pattern, so that this text is accepted only if all are.
        let witness = text_of(&mut std::iter::repeat("x"));
        prop_assert_eq!(covers, larger.compile().accepts(&witness));
        prop_assert!(!patterns::are_disjoint(&larger, &smaller) || !larger.compile().accepts(&text));
    }

    /// What is said to follow follows for every claim.
    #[test]
    fn what_a_condition_implies_holds_whenever_it_does(
        written in prop::collection::vec(condition(), 8),
        values in prop::collection::vec(claim(), 12),
    ) {
        use crate::trust::claim_condition::ClaimVerdict::Satisfied;
        for (one, other) in written.iter().flat_map(|one| written.iter().map(move |other| (one, other))) {
            if !conditions::implies(one, other) {
                continue;
            }
            let [one, other] = [one, other].map(ClaimCondition::compile);
            for value in &values {
                let members = json!({"c": value, "d": value, "o": {"c": value}});
                let [one, other] = [&one, &other].map(|condition| condition.judge(members.as_object().unwrap()));
                prop_assert!(one != Satisfied || other == Satisfied, "{written:?}: {value}");
            }
        }
    }
}
