//! `countersign auth trust-relationships lint`.

use clap::Args;
use countersign_proto::trust_v1::{
    LintFinding, LintSeverity, LintTrustRelationshipRequest, ListTrustRelationshipsRequest, TrustRelationship,
};
use serde_json::{Value, json};

use crate::arguments::Session;
use crate::commands::pages;
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct LintArgs {
    /// The relationship, `tr_…`.
    #[arg(value_name = "ID", group = "which")]
    id: Option<String>,
    /// Every relationship of the workspace.
    #[arg(long, group = "which")]
    all: bool,
    /// How to print what is found.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

/// What was found of one relationship.
struct Linted {
    id: String,
    findings: Vec<LintFinding>,
}

impl LintArgs {
    pub(super) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let workspace_id = session.connection.workspace(&session.clock)?;
        let mut client = super::client(session).await?;
        let ids = match self.id {
            Some(id) => vec![id],
            None => ids(&client, &workspace_id).await?,
        };
        let mut linted = Vec::with_capacity(ids.len());
        for id in ids {
            let named = TrustRelationship { id: id.clone(), workspace_id: workspace_id.clone(), ..TrustRelationship::default() };
            let request = LintTrustRelationshipRequest { trust_relationship: Some(named), update_mask: None };
            let findings = client.lint_trust_relationship(request).await?.into_inner().findings;
            linted.push(Linted { id, findings });
        }
        show(&linted, self.output, output)
    }
}

async fn ids(client: &super::Client, workspace_id: &str) -> Result<Vec<String>> {
    let relationships = pages::all(|page_token| {
        let mut client = client.clone();
        let request = ListTrustRelationshipsRequest {
            workspace_id: workspace_id.to_owned(),
            page_size: pages::PAGE_SIZE,
            page_token,
            ..ListTrustRelationshipsRequest::default()
        };
        async move {
            let page = client.list_trust_relationships(request).await?.into_inner();
            Ok((page.trust_relationships, page.next_page_token))
        }
    })
    .await?;
    Ok(relationships.into_iter().map(|relationship| relationship.id).collect())
}

/// Shows what was found.
///
/// # Errors
/// When an error is among it: scripts are to notice.
fn show(linted: &[Linted], format: ListFormat, output: &mut Output) -> Result<()> {
    let each = || linted.iter().flat_map(|one| one.findings.iter().map(|finding| (one.id.as_str(), finding)));
    match format {
        ListFormat::Json => output.json(&each().map(|(id, finding)| as_json(id, finding)).collect::<Vec<_>>())?,
        ListFormat::Table => {
            let rows: Vec<_> = each()
                .map(|(id, finding)| {
                    let advice = format!("{}; {}", finding.risk, finding.fix);
                    [id.to_owned(), severity(finding).to_owned(), finding.rule.clone(), field(finding).to_owned(), advice]
                })
                .collect();
            output.table(["ID", "SEVERITY", "RULE", "FIELD", "ADVICE"], &rows)?;
        }
    }
    let is_error = |finding: &LintFinding| finding.severity() == LintSeverity::Error;
    if each().any(|(_, finding)| is_error(finding)) { Err(Failure::Exit(2)) } else { Ok(()) }
}

/// Tells what a write left to be said.
pub(super) fn tell(findings: &[LintFinding], output: &mut Output) {
    for finding in findings {
        let LintFinding { rule, risk, fix, .. } = finding;
        output.message(format!("{} ({rule}): {}: {risk}; {fix}.", severity(finding), field(finding)));
    }
}

fn as_json(id: &str, finding: &LintFinding) -> Value {
    let mut json = finding_json(finding);
    json["trust_relationship_id"] = id.into();
    json["field"] = finding.field.as_str().into();
    json
}

/// A finding for programs.
pub(super) fn finding_json(finding: &LintFinding) -> Value {
    json!({
        "rule": finding.rule,
        "severity": severity(finding),
        "field": field(finding),
        "risk": finding.risk,
        "fix": finding.fix,
    })
}

pub(super) fn severity(finding: &LintFinding) -> &'static str {
    match finding.severity() {
        LintSeverity::Error => "error",
        LintSeverity::Warning => "warning",
        LintSeverity::Advice => "advice",
        // Of a service that knows more than this program.
        LintSeverity::Unspecified => "unknown",
    }
}

pub(super) fn field(finding: &LintFinding) -> &str {
    finding.field.strip_prefix("trust_relationship.").unwrap_or(&finding.field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::Captured;

    fn finding(severity: LintSeverity) -> LintFinding {
        LintFinding {
            rule: "tenant-not-pinned".to_owned(),
            severity: severity.into(),
            field: "trust_relationship.subject_matches[0]".to_owned(),
            risk: "anybody gets in".to_owned(),
            fix: "say who is meant".to_owned(),
        }
    }

    fn shown(findings: Vec<LintFinding>, format: ListFormat) -> (String, Result<()>) {
        let captured = Captured::default();
        let result = show(&[Linted { id: "tr_0".to_owned(), findings }], format, &mut captured.output());
        (captured.results(), result)
    }

    #[test]
    fn findings_are_shown_for_people_and_for_programs_and_errors_fail() {
        let (table, result) = shown(vec![finding(LintSeverity::Warning)], ListFormat::Table);
        let row = table.lines().nth(1).unwrap();
        assert_eq!(
            row.split("  ").collect::<Vec<_>>(),
            ["tr_0", "warning", " tenant-not-pinned", "subject_matches[0]", "anybody gets in; say who is meant"]
        );
        assert!(result.is_ok());
        let (json, result) = shown(vec![finding(LintSeverity::Error), finding(LintSeverity::Advice)], ListFormat::Json);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json[0]["severity"], &json[1]["severity"]), (&json!("error"), &json!("advice")));
        assert_eq!(json[0]["field"], "trust_relationship.subject_matches[0]");
        assert!(matches!(result, Err(Failure::Exit(2))));
    }

    #[test]
    fn what_a_write_leaves_to_be_said_is_a_message() {
        let captured = Captured::default();
        tell(&[finding(LintSeverity::Advice)], &mut captured.output());
        assert_eq!(captured.messages(), "advice (tenant-not-pinned): subject_matches[0]: anybody gets in; say who is meant.\n");
        assert_eq!(captured.results(), "");
    }
}
