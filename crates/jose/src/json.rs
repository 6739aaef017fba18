//! Strict JSON: the only way a stranger's JSON gets in.
//!
//! Beyond RFC 8259 a document is refused when a member name occurs twice in one object, at any depth (SECURITY 10), when it nests
//! deeper than [`MAX_DEPTH`] or holds more than [`MAX_VALUES`] values (SECURITY 11). `serde_json` itself refuses invalid UTF-8,
//! lone surrogates, numbers beyond a double, and anything behind the document.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 32;

/// How many values a document may hold, counting every array, object, member and element.
///
/// A token that fits 16 KiB, or a key set of 64 keys, stays well below.
pub const MAX_VALUES: usize = 10_000;

/// Why a text is not an acceptable JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJson {
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
    /// Well-formed, but another type than an object.
    #[error("not an object")]
    NotAnObject,
}

/// Parses a document.
pub fn parse(bytes: &[u8]) -> Result<Value, InvalidJson> {
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

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
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
            if members.contains_key(&name) {
                return Err(self.limits.refuse(InvalidJson::DuplicateMember));
            }
            members.insert(name, access.next_value_seed(inner)?);
        }
        Ok(Value::Object(members))
    }
}
