//! Vault and OpenBao: the JWT auth method, and a role for the subjects.

use clap::Args;
use serde_json::json;

use super::plan::Plan;
use super::recipe::Recipe;

#[derive(Debug, Args)]
pub(crate) struct VaultArgs {
    /// Where the JWT auth method is mounted.
    #[arg(long, value_name = "PATH", default_value = "countersign")]
    mount: String,
    /// The role that workloads log in to.
    #[arg(long, value_name = "NAME")]
    role: String,
    /// A policy of the role's tokens. Repeat for several.
    #[arg(long, value_name = "NAME", required = true)]
    policy: Vec<String>,
}

impl VaultArgs {
    /// What Vault is told to expect as `aud`, unless said otherwise.
    pub(super) const AUDIENCE: &'static str = "vault";

    pub(super) fn recipe(&self, plan: &Plan) -> Recipe {
        let mut recipe = Recipe::default();
        let (exact, patterns) = plan.exact_and_patterns();
        let comparison = if patterns.is_empty() { "string" } else { "glob" };
        recipe.json("vault-config.json", &json!({ "oidc_discovery_url": plan.issuer_url(), "bound_issuer": plan.issuer_url() }));
        recipe.json(
            "vault-role.json",
            &json!({
                "role_type": "jwt",
                "bound_audiences": [plan.audience()],
                "bound_claims_type": comparison,
                "bound_claims": { "sub": exact.iter().chain(&patterns).collect::<Vec<_>>() },
                "user_claim": "sub",
                "token_policies": self.policy,
                "token_ttl": "15m",
                "token_max_ttl": "1h",
                "clock_skew_leeway": "30s",
                "expiration_leeway": "30s",
                "not_before_leeway": "30s",
            }),
        );
        let (config, role) = (format!("auth/{}/config", self.mount), format!("auth/{}/role/{}", self.mount, self.role));
        recipe.command(["vault", "auth", "enable", &format!("-path={}", self.mount), "jwt"]);
        recipe.command(["vault", "write", &config, "@vault-config.json"]);
        recipe.command(["vault", "write", &role, "@vault-role.json"]);
        let login = [format!("auth/{}/login", self.mount), format!("role={}", self.role), format!("jwt=@{}", plan.token_file())];
        recipe.note(format!("A workload logs in with: vault write {}", login.join(" ")));
        recipe.note("The role needs bound_audiences or bound_claims, and has both: Vault refuses a JWT role with neither.");
        recipe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(subjects: &[&str]) -> serde_json::Value {
        let args =
            VaultArgs { mount: "jwt".to_owned(), role: "deploy".to_owned(), policy: vec!["read".to_owned(), "write".to_owned()] };
        let recipe = args.recipe(&Plan::of("https://id.example.com", "vault", subjects)).to_json();
        assert_eq!(recipe["commands"][1], "vault write auth/jwt/config @vault-config.json");
        assert_eq!(recipe["commands"][2], "vault write auth/jwt/role/deploy @vault-role.json");
        serde_json::from_str(recipe["files"]["vault-role.json"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn the_role_binds_audience_and_subjects_and_compares_as_it_must() {
        let exact = role(&["a:b", "a:c"]);
        assert_eq!((&exact["bound_claims_type"], &exact["bound_claims"]["sub"]), (&json!("string"), &json!(["a:b", "a:c"])));
        assert_eq!((&exact["bound_audiences"], &exact["token_policies"]), (&json!(["vault"]), &json!(["read", "write"])));
        let glob = role(&["a:*", "b"]);
        assert_eq!((&glob["bound_claims_type"], &glob["bound_claims"]["sub"]), (&json!("glob"), &json!(["b", "a:*"])));
    }
}
