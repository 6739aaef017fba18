//! What a decision costs, what a change costs, and what policies take of memory, as a workspace grows to 100,000 trust
//! relationships: 90 % exact subjects, 9 % that begin with literal text, 1 % that begin with `*`; a CEL condition on 1 % of them, of
//! 100 distinct texts. And what the dearest decision costs, when subject and patterns are made to share as much text as they can,
//! and the loading of relationships that are all alike.
//!
//! `cargo bench -p countersign-domain`. DESIGN, section 10: at most 1.2 times what one relationship costs, at most 150 MiB.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people, whose input is its own")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::iter;
use std::time::{Duration, Instant};

use countersign_domain::exchange::claims::Claims;
use countersign_domain::exchange::decision::{PresentedToken, decide};
use countersign_domain::exchange::request::ExchangeRequest;
use countersign_domain::trust::key_source::KeySource;
use countersign_domain::trust::policy::WorkspacePolicy;
use countersign_domain::trust::policy_feed::{PolicyChange, PolicySnapshot};
use countersign_domain::trust::trust_relationship::{TrustRelationship, TrustRelationshipSettings};
use countersign_domain::trust::trusted_issuer::{TrustedIssuer, TrustedIssuerSettings};
use countersign_domain::trust::workspace::WorkspaceState;
use countersign_domain::values::deployment_audience::DeploymentAudience;
use countersign_domain::values::id::{TrustRelationshipId, TrustedIssuerId, WorkspaceId};
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_domain::values::replay_policy::ReplayPolicy;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::time::Timestamp;
use serde_json::json;

const ISSUER: &str = "https://issuer.example";
const NOW: i64 = 1_800_000_000;
const ROUNDS: usize = 21;
const TOKENS: usize = 1_000;
const DECISIONS: usize = 20_000;

fn main() {
    println!("{:<12} {:>14} {:>14} {:>8}", "subject", "of 1", "of 100,000", "ratio");
    let before = resident();
    let large = policy((0..100_000).collect());
    let memory = resident().saturating_sub(before);
    let (mut total_one, mut total_large) = (Duration::ZERO, Duration::ZERO);
    // Of every hundred, by their last two digits.
    for (name, first, kinds) in [("exact", 0, 90), ("prefix", 90, 9), ("leading *", 99, 1)] {
        // A thousand of this kind are asked for in turn, each from its own token, and alone in a policy of its own: both sides have
        // as much that is not in a cache.
        let numbers: Vec<usize> = (0..TOKENS).map(|n| (n * 7_919 % 1_000) * 100 + first + n % kinds).collect();
        let tokens: Vec<Claims> = numbers.iter().map(|number| claims(*number)).collect();
        let small: Vec<WorkspacePolicy> = numbers.iter().map(|number| policy(vec![*number])).collect();
        let (mut one, mut many) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            one.push(measured(tokens.iter().zip(&small).cycle().take(DECISIONS)));
            many.push(measured(tokens.iter().map(|token| (token, &large)).cycle().take(DECISIONS)));
        }
        let (one, many) = (fastest(one), fastest(many));
        let weight = u32::try_from(kinds).unwrap();
        total_one += one * weight / 100;
        total_large += many * weight / 100;
        println!("{name:<12} {:>11} ns {:>11} ns {:>8.2}", one.as_nanos(), many.as_nanos(), ratio(one, many));
    }
    let (one, many) = (total_one.as_nanos(), total_large.as_nanos());
    println!("{:<12} {one:>11} ns {many:>11} ns {:>8.2}   (budget 1.20)", "the mix", ratio(total_one, total_large));
    println!("one changed of 100,000 takes {} us", changed(&large).as_nanos() / 1_000);
    println!("100,000 compiled relationships take {} MiB   (budget 150)", memory / 1024 / 1024);
    println!();
    hostile();
    for subject_match in ["repo:my-org/repo:ref:refs/heads/main", "repo:my-org/*"] {
        let alike = (0..10_000).map(|number| relationship_accepting(number, subject_match)).collect();
        let start = Instant::now();
        black_box(policy_of(alike));
        println!("10,000 of `{subject_match}` take {} us to load", start.elapsed().as_micros());
    }
}

/// What a decision costs about the longest subject there is, of one letter, among patterns that are written to meet it everywhere.
fn hostile() {
    println!("{:<44} {:>14} {:>14} {:>14}", "1,024 times `a`, among patterns of the form", "patterns", "a decision", "a pattern");
    let a = |count: usize| "a".repeat(count);
    let lengths = || 1..=1_000_usize;
    // None of their keys is found, but every look for one goes on to the last byte, through nodes with many children.
    let others = || (b'+'..b'a').map(char::from);
    let beside = (0..31).flat_map(|length| others().map(move |other| format!("*{}{other}*", a(length))));
    check_hostile("a...a*", lengths().map(|length| a(length) + "*"));
    check_hostile("*a...a", lengths().map(|length| format!("*{}", a(length))));
    check_hostile("*a...a*", lengths().map(|length| format!("*{}*", a(length))));
    check_hostile("*a*", lengths().map(|_| "*a*".to_owned()));
    check_hostile("*a*a*...*", lengths().map(|length| "*a".repeat(length / 2 + 1) + "*"));
    check_hostile("*a...a+* and the like, which refuse, and *", beside.chain(["*".to_owned()]));
}

fn check_hostile(form: &str, patterns: impl Iterator<Item = String>) {
    let patterns: Vec<String> = patterns.collect();
    let count = u32::try_from(patterns.len()).unwrap();
    let relationships = patterns.iter().enumerate();
    let policy = policy_of(relationships.map(|(number, pattern)| relationship_accepting(number, pattern)).collect());
    let token = claims_of(0, &"a".repeat(1024));
    let decision = fastest((0..ROUNDS).map(|_| measured(iter::once((&token, &policy)))).collect());
    println!("{form:<44} {count:>14} {:>11} us {:>11} ns", decision.as_micros(), (decision / count).as_nanos());
}

fn ratio(one: Duration, many: Duration) -> f64 {
    many.as_secs_f64() / one.as_secs_f64()
}

/// What one decision takes.
fn measured<'a>(decisions: impl Iterator<Item = (&'a Claims, &'a WorkspacePolicy)>) -> Duration {
    let deployment = DeploymentAudience::new(&url("https://gateway.example")).unwrap();
    let (request, now) = (ExchangeRequest::default(), Timestamp::from_second(NOW).unwrap());
    let start = Instant::now();
    let mut count = 0;
    for (claims, policy) in decisions {
        let token = PresentedToken { claims, signing_input_hash: [0; 32] };
        black_box(decide(token, &request, policy, &deployment, now).unwrap());
        count += 1;
    }
    start.elapsed() / count
}

/// What it takes to make a snapshot in which one relationship is another, while the one before is still in use.
fn changed(policy: &WorkspacePolicy) -> Duration {
    let mut durations = Vec::new();
    for number in (0..TOKENS).map(|n| n * 7_919 % 100_000) {
        let mut changed = relationship(number);
        changed.revision = 2;
        let change = PolicyChange {
            workspace_id: policy.workspace_id().clone(),
            state: WorkspaceState::Active,
            policy_revision: 2,
            trusted_issuers: vec![],
            trust_relationships: vec![changed],
            deleted_trusted_issuer_ids: vec![],
            deleted_trust_relationship_ids: vec![],
        };
        let start = Instant::now();
        let mut next = policy.clone();
        next.apply(change);
        durations.push(start.elapsed());
        black_box(next);
    }
    durations.sort_unstable();
    durations[durations.len() / 2]
}

/// The round that was least disturbed by whatever else the machine does.
fn fastest(durations: Vec<Duration>) -> Duration {
    durations.into_iter().min().unwrap()
}

fn url(text: &str) -> IssuerUrl {
    IssuerUrl::parse(text, LoopbackHttp::Refused).unwrap()
}

/// The subject match of a relationship, and a subject that it accepts.
fn subject(number: usize) -> (String, String) {
    let (org, repo) = (number / 100, number % 100);
    match repo {
        0..90 => {
            let exact = format!("repo:org-{org}/repo-{repo}:ref:refs/heads/main");
            (exact.clone(), exact)
        }
        90..99 => (format!("repo:org-{org}/repo-{repo}:*"), format!("repo:org-{org}/repo-{repo}:environment:production")),
        _ => {
            (format!("*:stack:stack-{number}:*"), format!("space:space-{org}:stack:stack-{number}:run_type:TRACKED:scope:write"))
        }
    }
}

fn relationship(number: usize) -> TrustRelationship {
    let cel_condition = (number % 100 == 7).then(|| {
        let program = (number / 100) % 100;
        format!("assertion.run_attempt < {} && assertion.ref.startsWith('refs/heads/')", program + 2).parse().unwrap()
    });
    let mut relationship = relationship_accepting(number, &subject(number).0);
    relationship.settings.cel_condition = cel_condition;
    relationship
}

fn relationship_accepting(number: usize, subject_match: &str) -> TrustRelationship {
    TrustRelationship {
        id: TrustRelationshipId::from_random((number as u128).to_be_bytes()),
        workspace_id: WorkspaceId::from_random([1; 16]),
        trusted_issuer_id: TrustedIssuerId::from_random([2; 16]),
        settings: TrustRelationshipSettings {
            display_name: None,
            key: None,
            subject_matches: vec![subject_match.parse().unwrap()],
            claim_conditions: vec![],
            cel_condition: None,
            attribute_mapping: BTreeMap::new(),
            subject_audiences: vec![],
            access_token_audiences: vec![],
            scopes: vec!["deploy".parse().unwrap()],
            grants: vec![],
            token_duration: Duration::from_hours(1),
            expires_at: None,
            enabled: true,
        },
        revision: 1,
        creator: "bench".to_owned(),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn policy(numbers: Vec<usize>) -> WorkspacePolicy {
    policy_of(numbers.into_iter().map(relationship).collect())
}

fn policy_of(trust_relationships: Vec<TrustRelationship>) -> WorkspacePolicy {
    let trusted_issuer = TrustedIssuer {
        id: TrustedIssuerId::from_random([2; 16]),
        workspace_id: WorkspaceId::from_random([1; 16]),
        settings: TrustedIssuerSettings {
            display_name: None,
            preset: None,
            issuer_url: url(ISSUER),
            key_source: KeySource::default(),
            subject_audiences: vec![],
            algorithms: BTreeSet::from([SignatureAlgorithm::Rs256]),
            token_types: BTreeSet::from([None]),
            max_token_lifetime: Duration::from_hours(1),
            clock_skew: Duration::from_secs(30),
            replay_policy: ReplayPolicy::SingleUse,
            enabled: true,
        },
        revision: 1,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    };
    WorkspacePolicy::from(PolicySnapshot {
        workspace_id: WorkspaceId::from_random([1; 16]),
        state: WorkspaceState::Active,
        policy_revision: 1,
        trusted_issuers: vec![trusted_issuer],
        trust_relationships,
    })
}

fn claims(number: usize) -> Claims {
    claims_of(number, &subject(number).1)
}

fn claims_of(number: usize, subject: &str) -> Claims {
    let members = json!({
        "iss": ISSUER, "sub": subject, "aud": "https://gateway.example", "iat": NOW - 10, "exp": NOW + 290,
        "jti": format!("token-{number}"), "run_attempt": 1, "ref": "refs/heads/main", "repository_owner_id": "123",
        "workflow": "deploy", "actor": "octocat", "sha": "0123456789abcdef0123456789abcdef01234567",
    });
    Claims::from_members(members.as_object().unwrap().clone()).unwrap()
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
