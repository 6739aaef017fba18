//! Strict JSON: the only way a stranger's JSON gets in.
//!
//! Beyond RFC 8259 a document is refused when a member name occurs twice in one object, at any depth (SECURITY 10), when it is
//! longer than [`MAX_BYTES`], nests deeper than [`MAX_DEPTH`] or holds more than [`MAX_VALUES`] values (SECURITY 11). `serde_json` itself refuses invalid UTF-8,
//! lone surrogates, numbers beyond a double, and anything behind the document.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// How many bytes a document may have; the largest that is ever fetched (SECURITY 41).
pub const MAX_BYTES: usize = 100 * 1024;

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 32;

/// How many values a document may hold, counting every array, object, member and element.
///
/// A token that fits 16 KiB, or a key set of 64 keys, stays well below.
pub const MAX_VALUES: usize = 10_000;

/// Why a text is not an acceptable JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJson {
    /// More than [`MAX_BYTES`].
    #[error("longer than 100 KiB")]
    TooLong,
    /// Not JSON, not UTF-8, or a number that no double can hold.
    #[error("not well-formed JSON")]
    Malformed,
    /// A member name occurs twice in one object.
    #[error("a member name occurs twice")]
    DuplicateMember,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than 32 levels")]
    TooDeep,
    /// More than [`MAX_VALUES`] values.
    #[error("more than 10000 values")]
    TooManyValues,
    /// More numbers that cannot be represented exactly than are remembered.
    #[error("too many numbers that cannot be represented exactly")]
    TooManyInexact,
    /// Well-formed, but another type than an object.
    #[error("not an object")]
    NotAnObject,
}

/// Parses a document.
pub fn parse(bytes: &[u8]) -> Result<Value, InvalidJson> {
    if bytes.len() > MAX_BYTES {
        return Err(InvalidJson::TooLong);
    }
    let limits = Limits { values_left: Cell::new(MAX_VALUES), broken: Cell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Strict { limits: &limits, depth_left: MAX_DEPTH }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|_| limits.broken.get().unwrap_or(InvalidJson::Malformed))
}

/// Parses a document that must be an object.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, InvalidJson> {
    match parse(bytes)? {
        Value::Object(members) => Ok(members),
        _ => Err(InvalidJson::NotAnObject),
    }
}

/// What one document may still use, and which rule it broke.
struct Limits {
    values_left: Cell<usize>,
    broken: Cell<Option<InvalidJson>>,
}

impl Limits {
    fn refuse<E: Error>(&self, rule: InvalidJson) -> E {
        self.broken.set(Some(rule));
        E::custom(rule)
    }
}

/// Builds one value, within the limits.
#[derive(Clone, Copy)]
struct Strict<'a> {
    limits: &'a Limits,
    depth_left: usize,
}

impl Strict<'_> {
    /// What builds the values inside of an array or object.
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| self.limits.refuse(InvalidJson::TooDeep))?;
        Ok(Self { depth_left, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.limits.values_left.get().checked_sub(1).ok_or_else(|| self.limits.refuse(InvalidJson::TooManyValues))?;
        self.limits.values_left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.limits.refuse(InvalidJson::Malformed))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let Entry::Vacant(member) = members.entry(name) else {
                return Err(self.limits.refuse(InvalidJson::DuplicateMember));
            };
            member.insert(access.next_value_seed(inner)?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::fixtures::quickest;

    fn refused(text: impl AsRef<[u8]>, expected: InvalidJson) {
        let text = text.as_ref();
        assert_eq!(parse(text), Err(expected), "{}", String::from_utf8_lossy(text).chars().take(80).collect::<String>());
    }

    #[test]
    fn documents_are_kept_as_they_are() {
        let text = r#" {"a":[1,-2,18446744073709551615,1.5,1e3,"\u00e9\ud83d\ude00\u0000",true,false,null,{}],"":{"A":[]}} "#;
        let expected = json!({"a": [1, -2, u64::MAX, 1.5, 1e3, "é😀\0", true, false, null, {}], "": {"A": []}});
        assert_eq!(parse(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn s10_a_member_name_that_occurs_twice_refuses_the_document() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"y":[0,{"a":1,"a":2}]}}"#,
            r#"[[{"":1,"":2}]]"#,
            r#"{"a":{"b":1},"a":null}"#,
        ] {
            refused(text, InvalidJson::DuplicateMember);
        }
        for text in [r#"{"a":1,"A":2}"#, r#"{"a":{"a":{"a":1}}}"#, r#"[{"a":1},{"a":1}]"#] {
            assert!(parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn s11_depth_over_32_is_refused() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert!(parse(nested(32).as_bytes()).is_ok());
            refused(nested(33), InvalidJson::TooDeep);
            refused(open.repeat(20_000), InvalidJson::TooDeep);
        }
    }

    fn time_of(document: &str) -> Duration {
        quickest(|| parse(document.as_bytes()))
    }

    #[test]
    fn s11_bombs_are_refused_within_10_ms() {
        let members = |count| (0..count).map(|index| format!("\"{index}\":0")).collect::<Vec<_>>().join(",");
        for bomb in [
            format!("[{}0]", "0,".repeat(100_000)),
            format!("[{}[]]", "[],".repeat(100_000)),
            format!("{{{}}}", members(100_000)),
            "[".repeat(1_000_000),
            "{\"a\":".repeat(1_000_000),
            // As much as fits.
            format!("[{}0]", "0,".repeat(MAX_BYTES / 2 - 2)),
            format!("[{}[]]", "[],".repeat(MAX_BYTES / 3 - 2)),
            "[".repeat(MAX_BYTES),
            "{\"a\":".repeat(MAX_BYTES / 5),
            format!("\"{}", "\\".repeat(MAX_BYTES - 1)),
        ] {
            assert!(parse(bomb.as_bytes()).is_err());
            assert!(time_of(&bomb) < Duration::from_millis(10), "{:?}", time_of(&bomb));
        }
        // Objects cost most; unoptimised code is some ten times slower.
        let limit = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 10 });
        let widest = format!("{{{}}}", members(MAX_VALUES - 1));
        assert!(parse(widest.as_bytes()).is_ok());
        assert!(time_of(&widest) < limit, "{:?}", time_of(&widest));
    }

    #[test]
    fn s11_size_and_number_of_values_have_exact_limits() {
        let elements = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(parse(elements(MAX_VALUES).as_bytes()).is_ok());
        refused(elements(MAX_VALUES + 1), InvalidJson::TooManyValues);
        refused(format!("{{\"a\":{}}}", elements(MAX_VALUES)), InvalidJson::TooManyValues);
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        assert!(parse(text(MAX_BYTES).as_bytes()).is_ok());
        refused(text(MAX_BYTES + 1), InvalidJson::TooLong);
    }

    #[test]
    fn s11_invalid_utf8_numbers_and_surrogates_are_refused() {
        for text in [
            &b"\"\xff\""[..],
            b"\"\xc0\x80\"",
            b"\"\xed\xa0\x80\"",
            b"{\"\xff\":1}",
            br#""\ud800""#,
            br#""\udc00""#,
            br#""\ud800\u0041""#,
            br#"{"\ud83d":1}"#,
            b"1e999",
            b"-1e999",
            b"[1e400]",
            b"NaN",
            b"Infinity",
            b"01",
            b"+1",
            b"1.",
            b".5",
            b"0x10",
        ] {
            refused(text, InvalidJson::Malformed);
        }
    }

    #[test]
    fn only_one_whole_document_is_accepted() {
        for text in [
            "",
            " ",
            "{} {}",
            "{}x",
            "{},",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "\u{feff}{}",
            "{}\0",
            "\"a\nb\"",
            "/**/{}",
            "[",
        ] {
            refused(text, InvalidJson::Malformed);
        }
        assert_eq!(parse_object(b"[]"), Err(InvalidJson::NotAnObject));
        assert_eq!(parse_object(b"null"), Err(InvalidJson::NotAnObject));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn s11_what_is_written_is_what_is_read(value in values()) {
            prop_assert_eq!(parse(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn s68_no_bytes_panic_and_nothing_is_accepted_that_serde_json_refuses(bytes: Vec<u8>) {
            if let Ok(value) = parse(&bytes) {
                prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), value);
            }
        }

        #[test]
        fn s68_no_text_that_looks_like_json_panics(text in r#"[\[\]{}:,"\\u0-9aeE.+ -]{0,60}"#) {
            if let Ok(value) = parse(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
            }
        }
    }
}
