//! Between JSON and CEL.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cel::Value;
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, Type};
use cel::common::value::Val;
use serde_json::Value as Json;

use crate::values::inexact::{InexactNumbers, escaped, has_double, is_unambiguous};

/// The most elements of an array that is read. A comprehension does its work for each of them.
pub(super) const MAX_ELEMENTS: usize = 128;
/// The most bytes of a mapped text.
const MAX_MAPPED_TEXT: usize = 512;
/// The most texts of a mapped list.
const MAX_MAPPED_TEXTS: usize = 32;

/// Members of an object as CEL sees them.
pub(super) struct Members {
    /// The members that are read.
    pub(super) map: CelMap<'static>,
    /// Names of those that are left out as they contain an array which is too long.
    pub(super) too_large: BTreeSet<Box<str>>,
    /// Where inexact numbers are, as JSON Pointers.
    inexact: BTreeSet<Box<str>>,
    /// Whether an evaluation has read one of them.
    touched: Arc<AtomicBool>,
}

impl Members {
    /// The members of an object, given the numbers of its text that are known to be inexact.
    pub(super) fn of<'a>(members: impl Iterator<Item = (&'a String, &'a Json)>, inexact: &InexactNumbers) -> Self {
        let mut reader = Reader {
            known: inexact,
            inexact: BTreeSet::new(),
            touched: Arc::default(),
            pointer: String::new(),
            has_doubles: false,
        };
        let mut too_large = BTreeSet::new();
        let mut map = HashMap::with_capacity(members.size_hint().0);
        for (name, value) in members {
            reader.has_doubles = has_double(value);
            if let Some(value) = reader.member(name, value) {
                map.insert(CelMapKey::from(name.clone()), value);
            } else {
                too_large.insert(name.as_str().into());
            }
        }
        let Reader { inexact, touched, .. } = reader;
        Self { map: CelMap::from(map), too_large, inexact, touched }
    }

    /// Whether an inexact number was read since the last question.
    pub(super) fn take_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }

    /// Whether the array or object at this JSON Pointer contains an inexact number.
    pub(super) fn has_inexact_in(&self, pointer: &str) -> bool {
        self.inexact.iter().any(|inexact| inexact.strip_prefix(pointer).is_some_and(|rest| rest.starts_with('/')))
    }
}

struct Reader<'a> {
    known: &'a InexactNumbers,
    inexact: BTreeSet<Box<str>>,
    touched: Arc<AtomicBool>,
    /// Where the value is that is being read, as a JSON Pointer; kept only where there are doubles.
    pointer: String,
    has_doubles: bool,
}

type Boxed = Box<dyn Val>;

impl Reader<'_> {
    /// `None` when it contains an array or object that is too long.
    fn value(&mut self, json: &Json) -> Option<Boxed> {
        Some(match json {
            Json::Null => Box::new(CelNull),
            Json::Bool(truth) => Box::new(CelBool::from(*truth)),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) => Box::new(CelInt::from(integer)),
                (None, Some(integer)) => Box::new(CelUInt::from(integer)),
                (None, None) => self.double(number.as_f64()?),
            },
            Json::String(text) => Box::new(CelString::from(text.clone())),
            Json::Array(elements) if elements.len() > MAX_ELEMENTS => return None,
            Json::Array(elements) => {
                let elements = elements.iter().enumerate().map(|(index, element)| self.element(index, element));
                Box::new(CelList::from(elements.collect::<Option<Vec<Boxed>>>()?))
            }
            Json::Object(members) if members.len() > MAX_ELEMENTS => return None,
            Json::Object(members) => {
                let members =
                    members.iter().map(|(name, value)| Some((CelMapKey::from(name.clone()), self.member(name, value)?)));
                Box::new(CelMap::from(members.collect::<Option<HashMap<_, Boxed>>>()?))
            }
        })
    }

    fn member(&mut self, name: &str, value: &Json) -> Option<Boxed> {
        if self.has_doubles { self.inside(&escaped(name), value) } else { self.value(value) }
    }

    fn element(&mut self, index: usize, value: &Json) -> Option<Boxed> {
        if self.has_doubles { self.inside(&index.to_string(), value) } else { self.value(value) }
    }

    fn inside(&mut self, name: &str, value: &Json) -> Option<Boxed> {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(name);
        let result = self.value(value);
        self.pointer.truncate(length);
        result
    }

    /// CEL compares an integer with a double as two doubles, so one that stands for several integers would equal all of them.
    fn double(&mut self, double: f64) -> Boxed {
        if is_unambiguous(double) && !self.known.contains(&self.pointer) {
            Box::new(CelDouble::from(double))
        } else {
            self.inexact.insert(self.pointer.as_str().into());
            Box::new(Inexact { touched: Arc::clone(&self.touched) })
        }
    }
}

static INEXACT: Type = Type::new_unspecified_type("inexact number");

/// A number whose value is not known exactly. There is nothing to do with it, and whoever tries leaves a note: an equality
/// cannot fail in CEL, and a failure can be overruled by the other side of `||`.
#[derive(Debug)]
struct Inexact {
    touched: Arc<AtomicBool>,
}

impl Inexact {
    fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }
}

impl Val for Inexact {
    fn get_type(&self) -> &Type {
        self.touch();
        &INEXACT
    }

    fn cel_type() -> &'static Type {
        &INEXACT
    }

    fn equals(&self, _other: &dyn Val) -> bool {
        self.touch();
        false
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        self.touch();
        None
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        self.touch();
        Box::new(Self { touched: Arc::clone(&self.touched) })
    }
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
