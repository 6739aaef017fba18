//! `countersign audit-events …`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use countersign_domain::values::time::{Clock as _, Timestamp};
use countersign_proto::common;
use countersign_proto::trust_v1::audit_service_client::AuditServiceClient;
use countersign_proto::trust_v1::{AuditDecision, AuditEvent, ListAuditEventsRequest, Presentation};
use serde_json::{Value, json};

use crate::arguments::Session;
use crate::connection::Service;
use crate::duration;
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditEventsCommand {
    /// List exchanges that were allowed or refused, newest first.
    ///
    /// An allowed exchange is listed as soon as its token is released. A refusal appears about a second later; refusals before the
    /// signature verifies and those beyond a budget are counted and appear within about a minute, as one event per cause.
    /// Example: `countersign audit-events list --decision refused --since 24h`
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only what was allowed, or refused.
    #[arg(long, value_name = "DECISION")]
    decision: Option<Decision>,
    /// Only what this relationship decided or came nearest to, `tr_…`.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    trust_relationship: String,
    /// Only what happened under this request id.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
    /// Only what happened so long ago or later, for example 24h or 7d.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    since: Option<Duration>,
    /// At most so many.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// What belongs to no workspace: refusals before it was clear whose policy would decide. For the operator of the deployment.
    #[arg(long)]
    of_no_workspace: bool,
    /// How to print the list.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Decision {
    Allowed,
    Refused,
}

impl AuditEventsCommand {
    pub(crate) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        match self {
            Self::List(args) => args.run(session, output).await,
        }
    }
}

impl ListArgs {
    async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let workspace_id = if self.of_no_workspace { String::new() } else { session.connection.workspace(&session.clock)? };
        let since = self.since.and_then(|ago| session.clock.now().checked_sub(ago).ok());
        let mut client = AuditServiceClient::new(session.connection.authorized(Service::Trust, &session.clock).await?);
        let mut request = ListAuditEventsRequest {
            workspace_id,
            page_size: 0,
            page_token: String::new(),
            decision: match self.decision {
                None => AuditDecision::Unspecified,
                Some(Decision::Allowed) => AuditDecision::Allowed,
                Some(Decision::Refused) => AuditDecision::Refused,
            }
            .into(),
            trust_relationship_id: self.trust_relationship,
            request_id: self.request_id,
            start_time: since.map(common::timestamp),
        };
        let mut events = Vec::new();
        // A log has no end that is worth waiting for: no more is read than is shown.
        while events.len() < self.limit {
            request.page_size = i32::try_from(self.limit - events.len()).unwrap_or(i32::MAX);
            let page = client.list_audit_events(request.clone()).await?.into_inner();
            events.extend(page.audit_events);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        show(&events, self.output, output).map_err(Failure::from)?;
        if let Some(note) = note(&events, request.decision(), !request.request_id.is_empty(), session.clock.now()) {
            output.message(note);
        }
        Ok(())
    }
}

/// How long a single refusal takes to appear at most: the gateway's interval, a call with its limit, and some.
const DELAY: Duration = Duration::from_secs(10);

/// What to know where the latest refusals can be missing: none is as recent, and the request that was asked for is not there.
fn note(events: &[AuditEvent], decision: AuditDecision, asks_for_request: bool, now: Timestamp) -> Option<&'static str> {
    let is_recent = |event: &AuditEvent| {
        let time = event.time.as_ref().and_then(|time| common::read_timestamp(time).ok());
        event.decision() == AuditDecision::Refused
            && time.is_some_and(|time| now.checked_sub(DELAY).is_ok_and(|before| time >= before))
    };
    let is_complete =
        decision == AuditDecision::Allowed || (asks_for_request && !events.is_empty()) || events.iter().any(is_recent);
    (!is_complete).then_some(
        "Refusals appear some seconds after they happen; counted ones (before the signature verifies, or beyond the budget) within \
         about a minute.",
    )
}

fn show(events: &[AuditEvent], format: ListFormat, output: &mut Output) -> std::io::Result<()> {
    match format {
        ListFormat::Json => output.json(&events.iter().map(event_json).collect::<Vec<_>>()),
        ListFormat::Table => {
            let rows: Vec<_> = events.iter().map(row).collect();
            output.table(["TIME", "DECISION", "SUBJECT", "RELATIONSHIP", "REQUEST", "WHAT"], &rows)
        }
    }
}

fn row(event: &AuditEvent) -> [String; 6] {
    let decision = match (event.decision(), event.count) {
        (AuditDecision::Refused, 1..) => format!("refused {} times", event.count),
        (AuditDecision::Refused, _) => "refused".to_owned(),
        _ => "allowed".to_owned(),
    };
    let what = match &event.minted_token {
        Some(token) => format!("token {} for {}", token.token_id, token.audiences.join(" ")),
        None => format!("{}: {}", event.reason, event.cause),
    };
    let subject = event.presentation.as_ref().map(|presentation| presentation.subject.clone()).unwrap_or_default();
    let time = event.time.as_ref().map(duration::moment_from_wire).unwrap_or_default();
    [time, decision, subject, event.trust_relationship_id.clone(), event.request_id.clone(), what]
}

fn event_json(event: &AuditEvent) -> Value {
    let moment = |time: Option<&prost_types::Timestamp>| time.map(duration::moment_from_wire);
    json!({
        "sequence": event.sequence,
        "time": moment(event.time.as_ref()),
        "workspace_id": event.workspace_id,
        "decision": event.decision().as_str_name().trim_start_matches("AUDIT_DECISION_"),
        "request_id": event.request_id,
        "reason": event.reason,
        "cause": event.cause,
        "trusted_issuer_id": event.trusted_issuer_id,
        "trust_relationship_id": event.trust_relationship_id,
        "policy_revision": event.policy_revision,
        "presentation": event.presentation.as_ref().map(presentation_json),
        "minted_token": event.minted_token.as_ref().map(|token| json!({
            "token_id": token.token_id,
            "audiences": token.audiences,
            "scopes": token.scopes,
            "expire_time": moment(token.expire_time.as_ref()),
        })),
        "count": event.count,
        "first_time": moment(event.first_time.as_ref()),
    })
}

fn presentation_json(presentation: &Presentation) -> Value {
    json!({
        "subject_issuer": presentation.subject_issuer,
        "subject": presentation.subject,
        "subject_token_hash": STANDARD.encode(&presentation.subject_token_hash),
        "subject_token_id": presentation.subject_token_id,
        "subject_key_id": presentation.subject_key_id,
        "claims": presentation.claims.as_ref().and_then(|kept| serde_json::from_str::<Value>(&kept.members_json).ok()),
        "claim_paths": presentation.claims.as_ref().map(|kept| kept.claim_paths.clone()),
        "request": presentation.request.as_ref().map(|request| json!({
            "trust_relationship_id": request.trust_relationship_id,
            "audiences": request.audiences,
            "scopes": request.scopes,
            "duration": request.duration.as_ref().map(duration::from_wire),
        })),
    })
}

#[cfg(test)]
mod tests {
    use countersign_proto::trust_v1::{KeptClaims, MintedToken};

    use super::*;
    use crate::output::tests::Captured;

    fn shown(event: AuditEvent, format: ListFormat) -> String {
        let captured = Captured::default();
        show(&[event], format, &mut captured.output()).unwrap();
        captured.results()
    }

    #[test]
    fn a_list_that_can_lack_the_latest_refusals_says_so() {
        let now: Timestamp = "2027-01-31T18:00:00Z".parse().unwrap();
        let refused = |ago: u64| AuditEvent {
            decision: AuditDecision::Refused.into(),
            time: Some(common::timestamp(now.checked_sub(Duration::from_secs(ago)).unwrap())),
            ..AuditEvent::default()
        };
        let has_note = |events: &[AuditEvent], decision, asks| note(events, decision, asks, now).is_some();
        assert!(has_note(&[], AuditDecision::Unspecified, false));
        assert!(has_note(&[refused(60)], AuditDecision::Refused, false));
        assert!(has_note(&[], AuditDecision::Refused, true));
        assert!(!has_note(&[refused(60)], AuditDecision::Refused, true), "the one that was asked for");
        assert!(!has_note(&[refused(60), refused(2)], AuditDecision::Refused, false));
        assert!(!has_note(&[], AuditDecision::Allowed, false), "an exchange is listed before its token is released");
    }

    #[test]
    fn an_event_says_who_got_what_or_why_not() {
        let refused = AuditEvent {
            decision: AuditDecision::Refused.into(),
            request_id: "req-1".to_owned(),
            reason: "SUBJECT_NOT_TRUSTED".to_owned(),
            cause: "the CEL condition is false".to_owned(),
            trust_relationship_id: "tr_0".to_owned(),
            presentation: Some(Presentation {
                subject: "repo:a/b".to_owned(),
                subject_token_hash: vec![0x0a, 0xff].into(),
                claims: Some(KeptClaims { members_json: r#"{"ref":"dev"}"#.to_owned(), claim_paths: vec!["ref".to_owned()] }),
                ..Presentation::default()
            }),
            ..AuditEvent::default()
        };
        let table = shown(refused.clone(), ListFormat::Table);
        let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..6], ["-", "refused", "repo:a/b", "tr_0", "req-1", "SUBJECT_NOT_TRUSTED:"]);
        let json: Value = serde_json::from_str(&shown(refused, ListFormat::Json)).unwrap();
        assert_eq!(json[0]["presentation"]["claims"]["ref"], "dev");
        assert_eq!(json[0]["presentation"]["subject_token_hash"], "Cv8=");

        let several = AuditEvent { decision: AuditDecision::Refused.into(), count: 12, ..AuditEvent::default() };
        assert!(shown(several, ListFormat::Table).contains("refused 12 times"));
        let token = MintedToken { token_id: "at-1".to_owned(), audiences: vec!["api".to_owned()], ..MintedToken::default() };
        let allowed = AuditEvent { decision: AuditDecision::Allowed.into(), minted_token: Some(token), ..AuditEvent::default() };
        assert!(shown(allowed, ListFormat::Table).contains("token at-1 for api"));
    }
}
