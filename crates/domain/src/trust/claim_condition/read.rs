//! Reads the values of a condition from JSON or YAML. What is wrong with one is stated with the name of its field.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::ClaimValue;
use crate::values::inexact::is_unambiguous;

/// The value of `equals`.
pub(super) fn equals<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ClaimValue>, D::Error> {
    deserializer.deserialize_option(Optional(Place { field: "equals", index: None }))
}

/// The value of `contains`.
pub(super) fn contains<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ClaimValue>, D::Error> {
    deserializer.deserialize_option(Optional(Place { field: "contains", index: None }))
}

/// The values of `one_of`.
pub(super) fn one_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ClaimValue>, D::Error> {
    deserializer.deserialize_seq(List("one_of"))
}

/// Where a value is written.
#[derive(Clone, Copy)]
struct Place {
    field: &'static str,
    index: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field)?;
        self.index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

impl Place {
    fn refuse<E: Error>(self, got: impl fmt::Display) -> E {
        E::custom(format_args!("{self} must be text, true, false or a whole number from {} to {}, got {got}", i64::MIN, i64::MAX))
    }

    fn beyond_range<E: Error>(self, got: impl fmt::Display) -> E {
        self.refuse(format_args!("{got}, which is outside that range"))
    }
}

impl<'de> DeserializeSeed<'de> for Place {
    type Value = ClaimValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ClaimValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place {
    type Value = ClaimValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text, a whole number of 64 bits, true or false for {self}")
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Boolean(truth))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<ClaimValue, E> {
        i64::try_from(number).map(ClaimValue::Integer).map_err(|_| self.beyond_range(number))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<ClaimValue, E> {
        i64::try_from(number).map(ClaimValue::Integer).map_err(|_| self.beyond_range(number))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<ClaimValue, E> {
        i64::try_from(number).map(ClaimValue::Integer).map_err(|_| self.beyond_range(number))
    }

    /// JSON's and YAML's readers make a double of a whole number beyond 64 bits too.
    fn visit_f64<E: Error>(self, number: f64) -> Result<ClaimValue, E> {
        if is_unambiguous(number) {
            Err(self.refuse(format_args!("{number:?}, which has a fraction or an exponent")))
        } else {
            Err(self.beyond_range("a number of more than 64 bits"))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Text(text))
    }

    fn visit_unit<E: Error>(self) -> Result<ClaimValue, E> {
        Err(self.refuse("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _elements: A) -> Result<ClaimValue, A::Error> {
        Err(self.refuse("a list"))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, _members: A) -> Result<ClaimValue, A::Error> {
        Err(self.refuse("an object"))
    }
}

struct Optional(Place);

impl<'de> Visitor<'de> for Optional {
    type Value = Option<ClaimValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
}

struct List(&'static str);

impl<'de> Visitor<'de> for List {
    type Value = Vec<ClaimValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of values for {}", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = elements.next_element_seed(Place { field: self.0, index: Some(values.len()) })? {
            values.push(value);
        }
        Ok(values)
    }
}
