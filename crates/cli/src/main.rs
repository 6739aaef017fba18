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
mod given;
mod http_client;
mod output;
mod private_file;
mod resources;
mod run_attributes;
mod secret;
mod service_files;
mod stored_token;
mod text_file;
mod token_claims;

use std::process::ExitCode;

use crate::output::Output;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    let mut output = Output::of_process();
    let arguments = match arguments::read(std::env::args_os(), &mut output) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    match arguments.run(&mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&mut output),
    }
}

/// Says where a panic happened, and its message when that is a literal: one made of values can contain a token.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("the message is not shown");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    Output::of_process().message(format!("error: panicked at {location}: {message}; this is a fault in countersign"));
}
