//! What a well-formed trust relationship lets in that nobody meant to let in, and what it can never let in.
//!
//! A linter, not a check: what is refused as malformed never comes here. Each [`Finding`] says what an attacker could do, and what
//! to write instead. Errors refuse a write ([`refusing`]), unless it only takes away ([`crate::insight::comparison`]): nobody is kept from
//! that.
//!
//! What past exchanges say beyond that is found by [`crate::insight::review`].
//!
//! Rules by kind: the shape of patterns ([`patterns`]), the issuer's tenants, forms and audiences ([`provider`]), claims
//! ([`claims`]), what is given and for how long ([`gives`]), other relationships ([`coverage`]).

mod claims;
mod coverage;
mod gives;
mod patterns;
mod provider;

use std::fmt;

use crate::trust::preset::Preset;
use crate::trust::trust_relationship::TrustRelationshipSettings;
use crate::trust::trusted_issuer::TrustedIssuerSettings;
use crate::values::deployment_audience::DeploymentAudience;
use crate::values::id::TrustRelationshipId;
use crate::values::time::Timestamp;
use crate::values::violation::Violations;

/// What is looked at.
#[derive(Clone, Copy)]
pub struct LintInput<'a> {
    /// The relationship.
    pub relationship: &'a TrustRelationshipSettings,
    /// Its issuer.
    pub issuer: &'a TrustedIssuerSettings,
    /// What is known of the issuer.
    pub preset: Option<&'a Preset>,
    /// Whether the issuer is one of this deployment.
    pub is_own_issuer: bool,
    /// Other relationships of the issuer, of which at most [`MAX_OTHERS`] are looked at.
    pub others: &'a [(&'a TrustRelationshipId, &'a TrustRelationshipSettings)],
    /// The deployment's audience.
    pub deployment: &'a DeploymentAudience,
    /// The time.
    pub now: Timestamp,
}

/// The most other relationships that are compared.
pub const MAX_OTHERS: usize = 1_000;

/// How bad it is. Greater is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// It could be better.
    Advice,
    /// It is probably not what was meant. Refused in strict mode.
    Warning,
    /// It lets strangers in, or nobody. Refused.
    Error,
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal,)+) => {
        /// What was found. The id of a rule never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its id: lower case, with hyphens.
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)+
                }
            }
        }
    };
}

rules! {
    /// A subject match that accepts every subject.
    BareWildcard = "bare-wildcard",
    /// A `*` that begins a subject match.
    LeadingWildcard = "leading-wildcard",
    /// A `*` beside no delimiter, which accepts names that merely begin or end alike.
    WildcardWithinName = "wildcard-within-name",
    /// A `*` between delimiters, which accepts more of them.
    WildcardSpansDelimiters = "wildcard-spans-delimiters",
    /// An issuer that many customers share, and nothing that says which of them is meant.
    TenantNotPinned = "tenant-not-pinned",
    /// The tenant is told by a name that somebody else can have later.
    RecyclableTenant = "recyclable-tenant",
    /// A subject match that no subject of the issuer can match.
    SubjectCannotMatch = "subject-cannot-match",
    /// A form of subject that the issuer is leaving.
    LeavingSubjectForm = "leaving-subject-form",
    /// A subject match that accepts subjects of an old form and of the new one.
    SeveralSubjectForms = "several-subject-forms",
    /// No token of the issuer has an accepted audience.
    AudienceCannotMatch = "audience-cannot-match",
    /// An accepted audience that others share.
    AudienceOfOthers = "audience-of-others",
    /// A condition that asks for another type than the claim has.
    ConditionTypeMismatch = "condition-type-mismatch",
    /// A claim that the issuer's tokens do not have.
    UnknownClaim = "unknown-claim",
    /// CEL's `!=`, which is true of values of other types.
    CelInequality = "cel-inequality",
    /// A grant of every resource of a type, or of every action.
    GrantOfEverything = "grant-of-everything",
    /// A reserved scope that is reached through an issuer of this deployment.
    ReservedScopeBehindOwnIssuer = "reserved-scope-behind-own-issuer",
    /// No end.
    NeverExpires = "never-expires",
    /// The end is past.
    Expired = "expired",
    /// Another relationship accepts all that this one accepts, or the other way round.
    Overlap = "overlap",
    /// It never decided an exchange.
    NeverMatched = "never-matched",
    /// It did not decide an exchange for long.
    UnusedLately = "unused-lately",
    /// A subject match that accepts far more than anybody uses.
    WiderThanUsed = "wider-than-used",
    /// A subject match that nobody uses, of a relationship that is used.
    UnusedSubjectMatch = "unused-subject-match",
    /// A subject match of a form that the issuer is leaving, which nobody uses any more.
    OldFormUnused = "old-form-unused",
    /// The end is near.
    ExpiresSoon = "expires-soon",
    /// The keys of its issuer cannot be read.
    IssuerUnhealthy = "issuer-unhealthy",
    /// Its issuer is disabled.
    IssuerDisabled = "issuer-disabled",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule found it.
    pub rule: Rule,
    /// How bad it is.
    pub severity: Severity,
    /// Where, in the wire's names: `trust_relationship.subject_matches[0]`.
    pub field: String,
    /// What an attacker could do, or what goes wrong.
    pub risk: String,
    /// What to write instead.
    pub fix: String,
}

/// The findings that a change of a trusted issuer causes: those that are not found under its former settings. `input` has the new
/// ones.
pub fn caused(input: &LintInput<'_>, former: &TrustedIssuerSettings) -> Vec<Finding> {
    let before = lint(&LintInput { issuer: former, preset: former.known_preset(), ..*input });
    let is_new = |finding: &Finding| {
        !before
            .iter()
            .any(|known| (known.rule, &known.field) == (finding.rule, &finding.field) && known.severity >= finding.severity)
    };
    lint(input).into_iter().filter(is_new).collect()
}

/// Everything that is found, the worst first.
pub fn lint(input: &LintInput<'_>) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    patterns::check(input, &mut findings);
    provider::check(input, &mut findings);
    claims::check(input, &mut findings);
    gives::check(input, &mut findings);
    coverage::check(input, &mut findings);
    let Findings(mut findings) = findings;
    // Stable: of one severity, in the order of the rules and fields.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// The violations for which a write of what was found is refused: errors, and in strict mode warnings too.
pub fn refusing(findings: &[Finding], strict: bool) -> Violations {
    let least = if strict { Severity::Warning } else { Severity::Error };
    let mut violations = Violations::new();
    for finding in findings.iter().filter(|finding| finding.severity >= least) {
        violations.add(finding.field.as_str(), format!("{} ({}); {}", finding.risk, finding.rule, finding.fix));
    }
    violations
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, rule: Rule, severity: Severity, field: &str, risk: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding { rule, severity, field: field.to_owned(), risk: risk.into(), fix: fix.into() });
    }
}

fn subject_field(index: usize) -> String {
    format!("trust_relationship.subject_matches[{index}]")
}

fn condition_field(index: usize) -> String {
    format!("trust_relationship.claim_conditions[{index}]")
}

#[cfg(test)]
mod tests;
