//! Kubernetes: the API server's structured authentication configuration, and a binding for the subjects.

use clap::Args;
use serde_json::json;

use super::plan::Plan;
use super::recipe::{Recipe, cel_of_subjects};

/// What users and groups of ours begin with, so that none is mistaken for one of the cluster's.
const PREFIX: &str = "countersign:";

#[derive(Debug, Args)]
pub(crate) struct KubernetesArgs {
    /// The cluster role that is given.
    #[arg(long, value_name = "NAME")]
    cluster_role: String,
    /// The namespace that it is given in [default: all].
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Names the binding, and the group of those whose subjects match a pattern.
    #[arg(long, value_name = "NAME", default_value = "workloads")]
    name: String,
}

impl KubernetesArgs {
    /// What the API server is told to expect as `aud`, unless said otherwise.
    pub(super) const AUDIENCE: &'static str = "kubernetes";

    /// # Errors
    /// When a file cannot be written as YAML.
    pub(super) fn recipe(&self, plan: &Plan) -> Result<Recipe, String> {
        let mut recipe = Recipe::default();
        let (exact, patterns) = plan.exact_and_patterns();
        let mut mappings = json!({ "username": { "claim": "sub", "prefix": PREFIX } });
        let group = format!("{PREFIX}{}", self.name);
        if !patterns.is_empty() {
            // Nobody can bind a role to a pattern of users, so whoever gets in is in a group.
            mappings["groups"] = json!({ "expression": format!("[{}]", super::recipe::cel_text(&group)) });
        }
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthenticationConfiguration",
            "jwt": [{
                "issuer": { "url": plan.issuer_url(), "audiences": [plan.audience()] },
                "claimValidationRules": [{
                    "expression": cel_of_subjects("claims", plan.subjects()),
                    "message": "the subject is not one that is trusted here",
                }],
                "claimMappings": mappings,
            }],
        });
        let subjects: Vec<_> = if patterns.is_empty() {
            exact.iter().map(|subject| ("User", format!("{PREFIX}{subject}"))).collect()
        } else {
            vec![("Group", group)]
        };
        let subjects: Vec<_> = subjects
            .into_iter()
            .map(|(kind, name)| json!({ "kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io" }))
            .collect();
        let mut metadata = json!({ "name": format!("countersign-{}", self.name) });
        if let Some(namespace) = &self.namespace {
            metadata["namespace"] = json!(namespace);
        }
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": if self.namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" },
            "metadata": metadata,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": self.cluster_role },
            "subjects": subjects,
        });
        let yaml = |value: &serde_json::Value| serde_norway::to_string(value).map_err(|error| error.to_string());
        recipe.file("authentication-config.yaml", yaml(&configuration)?);
        recipe.file("binding.yaml", yaml(&binding)?);
        let user = json!({ "users": [{ "name": "countersign", "user": { "tokenFile": plan.token_file() } }] });
        recipe.file("kubeconfig-user.yaml", yaml(&user)?);
        recipe.command(["kubectl", "apply", "-f", "binding.yaml"]);
        recipe.note("Start the API server with --authentication-config=authentication-config.yaml; it reads the file again when it changes.");
        recipe.note("A kubeconfig with the user of kubeconfig-user.yaml reads the token's file anew each time.");
        Ok(recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(args: &KubernetesArgs, subjects: &[&str]) -> (serde_json::Value, serde_json::Value) {
        let recipe = args.recipe(&Plan::of("https://id.example.com", "kubernetes", subjects)).unwrap().to_json();
        let file = |name: &str| serde_norway::from_str(recipe["files"][name].as_str().unwrap()).unwrap();
        (file("authentication-config.yaml"), file("binding.yaml"))
    }

    fn args(namespace: Option<&str>) -> KubernetesArgs {
        KubernetesArgs { cluster_role: "edit".to_owned(), namespace: namespace.map(str::to_owned), name: "ci".to_owned() }
    }

    #[test]
    fn each_exact_subject_is_a_user_that_is_bound_and_the_only_one_let_in() {
        let (configuration, binding) = files(&args(Some("prod")), &["a:b", "a:c"]);
        let jwt = &configuration["jwt"][0];
        assert_eq!(jwt["issuer"], json!({"url": "https://id.example.com", "audiences": ["kubernetes"]}));
        assert_eq!(jwt["claimValidationRules"][0]["expression"], r#"claims.sub in ["a:b", "a:c"]"#);
        assert_eq!(jwt["claimMappings"]["username"], json!({"claim": "sub", "prefix": "countersign:"}));
        assert_eq!((&binding["kind"], &binding["metadata"]["namespace"]), (&json!("RoleBinding"), &json!("prod")));
        let users: Vec<_> = binding["subjects"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
        assert_eq!(users, ["countersign:a:b", "countersign:a:c"]);
    }

    #[test]
    fn those_who_match_a_pattern_are_bound_by_a_group() {
        let (configuration, binding) = files(&args(None), &["a:*"]);
        assert_eq!(configuration["jwt"][0]["claimMappings"]["groups"]["expression"], r#"["countersign:ci"]"#);
        assert_eq!(configuration["jwt"][0]["claimValidationRules"][0]["expression"], r#"claims.sub.matches("^a:.*$")"#);
        assert_eq!((&binding["kind"], &binding["subjects"][0]["kind"]), (&json!("ClusterRoleBinding"), &json!("Group")));
    }
}
