//! `countersign issuers doctor`.

use clap::Args;
use countersign_discovery::Inspector;
use countersign_domain::issuing::relying_party::{self, Diagnosis, Document, RelyingParty, SeenIssuer};
use countersign_runtime::disclosure::SecretShape;
use serde_json::{Value, json};
use url::Url;

use crate::arguments::Session;
use crate::failure::{Failure, Result};
use crate::output::{Output, TreeFormat, printable};

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
    pub(super) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let is_issuer = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        if !Url::parse(&self.url).is_ok_and(|url| is_issuer(&url)) || SecretShape::of(&self.url).is_some() {
            return Err(Failure::usage(
                "<URL> must be the `iss` of an issuer without credentials, such as https://id.example.com",
            ));
        }
        let authorities = session.connection.authorities()?;
        let inspector = Inspector::new(authorities).map_err(|error| Failure::while_doing(error, "cannot inspect issuers"))?;
        let seen = inspector.inspect(&self.url).await;
        let diagnosis = relying_party::examine(&seen);
        // Unless some are named, our own verifier counts too.
        let is_ours = self.parties.is_empty();
        let parties = if is_ours { RelyingParty::ALL.to_vec() } else { self.parties };
        match self.output {
            TreeFormat::Json => output.json(&diagnosis_json(&seen, &diagnosis, &parties))?,
            TreeFormat::Tree => lines(&seen, &diagnosis, &parties).iter().try_for_each(|line| output.line(line))?,
        }
        let accepted =
            parties.iter().all(|party| diagnosis.is_accepted_by(*party)) && (!is_ours || diagnosis.is_accepted_by_us());
        if accepted { Ok(()) } else { Err(Failure::Exit(2)) }
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
    let verdict = |is_accepted| if is_accepted { "ok  " } else { "FAIL" };
    for party in parties {
        lines.push(format!("{} {party}", verdict(diagnosis.is_accepted_by(*party))));
    }
    lines.push(format!("{} Countersign, as a trusted issuer", verdict(diagnosis.is_accepted_by_us())));
    for finding in &diagnosis.findings {
        let ours = finding.refused_by_us.then(|| "Countersign".to_owned());
        let who: Vec<String> = finding.refused_by.iter().map(ToString::to_string).chain(ours).collect();
        let who = match who.as_slice() {
            [] => "advice".to_owned(),
            all if all.len() > RelyingParty::ALL.len() => "refused by all".to_owned(),
            some => format!("refused by {}", some.join(", ")),
        };
        lines.push(String::new());
        lines.push(format!("{}, {who}:", finding.what));
        // Parts of the documents stand in it.
        lines.push(format!("  {}", printable(&finding.detail)));
    }
    lines.push(String::new());
    lines.push("Not checked:".to_owned());
    lines.extend(diagnosis.not_checked.iter().map(|what| format!("  - {what}")));
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
        "accepted_here": diagnosis.is_accepted_by_us(),
        "not_checked": diagnosis.not_checked,
        "accepted_by": parties.iter().map(|party| (party.as_str(), diagnosis.is_accepted_by(*party))).collect::<std::collections::BTreeMap<_, _>>(),
        "findings": diagnosis.findings.iter().map(|finding| json!({
            "what": finding.what,
            "refused_by": finding.refused_by.iter().map(|party| party.as_str()).collect::<Vec<_>>(),
            "refused_here": finding.refused_by_us,
            "detail": finding.detail,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use countersign_domain::issuing::relying_party::OwnVerdict;

    use super::*;

    #[test]
    fn every_party_has_a_verdict_and_every_finding_says_who_refuses() {
        let seen = SeenIssuer {
            issuer_url: "https://id.example.com".to_owned(),
            is_public: false,
            discovery: Err("no connection within 2 s".to_owned()),
            key_set: None,
            verdict: OwnVerdict::default(),
            has_private_authority: false,
        };
        let diagnosis = relying_party::examine(&seen);
        let lines = lines(&seen, &diagnosis, &[RelyingParty::Vault]);
        assert!(lines.contains(&"FAIL Vault".to_owned()) && !lines.iter().any(|line| line.starts_with("FAIL AWS")), "{lines:?}");
        assert!(lines.contains(&"discovery document, refused by all:".to_owned()), "{lines:?}");
        assert!(lines.contains(&"issuer URL, refused by AWS, Google Cloud, Azure:".to_owned()), "{lines:?}");
        assert!(lines.contains(&"FAIL Countersign, as a trusted issuer".to_owned()), "{lines:?}");
        assert!(lines.contains(&"Not checked:".to_owned()), "{lines:?}");
        let json = diagnosis_json(&seen, &diagnosis, &RelyingParty::ALL);
        assert_eq!(
            (&json["accepted_by"]["aws"], &json["discovery_document"]["error"]),
            (&json!(false), &json!("no connection within 2 s"))
        );
        assert!(parse_party("aws").is_ok() && parse_party("AWS").is_err());
    }
}
