//! What is known of those who verify our ID tokens: what each accepts of an issuer, and of the subjects it is to trust.
//!
//! Nothing here decides anything of ours. It advises the people who set a relying party up, before its own errors do, which tell
//! little (AWS says `InvalidIdentityToken` for nearly everything).

mod doctor;

use std::fmt;

use crate::issuer_url::IssuerUrl;
use crate::subject_match::SubjectMatch;
use crate::trusted_issuer::SignatureAlgorithm;

pub use doctor::{Diagnosis, Document, Finding, SeenIssuer, examine};

/// Who verifies ID tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RelyingParty {
    /// AWS IAM, by `AssumeRoleWithWebIdentity`.
    Aws,
    /// Google Cloud, by a workload identity pool.
    Gcp,
    /// Microsoft Entra ID, by federated credentials.
    Azure,
    /// HashiCorp Vault and OpenBao, by their JWT auth method.
    Vault,
    /// Kubernetes' API server, by its structured authentication configuration.
    Kubernetes,
}

/// Tokens that a relying party is to trust.
#[derive(Debug, Clone, Copy)]
pub struct Trusted<'a> {
    /// Their `iss`.
    pub issuer_url: &'a IssuerUrl,
    /// What the issuer signs with.
    pub algorithms: &'a [SignatureAlgorithm],
    /// Their subjects, exact or with `*`.
    pub subjects: &'a [SubjectMatch],
}

/// Why a relying party will not have them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// No algorithm that it verifies.
    #[error("{party} verifies {accepted} alone, and the issuer signs with none of them: have it sign with {first}")]
    Algorithms {
        /// Who.
        party: RelyingParty,
        /// Which it verifies.
        accepted: String,
        /// The one to add.
        first: SignatureAlgorithm,
    },
    /// Its issuers are reached over https.
    #[error("{0} reads the keys of https issuers alone")]
    NotHttps(RelyingParty),
    /// It compares subjects exactly.
    #[error("{party} compares subjects exactly: `{subject}` would never match; name each subject")]
    Pattern {
        /// Who.
        party: RelyingParty,
        /// The pattern.
        subject: SubjectMatch,
    },
    /// Its subjects are shorter.
    #[error("{party} has subjects of at most {most} bytes, and `{subject}` is longer")]
    TooLong {
        /// Who.
        party: RelyingParty,
        /// The subject.
        subject: SubjectMatch,
        /// How long it may be.
        most: usize,
    },
    /// It takes fewer.
    #[error("{party} takes at most {most} subjects in one application: divide them among several")]
    TooMany {
        /// Who.
        party: RelyingParty,
        /// How many it takes.
        most: usize,
    },
    /// A character that its own pattern language reads.
    #[error("{party} reads `{character}` in `{subject}` as a placeholder of its own, so that it would match other subjects too")]
    Placeholder {
        /// Who.
        party: RelyingParty,
        /// The subject.
        subject: SubjectMatch,
        /// What it reads.
        character: char,
    },
}

impl RelyingParty {
    /// Everybody.
    pub const ALL: [Self; 5] = [Self::Aws, Self::Gcp, Self::Azure, Self::Vault, Self::Kubernetes];

    /// As it is written on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Vault => "vault",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// What it verifies, its usual one first.
    pub const fn algorithms(self) -> &'static [SignatureAlgorithm] {
        use SignatureAlgorithm::{EdDsa, Es256, Es384, Es512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Self::Aws => &[Rs256, Rs384, Rs512, Es256, Es384, Es512],
            Self::Gcp => &[Rs256, Es256],
            Self::Azure => &[Rs256],
            Self::Vault => &[Rs256, Rs384, Rs512, Es256, Es384, Es512, Ps256, Ps384, Ps512, EdDsa],
            Self::Kubernetes => &[Rs256, Rs384, Rs512, Es256, Es384, Es512, Ps256, Ps384, Ps512],
        }
    }

    /// The longest subject it can have, in bytes.
    pub const fn longest_subject(self) -> Option<usize> {
        match self {
            // `google.subject`.
            Self::Gcp => Some(127),
            Self::Azure => Some(600),
            Self::Aws | Self::Vault | Self::Kubernetes => None,
        }
    }

    /// The most subjects that one set-up can have.
    pub const fn most_subjects(self) -> Option<usize> {
        match self {
            Self::Azure => Some(20),
            _ => None,
        }
    }

    /// Whether it can be told of a subject by a pattern.
    pub const fn takes_patterns(self) -> bool {
        !matches!(self, Self::Azure)
    }

    /// Whether it fetches keys from the internet, rather than from wherever it runs.
    pub const fn is_on_the_internet(self) -> bool {
        matches!(self, Self::Aws | Self::Gcp | Self::Azure)
    }

    /// What is in the way of trusting these tokens; everything at once.
    pub fn obstacles(self, trusted: &Trusted<'_>) -> Vec<Obstacle> {
        let party = self;
        let mut obstacles = Vec::new();
        if !trusted.issuer_url.as_str().starts_with("https://") {
            obstacles.push(Obstacle::NotHttps(self));
        }
        if !trusted.algorithms.iter().any(|algorithm| self.algorithms().contains(algorithm)) {
            let accepted = self.algorithms().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let first = self.algorithms().first().copied().unwrap_or(SignatureAlgorithm::Rs256);
            obstacles.push(Obstacle::Algorithms { party, accepted, first });
        }
        if let Some(most) = self.most_subjects().filter(|most| trusted.subjects.len() > *most) {
            obstacles.push(Obstacle::TooMany { party, most });
        }
        for subject in trusted.subjects {
            if !subject.is_literal() && !self.takes_patterns() {
                obstacles.push(Obstacle::Pattern { party, subject: subject.clone() });
            }
            if let Some(most) = self.longest_subject().filter(|most| subject.as_str().len() > *most) {
                obstacles.push(Obstacle::TooLong { party, subject: subject.clone(), most });
            }
            // `StringLike` of AWS, the only comparison that takes a pattern, has `?` besides.
            if self == Self::Aws && !subject.is_literal() && subject.as_str().contains('?') {
                obstacles.push(Obstacle::Placeholder { party, subject: subject.clone(), character: '?' });
            }
        }
        obstacles
    }
}

impl fmt::Display for RelyingParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aws => "AWS",
            Self::Gcp => "Google Cloud",
            Self::Azure => "Azure",
            Self::Vault => "Vault",
            Self::Kubernetes => "Kubernetes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obstacles(party: RelyingParty, algorithms: &[SignatureAlgorithm], subjects: &[&str]) -> Vec<String> {
        let subjects: Vec<SubjectMatch> = subjects.iter().map(|subject| subject.parse().unwrap()).collect();
        let issuer_url = "https://id.example.com/a".parse().unwrap();
        let trusted = Trusted { issuer_url: &issuer_url, algorithms, subjects: &subjects };
        party.obstacles(&trusted).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_says_what_it_will_not_have_and_all_of_it() {
        use SignatureAlgorithm::{EdDsa, Es256, Rs256};
        for party in RelyingParty::ALL {
            assert_eq!(obstacles(party, &[Rs256], &["org:a:vault:b"]), [""; 0], "{party}");
        }
        let azure = obstacles(RelyingParty::Azure, &[Es256], &["org:a:*", &"x".repeat(601)]);
        assert_eq!(azure.len(), 3);
        assert!(azure[0].contains("sign with RS256") && azure[1].contains("`org:a:*` would never match"), "{azure:?}");
        let many: Vec<String> = (0..21).map(|number| format!("s{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(obstacles(RelyingParty::Azure, &[Rs256], &many)[0].contains("at most 20"));
        assert!(obstacles(RelyingParty::Gcp, &[Rs256], &[&"x".repeat(128)])[0].contains("at most 127 bytes"));
        assert!(obstacles(RelyingParty::Kubernetes, &[EdDsa], &["a"])[0].contains("RS256"));
        assert_eq!(obstacles(RelyingParty::Vault, &[EdDsa], &["a:*"]), [""; 0]);
        assert!(obstacles(RelyingParty::Aws, &[Rs256], &["a?:*"])[0].contains("placeholder"));
        assert_eq!(obstacles(RelyingParty::Aws, &[Rs256], &["a?"]), [""; 0], "compared exactly");
    }
}
