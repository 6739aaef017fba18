//! Between JSON and CEL.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};
use serde_json::Value as Json;

/// The most elements of an array that is read. A comprehension does its work for each of them.
pub(super) const MAX_ELEMENTS: usize = 128;
/// The most bytes of a mapped text.
const MAX_MAPPED_TEXT: usize = 512;
/// The most texts of a mapped list.
const MAX_MAPPED_TEXTS: usize = 32;

/// Members as a map, and the names of those that are left out as they hold an array which is too long.
pub(super) fn members<'a>(members: impl Iterator<Item = (&'a String, &'a Json)>) -> (Value, BTreeSet<Box<str>>) {
    let mut too_large = BTreeSet::new();
    let mut map = HashMap::with_capacity(members.size_hint().0);
    for (name, value) in members {
        if let Some(value) = from_json(value) {
            map.insert(Key::from(name.as_str()), value);
        } else {
            too_large.insert(name.as_str().into());
        }
    }
    (Value::Map(Map { map: Arc::new(map) }), too_large)
}

fn from_json(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::Int(integer),
            (None, Some(integer)) => Value::UInt(integer),
            (None, None) => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(elements) if elements.len() > MAX_ELEMENTS => return None,
        Json::Array(elements) => Value::List(Arc::new(elements.iter().map(from_json).collect::<Option<_>>()?)),
        Json::Object(members) if members.len() > MAX_ELEMENTS => return None,
        Json::Object(members) => {
            let members = members.iter().map(|(name, value)| Some((Key::from(name.as_str()), from_json(value)?)));
            Value::Map(Map { map: Arc::new(members.collect::<Option<_>>()?) })
        }
    })
}

/// The JSON of a value that an attribute may have; `None` for any other.
pub(super) fn mapped(value: &Value) -> Option<Json> {
    match value {
        Value::Bool(truth) => Some((*truth).into()),
        Value::Int(integer) => Some((*integer).into()),
        Value::UInt(integer) => Some((*integer).into()),
        Value::String(text) => mapped_text(text),
        Value::List(elements) if elements.len() <= MAX_MAPPED_TEXTS => {
            let texts = elements.iter().map(|element| match element {
                Value::String(text) => mapped_text(text),
                _ => None,
            });
            texts.collect::<Option<Vec<Json>>>().map(Json::Array)
        }
        _ => None,
    }
}

fn mapped_text(text: &str) -> Option<Json> {
    (!text.is_empty() && text.len() <= MAX_MAPPED_TEXT).then(|| text.into())
}
