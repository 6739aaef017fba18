//! `countersign dev`: the three services in one process, and one exchange through them.
//!
//! [`composition`] puts the services together through the same `start` functions that their own binaries call; [`demo`] makes
//! what the exchange needs, through the API; [`exchange`] performs it over the real ports; [`report`] tells about it, and [`commands`] how to
//! repeat it. [`state`] is the folder in which all of it is kept.

mod commands;
mod composition;
mod demo;
mod exchange;
mod report;
mod sockets;
mod state;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use countersign_runtime::config::{Problems, Telemetry};
use countersign_runtime::shutdown::Shutdown;
use countersign_runtime::telemetry;

use self::commands::Commands;
use self::composition::Deployment;
use self::demo::Demo;
use self::sockets::Sockets;
use self::state::State;
use crate::connection::{FolderArgs, Service};
use crate::context::{Context, FILE_NAME};
use crate::failure::{Failure, Result};
use crate::output::Output;

/// Everything it needs is made in the state directory on the first start: secrets, databases, a demo workspace. A restart finds
/// it again. Nothing is stored anywhere else but, without --state-dir, a context file in your configuration folder, so that the
/// other commands find this deployment without any flag; a context file of your own is left alone.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Where secrets, databases and the context file are kept [default: countersign/dev in the user's state folder].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// End after the exchange instead of serving: status 0, or 1 when a step failed.
    #[arg(long)]
    exit: bool,
    /// Where issuer-service listens. Port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7401")]
    issuer_listen: SocketAddr,
    /// Where trust-service listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7402")]
    trust_listen: SocketAddr,
    /// Where exchange-gateway listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7403")]
    gateway_listen: SocketAddr,
    /// Which logs to write to standard error, in the syntax of `tracing` filters.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log_filter: String,
}

pub(crate) async fn run(args: DevArgs, folders: &FolderArgs, output: &mut Output) -> Result<()> {
    let begun = Instant::now();
    let default_folder = folders.state()?.join("dev");
    // Printed commands name the folder, so it must mean the same everywhere.
    let folder = std::path::absolute(args.state_dir.as_ref().unwrap_or(&default_folder))?;
    let state = State::open(&folder)?;
    let sockets = Sockets::bind([args.issuer_listen, args.trust_listen, args.gateway_listen]).await?;
    let telemetry = Telemetry { log_filter: args.log_filter.clone(), ..Telemetry::default() };
    let mut problems = Problems::default();
    telemetry.check("telemetry", &mut problems);
    if let Some(problem) = problems.iter().next() {
        return Err(Failure::usage(format!("--log-filter {}", problem.description)));
    }
    let _telemetry = telemetry::init("countersign-dev", &telemetry).map_err(|error| Failure::usage(format!("{error:#}")))?;
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let deployment = Box::pin(composition::start(&state, sockets, &shutdown)).await?;
    let context = Contexts { folders, is_default_folder: args.state_dir.is_none() };

    let told = tell(&state, &deployment, &context, begun, output).await;
    let told = match told {
        // Whoever changed the demo on purpose needs the services more than the demonstration.
        Err(failure) if !args.exit && !shutdown.is_requested() => {
            failure.report(output);
            output.message(format!("The demonstration failed; the services go on. To start over, remove {}.", folder.display()));
            Err(failure)
        }
        other => other,
    };
    if args.exit {
        shutdown.trigger();
    } else {
        output.message("Serving until Ctrl-C.");
    }
    deployment.wait().await.map_err(|error| Failure::while_doing(error, "a service failed"))?;
    told
}

/// Seeds, exchanges, and tells about it.
async fn tell(
    state: &State,
    deployment: &Deployment,
    contexts: &Contexts<'_>,
    begun: Instant,
    output: &mut Output,
) -> Result<()> {
    report::services(deployment, &state.folder, output)?;
    let demo = demo::seed(deployment, &state.bootstrap_token()?).await?;
    report::demo(&demo, output)?;
    let context = contexts.write(state, deployment, &demo)?;
    exchange::perform(deployment, &state.bootstrap_token()?, &demo, output).await?;
    output.line(format!("\nAll of it within {} ms of the start.", begun.elapsed().as_millis()))?;
    let commands = Commands { deployment, demo: &demo, context: context.as_deref(), binary: &std::env::current_exe()? };
    output.raw(&commands.to_string()).map_err(Failure::from)
}

/// Which context files to write.
struct Contexts<'a> {
    folders: &'a FolderArgs,
    is_default_folder: bool,
}

impl Contexts<'_> {
    /// Writes the context of this deployment. Returns the file that commands have to name; `None` when they find it by
    /// themselves.
    fn write(&self, state: &State, deployment: &Deployment, demo: &Demo) -> Result<Option<PathBuf>> {
        let context = Context {
            issuer_address: Some(deployment.url(Service::Issuer).to_owned()),
            trust_address: Some(deployment.url(Service::Trust).to_owned()),
            gateway_address: Some(deployment.url(Service::Gateway).to_owned()),
            credential_file: Some(state.secrets.bootstrap_token.clone()),
            workspace: Some(demo.workspace_id.clone()),
            issuer_id: Some(demo.issuer_id.clone()),
            ..Context::default()
        }
        .made_by_dev();
        let own = state.folder.join(FILE_NAME);
        context.write(&own)?;
        if !self.is_default_folder {
            return Ok(Some(own));
        }
        let found_by_default = self.folders.configuration()?.join(FILE_NAME);
        // One that cannot be read is somebody else's.
        let is_replaceable = match Context::read(&found_by_default) {
            Ok(found) => found.is_none_or(|found| found.is_devs()),
            Err(_) => false,
        };
        if !is_replaceable {
            return Ok(Some(own));
        }
        context.write(&found_by_default)?;
        Ok(None)
    }
}
