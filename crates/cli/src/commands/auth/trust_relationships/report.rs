//! `countersign auth trust-relationships report`.

use std::time::Duration;

use clap::Args;
use countersign_proto::common;
use countersign_proto::trust_v1::{LintFinding, ReviewTrustRelationshipsRequest, TrustRelationshipReview};
use serde_json::{Value, json};

use super::lint;
use crate::arguments::Session;
use crate::commands::pages;
use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// How far back to look, and how long a relationship may go unused, for example 14d [default: 30d; at most 90d].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    window: Option<Duration>,
    /// Also show relationships of which nothing is found.
    #[arg(long)]
    all: bool,
    /// How to print the report.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

impl ReportArgs {
    pub(super) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let workspace_id = session.connection.workspace(&session.clock)?;
        let client = super::client(session).await?;
        let mut start_times = Vec::new();
        let reviews = pages::all(|page_token| {
            let mut client = client.clone();
            let request = ReviewTrustRelationshipsRequest {
                workspace_id: workspace_id.clone(),
                page_size: pages::PAGE_SIZE,
                page_token,
                window: self.window.map(common::duration),
            };
            async move {
                let page = client.review_trust_relationships(request).await?.into_inner();
                let start = page.start_time;
                Ok((page.reviews.into_iter().map(|review| (review, start)).collect(), page.next_page_token))
            }
        })
        .await?;
        let reviews: Vec<_> = reviews
            .into_iter()
            .map(|(review, start)| {
                start_times.extend(start);
                review
            })
            .filter(|review| self.all || !review.findings.is_empty())
            .collect();
        show(&reviews, self.output, output).map_err(Failure::from)?;
        if let Some(start) = start_times.iter().max_by_key(|time| time.seconds) {
            output.message(format!("Every exchange since {} was looked at.", duration::moment_from_wire(start)));
        }
        Ok(())
    }
}

fn show(reviews: &[TrustRelationshipReview], format: ListFormat, output: &mut Output) -> std::io::Result<()> {
    match format {
        ListFormat::Json => output.json(&reviews.iter().map(review_json).collect::<Vec<_>>()),
        ListFormat::Table => {
            let nothing = LintFinding::default();
            let rows: Vec<_> = reviews
                .iter()
                .flat_map(|review| {
                    // One row at least, so that --all shows those that are as they should be.
                    let findings = if review.findings.is_empty() { std::slice::from_ref(&nothing) } else { &review.findings };
                    findings.iter().map(move |finding| row(review, finding))
                })
                .collect();
            output.table(["ID", "LAST USE", "EXCHANGES", "SEVERITY", "RULE", "ADVICE"], &rows)
        }
    }
}

fn row(review: &TrustRelationshipReview, finding: &LintFinding) -> [String; 6] {
    let last_use = review.last_use_time.as_ref().map_or("never".to_owned(), duration::moment_from_wire);
    let (severity, advice) = if finding.rule.is_empty() {
        (String::new(), String::new())
    } else {
        let field = lint::field(finding);
        let place = if field == "trust_relationship" { String::new() } else { format!("{field}: ") };
        (lint::severity(finding).to_owned(), format!("{place}{}; {}", finding.risk, finding.fix))
    };
    [review.trust_relationship_id.clone(), last_use, review.exchanges.to_string(), severity, finding.rule.clone(), advice]
}

fn review_json(review: &TrustRelationshipReview) -> Value {
    json!({
        "trust_relationship_id": review.trust_relationship_id,
        "display_name": review.display_name,
        "key": review.key,
        "last_use_time": review.last_use_time.as_ref().map(duration::moment_from_wire),
        "exchanges": review.exchanges,
        "findings": review.findings.iter().map(lint::finding_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use countersign_proto::trust_v1::LintSeverity;

    use super::*;
    use crate::output::tests::Captured;

    #[test]
    fn findings_are_shown_beside_the_use() {
        let finding = LintFinding {
            rule: "wider-than-used".to_owned(),
            severity: LintSeverity::Advice.into(),
            field: "trust_relationship.subject_matches[0]".to_owned(),
            risk: "nobody needs it".to_owned(),
            fix: "write `a`".to_owned(),
        };
        let review = TrustRelationshipReview {
            trust_relationship_id: "tr_0".to_owned(),
            exchanges: 12,
            findings: vec![finding],
            ..TrustRelationshipReview::default()
        };
        let idle = TrustRelationshipReview { trust_relationship_id: "tr_1".to_owned(), ..TrustRelationshipReview::default() };
        let shown = |format| {
            let captured = Captured::default();
            show(&[review.clone(), idle.clone()], format, &mut captured.output()).unwrap();
            captured.results()
        };
        let table = shown(ListFormat::Table);
        let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0][..5], ["tr_0", "never", "12", "advice", "wider-than-used"]);
        assert_eq!(rows[1][..3], ["tr_1", "never", "0"]);
        let json: Value = serde_json::from_str(&shown(ListFormat::Json)).unwrap();
        assert_eq!(json[0]["findings"][0]["field"], "subject_matches[0]");
    }
}
