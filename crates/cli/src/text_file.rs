//! Files that people write: configuration, YAML, certificates.

use std::path::Path;

use countersign_runtime::disclosure::{FileName, is_plain_word};
use countersign_runtime::text;

use crate::failure::{Failure, Result};

/// The text of a file, without a byte order mark. `flag` is the one that named it.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub(crate) fn read(flag: &str, path: &Path) -> Result<String> {
    let bytes =
        std::fs::read(path).map_err(|error| Failure::while_doing(error, format!("cannot read {flag} {}", FileName(path))))?;
    match text::decode(&bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(problem) => Err(Failure::Failed(anyhow::anyhow!("{flag} {} {problem}", FileName(path)))),
    }
}

/// What a parser says of a text, without the parts of the text that it repeats: a file can contain a secret where none belongs.
pub(crate) fn problem(message: &str) -> String {
    // Behind the last one stands what a type says of itself; before it, what was found.
    if let Some((found, expected)) = message.rsplit_once(", expected ") {
        let is_field = found.starts_with("unknown field");
        return if is_field { format!("{}; expected {expected}", words_only(found)) } else { format!("must be {expected}") };
    }
    words_only(message)
}

/// The message with what is in quotes only where that is a word.
fn words_only(message: &str) -> String {
    let mut shown = String::new();
    for (number, part) in message.split(['"', '`']).enumerate() {
        match number % 2 {
            0 => shown.push_str(part),
            _ if is_plain_word(part) => shown.extend(["`", part, "`"]),
            _ => shown.push('…'),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_dropped_and_other_encodings_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.yaml");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read("--file", &path).map_err(|failure| failure.to_string())
        };
        assert_eq!(read(b"\xef\xbb\xbfkind: x\r\n").as_deref(), Ok("kind: x\r\n"));
        assert!(read(b"\xff\xfek\0").unwrap_err().contains("UTF-16"));
        let error = read(b"\xff").unwrap_err();
        assert!(error.starts_with("error: --file /") && error.ends_with("is not UTF-8 text"), "{error}");
    }

    #[test]
    fn s81_a_problem_of_a_parser_says_what_is_expected_and_not_what_was_found() {
        assert_eq!(problem("invalid type: string \"hunter2, expected x\", expected a boolean"), "must be a boolean");
        assert_eq!(problem("unknown field `Hunter2`, expected one of `a`, `b`"), "unknown field …; expected one of `a`, `b`");
        assert_eq!(problem("unknown field `equal`, expected `equals`"), "unknown field `equal`; expected `equals`");
        assert_eq!(problem("missing field `claim`"), "missing field `claim`");
        assert_eq!(problem("duplicate entry with key \"issuer_url\""), "duplicate entry with key `issuer_url`");
        assert_eq!(problem("duplicate entry with key \"Hunter2!\" at line 2"), "duplicate entry with key … at line 2");
    }
}
