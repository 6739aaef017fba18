//! `countersign setup …`: what an operator does at a relying party, so that it trusts tokens of an issuer.
//!
//! Nothing is changed anywhere: files, commands and variables are printed, exact to the last character, to be read and run.

mod aws;
mod azure;
mod gcp;
mod kubernetes;
mod plan;
mod recipe;
#[cfg(test)]
mod tests;
mod trusted_side;
mod vault;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_discovery::Inspector;
use countersign_domain::issuing::relying_party::RelyingParty;
use countersign_domain::values::subject_match::SubjectMatch;

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
    #[command(flatten)]
    wanted: WantedArgs,
    /// Write the files into a folder too.
    #[arg(long, value_name = "FOLDER", global = true)]
    to: Option<PathBuf>,
    /// How to print it.
    #[arg(short, long, value_name = "FORMAT", default_value = "text", global = true)]
    output: RecipeFormat,
    #[command(subcommand)]
    party: PartyCommand,
}

/// Which tokens are to be trusted.
#[derive(Debug, Args)]
struct WantedArgs {
    /// A trusted subject: exact, or with `*` for any run of characters. Repeat for several.
    #[arg(long, value_name = "SUBJECT", global = true)]
    subject: Vec<SubjectMatch>,
    /// An attribute of a trusted run, whose subject follows from the issuer's profile. Repeat for each.
    #[arg(long, value_name = "NAME=VALUE", value_parser = run_attributes::parse, global = true, requires = "issuer_id")]
    attribute: Vec<(String, String)>,
    /// Which of the profile's subject forms such a run has [default: the first that is for it].
    #[arg(long, value_name = "FORM", default_value = "", hide_default_value = true, global = true, requires = "attribute")]
    subject_form: String,
    /// The `aud` of the tokens [default: the one that the issuer's profile fixes, or else that of the relying party].
    #[arg(long, value_name = "AUDIENCE", global = true)]
    audience: Option<String>,
    /// Where the workload finds its ID token.
    #[arg(long, value_name = "FILE", default_value = "/var/run/countersign/token", global = true)]
    token_file: String,
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
        let issuer = match (&self.issuer_id, &self.issuer_url) {
            (None, None) => return Err(Failure::usage("no issuer given; pass --issuer-id or --issuer-url")),
            (_, Some(url)) => TrustedSide::elsewhere(url)?,
            (Some(id), None) => TrustedSide::ours(session, id.clone()).await?,
        };
        let (of, format, to) = (self.party, self.output, self.to);
        let Prepared { plan, notes } = self.wanted.prepare(&of, &issuer)?;
        let thumbprint = match &of {
            PartyCommand::Aws(args) => thumbprint(args, &plan, output).await,
            _ => None,
        };
        let recipe = of.recipe(&plan, thumbprint.as_deref(), notes)?;
        if let Some(folder) = &to {
            for file in recipe.write_to(folder)? {
                output.message(format!("Wrote {file}."));
            }
        }
        print(&recipe, format, output).map_err(Failure::from)
    }
}

/// A plan that nothing is in the way of, and what to know besides.
struct Prepared {
    plan: Plan,
    notes: Vec<String>,
}

impl WantedArgs {
    /// # Errors
    /// The tokens would not be accepted: they have another audience, or the party refuses them.
    fn prepare(self, of: &PartyCommand, issuer: &TrustedSide) -> Result<Prepared> {
        let Self { mut subject, attribute, subject_form, audience, token_file } = self;
        let attributes = run_attributes::collect(attribute)?;
        let run = if attributes.is_empty() { None } else { issuer.run(attributes, subject_form)? };
        subject.extend(run.iter().map(|run| run.subject.clone()));
        if subject.is_empty() {
            return Err(Failure::usage("no subject given; pass --subject, or --attribute for each attribute of a run"));
        }
        let audience = issuer.audience(run.as_ref(), audience, of.audience())?;
        let mut notes = issuer.notes(run.as_ref(), &audience, &token_file);
        notes.extend(issuer.doubts(&subject));
        let plan = Plan::new(issuer, subject, audience, token_file);
        let obstacles = plan.obstacles(of.party());
        if !obstacles.is_empty() {
            let lines: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
            return Err(Failure::usage(lines.join("\n")));
        }
        Ok(Prepared { plan, notes })
    }
}

impl PartyCommand {
    /// # Errors
    /// The party does not accept what would have to be said.
    fn recipe(&self, plan: &Plan, thumbprint: Option<&str>, notes: Vec<String>) -> Result<Recipe> {
        let mut recipe = match self {
            Self::Aws(args) => args.recipe(plan, thumbprint).map_err(Failure::usage)?,
            Self::Gcp(args) => args.recipe(plan).map_err(Failure::usage)?,
            Self::Azure(args) => args.recipe(plan),
            Self::Vault(args) => args.recipe(plan),
            Self::Kubernetes(args) => args.recipe(plan).map_err(Failure::usage)?,
        };
        for note in notes {
            recipe.note(note);
        }
        recipe.note("Not checked: whether the relying party reaches the issuer and accepts its keys; `countersign issuers doctor` checks the keys.");
        Ok(recipe)
    }
}

/// The thumbprint that was given, or that of the issuer's host, when it can be had.
async fn thumbprint(args: &aws::AwsArgs, plan: &Plan, output: &mut Output) -> Option<String> {
    if let Some(given) = args.thumbprint() {
        return Some(given.to_owned());
    }
    let found = match Inspector::new(None) {
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
