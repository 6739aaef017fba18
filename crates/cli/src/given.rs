//! The values on the command line and in its environment variables: secrets in the wrong place are refused without being repeated,
//! and no message repeats what looks like one (SECURITY 81).

use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use countersign_runtime::disclosure::{Concealed, SecretShape, is_key};

/// Arguments whose value is a token.
const TOKENS: [&str; 2] = ["token", "standard_input"];
/// Arguments whose value is public and random.
const PUBLIC: [&str; 3] = ["key_id", "request_id", "thumbprint"];

/// Adds every secret-looking value to `concealed`.
///
/// # Errors
/// A token or key stands where no secret belongs, or where the name of a file belongs. The message names the flag or variable.
pub(crate) fn check(command: &Command, matches: &ArgMatches, concealed: &mut Concealed) -> Result<(), String> {
    let mut problem = None;
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let Ok(Some(values)) = matches.try_get_raw(id) else { continue };
        let source = matches.value_source(id);
        if source == Some(ValueSource::DefaultValue) {
            continue;
        }
        for value in values {
            let text = value.to_string_lossy();
            // A public value that looks random is shown; a token in its place is not.
            if !PUBLIC.contains(&id) || SecretShape::certain(&text).is_some() {
                concealed.add(&text);
            }
            if problem.is_none() && !TOKENS.contains(&id) {
                problem = refusal(argument, Path::new(value), &text).map(|what| format!("{} {what}", name(argument, source)));
            }
        }
    }
    if let Some((name, below)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        let found = check(command, below, concealed);
        return problem.map_or(found, Err);
    }
    problem.map_or(Ok(()), Err)
}

/// Why a value cannot be meant, as the rest of a sentence about its argument.
fn refusal(argument: &Arg, path: &Path, text: &str) -> Option<String> {
    if is_file(argument) {
        let shape = SecretShape::of_file_name(path)?;
        let other = if argument.get_id() == "token_file" { ", or pipe it and pass `-`" } else { "" };
        return Some(format!(
            "contains {} rather than a file name; write a secret to a file with mode 0600 and pass the name of the file{other}",
            shape.description()
        ));
    }
    if PUBLIC.contains(&argument.get_id().as_str()) && SecretShape::certain(text) != Some(SecretShape::Token) {
        return None;
    }
    let what = match SecretShape::certain(text) {
        Some(shape @ (SecretShape::Token | SecretShape::Pem)) => shape.description(),
        // A URL with a parameter is refused where it is used, if it must not have one; an expression can contain one.
        Some(shape) if !names_of(argument).any(|name| ["URL", "JSON", "CEL", "NAME=CEL", "NAME=VALUE"].contains(&name)) => {
            shape.description()
        }
        _ if is_key(text) => SecretShape::Random.description(),
        _ => return None,
    };
    Some(format!("contains {what}, which does not belong there"))
}

fn names_of(argument: &Arg) -> impl Iterator<Item = &str> {
    argument.get_value_names().unwrap_or_default().iter().map(clap::builder::Str::as_str)
}

/// Whether the value names a file or folder.
fn is_file(argument: &Arg) -> bool {
    argument.get_value_parser().type_id() == clap::value_parser!(PathBuf).type_id()
        || names_of(argument).any(|name| matches!(name, "FILE" | "DIR" | "FOLDER" | "PATH"))
}

/// The argument as the person typed it: a flag, a variable, or the place of a value.
fn name(argument: &Arg, source: Option<ValueSource>) -> String {
    let variable = argument.get_env().filter(|_| source == Some(ValueSource::EnvVariable));
    match (variable, argument.get_long()) {
        (Some(variable), _) => variable.to_string_lossy().into_owned(),
        (None, Some(long)) => format!("--{long}"),
        (None, None) => format!("<{}>", names_of(argument).next().unwrap_or("VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::arguments;
    use crate::output::tests::Captured;

    const JWT: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJvcmc6YSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg";
    const KEY: &str = "q1Z8v0x5m3Jt7b2Kc9Rf4Ws6Yd1Gh8Lp0Nq5Tv2Xz3B=";
    const PASSWORD: &str = "correct-horse-battery";

    /// Lines that are right as they are, of every command that takes values, and end without a service.
    const LINES: &[&str] = &[
        "auth trust-relationships add --issuer https://cloud.rwx.com/mint --subject-match a --scope deploy",
        "auth trust-relationships add --preset rwx --org my-org --vault a --scope deploy",
        "auth trust-relationships list",
        "auth trust-relationships update --id tr_0 --scope deploy",
        "auth trust-relationships report",
        "auth trust-relationships lint tr_0",
        "auth trust-relationships remove tr_0",
        "auth issue-id-token --audience a",
        "auth exchange-oidc-token --token a.b.c",
        "auth exchange-oidc-token --token-file no-such-file",
        "auth explain --token-file no-such-file",
        "auth explain --request-id req-1",
        "workspaces create Demo",
        "workspaces update ws_0 --display-name a",
        "workspaces delete ws_0",
        "trusted-issuers add --issuer https://cloud.rwx.com/mint",
        "trusted-issuers update ti_0 --display-name a",
        "trusted-issuers check ti_0",
        "trusted-issuers get ti_0",
        "presets show rwx",
        "presets list",
        "apply -f no-such-folder",
        "export",
        "audit-events list",
        "issuers create --profile rwx",
        "issuers update is_0 --display-name a",
        "issuers list",
        "issuers delete is_0",
        "issuers doctor not-a-url",
        "setup vault --issuer-url https://id.example.com --subject a:b --role r --policy p",
        "setup azure --issuer-url https://id.example.com --subject a --client-id c --azure-tenant-id t",
        "setup gcp --issuer-url https://id.example.com --subject a --project-number 1",
        "setup kubernetes --issuer-url https://id.example.com --subject a --cluster-role view --namespace n",
        "setup aws --issuer-url https://id.example.com --subject a --account-id 123456789012 --thumbprint 9e99a48a9960b14926bb7f3b02e22da2b0ab7280",
        "signing-keys list is_0",
        "signing-keys rotate is_0 --algorithm ES256",
        "signing-keys revoke is_0 --key-id kid",
        "certs init --dir /proc/no-such-folder",
        "secrets init --dir /proc/no-such-folder",
        "health http://127.0.0.1:1/readyz",
        "dev --exit --state-dir /proc/no-such-folder",
    ];

    /// Runs a line in which every service is out of reach. Returns all that is printed.
    fn printed(line: &[OsString], context: &Path) -> String {
        let mut words = vec!["countersign".into(), "--context".into(), context.into()];
        words.extend_from_slice(line);
        let captured = Captured::default();
        let mut output = captured.output();
        let failure = match arguments::read(words, &mut output) {
            Err(error) => return error.to_string(),
            Ok(arguments) => arguments.run(&mut output).err(),
        };
        if let Some(failure) = failure {
            let _ = failure.report(&mut output);
        }
        format!("{}{}", captured.results(), captured.messages())
    }

    fn context(folder: &Path) -> PathBuf {
        crate::private_file::replace(&folder.join("credential"), b"operator").unwrap();
        let nowhere = "http://127.0.0.1:1";
        let text = format!(
            "issuer_address = '{nowhere}'\ntrust_address = '{nowhere}'\ngateway_address = '{nowhere}'\n\
             credential_file = 'credential'\nworkspace = 'ws_0'\n"
        );
        std::fs::write(folder.join("context.toml"), text).unwrap();
        folder.join("context.toml")
    }

    fn leaks(printed: &str, secret: &[u8]) -> bool {
        secret.windows(12).any(|run| printed.as_bytes().windows(12).any(|part| part == run))
    }

    #[test]
    fn s81_no_flag_or_positional_repeats_a_secret_in_any_message_or_result() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(folder.path());
        let mut not_utf8 = PASSWORD.as_bytes().to_vec();
        not_utf8.push(0xff);
        // What is passed, and what of it is the secret.
        let secrets: Vec<(OsString, &[u8])> = vec![
            (JWT.into(), JWT.as_bytes()),
            (KEY.into(), KEY.as_bytes()),
            (format!("Bearer {PASSWORD}").into(), PASSWORD.as_bytes()),
            (format!("postgres://user:{PASSWORD}@host/db").into(), PASSWORD.as_bytes()),
            (JWT.replace('.', "\n.").into(), JWT.as_bytes()),
            (JWT.replace('.', "%2E").into(), JWT.as_bytes()),
            (format!("-----BEGIN PRIVATE KEY-----\n{KEY}").into(), KEY.as_bytes()),
            (OsString::from_vec(not_utf8), PASSWORD.as_bytes()),
        ];
        let mut command = arguments::command();
        command.build();
        let mut tried = 0;
        for (number, line) in LINES.iter().enumerate() {
            let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            let mut of_line = &command;
            for word in line.split_whitespace() {
                of_line = of_line.find_subcommand(word).unwrap_or(of_line);
            }
            for argument in of_line.get_arguments() {
                let id = argument.get_id().as_str();
                // Those that all commands share are tried with the first.
                if TOKENS.contains(&id) || (argument.is_global_set() && number > 0) || id == "context" {
                    continue;
                }
                for (passed, secret) in &secrets {
                    // A name of a file need not be UTF-8, and a password is a good one.
                    if is_file(argument) && passed.to_str().is_none() {
                        continue;
                    }
                    let mut changed = words.clone();
                    match argument.get_long() {
                        Some(long) if argument.get_action().takes_values() => {
                            let flag = OsString::from(format!("--{long}"));
                            // In place of the value on the line, if there is one.
                            if let Some(at) = changed.iter().position(|word| *word == flag) {
                                changed.drain(at..at + 2);
                            }
                            let mut word = flag;
                            word.push("=");
                            word.push(passed);
                            changed.push(word);
                        }
                        Some(_) => continue,
                        None => {
                            let at = changed.iter().position(|word| word.to_str().is_some_and(|word| word.starts_with("--")));
                            let last = at.unwrap_or(changed.len()) - 1;
                            changed[last].clone_from(passed);
                        }
                    }
                    let shown = printed(&changed, &context);
                    assert!(!leaks(&shown, secret), "{line}, {id}, {passed:?}:\n{shown}");
                    assert!(!shown.is_empty() || line.starts_with("presets"), "{line}, {id}: nothing is said");
                    tried += 1;
                }
            }
            for (passed, secret) in &secrets {
                let shown = printed(&[&words[..], std::slice::from_ref(passed)].concat(), &context);
                assert!(!leaks(&shown, secret), "{line}, one more, {passed:?}:\n{shown}");
            }
        }
        assert!(tried > 1000, "{tried}");
    }

    #[test]
    fn s81_a_token_in_place_of_a_file_name_is_described() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(folder.path());
        let shown = |line: &[&str]| printed(&line.iter().map(OsString::from).collect::<Vec<_>>(), &context);
        let message = shown(&["auth", "explain", "--token-file", JWT]);
        assert!(message.contains("--token-file contains a token rather than a file name"), "{message}");
        assert!(message.contains("or pipe it and pass `-`"), "{message}");
        let message = shown(&["--credential-file", KEY, "workspaces", "list"]);
        assert!(message.contains("--credential-file contains what looks like a secret rather than a file name"), "{message}");
        let message = shown(&["auth", "exchange-oidc-token", JWT]);
        assert!(message.contains("a token cannot be an argument by itself"), "{message}");
        // An ordinary name is shown, with its flag.
        let message = shown(&["auth", "explain", "--token-file", "no/such/ci.jwt"]);
        assert!(message.contains("cannot read --token-file no/such/ci.jwt: No such file"), "{message}");
    }

    #[test]
    fn s81_the_context_file_is_not_repeated_either() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("context.toml");
        let shown = |text: &str| {
            std::fs::write(&path, text).unwrap();
            printed(&["workspaces".into(), "list".into()], &path)
        };
        for setting in
            ["issuer_address", "trust_address", "gateway_address", "ca_file", "credential_file", "workspace", "made_by"]
        {
            for secret in [JWT, KEY] {
                for text in
                    [format!("{setting} = '{secret}'"), format!("{setting} = {secret}"), format!("'{secret}' = {setting}")]
                {
                    let shown = shown(&text);
                    assert!(!leaks(&shown, secret.as_bytes()), "{text}: {shown}");
                }
            }
        }
    }
}
