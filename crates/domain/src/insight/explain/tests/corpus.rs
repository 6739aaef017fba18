//! Refused tokens of many providers, each with what an expert says of it: `explain/corpus/`.
//!
//! A case is a sample token of a preset with something amiss, the relationships of a workspace, and the stage, the relationship and
//! the field that must be named first, with words that the explanation must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::*;
use crate::trust::claim_condition::{ClaimCondition, ClaimTest, ClaimVerdict};
use crate::trust::policy::Unmet;
use crate::trust::policy::tests::{relationship, relationship_id, set_relationships, trusted_issuer, workspace_id};
use crate::trust::policy_feed::PolicyChange;
use crate::trust::preset::Preset;
use crate::trust::trust_relationship::TrustRelationship;
use crate::trust::workspace::WorkspaceState;
use crate::values::issuer_url::{IssuerUrl, LoopbackHttp};

/// The cases of one provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    preset: String,
    /// What every case's workspace has.
    relationships: Vec<Relationship>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Relationship {
    name: String,
    subject_matches: Vec<String>,
    #[serde(default)]
    claim_conditions: Vec<ClaimCondition>,
    cel_condition: Option<String>,
    #[serde(default)]
    attribute_mapping: BTreeMap<String, String>,
    #[serde(default)]
    subject_audiences: Vec<String>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Which of the preset's samples the token was, counted from 0.
    #[serde(default)]
    sample: usize,
    /// Claims that it has instead.
    #[serde(default)]
    claims: Map<String, Value>,
    /// Claims that it lacks.
    #[serde(default)]
    without: Vec<String>,
    /// Claims that it has as null, which TOML does not know.
    #[serde(default)]
    null: Vec<String>,
    /// When it is presented, in seconds behind its `iat`.
    #[serde(default = "a_minute")]
    presented_after: i64,
    /// What the trusted issuer accepts, instead of the deployment's own audience.
    #[serde(default)]
    issuer_audiences: Vec<String>,
    #[serde(default)]
    requires_jti: bool,
    /// What the workspace has besides.
    #[serde(default)]
    relationships: Vec<Relationship>,
    #[serde(default)]
    request: Request,
    /// What the exchange comes to, by [`kind`].
    refused: String,
    expert: Expert,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Request {
    /// By its name; any other text names none that there is.
    relationship: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    scopes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expert {
    /// The first stage that fails.
    stage: String,
    /// The relationship to look at first, and the field of it.
    relationship: Option<String>,
    field: Option<String>,
    /// Words that the explanation of the stage holds.
    #[serde(default)]
    says: Vec<String>,
}

const fn a_minute() -> i64 {
    60
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[String]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

impl Relationship {
    /// A relationship with this number, by which its id sorts.
    fn made(&self, number: usize) -> TrustRelationship {
        let matches: Vec<&str> = self.subject_matches.iter().map(String::as_str).collect();
        let mut made = relationship(number, &matches);
        let settings = &mut made.settings;
        settings.claim_conditions.clone_from(&self.claim_conditions);
        settings.cel_condition = self.cel_condition.as_ref().map(|source| source.parse().unwrap());
        let mapping = self.attribute_mapping.iter();
        settings.attribute_mapping = mapping.map(|(name, source)| (name.parse().unwrap(), source.parse().unwrap())).collect();
        settings.subject_audiences = parsed(&self.subject_audiences);
        settings.expires_at = self.expires_at;
        settings.enabled = !self.disabled;
        made
    }
}

/// What was explained, and of what.
struct Explained {
    /// `None`: the claims are not those of a token, and it did not come to a decision.
    outcome: Option<Result<Box<Decision>, Refused>>,
    stages: Vec<Stage>,
    candidates: Vec<Candidate>,
    members: Map<String, Value>,
    relationships: Vec<TrustRelationship>,
    /// The ids by their names.
    ids: BTreeMap<String, TrustRelationshipId>,
}

impl Case {
    fn explain(&self, file: &File) -> Explained {
        let preset = Preset::find(&file.preset).unwrap();
        let mut members = preset.samples[self.sample].clone();
        members.extend(self.claims.clone());
        members.retain(|name, _| !self.without.contains(name));
        members.extend(self.null.iter().map(|name| (name.clone(), Value::Null)));
        let problems = Claims::problems(&members);
        if !problems.is_empty() {
            let stages = explain_invalid_claims(&members, &problems);
            let (candidates, relationships, ids) = Default::default();
            return Explained { outcome: None, stages, candidates, members, relationships, ids };
        }
        let claims = Claims::from_members(members.clone()).unwrap();

        let mut issuer = trusted_issuer(&claims.issuer);
        issuer.settings.preset = Some(file.preset.parse().unwrap());
        issuer.settings.max_token_lifetime = preset.max_token_lifetime;
        issuer.settings.replay_policy = if self.requires_jti { ReplayPolicy::RequireJti } else { preset.replay_policy };
        issuer.settings.subject_audiences = parsed(&self.issuer_audiences);
        let written: Vec<_> = file.relationships.iter().chain(&self.relationships).collect();
        let relationships: Vec<_> = (1..).zip(&written).map(|(number, written)| written.made(number)).collect();
        let ids = (1..).zip(&written).map(|(number, written)| (written.name.clone(), relationship_id(number))).collect();
        let mut policy = WorkspacePolicy::new(workspace_id(), WorkspaceState::Active, 1);
        policy.apply(PolicyChange { trusted_issuers: vec![issuer], ..set_relationships(5, relationships.clone()) });

        let id_of = |name: &String| BTreeMap::get(&ids, name).cloned().unwrap_or_else(|| relationship_id(0));
        let request = ExchangeRequest {
            trust_relationship_id: self.request.relationship.as_ref().map(id_of),
            audiences: parsed(&self.request.audiences),
            scopes: parsed(&self.request.scopes),
            duration: None,
        };
        let url = IssuerUrl::parse("https://gateway.example", LoopbackHttp::Refused).unwrap();
        let deployment = DeploymentAudience::new(&url).unwrap();
        let now = claims.issued_at + SignedDuration::from_secs(self.presented_after);
        let token = PresentedToken { claims: &claims, signing_input_hash: [7; 32] };
        let Explanation { outcome, stages, candidates, .. } = explain(token, &request, &policy, &deployment, now);
        Explained { outcome: Some(outcome), stages, candidates, members, relationships, ids }
    }
}

impl Explained {
    /// How what is told differs from what the expert says.
    fn differs_from(&self, case: &Case) -> Option<String> {
        let refused = match &self.outcome {
            None => INVALID_CLAIMS.to_owned(),
            Some(Err(refused)) => kind(refused),
            Some(Ok(_)) => return Some("is accepted".to_owned()),
        };
        let expert = &case.expert;
        if refused != case.refused {
            return Some(format!("is refused as {refused}"));
        }
        let stage = self.stages.iter().find(|stage| stage.verdict == Verdict::Failed)?;
        if stage.kind.as_str() != expert.stage {
            return Some(format!("fails at the {}: {}", stage.kind, stage.detail));
        }
        let first = self.candidates.first();
        if let Some(name) = &expert.relationship
            && first.map(|first| &first.id) != self.ids.get(name)
        {
            return Some(format!("is compared with another: {}", stage.detail));
        }
        let failure = first.and_then(|first| first.failures().next());
        if expert.field.is_some() && failure.map(|check| &check.field) != expert.field.as_ref() {
            return Some(format!("is told of another field: {}", stage.detail));
        }
        let unsaid = expert.says.iter().find(|word| !stage.detail.contains(*word))?;
        Some(format!("is not told of `{unsaid}`: {}", stage.detail))
    }

    /// The condition that is named first, and how the token fares against it.
    fn condition(&self) -> Option<(&ClaimCondition, ClaimVerdict)> {
        let first = self.candidates.first()?;
        let settings = &self.relationships.iter().find(|made| made.id == first.id)?.settings;
        let field = &first.failures().next()?.field;
        let place: usize = field.strip_prefix("claim_conditions[")?.strip_suffix(']')?.parse().ok()?;
        let condition = &settings.claim_conditions[place];
        Some((condition, condition.compile().judge(&self.members)))
    }
}

/// What a refusal is called in the corpus; `None` for one that explanations of verified tokens meet only when the policy changes
/// meanwhile.
fn kind_of(refused: &Refused) -> Option<String> {
    Some(match refused {
        Refused::WorkspaceDisabled | Refused::IssuerUnknown | Refused::IssuedHere | Refused::IssuerDisabled(_) => return None,
        Refused::Untimely(untimely) => format!("{untimely:?}"),
        Refused::TokenIdMissing => "TokenIdMissing".to_owned(),
        Refused::AudienceNotAccepted(_) => "AudienceNotAccepted".to_owned(),
        Refused::AudienceNotAcceptedBy(_) => "AudienceNotAcceptedBy".to_owned(),
        Refused::ProofMissing => "ProofMissing".to_owned(),
        Refused::RelationshipUnknown(_) => "RelationshipUnknown".to_owned(),
        Refused::RelationshipNotLive(_) => "RelationshipNotLive".to_owned(),
        Refused::SubjectNotAcceptedBy(_) => "SubjectNotAcceptedBy".to_owned(),
        Refused::ConditionNotMet { unmet: Unmet::Claim { verdict, .. }, .. } => format!("Claim{verdict:?}"),
        Refused::ConditionNotMet { unmet: Unmet::Attribute { .. }, .. } => "Attribute".to_owned(),
        Refused::ConditionNotMet { unmet: Unmet::AttributesTooLong, .. } => "AttributesTooLong".to_owned(),
        Refused::ConditionNotMet { unmet: Unmet::CelFalse, .. } => "CelFalse".to_owned(),
        Refused::ConditionNotMet { unmet: Unmet::Cel(_), .. } => "CelFailure".to_owned(),
        Refused::SubjectNotAccepted => "SubjectNotAccepted".to_owned(),
        Refused::AudienceNotGiven { .. } => "AudienceNotGiven".to_owned(),
        Refused::ScopesNotGiven(_) => "ScopesNotGiven".to_owned(),
        Refused::NothingToGive(_) => "NothingToGive".to_owned(),
    })
}

/// What the refusal of a token is called that comes to no decision.
const INVALID_CLAIMS: &str = "InvalidClaims";

/// Every name that [`kind_of`] gives, and [`INVALID_CLAIMS`].
const KINDS: [&str; 25] = [
    "AttributesTooLong",
    "Attribute",
    "AudienceNotAccepted",
    "AudienceNotAcceptedBy",
    "AudienceNotGiven",
    "CelFailure",
    "CelFalse",
    "ClaimEmpty",
    "ClaimMissing",
    "ClaimUnsatisfied",
    "ClaimWrongType",
    "Expired",
    INVALID_CLAIMS,
    "IssuedInFuture",
    "LifetimeTooLong",
    "NeverValid",
    "NotYetValid",
    "NothingToGive",
    "ProofMissing",
    "RelationshipNotLive",
    "RelationshipUnknown",
    "ScopesNotGiven",
    "SubjectNotAccepted",
    "SubjectNotAcceptedBy",
    "TokenIdMissing",
];

fn kind(refused: &Refused) -> String {
    kind_of(refused).unwrap_or_default()
}

fn files() -> Vec<File> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/insight/explain/corpus");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

#[test]
fn what_an_expert_would_name_is_named_first() {
    let mut complaints = Vec::new();
    for file in files() {
        for case in &file.cases {
            let difference = case.explain(&file).differs_from(case);
            complaints.extend(difference.map(|difference| format!("{}: {} {difference}", file.preset, case.name)));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_refusal_and_every_kind_of_condition_is_in_the_corpus() {
    let (mut refusals, mut unsatisfied, mut verdicts) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let files = files();
    for (file, case) in files.iter().flat_map(|file| file.cases.iter().map(move |case| (file, case))) {
        refusals.insert(case.refused.as_str());
        let explained = case.explain(file);
        let Some((condition, verdict)) = explained.condition() else { continue };
        verdicts.insert(format!("{verdict:?}"));
        if verdict == ClaimVerdict::Unsatisfied {
            unsatisfied.insert((test_name(&condition.test), condition.negated));
        }
    }
    assert_eq!(refusals, KINDS.into());
    assert_eq!(verdicts, ["Empty", "Missing", "Unsatisfied", "WrongType"].map(str::to_owned).into());
    let tests = ["contains", "equals", "glob", "one_of"];
    assert_eq!(unsatisfied, tests.into_iter().flat_map(|test| [(test, false), (test, true)]).collect());
}

const fn test_name(test: &ClaimTest) -> &'static str {
    match test {
        ClaimTest::Equals(_) => "equals",
        ClaimTest::OneOf(_) => "one_of",
        ClaimTest::Glob(_) => "glob",
        ClaimTest::Contains(_) => "contains",
        ClaimTest::Exists => "exists",
    }
}

/// A case of a preset's sample, with the first relationship accepting exactly these subjects.
fn case_of(preset: &Preset, sample: usize, matches: &[&str]) -> (File, Case) {
    let file = serde_json::json!({
        "preset": preset.id.as_str(),
        "relationships": [{ "name": "it", "subject_matches": matches }],
        "cases": [{
            "name": "a variation",
            "sample": sample,
            "issuer_audiences": ["https://gateway.example"],
            "claims": { "aud": "https://gateway.example" },
            "refused": "",
            "expert": { "stage": "" },
        }],
    });
    let mut file: File = serde_json::from_value(file).unwrap();
    let case = file.cases.remove(0);
    (file, case)
}

fn first_failure(explained: &Explained) -> &Stage {
    explained.stages.iter().find(|stage| stage.verdict == Verdict::Failed).unwrap()
}

#[test]
fn s86_a_registered_claim_that_is_missing_or_wrong_is_named_at_its_own_stage_for_every_preset() {
    for preset in Preset::all() {
        for (sample, members) in preset.samples.iter().enumerate() {
            let subject = members["sub"].as_str().unwrap();
            for (claim, stage) in
                [("exp", "times"), ("iat", "times"), ("aud", "audience"), ("sub", "trust relationship"), ("jti", "token id")]
            {
                for value in [None, Some(Value::Null), Some(true.into()), Some("".into()), Some(serde_json::json!({}))] {
                    // That there is no `jti` is no fault of the token.
                    if claim == "jti" && value.is_none() {
                        continue;
                    }
                    let (file, mut case) = case_of(preset, sample, &[subject]);
                    match &value {
                        None => {
                            case.claims.remove(claim);
                            case.without.push(claim.to_owned());
                        }
                        Some(value) => drop(case.claims.insert(claim.to_owned(), value.clone())),
                    }
                    let explained = case.explain(&file);
                    let failure = first_failure(&explained);
                    let what = format!("{} {claim} {value:?}: {}", preset.id, failure.detail);
                    assert_eq!(failure.kind.as_str(), stage, "{what}");
                    assert!(failure.detail.contains(&format!("the claim {claim} ")), "{what}");
                    let shown = value.map_or_else(|| "is missing".to_owned(), |value| format!("the token has {value}"));
                    assert!(failure.detail.contains(&shown), "{what}");
                }
            }
        }
    }
}

#[test]
fn s86_a_subject_that_only_looks_like_the_expected_one_is_told_why_for_every_preset() {
    for preset in Preset::all() {
        for (sample, members) in preset.samples.iter().enumerate() {
            let subject = members["sub"].as_str().unwrap();
            let (middle, _) = subject.char_indices().nth(subject.chars().count() / 2).unwrap();
            let (before, behind) = subject.split_at(middle);
            for (expected, found, word) in [
                (subject.to_owned(), format!(" {subject}"), "the token's text has white space around it"),
                (subject.to_owned(), format!("{subject}\u{a0}"), "the token's text has white space around it"),
                (format!("{subject} "), subject.to_owned(), "the expected text has white space around it"),
                (
                    subject.to_owned(),
                    format!("{before}\u{200b}{behind}"),
                    "the token's text contains the invisible character U+200B",
                ),
                (format!("{subject}\u{feff}"), subject.to_owned(), "the expected text contains the invisible character U+FEFF"),
                (format!("{subject}\u{e9}"), format!("{subject}e\u{301}"), "NFC and NFD"),
                (format!("{subject}e\u{301}*"), format!("{subject}\u{e9}"), "NFC and NFD"),
                (format!("{subject}X"), format!("{subject}x"), "upper and lower case"),
            ] {
                let (file, mut case) = case_of(preset, sample, &[&expected]);
                case.claims.insert("sub".to_owned(), found.clone().into());
                let explained = case.explain(&file);
                let failure = first_failure(&explained);
                let what = format!("{} {expected:?} {found:?}: {}", preset.id, failure.detail);
                assert_eq!(failure.kind, StageKind::Relationship, "{what}");
                assert!(failure.detail.contains("subject_matches[0]") && failure.detail.contains(word), "{what}");
            }
        }
    }
}
