//! Errors of the command line, without the values that stand on it (SECURITY 81).
//!
//! clap repeats what it does not understand, and shows the values of environment variables in its help. Here flags and subcommands
//! are named, and values never are.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, Error};

use crate::disclosure::{Concealed, SecretShape, is_plain_word};

/// What stands in place of a value.
const HIDDEN: &str = "…";

/// Reads the process's own command line, and ends the process with a message when it is wrong.
pub fn matches(command: Command) -> ArgMatches {
    let command = without_values_in_help(command);
    command.clone().try_get_matches().unwrap_or_else(|error| without_values(error, &command).exit())
}

/// The command with help that shows the names of environment variables and not their values.
#[must_use]
pub fn without_values_in_help(command: Command) -> Command {
    // clap has none of `--help` and `--version` yet when this runs, and they have no variables.
    command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(without_values_in_help)
}

/// The same error without any value from the command line or the environment. Help and version are left as they are.
#[must_use]
pub fn without_values(error: Error, command: &Command) -> Error {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return error,
        ErrorKind::ValueValidation => return Error::raw(ErrorKind::ValueValidation, validation(&error)).with_cmd(command),
        _ => {}
    }
    let mut shown = Error::new(error.kind()).with_cmd(command);
    let typed = typed(&error);
    // A typed flag or subcommand is repeated while it is a word; what is typed in another place never is.
    let shows_typed = typed.as_deref().is_none_or(|typed| is_plain_word(typed) && SecretShape::of(typed).is_none());
    for (kind, value) in error.context() {
        let value = match kind {
            ContextKind::InvalidValue if *value == ContextValue::String(String::new()) => value.clone(),
            ContextKind::InvalidValue => ContextValue::String(HIDDEN.to_owned()),
            ContextKind::InvalidArg | ContextKind::InvalidSubcommand if !shows_typed => ContextValue::String(HIDDEN.to_owned()),
            // Tips repeat what was typed: "to pass '…' as a value, use '-- …'".
            ContextKind::Suggested => continue,
            _ => value.clone(),
        };
        shown.insert(kind, value);
    }
    shown
}

/// The flag or subcommand that was typed and does not exist.
fn typed(error: &Error) -> Option<String> {
    let kind = match error.kind() {
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        _ => return None,
    };
    match error.get(kind) {
        Some(ContextValue::String(typed)) => Some(typed.clone()),
        _ => Some(String::new()),
    }
}

/// A value that its parser refused: which flag it is of, and what the parser says, unless that repeats the value.
fn validation(error: &Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (argument, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let mut concealed = Concealed::default();
    concealed.add(value);
    let cause =
        std::error::Error::source(error).map(ToString::to_string).filter(|cause| value.is_empty() || !cause.contains(value));
    let cause = cause.map(|cause| format!(": {}", concealed.remove_from(&cause))).unwrap_or_default();
    format!("invalid value for '{argument}'{cause}\n\nFor more information, try '--help'.\n")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use clap::{Arg, ArgAction, value_parser};

    use super::*;

    const SECRET: &str = "q1Z8v0x5m3Jt7b2Kc9Rf4Ws6Yd1Gh8Lp0Nq5Tv2Xz3B=";

    fn command() -> Command {
        let duration = |text: &str| if text == "1h" { Ok(1) } else { Err(format!("`{text}` is not a duration; write 15m")) };
        let command = Command::new("program")
            .arg(Arg::new("config").long("config").value_name("FILE"))
            .arg(Arg::new("listen").long("listen").value_parser(value_parser!(SocketAddr)))
            .arg(Arg::new("duration").long("duration").value_parser(duration))
            .arg(Arg::new("format").long("format").value_parser(["text", "json"]).conflicts_with("config"))
            .arg(Arg::new("flag").long("flag").action(ArgAction::SetTrue))
            .subcommand(Command::new("issue").arg(Arg::new("to").long("to").required(true)));
        without_values_in_help(command)
    }

    fn refused(line: &[&str]) -> String {
        let error = command().try_get_matches_from(["program"].into_iter().chain(line.iter().copied())).unwrap_err();
        let (kind, code) = (error.kind(), error.exit_code());
        let shown = without_values(error, &command());
        assert_eq!((shown.kind(), shown.exit_code()), (kind, code));
        shown.to_string()
    }

    #[test]
    fn s81_no_error_of_the_command_line_repeats_a_value() {
        let joined = |flag: &str| format!("--{flag}={SECRET}");
        let cases: Vec<Vec<String>> = vec![
            vec![SECRET.to_owned()],
            vec!["issue".to_owned(), SECRET.to_owned()],
            vec!["issue".to_owned(), "--to".to_owned(), "x".to_owned(), SECRET.to_owned()],
            vec![format!("--{SECRET}")],
            vec![format!("-{SECRET}")],
            vec![format!("--{SECRET}={SECRET}")],
            vec![joined("listen")],
            vec![joined("duration")],
            vec![joined("format")],
            vec![joined("flag")],
            vec![joined("confg")],
            vec!["--config".to_owned(), SECRET.to_owned(), "--config".to_owned(), SECRET.to_owned()],
            vec!["--config".to_owned(), SECRET.to_owned(), "--format".to_owned(), "json".to_owned()],
            vec!["--".to_owned(), SECRET.to_owned()],
        ];
        for line in cases {
            let shown = refused(&line.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(SECRET.as_bytes().windows(6).all(|run| !shown.contains(std::str::from_utf8(run).unwrap())), "{shown}");
            assert!(shown.starts_with("error: "), "{shown}");
        }
    }

    #[test]
    fn an_error_still_names_the_flag_and_says_what_to_do() {
        let shown = refused(&["--listen", "nowhere"]);
        assert!(shown.contains("invalid value for '--listen <listen>': invalid socket address syntax"), "{shown}");
        let shown = refused(&["--format", "yaml"]);
        assert!(shown.contains("'--format <format>'") && shown.contains("[possible values: text, json]"), "{shown}");
        let shown = refused(&["--confg", "x"]);
        assert!(shown.contains("unexpected argument '--confg' found") && shown.contains("--config"), "{shown}");
        let shown = refused(&["isue"]);
        assert!(shown.contains("'isue'") && shown.contains("'issue'"), "{shown}");
        let shown = refused(&["issue"]);
        assert!(shown.contains("--to <to>"), "{shown}");
        let shown = refused(&["--config"]);
        assert!(shown.contains("a value is required for '--config <FILE>'"), "{shown}");
        assert!(shown.contains("try '--help'"), "{shown}");
        // A parser's own words stay, unless they repeat the value.
        assert!(refused(&["--duration", "soon soon"]).contains("invalid value for '--duration <duration>'\n"));
    }

    #[test]
    fn help_and_version_are_as_clap_has_them() {
        let error = command().try_get_matches_from(["program", "issue", "--help"]).unwrap_err();
        let expected = error.to_string();
        assert_eq!(without_values(error, &command()).to_string(), expected);
    }
}
