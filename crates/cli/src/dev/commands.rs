//! The commands that repeat the exchange.
//!
//! Each can be pasted by itself into any shell, from any folder. No token is among a command's arguments, where other users
//! could read it: tokens go through pipes, and `printf` is part of the shell.

use std::fmt;
use std::path::Path;

use super::composition::Deployment;
use super::demo::{Demo, ORG, VAULT};
use super::exchange::{GRANT_TYPE, SUBJECT_TOKEN_TYPE, workspace_audience};
use super::report::host_of;
use crate::connection::Service;

/// What the commands need to name.
pub(super) struct Commands<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) demo: &'a Demo,
    /// The context file, unless it is found by default.
    pub(super) context: Option<&'a Path>,
    /// This program.
    pub(super) binary: &'a Path,
}

impl fmt::Display for Commands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let countersign = quoted(&self.binary.display().to_string());
        // Nothing, when the commands find the context by themselves.
        let context = self.context.map(|file| format!(" --context {}", quoted(&file.display().to_string()))).unwrap_or_default();
        let Demo { workspace_id, issuer_id, .. } = self.demo;
        let gateway = self.deployment.url(Service::Gateway);
        let host = host_of(gateway);
        let audience = workspace_audience(self.deployment, self.demo);
        let issue = format!(
            "{countersign} auth issue-id-token --workspace {workspace_id} --issuer-id {issuer_id} \\\n    \
             --audience {gateway} --attribute org={ORG} --attribute vault={VAULT}{context}"
        );
        writeln!(f, "\nTo repeat it in another shell, while this runs:")?;
        writeln!(f, "\n# with the CLI, which stores the access token for later commands")?;
        writeln!(f, "{issue} \\\n  | {countersign} auth exchange-oidc-token --workspace {workspace_id}{context} -")?;
        writeln!(f, "\n# with curl")?;
        writeln!(
            f,
            "{issue} \\\n  | curl -sS {gateway}/oauth2/token \\\n    --data-urlencode grant_type={GRANT_TYPE} \\\n    \
             --data-urlencode subject_token_type={SUBJECT_TOKEN_TYPE} \\\n    --data-urlencode audience={audience} \\\n    \
             --data-urlencode subject_token@-"
        )?;
        writeln!(f, "\n# with grpcurl")?;
        writeln!(
            f,
            "printf '{{\"workspace_id\":\"{workspace_id}\",\"subject_token\":\"%s\"}}' \"$({issue})\" \\\n  \
             | grpcurl -plaintext -d @ {host} countersign.exchange.v1.ExchangeService/ExchangeToken"
        )?;
        writeln!(f, "\n# and to look around")?;
        writeln!(f, "{countersign} auth trust-relationships list --workspace {workspace_id}{context}")?;
        writeln!(f, "grpcurl -plaintext {host} list")
    }
}

/// The text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:=@%,".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_quoted_text_is_one_word_of_the_shell() {
        for text in ["/usr/bin/countersign", "", "with space", "it's", "$(rm -rf x)", "a\nb", "*", "~", "`x`", "a\\b", "ä"] {
            let script = format!("printf '%s|' {}", quoted(text));
            let printed = Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
            assert_eq!(String::from_utf8(printed).unwrap(), format!("{text}|"), "{script}");
        }
    }
}
