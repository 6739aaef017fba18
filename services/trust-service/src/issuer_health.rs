//! How the keys of trusted issuers fare: `countersign.trust.v1.IssuerHealthService`, and checks on demand.

use std::sync::Arc;
use std::time::Duration;

use countersign_discovery::{Discovery, Examination, KeyOrigin, NotExamined, held_keys};
use countersign_domain::access::caller::Caller;
use countersign_domain::trust::issuer_health::{HeldKeys, IssuerHealth, IssuerHealthReport, IssuerProblem};
use countersign_domain::trust::trusted_issuer::TrustedIssuer;
use countersign_domain::values::reason::Reason;
use countersign_jose::{DescribedKey, KeySet};
use countersign_proto::common::duration;
use countersign_proto::status::Refusal;
use countersign_proto::trust::issuer_health::read_report_request;
use countersign_proto::trust_v1 as wire;
use countersign_proto::trust_v1::issuer_health_service_server::{IssuerHealthService, IssuerHealthServiceServer};
use tonic::{Request, Response, Status};

use crate::context::Context;
use crate::refusals;

/// The service, for gateways.
pub(crate) struct IssuerHealthReports(Arc<Context>);

/// The generated server of the service.
pub(crate) fn server(context: Arc<Context>) -> IssuerHealthServiceServer<IssuerHealthReports> {
    IssuerHealthServiceServer::new(IssuerHealthReports(context))
}

#[tonic::async_trait]
impl IssuerHealthService for IssuerHealthReports {
    async fn report_issuer_health(
        &self,
        request: Request<wire::ReportIssuerHealthRequest>,
    ) -> Result<Response<wire::ReportIssuerHealthResponse>, Status> {
        let reports = read_report_request(request.get_ref()).map_err(Refusal::invalid)?;
        self.0.store.record_issuer_health(&reports).await.map_err(refusals::store)?;
        Ok(Response::new(wire::ReportIssuerHealthResponse {}))
    }
}

/// What a check saw.
struct Seen {
    health: IssuerHealth,
    jwks_uri: String,
    keys: Vec<wire::CheckedKey>,
    fresh_for: Option<Duration>,
    elapsed: Option<Duration>,
}

/// Reads the keys of a trusted issuer now, records how that went, and reports it as far as the caller can be told.
pub(crate) async fn check(
    context: &Context,
    issuer: &TrustedIssuer,
    caller: &Caller,
) -> Result<wire::CheckTrustedIssuerResponse, Refusal> {
    let origin = KeyOrigin::of(issuer).map_err(|error| {
        tracing::error!(trusted_issuer_id = %issuer.id, error = &error as &dyn std::error::Error, "stored keys cannot be used");
        Refusal::internal()
    })?;
    let seen = match &origin {
        KeyOrigin::Uploaded { key_set, not_after } => {
            let now = context.now();
            let problem = (now >= *not_after).then_some(IssuerProblem::UploadedKeysExpired);
            let health = IssuerHealth {
                attempted_at: now,
                succeeded_at: Some(now),
                problem,
                is_internal: false,
                keys: held_keys(key_set),
            };
            Seen { health, jwks_uri: String::new(), keys: described(key_set), fresh_for: None, elapsed: Some(Duration::ZERO) }
        }
        KeyOrigin::Fetched(source) => {
            let examination = context.discovery.examine(source).await.map_err(refusal)?;
            let Examination { key_set_url, keys, is_internal, began, elapsed } = examination;
            let jwks_uri = key_set_url.map(String::from).unwrap_or_default();
            let is_hidden = is_hidden(caller, keys.as_ref().err(), is_internal);
            if is_hidden {
                // Neither what an internal host does nor how soon it does it can be told from an address that is never dialled.
                tokio::time::sleep_until(began + Discovery::EXAMINATION_LIMIT).await;
            }
            let (jwks_uri, elapsed) = if is_hidden { (String::new(), None) } else { (jwks_uri, Some(elapsed)) };
            let now = context.now();
            match keys {
                Ok((key_set, fresh_for)) => {
                    let keys = held_keys(&key_set);
                    let health =
                        IssuerHealth { attempted_at: now, succeeded_at: Some(now), problem: None, is_internal: false, keys };
                    Seen { health, jwks_uri, keys: described(&key_set), fresh_for: Some(fresh_for), elapsed }
                }
                Err(problem) => {
                    let before = context.store.issuer_health(&issuer.workspace_id, &issuer.id).await.map_err(refusals::store)?;
                    // What gateways hold does not change by this.
                    let (succeeded_at, keys) =
                        before.map_or((None, HeldKeys::default()), |health| (health.succeeded_at, health.keys));
                    let health = IssuerHealth { attempted_at: now, succeeded_at, problem: Some(problem), is_internal, keys };
                    Seen { health, jwks_uri, keys: Vec::new(), fresh_for: None, elapsed }
                }
            }
        }
    };
    let report = IssuerHealthReport {
        workspace_id: issuer.workspace_id.clone(),
        trusted_issuer_id: issuer.id.clone(),
        revision: issuer.revision,
        health: seen.health,
    };
    context.store.record_issuer_health(std::slice::from_ref(&report)).await.map_err(refusals::store)?;
    Ok(wire::CheckTrustedIssuerResponse {
        trusted_issuer: Some(with_health(issuer, Some(&report.health), caller)),
        jwks_uri: seen.jwks_uri,
        keys: seen.keys,
        fresh_for: seen.fresh_for.map(duration),
        elapsed: seen.elapsed.map(duration),
    })
}

/// Whether a failure is one that the caller is not told of (SECURITY 42).
fn is_hidden(caller: &Caller, problem: Option<&IssuerProblem>, is_internal: bool) -> bool {
    let hides = |problem: &IssuerProblem| problem.for_administrators(is_internal) == IssuerProblem::HostRefused;
    !caller.is_operator() && problem.is_some_and(hides)
}

/// A trusted issuer for the wire, with its health as the caller can be told it.
pub(crate) fn with_health(issuer: &TrustedIssuer, health: Option<&IssuerHealth>, caller: &Caller) -> wire::TrustedIssuer {
    let shown = |health: &IssuerHealth| {
        if caller.is_operator() { health.into() } else { wire::TrustedIssuerHealth::from(&health.for_administrators()) }
    };
    wire::TrustedIssuer { health: health.map(shown), ..issuer.into() }
}

fn described(key_set: &KeySet) -> Vec<wire::CheckedKey> {
    let ambiguous = key_set.ambiguous_key_ids();
    let describe = |key: &DescribedKey| {
        let is_ambiguous = key.key_id.as_ref().is_some_and(|key_id| ambiguous.contains(key_id));
        let problem = match key.problem {
            Some(_) => key.detail.clone(),
            None if is_ambiguous => "another key has this id, so neither is used".to_owned(),
            None => String::new(),
        };
        let algorithms = if is_ambiguous { &[][..] } else { key.algorithms.as_slice() };
        wire::CheckedKey {
            key_id: key.key_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            algorithms: algorithms.iter().map(ToString::to_string).collect(),
            problem,
            notes: key.notes.iter().map(ToString::to_string).collect(),
        }
    };
    key_set.describe().iter().map(describe).collect()
}

fn refusal(error: NotExamined) -> Refusal {
    match error {
        NotExamined::TooSoon { after } => {
            Refusal::new(Reason::RateLimited, "this issuer was checked a moment ago").with_retry(after)
        }
        NotExamined::NoRoom => Refusal::unavailable("too many issuers are being asked at the moment"),
    }
}
