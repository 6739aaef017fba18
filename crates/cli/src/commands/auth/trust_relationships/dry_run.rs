//! `--dry-run`: what a change would have done to past exchanges.

use std::time::Duration;

use clap::Args;
use countersign_proto::common;
use countersign_proto::trust_v1::{
    AffectedExchanges, LintSeverity, PreviewEffect, PreviewTrustRelationshipRequest, PreviewTrustRelationshipResponse,
};
use serde_json::{Value, json};

use super::{Client, lint};
use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};

#[derive(Debug, Default, Args)]
pub(super) struct DryRunArgs {
    /// Change nothing: say which past exchanges would be refused, allowed or decided otherwise. Fails when any would be refused or
    /// cannot be judged, when not all of the window could be looked at, or when the linter finds an error.
    #[arg(long)]
    dry_run: bool,
    /// How far back to look, for example 24h or 30d [default: 7d; at most 90d].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, requires = "dry_run")]
    window: Option<Duration>,
    /// How to print what would happen [default: table].
    #[arg(long, value_name = "FORMAT", requires = "dry_run")]
    dry_run_output: Option<ListFormat>,
}

impl DryRunArgs {
    /// Whether nothing is to be changed.
    pub(super) fn is_wanted(&self) -> bool {
        self.dry_run
    }

    /// Asks what the change would have done, and shows it.
    ///
    /// # Errors
    /// When it would have refused something, or cannot be told: scripts are to notice.
    pub(super) async fn run(
        &self,
        client: &mut Client,
        request: PreviewTrustRelationshipRequest,
        output: &mut Output,
    ) -> Result<()> {
        let request = PreviewTrustRelationshipRequest { window: self.window.map(common::duration), ..request };
        let preview = client.preview_trust_relationship(request).await?.into_inner();
        show(&preview, self.dry_run_output.unwrap_or(ListFormat::Table), output)
    }
}

fn show(preview: &PreviewTrustRelationshipResponse, format: ListFormat, output: &mut Output) -> Result<()> {
    match format {
        ListFormat::Json => output.json(&preview_json(preview))?,
        ListFormat::Table if preview.affected.is_empty() => {}
        ListFormat::Table => {
            let rows: Vec<_> = preview.affected.iter().map(row).collect();
            output.table(["EFFECT", "EXCHANGES", "SUBJECT", "NOW BY", "THEN BY", "WHY", "LAST REQUEST"], &rows)?;
        }
    }
    output.message(summary(preview));
    lint::tell(&preview.findings, output);
    let is_error = preview.findings.iter().any(|finding| finding.severity() == LintSeverity::Error);
    if is_error || preview.newly_refused > 0 || preview.undecided > 0 || preview.truncated {
        Err(Failure::Exit(2))
    } else {
        Ok(())
    }
}

fn summary(preview: &PreviewTrustRelationshipResponse) -> String {
    let since = preview.start_time.as_ref().map(duration::moment_from_wire).unwrap_or_default();
    let mut summary = format!(
        "Nothing was changed. Of {} past exchanges since {since}: {} newly refused, {} newly allowed, {} decided otherwise, \
         {} undecided, {} unchanged.",
        preview.examined,
        preview.newly_refused,
        preview.newly_allowed,
        preview.decided_otherwise,
        preview.undecided,
        preview.unchanged,
    );
    if preview.truncated {
        summary.push_str(" There were more than are looked at, further back.");
    }
    if preview.left_out > 0 {
        summary.extend([" ", &preview.left_out.to_string(), " of them are not listed."]);
    }
    if preview.counted_refusals > 0 {
        summary.extend([" ", &preview.counted_refusals.to_string(), " refusals were only counted, and cannot be looked at."]);
    }
    summary
}

fn effect(affected: &AffectedExchanges) -> &'static str {
    match affected.effect() {
        PreviewEffect::NewlyRefused => "newly refused",
        PreviewEffect::NewlyAllowed => "newly allowed",
        PreviewEffect::DecidedOtherwise => "decided otherwise",
        PreviewEffect::Undecided => "undecided",
        // Of a service that knows more than this program.
        PreviewEffect::Unspecified => "unknown",
    }
}

fn row(affected: &AffectedExchanges) -> [String; 7] {
    [
        effect(affected).to_owned(),
        affected.exchanges.to_string(),
        affected.subject.clone(),
        affected.trust_relationship_id.clone(),
        affected.changed_trust_relationship_id.clone(),
        affected.detail.clone(),
        affected.request_id.clone(),
    ]
}

fn preview_json(preview: &PreviewTrustRelationshipResponse) -> Value {
    json!({
        "start_time": preview.start_time.as_ref().map(duration::moment_from_wire),
        "truncated": preview.truncated,
        "examined": preview.examined,
        "unchanged": preview.unchanged,
        "newly_refused": preview.newly_refused,
        "newly_allowed": preview.newly_allowed,
        "decided_otherwise": preview.decided_otherwise,
        "undecided": preview.undecided,
        "counted_refusals": preview.counted_refusals,
        "left_out": preview.left_out,
        "findings": preview.findings.iter().map(lint::finding_json).collect::<Vec<_>>(),
        "affected": preview.affected.iter().map(|affected| json!({
            "effect": affected.effect().as_str_name().trim_start_matches("PREVIEW_EFFECT_"),
            "subject": affected.subject,
            "trust_relationship_id": affected.trust_relationship_id,
            "changed_trust_relationship_id": affected.changed_trust_relationship_id,
            "detail": affected.detail,
            "exchanges": affected.exchanges,
            "last_time": affected.last_time.as_ref().map(duration::moment_from_wire),
            "request_id": affected.request_id,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::Captured;

    fn shown(preview: &PreviewTrustRelationshipResponse, format: ListFormat) -> (String, String, Result<()>) {
        let captured = Captured::default();
        let result = show(preview, format, &mut captured.output());
        (captured.results(), captured.messages(), result)
    }

    #[test]
    fn what_would_be_refused_is_shown_and_fails() {
        let affected = AffectedExchanges {
            effect: PreviewEffect::NewlyRefused.into(),
            subject: "a:b".to_owned(),
            trust_relationship_id: "tr_0".to_owned(),
            detail: "no relationship accepts it".to_owned(),
            exchanges: 3,
            ..AffectedExchanges::default()
        };
        let preview = PreviewTrustRelationshipResponse {
            affected: vec![affected],
            examined: 5,
            unchanged: 2,
            newly_refused: 3,
            ..PreviewTrustRelationshipResponse::default()
        };
        let (table, messages, result) = shown(&preview, ListFormat::Table);
        assert!(table.lines().nth(1).unwrap().starts_with("newly refused  3"), "{table}");
        assert!(messages.contains("3 newly refused") && messages.contains("2 unchanged"), "{messages}");
        assert!(matches!(result, Err(Failure::Exit(2))));
        let (json, _, _) = shown(&preview, ListFormat::Json);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["affected"][0]["effect"], "NEWLY_REFUSED");
    }

    #[test]
    fn what_only_lets_in_or_changes_nothing_succeeds() {
        let preview = PreviewTrustRelationshipResponse { examined: 1, newly_allowed: 1, ..Default::default() };
        let (table, messages, result) = shown(&preview, ListFormat::Table);
        assert!(result.is_ok() && table.is_empty() && messages.contains("1 newly allowed"));
        let undecided = PreviewTrustRelationshipResponse { undecided: 1, ..Default::default() };
        assert!(shown(&undecided, ListFormat::Table).2.is_err());
    }
}
