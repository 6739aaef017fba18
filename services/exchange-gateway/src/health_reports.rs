//! Tells trust-service how the keys of trusted issuers fare, so that operators see it there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_domain::trust::issuer_health::{IssuerHealthReport, MAX_REPORTS};
use countersign_domain::values::id::TrustedIssuerId;
use countersign_proto::trust::issuer_health::report_request;
use countersign_proto::trust_v1::issuer_health_service_client::IssuerHealthServiceClient;
use countersign_runtime::client::PeerChannel;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::keys::IssuerKeySets;

/// How often there may be news. Nothing waits for them.
const INTERVAL: Duration = Duration::from_secs(2);
/// For one call.
const LIMIT: Duration = Duration::from_secs(5);

/// Reports until it is dropped. What cannot be told is told later, the newest of each issuer alone.
pub(crate) async fn run(keys: Arc<IssuerKeySets>, trust_service: PeerChannel) {
    let mut client = IssuerHealthServiceClient::new(trust_service);
    let mut untold: HashMap<TrustedIssuerId, IssuerHealthReport> = HashMap::new();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        untold.extend(keys.news().into_iter().map(|report| (report.trusted_issuer_id.clone(), report)));
        while !untold.is_empty() {
            let batch: Vec<IssuerHealthReport> = untold.values().take(MAX_REPORTS).cloned().collect();
            let told = timeout(LIMIT, client.report_issuer_health(report_request(batch.iter().cloned()))).await;
            if !matches!(told, Ok(Ok(_))) {
                tracing::debug!(untold = untold.len(), "the health of issuers cannot be told now");
                break;
            }
            for report in batch {
                untold.remove(&report.trusted_issuer_id);
            }
        }
    }
}
