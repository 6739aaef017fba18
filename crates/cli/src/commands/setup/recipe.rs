//! What is to be done at a relying party: files, commands and what to know.

use std::fmt::Write as _;
use std::path::Path;

use countersign_domain::values::subject_match::SubjectMatch;
use serde_json::{Value, json};

use crate::failure::{Failure, Result};

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recipe {
    files: Vec<(String, String)>,
    commands: Vec<String>,
    environment: Vec<(&'static str, String)>,
    notes: Vec<String>,
}

impl Recipe {
    /// A JSON file.
    pub(super) fn json(&mut self, name: impl Into<String>, content: &Value) {
        // Values of texts and lists always have a JSON form.
        self.file(name, format!("{}\n", serde_json::to_string_pretty(content).unwrap_or_default()));
    }

    /// Any file.
    pub(super) fn file(&mut self, name: impl Into<String>, content: impl Into<String>) {
        self.files.push((name.into(), content.into()));
    }

    /// A command, word by word.
    pub(super) fn command<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.commands.push(words.into_iter().map(quoted).collect::<Vec<_>>().join(" "));
    }

    /// A variable that the workload's SDK reads.
    pub(super) fn variable(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.push((name, value.into()));
    }

    /// Something to know.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Everything as one text, that a shell can run but for the files.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, content) in &self.files {
            let _ = writeln!(text, "# {name}\n{content}");
        }
        if !self.commands.is_empty() {
            let _ = writeln!(text, "# commands\n{}\n", self.commands.join("\n"));
        }
        if !self.environment.is_empty() {
            let _ = writeln!(text, "# environment of the workload");
            for (name, value) in &self.environment {
                let _ = writeln!(text, "export {name}={}", quoted(value));
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "# {note}");
        }
        text
    }

    /// Everything for programs.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "files": self.files.iter().map(|(name, content)| (name.clone(), content.clone().into())).collect::<serde_json::Map<_, _>>(),
            "commands": self.commands,
            "environment": self.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect::<serde_json::Map<_, _>>(),
            "notes": self.notes,
        })
    }

    /// Writes the files into a folder, which is made when it is not there.
    ///
    /// # Errors
    /// When one cannot be written.
    pub(super) fn write_to(&self, folder: &Path) -> Result<Vec<String>> {
        let failed = |error: std::io::Error| Failure::while_doing(error, "cannot write the files");
        std::fs::create_dir_all(folder).map_err(failed)?;
        for (name, content) in &self.files {
            std::fs::write(folder.join(name), content).map_err(failed)?;
        }
        Ok(self.files.iter().map(|(name, _)| folder.join(name).display().to_string()).collect())
    }
}

/// A word as a POSIX shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@+%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// A text literal of CEL. JSON's escapes are among CEL's.
pub(super) fn cel_text(text: &str) -> String {
    Value::from(text).to_string()
}

/// A CEL expression of the claim `sub`, as `claims` names them, that holds for these subjects and no others.
pub(super) fn cel_of_subjects(claims: &str, subjects: &[SubjectMatch]) -> String {
    let exact: Vec<String> =
        subjects.iter().filter(|subject| subject.is_literal()).map(|subject| cel_text(subject.as_str())).collect();
    let mut alternatives = Vec::new();
    match exact.as_slice() {
        [] => {}
        [one] => alternatives.push(format!("{claims}.sub == {one}")),
        several => alternatives.push(format!("{claims}.sub in [{}]", several.join(", "))),
    }
    for pattern in subjects.iter().filter(|subject| !subject.is_literal()) {
        alternatives.push(format!("{claims}.sub.matches({})", cel_text(&anchored_regex(pattern))));
    }
    alternatives.join(" || ")
}

/// The regular expression (RE2) that accepts what the pattern accepts.
fn anchored_regex(pattern: &SubjectMatch) -> String {
    let pieces = pattern.as_str().split('*').map(|piece| {
        piece.chars().fold(String::new(), |mut escaped, character| {
            if r"\.+*?()|[]{}^$".contains(character) {
                escaped.push('\\');
            }
            escaped.push(character);
            escaped
        })
    });
    // A subject holds no control characters, so that `.` is any of its characters.
    format!("^{}$", pieces.collect::<Vec<_>>().join(".*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(texts: &[&str]) -> Vec<SubjectMatch> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_a_shell_would_read_is_quoted() {
        for (word, expected) in [
            ("org:a:vault:b", "org:a:vault:b"),
            ("", "''"),
            ("a b", "'a b'"),
            ("repo:a/*", "'repo:a/*'"),
            ("it's $HOME `id`", r"'it'\''s $HOME `id`'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn cel_holds_for_the_subjects_and_no_others() {
        let cel = |texts: &[&str]| cel_of_subjects("assertion", &subjects(texts));
        assert_eq!(cel(&["a:b"]), r#"assertion.sub == "a:b""#);
        assert_eq!(cel(&["a", r#"b"\"#]), r#"assertion.sub in ["a", "b\"\\"]"#);
        assert_eq!(cel(&["a.b:*", "c"]), r#"assertion.sub == "c" || assertion.sub.matches("^a\\.b:.*$")"#);
    }
}
