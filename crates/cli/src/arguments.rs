//! The command line.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use countersign_runtime::ambient::SystemClock;
use countersign_runtime::command_line;
use countersign_runtime::disclosure::Concealed;

use crate::commands::as_code::{ApplyArgs, ExportArgs};
use crate::commands::{
    audit_events, auth, certs, health, issuers, presets, secrets, setup, signing_keys, trusted_issuers, workspaces,
};
use crate::connection::{Connection, ConnectionArgs};
use crate::dev;
use crate::failure::{Failure, Result};
use crate::given;
use crate::output::Output;

/// Self-hosted workload identity federation.
///
/// Results go to standard output, messages to standard error. Exit codes: 0 done, 1 refused or failed, 2 wrong command line;
/// `apply` has more.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the three services in this process, with a demo workspace, and perform one exchange.
    Dev(dev::DevArgs),
    /// Tokens and trust relationships.
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// Workspaces: the tenants that own everything else.
    #[command(subcommand)]
    Workspaces(workspaces::WorkspacesCommand),
    /// Trusted issuers: the OIDC issuers of others whose tokens a workspace accepts.
    #[command(subcommand)]
    TrustedIssuers(trusted_issuers::TrustedIssuersCommand),
    /// Presets: what is known of the tokens of well-known issuers.
    #[command(subcommand)]
    Presets(presets::PresetsCommand),
    /// Make the workspace's trusted issuers and trust relationships what files say, or tell what that would change and whether
    /// anybody gets more by it.
    ///
    /// Files hold YAML, as `export` writes it. They are all read before anything is changed, and what is wrong with them is told
    /// at once. Each resource has a result of its own. What somebody else changed meanwhile is left as it is, and fails.
    Apply(ApplyArgs),
    /// Write the workspace's trusted issuers and trust relationships as files that `apply` takes.
    Export(ExportArgs),
    /// Audit events: what was exchanged, and what was refused and why.
    #[command(subcommand)]
    AuditEvents(audit_events::AuditEventsCommand),
    /// Issuers: the identities this deployment signs ID tokens for.
    #[command(subcommand)]
    Issuers(issuers::IssuersCommand),
    /// Say what has to be done at AWS, Google Cloud, Azure, Vault or Kubernetes, so that it trusts tokens of an issuer.
    ///
    /// Prints files, commands and variables, and changes nothing. What the relying party would not have, like a pattern in Azure, is
    /// refused.
    Setup(setup::SetupArgs),
    /// Signing keys: what issuers sign with, one after the other.
    #[command(subcommand)]
    SigningKeys(signing_keys::SigningKeysCommand),
    /// Certificates of a deployment's internal listeners.
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Secrets of a deployment.
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Ask a service whether it is ready.
    Health(health::HealthArgs),
}

/// The command line, with `--snake_case` accepted for every `--kebab-case`.
pub(crate) fn command() -> clap::Command {
    command_line::without_values_in_help(with_underscore_aliases(Arguments::command()))
}

/// Reads a command line. From then on no message shows what in it looks like a secret.
///
/// # Errors
/// It is wrong, or asks for help; the error repeats no value.
pub(crate) fn read(
    line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    output: &mut Output,
) -> std::result::Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = match command.try_get_matches_from_mut(line) {
        Ok(matches) => matches,
        Err(error) => return Err(command_line::without_values(error, &command)),
    };
    let mut concealed = Concealed::default();
    let checked = given::check(&command, &matches, &mut concealed);
    output.conceal(concealed);
    checked.map_err(|problem| {
        let problem = format!("{problem}\n\nFor more information, try '--help'.\n");
        clap::Error::raw(ErrorKind::ValueValidation, problem).with_cmd(&command)
    })?;
    Arguments::from_arg_matches(&matches).map_err(|error| command_line::without_values(error, &command))
}

fn with_underscore_aliases(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| match argument.get_long().filter(|long| long.contains('-')) {
            Some(long) => {
                let alias = long.replace('-', "_");
                argument.alias(alias)
            }
            None => argument,
        })
        .mut_subcommands(with_underscore_aliases)
}

impl Arguments {
    /// Does what the command line says.
    pub(crate) fn run(self, output: &mut Output) -> Result<()> {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::while_doing(error, "cannot start"))?;
        runtime.block_on(self.run_async(output))
    }

    async fn run_async(self, output: &mut Output) -> Result<()> {
        let Self { connection, command } = self;
        let session = |output: &mut Output| {
            let connection = Connection::resolve(&connection)?;
            connection.conceal_in(output);
            Ok::<_, Failure>(Session { connection, clock: SystemClock })
        };
        match command {
            Command::Dev(args) => Box::pin(dev::run(args, &connection.folders, output)).await,
            Command::Auth(command) => command.run(&session(output)?, output).await,
            Command::Workspaces(command) => command.run(&session(output)?, output).await,
            Command::TrustedIssuers(command) => command.run(&session(output)?, output).await,
            Command::Presets(command) => command.run(output),
            Command::Issuers(command) => command.run(&session(output)?, output).await,
            Command::AuditEvents(command) => command.run(&session(output)?, output).await,
            Command::SigningKeys(command) => command.run(&session(output)?, output).await,
            Command::Apply(args) => args.run(&session(output)?, output).await,
            Command::Export(args) => args.run(&session(output)?, output).await,
            Command::Setup(args) => args.run(&session(output)?, output).await,
            Command::Certs(command) => command.run(output),
            Command::Secrets(command) => command.run(output),
            Command::Health(args) => args.run(output).await,
        }
    }
}

/// What a command that calls services needs.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) clock: SystemClock,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_hyphenated_flag_has_an_underscore_alias() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let Some(long) = argument.get_long().filter(|long| long.contains('-')) else { continue };
                let aliases = argument.get_all_aliases().unwrap_or_default();
                assert!(aliases.contains(&long.replace('-', "_").as_str()), "{} --{long}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = command();
        command.build();
        // `--help` and `--version` have no hyphen inside, so that what clap adds by itself passes too.
        check(&command);
    }

    fn parse(line: &[&str]) -> std::result::Result<Arguments, clap::Error> {
        let matches = command().try_get_matches_from([&["countersign"], line].concat())?;
        Arguments::from_arg_matches(&matches)
    }

    #[test]
    fn the_flags_of_the_field_are_accepted_in_both_spellings() {
        for line in [
            "auth trust-relationships add --issuer https://cloud.rwx.com/mint --subject-match org:my-org:vault:*",
            "auth trust-relationships add --issuer https://cloud.rwx.com/mint --subject_match a --subject_match b \
             --default_token_duration 3600s --access_token_audience x --scope deploy",
            "auth trust-relationships add --trusted-issuer ti_0 --subject-match a",
            "auth trust-relationships add --preset rwx --org my-org --vault *",
            "auth trust-relationships add --preset rwx --set org=my-org --set vault=a --trusted-issuer ti_0",
            "auth trust-relationships add --preset kubernetes --issuer https://cluster.example --set namespace=deploy",
            "presets list",
            "presets show rwx -o json",
            "auth trust-relationships list -o json --tenant_id ws_0",
            "auth trust-relationships update --id tr_0 --scope deploy",
            "auth trust-relationships update --id tr_0 --scope deploy --dry-run --window 30d --dry-run-output json",
            "auth trust-relationships report --window 14d --all -o json",
            "auth trust-relationships remove tr_0",
            "auth trust-relationships remove tr_0 --dry-run",
            "auth trust-relationships remove --id tr_0",
            "auth issue-id-token --audience sts.amazonaws.com --attribute org=a --attribute vault=b --duration 15m -o raw",
            "auth issue-id-token --attribute path=a --to token --watch",
            "auth issue-id-token --own --audience vault",
            "auth exchange-oidc-token --token a.b.c --tenant_id ws_0",
            "auth exchange-oidc-token --token_file f --tenant-id ws_0 --trust_relationship tr_0",
            "auth exchange-oidc-token - --workspace ws_0",
            "--workspace ws_0 auth exchange-oidc-token --token-file -",
            "auth explain --request-id req-1",
            "audit-events list --decision refused --since 7d --limit 5 -o json",
            "setup aws --issuer-url https://id.example.com --subject a:b --account-id 123456789012",
            "setup vault --issuer-id is_0 --attribute org=a --attribute vault=b --role r --policy p",
            "setup azure --issuer-id is_0 --subject a --client-id c --azure-tenant-id t --to out -o json",
            "setup gcp --issuer-id is_0 --subject a --project-number 1",
            "setup vault --issuer-id is_0 --subject a --role r --policy p",
            "setup kubernetes --issuer-id is_0 --subject a --cluster-role view --namespace n",
            "issuers doctor https://id.example.com --for aws -o json",
            "workspaces create Demo",
            "issuers create --profile rwx --rotation_period 30d",
            "signing-keys list is_0 -o json",
            "signing-keys list --access_tokens",
            "signing-keys rotate is_0 --algorithm ES256",
            "signing-keys rotate --access-tokens",
            "signing-keys rewrap",
            "signing-keys revoke is_0 --key_id -4HooOja06NOSqfYBH75",
            "signing-keys revoke --access-tokens --key-id kid",
            "apply -f trust --plan --prune --fail-on broader -o json",
            "apply --file a.yaml --file b.yaml --fail_on broader",
            "export --to trust",
            "dev --exit --state-dir d --gateway-listen 127.0.0.1:0",
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let Err(error) = parse(&words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error() {
        for line in [
            "auth trust-relationships add --subject-match a",
            "auth trust-relationships add --issuer https://example.com",
            "auth trust-relationships add --issuer https://example.com --org my-org",
            "auth trust-relationships add --issuer https://example.com --subject-match a --set org=my-org",
            "auth trust-relationships add --preset rwx --set org",
            "presets show",
            "auth trust-relationships add --issuer https://example.com --trusted-issuer ti_0 --subject-match a",
            "auth trust-relationships add --issuer https://example.com --subject-match a --grant {}",
            "auth trust-relationships add --issuer https://example.com --subject-match a --default-token-duration 3600",
            "auth trust-relationships remove",
            "auth trust-relationships remove tr_0 --id tr_0",
            "auth trust-relationships update --scope deploy",
            "auth trust-relationships remove tr_0 --window 7d",
            "apply",
            "apply -f trust --fail-on narrower",
            "auth exchange-oidc-token",
            "auth exchange-oidc-token --token a --token-file f",
            "auth explain",
            "auth explain --request-id req-1 --token-file f",
            "auth issue-id-token --audience a --attribute org",
            "auth issue-id-token --audience a --watch",
            "auth issue-id-token --audience a --own --attribute org=a",
            "auth issue-id-token --audience a --to token -o json",
            "issuers create --display-name a",
            "signing-keys list",
            "signing-keys list is_0 --access-tokens",
            "signing-keys revoke is_0",
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            let error = parse(&words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
