//! What is given, and for how long.

use super::{Findings, LintInput, Rule, Severity};
use crate::access::permission::is_reserved;

pub(super) fn check(input: &LintInput<'_>, findings: &mut Findings) {
    let relationship = input.relationship;
    for (index, grant) in relationship.grants.iter().enumerate() {
        let kind = &grant.resource_type;
        if grant.resource_id == "*" {
            findings.add(
                Rule::GrantOfEverything,
                Severity::Advice,
                &format!("trust_relationship.grants[{index}].resource_id"),
                format!("a stolen token reaches every resource of the type `{kind}`, those that do not exist yet included"),
                "name the resources that are needed, one grant each",
            );
        }
        if let Some(place) = grant.actions.iter().position(|action| action == "*") {
            findings.add(
                Rule::GrantOfEverything,
                Severity::Advice,
                &format!("trust_relationship.grants[{index}].actions[{place}]"),
                format!("a stolen token may do anything to what it reaches of the type `{kind}`"),
                "name the actions that are needed",
            );
        }
    }
    if input.is_own_issuer {
        for (index, scope) in relationship.scopes.iter().enumerate().filter(|(_, scope)| is_reserved(scope)) {
            findings.add(
                Rule::ReservedScopeBehindOwnIssuer,
                Severity::Warning,
                &format!("trust_relationship.scopes[{index}]"),
                format!(
                    "the issuer belongs to this deployment: a caller who can change its profile or request its ID tokens \
                     (`countersign:issuers.update`, `countersign:id_tokens.issue`) chooses which subjects it signs, and can obtain \
                     `{scope}` through them"
                ),
                "grant the scope to subjects of an external issuer, or give those two permissions only to callers that may hold the scope",
            );
        }
    }
    let field = "trust_relationship.expire_time";
    match relationship.expires_at {
        None => findings.add(
            Rule::NeverExpires,
            Severity::Advice,
            field,
            "what nobody uses any more stays open until somebody thinks of it",
            "set a time by which somebody looks at it again",
        ),
        Some(end) if end <= input.now => findings.add(
            Rule::Expired,
            Severity::Warning,
            field,
            "the relationship has ended: it accepts no token",
            "delete it, or set a later time",
        ),
        Some(_) => {}
    }
}
