//! Attributes of a run, of which an issuer's profile makes subject and claims, as they stand on the command line.

use std::collections::BTreeMap;

use crate::failure::{Failure, Result};

/// Reads `name=value`.
pub(crate) fn parse(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

/// # Errors
/// A name stands twice.
pub(crate) fn collect(pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    for (name, value) in pairs {
        if attributes.contains_key(&name) {
            return Err(Failure::usage(format!("the attribute `{name}` is given twice")));
        }
        attributes.insert(name, value);
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_named_once_and_values_may_hold_anything() {
        assert_eq!(parse("path=a=b/c"), Ok(("path".to_owned(), "a=b/c".to_owned())));
        assert_eq!(parse("empty="), Ok(("empty".to_owned(), String::new())));
        assert!(parse("=a").is_err());
        assert!(parse("a").is_err());
        let twice = vec![("org".to_owned(), "a".to_owned()), ("org".to_owned(), "b".to_owned())];
        assert!(matches!(collect(twice), Err(Failure::Usage(_))));
    }
}
