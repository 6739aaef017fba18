//! `countersign auth trust-relationships list`.

use std::collections::HashMap;

use clap::Args;
use countersign_proto::trust_v1::{ListTrustRelationshipsRequest, TrustRelationship};

use crate::arguments::Session;
use crate::commands::{pages, trusted_issuers};
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};
use crate::resources::{grant_summary, trust_relationship_json};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those of this trusted issuer, `ti_…`.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    trusted_issuer: String,
    /// How to print the list.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

impl ListArgs {
    pub(super) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let workspace_id = session.connection.workspace(&session.clock)?;
        let client = super::client(session).await?;
        let relationships = pages::all(|page_token| {
            let mut client = client.clone();
            let request = ListTrustRelationshipsRequest {
                workspace_id: workspace_id.clone(),
                page_size: pages::PAGE_SIZE,
                page_token,
                trusted_issuer_id: self.trusted_issuer.clone(),
            };
            async move {
                let page = client.list_trust_relationships(request).await?.into_inner();
                Ok((page.trust_relationships, page.next_page_token))
            }
        })
        .await?;
        let issuers = trusted_issuers::list(&trusted_issuers::client(session).await?, &workspace_id).await?;
        let urls = issuers.into_iter().map(|issuer| (issuer.id, issuer.issuer_url)).collect();
        show(&relationships, &urls, self.output, output).map_err(Failure::from)
    }
}

fn show(
    relationships: &[TrustRelationship],
    urls: &HashMap<String, String>,
    format: ListFormat,
    output: &mut Output,
) -> std::io::Result<()> {
    let url = |relationship: &TrustRelationship| urls.get(&relationship.trusted_issuer_id).map(String::as_str);
    match format {
        ListFormat::Json => {
            let values: Vec<_> = relationships.iter().map(|one| trust_relationship_json(one, url(one))).collect();
            output.json(&values)
        }
        ListFormat::Table => {
            let rows: Vec<_> = relationships
                .iter()
                .map(|one| {
                    let given = one.grants.iter().map(grant_summary).chain(one.scopes.iter().cloned());
                    [
                        one.id.clone(),
                        url(one).unwrap_or(&one.trusted_issuer_id).to_owned(),
                        one.subject_matches.join(" | "),
                        given.collect::<Vec<_>>().join(" "),
                        if one.enabled { "yes" } else { "no" }.to_owned(),
                    ]
                })
                .collect();
            output.table(["ID", "ISSUER", "SUBJECT", "GIVES", "ENABLED"], &rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_proto::common_v1::Grant;

    use super::*;
    use crate::output::tests::Captured;

    #[test]
    fn a_relationship_is_listed_for_people_and_for_programs() {
        let relationship = TrustRelationship {
            id: "tr_0".to_owned(),
            trusted_issuer_id: "ti_0".to_owned(),
            subject_matches: vec!["org:my-org:vault:*".to_owned()],
            scopes: vec!["deploy".to_owned()],
            grants: vec![Grant {
                resource_type: "vault".to_owned(),
                resource_id: "*".to_owned(),
                actions: vec!["read".to_owned()],
            }],
            enabled: true,
            ..TrustRelationship::default()
        };
        let urls = HashMap::from([("ti_0".to_owned(), "https://cloud.rwx.com/mint".to_owned())]);
        let shown = |format| {
            let captured = Captured::default();
            show(std::slice::from_ref(&relationship), &urls, format, &mut captured.output()).unwrap();
            captured.results()
        };
        let table = shown(ListFormat::Table);
        let row = table.lines().nth(1).unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["tr_0", "https://cloud.rwx.com/mint", "org:my-org:vault:*", "vault/*:read", "deploy", "yes"]
        );
        let json: serde_json::Value = serde_json::from_str(&shown(ListFormat::Json)).unwrap();
        assert_eq!(json[0]["issuer_url"], "https://cloud.rwx.com/mint");
        assert_eq!(json[0]["grants"][0]["actions"][0], "read");
    }
}
