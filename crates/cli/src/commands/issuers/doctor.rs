//! `countersign issuers doctor`.

use clap::Args;
use countersign_discovery::Inspector;
use countersign_domain::relying_party::{self, Diagnosis, Document, RelyingParty, SeenIssuer};
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::output::{Output, TreeFormat};

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The issuer, exactly as it stands in `iss`.
    #[arg(value_name = "URL")]
    url: String,
    /// Fail only for this relying party. Repeat for several [default: all].
    #[arg(long = "for", value_name = "WHO", value_parser = parse_party)]
    parties: Vec<RelyingParty>,
    /// How to print what is found.
    #[arg(short, long, value_name = "FORMAT", default_value = "tree")]
    output: TreeFormat,
}

/// Reads the name of a relying party.
pub(crate) fn parse_party(text: &str) -> std::result::Result<RelyingParty, String> {
    let names = || RelyingParty::ALL.map(RelyingParty::as_str).join(", ");
    RelyingParty::ALL.into_iter().find(|party| party.as_str() == text).ok_or_else(|| format!("must be one of {}", names()))
}

impl DoctorArgs {
    pub(super) async fn run(self, output: &mut Output) -> Result<()> {
        let inspector = Inspector::new().map_err(|error| Failure::while_doing(error, "cannot look at issuers"))?;
        let seen = inspector.inspect(&self.url).await;
        let diagnosis = relying_party::examine(&seen);
        let parties = if self.parties.is_empty() { RelyingParty::ALL.to_vec() } else { self.parties };
        match self.output {
            TreeFormat::Json => output.json(&diagnosis_json(&seen, &diagnosis, &parties))?,
            TreeFormat::Tree => lines(&seen, &diagnosis, &parties).iter().try_for_each(|line| output.line(line))?,
        }
        if parties.iter().all(|party| diagnosis.is_accepted_by(*party)) { Ok(()) } else { Err(Failure::Exit(2)) }
    }
}

fn lines(seen: &SeenIssuer, diagnosis: &Diagnosis, parties: &[RelyingParty]) -> Vec<String> {
    let mut lines = vec![format!("{} as seen from here:", seen.issuer_url)];
    let document = |name: &str, document: &std::result::Result<Document, String>| match document {
        Ok(document) => format!(
            "  {name}: status {}, {} bytes, {} ms, {}, {}",
            document.status,
            document.bytes,
            document.elapsed.as_millis(),
            document.cache_control.as_deref().unwrap_or("no Cache-Control"),
            if document.has_etag { "ETag" } else { "no ETag" },
        ),
        Err(why) => format!("  {name}: {why}"),
    };
    lines.push(document("discovery document", &seen.discovery));
    if let Some(key_set) = &seen.key_set {
        lines.push(document("key set", key_set));
        let algorithms: Vec<String> = diagnosis.algorithms.iter().map(ToString::to_string).collect();
        lines.push(format!("  algorithms: {}", algorithms.join(", ")));
    }
    lines.push(String::new());
    for party in parties {
        let verdict = if diagnosis.is_accepted_by(*party) { "ok  " } else { "FAIL" };
        lines.push(format!("{verdict} {party}"));
    }
    for finding in &diagnosis.findings {
        let who: Vec<String> = finding.refused_by.iter().map(ToString::to_string).collect();
        let who = match who.as_slice() {
            [] => "advice".to_owned(),
            all if all.len() == RelyingParty::ALL.len() => "refused by all".to_owned(),
            some => format!("refused by {}", some.join(", ")),
        };
        lines.push(String::new());
        lines.push(format!("{}, {who}:", finding.what));
        lines.push(format!("  {}", finding.detail));
    }
    lines
}

fn diagnosis_json(seen: &SeenIssuer, diagnosis: &Diagnosis, parties: &[RelyingParty]) -> Value {
    let document = |document: &std::result::Result<Document, String>| match document {
        Ok(document) => json!({
            "status": document.status,
            "content_type": document.content_type,
            "cache_control": document.cache_control,
            "etag": document.has_etag,
            "bytes": document.bytes,
            "milliseconds": document.elapsed.as_millis(),
        }),
        Err(why) => json!({ "error": why }),
    };
    json!({
        "issuer": seen.issuer_url,
        "public": seen.is_public,
        "discovery_document": document(&seen.discovery),
        "key_set": seen.key_set.as_ref().map(document),
        "algorithms": diagnosis.algorithms,
        "accepted_by": parties.iter().map(|party| (party.as_str(), diagnosis.is_accepted_by(*party))).collect::<std::collections::BTreeMap<_, _>>(),
        "findings": diagnosis.findings.iter().map(|finding| json!({
            "what": finding.what,
            "refused_by": finding.refused_by.iter().map(|party| party.as_str()).collect::<Vec<_>>(),
            "detail": finding.detail,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_party_has_a_verdict_and_every_finding_says_who_refuses() {
        let seen = SeenIssuer {
            issuer_url: "https://id.example.com".to_owned(),
            is_public: false,
            discovery: Err("no connection within 2 s".to_owned()),
            key_set: None,
        };
        let diagnosis = relying_party::examine(&seen);
        let lines = lines(&seen, &diagnosis, &[RelyingParty::Vault]);
        assert!(lines.contains(&"FAIL Vault".to_owned()) && !lines.iter().any(|line| line.starts_with("FAIL AWS")), "{lines:?}");
        assert!(lines.contains(&"discovery document, refused by all:".to_owned()), "{lines:?}");
        assert!(lines.contains(&"issuer URL, refused by AWS, Google Cloud, Azure:".to_owned()), "{lines:?}");
        let json = diagnosis_json(&seen, &diagnosis, &RelyingParty::ALL);
        assert_eq!(
            (&json["accepted_by"]["aws"], &json["discovery_document"]["error"]),
            (&json!(false), &json!("no connection within 2 s"))
        );
        assert!(parse_party("aws").is_ok() && parse_party("AWS").is_err());
    }
}
