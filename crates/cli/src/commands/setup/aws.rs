//! AWS: an OIDC provider in IAM, and a role that its tokens may assume.

use clap::Args;
use serde_json::{Value, json};

use super::plan::Plan;
use super::recipe::Recipe;

#[derive(Debug, Args)]
pub(crate) struct AwsArgs {
    /// The account, twelve digits.
    #[arg(long, value_name = "ID", value_parser = account)]
    account_id: String,
    /// The role that workloads assume.
    #[arg(long, value_name = "NAME", default_value = "countersign")]
    role_name: String,
    /// The partition: `aws`, `aws-cn` or `aws-us-gov`.
    #[arg(long, value_name = "NAME", default_value = "aws")]
    partition: String,
    /// The thumbprint of the issuer's certificate, in hexadecimal [default: asked of the issuer's host; AWS itself needs none for
    /// hosts with certificates of well-known authorities].
    #[arg(long, value_name = "HEX", value_parser = hexadecimal)]
    thumbprint: Option<String>,
    /// Let tokens set session tags. Needed when they carry the claim `https://aws.amazon.com/tags` [default: as the profile of
    /// --issuer-id says].
    #[arg(long)]
    session_tags: bool,
}

/// The longest role trust policy, without white space: by default, and on request.
const TRUST_POLICY: usize = 2_048;
const MAX_TRUST_POLICY: usize = 4_096;

fn hexadecimal(text: &str) -> Result<String, String> {
    let is_one = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { Ok(text.to_owned()) } else { Err("must be 40 hexadecimal digits".to_owned()) }
}

fn account(text: &str) -> Result<String, String> {
    let is_one = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_one { Ok(text.to_owned()) } else { Err("must be twelve digits".to_owned()) }
}

impl AwsArgs {
    /// What AWS is asked to trust tokens for, unless said otherwise.
    pub(super) const AUDIENCE: &'static str = "sts.amazonaws.com";

    /// The thumbprint, when it was given.
    pub(super) fn thumbprint(&self) -> Option<&str> {
        self.thumbprint.as_deref()
    }

    /// # Errors
    /// The trust policy is longer than AWS accepts.
    pub(super) fn recipe(&self, plan: &Plan, thumbprint: Option<&str>) -> Result<Recipe, String> {
        let mut recipe = Recipe::default();
        let (role_arn, trust_policy) = (self.role_arn(), self.trust_policy(plan));
        let length = trust_policy.to_string().chars().filter(|character| !character.is_whitespace()).count();
        if length > MAX_TRUST_POLICY {
            return Err(format!(
                "AWS accepts role trust policies of at most {MAX_TRUST_POLICY} characters, and this one has {length}; divide the subjects among several roles"
            ));
        }
        if length > TRUST_POLICY {
            recipe.note(format!("The trust policy has {length} characters; more than {TRUST_POLICY} need a higher quota (`Role trust policy length`)."));
        }
        recipe.json("trust-policy.json", &trust_policy);
        recipe.file("main.tf", self.terraform(plan, thumbprint));
        let mut create = vec!["aws", "iam", "create-open-id-connect-provider", "--url", plan.issuer_url()];
        create.extend(["--client-id-list", plan.audience()]);
        create.extend(thumbprint.iter().flat_map(|thumbprint| ["--thumbprint-list", *thumbprint]));
        recipe.command(create);
        let create = ["aws", "iam", "create-role", "--role-name", &self.role_name];
        recipe.command(create.into_iter().chain(["--assume-role-policy-document", "file://trust-policy.json"]));
        recipe.variable("AWS_ROLE_ARN", role_arn);
        recipe.variable("AWS_WEB_IDENTITY_TOKEN_FILE", plan.token_file());
        recipe.variable("AWS_ROLE_SESSION_NAME", "countersign");
        recipe.note("The role grants nothing yet; attach the policies that the workload needs.");
        recipe.note("Use either the commands or main.tf.");
        if !self.allows_session_tags(plan) {
            recipe.note(
                "Tokens with the claim `https://aws.amazon.com/tags` are refused; pass --session-tags to allow `sts:TagSession`.",
            );
        }
        Ok(recipe)
    }

    /// AWS refuses a token with session tags unless the trust policy allows `sts:TagSession`.
    fn allows_session_tags(&self, plan: &Plan) -> bool {
        self.session_tags || plan.has_session_tags()
    }

    fn role_arn(&self) -> String {
        format!("arn:{}:iam::{}:role/{}", self.partition, self.account_id, self.role_name)
    }

    fn provider_arn(&self, plan: &Plan) -> String {
        format!("arn:{}:iam::{}:oidc-provider/{}", self.partition, self.account_id, plan.host_and_path())
    }

    /// Exact subjects and patterns have statements of their own: conditions of one statement must all hold, and what is exact is not
    /// to be read for placeholders.
    fn trust_policy(&self, plan: &Plan) -> Value {
        let key = |claim: &str| format!("{}:{claim}", plan.host_and_path());
        let action = if self.allows_session_tags(plan) {
            json!(["sts:AssumeRoleWithWebIdentity", "sts:TagSession"])
        } else {
            json!("sts:AssumeRoleWithWebIdentity")
        };
        let statement = |operator: &str, subjects: Vec<&str>| {
            let mut condition = json!({ "StringEquals": { key("aud"): plan.audience() } });
            condition[operator][key("sub")] = json!(subjects);
            json!({
                "Effect": "Allow",
                "Principal": { "Federated": self.provider_arn(plan) },
                "Action": action,
                "Condition": condition,
            })
        };
        let (exact, patterns) = plan.exact_and_patterns();
        let statements = [("StringEquals", exact), ("StringLike", patterns)];
        let statements: Vec<Value> = statements
            .into_iter()
            .filter(|(_, subjects)| !subjects.is_empty())
            .map(|(operator, subjects)| statement(operator, subjects))
            .collect();
        json!({ "Version": "2012-10-17", "Statement": statements })
    }

    fn terraform(&self, plan: &Plan, thumbprint: Option<&str>) -> String {
        // HCL reads `${` and `%{` in texts.
        let text = |text: &str| Value::from(text).to_string().replace("${", "$${").replace("%{", "%%{");
        let thumbprints = thumbprint.map(|print| format!("  thumbprint_list = [{}]\n", text(print))).unwrap_or_default();
        format!(
            r#"resource "aws_iam_openid_connect_provider" "countersign" {{
  url             = {url}
  client_id_list  = [{audience}]
{thumbprints}}}

resource "aws_iam_role" "countersign" {{
  name               = {role}
  assume_role_policy = file("${{path.module}}/trust-policy.json")
  depends_on         = [aws_iam_openid_connect_provider.countersign]
}}
"#,
            url = text(plan.issuer_url()),
            audience = text(plan.audience()),
            role = text(&self.role_name),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> AwsArgs {
        AwsArgs {
            account_id: "123456789012".to_owned(),
            role_name: "deploy".to_owned(),
            partition: "aws".to_owned(),
            thumbprint: None,
            session_tags: false,
        }
    }

    #[test]
    fn tokens_with_session_tags_need_a_second_action() {
        let plan = Plan::of("https://id.example.com", "aud", &["a", "b:*"]);
        assert_eq!(args().trust_policy(&plan)["Statement"][0]["Action"], "sts:AssumeRoleWithWebIdentity");
        let with = AwsArgs { session_tags: true, ..args() }.trust_policy(&plan);
        for statement in with["Statement"].as_array().unwrap() {
            assert_eq!(statement["Action"], json!(["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]));
        }
    }

    #[test]
    fn s86_a_trust_policy_that_aws_does_not_accept_is_refused() {
        let of = |number: usize| {
            let subjects: Vec<String> = (0..number).map(|number| format!("org:my-org:vault:deploy-vault-{number:03}")).collect();
            let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
            args().recipe(&Plan::of("https://id.example.com", "aud", &subjects), None).map(|recipe| recipe.text())
        };
        assert!(!of(10).unwrap().contains("higher quota"));
        assert!(of(60).unwrap().contains("higher quota"));
        assert!(of(120).unwrap_err().contains("at most 4096 characters"));
    }

    #[test]
    fn the_trust_policy_asks_for_audience_and_subject_of_this_provider() {
        let plan = Plan::of("https://id.example.com/issuers/a", AwsArgs::AUDIENCE, &["org:a:vault:b"]);
        let policy = args().trust_policy(&plan);
        let statement = &policy["Statement"][0];
        let provider = "arn:aws:iam::123456789012:oidc-provider/id.example.com/issuers/a";
        assert_eq!(statement["Principal"]["Federated"], provider);
        assert_eq!(
            statement["Condition"],
            json!({"StringEquals": {
                "id.example.com/issuers/a:aud": "sts.amazonaws.com",
                "id.example.com/issuers/a:sub": ["org:a:vault:b"],
            }})
        );
    }

    #[test]
    fn a_pattern_is_compared_in_a_statement_of_its_own_with_the_audience_still_exact() {
        let plan = Plan::of("https://id.example.com", "aud", &["a?", "b:*"]);
        let policy = args().trust_policy(&plan);
        let conditions: Vec<&Value> = policy["Statement"].as_array().unwrap().iter().map(|one| &one["Condition"]).collect();
        assert_eq!(conditions[0], &json!({"StringEquals": {"id.example.com:aud": "aud", "id.example.com:sub": ["a?"]}}));
        let like = json!({"StringEquals": {"id.example.com:aud": "aud"}, "StringLike": {"id.example.com:sub": ["b:*"]}});
        assert_eq!(conditions[1], &like);
    }

    #[test]
    fn commands_variables_and_terraform_name_the_same_things() {
        let plan = Plan::of("https://id.example.com", "aud", &["a"]);
        let text = args().recipe(&plan, Some("ab12")).unwrap().text();
        for expected in [
            "aws iam create-open-id-connect-provider --url https://id.example.com --client-id-list aud --thumbprint-list ab12",
            "aws iam create-role --role-name deploy --assume-role-policy-document file://trust-policy.json",
            "export AWS_ROLE_ARN=arn:aws:iam::123456789012:role/deploy",
            "export AWS_WEB_IDENTITY_TOKEN_FILE=/run/token",
            "thumbprint_list = [\"ab12\"]",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(account("12345678901").is_err() && account("12345678901a").is_err());
    }
}
