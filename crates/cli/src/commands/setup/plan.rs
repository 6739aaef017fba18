//! The tokens that a relying party is to trust.

use countersign_domain::issuing::relying_party::{Obstacle, RelyingParty, Trusted};
use countersign_domain::values::issuer_url::IssuerUrl;
use countersign_domain::values::signature_algorithm::SignatureAlgorithm;
use countersign_domain::values::subject_match::SubjectMatch;

use super::trusted_side::TrustedSide;

/// Tokens of an issuer, for an audience, of these subjects.
#[derive(Debug)]
pub(super) struct Plan {
    issuer_url: IssuerUrl,
    /// What the issuer signs with; `None` when that is not known.
    algorithms: Option<Vec<SignatureAlgorithm>>,
    subjects: Vec<SubjectMatch>,
    audience: String,
    token_file: String,
    /// Whether the tokens carry session tags of AWS.
    session_tags: bool,
}

impl Plan {
    pub(super) fn new(issuer: &TrustedSide, subjects: Vec<SubjectMatch>, audience: String, token_file: String) -> Self {
        let (issuer_url, algorithms) = (issuer.url.clone(), issuer.algorithms.clone());
        Self { issuer_url, algorithms, subjects, audience, token_file, session_tags: issuer.has_session_tags() }
    }

    /// What is in the way.
    pub(super) fn obstacles(&self, party: RelyingParty) -> Vec<Obstacle> {
        let algorithms = self.algorithms.as_deref().unwrap_or(party.algorithms());
        party.obstacles(&Trusted { issuer_url: &self.issuer_url, algorithms, subjects: &self.subjects, audience: &self.audience })
    }

    pub(super) fn issuer_url(&self) -> &str {
        self.issuer_url.as_str()
    }

    /// The issuer as AWS names it: without its scheme.
    pub(super) fn host_and_path(&self) -> &str {
        let url = self.issuer_url.as_str();
        url.split_once("://").map_or(url, |(_, rest)| rest)
    }

    pub(super) fn subjects(&self) -> &[SubjectMatch] {
        &self.subjects
    }

    pub(super) fn exact_and_patterns(&self) -> (Vec<&str>, Vec<&str>) {
        let of_kind = |literal: bool| {
            self.subjects.iter().filter(|subject| subject.is_literal() == literal).map(SubjectMatch::as_str).collect()
        };
        (of_kind(true), of_kind(false))
    }

    pub(super) fn audience(&self) -> &str {
        &self.audience
    }

    /// Whether the tokens carry session tags of AWS, as the issuer's profile says.
    pub(super) fn has_session_tags(&self) -> bool {
        self.session_tags
    }

    /// Where the workload finds its ID token.
    pub(super) fn token_file(&self) -> &str {
        &self.token_file
    }

    #[cfg(test)]
    pub(super) fn of(issuer_url: &str, audience: &str, subjects: &[&str]) -> Self {
        let subjects = subjects.iter().map(|subject| subject.parse().unwrap()).collect();
        let issuer = TrustedSide::elsewhere(issuer_url).unwrap();
        Self::new(&issuer, subjects, audience.to_owned(), "/run/token".to_owned())
    }
}
