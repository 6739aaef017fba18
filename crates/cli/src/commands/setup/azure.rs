//! Azure: federated credentials of an application, one for each subject.

use clap::Args;
use serde_json::json;

use super::plan::Plan;
use super::recipe::Recipe;

#[derive(Debug, Args)]
pub(crate) struct AzureArgs {
    /// The application (client) that workloads act as.
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// The tenant of the application.
    #[arg(long, value_name = "ID")]
    azure_tenant_id: String,
}

impl AzureArgs {
    /// What Entra ID expects as `aud`.
    pub(super) const AUDIENCE: &'static str = "api://AzureADTokenExchange";

    pub(super) fn recipe(&self, plan: &Plan) -> Recipe {
        let mut recipe = Recipe::default();
        for (number, subject) in plan.subjects().iter().enumerate() {
            let file = format!("federated-credential-{}.json", number + 1);
            let credential = json!({
                "name": name(number, subject.as_str()),
                "issuer": plan.issuer_url(),
                "subject": subject.as_str(),
                "audiences": [plan.audience()],
            });
            recipe.json(&file, &credential);
            let create = ["az", "ad", "app", "federated-credential", "create", "--id", &self.client_id];
            recipe.command(create.into_iter().chain(["--parameters", &format!("@{file}")]));
        }
        recipe.variable("AZURE_CLIENT_ID", &self.client_id);
        recipe.variable("AZURE_TENANT_ID", &self.azure_tenant_id);
        recipe.variable("AZURE_FEDERATED_TOKEN_FILE", plan.token_file());
        recipe.variable("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/");
        recipe.note("Issuer, subject and audience are compared exactly, case included; a slash at the end counts.");
        recipe.note("Tokens must be signed with RS256: ask for them with `--algorithm RS256` where the issuer has others too.");
        recipe
    }
}

/// A name that Entra ID takes: letters, digits, `-` and `_`, at most 120 of them. The number keeps two that read alike apart.
fn name(number: usize, subject: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    let subject: String = subject.chars().map(plain).take(100).collect();
    format!("cs{}-{}", number + 1, subject.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_a_credential_of_its_own() {
        let args = AzureArgs { client_id: "app".to_owned(), azure_tenant_id: "tenant".to_owned() };
        let plan = Plan::of("https://id.example.com/a", AzureArgs::AUDIENCE, &["org:a:vault:b", "org:a:vault:c"]);
        let recipe = args.recipe(&plan).to_json();
        let file = |name: &str| -> serde_json::Value { serde_json::from_str(recipe["files"][name].as_str().unwrap()).unwrap() };
        assert_eq!(
            file("federated-credential-2.json"),
            json!({
                "name": "cs2-org-a-vault-c",
                "issuer": "https://id.example.com/a",
                "subject": "org:a:vault:c",
                "audiences": ["api://AzureADTokenExchange"],
            })
        );
        let command = "az ad app federated-credential create --id app --parameters @federated-credential-1.json";
        assert_eq!(recipe["commands"][0], command);
        assert_eq!(recipe["environment"]["AZURE_FEDERATED_TOKEN_FILE"], "/run/token");
        assert!(name(0, &"é".repeat(500)).len() <= 120);
    }
}
