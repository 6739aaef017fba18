//! `countersign setup …`: what has to be done at a relying party, so that it trusts tokens of an issuer of ours.
//!
//! Nothing is changed anywhere: files, commands and variables are printed, exact to the last character, for somebody to read and run.

mod aws;
mod azure;
mod gcp;
mod kubernetes;
mod plan;
mod recipe;
mod trusted_side;
mod vault;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_discovery::Inspector;
use countersign_domain::relying_party::RelyingParty;
use countersign_domain::subject_match::SubjectMatch;

use crate::arguments::Session;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::run_attributes;
use plan::Plan;
use recipe::Recipe;
use trusted_side::TrustedSide;

#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// An issuer of the workspace, `is_…`, whose tokens are to be trusted.
    #[arg(long, value_name = "ID", global = true)]
    issuer_id: Option<String>,
    /// The URL of an issuer instead, as it stands in `iss`.
    #[arg(long, value_name = "URL", global = true, conflicts_with = "issuer_id")]
    issuer_url: Option<String>,
    /// A subject that is to be trusted: exact, or with `*` for any run of characters. Repeat for several.
    #[arg(long, value_name = "SUBJECT", global = true)]
    subject: Vec<SubjectMatch>,
    /// An attribute of a run that is to be trusted: the subject is the one that the issuer's profile gives it. Repeat for each.
    #[arg(long, value_name = "NAME=VALUE", value_parser = run_attributes::parse, global = true, requires = "issuer_id")]
    attribute: Vec<(String, String)>,
    /// Which of the profile's subject forms such a run has [default: the first that is for it].
    #[arg(long, value_name = "FORM", default_value = "", hide_default_value = true, global = true, requires = "attribute")]
    subject_form: String,
    /// The `aud` of the tokens [default: what the profile fixes, or else what the relying party expects].
    #[arg(long, value_name = "AUDIENCE", global = true)]
    audience: Option<String>,
    /// Where the workload finds its ID token.
    #[arg(long, value_name = "FILE", default_value = "/var/run/countersign/token", global = true)]
    token_file: String,
    /// Write the files into a folder too.
    #[arg(long, value_name = "FOLDER", global = true)]
    to: Option<PathBuf>,
    /// How to print it.
    #[arg(short, long, value_name = "FORMAT", default_value = "text", global = true)]
    output: RecipeFormat,
    #[command(subcommand)]
    party: PartyCommand,
}

/// How a recipe is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RecipeFormat {
    /// Files and commands, one after another.
    Text,
    /// One JSON object.
    Json,
}

#[derive(Debug, Subcommand)]
enum PartyCommand {
    /// An OIDC provider and a role in AWS IAM.
    Aws(aws::AwsArgs),
    /// A workload identity pool in Google Cloud, and the credential file of its SDKs.
    Gcp(gcp::GcpArgs),
    /// Federated credentials of an application in Azure, one for each subject.
    Azure(azure::AzureArgs),
    /// The JWT auth method of Vault or OpenBao, and a role.
    Vault(vault::VaultArgs),
    /// The authentication configuration of a Kubernetes API server, and a binding.
    Kubernetes(kubernetes::KubernetesArgs),
}

impl PartyCommand {
    const fn party(&self) -> RelyingParty {
        match self {
            Self::Aws(_) => RelyingParty::Aws,
            Self::Gcp(_) => RelyingParty::Gcp,
            Self::Azure(_) => RelyingParty::Azure,
            Self::Vault(_) => RelyingParty::Vault,
            Self::Kubernetes(_) => RelyingParty::Kubernetes,
        }
    }

    fn audience(&self) -> String {
        match self {
            Self::Aws(_) => aws::AwsArgs::AUDIENCE.to_owned(),
            Self::Gcp(args) => args.audience(),
            Self::Azure(_) => azure::AzureArgs::AUDIENCE.to_owned(),
            Self::Vault(_) => vault::VaultArgs::AUDIENCE.to_owned(),
            Self::Kubernetes(_) => kubernetes::KubernetesArgs::AUDIENCE.to_owned(),
        }
    }
}

impl SetupArgs {
    pub(crate) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let party = self.party.party();
        let Self {
            issuer_id,
            issuer_url,
            mut subject,
            attribute,
            subject_form,
            audience,
            token_file,
            to,
            output: format,
            party: of,
        } = self;
        let issuer = match (issuer_id, issuer_url) {
            (None, None) => return Err(Failure::usage("whose tokens? Give --issuer-id or --issuer-url")),
            (_, Some(url)) => TrustedSide::elsewhere(&url)?,
            (Some(id), None) => TrustedSide::ours(session, id).await?,
        };
        let attributes = run_attributes::collect(attribute)?;
        let run = if attributes.is_empty() { None } else { issuer.run(attributes, subject_form)? };
        subject.extend(run.iter().map(|run| run.subject.clone()));
        if subject.is_empty() {
            return Err(Failure::usage("whom is it to trust? Give at least one --subject, or a run by each --attribute"));
        }
        let fixed = run.as_ref().and_then(|run| run.audience.clone());
        let audience = audience.or(fixed).unwrap_or_else(|| of.audience());
        let notes = issuer.notes(run.as_ref(), &audience, &token_file);
        let plan = Plan::new(issuer.url, issuer.algorithms, subject, audience, token_file);
        let obstacles = plan.obstacles(party);
        if !obstacles.is_empty() {
            let told: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
            return Err(Failure::usage(told.join("\n")));
        }
        let mut recipe = match &of {
            PartyCommand::Aws(args) => {
                let thumbprint = thumbprint(args, &plan, output).await;
                args.recipe(&plan, thumbprint.as_deref())
            }
            PartyCommand::Gcp(args) => args.recipe(&plan).map_err(Failure::usage)?,
            PartyCommand::Azure(args) => args.recipe(&plan),
            PartyCommand::Vault(args) => args.recipe(&plan),
            PartyCommand::Kubernetes(args) => args.recipe(&plan).map_err(Failure::usage)?,
        };
        for note in notes {
            recipe.note(note);
        }
        if let Some(folder) = &to {
            for file in recipe.write_to(folder)? {
                output.message(format!("Wrote {file}."));
            }
        }
        print(&recipe, format, output).map_err(Failure::from)
    }
}

/// The thumbprint that was given, or that of the issuer's host, when it can be had.
async fn thumbprint(args: &aws::AwsArgs, plan: &Plan, output: &mut Output) -> Option<String> {
    if let Some(given) = args.thumbprint() {
        return Some(given.to_owned());
    }
    let found = match Inspector::new() {
        Ok(inspector) => inspector.thumbprint(plan.issuer_url()).await,
        Err(error) => Err(error.to_string()),
    };
    found.map_err(|why| output.message(format!("No thumbprint, as the issuer's host shows none: {why}."))).ok()
}

fn print(recipe: &Recipe, format: RecipeFormat, output: &mut Output) -> std::io::Result<()> {
    match format {
        RecipeFormat::Text => output.raw(&recipe.text()),
        RecipeFormat::Json => output.json(&recipe.to_json()),
    }
}
