//! Relationships built from what is known of an issuer's tokens.

use std::collections::BTreeMap;

use clap::Args;
use countersign_domain::trust::preset::{PartProblem, Preset};
use countersign_domain::values::issuer_url::{IssuerUrl, LoopbackHttp};
use countersign_domain::values::replay_policy::ReplayPolicy;
use countersign_domain::values::subject_match::SubjectMatch;
use countersign_proto::common;
use countersign_proto::trust_v1::{self, TrustedIssuer};

use super::AddArgs;
use crate::commands::presets;
use crate::failure::{Failure, Result};

#[derive(Debug, Args)]
pub(super) struct PresetArgs {
    /// What kind of issuer it is, as `countersign presets list` names it: builds issuer and subject of the parts given with --set.
    #[arg(long, value_name = "ID")]
    preset: Option<String>,
    /// A part of the preset's subject, issuer or audience; `*` in a subject stands for anything. Repeat for each. Parts behind the
    /// last one given can be anything.
    #[arg(long, value_name = "PART=VALUE", requires = "preset", value_parser = parse_part)]
    set: Vec<(String, String)>,
    /// The preset's form of subject to build [default: the first that has the parts given].
    #[arg(long, value_name = "ID", requires = "preset")]
    form: Option<String>,
    /// Short for --set org=….
    #[arg(long, requires = "preset")]
    org: Option<String>,
    /// Short for --set vault=….
    #[arg(long, requires = "preset")]
    vault: Option<String>,
}

fn parse_part(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as part=value".to_owned()),
    }
}

impl PresetArgs {
    fn values(&self) -> Result<BTreeMap<String, String>> {
        let mut values = BTreeMap::new();
        let short = [("org", &self.org), ("vault", &self.vault)];
        let short = short.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        for (name, value) in self.set.iter().cloned().chain(short) {
            if let Some(_twice) = values.insert(name.clone(), value) {
                return Err(Failure::usage(format!("the part `{name}` is given twice")));
            }
        }
        Ok(values)
    }
}

/// Adds to the arguments what their preset builds, and gives the issuer to register should the workspace not have it. Patterns
/// that could never match are refused before anything is asked of a service.
pub(super) fn complete(args: &mut AddArgs) -> Result<TrustedIssuer> {
    let given = args.issuer.clone().unwrap_or_default();
    let Some(id) = &args.preset.preset else { return Ok(TrustedIssuer { issuer_url: given, ..TrustedIssuer::default() }) };
    let preset = presets::find(id)?;
    let mut values = args.preset.values()?;
    for pattern in &args.subject_match {
        let checked: SubjectMatch = pattern.parse().map_err(|error| Failure::usage(format!("--subject-match {error}")))?;
        if !preset.can_match(&checked) {
            return Err(refused(preset, &format!("no subject is ever accepted by {pattern:?}")));
        }
    }
    let mut problems = Vec::new();
    if let Some(name) =
        values.keys().find(|name| !args.subject_match.is_empty() && !preset.issuer_parts().contains(name.as_str()))
    {
        return Err(refused(preset, &format!("`{name}` is no part of the issuer, and the subject is said with --subject-match")));
    }
    if args.subject_match.is_empty() {
        match preset.build_subject_of(args.preset.form.as_deref(), &values) {
            Ok(subject) => args.subject_match.push(subject.to_string()),
            Err(found) => problems.extend(found),
        }
    }
    let issuer_url = match (&args.trusted_issuer, &args.issuer) {
        (Some(_), _) => None,
        // Whether http is acceptable is for the deployment to say.
        (None, Some(url)) => {
            let parsed = IssuerUrl::parse(url, LoopbackHttp::Allowed);
            Some(parsed.map_err(|error| Failure::usage(format!("--issuer {error}")))?)
        }
        (None, None) => preset.build_issuer(&values).map_err(|found| problems.extend(found)).ok(),
    };
    for template in &preset.issuer.templates {
        let read = issuer_url.as_ref().and_then(|url| template.read(url)).unwrap_or_default();
        values.extend(read.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    if args.audience.is_empty() {
        // Of an issuer that was registered before, or is at a place of its own, the audience can only be told when it was said.
        let must_be_known = issuer_url.as_ref().is_some_and(|url| preset.issuer.recognises(url));
        match preset.build_audience(&values) {
            Ok(audience) => args.audience.extend(audience.map(String::from)),
            Err(found) if must_be_known => problems.extend(found),
            Err(_) => {}
        }
    }
    if !problems.is_empty() {
        return Err(refused(preset, &told(&problems)));
    }
    Ok(issuer_url.map(|url| registration(preset, &url)).unwrap_or_default())
}

/// An issuer of this kind as it is registered.
fn registration(preset: &Preset, url: &IssuerUrl) -> TrustedIssuer {
    let replay_policy = match preset.replay_policy {
        ReplayPolicy::SingleUse => trust_v1::ReplayPolicy::SingleUse,
        ReplayPolicy::RequireJti => trust_v1::ReplayPolicy::RequireJti,
        ReplayPolicy::Reusable => trust_v1::ReplayPolicy::Reusable,
    };
    TrustedIssuer {
        preset: preset.id.to_string(),
        issuer_url: url.to_string(),
        jwks_url: preset.jwks_url_of(url).map(String::from).unwrap_or_default(),
        algorithms: preset.algorithms.iter().map(ToString::to_string).collect(),
        token_types: preset.token_types.iter().map(|one| one.clone().map(String::from).unwrap_or_default()).collect(),
        max_token_lifetime: Some(common::duration(preset.max_token_lifetime)),
        replay_policy: replay_policy.into(),
        ..TrustedIssuer::default()
    }
}

/// Every problem once, in the order found.
fn told(problems: &[PartProblem]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in problems.iter().map(ToString::to_string) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("; ")
}

fn refused(preset: &Preset, why: &str) -> Failure {
    Failure::usage(format!("preset {0}: {why}\nSee `countersign presets show {0}`.", preset.id))
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches as _, Subcommand as _};

    use super::super::super::TrustRelationshipsCommand;
    use super::*;

    fn args(line: &str) -> AddArgs {
        let command = TrustRelationshipsCommand::augment_subcommands(clap::Command::new("countersign"));
        let matches = command.try_get_matches_from(["countersign", "add"].into_iter().chain(line.split(' '))).unwrap();
        match TrustRelationshipsCommand::from_arg_matches(&matches).unwrap() {
            TrustRelationshipsCommand::Add(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn completed(line: &str) -> (TrustedIssuer, AddArgs) {
        let mut args = args(line);
        let issuer = complete(&mut args).unwrap_or_else(|failure| panic!("{line}: {failure}"));
        (issuer, args)
    }

    #[test]
    fn issuer_and_subject_are_built_of_the_parts() {
        let (issuer, args) = completed("--preset rwx --org my-org --vault *");
        assert_eq!(args.subject_match, ["org:my-org:vault:*"]);
        assert!(args.audience.is_empty());
        assert_eq!((issuer.issuer_url.as_str(), issuer.preset.as_str()), ("https://cloud.rwx.com/mint", "rwx"));
        assert_eq!((issuer.algorithms, issuer.token_types), (vec!["RS256".to_owned()], vec!["JWT".to_owned()]));
        let (issuer, args) = completed("--preset aws-cognito --set region=eu-west-1 --set pool=1a2b3c4d");
        assert_eq!((args.subject_match, args.audience), (vec!["eu-west-1:*".to_owned()], vec!["eu-west-1:1a2b3c4d".to_owned()]));
        assert_eq!((issuer.algorithms, issuer.token_types), (vec!["RS512".to_owned()], vec!["JWS".to_owned()]));
        assert!(issuer.jwks_url.ends_with("/.well-known/jwks_uri"));
        let (issuer, args) = completed("--preset spacelift --issuer https://acme.app.us.spacelift.io --set space=infra");
        assert_eq!(args.audience, ["acme.app.us.spacelift.io"]);
        assert_eq!(issuer.issuer_url, "https://acme.app.us.spacelift.io");
        let (issuer, args) = completed("--preset kubernetes --issuer https://cluster.example/ --set namespace=deploy");
        assert_eq!(
            (args.subject_match, issuer.token_types.clone()),
            (vec!["system:serviceaccount:deploy:*".to_owned()], vec![String::new()])
        );
        assert_eq!(issuer.replay_policy(), trust_v1::ReplayPolicy::Reusable);
        let (_, args) = completed("--preset rwx --trusted-issuer ti_0 --set org_id=0f8c --set vault=deploy");
        assert_eq!(args.subject_match, ["mint:0f8c:deploy"]);
        let (_, args) = completed("--preset github-actions --form names --set owner=o --set repo=r");
        assert_eq!(args.subject_match, ["repo:o/r:*"]);
    }

    #[test]
    fn patterns_are_taken_as_they_are_where_a_subject_of_the_issuer_can_match() {
        let (_, args) = completed("--preset buildkite --subject-match organization:acme:*");
        assert_eq!(args.subject_match, ["organization:acme:*"]);
        let pool = "--preset aws-cognito --set region=eu-west-1 --set pool=1a2b --subject-match eu-west-1:7d3b";
        let (_, args) = completed(pool);
        assert_eq!((args.subject_match, args.audience), (vec!["eu-west-1:7d3b".to_owned()], vec!["eu-west-1:1a2b".to_owned()]));
        let (issuer, args) = completed("--issuer https://agent.buildkite.com --subject-match anything");
        assert_eq!(args.subject_match, ["anything"]);
        assert!(issuer.preset.is_empty());
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for (line, why) in [
            (
                "--preset buildkite --subject-match organization:acme:pipeline:app:ref:refs/heads/main",
                "no subject is ever accepted",
            ),
            ("--preset rwx --subject-match org:a:vault:b --org a", "is said with --subject-match"),
            ("--preset rwx --org a:b", "`org` never holds `:`"),
            ("--preset rwx --vault deploy", "`org` is required by"),
            ("--preset rwx --org a --set org=b", "given twice"),
            ("--preset rwx --org a --set team=b", "`team` is no part of this preset"),
            ("--preset rxw --org a", "there is no preset"),
            ("--preset spacelift --set space=infra", "`account` is required by"),
            ("--preset aws-cognito --set region=eu-west-1", "`pool` is required by"),
            ("--preset kubernetes --set namespace=deploy", "`issuer` is required"),
            ("--preset rwx --org a --form nonsense", "vault, mint"),
        ] {
            let failure = complete(&mut args(line)).unwrap_err();
            assert!(matches!(&failure, Failure::Usage(message) if message.contains(why)), "{line}: {failure}");
        }
    }
}
