//! `main` of a service.
//!
//! ```no_run
//! # use countersign_runtime::config::{Problems, Settings, Telemetry};
//! # use countersign_runtime::process::{self, Program};
//! # use countersign_runtime::server::Server;
//! # #[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
//! # struct MySettings { telemetry: Telemetry }
//! # impl Settings for MySettings {
//! #     fn telemetry(&self) -> &Telemetry { &self.telemetry }
//! #     fn check(&self, _: &mut Problems) {}
//! # }
//! fn main() -> std::process::ExitCode {
//!     let program = Program { name: "issuer-service", version: env!("CARGO_PKG_VERSION") };
//!     process::run(program, async |settings: MySettings, shutdown| {
//!         // Build the dependencies from the settings, bind the listeners, start.
//!         # let (listeners, _) = countersign_runtime::transport::Listeners::in_process();
//!         Server::new("issuer-service").start(listeners, shutdown)
//!     })
//! }
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Arg, ArgAction, Command, value_parser};

use crate::command_line;
use crate::config::{self, Settings};
use crate::disclosure::Concealed;
use crate::open_files;
use crate::server::Running;
use crate::shutdown::Shutdown;
use crate::telemetry;

/// What is being run.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The binary's name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// Runs a service: arguments (`--config`, `--print-config`, `--version`), settings, telemetry, `start`, then serves until
/// SIGTERM, SIGINT or SIGHUP and drains.
pub fn run<S, F>(program: Program, start: F) -> ExitCode
where
    S: Settings,
    F: AsyncFnOnce(S, Shutdown) -> anyhow::Result<Running>,
{
    let mut concealed = Concealed::default();
    match run_to_end(program, start, &mut concealed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = format!("{}: {error:#}", program.name);
            tell(std::io::stderr(), &concealed.remove_from(&message));
            ExitCode::FAILURE
        }
    }
}

fn run_to_end<S, F>(program: Program, start: F, concealed: &mut Concealed) -> anyhow::Result<()>
where
    S: Settings,
    F: AsyncFnOnce(S, Shutdown) -> anyhow::Result<Running>,
{
    let arguments = command_line::matches(command(program));
    let file = arguments.get_one::<PathBuf>("config");
    let settings: S = config::load(file.map(PathBuf::as_path), concealed)?;
    if arguments.get_flag("print-config") {
        tell(std::io::stdout(), config::masked(&settings)?.trim_end());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        // Dropped last, on every way out, so that the drain is in the traces too.
        let _telemetry = telemetry::init(program.name, settings.telemetry())?;
        open_files::raise_limit();
        let shutdown = Shutdown::new();
        shutdown.on_signals().context("cannot listen for signals")?;
        match unless_stopped(start(settings, shutdown.clone()), &shutdown).await? {
            Some(running) => running.wait().await,
            None => Ok(()),
        }
    })
}

/// What comes of starting, or `None` when the signal to stop comes first: a service may wait long for its database.
async fn unless_stopped<T>(starting: impl Future<Output = anyhow::Result<T>>, shutdown: &Shutdown) -> anyhow::Result<Option<T>> {
    tokio::select! {
        started = starting => started.map(Some),
        () = shutdown.requested() => Ok(None),
    }
}

fn command(Program { name, version }: Program) -> Command {
    Command::new(name)
        .version(version)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The configuration file [default: the file that COUNTERSIGN_CONFIG names, or none]"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Prints the settings in effect, secrets masked, and exits"),
        )
}

/// Writes a line where nobody may be listening any more.
fn tell(mut to: impl std::io::Write, line: &str) {
    let _ = writeln!(to, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_waits_to_start_can_be_stopped() {
        let shutdown = Shutdown::new();
        shutdown.trigger();
        let started = unless_stopped(std::future::pending::<anyhow::Result<()>>(), &shutdown).await;
        assert!(matches!(started, Ok(None)));
    }

    #[tokio::test]
    async fn what_comes_of_starting_is_kept() {
        let shutdown = Shutdown::new();
        assert!(matches!(unless_stopped(async { Ok(7) }, &shutdown).await, Ok(Some(7))));
        assert!(unless_stopped(async { anyhow::Result::<()>::Err(anyhow::anyhow!("no")) }, &shutdown).await.is_err());
    }
}
