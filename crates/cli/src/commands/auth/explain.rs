//! `countersign auth explain`.

use clap::Args;
use countersign_proto::common::read_timestamp;
use countersign_proto::exchange_v1::exchange_service_client::ExchangeServiceClient;
use countersign_proto::exchange_v1::{
    ExplainExchangeRequest, ExplainExchangeResponse, ExplainedCandidate, ExplainedCheck, ExplainedVerdict,
};
use serde_json::{Value, json};

use super::subject_token::SubjectTokenArgs;
use crate::arguments::Session;
use crate::connection::Service;
use crate::failure::{Failure, Result};
use crate::output::{Output, TreeFormat, printable};

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    subject: SubjectTokenArgs,
    /// Explain a past refusal instead: the request id that its caller was told.
    #[arg(long, value_name = "ID", group = "subject", conflicts_with_all = ["trust_relationship", "audience", "scope"])]
    request_id: Option<String>,
    /// The relationship that is to decide, `tr_…` [default: the most specific that matches].
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    trust_relationship: String,
    /// The wished `aud` of the access token. Repeat for several [default: the relationship's first].
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// A wished scope. Repeat for several [default: all that the relationship gives].
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// How to print the explanation.
    #[arg(short, long, value_name = "FORMAT", default_value = "tree")]
    output: TreeFormat,
}

impl ExplainArgs {
    pub(super) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let request_id = self.request_id.unwrap_or_default();
        let subject_token = if request_id.is_empty() { self.subject.read()?.expose().to_owned() } else { String::new() };
        let request = ExplainExchangeRequest {
            subject_token,
            workspace_id: session.connection.workspace(&session.clock)?,
            trust_relationship_id: self.trust_relationship,
            audiences: self.audience,
            scopes: self.scope,
            duration: None,
            request_id,
        };
        let channel = session.connection.authorized(Service::Gateway, &session.clock).await?;
        let explained = ExchangeServiceClient::new(channel).explain_exchange(request).await?.into_inner();
        match self.output {
            TreeFormat::Json => output.json(&json(&explained)),
            TreeFormat::Tree => tree(&explained).iter().try_for_each(|line| output.line(line)),
        }
        .map_err(Failure::from)?;
        if explained.accepted { Ok(()) } else { Err(Failure::Exit(2)) }
    }
}

const fn mark(verdict: ExplainedVerdict) -> &'static str {
    match verdict {
        ExplainedVerdict::Passed => "ok  ",
        ExplainedVerdict::Failed => "FAIL",
        ExplainedVerdict::NotReached | ExplainedVerdict::Unspecified => "-   ",
    }
}

/// The explanation for people: the verdict, the stages, and below them the candidates with their checks.
fn tree(explained: &ExplainExchangeResponse) -> Vec<String> {
    let verdict = match (explained.accepted, explained.reason.as_str()) {
        (true, _) => "accepted".to_owned(),
        (false, "") => "unknown".to_owned(),
        (false, reason) => format!("refused, {reason}"),
    };
    let first = match &explained.past_refusal {
        None => format!("{verdict}: {}", printable(&explained.summary)),
        Some(past) => {
            let time = past.time.as_ref().and_then(|time| read_timestamp(time).ok()).map(|time| time.to_string());
            let (reason, revision) = (&past.reason, past.policy_revision);
            let then = format!("refused at {}, {reason}, by policy revision {revision}", time.unwrap_or_default());
            format!("{then}; now {verdict}: {}", printable(&explained.summary))
        }
    };
    let mut lines = vec![first, String::new()];
    let width = explained.stages.iter().map(|stage| stage.name.len()).max().unwrap_or_default();
    for stage in &explained.stages {
        lines
            .push(format!("{} {:width$}  {}", mark(stage.verdict()), stage.name, printable(&stage.detail)).trim_end().to_owned());
    }
    for candidate in &explained.candidates {
        let accepts = if candidate.accepts { "accepts the token" } else { "does not accept the token" };
        lines.push(String::new());
        lines.push(format!("{} {accepts}", candidate.trust_relationship_id));
        for check in &candidate.checks {
            lines.push(format!("  {} {}: {}", mark(check.verdict()), check.field, printable(&check.expected)));
            lines.push(format!("         token: {}", printable(&check.found)));
            if !check.hint.is_empty() {
                lines.push(format!("         hint:  {}", printable(&check.hint)));
            }
        }
    }
    if explained.candidates_left_out > 0 {
        lines.push(String::new());
        lines.push(format!("{} more relationships of this issuer are further away.", explained.candidates_left_out));
    }
    lines
}

fn json(explained: &ExplainExchangeResponse) -> Value {
    json!({
        "accepted": explained.accepted,
        "reason": explained.reason,
        "summary": explained.summary,
        "stages": explained.stages.iter().map(|stage| json!({
            "name": stage.name,
            "verdict": name(stage.verdict()),
            "detail": stage.detail,
        })).collect::<Vec<_>>(),
        "candidates": explained.candidates.iter().map(candidate_json).collect::<Vec<_>>(),
        "candidates_left_out": explained.candidates_left_out,
        "past_refusal": explained.past_refusal.as_ref().map(|past| json!({
            "time": past.time.as_ref().and_then(|time| read_timestamp(time).ok()).map(|time| time.to_string()),
            "reason": past.reason,
            "cause": past.cause,
            "policy_revision": past.policy_revision,
            "trust_relationship_id": past.trust_relationship_id,
        })),
    })
}

fn candidate_json(candidate: &ExplainedCandidate) -> Value {
    json!({
        "trust_relationship_id": candidate.trust_relationship_id,
        "accepts": candidate.accepts,
        "checks": candidate.checks.iter().map(check_json).collect::<Vec<_>>(),
    })
}

fn check_json(check: &ExplainedCheck) -> Value {
    json!({
        "field": check.field,
        "verdict": name(check.verdict()),
        "expected": check.expected,
        "found": check.found,
        "hint": check.hint,
    })
}

fn name(verdict: ExplainedVerdict) -> &'static str {
    verdict.as_str_name().trim_start_matches("EXPLAINED_VERDICT_")
}

#[cfg(test)]
mod tests {
    use countersign_proto::exchange_v1::ExplainedStage;

    use super::*;

    #[test]
    fn the_tree_begins_with_the_answer_and_shows_asked_and_found_together() {
        let explained = ExplainExchangeResponse {
            accepted: false,
            reason: "SUBJECT_NOT_TRUSTED".to_owned(),
            summary: "the nearest is tr_0".to_owned(),
            stages: vec![ExplainedStage {
                name: "times".to_owned(),
                verdict: ExplainedVerdict::Passed.into(),
                detail: "fine\u{1b}[31m".to_owned(),
            }],
            candidates: vec![ExplainedCandidate {
                trust_relationship_id: "tr_0".to_owned(),
                accepts: false,
                checks: vec![ExplainedCheck {
                    field: "claim_conditions[0]".to_owned(),
                    verdict: ExplainedVerdict::Failed.into(),
                    expected: "ref is \"main\"".to_owned(),
                    found: "no such claim".to_owned(),
                    hint: "a missing claim satisfies no condition".to_owned(),
                }],
            }],
            candidates_left_out: 3,
            past_refusal: None,
        };
        let lines = tree(&explained);
        assert_eq!(lines[0], "refused, SUBJECT_NOT_TRUSTED: the nearest is tr_0");
        assert!(lines[2].starts_with("ok   times") && !lines[2].contains('\u{1b}'), "{}", lines[2]);
        assert_eq!(
            lines[4..8],
            [
                "tr_0 does not accept the token",
                "  FAIL claim_conditions[0]: ref is \"main\"",
                "         token: no such claim",
                "         hint:  a missing claim satisfies no condition",
            ]
        );
        assert_eq!(json(&explained)["candidates"][0]["checks"][0]["verdict"], "FAILED");
    }
}
