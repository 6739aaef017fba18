//! What a relationship asks of a token besides its subject, as flags.

use std::collections::HashMap;

use clap::Args;
use countersign_domain::trust::claim_condition::{ClaimCondition, ClaimConditionDraft};
use countersign_proto::trust_v1;

use crate::text_file;

const CONDITION_HELP: &str = r#"What a claim must be, as JSON: {"claim":"ref_protected","equals":"true"}. The test is one of equals, one_of, glob, contains and exists; "negated":true turns it round. Repeat for several; all must hold"#;

#[derive(Debug, Default, Args)]
pub(super) struct ConditionArgs {
    #[arg(long, value_name = "JSON", value_parser = parse_condition, help = CONDITION_HELP)]
    condition: Vec<ClaimCondition>,
    /// A CEL expression of `assertion`, the token's claims, and `attribute`, what --attribute makes of them. Must be true.
    #[arg(long, value_name = "CEL")]
    cel_condition: Option<String>,
    /// What the access token carries as an attribute: its name and a CEL expression of `assertion`. Repeat for several.
    #[arg(long, value_name = "NAME=CEL", value_parser = parse_attribute)]
    attribute: Vec<(String, String)>,
    /// Names the relationship in files. Unique in the workspace.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

impl ConditionArgs {
    /// The fields, by their names on the wire, and whether their flags are given.
    pub(super) fn given(&self) -> [(&'static str, bool); 4] {
        [
            ("key", self.key.is_some()),
            ("claim_conditions", !self.condition.is_empty()),
            ("cel_condition", self.cel_condition.is_some()),
            ("attribute_mapping", !self.attribute.is_empty()),
        ]
    }

    pub(super) fn key(&mut self) -> String {
        self.key.take().unwrap_or_default()
    }

    pub(super) fn claim_conditions(&self) -> Vec<trust_v1::ClaimCondition> {
        self.condition.iter().map(Into::into).collect()
    }

    pub(super) fn cel_condition(&mut self) -> String {
        self.cel_condition.take().unwrap_or_default()
    }

    pub(super) fn attribute_mapping(&mut self) -> HashMap<String, String> {
        self.attribute.drain(..).collect()
    }
}

fn parse_condition(text: &str) -> Result<ClaimCondition, String> {
    let draft: ClaimConditionDraft = serde_json::from_str(text).map_err(|error| {
        let problem = text_file::problem(&error.to_string());
        // So large that the reader of JSON does not know which field it is in.
        problem.replace(
            "number out of range",
            "whole numbers are from -9223372036854775808 to 9223372036854775807; the number is outside that range",
        )
    })?;
    ClaimCondition::try_from(draft).map_err(|error| error.to_string())
}

fn parse_attribute(text: &str) -> Result<(String, String), String> {
    let (name, expression) = text.split_once('=').ok_or("write it as NAME=CEL, for example team=assertion.team")?;
    Ok((name.to_owned(), expression.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_json_and_refused_with_the_reason() {
        let condition = parse_condition(r#"{"claim": "ref", "glob": "refs/heads/*", "negated": true}"#).unwrap();
        assert_eq!(condition.to_string(), r#"ref is not like "refs/heads/*""#);
        assert!(parse_condition(r#"{"claim": "ref"}"#).unwrap_err().contains("exactly one of"));
        for (test, field) in [
            (r#""equals": 1.5"#, "equals must be"),
            (r#""equals": 20000000000000000001"#, "equals must be"),
            (r#""one_of": [1, 18446744073709551615]"#, "one_of[1] must be"),
            (r#""contains": 1e400"#, "the number is outside that range at line 1 column"),
        ] {
            let refused = parse_condition(&format!(r#"{{"claim": "ref", {test}}}"#)).unwrap_err();
            assert!(refused.contains(field), "{refused}");
        }
    }

    #[test]
    fn an_attribute_may_hold_equality() {
        let expected = ("main".to_owned(), "assertion.ref == 'refs/heads/main'".to_owned());
        assert_eq!(parse_attribute("main=assertion.ref == 'refs/heads/main'"), Ok(expected));
        assert!(parse_attribute("main").is_err());
    }
}
