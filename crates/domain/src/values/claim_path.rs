//! Which claim a condition reads.
//!
//! Written without a leading `/`, a path is the name of a top-level claim, whatever characters the name holds:
//! `repository_owner_id`, `oidc.circleci.com/project-id`, `https://aws.amazon.com/tags`. Written with one it is a JSON Pointer
//! (RFC 6901) into nested objects: `/kubernetes.io/namespace`, `/https:~1~1sts.amazonaws.com~1/aws_account`. Elements of arrays
//! have no path: which place an issuer puts something at is not for a condition to rely on.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::values::inexact::escaped;

/// Why a text is not a claim path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClaimPath {
    /// Nothing is there.
    #[error("must not be empty")]
    Empty,
    /// Too many bytes.
    #[error("must be at most {} bytes long", ClaimPath::MAX_BYTES)]
    TooLong,
    /// A control character.
    #[error("must not hold control characters")]
    Control,
    /// A `~` that is no escape.
    #[error("must be a JSON Pointer if it begins with `/`: `~` must be followed by `0` or `1` (RFC 6901)")]
    Escape,
    /// More names than a token is deep.
    #[error("must hold at most {} names", ClaimPath::MAX_NAMES)]
    TooDeep,
}

/// A path to one claim, as written. Two texts are two paths, whatever they lead to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClaimPath(Box<str>);

impl ClaimPath {
    /// The most bytes of a path.
    pub const MAX_BYTES: usize = 512;
    /// The most names on it.
    pub const MAX_NAMES: usize = 16;

    /// The path as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of a top-level claim of this name.
    ///
    /// # Errors
    /// When no path can lead there.
    pub fn of_top_level(name: &str) -> Result<Self, InvalidClaimPath> {
        if name.starts_with('/') { format!("/{}", escaped(name)).parse() } else { name.parse() }
    }

    /// The name of the top-level claim that the path leads to or through.
    pub fn top_level(&self) -> String {
        match self.0.strip_prefix('/') {
            None => self.0.to_string(),
            Some(pointer) => unescaped(pointer.split('/').next().unwrap_or_default()).into_owned(),
        }
    }

    /// Whether the path leads into a nested object.
    pub fn is_nested(&self) -> bool {
        self.0.strip_prefix('/').is_some_and(|pointer| pointer.contains('/'))
    }

    /// The path as a JSON Pointer.
    pub fn to_pointer(&self) -> String {
        if self.0.starts_with('/') { self.0.to_string() } else { format!("/{}", escaped(&self.0)) }
    }

    /// The claim itself; `None` when it, or an object on the way, is not there.
    pub fn find<'a>(&self, members: &'a Map<String, Value>) -> Option<&'a Value> {
        let Some(pointer) = self.0.strip_prefix('/') else { return members.get(&*self.0) };
        let mut names = pointer.split('/');
        let mut value = members.get(&*unescaped(names.next()?))?;
        for name in names {
            value = value.as_object()?.get(&*unescaped(name))?;
        }
        Some(value)
    }

    /// Whether the two lead to one claim, or one of them through the claim of the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.names().iter().zip(other.names()).all(|(one, two)| *one == two)
    }

    /// The names on the path.
    fn names(&self) -> Vec<Cow<'_, str>> {
        match self.0.strip_prefix('/') {
            None => vec![Cow::Borrowed(&*self.0)],
            Some(pointer) => pointer.split('/').map(unescaped).collect(),
        }
    }

    /// Puts a value where the path leads, with the objects on the way that are not there. What stands there in place of an object
    /// is replaced by one.
    pub(crate) fn put(&self, members: &mut Map<String, Value>, value: Value) {
        let mut names = self.names();
        let Some(last) = names.pop() else { return };
        let mut object = members;
        for name in names {
            let next = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            let Value::Object(next) = next else { return };
            object = next;
        }
        object.insert(last.into_owned(), value);
    }
}

/// RFC 6901, section 4: first `~1`, then `~0`.
fn unescaped(name: &str) -> Cow<'_, str> {
    if name.contains('~') { name.replace("~1", "/").replace("~0", "~").into() } else { name.into() }
}

fn check(text: &str) -> Result<(), InvalidClaimPath> {
    if text.is_empty() {
        return Err(InvalidClaimPath::Empty);
    }
    if text.len() > ClaimPath::MAX_BYTES {
        return Err(InvalidClaimPath::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidClaimPath::Control);
    }
    let Some(pointer) = text.strip_prefix('/') else { return Ok(()) };
    if pointer.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
        return Err(InvalidClaimPath::Escape);
    }
    if pointer.split('/').count() > ClaimPath::MAX_NAMES { Err(InvalidClaimPath::TooDeep) } else { Ok(()) }
}

impl FromStr for ClaimPath {
    type Err = InvalidClaimPath;

    fn from_str(text: &str) -> Result<Self, InvalidClaimPath> {
        check(text)?;
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for ClaimPath {
    type Error = InvalidClaimPath;

    fn try_from(text: String) -> Result<Self, InvalidClaimPath> {
        text.parse()
    }
}

impl From<ClaimPath> for String {
    fn from(path: ClaimPath) -> String {
        path.0.into()
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> ClaimPath {
        text.parse().unwrap()
    }

    #[test]
    fn names_hold_any_character_and_pointers_lead_into_objects() {
        let members = json!({
            "sub": "a",
            "oidc.circleci.com/project-id": "b",
            "https://aws.amazon.com/": {"aws_account": "c", "a/b~c": "d"},
            "kubernetes.io": {"pod": {"name": "e"}},
            "": "f",
            "/odd": "g",
            "list": ["h"],
        });
        let members = members.as_object().unwrap();
        for (text, expected) in [
            ("sub", Some("a")),
            ("/sub", Some("a")),
            ("oidc.circleci.com/project-id", Some("b")),
            ("/https:~1~1aws.amazon.com~1/aws_account", Some("c")),
            ("/https:~1~1aws.amazon.com~1/a~1b~0c", Some("d")),
            ("/kubernetes.io/pod/name", Some("e")),
            ("/", Some("f")),
            ("/~1odd", Some("g")),
            ("kubernetes.io.pod.name", None),
            ("/kubernetes.io/pod/none", None),
            ("/sub/more", None),
            ("/list/0", None),
            ("/list/-", None),
            ("Sub", None),
        ] {
            assert_eq!(path(text).find(members), expected.map(|text| json!(text)).as_ref(), "{text}");
        }
        assert_eq!(path("/kubernetes.io/pod/name").top_level(), "kubernetes.io");
        assert_eq!(path("oidc.circleci.com/project-id").top_level(), "oidc.circleci.com/project-id");
        assert!(path("/a/b").is_nested() && !path("/a").is_nested() && !path("a/b").is_nested());
    }

    #[test]
    fn paths_overlap_where_one_leads_through_the_other() {
        for (one, other) in [("a", "/a"), ("/a/b", "/a"), ("/a/b", "a"), ("/a/b/c", "/a/b"), ("/~1a", "/~1a/b")] {
            assert!(path(one).overlaps(&path(other)) && path(other).overlaps(&path(one)), "{one} {other}");
        }
        for (one, other) in [("a", "b"), ("/a/b", "/a/c"), ("a/b", "/a/b"), ("/a/b", "/b")] {
            assert!(!path(one).overlaps(&path(other)) && !path(other).overlaps(&path(one)), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for (text, error) in [
            ("", InvalidClaimPath::Empty),
            ("a\nb", InvalidClaimPath::Control),
            ("/a~b", InvalidClaimPath::Escape),
            ("/a~", InvalidClaimPath::Escape),
        ] {
            assert_eq!(text.parse::<ClaimPath>(), Err(error), "{text:?}");
        }
        assert!(path("a~b").find(json!({"a~b": 1}).as_object().unwrap()).is_some());
        assert_eq!("x".repeat(513).parse::<ClaimPath>(), Err(InvalidClaimPath::TooLong));
        assert_eq!("/x".repeat(17).parse::<ClaimPath>(), Err(InvalidClaimPath::TooDeep));
    }

    proptest! {
        #[test]
        fn a_top_level_name_leads_to_its_claim(name in "[a/~.:*]{1,8}") {
            let members = Map::from_iter([(name.clone(), json!(1))]);
            let path = ClaimPath::of_top_level(&name).unwrap();
            prop_assert_eq!(path.find(&members), Some(&json!(1)));
            prop_assert_eq!(path.top_level(), name);
        }

        #[test]
        fn what_is_put_at_a_path_is_found_there(text in "(/[ab~]{0,2}){1,4}|[ab/~]{1,4}", other in "(/[ab]){1,3}") {
            let (Ok(path), Ok(other)) = (text.parse::<ClaimPath>(), other.parse::<ClaimPath>()) else { return Ok(()) };
            let mut members = Map::new();
            other.put(&mut members, json!("other"));
            path.put(&mut members, json!(1));
            prop_assert_eq!(path.find(&members), Some(&json!(1)));
        }
    }
}
