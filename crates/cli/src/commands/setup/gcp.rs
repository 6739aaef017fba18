//! Google Cloud: a workload identity pool with an OIDC provider.

use clap::Args;
use serde_json::json;

use super::plan::Plan;
use super::recipe::{Recipe, cel_of_subjects};

/// The longest attribute condition.
const MAX_CONDITION: usize = 4_096;

#[derive(Debug, Args)]
pub(crate) struct GcpArgs {
    /// The number of the project that holds the pool.
    #[arg(long, value_name = "NUMBER", value_parser = project_number)]
    project_number: String,
    /// The workload identity pool.
    #[arg(long, value_name = "ID", default_value = "countersign")]
    pool: String,
    /// The provider in the pool.
    #[arg(long, value_name = "ID", default_value = "countersign")]
    provider: String,
    /// A service account that workloads act as [default: none; grant roles to the principals themselves].
    #[arg(long, value_name = "EMAIL")]
    service_account: Option<String>,
}

fn project_number(text: &str) -> Result<String, String> {
    let is_one = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_one { Ok(text.to_owned()) } else { Err("must be the project's number, not its id".to_owned()) }
}

impl GcpArgs {
    /// What Google expects as `aud` when nothing else was said.
    pub(super) fn audience(&self) -> String {
        format!("https:{}", self.resource())
    }

    /// The provider's full resource name.
    fn resource(&self) -> String {
        format!("//iam.googleapis.com/{}/providers/{}", self.pool_path(), self.provider)
    }

    fn pool_path(&self) -> String {
        format!("projects/{}/locations/global/workloadIdentityPools/{}", self.project_number, self.pool)
    }

    /// # Errors
    /// When the condition would be longer than Google takes.
    pub(super) fn recipe(&self, plan: &Plan) -> Result<Recipe, String> {
        let condition = cel_of_subjects("assertion", plan.subjects());
        if condition.chars().count() > MAX_CONDITION {
            return Err(format!("the condition on all these subjects would be longer than {MAX_CONDITION} characters"));
        }
        let mut recipe = Recipe::default();
        let mut credentials = json!({
            "type": "external_account",
            "audience": self.resource(),
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": { "file": plan.token_file(), "format": { "type": "text" } },
        });
        if let Some(account) = &self.service_account {
            credentials["service_account_impersonation_url"] = json!(format!(
                "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
            ));
        }
        recipe.json("gcp-credentials.json", &credentials);
        let project = format!("--project={}", self.project_number);
        let pools = ["gcloud", "iam", "workload-identity-pools"];
        recipe.command(pools.into_iter().chain(["create", &self.pool, "--location=global", &project]));
        let provider = [
            format!("--workload-identity-pool={}", self.pool),
            format!("--issuer-uri={}", plan.issuer_url()),
            format!("--allowed-audiences={}", plan.audience()),
            "--attribute-mapping=google.subject=assertion.sub".to_owned(),
            format!("--attribute-condition={condition}"),
        ];
        let create = ["providers", "create-oidc", &self.provider, "--location=global", &project];
        recipe.command(pools.into_iter().chain(create).chain(provider.iter().map(String::as_str)));
        for member in self.members(plan) {
            if let Some(account) = &self.service_account {
                let bind = ["gcloud", "iam", "service-accounts", "add-iam-policy-binding", account];
                recipe.command(bind.into_iter().chain(["--role=roles/iam.workloadIdentityUser", &format!("--member={member}")]));
            } else {
                recipe.note(format!("Grant roles to {member}."));
            }
        }
        recipe.variable("GOOGLE_APPLICATION_CREDENTIALS", "gcp-credentials.json");
        recipe.note("The condition is what keeps other subjects of the issuer out of the pool: do not leave it away.");
        Ok(recipe)
    }

    /// Whom roles are granted to. A pattern is a condition of the provider, so that whoever is in the pool matches.
    fn members(&self, plan: &Plan) -> Vec<String> {
        let (exact, patterns) = plan.exact_and_patterns();
        let pool = format!("iam.googleapis.com/{}", self.pool_path());
        if patterns.is_empty() {
            exact.into_iter().map(|subject| format!("principal://{pool}/subject/{subject}")).collect()
        } else {
            vec![format!("principalSet://{pool}/*")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(service_account: Option<&str>) -> GcpArgs {
        GcpArgs {
            project_number: "1234".to_owned(),
            pool: "pool".to_owned(),
            provider: "provider".to_owned(),
            service_account: service_account.map(str::to_owned),
        }
    }

    #[test]
    fn the_credential_file_is_an_external_account_of_the_provider() {
        let plan = Plan::of("https://id.example.com", "aud", &["a:b"]);
        let recipe = args(Some("deploy@p.iam.gserviceaccount.com")).recipe(&plan).unwrap().to_json();
        let credentials: serde_json::Value =
            serde_json::from_str(recipe["files"]["gcp-credentials.json"].as_str().unwrap()).unwrap();
        let provider = "//iam.googleapis.com/projects/1234/locations/global/workloadIdentityPools/pool/providers/provider";
        assert_eq!(credentials["audience"], provider);
        assert_eq!(credentials["credential_source"]["file"], "/run/token");
        let impersonation = credentials["service_account_impersonation_url"].as_str().unwrap();
        assert!(impersonation.ends_with("serviceAccounts/deploy@p.iam.gserviceaccount.com:generateAccessToken"));
        assert_eq!(args(None).audience(), format!("https:{provider}"));
        let commands = recipe["commands"].to_string();
        assert!(commands.contains("subject/a:b") && commands.contains("--allowed-audiences=aud"), "{commands}");
    }

    #[test]
    fn subjects_are_a_condition_of_the_provider_whoever_is_granted() {
        let plan = Plan::of("https://id.example.com", "aud", &["a:*"]);
        let text = args(None).recipe(&plan).unwrap().text();
        assert!(text.contains(r#"'--attribute-condition=assertion.sub.matches("^a:.*$")'"#), "{text}");
        assert!(text.contains("principalSet://iam.googleapis.com/projects/1234/locations/global/workloadIdentityPools/pool/*"));
        let many: Vec<String> = (0..500).map(|number| format!("subject-{number:04}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(args(None).recipe(&Plan::of("https://id.example.com", "aud", &many)).is_err());
        assert!(project_number("my-project").is_err());
    }
}
