//! JSON numbers that are not what their reader computes with.
//!
//! JSON bounds neither the size nor the precision of a number (RFC 8259, section 6). A reader keeps 64 bits: `20000000000000000001`
//! and `20000000000000000000` become one double, `1.00000000000000000001` becomes 1. A comparison with such a value would accept a
//! token that says something else, so it must be known which numbers of a document were changed by reading them.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

/// From here on a double stands for several whole numbers: `2^53 + 1` is read as `2^53`.
const WHOLE_LIMIT: f64 = 9_007_199_254_740_992.0;

/// The numbers of one JSON document that a reader of 64 bits does not have exactly: their texts by JSON Pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InexactNumbers(BTreeMap<Box<str>, Box<str>>);

/// A document has more inexact numbers, or deeper ones, than are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many numbers that cannot be represented exactly")]
pub struct TooManyInexact;

impl InexactNumbers {
    /// The most bytes of the JSON Pointers to the inexact numbers of a document. A long name stands in each pointer behind it.
    const MAX_BYTES: usize = 32 * 1024;

    /// Finds the inexact numbers of a JSON object, given its text and what was read from it.
    ///
    /// Every other double in `members` is afterwards the one closest to its text, which `serde_json` does not promise.
    ///
    /// # Errors
    /// The pointers to them take more than 32 KiB, as in no document of an honest issuer.
    pub fn find(json: &[u8], members: &mut Map<String, Value>) -> Result<Self, TooManyInexact> {
        let mut found = Self::default();
        // Only a double can be inexact, and few tokens contain one.
        if members.values().any(has_double) {
            let mut scan = Scan { json, at: 0, pointer: String::new(), found: &mut found, room: Self::MAX_BYTES, is_full: false };
            // A document that was read is well formed; if it were not, nothing would be lost but a correction.
            let _ = scan.object(Some(members));
            if scan.is_full {
                return Err(TooManyInexact);
            }
        }
        Ok(found)
    }

    /// Whether every number is exact.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the number that this JSON Pointer leads to is inexact.
    pub fn contains(&self, pointer: &str) -> bool {
        self.0.contains_key(pointer)
    }

    /// A value as JSON, given the JSON Pointer that led to it in the document, with each inexact number as its document has it.
    pub fn to_json(&self, pointer: &str, value: &Value) -> String {
        if self.0.is_empty() {
            return value.to_string();
        }
        let mut json = String::new();
        self.write(&mut pointer.to_owned(), value, &mut json);
        json
    }

    fn write(&self, pointer: &mut String, value: &Value, json: &mut String) {
        match value {
            Value::Number(number) => match self.0.get(pointer.as_str()) {
                Some(text) => json.push_str(text),
                None => json.push_str(&number.to_string()),
            },
            Value::Array(elements) => {
                json.push('[');
                for (index, element) in elements.iter().enumerate() {
                    json.push_str(if index == 0 { "" } else { "," });
                    within(pointer, index, |pointer| self.write(pointer, element, json));
                }
                json.push(']');
            }
            Value::Object(members) => {
                json.push('{');
                for (index, (name, member)) in members.iter().enumerate() {
                    json.push_str(if index == 0 { "" } else { "," });
                    json.push_str(&Value::from(name.as_str()).to_string());
                    json.push(':');
                    within(pointer, escaped(name), |pointer| self.write(pointer, member, json));
                }
                json.push('}');
            }
            Value::Null | Value::Bool(_) | Value::String(_) => json.push_str(&value.to_string()),
        }
    }
}

/// Whether a reader of 64 bits has the number with this text exactly: a whole number as an integer, any other as a double that
/// is written like the text and stands for no other number. False for a text that is no number.
pub fn is_exact(text: &str) -> bool {
    if !text.contains(['.', 'e', 'E']) {
        return text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
    }
    text.parse::<f64>().is_ok_and(|double| is_unambiguous(double) && Decimal::of(text) == Decimal::of(&format!("{double:e}")))
}

/// Whether no whole number but this one is read as this double.
pub fn is_unambiguous(double: f64) -> bool {
    double.abs() < WHOLE_LIMIT
}

/// JSON Pointer's escapes.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Does `work` with the pointer to a member or element.
fn within<T>(pointer: &mut String, name: impl std::fmt::Display, work: impl FnOnce(&mut String) -> T) -> T {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&name.to_string());
    let result = work(pointer);
    pointer.truncate(length);
    result
}

/// Whether a double is anywhere in the value.
pub(crate) fn has_double(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(elements) => elements.iter().any(has_double),
        Value::Object(members) => members.values().any(has_double),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// A decimal number in its one normal form: the digits, without zeros at either end, and the power of ten of the last of them.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// `None` where the exponent is beyond all bounds, or the text is no number.
    fn of(text: &str) -> Option<Self> {
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let written = format!("{whole}{fraction}");
        let digits = written.trim_end_matches('0');
        let dropped = written.len() - digits.len();
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits: String::new(), exponent: 0 });
        }
        let shift = i64::try_from(dropped).ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        Some(Self { is_negative, digits: digits.to_owned(), exponent: power.parse::<i64>().ok()?.checked_add(shift)? })
    }
}

/// Walks through the text of a document and what was read from it, side by side.
struct Scan<'a> {
    json: &'a [u8],
    at: usize,
    pointer: String,
    found: &'a mut InexactNumbers,
    /// How many bytes of pointers there is room for.
    room: usize,
    /// Whether there was too little of it.
    is_full: bool,
}

impl Scan<'_> {
    fn peek(&mut self) -> Option<u8> {
        let rest = self.json.get(self.at..)?;
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.json.get(self.at).copied()
    }

    fn take(&mut self, expected: u8) -> Option<bool> {
        let is_there = self.peek()? == expected;
        self.at += usize::from(is_there);
        Some(is_there)
    }

    fn value(&mut self, value: Option<&mut Value>) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(value.and_then(Value::as_object_mut)),
            b'[' => self.array(value.and_then(Value::as_array_mut)),
            b'"' => self.text().map(drop),
            _ => self.word(value),
        }
    }

    fn object(&mut self, mut members: Option<&mut Map<String, Value>>) -> Option<()> {
        self.take(b'{')?;
        while !self.take(b'}')? {
            self.take(b',')?;
            self.peek()?;
            let name: String = serde_json::from_slice(self.text()?).ok()?;
            self.take(b':')?;
            let member = members.as_mut().and_then(|members| members.get_mut(&name));
            self.inside(escaped(&name), |scan| scan.value(member))?;
        }
        Some(())
    }

    fn array(&mut self, mut elements: Option<&mut Vec<Value>>) -> Option<()> {
        self.take(b'[')?;
        let mut index = 0;
        while !self.take(b']')? {
            self.take(b',')?;
            let element = elements.as_mut().and_then(|elements| elements.get_mut(index));
            self.inside(index, |scan| scan.value(element))?;
            index += 1;
        }
        Some(())
    }

    fn inside(&mut self, name: impl std::fmt::Display, work: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&name.to_string());
        let result = work(self);
        self.pointer.truncate(length);
        result
    }

    /// A text with its quotation marks.
    fn text(&mut self) -> Option<&[u8]> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.json.get(self.at)? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.json.get(start..self.at)
    }

    /// A number, or `true`, `false` or `null`.
    fn word(&mut self, value: Option<&mut Value>) -> Option<()> {
        let rest = self.json.get(self.at..)?;
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        let word = std::str::from_utf8(rest.get(..length)?).ok()?;
        self.at += length;
        // A word that nothing ends would be met again and again.
        if length == 0 {
            return None;
        }
        if let Some(value @ Value::Number(_)) = value
            && value.is_f64()
        {
            if !is_exact(word) && word != "-0" {
                let Some(room) = self.room.checked_sub(self.pointer.len() + word.len()) else {
                    self.is_full = true;
                    return None;
                };
                self.room = room;
                self.found.0.insert(self.pointer.as_str().into(), word.into());
            }
            if let Some(closest) = word.parse().ok().and_then(Number::from_f64) {
                *value = Value::Number(closest);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn find(json: &str) -> (Map<String, Value>, InexactNumbers) {
        let mut members: Map<String, Value> = serde_json::from_str(json).unwrap();
        let found = InexactNumbers::find(json.as_bytes(), &mut members).unwrap();
        (members, found)
    }

    fn texts(found: &InexactNumbers) -> Vec<(&str, &str)> {
        found.0.iter().map(|(pointer, text)| (&**pointer, &**text)).collect()
    }

    #[test]
    fn a_number_is_exact_where_64_bits_stand_for_it_alone() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "0e999999999999999999999999",
            "7",
            "9007199254740993",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "1.0",
            "1.50",
            "0.1",
            "1.795e+09",
            "1E3",
            "-2.5e-3",
            "1795000000.1234567",
            "9007199254740991.0",
            "5e-324",
        ] {
            assert!(is_exact(text), "{text}");
        }
        for text in [
            "18446744073709551616",
            "-9223372036854775809",
            "20000000000000000000",
            "20000000000000000001",
            "9007199254740992.0",
            "9007199254740993.0",
            "9007199254740991.3",
            "1e16",
            "1e22",
            "1e23",
            "1e400",
            "-1e400",
            "1e-400",
            "2e-324",
            "0.1000000000000000000000001",
            "1.00000000000000000001",
            "0.30000000000000000001",
            "1795000000.123456789",
            "1e99999999999999999999999",
            "",
            "abc",
        ] {
            assert!(!is_exact(text), "{text}");
        }
    }

    #[test]
    fn inexact_numbers_are_found_at_any_depth_with_their_text() {
        let (members, found) = find(
            r#" { "a" : [1, {"b/c~": 1.00000000000000000001}, "2e0000\"1e99"], "d": 20000000000000000001 , "e":{"": -1e-400},
                "é\u0022": [[], {}, [0.5, 1e22]], "f": true, "g": null, "h": 1.5 } "#,
        );
        assert_eq!(
            texts(&found),
            [("/a/1/b~1c~0", "1.00000000000000000001"), ("/d", "20000000000000000001"), ("/e/", "-1e-400"), ("/é\"/2/1", "1e22"),]
        );
        assert_eq!(members["h"], json!(1.5));
        assert!(find(r#"{"a": 1, "b": "1.00000000000000000001", "c": [18446744073709551615]}"#).1.is_empty());
    }

    #[test]
    fn s85_pointers_to_inexact_numbers_are_bounded() {
        let document = |name: usize, numbers: usize| {
            let name = "/".repeat(name);
            format!("{{\"{name}\":[{}]}}", vec!["1e99"; numbers].join(","))
        };
        let find = |json: &str| {
            let mut members: Map<String, Value> = serde_json::from_str(json).unwrap();
            InexactNumbers::find(json.as_bytes(), &mut members).map(|found| found.0.len())
        };
        assert_eq!(find(&document(10, 1_000)), Ok(1_000));
        assert_eq!(find(&document(6_000, 2)), Ok(2));
        assert_eq!(find(&document(6_000, 3)), Err(TooManyInexact));
        assert_eq!(find(&document(1, 5_000)), Err(TooManyInexact));
    }

    #[test]
    fn inexact_numbers_are_written_as_they_were_read() {
        let json = r#"{"a":[1,{"b/c":1.00000000000000000001}],"d":20000000000000000001,"e":"x\ny","f":0.25}"#;
        let (members, found) = find(json);
        assert_eq!(found.to_json("", &Value::Object(members.clone())), json);
        assert_eq!(found.to_json("/a", &members["a"]), r#"[1,{"b/c":1.00000000000000000001}]"#);
        assert_eq!(find(&found.to_json("", &Value::Object(members.clone()))), (members, found));
    }

    proptest! {
        #[test]
        fn every_other_double_is_the_closest_to_its_text(double in prop::num::f64::NORMAL) {
            let (members, found) = find(&format!("{{\"a\":{double:e}}}"));
            prop_assert_eq!(members["a"].as_f64(), Some(double));
            prop_assert_eq!(found.is_empty(), double.abs() < WHOLE_LIMIT);
        }

        #[test]
        fn a_digit_more_than_a_double_has_is_noticed(whole in 1_u32.., digit in 1..=9_u8) {
            let text = format!("{whole}.{}{digit}", "0".repeat(25));
            prop_assert!(!is_exact(&text), "{}", text);
        }

        #[test]
        fn s68_no_document_panics(text in r#"\{("[a-c/~\\"]{0,3}":[\[\]{}:,"0-9eE.+-]{0,20},?){0,4}\}"#) {
            if let Ok(mut members) = serde_json::from_str::<Map<String, Value>>(&text) {
                let found = InexactNumbers::find(text.as_bytes(), &mut members).unwrap();
                let written = found.to_json("", &Value::Object(members.clone()));
                prop_assert_eq!(find(&written), (members, found));
            }
        }
    }
}
