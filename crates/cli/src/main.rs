//! `countersign`: the commands of operators and workloads, and `countersign dev`, the whole system in one process.
//!
//! Start at [`arguments`] for the commands there are, at [`connection`] for how they find the services and as whom they call, and
//! at [`dev`] for the composition of the three services. Only this crate prints, and only through [`output`].

mod arguments;
mod certificates;
mod commands;
mod connection;
mod context;
mod deployment_secrets;
mod dev;
mod duration;
mod failure;
mod http_client;
mod output;
mod private_file;
mod resources;
mod run_attributes;
mod secret;
mod service_files;
mod stored_token;
mod token_claims;

use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::arguments::Arguments;
use crate::output::Output;

fn main() -> ExitCode {
    let matches = arguments::command().get_matches();
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let mut output = Output::of_process();
    match arguments.run(&mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&mut output),
    }
}
