//! `countersign health`, for container health checks where there is no curl.

use std::time::Duration;

use clap::Args;
use countersign_runtime::disclosure;

use crate::failure::{Failure, Result};
use crate::http_client;
use crate::output::Output;

/// How long a service may take to say whether it is ready.
const LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// The URL of a private port, plain http, for example <http://127.0.0.1:7411/readyz>.
    #[arg(value_name = "URL")]
    url: String,
}

impl HealthArgs {
    pub(crate) async fn run(self, output: &mut Output) -> Result<()> {
        let answer = http_client::get(&self.url, LIMIT).await.map_err(|error| Failure::Failed(error.into()))?;
        if answer.status.is_success() {
            output.message(format!("{} answers {}", disclosure::url(&self.url), answer.status));
            return Ok(());
        }
        // A service says in the body what keeps it from being ready.
        let body = String::from_utf8_lossy(&answer.body);
        let reason: String = body.split_whitespace().take(40).flat_map(|word| [" ", word]).collect();
        Err(Failure::Failed(anyhow::anyhow!("{} answers {}{reason}", disclosure::url(&self.url), answer.status)))
    }
}
