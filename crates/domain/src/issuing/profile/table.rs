//! What an expression comes to, where it reads nothing but attributes of few values: computed once, when the profile is checked.
//!
//! To evaluate an expression costs more than to sign with Ed25519, and what decides of a run (its kind, its phase) has few values.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::attribute::{Attribute, AttributeKind};
use crate::trust::cel::{CelExpression, CelFailure};

/// The most results in a table.
const MAX_RESULTS: usize = 64;

/// The results of an expression for all values of what it reads.
#[derive(Debug, Clone)]
pub(super) struct Table {
    inputs: Box<[Input]>,
    /// The last input changes fastest.
    results: Box<[Result<Value, CelFailure>]>,
}

/// Something that an expression reads.
#[derive(Debug, Clone)]
struct Input {
    name: Box<str>,
    /// All the values that it can have. `None` stands for absence.
    values: Box<[Option<Value>]>,
}

impl Table {
    /// The table of an expression; `None` where it reads what has no few values.
    pub(super) fn of(expression: &CelExpression, attributes: &BTreeMap<Box<str>, Attribute>) -> Option<Self> {
        let mut inputs = Vec::new();
        let mut size = 1_usize;
        for name in expression.attributes() {
            let values = values(attributes.get(name)?)?;
            size = size.checked_mul(values.len()).filter(|size| *size <= MAX_RESULTS)?;
            inputs.push(Input { name: name.clone(), values });
        }
        let result = |mut index: usize| {
            let mut given = Map::new();
            for Input { name, values } in inputs.iter().rev() {
                if let Some(value) = values.get(index % values.len()).and_then(Option::as_ref) {
                    given.insert(name.to_string(), value.clone());
                }
                index /= values.len();
            }
            expression.map_attributes(&given)
        };
        let results = (0..size).map(result).collect();
        Some(Self { inputs: inputs.into(), results })
    }

    /// What the expression comes to; `None` where a value is none that was thought of.
    pub(super) fn look_up(&self, given: &Map<String, Value>) -> Option<&Result<Value, CelFailure>> {
        let mut index = 0;
        for Input { name, values } in &self.inputs {
            let value = given.get(&**name);
            index = index * values.len() + values.iter().position(|known| known.as_ref() == value)?;
        }
        self.results.get(index)
    }
}

/// All values of an attribute, and its absence, if they are few.
fn values(attribute: &Attribute) -> Option<Box<[Option<Value>]>> {
    let values: Vec<Value> = match attribute.kind {
        AttributeKind::Boolean => vec![true.into(), false.into()],
        AttributeKind::Text | AttributeKind::Integer if attribute.allowed_values.is_empty() => return None,
        AttributeKind::Text | AttributeKind::Integer => {
            attribute.allowed_values.iter().map(|text| attribute.read(text).ok()).collect::<Option<_>>()?
        }
    };
    // Absent too: what has a default may fail to have one.
    Some(values.into_iter().map(Some).chain([None]).collect())
}
