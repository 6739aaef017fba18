//! What the linter found.

use countersign_domain::insight::lint::{Finding, Severity};

use crate::trust_v1 as wire;

impl From<Finding> for wire::LintFinding {
    fn from(finding: Finding) -> Self {
        Self {
            rule: finding.rule.id().to_owned(),
            severity: wire::LintSeverity::from(finding.severity).into(),
            field: finding.field,
            risk: finding.risk,
            fix: finding.fix,
        }
    }
}

impl From<Severity> for wire::LintSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Advice => Self::Advice,
            Severity::Warning => Self::Warning,
            Severity::Error => Self::Error,
        }
    }
}
