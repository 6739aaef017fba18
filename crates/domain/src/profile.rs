//! Identity profiles: how an issuer builds `sub` from the attributes of a run.
//!
//! A profile is a template over declared attributes. An attribute's value can never change the structure of the subject, because
//! a value that holds the template's delimiter is refused; so two different sets of attributes never render the same subject.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::WorkspaceId;
use crate::name::Subject;
use crate::violation::Violations;

/// A profile that comes with the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuiltInProfile {
    /// `{workspace_id}/{path}`. The workspace is the issuer's own, whatever the caller says.
    Namespace,
    /// `org:{org}:vault:{vault}`.
    Rwx,
}

/// The most bytes the value of an attribute may have. Keeps every subject of a built-in profile below [`Subject::MAX_BYTES`].
pub const MAX_ATTRIBUTE_BYTES: usize = 256;

/// The most attributes of a request that are looked at one by one.
const MAX_ATTRIBUTES: usize = 64;

/// Not the name of a built-in profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of namespace, rwx")]
pub struct UnknownProfile;

/// One piece of a subject template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// Text that stands in every subject.
    Literal(&'static str),
    /// The id of the workspace that owns the issuer.
    WorkspaceId,
    /// The value of a declared attribute.
    Attribute(&'static str),
}

impl BuiltInProfile {
    /// Every built-in profile.
    pub const ALL: [Self; 2] = [Self::Namespace, Self::Rwx];

    /// The name by which operators choose it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Rwx => "rwx",
        }
    }

    /// The attributes it declares, each of them required, in the order of the template.
    pub fn attributes(self) -> impl Iterator<Item = &'static str> {
        self.pieces().iter().filter_map(|piece| match piece {
            Piece::Attribute(name) => Some(*name),
            Piece::Literal(_) | Piece::WorkspaceId => None,
        })
    }

    /// The subject of a run in this workspace with these attributes. Every violation is noted, each under the request's field
    /// `attributes`.
    ///
    /// # Errors
    /// Undeclared or missing attributes; values that are empty, longer than [`MAX_ATTRIBUTE_BYTES`], or hold a control character
    /// or the template's delimiter.
    pub fn subject(self, workspace_id: &WorkspaceId, attributes: &BTreeMap<String, String>) -> Result<Subject, Violations> {
        let mut violations = Violations::new();
        self.note_unknown(attributes, &mut violations);
        let mut subject = String::new();
        for piece in self.pieces() {
            match piece {
                Piece::Literal(text) => subject.push_str(text),
                Piece::WorkspaceId => subject.push_str(workspace_id.as_str()),
                Piece::Attribute(name) => {
                    let field = format!("attributes[{name}]");
                    match attributes.get(*name) {
                        None => violations.add(field, format!("is required by the profile `{self}`")),
                        Some(value) => {
                            violations.check(field, check_value(value, self.delimiter()));
                            subject.push_str(value);
                        }
                    }
                }
            }
        }
        if !violations.is_empty() {
            return Err(violations);
        }
        match subject.parse() {
            Ok(subject) => Ok(subject),
            Err(error) => {
                violations.add("attributes", format!("render a subject that {error}"));
                Err(violations)
            }
        }
    }

    fn note_unknown(self, attributes: &BTreeMap<String, String>, violations: &mut Violations) {
        if attributes.len() > MAX_ATTRIBUTES {
            violations.add("attributes", format!("must be at most {MAX_ATTRIBUTES}"));
            return;
        }
        for name in attributes.keys() {
            if self.attributes().any(|declared| declared == name) {
                continue;
            }
            // What a caller chose is repeated only where it is short and plain.
            let plain = name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
            let field = if plain { format!("attributes[{name}]") } else { "attributes".to_owned() };
            violations.add(field, format!("is no attribute of the profile `{self}`"));
        }
    }

    const fn pieces(self) -> &'static [Piece] {
        match self {
            Self::Namespace => &[Piece::WorkspaceId, Piece::Literal("/"), Piece::Attribute("path")],
            Self::Rwx => &[Piece::Literal("org:"), Piece::Attribute("org"), Piece::Literal(":vault:"), Piece::Attribute("vault")],
        }
    }

    /// The character that separates the segments of the subject, and that no value may hold. Every literal between two values
    /// begins with it, which is what makes rendering injective.
    const fn delimiter(self) -> char {
        match self {
            Self::Namespace => '/',
            Self::Rwx => ':',
        }
    }
}

/// Why a value cannot stand in a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum InvalidValue {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {MAX_ATTRIBUTE_BYTES} bytes long")]
    TooLong,
    #[error("must not hold control characters")]
    Control,
    #[error("must not hold `{0}`, which separates the parts of the subject")]
    Delimiter(char),
}

fn check_value(value: &str, delimiter: char) -> Result<(), InvalidValue> {
    if value.is_empty() {
        Err(InvalidValue::Empty)
    } else if value.len() > MAX_ATTRIBUTE_BYTES {
        Err(InvalidValue::TooLong)
    } else if value.chars().any(char::is_control) {
        Err(InvalidValue::Control)
    } else if value.contains(delimiter) {
        Err(InvalidValue::Delimiter(delimiter))
    } else {
        Ok(())
    }
}

impl fmt::Display for BuiltInProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BuiltInProfile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == text).ok_or(UnknownProfile)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn workspace() -> WorkspaceId {
        WorkspaceId::from_random([1; 16])
    }

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn fields(violations: Violations) -> Vec<String> {
        violations.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn built_in_profiles_render_the_subjects_of_the_field() {
        let rwx = BuiltInProfile::Rwx.subject(&workspace(), &attributes(&[("org", "my-org"), ("vault", "deploy-vault")]));
        assert_eq!(rwx.unwrap().as_str(), "org:my-org:vault:deploy-vault");
        let namespace = BuiltInProfile::Namespace.subject(&workspace(), &attributes(&[("path", "runner")]));
        assert_eq!(namespace.unwrap().as_str(), format!("{}/runner", workspace()));
    }

    #[test]
    fn the_workspace_of_a_subject_is_never_the_callers_to_choose() {
        let other = WorkspaceId::from_random([2; 16]).to_string();
        let refused = BuiltInProfile::Namespace.subject(&workspace(), &attributes(&[("path", "a"), ("workspace_id", &other)]));
        assert_eq!(fields(refused.unwrap_err()), ["attributes[workspace_id]"]);
    }

    #[test]
    fn every_violation_is_reported_at_once() {
        let refused =
            BuiltInProfile::Rwx.subject(&workspace(), &attributes(&[("vault", "a:b"), ("team", "x"), ("bad name", "y")]));
        assert_eq!(fields(refused.unwrap_err()), ["attributes", "attributes[team]", "attributes[org]", "attributes[vault]"]);
    }

    #[test]
    fn s54_a_value_that_would_change_the_subjects_structure_is_refused() {
        let long = "x".repeat(MAX_ATTRIBUTE_BYTES + 1);
        for value in ["a:vault:b", ":", "", "a\nb", "a\0", "\u{85}", &long] {
            let refused = BuiltInProfile::Rwx.subject(&workspace(), &attributes(&[("org", value), ("vault", "v")]));
            assert_eq!(fields(refused.unwrap_err()), ["attributes[org]"], "{value:?}");
        }
        for value in ["a/b", "/", "../other"] {
            let refused = BuiltInProfile::Namespace.subject(&workspace(), &attributes(&[("path", value)]));
            assert_eq!(fields(refused.unwrap_err()), ["attributes[path]"], "{value:?}");
        }
    }

    #[test]
    fn a_flood_of_attributes_is_one_violation() {
        let flood = (0..10_000).map(|n| (format!("a{n}"), "v".to_owned())).collect();
        let refused = BuiltInProfile::Rwx.subject(&workspace(), &flood).unwrap_err();
        assert_eq!(refused.iter().count(), 3, "the flood and the two missing ones");
    }

    #[test]
    fn literals_between_values_begin_with_the_delimiter() {
        for profile in BuiltInProfile::ALL {
            for window in profile.pieces().windows(2) {
                match window {
                    [Piece::Attribute(_) | Piece::WorkspaceId, Piece::Literal(text)] => {
                        assert!(text.starts_with(profile.delimiter()), "{profile}");
                    }
                    [Piece::Literal(_), _] => {}
                    other => panic!("two values side by side in {profile}: {other:?}"),
                }
            }
            assert_eq!(profile.as_str().parse(), Ok(profile));
        }
        assert_eq!("RWX".parse::<BuiltInProfile>(), Err(UnknownProfile));
    }

    /// Values that try hard to collide: made of the words and delimiters of the templates.
    fn value() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop_oneof![Just("a"), Just(":"), Just("/"), Just("vault"), Just("org"), Just("é"), Just("%3A")],
            0..6,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn s54_two_sets_of_attributes_never_render_one_subject(
            a in (value(), value()), b in (value(), value()), profile in prop::sample::select(&BuiltInProfile::ALL[..]),
            bits_a in 0..2_u8, bits_b in 0..2_u8,
        ) {
            let set = |(first, second): &(String, String)| -> BTreeMap<String, String> {
                profile.attributes().map(str::to_owned).zip([first.clone(), second.clone()]).collect()
            };
            let (set_a, set_b) = (set(&a), set(&b));
            let rendered_a = profile.subject(&WorkspaceId::from_random([bits_a; 16]), &set_a);
            let rendered_b = profile.subject(&WorkspaceId::from_random([bits_b; 16]), &set_b);
            if let (Ok(subject_a), Ok(subject_b)) = (rendered_a, rendered_b) {
                let named_by_workspace = profile.pieces().contains(&Piece::WorkspaceId);
                let same = set_a == set_b && (!named_by_workspace || bits_a == bits_b);
                prop_assert_eq!(subject_a == subject_b, same);
            }
        }
    }
}
