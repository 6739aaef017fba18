//! What relying parties accept of an issuer, of the subjects that they are to trust and of audiences.
//!
//! Nothing here decides an exchange. It advises the people who set a relying party up, before its own errors do, which say little
//! (AWS says `InvalidIdentityToken` for nearly everything).

mod doctor;

use std::fmt;

use crate::values::issuer_url::IssuerUrl;
use crate::values::signature_algorithm::SignatureAlgorithm;
use crate::values::subject_match::SubjectMatch;

pub use doctor::{Diagnosis, Document, Finding, OwnVerdict, SeenIssuer, examine};

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
    /// Their audience.
    pub audience: &'a str,
}

/// The most that a text can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// In UTF-8.
    Bytes(usize),
    /// Unicode scalar values.
    Characters(usize),
}

impl Limit {
    /// Whether the text is longer.
    pub fn is_exceeded_by(self, text: &str) -> bool {
        match self {
            Self::Bytes(most) => text.len() > most,
            Self::Characters(most) => text.chars().count() > most,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(most) => write!(f, "{most} bytes"),
            Self::Characters(most) => write!(f, "{most} characters"),
        }
    }
}

/// Why a relying party refuses them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// No algorithm that it verifies.
    #[error(
        "{party} verifies {accepted} only, and the issuer signs with none of them; add {first} to the algorithms of the issuer"
    )]
    Algorithms {
        /// Who.
        party: RelyingParty,
        /// Which it verifies.
        accepted: String,
        /// The one to add.
        first: SignatureAlgorithm,
    },
    /// Its issuers are reached over https.
    #[error("{0} accepts https issuers only")]
    NotHttps(RelyingParty),
    /// A port in the URL of the issuer.
    #[error("{0} accepts no port in the URL of an issuer; serve the issuer on 443")]
    Port(RelyingParty),
    /// It compares subjects exactly.
    #[error("{party} compares subjects exactly, so `{subject}` would never match; name each subject")]
    Pattern {
        /// Who.
        party: RelyingParty,
        /// The pattern.
        subject: SubjectMatch,
    },
    /// Its subjects are shorter.
    #[error("{party} accepts subjects of at most {most}, and `{subject}` is longer")]
    TooLong {
        /// Who.
        party: RelyingParty,
        /// The subject.
        subject: SubjectMatch,
        /// How long it can be.
        most: Limit,
    },
    /// Its audiences or issuer URLs are shorter.
    #[error("{party} accepts {what} of at most {most}")]
    TextTooLong {
        /// Who.
        party: RelyingParty,
        /// What is too long, in the plural.
        what: &'static str,
        /// How long it can be.
        most: Limit,
    },
    /// It takes fewer.
    #[error("{party} accepts at most {most} subjects in one application; divide them among several applications")]
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

    /// The longest subject it can have.
    pub const fn longest_subject(self) -> Option<Limit> {
        match self {
            // `google.subject`.
            Self::Gcp => Some(Limit::Bytes(127)),
            Self::Azure => Some(Limit::Characters(600)),
            Self::Aws | Self::Vault | Self::Kubernetes => None,
        }
    }

    /// The longest audience it can have.
    pub const fn longest_audience(self) -> Option<Limit> {
        match self {
            Self::Aws => Some(Limit::Characters(255)),
            Self::Gcp => Some(Limit::Characters(256)),
            Self::Azure => Some(Limit::Characters(600)),
            Self::Vault | Self::Kubernetes => None,
        }
    }

    /// The longest issuer URL it can have.
    pub const fn longest_issuer_url(self) -> Option<Limit> {
        match self {
            Self::Aws => Some(Limit::Characters(255)),
            Self::Azure => Some(Limit::Characters(600)),
            Self::Gcp | Self::Vault | Self::Kubernetes => None,
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
        if self == Self::Aws && has_port(trusted.issuer_url.as_str()) {
            obstacles.push(Obstacle::Port(self));
        }
        let texts = [
            ("issuer URLs", self.longest_issuer_url(), trusted.issuer_url.as_str()),
            ("audiences", self.longest_audience(), trusted.audience),
        ];
        for (what, most, text) in texts {
            if let Some(most) = most.filter(|most| most.is_exceeded_by(text)) {
                obstacles.push(Obstacle::TextTooLong { party, what, most });
            }
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
            if let Some(most) = self.longest_subject().filter(|most| most.is_exceeded_by(subject.as_str())) {
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

/// Whether a URL names a port. An IPv6 address has colons of its own.
fn has_port(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit(']').next().is_some_and(|end| end.contains(':'))
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
        let trusted = Trusted { issuer_url: &issuer_url, algorithms, subjects: &subjects, audience: "a" };
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
        assert!(azure[0].contains("add RS256") && azure[1].contains("`org:a:*` would never match"), "{azure:?}");
        let many: Vec<String> = (0..21).map(|number| format!("s{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(obstacles(RelyingParty::Azure, &[Rs256], &many)[0].contains("at most 20"));
        assert!(obstacles(RelyingParty::Gcp, &[Rs256], &[&"x".repeat(128)])[0].contains("at most 127 bytes"));
        assert!(obstacles(RelyingParty::Kubernetes, &[EdDsa], &["a"])[0].contains("RS256"));
        assert_eq!(obstacles(RelyingParty::Vault, &[EdDsa], &["a:*"]), [""; 0]);
        assert!(obstacles(RelyingParty::Aws, &[Rs256], &["a?:*"])[0].contains("placeholder"));
        assert_eq!(obstacles(RelyingParty::Aws, &[Rs256], &["a?"]), [""; 0], "compared exactly");
    }

    #[test]
    fn s86_limits_are_those_of_the_party_at_their_boundaries() {
        use SignatureAlgorithm::Rs256;
        // Azure counts characters, Google Cloud bytes.
        for (party, longest, limit) in [
            (RelyingParty::Gcp, "é".repeat(63), "127 bytes"),
            (RelyingParty::Azure, "é".repeat(400) + &"a".repeat(200), "600 characters"),
        ] {
            assert_eq!(obstacles(party, &[Rs256], &[&longest]), [""; 0], "{party}");
            let longer = obstacles(party, &[Rs256], &[&format!("{longest}é")]);
            assert!(longer[0].contains(limit), "{longer:?}");
        }
        let of = |party: RelyingParty, url: &str, audience: &str| -> Vec<String> {
            let (issuer_url, subjects) = (url.parse().unwrap(), ["a".parse().unwrap()]);
            let trusted = Trusted { issuer_url: &issuer_url, algorithms: &[Rs256], subjects: &subjects, audience };
            party.obstacles(&trusted).iter().map(ToString::to_string).collect()
        };
        let url = "https://id.example.com";
        for (party, most) in [(RelyingParty::Aws, 255), (RelyingParty::Gcp, 256), (RelyingParty::Azure, 600)] {
            assert_eq!(of(party, url, &"a".repeat(most)), [""; 0]);
            assert_eq!(
                of(party, url, &"a".repeat(most + 1)),
                [format!("{party} accepts audiences of at most {most} characters")]
            );
        }
        assert!(of(RelyingParty::Aws, "https://id.example.com:8443/a", "a")[0].contains("no port"));
        assert_eq!(of(RelyingParty::Gcp, "https://id.example.com:8443/a", "a"), [""; 0]);
        assert!(of(RelyingParty::Aws, &format!("{url}/{}", "a".repeat(250)), "a")[0].contains("issuer URLs"));
    }
}
